"""The contract of a policy catches what it forbids: one broken policy for each promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conduit.engines.bandits import (
    ContextualThompsonBandit,
    LinUCBBandit,
    ThompsonSamplingBandit,
)
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


class OwnChance(ThompsonSamplingBandit):
    """Draws from a generator of its own, which begins anew with every process."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        chance, chosen = np.random.default_rng(0), self.exploration.select
        self.select = lambda view, rng: chosen(view, chance)


class CertainOfTwo(ThompsonSamplingBandit):
    """Picks the second where there are two, whatever it says of them."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        chosen = self.exploration.select
        self.select = lambda view, rng: 1 if view.quality.size == 2 else chosen(view, rng)


class WritesInTheView(ThompsonSamplingBandit):
    """Leaves its own numbers in what it was shown."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        chosen = self.exploration.select

        def select(view: View, rng: np.random.Generator) -> int:
            view.quality[:] = view.quality - view.penalty
            return chosen(view, rng)

        self.select = select


class ReusesArrays(LinUCBBandit):
    """Puts each prediction into the arrays of the one before."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.kept = np.zeros(0)
        self.predict = self._into_the_kept  # type: ignore[method-assign]

    def _into_the_kept(self, x: Floats) -> Prediction:
        found = self.estimates.predict(x)
        if self.kept.shape != found.quality.shape:
            self.kept = np.empty_like(found.quality)
        self.kept[:] = found.quality
        return found._replace(quality=self.kept)


class SharesOfToday(ContextualThompsonBandit):
    """Works propensities out from what it knows when it is asked, not from the view."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.propensities = self._now

    def _now(self, view: View) -> Floats:
        quality = self.estimates.predict(np.eye(self.dim)[0]).quality
        if quality.size != view.quality.size:
            return np.full(view.quality.size, 1.0 / view.quality.size)
        return self.exploration.propensities(view._replace(quality=quality))


class CountsOfToday(ContextualThompsonBandit):
    """Hands out the counts behind its rows and goes on counting in them."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.counts = np.zeros(0)
        self.behind = self._counted

    def _counted(self) -> Floats:
        now = self.estimates.behind()
        if self.counts.shape != now.shape:
            self.counts = now.copy()
        self.counts[:] = now
        return self.counts


class DumpsItself(ThompsonSamplingBandit):
    """Gives its sums away, and not a copy of them."""

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {**super().dump_row(row), "sums": self.estimates.sums[row]}


class AddsInTheDump(ThompsonSamplingBandit):
    """Adds up in the arrays that it is given."""

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:  # noqa: D102
        held = self.estimates.sums[row].copy()
        super().load_row(row, sums, spend=spend)
        sums["sums"][:] += held


class WeighsAlike(ThompsonSamplingBandit):
    """Takes each rating of a calibration for one observation, whatever it weighs."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        taught = self.estimates.update_many
        self.update_many = lambda row, x, weight, value: taught(
            row, x, (weight > 0.0).astype(np.float64), value
        )


class KnowsNothingBehind(ContextualThompsonBandit):
    """Says that nothing stands behind its estimates."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.behind = lambda: np.zeros(self.estimates.rows)


class Boastful(ThompsonSamplingBandit):
    """Gives leverages in units of its own."""

    def leverages(self, x: Floats) -> Floats:  # noqa: D102
        return super().leverages(x) * [[1.0], [100.0], [100.0]]


class BoastfulOfQuality(ThompsonSamplingBandit):
    """Gives another leverage than its predictions have."""

    def leverages(self, x: Floats) -> Floats:  # noqa: D102
        return super().leverages(x) * [[100.0], [1.0], [1.0]]


class MixesUnits(ThompsonSamplingBandit):
    """Adds dollars to tokens."""

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:  # noqa: D102
        super().load_row(row, sums)


class ForgetsAll(ThompsonSamplingBandit):
    """Forgets of an arm that has changed what it costs, too."""

    def discount(self, row: int, keep: float) -> None:  # noqa: D102
        self.estimates.sums[row, :, 1:] *= keep
        super().discount(row, keep)


BROKEN: list[tuple[type[Any], str]] = [
    (GlobalChance, "test_the_same_seed_decides_the_same"),
    (OwnChance, "test_picking_changes_nothing"),
    (OwnChance, "test_state_survives_bytes"),
    (CountsItsChoices, "test_picking_changes_nothing"),
    (WritesInTheView, "test_picking_changes_nothing"),
    (WrongShares, "test_propensities_are_those_of_the_choices"),
    (CertainOfTwo, "test_propensities_are_those_of_the_choices"),
    (ReusesArrays, "test_a_choice_says_later_what_it_said_at_once"),
    (ReusesArrays, "test_what_was_returned_is_not_written_again"),
    (SharesOfToday, "test_a_choice_says_later_what_it_said_at_once"),
    (CountsOfToday, "test_a_choice_says_later_what_it_said_at_once"),
    (DumpsItself, "test_what_was_returned_is_not_written_again"),
    (AddsInTheDump, "test_what_was_returned_is_not_written_again"),
    (FirstOfEquals, "test_a_burst_of_equals_is_spread"),
    (DeafToFlight, "test_calls_in_flight_count"),
    (CountsItsChoices, "test_preferences_never_write"),
    (LearnsNothing, "test_outcomes_are_learned"),
    (Confused, "test_outcomes_are_learned"),
    (LastWord, "test_the_order_of_updates_does_not_matter"),
    (LastWord, "test_two_halves_merged_are_the_whole"),
    (NotASum, "test_two_halves_merged_are_the_whole"),
    (TeachesHalf, "test_many_outcomes_at_once_are_the_same_sums"),
    (WeighsAlike, "test_many_outcomes_at_once_are_the_same_sums"),
    (KnowsNothingBehind, "test_what_is_counted_is_what_was_told"),
    (Boastful, "test_leverages_are_in_units_of_one_observation"),
    (BoastfulOfQuality, "test_leverages_are_in_units_of_one_observation"),
    (MixesUnits, "test_where_a_price_changed_spend_is_learned_anew"),
    (NoTakingBack, "test_a_revision_replaces_what_it_revises"),
    (ForgetsTheRest, "test_models_appear_and_vanish"),
    (LeavesOut, "test_state_survives_bytes"),
    (KeepsLocals, "test_state_survives_bytes"),
    (NeverForgets, "test_what_a_change_forgets_stays_forgotten"),
    (ForgetsAll, "test_what_a_change_forgets_stays_forgotten"),
]


@pytest.mark.parametrize(("policy", "promise"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_policy_that_breaks_a_promise_is_caught(policy: type[Any], promise: str) -> None:
    """The test of the promise fails for a policy that does not keep it."""
    test: Callable[[Any], None] = getattr(PolicyContract(), promise)
    with pytest.raises(AssertionError):
        test(policy)
