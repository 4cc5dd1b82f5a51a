"""The probability of being the greatest of several Beta variables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.engines.bandits.beta import probability_of_best, steps

STRENGTHS = st.floats(-3, 6).map(lambda e: 10.0**e)
ARMS = st.tuples(st.floats(1e-6, 1.0 - 1e-6), STRENGTHS, st.just(0.0) | st.floats(0, 2))


def parameters(arms: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a, b and what is taken off, from means, strengths and offsets."""
    mean, strength, off = np.array(arms).T
    return mean * strength, (1.0 - mean) * strength, off - off.min()


@given(st.lists(ARMS, min_size=1, max_size=6), st.data())
def test_it_is_a_distribution(arms: list[tuple[float, float, float]], data: st.DataObject) -> None:
    """It sums to one, and does not care about the order of the arms."""
    found = probability_of_best(*parameters(arms))
    assert found.sum() == pytest.approx(1.0)
    assert found.min() >= 0.0
    order = np.array(data.draw(st.permutations(range(len(arms)))))
    again = probability_of_best(*parameters([arms[k] for k in order]))
    np.testing.assert_allclose(again, found[order], atol=1e-9)


@given(st.integers(1, 200), st.integers(1, 200))
def test_of_two_it_is_the_closed_form(a: int, n: int) -> None:
    """A Beta(a, 1) is above a uniform with probability a/(a+1); the best of n uniforms is one."""
    found = probability_of_best(np.array([a, 1.0]), np.ones(2), np.zeros(2))
    assert found[0] == pytest.approx(a / (a + 1.0), abs=1e-4)
    found = probability_of_best(np.array([n, a, 1.0]), np.ones(3), np.zeros(3))
    assert found[1] == pytest.approx(a / (a + n + 1.0), abs=1e-4)


@pytest.mark.parametrize("k", [2, 5, 20])
@pytest.mark.parametrize("spread", [(-3.0, 0.0), (-3.0, 3.0), (1.0, 5.0)])
def test_it_is_what_draws_show(k: int, spread: tuple[float, float]) -> None:
    """Of 200,000 draws each arm is the greatest, or first among equals, as often as it says."""
    rng = np.random.default_rng(k)
    mean, strength = rng.uniform(0.5, 0.6, k), 10.0 ** rng.uniform(*spread, k)
    a, b, off = parameters(list(zip(mean, strength, rng.choice([0.0, 0.1], k), strict=True)))
    scores = steps(rng.beta(a, b, (200_000, k)), off)
    best = scores == scores.max(axis=1, keepdims=True)
    often = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(probability_of_best(a, b, off), often, atol=0.005)


@pytest.mark.parametrize("far", [0.5, 1.5, 1e3, 1e30])
def test_those_that_are_far_behind_change_nothing(far: float) -> None:
    """Two that compete are as often the best, however far the third is behind."""
    a, b = np.array([700.0, 720.0, 300.0]), np.array([300.0, 280.0, 700.0])
    two = probability_of_best(a[:2], b[:2], np.zeros(2))
    three = probability_of_best(a, b, np.array([0.0, 0.0, far]))
    np.testing.assert_allclose(three, [*two, 0.0], atol=1e-5)
    assert two[1] == pytest.approx(0.837, abs=0.002)  # 0.98 standard deviations
