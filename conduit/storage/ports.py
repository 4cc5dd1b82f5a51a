"""The ports of the store, and the values that pass through them.

The append-only log of feedback is the truth; whatever was learned is a cache of it. The router
appends to the log and then reads it back with `tail`, its own rows included, so every replica
applies the same rows in the same order:

    found = await store.load_snapshot(router)         # start, and again after Rebuild
    learner = restore(found.data) if found else fresh()
    cursor = found.cursor if found else None
    try:
        for entry in await store.tail(router, cursor):
            learner.apply(entry.outcome())
            cursor = entry.cursor
    except Rebuild:
        ...                                            # the log was rewritten: start again as above
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from conduit.core.errors import (
    ConflictingFeedback,
    ExpiredDecision,
    StorageUnavailable,
    UnknownDecision,
    optional_finite,
)
from conduit.core.events import SOURCE_RANK, DecisionRecord, FeedbackRow, LogEntry
from conduit.core.models import Response

Clock = Callable[[], float]
# What a learner folds rows with before they are pruned: (the base so far, the next rows) -> base.
Fold = Callable[[bytes | None, Sequence[LogEntry]], bytes]

SNAPSHOTS_KEPT = 3
TAIL_LIMIT = 1000
# A decision is written within milliseconds, or minutes late when its writer's database was away.
MAY_STILL_ARRIVE_S = 600.0
ROUNDING_USD = 1e-9  # a hundred calls of a cent fit into a dollar, whatever floats make of it
BEGINNING = -(1 << 62)  # the place before every row
COUNTED_AT_MOST = 10_000  # rows of lag; beyond it the figure says nothing more


class Rebuild(Exception):
    """The log before the reader's cursor changed: load the snapshot again and read on from it.

    Raised by `tail` after somebody was forgotten, quarantined or released, and when rows that the
    reader has not read were pruned.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What became of one piece of feedback: kept for good, unless it is capped.

    A capped opinion was one too many of its user: it is not kept, and teaches nothing.
    """

    status: Literal["stored", "duplicate", "journaled", "capped"]
    feedback_id: str
    seq: int | None = None  # unknown while it is only in the journal
    waiting: bool = False  # stored, and taught once its decision arrives
    capped_by: str | None = None  # which limit: per_hour or share


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """Bytes of what was learned up to a cursor, as they were saved."""

    cursor: str
    data: bytes = field(repr=False)
    meta: str = ""
    saved_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRecord:
    """One answer as the history keeps it; its text only where the store keeps text."""

    id: str
    decision_id: str
    router: str
    created_at: float
    response: Response
    user_key: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """What the history says of one model; a mean of nothing is None."""

    decisions: int = 0
    responses: int = 0
    errors: int = 0
    feedback: int = 0
    cost_usd: float = 0.0
    mean_latency_s: float | None = None
    mean_quality: float | None = None  # of the strongest evidence per call


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStats:
    """What the history says of one router, by model."""

    decisions: int = 0
    responses: int = 0
    feedback: int = 0
    waiting: int = 0
    cost_usd: float = 0.0
    models: Mapping[str, ModelStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """How many opinions of users the log holds, each decision counted once."""

    decisions: int = 0  # that somebody gave an opinion of
    by_users: int = 0  # those of them with an opinion whose user is known
    users: int = 0
    recent: int = 0  # opinions since the later time, changed ones counted anew
    known: bool = False  # whether the log holds the feedback id that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Whether a spend limit let a call in, and what it leaves."""

    granted: bool
    left_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What was spent of a limit in one period, and what is reserved for calls under way."""

    limit_usd: float
    spent_usd: float
    reserved_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """The truth about the store at this moment."""

    ok: bool  # the database answered
    backend: str  # "memory", "sqlite" or "postgresql"
    detail: str | None = None  # why it did not
    queued: int = 0  # decisions and responses that are not written yet
    dropped: int = 0  # decisions and responses that found the queue full
    journal_depth: int = 0  # feedback that waits in the local journal
    refused: int = 0  # journaled feedback that the database later refused
    waiting: int = 0  # feedback whose decision has not arrived
    log_lag: int | None = None  # rows after the given cursor, counted up to 10,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows a pruning removed."""

    decisions: int = 0
    responses: int = 0
    feedback: int = 0


class Writer(Protocol):
    """The application's side of the log."""

    async def record(self, decision: DecisionRecord) -> None:
        """Queue a decision for the background; never waits for the database."""

    async def append(self, row: FeedbackRow) -> Ack:
        """Return once the row is committed, or safe in the journal.

        Raises UnknownDecision, ExpiredDecision, ConflictingFeedback (the id is used for another
        payload), or StorageUnavailable when the row could be kept nowhere.
        """

    async def flush(self) -> None:
        """Return once everything that was queued before the call is committed."""


class Reader(Protocol):
    """The learner's side of the log."""

    async def tail(
        self, router: str, after: str | None = None, limit: int = TAIL_LIMIT
    ) -> Sequence[LogEntry]:
        """Return the next rows in the order of the log, each exactly once; or raise Rebuild.

        No row ever appears before a cursor that was handed out. A row whose decision is not
        visible takes its place in the log when the decision arrives.
        """

    async def decision(self, router: str, decision_id: str) -> DecisionRecord | None:
        """Return a decision of this router, expired or not."""

    async def save_snapshot(
        self, router: str, cursor: str, data: bytes, *, state: str = "", meta: str = ""
    ) -> None:
        """Keep what was learned up to a cursor; the newest three of each `state` stay.

        `state` names what the bytes fit (policy, features): another one lives beside it. Nothing
        is saved for a cursor from before a Rebuild.
        """

    async def load_snapshot(self, router: str, *, state: str = "") -> StoredSnapshot | None:
        """Return the newest undamaged snapshot that still agrees with the log."""


class History(Protocol):
    """What was asked and answered, for people to look at."""

    async def record_response(self, response: ResponseRecord) -> None:
        """Queue an answer for the background; never waits for the database."""

    async def response(self, router: str, response_id: str) -> ResponseRecord | None:
        """Return an answer of this router by its id."""

    async def answer_to(self, router: str, decision_id: str) -> ResponseRecord | None:
        """Return the newest answer to a decision, or its newest failed attempt without one."""

    async def decisions(
        self, router: str, *, limit: int = 100, user_key: str | None = None
    ) -> Sequence[DecisionRecord]:
        """Return the newest decisions, newest first."""

    async def stats(self, router: str, *, since: float = 0.0) -> RouterStats:
        """Return counts, spend and means since a time, by model."""

    async def opinions(
        self,
        router: str,
        *,
        since: float,
        recent: float | None = None,
        user_key: str | None = None,
        feedback_id: str | None = None,
    ) -> Opinions:
        """Return how many opinions of users came since a time, and since a `recent` one.

        Of one user; or of all, but not of those in quarantine. `feedback_id` asks for one row.
        """


class Ledger(Protocol):
    """Spend that all replicas share, and answers that were paid for."""

    async def reserve(
        self,
        scope_key: str,
        period_start: float,
        *,
        limit_usd: float,
        amount_usd: float,
        reservation_id: str,
        now: float,
        expires_at: float,
    ) -> Reservation:
        """Set the amount aside if spent and reserved money leave room for it, in one statement.

        What a dead caller reserved is free again after `expires_at`. The same id reserves once.
        """

    async def settle(self, reservation_id: str, actual_usd: float) -> None:
        """Turn a reservation into what was really spent, in one statement; once."""

    async def spend(self, scope_key: str, period_start: float) -> Spend | None:
        """Return what is spent and reserved, or None before the first reservation."""

    async def begin_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Note that an answer is about to be paid for, before it is asked for."""

    async def save_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str, outcome: str
    ) -> None:
        """Keep a paid answer's graded outcome (JSON), so that it is never paid for twice."""

    async def drop_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Undo a beginning: nothing was paid, so it may be asked for again."""

    async def calibrations(self, router: str, grader: str) -> Mapping[tuple[str, str], str | None]:
        """Return one grader's outcomes by (prompt hash, model); None where one only began."""


class Custodian(Protocol):
    """What may be taken out of the log, and how the readers hear of it."""

    async def forget(self, user_key: str) -> int:
        """Delete a user's decisions, answers, texts and feedback; return how many feedback rows.

        A user's rows are those they gave and those about decisions made for them. Every reader
        gets Rebuild and ends where a run without that user would have. Evidence that pruning has
        already folded into a base snapshot is a nameless sum and stays.
        """

    async def quarantine(self, user_key: str) -> None:
        """Hide a user's rows, past and future, from `tail`; every reader gets Rebuild."""

    async def release(self, user_key: str) -> None:
        """Undo a quarantine; every reader gets Rebuild."""

    async def prune(
        self,
        router: str,
        *,
        older_than_s: float,
        state: str = "",
        schema: str | None = None,
        fold: Fold | None = None,
    ) -> Pruned:
        """Delete what is older; feedback only after `fold` has taken it into a base snapshot.

        The base is a snapshot of `state` from which every rebuild starts. Rows of a decision that
        still takes feedback stay, since later evidence revises them, and so do rows whose features
        are not of `schema`, where one is given: the base could not learn from them. Without `fold`
        texts, answers and decisions that nobody gave feedback on go; the log stays whole.
        """


class Store(Writer, Reader, History, Ledger, Custodian, Protocol):
    """Everything a router and a service keep. One store belongs to one event loop."""

    async def health(self, *, router: str | None = None, cursor: str | None = None) -> StoreHealth:
        """Return the truth about the database, the queue, the journal and a reader's lag."""

    async def close(self) -> None:
        """Write what is queued, stop the background work and close every connection."""

    async def __aenter__(self) -> Self:
        """Open the store."""

    async def __aexit__(self, *exc: object) -> None:
        """Close the store."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the log: of which rewriting of it, and after which row."""

    generation: int = 0
    xid: int = BEGINNING
    seq: int = 0

    def __str__(self) -> str:
        """Return what readers carry."""
        return f"{self.generation}.{self.xid}.{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return what `str` was given, or raise Rebuild for anything else."""
        try:
            numbers = [int(part) for part in text.split(".")]
            generation, xid, seq = (n for n in numbers if abs(n) < 1 << 63)
        except ValueError as error:
            raise Rebuild(f"not a cursor of this log: {text[:40]!r}") from error
        return cls(generation, xid, seq)

    @property
    def place(self) -> tuple[int, int]:
        """Return the row's place within its generation."""
        return (self.xid, self.seq)


def new_id(now: float | None = None) -> str:
    """Return a fresh uuid7: unique, and it knows when it was made."""
    millis = int((time.time() if now is None else now) * 1000)
    bits = millis << 80 | int.from_bytes(os.urandom(10))
    bits = bits & ~(0xF000 << 64) | 0x7000 << 64  # version
    digits = f"{bits & ~(0b11 << 62) | 0b10 << 62:032x}"  # variant
    # As str(uuid.UUID(...)), in half the time: every route makes one.
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def made_at(identity: str) -> float | None:
    """Return when a uuid7 was made (epoch seconds), or None for any other string."""
    if identity[14:15] != "7":  # the version, in the form that `new_id` writes
        return None
    try:
        value = uuid.UUID(identity)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None


def may_still_arrive(decision_id: str, now: float) -> bool:
    """Return whether a decision that is not stored was made so lately that it may yet be."""
    at = made_at(decision_id)
    return at is not None and abs(now - at) <= MAY_STILL_ARRIVE_S


def check_decision(row: FeedbackRow, now: float, stored: tuple[str, float] | None) -> bool:
    """Return whether feedback must wait for its decision, or raise why it cannot be kept.

    `stored` is the decision's router and time of expiry, or None when it is not stored.
    """
    if stored is None and row.decision is not None:
        stored = (row.decision.router, row.decision.expires_at)
    if stored is None:
        if may_still_arrive(row.decision_id, now):
            return True
        raise UnknownDecision(row.decision_id, "it was never made, or was pruned or forgotten")
    router, expires_at = stored
    if router != row.router:
        raise UnknownDecision(
            row.decision_id, f"router {router!r} made it; give the feedback there"
        )
    if expires_at < now:
        raise ExpiredDecision(row.decision_id, expires_at)
    return False


def is_opinion(row: FeedbackRow) -> bool:
    """Return whether a row is what a user said, and not what a calibration found."""
    return row.evidence.rank >= SOURCE_RANK["user"] and row.kind != "calibration"


def payload_hash(row: FeedbackRow) -> bytes:
    """Return 16 bytes that are equal for a repeat and different for another payload.

    What the receiver adds (the time of receipt, what a signal's value teaches) is no part of it.
    """
    e = row.evidence
    numbers = (
        e.quality if row.said is None else row.said,
        e.cost_usd,
        e.input_tokens,
        e.output_tokens,
        e.latency_s,
    )
    said = (
        row.decision_id, row.model, row.kind, row.user_key, e.error, e.rank,
        *(None if n is None else float(n) for n in numbers),
    )  # fmt: skip
    return hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=16).digest()


def repeated(row: FeedbackRow, first: bytes, seq: int | None, *, waiting: bool) -> Ack:
    """Return the answer to a repeat of stored feedback, or raise ConflictingFeedback."""
    if payload_hash(row) != first:
        raise ConflictingFeedback(row.feedback_id)
    return Ack(status="duplicate", feedback_id=row.feedback_id, seq=seq, waiting=waiting)


def clean(text: str) -> str:
    """Return text that every database can hold: without NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def closed() -> StorageUnavailable:
    """Return the error for using a store after `close`."""
    return StorageUnavailable("the store is closed")


def check_money(**amounts_usd: float) -> None:
    """Refuse amounts that are not finite or below zero."""
    for name, amount in amounts_usd.items():
        optional_finite(amount, name, low=0.0)
