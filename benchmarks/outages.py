"""How one of two models comes back after an outage, and what a model that fails at random gets.

    python -m benchmarks.outages [--orders 6]

The clock is simulated, so that an outage of 15 s takes none; everything else is the service's own:
router, chain, breaker, signals, log. The model that was believed better (.90 beside .85, or beside
.80) is down for a while, after 60 calls, after 3 or from the first. Its share of first choices
before, from its first answer on (100 calls), and of the same calls where nothing had happened.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.results_page import write
from conduit.core.errors import ProviderError
from conduit.core.models import ModelArm, Query, Response
from conduit.engines.executor.base import Answer, Call, FunctionExecutor
from conduit.engines.executor.chain import AttemptRecord, run_chain
from conduit.engines.executor.health import ModelHealth
from conduit.engines.router import Router
from conduit.feedback.collector import FeedbackCollector

GAP_S = 0.05  # between two calls
ANSWER_S, REFUSAL_S, TIMEOUT_S = 0.3, 0.005, 2.0
ANSWER = "An answer of one line, as asked for."
WARM_UP, AFTER, LONGEST_S = 60, 100, 60.0
STARTS = ((WARM_UP, (0.9, 0.85)), (WARM_UP, (0.9, 0.8)), (3, (0.9, 0.8)), (0, (0.9, 0.8)))
TOPICS = ("tea", "law", "maths", "code", "ships")
Row = dict[str, Any]


@dataclass(frozen=True)
class Outage:
    """For how long, or for how many calls, and what callers see."""

    kind: str
    seconds: float | None = None
    calls: int | None = None

    @property
    def title(self) -> str:
        """Return how tables call it."""
        length = f"{self.calls} calls" if self.seconds is None else f"{self.seconds:g} s"
        return f"{self.kind}, {length}"


OUTAGES = (
    *(Outage(kind, s) for s in (1.0, 5.0, 15.0) for kind in ("connection", "timeout")),
    Outage("server_error", 5.0),
    Outage("rate_limited", 5.0),
    Outage("server_error", calls=10),
    Outage("server_error", calls=50),
    Outage("server_error", calls=150),
)


class World:
    """Two models on a simulated clock, of which the first may be down or flaky."""

    def __init__(self, qualities: tuple[float, float], seed: int, flaky: float = 0.0) -> None:
        """Start with both models well."""
        self.now = 0.0
        self.down: str | None = None
        self.first: list[str] = []
        self.failures = 0
        self._chance, self._flaky = random.Random(seed), flaky
        arms = [
            ModelArm(m, quality=quality, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
            for m, quality in zip(("one", "two"), qualities, strict=True)
        ]
        self._router = Router(arms, seed=seed, environ={})
        self._health = ModelHealth()
        self._collector = FeedbackCollector(self._router)
        self._executor = FunctionExecutor(self._answer)

    def _answer(self, model: str, _prompt: Any) -> Answer[str]:
        failure = self.down
        if self._chance.random() < self._flaky:
            failure = "server_error"
        if model == "one" and failure is not None:
            self.failures += 1
            self.now += TIMEOUT_S if failure == "timeout" else REFUSAL_S
            raise ProviderError("down", model=model, kind=failure)
        self.now += ANSWER_S
        return Answer(data=ANSWER, response=Response(model=model, text=ANSWER, latency_s=ANSWER_S))

    async def call(self) -> str:
        """Route one query, ask, learn; return which model answered."""
        query = Query(text=f"question {len(self.first)} about {self._chance.choice(TOPICS)}")
        models = self._router.learner.models
        blocked = self._health.blocked(self.now, models)
        decision = await self._router.route(query, unavailable=blocked)
        attempts: list[AttemptRecord] = []
        served = await run_chain(
            self._executor,
            [self._router.arm(m) for m in decision.candidates],
            Call(query.text),
            health=self._health,
            on_attempt=attempts.append,
            clock=lambda: self.now,
        )
        await self._collector.observe(decision, query, attempts)
        self.first.append(decision.selected_model)
        self.now += GAP_S
        return served.arm.id

    async def calls(self, goes_on: Callable[[int], bool]) -> int:
        """Make calls while they should go on; return how many."""
        n = 0
        while goes_on(n):
            await self.call()
            n += 1
        return n


def share(first: list[str]) -> float:
    """Return the share of the first model."""
    return first.count("one") / max(len(first), 1)


async def after(
    qualities: tuple[float, float], seed: int, outage: Outage, warm_up: int
) -> Row | None:
    """Return one outage's shares, and when the model answered again; None if nobody noticed it."""
    world, still = World(qualities, seed), World(qualities, seed)
    await world.calls(lambda n: n < warm_up)
    world.down, began = outage.kind, world.now
    if outage.seconds is None:
        down = await world.calls(lambda n: n < (outage.calls or 0))
    else:
        until = began + outage.seconds
        down = await world.calls(lambda _: world.now < until)
    if not world.failures:
        return None
    world.down, recovered = None, world.now
    while await world.call() != "one" and world.now - recovered < LONGEST_S:
        pass
    back_s, from_here = world.now - recovered, len(world.first)
    await world.calls(lambda n: n < AFTER)
    await still.calls(lambda n: n < len(world.first))
    return {
        "before": share(world.first[:warm_up]) if warm_up else None,
        "down": share(world.first[warm_up + 50 : warm_up + down]) if down > 60 else None,
        "back_s": back_s,
        "after": share(world.first[from_here:]),
        "still": share(still.first[from_here:]),
    }


def mean(values: list[float | None]) -> float | None:
    """Return the mean of what is known."""
    known = [v for v in values if v is not None]
    return round(statistics.mean(known), 2) if known else None


async def comeback(
    qualities: tuple[float, float], outage: Outage, warm_up: int, orders: int
) -> Row:
    """Return the means of several orders."""
    worlds = [await after(qualities, seed, outage, warm_up) for seed in range(orders)]
    seen = [world for world in worlds if world is not None]
    return {
        "what": f"{outage.title}, after {warm_up} calls" if warm_up else f"{outage.title}, at once",
        "believed": f"{qualities[0]:g} beside {qualities[1]:g}",
        "orders that met it": len(seen),
        "first choice before": mean([s["before"] for s in seen]),
        "from its 51st call": mean([s["down"] for s in seen]),
        "longest until it answers s": round(max(s["back_s"] for s in seen), 1),
        "in 100 after that": mean([s["after"] for s in seen]),
        "had nothing happened": mean([s["still"] for s in seen]),
        "target": "below .10 from the 51st call, back within 60 s",
    }


async def at_random(failing: float, orders: int) -> Row:
    """Return what a model that fails a share of its calls is chosen for, where equals compete."""
    shares = []
    for seed in range(orders):
        world = World((0.85, 0.85), seed, failing)
        await world.calls(lambda n: n < 400)
        shares.append(share(world.first[200:]))
    return {
        "what": f"fails {failing:.0%} of its calls at random",
        "believed": "0.85 beside 0.85",
        "first choice of calls 201 to 400": mean([*shares]),
        "target": "below .10 from 30 %",
    }


async def main(orders: int) -> None:
    """Print and keep the figures."""
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    for outage in OUTAGES:
        for warm_up, qualities in STARTS:
            keep(await comeback(qualities, outage, warm_up, orders))
    for failing in (0.0, 0.1, 0.3, 0.5, 0.8):
        keep(await at_random(failing, orders))
    write(
        "outages",
        rows,
        title="Outages of one model of two",
        notes=[
            f"Simulated clock; means of {orders} orders; answers are valid and nobody rates them.",
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=6)
    asyncio.run(main(parser.parse_args().orders))
