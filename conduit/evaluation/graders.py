"""What turns an answer into a quality between 0 and 1."""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from conduit.core.errors import InvalidInput, finite


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt to calibrate with: its text, and what the caller knows about it.

    `expected` is the right answer, or a compiled regular expression that a right answer contains.
    """

    text: str
    task: str | None = None
    expected: Any = None

    @classmethod
    def of(cls, value: Prompt | str | Mapping[str, Any]) -> Prompt:
        """Return a prompt from itself, its text, or a mapping of its fields."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping):
            known = {k: value[k] for k in ("text", "task", "expected") if k in value}
            if "prompt" in value and "text" not in known:
                known["text"] = value["prompt"]
            if "text" in known:
                return cls(**known)
        raise InvalidInput("a calibration prompt needs a text", field="prompts", expected="text")


Grade = float | bool | None  # None: it could not be graded, which teaches nothing
Grader = Callable[[Prompt, Any], Grade | Awaitable[Grade]]


def normalised(text: object) -> str:
    """Return text as answers are compared: folded case, no accents, no punctuation at the ends.

    >>> normalised(" The answer is  **Paris**. ") == normalised("the answer is **paris**")
    True
    """
    plain = unicodedata.normalize("NFKD", str(text)).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"\s+", " ", plain).strip(" \t\n.,;:!?\"'`*_")


def by_expected(prompt: Prompt, answer: Any) -> float:
    """Return 1 where the answer is (or, as a whole word or number, holds) the expected one."""
    if prompt.expected is None:
        raise InvalidInput("this prompt has no expected answer to grade by", field="expected")
    if isinstance(prompt.expected, re.Pattern):
        return float(prompt.expected.search(str(answer)) is not None)
    wanted, got = normalised(prompt.expected), normalised(answer)
    if wanted == got:
        return 1.0
    return float(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)(?![.,]\d)", got) is not None)


def by_type(result_type: Any) -> Grader:
    """Return a grader that gives 1 to what validates as the type."""
    adapter: TypeAdapter[Any] = TypeAdapter(result_type)

    def grade(prompt: Prompt, answer: Any) -> float:
        if isinstance(answer, BaseModel):
            answer = answer.model_dump()
        try:
            if isinstance(answer, str):
                adapter.validate_json(answer)
            else:
                adapter.validate_python(answer)
        except ValidationError:
            return 0.0
        return 1.0

    return grade


def grader_of(grader: Grader | type | None) -> tuple[str, Grader]:
    """Return a grader with the name under which its grades are kept."""
    if grader is None:
        return "expected", by_expected
    if isinstance(grader, type) and not hasattr(grader, "grade"):
        return f"type:{grader.__name__}", by_type(grader)
    name = getattr(grader, "name", None) or getattr(grader, "__name__", type(grader).__name__)
    if isinstance(grader, FunctionType) and name == "<lambda>":
        name = f"lambda-{_fingerprint(grader.__code__)}"
    return f"grader:{name}", grader


def _fingerprint(code: CodeType) -> str:
    """Return what tells a function without a name from another one, in every process alike."""
    said = [code.co_code.hex(), *code.co_names]
    said += [_fingerprint(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return blake2b("\0".join(said).encode(), digest_size=8).hexdigest()


async def graded(grader: Grader, prompt: Prompt, answer: Any, *, model: str) -> float | None:
    """Return the grade, None where there is none; one that is out of range is an error.

    A grader with `knows_models = True` is told whose answer it grades, as `model=`.
    """
    whose = {"model": model} if getattr(grader, "knows_models", False) else {}
    grade = grader(prompt, answer, **whose)
    if inspect.isawaitable(grade):
        grade = await grade
    return None if grade is None else finite(float(grade), "grade", low=0.0, high=1.0)
