"""The failures of an outage are withdrawn once it is over; failures that come and go stay."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace

import pytest

from conduit.core.models import Feedback, ModelArm, Query, Response, RoutingDecision
from conduit.engines.bandits.base import QUALITY
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.feedback.collector import Attempted, FeedbackCollector
from conduit.feedback.outages import Outages, withdrawal
from conduit.service import Service
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

DOWN = AttemptRecord(
    model="m", response=None, latency_s=0.1, began_at=10.0, failure="connection", quality=0.0
)
WRONG = replace(DOWN, failure="invalid_output")
KNOWN = replace(DOWN, quality=None, probe=True)  # it is open already
CROWDED = replace(DOWN, quality=None)  # one of many under way when it opened
HERE = AttemptRecord(
    model="m", response=Response(model="m", text="here"), latency_s=0.1, began_at=20.0
)
LATE = replace(HERE, began_at=9.0)  # before the failures


@pytest.fixture
async def decision() -> RoutingDecision:
    """Give some decision."""
    async with Router([ModelArm("m")], seed=1, environ={}) as router:
        return await router.route("hello")


@pytest.mark.parametrize(
    ("attempts", "withdrawn"),
    [
        ([DOWN] * 3, 3),
        ([DOWN] * 3 + [CROWDED] * 50 + [KNOWN] * 4, 3),
        ([DOWN] * 2, 2),  # of a model that nobody knows
        ([HERE] * 8 + [DOWN], 1),
        ([HERE] * 20 + [DOWN], 0),  # once is by chance
        ([HERE] * 20 + [DOWN] * 2, 2),
        ([HERE] * 2000 + [DOWN], 0),
        ([DOWN] * 3 + [LATE], 3),  # one that was under way before
        ([WRONG] * 3, 0),  # it answered, and badly
        ([HERE] * 50 + [DOWN] * 3, 3),
        ([DOWN, HERE, DOWN], 0),  # the first are withdrawn, those that follow are not
        ([HERE, DOWN] * 10 + [DOWN] * 2, 0),  # half of its calls fail: three in a row by chance
        ([HERE, DOWN] * 10 + [DOWN] * 3 + [KNOWN] * 6, 4),  # not ten in a row
    ],
)
def test_only_what_an_outage_did_is_withdrawn(
    decision: RoutingDecision, attempts: list[AttemptRecord], withdrawn: int
) -> None:
    """An answer takes back failures before it that such a model hardly has by chance."""
    outages = Outages()
    for attempt in attempts:
        outages.ended(decision, attempt)
    assert len(outages.ended(decision, HERE)) == withdrawn
    assert outages.ended(decision, HERE) == []  # once


@pytest.mark.parametrize(("share", "kept"), [(0.1, 0.7), (0.3, 0.9), (0.5, 0.95), (0.8, 0.8)])
def test_a_flaky_model_keeps_its_failures(
    decision: RoutingDecision, share: float, kept: float
) -> None:
    """Of failures at random, whatever their share, nearly all stay taught."""
    chance, taught, withdrawn = random.Random(1), 0, 0
    outages, health = Outages(), ModelHealth()
    for now in range(3000):
        if not health.allows("m", now):
            continue
        probe = health.begin("m", now)
        if chance.random() < share:
            news = health.failed("m", now, probe=probe)
            quality = 0.0 if news else None
            outages.ended(decision, replace(DOWN, began_at=now, quality=quality, probe=probe))
            taught += news
        else:
            health.succeeded("m")
            withdrawn += len(outages.ended(decision, replace(HERE, began_at=now, probe=probe)))
    assert taught > 100
    assert withdrawn <= (1.0 - kept) * taught


async def test_a_withdrawal_undoes_exactly_what_the_failure_taught() -> None:
    """The sums are what they were before, to the last digits, in whatever order rows come."""
    async with Router([ModelArm("m"), ModelArm("n")], seed=1, environ={}) as router:
        collector = FeedbackCollector(router)
        decision = await router.route("hello")
        before = decision.estimates["n"].quality
        failed = AttemptRecord(
            model="n", response=None, latency_s=0.1, failure="connection", quality=0.0
        )
        await collector.observe_all([Attempted(decision, Query(text="hello"), [failed])])
        during = (await router.route("hello")).estimates["n"].quality
        await router.feedback(decision, withdrawal(decision, "n"), model="n")
        after = (await router.route("hello")).estimates["n"].quality
    assert during < before - 0.005
    assert after == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize(
    ("failure", "kept"), [("connection", True), ("server_error", True), ("invalid_output", False)]
)
async def test_an_outage_seen_by_many_raises_no_alarm(failure: str, kept: bool) -> None:
    """The failures that every replica meets leave what was learned; bad answers mean a change."""
    async with Router([ModelArm("m"), ModelArm("n")], seed=1, environ={}) as router:
        collector = FeedbackCollector(router)
        for n in range(60):
            decision = await router.route(f"question {n}")
            await router.feedback(decision, Feedback(quality_score=0.95), model="m")
        before = router.learner.policy.seen()[0, QUALITY]
        failed = replace(DOWN, failure=failure)
        for n in range(20):
            decision = await router.route(f"again {n}")
            await collector.observe_all([Attempted(decision, Query(text=f"{n}"), [failed])])
        after = router.learner.policy.seen()[0, QUALITY]
    assert (after > before) == kept


@pytest.mark.parametrize("down", [0, 3, 8])
async def test_answers_that_nobody_rated_lift_no_model_over_a_better_one(down: int) -> None:
    """While one model is away, the other's answers without an error are what is usual, no news."""
    arms = [ModelArm("one", quality=0.9), ModelArm("two", quality=0.8)]
    async with Router(arms, seed=1, environ={}, preferences="quality") as router:
        collector = FeedbackCollector(router)
        for n in range(150):
            decision = await router.route(f"question {n} about tea", unavailable={"one": "down"})
            failed = [replace(DOWN, model="one")] if n < down else []
            attempts = [*failed, replace(HERE, model="two")]
            await collector.observe_all([Attempted(decision, Query(text=f"{n}"), attempts)])
        estimates = (await router.route("question 151 about tea")).estimates
    assert estimates["two"].quality < 0.89


FAILURES = 3  # and more: one alone might be chance, and stays taught


async def first_choices(service: Service, calls: int, timeout_s: float = 10.0) -> float:
    """Return the share of calls whose first choice is the first model."""
    chosen = []
    for n in range(calls):
        result = await service.complete(f"question {n}", timeout_s=timeout_s)
        chosen.append(result.decision.selected_model)
        await service.flush()
    return chosen.count("one") / calls


@pytest.mark.parametrize(
    "kind", [FaultKind.SERVER_ERROR, FaultKind.CUT_AT_ONCE, FaultKind.HANG, FaultKind.RATE_LIMITED]
)
async def test_a_model_that_comes_back_is_first_choice_again(kind: FaultKind) -> None:
    """After an outage of a few calls, the model that was better is chosen as it was before."""
    models = [SimulatedModel("one", 1.0, 4.0), SimulatedModel("two", 1.0, 4.0)]
    async with LocalProvider(models) as provider:
        arms = [
            ModelArm("one", base_url=provider.base_url, quality=0.9),
            ModelArm("two", base_url=provider.base_url, quality=0.8),
        ]
        router = Router(arms, seed=3, environ={}, preferences="quality", floor=0.0)
        service = Service(router, PydanticAIExecutor())
        health = service.health_of_models
        health._first_backoff_s = health._max_backoff_s = 0.2
        async with service:
            assert await first_choices(service, 15) == 1.0
            provider.set_fault("one", Fault(kind, retry_after_s=0.2))
            down = await first_choices(service, 10, timeout_s=0.6)
            while sum(request.fault is not None for request in provider.requests) < FAILURES:
                await service.complete("question meanwhile", timeout_s=0.6)
                await asyncio.sleep(0.05)
            await service.flush()
            provider.set_fault("one", None)
            began = time.monotonic()
            while (await service.complete("question again")).model != "one":
                assert time.monotonic() - began < 10.0
                await asyncio.sleep(0.05)
            await service.flush()
            assert await first_choices(service, 10) == 1.0
            log = await router.store.tail(router.name)
    assert down < 0.5
    kinds = Counter(entry.row.kind for entry in log if entry.row.model == "one")
    assert kinds["exception"] == kinds["outage"]
    assert (kinds["outage"] >= 2) == (kind != FaultKind.RATE_LIMITED)
