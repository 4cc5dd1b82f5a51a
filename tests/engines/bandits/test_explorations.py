"""Every rule picks as often as it says, and only what it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from conduit.engines.bandits.base import View
from conduit.engines.bandits.choices import FLOOR_EVEN, floor_shares
from conduit.engines.bandits.explorations import (
    FEW,
    BestQuality,
    BetaThompson,
    Cheapest,
    CountBound,
    Exploration,
    Greedy,
    NormalThompson,
    Uniform,
    UpperBound,
    worth_of_an_answer,
)

RULES = [
    Greedy(), Greedy(0.3), UpperBound(0.1), CountBound(0.1), NormalThompson(0.05),
    NormalThompson(0.05, 0.1), NormalThompson(0.05, 0.1, 60.0),
    BetaThompson(), Uniform(), BestQuality(), Cheapest(),
]  # fmt: skip


def view_of(
    quality: list[float],
    cost: list[float] | None = None,
    leverage: list[float] | None = None,
    pulls: list[float] | None = None,
    weight: float = 0.1,
    behind: list[float] | None = None,
) -> View:
    """Return a view in which the dearest arm's cost takes off `weight`."""
    k = len(quality)
    usd = np.array(cost or [1.0] * k)
    return View(
        np.array(quality),
        weight * usd / usd.max(),
        usd,
        np.array(leverage or [0.02] * k),
        np.array(pulls or [0.0] * k),
        np.array(behind or [30.0] * k),
        np.full(k, 0.5),
    )


VIEWS = [
    view_of([0.6, 0.62, 0.65, 0.5], [0.1, 0.2, 1.0, 0.01], [0.02, 0.3, 0.01, 0.05], [9, 2, 40, 5]),
    view_of([0.70, 0.71, 0.69], leverage=[0.001, 0.02, 0.5]),
    view_of([0.5, 0.5, 0.5]),
    view_of([0.9, 0.9, 0.2], [1.0, 1.0, 1.0]),
    view_of([1.2, -0.1], leverage=[0.5, 0.5]),  # a regression may leave [0, 1]
    view_of([0.7, 0.69, 0.7], [1.0, 1.0, 1e3], [0.002] * 3, weight=1e3),  # one is far dearer
    view_of([0.6, 0.59, 0.7], [1.0, 1.0, 2.0], [0.01] * 3, weight=2e17),  # all but beyond digits
    view_of([0.5, 0.51, 0.9], [1.0, 1.0, 0.5], weight=-1e6),  # money that is left has no use
    view_of([0.5, 1.0, 0.5], leverage=[1e3, 1e3, 1.0], behind=[1e-3, 1e-3, 1.0]),  # never asked
    view_of([0.5, 0.8, 0.5], [1.0, 0.1, 1.0], [1e3] * 3, behind=[1e-3] * 3),
    view_of([0.6, 0.6 + 1e-4, 0.5], leverage=[1e-9, 1e-12, 1e3], behind=[1e9, 1e12, 1e-3]),
    view_of([0.1 + 0.2, 0.3], leverage=[1e-12, 1e-12]),  # equal, but for rounding
    view_of([0.0, 1e-7, 0.0], [0.5, 1.0, 0.5], leverage=[1e-3, 1e-6, 0.1], weight=1e-6),
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS, ids=range(len(VIEWS)))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_picks_are_as_frequent_as_propensities_say(rule: Exploration, view: View) -> None:
    """In 20,000 picks every arm comes as often as its propensity, which sum to one."""
    rng = np.random.default_rng(5)
    shares = rule.propensities(view)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= 0.0
    picks = np.array([rule.select(view, rng) for _ in range(20_000)])
    often = np.bincount(picks, minlength=shares.size) / picks.size
    tolerance = 4.5 * np.sqrt(shares * (1.0 - shares) / picks.size) + 5e-4
    assert (np.abs(often - shares) <= tolerance).all(), (often, shares)


def any_view(rng: np.random.Generator) -> View:
    """Return a view of any scale: what is expected, what it costs and how well it is known."""
    k = int(rng.choice([2, 3, 5, FEW + 3]))
    quality = np.clip(rng.random() + rng.normal(0.0, 10.0 ** rng.uniform(-4, 0), k), 0.0, 1.0)
    penalty = rng.exponential(size=k) * 10.0 ** rng.uniform(-9, rng.choice([0, 3, 36]))
    penalty[rng.random(k) < rng.choice([0.0, 0.5, 1.0])] = penalty.min()
    behind = 10.0 ** rng.uniform(-3, rng.choice([-2, 1, 3, 12]), k)
    noise = 10.0 ** rng.uniform(-3, 0, k)
    pulls = behind * rng.integers(0, 2, k)
    return View(quality, penalty, penalty, 1.0 / behind, pulls, behind, noise)


@pytest.mark.parametrize(
    "rule", [NormalThompson(0.05, 1.75, 60.0), NormalThompson(0.0), BetaThompson()], ids=str
)
def test_draws_are_as_frequent_as_propensities_say_at_any_scale(rule: Exploration) -> None:
    """Of 30 views of any scale none is picked from but by its propensities."""
    for seed in range(30):
        view, rng = any_view(np.random.default_rng(seed)), np.random.default_rng(1000 + seed)
        shares = rule.propensities(view)
        picks = np.array([rule.select(view, rng) for _ in range(2_000)])
        often = np.bincount(picks, minlength=shares.size) / picks.size
        tolerance = 4.5 * np.sqrt(shares * (1.0 - shares) / picks.size) + 1e-3
        assert (np.abs(often - shares) <= tolerance).all(), (seed, often, shares)


@given(st.integers(0, 2**32))
def test_propensities_are_a_distribution_at_any_scale(seed: int) -> None:
    """Whatever the scales, propensities are numbers from 0 to 1 that sum to one."""
    view = any_view(np.random.default_rng(seed))
    for rule in RULES:
        shares = rule.propensities(view)
        assert shares.sum() == pytest.approx(1.0, abs=1e-9)
        assert 0.0 <= shares.min() <= shares.max() <= 1.0 + 1e-9


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_arm_is_certain(rule: Exploration) -> None:
    """Where there is nothing to choose from, nothing is left to chance."""
    view = view_of([0.4])
    assert rule.select(view, np.random.default_rng(0)) == 0
    assert rule.propensities(view).tolist() == [1.0]


@pytest.mark.parametrize(
    ("rule", "best"),
    [(Greedy(), 1), (UpperBound(0.0), 1), (BestQuality(), 2), (Cheapest(), 0)],
    ids=str,
)
def test_greed_follows_what_it_values(rule: Exploration, best: int) -> None:
    """The greedy take the greatest utility; the baselines look at quality or at cost alone."""
    view = view_of([0.5, 0.62, 0.65], [0.1, 0.2, 1.0])
    assert rule.select(view, np.random.default_rng(0)) == best
    assert rule.propensities(view)[best] == 1.0


@pytest.mark.parametrize("rule", [UpperBound(0.1), CountBound(0.1)], ids=str)
def test_bounds_prefer_what_is_less_known(rule: Exploration) -> None:
    """Of two arms that are believed equal, the one with fewer observations is tried."""
    view = view_of([0.6, 0.6], leverage=[0.01, 0.1], pulls=[100.0, 10.0])
    assert rule.select(view, np.random.default_rng(0)) == 1


def test_what_is_hardly_known_is_drawn_widely() -> None:
    """The wide draw is of arms with few observations behind them, never of a text of a new kind."""
    narrow, wide = NormalThompson(0.05), NormalThompson(0.05, 1.75)
    known = view_of([0.6, 0.65], leverage=[0.03, 0.9], behind=[30.0, 10.0])
    unknown = view_of([0.6, 0.65], leverage=[0.03, 0.5], behind=[30.0, 2.0])
    np.testing.assert_array_equal(narrow.propensities(known), wide.propensities(known))
    assert wide.propensities(unknown)[0] > narrow.propensities(unknown)[0] + 0.02


def test_where_answers_scatter_less_the_draw_is_narrower() -> None:
    """An arm that is behind is drawn as often as its gap is wide in noises, not in utility."""
    rule = NormalThompson(0.05)
    near, far = ([0.62, 0.62 - gap] for gap in (0.005, 0.02))
    steady = view_of(near, leverage=[0.1, 0.1])._replace(noise=np.array([0.1, 0.1]))
    loud = view_of(far, leverage=[0.1, 0.1])._replace(noise=np.array([0.4, 0.4]))
    np.testing.assert_allclose(rule.propensities(steady), rule.propensities(loud), atol=1e-3)
    assert rule.propensities(loud)[1] > 0.1


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 2), st.floats(0, 500),
            st.floats(0.05, 0.5), st.booleans(),
        ),
        min_size=1,
        max_size=FEW,
    ),
    st.integers(0, 2**32),
)  # fmt: skip
def test_few_arms_are_drawn_as_many_are(arms: list[tuple[float, ...]], seed: int) -> None:
    """Number by number or by arrays, the same draws make the same scores, but for a constant."""
    quality, penalty, leverage, pulls, noise, scored = map(np.array, zip(*arms, strict=True))
    zeros, behind = np.zeros(len(arms)), pulls + 30.0 * scored
    view = View(quality, penalty, zeros, leverage, pulls, behind, noise)
    rule = NormalThompson(0.05, 1.75, 60.0)
    draws = np.random.default_rng(seed).standard_normal(len(arms))
    scores = draws * rule._sd(view) + rule._mean(view) - view.penalty.min()
    np.testing.assert_allclose(rule._scores_of_few(view, draws.tolist()), scores, atol=1e-9)
    picked = rule.select(view, np.random.default_rng(seed))
    assert scores[picked] == pytest.approx(scores.max(), abs=1e-9)


def test_an_answer_is_worth_what_it_may_change() -> None:
    """The worth is a tenth of the gain that ten answers promise, but for the formula's eighth."""
    view = view_of([0.60, 0.64, 0.55], leverage=[0.10, 0.03, 0.20], weight=0.0)
    spread = 0.5 * view.leverage * np.sqrt(10.0 / (1.0 + 10.0 * view.leverage))
    ahead = np.array([0.64, 0.60, 0.64]) - view.quality  # of the best of the others
    z = np.abs(ahead) / spread
    gain = spread * (norm.pdf(z) - z * norm.sf(z)) / 10.0
    np.testing.assert_allclose(worth_of_an_answer(view, view.quality), gain, rtol=0.125)


def test_nothing_is_worth_asking_that_is_known() -> None:
    """An answer is worth less the better an arm is known, and nothing where nothing is open."""
    view = view_of([0.6, 0.6, 0.6, 0.1], leverage=[0.0, 0.01, 0.1, 0.1])
    worth = worth_of_an_answer(view, view.quality)
    assert worth[0] < 1e-9 < worth[1] < worth[2]
    assert worth[3] < 1e-6
    assert worth.min() >= 0.0


def test_familiar_arms_are_asked_for_what_they_bring() -> None:
    """Of two arms that are believed equal the new one is chosen, until it is as familiar."""
    rule = NormalThompson(0.0, ahead=60.0)
    leverage = [0.03, 0.03]
    new = rule.propensities(view_of([0.6, 0.6], leverage=leverage, pulls=[300.0, 0.0]))
    familiar = rule.propensities(view_of([0.6, 0.6], leverage=leverage, pulls=[300.0, 300.0]))
    assert new[1] > 0.99
    assert familiar[1] == pytest.approx(0.5)


def test_one_that_is_behind_is_asked_for_what_it_teaches() -> None:
    """An arm that is hardly known and little behind is chosen; one that is far behind is not."""
    near, far = ([0.62, 0.62 - gap] for gap in (0.02, 0.30))
    plain, curious = NormalThompson(0.01), NormalThompson(0.01, ahead=60.0)
    for rule, wanted in ((plain, 0.0), (curious, 1.0)):
        views = [
            view_of(q, leverage=[0.02, 0.15], pulls=[300.0, 5.0], weight=0.0) for q in (near, far)
        ]
        shares = [float(rule.propensities(view)[1]) for view in views]
        assert shares == pytest.approx([wanted, 0.0], abs=0.01)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_the_floor_is_shared_by_promise(quality: list[float]) -> None:
    """The floor's shares sum to one, leave out nobody, and give more to the more promising."""
    shares = floor_shares(view_of(quality))
    assert shares.sum() == pytest.approx(1.0)
    assert shares.min() >= FLOOR_EVEN / shares.size - 1e-12
    assert shares[int(np.argmax(quality))] == shares.max()
