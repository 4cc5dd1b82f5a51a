"""The normal distribution, as the propensities of a Thompson sampler need it; numpy alone."""

from __future__ import annotations

import numpy as np

from conduit.engines.bandits.base import Floats

# Chebyshev fit of erfc (relative error below 1.2e-7), Numerical Recipes §6.2, in Horner order.
_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807,
    -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip
_NODES, _GAUSS = np.polynomial.legendre.leggauss(48)
_SPREAD = 6.0  # standard deviations on each side; what lies beyond weighs 2e-9
_Z = _SPREAD * _NODES
_WEIGHT = _SPREAD * _GAUSS * np.exp(-0.5 * _Z**2) / np.sqrt(2 * np.pi)


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

    Each is integrated over its own density at 48 Gauss-Legendre points; equal constants share.
    """
    if mean.size == 1:
        return np.ones(1)
    floor = 1e-9 + 1e-7 * float(np.ptp(mean))
    s = np.maximum(sd, floor)
    z = mean[:, None] + s[:, None] * _Z  # (K, points)
    below = ndtr((z[:, None, :] - mean[None, :, None]) / s[None, :, None])  # (K, K, points)
    k = np.arange(mean.size)
    below[k, k, :] = 1.0
    p = below.prod(axis=1) @ _WEIGHT
    total = p.sum()
    return p / total if total > 0 else np.full(mean.size, 1.0 / mean.size)
