"""What a replay reached, beside the best single model and the best static mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.evaluation.arguments import whole

Floats = NDArray[np.float64]


class Mean(NamedTuple):
    """A mean over the orders, with its standard error: NaN where there is one order."""

    mean: float
    se: float

    def __str__(self) -> str:
        """Show both, and a dash for an error that nobody knows."""
        error = "—" if math.isnan(self.se) else f"{self.se:.4f}"
        return f"{self.mean:.4f} ± {error}"


class Fixed(NamedTuple):
    """What one fixed model would have reached in the same streams; known only in hindsight."""

    model: str
    quality: float
    cost_usd: float
    utility: float


class Mix(NamedTuple):
    """The best blind mix of two fixed models that costs as much, in the same streams."""

    shares: dict[str, float]  # by model
    quality: float
    cost_usd: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayResult:
    """What a policy reached, beside the best single model and the best static mix.

    Those are judged on all rows of the streams, those beyond a `limit` as well: without what was
    calibrated on, and with what a drift made of the answers.
    """

    policy: str
    models: tuple[str, ...]
    utility: Floats  # (orders, steps), of each decision
    regret: Floats  # (orders, steps), of the best single model, paired, not summed
    chosen: NDArray[np.intp]  # (orders, steps)
    groups: NDArray[np.str_] | None  # (orders, steps), of the table's `groups`
    quality: Mean
    cost_usd: Mean
    alone: tuple[Fixed, ...]  # each model
    static_mix: Mix

    @property
    def best_single(self) -> Fixed:
        """Return the model that would have reached most alone."""
        return max(self.alone, key=lambda fixed: fixed.utility)

    @property
    def queries(self) -> int:
        """Return how many queries each order routed."""
        return int(self.utility.shape[1])

    def utility_at(self, t: int) -> Mean:
        """Return the mean utility of the first t queries, of which there must be as many."""
        return mean_of(self.utility[:, : self._first(t)].mean(axis=1))

    def regret_at(self, t: int) -> Mean:
        """Return what the best single model would have gained more in the first t queries."""
        return mean_of(self.regret[:, : self._first(t)].sum(axis=1))

    def utility_between(self, start: int, stop: int) -> Mean:
        """Return the mean utility of the queries from `start` (the first is 0) up to `stop`."""
        first = whole(start, "start", low=0, high=self.queries - 1)
        last = whole(stop, "stop", low=first + 1, high=self.queries)
        return mean_of(self.utility[:, first:last].mean(axis=1))

    def _first(self, t: int) -> int:
        return whole(t, "t", low=1, high=self.queries)

    def by_group(self) -> dict[str, Mean]:
        """Return the mean utility of each group's queries."""
        if self.groups is None:
            return {}
        paired = list(zip(self.utility, self.groups, strict=True))
        return {
            str(name): mean_of(np.array([u[g == name].mean() for u, g in paired if name in g]))
            for name in np.unique(self.groups)
        }

    @property
    def share_by_model(self) -> dict[str, float]:
        """Return the share of the queries that each model answered."""
        counts = np.bincount(self.chosen.ravel(), minlength=len(self.models))
        return dict(zip(self.models, (counts / counts.sum()).tolist(), strict=True))

    def summary(self) -> str:
        """Return a few lines for people."""
        n = self.queries
        marks = [t for t in (100, 500, 2000) if t < n] + [n]
        lines = [f"{self.policy}: quality {self.quality}, ${self.cost_usd.mean:.3g} per query"]
        lines += [
            f"  after {t}: utility {self.utility_at(t)}, regret {self.regret_at(t)}" for t in marks
        ]
        best, mix = self.best_single, self.static_mix
        lines.append(
            f"  best single model (in hindsight): {best.model}, utility {best.utility:.4f}, "
            f"quality {best.quality:.4f}, ${best.cost_usd:.3g}"
        )
        lines.append(f"  best static mix at the same cost: quality {mix.quality:.4f}")
        return "\n".join(lines)


def static_mix(
    models: Sequence[str], quality: ArrayLike, cost_usd: ArrayLike, budget_usd: float
) -> Mix:
    """Return the blind mix of at most two models with the greatest quality within the budget."""
    q, c = np.asarray(quality, dtype=np.float64), np.asarray(cost_usd, dtype=np.float64)
    cheapest = int(np.lexsort((-q, c))[0])
    best = Mix({models[cheapest]: 1.0}, float(q[cheapest]), float(c[cheapest]))
    for i in range(len(models)):
        if c[i] <= budget_usd and q[i] > best.quality:
            best = Mix({models[i]: 1.0}, float(q[i]), float(c[i]))
        for j in range(len(models)):
            if c[i] <= budget_usd < c[j]:
                share = float((budget_usd - c[i]) / (c[j] - c[i]))
                mixed = float((1 - share) * q[i] + share * q[j])
                if mixed > best.quality:
                    best = Mix({models[i]: 1 - share, models[j]: share}, mixed, float(budget_usd))
    return best


def mean_of(values: Floats) -> Mean:
    """Return the mean of one number per order, with its standard error."""
    n = values.size
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else math.nan
    return Mean(float(values.mean()), error)


__all__ = ["Fixed", "Mean", "Mix", "ReplayResult", "mean_of", "static_mix"]
