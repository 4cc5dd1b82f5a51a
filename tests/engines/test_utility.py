"""Quality, cost and time meet in one formula, whose scales and weights mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from conduit.core.errors import InvalidInput
from conduit.core.models import Preferences
from conduit.engines.bandits.arms import greatest
from conduit.engines.utility import Floats, penalty

K = 4
AMOUNTS = npst.arrays(np.float64, K, elements=st.floats(1e-6, 100.0))
WEIGHTS = st.floats(0.01, 10.0)


@given(AMOUNTS, AMOUNTS, WEIGHTS, WEIGHTS, WEIGHTS, st.floats(1e-3, 10), st.floats(1e-3, 10))
def test_the_penalty_is_the_documented_one(
    usd: Floats, seconds: Floats, q: float, c: float, t: float, usd_scale: float, s_scale: float
) -> None:
    """What comes off the quality is (c·cost/cost_scale + l·latency/latency_scale) / q."""
    preferences = Preferences(
        quality=q, cost=c, latency=t, cost_scale_usd=usd_scale, latency_scale_s=s_scale
    )
    found = penalty(preferences, np.stack([usd, seconds]), (7.0, 7.0))
    np.testing.assert_allclose(found, (c * usd / usd_scale + t * seconds / s_scale) / q)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, WEIGHTS, WEIGHTS, WEIGHTS)
def test_a_missing_scale_is_the_dearest_models_mean(
    usd: Floats, seconds: Floats, mean: Floats, mean_s: Floats, q: float, c: float, t: float
) -> None:
    """Without scales, cost and time count in units of the dearest, the slowest model's average."""
    bare = Preferences(quality=q, cost=c, latency=t)
    told = Preferences(
        quality=q, cost=c, latency=t, cost_scale_usd=mean.max(), latency_scale_s=mean_s.max()
    )
    costs, scales = np.stack([usd, seconds]), greatest(np.stack([mean, mean_s]))
    np.testing.assert_allclose(penalty(bare, costs, scales), penalty(told, costs, scales))


@given(AMOUNTS, AMOUNTS, WEIGHTS, WEIGHTS, st.floats(0.1, 10.0))
def test_only_the_ratios_of_weights_count(
    usd: Floats, seconds: Floats, c: float, t: float, factor: float
) -> None:
    """All weights times a factor ask for the same; the weight of cost is λ = cost / quality."""
    one = Preferences(quality=0.7, cost=c, latency=t)
    other = Preferences(quality=0.7 * factor, cost=c * factor, latency=t * factor)
    costs = np.stack([usd, seconds])
    scales = greatest(costs)
    found = penalty(one, costs, scales)
    np.testing.assert_allclose(found, penalty(other, costs, scales))
    np.testing.assert_allclose(found, penalty(one, costs, scales, cost_weight=c / 0.7))


def test_money_left_over_may_have_no_use() -> None:
    """A weight of cost below 0, as a budget sets it, makes the dearest model the most wanted."""
    costs = np.array([[1.0, 2.0], [1.0, 1.0]])
    preferences = Preferences(quality=1.0, cost=0.5, latency=0.0)
    found = penalty(preferences, costs, greatest(costs), cost_weight=-0.1)
    np.testing.assert_allclose(found, [-0.05, -0.1])


def test_what_costs_and_takes_nothing_is_not_penalised() -> None:
    """A scale of zero, of models that are all free or all instant, takes nothing off."""
    found = penalty(Preferences(), np.zeros((2, 3)), (0.0, 0.0))
    np.testing.assert_array_equal(found, np.zeros(3))


@pytest.mark.parametrize("field", ["quality", "cost", "latency", "cost_scale_usd"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "much", True])
def test_weights_are_numbers(field: str, value: object) -> None:
    """A weight or a scale that is no number of its range is refused by its name."""
    with pytest.raises(InvalidInput) as refused:
        Preferences(**{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert refused.value.expected
