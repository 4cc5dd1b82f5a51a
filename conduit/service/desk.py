"""The desk takes requests in and closes them: route and reserve before, book and learn after.

What happens between the two is the chain of attempts, whose records a request carries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from conduit.core.models import ModelArm, Query, Response, RoutingDecision
from conduit.engines.budget import Budgets, Hold, worst_case_usd
from conduit.engines.executor.base import Call
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.sizes import size_of
from conduit.engines.router import Router
from conduit.engines.rows import user_key
from conduit.feedback.collector import FeedbackCollector
from conduit.service.judging import Judging
from conduit.service.readings import Tally
from conduit.service.requests import Request
from conduit.storage.base import ResponseRecord, new_id


class Desk:
    """Opens a request with a decision and money set aside; closes it with what it showed."""

    def __init__(
        self,
        router: Router,
        collector: FeedbackCollector,
        budgets: Budgets,
        health: ModelHealth,
        *,
        judging: Judging | None = None,
        clock: Callable[[], float],
    ) -> None:
        """Put the parts together."""
        self.tally = Tally()
        self._router = router
        self._collector = collector
        self._budgets = budgets
        self._health = health
        self._judging = judging
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def waiting(self) -> int:
        """Return how many requests are still on their way to the log."""
        return len(self._tasks)

    # before the attempts ------------------------------------------------------------------------

    async def open(self, query: Query, call: Call, timeout_s: float) -> Request:
        """Decide which models may answer in which order, and set their worst case aside."""
        self.tally.requests += 1
        deadline = time.monotonic() + timeout_s
        try:
            decision = await self._router.route(
                query, unavailable=self._unavailable(), cost_weight=self._budgets.cost_weight
            )
            arms = [self._router.arm(model) for model in decision.candidates]
            hold = None
            if self._budgets.budgets:
                hold, arms, call = await self._afford(decision, arms, call)
        except Exception:
            self.tally.failed += 1
            raise
        return Request(
            id=new_id(self._clock()),
            query=query,
            decision=decision,
            arms=arms,
            call=call,
            deadline=deadline,
            hold=hold,
        )

    def _unavailable(self) -> dict[str, str]:
        models = self._router.learner.models
        blocked = self._health.blocked(time.monotonic(), models)
        # Every model in trouble: the chain asks the one that is free first.
        return {} if len(blocked) == len(models) else blocked

    async def _afford(
        self, decision: RoutingDecision, arms: list[ModelArm], call: Call
    ) -> tuple[Hold, list[ModelArm], Call]:
        """Set aside the worst case of the candidates that the budget still allows."""
        size = size_of(call)
        limited = {**(call.model_settings or {}), "max_tokens": int(size.output_tokens)}
        key = user_key(decision.user_id)
        worst = {
            a.id: worst_case_usd(a, size.all_input_tokens, size.requests * size.output_tokens)
            for a in arms
        }
        left = await self._budgets.left_usd(key)
        within = [a for a in arms if (w := worst[a.id]) is not None and w <= left]
        amount = max((worst[a.id] or 0.0 for a in within), default=None)
        if amount is None:
            known = [w for w in worst.values() if w is not None]
            amount = min(known) if known else left + 1.0
        hold = await self._budgets.reserve(amount, key)
        return hold, within, replace(call, model_settings=limited)

    # after them ---------------------------------------------------------------------------------

    async def close(self, request: Request) -> None:
        """Book the money, and hand what the attempts showed to the background."""
        self.tally.ended(request.attempts)
        if request.response is not None:
            self._collector.remember(request.id, request.decision, request.response.model)
        if request.hold is not None:
            spent = request.spent_usd()
            await asyncio.shield(self._budgets.settle(request.hold, spent))
            paid = request.hold.amount_usd if spent is None else spent
            await self._budgets.pace(paid, user_key(request.decision.user_id))
        if request.attempts:
            self._spawn(self._learn(request))
        if self._judging is not None:
            self._judging.offer(request)

    async def _learn(self, request: Request) -> None:
        """Keep each attempt in the history, and let the collector teach from them."""
        for attempt in request.attempts:
            await self._router.store.record_response(self._history(request, attempt))
        await self._collector.observe(request.decision, request.query, request.attempts)

    def _history(self, request: Request, attempt: AttemptRecord) -> ResponseRecord:
        response = attempt.response or Response(model=attempt.model, latency_s=attempt.latency_s)
        return ResponseRecord(
            id=request.id if attempt.failure is None else new_id(self._clock()),
            decision_id=request.decision.id,
            router=self._router.name,
            created_at=self._clock(),
            response=response,
            user_key=user_key(request.decision.user_id),
            error=attempt.failure,
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def flush(self) -> None:
        """Return once what every closed request showed is committed."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
