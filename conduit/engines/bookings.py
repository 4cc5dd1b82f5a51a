"""Money on its way to the books: what is set aside is kept or given back, and what a call cost is
booked, whatever becomes of the caller or the database in the meantime.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from itertools import chain, repeat
from typing import Any, TypeVar

from conduit.core.errors import ConduitError, StorageUnavailable
from conduit.storage.base import Store

log = logging.getLogger(__name__)
T = TypeVar("T")

AGAIN_S = (0.5, 2.0, 8.0)  # waits while the database is away; the last one is repeated


class Bookings:
    """Owns the settlements that are under way, and those that wait for the database."""

    def __init__(self, store: Store) -> None:
        """Book in the reservations of a store."""
        self._store = store
        self._unbooked: dict[str, float] = {}  # what was spent, by reservation
        self._under_way: set[asyncio.Task[Any]] = set()
        self._again: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """Return how many settlements wait for the database."""
        return len(self._unbooked)

    async def settle(self, reservation_id: str, spent_usd: float) -> None:
        """Book what was spent; while the database is away, it is kept and booked later."""
        try:
            await self._store.settle(reservation_id, spent_usd)
        except StorageUnavailable as error:
            if self._closed:
                log.error("What a call cost was not booked: %s", error)
                return
            self._unbooked[reservation_id] = spent_usd
            if self._again is None or self._again.done():
                self._again = asyncio.ensure_future(self._book_later())

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let something go on though its caller may leave; `flush` waits for it."""
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConduitError):  # those are told the caller
            log.error("What a call may cost was not set aside", exc_info=error)

    async def flush(self) -> None:
        """Return once everything is booked, or raise StorageUnavailable."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._book()

    async def _book(self) -> None:
        for reservation_id, spent_usd in list(self._unbooked.items()):
            await self._store.settle(reservation_id, spent_usd)  # once more does no harm
            self._unbooked.pop(reservation_id, None)

    async def _book_later(self) -> None:
        for wait_s in chain(AGAIN_S, repeat(AGAIN_S[-1])):
            await asyncio.sleep(wait_s)
            try:
                return await self._book()
            except StorageUnavailable as error:
                log.warning("What %d calls cost is not booked yet: %s", len(self), error)

    async def close(self) -> None:
        """Book what can be booked now, and give up the rest."""
        self._closed = True
        try:
            await self.flush()
        except StorageUnavailable as error:
            log.error(
                "What %d calls cost was not booked: it counts until their reservations end (%s)",
                len(self), error,
            )  # fmt: skip
        finally:
            if self._again is not None:
                self._again.cancel()
                await asyncio.gather(self._again, return_exceptions=True)
