"""An evaluator beside LiteLLM's requests: a judge model, or a callable, never in their way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from litellm import Router

from conduit.core.models import ModelArm
from conduit.evaluation import ArbiterEvaluator
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel
from conduit_litellm import ConduitRoutingStrategy
from tests.litellm.conftest import Deploy, ask, credited, until

GRADES = '{"semantic": 0.25, "factuality": 0.25}'


@pytest.fixture
async def court() -> AsyncIterator[LocalProvider]:
    """Serve a judge."""
    model = SimulatedModel("umpire", 1.0, 4.0, responder=lambda _: GRADES)
    async with LocalProvider([model]) as court:
        yield court


def judge_at(court: LocalProvider) -> ArbiterEvaluator:
    """Return a judge of everything."""
    arm = ModelArm(
        "umpire", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, base_url=court.base_url
    )
    return ArbiterEvaluator(model=arm, sample_rate=1.0, daily_budget_usd=1.0)


async def test_a_judge_model_scores_the_answers_of_deployments(
    provider: LocalProvider, court: LocalProvider, deploy: Deploy
) -> None:
    """Each answer is judged once, by its prompt and text, and its score is learned."""
    pytest.importorskip(
        "pydantic_ai.models.openai",
        reason="PydanticAI refuses the `openai` that this LiteLLM pins",
        exc_type=ImportError,
    )
    evaluator = judge_at(court)
    router = Router(model_list=[deploy("g", "gpt-4o", "a"), deploy("g", "units-only", "b")])
    async with ConduitRoutingStrategy(evaluator=evaluator, seed=1) as strategy:
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        for k in range(4):
            await router.acompletion(model="g", messages=ask(f"How many feet is {k} mile?"))
        await until(lambda: strategy.stats().ratings == 4)
        decision = strategy.decision(next(iter(strategy._trips)))
        learner = strategy._trips[decision.id].pool.router.learner
        assert learner.expect(decision.features.vector).prediction.quality.min() < 0.7
    assert (evaluator.stats().judged, len(court.requests)) == (4, 4)
    assert evaluator.stats().cost_usd == pytest.approx(court.spent_usd)


async def test_the_family_is_that_of_the_model_behind_a_deployment(
    provider: LocalProvider, court: LocalProvider, deploy: Deploy
) -> None:
    """A deployment may have any id; the judge looks at the model that it serves."""
    evaluator = ArbiterEvaluator(model=ModelArm("gpt-5", base_url=court.base_url), sample_rate=1.0)
    router = Router(model_list=[deploy("g", "gpt-4o", "any-id-at-all")])
    async with ConduitRoutingStrategy(evaluator=evaluator, seed=1) as strategy:
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        await router.acompletion(model="g", messages=ask("2 + 2?"))
        await until(lambda: evaluator.stats().offered == 1)
    assert evaluator.stats().skipped == {"own_family": 1}


async def test_a_judge_that_hangs_holds_up_neither_requests_nor_the_end(
    provider: LocalProvider, court: LocalProvider, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are served and credited; cleaning up waits a while and gives the judge up."""
    monkeypatch.setattr("conduit_litellm.judging.CLOSE_S", 0.3)
    court.set_fault("umpire", Fault(FaultKind.HANG))
    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    async with asyncio.timeout(20.0):
        async with ConduitRoutingStrategy(evaluator=judge_at(court), seed=1) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for _ in range(3):
                await router.acompletion(model="g", messages=ask("2 + 2?"))
            await until(lambda: credited(strategy) == 3)
    assert strategy.stats().ratings == 0


async def test_a_callable_that_raises_is_said_once_a_minute(
    provider: LocalProvider, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    """An evaluator of one's own may raise; requests go on, and one line tells of it."""

    def evaluator(prompt: str, answer: str) -> float:
        raise RuntimeError

    router = Router(model_list=[deploy("g", "gpt-4o", "a")])
    with caplog.at_level(logging.WARNING, "conduit_litellm"):
        async with ConduitRoutingStrategy(evaluator=evaluator, seed=1) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for _ in range(3):
                await router.acompletion(model="g", messages=ask("2 + 2?"))
            assert strategy._judge is not None
            await until(lambda: strategy._judge.failures == 3)  # type: ignore[union-attr]
    lines = [r for r in caplog.records if "evaluator" in r.getMessage()]
    assert len(lines) == 1
