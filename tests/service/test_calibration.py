"""Calibration that is killed and resumed: each answer is paid for once, and the router is warm."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, StorageUnavailable
from conduit.core.models import ModelArm, Response, RoutingDecision
from conduit.engines.bandits.base import QUALITY
from conduit.engines.budget import Budget
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.evaluation import calibration as module
from conduit.evaluation.calibration import calibrate, prompt_hash
from conduit.evaluation.graders import Prompt
from conduit.service import Service
from conduit.storage.base import MemoryStore
from conduit.storage.database import open_store
from conduit.testing import LocalProvider, SimulatedModel
from conduit.testing.local_provider import Question, provider_questions
from tests.service.worker import TOPICS, Work, arms_of, opened, report_of, started

PROMPTS = 100
MAX_USD = 2.0
BEST = {"capitals": "clerk", "arithmetic": "engineer"}


def simulated(name: str, capitals: float, arithmetic: float, usd: float = 1.0) -> SimulatedModel:
    """Return a model with two skills."""
    skill = {"capitals": capitals, "arithmetic": arithmetic}
    return SimulatedModel(name, usd, 4 * usd, skill, ttft_s=0.03)


POOL = (
    simulated("clerk", 0.95, 0.2),
    simulated("engineer", 0.2, 0.95),
    simulated("plain", 0.5, 0.5),
    simulated("poor", 0.3, 0.3),
    simulated("dear", 0.6, 0.6, usd=10.0),
)


def work_of(provider: LocalProvider, path: Path) -> Work:
    """Return the calibration of the whole pool."""
    return Work(
        job="calibrate",
        database_url=f"sqlite:///{path / 'conduit.db'}",
        provider_url=provider.base_url,
        prices={m.name: (m.input_usd_per_mtok, m.output_usd_per_mtok) for m in POOL},
        prompts=PROMPTS,
        max_usd=MAX_USD,
    )


def right_share(decisions: Iterable[tuple[Question, RoutingDecision]]) -> float:
    """Return how often the better model of the topic was chosen."""
    right = [decision.selected_model == BEST[q.topic] for q, decision in decisions]
    return sum(right) / len(right)


async def next_queries(service: Service) -> float:
    """Return the share of right choices on 200 questions that nobody has seen."""
    questions = provider_questions(TOPICS, PROMPTS + 200, seed=6)[PROMPTS:]
    return right_share([(q, await service.router.route(q.prompt)) for q in questions])


@pytest.mark.slow
async def test_a_killed_calibration_pays_each_pair_once(tmp_path: Path) -> None:
    """Killed at two fifths by the system, and resumed in another process, nothing is paid twice."""
    with LocalProvider(POOL, seed=1).serve_in_thread() as provider:
        work = work_of(provider, tmp_path)
        async with await opened(
            replace(work, database_url=f"sqlite:///{tmp_path / 'cold.db'}")
        ) as cold:
            before = await next_queries(cold)
        with started(work) as process:
            while len(provider.requests) < 0.4 * PROMPTS * len(POOL):
                assert process.poll() is None
                time.sleep(0.002)  # noqa: ASYNC251  the provider has a thread of its own
        killed_at = len(provider.requests)
        with started(work) as process:
            report = report_of(process)
        pairs = Counter((row.model, row.prompt_id) for row in provider.requests)
        assert killed_at < len(pairs)
        assert set(pairs.values()) == {1}
        assert len(pairs) == PROMPTS * len(POOL)
        assert report == {
            "complete": PROMPTS,
            "lost": 0,
            "spent_usd": pytest.approx(provider.spent_usd),
        }
        assert provider.spent_usd <= MAX_USD
        async with await opened(work) as warm:
            after = await next_queries(warm)
    assert before < 0.65
    assert after >= 0.85


class Hiccup(MemoryStore):
    """A store in memory that cannot keep an answer so many times."""

    away = 0

    async def save_calibration(self, *args: str) -> None:
        """Keep an answer, unless it is away."""
        self.away -= 1
        if self.away >= 0:
            raise StorageUnavailable("away")
        await super().save_calibration(*args)


@pytest.mark.parametrize(("away", "kept"), [(3, True), (4, False)])
async def test_a_paid_answer_outlives_a_short_outage(
    away: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered while the database was away is kept once it is back, if that is soon."""
    monkeypatch.setattr(module, "SAVE_AGAIN_S", (0.0, 0.0, 0.0))
    store = Hiccup()
    store.away = away
    executor = FunctionExecutor(lambda *_: "four")
    async with Router([ModelArm("m")], store=store, environ={}) as router:
        run = calibrate(router, executor, [{"text": "2 + 2?", "expected": "four"}])
        if kept:
            assert (await run).complete == 1
        else:
            with pytest.raises(StorageUnavailable):
                await run


async def test_an_answer_whose_fate_is_unknown_is_not_paid_for_again(tmp_path: Path) -> None:
    """A provider that keeps no answers is not asked again; the loss is told and is paid for."""
    asked: list[str] = []

    def answer(model: str, prompt: str) -> str:
        asked.append(f"{model} {prompt}")
        return "yes"

    arms = [ModelArm(name, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0) for name in "ab"]
    prompts = [Prompt(text, expected="yes") for text in ("one", "two")]
    store = await open_store(f"sqlite:///{tmp_path / 'conduit.db'}")
    router = Router(arms, store=store, seed=1, environ={})
    first = await calibrate(router, FunctionExecutor(answer), prompts[:1])
    known = await store.calibrations(router.name, "expected")
    assert {json.loads(kept)["replayable"] for kept in known.values() if kept} == {False}
    await store.begin_calibration(router.name, prompt_hash(prompts[1]), "a", "expected")
    report = await calibrate(router, FunctionExecutor(answer), prompts)
    assert asked == ["a one", "b one", "b two"]
    assert (report.lost, report.complete) == (1, 1)
    assert "1 answers were lost" in report.summary()
    assert report.spent_usd > first.spent_usd
    await router.close()
    await store.close()


async def test_calls_wait_for_the_room_that_others_leave() -> None:
    """What is set aside for calls under way comes back: nothing is skipped that can be paid."""
    async with LocalProvider(POOL, seed=1) as provider:
        arms = arms_of(work_of(provider, Path()))
        service = Service(Router(arms, seed=1, environ={}), PydanticAIExecutor())
        questions = provider_questions(TOPICS, 20, seed=3)
        prompts = [Prompt(q.prompt, expected=q.expected) for q in questions]
        async with service:
            # Room for the worst case of one answer of the dear model, and no more at once.
            report = await service.calibrate(prompts, max_usd=0.2, progress=False)
    assert (report.skipped, report.complete) == (0, 20)
    assert report.spent_usd == pytest.approx(provider.spent_usd)


async def test_the_limit_holds_over_resumed_runs() -> None:
    """What an earlier run paid for the same answers counts against the limit of this one."""
    async with LocalProvider(POOL[:2], seed=1) as provider:
        arms = arms_of(replace(work_of(provider, Path()), prices={"clerk": (1.0, 4.0)}))
        service = Service(Router(arms, seed=1, environ={}), PydanticAIExecutor())
        questions = provider_questions(TOPICS, 40, seed=2)
        prompts = [Prompt(q.prompt, expected=q.expected) for q in questions]
        async with service:
            for _ in range(3):
                report = await service.calibrate(prompts, max_usd=0.017, progress=False)
        assert report.stopped_by_budget
        assert provider.spent_usd <= 0.017
        assert report.spent_usd == pytest.approx(provider.spent_usd)


@asynccontextmanager
async def calibrating(asked: list[str]) -> AsyncIterator[Service]:
    """Give a service of two models whose calls are noted."""

    def answer(model: str, prompt: str) -> str:
        asked.append(f"{model} {prompt}")
        return f"answer {len(asked)}"

    async with Service(
        Router(
            [ModelArm(m, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0) for m in "ab"],
            seed=1,
            environ={},
        ),
        FunctionExecutor(answer),
    ) as service:
        yield service


async def test_what_could_not_be_graded_is_paid_for_once() -> None:
    """A grade of None teaches nothing; the answer stays paid for, and is not asked for again."""
    asked: list[str] = []
    grader = named("cautious", lambda _prompt, answer: None if answer == "answer 1" else 1.0)
    async with calibrating(asked) as service:
        reports = [await service.calibrate(["one", "two"], grader=grader) for _ in range(2)]
        learned = service.router.learner.policy.seen()[:, QUALITY].sum()
    assert len(asked) == 4
    assert learned == pytest.approx(3.0)
    assert [(r.skipped, r.complete) for r in reports] == [(1, 1), (1, 1)]
    assert reports[0].spent_usd == pytest.approx(reports[1].spent_usd) != 0.0


async def test_a_prompt_that_is_given_twice_is_asked_once() -> None:
    """Rows that repeat cost nothing, and spoil nothing."""
    asked: list[str] = []
    async with calibrating(asked) as service:
        report = await service.calibrate(["one", "two", "one"], grader=lambda _p, _a: 1.0)
    assert sorted(asked) == ["a one", "a two", "b one", "b two"]
    assert (report.prompts, report.complete) == (2, 2)


async def test_who_does_not_resume_asks_anew_and_revises() -> None:
    """Later answers take the place of the earlier ones; they are not learned beside them."""
    asked: list[str] = []
    async with calibrating(asked) as service:
        for grade in (1.0, 0.0):
            await service.calibrate(
                ["one"], grader=named("exam", lambda _p, _a, g=grade: g), resume=False
            )
            learned = service.router.learner.policy.seen()[0, QUALITY]
        estimates = (await service.router.route("one")).estimates
    assert len(asked) == 4
    assert learned == pytest.approx(1.0)
    assert estimates["a"].quality < 0.6


class Noting:
    """A slow embedder that notes in which threads it is called."""

    id = "noting"
    dim = 16
    blocking = True

    def __init__(self) -> None:
        """Note nothing yet."""
        self.threads: set[int] = set()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Note the thread."""
        self.threads.add(threading.get_ident())
        return np.full((len(texts), self.dim), 0.25, np.float32)


async def test_a_slow_embedder_holds_up_no_loop_while_its_router_is_calibrated() -> None:
    """From the first question to the report, every prompt is embedded in the embedder's thread."""
    embedder = Noting()
    router = Router(["a", "b"], embedding_model=embedder, environ={})
    async with Service(router, FunctionExecutor(lambda _m, _p: "answer")) as service:
        report = await service.calibrate(["one", "two"], grader=lambda _p, _a: 1.0)
    assert report.complete == 2
    assert len(embedder.threads) == 1
    assert threading.get_ident() not in embedder.threads


def named(name: str, grader: Any) -> Any:
    """Return a grader under a name."""
    grader.__name__ = name
    return grader


async def test_graders_without_a_name_are_told_apart() -> None:
    """One lambda's grades are not taken for another's; the same one's are kept."""
    asked: list[str] = []
    qualities = []
    async with calibrating(asked) as service:
        for grader in (lambda _p, _a: True, lambda _p, _a: False, lambda _p, _a: True):
            report = await service.calibrate(["one"], grader=grader)
            qualities.append(report.models[0].quality)
    assert qualities == [1.0, 0.0, 1.0]
    assert len(asked) == 4


async def test_what_a_grader_raises_comes_out_as_it_is() -> None:
    """No group around it, and no complaint of the event loop about the other calls."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def broken(prompt: Prompt, _answer: str) -> float:
        raise LookupError(prompt.text)

    async with calibrating([]) as service:
        with pytest.raises(LookupError):
            await service.calibrate(["one", "two", "three"], grader=broken)
        with pytest.raises(LookupError):
            await asyncio.wait_for(
                service.calibrate(["four", "five"], grader=broken, max_usd=0.01), 5.0
            )
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize(
    "wrong", [{"max_usd": math.nan}, {"max_usd": -1.0}, {"max_usd": "1"}, {"concurrency": 0}]
)
async def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    """Nobody is asked under a limit that would not hold."""
    asked: list[str] = []
    async with calibrating(asked) as service:
        with pytest.raises(InvalidInput):
            await asyncio.wait_for(
                service.calibrate(["one"], grader=lambda _p, _a: 1.0, **wrong), 5.0
            )
    assert asked == []


@pytest.mark.parametrize("scope", ["router", "user"])
async def test_a_calibration_keeps_the_limits_of_its_service(scope: Any) -> None:
    """It stops before a budget could be passed, and what it cost is booked there."""
    budget = Budget(usd=0.017, per="total", scope=scope)
    async with LocalProvider(POOL[:2], seed=1) as provider:
        arms = [*arms_of(work_of(provider, Path()))[:2], ModelArm("unpriced")]
        service = Service(Router(arms, seed=1, environ={}), PydanticAIExecutor(), budgets=[budget])
        questions = provider_questions(TOPICS, 40, seed=3)
        prompts = [Prompt(q.prompt, expected=q.expected) for q in questions]
        async with service:
            report = await service.calibrate(prompts, progress=False)
            left = (await service.get_stats()).budget_left_usd
        assert report.stopped_by_budget
        assert report.unpriced == ("unpriced",)
        assert 0.0 < provider.spent_usd <= budget.usd
        assert report.spent_usd == pytest.approx(provider.spent_usd)
        assert left == pytest.approx(budget.usd - provider.spent_usd)


async def test_a_calibration_waits_for_the_room_in_a_budget() -> None:
    """What its calls under way set aside comes back: nothing is skipped that can be paid."""
    async with LocalProvider(POOL, seed=1) as provider:
        service = Service(
            Router(arms_of(work_of(provider, Path())), seed=1, environ={}),
            PydanticAIExecutor(),
            budgets=[Budget(usd=0.25, per="total")],  # the worst case of one dear answer, and more
        )
        questions = provider_questions(TOPICS, 20, seed=3)
        prompts = [Prompt(q.prompt, expected=q.expected) for q in questions]
        async with service:
            report = await service.calibrate(prompts, progress=False)
    assert (report.skipped, report.complete) == (0, 20)


async def test_an_answer_whose_grader_fails_stays_paid_for() -> None:
    """It is kept at what it cost, without a grade: neither lost nor asked for again."""
    asked: list[str] = []

    def answer(model: str, prompt: str) -> Any:
        asked.append(f"{model} {prompt}")
        return Answer(data="yes", response=Response(model=model, cost_usd=0.001, latency_s=0.1))

    def broken(prompt: Prompt, _answer: str) -> float:
        if prompt.text == "two":
            raise LookupError(prompt.text)
        return 1.0

    prompts = ["one", "two", "three"]
    async with Service(Router(["a", "b"], environ={}), FunctionExecutor(answer)) as service:
        with pytest.raises(LookupError):
            await service.calibrate(prompts, grader=named("exam", broken))
        report = await service.calibrate(prompts, grader=named("exam", lambda _p, _a: 1.0))
    assert len(asked) == len(set(asked)) == 6
    assert report.lost == 0
    assert report.spent_usd == pytest.approx(0.006)
    assert report.skipped in (1, 2)  # of the second prompt; the other may have come later
