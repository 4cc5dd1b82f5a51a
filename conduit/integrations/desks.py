"""Where a request of an integration begins and ends: at a service's desk, or at a router's.

A service's desk knows limits, history and signals; that of a router alone, the router.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from conduit.core.errors import ConduitError
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Query, RoutingDecision
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.health import ModelHealth


class RouterLike(Protocol):
    """What is needed of a router."""

    async def route(self, query: Query, *, unavailable: Any = None) -> RoutingDecision:
        """Return which model should answer."""

    def arm(self, model_id: str) -> ModelArm:
        """Return a model by its id."""

    def served_by(self, decision: RoutingDecision, model: str) -> None:
        """Know which model answered, or was asked last."""

    async def feedback(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        *,
        model: str | None = None,
    ) -> Any:
        """Learn from what became of an answer."""


class Opened(Protocol):
    """One request on its way: what was decided, whom to ask, and how the attempts went."""

    decision: RoutingDecision
    arms: Sequence[ModelArm]
    call: Call
    attempts: list[AttemptRecord]

    @property
    def deadline(self) -> float | None: ...  # noqa: D102  on the monotonic clock

    def through(self, executor: Executor) -> Executor:
        """Return the executor, which has to wait for money where there is a limit."""


class FrontDesk(Protocol):
    """Opens and closes requests: a service's, with its limits and history, or a router's."""

    async def open(self, query: Query, call: Call, timeout_s: Any) -> Any:
        """Decide who may answer, and set aside what it may cost."""

    def answering(self, request: Any) -> AbstractAsyncContextManager[None]:
        """Keep and learn what the attempts showed that are made meanwhile."""


@dataclass(slots=True)
class _Routed:
    """A request of a router alone."""

    decision: RoutingDecision
    arms: Sequence[ModelArm]
    call: Call
    deadline: float | None
    attempts: list[AttemptRecord] = field(default_factory=list)

    def through(self, executor: Executor) -> Executor:
        """Return the executor: a router knows no limits."""
        return executor


class RouterDesk:
    """Opens and closes the requests of a router alone."""

    def __init__(self, router: RouterLike, health: ModelHealth) -> None:
        self.unlearned = 0
        self._router = router
        self._health = health

    async def open(self, query: Query, call: Call, timeout_s: float | None) -> _Routed:
        """Decide who may answer."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        unavailable = self._health.blocked(time.monotonic())
        if len(unavailable) >= len(getattr(self._router, "models", unavailable)):
            unavailable = {}  # all are in trouble: the chain asks the one that is free first
        decision = await self._router.route(query, unavailable=unavailable)
        arms = [self._router.arm(model) for model in decision.candidates]
        return _Routed(decision, arms, call, deadline)

    @asynccontextmanager
    async def answering(self, request: _Routed) -> AsyncIterator[None]:
        """Teach the router what the attempts showed that are made meanwhile."""
        try:
            yield
        finally:
            await self.close(request)

    async def close(self, request: _Routed) -> None:
        """Teach the router what each attempt showed."""
        if request.attempts:
            self._router.served_by(request.decision, request.attempts[-1].model)
        for attempt in request.attempts:
            signal = _signal(attempt)
            if signal is not None:
                await self.teach(request.decision, signal, attempt.model)

    async def teach(
        self, decision: RoutingDecision | str, feedback: ImplicitFeedback, model: str
    ) -> None:
        """Teach the router; an answer is not lost because the log cannot be written."""
        try:
            await self._router.feedback(decision, feedback, model=model)
        except ConduitError:
            self.unlearned += 1


def _signal(attempt: AttemptRecord) -> ImplicitFeedback | None:
    """Return what an attempt teaches, if it teaches anything."""
    if attempt.failure is not None:
        if attempt.quality is None:
            return None
        return ImplicitFeedback(
            signal=attempt.failure, quality=attempt.quality, error=attempt.failure
        )
    response = attempt.response
    if response is None:
        return None
    return ImplicitFeedback(
        signal="answered",
        quality=1.0,
        cost_usd=response.cost_usd,
        input_tokens=response.input_tokens,
        output_tokens=response.output_tokens,
        latency_s=response.latency_s,
    )


__all__ = ["FrontDesk", "Opened", "RouterDesk", "RouterLike"]
