"""The change detector notices what changed, and little else."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.events import Outcome
from conduit.core.models import ModelArm
from conduit.engines.bandits import ThompsonSamplingBandit
from conduit.engines.bandits.changes import ALARM, ChangeDetector
from conduit.engines.learner import Learner

Draw = Callable[[np.random.Generator, int], np.ndarray]
shares = st.floats(0.0, 1.0)


def detector_of(rows: int, stake: float = 1.0) -> ChangeDetector:
    """Return a detector whose rows have these stakes."""
    detector = ChangeDetector()
    for row in range(rows):
        detector.add_row()
        detector.load(row, (stake, stake))
    return detector


def right(share: float) -> Draw:
    """Return what draws answers that are right so often."""
    return lambda rng, n: (rng.random(n) < share).astype(float)


def graded(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return marks of a judge who likes most answers: .9 or 1, and a few near 0."""
    return rng.choice([0.0, 0.2, 0.9, 1.0], p=[0.1, 0.02, 0.4, 0.48], size=n)


def signalled(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return what signals teach that are seldom against an answer, and then say much of it."""
    return np.where(rng.random(n) < 0.06, -0.9, 1.0)


class Watched(ThompsonSamplingBandit):
    """Counts how often a change is believed to be seen."""

    alarms = 0

    def discount(self, row: int, keep: float) -> None:
        """Count one, and go on."""
        self.alarms += 1
        super().discount(row, keep)


def first_alarm(before: Draw, after: Draw, seed: int, *, rated: int = 600) -> int | None:
    """Return after how many outcomes of a model that has changed this is noticed."""
    rng = np.random.default_rng(seed)
    learner = Learner([ModelArm("a")], 1, policy=Watched)
    for quality in before(rng, rated):
        learner.apply(Outcome("a", [1.0], quality=float(quality)))
    known = alarms_of(learner)
    for n, quality in enumerate(after(rng, 500), 1):
        learner.apply(Outcome("a", [1.0], quality=float(quality)))
        if alarms_of(learner) > known:
            return n
    return None


def alarms_of(learner: Learner) -> int:
    """Return how many alarms were raised."""
    assert isinstance(learner.policy, Watched)
    return learner.policy.alarms


@given(
    ends=st.tuples(shares, shares).filter(lambda ends: ends[0] < ends[1]),
    share=shares,
    noise=st.floats(0.05, 0.5),
    weight=st.floats(0.05, 1.0),
    seen=st.floats(30.0, 1e9),
    errors=st.floats(-1.0, 1.0),
)
def test_no_wager_pays_while_the_estimate_is_right(
    ends: tuple[float, float],
    share: float,
    noise: float,
    weight: float,
    seen: float,
    errors: float,
) -> None:
    """An estimate within its standard error lets no stake grow on average, whatever the skew."""
    mean = ends[0] + share * (ends[1] - ends[0])
    expected = mean + errors * noise / math.sqrt(seen)
    stakes = np.zeros(2)
    for value, chance in zip(ends, (1.0 - share, share), strict=True):
        detector = detector_of(1, stake=100.0)
        assert not detector.changed(0, value - expected, weight, expected, noise, seen)
        stakes += chance * np.array(detector.dump(0))
    assert (stakes <= 100.0 + 1e-9).all()
    if seen > 1e8:
        np.testing.assert_allclose(stakes, 100.0, rtol=1e-2)


@pytest.mark.parametrize(
    ("draw", "weight"),
    [(right(0.1), 1.0), (right(0.5), 1.0), (right(0.85), 1.0), (right(0.95), 1.0), (graded, 1.0),
     (signalled, 0.5)],
    ids=["seldom right", "half", "85 %", "95 %", "judge", "signals"],
)  # fmt: skip
def test_a_model_that_stays_as_it_is_raises_hardly_any_alarm(draw: Draw, weight: float) -> None:
    """In 60,000 outcomes, however skewed, there is one alarm at most."""
    outcomes, detector = draw(np.random.default_rng(1), 60_000), detector_of(1)
    mean, noise = float(outcomes.mean()), min(float(outcomes.std()), 0.5)
    alarms = sum(
        detector.changed(0, off, weight, mean, noise, 1000.0) for off in (outcomes - mean).tolist()
    )
    assert alarms <= 1


def test_a_learner_keeps_what_it_knows_of_a_model_that_is_mostly_right() -> None:
    """A model right 85 times of 100 raises no alarm in 40,000 outcomes."""
    learner = Learner([ModelArm("a")], 1, policy=Watched)
    for quality in right(0.85)(np.random.default_rng(0), 30_000):
        learner.apply(Outcome("a", [1.0], quality=float(quality)))
    assert alarms_of(learner) == 0


def scaled(draw: Draw, factor: float) -> Draw:
    """Return what draws outcomes of so much of the quality."""
    return lambda rng, n: factor * draw(rng, n)


@pytest.mark.parametrize(
    ("before", "after", "within"),
    [(right(0.9), right(0.495), 30), (right(0.8), right(0.44), 45), (right(0.7), right(0.385), 60),
     (right(0.8), scaled(right(0.8), 0.55), 60), (graded, scaled(graded, 0.55), 30),
     (right(0.5), right(0.77), 80), (right(0.7), right(0.87), 180)],
    ids=[".9 to .495", ".8 to .44", ".7 to .385", "answers worth 55 %", "judge", "half to .77",
         ".7 to .87"],
)  # fmt: skip
def test_a_change_is_noticed(before: Draw, after: Draw, within: int) -> None:
    """A fall to 55 % is noticed within some forty outcomes, a rise somewhat later."""
    delays = [first_alarm(before, after, seed) for seed in range(9)]
    assert None not in delays
    assert np.median([d for d in delays if d]) <= within


def asked_after_its_fall(seed: int, *, watching: bool) -> int:
    """Return how often a model is asked in the 400 queries after it fell behind another one."""
    learner = Learner(
        [ModelArm("a", quality=0.8), ModelArm("b", quality=0.65)],
        1,
        seed=seed,
        change_detection=watching,
    )
    rng, models = np.random.default_rng(seed), []
    for n in range(1400):
        share = {"a": 0.8 if n < 1000 else 0.44, "b": 0.65}
        models.append(learner.decide([1.0]).model)
        quality = float(rng.random() < share[models[-1]])
        learner.apply(Outcome(models[-1], [1.0], quality=quality))
    return models[1000:].count("a")


def test_a_model_that_falls_is_left() -> None:
    """Who looks for changes leaves a model that fell to 55 % within its next eighty answers."""
    watching, plain = (
        [asked_after_its_fall(seed, watching=on) for seed in range(5)] for on in (True, False)
    )
    assert np.median(watching) <= 80
    assert min(plain) >= 300


def test_a_few_outcomes_are_no_change() -> None:
    """Outcomes as far off as can be, where hardly anything varied before, need to be some four."""
    detector = detector_of(1)
    alarms = [detector.changed(0, -0.99, 1.0, 0.99, 0.05, 1000.0) for _ in range(5)]
    assert alarms[:3] == [False] * 3
    assert any(alarms)


def test_stakes_are_kept_per_row() -> None:
    """A row's stakes can be dumped and loaded, and other rows do not feel them."""
    detector, other = detector_of(2), detector_of(2)
    for _ in range(5):
        detector.changed(1, 0.4, 1.0, 0.6, 0.4, 100.0)
    assert detector.dump(0) == (1.0, 1.0)
    other.load(0, detector.dump(1))
    assert other.dump(0) == pytest.approx(((1.0 + 0.36 / 1.2) ** 5, 1.0))
    detector.remove_row(0)
    assert detector.dump(0) == other.dump(0)


def test_after_an_alarm_the_wagers_start_again() -> None:
    """An alarm sets both stakes of its row back."""
    detector = detector_of(1, stake=0.9 * ALARM)
    assert detector.changed(0, -0.5, 1.0, 0.8, 0.4, 100.0)
    assert detector.dump(0) == (1.0, 1.0)
