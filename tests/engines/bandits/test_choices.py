"""What is read of a choice after it was made, and of candidates before."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.core.errors import InvalidInput
from conduit.core.events import Outcome
from conduit.core.models import ModelArm
from conduit.engines.bandits.arms import MOST_PLACES, Arms
from conduit.engines.bandits.base import OUTPUTS
from conduit.engines.learner import Learner

ARMS = [
    ModelArm("a", quality=0.5, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
    ModelArm("b", quality=0.9),
    ModelArm("c", quality=0.7),
]
X = [1.0, 0.25]


def test_readings_are_worked_out_once() -> None:
    """Propensities, confidence and estimates are the same objects or numbers when read again."""
    choice = Learner(ARMS, 2, seed=1).decide(X)
    assert choice.propensities is choice.propensities
    assert choice.estimates is choice.estimates
    assert choice.confidence == choice.confidence
    assert sum(e.propensity for e in choice.estimates.values()) == pytest.approx(1.0)


def test_candidates_are_ranked_by_utility() -> None:
    """The most useful comes first, whichever was chosen."""
    choice = Learner(ARMS, 2, seed=1).decide(X)
    utilities = [choice.estimates[model].utility for model in choice.ranked]
    assert utilities == sorted(utilities, reverse=True)


def test_a_choice_is_read_after_its_models_changed() -> None:
    """Estimates of an old choice keep their models; each deviation is then that of quality."""
    learner = Learner(ARMS, 2, seed=1)
    choice = learner.decide(X)
    learner.remove_model("c")
    assert list(choice.estimates) == ["a", "b", "c"]
    assert choice.estimates["c"].quality == pytest.approx(0.7)


def test_an_average_query_is_worked_out_when_something_was_learned() -> None:
    """Expectations of an average query stay the same arrays until an outcome comes."""
    learner = Learner(ARMS, 2, seed=1)
    first, again = (learner.expect(X, input_tokens=9.0) for _ in range(2))
    assert again.mean_costs is first.mean_costs
    learner.apply(Outcome("a", np.array(X, np.float32), quality=1.0, output_tokens=9.0))
    assert learner.expect(X, input_tokens=9.0).mean_costs[0, 0] != first.mean_costs[0, 0]


def test_remembered_candidates_are_bounded() -> None:
    """However many lists of candidates are asked for, the rows of a bounded number are kept."""
    arms = Arms()
    for k in range(12):
        arms.add(ModelArm(f"m{k}"))
    for code in range(1, 2 * MOST_PLACES):
        ids = [name for k, name in enumerate(arms.ids) if code >> k & 1]
        rows, named = arms.candidates(ids)
        assert rows is not None
        assert [arms.ids[row] for row in rows] == list(named) == ids
    assert len(arms._places) <= MOST_PLACES


@pytest.mark.parametrize(
    ("ids", "field"), [([], "candidates"), (["m", "m"], "candidates"), (["x"], "model")]
)
def test_odd_candidates_are_refused(ids: list[str], field: str) -> None:
    """None, one twice and one that is not there are refused by name."""
    arms = Arms()
    with pytest.raises(InvalidInput) as refused:
        arms.candidates(None)
    assert refused.value.field == "models"
    arms.add(ModelArm("m"))
    with pytest.raises(InvalidInput) as refused:
        arms.candidates(ids)
    assert refused.value.field == field


def test_the_oracle_picks_what_it_was_told() -> None:
    """With the truth revealed the best is chosen; before, the priors are believed."""
    learner = Learner(ARMS, 2, policy="oracle", seed=1, floor=0.0)
    assert learner.decide(X).model == "b"
    learner.policy.reveal(np.array([1.0, 0.0, 0.5]), np.zeros(OUTPUTS))  # type: ignore[attr-defined]
    assert learner.decide(X).model == "a"


def test_dollars_and_tokens_of_a_parked_model_are_kept_apart() -> None:
    """A model that only a snapshot knows is parked with the units in which it was learned."""
    learner = Learner(ARMS, 2, seed=1)
    for model in ("a", "b"):
        learner.apply(
            Outcome(model, np.array(X, np.float32), quality=1.0, output_tokens=9.0, cost_usd=0.1)
        )
    other = Learner.restore(learner.snapshot(), [ARMS[2]])
    assert {arm.id: arm.priced for arm in other._parked.arms} == {
        "a": True, "b": False
    }  # fmt: skip
