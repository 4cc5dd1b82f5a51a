"""The failures of an outage are withdrawn once it is over; failures that come and go stay."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from conduit.core.models import ModelArm, Query, Response, RoutingDecision
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.feedback.collector import Attempted, FeedbackCollector
from conduit.feedback.outages import OUTAGE_S, Outages, withdrawal
from conduit.service import Service
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

DOWN = AttemptRecord(model="m", response=None, latency_s=0.1, failure="connection", quality=0.0)
WRONG = AttemptRecord(
    model="m", response=None, latency_s=0.1, failure="invalid_output", quality=0.0
)
KNOWN = AttemptRecord(model="m", response=None, latency_s=0.1, failure="connection")
HERE = AttemptRecord(model="m", response=Response(model="m", text="here"), latency_s=0.1)
PROBED = AttemptRecord(
    model="m", response=Response(model="m", text="here"), latency_s=0.1, probe=True
)


@pytest.fixture
async def decision() -> RoutingDecision:
    """Give some decision."""
    async with Router([ModelArm("m")], seed=1, environ={}) as router:
        return await router.route("hello")


@pytest.mark.parametrize(
    ("attempts", "lasted_s", "withdrawn"),
    [
        ([DOWN, DOWN, DOWN, KNOWN], OUTAGE_S, 3),
        ([DOWN, DOWN, DOWN], OUTAGE_S - 1.0, 0),  # it opened by chance
        ([DOWN, DOWN], OUTAGE_S, 0),  # the breaker did not open
        ([DOWN, DOWN, DOWN, HERE], OUTAGE_S, 0),  # an answer between: no outage
        ([WRONG, WRONG, WRONG], OUTAGE_S, 0),  # it answered, and badly
    ],
)
def test_only_what_an_outage_did_is_withdrawn(
    decision: RoutingDecision, attempts: list[AttemptRecord], lasted_s: float, withdrawn: int
) -> None:
    """The answer to a probe takes back the failures before it, if they lasted long enough."""
    outages = Outages()
    for attempt in attempts:
        assert outages.ended(decision, attempt, 100.0) == []
    assert len(outages.ended(decision, PROBED, 100.0 + lasted_s)) == withdrawn
    assert outages.ended(decision, PROBED, 1000.0) == []  # once


def test_an_answer_without_a_probe_withdraws_nothing(decision: RoutingDecision) -> None:
    """A model that nobody was kept away from was not down, however long it took."""
    outages = Outages()
    outages.ended(decision, DOWN, 100.0)
    assert outages.ended(decision, HERE, 100.0 + 10 * OUTAGE_S) == []


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


async def test_a_model_that_comes_back_over_http_is_as_good_as_before() -> None:
    """Server errors until the breaker opens, silence, recovery: the log takes the errors back."""
    models = [SimulatedModel("one", 1.0, 4.0), SimulatedModel("two", 1.0, 4.0)]
    async with LocalProvider(models) as provider:
        arms = [
            ModelArm("one", base_url=provider.base_url, quality=0.9),
            ModelArm("two", base_url=provider.base_url, quality=0.5),
        ]
        router = Router(arms, seed=3, environ={}, preferences="quality", floor=0.0)
        async with Service(router, PydanticAIExecutor()) as service:
            health = service.health_of_models
            health._first_backoff_s = health._max_backoff_s = 0.5
            service.collector.outages.outage_s = 0.2
            provider.set_fault("one", Fault(FaultKind.SERVER_ERROR))
            while not health.blocked(time.monotonic()):
                await service.complete("question")
            await service.flush()
            down = (await router.route("question")).estimates
            provider.set_fault("one", None)
            began, answered_by = time.monotonic(), ""
            while answered_by != "one" and time.monotonic() - began < 10.0:
                await asyncio.sleep(0.1)
                answered_by = (await service.complete("question again")).model
            await service.flush()
            back = await router.route("question")
            log = await router.store.tail(router.name)
    kinds = Counter(entry.row.kind for entry in log if entry.row.model == "one")
    assert kinds["exception"] == kinds["outage"] >= 3
    assert back.estimates["one"].quality > down["one"].quality
    assert back.selected_model == "one"
