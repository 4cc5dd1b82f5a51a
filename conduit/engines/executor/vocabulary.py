"""What PydanticAI can be asked: the parts of a prompt, messages and tools that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic_ai import Tool
from pydantic_ai.messages import ModelRequest, ModelResponse, UserContent
from pydantic_ai.toolsets import AbstractToolset

from conduit.core.errors import InvalidInput
from conduit.engines.executor.asking import no_part
from conduit.engines.executor.base import Call


def _classes(annotation: Any) -> Iterator[type]:
    annotation = getattr(annotation, "__value__", annotation)
    if isinstance(annotation, type):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


_PARTS = tuple(_classes(UserContent))


def check(call: Call) -> None:
    """Refuse a call with something in it that PydanticAI does not know; no model has seen it."""
    for part in () if call.prompt is None or isinstance(call.prompt, str) else call.prompt:
        if not isinstance(part, _PARTS):
            raise no_part(part)
    _each(call.message_history, "message_history", _is_message, "PydanticAI's messages")
    _each(call.tools, "tools", _is_tool, "functions and PydanticAI's tools")
    _each(call.toolsets, "toolsets", _is_toolset, "PydanticAI's toolsets")


def _each(values: Sequence[Any], field: str, known: Callable[[Any], bool], expected: str) -> None:
    for value in values:
        if not known(value):
            got = type(value).__name__
            raise InvalidInput(
                f"{field} must be {expected}, got a {got}", field=field, expected=expected
            )


def _is_message(value: object) -> bool:
    return isinstance(value, ModelRequest | ModelResponse)


def _is_tool(value: object) -> bool:
    return isinstance(value, Tool) or callable(value)


def _is_toolset(value: object) -> bool:
    return isinstance(value, AbstractToolset) or callable(value)
