"""A paced budget lasts its period: for every user, day after day, however many replicas pay."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from conduit.core.errors import BudgetExceeded, InvalidInput
from conduit.core.models import ModelArm, Response, RoutingDecision
from conduit.engines.budget import Budget, Budgets
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.storage.base import MemoryStore

DAY_S = 86_400.0
QUERIES = 2_000  # a day
DEAR_USD, CHEAP_USD = 0.01, 0.001
HALF_USD = 0.5 * DEAR_USD * QUERIES


@dataclass
class Clock:
    """A clock that the test moves on."""

    now: float = 20_000 * DAY_S

    def __call__(self) -> float:
        """Return the time."""
        return self.now


async def day_of(processes: list[Budgets], users: int, clock: Clock, chance: random.Random) -> int:
    """Spend one day's queries, dear ones the rarer the more cost weighs; return those refused."""
    refused, began = 0, clock.now
    for n in range(QUERIES):
        clock.now = began + DAY_S * n / QUERIES
        budgets, user = processes[n % len(processes)], f"user {n % users}"
        weight = budgets.cost_weight(user)
        assert weight is not None
        usd = DEAR_USD if chance.random() > weight else CHEAP_USD
        try:
            hold = await budgets.reserve(usd, user)
        except BudgetExceeded:
            refused += 1
        else:
            await budgets.settle(hold, usd)
            await budgets.pace(usd, user)
    clock.now = began + DAY_S
    return refused


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("users", [1, 4])
@pytest.mark.parametrize("is_expected", [False, True])
async def test_a_paced_budget_lasts_each_day(processes: int, users: int, is_expected: bool) -> None:
    """It is spent to the last percents and refuses hardly anyone, today and tomorrow."""
    clock, store, chance = Clock(), MemoryStore(), random.Random(1)
    budget = Budget(
        HALF_USD / users,
        scope="user" if users > 1 else "router",
        pace=True,
        expected_queries=QUERIES // users if is_expected else None,
    )
    replicas = [Budgets([budget], store, "router", clock=clock) for _ in range(processes)]
    for _ in range(2):
        start = clock.now
        assert await day_of(replicas, users, clock, chance) <= 0.03 * QUERIES
        spends = [await store.spend(budget.key("router", f"user {u}"), start) for u in range(users)]
        spent = [spend.spent_usd for spend in spends if spend is not None]
        assert 0.95 * HALF_USD <= sum(spent) <= HALF_USD + 1e-9


def answering(costs: dict[str, float]) -> Callable[..., Answer[str]]:
    """Return what answers for every model, at its cost."""

    def answer(model: str, _prompt: object) -> Answer[str]:
        return Answer(data="yes", response=Response(model=model, text="yes", cost_usd=costs[model]))

    return answer


def lead(decision: RoutingDecision) -> float:
    """Return how much more the dear model promises than the cheap one, cost and all."""
    return decision.estimates["dear"].utility - decision.estimates["cheap"].utility


async def test_one_users_spend_makes_nobody_elses_answers_cheaper() -> None:
    """Cost weighs more for who is ahead of their budget, and for nobody else."""
    arms = [
        ModelArm("dear", quality=0.9, input_usd_per_mtok=0.0, output_usd_per_mtok=10.0),
        ModelArm("cheap", quality=0.6, input_usd_per_mtok=0.0, output_usd_per_mtok=1.0),
    ]
    budget = Budget(1.0, scope="user", pace=True, expected_queries=1_000)
    executor = FunctionExecutor(answering({"dear": DEAR_USD, "cheap": CHEAP_USD}))
    async with Service(Router(arms, seed=1, environ={}), executor, budgets=[budget]) as service:
        for n in range(10):
            await service.complete(f"question {n}", user_id="ann")
        ann = await service.complete("another question", user_id="ann")
        bob = await service.complete("another question", user_id="bob")
    assert lead(ann.decision) < lead(bob.decision) - 0.1


async def test_two_budgets_of_a_kind_book_a_call_once() -> None:
    """The tighter one holds, whichever came first."""
    store = MemoryStore()
    budgets = Budgets([Budget(3.0), Budget(5.0), Budget(9.0, per="month")], store, "router")
    hold = await budgets.reserve(2.0, None)
    await budgets.settle(hold, 2.0)
    assert await budgets.left_usd(None) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("expected_queries", value) for value in (math.nan, math.inf, -5, 0, "100", True)),
        *(("pace", value) for value in ("yes", 1, None)),
    ],
)
def test_what_paces_nothing_is_refused(field: str, wrong: Any) -> None:
    """A number of queries that is none would spoil each request that comes later."""
    with pytest.raises(InvalidInput) as caught:
        Budget(1.0, **{"pace": True, field: wrong})
    assert caught.value.field == field
    assert caught.value.expected
