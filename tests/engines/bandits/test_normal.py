"""The probability of being the greatest of several normals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr as exact_ndtr

from conduit.engines.bandits.normal import ndtr, probability_of_best

MEANS = st.lists(st.floats(-1, 1), min_size=1, max_size=6)
SPREADS = st.floats(-4, 0).map(lambda e: 10.0**e)


def test_the_distribution_function() -> None:
    """It agrees with scipy's, in the tails by its relative error."""
    z = np.linspace(-7, 7, 2001)
    np.testing.assert_allclose(ndtr(z), exact_ndtr(z), rtol=3e-7)


@given(st.floats(-0.5, 0.5), SPREADS, SPREADS)
def test_of_two_it_is_the_closed_form(gap: float, one: float, other: float) -> None:
    """Of two normals it is Φ(gap/√(s₁²+s₂²)), however unequal their spreads."""
    found = probability_of_best(np.array([gap, 0.0]), np.array([one, other]))
    assert found[0] == pytest.approx(exact_ndtr(gap / np.hypot(one, other)), abs=1e-5)


@given(MEANS, st.data())
def test_it_is_a_distribution(means: list[float], data: st.DataObject) -> None:
    """It sums to one, and does not care about the order of the arms."""
    sd = np.array([data.draw(st.just(0.0) | SPREADS) for _ in means])
    mean = np.array(means)
    found = probability_of_best(mean, sd)
    assert found.sum() == pytest.approx(1.0)
    assert found.min() >= 0.0
    order = np.array(data.draw(st.permutations(range(len(means)))))
    np.testing.assert_allclose(probability_of_best(mean[order], sd[order]), found[order], atol=1e-6)


@pytest.mark.parametrize("k", [3, 5, 20])
def test_it_is_what_draws_show(k: int) -> None:
    """Of 200,000 draws each arm is the greatest as often as it says."""
    rng = np.random.default_rng(k)
    mean, sd = rng.normal(0.0, 0.1, k), 10.0 ** rng.uniform(-3.0, -0.5, k)
    draws = mean + sd * rng.standard_normal((200_000, k))
    often = np.bincount(draws.argmax(axis=1), minlength=k) / 200_000
    np.testing.assert_allclose(probability_of_best(mean, sd), often, atol=0.006)


def test_equals_share() -> None:
    """Constants that are equal share; a lesser one has nothing."""
    found = probability_of_best(np.array([0.5, 0.5, 0.4]), np.zeros(3))
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0], atol=1e-9)


@pytest.mark.parametrize("far", [1.0, 60.0, 1e6, 1e30])
def test_those_that_are_far_behind_change_nothing(far: float) -> None:
    """Two that compete are as often the greatest, however far the third is behind and scattered."""
    near, sd = np.array([0.01, 0.0]), np.array([0.004, 0.008])
    found = probability_of_best(np.array([*near, -far]), np.array([*sd, 1e-3 * far]))
    assert found[0] == pytest.approx(exact_ndtr(0.01 / np.hypot(*sd)), abs=1e-5)
    assert found[2] == 0.0


def test_two_that_are_known_and_one_that_may_be_anywhere() -> None:
    """Beside an arm that scatters a million times as widely, two known ones are told apart."""
    found = probability_of_best(np.array([0.01, 0.0, -1e5]), np.array([0.004, 0.008, 1e5]))
    below = exact_ndtr(1.0)
    assert found[0] == pytest.approx(below * exact_ndtr(0.01 / np.hypot(0.004, 0.008)), abs=1e-5)
    assert found[2] == pytest.approx(1.0 - below, abs=1e-5)


def test_equals_share_however_far_from_0() -> None:
    """Constants that are equal share where a unit is less than the last digit, too."""
    found = probability_of_best(np.full(3, -1e17), np.full(3, 0.01))
    np.testing.assert_allclose(found, 1.0 / 3.0, atol=1e-9)
