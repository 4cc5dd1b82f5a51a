"""The dialect of PostgreSQL: a group of rows in one statement, the log up to its horizon.

asyncpg is used directly here: arrays take a whole group to the server in one round trip, and a
prepared statement costs a twentieth of one that has to be planned. Names of prepared statements
are hashes of their text. So behind a transaction pooler (port 6543), which hands every transaction
to another session, a name can be missing or taken, but never mean something else; the first time
that happens, or when the address tells, statements are no longer prepared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.errors import InvalidInput, StorageUnavailable
from conduit.storage.batches import Batch, First, Result, judged, may_wait, rows_of
from conduit.storage.rows import FEEDBACK_COLUMNS, RECORD_COLUMNS, Arrived, Row, feedback_row
from conduit.storage.sessions import Held

_NAMED = re.compile(r"(?<!:):([a-z_]+)")  # :name, not ::type
_TYPES: Mapping[str, str] = {
    "x": "bytea", "digest": "bytea", "output_valid": "boolean", "source_rank": "integer",
    "may_wait": "boolean", "validation_retries": "integer", "tool_calls": "integer",
    "tool_failures": "integer",
    **dict.fromkeys(
        (
            "created_at", "expires_at", "propensity", "recorded_at", "quality", "quality_weight",
            "cost_usd", "latency_s", "time_to_first_token_s", "given_at", "input_tokens",
            "output_tokens", "said", "lift",
        ),
        "float8",
    ),
}  # fmt: skip


def _arrays(columns: Sequence[str], first: int = 1) -> str:
    return ", ".join(f"${i}::{_TYPES.get(c, 'text')}[]" for i, c in enumerate(columns, first))


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(columns)
    given = f"SELECT * FROM unnest({_arrays(columns)})"
    return f"INSERT INTO {table} ({names}) {given} ON CONFLICT DO NOTHING"


INSERT = {table: _insert(table, columns) for table, columns in RECORD_COLUMNS.items()}

_DECISION = RECORD_COLUMNS["decisions"]
_GIVEN = (*FEEDBACK_COLUMNS, "may_wait")
_FEEDBACK = ", ".join(FEEDBACK_COLUMNS)
# Decisions that come along are written first, then the feedback that fits its decision. Rows come
# ordered by id, so two groups with the same ids wait for each other and never deadlock. OFFSET 0
# keeps the look-ups by index, whatever the planner thinks of tables that grow.
APPEND = f"""
WITH brought AS (
    SELECT * FROM unnest({_arrays(_DECISION)}) AS b({", ".join(_DECISION)})
), kept AS (
    INSERT INTO decisions ({", ".join(_DECISION)}) SELECT * FROM brought ON CONFLICT DO NOTHING
), judged AS (
    SELECT g.*, coalesce(d.router, b.router) AS made_by,
           coalesce(d.expires_at, b.expires_at) AS expires_at,
           f.seq AS first_seq, f.digest AS first_digest, f.waits AS first_waits
    FROM unnest({_arrays(_GIVEN, len(_DECISION) + 1)})
         WITH ORDINALITY AS g({", ".join(_GIVEN)}, place)
    LEFT JOIN brought b ON b.id = g.decision_id
    LEFT JOIN LATERAL (
        SELECT router, expires_at FROM decisions WHERE id = g.decision_id OFFSET 0
    ) d ON true
    LEFT JOIN LATERAL (
        SELECT seq, digest, xid IS NULL AS waits FROM feedback
        WHERE router = g.router AND feedback_id = g.feedback_id OFFSET 0
    ) f ON true
), stored AS (
    INSERT INTO feedback (xid, {_FEEDBACK})
    SELECT CASE WHEN made_by IS NULL THEN NULL
                ELSE (SELECT pg_current_xact_id()::text::bigint) END, {_FEEDBACK}
    FROM judged
    WHERE first_seq IS NULL
      AND (made_by = router AND expires_at >= recorded_at OR made_by IS NULL AND may_wait)
    ORDER BY router, feedback_id
    ON CONFLICT DO NOTHING
    RETURNING router, feedback_id, seq
)
SELECT j.made_by, j.expires_at, j.first_seq, j.first_digest, j.first_waits, s.seq
FROM judged j LEFT JOIN stored s USING (router, feedback_id)
ORDER BY j.place
"""

# For rows that met another writer's: its commit came after our statement began.
FIRSTS = """
SELECT f.seq, f.digest, f.xid IS NULL
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS g(router, feedback_id, place)
LEFT JOIN feedback f USING (router, feedback_id)
ORDER BY g.place
"""


@lru_cache(maxsize=64)
def _numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement with `$1` for its first named parameter, and the names in that order."""
    names = tuple(dict.fromkeys(_NAMED.findall(statement)))
    return _NAMED.sub(lambda m: f"${names.index(m[1]) + 1}", statement), names


@lru_cache(maxsize=64)
def _name(statement: str) -> str:
    return f"conduit_{hashlib.blake2b(statement.encode(), digest_size=16).hexdigest()}"


class Postgres:
    """The dialect of PostgreSQL. An error other than a value's leaves the connection dead."""

    name = "postgresql"
    # The place up to which no transaction is still open: later commits only add rows behind it.
    # Sequence numbers say nothing of the kind, since they are given out before the commit.
    horizon = "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
    among = "= ANY(CAST(:{} AS text[]))"
    held = True

    def __init__(self, *, pooled: bool = False) -> None:
        """`pooled`: transactions go to any session, so nothing may be prepared."""
        self._pooled = pooled

    def listed(self, values: Sequence[str]) -> list[str]:
        """Return a list as an array parameter takes it."""
        return list(values)

    async def fetch(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement."""
        numbered, names = _numbered(statement)
        session = await self._session(connection)
        return await session.fetch(numbered, *(given[name] for name in names))

    async def write(self, held: Held, batch: Batch) -> list[Result]:
        """Commit a batch; a single statement is a transaction by itself."""
        return await held.use(lambda connection: self._write(connection, batch))

    async def close(self) -> None:
        """Close nothing: the connections are the caller's."""

    async def _write(self, connection: AsyncConnection, batch: Batch) -> list[Result]:
        tables = dict(rows_of(batch))
        brought = tables.pop("decisions", []) if batch.feedback else []
        session = await self._session(connection)
        several = len(tables) + bool(batch.feedback) > 1
        if several:
            await session.execute("BEGIN")
        for table, rows in tables.items():
            await session.fetch(INSERT[table], *_columns(rows))
        results = await _append(session, brought, batch.feedback) if batch.feedback else []
        if several:
            await session.execute("COMMIT")
        elif not (tables or results):
            await session.fetch("SELECT 1")
        return results

    async def _session(self, connection: AsyncConnection) -> _Session:
        pooled = await connection.get_raw_connection()
        info: MutableMapping[str, Any] = pooled.info
        return _Session(pooled.driver_connection, None if self._pooled else info, self._met_pooler)

    def _met_pooler(self) -> None:
        self._pooled = True


class _Session:
    """One connection, with the statements that it has prepared.

    What goes wrong in the driver, of whatever class, ends the connection: nobody can tell in what
    state it was left. Only what a value spoilt is rolled back.
    """

    def __init__(
        self,
        raw: Any,
        info: MutableMapping[str, Any] | None,
        met_pooler: Callable[[], object] = bool,
    ) -> None:
        """`info` lives as long as the connection; without it nothing is prepared."""
        self._raw = raw
        self._prepared = None if info is None else info.setdefault("conduit_prepared", {})
        self._met_pooler = met_pooler

    async def fetch(self, statement: str, *given: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement with `$1` parameters."""
        async with self._guarded():
            rows: Sequence[Sequence[Any]]
            if self._prepared is None:
                rows = await self._raw.fetch(statement, *given)
                return rows
            prepared = self._prepared.get(statement)
            if prepared is None:
                prepared = await self._raw.prepare(statement, name=_name(statement))
                self._prepared[statement] = prepared
            rows = await prepared.fetch(*given)
            return rows

    async def execute(self, statement: str) -> None:
        """Run a statement without parameters."""
        async with self._guarded():
            await self._raw.execute(statement)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            state = getattr(error, "sqlstate", None) or ""
            if _blames_a_value(error, state) and not self._raw.is_closed():
                await self.execute("ROLLBACK")
                raise InvalidInput("the database refused a value") from error
            self._raw.terminate()
            if state in ("26000", "42P05"):  # no such statement, or one too many: a pooler
                self._met_pooler()
            reason = type(error).__name__ + (f", SQLSTATE {state}" if state else "")
            raise StorageUnavailable(f"the database failed: {reason}") from error
        except BaseException:
            self._raw.terminate()  # nobody may wait again for what it was doing
            raise


def _blames_a_value(error: Exception, state: str) -> bool:
    """Return whether the server, or asyncpg before it sent anything, refused a value."""
    encoding = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    return encoding or state[:2] in ("22", "23")


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _append(
    session: _Session, brought: Sequence[Row], feedback: Sequence[Arrived]
) -> list[Result]:
    decisions = _columns(brought) if brought else [[] for _ in _DECISION]
    rows = [(*feedback_row(f), may_wait(f)) for f in feedback]
    found = [tuple(r) for r in await session.fetch(APPEND, *decisions, *_columns(rows))]
    beaten = [f for f, row in zip(feedback, found, strict=True) if row[2] is row[5] is None]
    late = await _firsts(session, beaten)
    return [
        judged(
            f,
            seq=seq,
            decision=None if made_by is None else (made_by, expires_at),
            first=late.get(f.key) if first_seq is None else (first_seq, digest, waits),
        )
        for f, (made_by, expires_at, first_seq, digest, waits, seq) in zip(
            feedback, found, strict=True
        )
    ]


async def _firsts(session: _Session, beaten: Sequence[Arrived]) -> dict[tuple[str, str], First]:
    if not beaten:
        return {}
    found = await session.fetch(FIRSTS, *_columns([f.key for f in beaten]))
    return {
        f.key: (row[0], row[1], row[2])
        for f, row in zip(beaten, found, strict=True)
        if row[0] is not None
    }
