"""Who rates is not random: what is learned of a model does not depend on it."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from conduit.core.events import SOURCE_RANK, DecisionRecord, Evidence, Remark
from conduit.core.models import ModelArm, as_vector
from conduit.engines.learner import Learner
from conduit.feedback.experience import SignalExperience
from conduit.testing.records import an_entry

X = as_vector([1.0])
RIGHT = 0.75  # of the signals


class World:
    """Calls with a signal each, of which some are rated; all of it is taught as a router is."""

    def __init__(self, truth: Mapping[str, float], seed: int) -> None:
        self.truth = truth
        self.rng = random.Random(seed)
        self.experience = SignalExperience()
        self.learner = Learner([ModelArm(m, quality=0.7) for m in truth], 1, seed=1)
        self.ratings: dict[str, list[float]] = {m: [] for m in truth}

    def run(self, decisions: int, use: Mapping[str, float], rates: Mapping[str, float]) -> None:
        """Make calls; `rates` is how often a call is rated, by its signal."""
        for t in range(decisions):
            (model,) = self.rng.choices(list(use), list(use.values()))
            quality = float(self.rng.random() < self.truth[model])
            kind = "no_error" if (self.rng.random() < RIGHT) == bool(quality) else "retry"
            found = self.experience.weigh(kind, float(kind == "no_error"), model)
            assert found is not None
            signal = Remark(kind, float(kind == "no_error"), found.taught(Evidence()))
            self._log(t, model, signal, None)
            if self.rng.random() < rates[kind]:
                said = Evidence(quality=quality, rank=SOURCE_RANK["user"])
                self.ratings[model].append(quality)
                self._log(t, model, Remark("explicit", None, said), signal)

    def _log(self, t: int, model: str, remark: Remark, before: Remark | None) -> None:
        decision = DecisionRecord(
            id=str(t), router="r", model=model, x=X, schema="", created_at=0.0, expires_at=1.0
        )
        entry = an_entry(decision, [remark] if before is None else [before, remark])
        self.learner.apply(entry.outcome())
        self.experience.learn(entry)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth", "rates"),
    [
        ({"most": 0.85, "second": 0.7, "third": 0.55}, {"retry": 0.3, "no_error": 0.02}),
        ({"most": 0.9, "second": 0.6, "third": 0.3}, {"retry": 0.5, "no_error": 0.0}),
    ],
)
def test_estimates_hold_whoever_rates(
    truth: Mapping[str, float], rates: Mapping[str, float]
) -> None:
    """Where the dissatisfied rate, each model's quality is within 0.05."""
    world = World(truth, seed=5)
    world.run(12_000, {"most": 0.5, "second": 0.3, "third": 0.2}, rates)
    counted, expected = world.experience.quality_by_model(), world.learner.expect(X)
    for model, quality in zip(truth, expected.prediction.quality, strict=True):
        given = world.ratings[model]
        assert abs(sum(given) / len(given) - truth[model]) > 0.07  # what ratings alone say
        assert abs(counted[model] - truth[model]) <= 0.05
        assert abs(quality - truth[model]) <= 0.05


def test_more_of_the_calls_of_one_class_being_rated_moves_no_weight() -> None:
    """Two signals on one call weigh the same; the more telling one counts."""
    world = World({"most": 0.8, "second": 0.6}, seed=2)
    world.run(1_000, {"most": 0.7, "second": 0.3}, {"retry": 0.4, "no_error": 0.01})
    for model in world.truth:
        fine = world.experience.weigh("no_error", 1.0, model)
        again = world.experience.weigh("retry", 0.0, model)
        assert fine is not None
        assert again is not None
        assert fine.weight == again.weight
        assert fine.telling < again.telling
        assert fine.quality + fine.lift > again.quality + again.lift
