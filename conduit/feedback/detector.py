"""Reads off an answer, its latency and the next query what they say of quality; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conduit.core.errors import InvalidInput, unknown_name
from conduit.core.models import Query, Response
from conduit.feedback.signals import (
    DEFAULT_RULE,
    RETRY_RULES,
    WINDOW_S,
    ErrorSignal,
    KnownPatience,
    LatencySignal,
    LatencySummary,
    QueryTrace,
    RetryRule,
    RetrySignal,
    Tolerance,
    detect_error,
    latency_signal,
    retry_signal,
)

TOLERANCES: Final[tuple[Tolerance, ...]] = ("high", "medium", "low")
TOLERANCE_KEY: Final = "latency_tolerance"  # in a query's context


class ImplicitFeedbackDetector:
    """Finds errors, waits that were too long, and second tries.

    >>> from conduit.core.models import Response
    >>> detector = ImplicitFeedbackDetector()
    >>> detector.error(Response(model="m", text="I'm sorry, but I can't help with that.")).kind
    'refusal'
    >>> detector.error(Response(model="m", text="4")).kind
    'none'
    """

    def __init__(
        self,
        *,
        tolerance: str = "medium",
        window_s: float = WINDOW_S,
        retry_threshold: float | None = None,
        rule: RetryRule | None = None,
        embedder: str | None = None,
    ) -> None:
        """Take how patient callers usually are, and what counts as a second try.

        `rule` is the one of the embedder (by its id) unless it is given.
        """
        self.tolerance = _tolerance(tolerance)
        self.window_s = window_s
        self.retry_threshold = retry_threshold
        self.rule = rule or RETRY_RULES.get(embedder or "", DEFAULT_RULE)

    def error(
        self,
        response: Response | None,
        *,
        failure: str | None = None,
        prompt: str | None = None,
    ) -> ErrorSignal:
        """Return how an answer failed, or that it shows no failure."""
        if response is None or failure is not None:
            return detect_error(None, error=failure or "no_response")
        # Where a type was asked for, its data need not be text; then only validity speaks.
        typed = response.output_valid is False or (response.output_valid and _is_data(response))
        return detect_error(
            response.text,
            finish_reason=response.finish_reason,
            output_valid=response.output_valid if typed else None,
            validation_retries=response.validation_retries,
            tool_failures=response.tool_failures,
            tool_calls=response.tool_calls,
            prompt=prompt,
        )

    def latency(
        self,
        waited_s: float,
        query: Query,
        history: LatencySummary | KnownPatience,
        *,
        abandoned: bool = False,
    ) -> LatencySignal | None:
        """Return how content the caller is with a wait; None before there is enough history."""
        named = (query.context or {}).get(TOLERANCE_KEY)
        tolerance = next((t for t in TOLERANCES if t == named), self.tolerance)
        return latency_signal(waited_s, history=history, tolerance=tolerance, abandoned=abandoned)

    def retry(self, current: QueryTrace, earlier: Sequence[QueryTrace]) -> RetrySignal | None:
        """Return the earlier query that the current one tries again, or None."""
        return retry_signal(
            current,
            earlier,
            window_s=self.window_s,
            threshold=self.retry_threshold,
            rule=self.rule,
        )


def _is_data(response: Response) -> bool:
    """Return whether a valid answer is data, as JSON or as the arguments of a tool, not prose."""
    called = (response.finish_reason or "").startswith("tool_call")
    return called or response.text is None or response.text.lstrip()[:1] in ("{", "[")


def _tolerance(name: str) -> Tolerance:
    for known in TOLERANCES:
        if name == known:
            return known
    raise InvalidInput(unknown_name("tolerance", name, TOLERANCES), field="tolerance")


__all__ = ["TOLERANCE_KEY", "ImplicitFeedbackDetector"]
