"""The normal distribution, as the propensities of a Thompson sampler need it; numpy alone."""

from __future__ import annotations

import numpy as np

from conduit.engines.bandits.base import Floats

# Chebyshev fit of erfc (relative error below 1.2e-7), Numerical Recipes §6.2, in Horner order.
_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807,
    -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip
LEAST_SD = 1e-9  # a constant is taken to scatter by it: equals share
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
    p, s = np.zeros(mean.size), np.maximum(sd, LEAST_SD)
    # The greatest lies between the greatest of the lower and the greatest of the upper ends. An arm
    # that reaches so far is no further from there than its reach: counted from there, none loses
    # digits, however far the others are.
    m = mean - mean.max()
    m -= (m - _REACH * s).max()
    able = np.flatnonzero(m + _REACH * s >= 0.0)
    if able.size == 1:
        p[able] = 1.0
        return p
    m, s = m[able, None], s[able, None]
    knots = np.unique(np.clip(m + s * _KNOTS, 0.0, float((m + _REACH * s).max())))
    half = 0.5 * np.diff(knots)[:, None]
    points = (knots[:-1, None] + half * (1.0 + _NODES)).ravel()
    z = (points - m) / s
    below = ndtr(z)
    density = np.exp(-0.5 * z * z) / s
    share = (density / below * below.prod(axis=0)) @ (half * _GAUSS).ravel()
    p[able] = share / share.sum()
    return p
