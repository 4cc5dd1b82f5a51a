"""One user in a hundred lies: what that does to the worst model's share.

python -m benchmarks.abuse [--only TABLE ...]

Threat model: 1,000 users, of whom ten (1 %) rate every answer that they get of the worst model 5
stars and of the best one 1 star, and nothing else. They ask as often as others, or ten times as
often (then a tenth of all traffic is theirs). The others rate every answer truly, or one in twenty.
Every answer gets an implicit signal as well, which is right three times of four, and weighs what
ratings, the lies too, tell of signals. What counts of a user's ratings is limited as in the router,
over the whole table, or not at all. The worst and the best model are those of least and greatest
mean utility; the change in utility is of the whole run, lies less none.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results_page
from benchmarks.cells import BARE, PRIOR_ERROR
from benchmarks.feedback import Run as Teaching
from benchmarks.feedback import Sources, World
from benchmarks.tables import DATA, SHARED, table
from conduit.engines.caps import OpinionCounts, OpinionLimits

USERS = 1_000
LIARS = 10
SEED = 1000
COST_WEIGHTS = {"mmlu_pro": 0.1, "llmrouter9": 0.1, "routellm": 0.25, "paretobandit_k4": 0.02}
ORDERS = 4
# How much honest users rate, and how often liars ask.
WORLDS = ((1.0, 1.0), (1.0, 10.0), (0.05, 1.0), (0.05, 10.0))
NO_LIMITS = OpinionLimits(per_hour=None, times_average=None)


@dataclass(slots=True)
class Ballot:
    """The opinions that were given so far, and which of them count."""

    limits: OpinionLimits
    given: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    def takes(self, user: int) -> bool:
        """Count an opinion, unless its user has given too many."""
        counts = OpinionCounts(
            own=self.given[user],
            by_users=self.given.total(),
            users=len(self.given),
        )
        if self.limits.exceeded(counts) is not None:
            self.refused += 1
            return False
        self.given[user] += 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The share of each model in the second half, and how many ratings were lies."""

    shares: NDArray[np.float64]
    utility: float
    lies: int
    truths: int
    refused: int


class Crowd(Teaching):
    """One router whose answers a crowd rates, taught as the service teaches it."""

    def __init__(
        self, world: World, seed: int, *, boost: float, rate: float, limits: OpinionLimits
    ) -> None:
        super().__init__(world, BARE, Sources(signals=True), seed)
        self.ballot = Ballot(limits)
        weight = np.ones(USERS)
        weight[:LIARS] = boost
        self.users = self.rng.choice(USERS, self.rows.size, p=weight / weight.sum())
        self.rated = self.rng.random(self.rows.size) < rate
        self.coins = self.rng.random((self.rows.size, 3))

    def run(self, *, lying: bool) -> Run:
        """Replay the order; chance is the same whether or not the liars lie."""
        world = self.world
        mean = world.utility.mean(axis=0)
        says = {int(mean.argmin()): 1.0, int(mean.argmax()): 0.0}
        chosen, reached, lies = np.zeros(self.rows.size, dtype=int), 0.0, 0
        for t, row in enumerate(self.rows):
            k = chosen[t] = self.choice(int(row))
            reached += world.utility[row, k]
            quality = float(world.quality[row, k])
            self._signalled(t, int(row), int(k), quality, self.coins[t])
            liar = lying and self.users[t] < LIARS
            said = says.get(int(k)) if liar else quality if self.rated[t] else None
            if said is not None and self.ballot.takes(int(self.users[t])):
                lies += liar
                self._rated(t, int(row), int(k), said)
        half = chosen[self.rows.size // 2 :]
        return Run(
            shares=np.bincount(half, minlength=mean.size) / half.size,
            utility=reached / self.rows.size,
            lies=lies,
            truths=self.ballot.given.total() - lies,
            refused=self.ballot.refused,
        )


@cache
def world_of(name: str, prior_error: float | None) -> World:
    """Return a table as a stream of queries, its models with published qualities or without."""
    world = World(table(name), COST_WEIGHTS[name])
    if prior_error is not None:
        rng = np.random.default_rng(SEED)
        known = world.quality.mean(axis=0) + rng.normal(0.0, prior_error, len(world.models))
        arms = [
            replace(arm, quality=float(q))
            for arm, q in zip(world.table.models, np.clip(known, 0.0, 1.0), strict=True)
        ]
        world.table = replace(world.table, models=arms)
    return world


def row_of(
    name: str,
    rate: float,
    boost: float,
    limits: OpinionLimits,
    prior_error: float | None = None,
) -> dict[str, Any]:
    """Measure one table: the worst model's share with the lies and without, paired by order."""
    world = world_of(name, prior_error)
    mean = world.utility.mean(axis=0)
    worst, best = int(mean.argmin()), int(mean.argmax())
    pairs = [
        [
            Crowd(world, SEED + o, boost=boost, rate=rate, limits=limits).run(lying=lying)
            for lying in (False, True)
        ]
        for o in range(ORDERS)
    ]
    rise = 100 * np.array([b.shares[worst] - a.shares[worst] for a, b in pairs])
    fall = 100 * np.array([b.shares[best] - a.shares[best] for a, b in pairs])
    lost = np.array([b.utility - a.utility for a, b in pairs])
    lies, truths = (float(np.mean([getattr(b, n) for _, b in pairs])) for n in ("lies", "truths"))
    return {
        "table": name,
        "rated": f"{100 * rate:g} %",
        "liars ask": f"{boost:g}×",
        "priors": "none" if prior_error is None else f"±{prior_error:g}",
        "limits": "none" if limits is NO_LIMITS else "as in the router",
        "lies of all ratings": lies / (lies + truths),
        "refused": float(np.mean([b.refused for _, b in pairs])),
        "worst model's share %": float(100 * np.mean([a.shares[worst] for a, _ in pairs])),
        "its rise, points": float(rise.mean()),
        "rise se": float(rise.std(ddof=1) / np.sqrt(ORDERS)),
        "greatest rise": float(rise.max()),
        "best model's change, points": float(fall.mean()),
        "change in utility": float(lost.mean()),
    }


def main() -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of tables; nothing is written then")
    given = parser.parse_args()
    if not DATA.exists():
        print("the routing tables are not here; nothing to measure")
        return
    rows = []
    for name in given.only or SHARED:
        for prior_error in (None, PRIOR_ERROR):
            for rate, boost in WORLDS:
                rows.append(row_of(name, rate, boost, OpinionLimits(), prior_error))
                print(rows[-1], flush=True)
        for rate, boost in WORLDS:
            if boost > 1:
                rows.append(row_of(name, rate, boost, NO_LIMITS))
                print(rows[-1], flush=True)
    if given.only:
        return
    results_page.write(
        "abuse",
        rows,
        title="One user in a hundred lies",
        notes=[" ".join((__doc__ or "").split("\n\n")[2].split())],
    )


if __name__ == "__main__":
    main()
