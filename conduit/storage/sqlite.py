"""The dialect of SQLite: groups of rows through a thread and a connection of their own.

One writer at a time has the whole file, so what counts is how long it has it. Each statement lets
other threads of the process run, and to wait for them again may take milliseconds: a group is three
or four statements whose answers are single rows, and nothing goes back and forth to the event loop.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.batches import Batch, First, Result, judged, may_wait, rows_of
from conduit.storage.rows import (
    FEEDBACK_COLUMNS,
    RECORD_COLUMNS,
    Arrived,
    Row,
    chunks,
    feedback_row,
)
from conduit.storage.sessions import Held

# SQLite's own waiting sleeps for up to 0.1 s, while others come and go: with four writers one group
# in a hundred waited for 1.5 s. Whoever looks this often gets the file at one of the next commits.
LOOK_S = 0.001
WAIT_S = 2.5  # for the file; then feedback goes to the journal
ROWS_AT_ONCE = 1000  # of one INSERT: SQLite takes 32,766 values

_COLUMNS = ("xid", *FEEDBACK_COLUMNS)
# What is known about a group, as one row: the feedback that has its ids, and its decisions. JSON
# would round the numbers.
KNOWN = """
SELECT
    (SELECT json_group_array(json_array(
        f.router, f.feedback_id, f.seq, hex(f.digest), f.xid IS NULL
     )) FROM json_each(?) g
     JOIN feedback f ON f.router = g.value ->> 0 AND f.feedback_id = g.value ->> 1),
    (SELECT json_group_array(json_array(d.id, d.router, printf('%!.20g', d.expires_at)))
     FROM json_each(?) g JOIN decisions d ON d.id = g.value)
"""


class SQLite:
    """The dialect of SQLite."""

    name = "sqlite"
    horizon = "9223372036854775807"  # no other writer's rows could still come in between
    among = "IN (SELECT value FROM json_each(:{}))"
    held = True

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self._path = Path(path).absolute()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="conduit sqlite writer")
        self._file: sqlite3.Connection | None = None

    def listed(self, values: Sequence[str]) -> str:
        """Return a list as `json_each` takes it."""
        return json.dumps(list(values))

    async def fetch(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement, with one trip to the thread of the driver."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        rows: Sequence[Sequence[Any]] = await driver.execute_fetchall(statement, dict(given))
        return rows

    async def write(self, _held: Held, batch: Batch) -> list[Result]:
        """Commit a batch, through a connection of the dialect's own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._write, batch)

    async def close(self) -> None:
        """Close the file, after what is under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _write(self, batch: Batch) -> list[Result]:
        tables = list(rows_of(batch))  # worked out before others have to wait
        rows = {f.key: feedback_row(f) for f in batch.feedback}
        with self._transaction() as file:
            for table, given in tables:
                _insert(file, table, RECORD_COLUMNS[table], given)
            return _append(file, batch.feedback, rows) if batch.feedback else []

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._file is None:
            self._file = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
            self._file.execute("PRAGMA synchronous=FULL")
        try:
            _begin(self._file)
            yield self._file
            self._file.execute("COMMIT")
        except BaseException:
            self._close()  # which rolls back; the next group opens the file anew
            raise

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _begin(file: sqlite3.Connection) -> None:
    """Return once this connection is the one that writes."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        else:
            return
        time.sleep(LOOK_S)


def _insert(
    file: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[Row]
) -> int:
    """Insert rows that are not there, and return the place of the last one."""
    last = 0
    for some in chunks(rows, ROWS_AT_ONCE):
        marks = ", ".join([f"({', '.join('?' * len(columns))})"] * len(some))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks}"
        given = [value for row in some for value in row]
        last = file.execute(statement + " ON CONFLICT DO NOTHING", given).lastrowid or 0
    return last


def _append(
    file: sqlite3.Connection, feedback: Sequence[Arrived], rows: Mapping[tuple[str, str], Row]
) -> list[Result]:
    firsts, decisions = _known(file, feedback)
    new = [f for f in feedback if f.key not in firsts and _fits(f, decisions)]
    stored: dict[tuple[str, str], int] = {}
    if new:
        given = [(0 if f.row.decision_id in decisions else None, *rows[f.key]) for f in new]
        # Nobody else writes now and none of them is there, so their places follow each other.
        last = _insert(file, "feedback", _COLUMNS, given)
        stored = {f.key: last - len(new) + n for n, f in enumerate(new, 1)}
    return [
        judged(
            f,
            seq=stored.get(f.key),
            decision=decisions.get(f.row.decision_id),
            first=firsts.get(f.key),
        )
        for f in feedback
    ]


def _known(
    file: sqlite3.Connection, feedback: Sequence[Arrived]
) -> tuple[dict[tuple[str, str], First], dict[str, tuple[str, float]]]:
    asked = json.dumps([f.key for f in feedback]), json.dumps([f.row.decision_id for f in feedback])
    firsts, decisions = map(json.loads, file.execute(KNOWN, asked).fetchone())
    return (
        {(r, i): (seq, bytes.fromhex(digest), bool(waits)) for r, i, seq, digest, waits in firsts},
        {identity: (router, float(expires)) for identity, router, expires in decisions},
    )


def _fits(arrived: Arrived, decisions: Mapping[str, tuple[str, float]]) -> bool:
    decision = decisions.get(arrived.row.decision_id)
    if decision is None:
        return may_wait(arrived)
    router, expires_at = decision
    return router == arrived.row.router and expires_at >= arrived.at
