"""Tries the candidates of one decision, one after the other, within one deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from conduit import telemetry
from conduit.core.errors import AllModelsFailed, Attempt, ExecutionError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor.base import (
    Answer,
    Call,
    Executor,
    forgetting,
    timed_out,
)
from conduit.engines.executor.failures import meaning, was_free
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.leftovers import Leftovers, Overdue
from conduit.engines.executor.pump import END, Pump

# While another candidate is left, an attempt may take this much of the time that remains, so that
# a model that hangs leaves some for the next.
ATTEMPT_SHARE = 2 / 3
PROBE_SHARE = 1 / 3  # a first probe of a model that was down gets less: it will often fail
FAIR_SHARE = 1 / 2  # of the whole time; a timeout with less says nothing about quality
MIN_ATTEMPT_S = 0.005  # with less left, no attempt is worth starting
GRACE_S = 0.02  # an executor's own timeout comes first, and tells more
END_SHARE, END_S = 0.05, 0.02  # of the time that is left: to end the last attempt within it


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """How one attempt ended; for the evidence about its own model."""

    model: str
    response: Response | None  # also of a failed call, where the adapter knows what it took
    latency_s: float
    failure: str | None = None  # the kind; None: it answered
    cause: str = ""
    quality: float | None = None  # what a failure teaches; an answer is judged by its signals
    probe: bool = False
    first_choice: bool = True
    began_at: float = 0.0  # on the clock of the chain
    error: ExecutionError | None = field(default=None, repr=False)

    @property
    def cost_usd(self) -> float | None:
        """Return what it cost; None where a provider may want money, and nobody knows how much."""
        if self.response is not None and self.response.cost_usd is not None:
            return self.response.cost_usd
        return 0.0 if self.error is not None and was_free(self.error) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The answer, and the model that gave it."""

    arm: ModelArm
    answer: Answer[Any]


@dataclass(slots=True)
class _Attempt:
    """One attempt under way."""

    arm: ModelArm
    started: float
    limit_s: float | None
    whole_s: float | None  # of the request
    fair: bool
    probe: bool
    first_choice: bool


class _Chain:
    """The attempts of one request, what they taught, and the time that is left."""

    def __init__(
        self,
        arms: Sequence[ModelArm],
        call: Call,
        deadline: float | None,
        health: ModelHealth | None,
        on_attempt: Callable[[AttemptRecord], None] | None,
        clock: Callable[[], float],
        fallback: bool,
    ) -> None:
        self.call = call
        self.deadline = deadline
        self.failed: list[Attempt] = []
        self._started = clock()
        self._health = health if health is not None else ModelHealth()
        self._on_attempt = on_attempt
        self._clock = clock
        self._fallback = fallback
        self._arms = {arm.id: arm for arm in arms}
        self._first = next(iter(self._arms), "")
        self._doubtful: list[_Attempt] = []
        self._waiting = self._order(list(self._arms))

    def _order(self, ids: list[str]) -> list[str]:
        if not self._fallback:
            return ids[:1]
        now = self._clock()
        reasons = self._health.blocked(now, ids)
        order = self._health.order(ids, now)
        for model, reason in reasons.items():
            if model not in order:
                self.failed.append(Attempt(model, "blocked", reason))
        return order

    def next(self) -> _Attempt | None:
        """Return the next attempt that is worth starting, if there is one."""
        while self._waiting:
            now = self._clock()
            left_s = None if self.deadline is None else self.deadline - now
            if left_s is not None and left_s < MIN_ATTEMPT_S:
                break
            model = self._waiting.pop(0)
            if not self._waiting or self._health.allows(model, now):
                return self._begun(self._arms[model], now, left_s)
            self.failed.append(Attempt(model, "blocked", "it began to fail in the meantime"))
        self.failed.extend(Attempt(m, "not_tried", "no time was left") for m in self._waiting)
        return None

    def _begun(self, arm: ModelArm, now: float, left_s: float | None) -> _Attempt:
        probe = self._health.begin(arm.id, now)
        limit_s = None if left_s is None else left_s - min(END_SHARE * left_s, END_S)
        if limit_s is not None and self._waiting:
            short = probe and not self._health.has_time(arm.id)
            limit_s *= PROBE_SHARE if short else ATTEMPT_SHARE
        whole_s = None if self.deadline is None else self.deadline - self._started
        if self.call.timeout_s is not None:
            limit_s = self.call.timeout_s if limit_s is None else min(limit_s, self.call.timeout_s)
            whole_s = self.call.timeout_s if whole_s is None else min(whole_s, self.call.timeout_s)
        fair = limit_s is None or whole_s is None or limit_s >= FAIR_SHARE * whole_s
        return _Attempt(arm, now, limit_s, whole_s, fair, probe, arm.id == self._first)

    def waited(self, attempt: _Attempt, consumer_s: float) -> None:
        """Note for how long the consumer of a stream kept the model from going on.

        A model that had little of the time for itself is not blamed for a timeout.
        """
        if attempt.whole_s is not None:
            own_s = self._clock() - attempt.started - consumer_s
            attempt.fair = own_s >= FAIR_SHARE * attempt.whole_s

    def now(self) -> float:
        """Return the time on the clock of the chain."""
        return self._clock()

    def left_s(self) -> float | None:
        """Return the seconds until the whole request is late, if it can be."""
        ends = [self.deadline] if self.deadline is not None else []
        if self.call.timeout_s is not None:
            ends.append(self._started + self.call.timeout_s)
        return max(min(ends) - self._clock(), 0.0) if ends else None

    @contextmanager
    def recorded(self, attempt: _Attempt) -> Iterator[None]:
        """Note how an attempt ended unless it answered; let pass what must not be tried again."""
        try:
            yield
        except ExecutionError as error:
            self.failure(attempt, error)
        except asyncio.CancelledError:
            self.interrupted(attempt, "cancelled")
            raise
        except BaseException:
            self.interrupted(attempt, "caller_error")
            raise

    def answered(self, attempt: _Attempt, response: Response) -> None:
        """Note an answer; the request was in order, so who refused it has failed."""
        self._health.succeeded(attempt.arm.id)
        for earlier in self._doubtful:
            self._health.failed(earlier.arm.id, self._clock(), probe=earlier.probe)
        self._report(attempt, response=response)

    def failure(self, attempt: _Attempt, error: ExecutionError, *, final: bool = False) -> None:
        """Note a failure; raise it when no other candidate should be tried."""
        forgetting(error)  # it is kept in the record, and the frames would be kept with it
        means = meaning(error.kind)
        unfair = error.kind == "timeout" and not attempt.fair
        if means.doubtful:
            self._doubtful.append(attempt)
        # A probe that was not answered found nothing, however little time it had.
        trips = means.trips and (attempt.probe or not unfair)
        news = self._note_health(attempt, error, trips=trips)
        self.failed.append(
            Attempt(attempt.arm.id, error.kind, str(error), self._clock() - attempt.started)
        )
        response = error.response if isinstance(error.response, Response) else None
        quality = means.quality if news and not unfair else None
        self._report(attempt, response=response, error=error, failure=error.kind, quality=quality)
        if final or not means.falls_back or not self._fallback:
            raise error

    def _note_health(self, attempt: _Attempt, error: ExecutionError, *, trips: bool) -> bool:
        now, model = self._clock(), attempt.arm.id
        retry_after_s = getattr(error, "retry_after_s", None)
        if error.kind == "rate_limited" or retry_after_s is not None:
            self._health.rate_limited(model, now, retry_after_s)
        if trips:
            # Asked again after as long as the failure took: whether it was an accident or an outage
            # is soon known, and a model that hangs does not hold up one caller after the other.
            took_s = now - attempt.started
            return self._health.failed(model, now, probe=attempt.probe, doubt_s=took_s)
        if attempt.probe:
            self._health.abandoned(model)
        return True

    def interrupted(self, attempt: _Attempt, kind: str, response: Response | None = None) -> None:
        """Note an attempt that ended for a reason that is not the model's."""
        if attempt.probe:
            self._health.abandoned(attempt.arm.id)
        self._report(attempt, response=response, failure=kind)

    def _report(
        self,
        attempt: _Attempt,
        *,
        response: Response | None,
        error: ExecutionError | None = None,
        failure: str | None = None,
        quality: float | None = None,
    ) -> None:
        record = AttemptRecord(
            model=attempt.arm.id,
            response=response,
            latency_s=self._clock() - attempt.started,
            failure=failure,
            cause="" if error is None else str(error),
            quality=quality,
            probe=attempt.probe,
            first_choice=attempt.first_choice,
            began_at=attempt.started,
            error=error,
        )
        telemetry.attempted(record)
        if self._on_attempt is not None:
            self._on_attempt(record)


async def run_chain(
    executor: Executor,
    arms: Sequence[ModelArm],
    call: Call,
    *,
    deadline: float | None = None,
    health: ModelHealth | None = None,
    on_attempt: Callable[[AttemptRecord], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    fallback: bool = True,
    leftovers: Leftovers | None = None,
) -> Served:
    """Return the first answer of the arms in their order, before `deadline` (on `clock`).

    Every attempt goes to `on_attempt`. When all fail, `AllModelsFailed` lists them; with
    `fallback=False` only the first arm is asked, and its own error comes out. An attempt that does
    not end when its time is over goes on among the `leftovers`.
    """
    chain = _Chain(arms, call, deadline, health, on_attempt, clock, fallback)
    owner = Leftovers() if leftovers is None else leftovers
    while (attempt := chain.next()) is not None:
        with chain.recorded(attempt):
            answer = await _executed(executor, call, attempt, owner)
            chain.answered(attempt, answer.response)
            return Served(arm=attempt.arm, answer=answer)
    raise AllModelsFailed(chain.failed)


async def _executed(
    executor: Executor, call: Call, attempt: _Attempt, leftovers: Leftovers
) -> Answer[Any]:
    limit_s = attempt.limit_s
    work = executor.execute(attempt.arm, replace(call, timeout_s=limit_s))
    if limit_s is None:
        return await work
    try:
        return await leftovers.within(work, limit_s + GRACE_S)
    except Overdue:
        raise timed_out(attempt.arm.id, limit_s) from None


class ChainStream:
    """The answer of the first model that began to answer, piece by piece."""

    def __init__(self, chain: _Chain, attempt: _Attempt, stream: Pump, first: Any) -> None:
        """Take a stream of which one piece has been read, or its end."""
        self.arm = attempt.arm
        self._chain = chain
        self._attempt = attempt
        self._stream = stream
        self._first = [] if first is END else [first]
        self._over = False
        self._consumer_s = 0.0  # for which whoever reads did something else
        self._given_at = chain.now()

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return itself: the pieces come once."""
        return self

    async def __anext__(self) -> Any:
        """Return the next piece; a stream that breaks now raises with what came before."""
        if self._first:
            return self._first.pop()
        if self._over:
            raise StopAsyncIteration
        self._consumer_s += self._chain.now() - self._given_at
        try:
            piece = await _next(self._stream, self.arm.id, self._chain.left_s())
        except ExecutionError as error:
            self._over = True
            self._chain.waited(self._attempt, self._consumer_s)
            self._chain.failure(self._attempt, error, final=True)
        if piece is not END:
            self._given_at = self._chain.now()
            return piece
        self._over = True
        self._chain.answered(self._attempt, self._stream.answer.response)
        raise StopAsyncIteration

    @property
    def answer(self) -> Answer[Any]:
        """Return the whole answer; only known once the pieces have ended."""
        return self._stream.answer

    def left(self) -> None:
        """Note that nobody reads on; it teaches nothing unless the stream was over."""
        if not self._over:
            self._over = True
            self._chain.interrupted(self._attempt, "cancelled")


@asynccontextmanager
async def stream_chain(
    executor: Executor,
    arms: Sequence[ModelArm],
    call: Call,
    *,
    deadline: float | None = None,
    health: ModelHealth | None = None,
    on_attempt: Callable[[AttemptRecord], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    fallback: bool = True,
    leftovers: Leftovers | None = None,
) -> AsyncIterator[ChainStream]:
    """Stream from the first arm that gives a first piece; a break after that is final.

    The error of a stream that breaks later is a `ProviderError` with what came as `partial`. A
    stream that does not end when its time is over goes on among the `leftovers`.
    """
    owner = Leftovers() if leftovers is None else leftovers
    chain = _Chain(arms, call, deadline, health, on_attempt, clock, fallback)
    async with AsyncExitStack() as stack:
        live = await _opened(executor, chain, stack, owner)
        try:
            yield live
        finally:
            live.left()


async def _opened(
    executor: Executor, chain: _Chain, keep: AsyncExitStack, leftovers: Leftovers
) -> ChainStream:
    while (attempt := chain.next()) is not None:
        with chain.recorded(attempt):
            async with AsyncExitStack() as stack:
                limited = replace(chain.call, timeout_s=chain.left_s())
                opening = executor.stream(attempt.arm, limited)
                stream = await stack.enter_async_context(Pump(opening, leftovers))
                first = await _next(stream, attempt.arm.id, attempt.limit_s)
                keep.push_async_exit(stack.pop_all())
            return ChainStream(chain, attempt, stream, first)
    raise AllModelsFailed(chain.failed)


async def _next(stream: Pump, model: str, limit_s: float | None) -> Any:
    """Return the next piece, a little after an executor's own timeout at the latest."""
    try:
        return await stream.next(None if limit_s is None else limit_s + GRACE_S)
    except Overdue:
        raise timed_out(model, limit_s) from None
