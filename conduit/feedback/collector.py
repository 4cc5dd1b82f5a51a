"""From what a call showed, and what people and applications say of it, to evidence in the log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from conduit.core.models import Feedback, ImplicitFeedback, Query, RoutingDecision, RoutingResult
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.router import Router
from conduit.feedback.detector import ImplicitFeedbackDetector
from conduit.feedback.events import SignalEvent, Target
from conduit.feedback.experience import GAVE_UP, SignalExperience, SignalWorth
from conduit.feedback.history import HistoryStats, QueryHistoryTracker
from conduit.feedback.kinds import Prior, QualityOf, SignalKind, SignalKinds, as_given
from conduit.feedback.outages import Outages, withdrawal
from conduit.feedback.patience import PATIENCE_QUANTILE, Tolerance
from conduit.feedback.retries import QueryTrace, trace_of
from conduit.storage.base import Ack

REMEMBERED = 10_000  # answers that feedback can name without asking the store
AT_A_STRETCH = 8  # requests that are looked at before others on the event loop have their turn
UNFINISHED = ("cancelled",)  # ends of an attempt for which the caller, who left, is the reason


class QueryHistory(Protocol):
    """Remembers the queries of each user for some minutes."""

    async def add(self, trace: QueryTrace) -> None: ...  # noqa: D102
    async def recent(self, user_id: str | None, now: float) -> list[QueryTrace]: ...  # noqa: D102
    async def forget(self, user_id: str) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
    def stats(self) -> HistoryStats: ...  # noqa: D102


class Attempted(NamedTuple):
    """One request: what was decided for which query, and how the attempts ended."""

    decision: RoutingDecision
    query: Query
    attempts: Sequence[AttemptRecord]

    @property
    def answered_by(self) -> str | None:
        """Return the model that answered, if one did."""
        answers = [a.model for a in self.attempts if a.failure is None and a.response is not None]
        return answers[-1] if answers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalStats:
    """What was seen here since the start, and what the router's log taught about signals."""

    seen: Mapping[str, int] = field(default_factory=dict)
    reliability: Mapping[str, SignalWorth] = field(default_factory=dict)  # by verdict: "retry-"
    patience_s: Mapping[Tolerance, float | None] = field(default_factory=dict)
    rated: Mapping[str, float] = field(default_factory=dict)  # share of calls, by verdict
    quality: Mapping[str, float] = field(default_factory=dict)  # by model, whoever rates
    history: HistoryStats = field(default_factory=HistoryStats)


class FeedbackCollector:
    """Turns attempts, opinions and signals into evidence, each for its own model."""

    def __init__(
        self,
        router: Router,
        *,
        history: QueryHistory | None = None,
        detector: ImplicitFeedbackDetector | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Teach this router; queries are remembered in this process unless `history` is given."""
        self.kinds = SignalKinds()
        self.experience = SignalExperience(self.kinds)
        self.history: QueryHistory = history or QueryHistoryTracker()
        self.detector = detector or ImplicitFeedbackDetector(embedder=router.analyzer.embedder.id)
        self.outages = Outages()
        self._router = router
        self._clock = clock
        self._seen: Counter[str] = Counter()
        self._answers: OrderedDict[str, tuple[str, str]] = OrderedDict()  # decision and model
        router.attach(self.experience)

    # what a call shows by itself -----------------------------------------------------------------

    async def observe(
        self, decision: RoutingDecision, query: Query, attempts: Sequence[AttemptRecord]
    ) -> None:
        """Write what each attempt showed to the log, and what the query says of an earlier one."""
        await self.observe_all([Attempted(decision, query, attempts)])

    async def observe_all(self, requests: Sequence[Attempted]) -> None:
        """Do so for several requests at once: their rows share a commit and a reading of the log.

        Where a row cannot be kept, the others are, and then its error is raised.
        """
        kept = []
        for number, request in enumerate(requests, 1):
            for attempt in request.attempts:
                implicit = self._shown_by(attempt, request.query)
                if implicit is not None:
                    kept.append(self._router.keep(request.decision, implicit, model=attempt.model))
                for past in self.outages.ended(request.decision, attempt):
                    taken_back = withdrawal(past, attempt.model)
                    kept.append(self._router.keep(past, taken_back, model=attempt.model))
            if number % AT_A_STRETCH == 0:
                await asyncio.sleep(0)
        results = await asyncio.gather(*kept, return_exceptions=True)
        try:
            for request in requests:
                await self._look_back(request)
        finally:
            await self._router.sync()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _shown_by(self, attempt: AttemptRecord, query: Query) -> ImplicitFeedback | None:
        """Return what an attempt teaches about its model; None when it teaches nothing."""
        self._judge_wait(attempt, query)
        if attempt.failure in UNFINISHED:
            return ImplicitFeedback(signal=GAVE_UP, value=attempt.latency_s)
        if attempt.failure is not None:
            self._seen[attempt.failure] += 1
            if attempt.quality is None:
                return None
            return ImplicitFeedback(
                signal="exception", quality=attempt.quality, error=attempt.failure
            )
        response = attempt.response
        if response is None:
            return None
        found = self.detector.error(response, prompt=query.text)
        self._seen[found.reliability_key] += 1
        return ImplicitFeedback(
            signal=found.reliability_key,
            quality=found.quality,
            cost_usd=response.cost_usd,
            input_tokens=response.input_tokens,
            output_tokens=response.output_tokens,
            latency_s=response.latency_s,
        )

    def _judge_wait(self, attempt: AttemptRecord, query: Query) -> None:
        """Count a caller who gave up, or whose patience was tried."""
        gone = attempt.failure in UNFINISHED
        if attempt.failure is not None and not gone:
            return
        wait = self.detector.latency(
            attempt.latency_s, query, self.experience.patience, abandoned=gone
        )
        if gone:
            self._seen[GAVE_UP] += 1
        elif wait is not None and wait.satisfaction < 0.5:
            self._seen["slow"] += 1

    async def _look_back(self, request: Attempted) -> None:
        """See whether the user asks again, which is bad news about the answer given before."""
        decision, query, answered = request.decision, request.query, request.answered_by
        if query.user_id is None:
            return  # a batch that repeats itself is no user who is dissatisfied
        trace = trace_of(
            query.text,
            decision_id=decision.id,
            user_id=query.user_id,
            at_s=decision.created_at,
            embedding=decision.features.embedding,
            model=answered or "",
        )
        retry = self.detector.retry(trace, await self.history.recent(query.user_id, trace.at_s))
        if answered is not None:
            await self.history.add(trace)
        if retry is None:
            return
        self._seen[retry.reliability_key] += 1
        implicit = ImplicitFeedback(
            signal=retry.reliability_key,
            quality=retry.quality,
            feedback_id=f"{retry.decision_id}:{retry.reliability_key}:{decision.id}",
        )
        await self._router.keep(retry.decision_id, implicit, model=retry.model or None)

    # what people say -----------------------------------------------------------------------------

    async def submit(self, target: Target, feedback: Feedback, *, model: str | None = None) -> Ack:
        """Write an opinion to the log; returns once it is committed."""
        decision, answered = self._named_by(target)
        return await self._router.feedback(decision, feedback, model=model or answered)

    def remember(self, response_id: str, decision: RoutingDecision, model: str) -> None:
        """Know an answer by its id before the store does."""
        self._answers[response_id] = (decision.id, model)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def _named_by(self, target: Target) -> tuple[RoutingDecision | str, str | None]:
        """Return the decision of a target, and the model where an answer tells it."""
        if isinstance(target, RoutingResult):
            return target.decision, target.model
        known = self._answers.get(target) if isinstance(target, str) else None
        return (target, None) if known is None else known

    # what the application sees -------------------------------------------------------------------

    def register_signal(
        self,
        name: str,
        *,
        reliability: float | Prior | tuple[float, float],
        quality: QualityOf = as_given,
    ) -> SignalKind:
        """Add a kind of signal of the application's own; the same name again replaces it.

        `reliability` is how probable it is that the signal is right, until ratings tell better.
        `quality` turns an event's value into a quality in [0, 1], or None where it says nothing.
        Every process that reports the signal should register it alike.
        """
        return self.kinds.register(name, reliability=reliability, quality=quality)

    async def record(self, event: SignalEvent) -> Ack | None:
        """Write an event to the log; returns once it is committed, None where it says nothing."""
        quality = self.kinds[event.signal].quality(event.value)
        decision, model = self._named_by(event.target)
        ack = None
        if event.waited_s is not None:
            gave_up = ImplicitFeedback(
                signal=GAVE_UP, value=event.waited_s, given_at=event.given_at
            )
            ack = await self._router.feedback(decision, gave_up, model=model)
        if quality is None:
            return ack
        self._seen[event.signal] += 1
        key = decision if isinstance(decision, str) else decision.id
        implicit = ImplicitFeedback(
            signal=event.signal,
            quality=quality,
            feedback_id=event.event_id or f"{key}:{model or ''}:{event.signal}:{quality!r}",
            given_at=event.given_at,
        )
        return await self._router.feedback(decision, implicit, model=model)

    async def on_copy(self, target: Target) -> Ack | None:
        """Tell that the user copied the answer."""
        return await self.record(SignalEvent(target=target, signal="copy"))

    async def on_edit(self, target: Target, distance: float) -> Ack | None:
        """Tell that the user changed the answer: `distance` 0 is not at all, 1 is all of it."""
        return await self.record(SignalEvent(target=target, signal="edit", value=distance))

    async def on_regenerate(self, target: Target) -> Ack | None:
        """Tell that the user had another answer made."""
        return await self.record(SignalEvent(target=target, signal="regenerate"))

    async def on_abandon(
        self, target: Target, *, shown: float | None = None, waited_s: float | None = None
    ) -> Ack | None:
        """Tell that the user left: after `shown` of the answer (0 to 1), after so many seconds."""
        return await self.record(
            SignalEvent(target=target, signal="abandon", value=shown, waited_s=waited_s)
        )

    async def on_task_success(self, target: Target, success: float = 1.0) -> Ack | None:
        """Tell whether the task that the answer was for succeeded, or how far."""
        return await self.record(SignalEvent(target=target, signal="task_success", value=success))

    # readings and life ---------------------------------------------------------------------------

    def stats(self) -> SignalStats:
        """Return what was seen, and what was learned about signals."""
        latency = self.experience.latency()
        return SignalStats(
            seen=dict(self._seen),
            reliability=self.experience.worth(),
            patience_s={t: latency.patience_s(t) for t in PATIENCE_QUANTILE},
            rated={
                name: counts.rated / counts.seen
                for name, counts in self.experience.propensity.counts.items()
                if counts.seen > 0.0
            },
            quality=self.experience.quality_by_model(),
            history=self.history.stats(),
        )

    async def flush(self) -> None:
        """Return once everything observed so far is in the log, as it is when `observe` returns."""

    async def close(self) -> None:
        """Forget the queries of this process."""
        await self.history.close()


__all__ = ["Attempted", "FeedbackCollector", "QueryHistory", "SignalStats"]
