"""Running statements: owned tasks, time limits, one retry on a connection that went stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conduit.core.errors import StorageUnavailable
from conduit.storage import postgres, sqlite
from conduit.storage.engines import READ_ONLY, translated
from conduit.storage.ports import closed
from conduit.storage.writer import Batch, Result

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
COMMIT_TIMEOUT_S = 3.0  # then feedback goes to the journal; what was committed is recognised
LONG_TIMEOUT_S = 600.0  # forgetting and pruning


class WriteBatch(Protocol):
    """Writes a batch; see `postgres.write`."""

    async def __call__(
        self, connection: AsyncConnection, batch: Batch, *, store_text: bool
    ) -> list[Result]:
        """Return what became of each piece of feedback."""


class Fetch(Protocol):
    """Reads; see `postgres.fetch`."""

    async def __call__(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement with `:name` parameters."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the two databases say differently."""

    name: str
    horizon: str  # SQL: places in the log before this transaction are settled
    write: WriteBatch
    fetch: Fetch
    among: str  # SQL: a column is one of the list that `{}` names
    commits_itself: bool  # `write` begins and commits its own transaction
    listed: Callable[[Sequence[str]], Any]


DIALECTS = {
    "postgresql": Dialect(
        "postgresql",
        postgres.HORIZON,
        postgres.write,
        postgres.fetch,
        "= ANY(CAST(:{} AS text[]))",
        commits_itself=True,
        listed=list,
    ),
    "sqlite": Dialect(
        "sqlite",
        sqlite.HORIZON,
        sqlite.write,
        sqlite.fetch,
        "IN (SELECT value FROM json_each(:{}))",
        commits_itself=False,
        listed=sqlite.listed,
    ),
}


class Sessions:
    """Owns the engine and every task that uses a connection of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Connect to nothing yet."""
        self.dialect = DIALECTS[engine.dialect.name]
        self._engine = engine
        # PostgreSQL: a single statement needs no transaction around it.
        alone = {"isolation_level": "AUTOCOMMIT"} if self.dialect.commits_itself else {}
        self._reading = engine.execution_options(**{READ_ONLY: True}, **alone)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def read(self, doing: str, work: Work[T], *, timeout_s: float = READ_TIMEOUT_S) -> T:
        """Return what `work` reads; each statement sees what was committed before it."""
        return await self._owned(lambda: self._read(doing, work, timeout_s))

    async def write(self, doing: str, work: Work[T], *, timeout_s: float = WRITE_TIMEOUT_S) -> T:
        """Return what `work` returns, once its transaction is committed."""
        return await self._owned(lambda: self._write(doing, work, timeout_s))

    async def commit(self, batch: Batch, *, store_text: bool) -> Sequence[Result]:
        """Write a batch in one transaction; an empty one asks whether the database is there."""
        return await self._owned(lambda: self._commit(batch, store_text))

    async def _owned(self, start: Callable[[], Awaitable[T]]) -> T:
        """Run to the end even if the caller is cancelled: no connection is left half-used."""
        if self._closed:
            raise closed()
        task = asyncio.ensure_future(_retried(start))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the caller may be gone

    async def _read(self, doing: str, work: Work[T], timeout_s: float) -> T:
        with translated(doing):
            async with asyncio.timeout(timeout_s), self._reading.connect() as connection:
                return await _invalidating(connection, work)

    async def _write(self, doing: str, work: Work[T], timeout_s: float) -> T:
        with translated(doing):
            async with asyncio.timeout(timeout_s), self._engine.begin() as connection:
                return await work(connection)

    async def _commit(self, batch: Batch, store_text: bool) -> Sequence[Result]:
        write = self.dialect.write
        with translated("write"):
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                if not self.dialect.commits_itself:
                    async with self._engine.begin() as connection:
                        return await write(connection, batch, store_text=store_text)
                async with self._engine.connect() as connection:
                    return await _invalidating(
                        connection, lambda c: write(c, batch, store_text=store_text)
                    )

    async def close(self) -> None:
        """Wait for what is under way and close every connection."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=COMMIT_TIMEOUT_S)
        await self._engine.dispose()


async def _invalidating(connection: AsyncConnection, work: Work[T]) -> T:
    """Take a connection that `work` found dead out of the pool."""
    try:
        return await work(connection)
    except (StorageUnavailable, asyncio.CancelledError):
        await connection.invalidate()
        raise


async def _retried(start: Callable[[], Awaitable[T]]) -> T:
    """Try again at once: the first connection may have died with a server that is back."""
    try:
        return await start()
    except StorageUnavailable as error:
        if isinstance(error.__cause__, TimeoutError):
            raise
        return await start()
