"""Calls that were cancelled and do not end: nobody waits for them but their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

LEAVE_S = 1.0  # in which a call whose caller has gone may still let go of its connection


class Overdue(Exception):
    """The work has not ended in time."""


class Leftovers:
    """Owns the calls that outlive their deadline, such as a tool in a thread that goes on.

    What an executor does after its cancellation must not keep anybody from an answer in time.
    """

    def __init__(self) -> None:
        """Own nothing yet."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many calls have not ended."""
        return len(self._tasks)

    async def within(self, work: Awaitable[T], limit_s: float | None) -> T:
        """Return what the work returns, or raise Overdue; what is left of it is owned here."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task], timeout=limit_s)
        except asyncio.CancelledError:
            task.cancel()
            self._own(task)
            await asyncio.wait([task], timeout=LEAVE_S)
            raise
        if task.done():
            return task.result()
        task.cancel()
        self._own(task)
        raise Overdue

    def _own(self, task: asyncio.Future[Any]) -> None:
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: it came too late for anybody

    async def close(self) -> None:
        """Give what goes on a moment to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LEAVE_S)


__all__ = ["Leftovers", "Overdue"]
