"""Running statements: owned tasks, time limits, one retry on a connection that went stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conduit.core.errors import InvalidInput, StorageUnavailable
from conduit.storage.batches import Batch, Result
from conduit.storage.engines import READ_ONLY, translated
from conduit.storage.ports import closed

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
COMMIT_TIMEOUT_S = 3.0  # then feedback goes to the journal; what was committed is recognised
LONG_TIMEOUT_S = 600.0  # forgetting and pruning


class Held:
    """A connection that is kept for one purpose, for one user at a time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._connection: AsyncConnection | None = None

    async def use(self, work: Work[T]) -> T:
        """Return what `work` returns; after any failure but a value's the connection is replaced.

        Nobody can tell in what state a failure leaves it, an unforeseen one least of all.
        """
        async with self._lock:
            if self._connection is None:
                self._connection = await self._engine.connect()
            try:
                return await work(self._connection)
            except InvalidInput:
                raise  # it was rolled back
            except BaseException:
                connection, self._connection = self._connection, None
                await connection.invalidate()
                await connection.close()
                raise

    async def close(self) -> None:
        """Give the connection back."""
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


class Dialect(Protocol):
    """What the two databases do differently."""

    name: str
    horizon: str  # SQL: what lies before this transaction in the log is settled
    among: str  # SQL: a column is one of the list that `{}` names
    held: bool  # `fetch` wants a connection of its own, where a statement is a transaction

    def listed(self, values: Sequence[str]) -> Any:
        """Return a list as `among` takes it."""

    async def fetch(
        self, connection: AsyncConnection, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement with `:name` parameters."""

    async def write(self, held: Held, batch: Batch) -> list[Result]:
        """Commit a batch, and return what became of each piece of feedback.

        `held` is a connection for this alone, made once it is used.
        """

    async def close(self) -> None:
        """Close what the dialect itself has opened."""


class Sessions:
    """Owns the engine and every task that uses a connection of it."""

    def __init__(self, engine: AsyncEngine, dialect: Dialect) -> None:
        """Connect to nothing yet."""
        self.dialect = dialect
        self._engine = engine
        # A single statement needs no transaction around it.
        alone = {"isolation_level": "AUTOCOMMIT"} if dialect.held else {}
        self._reading = engine.execution_options(**{READ_ONLY: True}, **alone)
        self._log = Held(self._reading)
        self._writer = Held(self._reading)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def read(self, doing: str, work: Work[T], *, timeout_s: float = READ_TIMEOUT_S) -> T:
        """Return what `work` reads; each statement sees what was committed before it."""
        return await self._owned(lambda: self._read(doing, work, timeout_s))

    async def write(self, doing: str, work: Work[T], *, timeout_s: float = WRITE_TIMEOUT_S) -> T:
        """Return what `work` returns, once its transaction is committed."""
        return await self._owned(lambda: self._write(doing, work, timeout_s))

    async def commit(self, batch: Batch) -> Sequence[Result]:
        """Write a batch in one transaction; an empty one asks whether the database is there."""
        return await self._owned(lambda: self._commit(batch))

    async def fetch(
        self, doing: str, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement, by the shortest way."""
        return await self._owned(lambda: self._fetch(doing, statement, given))

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
                return await work(connection)

    async def _write(self, doing: str, work: Work[T], timeout_s: float) -> T:
        with translated(doing):
            async with asyncio.timeout(timeout_s), self._engine.begin() as connection:
                return await work(connection)

    async def _fetch(
        self, doing: str, statement: str, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        def work(connection: AsyncConnection) -> Awaitable[Sequence[Sequence[Any]]]:
            return self.dialect.fetch(connection, statement, given)

        if not self.dialect.held:
            return await self._read(doing, work, READ_TIMEOUT_S)
        with translated(doing):
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._log.use(work)

    async def _commit(self, batch: Batch) -> Sequence[Result]:
        with translated("write"):
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                return await self.dialect.write(self._writer, batch)

    async def close(self) -> None:
        """Wait for what is under way and close every connection; a second call changes nothing."""
        if self._closed:
            return
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=COMMIT_TIMEOUT_S)
        for held in (self._log, self._writer):
            await held.close()
        await self.dialect.close()
        await self._engine.dispose()


async def _retried(start: Callable[[], Awaitable[T]]) -> T:
    """Try again at once: the first connection may have died with a server that is back."""
    try:
        return await start()
    except StorageUnavailable as error:
        if isinstance(error.__cause__, TimeoutError):
            raise
        return await start()
