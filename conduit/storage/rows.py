"""Values to rows of the database or lines of the journal, and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from conduit.core.events import DecisionRecord, Evidence, FeedbackRow, unchecked
from conduit.core.models import Response, Vector
from conduit.storage.ports import ResponseRecord, clean, payload_hash

Row = tuple[Any, ...]

DECISION_COLUMNS = (
    "id", "router", "model", "x", "schema", "created_at", "expires_at", "propensity",
    "input_tokens", "user_key", "estimates",
)  # fmt: skip
RESPONSE_NUMBERS = (
    "cost_usd", "latency_s", "time_to_first_token_s", "input_tokens", "output_tokens",
    "finish_reason", "output_valid", "validation_retries", "tool_calls", "tool_failures",
)  # fmt: skip
RESPONSE_COLUMNS = (
    "id", "decision_id", "router", "model", "created_at", "user_key", "error", "text",
    *RESPONSE_NUMBERS,
)  # fmt: skip
RECORD_COLUMNS = {
    "decisions": DECISION_COLUMNS,
    "queries": ("decision_id", "text"),
    "responses": RESPONSE_COLUMNS,
}
EVIDENCE_COLUMNS = (
    "quality", "quality_weight", "cost_usd", "input_tokens", "output_tokens", "latency_s",
    "error", "source_rank", "given_at", "evidence_key", "lift",
)  # fmt: skip
FEEDBACK_COLUMNS = (
    "router", "feedback_id", "decision_id", "model", "kind", "user_key", "said", "digest",
    "recorded_at", *EVIDENCE_COLUMNS,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """One piece of feedback on its way in, and when it came."""

    row: FeedbackRow
    at: float

    @property
    def key(self) -> tuple[str, str]:
        """Return what no two rows share."""
        return (self.row.router, self.row.feedback_id)


def optional_clean(text: str | None) -> str | None:
    """Return None for None, else storable text."""
    return None if text is None else clean(text)


def packed(x: Vector) -> bytes:
    """Return a vector as float32 bytes, little-endian."""
    return x.astype("<f4", copy=False).tobytes()


def unpacked(data: bytes) -> Vector:
    """Return a read-only vector over these bytes."""
    return np.frombuffer(data, "<f4")


def decision_row(d: DecisionRecord) -> Row:
    """Return the values of `DECISION_COLUMNS`."""
    return (
        clean(d.id), clean(d.router), clean(d.model), packed(d.x), clean(d.schema), d.created_at,
        d.expires_at, d.propensity, d.input_tokens, optional_clean(d.user_key),
        _encoded({m: dict(e) for m, e in d.estimates.items()}),
    )  # fmt: skip


_encoded = json.JSONEncoder(separators=(",", ":")).encode


def to_decision(values: Sequence[Any], text: str | None = None) -> DecisionRecord:
    """Return the decision of a row of `DECISION_COLUMNS`."""
    (
        identity, router, model, packed_x, schema, created_at, expires_at, propensity,
        input_tokens, user_key, estimates,
    ) = values  # fmt: skip
    x = unpacked(packed_x)
    # Every replica reads every decision: a vector that was damaged shows in one product, which
    # `vdot` makes without a warning.
    make = _decision if isfinite(np.vdot(x, x)) else _checked_decision
    return make(
        identity, router, model, x, schema, created_at, expires_at, propensity, user_key,
        input_tokens, _Estimates(estimates), text,
    )  # fmt: skip


_decision = unchecked(DecisionRecord)


def _checked_decision(*values: Any) -> DecisionRecord:
    return DecisionRecord(**dict(zip(DecisionRecord.__slots__, values, strict=True)))


class _Estimates(Mapping[str, Mapping[str, float | None]]):
    """What was estimated of each model, decoded once somebody asks."""

    __slots__ = ("_decoded", "_json")

    def __init__(self, encoded: str) -> None:
        self._json = encoded
        self._decoded: Mapping[str, Mapping[str, float | None]] | None = None

    def _read(self) -> Mapping[str, Mapping[str, float | None]]:
        if self._decoded is None:
            self._decoded = json.loads(self._json)
        return self._decoded

    def __getitem__(self, model: str) -> Mapping[str, float | None]:
        return self._read()[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


def response_row(r: ResponseRecord) -> Row:
    """Return the values of `RESPONSE_COLUMNS`."""
    return (
        clean(r.id), clean(r.decision_id), clean(r.router), clean(r.response.model), r.created_at,
        optional_clean(r.user_key), optional_clean(r.error), optional_clean(r.response.text),
        *(getattr(r.response, name) for name in RESPONSE_NUMBERS),
    )  # fmt: skip


def to_response(values: Sequence[Any]) -> ResponseRecord:
    """Return the answer of a row of `RESPONSE_COLUMNS`."""
    fields = dict(zip(RESPONSE_COLUMNS, values, strict=True))
    said = {name: fields.pop(name) for name in ("model", "text", *RESPONSE_NUMBERS)}
    if said["output_valid"] is not None:
        said["output_valid"] = bool(said["output_valid"])
    return ResponseRecord(**fields, response=Response(**said))


def evidence_row(e: Evidence) -> Row:
    """Return the values of `EVIDENCE_COLUMNS`."""
    return (
        e.quality, e.quality_weight, e.cost_usd, e.input_tokens, e.output_tokens, e.latency_s,
        optional_clean(e.error), e.rank, e.given_at, clean(e.key), e.lift,
    )  # fmt: skip


def to_evidence(values: Sequence[Any]) -> Evidence:
    """Return the evidence of a row of `EVIDENCE_COLUMNS`, which the database has checked."""
    quality, weight, cost, tokens_in, tokens_out, latency, error, rank, given_at, key, lift = values
    return _evidence(
        quality, weight, cost, tokens_in, tokens_out, latency, error, rank, given_at, key, lift
    )


_evidence = unchecked(Evidence)


def feedback_row(arrived: Arrived) -> Row:
    """Return the values of `FEEDBACK_COLUMNS`."""
    r = arrived.row
    return (
        clean(r.router), clean(r.feedback_id), clean(r.decision_id), clean(r.model), clean(r.kind),
        optional_clean(r.user_key), r.said, payload_hash(r), arrived.at, *evidence_row(r.evidence),
    )  # fmt: skip


# The journal: one JSON object a line.

Journaled = Arrived | DecisionRecord | ResponseRecord


def to_json(item: Journaled) -> str:
    """Return one line that `from_json` turns back."""
    if isinstance(item, DecisionRecord):
        value: Mapping[str, Any] = {"decision": _decision_json(item)}
    elif isinstance(item, ResponseRecord):
        value = {"response": list(response_row(item))}
    else:
        brought = item.row.decision
        value = {
            "at": item.at,
            "feedback": {
                **{n: getattr(item.row, n) for n in _ROW_NAMES},
                "evidence": asdict(item.row.evidence),
                "decision": None if brought is None else _decision_json(brought),
            },
        }
    return _encoded(value)


_ROW_NAMES = ("feedback_id", "router", "decision_id", "model", "kind", "user_key", "said")


def _decision_json(decision: DecisionRecord) -> list[Any]:
    values: list[Any] = list(decision_row(decision))
    values[3] = base64.b64encode(values[3]).decode()
    return [*values, optional_clean(decision.text)]


def _from_decision_json(values: list[Any]) -> DecisionRecord:
    *row, text = values
    row[3] = base64.b64decode(row[3])
    return to_decision(row, text)


def from_json(line: str) -> Journaled:
    """Return what `to_json` was given."""
    value = json.loads(line)
    if "decision" in value:
        return _from_decision_json(value["decision"])
    if "response" in value:
        return to_response(value["response"])
    fields = value["feedback"]
    brought = fields.pop("decision")
    row = FeedbackRow(
        **{**fields, "evidence": Evidence(**fields["evidence"])},
        decision=None if brought is None else _from_decision_json(brought),
    )
    return Arrived(row, value["at"])


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Return the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
