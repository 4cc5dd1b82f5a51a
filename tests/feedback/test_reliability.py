"""Signals are believed as far as ratings have confirmed them, and move nobody on average."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.core.events import SOURCE_RANK, DecisionRecord, Evidence, LogEntry, Remark
from conduit.core.models import ImplicitFeedback, ModelArm, Vector, as_vector
from conduit.engines.rows import row_of
from conduit.feedback.experience import SignalExperience
from conduit.feedback.kinds import SIGNAL_RELIABILITY, Prior, SignalKinds
from conduit.feedback.reliability import Reliability, ReliabilityTable, evidence_of
from conduit.testing.records import an_entry

KINDS = sorted(SIGNAL_RELIABILITY)
lessons = st.lists(
    st.tuples(st.sampled_from([*KINDS, "own"]), st.floats(0, 1), st.floats(0, 1), st.floats(0, 5)),
    max_size=30,
)


def taught(rows: list[tuple[str, float, float, float]]) -> ReliabilityTable:
    """Return a table that saw and learned some decisions."""
    table = ReliabilityTable()
    for kind, implicit, explicit, weight in rows:
        table = table.seen(kind, implicit).learned(kind, implicit, explicit, weight)
    return table


def noisy_channel(right: float, share_good: float, *, rated: float) -> ReliabilityTable:
    """Return what is learned of a signal that is right with a probability, by simulation."""
    rng = random.Random(7)
    table = ReliabilityTable(priors={"verdict": Prior(10, 10)})
    for _ in range(20_000):
        good = rng.random() < share_good
        says = good if rng.random() < right else not good
        table = table.seen("verdict", float(says))
        if rng.random() < rated:
            table = table.learned("verdict", float(says), float(good))
    return table


# --- one signal alone -------------------------------------------------------------------------


@pytest.mark.parametrize("right", [0.6, 0.75, 0.9, 1.0])
def test_a_lone_verdict_weighs_as_much_as_it_explains(right: float) -> None:
    """A verdict right with probability r teaches itself with weight (2r - 1)^2."""
    for verdict in (0.0, 1.0):
        quality, weight = evidence_of(verdict, Reliability.of(right))
        assert quality == pytest.approx(verdict)
        assert weight == pytest.approx((2 * right - 1) ** 2, rel=0.01)


def test_a_graded_verdict_is_debiased() -> None:
    """A quality is moved away from the middle by (y - (1 - r)) / (2r - 1), within [0, 1]."""
    reliability = Reliability.of(0.75)
    assert evidence_of(0.6, reliability)[0] == pytest.approx((0.6 - 0.25) / 0.5)
    assert evidence_of(0.9, reliability)[0] == 1.0
    assert evidence_of(0.5, reliability)[0] == pytest.approx(0.5)


def test_a_signal_that_says_nothing_teaches_nothing() -> None:
    """Right half of the time is weight 0; wrong more often than right counts the other way."""
    assert evidence_of(1.0, Reliability.of(0.5)) == (0.5, 0.0)
    assert evidence_of(1.0, Reliability.of(0.1))[0] == 0.0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_evidence_refuses_what_is_no_quality(wrong: float) -> None:
    """A verdict and a probability lie in [0, 1]."""
    with pytest.raises(InvalidInput):
        evidence_of(wrong, Reliability.of(0.7))
    with pytest.raises(InvalidInput):
        Reliability.of(wrong)


# --- the table ---------------------------------------------------------------------------------


def test_before_any_rating_the_documented_values_hold() -> None:
    """A new table believes what is documented, and an unknown kind half."""
    table = ReliabilityTable()
    for kind, prior in SIGNAL_RELIABILITY.items():
        for good in (True, False):
            assert table.right(kind, good=good) == pytest.approx(prior.right)
    assert table.right("never registered", good=True) == 0.5


def test_ratings_outweigh_the_prior() -> None:
    """After many ratings that contradict it, the documented value is forgotten."""
    table = ReliabilityTable()
    for _ in range(400):
        table = table.updated("retry", False, good=False)
    assert table.right("retry", good=False) < 0.05
    assert 0.7 < table.right("retry", good=True) < 1.0


@pytest.mark.parametrize(("right", "share_good"), [(0.75, 0.6), (0.75, 0.85), (0.9, 0.3)])
def test_the_channel_is_learned_and_moves_nobody(right: float, share_good: float) -> None:
    """What signals teach on average is the average quality, with the weight they are worth."""
    table = noisy_channel(right, share_good, rated=0.2)
    reliability = table.reliability_of("verdict")
    says_good = right * share_good + (1 - right) * (1 - share_good)
    good, weight = evidence_of(1.0, reliability)
    bad, _ = evidence_of(0.0, reliability)
    assert says_good * good + (1 - says_good) * bad == pytest.approx(share_good, abs=0.03)
    expected_good = right * share_good / says_good
    expected_bad = (1 - right) * share_good / (1 - says_good)
    spread = says_good * (expected_good - share_good) ** 2
    spread += (1 - says_good) * (expected_bad - share_good) ** 2
    assert weight == pytest.approx(spread / (share_good * (1 - share_good)), abs=0.04)
    assert good - bad > expected_good - expected_bad


@given(lessons)
def test_evidence_is_always_a_quality_and_a_weight(
    rows: list[tuple[str, float, float, float]],
) -> None:
    """Whatever was learned, evidence lies in [0, 1] and weighs less than about a rating."""
    table = taught(rows)
    for kind in [*KINDS, "own"]:
        for said in (0.0, 0.3, 1.0):
            quality, weight = evidence_of(said, table.reliability_of(kind))
            assert 0.0 <= quality <= 1.0
            assert 0.0 <= weight <= 1.01
        assert table.channel_weight == evidence_of(0.0, table.reliability_of(kind))[1]


@given(lessons, lessons)
def test_tables_of_replicas_merge_in_any_order(
    mine: list[tuple[str, float, float, float]], yours: list[tuple[str, float, float, float]]
) -> None:
    """Two halves merged are the whole, to rounding, and JSON keeps a table as it is."""
    whole, merged = taught(mine + yours), taught(yours).merged(taught(mine))
    assert set(whole.counts) == set(merged.counts)
    for verdict, counts in whole.counts.items():
        assert merged.counts[verdict] == pytest.approx(counts, abs=1e-9)
    assert ReliabilityTable.from_json(whole.to_json()) == whole


def test_a_signal_that_says_more_outranks_one_that_says_less() -> None:
    """A retry or refusal replaces what no error taught, whatever was learned in between."""
    x, experience, fine, again = as_vector([1.0]), SignalExperience(), [], []
    for k in range(60):
        model = "m" if k % 3 else "other"
        record = decision_of(k, x, model)
        for kind, rows in (("no_error", fine), ("retry", again), ("refusal", again)):
            signal = ImplicitFeedback(signal=kind, quality=float(kind == "no_error"))
            rows.append(row_of(record, signal, router="r", now=k, weigher=experience))
            if kind == "no_error" or k % 4 == 0:
                remarks = [Remark(kind, rows[-1].said, rows[-1].evidence)]
                experience.learn(entry_of(k, x, remarks, model=model))
    weights = {row.evidence.quality_weight for row in (*fine, *again)}
    assert max(weights) > 1.25 * min(weights)  # so that the weight alone would be misleading
    for one, other in itertools.product(fine, again):
        assert one.evidence.joined(other.evidence) is other.evidence


def test_a_table_without_contrast_teaches_next_to_nothing() -> None:
    """Where every outcome means the same quality, there is nothing to learn from it."""
    table = ReliabilityTable(priors={"seen": Prior(7, 3, verdicts=(True,))})
    quality, weight = evidence_of(1.0, table.reliability_of("seen"))
    assert quality == pytest.approx(0.7)
    assert weight < 1e-6


def test_the_summary_says_what_was_seen() -> None:
    """Each verdict that occurred is listed with its counts and how often it is right."""
    table = ReliabilityTable().seen("retry", 0.0).learned("copy", 1.0, 1.0)
    summary = table.summary()
    assert summary["retry-"]["seen"] == 1.0
    assert summary["retry-"]["agree"] == summary["retry-"]["disagree"] == 0.0
    assert summary["retry-"]["right"] == pytest.approx(0.72, abs=0.01)  # good answers: a little
    assert summary["copy+"]["right"] > 17 / 21
    assert summary["copy+"]["square"] == 1.0


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"counts": [["retry"]]', '{"counts": [["retry", true, -1]]}',
             '{"counts": [["retry", true, 1, 2, 3, 4, 5]]}', '{"counts": [[]]}'],
)  # fmt: skip
def test_foreign_json_is_refused(text: str) -> None:
    """What no table was written as is InvalidInput."""
    with pytest.raises(InvalidInput):
        ReliabilityTable.from_json(text)


@pytest.mark.parametrize(("agreed", "weight"), [(1.5, 1.0), (True, -1.0), (True, float("nan"))])
def test_what_is_no_count_is_refused(agreed: float, weight: float) -> None:
    """Shares lie in [0, 1], and weights are not negative."""
    with pytest.raises(InvalidInput):
        ReliabilityTable().updated("retry", agreed, weight, good=False)


# --- kinds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "quality"),
    [
        ("copy", None, 1.0),
        ("regenerate", None, 0.0),
        ("edit", 0.0, 1.0),
        ("edit", 0.3, 0.7),
        ("edit", None, None),
        ("abandon", None, 0.0),
        ("abandon", 0.8, 0.0),
        ("abandon", 0.0, None),
        ("task_success", None, 1.0),
        ("task_success", 0.0, 0.0),
        ("task_success", True, 1.0),
        ("retry", 0.0, 0.0),
        ("retry", None, None),
    ],
)
def test_events_say_a_quality(name: str, value: float | None, quality: float | None) -> None:
    """Each built-in kind maps the value of its event to a quality, or to nothing."""
    said = SignalKinds()[name].quality(value)
    assert said == (None if quality is None else pytest.approx(quality))


@pytest.mark.parametrize(
    ("reliability", "right"), [(0.7, 0.7), ((3.0, 1.0), 0.75), (Prior(9, 1), 0.9)]
)
def test_users_register_kinds_of_their_own(
    reliability: float | Prior | tuple[float, float], right: float
) -> None:
    """A registered kind has its reliability and its mapping, in this instance alone."""
    kinds = SignalKinds()
    kinds.register("thumbs", reliability=reliability, quality=lambda v: 0.5 if v is None else v)
    assert "thumbs" in kinds
    assert "thumbs" in list(kinds)
    assert kinds["thumbs"].quality() == 0.5
    table = ReliabilityTable(priors=kinds.priors())
    assert table.right("thumbs", good=True) == pytest.approx(right)
    assert "thumbs" not in SignalKinds()


@pytest.mark.parametrize("name", ["", "Thumbs up", "a" * 65, "1st", None])
def test_a_name_must_look_like_one(name: str) -> None:
    """Names that could not be keys are refused."""
    with pytest.raises(InvalidInput):
        SignalKinds().register(name, reliability=0.7)


@pytest.mark.parametrize("reliability", [1.5, -0.1, float("nan"), (0.0, 0.0), (-1.0, 2.0)])
def test_a_reliability_must_be_one(reliability: float | tuple[float, float]) -> None:
    """Reliabilities are probabilities, or counts with at least one observation."""
    with pytest.raises(InvalidInput):
        SignalKinds().register("thumbs", reliability=reliability)


def test_a_mapping_out_of_range_is_refused_when_it_is_used() -> None:
    """A quality outside [0, 1] does not get in."""
    kinds = SignalKinds()
    kinds.register("score", reliability=0.7)
    with pytest.raises(InvalidInput, match="quality of score"):
        kinds["score"].quality(5.0)


def test_an_unknown_kind_names_the_known_ones() -> None:
    """The message says which kind was probably meant."""
    with pytest.raises(InvalidInput, match="did you mean 'regenerate'"):
        SignalKinds()["regenerated"]


def test_every_prior_is_a_probability_of_being_right() -> None:
    """No documented signal is believed less than a coin, nor beyond doubt."""
    priors: Mapping[str, Prior] = SIGNAL_RELIABILITY
    assert all(0.5 <= prior.right < 1.0 for prior in priors.values())


def test_graded_ratings_leave_what_a_signal_teaches_unbiased() -> None:
    """Ratings between good and bad do not blunt a signal that is right three times of four.

    It moves by half of a change in quality, so its two verdicts should teach 2 apart.
    """
    rng = random.Random(3)
    table = ReliabilityTable()
    for k in range(2_000):
        quality = rng.uniform(0.2, 1.0)
        good = bool(rng.random() < quality) == bool(rng.random() < 0.75)
        kind = "no_error" if good else "retry"
        table = table.seen(kind, float(good))
        if k % 25 == 0:
            table = table.learned(kind, float(good), quality)
    taught = table.taught()
    assert table.spread < 0.4
    assert 1.6 <= taught["no_error", True][1] - taught["retry", False][1] <= 2.6


@pytest.mark.parametrize("level", [0.15, 0.5, 0.8, 0.97])
def test_signals_teach_at_the_level_of_the_published_scores(level: float) -> None:
    """What verdicts teach has, by how often each occurs, the mean that scores promise."""
    table = ReliabilityTable(level=level)
    for k in range(200):
        table = table.seen("retry" if k % 4 == 0 else "no_error", float(k % 4 != 0))
    assert table.mean == pytest.approx(level, abs=1e-6)
    assert sum(share * lesson for share, lesson in table.taught().values()) == pytest.approx(level)


def test_ratings_overrule_the_published_scores() -> None:
    """Thirty ratings bring the level most of the way from what scores promised."""
    table = ReliabilityTable(level=0.9)
    for k in range(100):
        table = table.seen("no_error", 1.0)
        if k < 30:
            table = table.learned("no_error", 1.0, float(k % 2))
    assert 0.45 < table.mean < 0.65


def test_scores_count_as_often_as_their_models_answered() -> None:
    """The level is that of the models in use; what is learned leaves the scores where they are."""
    x, experience = as_vector([1.0]), SignalExperience()
    experience.expect([ModelArm("m", quality=0.6), ModelArm("other", quality=0.9)])
    assert experience.reliability.level == pytest.approx(0.75)
    for k in range(28):
        signal = Evidence(quality=0.6, quality_weight=0.2, rank=SOURCE_RANK["implicit"])
        experience.learn(entry_of(k, x, [Remark("no_error", 1.0, signal)]))
    assert experience.table().level == pytest.approx((29 * 0.6 + 0.9) / 30)
    assert experience.fresh().reliability.level == pytest.approx(0.75)
    experience.clear()
    assert experience.reliability.level == pytest.approx(0.75)


def test_signals_that_say_nothing_come_to_weigh_nothing() -> None:
    """Where ratings show that a signal tells nothing of quality, it no longer teaches any."""
    rng, experience, x = random.Random(1), SignalExperience(), as_vector([1.0])
    for k in range(600):
        good = rng.random() < 0.7
        kind = "no_error" if good else "retry"
        lesson = experience.weigh(kind, float(good), "m")
        assert lesson is not None
        signal = lesson.taught(Evidence())
        experience.learn(entry_of(k, x, [Remark(kind, float(good), signal)]))
        rated = Evidence(quality=rng.choice((0.8, 0.9, 1.0)), rank=SOURCE_RANK["user"])
        remarks = [Remark(kind, float(good), signal), Remark("explicit", None, rated)]
        experience.learn(entry_of(k, x, remarks))
    for kind, value in (("no_error", 1.0), ("retry", 0.0)):
        lesson = experience.weigh(kind, value, "m")
        assert lesson is not None
        assert lesson.weight < 0.05


def entry_of(k: int, x: Vector, remarks: list[Remark], model: str = "m") -> LogEntry:
    """Return the last of some remarks about one call as a row of the log."""
    return an_entry(decision_of(k, x, model), remarks)


def decision_of(k: int, x: Vector, model: str = "m") -> DecisionRecord:
    """Return the k-th decision."""
    return DecisionRecord(
        id=str(k), router="r", model=model, x=x, schema="", created_at=0.0, expires_at=1e9
    )
