"""A conversation in OpenAI's words: messages, the form of an answer, tools that are functions."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, from_json

from conduit.core.errors import ExecutionError, InvalidInput, OutputInvalid, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor.asking import no_part, unwritable
from conduit.engines.executor.base import Answer, Call, timed_out, unaskable
from conduit.engines.executor.failures import (
    ForeignError,
    described,
    meaning,
    translated,
    unwritten,
)
from conduit.engines.executor.readings import Readings, response_of
from conduit.engines.executor.sizes import TOOL_ROUNDS

PARTIAL_EVERY_S = 0.1  # validating partial data at every token is quadratic in its length

Message = dict[str, Any]

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_ROOT = "value"  # of an answer that is no object: providers want an object around it


class Form:
    """The form of an answer: plain text, or JSON that a schema describes.

    >>> Form(list[int]).data('{"value": [1, 2]}')
    [1, 2]
    """

    def __init__(self, result_type: Any) -> None:
        """Take a type: `str`, a pydantic model, a dataclass, a union, anything pydantic knows."""
        self.is_text = result_type is str
        is_union = get_origin(result_type) in (Union, UnionType)
        self.may_be_text = self.is_text or (is_union and str in get_args(result_type))
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(result_type)
            self._schema = {} if self.is_text else self._adapter.json_schema()
        except PydanticUserError as error:
            raise unaskable(error) from None
        self._is_wrapped = self._schema.get("type") != "object" and not self.may_be_text

    @property
    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the answer, an object at its root."""
        if not self._is_wrapped:
            return self._schema
        inner = dict(self._schema)
        definitions = inner.pop("$defs", None)
        outer = {"type": "object", "properties": {_ROOT: inner}, "required": [_ROOT]}
        return outer if definitions is None else {**outer, "$defs": definitions}

    def response_format(self) -> dict[str, Any] | None:
        """Return what asks a provider for this form, or None where text may be an answer."""
        if self.may_be_text:
            return None
        described = {"name": "answer", "schema": self.schema}
        return {"type": "json_schema", "json_schema": described}

    def instructions(self) -> str | None:
        """Return what asks a model for this form whose provider takes no schema."""
        if self.is_text:
            return None
        either = "Answer in plain text, or " if self.may_be_text else "Answer "
        return f"{either}with JSON alone that fits this schema: {json.dumps(self.schema)}"

    def data(self, text: str) -> Any:
        """Return an answer as the type, or raise ValueError; an empty text is no answer."""
        if self.is_text and text.strip():
            return text
        if self.is_text:
            raise ValueError("an empty answer")
        fenced = _FENCED.fullmatch(text)
        try:
            value = self._unwrapped(from_json(fenced[1] if fenced else text))
        except ValueError:
            return self._adapter.validate_python(text)
        if self.may_be_text and not isinstance(value, Mapping | list):
            return text  # "47" was meant as text
        return self._adapter.validate_python(value)

    def partial(self, text: str) -> Any:
        """Return what has come of an answer as the type, or None while it does not fit."""
        try:
            value = self._unwrapped(from_json(text, allow_partial="trailing-strings"))
            return self._adapter.validate_python(value)
        except ValueError:  # pydantic's errors are ValueErrors
            return None

    def _unwrapped(self, value: Any) -> Any:
        if self._is_wrapped and isinstance(value, Mapping) and set(value) == {_ROOT}:
            return value[_ROOT]
        return value


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: dict[str, Any]
    function: Callable[..., Any]

    @classmethod
    def of(cls, given: Any) -> Tool:
        """Return a tool from a function whose arguments have types, or a `Tool` around one."""
        function = given if inspect.isroutine(given) else getattr(given, "function", None)
        if not inspect.isroutine(function) or getattr(given, "takes_ctx", False):
            raise InvalidInput(
                "this executor takes functions without a context as tools; others need "
                "PydanticAIExecutor",
                field="tools",
                expected="functions",
            )
        name = str(getattr(given, "name", function.__name__))
        described = {"name": name, "parameters": _adapter(function).json_schema()}
        words = getattr(given, "description", None) or function.__doc__
        if words:
            described["description"] = inspect.cleandoc(words)
        return cls(name, {"type": "function", "function": described}, function)

    async def called(self, arguments: str) -> tuple[str, bool]:
        """Return what the function gave as text, and whether its arguments were right."""
        call = _adapter(self.function).validate_python
        try:
            given = ArgsKwargs((), json.loads(arguments or "{}"))
            if inspect.iscoroutinefunction(self.function):
                result = call(given)
            else:  # it may take its time, which is not that of others, nor beyond a deadline
                result = await asyncio.to_thread(call, given)
        except (ValidationError, json.JSONDecodeError) as error:
            return f"The arguments are wrong: {shown_errors(error)}", False
        if inspect.isawaitable(result):
            result = await result
        return result if isinstance(result, str) else _json(result), True


def tools_of(call: Call) -> Iterator[Tool]:
    """Yield the tools of a call, those of its toolsets too."""
    yield from map(Tool.of, call.tools)
    for toolset in call.toolsets:
        held = getattr(toolset, "tools", None)
        if not isinstance(held, Mapping):
            raise InvalidInput(
                "this executor takes toolsets of functions; others need PydanticAIExecutor",
                field="toolsets",
                expected="toolsets of functions",
            )
        yield from map(Tool.of, held.values())


def _adapter(function: Any) -> TypeAdapter[Any]:
    """Return what validates the arguments of a function, and calls it with them."""
    return TypeAdapter(function)


def _json(value: Any) -> str:
    return TypeAdapter(type(value)).dump_json(value).decode()


def shown_errors(error: ValueError) -> str:
    """Return what is wrong, for the model that did it."""
    if not isinstance(error, ValidationError):
        return "not valid JSON"
    rows = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, row['loc'])) or 'answer'}: {row['msg']}" for row in rows)


def opening(call: Call, instructions: str | None) -> list[Message]:
    """Return the messages that a call begins with."""
    system = "\n\n".join(filter(None, (call.system_prompt, instructions)))
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for message in call.message_history:
        if not isinstance(message, Mapping):
            raise InvalidInput(
                "this executor takes messages as mappings with role and content",
                field="message_history",
                expected="OpenAI's messages",
            )
        if message.get("role") != "system" or not system:
            messages.append(dict(message))
    if call.prompt is not None:
        messages.append({"role": "user", "content": content(call.prompt)})
    return messages


def content(prompt: str | Sequence[Any]) -> str | list[dict[str, Any]]:
    """Return a prompt as the content of a message."""
    return prompt if isinstance(prompt, str) else list(_parts(prompt))


def _parts(prompt: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for item in prompt:
        if isinstance(item, str):
            yield {"type": "text", "text": item}
        elif isinstance(item, Mapping):
            yield dict(item)
        else:
            yield _file(item)


def _file(item: Any) -> dict[str, Any]:
    """Return an image or a file, as PydanticAI's classes hold them: an address, or bytes."""
    media_type = getattr(item, "media_type", None) or ""
    address = getattr(item, "url", None)
    if address is None and isinstance(data := getattr(item, "data", None), bytes):
        address = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    if not isinstance(address, str):
        raise no_part(item)
    if media_type.startswith("image/") or getattr(item, "kind", "") == "image-url":
        return {"type": "image_url", "image_url": {"url": address}}
    return {"type": "file", "file": {"file_data": address}}


@dataclass(slots=True)
class Usage:
    """The tokens that a provider counted; 0 where it said nothing."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(slots=True)
class Told:
    """What the provider said of one reply, under the names that `readings` reads."""

    usage: Usage = field(default_factory=Usage)
    provider_details: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None
    parts: Sequence[Any] = ()
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))


class Talk:
    """One call under way: its messages, its clock, and what the model has given so far."""

    def __init__(
        self,
        arm: ModelArm,
        call: Call,
        *,
        name: str,
        form: Form,
        takes_schema: bool,
        price: Callable[[ModelArm, Any], float | None],
    ) -> None:
        """Take what is asked of which model; `takes_schema` says that its provider knows forms."""
        self.arm, self.call, self.name, self.form = arm, call, name, form
        self.takes_schema = takes_schema
        self.messages: list[Message] = opening(call, None if takes_schema else form.instructions())
        self.tools = {tool.name: tool for tool in tools_of(call)}
        self.asking = False  # the model is at work, not a tool of the caller
        self.may_mend = not form.is_text  # an empty text is not asked for once more
        self._price = price
        self._started = time.perf_counter()
        self._limit = asyncio.timeout(call.timeout_s)
        self._deadline = self._limit.when()
        self._replies: list[Told] = []
        self._readings = Readings()
        self._rounds = 0
        self._first_s: float | None = None
        self._text = ""
        self._partial: Any = None
        self._partial_at = 0.0
        self._data: Any = None

    def limited(self) -> asyncio.Timeout:
        """Return what interrupts the next step at the deadline of the call."""
        self._limit = asyncio.timeout_at(self._deadline)
        return self._limit

    def ours(self, error: Exception) -> Exception:
        """Return the model's failures as ours, and what the caller's own code raised as it is."""
        partial = self._partial if self._partial is not None else self._text or None
        failure: ExecutionError
        if isinstance(error, ExecutionError):
            failure = error
        elif isinstance(error, TimeoutError) and self._limit.expired():
            failure = timed_out(self.arm.id, self.call.timeout_s, partial=partial)
        elif self.asking and not self._replies and (cause := unwritten(error)) is not None:
            return unwritable(cause)
        elif self.asking:
            failure = translated(error, self.arm.id, now=time.time(), partial=partial)
        else:
            return error
        failure.response = self._response(output_valid=False)
        return failure

    def malformed(self, detail: str) -> ProviderError:
        """Return the error of a reply that is none."""
        return ProviderError(
            f"{self.arm.id} {meaning('malformed').words} ({detail})",
            model=self.arm.id,
            kind="malformed",
            partial=self._text or None,
        )

    async def has_answered(self, choices: Sequence[Any], told: Told) -> bool:
        """Take in a reply; False when the model has to be asked again."""
        self._replies.append(told)
        if not choices:
            raise self.malformed("no choices")
        message, told.finish_reason = choices[0].message, choices[0].finish_reason
        told.text = message.content
        if message.tool_calls and self.tools:
            await self._call_tools(message)
            return False
        if told.finish_reason == "content_filter" and not told.text:
            words = meaning("content_filter").words
            raise ProviderError(f"{self.arm.id} {words}", model=self.arm.id, kind="content_filter")
        return self._has_data(told.text or "")

    def _has_data(self, text: str) -> bool:
        self.messages.append({"role": "assistant", "content": text})
        try:
            self._data = self.form.data(text)
        except ValueError as error:
            self._ask_to_mend(error)
            return False
        return True

    def _ask_to_mend(self, error: ValueError) -> None:
        readings = self._readings
        if not self.may_mend or readings.retries >= self.call.output_retries:
            words = f"{self.arm.id} {meaning('invalid_output').words}"
            failure = OutputInvalid(words, model=self.arm.id, retries=readings.retries)
            raise failure from ForeignError(described(error))
        self._readings = replace(readings, retries=readings.retries + 1)
        wrong = f"The answer does not fit: {shown_errors(error)}. Answer again, with JSON alone."
        self.messages.append({"role": "user", "content": wrong})

    async def _call_tools(self, message: Any) -> None:
        self._rounds += 1
        if self._rounds > TOOL_ROUNDS:
            words = f"{self.arm.id} {meaning('invalid_output').words} (it calls tools for ever)"
            raise OutputInvalid(words, model=self.arm.id)
        self.messages.append(
            {
                "role": "assistant",
                "content": message.content,
                "tool_calls": [_tool_call(call) for call in message.tool_calls],
            }
        )
        for call in message.tool_calls:
            result = await self._tool_result(call.function.name, call.function.arguments)
            self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    async def _tool_result(self, name: str, arguments: str) -> str:
        tool = self.tools.get(name)
        result, is_right = f"There is no tool {name!r}.", False
        if tool is not None:
            result, is_right = await tool.called(arguments)
        readings = self._readings
        self._readings = replace(
            readings,
            tool_calls=readings.tool_calls + 1,
            tool_failures=readings.tool_failures + (not is_right),
        )
        return result

    def pieces(self, choices: Sequence[Any]) -> list[Any]:
        """Return what a chunk of a stream adds: a text delta, or data that is more complete."""
        delta = choices[0].delta.content if choices else None
        if not delta:
            return []
        self._text += delta
        now = time.perf_counter()
        if self._first_s is None:
            self._first_s = now - self._started
        if self.form.is_text:
            return [delta]
        if self.form.may_be_text or now - self._partial_at < PARTIAL_EVERY_S:
            return []
        self._partial_at = now
        partial = self.form.partial(self._text)
        if partial is None or partial == self._partial:
            return []
        self._partial = partial
        return [partial]

    def last_pieces(self) -> list[Any]:
        """Return the data itself as the last piece where text was not asked for."""
        return [] if self.form.is_text else [self._data]

    def answer(self) -> Answer[Any]:
        """Return the data with what the whole call took."""
        response = self._response(output_valid=True)
        return Answer(data=self._data, response=response, messages=self.messages)

    def _response(self, *, output_valid: bool) -> Response:
        return response_of(
            self.arm,
            self._replies,
            self._readings,
            latency_s=time.perf_counter() - self._started,
            first_s=self._first_s,
            output_valid=output_valid,
            price=self._price,
        )


def _tool_call(call: Any) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}
