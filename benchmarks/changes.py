"""What comes of a change in the middle of a stream, and how often one is seen where none is."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from benchmarks.cells import (
    AROUND,
    BARE,
    JUDGING,
    LEARNING,
    PLAIN,
    SEED,
    Cell,
    Change,
    Contestant,
    Setup,
    code,
    keep,
    middle,
    paired,
)
from benchmarks.peers import PEERS
from benchmarks.workloads import Workload
from conduit.engines.bandits import ContextualThompsonBandit
from conduit.evaluation.replay import replay

ORDERS = 10
STATIONARY = 3000  # queries
WEIGHTS = Change("weight of cost .05 → .25", weight=0.25)
FALL = Change("the best model falls to 55 %", best_falls_to=0.55)
# The change, the weight of cost before it, and the utility to reach in the 500 queries after it.
CHANGES = ((WEIGHTS, 0.05, 0.65), (FALL, 0.13, 0.60))
TABLE = "routellm"

Row = dict[str, Any]


def contestants(ours: Contestant) -> list[Contestant]:
    """Return who is looked at around a change."""
    plain = Contestant(f"{ours.name}, no detection", policy=ours.policy, change_detection=False)
    linear = Contestant("linucb", policy="linucb")
    peers = [Contestant(p.name, peer=p, settings=p.defaults) for p in PEERS]
    peers += [
        Contestant(f"{p.name}, tuned", peer=p, settings=p.tuned) for p in PEERS if not p.limit
    ]
    return [ours, plain, linear, *peers]


def planned(on: Sequence[Workload], ours: Contestant) -> list[Cell]:
    """Return the cells around changes, where the table is here."""
    if not any(work.name == TABLE for work in on):
        return []
    cells = []
    for change, weight, _ in CHANGES:
        work = Workload(TABLE, weight)
        for who in contestants(ours):
            cells.append(Cell(who, work, PLAIN, limit=middle(work) + AROUND, change=change))
    return cells


def around(cells: Sequence[Cell]) -> list[Row]:
    """Return the mean utility of the 500 queries before and after each change."""
    wanted = {change.name: (target, weight) for change, weight, target in CHANGES}
    rows: list[Row] = []
    for cell in cells:
        assert cell.change is not None
        target, weight = wanted[cell.change.name]
        before, after = (np.array(each) for each in cell.found().kept["around"])
        zero = np.zeros_like(after)
        ours = cell.contestant.peer is None and cell.contestant.change_detection
        rows.append(
            {
                "change": f"{TABLE} λ={weight:g}: {cell.change.name}",
                "contestant": cell.contestant.name,
                "500 before": "{:.3f} ± {:.3f}".format(*paired(before, zero)),
                "500 after": "{:.3f} ± {:.3f}".format(*paired(after, zero)),
                "to reach": f"{target:.2f} " + ("yes" if after.mean() >= target else "no")
                if ours
                else "",
            }
        )
    return rows


class _Counting(ContextualThompsonBandit):
    """Counts how often a change is believed to be seen."""

    alarms = 0

    def discount(self, row: int, keep: float) -> None:
        """Count one, and go on."""
        type(self).alarms += 1
        super().discount(row, keep)


def _alarms(work: Workload, setup: Setup) -> dict[str, Any]:
    counts: list[int] = []

    def done(_order: int, _orders: int) -> None:
        counts.append(_Counting.alarms)
        _Counting.alarms = 0

    _Counting.alarms = 0
    result = replay(
        work.table,
        policy=_Counting,
        cost_weight=work.cost_weight,
        orders=ORDERS,
        seed=SEED,
        prior_error=setup.priors,
        limit=STATIONARY,
        progress=done,
    )
    return {"alarms": counts, "queries": int(result.utility.shape[1])}


def false_alarms(on: Sequence[Workload]) -> list[Row]:
    """Return how many changes are seen on streams without one; at most one per 3,000 is allowed."""
    rows: list[Row] = []
    for work in on:
        for setup in (PLAIN, BARE):
            parts = [
                "alarms",
                work.digest,
                code(LEARNING),
                code(JUDGING),
                f"{setup} {ORDERS} {SEED}",
            ]
            key = blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
            kept = keep(key, lambda work=work, setup=setup: _alarms(work, setup))  # type: ignore[misc]
            counts = kept["alarms"]
            rows.append(
                {
                    "workload": work.title,
                    "set-up": setup.title,
                    "queries": kept["queries"],
                    "orders": len(counts),
                    "alarms in all": sum(counts),
                    "most in one order": max(counts),
                    "at most 1": "yes" if max(counts) <= 1 else "no",
                }
            )
    return rows
