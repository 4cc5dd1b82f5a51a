"""Calibration: every model answers the same prompts before launch, and the router starts warm.

The biggest lever there is: 100 prompts answered by every model teach more than a thousand routed
queries, since each one shows what all models would have done.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import (
    BudgetExceeded,
    ConfigurationError,
    ExecutionError,
    InvalidInput,
    StorageUnavailable,
    optional_finite,
)
from conduit.core.events import SOURCE_RANK, DecisionRecord, Evidence, FeedbackRow
from conduit.core.models import ModelArm
from conduit.engines.budget import Budgets, Hold
from conduit.engines.executor.base import Answer, Call, Executor
from conduit.engines.executor.failures import meaning
from conduit.engines.executor.sizes import MAX_OUTPUT_TOKENS, size_of
from conduit.engines.router import Router
from conduit.evaluation.graders import Grader, Prompt, graded, grader_of
from conduit.evaluation.report import CalibrationReport, report_of

Advance = Callable[[], object]
CALL_LASTS_S = 60.0  # more than its timeout; until then nobody else gets what it has set aside
SAVE_AGAIN_S = (0.5, 2.0, 8.0)  # waits, when the database is away as a paid answer comes


@dataclass(slots=True)
class _Purse:
    """What may be spent: the worst case of every call under way is set aside."""

    limit_usd: float | None
    budgets: Budgets
    lasts_s: float  # for which a call may be under way
    spent_usd: float = 0.0
    held_usd: float = 0.0
    empty: bool = False
    calls: int = 0  # for which something is set aside
    ended: int = 0  # calls that are settled
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_limited(self) -> bool:
        """Return whether there is any limit, so that a call needs a price."""
        return self.limit_usd is not None or bool(self.budgets.budgets)

    async def take(self, amount_usd: float | None) -> Hold | None:
        """Set the worst case of a call aside; None when it may not be made.

        Calls under way cost less than their worst case, so the next may have to wait for them.
        """
        if amount_usd is None and self.is_limited:
            return None
        while True:
            async with self.turn:  # so that who finds no room knows of all calls
                ended = self.ended
                if (hold := await self._held(amount_usd or 0.0)) is not None:
                    return hold
            if self.ended > ended:  # there may be room by now
                continue
            if self.calls == 0:
                self.empty = True
                return None
            self.settled.clear()
            await self.settled.wait()

    async def _held(self, amount_usd: float) -> Hold | None:
        if self._is_beyond(amount_usd):
            return None
        try:
            hold = await self.budgets.reserve(amount_usd, None, lasts_s=self.lasts_s)
        except BudgetExceeded:
            return None
        self.held_usd += amount_usd
        self.calls += 1
        return hold

    def _is_beyond(self, amount_usd: float) -> bool:
        limit = self.limit_usd
        return limit is not None and self.spent_usd + self.held_usd + amount_usd > limit

    async def settle(self, hold: Hold, actual_usd: float | None) -> None:
        """Book what a call cost; an unknown cost is booked as its worst case."""
        self.spent_usd += hold.amount_usd if actual_usd is None else actual_usd
        await self.budgets.settle(hold, actual_usd)
        self.held_usd -= hold.amount_usd
        self.calls -= 1
        self.ended += 1
        self.settled.set()


@dataclass(slots=True)
class _Run:
    """One calibration under way."""

    router: Router
    executor: Executor
    grader_name: str
    grader: Grader
    result_type: Any
    timeout_s: float
    purse: _Purse
    known: dict[tuple[str, str], str | None]
    advance: Advance
    is_over: Callable[[], bool]
    outcomes: dict[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    skipped: int = 0
    lost: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def ended(self, asking: asyncio.Task[None]) -> None:
        """Let go of a call; the first error that one had is raised to the caller."""
        self.under_way.discard(asking)
        if not asking.cancelled():
            asking.exception()

    def take(self, i: int, model: str, outcome: Mapping[str, Any]) -> None:
        """Take an outcome that is paid for; one that could not be graded teaches nothing."""
        if outcome["quality"] is None:
            self.skipped += 1
        else:
            self.outcomes[i, model] = outcome

    def call(self, prompt: Prompt, arm: ModelArm) -> Call:
        """Return what is asked, under the name by which a provider may keep the answer."""
        name = _stable_id(self.router.name, self.grader_name, prompt_hash(prompt), arm.id)
        return Call(
            prompt.text,
            result_type=self.result_type,
            timeout_s=self.timeout_s,
            model_settings={"max_tokens": MAX_OUTPUT_TOKENS},
            idempotency_key=f"conduit-{name}",
        )

    def worst_usd(self, prompt: Prompt, arm: ModelArm) -> float | None:
        """Return the most that one answer can cost."""
        return self.purse.budgets.worst_case_usd(arm, size_of(self.call(prompt, arm)))

    def replays(self, arm: ModelArm) -> bool:
        """Return whether this model's provider was seen to keep answers."""
        return any(
            model == arm.id and kept is not None and json.loads(kept).get("replayable")
            for (_prompt, model), kept in self.known.items()
        )


async def calibrate(
    router: Router,
    executor: Executor,
    prompts: Iterable[Prompt | str | Mapping[str, Any]],
    *,
    grader: Grader | type | None = None,
    models: Sequence[str] | None = None,
    max_usd: float | None = None,
    result_type: Any = str,
    concurrency: int = 8,
    timeout_s: float = 60.0,
    resume: bool = True,
    budgets: Budgets | None = None,
    advance: Advance = lambda: None,
    is_over: Callable[[], bool] = lambda: False,
) -> CalibrationReport:
    """Have every model answer every prompt, grade the answers, and teach the router.

    Stops before `max_usd` could be passed, by this run and those that it resumes together, or one
    of the `budgets`, in which it counts as what callers without a user id ask for. What is
    about to be paid for is noted in the router's store before it is asked for, and what came of it
    after, so a run that was killed goes on where it was without paying twice: an answer that was
    on its way is asked for again only where the provider keeps it under its idempotency key, and
    is left out elsewhere. A prompt that is given twice is asked once. `advance` is called after
    each answer. Once `is_over` nothing more is asked for, and ConfigurationError is raised.
    """
    asked = distinct(prompts)
    if not asked:
        raise InvalidInput("calibration needs prompts", field="prompts")
    if concurrency < 1:
        raise InvalidInput("concurrency must be at least 1", field="concurrency")
    optional_finite(max_usd, "max_usd", low=0.0)
    if grader is None and any(p.expected is None for p in asked):
        raise InvalidInput("give a grader, or an expected answer with every prompt", field="grader")
    await router.start()
    name, grade = grader_of(grader)
    arms = [router.arm(m) for m in models] if models is not None else list(router.models)
    known: Mapping[tuple[str, str], str | None] = {}
    if resume:
        known = await router.store.calibrations(router.name, name)
    run = _Run(
        router=router,
        executor=executor,
        grader_name=name,
        grader=grade,
        result_type=result_type,
        timeout_s=timeout_s,
        purse=_Purse(
            max_usd, budgets or Budgets((), router.store, router.name), timeout_s + CALL_LASTS_S
        ),
        known=dict(known),
        advance=advance,
        is_over=is_over,
    )
    open_pairs = _resume(run, asked, arms)
    await _ask_all(run, asked, open_pairs, concurrency)
    vectors, whole = await router.analyzer.analyse_all(
        [prompt.text for prompt in asked], [prompt.task for prompt in asked]
    )
    await _teach(run, asked, vectors, whole)
    return _report(run, asked, arms, vectors)


def _resume(
    run: _Run, prompts: Sequence[Prompt], arms: Sequence[ModelArm]
) -> list[tuple[int, ModelArm]]:
    """Take over what was paid for before, and return the pairs that are still to be asked."""
    replays = {arm.id for arm in arms if run.replays(arm)}
    left = []
    for i, prompt in enumerate(prompts):
        for arm in arms:
            pair = prompt_hash(prompt), arm.id
            kept = run.known.get(pair)
            if kept is not None:
                outcome = json.loads(kept)
                run.take(i, arm.id, outcome)
                paid = outcome.get("cost_usd")
                run.purse.spent_usd += (run.worst_usd(prompt, arm) or 0.0) if paid is None else paid
                run.advance()
            elif pair in run.known and arm.id not in replays:
                run.lost += 1
                run.purse.spent_usd += run.worst_usd(prompt, arm) or 0.0
                run.advance()
            else:
                left.append((i, arm))
    return left


async def _ask_all(
    run: _Run, prompts: Sequence[Prompt], pairs: Sequence[tuple[int, ModelArm]], concurrency: int
) -> None:
    gate = asyncio.Semaphore(concurrency)

    async def one(i: int, arm: ModelArm) -> None:
        async with gate:
            held = await run.purse.take(run.worst_usd(prompts[i], arm))
            if run.is_over():
                if held is not None:
                    await run.purse.settle(held, 0.0)
                raise ConfigurationError(
                    "the service was closed during its calibration, which goes on where it was "
                    "when it is run again"
                )
            if held is None:
                run.skipped += 1
            else:
                asking = asyncio.ensure_future(_ask(run, i, prompts[i], arm, held))
                run.under_way.add(asking)
                asking.add_done_callback(run.ended)
                await asyncio.shield(asking)
            run.advance()

    try:
        async with asyncio.TaskGroup() as group:
            for i, arm in pairs:
                group.create_task(one(i, arm))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # a grader's, or the store's
    finally:
        # The caller gave up, or one call failed: what is on its way is paid for, so it is kept.
        while run.under_way:
            await asyncio.wait(run.under_way)


async def _ask(run: _Run, i: int, prompt: Prompt, arm: ModelArm, hold: Hold) -> None:
    store, pair = run.router.store, (run.router.name, prompt_hash(prompt), arm.id, run.grader_name)
    outcome: dict[str, Any] = {}
    try:
        await store.begin_calibration(*pair)
        answer, outcome = await _answered(run, prompt, arm)
    finally:
        await run.purse.settle(hold, outcome.get("cost_usd"))
    if outcome.get("skip"):
        run.skipped += 1
        await store.drop_calibration(*pair)
        return
    try:
        if answer is not None:
            outcome["quality"] = await graded(run.grader, prompt, answer.data, model=arm.id)
    finally:  # it is paid for, whatever its grader raises
        await _save(run, pair, outcome)
    run.take(i, arm.id, outcome)


async def _save(run: _Run, pair: tuple[str, str, str, str], outcome: Mapping[str, Any]) -> None:
    """Keep an answer that is paid for, if the database is back in a moment."""
    for wait_s in SAVE_AGAIN_S:
        try:
            return await run.router.store.save_calibration(*pair, json.dumps(outcome))
        except StorageUnavailable:
            if run.is_over():
                raise
            await asyncio.sleep(wait_s)
    await run.router.store.save_calibration(*pair, json.dumps(outcome))


async def _answered(
    run: _Run, prompt: Prompt, arm: ModelArm
) -> tuple[Answer[Any] | None, dict[str, Any]]:
    """Return the answer, and what the call showed but for its quality.

    Without an answer it shows that; a failure that says nothing about the model is skipped.
    """
    try:
        answer = await run.executor.execute(arm, run.call(prompt, arm))
    except ExecutionError as error:
        quality = meaning(error.kind).quality
        if quality is None:
            return None, {"skip": error.kind, "cost_usd": 0.0}
        return None, {"quality": quality, "error": error.kind, "cost_usd": None}
    r = answer.response
    return answer, {
        "quality": None,  # as it stays where it cannot be graded
        "cost_usd": r.cost_usd,
        "input_tokens": r.input_tokens,
        "output_tokens": r.output_tokens,
        "latency_s": r.latency_s,
        "replayable": answer.replayable,
    }


def distinct(prompts: Iterable[Prompt | str | Mapping[str, Any]]) -> list[Prompt]:
    """Return the prompts, each once."""
    return list({prompt_hash(p): p for p in map(Prompt.of, prompts)}.values())


def prompt_hash(prompt: Prompt) -> str:
    """Return the name under which a prompt's answers are kept: a hash, never the text."""
    said = repr((prompt.text, prompt.task, str(prompt.expected)))
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=16).hexdigest()


async def _teach(
    run: _Run,
    prompts: Sequence[Prompt],
    vectors: NDArray[np.float32],
    whole: NDArray[np.bool_],
) -> None:
    """Write the outcomes to the log; a second time changes nothing."""
    rows = []
    router, now = run.router, time.time()
    schema = router.analyzer.schema
    for i in np.flatnonzero(whole).tolist():
        prompt = prompts[i]
        decision = DecisionRecord(
            id=_stable_id(router.name, run.grader_name, schema, prompt_hash(prompt)),
            router=router.name,
            model=router.learner.models[0],
            x=vectors[i],
            schema=schema,
            created_at=now,
            expires_at=now + router.decision_ttl_s,
        )
        for (k, model), outcome in run.outcomes.items():
            if k == i:
                rows.append(_row(router.name, decision, model, outcome, now))
    await asyncio.gather(*(router.store.append(row) for row in rows))
    await router.sync()


def _row(
    router: str, decision: DecisionRecord, model: str, outcome: Mapping[str, Any], now: float
) -> FeedbackRow:
    # Another answer to the same prompt, of a run that did not resume, revises what was learned.
    key = _stable_id(decision.id, model, json.dumps(outcome, sort_keys=True))
    failed = outcome.get("error")
    measured: dict[str, Any] = {} if failed else {
        name: outcome.get(name)
        for name in ("cost_usd", "input_tokens", "output_tokens", "latency_s")
    }  # fmt: skip
    evidence = Evidence(
        quality=outcome["quality"],
        error=failed,
        rank=SOURCE_RANK["user"],
        given_at=now,
        key=key,
        **measured,
    )
    return FeedbackRow(
        feedback_id=key,
        router=router,
        decision_id=decision.id,
        model=model,
        evidence=evidence,
        kind="calibration",
        decision=decision,
    )


def _stable_id(*parts: str) -> str:
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=5))


def _report(
    run: _Run,
    prompts: Sequence[Prompt],
    arms: Sequence[ModelArm],
    vectors: NDArray[np.float32],
) -> CalibrationReport:
    full = [i for i in range(len(prompts)) if all((i, a.id) in run.outcomes for a in arms)]

    def column(name: str) -> NDArray[np.float64]:
        grid = np.full((len(prompts), len(arms)), np.nan)
        for (i, model), outcome in run.outcomes.items():
            value = outcome.get(name)
            where = [k for k, a in enumerate(arms) if a.id == model]
            if value is not None and where:
                grid[i, where[0]] = value
        return grid

    return report_of(
        arms,
        quality=column("quality"),
        cost_usd=column("cost_usd"),
        latency_s=column("latency_s"),
        complete=full,
        vectors=vectors[full],
        preferences=run.router.preferences,
        spent_usd=run.purse.spent_usd,
        skipped=run.skipped,
        lost=run.lost,
        stopped_by_budget=run.purse.empty,
        unpriced=tuple(a.id for a in arms if not a.priced) if run.purse.is_limited else (),
    )


__all__ = ["BudgetExceeded", "CalibrationReport", "calibrate", "distinct", "prompt_hash"]
