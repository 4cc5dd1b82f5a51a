"""A judge: another model that grades a sample of the answers, after they were returned.

    evaluator = ArbiterEvaluator(sample_rate=0.1, daily_budget_usd=1.0, model="openai:gpt-4o-mini")
    service = await create_service(evaluator=evaluator)

Nothing that happens to a judge reaches the answer: whether it hangs, raises or talks nonsense, it
is counted, and said once a minute. Its money comes from a daily budget of its own, kept in the
store, so that replicas share it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from conduit.catalogue.pool import known_arm
from conduit.core.errors import (
    BudgetExceeded,
    ConfigurationError,
    ExecutionError,
    InvalidInput,
    finite,
)
from conduit.core.models import ModelArm, Response
from conduit.engines.budget import Budget, Budgets, Hold
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.sizes import Size
from conduit.evaluation.families import family
from conduit.evaluation.graders import Prompt
from conduit.evaluation.verdicts import (
    Criterion,
    clipped,
    criteria_of,
    instructions,
    quality_of,
    question,
    sampled,
    verdict_type,
)
from conduit.storage.base import MemoryStore, Store
from conduit.storage.urls import DatabaseUrl

log = logging.getLogger(__name__)

DEFAULT_JUDGE = "openai:gpt-4o-mini"
MAX_OUTPUT_TOKENS = 2_048  # for grades, and for what a reasoning model thinks before them
MAX_WAITING = 500  # answers to judge, at most 16,000 characters each; more are left out
CONCURRENCY = 4
TIMEOUT_S = 30.0
GRACE_S = 1.0  # after its timeout, by which an executor has given up or is left behind
CLOSE_S = 10.0
REMEMBERED = 10_000  # decisions that are not judged a second time
FAILURES_TO_REST = 10  # in a row, after which a judge is left alone for a while
REST_S = 60.0
COMPLAIN_EVERY_S = 60.0
UNLIMITED_USD = 1e9  # in the ledger, where no budget was given
# What a failed call of this kind certainly did not cost; others are booked as the worst case.
FREE_FAILURES = (
    "auth", "bad_request", "connection", "not_found", "not_installed", "quota", "rate_limited",
)  # fmt: skip

Tell = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer that may be judged: whose it is, and the texts."""

    decision_id: str
    model: str
    prompt: str = field(repr=False)
    answer: str = field(repr=False)
    expected: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStats:
    """What a judge has done since it was made."""

    model: str
    offered: int = 0  # answers that it could have judged
    judged: int = 0
    mean_quality: float | None = None
    failed: Mapping[str, int] = field(default_factory=dict)  # by kind of failure
    skipped: Mapping[str, int] = field(default_factory=dict)  # by reason
    waiting: int = 0
    cost_usd: float = 0.0  # of this process; what nobody told counts as the worst case
    resting: bool = False  # after many failures in a row


@dataclass(frozen=True, slots=True)
class _DailyJudging(Budget):
    """A judge's budget, apart from what the answers may cost."""

    def key(self, router: str, user_key: str | None) -> str:
        return f"{router}|judge|*|{self.per}"


class _Skipped(Exception):
    """This answer is not judged, for a reason in one word."""


class MinuteLog:
    """Says something once a minute at most, and how often it happened since."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Write warnings to a logger."""
        self._log = logger
        self._clock = clock
        self._said_at: float | None = None
        self._unsaid = 0

    def __call__(self, what: str) -> None:
        """Say it, or count it for the next time."""
        self._unsaid += 1
        now = self._clock()
        if self._said_at is None or now - self._said_at >= COMPLAIN_EVERY_S:
            self._log.warning("%s (%d since the last such line)", what, self._unsaid)
            self._said_at, self._unsaid = now, 0


class ArbiterEvaluator:
    """Grades a sample of the answers with another model; never in the way of an answer.

    `db` keeps its spend: a store, the address of a database, or nothing, which takes the service's
    own store. A judge does not grade its own family's answers unless `allow_own_family`. Call it
    with a prompt and an answer to have that answer graded now, as `service.calibrate` does.
    """

    def __init__(
        self,
        db: Store | str | None = None,
        sample_rate: float = 0.1,
        daily_budget_usd: float | None = None,
        model: str | ModelArm = DEFAULT_JUDGE,
        evaluators: Sequence[str | Criterion] = ("semantic", "factuality"),
        *,
        executor: Executor | None = None,
        allow_own_family: bool = False,
        timeout_s: float = TIMEOUT_S,
        concurrency: int = CONCURRENCY,
        max_waiting: int = MAX_WAITING,
        close_s: float = CLOSE_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check everything now; connect to nothing before the first answer."""
        self.sample_rate = finite(sample_rate, "sample_rate", low=0.0, high=1.0)
        if isinstance(db, str):
            DatabaseUrl.parse(db)
        elif db is not None and not hasattr(db, "reserve"):
            raise InvalidInput("db must be a store or the address of a database", field="db")
        self.arm = known_arm(model, datetime.fromtimestamp(clock(), UTC).date())
        self.criteria = criteria_of(evaluators)
        self.allow_own_family = allow_own_family
        if daily_budget_usd is not None and not self.arm.priced:
            raise ConfigurationError(
                f"the price of the judge {self.arm.id!r} is unknown, so its budget could not be "
                "kept: give ModelArm(..., input_usd_per_mtok=..., output_usd_per_mtok=...)",
                field="daily_budget_usd",
            )
        if concurrency < 1 or max_waiting < 1:
            raise InvalidInput("concurrency and max_waiting must be at least 1")
        self._budget = _DailyJudging(
            UNLIMITED_USD if daily_budget_usd is None else daily_budget_usd
        )
        self._timeout_s = finite(timeout_s, "timeout_s", low=0.001)
        self._close_s = finite(close_s, "close_s", low=0.0)
        self._max_waiting = max_waiting
        self._concurrency = concurrency
        self._db, self._router = db, "default"
        self._store: Store | None = None
        self._executor, self._own_executor = executor, executor is None
        self._budgets: Budgets | None = None
        self._gate: asyncio.Semaphore | None = None
        self._opening: asyncio.Lock | None = None
        self._clock, self._monotonic = clock, monotonic
        self._verdict = verdict_type(self.criteria)
        self._instructions = instructions(self.criteria)
        self._complain = MinuteLog(log, monotonic)
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._failed: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._offered = self._judged = self._in_a_row = 0
        self._total = self._cost_usd = 0.0
        self._rests_until = float("-inf")
        self._closed = False

    knows_models = True  # as a grader: it is told whose answer it grades

    @property
    def name(self) -> str:
        """Return the name under which its grades of a calibration are kept."""
        return f"judge:{self.arm.id}:{'+'.join(each.name for each in self.criteria)}"

    def __repr__(self) -> str:
        """Show the judge and its sample; no address."""
        return f"ArbiterEvaluator(model={self.arm.id!r}, sample_rate={self.sample_rate})"

    def bind(self, store: Store, router: str) -> None:
        """Keep the spend under this router's name, in its store where no `db` was given."""
        self._router = router
        if self._db is None:
            self._db = store

    # after an answer -----------------------------------------------------------------------------

    def submit(self, item: Answered, tell: Tell) -> bool:
        """Judge an answer some time soon and tell the score; return whether it is in the sample.

        Returns at once, and never raises.
        """
        self._offered += 1
        reason = self._reason_to_skip(item)
        if reason is None and len(self._tasks) >= self._max_waiting:
            reason = "queue_full"
        if reason is not None:
            self._skipped[reason] += 1
            return False
        self._remember(item.decision_id)
        item = replace(item, prompt=clipped(item.prompt), answer=clipped(item.answer))
        task = asyncio.get_running_loop().create_task(self._run(item, tell), name="conduit judge")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def judge(self, item: Answered) -> float | None:
        """Return the score of an answer, None where it is not in the sample or was not judged."""
        self._offered += 1
        reason = self._reason_to_skip(item)
        if reason is not None:
            self._skipped[reason] += 1
            return None
        self._remember(item.decision_id)
        return await self._score(item)

    def _reason_to_skip(self, item: Answered) -> str | None:
        if self._closed:
            return "closed"
        if not sampled(item.decision_id, self.sample_rate):
            return "not_sampled"
        if item.decision_id in self._seen:
            return "seen"
        return self._unfit(item.model, item.answer)

    def _unfit(self, model: str | None, answer: str) -> str | None:
        if not answer.strip():
            return "empty"
        if model is not None and not self.allow_own_family and family(model) == self._family:
            return "own_family"
        return None

    @property
    def _family(self) -> str:
        return family(self.arm.id)

    def _remember(self, decision_id: str) -> None:
        self._seen[decision_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def _run(self, item: Answered, tell: Tell) -> None:
        score = await self._score(item)
        try:
            if score is not None:
                await tell(score)
        except Exception as error:  # noqa: BLE001  whatever the log says, the answer is long served
            self._fail(f"feedback_{type(error).__name__}")

    # grading -------------------------------------------------------------------------------------

    async def __call__(
        self, prompt: Prompt | str, answer: Any, *, model: str | None = None
    ) -> float | None:
        """Return the grade of an answer now, whether or not it is in a sample.

        None where the judge may not grade it, or could not.
        """
        asked = Prompt.of(prompt)
        self._offered += 1
        text = as_text(answer)
        reason = "closed" if self._closed else self._unfit(model, text)
        if reason is not None:
            self._skipped[reason] += 1
            return None
        expected = None if asked.expected is None else as_text(asked.expected)
        return await self._score(
            Answered(
                decision_id="",
                model=model or "",
                prompt=asked.text,
                answer=text,
                expected=expected,
            )
        )

    async def _score(self, item: Answered) -> float | None:
        """Return the score; a failure is counted, and is None."""
        try:
            async with self._turn():
                score = await self._asked(item)
        except _Skipped as reason:
            self._skipped[str(reason)] += 1
            return None
        except Exception as error:  # noqa: BLE001  a judge, its vendor or its store may raise anything
            self._fail(_kind_of(error))
            return None
        self._in_a_row = 0
        self._judged += 1
        self._total += score
        return score

    def _turn(self) -> asyncio.Semaphore:
        if self._gate is None:
            self._gate = asyncio.Semaphore(self._concurrency)
        return self._gate

    async def _asked(self, item: Answered) -> float:
        if self._monotonic() < self._rests_until:
            raise _Skipped("resting")
        executor, budgets = await self._opened()
        shown = question(clipped(item.prompt), clipped(item.answer), item.expected)
        hold = await self._reserved(budgets, shown)
        paid: float | None = 0.0  # a call that was never made costs nothing
        try:
            call = Call(
                shown,
                result_type=self._verdict,
                system_prompt=self._instructions,
                model_settings={"max_tokens": MAX_OUTPUT_TOKENS},
                timeout_s=self._timeout_s,
                output_retries=0,
            )
            paid = None
            async with asyncio.timeout(self._timeout_s + GRACE_S):
                answer = await executor.execute(self.arm, call)
            paid = answer.response.cost_usd
            score = quality_of(self._verdict.model_validate(answer.data, from_attributes=True),
                               self.criteria)  # fmt: skip
            return finite(score, "score", low=0.0, high=1.0)
        except ExecutionError as error:
            paid = _cost_of_failure(error)
            raise
        finally:
            self._cost_usd += hold.amount_usd if paid is None else paid
            await asyncio.shield(budgets.settle(hold, paid))

    async def _reserved(self, budgets: Budgets, shown: str) -> Hold:
        """Set the worst case of a call aside in the budget of the day."""
        tokens = len((self._instructions + shown).encode()) / 2.0 + 500  # more than it can have
        size = Size(input_tokens=tokens, output_tokens=MAX_OUTPUT_TOKENS)
        worst = budgets.worst_case_usd(self.arm, size)
        try:
            return await budgets.reserve(worst or 0.0, None)
        except BudgetExceeded:
            raise _Skipped("budget") from None

    async def _opened(self) -> tuple[Executor, Budgets]:
        """Return what a call needs, made at the first one, in the event loop that judges."""
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._executor is None:
                # Importing it takes a second, which no answer has to wait for.
                adapter = await asyncio.to_thread(
                    import_module, "conduit.engines.executor.pydantic_ai"
                )
                self._executor = adapter.PydanticAIExecutor()
            if self._budgets is None:
                if isinstance(self._db, str):
                    from conduit.storage.database import open_store

                    self._store = await open_store(self._db)
                store = self._store or self._db or MemoryStore(clock=self._clock)
                assert not isinstance(store, str)
                self._budgets = Budgets([self._budget], store, self._router, clock=self._clock)
            return self._executor, self._budgets

    def _fail(self, kind: str) -> None:
        self._failed[kind] += 1
        self._in_a_row += 1
        if self._in_a_row >= FAILURES_TO_REST:
            self._in_a_row = 0
            self._rests_until = self._monotonic() + REST_S
        self._complain(f"The judge {self.arm.id} gave no score: {kind}")

    # readings and life ---------------------------------------------------------------------------

    def stats(self) -> JudgeStats:
        """Return what was judged, what was left out and why, and what it cost."""
        return JudgeStats(
            model=self.arm.id,
            offered=self._offered,
            judged=self._judged,
            mean_quality=self._total / self._judged if self._judged else None,
            failed=dict(self._failed),
            skipped=dict(+self._skipped),
            waiting=len(self._tasks),
            cost_usd=self._cost_usd,
            resting=self._monotonic() < self._rests_until,
        )

    async def flush(self) -> None:
        """Return once everything that was submitted before the call is judged or given up."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, deadline_s: float | None = None) -> None:
        """Judge what waits within the deadline, give up the rest, and let go of every resource.

        A later answer is not judged.
        """
        self._closed = True
        await self.release(self._close_s if deadline_s is None else deadline_s)

    async def release(self, deadline_s: float = 0.0) -> None:
        """Do what `close` does, but let a later answer open everything anew."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=deadline_s)
            self._skipped["cancelled"] += len(late)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._budgets is not None:
            await self._budgets.bookings.close()
        self._gate = self._opening = self._budgets = None
        if self._own_executor and self._executor is not None:
            executor, self._executor = self._executor, None
            await executor.close()
        if self._store is not None:
            store, self._store = self._store, None
            await store.close()

    async def __aenter__(self) -> ArbiterEvaluator:
        """Return itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the judge."""
        await self.close()


def _kind_of(error: Exception) -> str:
    if isinstance(error, ExecutionError):
        return error.kind
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def _cost_of_failure(error: ExecutionError) -> float | None:
    """Return what a failed call cost: what it says itself, nothing, or None where nobody knows."""
    if isinstance(error.response, Response) and error.response.cost_usd is not None:
        return error.response.cost_usd
    return 0.0 if error.kind in FREE_FAILURES else None


def as_text(value: Any) -> str:
    """Return data as a judge reads it."""
    if isinstance(value, str):
        return value
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json())
    return str(getattr(value, "pattern", value))


__all__ = ["Answered", "ArbiterEvaluator", "Criterion", "JudgeStats", "MinuteLog", "as_text"]
