"""Writing a group of rows to SQLite, where one writer at a time has the whole file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.rows import (
    DECISION_COLUMNS,
    FEEDBACK_COLUMNS,
    RESPONSE_COLUMNS,
    Arrived,
    Row,
    decision_row,
    feedback_row,
    optional_clean,
    response_row,
)
from conduit.storage.writer import Batch, Result, judged, may_wait

HORIZON = "9223372036854775807"  # there is no other writer whose rows could come in between
THIS_TRANSACTION = "0"


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"


INSERT_DECISIONS = _insert("decisions", DECISION_COLUMNS)
INSERT_QUERIES = _insert("queries", ("decision_id", "text"))
INSERT_RESPONSES = _insert("responses", RESPONSE_COLUMNS)

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


async def write(connection: AsyncConnection, batch: Batch, *, store_text: bool) -> list[Result]:
    """Write a batch in the transaction of the connection, which the caller commits."""
    for statement, rows in (
        (INSERT_DECISIONS, [decision_row(d) for d in batch.decisions]),
        (INSERT_QUERIES, _texts(batch) if store_text else []),
        (INSERT_RESPONSES, [response_row(r, store_text=store_text) for r in batch.responses]),
    ):
        if rows:
            await connection.exec_driver_sql(statement, rows)
    return await _append(connection, batch.feedback) if batch.feedback else []


def _texts(batch: Batch) -> list[Row]:
    return [(d.id, optional_clean(d.text)) for d in batch.decisions if d.text is not None]


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


async def fetch(
    connection: AsyncConnection, statement: str, given: Mapping[str, Any]
) -> Sequence[Sequence[Any]]:
    """Return the rows of one statement."""
    return (await connection.exec_driver_sql(statement, dict(given))).all()


def listed(values: Sequence[str]) -> str:
    """Return a list as `json_each` takes it."""
    return json.dumps(list(values))
