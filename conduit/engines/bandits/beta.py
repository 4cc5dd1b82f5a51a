"""The Beta distribution, as the draws and the propensities of a Thompson sampler need it."""

from __future__ import annotations

import numpy as np

from conduit.engines.bandits.base import Floats

STEP = 1e-9  # of a score: nearer ones are equal, as are those that round to 0 or to 1
_LEVELS = np.sin(0.5 * np.pi * (np.arange(64) + 0.5) / 64.0) ** 2  # closer in the tails
_COARSE = 16  # knots at a time, where it is sought how low the greatest may be
_NODES, _GAUSS = np.polynomial.legendre.leggauss(4)
_LEAST = 1e-300  # stands for 0 where 0 is divided by it


def steps(value: Floats, off: Floats) -> Floats:
    """Return the scores value − off in whole steps."""
    return np.asarray(np.rint((value - off) / STEP))


def probability_of_best(a: Floats, b: Floats, off: Floats) -> Floats:
    """Return, for independent Beta(a, b) − off in steps, the probability that each is the greatest.

    The least of `off` is 0. Equals share.
    """
    p, able = np.zeros(a.size), off <= 1.0  # the others are always below the one with nothing off
    a, b, off = (v[able][:, None] for v in (a, b, off))
    p[able] = _shares(_distributions(a, b, off)) if a.size > 1 else 1.0
    return p


def _distributions(a: Floats, b: Floats, off: Floats) -> Floats:
    """Return (arms, knots) the distribution functions, at every arm's own quantiles and ends.

    The knots begin where it first is possible that every arm is below.
    """
    from scipy.special import betainc, betaincinv

    ends = steps(np.array([0.0, 1.0]), off)
    inner = steps(betaincinv(a, b, _LEVELS), off)
    knots = np.unique(np.concatenate([ends - 0.5, ends + 0.5, inner + 0.5], axis=1))

    def below(knots: Floats) -> Floats:
        return np.asarray(betainc(a, b, np.clip(knots * STEP + off, 0.0, 1.0)))

    never = int(np.count_nonzero(below(knots[::_COARSE]).prod(axis=0) < 1e-12))
    return below(knots[_COARSE * max(never - 1, 0) :])


def _shares(below: Floats) -> Floats:
    """Return how often each arm is the greatest, if from knot to knot all of them rise alike.

    So they do where knots are near, and where draws are equal and chance decides between them.
    """
    rise, share = np.diff(below), np.zeros(below.shape[0])
    for node, weight in zip(0.5 + 0.5 * _NODES, _GAUSS, strict=True):
        here = np.maximum(below[:, :-1] + node * rise, _LEAST)
        share += weight * ((rise / here) @ here.prod(axis=0))
    return np.asarray(share / share.sum())
