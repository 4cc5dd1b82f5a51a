"""What is learned on: a table, the weight of cost, and what DESIGN §9 wants to see there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b

import numpy as np

from benchmarks.tables import CARRIED, DATA, SHARED, half, package, raw, table
from conduit.evaluation.replay import ReplayTable

MARKS = (100, 500, 2000)  # and the end


@dataclass(frozen=True)
class Workload:
    """One table under one weight of cost."""

    name: str  # of the table
    cost_weight: float
    best_single: float | None = None  # utilities, from DESIGN §9
    supervised: float | None = None
    plain: tuple[float, ...] = ()  # to reach at MARKS
    calibrated: tuple[float, ...] = ()  # likewise, after 300 calibration prompts
    rows: str = "all"  # or "half 0", "half 1"

    @property
    def title(self) -> str:
        """Return how the workload is called in tables."""
        return f"{self.name} λ={self.cost_weight:g}"

    @cached_property
    def table(self) -> ReplayTable:
        """Return the table."""
        if self.rows == "all":
            return table(self.name)
        return table(self.name, rows=half(raw(self.name).ids, int(self.rows[-1])))

    @cached_property
    def digest(self) -> str:
        """Return a hash of everything that a learner is told here, and is judged by."""
        found = self.table
        content = blake2b(digest_size=12)
        prices = [(a.id, a.input_usd_per_mtok, a.output_usd_per_mtok) for a in found.models]
        content.update(json.dumps([prices, self.cost_weight]).encode())
        for array in (found.quality, found.cost_usd, found.input_tokens, found.output_tokens):
            content.update(b"" if array is None else np.asarray(array).tobytes())
        content.update(np.ascontiguousarray(found.vectors).tobytes())
        return content.hexdigest()

    def target(self, mark: int, calibration: int) -> float | None:
        """Return the utility to reach after so many queries."""
        wanted = self.calibrated if calibration else self.plain
        return wanted[MARKS.index(mark)] if wanted and mark in MARKS else None


_SHARED = (
    Workload("mmlu_pro", 0.1, 0.640, 0.647, (0.618, 0.625, 0.625), (0.639, 0.634, 0.628)),
    Workload("llmrouter9", 0.0, 0.640, 0.673, (0.598, 0.630, 0.640), (0.641, 0.660, 0.664)),
    Workload("llmrouter9", 0.1, 0.559, 0.623, (0.534, 0.562, 0.573), (0.577, 0.607, 0.611)),
    Workload("llmrouter9", 0.25, 0.526, 0.589, (0.504, 0.532, 0.549), (0.544, 0.570, 0.576)),
    Workload("routellm", 0.13, 0.681, 0.710, (0.669, 0.682, 0.696), (0.684, 0.689, 0.697)),
    Workload("routellm", 0.25, 0.664, 0.678, (0.621, 0.647, 0.654), (0.646, 0.653, 0.660)),
    Workload("paretobandit_k4", 0.02, 0.9255, 0.929, (0.920, 0.923, 0.923), (0.926, 0.927, 0.927)),
)
_CARRIED = tuple(Workload(name, 0.02) for name in CARRIED)


@cache
def workloads() -> tuple[Workload, ...]:
    """Return those whose tables are here."""
    shared = _SHARED if all((DATA / n).exists() for n in ("mmlu_pro", "llmrouter9")) else ()
    return shared + (_CARRIED if package() is not None else ())


@cache
def to_tune_on() -> tuple[Workload, ...]:
    """Return half 0 of one workload per shared table."""
    chosen = [next(w for w in _SHARED if w.name == name) for name in SHARED]
    weights = {"llmrouter9": 0.1}
    return tuple(
        Workload(w.name, weights.get(w.name, w.cost_weight), rows="half 0") for w in chosen
    )


Progress = Callable[[str], None]
