"""What is believed of every arm obeys the laws of Bayesian regression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from conduit.engines.bandits.base import LATENCY, OUTPUTS, QUALITY, SPEND, ArmPrior, Floats, Step
from conduit.engines.bandits.estimates import (
    RIDGE,
    SHARED_BIAS_RIDGE,
    SHARED_RIDGE,
    ArmMeans,
    RidgeArms,
)
from conduit.engines.bandits.sums import DEFAULT_NOISE

DIM = 4
PRIORS = (ArmPrior(0.6, 30.0, 200.0, 1.0), ArmPrior(None), ArmPrior(0.8, 10.0, None, 2.0))


class Seen(NamedTuple):
    """One update: of which row, for which vector, with which weights and values."""

    row: int
    x: Floats
    weight: Floats
    value: Floats

    @property
    def step(self) -> Step:
        """Return the sums that it adds."""
        w, v = self.weight, self.value
        return Step(w, w * v, w * v * v)


VECTORS = npst.arrays(np.float64, DIM, elements=st.floats(-3, 3))
WEIGHTS = npst.arrays(np.float64, OUTPUTS, elements=st.sampled_from([0.0, 0.3, 1.0, 2.0]))
VALUES = npst.arrays(np.float64, OUTPUTS, elements=st.floats(0, 10))
UPDATES = st.lists(st.builds(Seen, st.integers(0, 2), VECTORS, WEIGHTS, VALUES), max_size=40)


def ridge_arms(share: bool = False) -> RidgeArms:
    """Return three arms with different priors."""
    arms = RidgeArms(DIM, share=share)
    for prior in PRIORS:
        arms.add_row(prior)
    return arms


def many(n: int, seed: int = 0) -> list[Seen]:
    """Return n seeded updates."""
    rng = np.random.default_rng(seed)
    return [
        Seen(int(rng.integers(3)), np.r_[1.0, rng.normal(size=DIM - 1)], np.ones(OUTPUTS),
             rng.random(OUTPUTS))
        for _ in range(n)
    ]  # fmt: skip


def taught(updates: list[Seen], share: bool = False) -> RidgeArms:
    """Return arms that were taught updates one by one."""
    arms = ridge_arms(share)
    for seen in updates:
        arms.update(seen.row, seen.x, seen.step)
    return arms


def exact(arms: RidgeArms, updates: list[Seen], row: int, output: int) -> tuple[Floats, Floats]:
    """Return a row's posterior mean and covariance, solved from the updates themselves."""
    mine = [u for u in updates if u.row == row]
    prior = arms._precision(row)[output]
    mean = np.zeros(DIM)
    mean[0] = arms._mean0[row, output]
    precision = np.diag(prior) + sum(u.weight[output] * np.outer(u.x, u.x) for u in mine)
    pull = prior * mean + sum(u.weight[output] * u.value[output] * u.x for u in mine)
    covariance = np.linalg.inv(precision)
    return covariance @ pull, covariance


@settings(max_examples=60)
@given(UPDATES, VECTORS)
def test_the_posterior_is_the_exact_one(updates: list[Seen], x: Floats) -> None:
    """Sherman-Morrison agrees with a ridge regression solved from scratch, row by row."""
    arms = taught(updates)
    found, levers = arms.predict(x), arms.leverages(x)
    for row in range(3):
        for output in range(OUTPUTS):
            mean, covariance = exact(arms, updates, row, output)
            assert levers[output, row] == pytest.approx(x @ covariance @ x, rel=1e-6, abs=1e-9)
            if output == QUALITY:
                assert found.quality[row] == pytest.approx(mean @ x, rel=1e-6, abs=1e-8)
        mean, _ = exact(arms, updates, row, SPEND)
        assert found.spend[row] == pytest.approx(max(mean @ x, 0.0), rel=1e-5, abs=1e-6)
        mean, _ = exact(arms, updates, row, LATENCY)
        assert found.latency_s[row] == pytest.approx(max(mean @ x, 0.0), rel=1e-5, abs=1e-6)


@given(UPDATES, VECTORS)
def test_predictions_follow_every_update(updates: list[Seen], x: Floats) -> None:
    """What is expected after each update is what arms that were never asked before expect then.

    The update says what would have been expected of its own query.
    """
    asked, silent = ridge_arms(), ridge_arms()
    for seen in updates:
        believed = asked.predict(seen.x).quality[seen.row]
        assert silent.update(seen.row, seen.x, seen.step) == pytest.approx(believed, abs=1e-9)
        asked.update(seen.row, seen.x, seen.step)
        asked.predict(x)
    for ours, theirs in zip(asked.predict(x), silent.predict(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(UPDATES)
def test_the_kept_inverse_is_the_inverse(updates: list[Seen]) -> None:
    """A times its kept inverse is the identity, whatever was learned and forgotten."""
    arms = taught(updates)
    assert arms.residual() < 1e-8
    arms.discount(1, 0.05)
    assert arms.residual() < 1e-8


def test_the_inverse_is_renewed() -> None:
    """Thousands of updates of one row, beyond every refresh, leave no drift."""
    updates = [u._replace(row=0) for u in many(2100)]
    assert taught(updates).residual() < 1e-10


@given(UPDATES, st.builds(Seen, st.integers(0, 2), VECTORS, WEIGHTS, VALUES), VECTORS)
def test_twice_is_double(updates: list[Seen], seen: Seen, x: Floats) -> None:
    """Two updates of one weight are one update of twice the weight."""
    twice = taught([*updates, seen, seen])
    double = taught([*updates, seen._replace(weight=2.0 * seen.weight)])
    for one, other in zip(twice.predict(x), double.predict(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@given(UPDATES, st.builds(Seen, st.integers(0, 2), VECTORS, WEIGHTS, VALUES), VECTORS)
def test_what_is_taken_back_is_gone(updates: list[Seen], seen: Seen, x: Floats) -> None:
    """An update with its weights negated takes back what the update taught."""
    arms = taught([*updates, seen, seen._replace(weight=-seen.weight)])
    for one, other in zip(arms.predict(x), taught(updates).predict(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert arms.residual() < 1e-7


@given(st.lists(st.tuples(st.integers(0, 2), WEIGHTS, VALUES), max_size=40))
def test_a_constant_vector_is_a_mean(updates: list[tuple[int, Floats, Floats]]) -> None:
    """Where the vector says nothing but that there is a query, the ridge is the arm's mean."""
    means, ridge = ArmMeans(1), RidgeArms(1, share=False)
    for prior in PRIORS:
        means.add_row(prior)
        ridge.add_row(prior)
    one = np.ones(1)
    for row, weight, value in updates:
        step = Seen(row, one, weight, value).step
        assert means.update(row, one, step) == pytest.approx(ridge.update(row, one, step))
    for ours, theirs in zip(means.predict(one), ridge.predict(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(means.leverages(one), ridge.leverages(one), rtol=1e-6)


def joint_posterior(updates: list[Seen], arms: RidgeArms) -> tuple[Floats, Floats]:
    """Return δ and every row's weights from one joint Gaussian over all of them, by brute force."""
    rows = arms.rows
    size = DIM * (rows + 1)
    precision, pull = np.zeros((size, size)), np.zeros(size)
    ridge = np.full(DIM, SHARED_RIDGE)
    ridge[0] = SHARED_BIAS_RIDGE
    precision[:DIM, :DIM] = np.diag(ridge)
    for row in range(rows):
        own = slice(DIM * (row + 1), DIM * (row + 2))
        prior = np.diag(arms._precision(row)[QUALITY])
        mean = np.zeros(DIM)
        mean[0] = arms._mean0[row, QUALITY]
        # w − m − δ ~ N(0, Λ⁻¹)
        precision[own, own] += prior
        precision[:DIM, :DIM] += prior
        precision[own, :DIM] -= prior
        precision[:DIM, own] -= prior
        pull[own] += prior @ mean
        pull[:DIM] -= prior @ mean
        for u in (u for u in updates if u.row == row):
            precision[own, own] += u.weight[QUALITY] * np.outer(u.x, u.x)
            pull[own] += u.weight[QUALITY] * u.value[QUALITY] * u.x
    solved = np.linalg.solve(precision, pull).astype(np.float64).reshape(rows + 1, DIM)
    return solved[0], solved[1:]


@settings(max_examples=40)
@given(UPDATES)
def test_the_shared_shift_is_the_joint_posterior(updates: list[Seen]) -> None:
    """The closed form of the shift, and the weights it leads to, are those of the joint model."""
    arms = taught(updates, share=True)
    arms.settle()
    shift, weights = joint_posterior(updates, arms)
    np.testing.assert_allclose(arms.shift, shift, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(arms.W[QUALITY], weights, rtol=1e-6, atol=1e-7)


def test_the_shift_is_renewed_by_itself() -> None:
    """After some hundred updates the shift is solved without being asked."""
    arms = taught(many(205), share=True)
    assert np.abs(arms.shift).max() > 0.0
    assert not np.abs(taught(many(205)).shift).any()


def test_a_new_arm_profits_from_the_others() -> None:
    """What all arms have in common is expected of one that was never tried."""
    rng = np.random.default_rng(1)
    arms = RidgeArms(DIM)
    for _ in range(4):
        arms.add_row(ArmPrior(0.5))
    for _ in range(400):
        x = np.r_[1.0, rng.choice([-1.0, 1.0]), rng.normal(size=DIM - 2)]
        value = np.full(OUTPUTS, 0.5 + 0.3 * x[1])
        arms.update(int(rng.integers(3)), x, Seen(0, x, np.ones(OUTPUTS), value).step)
    arms.settle()
    easy, hard = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, -1.0, 0.0, 0.0])
    assert arms.predict(easy).quality[3] > arms.predict(hard).quality[3] + 0.2


@pytest.mark.parametrize("make", [ArmMeans, RidgeArms])
class TestRows:
    """Rows come and go, are dumped and loaded, and start from their priors."""

    def test_priors_are_what_is_expected_first(
        self, make: type[ArmMeans] | type[RidgeArms]
    ) -> None:
        """Before any outcome: the prior, and the pool's mean where there is none."""
        arms = make(DIM)
        for prior in PRIORS:
            arms.add_row(prior)
        found = arms.predict(np.eye(DIM)[0])
        np.testing.assert_allclose(found.quality, [0.6, 0.7, 0.8])
        np.testing.assert_allclose(found.spend, [200.0, 0.0, 0.0])
        np.testing.assert_allclose(found.latency_s, [1.0, 1.5, 2.0])
        np.testing.assert_allclose(1 / found.leverage, [30.0, 2.0, 10.0])

    def test_the_first_outcome_decides_what_nothing_was_known_of(
        self, make: type[ArmMeans] | type[RidgeArms]
    ) -> None:
        """An unknown spend is what the first call spent, whatever other models spend."""
        arms = make(DIM)
        for prior in PRIORS:
            arms.add_row(prior)
        x = np.eye(DIM)[0]
        arms.update(1, x, Seen(1, x, np.ones(3), np.array([1.0, 0.002, 5.0])).step)
        found = arms.predict(x)
        assert found.spend[1] == pytest.approx(0.002, rel=0.01)
        assert found.latency_s[1] == pytest.approx(5.0, rel=0.01)

    def test_noise_is_the_spread_of_answers(self, make: type[ArmMeans] | type[RidgeArms]) -> None:
        """Ratings of 0 and 1 in turn spread by a half; before any, nothing is taken to be sure."""
        arms = make(DIM)
        arms.add_row(PRIORS[0])
        assert arms.noise()[0, QUALITY] == DEFAULT_NOISE
        x = np.eye(DIM)[0]
        for k in range(400):
            value = np.array([k % 2, 100.0, 1.0 + k % 2])
            arms.update(0, x, Seen(0, x, np.ones(3), value).step)
        np.testing.assert_allclose(arms.noise()[0], [0.5, 0.0, 0.5], atol=0.01)

    def test_a_discount_forgets_quality_alone(self, make: type[ArmMeans] | type[RidgeArms]) -> None:
        """What a model spends and how long it takes is still known after a change of quality."""
        arms = make(DIM)
        for prior in PRIORS:
            arms.add_row(prior)
        for seen in many(90):
            arms.update(seen.row, seen.x, seen.step)
        x = np.eye(DIM)[0]
        before = arms.leverages(x)
        arms.discount(0, 0.05)
        after = arms.leverages(x)
        assert after[QUALITY, 0] > 5.0 * before[QUALITY, 0]
        np.testing.assert_allclose(after[SPEND:], before[SPEND:])
        np.testing.assert_allclose(after[:, 1:], before[:, 1:])

    def test_spend_can_be_left_out(self, make: type[ArmMeans] | type[RidgeArms]) -> None:
        """Where the units of spend changed, quality and latency come over, spend does not."""
        arms, other = make(DIM), make(DIM)
        arms.add_row(PRIORS[1])
        other.add_row(PRIORS[1])
        for seen in many(30):
            arms.update(0, seen.x, seen.step)
        other.load_row(0, arms.dump_row(0), spend=False)
        x = np.eye(DIM)[0]
        assert other.predict(x).spend[0] == 0.0
        assert other.n[0].tolist() == [30.0, 0.0, 30.0]
        np.testing.assert_allclose(other.predict(x).quality, arms.predict(x).quality)
        np.testing.assert_allclose(other.predict(x).latency_s, arms.predict(x).latency_s)

    def test_removing_a_row_moves_the_later_ones_up(
        self, make: type[ArmMeans] | type[RidgeArms]
    ) -> None:
        """The others keep what they learned, to the bit."""
        arms = make(DIM)
        for prior in (PRIORS[0], PRIORS[0], PRIORS[0]):
            arms.add_row(prior)
        for seen in many(50):
            arms.update(seen.row, seen.x, seen.step)
        kept = [arms.dump_row(row) for row in (0, 2)]
        arms.remove_row(1)
        for row in range(2):
            for name, array in arms.dump_row(row).items():
                assert array.tobytes() == kept[row][name].tobytes()

    def test_no_rows_are_allowed(self, make: type[ArmMeans] | type[RidgeArms]) -> None:
        """The last row can go, and another can come."""
        arms = make(DIM)
        arms.add_row(PRIORS[0])
        arms.remove_row(0)
        arms.settle()
        arms.load_local(arms.dump_local())
        assert arms.rows == 0
        arms.add_row(PRIORS[0])
        assert arms.predict(np.eye(DIM)[0]).quality.tolist() == [0.6]


def test_features_weigh_as_much_as_ridge_says() -> None:
    """A feature that was seen RIDGE times moves its weight half of the way."""
    arms = RidgeArms(2, share=False)
    arms.add_row(ArmPrior(0.5, 1e9))
    x = np.array([0.0, 1.0])
    for _ in range(int(RIDGE)):
        arms.update(0, x, Seen(0, x, np.array([1.0, 0, 0]), np.array([1.0, 0, 0])).step)
    assert arms.predict(x).quality[0] == pytest.approx(0.5)
