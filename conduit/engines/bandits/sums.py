"""What is counted of every arm, whatever is made of it: weights, sums, squares, and its prior.

All of it is additive: replicas, restarts and replays that saw the same outcomes agree, whatever the
order. Priors stand apart from the sums, so merging never counts them twice. Sums may be less than
nothing: where only the revision of an outcome was seen, as in one of two halves that are merged
later. Nothing is believed from such sums until they are whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conduit.engines.bandits.base import (
    OUTPUTS,
    QUALITY,
    SCALE_OBSERVATIONS,
    SPEND,
    UNKNOWN_OBSERVATIONS,
    ArmPrior,
    Arrays,
    Floats,
    Step,
)

UNKNOWN_QUALITY = 0.5  # of a pool in which no model has a score
UNKNOWN_QUALITY_OBSERVATIONS = 2.0
NOTHING = np.zeros(())  # the least that an outcome weighs, costs or takes
DEFAULT_NOISE = 0.5  # sd of one rating before any was seen: the widest a number in [0, 1] has


@dataclass(slots=True)
class _Priors:
    """Prior means and weights per row and output, unknown ones filled from the pool."""

    rows: list[ArmPrior]

    def arrays(self) -> tuple[Floats, Floats]:
        """Return (rows, outputs) arrays of prior means and prior observations."""
        columns = [
            _filled([p.quality for p in self.rows], UNKNOWN_QUALITY),
            _own([p.spend for p in self.rows]),  # the units differ: nothing to fill from
            _filled([p.latency_s for p in self.rows], 0.0),
        ]
        mean = np.array([c[0] for c in columns], dtype=np.float64).reshape(OUTPUTS, -1).T
        weight = np.array(
            [
                [p.quality_observations if known else UNKNOWN_QUALITY_OBSERVATIONS
                 for p, known in zip(self.rows, columns[QUALITY][1], strict=True)],
                *([SCALE_OBSERVATIONS if known else UNKNOWN_OBSERVATIONS for known in c[1]]
                  for c in columns[SPEND:]),
            ]
        ).reshape(OUTPUTS, -1).T  # fmt: skip
        return np.ascontiguousarray(mean), np.maximum(weight, UNKNOWN_OBSERVATIONS)


def _filled(values: list[float | None], default: float) -> tuple[list[float], list[bool]]:
    known = [v for v in values if v is not None]
    middle = sum(known) / len(known) if known else default
    return [middle if v is None else v for v in values], [v is not None for v in values]


def _own(values: list[float | None]) -> tuple[list[float], list[bool]]:
    return [v or 0.0 for v in values], [v is not None for v in values]


class Sums:
    """The bookkeeping that both kinds of estimates share: rows, counts, squares, priors."""

    sums: Floats  # (rows, 3, outputs): weight of the outcomes, weight × value, weight × value²
    n: Floats  # parts of it, (rows, outputs) each
    total: Floats
    square: Floats
    _mean0: Floats  # (rows, outputs) means of the priors
    _n0: Floats  # (rows, outputs) observations behind them, what change detection left of them

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._priors = _Priors([])
        self.prior_keep = np.ones(0)  # what change detection left of each row's prior
        self._hold(np.zeros((0, 3, OUTPUTS)))

    @property
    def rows(self) -> int:
        """Return how many arms there are."""
        return len(self.sums)

    def _hold(self, sums: Floats) -> None:
        self.sums = sums
        self.n, self.total, self.square = sums[:, 0], sums[:, 1], sums[:, 2]
        self._pulls = sums[:, 0, QUALITY]
        self._behind: Floats | None = None  # worked out when it is read

    def _grow(self, prior: ArmPrior) -> None:
        self._priors.rows.append(prior)
        self._hold(np.concatenate([self.sums, np.zeros((1, 3, OUTPUTS))]))
        self.prior_keep = np.append(self.prior_keep, 1.0)

    def _shrink(self, row: int) -> None:
        del self._priors.rows[row]
        self._hold(np.delete(self.sums, row, axis=0))
        self.prior_keep = np.delete(self.prior_keep, row)

    def _read_priors(self) -> None:
        self._mean0, self._n0 = self._priors.arrays()
        self._prior_pulls = self._n0[:, QUALITY]
        self._prior_pulls *= self.prior_keep
        self._behind = None

    def _keep_of_prior(self, row: int, keep: float) -> None:
        """Forget a part of what was believed of an arm's quality before any outcome."""
        self.prior_keep[row] *= keep
        self._read_priors()

    def count(self, row: int, step: Step) -> Floats:
        """Add what one outcome, or many, add to an arm; return it as (3, outputs)."""
        added, sums = np.array(step), self.sums[row]
        sums += added
        self._behind = None
        return added

    def pulls(self) -> Floats:
        """Return the weight of the outcomes behind each row's quality."""
        return np.maximum(self._pulls, NOTHING)

    def behind(self) -> Floats:
        """Return the observations behind each row's quality, what is left of the prior's too."""
        if self._behind is None:
            self._behind = np.maximum(self._pulls + self._prior_pulls, UNKNOWN_OBSERVATIONS)
        return self._behind

    def noise(self) -> Floats:
        """Return (rows, outputs) the standard deviation of one observation about its row's mean."""
        n = np.maximum(self.n, 1e-12)
        weight = np.maximum(self.n, NOTHING)
        variance = np.maximum(self.square / n - (self.total / n) ** 2, 0.0)
        pooled = np.maximum(self.square.sum(0) - self.total.sum(0) ** 2 / n.sum(0), 0.0) / n.sum(0)
        pooled[QUALITY] = pooled[QUALITY] if self.n[:, QUALITY].sum() >= 2 else DEFAULT_NOISE**2
        blend = weight / (weight + 10.0)
        return np.asarray(np.sqrt(blend * variance + (1.0 - blend) * pooled))


def loaded(sums: Arrays, spend: bool) -> Step:
    """Return dumped sums as a step; without `spend`, all but what the arm spends."""
    counts = np.array(sums["sums"])
    if not spend:
        counts[:, SPEND] = 0.0
    return Step(*counts)


def summed(weight: Floats, value: Floats) -> Step:
    """Return what many outcomes add: weight and value (n, outputs)."""
    return Step(weight.sum(0), (weight * value).sum(0), (weight * value * value).sum(0))


__all__ = ["NOTHING", "Sums", "loaded", "summed"]
