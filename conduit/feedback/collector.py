"""From what a call showed, and what people say of it, to evidence in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conduit.core.models import Feedback, ImplicitFeedback, Query, RoutingDecision
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.router import Router
from conduit.storage.base import Ack


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalStats:
    """How often each kind of signal was seen."""

    seen: Mapping[str, int] = field(default_factory=dict)


class FeedbackCollector:
    """Turns the attempts of a request into evidence, each for its own model."""

    def __init__(self, router: Router) -> None:
        """Teach this router."""
        self._router = router
        self._seen: Counter[str] = Counter()

    async def observe(
        self, decision: RoutingDecision, query: Query, attempts: Sequence[AttemptRecord]
    ) -> None:
        """Write what each attempt showed to the log."""
        for attempt in attempts:
            signal = attempt.failure or ("invalid_output" if _mended(attempt) else "answered")
            self._seen[signal] += 1
            implicit = implicit_of(attempt, signal)
            if implicit is not None:
                await self._router.feedback(decision, implicit, model=attempt.model)

    async def submit(
        self, decision: RoutingDecision | str, feedback: Feedback, *, model: str | None = None
    ) -> Ack:
        """Write an opinion to the log."""
        return await self._router.feedback(decision, feedback, model=model)

    def stats(self) -> SignalStats:
        """Return how often each kind of signal was seen."""
        return SignalStats(seen=dict(self._seen))

    async def flush(self) -> None:
        """Return once everything observed so far is in the log."""

    async def close(self) -> None:
        """Stop background work."""


def _mended(attempt: AttemptRecord) -> bool:
    return attempt.response is not None and attempt.response.validation_retries > 0


def implicit_of(attempt: AttemptRecord, signal: str) -> ImplicitFeedback | None:
    """Return what an attempt teaches about its model; None when it teaches nothing."""
    response = attempt.response
    if attempt.failure is not None:
        if attempt.quality is None:
            return None
        return ImplicitFeedback(signal=signal, quality=attempt.quality, error=attempt.failure)
    if response is None:
        return None
    return ImplicitFeedback(
        signal=signal,
        quality=0.5 if _mended(attempt) else 1.0,
        cost_usd=response.cost_usd,
        input_tokens=response.input_tokens,
        output_tokens=response.output_tokens,
        latency_s=response.latency_s,
    )
