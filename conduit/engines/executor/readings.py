"""What a conversation shows: retries, tool calls, tokens, dollars.

The messages are PydanticAI's, read by their attributes alone, so that nothing needs to be imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conduit.catalogue.pricing import usage_price_usd
from conduit.core.models import ModelArm, Response

_NOT_USED = ("failed", "retried")  # outcomes of a tool call that the model got wrong


@dataclass(frozen=True, slots=True)
class Readings:
    """How often the model was asked to mend its answer, and how its tool calls went."""

    retries: int = 0
    tool_calls: int = 0
    tool_failures: int = 0


def read(messages: Iterable[Any], output_tools: Collection[str]) -> Readings:
    """Count the parts of the messages; the output tools carry the answer and are no tool calls."""
    retries = tool_calls = tool_failures = 0
    for message in messages:
        for part in message.parts:
            kind, tool = part.part_kind, getattr(part, "tool_name", None)
            if kind == "tool-call":
                tool_calls += tool not in output_tools
            elif kind == "retry-feedback" or _refused(part):
                answers = tool is None or tool in output_tools
                retries += answers
                tool_failures += not answers
    return Readings(retries, tool_calls, tool_failures)


def _refused(part: Any) -> bool:
    if part.part_kind == "tool-return":
        return getattr(part, "outcome", None) in _NOT_USED
    return bool(part.part_kind == "retry-prompt")


def response_of(
    arm: ModelArm,
    responses: Sequence[Any],
    readings: Readings,
    *,
    latency_s: float,
    first_s: float | None,
    output_valid: bool | None,
    price: Callable[[ModelArm, Any], float | None] | None = None,
) -> Response:
    """Return what all requests of one call took together; unknown in one is unknown in all."""
    last, price = responses[-1] if responses else None, price or cost_usd
    return Response(
        model=arm.id,
        text=None if last is None else last.text,
        cost_usd=_total(price(arm, r) for r in responses),
        latency_s=latency_s,
        time_to_first_token_s=first_s,
        input_tokens=_total(_count(r.usage.input_tokens) for r in responses),
        output_tokens=_total(_output_tokens(r) for r in responses),
        finish_reason=None if last is None else last.finish_reason,
        output_valid=output_valid,
        validation_retries=readings.retries,
        tool_calls=readings.tool_calls,
        tool_failures=readings.tool_failures,
    )


def cost_usd(arm: ModelArm, response: Any) -> float | None:
    """Return what the provider says a response cost, else tokens times price, else None."""
    told = (response.provider_details or {}).get("cost")
    if isinstance(told, int | float) and math.isfinite(told) and told >= 0.0:
        return float(told)
    usage = response.usage
    read_tokens, written_tokens = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    input_tokens = _count(usage.input_tokens)
    if input_tokens is None or min(read_tokens, written_tokens) < 0:
        return None
    if read_tokens + written_tokens > input_tokens:
        return None
    return usage_price_usd(
        arm,
        input_tokens,
        _output_tokens(response),
        at=response.timestamp,
        cache_read_tokens=read_tokens,
        cache_write_tokens=written_tokens,
    )


def _output_tokens(response: Any) -> int | None:
    """Return the output tokens; none at all is only believed beside input tokens that are known."""
    tokens: int = response.usage.output_tokens
    if tokens == 0 and not response.parts:
        return 0 if _count(response.usage.input_tokens) is not None else None
    return _count(tokens)


def _count(tokens: int | None) -> int | None:
    """Return a count of tokens; PydanticAI writes 0 where the provider said nothing."""
    return tokens if tokens is not None and tokens > 0 else None


def _total(values: Iterable[Any]) -> Any:
    listed = list(values)
    return None if not listed or None in listed else sum(listed)
