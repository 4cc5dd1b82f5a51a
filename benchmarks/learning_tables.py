"""The comparison as tables: beside the best peer, and all in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import BARE, CALIBRATED, PLAIN, Cell, Found, Setup, paired, shown
from benchmarks.workloads import MARKS, Workload

Row = dict[str, Any]
END: int | None = None
SETUPS = (PLAIN, BARE, CALIBRATED)
# Where regret must be below every peer's, and where it may be above by two standard errors.
BELOW = ("llmrouter9", "routellm")
NEAR = ("paretobandit_k4", "paretobandit_val", "paretobandit_test")
TOLERATED_SE = 2.0


def tables(cells: Sequence[Cell], ours: str) -> dict[str, list[Row]]:
    """Return the tables by title; what was not run is left out."""
    board = _Board(cells)
    found = {
        "Regret of the default policy beside the best peer": beside_peers(board, ours),
    }
    for setup in SETUPS:
        for mark in (*MARKS, END):
            when = "at the end" if mark is END else f"after {mark:,} queries"
            found[f"Regret (and utility) {when}, {setup.title}"] = everyone(board, setup, mark)
    return {title: rows for title, rows in found.items() if rows}


class _Board:
    """What is known, by workload, set-up and contestant."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.workloads: list[Workload] = list(dict.fromkeys(cell.workload for cell in cells))
        self.names = list(dict.fromkeys(cell.contestant.name for cell in cells))
        self.peers = {c.contestant.name for c in cells if c.contestant.peer is not None}
        self._found: dict[tuple[str, str, str], Found] = {
            (c.workload.title, c.setup.title, c.contestant.name): c.found() for c in cells
        }

    def get(self, work: Workload, setup: Setup, name: str) -> Found | None:
        return self._found.get((work.title, setup.title, name))


def beside_peers(board: _Board, ours: str) -> list[Row]:
    """Return, per workload, whether our regret is below the best peer's, order by order."""
    rows: list[Row] = []
    for work in board.workloads:
        for setup in SETUPS:
            for mark in (500, 2000):
                row = _beside_best(board, ours, work, setup, mark)
                if row is not None:
                    rows.append(row)
    return rows


def _beside_best(board: _Board, ours: str, work: Workload, setup: Setup, mark: int) -> Row | None:
    found = board.get(work, setup, ours)
    own = _regret(found, mark)
    theirs = {name: _regret(board.get(work, setup, name), mark) for name in sorted(board.peers)}
    known = {name: regret for name, regret in theirs.items() if regret is not None}
    if own is None or not known:
        return None
    best = min(known, key=lambda name: float(known[name].mean()))
    difference, se = paired(own, known[best])
    if work.name in BELOW:
        required, holds = "below every peer", difference < 0
    elif work.name in NEAR:
        required, holds = "at most 2 SE above", difference <= TOLERATED_SE * se
    else:
        required, holds = "", difference < 0
    return {
        "workload": work.title,
        "set-up": setup.title,
        "queries": mark,
        "regret": shown(own, 1),
        "best peer": best,
        "its regret": shown(known[best], 1),
        "difference": f"{difference:+.1f} ± {se:.1f}",
        "required": required,
        "holds": "yes" if holds else "no",
    }


def _regret(found: Found | None, mark: int) -> NDArray[np.float64] | None:
    """Return the regret at a mark; of a table that is shorter, at its end."""
    if found is None:
        return None
    at = found.per_order("regret", mark)
    return found.per_order("regret", END) if at is None and found.steps < mark else at


def everyone(board: _Board, setup: Setup, mark: int | None) -> list[Row]:
    """Return regret and utility of all contestants, one column per workload."""
    rows: list[Row] = []
    for name in board.names:
        row: Row = {"contestant": name}
        for work in board.workloads:
            found = board.get(work, setup, name)
            regret = None if found is None else found.per_order("regret", mark)
            utility = None if found is None else found.per_order("utility", mark)
            if regret is not None and utility is not None:
                row[work.title] = f"{shown(regret, 1, sign=True)} ({utility.mean():.3f})"
        if len(row) > 1:
            rows.append(row)
    return rows


def listed(cells: Iterable[Cell]) -> list[Mapping[str, Any]]:
    """Return every figure of every cell, the mean and its standard error at each mark."""
    rows: list[Mapping[str, Any]] = []
    for cell in cells:
        kept = cell.found().kept
        read = {what: [_rounded(np.array(v)) for v in kept[what]] for what in ("utility", "regret")}
        rows.append(
            {
                "contestant": cell.contestant.name,
                "workload": cell.workload.title,
                "priors": cell.setup.priors,
                "calibration": cell.setup.calibration,
                "settings": dict(cell.contestant.settings or {}),
                "at": kept["marks"],
                **read,
                "quality": round(kept["quality"], 5),
                "cost_usd": kept["cost_usd"],
                "best_single": kept["best_single"],
                "static_mix_quality": round(kept["static_mix"], 5),
                "key": cell.key,
            }
        )
    return rows


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(number, 5) for number in paired(values, np.zeros_like(values))]
