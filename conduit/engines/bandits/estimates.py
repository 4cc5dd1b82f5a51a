"""What is believed of every arm, as sums: means per arm, or a Bayesian ridge over the vector.

All learned state is additive: replicas, restarts and replays that saw the same outcomes agree,
whatever the order. Priors stand apart from the sums, so merging never counts them twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit.engines.bandits.base import (
    LATENCY,
    OUTPUTS,
    QUALITY,
    SCALE_OBSERVATIONS,
    SPEND,
    UNKNOWN_OBSERVATIONS,
    ArmPrior,
    Arrays,
    Floats,
    Prediction,
    Step,
)

RIDGE = 10.0  # prior observations behind "this feature does not matter" (benchmarks/learning.py)
FOLD_EVERY = 32  # updates of a row that are added to A in one product
REFRESH_EVERY = 1000  # updates of a row between exact inversions
SHARE_EVERY = 200  # updates of all rows between solutions of the shared shift
SHARED_RIDGE = 40.0  # prior precision of the shared shift, per feature
SHARED_BIAS_RIDGE = 40.0  # and of its bias: published scores are off by about 0.05 together
UNKNOWN_QUALITY = 0.5  # of a pool in which no model has a score
UNKNOWN_QUALITY_OBSERVATIONS = 2.0
LEAST_WEIGHT = 1e-9  # of ratings behind the average query: less is rounding
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


class _Sums:
    """The bookkeeping that both kinds of estimates share: rows, counts, squares, priors."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._priors = _Priors([])
        self.n = np.zeros((0, OUTPUTS))  # weight of the outcomes
        self.total = np.zeros((0, OUTPUTS))  # weight × value
        self.square = np.zeros((0, OUTPUTS))  # weight × value²
        self.prior_keep = np.ones(0)  # what change detection left of each row's prior

    @property
    def rows(self) -> int:
        return self.n.shape[0]

    def _grow(self, prior: ArmPrior) -> None:
        self._priors.rows.append(prior)
        zero = np.zeros((1, OUTPUTS))
        self.n, self.total, self.square = (
            np.vstack([a, zero]) for a in (self.n, self.total, self.square)
        )
        self.prior_keep = np.append(self.prior_keep, 1.0)

    def _shrink(self, row: int) -> None:
        del self._priors.rows[row]
        self.n, self.total, self.square = (
            np.delete(a, row, axis=0) for a in (self.n, self.total, self.square)
        )
        self.prior_keep = np.delete(self.prior_keep, row)

    def _count(self, row: int, step: Step) -> None:
        self.n[row] += step.weight
        self.total[row] += step.value
        self.square[row] += step.square

    def pulls(self) -> Floats:
        """Return the weight of the outcomes behind each row's quality."""
        return self.n[:, QUALITY]

    def noise(self) -> Floats:
        """Return (rows, outputs) the standard deviation of one observation about its row's mean."""
        n = np.maximum(self.n, 1e-12)
        variance = np.maximum(self.square / n - (self.total / n) ** 2, 0.0)
        pooled = np.maximum(self.square.sum(0) - self.total.sum(0) ** 2 / n.sum(0), 0.0) / n.sum(0)
        pooled[QUALITY] = pooled[QUALITY] if self.n[:, QUALITY].sum() >= 2 else DEFAULT_NOISE**2
        blend = self.n / (self.n + 10.0)
        return np.asarray(np.sqrt(blend * variance + (1.0 - blend) * pooled))


class ArmMeans(_Sums):
    """A mean per arm and output, blind to the query."""

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm."""
        self._grow(prior)
        self._refresh()

    def remove_row(self, row: int) -> None:
        """Drop an arm; later rows move up."""
        self._shrink(row)
        self._refresh()

    def _refresh(self) -> None:
        self._mean0, self._n0 = self._priors.arrays()

    def predict(self, x: Floats) -> Prediction:
        """Return the same expectation for every query."""
        n0 = self._kept()
        strength = n0 + self.n
        mean = (n0 * self._mean0 + self.total) / strength
        lever = 1.0 / strength
        q, s, t = mean.T
        return Prediction(q, s, t, s, t, lever[:, 0])

    def leverages(self, x: Floats) -> Floats:
        """Return (outputs, rows) the variance of each estimate in units of one observation's."""
        return np.asarray(1.0 / (self._kept() + self.n).T)

    def _kept(self) -> Floats:
        """Return the prior's observations, of quality what change detection left of them."""
        n0 = self._n0.copy()
        n0[:, QUALITY] *= self.prior_keep
        return n0

    def update(self, row: int, x: Floats, step: Step) -> None:
        """Add one outcome."""
        self._count(row, step)

    def update_many(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        """Add many outcomes of one arm: x (n, d), weight and value (n, outputs)."""
        self._count(row, _summed(weight, value))

    def expected_quality(self, row: int, x: Floats) -> float:
        """Return the quality expected of one row."""
        n0 = self._n0[row, QUALITY] * self.prior_keep[row]
        return float(
            (n0 * self._mean0[row, QUALITY] + self.total[row, QUALITY])
            / (n0 + self.n[row, QUALITY])
        )

    def settle(self) -> None:
        """Have nothing to work out."""

    def discount(self, row: int, keep: float) -> None:
        """Keep only a part of the evidence about quality, the prior's too."""
        for sums in (self.n, self.total, self.square):
            sums[row, QUALITY] *= keep
        self.prior_keep[row] *= keep

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the sums of a row."""
        return {
            "sums": np.stack([self.n[row], self.total[row], self.square[row]]),
            "keep": np.log(self.prior_keep[row : row + 1]),
        }

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:
        """Add dumped sums to a row; without `spend`, all but what the arm spends."""
        self._count(row, _loaded(sums, spend))
        self.prior_keep[row] *= float(np.exp(sums["keep"][0]))

    def dump_shared(self) -> dict[str, NDArray[Any]]:
        """Return nothing: means share nothing."""
        return {}

    def load_shared(self, sums: Arrays) -> None:
        """Add nothing."""

    def dump_local(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_local(self, local: Mapping[str, Any]) -> None:
        """Take nothing."""


def _loaded(sums: Arrays, spend: bool) -> Step:
    counts = np.array(sums["sums"])
    if not spend:
        counts[:, SPEND] = 0.0
    return Step(*counts)


def _summed(weight: Floats, value: Floats) -> Step:
    return Step(weight.sum(0), (weight * value).sum(0), (weight * value * value).sum(0))


class RidgeArms(_Sums):
    """A Bayesian linear regression per arm and output over the query's vector.

    Row r and output o hold A = Σ w·xxᵀ and b = Σ w·y·x. With the prior precision Λ (on the bias:
    the prior's observations; on the rest: `ridge`) and the prior mean m, the posterior mean is
    (A+Λ)⁻¹(b+Λm). The inverse is kept by Sherman-Morrison and renewed exactly every 1,000 updates.

    With `share`, each arm's weights are prior + a shift δ common to all arms + its own; δ is the
    closed-form posterior mean given all sums, renewed every 200 updates.
    """

    def __init__(self, dim: int, *, ridge: float = RIDGE, share: bool = True) -> None:
        """Start without rows."""
        super().__init__(dim)
        self.ridge = ridge
        self.share = share
        self.A = np.zeros((OUTPUTS, 0, dim, dim))
        self.b = np.zeros((OUTPUTS, 0, dim))
        self.inverse = np.zeros((OUTPUTS, 0, dim, dim))
        self.W = np.zeros((OUTPUTS, 0, dim))
        self.shift = np.zeros(dim)  # δ, of quality
        self.x_sum = np.zeros(dim)
        self.x_count = 0.0
        self._age: list[int] = []
        self._since_share = 0
        self._scratch = np.empty((OUTPUTS, dim, dim))
        self._pair = np.zeros((dim, 2))  # this query, and the average one
        self._pair[0, 1] = 1.0
        self._late_x = np.zeros((0, FOLD_EVERY, dim))  # what is in the inverse but not yet in A
        self._late_w = np.zeros((0, FOLD_EVERY, OUTPUTS))
        self._late: list[int] = []

    # rows ----------------------------------------------------------------------------------

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm."""
        self._grow(prior)
        d = self.dim
        self.A = np.concatenate([self.A, np.zeros((OUTPUTS, 1, d, d))], axis=1)
        self.b = np.concatenate([self.b, np.zeros((OUTPUTS, 1, d))], axis=1)
        self._age.append(0)
        self._late.append(0)
        self._late_x = np.concatenate([self._late_x, np.zeros((1, FOLD_EVERY, d))])
        self._late_w = np.concatenate([self._late_w, np.zeros((1, FOLD_EVERY, OUTPUTS))])
        self._rebuild()

    def remove_row(self, row: int) -> None:
        """Drop an arm; later rows move up."""
        self._shrink(row)
        self.A, self.b = np.delete(self.A, row, axis=1), np.delete(self.b, row, axis=1)
        self._late_x = np.delete(self._late_x, row, axis=0)
        self._late_w = np.delete(self._late_w, row, axis=0)
        del self._age[row], self._late[row]
        self._rebuild()

    def _rebuild(self) -> None:
        self._mean0, self._n0 = self._priors.arrays()
        self.inverse = np.empty_like(self.A)
        self.W = np.empty_like(self.b)
        for row in range(self.rows):
            self._renew(row)
        self._solve_weights()

    def _precision(self, row: int) -> Floats:
        """Return the (outputs, dim) diagonal of the prior precision of one row."""
        diagonal = np.full((OUTPUTS, self.dim), float(self.ridge))
        diagonal[SPEND:] = np.where(self._n0[row, SPEND:, None] < 1.0, 1.0, SCALE_OBSERVATIONS)
        diagonal[:, 0] = self._n0[row]
        diagonal[QUALITY, 0] *= self.prior_keep[row]
        return diagonal

    def _prior_term(self, row: int) -> Floats:
        """Return (outputs, dim) Λm, with the shared shift in m."""
        mean = np.zeros((OUTPUTS, self.dim))
        mean[:, 0] = self._mean0[row]
        mean[QUALITY] += self.shift
        return self._precision(row) * mean

    def _fold(self, row: int) -> None:
        """Bring A up to date."""
        n = self._late[row]
        if n:
            x, w = self._late_x[row, :n], self._late_w[row, :n]
            self.A[:, row] += np.matmul((w.T[:, :, None] * x).transpose(0, 2, 1), x)
            self._late[row] = 0

    def _renew(self, row: int) -> None:
        self._fold(row)
        total = self.A[:, row].copy()
        index = np.arange(self.dim)
        total[:, index, index] += self._precision(row)
        inverse = np.linalg.inv(total)
        self.inverse[:, row] = 0.5 * (inverse + inverse.transpose(0, 2, 1))
        self._age[row] = 0

    def _solve_weights(self) -> None:
        if not self.rows:
            self._prior_b = np.zeros_like(self.b)
            return
        self._prior_b = np.stack([self._prior_term(r) for r in range(self.rows)], axis=1)
        self.W = np.matmul(self.inverse, (self.b + self._prior_b)[..., None])[..., 0]

    # prediction ----------------------------------------------------------------------------

    def predict(self, x: Floats) -> Prediction:
        """Return the expectation and its leverage for every row."""
        k, d = self.rows, self.dim
        self._pair[:, 0] = x
        both = self.W.reshape(OUTPUTS * k, d) @ self._pair
        lever = (self.inverse[QUALITY].reshape(k * d, d) @ x).reshape(k, d) @ x
        scales = both[k:]
        np.maximum(scales, 0.0, out=scales)  # nothing costs or takes less than nothing
        return Prediction(
            both[:k, 0], scales[:k, 0], scales[k:, 0], scales[:k, 1], scales[k:, 1], lever
        )

    def leverages(self, x: Floats) -> Floats:
        """Return (outputs, rows) the variance of each estimate in units of one observation's."""
        return np.asarray(np.einsum("d,okde,e->ok", x, self.inverse, x))

    def expected_quality(self, row: int, x: Floats) -> float:
        """Return the quality expected of one row."""
        return float(self.W[QUALITY, row] @ x)

    # learning ------------------------------------------------------------------------------

    def update(self, row: int, x: Floats, step: Step) -> None:
        """Add one outcome (or the difference that a revision makes) in O(d²)."""
        w = step.weight
        self._count(row, step)
        rated = w[QUALITY]
        if rated:
            self._add_x(rated * x, rated)
        b = self.b[:, row]
        b += step.value[:, None] * x
        self._rank_one(row, x, w)
        target = b + self._prior_b[:, row]
        self.W[:, row] = np.matmul(self.inverse[:, row], target[:, :, None])[:, :, 0]
        self._since_share += 1
        if self.share and self._since_share >= SHARE_EVERY:
            self.solve_shift()

    def _rank_one(self, row: int, x: Floats, w: Floats) -> None:
        late = self._late[row]
        self._late_x[row, late], self._late_w[row, late] = x, w
        self._late[row] = late + 1
        if late + 1 == FOLD_EVERY:
            self._fold(row)
        inverse = self.inverse[:, row]
        v = inverse @ x
        denominator = 1.0 + w * (v @ x)
        self._age[row] += 1
        if self._age[row] >= REFRESH_EVERY or min(denominator.tolist()) < 0.1:
            self._renew(row)
            return
        v_scaled = v * (w / denominator)[:, None]
        np.multiply(v_scaled[:, :, None], v[:, None, :], out=self._scratch)
        np.subtract(inverse, self._scratch, out=inverse)

    def update_many(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        """Add many outcomes of one arm at once: x (n, d), weight and value (n, outputs)."""
        self._count(row, _summed(weight, value))
        self._add_x(weight[:, QUALITY] @ x, float(weight[:, QUALITY].sum()))
        for o in range(OUTPUTS):
            weighted = x * weight[:, o, None]
            self.A[o, row] += weighted.T @ x
            self.b[o, row] += weighted.T @ value[:, o]
        self._renew(row)
        self._solve_weights()
        self._since_share = SHARE_EVERY  # the next update, or `settle`, solves the shift anew

    def _add_x(self, total: Floats, count: float) -> None:
        self.x_sum += total
        self.x_count += count
        if self.x_count > LEAST_WEIGHT:
            np.divide(self.x_sum, self.x_count, out=self._pair[:, 1])
        else:  # all of it was taken back
            self._pair[:, 1] = np.eye(self.dim)[0]

    def settle(self) -> None:
        """Solve the shared shift now, after many outcomes came at once."""
        if self.share and self.rows:
            self.solve_shift()

    def solve_shift(self) -> None:
        """Set δ to its posterior mean given the sums of all arms, and the weights that follow."""
        self._since_share = 0
        ridge = np.full(self.dim, SHARED_RIDGE)
        ridge[0] = SHARED_BIAS_RIDGE
        precision, pull = np.diag(ridge), np.zeros(self.dim)
        for row in range(self.rows):
            self._fold(row)
            prior = self._precision(row)[QUALITY]
            mean = np.zeros(self.dim)
            mean[0] = self._mean0[row, QUALITY]
            shrunk = prior[:, None] * self.inverse[QUALITY, row]  # Λ(A+Λ)⁻¹
            precision += shrunk @ self.A[QUALITY, row]
            pull += shrunk @ (self.b[QUALITY, row] - self.A[QUALITY, row] @ mean)
        self.shift = np.asarray(np.linalg.solve(precision, pull), dtype=np.float64)
        self._solve_weights()

    def discount(self, row: int, keep: float) -> None:
        """Keep only a part of the evidence about one arm's quality, the prior's bias too."""
        for sums in (self.n, self.total, self.square):
            sums[row, QUALITY] *= keep
        self._fold(row)
        self.A[QUALITY, row] *= keep
        self.b[QUALITY, row] *= keep
        self.prior_keep[row] *= keep
        self._renew(row)
        self._solve_weights()

    def residual(self) -> float:
        """Return the greatest |(A+Λ)·inverse − I| over all rows: how far rounding has drifted."""
        worst = 0.0
        for row in range(self.rows):
            self._fold(row)
            total = self.A[:, row].copy()
            index = np.arange(self.dim)
            total[:, index, index] += self._precision(row)
            worst = max(worst, float(np.abs(total @ self.inverse[:, row] - np.eye(self.dim)).max()))
        return worst

    # state ---------------------------------------------------------------------------------

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the sums of a row; of each symmetric matrix only its upper triangle."""
        self._fold(row)
        upper = np.triu_indices(self.dim)
        used = np.asarray(self.A[:, row].any(axis=(1, 2)) | self.b[:, row].any(axis=1))
        return {
            "sums": np.stack([self.n[row], self.total[row], self.square[row]]),
            "keep": np.log(self.prior_keep[row : row + 1]),
            "used": used,
            "A": self.A[used, row][:, upper[0], upper[1]],
            "b": self.b[used, row],
        }

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:
        """Add dumped sums to a row; without `spend`, all but what the arm spends."""
        upper = np.triu_indices(self.dim)
        for place, output in enumerate(np.flatnonzero(sums["used"])):
            if output == SPEND and not spend:
                continue
            matrix = np.zeros((self.dim, self.dim))
            matrix[upper] = sums["A"][place]
            self.A[output, row] += matrix + np.triu(matrix, 1).T
            self.b[output, row] += sums["b"][place]
        self._count(row, _loaded(sums, spend))
        self.prior_keep[row] *= float(np.exp(sums["keep"][0]))
        self._renew(row)
        self._solve_weights()

    def dump_shared(self) -> dict[str, NDArray[Any]]:
        """Return the sum of the vectors seen."""
        return {"x_sum": self.x_sum.copy(), "x_count": np.array([self.x_count])}

    def load_shared(self, sums: Arrays) -> None:
        """Add the sum of the vectors seen."""
        self._add_x(sums["x_sum"], float(sums["x_count"][0]))

    def dump_local(self) -> dict[str, Any]:
        """Return the shift in force and how old it is, so that a restart goes on as it was."""
        return {"shift": self.shift.tolist(), "since_share": self._since_share}

    def load_local(self, local: Mapping[str, Any]) -> None:
        """Go on with the shift that was in force."""
        self.shift = np.array(local["shift"], dtype=np.float64)
        self._since_share = int(local["since_share"])
        if self.rows:
            self._solve_weights()


__all__ = ["LATENCY", "OUTPUTS", "QUALITY", "SPEND", "ArmMeans", "RidgeArms"]
