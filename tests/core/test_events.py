"""What the log holds: evidence that joins in any order, outcomes, and snapshots as bytes."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from conduit.core.errors import IncompatibleState, InvalidInput
from conduit.core.events import (
    SNAPSHOT_MAGIC,
    SOURCE_RANK,
    DecisionRecord,
    Evidence,
    FeedbackRow,
    LogEntry,
    Outcome,
    Snapshot,
    unchecked,
)

X = np.array([1.0, -0.5], dtype=np.float32)
KNOWN = st.none() | st.sampled_from([0.0, 0.25, 1.0])
EVIDENCE = st.builds(
    Evidence,
    quality=KNOWN,
    quality_weight=st.sampled_from([0.0, 0.3, 1.0]),
    cost_usd=KNOWN,
    input_tokens=KNOWN,
    output_tokens=KNOWN,
    latency_s=KNOWN,
    error=st.sampled_from([None, "timeout", "refused"]),
    rank=st.integers(0, 3),
    given_at=st.sampled_from([0.0, 1.0]),
    key=st.sampled_from(["", "a"]),
)


@given(EVIDENCE, EVIDENCE, EVIDENCE)
def test_evidence_joins_in_any_order(a: Evidence, b: Evidence, c: Evidence) -> None:
    """Joining is commutative, associative and idempotent: order and repeats do not matter."""
    assert a.joined(b) == b.joined(a)
    assert a.joined(b).joined(c) == a.joined(b.joined(c))
    assert a.joined(a) == a
    assert a.joined(b).joined(b) == a.joined(b)


@given(EVIDENCE, EVIDENCE)
def test_what_is_known_stays_known(a: Evidence, b: Evidence) -> None:
    """Nothing that either of two says is lost, but for the weaker of two opinions."""
    both = a.joined(b)
    for name in ("quality", "cost_usd", "input_tokens", "output_tokens", "latency_s", "error"):
        known = {getattr(a, name), getattr(b, name)} - {None}
        assert getattr(both, name) in (known or {None})


@pytest.mark.parametrize(("weaker", "stronger"), list(pairwise(SOURCE_RANK)))
def test_stronger_sources_revise_weaker_ones(weaker: str, stronger: str) -> None:
    """A source that outranks another replaces its quality, even if it came first or weighs less."""
    old = Evidence(quality=0.2, quality_weight=1.0, rank=SOURCE_RANK[weaker], given_at=5.0)
    new = Evidence(quality=0.9, quality_weight=0.5, rank=SOURCE_RANK[stronger], given_at=1.0)
    both = old.joined(new)
    assert (both.quality, both.quality_weight) == (0.9, 0.5)


def test_an_opinion_outranks_none() -> None:
    """A measurement without an opinion never takes an opinion away."""
    said = Evidence(quality=0.4, rank=0)
    measured = Evidence(cost_usd=0.1, rank=3)
    assert said.joined(measured) == Evidence(quality=0.4, cost_usd=0.1)


@pytest.mark.parametrize("made", [Evidence, lambda **said: Outcome("m", X, **said)])
class TestNumbers:
    """Evidence and outcomes hold numbers that are numbers, in range."""

    def test_a_failed_call_is_quality_nothing(self, made: Any) -> None:
        """An error means quality 0 unless told otherwise; its cost and time stay unknown."""
        failed = made(error="timeout")
        assert (failed.quality, failed.cost_usd, failed.latency_s) == (0.0, None, None)
        assert made(error="timeout", quality=0.5).quality == 0.5

    @pytest.mark.parametrize(
        "name",
        ["quality", "quality_weight", "cost_usd", "input_tokens", "output_tokens", "latency_s"],
    )
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1e30, "1", True])
    def test_numbers_out_of_range_are_refused(self, made: Any, name: str, value: Any) -> None:
        """NaN, infinity, less than nothing and numbers in wrong units do not get in."""
        with pytest.raises(InvalidInput) as refused:
            made(**{name: value})
        assert (refused.value.field, bool(refused.value.expected)) == (name, True)


def test_evidence_needs_a_time_that_is_one() -> None:
    """A time that is not a number would make the order of evidence depend on its arrival."""
    with pytest.raises(InvalidInput, match="given_at"):
        Evidence(given_at=float("nan"))


def test_an_outcome_owns_its_vector() -> None:
    """The vector is a read-only float32 copy; one that is that already is not copied again."""
    mine = [1.0, 2.0]
    first = Outcome("m", mine)  # type: ignore[arg-type]
    assert first.x.dtype == np.float32
    assert not first.x.flags.writeable
    assert Outcome("m", first.x).x is first.x
    writeable = np.ones(2, dtype=np.float32)
    kept = Outcome("m", writeable)
    writeable[0] = 9.0
    assert kept.x[0] == 1.0


@pytest.mark.parametrize(
    "x", [np.array([np.nan, 1.0]), np.ones((2, 2)), np.array([3e38, np.inf]), ["1", "2"], None]
)
def test_an_outcome_needs_a_vector(x: Any) -> None:
    """What is not a finite vector is refused, read-only float32 or not."""
    for given_x in (x, _frozen(x)):
        with pytest.raises(InvalidInput) as refused:
            Outcome("m", given_x)
        assert refused.value.field == "x"


def _frozen(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    frozen = x.astype(np.float32)
    frozen.flags.writeable = False
    return frozen


def test_an_outcome_says_what_its_evidence_says() -> None:
    """`Outcome.of` carries every field of the evidence over."""
    said = Evidence(quality=0.5, quality_weight=0.3, cost_usd=0.1, input_tokens=3.0,
                    output_tokens=4.0, latency_s=2.0, error="refused")  # fmt: skip
    old = Evidence(quality=0.1)
    made = Outcome.of("m", X, said, revises=old, decision_id="d", schema="s")
    for name in ("quality", "quality_weight", "cost_usd", "input_tokens", "output_tokens",
                 "latency_s", "error"):  # fmt: skip
        assert getattr(made, name) == getattr(said, name)
    assert (made.revises, made.decision_id, made.schema) == (old, "d", "s")


RECORD = DecisionRecord(
    id="d1", router="r", model="small", x=X, schema="s1", created_at=1.0, expires_at=2.0
)


def test_a_log_entry_teaches_what_is_new() -> None:
    """An entry teaches all that is known now, and says what was taught before."""
    row = FeedbackRow(feedback_id="f", router="r", decision_id="d1", model="large",
                      evidence=Evidence(quality=0.9, rank=3))  # fmt: skip
    first = LogEntry(cursor="1", row=row, decision=RECORD).outcome()
    assert (first.model, first.quality, first.revises, first.schema) == ("large", 0.9, None, "s1")
    before = Evidence(quality=0.2, rank=1, cost_usd=0.5)
    second = LogEntry(cursor="2", row=row, decision=RECORD, before=before).outcome()
    assert (second.quality, second.cost_usd, second.revises) == (0.9, 0.5, before)
    joined = LogEntry(cursor="2", row=row, decision=RECORD, before=before,
                      together=before.joined(row.evidence)).outcome()  # fmt: skip
    assert (joined.quality, joined.cost_usd, joined.revises) == (0.9, 0.5, before)


@pytest.mark.parametrize(
    ("field", "number"), [("lift", 99.0), ("quality_weight", 1e9), ("quality_weight", -1)]
)
def test_weights_and_lifts_have_their_limits(field: str, number: float) -> None:
    """A rating that would count without end, or lift another beyond all scales, is refused."""
    with pytest.raises(InvalidInput) as caught:
        Outcome("a", X, quality=0.5, **{field: number})
    assert caught.value.field == field


def test_a_decision_record_holds_a_probability() -> None:
    """A propensity that is no probability is refused, and so is a vector that is none."""
    with pytest.raises(InvalidInput, match="propensity"):
        replace(RECORD, propensity=1.2)
    with pytest.raises(InvalidInput, match="x must be"):
        replace(RECORD, x=np.ones((1, 2), dtype=np.float32))
    assert "secret" not in repr(replace(RECORD, text="secret"))


ARRAYS = st.dictionaries(
    st.sampled_from(["A", "b", "sums"]),
    npst.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.bool_]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    max_size=3,
)
SNAPSHOTS = st.builds(
    Snapshot,
    policy=st.sampled_from(["linucb", "größer"]),
    schema=st.text(max_size=5),
    dim=st.integers(1, 9),
    arms=st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3),
    shared=ARRAYS,
    local=st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.floats(-1, 1))),
    applied=st.integers(0, 10**9),
)


@given(SNAPSHOTS)
def test_snapshots_survive_bytes(snapshot: Snapshot) -> None:
    """What went into the bytes comes out, bit for bit, and makes the same bytes again."""
    data = snapshot.to_bytes()
    found = Snapshot.from_bytes(data)
    for name in ("policy", "schema", "dim", "local", "applied"):
        assert getattr(found, name) == getattr(snapshot, name)
    for ours, theirs in (*zip(snapshot.arms.items(), found.arms.items(), strict=True),
                         (("shared", snapshot.shared), ("shared", found.shared))):  # fmt: skip
        assert ours[0] == theirs[0]
        assert ours[1].keys() == theirs[1].keys()
        for key, array in ours[1].items():
            assert (array.shape, array.tobytes()) == (
                theirs[1][key].shape,
                theirs[1][key].tobytes(),
            )
    assert found.to_bytes() == data


@given(SNAPSHOTS, st.data())
def test_damaged_snapshots_are_refused(snapshot: Snapshot, data: st.DataObject) -> None:
    """One flipped bit or one cut, anywhere, is noticed."""
    whole = snapshot.to_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), whole[:place]):
        with pytest.raises(IncompatibleState):
            Snapshot.from_bytes(damaged)


def with_head(head: str | bytes, arrays: bytes = bytes(8)) -> bytes:
    """Return the bytes of a snapshot with this head; their checksum is right."""
    head = head.encode() if isinstance(head, str) else head
    body = struct.pack("<I", len(head)) + head + arrays
    return SNAPSHOT_MAGIC + struct.pack("<I", zlib.crc32(body)) + body


HEAD: dict[str, Any] = {
    "policy": "p", "schema": "", "dim": 1, "local": {}, "applied": 0,
    "index": {"arms": {"a": {"A": [0, "<f4", [2]]}}, "shared": {}, "beside": None},
}  # fmt: skip


def test_a_head_as_it_should_be_is_read() -> None:
    """The head that the tests below spoil is a good one."""
    assert Snapshot.from_bytes(with_head(json.dumps(HEAD))).arms["a"]["A"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["|O", "O", "<U4", "<M8[s]", "V8", "f4,f4", "<f3", "", None, 4])
def test_a_snapshot_holds_numbers_only(dtype: Any) -> None:
    """Bytes that would make objects are refused, though their checksum is right."""
    spoilt = {**HEAD, "index": {**HEAD["index"], "shared": {"evil": [0, dtype, [1]]}}}
    with pytest.raises(IncompatibleState, match="head"):
        Snapshot.from_bytes(with_head(json.dumps(spoilt)))
    with pytest.raises(InvalidInput, match="numbers"):
        Snapshot(policy="p", schema="", dim=1, arms={},
                 shared={"evil": np.array([None])}).to_bytes()  # fmt: skip


@pytest.mark.parametrize("index", [[-4, "<f4", [1]], [0, "<f4", [-1]], [0, "<f4", [2**62, 4]],
                                   [0, "<f4", [3]], [9, "<f4", [0]], [0.5, "<f4", [1]],
                                   [0, "<f4"], [0, "<f4", 1], [0, "<f4", ["1"]], 3])  # fmt: skip
def test_a_snapshot_takes_no_numbers_from_elsewhere(index: Any) -> None:
    """A place or a shape that its bytes do not have is refused."""
    spoilt = {**HEAD, "index": {**HEAD["index"], "shared": {"evil": index}}}
    with pytest.raises(IncompatibleState, match="head"):
        Snapshot.from_bytes(with_head(json.dumps(spoilt)))


@pytest.mark.parametrize(
    "head",
    ["", "{", "[]", "3", "null", "{}", b"\xff", "[" * 100_000,
     *(json.dumps({k: v for k, v in HEAD.items() if k != gone}) for gone in HEAD
       if gone not in ("local", "applied")),
     *(json.dumps({**HEAD, name: wrong}) for name in HEAD for wrong in ("x", 2.5, -1, [3])
       if (name, wrong) not in (("policy", "x"), ("schema", "x"))),
     json.dumps({**HEAD, "newer": 1}), json.dumps({**HEAD, "index": {"arms": [], "shared": {}}})],
    ids=lambda head: str(head)[:60],
)  # fmt: skip
def test_a_head_that_is_none_is_refused(head: str | bytes) -> None:
    """Whatever cannot be read of a whole snapshot is state that does not fit, and says so."""
    with pytest.raises(IncompatibleState):
        Snapshot.from_bytes(with_head(head))


def test_a_head_longer_than_its_bytes_is_refused() -> None:
    """A length that points beyond the end is noticed."""
    body = struct.pack("<I", 10**6) + b"{}"
    with pytest.raises(IncompatibleState):
        Snapshot.from_bytes(SNAPSHOT_MAGIC + struct.pack("<I", zlib.crc32(body)) + body)


@pytest.mark.parametrize("cls", [Evidence, Outcome, DecisionRecord, FeedbackRow, LogEntry])
def test_what_is_made_unchecked_is_the_same_value(cls: type) -> None:
    """The quick constructor fills every field in its order, and what it makes is as frozen."""
    names = [f.name for f in dataclasses.fields(cls)]
    made = unchecked(cls)(*names)
    assert type(made) is cls
    assert [getattr(made, name) for name in names] == names
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.__setattr__(names[0], "other")


@given(EVIDENCE, EVIDENCE)
def test_what_is_joined_could_have_been_made(one: Evidence, other: Evidence) -> None:
    """Joining skips the checks, and yet gives a value that they would have let through."""
    joined = one.joined(other)
    again = Evidence(**dataclasses.asdict(joined))
    assert again == joined
    assert hash(again) == hash(joined)
