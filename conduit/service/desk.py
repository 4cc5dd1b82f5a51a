"""The desk takes requests in and closes them: route and reserve before, book and learn after.

What happens between the two is the chain of attempts, whose records a request carries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from conduit.core.errors import AllModelsFailed, Attempt, ConduitError, StorageUnavailable
from conduit.core.models import Query, Response
from conduit.engines.budget import Budgets
from conduit.engines.executor.base import Call
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.sizes import limited, size_of
from conduit.engines.gathering import Gathering
from conduit.engines.router import Router
from conduit.engines.rows import user_key
from conduit.feedback.collector import Attempted, FeedbackCollector
from conduit.service.judging import Judging
from conduit.service.loop import HomeLoop
from conduit.service.purse import afford
from conduit.service.readings import Tally
from conduit.service.requests import Request, closed
from conduit.storage.base import ResponseRecord, new_id

log = logging.getLogger("conduit.service")

LEAVE_S = 1.0  # in which what is given up may let go of its connections
STORE_S = 0.1  # a database that is there answers sooner
SETTLE_S = 0.02  # that a caller may wait beyond the deadline until the cost is booked


@dataclass(slots=True)
class _UnderWay:
    """Something that closing waits for: who is at it, and what ends it."""

    task: asyncio.Task[Any] | None
    scope: asyncio.Timeout | None = None  # which ends what is going on, when it is given up
    given_up: bool = False
    store_since: float | None = None  # the store is being asked


class Desk:
    """Opens a request with a decision and money set aside; closes it with what it showed."""

    def __init__(
        self,
        router: Router,
        collector: FeedbackCollector,
        budgets: Budgets,
        health: ModelHealth,
        *,
        home: HomeLoop,
        judging: Judging | None = None,
        clock: Callable[[], float],
    ) -> None:
        """Put the parts together."""
        self.tally = Tally()
        self._router = router
        self._collector = collector
        self._budgets = budgets
        self._health = health
        self._home = home
        self._judging = judging
        self._clock = clock
        self._under_way: dict[str, _UnderWay] = {}
        self._one_left = asyncio.Event()
        self._is_shut = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lessons = Gathering(self._learn)

    @property
    def waiting(self) -> int:
        """Return how many requests are still on their way to the log and the books."""
        return len(self._tasks) + len(self._lessons) + len(self._budgets.bookings)

    # before the attempts ------------------------------------------------------------------------

    async def open(self, query: Query, call: Call, timeout_s: float) -> Request:
        """Decide which models may answer in which order, and set their worst case aside."""
        self._check_open()
        self.tally.requests += 1
        limit = asyncio.timeout(timeout_s)
        identity, each = self._begin()
        try:
            async with limit:  # the database may be slow, or an embedder of somebody else's
                each.scope = limit
                request = await self._opened(identity, each, query, call, timeout_s)
            each.scope = None
        except BaseException as error:
            self._end(identity)
            if isinstance(error, Exception):
                self.tally.failed += 1
            if isinstance(error, TimeoutError) and limit.expired():
                raise self._late(each, timeout_s) from None
            raise
        return request

    def _late(self, each: _UnderWay, timeout_s: float) -> ConduitError:
        """Return why a request could not be opened in its time."""
        if each.given_up:
            return closed()
        if each.store_since is not None and time.monotonic() - each.store_since > STORE_S:
            return StorageUnavailable(
                f"the database set no money aside within {timeout_s:g} s, so no model was asked"
            )
        return AllModelsFailed(
            [Attempt(a.id, "not_tried", "no time was left") for a in self._router.models]
        )

    async def _opened(
        self, identity: str, each: _UnderWay, query: Query, call: Call, timeout_s: float
    ) -> Request:
        deadline = time.monotonic() + timeout_s
        call = limited(call) if self._budgets.budgets else call
        size = size_of(call)
        decision = await self._router.route(
            query,
            unavailable=self._unavailable(),
            cost_weight=self._budgets.cost_weight(user_key(query.user_id)),
            tokens_beside=size.beside_tokens,
        )
        arms = [self._router.arm(model) for model in decision.candidates]
        purse = None
        if self._budgets.budgets:
            each.store_since = time.monotonic()
            purse, arms = await afford(
                self._budgets,
                arms,
                size,
                user_key=user_key(decision.user_id),
                within_s=timeout_s,
            )
            each.store_since = None
        if each.given_up:
            raise closed()
        return Request(
            id=identity,
            query=query,
            decision=decision,
            arms=arms,
            call=call,
            deadline=deadline,
            purse=purse,
        )

    def _unavailable(self) -> dict[str, str]:
        models = self._router.learner.models
        blocked = self._health.blocked(time.monotonic(), models)
        # Every model in trouble: the chain asks the one that is free first.
        return {} if len(blocked) == len(models) else blocked

    # after them ---------------------------------------------------------------------------------

    async def close(self, request: Request) -> None:
        """Book the money, and hand what the attempts showed to the background."""
        self.tally.ended(request.attempts)
        if not self._end(request.id):
            return  # it was given up: that its connection was closed is no fault of a model
        if request.attempts:
            self._credit(request, request.attempts[-1].model)
            self._lessons.add(request)
        if self._judging is not None:
            self._judging.offer(request)
        if request.purse is not None:
            # Goes on by itself where the database is slow, or the caller gone.
            settling = self._spawn(request.purse.settle(request.attempts))
            left_s = request.deadline - time.monotonic()
            if not _is_leaving():
                await asyncio.wait([settling], timeout=max(left_s, SETTLE_S))

    def began(self, request: Request, model: str) -> None:
        """Let feedback find an answer of which the caller has a piece."""
        request.begun = True
        self._credit(request, model)

    def _credit(self, request: Request, model: str) -> None:
        """Let the request's ids stand for the model that answered, or was asked last."""
        answered = request.begun or request.response is not None
        self._collector.remember(request.id, request.decision, model)
        self._router.served_by(request.decision, model, query=request.query, answered=answered)

    async def _learn(self, requests: Sequence[Request]) -> None:
        """Keep each attempt in the history, and let the collector teach from them."""
        try:
            for request in requests:
                for attempt in request.attempts:
                    await self._router.store.record_response(self._history(request, attempt))
            await self._collector.observe_all(
                [Attempted(r.decision, r.query, r.attempts) for r in requests]
            )
        except ConduitError as error:
            log.warning("What a request showed was lost: %s", type(error).__name__)

    def _history(self, request: Request, attempt: AttemptRecord) -> ResponseRecord:
        response = attempt.response or Response(model=attempt.model, latency_s=attempt.latency_s)
        return ResponseRecord(
            id=request.id if attempt is request.attempts[-1] else new_id(self._clock()),
            decision_id=request.decision.id,
            router=self._router.name,
            created_at=self._clock(),
            response=response,
            user_key=user_key(request.decision.user_id),
            error=attempt.failure,
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.warning("What a request showed was lost: %s", type(error).__name__)

    async def flush(self) -> None:
        """Return once what every closed request showed is committed, and its cost is booked."""
        await self._handed_on()
        await self._budgets.bookings.flush()

    async def _handed_on(self) -> None:
        await self._lessons.flush()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # the end -----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        self._home.enter()
        if self._is_shut:
            raise closed()

    def _begin(self) -> tuple[str, _UnderWay]:
        identity, each = new_id(self._clock()), _UnderWay(asyncio.current_task())
        self._under_way[identity] = each
        return identity, each

    def _end(self, identity: str) -> bool:
        """Note that something is over; False where it was given up before."""
        self._one_left.set()
        each = self._under_way.pop(identity, None)
        return each is not None and not each.given_up

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let closing wait for what is done meanwhile."""
        self._check_open()
        identity, each = self._begin()
        try:
            async with _ended_by(each):
                yield
        finally:
            self._end(identity)

    @asynccontextmanager
    async def answering(self, request: Request) -> AsyncIterator[None]:
        """Close the request after what is done meanwhile, which closing the service may end."""
        try:
            async with _ended_by(self._under_way[request.id]):
                yield
        finally:
            await self.close(request)

    async def shut(self, within_s: float) -> None:
        """Take nothing more in, and wait for what is under way; what takes longer is given up.

        That is booked as its worst case. Whoever closes in the middle of a stream of their own is
        not waited for.
        """
        self._is_shut = True
        await self._others_left(within_s)
        given_up = list(self._under_way.values())
        mine = asyncio.current_task()
        for each in given_up:
            each.given_up = True
            if each.scope is not None and each.task is not mine:
                each.scope.reschedule(asyncio.get_running_loop().time())
        await self._others_left(LEAVE_S)
        self._under_way.clear()
        await self._budgets.give_up()
        if given_up:
            log.warning("Closing did not wait for %d calls under way", len(given_up))

    async def _others_left(self, within_s: float) -> None:
        """Return once nothing of others is under way, or after some seconds."""
        mine = asyncio.current_task()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while any(each.task is not mine for each in self._under_way.values()):
                    self._one_left.clear()
                    await self._one_left.wait()

    async def finish(self) -> None:
        """Hand on what the requests showed, and book what they cost if the database is there."""
        await self._handed_on()
        await self._budgets.bookings.close()


@asynccontextmanager
async def _ended_by(each: _UnderWay) -> AsyncIterator[None]:
    """Let what is done meanwhile be given up: it fails as anything of a closed service does."""
    try:
        async with asyncio.timeout(None) as each.scope:
            if each.given_up:
                raise closed()
            yield
    except TimeoutError:
        if each.scope is not None and each.scope.expired():
            raise closed() from None
        raise
    finally:
        each.scope = None


def _is_leaving() -> bool:
    """Return whether the caller has been cancelled, so that nothing should hold them up."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
