"""A call that is not in order is refused or mended, and no model is blamed for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai.messages import ModelRequest, UserPromptPart

from conduit.core.errors import InvalidInput, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.budget import Budget
from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Answer, Call, Executor, FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.testing import LocalProvider, SimulatedModel

EXECUTORS = [PydanticAIExecutor, LiteLLMExecutor]
HALF = "\ud83d"  # of an emoji
QUESTION = "What is the capital of Norway?"


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Serve the models of the demo."""
    async with LocalProvider() as provider:
        yield provider


def service_of(provider: LocalProvider, executor: Executor, **options: Any) -> Service:
    """Return a service on the models that the provider plays."""
    router = Router(provider.arms, seed=7, environ={})
    return Service(router, executor, **options)


async def qualities(service: Service) -> dict[str, float]:
    """Return what each model is expected to be worth, which asks none of them."""
    await service.flush()
    decision = await service.router.route(QUESTION)
    return {model: estimate.quality for model, estimate in decision.estimates.items()}


@pytest.mark.parametrize("made", EXECUTORS)
@pytest.mark.parametrize("given", [f"Hi {HALF}", ["Hi", HALF]])
async def test_half_an_emoji_reaches_the_model_as_a_question_mark(
    provider: LocalProvider, made: type[Executor], given: Any
) -> None:
    """A text that was cut in the middle of a character is asked like any other."""
    async with service_of(provider, made()) as service:
        result = await service.complete(given, system_prompt=f"Be short {HALF}")
        assert result.data
    assert len(provider.requests) == 1


async def test_half_an_emoji_can_be_streamed(provider: LocalProvider) -> None:
    """A stream asks for the same text."""
    async with (
        service_of(provider, PydanticAIExecutor()) as service,
        service.stream(f"Hi {HALF}") as stream,
    ):
        assert [piece async for piece in stream]


def history_of(made: type[Executor], text: str) -> list[Any]:
    """Return a message before the prompt, as the executor takes them."""
    if made is LiteLLMExecutor:
        return [{"role": "user", "content": text}]
    return [ModelRequest([UserPromptPart(text)])]


async def ask(service: Service, streamed: bool, **call: Any) -> None:
    """Ask once, to the end."""
    if not streamed:
        await service.complete(QUESTION, **call)
        return
    async with service.stream(QUESTION, **call) as stream:
        async for _piece in stream:
            pass


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("made", EXECUTORS)
@pytest.mark.parametrize("wrong", ["message_history", "model_settings"])
async def test_what_cannot_be_written_into_a_request_blames_no_model(
    provider: LocalProvider, made: type[Executor], wrong: str, streamed: bool
) -> None:
    """A history with half an emoji, or a setting that is no JSON, is the caller's; all hear it."""
    call: dict[str, Any] = {"message_history": history_of(made, f"Hi {HALF}")}
    if wrong == "model_settings":
        call = {"model_settings": {"extra_body": {"colour": object()}}}
    async with service_of(provider, made()) as service:
        before = await qualities(service)
        for _ in range(3):
            with pytest.raises(InvalidInput) as refused:
                await ask(service, streamed, **call)
            assert refused.value.field == wrong
            assert HALF not in str(refused.value)
        assert await qualities(service) == before
        assert not (await service.health()).models_unavailable
    assert provider.requests == []


WRONG: list[tuple[str, Any]] = [
    ("prompt", ["a", 5]), ("prompt", [None]), ("prompt", [object()]),
    ("message_history", ["hi"]), ("message_history", 5), ("system_prompt", 5),
    ("tools", ["x"]), ("tools", 5), ("toolsets", ["x"]), ("model_settings", 5),
    ("output_retries", -1), ("output_retries", "x"), ("idempotency_key", 5),
]  # fmt: skip


@pytest.mark.parametrize("made", EXECUTORS)
@pytest.mark.parametrize(("field", "value"), WRONG)
async def test_what_a_call_cannot_hold_is_refused_by_name(
    provider: LocalProvider, made: type[Executor], field: str, value: Any
) -> None:
    """The error names the field, whichever executor would have asked; no model is asked."""
    call: dict[str, Any] = {"prompt": QUESTION, field: value}
    async with service_of(provider, made()) as service:
        with pytest.raises(InvalidInput) as refused:
            await service.complete(**call)
        assert refused.value.field == field
    assert provider.requests == []


@pytest.mark.parametrize("budgets", [(), (Budget(usd=1.0),)])
@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", float("nan")), ("max_tokens", "x"), ("max_tokens", -1), ("max_tokens", 0)],
)
async def test_a_setting_that_is_no_number_is_refused_by_name(
    provider: LocalProvider, name: str, value: Any, budgets: Any
) -> None:
    """With a spend limit and without, and nothing of the limit is used up."""
    async with service_of(provider, PydanticAIExecutor(), budgets=budgets) as service:
        with pytest.raises(InvalidInput) as refused:
            await service.complete(QUESTION, model_settings={name: value})
        assert refused.value.field == name
        assert (await service.get_stats()).budget_left_usd == (1.0 if budgets else None)


def test_nothing_before_the_prompt_may_be_said_as_none() -> None:
    """None stands for no history and no tools."""
    call = Call("hi", message_history=None, tools=None, toolsets=None)  # type: ignore[arg-type]
    assert (call.message_history, call.tools, call.toolsets) == ((), (), ())


@pytest.mark.parametrize("made", EXECUTORS)
async def test_what_a_tool_gave_that_cannot_be_sent_is_no_fault_of_the_model(
    made: type[Executor],
) -> None:
    """The model did ask for the tool; that its result cannot go back teaches nothing about it."""

    def cut() -> str:
        """Return half an emoji."""
        return HALF

    handy = SimulatedModel("handy", 0.1, 0.4, calls_tools=True)
    async with LocalProvider(models=[handy]) as provider:
        executor = made()
        with pytest.raises(ProviderError) as failed:
            await executor.execute(provider.arms[0], Call("Look it up.", tools=[cut]))
        await executor.close()
    assert failed.value.kind == "bad_request"
    assert isinstance(failed.value.response, Response)
    assert failed.value.response.cost_usd


def of_functions(**options: Any) -> Service:
    """Return a service on two models that are a function."""
    arms = [ModelArm(n, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0) for n in ("a", "b")]
    router = Router(arms, seed=1, environ={})
    return Service(router, FunctionExecutor(lambda model, prompt: "An answer."), **options)


@pytest.mark.parametrize("concurrency", ["x", 0, 1.5, None])
async def test_a_concurrency_that_is_none_is_refused_by_name(concurrency: Any) -> None:
    """In a batch and in a calibration."""
    async with of_functions() as service:
        with pytest.raises(InvalidInput, match="concurrency"):
            await service.complete_batch(["hi"], concurrency=concurrency, progress=False)
        with pytest.raises(InvalidInput, match="concurrency"):
            await service.calibrate(["hi"], concurrency=concurrency, progress=False)


@pytest.mark.parametrize("models", [[], "a"])
async def test_a_calibration_of_no_models_is_refused_by_name(models: Any) -> None:
    """Nothing would be learned; one name is no list of them."""
    async with of_functions() as service:
        with pytest.raises(InvalidInput) as refused:
            await service.calibrate(["hi"], models=models, grader=len, progress=False)
        assert refused.value.field == "models"


async def test_a_streams_result_is_refused_by_name_before_it_is_there() -> None:
    """Whoever reads it too early hears what to do; after the pieces it is there."""
    async with of_functions() as service, service.stream("hi") as stream:
        with pytest.raises(InvalidInput) as refused:
            _ = stream.result
        assert refused.value.field == "result"
        assert [piece async for piece in stream]
        assert stream.result.data == "An answer."


BAD_NUMBERS: list[dict[str, Any]] = [
    {"cost_usd": float("nan")}, {"cost_usd": -5.0}, {"cost_usd": "1"}, {"output_tokens": -3},
    {"latency_s": float("inf")},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_NUMBERS)
async def test_a_bad_measurement_of_one_answer_costs_no_other_its_lesson(
    bad: dict[str, Any],
) -> None:
    """The others are learned, what was spent stays a number, and the error names the field."""

    def answer(model: str, prompt: str) -> Answer[str]:
        taken = bad if prompt.startswith("bad") else {"cost_usd": 0.001}
        return Answer(data="Fine.", response=Response(model=model, text="Fine.", **taken))

    router = Router([ModelArm("a"), ModelArm("b")], seed=1, environ={})
    async with Service(router, FunctionExecutor(answer)) as service:
        prompts = [f"{'bad' if n == 0 else 'good'} question {n}" for n in range(10)]
        ended = await service.complete_batch(prompts, progress=False)
        await service.flush()
        stats = await service.get_stats()
    failed = [each for each in ended if isinstance(each, Exception)]
    assert len(failed) == 1
    assert next(iter(bad)) in str(failed[0])
    assert stats.router.outcomes >= 9
    assert stats.cost_usd == pytest.approx(0.009)
