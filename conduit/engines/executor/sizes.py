"""How many tokens a call can take at most, to set its price aside before it, and about how many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from conduit.engines.executor.base import Call

MAX_OUTPUT_TOKENS = 4096  # of a call that does not set its own limit; passed on to the provider
BYTES_PER_TOKEN = 2.0  # fewer than any tokenizer takes on average, of any language
USUAL_BYTES_PER_TOKEN = 4.0  # of English
TOKENS_PER_PART = 16.0  # a message's role and separators
MEDIA_TOKENS = 2_000.0  # an image or a file of unknown size
TOOL_TOKENS = 500.0  # the description of a tool
SCHEMA_TOKENS = 1_000.0  # of a result type whose schema cannot be told
TOOL_ROUNDS = 10  # of tool calls before an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The most that a call takes: tokens of its first request, and how many requests there are."""

    input_tokens: float
    output_tokens: float  # per request
    requests: int = 1
    beside_tokens: float = 0.0  # what a model reads beside the text of the prompt, about

    @property
    def all_input_tokens(self) -> float:
        """Return the input of all requests: each repeats what was said before it."""
        n = self.requests
        return n * self.input_tokens + n * (n - 1) / 2 * self.output_tokens


def size_of(call: Call) -> Size:
    """Return the most that a call takes at one model."""
    parts = () if isinstance(call.prompt, str) else call.prompt or ()
    media, around = _tokens([part for part in parts if not isinstance(part, str)]), _around(call)
    return Size(
        input_tokens=_tokens(call.prompt) + TOKENS_PER_PART + around,
        output_tokens=float((call.model_settings or {}).get("max_tokens") or MAX_OUTPUT_TOKENS),
        requests=requests_of(call),
        beside_tokens=(media + around) * BYTES_PER_TOKEN / USUAL_BYTES_PER_TOKEN,
    )


def _around(call: Call) -> float:
    """Return the most tokens of what comes with a prompt."""
    tokens = _tokens(call.system_prompt) + _tokens(call.message_history)
    tokens += TOOL_TOKENS * (len(call.tools) + 4 * len(call.toolsets))
    return tokens + (0.0 if call.result_type is str else _schema_tokens(call.result_type))


def requests_of(call: Call) -> int:
    """Return how many requests a call makes at most: executors make no more."""
    mending = 0 if call.result_type is str else call.output_retries
    return 1 + mending + (TOOL_ROUNDS if call.tools or call.toolsets else 0)


def limited(call: Call) -> Call:
    """Return the call with a limit on its output, so that its worst case is one."""
    settings = call.model_settings or {}
    if settings.get("max_tokens"):
        return call
    return replace(call, model_settings={**settings, "max_tokens": MAX_OUTPUT_TOKENS})


def _tokens(said: Any) -> float:
    """Return the most tokens of text, of media, or of the messages of any library."""
    if said is None or isinstance(said, bool | int | float):
        return 0.0
    if isinstance(said, str):
        return len(said.encode("utf-8", "replace")) / BYTES_PER_TOKEN
    if isinstance(said, bytes | bytearray):
        return MEDIA_TOKENS
    if isinstance(said, Mapping):
        return sum(map(_tokens, said.values()))
    if isinstance(said, Sequence):
        return sum(map(_tokens, said)) + TOKENS_PER_PART * len(said)
    if is_dataclass(said):
        return sum(_tokens(getattr(said, each.name, None)) for each in fields(said))
    if isinstance(said, BaseModel):
        return sum(map(_tokens, said.__dict__.values()))
    return 0.0


def _schema_tokens(result_type: Any) -> float:
    try:
        return _known_schema_tokens(result_type)
    except TypeError:  # unhashable
        return SCHEMA_TOKENS


@lru_cache(maxsize=64)
def _known_schema_tokens(result_type: Any) -> float:
    try:
        schema = TypeAdapter(result_type).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError):
        return SCHEMA_TOKENS  # a form of its own of the executor's library
    return len(json.dumps(schema)) / BYTES_PER_TOKEN
