"""A spend limit that processes share: what they set aside, what they die with, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, BudgetExceeded, ConduitError, ConfigurationError
from conduit.core.models import ModelArm, Response, RoutingResult
from conduit.engines.budget import RESERVATION_TTL_S, Budget
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.storage.database import open_store
from conduit.testing import Fault, FaultKind, LocalProvider, SimulatedModel
from tests.service.worker import PATIENCE_S, Work, arms_of, report_of, started

CENT = SimulatedModel("cent", 0.0, 10.0, output_tokens=1_000, ttft_s=0.02)  # $0.01 a call
PROCESSES, CALLS = 3, 100


@asynccontextmanager
async def later_service(work: Work, url: str) -> AsyncIterator[Service]:
    """Give a service for which the time-to-live of what the dead reserved is over."""
    store = await open_store(url)
    router = Router(arms_of(work), store=store, seed=7, environ={})
    budget = Budget(work.budget_usd, per="total")
    async with Service(
        router,
        PydanticAIExecutor(),
        budgets=[budget],
        store=store,
        timeout_s=PATIENCE_S,
        clock=lambda: time.time() + RESERVATION_TTL_S + PATIENCE_S + 1.0,
    ) as service:
        yield service


@pytest.mark.slow
async def test_processes_that_die_never_pass_the_limit(url: str) -> None:
    """Three calls of ten die with their reservation: the provider never bills more than $1.

    What they had reserved is spent by others once its time is over, and the limit still holds.
    """
    with LocalProvider([CENT]).serve_in_thread() as provider:
        work = Work(
            job="spend",
            database_url=url,
            provider_url=provider.base_url,
            prices={"cent": (0.0, 10.0)},
            calls=CALLS,
            max_tokens=1_000,
            hang_of_ten=3,
        )
        with ExitStack() as stack:
            processes = [
                stack.enter_context(started(replace(work, worker=k))) for k in range(PROCESSES)
            ]
            reports = [await asyncio.to_thread(report_of, process) for process in processes]
        total = {name: sum(r[name] for r in reports) for name in ("answered", "hanging")}
        assert [r["others"] for r in reports] == [[]] * PROCESSES
        assert provider.spent_usd == pytest.approx(0.01 * total["answered"])
        assert provider.spent_usd + 0.01 * total["hanging"] <= 1.0 + 1e-9
        assert total["hanging"] >= 20
        async with later_service(work, url) as service:
            results = await service.complete_batch(
                [f"later {i}" for i in range(CALLS)],
                concurrency=CALLS,
                progress=False,
                model_settings={"max_tokens": 1_000},
            )
        again = sum(isinstance(r, RoutingResult) for r in results)
        assert again == 100 - total["answered"]
        assert provider.spent_usd == pytest.approx(1.0)
        assert provider.spent_usd <= 1.0 + 1e-9


def arm(name: str, usd_per_mtok: float, **options: Any) -> ModelArm:
    """Return a model whose output alone costs money."""
    return ModelArm(name, input_usd_per_mtok=0.0, output_usd_per_mtok=usd_per_mtok, **options)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("kind", "usd"),
    [
        (FaultKind.SERVER_ERROR, 0.0),
        (FaultKind.RATE_LIMITED, 0.0),
        (FaultKind.HANG, 0.01),
        (FaultKind.TRUNCATED_JSON, 0.01),
        (FaultKind.NULL_CONTENT, 0.01),
        (FaultKind.NO_USAGE, 0.01),
        ("refused", 0.0),
    ],
)
async def test_a_failure_is_booked_at_what_the_provider_may_ask_for_it(
    kind: FaultKind | str, usd: float, streamed: bool
) -> None:
    """A refusal is free; where the bill is unknown, it is the worst case and never nothing."""
    timeout_s = 0.5 if kind is FaultKind.HANG else 60.0  # a busy machine is no fault
    async with LocalProvider([CENT]) as provider:
        url = provider.refused_url if kind == "refused" else provider.base_url
        if kind != "refused":
            provider.set_fault("cent", Fault(FaultKind(kind)))
        router = Router([arm("cent", 10.0, base_url=url)], seed=1, environ={})
        async with Service(
            router, PydanticAIExecutor(), budgets=[Budget(1.0)], timeout_s=timeout_s
        ) as service:
            with contextlib.suppress(ConduitError):
                await one_call(service, streamed)
            left = (await service.get_stats()).budget_left_usd
        assert left == pytest.approx(1.0 - usd)
        assert provider.spent_usd <= usd + 1e-9


async def one_call(service: Service, streamed: bool) -> None:
    """Ask for an answer, or read one that is streamed."""
    options: dict[str, Any] = {"model_settings": {"max_tokens": 1_000}}
    if not streamed:
        await service.complete("How much is 3 * 4?", **options)
        return
    async with service.stream("How much is 3 * 4?", **options) as pieces:
        async for _piece in pieces:
            pass


async def test_a_second_attempt_waits_for_money_of_its_own() -> None:
    """What a failed attempt may have cost stays set aside; the next needs room beside it."""
    calls: list[str] = []

    def answer(model: str, prompt: str) -> Any:
        calls.append(model)
        if len(calls) == 1:
            raise ConnectionResetError("after the answer was paid for")
        response = Response(model=model, cost_usd=0.01, latency_s=0.1)
        return Answer(data="yes", response=response)

    arms = [arm("a", 10.0), arm("b", 10.0)]
    for limit, answered in ((0.015, False), (0.025, True)):
        calls.clear()
        service = Service(
            Router(arms, seed=1, environ={}), FunctionExecutor(answer), budgets=[Budget(limit)]
        )
        async with service:
            work = service.complete("hello", model_settings={"max_tokens": 1_000})
            if answered:
                await work
            else:
                with pytest.raises(AllModelsFailed, match="over_budget"):
                    await work
            assert len(calls) == 1 + answered
            left = (await service.get_stats()).budget_left_usd
            assert left == pytest.approx(limit - (0.02 if answered else 0.01))


async def test_a_limit_needs_prices() -> None:
    """Models of unknown price under a limit are refused with what to do."""
    service = Service(
        Router([ModelArm("mine")], environ={}), FunctionExecutor(lambda m, p: p),
        budgets=[Budget(1.0)],
    )  # fmt: skip
    async with service:
        with pytest.raises(ConfigurationError, match="input_usd_per_mtok"):
            await service.complete("hello")


async def test_a_refusal_says_what_is_left_and_when_it_begins_anew() -> None:
    """Per user: one who has spent their share is refused, the other is not."""

    def answer(model: str, prompt: str) -> Any:
        return Answer(data="yes", response=Response(model=model, cost_usd=0.01, latency_s=0.1))

    now = 86_400.0 * 20_000 + 3_600.0
    service = Service(
        Router([arm("a", 10.0)], environ={}),
        FunctionExecutor(answer),
        budgets=[Budget(0.015, per="day", scope="user")],
        clock=lambda: now,
    )
    options: dict[str, Any] = {"model_settings": {"max_tokens": 1_000}}
    async with service:
        await service.complete("hello", user_id="u1", **options)
        await service.complete("hello", user_id="u2", **options)
        with pytest.raises(BudgetExceeded) as caught:
            await service.complete("hello", user_id="u1", **options)
    assert caught.value.left_usd == pytest.approx(0.005)
    assert caught.value.resets_at == 86_400.0 * 20_001
    assert "$0.0050" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "unknown"),
    [
        (FaultKind.SERVER_ERROR, 0),
        (FaultKind.RATE_LIMITED, 0),
        (FaultKind.HANG, 1),
        (FaultKind.NO_USAGE, 1),
        (None, 0),
    ],
)
async def test_an_unknown_cost_is_that_of_what_a_provider_may_want_money_for(
    kind: FaultKind | None, unknown: int
) -> None:
    """A refusal is free and counts for nothing; a call that was given up may be on the bill."""
    async with LocalProvider([CENT]) as provider:
        provider.set_fault("cent", None if kind is None else Fault(kind))
        router = Router([arm("cent", 10.0, base_url=provider.base_url)], seed=1, environ={})
        timeout_s = 0.5 if kind is FaultKind.HANG else 60.0
        async with Service(router, PydanticAIExecutor(), timeout_s=timeout_s) as service:
            with contextlib.suppress(ConduitError):
                await one_call(service, streamed=False)
            assert (await service.get_stats()).unknown_cost == unknown


async def test_calls_that_are_given_up_have_an_unknown_cost() -> None:
    """A caller who is cancelled, and one who leaves a stream, may have made a provider work."""
    async with LocalProvider([CENT]) as provider:
        router = Router([arm("cent", 10.0, base_url=provider.base_url)], seed=1, environ={})
        async with Service(router, PydanticAIExecutor()) as service:
            async with service.stream("How much is 3 * 4?") as pieces:
                async for _piece in pieces:
                    break
            assert (await service.get_stats()).unknown_cost == 1
            provider.set_fault("cent", Fault(FaultKind.HANG))
            asking = asyncio.ensure_future(service.complete("How much is 3 * 4?"))
            await asyncio.sleep(0.5)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            assert (await service.get_stats()).unknown_cost == 2
