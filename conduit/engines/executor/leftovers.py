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
        self.abandon(task)
        raise Overdue

    async def ended(self, task: asyncio.Future[Any], limit_s: float) -> None:
        """Return once a task has ended, or raise what it raised; own it where it takes longer."""
        try:
            await asyncio.wait([task], timeout=limit_s)
        finally:
            if not task.done():
                self.abandon(task)
        if task.done() and not task.cancelled():
            task.result()

    def abandon(self, task: asyncio.Future[Any]) -> None:
        """Cancel a task, and own it until it has ended."""
        task.cancel()
        self._own(task)

    def owns(self, task: asyncio.Future[Any]) -> bool:
        """Return whether a task was abandoned and has not ended."""
        return task in self._tasks

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
