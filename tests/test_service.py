"""The service over real HTTP: answers, fallback, learning, budgets, calibration."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from conduit.core.errors import (
    BudgetExceeded,
    ConduitError,
    ConfigurationError,
    InvalidInput,
    UnknownDecision,
)
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.budget import Budget
from conduit.engines.executor.base import Answer, Call, FunctionExecutor
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.evaluation.graders import Prompt
from conduit.service import Service, create_service, create_service_sync
from conduit.testing import Fault, FaultKind, LocalProvider, SimulatedModel
from conduit.testing.local_provider import Question, provider_questions


class Place(BaseModel):
    """What is asked for."""

    answer: str


def priced(name: str, **options: object) -> SimulatedModel:
    """Return a simulated model at one price."""
    return SimulatedModel(name, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, **options)  # type: ignore[arg-type]


SPECIALISTS = (
    priced("clerk", skill={"capitals": 0.95, "arithmetic": 0.2},
           validity={"capitals": 0.97, "arithmetic": 0.3}),
    priced("engineer", skill={"capitals": 0.2, "arithmetic": 0.95},
           validity={"capitals": 0.3, "arithmetic": 0.97}),
)  # fmt: skip


def arms_of(provider: LocalProvider) -> list[ModelArm]:
    """Return the provider's models as arms with their prices."""
    return [
        ModelArm(
            m.name,
            input_usd_per_mtok=m.input_usd_per_mtok,
            output_usd_per_mtok=m.output_usd_per_mtok,
            base_url=provider.base_url,
        )
        for m in provider.models
    ]


def service_of(provider: LocalProvider, **options: object) -> Service:
    """Return a seeded service on the provider's models, with its log in memory."""
    router = Router(arms_of(provider), seed=7, environ={}, preferences="quality")
    return Service(router, PydanticAIExecutor(), **options)  # type: ignore[arg-type]


@pytest.fixture
async def pair() -> AsyncIterator[LocalProvider]:
    """Serve two models that are good at everything."""
    async with LocalProvider(models=[priced("one"), priced("two")]) as provider:
        yield provider


async def test_a_typed_answer_comes_with_its_receipt(pair: LocalProvider) -> None:
    """The data has the type asked for; cost, tokens and latency are known; feedback is taken."""
    async with service_of(pair) as service:
        result = await service.complete("What is the capital of France?", result_type=Place)
        assert isinstance(result.data, Place)
        assert result.response.cost_usd == pytest.approx(pair.spent_usd)
        assert result.response.latency_s
        ack = await service.submit_feedback(result.id, quality_score=0.9, met_expectations=True)
        assert ack.status == "stored"
        with pytest.raises(UnknownDecision):
            await service.submit_feedback("no-such-answer", user_rating=1)


async def test_two_hundred_answers_at_once_do_not_mix(pair: LocalProvider) -> None:
    """Each answer carries the marker of its own prompt, and each call is in the history once."""
    async with service_of(pair) as service:
        prompts = [f"Say it: [[marker:{i}]]" for i in range(200)]
        results = await service.complete_batch(prompts, concurrency=200)
        for i, result in enumerate(results):
            assert isinstance(result, RoutingResult)
            assert f"[[marker:{i}]]" in result.data
        await service.flush()
        history = await service.router.store.stats(service.router.name)
        assert history.responses == 200
        assert service.router.learner.applied == 200


async def test_a_batch_returns_failures_as_values(pair: LocalProvider) -> None:
    """A prompt whose models all fail yields its error, in its place."""
    for model in ("one", "two"):
        pair.set_fault(model, Fault(FaultKind.SERVER_ERROR))
    async with service_of(pair) as service:
        results = await service.complete_batch(["a", "b"], progress=False)
        assert all(isinstance(r, ConduitError) for r in results)
        with pytest.raises(InvalidInput):
            await service.complete_batch(["a"], concurrency=0)


async def test_one_prompt_of_a_batch_spoils_no_other(pair: LocalProvider) -> None:
    """A prompt that is none is a value in its place; a slip in the options is raised, once."""
    async with service_of(pair) as service:
        prompts: list[Any] = ["a", None, [], "b"]
        results = await service.complete_batch((p for p in prompts), progress=False)
        assert [type(r) for r in results] == [
            RoutingResult, InvalidInput, InvalidInput, RoutingResult
        ]  # fmt: skip
        with pytest.raises(TypeError, match="did you mean 'result_type'"):
            await service.complete_batch(["a", "b"], resul_type=Place, progress=False)
        with pytest.raises(InvalidInput):
            await service.complete_batch("many", progress=False)


class BrokenTool(FunctionExecutor):
    """Raises for one prompt what a caller's own tool would."""

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Answer, or raise."""
        if call.prompt == "b":
            raise ZeroDivisionError
        return await super().execute(arm, call)


async def test_what_a_tool_raises_is_a_value_of_its_prompt() -> None:
    """A batch outlives what the caller's own code raises for one of its prompts."""
    router = Router([ModelArm("m")], seed=1, environ={})
    async with Service(router, BrokenTool(lambda model, prompt: prompt)) as service:
        results = await service.complete_batch(["a", "b", "c"], progress=False)
    assert [type(r) for r in results] == [RoutingResult, ZeroDivisionError, RoutingResult]


async def test_one_dead_model_is_never_noticed_by_callers(pair: LocalProvider) -> None:
    """Every call is answered; the dead model loses its first choices, and only it."""
    pair.set_fault("one", Fault(FaultKind.SERVER_ERROR))
    async with service_of(pair) as service:
        first = []
        for i in range(80):
            result = await service.complete(f"question {i}")
            assert result.model == "two"
            first.append(result.decision.selected_model)
            await service.flush()
        assert first[50:].count("one") < 3
        quality = service.router.learner.expect(result.decision.features.vector).prediction.quality
        assert quality[0] < quality[1]


async def test_a_stream_is_learned_from_like_a_call(pair: LocalProvider) -> None:
    """Deltas add up to the answer; the result has an id for feedback."""
    async with service_of(pair) as service:
        async with service.stream("Say it: [[marker:s]]") as stream:
            text = "".join([delta async for delta in stream])
        assert stream.result.data == text
        assert (await service.submit_feedback(stream.id, user_rating=5)).status == "stored"
        await service.flush()
        assert service.router.learner.applied >= 1


@pytest.mark.slow
@pytest.mark.parametrize("output_retries", [0, 1])
async def test_validity_alone_teaches_which_model_fits_which_topic(output_retries: int) -> None:
    """300 typed calls without any rating: the better model per topic gets at least 80 %.

    Without retries there are no mended answers to learn from: refused ones alone tell.
    """
    questions = provider_questions(["capitals", "arithmetic"], 360, seed=3)
    async with (
        LocalProvider(models=SPECIALISTS, seed=1) as provider,
        service_of(provider) as service,
    ):
        for question in questions[:300]:
            try:
                await service.complete(
                    question.prompt, result_type=Place, output_retries=output_retries
                )
            except ConduitError:
                continue
        await service.flush()
        assert await _right_share(service, questions[300:]) >= 0.8


async def _right_share(service: Service, questions: Sequence[Question]) -> float:
    best = {"capitals": "clerk", "arithmetic": "engineer"}
    right = [
        (await service.router.route(q.prompt)).selected_model == best[q.topic] for q in questions
    ]
    return sum(right) / len(right)


async def test_calibration_warms_the_router_and_pays_each_pair_once(tmp_path: Path) -> None:
    """Interrupted at two fifths and resumed, each (prompt, model) is in the ledger once."""
    questions = provider_questions(["capitals", "arithmetic"], 120, seed=5)
    prompts = [Prompt(q.prompt, expected=q.expected) for q in questions[:60]]
    url = f"sqlite:///{tmp_path / 'conduit.db'}"
    async with LocalProvider(models=SPECIALISTS, seed=1) as provider:
        arms = arms_of(provider)
        async with await create_service(models=arms, database_url=url, seed=7) as service:
            before = await _right_share(service, questions[60:])
            work = asyncio.ensure_future(service.calibrate(prompts, max_usd=1.0))
            while len(provider.requests) < 48:  # noqa: ASYNC110  it has no event to wait for
                await asyncio.sleep(0.01)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.sleep(0.5)  # calls under way are finished and kept
        async with await create_service(models=arms, database_url=url, seed=7) as service:
            report = await service.calibrate(prompts, max_usd=1.0)
            after = await _right_share(service, questions[60:])
        pairs = [(row.model, row.prompt_id) for row in provider.requests]
        assert len(pairs) == len(set(pairs)) == 120
        assert provider.spent_usd <= 1.0
        assert report.complete == 60
        assert before < 0.65
        assert after >= 0.85


async def test_calibration_stops_before_its_limit(pair: LocalProvider) -> None:
    """The worst case of every call is set aside first, so the ledger never passes the limit."""
    questions = provider_questions(["capitals"], 30, seed=1)
    prompts = [{"text": q.prompt, "expected": q.expected} for q in questions]
    async with service_of(pair) as service:
        report = await service.calibrate(prompts, max_usd=0.017)
        assert pair.spent_usd <= 0.017
        assert report.stopped_by_budget
        assert 0 < report.skipped < 60


async def test_a_budget_is_never_passed(pair: LocalProvider) -> None:
    """Calls that could pass the limit are refused with what is left and when it resets."""
    async with service_of(pair, budgets=[Budget(0.02, per="day")]) as service:
        results = await asyncio.gather(
            *(service.complete(f"q {i}", model_settings={"max_tokens": 500}) for i in range(40)),
            return_exceptions=True,
        )
        refused = [r for r in results if isinstance(r, BudgetExceeded)]
        assert refused
        assert len(refused) < 40
        assert pair.spent_usd <= 0.02
        assert refused[0].resets_at is not None
        assert 0.0 <= refused[0].left_usd < 0.02


def test_synchronous_code_needs_no_loop(tmp_path: Path) -> None:
    """`create_service_sync` lives in a loop of its own and ends with it."""
    with LocalProvider(models=[priced("one")]).serve_in_thread() as provider:
        url = f"sqlite:///{tmp_path / 'conduit.db'}"
        service = create_service_sync(models=arms_of(provider), database_url=url)
        result = service.complete_sync("Say it: [[marker:x]]")
        assert "[[marker:x]]" in result.data
        service.close_sync()
        service.close_sync()


async def test_synchronous_calls_inside_a_loop_say_what_to_do(pair: LocalProvider) -> None:
    """Blocking the loop one stands in would never end, so it is refused."""
    async with service_of(pair) as service:
        with pytest.raises(RuntimeError, match="await"):
            service.complete_sync("hello")


async def test_health_and_stats_tell_the_truth(pair: LocalProvider) -> None:
    """Counts match what was done, and a model in trouble is named."""
    pair.set_fault("one", Fault(FaultKind.SERVER_ERROR))
    async with service_of(pair) as service:
        for i in range(12):
            await service.complete(f"q {i}")
        stats = await service.get_stats()
        assert (stats.requests, stats.answered, stats.failed) == (12, 12, 0)
        assert stats.cost_usd == pytest.approx(pair.spent_usd)
        health = await service.health()
        assert health.ok
        assert set(health.models_unavailable) <= {"one"}


async def test_an_unknown_argument_names_the_one_that_was_meant(pair: LocalProvider) -> None:
    """A slip of the pen is a TypeError with the way out, and nobody is asked."""
    async with service_of(pair) as service:
        with pytest.raises(TypeError, match="did you mean 'system_prompt'"):
            await service.complete("hello", system_promt="be brief")
        with pytest.raises(TypeError, match="did you mean 'result_type'"):
            await service.complete("hello", resul_type=Place)
        with pytest.raises(TypeError, match="unknown argument 'max_tokens'"):
            async with service.stream("hello", max_tokens=5):
                pass
    assert pair.requests == []


@pytest.mark.parametrize("timeout_s", [math.nan, -1.0, "5", True])
async def test_a_time_limit_is_a_number_of_seconds(pair: LocalProvider, timeout_s: Any) -> None:
    """Anything else is refused before anybody is asked."""
    async with service_of(pair) as service:
        with pytest.raises(InvalidInput, match="timeout_s"):
            await service.complete("hello", timeout_s=timeout_s)
    with pytest.raises(InvalidInput, match="timeout_s"):
        service_of(pair, timeout_s=timeout_s)
    assert pair.requests == []


async def test_closing_twice_changes_nothing(pair: LocalProvider) -> None:
    """A closed service says so, and asks nobody."""
    service = service_of(pair)
    async with service:
        await service.complete("hello")
    await service.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await service.complete("hello")
    with pytest.raises(ConfigurationError, match="closed"):
        async with service.stream("hello"):
            pass
    assert len(pair.requests) == 1
