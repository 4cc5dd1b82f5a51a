"""The contract of a policy catches what it forbids: one broken policy for each promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conduit.engines.bandits import LinUCBBandit, ThompsonSamplingBandit
from conduit.engines.bandits.base import QUALITY, Arrays, Floats, Prediction, Step, View
from conduit.testing.policies import PolicyContract


class GlobalChance(ThompsonSamplingBandit):
    """Draws from the generator of the whole process."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.select = lambda view, rng: int(np.random.randint(view.quality.size))  # noqa: NPY002  the fault


class FirstOfEquals(LinUCBBandit):
    """Takes the first of the best, and looks at no call in flight."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.select = lambda view, rng: int((view.quality - view.penalty).argmax())


class DeafToFlight(LinUCBBandit):
    """Says that calls in flight count, and picks by quality alone."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.select = lambda view, rng: int(view.quality.argmax())


class WrongShares(ThompsonSamplingBandit):
    """Says that every arm is as probable, whatever it does."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.propensities = lambda view: np.full(view.quality.size, 1.0 / view.quality.size)


class CountsItsChoices(ThompsonSamplingBandit):
    """Writes what it chose into what it learned."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        chosen = self.exploration.select

        def select(view: View, rng: np.random.Generator) -> int:
            self.estimates.n[0, QUALITY] += 1e-3
            return chosen(view, rng)

        self.select = select


class LastWord(ThompsonSamplingBandit):
    """Weighs what comes later more."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.updates = 0
        self.update = self._later_more  # type: ignore[method-assign, assignment]

    def _later_more(self, row: int, x: Floats, step: Step) -> float:
        self.updates += 1
        more = 1.0 + self.updates / 100.0
        return self.estimates.update(row, x, Step(*(more * np.array(step))))


class LearnsNothing(ThompsonSamplingBandit):
    """Lets outcomes pass."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.update = lambda row, x, step: 0.0


class NoTakingBack(ThompsonSamplingBandit):
    """Adds the new evidence of a call and keeps the old."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.update = self._forwards  # type: ignore[method-assign, assignment]

    def _forwards(self, row: int, x: Floats, step: Step) -> float:
        return self.estimates.update(row, x, Step(*np.maximum(np.array(step), 0.0)))


class TeachesHalf(ThompsonSamplingBandit):
    """Learns less of a calibration than of single outcomes."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.update_many = self._halved  # type: ignore[method-assign, assignment]

    def _halved(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        self.estimates.update_many(row, x, weight / 2, value)


class NotASum(ThompsonSamplingBandit):
    """Replaces what it has by what it loads."""

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:  # noqa: D102
        self.estimates.n[row] = 0.0
        super().load_row(row, sums, spend=spend)


class ForgetsTheRest(ThompsonSamplingBandit):
    """Loses the last arm's evidence when another goes."""

    def remove_row(self, row: int) -> None:  # noqa: D102
        super().remove_row(row)
        self.estimates.n[-1:] = 0.0


class LeavesOut(ThompsonSamplingBandit):
    """Does not write down all that its choices follow from."""

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:  # noqa: D102
        sums = super().dump_row(row)
        return {**sums, "sums": sums["sums"] * 0.5}


class KeepsLocals(LinUCBBandit):
    """Does not write down the shift that is in force."""

    def dump_local(self) -> dict[str, Any]:  # noqa: D102
        return {"shift": [0.0] * self.dim, "since_share": 0}

    def load_local(self, local: Mapping[str, Any]) -> None:  # noqa: D102
        super().load_local(self.dump_local())


class NeverForgets(ThompsonSamplingBandit):
    """Ignores that an arm has changed."""

    def discount(self, row: int, keep: float) -> None:  # noqa: D102
        pass


class Confused(ThompsonSamplingBandit):
    """Expects everything of the arms in the reverse order."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        predict = self.predict
        self.predict = lambda x: Prediction(*(part[..., ::-1] for part in predict(x)))  # type: ignore[method-assign]


BROKEN: list[tuple[type[Any], str]] = [
    (GlobalChance, "test_the_same_seed_decides_the_same"),
    (WrongShares, "test_propensities_are_those_of_the_choices"),
    (FirstOfEquals, "test_a_burst_of_equals_is_spread"),
    (DeafToFlight, "test_calls_in_flight_count"),
    (CountsItsChoices, "test_preferences_never_write"),
    (LearnsNothing, "test_outcomes_are_learned"),
    (Confused, "test_outcomes_are_learned"),
    (LastWord, "test_the_order_of_updates_does_not_matter"),
    (LastWord, "test_two_halves_merged_are_the_whole"),
    (NotASum, "test_two_halves_merged_are_the_whole"),
    (TeachesHalf, "test_many_outcomes_at_once_are_the_same_sums"),
    (NoTakingBack, "test_a_revision_replaces_what_it_revises"),
    (ForgetsTheRest, "test_models_appear_and_vanish"),
    (LeavesOut, "test_state_survives_bytes"),
    (KeepsLocals, "test_state_survives_bytes"),
    (NeverForgets, "test_what_a_change_forgets_stays_forgotten"),
]


@pytest.mark.parametrize(("policy", "promise"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_policy_that_breaks_a_promise_is_caught(policy: type[Any], promise: str) -> None:
    """The test of the promise fails for a policy that does not keep it."""
    test: Callable[[Any], None] = getattr(PolicyContract(), promise)
    with pytest.raises(AssertionError):
        test(policy)
