"""Whoever rates, a model's quality is estimated right."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.feedback.ratings import (
    QualityByModel,
    RatingPropensity,
)

TRUTH = {"small": 0.6, "middle": 0.7, "large": 0.8}
USE = {"small": 0.1, "middle": 0.2, "large": 0.7}
OFTEN, SELDOM = 0.3, 0.02  # how often a decision with and without a bad signal is rated


# --- who rates --------------------------------------------------------------------------------


def simulated(
    seed: int, rating: Callable[[bool], float], decisions: int = 30_000
) -> tuple[RatingPropensity, QualityByModel]:
    """Return what is counted where who rates depends on the implicit signal."""
    rng = random.Random(seed)
    propensity, quality = RatingPropensity(), QualityByModel()
    for _ in range(decisions):
        (model,) = rng.choices(list(USE), list(USE.values()))
        good = rng.random() < TRUTH[model]
        right = rng.random() < 0.8
        signal = "no_error" if good == right else "retry"
        propensity, quality = propensity.seen(signal), quality.seen(model, signal)
        if rng.random() < rating(signal == "retry"):
            propensity = propensity.rated(signal)
            quality = quality.rated(model, signal, float(good))
    return propensity, quality


@pytest.mark.parametrize("seed", range(5))
def test_estimates_hold_when_the_dissatisfied_rate(seed: int) -> None:
    """With raters who mostly complain, each model's quality stays within 0.05 of the truth."""
    _, quality = simulated(seed, lambda bad: OFTEN if bad else SELDOM)
    for model, truth in TRUTH.items():
        estimate, naive = quality.estimate(model), quality.mean_rating(model)
        assert estimate is not None
        assert naive is not None
        assert abs(estimate - truth) <= 0.05
        assert naive < truth - 0.15  # what the plain mean of the ratings would say


def test_estimates_hold_when_the_satisfied_rate() -> None:
    """The correction works the other way round as well."""
    _, quality = simulated(3, lambda bad: SELDOM if bad else OFTEN)
    for model, truth in TRUTH.items():
        estimate = quality.estimate(model)
        assert estimate is not None
        assert abs(estimate - truth) <= 0.05


def test_corrected_ratings_have_the_right_mean() -> None:
    """Weighted by the correction, ratings one by one average to the quality of all decisions."""
    propensity, quality = simulated(1, lambda bad: OFTEN if bad else SELDOM)
    weighted = total = 0.0
    for (_, signal), counts in quality.counts.items():
        weighted += propensity.correction(signal) * counts.total
        total += propensity.correction(signal) * counts.rated
    truth = sum(USE[model] * TRUTH[model] for model in USE)
    assert weighted / total == pytest.approx(truth, abs=0.05)


def test_a_class_that_is_never_rated_is_what_it_is_expected_to_be() -> None:
    """Where only complaints are rated, the rest counts as the signals' reliabilities say."""
    _, quality = simulated(2, lambda bad: OFTEN if bad else 0.0)
    expected = {"no_error": 0.93, "retry": 0.4}
    estimate = quality.estimate("large", expected)
    assert estimate == pytest.approx(TRUTH["large"], abs=0.05)


def test_a_model_without_decisions_has_no_quality() -> None:
    """Unknown is None, and a model without ratings is judged by its signals."""
    quality = QualityByModel()
    assert quality.estimate("large") is None
    assert quality.mean_rating("large") is None
    unrated = quality.seen("large", "no_error")
    assert unrated.mean_rating("large") is None
    assert unrated.estimate("large", {"no_error": 0.7}) == pytest.approx(0.7)


def test_a_class_that_is_always_bad_leaves_nothing_to_move() -> None:
    """Extreme ratings keep estimates in [0, 1]."""
    quality = QualityByModel()
    for _ in range(500):
        quality = quality.seen("large", "refusal").rated("large", "refusal", 0.0)
    estimate = quality.estimate("large", {"refusal": 0.0})
    assert estimate == 0.0


def test_propensities_start_even_and_are_clipped() -> None:
    """Before any decision nothing is corrected; later no rating weighs more than tenfold."""
    assert RatingPropensity().correction("retry") == 1.0
    propensity = RatingPropensity()
    for _ in range(2_000):
        propensity = propensity.seen("no_error").seen("retry").rated("retry")
    assert propensity.correction("no_error") == 10.0
    assert 0.2 <= propensity.correction("retry") < 1.0
    assert 0.0 < propensity.probability("no_error") < 0.02
    assert propensity.probability("retry") == pytest.approx(1.0, abs=0.01)


events = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["retry", "none"]), st.floats(0, 1)),
    max_size=20,
)


def counted(rows: list[tuple[str, str, float]]) -> tuple[RatingPropensity, QualityByModel]:
    """Return the counts of some rated decisions."""
    propensity, quality = RatingPropensity(), QualityByModel()
    for model, signal, value in rows:
        propensity = propensity.seen(signal).rated(signal)
        quality = quality.seen(model, signal).rated(model, signal, value)
    return propensity, quality


@given(events, events)
def test_counts_add_up(
    mine: list[tuple[str, str, float]], yours: list[tuple[str, str, float]]
) -> None:
    """Merged replicas count what one would have counted, to rounding."""
    p, q = counted(mine + yours)
    p1, q1 = counted(mine)
    p2, q2 = counted(yours)
    assert p2.merged(p1) == p
    merged = q2.merged(q1)
    assert set(merged.counts) == set(q.counts)
    for cell, counts in q.counts.items():
        assert merged.counts[cell] == pytest.approx(counts, abs=1e-9)
    assert RatingPropensity.from_json(p.to_json()) == p


@pytest.mark.parametrize(
    "text", ["", "1", "{}", '{"counts": [["a", -1]]}', '{"counts": [["a", 1, 2, 3, 4]]}']
)
def test_foreign_json_is_refused(text: str) -> None:
    """What no propensity was written as is InvalidInput."""
    with pytest.raises(InvalidInput):
        RatingPropensity.from_json(text)
