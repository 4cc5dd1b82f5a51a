"""Reading the log: the rows in commit order, each joined with its decision and what came before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.events import DecisionRecord, Evidence, FeedbackRow, LogEntry, Remark, unchecked
from conduit.storage.ports import BEGINNING, TAIL_LIMIT, Cursor, Rebuild
from conduit.storage.rows import (
    DECISION_COLUMNS,
    EVIDENCE_COLUMNS,
    chunks,
    to_decision,
    to_evidence,
)
from conduit.storage.sessions import Sessions

DECISIONS_REMEMBERED = 10_000  # several rows of the log are about the same decision
ROWS_AT_A_STRETCH = 100  # that are turned into entries before others on the loop have their turn
STATE_COLUMNS = ("generation", "pruned_xid", "pruned_seq", "ready")
ROW_COLUMNS = ("xid", "seq", "feedback_id", "decision_id", "model", "kind", "user_key", "said")
_ROWS = len(STATE_COLUMNS)
_EVIDENCE = _ROWS + len(ROW_COLUMNS)
_DECISION = _EVIDENCE + len(EVIDENCE_COLUMNS)


def _of(table: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


# Feedback that no quarantined user gave, on decisions that were not made for one.
IN_THE_LOG = """
    feedback f JOIN decisions d ON d.id = f.decision_id
    AND (f.user_key IS NULL OR f.user_key NOT IN (SELECT user_key FROM quarantine))
    AND (d.user_key IS NULL OR d.user_key NOT IN (SELECT user_key FROM quarantine))
"""
# Feedback that waits for a decision that has come.
READY = """
    feedback f JOIN decisions d ON d.id = f.decision_id
        AND d.router = f.router AND d.expires_at >= f.recorded_at
    WHERE f.xid IS NULL AND f.router = :router
"""
# One statement, so that the page and the state of the log are of one moment. The columns of the
# state hold even where the page is empty.
PAGE = f"""
    SELECT r.*, e.*
    FROM (
        SELECT coalesce(max(generation), 0) AS generation,
               coalesce(max(pruned_xid), {BEGINNING}) AS pruned_xid,
               coalesce(max(pruned_seq), 0) AS pruned_seq,
               EXISTS (SELECT 1 FROM {READY}) AS ready
        FROM routers WHERE router = :router
    ) r
    LEFT JOIN (
        SELECT {_of("f", ROW_COLUMNS)}, {_of("f", EVIDENCE_COLUMNS)},
               {", ".join(f"d.{column} AS of_{column}" for column in DECISION_COLUMNS)}
        FROM {IN_THE_LOG}
        WHERE f.router = :router AND (f.xid, f.seq) > (:xid, :seq) AND f.xid < {{horizon}}
        ORDER BY f.xid, f.seq
        LIMIT {{limit}}
    ) e ON 1 = 1
    ORDER BY e.xid, e.seq
"""
# What was said before a page about the same calls. It names no router, which a decision implies:
# before statistics exist, PostgreSQL would read all rows of the router to find a few.
EARLIER = f"""
    SELECT f.decision_id, f.model, f.kind, f.said, {_of("f", EVIDENCE_COLUMNS)}
    FROM feedback f
    WHERE f.decision_id {{among}} AND (f.xid, f.seq) <= (:xid, :seq)
      AND (f.user_key IS NULL OR f.user_key NOT IN (SELECT user_key FROM quarantine))
    ORDER BY f.xid, f.seq
"""

# PostgreSQL: two readers may see the same row ready; the second skips what the first has locked.
PROMOTE = text(f"""
    UPDATE feedback SET
        seq = nextval(pg_get_serial_sequence('feedback', 'seq')),
        xid = (SELECT pg_current_xact_id()::text::bigint)
    WHERE seq IN (SELECT f.seq FROM {READY} FOR UPDATE OF f SKIP LOCKED)
""")
READY_PLACES = text(f"SELECT f.seq FROM {READY} ORDER BY f.seq")
NEXT_PLACE = text("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'feedback' RETURNING seq")
MOVE = text("UPDATE feedback SET seq = :place, xid = 0 WHERE seq = :waiting")


# Of one decision: what the log says of each model, row by row and together.
Said = dict[str, tuple[tuple[Remark, ...], Evidence]]


@dataclass(slots=True)
class _Followed:
    """What a reader that goes on where it stopped need not ask for again."""

    cursor: str | None = None
    calls: OrderedDict[str, Said] = field(default_factory=OrderedDict)

    def trim(self) -> None:
        """Let go of the calls that were added first."""
        while len(self.calls) > DECISIONS_REMEMBERED:
            self.calls.popitem(last=False)


class LogReader:
    """Reads one database's logs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        dialect = sessions.dialect
        self._promote = _promote if dialect.name == "postgresql" else _move
        among = dialect.among.format("decisions")
        self._page_statement = PAGE.format(horizon=dialect.horizon, limit="{limit}")
        self._earlier_statement = EARLIER.format(among=among)
        self._decisions: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._followed: dict[str, _Followed] = {}  # by router

    async def tail(
        self, router: str, after: str | None = None, limit: int = TAIL_LIMIT
    ) -> Sequence[LogEntry]:
        """Return the next rows in the order of the log, or raise Rebuild."""
        cursor = None if after is None else Cursor.parse(after)
        page = await self._page(router, cursor, limit)
        if page[0][3] and (len(page) < limit or page[0][_ROWS] is None):
            await self._sessions.write("let feedback in", lambda c: self._promote(c, router))
            page = await self._page(router, cursor, limit)
        generation, *pruned = page[0][:3]
        if cursor is not None and (cursor.generation != generation or cursor.place < tuple(pruned)):
            raise self._rewritten()
        rows = [row for row in page if row[_ROWS] is not None]
        if not rows:
            return []
        calls = list({row[_ROWS + 3] for row in rows})
        followed = await self._said(router, after, cursor, calls)
        entries: list[LogEntry] = []
        for some in chunks(rows, ROWS_AT_A_STRETCH):
            entries += [
                _entry(router, generation, row, self._decision_of(row), followed.calls)
                for row in some
            ]
            await asyncio.sleep(0)
        while len(self._decisions) > DECISIONS_REMEMBERED:
            self._decisions.popitem(last=False)
        followed.cursor = entries[-1].cursor
        followed.trim()
        self._followed[router] = followed
        return entries

    def _rewritten(self) -> Rebuild:
        self._decisions.clear()  # some of them may have been forgotten
        self._followed.clear()
        return Rebuild("the log was rewritten")

    async def _page(
        self, router: str, cursor: Cursor | None, limit: int
    ) -> Sequence[Sequence[Any]]:
        xid, seq = (Cursor() if cursor is None else cursor).place
        statement = self._page_statement.format(limit=int(limit))
        given = {"router": router, "xid": xid, "seq": seq}
        return await self._sessions.fetch("read the log", statement, given)

    def _decision_of(self, row: Sequence[Any]) -> DecisionRecord:
        """Return the decision of a row, which several rows share."""
        known = self._decisions.get(row[_ROWS + 3])
        if known is None:
            known = self._decisions[row[_ROWS + 3]] = to_decision(row[_DECISION:])
        return known

    async def _said(
        self, router: str, after: str | None, cursor: Cursor | None, calls: Sequence[str]
    ) -> _Followed:
        """Return what the rows up to the cursor say together about the calls of a page.

        It is the caller's alone until it is put back, so readers that overlap do not mix.
        """
        followed = self._followed.pop(router, None)
        if followed is None or followed.cursor != after:
            followed = _Followed()
        said = followed.calls
        unknown = [call for call in calls if call not in said]
        said.update((call, {}) for call in unknown)
        if unknown and cursor is not None:
            decisions = self._sessions.dialect.listed(unknown)
            given = {"decisions": decisions, "xid": cursor.xid, "seq": cursor.seq}
            for row in await self._sessions.fetch("read the log", self._earlier_statement, given):
                _say(said[row[0]], row[1], Remark(row[2], row[3], to_evidence(row[4:])))
        return followed


def _entry(
    router: str,
    generation: int,
    values: Sequence[Any],
    decision: DecisionRecord,
    calls: Mapping[str, Said],
) -> LogEntry:
    """Return an entry, and take what it says into account for the ones after it."""
    xid, seq, feedback_id, decision_id, model, kind, user_key, value = values[_ROWS:_EVIDENCE]
    evidence = to_evidence(values[_EVIDENCE:_DECISION])
    said = calls[decision_id]
    earlier, before = said.get(model, _NOTHING)
    together = _say(said, model, Remark(kind, value, evidence))
    row = _row(feedback_id, router, decision_id, model, evidence, kind, user_key, None, value)
    cursor = f"{generation}.{xid}.{seq}"  # as `Cursor` is written
    return _made(cursor, row, decision, before, earlier, together)


_NOTHING: tuple[tuple[Remark, ...], Evidence | None] = ((), None)
_row = unchecked(FeedbackRow)
_made = unchecked(LogEntry)


def _say(said: Said, model: str, new: Remark) -> Evidence:
    """Add a remark, and return what all on this call say together."""
    known = said.get(model)
    if known is None:
        said[model] = (new,), new.evidence
        return new.evidence
    earlier, before = known
    together = before.joined(new.evidence)
    said[model] = (*earlier, new), together
    return together


async def _promote(connection: AsyncConnection, router: str) -> None:
    await connection.execute(PROMOTE, {"router": router})


async def _move(connection: AsyncConnection, router: str) -> None:
    for waiting in (await connection.execute(READY_PLACES, {"router": router})).scalars().all():
        place = (await connection.execute(NEXT_PLACE)).scalar_one()
        await connection.execute(MOVE, {"place": place, "waiting": waiting})
