"""Spans and metrics for OpenTelemetry: one span per route and per attempt (extra `otel`).

Where the application has not loaded OpenTelemetry, everything here is one look-up and does nothing.
No span holds an answer or a user id, nor a prompt unless `record_prompts` asks for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from conduit.core.models import Response, RoutingDecision

SCOPE = "conduit"
NANOSECONDS = 1_000_000_000

Attribute = str | bool | int | float


class Attempted(Protocol):
    """What is told of one attempt."""

    @property
    def model(self) -> str: ...  # noqa: D102  whom was asked
    @property
    def response(self) -> Response | None: ...  # noqa: D102  what it took
    @property
    def latency_s(self) -> float: ...  # noqa: D102  how long
    @property
    def failure(self) -> str | None: ...  # noqa: D102  the kind, if it failed


class _Instruments:
    """The tracer and the meters, made once."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        meter = metrics.get_meter(SCOPE)
        self.trace = trace
        self.tracer = trace.get_tracer(SCOPE)
        self.decisions = meter.create_counter("conduit.decisions", "1", "Decisions by model")
        self.attempts = meter.create_counter("conduit.attempts", "1", "Calls by model and end")
        self.cost = meter.create_counter("conduit.cost", "USD", "Known cost of the calls")
        self.tokens = meter.create_counter("conduit.tokens", "{token}", "Tokens by direction")
        self.latency = meter.create_histogram("conduit.latency", "s", "Seconds per call")


@dataclass(slots=True)
class _Wishes:
    """What the application has asked for."""

    prompts: bool = False


_made = cache(_Instruments)  # the providers may be set before or after: the library's proxies wait
_wishes = _Wishes()


def record_prompts(on: bool) -> None:
    """Put the text of queries into the spans of decisions, or leave it out again."""
    _wishes.prompts = on


def _instruments() -> _Instruments | None:
    """Return the instruments, or None where the application has not loaded the library."""
    return _made() if "opentelemetry.trace" in sys.modules else None


@contextmanager
def request_span(environment: str) -> Iterator[None]:
    """Let a span of the name `conduit.complete` hold what a request does."""
    found = _instruments()
    if found is None:
        yield
        return
    # An exception of the caller's own might quote a prompt: its kind alone is told.
    with found.tracer.start_as_current_span(
        "conduit.complete", record_exception=False, set_status_on_exception=False
    ) as span:
        span.set_attribute("deployment.environment.name", environment)
        try:
            yield
        except BaseException as error:
            span.set_status(found.trace.StatusCode.ERROR, type(error).__name__)
            raise


def decided(decision: RoutingDecision, text: str, seconds: float) -> None:
    """Tell of a decision that took so long and has just been made."""
    found = _instruments()
    if found is None:
        return
    end_ns = time.time_ns()
    span = found.tracer.start_span("conduit.route", start_time=end_ns - int(seconds * NANOSECONDS))
    if span.is_recording():  # confidence and propensity cost an integral: only for who looks
        span.set_attributes(decision_attributes(decision))
        if _wishes.prompts:
            span.set_attribute("conduit.prompt", text)
    span.end(end_time=end_ns)
    found.decisions.add(1, {"conduit.model": decision.selected_model})


def decision_attributes(decision: RoutingDecision) -> Mapping[str, Attribute]:
    """Return what a span says of a decision."""
    return {
        "conduit.decision.id": decision.id,
        "conduit.router": decision.router,
        "conduit.model": decision.selected_model,
        "conduit.propensity": decision.propensity,
        "conduit.confidence": decision.confidence,
        "conduit.candidates": len(decision.estimates),
        "conduit.constraints_relaxed": decision.constraints_relaxed,
    }


def attempted(attempt: Attempted) -> None:
    """Tell of one call that has just ended, well or not."""
    found = _instruments()
    if found is None:
        return
    end_ns = time.time_ns()
    start_ns = end_ns - int(attempt.latency_s * NANOSECONDS)
    span = found.tracer.start_span("conduit.attempt", start_time=start_ns)
    if span.is_recording():
        span.set_attributes(attempt_attributes(attempt))
    if attempt.failure is not None:
        span.set_status(found.trace.StatusCode.ERROR, attempt.failure)
    span.end(end_time=end_ns)
    _count(found, attempt)


def attempt_attributes(attempt: Attempted) -> dict[str, Attribute]:
    """Return what a span says of a call; what is unknown is left out."""
    response = attempt.response
    known: dict[str, Any] = {"conduit.model": attempt.model, "conduit.failure": attempt.failure}
    if response is not None:
        known |= {
            "conduit.cost_usd": response.cost_usd,
            "gen_ai.usage.input_tokens": response.input_tokens,
            "gen_ai.usage.output_tokens": response.output_tokens,
            "conduit.time_to_first_token_s": response.time_to_first_token_s,
        }
    return {name: value for name, value in known.items() if value is not None}


def _count(found: _Instruments, attempt: Attempted) -> None:
    model = {"conduit.model": attempt.model}
    found.attempts.add(1, {**model, "conduit.end": attempt.failure or "answered"})
    found.latency.record(attempt.latency_s, model)
    response = attempt.response
    if response is None:
        return
    if response.cost_usd is not None:
        found.cost.add(response.cost_usd, model)
    for direction in ("input", "output"):
        tokens = getattr(response, f"{direction}_tokens")
        if tokens is not None:
            found.tokens.add(tokens, {**model, "conduit.direction": direction})


__all__ = ["Attempted", "attempted", "decided", "record_prompts", "request_span"]
