"""What is set aside for a call is the most that it costs: its rounds of tools, its price steps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic_ai import BinaryContent
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from conduit.core.errors import AllModelsFailed, BudgetExceeded, InvalidInput, NoEligibleModel
from conduit.core.models import ModelArm
from conduit.engines.budget import Budget
from conduit.engines.executor.base import Call, FunctionExecutor
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.executor.sizes import TOOL_ROUNDS, size_of
from conduit.engines.router import Router
from conduit.service import Service

LONG = "word " * 180_000  # 450,000 tokens at the most


def served(arm: ModelArm, budget: Budget) -> Service:
    """Return a service with one model and one limit."""
    return Service(Router([arm], environ={}), PydanticAIExecutor(), budgets=[budget])


async def booked_usd(service: Service, budget: Budget) -> float:
    """Return what was booked in the running period."""
    await service.flush()
    key = budget.key(service.router.name, None)
    spend = await service.router.store.spend(key, budget.period(time.time())[0])
    return 0.0 if spend is None else spend.spent_usd


def looker(rounds: int) -> FunctionModel:
    """Return a model that calls a tool so many times before it answers."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked = sum(isinstance(message, ModelResponse) for message in messages)
        parts = [ToolCallPart("look", {"place": asked})] if asked < rounds else [TextPart("Here.")]
        usage = RequestUsage(input_tokens=100 + 50 * asked, output_tokens=1_000)
        return ModelResponse(parts=parts, usage=usage)

    return FunctionModel(answer)


def look(place: int) -> int:
    """Look somewhere."""
    return place


async def test_a_model_that_calls_tools_for_ever_passes_no_limit() -> None:
    """It is stopped after the rounds that were set aside, and counts as one without an answer."""
    arm = ModelArm(
        "acme:looker", input_usd_per_mtok=1.0, output_usd_per_mtok=10.0, model=looker(40)
    )
    budget = Budget(usd=0.2)
    async with served(arm, budget) as service:
        with pytest.raises(AllModelsFailed, match="invalid_output"):
            await service.complete("Look", tools=[look], model_settings={"max_tokens": 1_000})
        assert 0.1 < await booked_usd(service, budget) <= budget.usd


async def test_as_many_rounds_of_tools_as_are_set_aside_are_made() -> None:
    """The last of them leaves room for the answer."""
    service = Service(
        Router([ModelArm("acme:looker", model=looker(TOOL_ROUNDS))], environ={}),
        PydanticAIExecutor(),
    )
    async with service:
        assert (await service.complete("Look", tools=[look])).data == "Here."


@pytest.mark.parametrize(
    "model", ["google:gemini-3.1-pro-preview", "anthropic:claude-haiku-5-5", "openai:gpt-6-sol"]
)
async def test_the_price_of_long_prompts_is_set_aside(model: str) -> None:
    """A limit between the base price of a long prompt and what it costs lets none through."""
    usages: list[RequestUsage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        usages.append(RequestUsage(input_tokens=449_000, output_tokens=4_000))
        return ModelResponse(parts=[TextPart("Read.")], usage=usages[-1])

    arm = ModelArm(model, model=FunctionModel(answer))
    generous = Budget(usd=20.0)
    async with served(arm, generous) as service:
        await service.complete(LONG)
        cost = await booked_usd(service, generous)
    for usd, lets_through in ((0.99 * cost, False), (1.5 * cost, True)):
        budget = Budget(usd=usd)
        async with served(arm, budget) as service:
            if lets_through:
                await service.complete(LONG)
            else:
                with pytest.raises(BudgetExceeded):
                    await service.complete(LONG)
            assert await booked_usd(service, budget) <= budget.usd
    assert len(usages) == 2


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("output_retries", {"output_retries": -1, "result_type": int}),
        ("output_retries", {"output_retries": 0.5}),
        ("output_retries", {"output_retries": True}),
        ("max_tokens", {"model_settings": {"max_tokens": -1_000}}),
        ("max_tokens", {"model_settings": {"max_tokens": math.nan}}),
        ("max_tokens", {"model_settings": {"max_tokens": "x"}}),
        ("max_tokens", {"model_settings": {"max_tokens": True}}),
    ],
)
@pytest.mark.parametrize("budgets", [(), [Budget(usd=1e-8)]])
async def test_what_would_set_nothing_aside_is_refused_by_name(
    field: str, options: dict[str, Any], budgets: Sequence[Budget]
) -> None:
    """Retries and tokens below nothing are no way around a limit."""
    asked: list[str] = []
    service = Service(
        Router([ModelArm("m", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)], environ={}),
        FunctionExecutor(lambda model, _prompt: asked.append(model)),
        budgets=budgets,
    )
    async with service:
        with pytest.raises(InvalidInput) as caught:
            await service.complete("hello", **options)
    assert caught.value.field == field
    assert asked == []


WINDOW = 8_000
HISTORY = [
    ModelRequest(parts=[UserPromptPart("word " * 40_000)]),
    ModelResponse(parts=[TextPart("Yes.")]),
]


@pytest.mark.parametrize(
    "beside", [{"message_history": HISTORY}, {"system_prompt": "word " * 40_000}]
)
@pytest.mark.parametrize("constraints", [{"max_cost": 0.005, "strict": True}, {"strict": True}])
async def test_what_a_model_reads_beside_the_prompt_counts(
    beside: dict[str, Any], constraints: dict[str, Any]
) -> None:
    """A long conversation or system prompt costs money, and fits no small window."""
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, "output_tokens": 20}
    small = ModelArm("acme:small", context_window=WINDOW, **prices)
    large = ModelArm("acme:large", context_window=1_000_000, **prices)
    asked: list[str] = []
    executor = FunctionExecutor(lambda model, _prompt: asked.append(model) or "Yes.")
    async with Service(Router([small, large], environ={}, seed=1), executor) as service:
        for _ in range(5):
            await service.complete("And now?", constraints=constraints)
        assert "acme:small" in asked
        asked.clear()
        if "max_cost" in constraints:
            with pytest.raises(NoEligibleModel, match="max_cost"):
                await service.complete("And now?", constraints=constraints, **beside)
        else:
            result = await service.complete("And now?", constraints=constraints, **beside)
            expected = result.decision.estimates["acme:large"].cost_usd
            assert expected == pytest.approx(0.05, rel=0.2)
        assert "acme:small" not in asked


def test_a_plain_prompt_has_nothing_beside_it() -> None:
    """Then its own text says how long it is; an image, a tool or a form adds to it."""
    for plain in (Call("hello"), Call(["hello", "there"])):
        assert size_of(plain).beside_tokens == 0.0
    for more in (
        Call(["hello", BinaryContent(b"an image", media_type="image/png")]),
        Call("hello", tools=[look]),
        Call("hello", result_type=dict[str, int]),
    ):
        assert size_of(more).beside_tokens > 0.0
