"""What a learner holds: read later, taken back, kept, restored, merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from conduit.core.errors import ConduitError, IncompatibleState, InvalidInput
from conduit.core.events import Evidence, Outcome, Snapshot
from conduit.core.models import ModelArm
from conduit.engines.bandits.policies import POLICIES, LinUCBBandit
from conduit.engines.learner import Learner
from conduit.testing.worlds import World

WORLD = World(quality=(0.5, 0.6, 0.7), tilt=(0.1, 0.0, -0.1), cost_usd=(0.001, 0.003, 0.01),
              latency_s=(0.5, 1.0, 2.0))  # fmt: skip
TWO = [ModelArm("a"), ModelArm("b")]
X = [1.0] + [0.0] * (WORLD.dim - 1)
OTHERS = sorted(set(POLICIES) - {"oracle"})


def taught(count: int = 60, **options: Any) -> Learner:
    """Return a learner that was taught so many outcomes."""
    learner = Learner(WORLD.models, WORLD.dim, seed=3, **options)
    for outcome in WORLD.outcomes(count, seed=1):
        learner.apply(outcome)
    return learner


@pytest.mark.parametrize("policy", OTHERS)
def test_what_a_choice_tells_does_not_change_with_what_is_learned_later(policy: str) -> None:
    """Probabilities are those of the decision, whenever they are read."""
    options: dict[str, Any] = {"policy": policy}
    learner, twin = (Learner(TWO, 1, seed=5, **options) for _ in range(2))
    for each in (learner, twin):
        each.apply(Outcome("a", [1.0], quality=0.9))
        each.apply(Outcome("b", [1.0], quality=0.6))
    at_once = twin.decide([1.0])
    assert at_once.propensities.sum() == pytest.approx(1.0)
    now = (at_once.confidence, list(at_once.propensities), at_once.ranked)
    later = learner.decide([1.0])
    for count in range(150):
        learner.apply(Outcome("ab"[count % 2], [1.0], quality=float(count % 2)))
    assert (later.confidence, list(later.propensities), later.ranked) == now


def test_estimates_are_of_the_models_of_their_decision() -> None:
    """A model that came since does not lend its deviations to one that was there before."""
    learner = Learner([*TWO, ModelArm("c")], 2, seed=0)
    for count in range(300):
        model = "a" if count < 280 else "bc"[count % 2]
        seconds = {"a": 1.0, "b": 10.0, "c": 100.0}[model] * (1.0 + 0.1 * (count % 3))
        learner.apply(Outcome(model, [1.0, count % 2], quality=0.5, latency_s=seconds))
    at_once, later = learner.decide([1.0, 0.0]).estimates, learner.decide([1.0, 0.0])
    learner.remove_model("a")
    learner.add_model(ModelArm("d"))
    sd, other = at_once["c"].latency_sd, later.estimates["c"].latency_sd
    assert sd is not None
    assert other is not None
    assert other < 2.0 * sd


@pytest.mark.parametrize("policy", OTHERS)
@pytest.mark.parametrize("weight", [1.0, 1000.0])
def test_what_is_taken_back_before_it_was_taught_is_no_harm(policy: str, weight: float) -> None:
    """As at a replica that holds only the revisions: it decides, and is right once all is there."""
    learner, never = (Learner(TWO, 1, seed=0, policy=policy) for _ in range(2))
    said = Evidence(quality=0.9, quality_weight=weight, cost_usd=0.1, latency_s=1.0)
    for _ in range(3):
        learner.apply(Outcome("a", [1.0], revises=said))
        choice = learner.decide([1.0])
        assert np.isfinite(choice.propensities).all()
        assert np.isfinite(learner.expect([1.0]).prediction.quality).all()
        assert 0.0 <= learner.expect([1.0]).prediction.quality[0] <= 1.0
        assert Learner.restore(learner.snapshot(), TWO).decide([1.0]).model in ("a", "b")
    for each in (learner, never):
        each.apply(Outcome("b", [1.0], quality=0.7))
    for _ in range(3):
        learner.apply(Outcome.of("a", [1.0], said))  # type: ignore[arg-type]
    learner.settle()
    never.settle()
    one, other = (each.expect([1.0]).prediction for each in (learner, never))
    np.testing.assert_allclose(one.quality, other.quality, atol=1e-9)
    np.testing.assert_allclose(one.leverage, other.leverage, atol=1e-9)


@pytest.mark.parametrize("policy", ["contextual_thompson", "linucb", "hybrid", "ucb1"])
def test_the_order_of_outcomes_does_not_matter_once_all_is_settled(policy: str) -> None:
    """What is renewed now and then, the shift and the ridge, follows from the sums alone."""
    outcomes = list(WORLD.outcomes(400, seed=2))
    learners = []
    for seed in range(2):
        learner = Learner(WORLD.models, WORLD.dim, policy=policy, change_detection=False)
        for place in np.random.default_rng(seed).permutation(len(outcomes)):
            learner.apply(outcomes[place])
        learner.settle()
        learners.append(learner)
    one, other = (each.expect(X).prediction for each in learners)
    np.testing.assert_allclose(one.quality, other.quality, atol=1e-9)
    np.testing.assert_allclose(one.costs, other.costs, rtol=1e-9)


def test_an_average_query_is_of_the_calls_that_were_measured() -> None:
    """Where only short queries are rated, long ones still count for what a query costs."""
    learner = Learner(TWO, 2, seed=0)
    for count in range(400):
        long = float(count % 2)
        for model, usd in (("a", 0.01), ("b", 0.02)):
            quality = None if long else 0.7
            cost = usd * (1.0 + 9.0 * long)
            learner.apply(Outcome(model, [1.0, long], quality=quality, cost_usd=cost))
    dollars, _ = learner.expect([1.0, 0.0]).scales
    assert dollars == pytest.approx(0.11, rel=0.01)


def test_a_restored_learner_goes_on_with_what_it_was_made_with() -> None:
    """The prior's weight and the floor are in the snapshot; what is given replaces them."""
    learner = taught(floor=0.5, prior_observations=3.0, change_detection=False)
    again = Learner.restore(learner.snapshot(), WORLD.models)
    assert (again.floor, again.prior_observations, again.change_detection) == (0.5, 3.0, False)
    before, after = (each.expect(X).prediction.quality for each in (learner, again))
    np.testing.assert_allclose(before, after, rtol=1e-12)
    assert Learner.restore(learner.snapshot(), WORLD.models, floor=0.1).floor == 0.1


def test_a_policy_that_a_factory_made_must_be_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A snapshot does not turn into the policy of the same name with other constants."""
    eager = partial(LinUCBBandit, alpha=50.0)
    snapshot = taught(policy=eager).snapshot()
    with pytest.raises(InvalidInput, match="give it again"):
        Learner.restore(snapshot, WORLD.models)
    chosen = Learner.restore(snapshot, WORLD.models, policy=eager).policy
    assert chosen.exploration.alpha == 50.0  # type: ignore[attr-defined]
    monkeypatch.setitem(POLICIES, "eager", eager)
    kept = Snapshot.from_bytes(taught(policy="eager").snapshot().to_bytes())
    named = Learner.restore(kept, WORLD.models).policy
    assert named.exploration.alpha == 50.0  # type: ignore[attr-defined]


def _with(snapshot: Snapshot, change: Callable[[dict[str, Any]], None]) -> Snapshot:
    arms: dict[str, Any] = {
        name: {key: array.copy() for key, array in sums.items()}
        for name, sums in snapshot.arms.items()
    }
    change(arms)
    return replace(snapshot, arms=arms)


def _not_finite(arms: dict[str, Any]) -> None:
    arms["large"]["A"][...] = np.nan


def _of_another_shape(arms: dict[str, Any]) -> None:
    arms["large"]["A"] = arms["large"]["A"][:, :3]


def _empty(arms: dict[str, Any]) -> None:
    arms["large"] = {}


@pytest.mark.parametrize("change", [_not_finite, _of_another_shape, _empty])
def test_sums_that_cannot_be_read_are_refused_whole(
    change: Callable[[dict[str, Any]], None],
) -> None:
    """Whatever is wrong with one model's sums, nothing of the others is added."""
    learner = taught()
    before = learner.snapshot().to_bytes()
    bad = _with(learner.snapshot(), change)
    with pytest.raises(IncompatibleState):
        learner.merge(bad)
    assert learner.snapshot().to_bytes() == before
    with pytest.raises(IncompatibleState):
        Learner.restore(bad, WORLD.models)
    with pytest.raises(IncompatibleState):
        learner.merge(replace(learner.snapshot(), shared={}))
    assert learner.snapshot().to_bytes() == before


WRONG: list[Callable[[Learner], object]] = [
    lambda one: one.apply(None),  # type: ignore[arg-type]
    lambda one: one.apply(Evidence(quality=1.0)),  # type: ignore[arg-type]
    lambda one: one.decide(X, candidates="small"),
    lambda one: one.decide(X, candidates=5),  # type: ignore[arg-type]
    lambda one: one.decide(X, candidates=[["small"]]),  # type: ignore[list-item]
    lambda one: one.decide(X, saved_usd=["small"]),  # type: ignore[arg-type]
    lambda one: one.decide(X, cost_weight=-1e300),
    lambda one: one.add_model("another"),  # type: ignore[arg-type]
    lambda one: one.park(5),  # type: ignore[arg-type]
    lambda one: one.merge(one.snapshot().to_bytes()),  # type: ignore[arg-type]
    lambda one: Learner(["small"], 3),  # type: ignore[list-item]
    lambda one: Learner(WORLD.models, True),
    lambda one: Learner.restore(one.snapshot().to_bytes(), WORLD.models),  # type: ignore[arg-type]
    lambda one: one.fit([["1"] + ["0"] * (WORLD.dim - 1)], {"small": [1.0]}),
    lambda one: one.fit(np.ones((1, WORLD.dim)) * 1j, {"small": [1.0]}),
    lambda one: one.fit([X], {"small": ["1"]}),
    lambda one: one.fit([X], {"small": [10**400]}),
    lambda one: one.fit([X], [{"small": Outcome("large", X, quality=1.0)}]),
    lambda one: one.fit([X], [{"small": Evidence(quality=0.5, lift=0.4)}]),
    lambda one: one.fit(
        [X], [{"small": Outcome("small", X, quality=1.0, revises=Evidence(quality=0.0))}]
    ),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_of_the_wrong_kind_is_named(wrong: Callable[[Learner], object]) -> None:
    """Where something else was meant, the error is ours, names the field, and nothing changes."""
    learner = taught()
    before = learner.snapshot().to_bytes()
    with pytest.raises(ConduitError) as error:
        wrong(learner)
    assert isinstance(error.value, InvalidInput)
    assert error.value.field
    assert error.value.expected
    assert learner.snapshot().to_bytes() == before


def test_a_calibration_teaches_what_single_outcomes_teach() -> None:
    """The same numbers: vectors are rounded alike, and the parameter is called X."""
    rng = np.random.default_rng(0)
    matrix = np.column_stack([np.ones(80), rng.normal(size=(80, 2))])
    quality = (rng.random(80) < 0.5).astype(float)
    at_once, one_by_one = (Learner(TWO, 3, seed=1, change_detection=False) for _ in range(2))
    at_once.fit(X=matrix, outcomes={"a": quality})
    for x, said in zip(matrix, quality, strict=True):
        one_by_one.apply(Outcome("a", x, quality=said))
    one_by_one.settle()
    one, other = (each.expect([1.0, 1.0, 0.5]).prediction for each in (at_once, one_by_one))
    np.testing.assert_allclose(one.quality, other.quality, atol=1e-12)


def test_what_is_masked_is_unknown() -> None:
    """A masked array hides numbers that nobody meant."""
    quality = np.ma.array([1.0, 0.0, 1.0], mask=[False, True, False])
    learner = Learner(TWO, 1, seed=0)
    assert learner.fit([[1.0]] * 3, {"a": quality}) == 2
    assert learner.policy.pulls()[0] == 2.0


def test_names_of_models_are_plain_strings() -> None:
    """Candidates may come from an array; what is chosen is the id that was registered."""
    choice = Learner(TWO, 1, seed=0).decide([1.0], candidates=np.array(["b", "a"]))  # type: ignore[arg-type]
    assert type(choice.model) is str
    assert [type(name) for name in choice.models] == [str, str]


def test_a_dimension_may_be_an_integer_of_numpy() -> None:
    """The width of a matrix is a good dimension."""
    assert Learner(TWO, np.int64(3)).dim == 3  # type: ignore[arg-type]
