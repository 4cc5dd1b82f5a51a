"""The store in a database: SQLite in a file, or PostgreSQL that replicas share."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.errors import StorageUnavailable
from conduit.core.events import DecisionRecord, FeedbackRow
from conduit.storage.accounts import Accounts
from conduit.storage.archive import Archive
from conduit.storage.engines import engine_for, translated
from conduit.storage.history import HistoryReader
from conduit.storage.journal import MAX_BYTES, Journal
from conduit.storage.memory import MemoryStore
from conduit.storage.migrations import check, prepare_sqlite, refuse_foreign_places, upgrade
from conduit.storage.ports import (
    COUNTED_AT_MOST,
    Ack,
    Clock,
    Cursor,
    Fold,
    Pruned,
    ResponseRecord,
    Store,
    StoreHealth,
)
from conduit.storage.sessions import Dialect, Sessions
from conduit.storage.sqlite import SQLite
from conduit.storage.urls import DatabaseUrl
from conduit.storage.writer import GroupWriter

HEALTH_TIMEOUT_S = 2.0
COUNT_WAITING = text("SELECT count(*) FROM feedback WHERE xid IS NULL")
COUNT_BEHIND = text(f"""
    SELECT count(*) FROM (
        SELECT 1 FROM feedback
        WHERE router = :router AND xid IS NOT NULL AND (xid, seq) > (:xid, :seq)
        LIMIT {COUNTED_AT_MOST}
    ) behind
""")


class DatabaseStore(Archive, HistoryReader, Accounts):
    """A store that survives the process; see `conduit.storage.ports` for what it promises."""

    def __init__(
        self,
        url: str,
        *,
        store_text: bool = False,
        journal_path: str | Path | None = None,
        journal_bytes: int = MAX_BYTES,
        clock: Clock = time.time,
    ) -> None:
        """Connect to nothing yet; `journal_path` is a directory that processes may share."""
        self._url = DatabaseUrl.parse(url)
        self._raw_url = url
        sessions = Sessions(engine_for(self._url), _dialect(self._url))
        Archive.__init__(self, sessions, clock)
        HistoryReader.__init__(self, sessions)
        Accounts.__init__(self, sessions, clock)
        journal = None
        if journal_path is not None:
            journal = Journal(Path(journal_path), self._url.shown, max_bytes=journal_bytes)
        self._writer = GroupWriter(
            sessions.commit, journal=journal, clock=clock, store_text=store_text
        )
        self._opening = asyncio.Lock()
        self._open = False

    # Life

    async def open(self) -> None:
        """Connect, see to the schema, and start to write; a second call changes nothing.

        An SQLite file is made or migrated; PostgreSQL is looked at, and ConfigurationError says
        which command to run.
        """
        async with self._opening:
            if self._open:
                return
            if self._url.backend == "sqlite":
                await self._prepare_file()
            else:
                await self._sessions.read("look at the schema", self._check_schema)
            self._writer.start()
            self._open = True

    async def _prepare_file(self) -> None:
        async def prepare(connection: AsyncConnection) -> bool:
            return await connection.run_sync(prepare_sqlite)

        if await self._sessions.write("build the schema", prepare):
            with translated("migrate the database"):
                await asyncio.to_thread(upgrade, self._raw_url)

    async def _check_schema(self, connection: AsyncConnection) -> None:
        await connection.run_sync(check, self._url)
        await connection.run_sync(refuse_foreign_places)

    async def close(self) -> None:
        """Write what is queued, stop the background work and close every connection."""
        await self._writer.close()
        await self._sessions.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def health(self, *, router: str | None = None, cursor: str | None = None) -> StoreHealth:
        """Return the truth about the database, the queue, the journal and a reader's lag."""
        waiting, lag, detail = 0, None, None
        try:
            waiting, lag = await self._sessions.read(
                "look after the database",
                lambda c: _counted(c, router, cursor),
                timeout_s=HEALTH_TIMEOUT_S,
            )
        except StorageUnavailable as error:
            detail = str(error)
        return StoreHealth(
            ok=detail is None and self._writer.outage is None,
            backend=self._url.backend,
            detail=detail or self._writer.outage,
            queued=self._writer.queued,
            dropped=self._writer.counters.dropped,
            journal_depth=self._writer.journaled,
            refused=self._writer.counters.refused,
            waiting=waiting,
            log_lag=lag,
        )

    # Writing

    async def record(self, decision: DecisionRecord) -> None:
        """Queue a decision."""
        self._check_open()
        self._writer.record(decision)

    async def record_response(self, response: ResponseRecord) -> None:
        """Queue an answer."""
        self._check_open()
        self._writer.record(response)

    async def append(self, row: FeedbackRow) -> Ack:
        """Return once the row is committed or journaled."""
        self._check_open()
        return await self._writer.append(row)

    async def flush(self) -> None:
        """Return once what was queued before is committed."""
        self._check_open()
        await self._writer.flush()

    def _check_open(self) -> None:
        if not self._open:
            raise StorageUnavailable("the store is not open: use `async with` or `open_store`")

    # Reading what may still be queued

    async def decision(self, router: str, decision_id: str) -> DecisionRecord | None:
        """Return a decision of this router, written or not."""
        queued = self._writer.pending(decision_id)
        if queued is not None:
            return queued if queued.router == router else None
        return await super().decision(router, decision_id)

    # Deleting, after what is queued was written

    async def forget(self, user_key: str) -> int:
        """Delete what belongs to a user, and make every reader rebuild."""
        await self.flush()
        count = await super().forget(user_key)
        self._writer.forget_known()
        return count

    async def prune(
        self,
        router: str,
        *,
        older_than_s: float,
        state: str = "",
        schema: str | None = None,
        fold: Fold | None = None,
    ) -> Pruned:
        """Delete what is older, after folding the feedback into a base."""
        pruned = await super().prune(
            router, older_than_s=older_than_s, state=state, schema=schema, fold=fold
        )
        self._writer.forget_known()
        return pruned


def _dialect(url: DatabaseUrl) -> Dialect:
    if url.backend == "sqlite":
        return SQLite(url.path)
    from conduit.storage.postgres import Postgres  # asyncpg takes 0.1 s to import

    return Postgres(pooled=url.pooled)


async def _counted(
    connection: AsyncConnection, router: str | None, cursor: str | None
) -> tuple[int, int | None]:
    waiting = (await connection.execute(COUNT_WAITING)).scalar_one()
    if router is None:
        return waiting, None
    place = Cursor() if cursor is None else Cursor.parse(cursor)
    given = {"router": router, "xid": place.xid, "seq": place.seq}
    return waiting, (await connection.execute(COUNT_BEHIND, given)).scalar_one()


async def open_store(
    url: str | None,
    *,
    store_text: bool = False,
    journal_path: str | Path | None = None,
    clock: Clock = time.time,
) -> Store:
    """Return an open store: in memory without an address, else SQLite or PostgreSQL.

    `journal_path` is a directory for feedback that comes while the database is away; without one
    such feedback is refused with StorageUnavailable. Close the store when done.
    """
    if url is None:
        return MemoryStore(store_text=store_text, clock=clock)
    store = DatabaseStore(url, store_text=store_text, journal_path=journal_path, clock=clock)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
