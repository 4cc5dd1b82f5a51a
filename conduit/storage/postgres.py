"""Writing a group of rows to PostgreSQL: three statements at most, however many rows.

asyncpg is used directly: arrays take a whole group to the server in one round trip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.errors import ConduitError, InvalidInput, StorageUnavailable
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
from conduit.storage.writer import Batch, First, Result, judged, may_wait

# The place up to which no transaction is still open: later commits can only add rows behind it.
# Sequence numbers say nothing of the kind, since they are given out before the commit.
HORIZON = "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
THIS_TRANSACTION = "(SELECT pg_current_xact_id()::text::bigint)"

_NAMED = re.compile(r"(?<!:):([a-z_]+)")  # :name, not ::type
_TYPES: Mapping[str, str] = {
    "x": "bytea", "digest": "bytea", "output_valid": "boolean", "source_rank": "integer",
    "validation_retries": "integer", "tool_calls": "integer", "tool_failures": "integer",
    **dict.fromkeys(
        (
            "created_at", "expires_at", "propensity", "recorded_at", "quality", "quality_weight",
            "cost_usd", "latency_s", "time_to_first_token_s", "given_at", "input_tokens",
            "output_tokens",
        ),
        "float8",
    ),
}  # fmt: skip


def _arrays(columns: Sequence[str]) -> str:
    return ", ".join(f"${i}::{_TYPES.get(c, 'text')}[]" for i, c in enumerate(columns, 1))


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(columns)
    given = f"SELECT * FROM unnest({_arrays(columns)})"
    return f"INSERT INTO {table} ({names}) {given} ON CONFLICT DO NOTHING"


INSERT_DECISIONS = _insert("decisions", DECISION_COLUMNS)
INSERT_QUERIES = _insert("queries", ("decision_id", "text"))
INSERT_RESPONSES = _insert("responses", RESPONSE_COLUMNS)

_GIVEN = (*FEEDBACK_COLUMNS, "may_wait")
_FEEDBACK = ", ".join(FEEDBACK_COLUMNS)
# Rows come ordered by id, so two groups with the same ids wait for each other and never deadlock.
APPEND = f"""
WITH judged AS (
    SELECT g.*, d.router AS made_by, d.expires_at,
           f.seq AS first_seq, f.digest AS first_digest, f.xid IS NULL AS first_waits
    FROM unnest({_arrays(FEEDBACK_COLUMNS)}, ${len(_GIVEN)}::boolean[])
         WITH ORDINALITY AS g({_FEEDBACK}, may_wait, place)
    LEFT JOIN decisions d ON d.id = g.decision_id
    LEFT JOIN feedback f ON f.router = g.router AND f.feedback_id = g.feedback_id
), stored AS (
    INSERT INTO feedback (xid, {_FEEDBACK})
    SELECT CASE WHEN made_by IS NULL THEN NULL ELSE {THIS_TRANSACTION} END, {_FEEDBACK}
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


async def fetch(
    connection: AsyncConnection, statement: str, given: Mapping[str, Any]
) -> Sequence[Sequence[Any]]:
    """Return the rows of one statement outside a transaction, without SQLAlchemy's rows."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    numbered, names = _numbered(statement)
    try:
        rows: Sequence[Sequence[Any]] = await raw.fetch(numbered, *(given[name] for name in names))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raw.terminate()
        raise StorageUnavailable(f"could not read: {type(error).__name__}") from error
    except BaseException:
        raw.terminate()
        raise
    return rows


async def write(connection: AsyncConnection, batch: Batch, *, store_text: bool) -> list[Result]:
    """Write a batch in one transaction; any error but a value's kills the connection."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    try:
        await raw.execute("BEGIN")
        await _write_records(raw, batch, store_text)
        results = await _append(raw, batch.feedback) if batch.feedback else []
        await raw.execute("COMMIT")
    except asyncpg.PostgresError as error:
        raise await _undone(raw, error) from error
    except asyncpg.InterfaceError as error:
        raw.terminate()
        raise _client_error(error) from error
    except BaseException:  # cancelled, or the network: nobody may wait for this connection again
        raw.terminate()
        raise
    return results


async def _undone(raw: Any, error: asyncpg.PostgresError) -> ConduitError:
    """Roll back, and return the error in our words."""
    state = getattr(error, "sqlstate", None) or ""
    if state[:2] in ("22", "23") and not raw.is_closed():
        await raw.execute("ROLLBACK")
        return InvalidInput("the database refused a value")
    raw.terminate()
    return StorageUnavailable(f"could not write: {type(error).__name__}, SQLSTATE {state}")


def _client_error(error: asyncpg.InterfaceError) -> ConduitError:
    if isinstance(error, ValueError):  # asyncpg.DataError: a value that has no binary form
        return InvalidInput("a value cannot be written to the database")
    return StorageUnavailable(f"could not write: {type(error).__name__}")


async def _write_records(raw: Any, batch: Batch, store_text: bool) -> None:
    for statement, rows in (
        (INSERT_DECISIONS, [decision_row(d) for d in batch.decisions]),
        (INSERT_QUERIES, _texts(batch) if store_text else []),
        (INSERT_RESPONSES, [response_row(r, store_text=store_text) for r in batch.responses]),
    ):
        if rows:
            await raw.execute(statement, *_columns(rows))


def _texts(batch: Batch) -> list[Row]:
    return [(d.id, optional_clean(d.text)) for d in batch.decisions if d.text is not None]


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _append(raw: Any, feedback: Sequence[Arrived]) -> list[Result]:
    rows = [(*feedback_row(f), may_wait(f)) for f in feedback]
    found = [tuple(r) for r in await raw.fetch(APPEND, *_columns(rows))]
    beaten = [
        f for f, row in zip(feedback, found, strict=True) if row[2] is None and row[5] is None
    ]
    late = await _firsts(raw, beaten)
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


async def _firsts(raw: Any, beaten: Sequence[Arrived]) -> dict[tuple[str, str], First]:
    if not beaten:
        return {}
    found = await raw.fetch(FIRSTS, *_columns([f.key for f in beaten]))
    return {f.key: tuple(row) for f, row in zip(beaten, found, strict=True) if row[0] is not None}
