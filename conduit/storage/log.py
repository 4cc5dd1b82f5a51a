"""Reading the log: the rows in commit order, each joined with its decision and what came before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.events import Evidence, FeedbackRow, LogEntry
from conduit.storage.ports import TAIL_LIMIT, Cursor, Rebuild
from conduit.storage.rows import DECISION_COLUMNS, EVIDENCE_COLUMNS, to_decision, to_evidence
from conduit.storage.sessions import Sessions

ROW_COLUMNS = ("xid", "seq", "feedback_id", "decision_id", "model", "kind", "user_key")
_ROWS = len(ROW_COLUMNS)
_EVIDENCE = _ROWS + len(EVIDENCE_COLUMNS)


def _of(table: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


# Feedback that a user gave, or that is about a decision made for them.
VISIBLE = """
    (f.user_key IS NULL OR f.user_key NOT IN (SELECT user_key FROM quarantine))
    AND (d.user_key IS NULL OR d.user_key NOT IN (SELECT user_key FROM quarantine))
"""
IN_THE_LOG = f"feedback f JOIN decisions d ON d.id = f.decision_id AND {VISIBLE}"
# Feedback that waits for a decision that has come.
READY = """
    feedback f JOIN decisions d ON d.id = f.decision_id
        AND d.router = f.router AND d.expires_at >= f.recorded_at
    WHERE f.xid IS NULL AND f.router = :router
"""


def tail_statement(horizon: str) -> TextClause:
    """Return the statement that reads a page; its first columns hold even where the page is empty.

    One statement, so that the page and the state of the log are of one moment.
    """
    return text(f"""
        SELECT r.*, e.*
        FROM (
            SELECT coalesce(max(generation), 0) AS generation,
                   coalesce(max(pruned_xid), 0) AS pruned_xid,
                   coalesce(max(pruned_seq), 0) AS pruned_seq,
                   EXISTS (SELECT 1 FROM {READY}) AS ready
            FROM routers WHERE router = :router
        ) r
        LEFT JOIN (
            SELECT {_of("f", ROW_COLUMNS)}, {_of("f", EVIDENCE_COLUMNS)},
                   {", ".join(f"d.{c} AS d_{c}" for c in DECISION_COLUMNS)}
            FROM {IN_THE_LOG}
            WHERE f.router = :router AND (f.xid, f.seq) > (:xid, :seq) AND f.xid < {horizon}
            ORDER BY f.xid, f.seq
            LIMIT :limit
        ) e ON 1 = 1
        ORDER BY e.xid, e.seq
    """)


def earlier_statement(among: str) -> TextClause:
    """Return the statement that reads what was said before a page about the same calls."""
    return text(f"""
        SELECT f.decision_id, f.model, {_of("f", EVIDENCE_COLUMNS)}
        FROM {IN_THE_LOG}
        WHERE f.router = :router AND f.decision_id {among.format("decisions")}
          AND (f.xid, f.seq) <= (:xid, :seq)
        ORDER BY f.xid, f.seq
    """)


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


class LogReader:
    """Reads one database's logs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        dialect = sessions.dialect
        self._promote = _promote if dialect.name == "postgresql" else _move
        self._tail = tail_statement(dialect.horizon)
        self._earlier = earlier_statement(dialect.among)

    async def tail(
        self, router: str, after: str | None = None, limit: int = TAIL_LIMIT
    ) -> Sequence[LogEntry]:
        """Return the next rows in the order of the log, or raise Rebuild."""
        cursor = None if after is None else Cursor.parse(after)
        state, rows = await self._page(router, cursor, limit)
        if state[3] and len(rows) < limit:
            await self._sessions.write(
                "let feedback into the log", lambda c: self._promote(c, router)
            )
            state, rows = await self._page(router, cursor, limit)
        generation, pruned = state[0], (state[1], state[2])
        if cursor is not None and (cursor.generation != generation or cursor.place < pruned):
            raise Rebuild("the log was rewritten")
        earlier = await self._before(router, cursor, rows)
        return [_entry(router, generation, row, earlier) for row in rows]

    async def _page(
        self, router: str, cursor: Cursor | None, limit: int
    ) -> tuple[Sequence[Any], list[Sequence[Any]]]:
        xid, seq = cursor.place if cursor is not None else (-1, 0)
        given = {"router": router, "xid": xid, "seq": seq, "limit": limit}

        async def page(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            return (await connection.execute(self._tail, given)).all()

        found = await self._sessions.read("read the log", page)
        return found[0], [row[4:] for row in found if row[4] is not None]

    async def _before(
        self, router: str, cursor: Cursor | None, rows: Sequence[Sequence[Any]]
    ) -> dict[tuple[str, str], Evidence]:
        """Return what the rows up to the cursor say together about the calls of a page."""
        if cursor is None or not rows:
            return {}
        given = {
            "router": router,
            "decisions": self._sessions.dialect.listed(list({row[3] for row in rows})),
            "xid": cursor.xid,
            "seq": cursor.seq,
        }

        async def before(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            return (await connection.execute(self._earlier, given)).all()

        said: dict[tuple[str, str], Evidence] = {}
        for decision_id, model, *values in await self._sessions.read("read the log", before):
            _say(said, (decision_id, model), to_evidence(values))
        return said


def _say(said: dict[tuple[str, str], Evidence], call: tuple[str, str], new: Evidence) -> None:
    before = said.get(call)
    said[call] = new if before is None else before.joined(new)


def _entry(
    router: str,
    generation: int,
    row: Sequence[Any],
    said: dict[tuple[str, str], Evidence],
) -> LogEntry:
    """Return an entry, and take what it says into account for the ones after it."""
    xid, seq, feedback_id, decision_id, model, kind, user_key = row[:_ROWS]
    evidence = to_evidence(row[_ROWS:_EVIDENCE])
    call = (decision_id, model)
    before = said.get(call)
    _say(said, call, evidence)
    return LogEntry(
        cursor=str(Cursor(generation, xid, seq)),
        row=FeedbackRow(
            feedback_id=feedback_id,
            router=router,
            decision_id=decision_id,
            model=model,
            evidence=evidence,
            kind=kind,
            user_key=user_key,
        ),
        decision=to_decision(row[_EVIDENCE:]),
        before=before,
    )


async def _promote(connection: AsyncConnection, router: str) -> None:
    await connection.execute(PROMOTE, {"router": router})


async def _move(connection: AsyncConnection, router: str) -> None:
    for waiting in (await connection.execute(READY_PLACES, {"router": router})).scalars().all():
        place = (await connection.execute(NEXT_PLACE)).scalar_one()
        await connection.execute(MOVE, {"place": place, "waiting": waiting})
