"""The judge within a service: what it teaches, and that no request ever notices it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from conduit.core.events import SOURCE_RANK, Evidence
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.engines.rows import IMPLICIT_WEIGHT, evidence_of
from conduit.evaluation import ArbiterEvaluator
from conduit.evaluation.graders import Prompt
from conduit.service import Service, create_service
from conduit.testing import Fault, FaultKind, LocalProvider, SimulatedModel

GRADES = '{"semantic": 0.5, "factuality": 0.25}'
MODELS = (
    SimulatedModel("one", 1.0, 4.0),
    SimulatedModel("two", 1.0, 4.0),
    SimulatedModel("umpire", 1.0, 4.0, responder=lambda _: GRADES),
)


class Place(BaseModel):
    """What is asked for."""

    answer: str


def arm(provider: LocalProvider, name: str) -> ModelArm:
    """Return a model of the provider with its price."""
    return ModelArm(
        name, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, base_url=provider.base_url
    )


def service_of(provider: LocalProvider, evaluator: ArbiterEvaluator) -> Service:
    """Return a service over two models, with a judge."""
    router = Router([arm(provider, "one"), arm(provider, "two")], seed=7, environ={})
    return Service(router, PydanticAIExecutor(), evaluator=evaluator)


def judge_at(provider: LocalProvider, **options: float) -> ArbiterEvaluator:
    """Return a judge of everything."""
    return ArbiterEvaluator(model=arm(provider, "umpire"), **{"sample_rate": 1.0, **options})  # type: ignore[arg-type]


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Serve two models and a judge."""
    async with LocalProvider(MODELS) as provider:
        yield provider


def test_a_judge_ranks_and_weighs_between_signals_and_users() -> None:
    """In rank and in weight a judge's score is above a signal and below a user's opinion."""
    said = [
        evidence_of(ImplicitFeedback(signal="copied", quality=1.0), now=0.0),
        evidence_of(Feedback(quality_score=0.5, source="judge"), now=0.0),
        evidence_of(Feedback(quality_score=0.0), now=0.0),
    ]
    assert said == sorted(said, key=Evidence.strength)
    assert IMPLICIT_WEIGHT == said[0].quality_weight < said[1].quality_weight
    assert said[1].quality_weight < said[2].quality_weight == 1.0


async def test_a_score_is_learned_and_a_user_outranks_it(provider: LocalProvider) -> None:
    """The judge's score reaches the log once, counts above the signals, and yields to a rating."""
    async with service_of(provider, judge_at(provider)) as service:
        result = await service.complete("What is the capital of France?")
        await service.flush()
        entries = await service.router.store.tail(service.router.name)
        judged = [e for e in entries if e.row.evidence.rank == SOURCE_RANK["judge"]]
        assert [e.row.evidence.quality for e in judged] == [0.375]
        assert judged[0].row.model == result.model
        assert entries[-1].outcome().quality == 0.375
        await service.submit_feedback(result.id, user_rating=5)
        last = (await service.router.store.tail(service.router.name))[-1]
        assert last.outcome().quality == 1.0
        stats, health = await service.get_stats(), await service.health()
        assert stats.judge is not None
        assert stats.judge == health.judge
        assert (stats.judge.judged, stats.judge.offered) == (1, 1)
        # What judging costs is told apart from what the answers cost.
        assert stats.cost_usd + stats.judge.cost_usd == pytest.approx(provider.spent_usd)


async def test_typed_and_streamed_answers_are_judged(provider: LocalProvider) -> None:
    """Data is shown to the judge as JSON, and a stream once it is whole."""
    async with service_of(provider, judge_at(provider)) as service:
        await service.complete("What is the capital of Spain?", result_type=Place)
        async with service.stream("What is the capital of Italy?") as pieces:
            _ = [piece async for piece in pieces]
        async with service.stream("What is the capital of Peru?", result_type=Place) as pieces:
            _ = [piece async for piece in pieces]
        await service.flush()
        stats = service.evaluator.stats()  # type: ignore[union-attr]
        assert (stats.judged, stats.skipped) == (3, {})


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.SERVER_ERROR, FaultKind.HTML])
async def test_no_request_notices_a_broken_judge(provider: LocalProvider, kind: FaultKind) -> None:
    """Every prompt is answered, none waits for the judge, and closing takes no longer than said."""
    provider.set_fault("umpire", Fault(kind))
    evaluator = judge_at(provider, timeout_s=20.0, close_s=0.2)
    service = service_of(provider, evaluator)
    async with asyncio.timeout(15.0):
        for i in range(5):
            result = await service.complete(f"question {i}")
            assert result.model in ("one", "two")
        await service.close()
    stats = evaluator.stats()
    assert stats.judged == stats.waiting == 0
    assert sum(stats.failed.values()) + stats.skipped.get("cancelled", 0) == 5


async def test_calibration_can_be_graded_by_a_judge(provider: LocalProvider) -> None:
    """The judge grades all answers but its own family's; what it cannot grade teaches nothing."""
    router = Router([arm(provider, n) for n in ("one", "two", "umpire")], seed=7, environ={})
    evaluator = judge_at(provider, sample_rate=0.0)
    async with Service(router, PydanticAIExecutor(), evaluator=evaluator) as service:
        prompts = [Prompt("What is the capital of France?", expected="Paris"), Prompt("2 + 2?")]
        report = await service.calibrate(prompts, grader=evaluator, progress=False)
        assert evaluator.stats().judged == 4
        assert evaluator.stats().skipped == {"own_family": 2}
        assert report.skipped == 2
        kept = await router.store.calibrations(router.name, f"grader:{evaluator.name}")
        graded = {m for (_, m), o in kept.items() if json.loads(o or "")["quality"] is not None}
        assert graded == {"one", "two"}


async def test_a_grader_that_fails_costs_the_calibration_nothing_else(
    provider: LocalProvider,
) -> None:
    """Where the judge fails, calibration goes on without those grades."""
    provider.set_fault("umpire", Fault(FaultKind.SERVER_ERROR))
    async with service_of(provider, judge_at(provider)) as service:
        report = await service.calibrate(["2 + 2?"], grader=service.evaluator, progress=False)
        assert report.skipped == 2


async def test_settings_make_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`judge_model` and its rate and budget give a service its judge; without it there is none."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite+aiosqlite:///{tmp_path}/conduit.db"
    options = {"models": ["openai:gpt-4o-mini"], "database_url": url, "judge_sample_rate": 0.5,
               "judge_daily_budget_usd": 2.0}  # fmt: skip
    async with await create_service(judge_model="openai:gpt-4o", **options) as service:  # type: ignore[arg-type]
        assert service.evaluator is not None
        assert (service.evaluator.arm.id, service.evaluator.sample_rate) == ("openai:gpt-4o", 0.5)
    async with await create_service(**options) as service:  # type: ignore[arg-type]
        assert service.evaluator is None
