"""Writing a group of rows to SQLite, where one writer at a time has the whole file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.engines import translated
from conduit.storage.rows import FEEDBACK_COLUMNS, RECORD_COLUMNS, Arrived, feedback_row
from conduit.storage.writer import Batch, Result, judged, may_wait, rows_of

Driver = Any  # aiosqlite's connection, whose package is imported by SQLAlchemy alone


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
    """The dialect of SQLite.

    It speaks to the driver itself: every call of it is a trip to the connection's thread, of which
    SQLAlchemy makes four for one statement.
    """

    name = "sqlite"
    horizon = "9223372036854775807"  # no other writer's rows could still come in between
    among = "IN (SELECT value FROM json_each(:{}))"
    held = True

    def listed(self, values: Sequence[str]) -> str:
        """Return a list as `json_each` takes it."""
        return json.dumps(list(values))

    async def fetch(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement."""
        return await _run(await _driver(connection), statement, dict(given))

    async def write(self, connection: AsyncConnection, batch: Batch) -> list[Result]:
        """Write a batch in one transaction."""
        driver = await _driver(connection)
        with translated("write"):
            # One that reads first and writes later could not wait for another writer.
            await _run(driver, "BEGIN IMMEDIATE")
            try:
                for table, rows in rows_of(batch):
                    async with driver.executemany(INSERT[table], rows):
                        pass
                results = await _append(driver, batch.feedback) if batch.feedback else []
                await _run(driver, "COMMIT")
            except sqlite3.Error:
                if driver.in_transaction:
                    await _run(driver, "ROLLBACK")
                raise
        return results


async def _driver(connection: AsyncConnection) -> Driver:
    driver: Driver = (await connection.get_raw_connection()).driver_connection
    return driver


async def _run(driver: Driver, statement: str, given: Any = ()) -> Sequence[Any]:
    rows: Sequence[Any] = await driver.execute_fetchall(statement, given)
    return rows


async def _append(driver: Driver, feedback: Sequence[Arrived]) -> list[Result]:
    firsts = {
        (router, identity): (seq, digest, bool(waits))
        for router, identity, seq, digest, waits in await _asked(
            driver, FIRSTS, [f.key for f in feedback]
        )
    }
    decisions = {
        identity: (router, expires_at)
        for identity, router, expires_at in await _asked(
            driver, DECISIONS, [f.row.decision_id for f in feedback]
        )
    }
    new = [f for f in feedback if f.key not in firsts and _fits(f, decisions)]
    stored = await _stored(driver, new, decisions)
    return [
        judged(
            f,
            seq=stored.get(f.key),
            decision=decisions.get(f.row.decision_id),
            first=firsts.get(f.key),
        )
        for f in feedback
    ]


async def _asked(driver: Driver, statement: str, given: Sequence[Any]) -> Sequence[Any]:
    return await _run(driver, statement, (json.dumps(given),))


def _fits(arrived: Arrived, decisions: Mapping[str, tuple[str, float]]) -> bool:
    decision = decisions.get(arrived.row.decision_id)
    if decision is None:
        return may_wait(arrived)
    router, expires_at = decision
    return router == arrived.row.router and expires_at >= arrived.at


async def _stored(
    driver: Driver, new: Sequence[Arrived], decisions: Mapping[str, object]
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
    stored = await _run(driver, statement, values)
    return {(router, identity): seq for router, identity, seq in stored}
