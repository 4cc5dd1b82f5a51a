"""One user in a hundred lies: what that does to the worst model's share.

python -m benchmarks.abuse

Threat model: 1,000 users, of whom ten (1 %) rate every answer that they get of the worst model 5
stars and of the best one 1 star, and nothing else. They ask as often as others, or ten times as
often (then a tenth of all traffic is theirs). The others rate every answer truly, or one in twenty.
Every answer gets an implicit signal as well, which is right three times of four. What counts of a
user's ratings is limited as in the router, over the whole table, or not at all. The worst and the
best model are those of least and greatest mean utility.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results_page, windows
from benchmarks.tables import DATA, SHARED, table
from conduit.core.events import SOURCE_RANK, Evidence, Outcome
from conduit.core.models import Preferences, as_vector
from conduit.engines.caps import OpinionCounts, OpinionLimits
from conduit.engines.learner import Learner
from conduit.engines.rows import IMPLICIT_WEIGHT
from conduit.evaluation.replay import ReplayTable

USERS = 1_000
LIARS = 10
RIGHT = 0.75
COST_WEIGHTS = {"mmlu_pro": 0.1, "llmrouter9": 0.1, "routellm": 0.25, "paretobandit_k4": 0.02}
ORDERS = 3
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


def run(
    found: ReplayTable,
    seed: int,
    cost_weight: float,
    *,
    boost: float = 1.0,
    rate: float = 1.0,
    lying: bool,
    limits: OpinionLimits,
) -> Run:
    """Replay one order of a table; chance is the same whether or not the liars lie."""
    rng = np.random.default_rng(seed)
    quality, cost = np.asarray(found.quality), np.asarray(found.cost_usd)
    scale = float(cost.mean(0).max())
    utility = quality - cost_weight * cost / scale
    worst, best = int(utility.mean(0).argmin()), int(utility.mean(0).argmax())
    weight = np.ones(USERS)
    weight[:LIARS] = boost
    rows = rng.permutation(found.size)
    users = rng.choice(USERS, found.size, p=weight / weight.sum())
    rated = rng.random(found.size) < rate
    right = rng.random(found.size) < RIGHT
    preferences = Preferences(quality=1.0, cost=cost_weight, latency=0.0, cost_scale_usd=scale)
    learner = Learner(list(found.models), found.vectors.shape[1], seed=seed)
    place = {arm.id: k for k, arm in enumerate(found.models)}
    ballot, chosen = Ballot(limits), np.zeros(found.size, dtype=int)
    reached, lies = 0.0, 0
    for t, row in enumerate(rows):
        x = as_vector(found.vectors[row])
        model = learner.decide(x, preferences=preferences).model
        k = chosen[t] = place[model]
        reached += utility[row, k]
        true = float(quality[row, k])
        seen = Evidence(
            quality=float((true > 0.5) == right[t]), quality_weight=IMPLICIT_WEIGHT,
            cost_usd=float(cost[row, k]), rank=SOURCE_RANK["implicit"],
        )  # fmt: skip
        learner.apply(Outcome.of(model, x, seen))
        liar = users[t] < LIARS
        lie = {worst: 1.0, best: 0.0}.get(int(k)) if liar else None
        says = lie if lying and liar else true if rated[t] else None
        if says is not None and ballot.takes(int(users[t])):
            lies += lying and liar
            said = seen.joined(Evidence(quality=says, rank=SOURCE_RANK["user"], key=str(t)))
            learner.apply(Outcome.of(model, x, said, revises=seen))
    half = chosen[found.size // 2 :]
    return Run(
        shares=np.bincount(half, minlength=len(place)) / half.size,
        utility=reached / found.size,
        lies=lies,
        truths=ballot.given.total() - lies,
        refused=ballot.refused,
    )


def row_of(name: str, rate: float, boost: float, limits: OpinionLimits) -> dict[str, Any]:
    """Measure one table: the worst model's share with the lies and without, paired by order."""
    found = table(name)
    quality, cost = np.asarray(found.quality), np.asarray(found.cost_usd)
    cost_weight = COST_WEIGHTS[name]
    mean = (quality - cost_weight * cost / cost.mean(0).max()).mean(0)
    worst, best = int(mean.argmin()), int(mean.argmax())
    pairs = [
        [
            run(found, 1000 + o, cost_weight, boost=boost, rate=rate, lying=lying, limits=limits)
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
        "limits": "none" if limits is NO_LIMITS else "as in the router",
        "lies of all ratings": lies / (lies + truths),
        "refused": float(np.mean([b.refused for _, b in pairs])),
        "worst model's share %": float(100 * np.mean([a.shares[worst] for a, _ in pairs])),
        "its rise, points": float(rise.mean()),
        "rise se": float(rise.std(ddof=1) / np.sqrt(ORDERS)),
        "greatest rise": float(rise.max()),
        "best model's change, points": float(fall.mean()),
        "utility": float(lost.mean()),
    }


def main() -> None:
    """Print and keep the figures."""
    windows.asked(__doc__)
    if not DATA.exists():
        print("the routing tables are not here; nothing to measure")
        return
    rows = []
    for name in SHARED:
        for rate, boost in WORLDS:
            for limits in (OpinionLimits(), NO_LIMITS) if boost > 1 else (OpinionLimits(),):
                rows.append(row_of(name, rate, boost, limits))
                print(rows[-1], flush=True)
    results_page.write(
        "abuse",
        rows,
        title="One user in a hundred lies",
        notes=[" ".join((__doc__ or "").split("\n\n")[2].split())],
    )


if __name__ == "__main__":
    main()
