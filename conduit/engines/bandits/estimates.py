"""What is believed of every arm, as sums: means per arm, or a Bayesian ridge over the vector.

All learned state is additive: replicas, restarts and replays that saw the same outcomes agree,
whatever the order. Priors stand apart from the sums, so merging never counts them twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from conduit.engines.bandits.evidence import (
    ENOUGH,
    RIDGE,
    QualitySums,
    is_positive,
    ridge_of,
    shared,
)
from conduit.engines.bandits.sums import NOTHING, Sums, loaded, summed

FOLD_EVERY = 32  # updates of a row that are added to A in one product
REFRESH_EVERY = 1000  # updates of a row between exact inversions
SHARE_EVERY = 200  # updates of all rows between solutions of the shared shift
SHARED_RIDGE = 40.0  # prior precision of the shared shift, per feature
SHARED_BIAS_RIDGE = 40.0  # and of its bias: published scores are off by about 0.05 together
LEAST_WEIGHT = 1e-9  # of calls behind the average query: less is rounding
LEAST_STRENGTH = 0.5 * UNKNOWN_OBSERVATIONS  # of a prior with its outcomes, if those are whole


class ArmMeans(Sums):
    """A mean per arm and output, blind to the query."""

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm."""
        self._grow(prior)
        self._read_priors()

    def remove_row(self, row: int) -> None:
        """Drop an arm; later rows move up."""
        self._shrink(row)
        self._read_priors()

    def predict(self, x: Floats) -> Prediction:
        """Return the same expectation for every query."""
        strength, told = self._told()
        lever = 1.0 / strength
        outputs = ((self._n0 * self._mean0 + told) / strength).T
        return Prediction(outputs[QUALITY], outputs[SPEND:], outputs[SPEND:], lever[:, QUALITY])

    def leverages(self, x: Floats) -> Floats:
        """Return (outputs, rows) the variance of each estimate in units of one observation's."""
        return np.asarray(1.0 / self._told()[0].T)

    def _told(self) -> tuple[Floats, Floats]:
        """Return (rows, outputs) observations, and the sums to believe: none that are not whole."""
        strength = self._n0 + self.n
        if strength.min(initial=LEAST_STRENGTH) >= LEAST_STRENGTH:
            return strength, self.total
        whole = strength >= LEAST_STRENGTH
        return np.where(whole, strength, self._n0), np.where(whole, self.total, 0.0)

    def update(self, row: int, x: Floats, step: Step) -> float:
        """Add one outcome; return the quality that was expected before."""
        n0, n, total = self._prior_pulls[row], self.n[row, QUALITY], self.total[row, QUALITY]
        if n0 + n < LEAST_STRENGTH:
            n = total = 0.0
        expected = (n0 * self._mean0[row, QUALITY] + total) / (n0 + n)
        self.count(row, step)
        return float(expected)

    def update_many(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        """Add many outcomes of one arm: x (n, d), weight and value (n, outputs)."""
        self.count(row, summed(weight, value))

    def settle(self) -> None:
        """Have nothing to work out."""

    def discount(self, row: int, keep: float) -> None:
        """Keep only a part of the evidence about quality, the prior's too."""
        self.sums[row, :, QUALITY] *= keep
        self._keep_of_prior(row, keep)

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the sums of a row."""
        return {
            "sums": self.sums[row].copy(),
            "keep": np.log(self.prior_keep[row : row + 1]),
        }

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:
        """Add dumped sums to a row; without `spend`, all but what the arm spends."""
        self.count(row, loaded(sums, spend))
        self._keep_of_prior(row, float(np.exp(sums["keep"][0])))

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


class RidgeArms(Sums):
    """A Bayesian linear regression per arm and output over the query's vector.

    Row r and output o hold A = Σ w·xxᵀ and b = Σ w·y·x. With the prior precision Λ (on the bias:
    the prior's observations; on the rest: `ridge`) and the prior mean m, the posterior mean is
    (A+Λ)⁻¹(b+Λm). The inverse is kept by Sherman-Morrison and renewed exactly every 1,000 updates.

    With `share`, each arm's weights are prior + a shift δ common to all arms + its own; δ is the
    closed-form posterior mean given all sums, renewed every 200 updates. The ridge of quality is
    read off the outcomes, whenever they have doubled (`evidence`).
    """

    def __init__(self, dim: int, *, share: bool = True) -> None:
        """Start without rows."""
        super().__init__(dim)
        self.ridge = RIDGE
        self.share = share
        self.A = np.zeros((OUTPUTS, 0, dim, dim))
        self.b = np.zeros((OUTPUTS, 0, dim))
        self._allot()
        self.shift = np.zeros(dim)  # δ, of quality
        self.x_sum = np.zeros((2, dim))  # of the calls whose spend, and whose latency, was measured
        self.x_count = [0.0, 0.0]
        self.rated = 0.0  # weight of the outcomes with a quality, of all arms
        self._age: list[int] = []
        self._whole = np.ones((0, OUTPUTS), dtype=np.bool_)  # sums that are believed
        self._since_share = 0
        self._ridge_at = ENOUGH  # rated outcomes at which the ridge is read again
        self._late: list[list[tuple[Floats, Floats]]] = []  # in the weights, not yet in A and b
        self._change = np.empty((OUTPUTS + OUTPUTS * dim, dim))  # that one outcome makes
        # One column per output; what stands in another's rows stays zero.
        self._factors = np.zeros((OUTPUTS + OUTPUTS * dim, OUTPUTS))
        self._of_weights = np.einsum("oo->o", self._factors[:OUTPUTS])
        blocks = self._factors[OUTPUTS:].reshape(OUTPUTS, dim, OUTPUTS)
        self._of_inverses = np.einsum("oio->oi", blocks)
        self._scale = np.empty((OUTPUTS, 1))  # of what every inverse loses

    # rows ----------------------------------------------------------------------------------

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm."""
        self._grow(prior)
        d = self.dim
        self.A = np.concatenate([self.A, np.zeros((OUTPUTS, 1, d, d))], axis=1)
        self.b = np.concatenate([self.b, np.zeros((OUTPUTS, 1, d))], axis=1)
        self._age.append(0)
        self._late.append([])
        self._whole = np.ones((self.rows, OUTPUTS), dtype=np.bool_)
        self._rebuild()

    def remove_row(self, row: int) -> None:
        """Drop an arm; later rows move up."""
        self._shrink(row)
        self.A, self.b = np.delete(self.A, row, axis=1), np.delete(self.b, row, axis=1)
        del self._age[row], self._late[row]
        self._whole = np.delete(self._whole, row, axis=0)
        self._rebuild()

    def _allot(self) -> None:
        """Lay out what is solved: per arm its weights, then an inverse per output, quality's first.

        So an update writes one arm in one piece. A prediction reads one piece too, the front: a
        copy of quality's inverses, then of the weights, of all arms.
        """
        k, d = self.b.shape[1:]
        self._solved = np.zeros((k, OUTPUTS + OUTPUTS * d, d))
        self.W = self._solved[:, :OUTPUTS].transpose(1, 0, 2)
        self.inverse = self._solved[:, OUTPUTS:].reshape(k, OUTPUTS, d, d).transpose(1, 0, 2, 3)
        self._split = k * d
        self._front = np.zeros((k * d + OUTPUTS * k, d))
        self._front_inverse = self._front[: k * d].reshape(k, d, d)
        self._front_weights = self._front[k * d :].reshape(OUTPUTS, k, d)
        self._stale = set(range(k))  # rows that changed since they were copied
        self._mean_costs: Floats | None = None  # of an average query; None once anything changed

    def _rebuild(self) -> None:
        self._read_priors()
        self._allot()
        for row in range(self.rows):
            self._renew(row)
        self._solve_weights()

    def _precision(self, row: int) -> Floats:
        """Return the (outputs, dim) diagonal of the prior precision of one row."""
        diagonal = np.full((OUTPUTS, self.dim), self.ridge)
        diagonal[SPEND:] = np.where(self._n0[row, SPEND:, None] < 1.0, 1.0, SCALE_OBSERVATIONS)
        diagonal[:, 0] = self._n0[row]
        return diagonal

    def _prior_term(self, row: int) -> Floats:
        """Return (outputs, dim) Λm, with the shared shift in m."""
        mean = np.zeros((OUTPUTS, self.dim))
        mean[:, 0] = self._mean0[row]
        mean[QUALITY] += self.shift
        return self._precision(row) * mean

    def _fold(self, row: int) -> None:
        """Bring A and b up to date."""
        late = self._late[row]
        if late:
            x, step = np.array([x for x, _ in late]), np.array([step for _, step in late])
            weight, value = step[:, 0].T, step[:, 1].T
            self.A[:, row] += np.matmul((weight[:, :, None] * x).transpose(0, 2, 1), x)
            self.b[:, row] += value @ x
            late.clear()

    def _renew(self, row: int) -> None:
        """Invert exactly; where sums are not whole, the prior alone, until they are."""
        precision = self._precision(row)
        total = self._total(row, precision)
        whole = np.array([is_positive(matrix, LEAST_STRENGTH) for matrix in total])
        for o in np.flatnonzero(~whole):
            total[o] = np.diag(precision[o])
        inverse = np.linalg.inv(total)
        self.inverse[:, row] = 0.5 * (inverse + inverse.transpose(0, 2, 1))
        self._whole[row] = whole
        self._age[row] = 0 if whole.all() else REFRESH_EVERY  # the next outcome may complete them

    def _total(self, row: int, precision: Floats) -> Floats:
        """Return (outputs, d, d) A + Λ of one row."""
        self._fold(row)
        total = self.A[:, row].copy()
        index = np.arange(self.dim)
        total[:, index, index] += precision
        return total

    def _solve_weights(self) -> None:
        for row in range(self.rows):
            self._solve_row(row)

    def _solve_row(self, row: int) -> None:
        self._fold(row)
        target = self.b[:, row] * self._whole[row, :, None] + self._prior_term(row)
        self.W[:, row] = np.matmul(self.inverse[:, row], target[:, :, None])[:, :, 0]
        self._stale.add(row)
        self._mean_costs = None

    # prediction ----------------------------------------------------------------------------

    def predict(self, x: Floats) -> Prediction:
        """Return the expectation and its leverage for every row."""
        mean_costs = self._refreshed() if self._mean_costs is None else self._mean_costs
        product, split = self._front.dot(x), self._split
        outputs = product[split:].reshape(OUTPUTS, -1)
        lever = product[:split].reshape(-1, self.dim).dot(x)
        costs = np.maximum(outputs[SPEND:], NOTHING)
        return Prediction(outputs[QUALITY].copy(), costs, mean_costs, lever)

    def _refreshed(self) -> Floats:
        """Bring the front up to date, and return what it expects an average query to cost."""
        for row in self._stale:
            solved = self._solved[row]
            self._front_inverse[row] = solved[OUTPUTS : OUTPUTS + self.dim]
            self._front_weights[:, row] = solved[:OUTPUTS]
        self._stale.clear()
        weights = self._front_weights[SPEND:]
        costs = np.stack([w.dot(x) for w, x in zip(weights, self._average_x(), strict=True)])
        self._mean_costs = np.maximum(costs, NOTHING)
        return self._mean_costs

    def _average_x(self) -> Floats:
        """Return (2, d) the mean vector of the calls whose spend, and whose latency, is known."""
        average = np.zeros((2, self.dim))
        for o, count in enumerate(self.x_count):
            if count > LEAST_WEIGHT:
                average[o] = self.x_sum[o] / count
            else:  # none is, or all of it was taken back
                average[o, 0] = 1.0
        return average

    def leverages(self, x: Floats) -> Floats:
        """Return (outputs, rows) the variance of each estimate in units of one observation's."""
        return np.asarray(np.einsum("d,okde,e->ok", x, self.inverse, x))

    # learning ------------------------------------------------------------------------------

    def update(self, row: int, x: Floats, step: Step) -> float:
        """Add one outcome (or the difference that a revision makes) in O(d²); x is kept.

        Returns the quality that was expected before.
        """
        product, late = self._solved[row].dot(x), self._late[row]
        late.append((x, self.count(row, step)))
        rated, spent, timed = step.weight
        self.rated += rated
        if spent or timed:
            self._add_x(x, spent, timed)
        self._age[row] += 1
        if self._age[row] >= REFRESH_EVERY or not self._rank_one(row, x, step, product):
            self._renew(row)
            self._solve_row(row)
        elif len(late) == FOLD_EVERY:
            self._fold(row)
        self._stale.add(row)
        self._mean_costs = None
        self._since_share += 1
        if self.rated >= self._ridge_at:
            self.solve_ridge()
        elif self.share and self._since_share >= SHARE_EVERY:
            self.solve_shift()
        return float(product[QUALITY])

    def _rank_one(self, row: int, x: Floats, step: Step, product: Floats) -> bool:
        """Put one outcome into an arm's weights and inverses; False where rounding spoils them.

        With v = A⁻¹x and d = 1 + w·vᵀx, the weights W gain v·(w·y − w·Wᵀx)/d, and A⁻¹ loses
        v·vᵀ·w/d: the rows of what is solved, one column of factors per output. Their product with
        x is Wᵀx and v of every output.
        """
        solved, v = self._solved[row], product[OUTPUTS:].reshape(OUTPUTS, self.dim)
        expected, spread = product[:OUTPUTS].tolist(), v.dot(x).tolist()
        for o in range(OUTPUTS):
            w = step.weight[o]
            d = 1.0 + w * spread[o]
            if d < 0.1:
                return False
            self._of_weights[o] = (w * expected[o] - step.value[o]) / d
            self._scale[o, 0] = w / d
        np.multiply(v, self._scale, out=self._of_inverses)
        np.subtract(solved, self._factors.dot(v, out=self._change), out=solved)
        return True

    def update_many(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        """Add many outcomes of one arm at once: x (n, d), weight and value (n, outputs)."""
        self.count(row, summed(weight, value))
        self.rated += float(weight[:, QUALITY].sum())
        self._add_calls(weight[:, SPEND:].T @ x, weight[:, SPEND:].sum(axis=0).tolist())
        self._fold(row)
        for o in range(OUTPUTS):
            weighted = x * weight[:, o, None]
            self.A[o, row] += weighted.T @ x
            self.b[o, row] += weighted.T @ value[:, o]
        self._renew(row)
        self._solve_weights()
        self._since_share = SHARE_EVERY  # the next update, or `settle`, solves the shift anew

    def _add_x(self, x: Floats, spent: float, timed: float) -> None:
        total, count = self.x_sum, self.x_count
        if spent == 1.0 and timed == 1.0:
            total += x
        else:
            total[0] += spent * x
            total[1] += timed * x
        count[0] += spent
        count[1] += timed

    def _add_calls(self, total: Floats, counts: Sequence[float]) -> None:
        """Add the vectors of many calls, and how many there were, per measurement."""
        self.x_sum += total
        self.x_count = [a + b for a, b in zip(self.x_count, counts, strict=True)]

    def settle(self) -> None:
        """Solve the ridge and the shared shift now, after many outcomes came at once."""
        if self.rows:
            self.solve_ridge()

    def solve_ridge(self) -> None:
        """Set the ridge to what the sums of all arms speak for, and the shift that follows."""
        self._ridge_at = max(2.0 * self.rated, ENOUGH)
        self.ridge = ridge_of(self._told(), self._over() if self.share else None)
        for row in range(self.rows):
            self._renew(row)
        if self.share:
            self.solve_shift()
        else:
            self._solve_weights()

    def solve_shift(self) -> None:
        """Set δ to its posterior mean given the sums of all arms, and the weights that follow."""
        self._since_share = 0
        told = self._told()
        prior = np.array([self._precision(row)[QUALITY] for row in range(self.rows)])
        precision, pull = shared(told, prior, self.inverse[QUALITY], self._over())
        self.shift = np.asarray(np.linalg.solve(precision, pull), dtype=np.float64)
        self._solve_weights()

    def _told(self) -> QualitySums:
        """Return what was told of quality, up to date."""
        for row in range(self.rows):
            self._fold(row)
        n, _, square = self.sums[:, :, QUALITY].T
        A, b, whole = self.A[QUALITY], self.b[QUALITY], self._whole[:, QUALITY]
        if not whole.all():
            n, square = n * whole, square * whole
            A, b = A * whole[:, None, None], b * whole[:, None]
        return QualitySums(A, b, n, square, self._mean0[:, QUALITY], self._n0[:, QUALITY])

    def _over(self) -> Floats:
        """Return the diagonal of the shared shift's prior precision."""
        over = np.full(self.dim, SHARED_RIDGE)
        over[0] = SHARED_BIAS_RIDGE
        return over

    def discount(self, row: int, keep: float) -> None:
        """Keep only a part of the evidence about one arm's quality, the prior's bias too."""
        self.sums[row, :, QUALITY] *= keep
        self._fold(row)
        self.A[QUALITY, row] *= keep
        self.b[QUALITY, row] *= keep
        self._keep_of_prior(row, keep)
        self._renew(row)
        self._solve_weights()

    def residual(self) -> float:
        """Return the greatest |(A+Λ)·inverse − I| over all rows: how far rounding has drifted."""
        worst = 0.0
        for row in range(self.rows):
            total = self._total(row, self._precision(row))
            worst = max(worst, float(np.abs(total @ self.inverse[:, row] - np.eye(self.dim)).max()))
        return worst

    # state ---------------------------------------------------------------------------------

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the sums of a row; of each symmetric matrix only its upper triangle."""
        self._fold(row)
        upper = np.triu_indices(self.dim)
        used = np.asarray(self.A[:, row].any(axis=(1, 2)) | self.b[:, row].any(axis=1))
        return {
            "sums": self.sums[row].copy(),
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
        self.count(row, loaded(sums, spend))
        self._keep_of_prior(row, float(np.exp(sums["keep"][0])))
        self._renew(row)
        self._solve_weights()

    def dump_shared(self) -> dict[str, NDArray[Any]]:
        """Return the sums over the calls of all arms, of those that are gone too."""
        counts = np.array([*self.x_count, self.rated])
        return {"x_sum": self.x_sum.copy(), "counts": counts}

    def load_shared(self, sums: Arrays) -> None:
        """Add the sums over the calls of all arms."""
        *counts, rated = sums["counts"].tolist()
        self._add_calls(sums["x_sum"], counts)
        self.rated += rated
        self._mean_costs = None

    def dump_local(self) -> dict[str, Any]:
        """Return what is renewed now and then, and how old it is: a restart goes on as it was."""
        return {
            "shift": self.shift.tolist(),
            "since_share": self._since_share,
            "ridge": self.ridge,
            "ridge_at": self._ridge_at,
        }

    def load_local(self, local: Mapping[str, Any]) -> None:
        """Go on with the shift and the ridge that were in force."""
        self.shift = np.array(local["shift"], dtype=np.float64)
        self._since_share = int(local["since_share"])
        self.ridge = float(local.get("ridge", RIDGE))
        self._ridge_at = float(local.get("ridge_at", ENOUGH))
        for row in range(self.rows):
            self._renew(row)
            self._solve_row(row)


__all__ = ["LATENCY", "OUTPUTS", "QUALITY", "SPEND", "ArmMeans", "RidgeArms"]
