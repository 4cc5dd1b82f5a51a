"""What the log holds and the learner eats: decisions, outcomes, snapshots."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import (
    IncompatibleState,
    InvalidInput,
    finite,
    hold_counts,
    hold_numbers,
    hold_strings,
    string,
    whole,
)
from conduit.core.models import Vector, as_vector
from conduit.core.vectors import reduced

SNAPSHOT_MAGIC = b"CSN1"
Arrays = Mapping[str, NDArray[Any]]
Estimates = Mapping[str, Mapping[str, float | None]]
T = TypeVar("T")

# More than one call takes: such a number is in wrong units (nanoseconds, micro-dollars), and its
# square would drown whatever else was learned.
MOST_USD = 1e6
MOST_TOKENS = 1e9
MOST_SECONDS = 1e7
MOST_RATING_WEIGHT = 1000.0
MOST_LIFT = 2.0

# Evidence about quality by who gave it: a later, stronger source revises a weaker one. Signals of
# several kinds may speak of one call: those that tell more rank above "implicit", below "judge".
SOURCE_RANK: Mapping[str, int] = {"system": 0, "implicit": 100, "judge": 200, "user": 300}
_SHADES = SOURCE_RANK["judge"] - SOURCE_RANK["implicit"] - 1


def rank_of_signal(telling: float) -> int:
    """Return the rank of a signal that tells so much, from 0 to 1, of the quality of an answer."""
    return SOURCE_RANK["implicit"] + round(_SHADES * min(telling, 1.0))


def unchecked(cls: type[T]) -> Callable[..., T]:
    """Return a constructor for fields that are known to be good, given in their order.

    A frozen dataclass sets each field by a call; a replica makes six of these values for every row
    that anyone writes. So a twin that is not frozen is filled, and becomes the value: both have the
    same slots, which is what an object must have to change its class.
    """
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    twin = make_dataclass(f"_{cls.__name__}", names, slots=True, eq=False, repr=False)

    def make(*values: Any) -> T:
        made: Any = twin(*values)
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was known of one call at one time; None is unknown and teaches nothing.

    `rank` orders sources (`SOURCE_RANK`), and signals by how much they tell; then `quality_weight`,
    `given_at` and `key`: the greatest is the evidence that counts, whatever the order of arrival.
    """

    quality: float | None = None
    quality_weight: float = 1.0
    cost_usd: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    error: str | None = None
    rank: int = 0
    given_at: float = 0.0
    key: str = ""
    lift: float = 0.0  # beyond `quality`: what an unreliable signal adds to be right on average

    def __post_init__(self) -> None:
        """Refuse numbers out of range; a failed call is quality 0 unless told otherwise."""
        if self.error is not None:
            _know_error(self, self.error)
        _check_numbers(self)
        if type(self.given_at) is not float or not math.isfinite(self.given_at):
            object.__setattr__(self, "given_at", finite(self.given_at, "given_at"))
        if type(self.rank) is not int:
            object.__setattr__(self, "rank", whole(self.rank, "rank"))
        if type(self.key) is not str:
            object.__setattr__(self, "key", string(self.key, "key"))

    def strength(self) -> tuple[bool, int, float, float, str, float]:
        """Return what decides between two opinions of one call, in any order of arrival."""
        known = self.quality is not None
        return (known, self.rank, self.quality_weight, self.given_at, self.key, self.quality or 0.0)

    def joined(self, other: Evidence) -> Evidence:
        """Return what both say together: the stronger quality, and each measurement that is known.

        Commutative, associative and idempotent, so order and repeats do not matter.
        """
        if self.rank != other.rank and self.quality is not None and other.quality is not None:
            opinion, weaker = (self, other) if self.rank > other.rank else (other, self)
        elif self.strength() >= other.strength():
            opinion, weaker = self, other
        else:
            opinion, weaker = other, self
        if weaker.measures_nothing():
            return opinion
        return _evidence(
            opinion.quality,
            opinion.quality_weight,
            _greater(self.cost_usd, other.cost_usd),
            _greater(self.input_tokens, other.input_tokens),
            _greater(self.output_tokens, other.output_tokens),
            _greater(self.latency_s, other.latency_s),
            max(filter(None, (self.error, other.error)), default=None),
            opinion.rank,
            opinion.given_at,
            opinion.key,
            opinion.lift,
        )

    def measures_nothing(self) -> bool:
        """Return whether there is nothing in it but an opinion."""
        return (
            self.cost_usd is None
            and self.latency_s is None
            and self.output_tokens is None
            and self.input_tokens is None
            and self.error is None
        )


_evidence = unchecked(Evidence)


def _check_numbers(said: Evidence | Outcome) -> None:
    """Refuse numbers out of range; what is held is plain."""
    # The log makes some of these for every row it reads: a float within its range is let through
    # by one comparison.
    weight = said.quality_weight
    if type(weight) is not float or not 0.0 <= weight <= MOST_RATING_WEIGHT:
        hold_numbers(said, ("quality_weight",), low=0.0, high=MOST_RATING_WEIGHT, required=True)
    if type(said.lift) is not float or not -MOST_LIFT <= said.lift <= MOST_LIFT:
        hold_numbers(said, ("lift",), low=-MOST_LIFT, high=MOST_LIFT, required=True)
    _check(said, said.quality, "quality", 1.0)
    _check(said, said.cost_usd, "cost_usd", MOST_USD)
    _check(said, said.latency_s, "latency_s", MOST_SECONDS)
    _check(said, said.input_tokens, "input_tokens", MOST_TOKENS)
    _check(said, said.output_tokens, "output_tokens", MOST_TOKENS)


def _check(said: Evidence | Outcome, value: float | None, name: str, most: float) -> None:
    if value is not None and (type(value) is not float or not 0.0 <= value <= most):
        object.__setattr__(said, name, finite(value, name, low=0.0, high=most))


def _know_error(said: Evidence | Outcome, error: object) -> None:
    object.__setattr__(said, "error", string(error, "error"))
    if said.quality is None:
        object.__setattr__(said, "quality", 0.0)


def _greater(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """All that is known now of one call of `model` for the query `x`, and what was taught before.

    Applying it teaches the difference, so evidence may come in pieces and be revised.
    """

    model: str
    x: Vector
    quality: float | None = field(default=None, kw_only=True)
    quality_weight: float = field(default=1.0, kw_only=True)
    cost_usd: float | None = field(default=None, kw_only=True)
    input_tokens: float | None = field(default=None, kw_only=True)
    output_tokens: float | None = field(default=None, kw_only=True)
    latency_s: float | None = field(default=None, kw_only=True)
    error: str | None = field(default=None, kw_only=True)
    revises: Evidence | None = field(default=None, kw_only=True)
    decision_id: str | None = field(default=None, kw_only=True)
    schema: str | None = field(default=None, kw_only=True)
    lift: float = field(default=0.0, kw_only=True)  # as of the evidence

    def __post_init__(self) -> None:
        """Own a sealed float32 copy of x, and refuse numbers out of range."""
        object.__setattr__(self, "x", as_vector(self.x))
        if self.error is not None:
            _know_error(self, self.error)
        _check_numbers(self)
        if type(self.model) is not str:
            hold_strings(self, ("model",), required=True)
        hold_strings(self, ("decision_id", "schema"))
        if self.revises is not None and not isinstance(self.revises, Evidence):
            wanted = "Evidence or None"
            raise InvalidInput(f"revises must be {wanted}", field="revises", expected=wanted)

    __reduce__ = reduced

    @classmethod
    def of(
        cls,
        model: str,
        x: Vector,
        evidence: Evidence,
        *,
        revises: Evidence | None = None,
        decision_id: str | None = None,
        schema: str | None = None,
    ) -> Outcome:
        """Return the outcome that teaches `evidence` where `revises` was taught before."""
        return cls(
            model,
            x,
            quality=evidence.quality,
            quality_weight=evidence.quality_weight,
            cost_usd=evidence.cost_usd,
            input_tokens=evidence.input_tokens,
            output_tokens=evidence.output_tokens,
            latency_s=evidence.latency_s,
            error=evidence.error,
            revises=revises,
            decision_id=decision_id,
            schema=schema,
            lift=evidence.lift,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionRecord:
    """What is kept of a decision so that later feedback, in any process, can teach from it."""

    id: str
    router: str
    model: str
    x: Vector
    schema: str
    created_at: float
    expires_at: float
    propensity: float | None = None
    user_key: str | None = None  # a hash of the user id, never the id itself
    input_tokens: float | None = None
    estimates: Estimates = field(default_factory=dict)
    text: str | None = field(default=None, repr=False)  # only with store_text=True

    def __post_init__(self) -> None:
        """Own a sealed copy of x, and refuse numbers that are none; what is held is plain."""
        object.__setattr__(self, "x", as_vector(self.x))
        hold_strings(self, ("id", "router", "model", "schema"), required=True)
        hold_strings(self, ("user_key", "text"))
        hold_numbers(self, ("created_at", "expires_at"), required=True)
        hold_numbers(self, ("propensity",), low=0.0, high=1.0)
        hold_numbers(self, ("input_tokens",), low=0.0, high=MOST_TOKENS)
        if self.estimates != {}:
            object.__setattr__(self, "estimates", _plain(self.estimates))

    __reduce__ = reduced


def _plain(estimates: Estimates) -> Estimates:
    """Return a copy of estimates, whose numbers are plain floats, or refuse them."""
    try:
        return {
            string(model, "estimates"): {
                name: value
                if value is None or (type(value) is float and math.isfinite(value))
                else finite(value, "estimates")
                for name, value in said.items()
            }
            for model, said in estimates.items()
        }
    except AttributeError as error:
        wanted = "a mapping from models to mappings of numbers"
        raise InvalidInput(
            f"estimates must be {wanted}", field="estimates", expected=wanted
        ) from error


_ROW_NAMES = ("feedback_id", "router", "decision_id", "model", "kind")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeedbackRow:
    """One piece of evidence about one call, as it is written to the log."""

    feedback_id: str
    router: str
    decision_id: str
    model: str  # the model of the attempt, which need not be the first choice
    evidence: Evidence
    kind: str = "outcome"
    user_key: str | None = None
    decision: DecisionRecord | None = None  # brought along by a receipt
    said: float | None = None  # the value of a signal; its evidence is what that value teaches

    def __post_init__(self) -> None:
        """Refuse a value that is no number, and names that are none."""
        hold_numbers(self, ("said",))
        hold_strings(self, _ROW_NAMES, required=True)
        hold_strings(self, ("user_key",))


class Lesson(NamedTuple):
    """What a signal teaches of the answer that it is about."""

    quality: float
    lift: float  # as of the evidence
    weight: float  # beside a rating's 1
    telling: float  # from 0 to 1: of several signals on one answer the most telling counts

    def taught(self, said: Evidence) -> Evidence:
        """Return what a signal said, with this lesson for its opinion."""
        return replace(
            said,
            quality=self.quality,
            lift=self.lift,
            quality_weight=self.weight,
            rank=rank_of_signal(self.telling),
        )


class Remark(NamedTuple):
    """One row of the log about a call, without whom and when it came from."""

    kind: str
    said: float | None
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogEntry:
    """A row of the log with its decision, and what earlier rows said of the same call."""

    cursor: str  # where a reader goes on after this entry; opaque
    row: FeedbackRow
    decision: DecisionRecord
    before: Evidence | None = None
    earlier: tuple[Remark, ...] = ()  # the rows that `before` joins
    together: Evidence | None = None  # `before` and the row, of a reader that has joined them

    def outcome(self) -> Outcome:
        """Return what this entry teaches beyond the earlier rows."""
        said, decision = self.row.evidence, self.decision
        known = self.together
        if known is None:
            known = said if self.before is None else self.before.joined(said)
        outcome = _outcome(
            self.row.model,
            decision.x,
            known.quality,
            known.quality_weight,
            known.cost_usd,
            known.input_tokens,
            known.output_tokens,
            known.latency_s,
            known.error,
            self.before,
            decision.id,
            decision.schema,
            known.lift,
        )
        _check_numbers(outcome)
        return outcome


_outcome = unchecked(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """What was learned, as sums that add up over replicas, and what belongs to one replica alone.

    `arms` and `shared` are additive; `local` (random state, calls in flight) is not. The store
    carries the bytes unopened; a checksum guards them.
    """

    policy: str
    schema: str
    dim: int
    arms: Mapping[str, Arrays]
    shared: Arrays = field(default_factory=dict)
    beside: Arrays | None = None  # what a companion of the learner counted in the same rows
    local: Mapping[str, Any] = field(default_factory=dict)
    applied: int = 0

    def __post_init__(self) -> None:
        """Refuse names and counts that are none."""
        hold_strings(self, ("policy", "schema"), required=True)
        hold_counts(self, ("dim", "applied"), required=True)
        if not isinstance(self.local, Mapping):
            raise InvalidInput("local must be a mapping", field="local", expected="a mapping")

    def to_bytes(self) -> bytes:
        """Return bytes with a checksum; no pickle."""
        arrays: list[bytes] = []
        index = {
            "arms": {name: _index(state, arrays) for name, state in self.arms.items()},
            "shared": _index(self.shared, arrays),
            "beside": None if self.beside is None else _index(self.beside, arrays),
        }
        head = json.dumps(
            {"policy": self.policy, "schema": self.schema, "dim": self.dim,
             "local": dict(self.local), "applied": self.applied, "index": index},
            separators=(",", ":"),
        ).encode()  # fmt: skip
        body = struct.pack("<I", len(head)) + head + b"".join(arrays)
        return SNAPSHOT_MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` was given, or raise IncompatibleState for any other bytes."""
        if data[:4] != SNAPSHOT_MAGIC or len(data) < 12:
            raise IncompatibleState("not a snapshot of this version of Conduit", stored=data[:4])
        (crc,) = struct.unpack_from("<I", data, 4)
        body = data[8:]
        if zlib.crc32(body) != crc:
            raise IncompatibleState("the snapshot is damaged (its checksum does not match)")
        try:
            return cls._of(body)
        except _NO_HEAD as error:
            raise IncompatibleState("the snapshot's head does not say what it holds") from error

    @classmethod
    def _of(cls, body: bytes) -> Self:
        head_size = int.from_bytes(body[:4], "little")
        head = json.loads(body[4 : 4 + head_size])
        arrays = memoryview(body)[4 + head_size :]
        index = head.pop("index")
        beside = index.get("beside")
        return cls(
            **head,
            beside=None if beside is None else _arrays(beside, arrays),
            arms={name: _arrays(entry, arrays) for name, entry in index["arms"].items()},
            shared=_arrays(index["shared"], arrays),
        )


_NUMBERS = re.compile(r"[<|][biuf]\d+")  # what `_index` writes: no objects, texts or times
_NO_HEAD = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


def _index(state: Arrays, out: list[bytes]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, array in state.items():
        start = sum(map(len, out))
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if _NUMBERS.fullmatch(little.dtype.str) is None:
            wanted = "arrays of numbers"
            raise InvalidInput(f"a snapshot holds {wanted}", field=name, expected=wanted)
        out.append(little.tobytes())
        entries[name] = [start, little.dtype.str, list(little.shape)]
    return entries


def _arrays(index: Mapping[str, Any], data: memoryview) -> dict[str, NDArray[Any]]:
    result = {}
    for name, (start, dtype, shape) in index.items():
        if _NUMBERS.fullmatch(dtype) is None or min(shape, default=0) < 0:
            raise ValueError("no array of numbers")
        found = np.frombuffer(data, np.dtype(dtype), math.prod(shape), start)
        result[name] = found.reshape(shape).copy()
    return result
