"""The ridge is the one that the outcomes speak for, by the laws of Gaussian models."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.engines.bandits.base import OUTPUTS, ArmPrior, Floats, Step
from conduit.engines.bandits.estimates import RidgeArms
from conduit.engines.bandits.evidence import (
    ENOUGH,
    RIDGE,
    RIDGES,
    QualitySums,
    log_evidence,
    ridge_of,
)

MEAN0, N0 = np.array([0.6, 0.4]), np.array([30.0, 5.0])
OVER = np.array([40.0, 20.0, 20.0])


def answers(n: int, signal: float, seed: int = 3, d: int = 3) -> tuple[list[Floats], list[Floats]]:
    """Return the vectors and the qualities of two arms; `signal` is how much the text matters."""
    rng = np.random.default_rng(seed)
    xs = [np.column_stack([np.ones(n), rng.standard_normal((n, d - 1)) * 0.4]) for _ in MEAN0]
    weights = [np.r_[m, signal * rng.standard_normal(d - 1)] for m in MEAN0]
    return xs, [x @ w + 0.4 * rng.standard_normal(n) for x, w in zip(xs, weights, strict=True)]


def sums_of(xs: list[Floats], ys: list[Floats], weight: float = 1.0) -> QualitySums:
    """Return the sums of outcomes that weigh `weight` each."""
    pairs = list(zip(xs, ys, strict=True))
    return QualitySums(
        np.array([weight * x.T @ x for x in xs]),
        np.array([weight * x.T @ y for x, y in pairs]),
        np.array([weight * float(y.size) for y in ys]),
        np.array([weight * float(y @ y) for y in ys]),
        MEAN0,
        N0,
    )


@pytest.mark.parametrize("over", [None, OVER], ids=["alone", "shared"])
@pytest.mark.parametrize("ridge", [1.0, 10.0, 80.0])
def test_the_evidence_is_that_of_all_outcomes_together(ridge: float, over: Floats | None) -> None:
    """It is the density of all qualities under one normal, with the likeliest noise."""
    xs, ys = answers(20, 0.5)
    own = [(x / np.r_[n0, ridge, ridge]) @ x.T for x, n0 in zip(xs, N0, strict=True)]
    covariance = np.eye(40)
    covariance[:20, :20] += own[0]
    covariance[20:, 20:] += own[1]
    if over is not None:
        x = np.concatenate(xs)
        covariance += (x / over) @ x.T
    rest = np.concatenate([y - m for y, m in zip(ys, MEAN0, strict=True)])
    left = rest @ np.linalg.solve(covariance, rest)
    direct = -0.5 * (np.linalg.slogdet(covariance)[1] + 40 * np.log(left / 40))
    assert log_evidence(sums_of(xs, ys), ridge, over) == pytest.approx(direct, abs=1e-9)


def test_an_answer_of_weight_two_is_two_answers() -> None:
    """The evidence sees sums alone, so weights count as repetitions do."""
    xs, ys = answers(20, 0.5)
    twice = sums_of([np.tile(x, (2, 1)) for x in xs], [np.tile(y, 2) for y in ys])
    double = sums_of(xs, ys, weight=2.0)
    assert log_evidence(double, 20.0, OVER) == pytest.approx(log_evidence(twice, 20.0, OVER))


def test_where_the_text_matters_little_the_ridge_is_high() -> None:
    """Arms that differ by text keep the lowest ridge; arms that do not get a high one."""
    over = np.full(20, 40.0)
    matters, not_at_all = (ridge_of(sums_of(*answers(600, s, d=20)), over) for s in (0.5, 0.0))
    assert RIDGE <= matters < 1.1 * RIDGE
    assert 4 * RIDGE < not_at_all <= RIDGES[-1]


def test_few_outcomes_say_nothing() -> None:
    """Below ENOUGH outcomes the ridge is the usual one, and so it is before any."""
    xs, ys = answers(int(ENOUGH) // 2 - 1, 0.0)
    assert ridge_of(sums_of(xs, ys), OVER) == RIDGE
    assert ridge_of(sums_of([x[:0] for x in xs], [y[:0] for y in ys]), OVER) == RIDGE


def test_an_arm_without_outcomes_says_nothing() -> None:
    """The ridge does not hang on how many arms nobody asked."""
    xs, ys = answers(200, 0.0)
    alone = QualitySums(*(part[:1] for part in sums_of(xs, ys)))
    beside = sums_of([xs[0], xs[1][:0]], [ys[0], ys[1][:0]])
    assert ridge_of(beside, OVER) == ridge_of(alone, OVER)


def test_answers_that_are_explained_wholly_are_no_trouble() -> None:
    """Where nothing is left to chance, the ridge is a number all the same."""
    xs, ys = answers(200, 0.0)
    same = [np.full(y.size, m) for y, m in zip(ys, MEAN0, strict=True)]
    assert RIDGE <= ridge_of(sums_of(xs, same), OVER) <= RIDGES[-1]


def taught(n: int, *, share: bool = True, seed: int = 0) -> RidgeArms:
    """Return two arms that were taught n answers in which the text does not matter."""
    arms = untaught(share=share)
    teach(arms, n, seed)
    return arms


def untaught(*, share: bool = True) -> RidgeArms:
    """Return two arms of which only the priors are known."""
    arms = RidgeArms(8, share=share)
    for mean in MEAN0:
        arms.add_row(ArmPrior(float(mean), 30.0))
    return arms


def teach(arms: RidgeArms, n: int, seed: int) -> None:
    """Teach two arms n answers in which the text does not matter."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        row, x = int(rng.integers(2)), np.r_[1.0, rng.standard_normal(7) * 0.5]
        good = float(rng.random() < MEAN0[row])
        arms.update(row, x, Step((1.0, 0.0, 0.0), (good, 0.0, 0.0), (good, 0.0, 0.0)))


def restarted(arms: RidgeArms) -> RidgeArms:
    """Return arms that go on from what these have dumped."""
    again = untaught()
    for row in range(arms.rows):
        again.load_row(row, arms.dump_row(row))
    again.load_shared(arms.dump_shared())
    again.load_local(arms.dump_local())
    return again


@pytest.mark.parametrize("share", [True, False])
def test_the_ridge_is_read_whenever_outcomes_have_doubled(share: bool) -> None:
    """It stays until there are enough outcomes, and from one doubling to the next."""
    at = [taught(n, share=share).ridge for n in (99, 100, 199, 200)]
    assert at[0] == RIDGE < at[1]
    assert at[1] == at[2] != at[3]


def test_estimates_follow_the_ridge() -> None:
    """Once it was read, weights and inverses are those of the ridge in force."""
    arms = taught(230)
    assert arms.ridge > RIDGE
    assert arms.residual() < 1e-9
    weights = arms.W.copy()
    arms.solve_shift()
    fresh = restarted(arms)
    np.testing.assert_allclose(fresh.W, arms.W, atol=1e-9)
    assert np.abs(weights - arms.W).max() < 0.05  # the shift alone moved


def test_a_restart_goes_on_with_the_ridge_in_force() -> None:
    """What was read off the first outcomes is read again only when they have doubled."""
    arms = taught(150)
    again = restarted(arms)
    assert again.ridge == arms.ridge
    x, step = np.eye(8)[0], Step((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    for each in (arms, again):
        each.update(0, x, step)
    assert again.ridge == arms.ridge
    np.testing.assert_allclose(again.W, arms.W, atol=1e-9)
    assert again.W.shape[0] == OUTPUTS


def test_settled_sums_have_one_ridge_whatever_the_order() -> None:
    """Two halves that are added up and settled have the ridge of the whole."""
    one, other, whole = taught(120, seed=1), taught(90, seed=2), taught(120, seed=1)
    for row in range(2):
        one.load_row(row, other.dump_row(row))
    one.load_shared(other.dump_shared())
    one.settle()
    teach(whole, 90, seed=2)
    whole.settle()
    assert one.ridge == pytest.approx(whole.ridge, abs=1e-9)
    np.testing.assert_allclose(one.W, whole.W, atol=1e-9)
