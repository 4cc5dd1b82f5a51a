"""What one transaction writes, in which order, and what callers are told of it.

Decisions come before the feedback on them, and everything is sorted by its id: the one order in
which all writers take their locks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from conduit.core.errors import ConduitError, StorageUnavailable
from conduit.core.events import DecisionRecord, unchecked
from conduit.storage.ports import (
    Ack,
    ResponseRecord,
    check_decision,
    clean,
    may_still_arrive,
    repeated,
)
from conduit.storage.rows import Arrived, Row, decision_row, optional_clean, response_row


@dataclass(slots=True, eq=False)
class Batch:
    """What one transaction writes; decisions come before the feedback on them."""

    decisions: Sequence[DecisionRecord] = ()
    responses: Sequence[ResponseRecord] = ()
    feedback: Sequence[Arrived] = ()


Result = Ack | ConduitError
_ack = unchecked(Ack)
First = tuple[int, bytes, bool]  # of the row that has the id: place, digest, whether it waits
# Writes a batch in one transaction and says what became of each piece of feedback.
Commit = Callable[[Batch], Awaitable[Sequence[Result]]]


def batch_of(items: Iterable[DecisionRecord | ResponseRecord], rows: Sequence[Arrived]) -> Batch:
    """Return a batch in the one order in which all writers take their locks."""
    kept = list(items)
    decisions = {d.id: d for d in kept if isinstance(d, DecisionRecord)}
    for arrived in rows:
        if arrived.row.decision is not None and arrived.row.decision.expires_at >= arrived.at:
            decisions.setdefault(arrived.row.decision.id, arrived.row.decision)
    return Batch(
        decisions=sorted(decisions.values(), key=lambda d: d.id),
        responses=sorted((r for r in kept if isinstance(r, ResponseRecord)), key=lambda r: r.id),
        feedback=rows,
    )


def singles(batch: Batch) -> Iterable[Batch]:
    """Return the parts of a batch that can be committed one by one, in order."""
    yield from (Batch(decisions=[d]) for d in batch.decisions)
    yield from (Batch(responses=[r]) for r in batch.responses)
    yield from (Batch(feedback=[f]) for f in batch.feedback)


def may_wait(arrived: Arrived) -> bool:
    """Return whether a row may be stored before its decision."""
    return arrived.row.decision is None and may_still_arrive(arrived.row.decision_id, arrived.at)


def judged(
    arrived: Arrived,
    *,
    seq: int | None,
    decision: tuple[str, float] | None,
    first: First | None,
) -> Result:
    """Return what a caller is told of a row that was stored (`seq`), or was not."""
    row = arrived.row
    try:
        if seq is not None:
            return _ack("stored", row.feedback_id, seq, decision is None, None)
        if first is not None:
            return repeated(row, first[1], first[0], waiting=first[2])
        check_decision(row, arrived.at, decision)
    except ConduitError as error:
        return error
    return StorageUnavailable("the row met one that was being deleted; give it again")


def rows_of(batch: Batch) -> Iterable[tuple[str, list[Row]]]:
    """Return what a batch adds to each table beside the feedback, tables without rows left out."""
    texts = [d for d in batch.decisions if d.text is not None]
    for table, rows in (
        ("decisions", [decision_row(d) for d in batch.decisions]),
        ("queries", [(clean(d.id), optional_clean(d.text)) for d in texts]),
        ("responses", [response_row(r) for r in batch.responses]),
    ):
        if rows:
            yield table, rows
