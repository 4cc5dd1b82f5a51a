"""Writing a group of rows to SQLite, where one writer at a time has the whole file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.rows import FEEDBACK_COLUMNS, RECORD_COLUMNS, Arrived, feedback_row
from conduit.storage.writer import Batch, Result, judged, may_wait, rows_of


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"


INSERT = {table: _insert(table, columns) for table, columns in RECORD_COLUMNS.items()}

_COLUMNS = ("xid", *FEEDBACK_COLUMNS)
INSERT_FEEDBACK = f"INSERT INTO feedback ({', '.join(_COLUMNS)}) VALUES "
FIRSTS = """
SELECT f.router, f.feedback_id, f.seq, f.digest, f.xid IS NULL
FROM json_each(?) g
JOIN feedback f ON f.router = g.value ->> 0 AND f.feedback_id = g.value ->> 1
"""
DECISIONS = """
SELECT d.id, d.router, d.expires_at FROM json_each(?) g JOIN decisions d ON d.id = g.value
"""


class SQLite:
    """The dialect of SQLite; its transactions are begun and ended by the caller."""

    name = "sqlite"
    horizon = "9223372036854775807"  # no other writer's rows could still come in between
    among = "IN (SELECT value FROM json_each(:{}))"
    held = False

    def listed(self, values: Sequence[str]) -> str:
        """Return a list as `json_each` takes it."""
        return json.dumps(list(values))

    async def fetch(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement."""
        return (await connection.exec_driver_sql(statement, dict(given))).all()

    async def write(self, connection: AsyncConnection, batch: Batch) -> list[Result]:
        """Write a batch."""
        for table, rows in rows_of(batch):
            await connection.exec_driver_sql(INSERT[table], rows)
        return await _append(connection, batch.feedback) if batch.feedback else []


async def _append(connection: AsyncConnection, feedback: Sequence[Arrived]) -> list[Result]:
    firsts = {
        (router, identity): (seq, digest, bool(waits))
        for router, identity, seq, digest, waits in await _asked(
            connection, FIRSTS, [f.key for f in feedback]
        )
    }
    decisions = {
        identity: (router, expires_at)
        for identity, router, expires_at in await _asked(
            connection, DECISIONS, [f.row.decision_id for f in feedback]
        )
    }
    new = [f for f in feedback if f.key not in firsts and _fits(f, decisions)]
    stored = await _stored(connection, new, decisions)
    return [
        judged(
            f,
            seq=stored.get(f.key),
            decision=decisions.get(f.row.decision_id),
            first=firsts.get(f.key),
        )
        for f in feedback
    ]


async def _asked(
    connection: AsyncConnection, statement: str, given: Sequence[Any]
) -> Sequence[Any]:
    return (await connection.exec_driver_sql(statement, (json.dumps(given),))).all()


def _fits(arrived: Arrived, decisions: Mapping[str, tuple[str, float]]) -> bool:
    decision = decisions.get(arrived.row.decision_id)
    if decision is None:
        return may_wait(arrived)
    router, expires_at = decision
    return router == arrived.row.router and expires_at >= arrived.at


async def _stored(
    connection: AsyncConnection, new: Sequence[Arrived], decisions: Mapping[str, object]
) -> dict[tuple[str, str], int]:
    """Insert rows, and return their places."""
    if not new:
        return {}
    row = f"({', '.join('?' * len(_COLUMNS))})"
    statement = (
        INSERT_FEEDBACK + ", ".join([row] * len(new)) + " RETURNING router, feedback_id, seq"
    )
    values: list[Any] = []
    for f in new:
        values += [0 if f.row.decision_id in decisions else None, *feedback_row(f)]
    result = await connection.exec_driver_sql(statement, tuple(values))
    return {(router, identity): seq for router, identity, seq in list[Any](result.all())}
