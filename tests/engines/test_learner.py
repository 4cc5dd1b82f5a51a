"""The learning loop: what is refused leaves every bit as it was, and what is told is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.core.errors import IncompatibleState, InvalidInput
from conduit.core.events import Evidence, Outcome, Snapshot
from conduit.core.models import ModelArm, Preferences
from conduit.engines.learner import Learner
from conduit.testing.worlds import OPPOSITE_TOPICS, World

WORLD = World(quality=(0.5, 0.6, 0.7), tilt=(0.1, 0.0, -0.1), cost_usd=(0.001, 0.003, 0.01),
              latency_s=(0.5, 1.0, 2.0))  # fmt: skip
DIM = WORLD.dim
NAMES = WORLD.names[:3]
X = [1.0] + [0.0] * (DIM - 1)
EVIDENCE = ("quality", "quality_weight", "cost_usd", "input_tokens", "output_tokens", "latency_s")


def bits(learner: Learner) -> bytes:
    """Return everything that a learner holds."""
    return learner.snapshot().to_bytes()


def experienced(**options: Any) -> Learner:
    """Return a learner that has decided and learned, with a model of which something is parked."""
    learner = Learner([*WORLD.models, ModelArm("gone")], DIM, seed=3, schema="ours", **options)
    learner.apply(Outcome("gone", X, quality=1.0))
    learner.remove_model("gone")
    for outcome in WORLD.outcomes(60, seed=1):
        learner.decide(outcome.x)
        learner.apply(outcome)
    return learner


LEARNER = experienced()
BEFORE = bits(LEARNER)

# What no vector, number or name of the right kind is.
NO_NUMBER = st.one_of(
    st.sampled_from(
        [float("nan"), float("inf"), float("-inf"), 1e300, -1e300, "one", None, [], b"1"]
    ),
    st.floats(max_value=-1e-9, allow_nan=False),
)
NOT_FINITE = st.sampled_from([float("nan"), float("inf"), float("-inf")])


@st.composite
def bad_vectors(draw: st.DrawFn) -> Any:
    """Draw what cannot be decided or learned on: of another length, not finite, or no numbers."""
    kind = draw(st.sampled_from(["length", "finite", "nested", "words", "scalar", "huge"]))
    if kind == "length":
        length = draw(st.integers(0, 3 * DIM).filter(lambda n: n != DIM))
        return draw(st.lists(st.floats(-1, 1), min_size=length, max_size=length))
    numbers: list[Any] = draw(st.lists(st.floats(-1, 1), min_size=DIM, max_size=DIM))
    place = draw(st.integers(0, DIM - 1))
    if kind == "finite":
        numbers[place] = draw(NOT_FINITE)
    elif kind == "words":
        numbers[place] = draw(st.text(max_size=3))
    elif kind == "huge":
        numbers[place] = draw(st.sampled_from([1e7, -1e30, 1e300]))
    elif kind == "scalar":
        return draw(st.one_of(st.floats(), st.none(), st.text(max_size=4)))
    elif kind == "nested":
        return [numbers]
    return numbers


def refused(attempt: Callable[[], object], *fields: str) -> None:
    """Assert that a call is refused by the name of what is wrong, and that nothing has changed."""
    with pytest.raises(InvalidInput) as error:
        attempt()
    assert error.value.field in fields
    assert error.value.expected
    assert bits(LEARNER) == BEFORE


@settings(max_examples=60)
@given(bad_vectors())
def test_a_bad_vector_changes_nothing(x: Any) -> None:
    """What is no finite vector of the right length is refused everywhere, every bit staying."""
    refused(lambda: LEARNER.decide(x), "x")
    refused(lambda: LEARNER.propensity(x), "x")
    refused(lambda: LEARNER.expect(x), "x")
    refused(lambda: LEARNER.apply(Outcome(NAMES[0], x, quality=1.0)), "x")
    refused(lambda: LEARNER.apply(Outcome("gone", x, quality=1.0)), "x")
    refused(lambda: LEARNER.fit([x], {NAMES[0]: [1.0]}), "X")


@settings(max_examples=60)
@given(st.sampled_from(EVIDENCE), NO_NUMBER.filter(lambda v: v is not None))
def test_a_bad_outcome_changes_nothing(field: str, value: Any) -> None:
    """An outcome that is no number of its range is refused by its name, every bit staying."""
    given: dict[str, Any] = {"quality": 0.5, field: value}
    refused(lambda: LEARNER.apply(Outcome(NAMES[0], X, **given)), field)
    refused(lambda: LEARNER.apply(Outcome.of(NAMES[0], X, Evidence(**given))), field)
    refused(lambda: LEARNER.fit([X], [{NAMES[0]: given}]), field)


@settings(max_examples=25)
@given(st.text(max_size=12).filter(lambda name: name not in (*NAMES, "gone")))
def test_an_unknown_model_changes_nothing(name: str) -> None:
    """A model that is not there is refused, and the error lists those that are."""
    refused(lambda: LEARNER.apply(Outcome(name, X, quality=1.0)), "model")
    refused(lambda: LEARNER.decide(X, candidates=[NAMES[0], name]), "model")
    refused(lambda: LEARNER.propensity(X, name), "model")
    refused(lambda: LEARNER.decide(X, saved_usd={name: 0.1}), "model")
    refused(lambda: LEARNER.remove_model(name), "model")
    refused(lambda: LEARNER.fit([X], {name: [1.0]}), "model")
    with pytest.raises(InvalidInput, match="small"):
        LEARNER.remove_model(name)


@settings(max_examples=25)
@given(NO_NUMBER)
def test_a_bad_argument_changes_nothing(value: Any) -> None:
    """Tokens, savings and weights that are no numbers are refused by name, every bit staying."""
    refused(lambda: LEARNER.decide(X, input_tokens=value), "input_tokens")
    refused(lambda: LEARNER.expect(X, input_tokens=value), "input_tokens")
    if value not in (1e300, None):
        refused(lambda: LEARNER.decide(X, saved_usd={NAMES[0]: value}), "saved_usd")
    refused(lambda: LEARNER.decide(X, candidates=[]), "candidates")
    refused(lambda: LEARNER.decide(X, candidates=[NAMES[0], NAMES[0]]), "candidates")


@pytest.mark.parametrize(
    ("outcomes", "field"),
    [
        ({NAMES[0]: [1.0, 1.0]}, "quality"),
        ({NAMES[0]: {"quality": [float("inf")]}}, "quality"),
        ({NAMES[0]: {"qualities": [1.0]}}, "outcomes"),
        ({NAMES[0]: ["good"]}, "quality"),
        ([{NAMES[0]: 1.0}, {NAMES[0]: 1.0}], "outcomes"),
        ([{NAMES[0]: {"seconds": 1.0}}], "outcomes"),
        ({NAMES[0]: [1.0], NAMES[1]: [2.0]}, "quality"),
    ],
)
def test_a_bad_calibration_teaches_nothing_of_it(outcomes: Any, field: str) -> None:
    """One bad column refuses the whole calibration, the columns before it too."""
    refused(lambda: LEARNER.fit([X], outcomes), field)


@pytest.mark.parametrize("dim", [0, -1, 2.5, "two", None])
def test_a_dimension_is_a_positive_integer(dim: Any) -> None:
    """A learner without a sensible dimension is refused."""
    with pytest.raises(InvalidInput) as error:
        Learner(WORLD.models, dim)
    assert error.value.field == "dim"


def test_without_models_there_is_nothing_to_choose() -> None:
    """A learner may start without models, and says so when it is asked to choose."""
    learner = Learner([], DIM)
    assert learner.models == ()
    with pytest.raises(InvalidInput) as error:
        learner.decide(X)
    assert error.value.field == "models"
    learner.add_model(ModelArm("first"))
    assert learner.decide(X).model == "first"


# what is told is used ------------------------------------------------------------------------


def test_a_change_of_weights_needs_no_relearning() -> None:
    """The very next decision follows the weights that it is given."""
    models = [ModelArm("cheap", quality=0.6), ModelArm("dear", quality=0.8)]
    learner = Learner(models, 2, seed=0, floor=0.0)
    for _ in range(50):
        learner.apply(Outcome("cheap", [1.0, 0.0], quality=0.6, cost_usd=0.001))
        learner.apply(Outcome("dear", [1.0, 0.0], quality=0.8, cost_usd=0.01))
    quality, cost = Preferences.of("quality"), Preferences(quality=1.0, cost=0.5, latency=0.0)
    chosen = [learner.decide([1.0, 0.0], preferences=p).model for p in (quality, cost) * 5]
    assert chosen == ["dear", "cheap"] * 5


def test_what_a_choice_saves_counts() -> None:
    """Dollars that choosing a model saves on this query make it the better choice."""
    models = [ModelArm(n, quality=0.7) for n in ("one", "other")]
    learner = Learner(models, 1, seed=0, floor=0.0)
    for name, usd in (("one", 0.01), ("other", 0.008)):
        for _ in range(40):
            learner.apply(Outcome(name, [1.0], quality=0.7, cost_usd=usd))
    asked = {"preferences": Preferences(quality=1.0, cost=1.0, latency=0.0)}
    assert learner.decide([1.0], **asked).model == "other"  # type: ignore[arg-type]
    saving = learner.decide([1.0], saved_usd={"one": 0.009}, **asked)  # type: ignore[arg-type]
    assert saving.model == "one"
    assert saving.estimates["one"].cost_usd == pytest.approx(0.001, rel=0.05)
    free = learner.decide([1.0], saved_usd={"one": 5.0}, **asked)  # type: ignore[arg-type]
    assert free.estimates["one"].cost_usd == 0.0


def test_two_topics_are_told_apart() -> None:
    """After a few hundred queries each topic gets the model that is good at it."""
    world = OPPOSITE_TOPICS
    learner, drawn = Learner(world.models, world.dim, seed=2), world.draw(900, seed=3)
    gained = np.zeros(900)
    for i, x in enumerate(drawn.x):
        choice = learner.decide(x, preferences=Preferences(quality=1.0, cost=0.0, latency=0.0))
        k = world.names.index(choice.model)
        gained[i] = drawn.expected[i, k]
        learner.apply(Outcome(choice.model, x, quality=float(drawn.quality[i, k])))
    assert gained[-300:].mean() > 0.82  # of at most 0.9; the best single model has 0.62


def test_a_model_that_was_never_asked_is_asked_beside_one_that_seldom_failed() -> None:
    """A first model that is right five times of six does not keep the second one out."""
    learner = Learner([ModelArm("tried"), ModelArm("never")], 2, seed=0)
    x = [1.0, 0.3]
    for k in range(150):
        learner.apply(Outcome("tried", x, quality=float(k % 6 > 0)))
    assert learner.propensity(x, "never") > 0.02


def test_unknown_is_not_free() -> None:
    """A priced model whose output was never counted is taken to write as much as the others do."""
    arms = [
        ModelArm(name, input_usd_per_mtok=1.0, output_usd_per_mtok=price)
        for name, price in (("seen", 2.0), ("new", 20.0))
    ]
    learner = Learner(arms, 1)
    before = learner.expect([1.0])
    assert before.cost_usd[1] == pytest.approx(10 * before.cost_usd[0])
    assert not before.known.any()
    learner.apply(Outcome("seen", [1.0], output_tokens=1000.0))
    after = learner.expect([1.0], input_tokens=50.0)
    assert after.cost_usd[1] == pytest.approx(20.0 * 1000 / 1e6 + 50.0 / 1e6, rel=1e-3)
    assert after.known.tolist() == [[True, False], [False, False]]
    unpriced = Learner([ModelArm("a"), ModelArm("b")], 1)
    unpriced.apply(Outcome("a", [1.0], cost_usd=0.5, latency_s=3.0))
    assert unpriced.expect([1.0]).cost_usd[1] == unpriced.expect([1.0]).cost_usd[0] > 0.49
    assert unpriced.expect([1.0]).latency_s[1] == unpriced.expect([1.0]).latency_s[0] > 2.9


def test_what_is_taken_back_is_unknown_again() -> None:
    """A revision that takes back the only count of a model leaves its cost as unknown as before."""
    learner = Learner([ModelArm("a"), ModelArm("b")], 1)
    first = Evidence(cost_usd=0.5)
    learner.apply(Outcome.of("a", [1.0], first))
    assert learner.expect([1.0]).known[0].tolist() == [True, False]
    learner.apply(Outcome("a", [1.0], revises=first))
    assert learner.expect([1.0]).known[0].tolist() == [False, False]


def test_a_failure_never_pays() -> None:
    """A failed call is quality 0; its cost and its time teach nothing."""
    learner = Learner([ModelArm("a", quality=0.9)], 1)
    before = learner.expect([1.0])
    for _ in range(20):
        learner.apply(Outcome("a", [1.0], error="timeout", cost_usd=9.0, latency_s=99.0))
    after = learner.expect([1.0])
    assert after.prediction.quality[0] < 0.6 < before.prediction.quality[0]
    assert after.cost_usd[0] == before.cost_usd[0]
    assert after.latency_s[0] == before.latency_s[0]


# state -----------------------------------------------------------------------------------------


def test_a_restored_learner_takes_the_models_it_is_given() -> None:
    """A new model starts from its prior; one that is not listed is parked and may return."""
    arms = [*WORLD.models[1:], ModelArm("new", quality=0.9)]
    restored = Learner.restore(Snapshot.from_bytes(BEFORE), arms)
    assert restored.models == (*NAMES[1:], "new")
    assert restored.policy.pulls()[2] == 0
    restored.add_model(WORLD.models[0])
    np.testing.assert_array_equal(restored.policy.pulls()[3], LEARNER.policy.pulls()[0])


def test_a_price_that_came_to_be_known_starts_the_spend_anew() -> None:
    """Dollars that were learned do not become tokens; quality and time are kept."""
    learner = Learner([ModelArm("a")], 1)
    for _ in range(30):
        learner.apply(Outcome("a", [1.0], quality=1.0, cost_usd=0.5, latency_s=2.0))
    priced = ModelArm("a", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
    restored = Learner.restore(learner.snapshot(), [priced])
    was, now = learner.expect([1.0]), restored.expect([1.0])
    assert now.prediction.quality[0] == pytest.approx(was.prediction.quality[0])
    assert now.latency_s[0] == pytest.approx(was.latency_s[0])
    assert now.cost_usd[0] == pytest.approx(300 * 2.0 / 1e6)
    assert not now.known[0, 0]


@pytest.mark.parametrize(
    "other",
    [
        Learner(WORLD.models, DIM, policy="linucb", schema="ours"),
        Learner(WORLD.models, DIM + 1, schema="ours"),
        Learner(WORLD.models, DIM, schema="theirs"),
    ],
    ids=["policy", "dimension", "schema"],
)
def test_only_the_same_kind_of_state_is_merged(other: Learner) -> None:
    """What was learned by another policy, on other vectors, is refused; nothing changes."""
    with pytest.raises(IncompatibleState):
        LEARNER.merge(other)
    with pytest.raises(IncompatibleState):
        Learner.restore(LEARNER.snapshot(), WORLD.models, policy="thompson")
    assert bits(LEARNER) == BEFORE


@pytest.mark.parametrize(("fails", "least"), [(0, 0.03), (1, 0.15)])
def test_one_that_was_never_asked_is_tried_beside_one_that_fails_seldom(
    fails: int, least: float
) -> None:
    """Without a score, luck at the start does not lock out what nobody has tried."""
    learner = Learner([ModelArm("tried"), ModelArm("never asked")], 1, seed=1)
    for count in range(100):
        learner.apply(Outcome("tried", [1.0], quality=float(count % 6 >= fails)))
    shares = learner.decide([1.0]).propensities
    assert least < shares[1] < 0.3


def test_a_fresh_seed_starts_the_randomness_anew() -> None:
    """A replica that is given a seed draws its own choices from the same state."""
    snapshot = Snapshot.from_bytes(BEFORE)
    same = [Learner.restore(snapshot, WORLD.models, floor=0.5) for _ in range(2)]
    own = Learner.restore(snapshot, WORLD.models, floor=0.5, seed=99)
    chosen = [[each.decide(X).model for _ in range(60)] for each in (*same, own)]
    assert chosen[0] == chosen[1] != chosen[2]
    same[0].reseed(5)
    same[1].reseed(5)
    assert same[0].decide(X).model == same[1].decide(X).model


def test_merging_counts_input_tokens_once() -> None:
    """Replicas that are merged know the average query of both."""
    arm = ModelArm("a", input_usd_per_mtok=1e6, output_usd_per_mtok=0.0)
    one, other = Learner([arm], 1), Learner([arm], 1)
    one.apply(Outcome("a", [1.0], input_tokens=10.0))
    other.apply(Outcome("a", [1.0], input_tokens=30.0))
    one.merge(other)
    assert one.expect([1.0]).mean_costs[0, 0] == pytest.approx(20.0)


def test_nothing_is_expected_of_no_models() -> None:
    """A learner without models expects nothing; it does not fail for want of a dearest one."""
    expected = Learner([], 2).expect([1.0, 0.0], input_tokens=9.0)
    assert expected.prediction.quality.size == expected.costs.size == 0
    assert expected.scales == (0.0, 0.0)


def test_a_model_that_another_replica_knows_is_parked() -> None:
    """Outcomes of a model that cannot be chosen here are kept for the day when it can."""
    one = Learner([ModelArm("a")], 1)
    one.park("b")
    one.park(ModelArm("a"))  # is there already: nothing happens
    one.apply(Outcome("b", [1.0], quality=1.0))
    other = Learner([ModelArm("b")], 1)
    other.apply(Outcome("b", [1.0], quality=0.0))
    one.merge(other)
    assert one.models == ("a",)
    assert [one.knows(name) for name in "abc"] == [True, True, False]
    one.add_model(ModelArm("b"))
    assert one.policy.pulls().tolist() == [0.0, 2.0]
    with pytest.raises(InvalidInput):
        one.add_model(ModelArm("b"))


def test_the_last_model_may_go_and_come_back() -> None:
    """Without any model nothing is lost of what was learned."""
    learner = Learner([ModelArm("a")], 1)
    learner.apply(Outcome("a", [1.0], quality=1.0))
    learner.remove_model("a")
    assert learner.models == ()
    learner.add_model(ModelArm("a"))
    assert learner.policy.pulls().tolist() == [1.0]


def test_a_model_that_has_changed_is_learned_anew() -> None:
    """After a fall of its quality what was seen before counts less, if changes are looked for."""
    watching, plain = (Learner([ModelArm("a")], 1, change_detection=on) for on in (True, False))
    for learner in (watching, plain):
        for quality in [0.9] * 300 + [0.1] * 60:
            learner.apply(Outcome("a", [1.0], quality=quality))
    assert watching.policy.seen()[0, 0] < plain.policy.seen()[0, 0] == 360.0
    quality = [each.expect([1.0]).prediction.quality[0] for each in (watching, plain)]
    assert quality[0] < quality[1] - 0.1


def test_a_snapshot_of_sums_alone_is_enough() -> None:
    """A state that was put together has nothing of its own to go on from, and teaches the same."""
    snapshot = Snapshot.from_bytes(BEFORE)
    whole = Learner.restore(snapshot, WORLD.models)
    sums = Learner.restore(replace(snapshot, local={}), WORLD.models)
    for name, array in whole.snapshot().arms[NAMES[0]].items():
        np.testing.assert_array_equal(sums.snapshot().arms[NAMES[0]][name], array)


def test_calibration_without_an_answer_teaches_nothing_of_its_model() -> None:
    """A model of which nothing is known stays as it was."""
    learner = Learner([ModelArm("a"), ModelArm("b")], 2, seed=0)
    assert learner.fit(np.eye(2), {"a": [float("nan")] * 2, "b": [0.0, 1.0]}) == 2
    assert learner.policy.pulls().tolist() == [0.0, 2.0]


def test_calibration_takes_rows_or_columns() -> None:
    """Per row or per model, numbers, mappings or evidence teach the same."""
    x = np.eye(2)
    given: list[Any] = [
        {"a": [1.0, float("nan")], "b": [0.0, 1.0]},
        {"a": {"quality": [1.0, float("nan")]}, "b": {"quality": [0.0, 1.0]}},
        [{"a": 1.0, "b": 0.0}, {"b": 1.0}],
        [{"a": {"quality": 1.0}, "b": {"quality": 0.0}}, {"a": {"quality": None}, "b": 1.0}],
        [{"a": Evidence(quality=1.0), "b": Evidence(quality=0.0)}, {"b": Evidence(quality=1.0)}],
    ]
    found: list[Mapping[str, Any]] = []
    for outcomes in given:
        learner = Learner([ModelArm("a"), ModelArm("b")], 2, seed=0)
        assert learner.fit(x, outcomes) == 3
        found.append(learner.snapshot().arms["a"])
    for other in found[1:]:
        for name, array in found[0].items():
            np.testing.assert_array_equal(other[name], array)


def test_a_failed_calibration_call_teaches_its_failure_alone() -> None:
    """In a calibration too, a failed call's cost and time are unknown."""
    learner = Learner([ModelArm("a")], 1)
    learner.fit([[1.0]], [{"a": Evidence(error="refused", cost_usd=3.0, latency_s=4.0)}])
    assert learner.policy.seen().tolist() == [[1.0, 0.0, 0.0]]
