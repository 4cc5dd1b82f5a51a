"""The normal distribution, as the propensities of a Thompson sampler need it; numpy alone."""

from __future__ import annotations

import numpy as np

from conduit.engines.bandits.base import Floats

# Chebyshev fit of erfc (relative error below 1.2e-7), Numerical Recipes §6.2, in Horner order.
_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807,
    -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip
_NODES, _GAUSS = np.polynomial.legendre.leggauss(4)
_REACH = 7.0  # standard deviations; what lies beyond weighs 1e-12
_KNOTS = np.array([-_REACH, -4.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.5, _REACH])


def ndtr(z: Floats) -> Floats:
    """Return the standard normal distribution function."""
    a = np.abs(z) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * a)
    poly = np.full_like(t, _ERFC[0])
    for c in _ERFC[1:]:
        poly = poly * t + c
    half_tail = 0.5 * t * np.exp(-a * a + poly)
    return np.asarray(np.where(z > 0, 1.0 - half_tail, half_tail))


def probability_of_best(mean: Floats, sd: Floats) -> Floats:
    """Return, for independent normals, the probability that each one is the greatest.

    The integral is taken piecewise between knots at every arm's own standard deviations, so that an
    arm known well and one hardly known may stand side by side. Equal constants share.
    """
    if mean.size == 1:
        return np.ones(1)
    s = np.maximum(sd, 1e-9 + 1e-7 * float(np.ptp(mean)))[:, None]
    m = mean[:, None]
    # The greatest lies between the greatest of the lower and the greatest of the upper ends.
    low, high = float((m - _REACH * s).max()), float((m + _REACH * s).max())
    knots = np.unique(np.clip(m + s * _KNOTS, low, high))
    half = 0.5 * np.diff(knots)[:, None]
    points = (knots[:-1, None] + half * (1.0 + _NODES)).ravel()
    z = (points - m) / s
    below = ndtr(z)
    density = np.exp(-0.5 * z * z) / s
    p = (density / below * below.prod(axis=0)) @ (half * _GAUSS).ravel()
    return np.asarray(p / p.sum())
