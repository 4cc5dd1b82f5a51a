"""How much the numbers of a query matter, read off the outcomes: the ridge by marginal likelihood.

Where models differ by kind of query, a small ridge learns it; where they do not, a large one keeps
chance out of the estimates, and exploration away from what is not there to be found.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 10.0  # observations behind "this feature does not matter", at least (decision 11)
RIDGES = RIDGE * np.sqrt(2.0) ** np.arange(8)  # that are tried, to 113
SPREAD = 0.5  # sd of the logarithm of the ridge about RIDGE, before any outcome
ENOUGH = 100.0  # rated outcomes: fewer say nothing of it
LEAST_VARIANCE = 1e-4  # of what is left unexplained per outcome: its logarithm stays finite


class QualitySums(NamedTuple):
    """What was seen of every arm's quality, and what was believed before."""

    A: Floats  # (rows, d, d): Σ w·xxᵀ
    b: Floats  # (rows, d): Σ w·y·x
    n: Floats  # (rows,): Σ w
    square: Floats  # (rows,): Σ w·y²
    mean0: Floats  # (rows,): the prior's mean
    n0: Floats  # (rows,): the observations behind it

    @property
    def rest(self) -> Floats:
        """Return b − A·m: what the prior's mean leaves to explain."""
        return np.asarray(self.b - self.A[:, :, 0] * self.mean0[:, None])


def shared(
    sums: QualitySums, prior: Floats, inverse: Floats, over: Floats
) -> tuple[Floats, Floats]:
    """Return the precision (d, d) and the pull (d,) of the shift that all arms share.

    With Λ = `prior` (rows, d) and A⁻¹ = `inverse`, each arm adds Λ(A+Λ)⁻¹A and Λ(A+Λ)⁻¹(b − A·m);
    `over` is the diagonal of the shift's own prior precision.
    """
    shrunk = prior[:, :, None] * inverse
    precision = np.diag(over) + np.matmul(shrunk, sums.A).sum(axis=0)
    pull = np.matmul(shrunk, sums.rest[:, :, None]).sum(axis=0)[:, 0]
    return precision, pull


def log_evidence(sums: QualitySums, ridge: float, over: Floats | None) -> float:
    """Return the log marginal likelihood of all outcomes, but for a constant.

    The noise is the likeliest. `over` is the diagonal of the shared shift's prior precision;
    without it the arms share none.
    """
    prior: Floats = np.full(sums.b.shape, ridge)
    prior[:, 0] = sums.n0
    total = sums.A.copy()
    index = np.arange(sums.b.shape[1])
    total[:, index, index] += prior
    inverse = np.asarray(np.linalg.inv(total), dtype=np.float64)
    rest = sums.rest
    of_volume = float((np.linalg.slogdet(total)[1] - np.log(prior).sum(axis=1)).sum())
    m = sums.mean0
    unexplained = sums.square - m * (sums.b[:, 0] + rest[:, 0])
    left = float(unexplained.sum() - np.einsum("ki,kij,kj->", rest, inverse, rest))
    if over is not None:
        precision, pull = shared(sums, prior, inverse, over)
        of_volume += float(np.linalg.slogdet(precision)[1] - np.log(over).sum())
        left -= float(pull @ np.linalg.solve(precision, pull))
    n = float(sums.n.sum())
    return -0.5 * (of_volume + n * math.log(max(left / n, LEAST_VARIANCE)))


def ridge_of(sums: QualitySums, over: Floats | None) -> float:
    """Return the ridge that the outcomes speak for: the posterior mean of its logarithm."""
    if float(sums.n.sum()) < ENOUGH:
        return RIDGE
    seen = sums.n > 0.0
    told = QualitySums(*(part[seen] for part in sums))
    score = np.array([log_evidence(told, ridge, over) for ridge in RIDGES])
    score -= 0.5 * (np.log(RIDGES / RIDGE) / SPREAD) ** 2
    share = np.exp(score - score.max())
    return float(np.exp(share @ np.log(RIDGES) / share.sum()))


def is_positive(matrix: Floats, least: float) -> bool:
    """Whether a symmetric matrix is positive definite, and by so much that rounding is less."""
    try:
        diagonal = np.linalg.cholesky(matrix).diagonal()
    except np.linalg.LinAlgError:
        return False
    return bool(diagonal.min() ** 2 >= least)


__all__ = [
    "ENOUGH", "RIDGE", "RIDGES", "QualitySums", "is_positive", "log_evidence", "ridge_of", "shared",
]  # fmt: skip
