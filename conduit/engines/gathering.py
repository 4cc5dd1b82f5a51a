"""Things that come within a moment and go on together: one commit, one reading of the log."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from conduit.loops import running_loop

T = TypeVar("T")

log = logging.getLogger(__name__)

LINGER_S = 0.2  # what waits for others at most; learning from an answer may be so late
GROUP = 32  # things that wait for nobody else


class Gathering(Generic[T]):
    """Owns what waits, the timer that it waits for, and the task that hands it on in groups.

    It lives in the event loop where it was settled, as long as that is open, wherever things come
    from; else in the one that it was last added to in. What comes without a loop, or was left
    behind by an earlier one, goes on with the next thing that comes.
    """

    def __init__(
        self,
        hand_on: Callable[[Sequence[T]], Awaitable[None]],
        *,
        linger_s: float = LINGER_S,
        most: int | None = None,
    ) -> None:
        """Call `hand_on` with each group, in the order in which things came.

        Of more than `most` that wait, the oldest are dropped.
        """
        self._hand_on = hand_on
        self._linger_s = linger_s
        self._waiting: deque[T] = deque(maxlen=most)
        self._in_hand = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._called = False  # home, from another loop or thread
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many things have not been handed on."""
        return len(self._waiting) + self._in_hand

    def settle(self) -> None:
        """Hand everything on in the running event loop from now on."""
        self._home, self._called = asyncio.get_running_loop(), False
        self._come_home()

    def add(self, thing: T) -> None:
        """Take a thing, which goes on in a moment; returns at once."""
        self._waiting.append(thing)
        here, home = running_loop(), self._home
        if home is not None and home is not here and not home.is_closed():
            if not self._called:
                self._called = True
                with suppress(RuntimeError):  # it was closed just now; the next flush sees to it
                    home.call_soon_threadsafe(self._called_home)
        elif here is not None:
            self._soon()

    def _called_home(self) -> None:
        self._called = False
        self._soon()

    def _soon(self) -> None:
        """See to it that what waits goes on in a moment, in the running loop."""
        self._come_home()
        if len(self._waiting) >= GROUP:
            self._start()
        elif self._timer is None and self._task is None and self._loop is not None:
            self._timer = self._loop.call_later(self._linger_s, self._start)

    async def flush(self) -> None:
        """Return once everything that waited has been handed on."""
        while self._waiting or self._task is not None:
            self._come_home()  # a task of a loop that has ended since would never be done
            await asyncio.wait([self._start()])

    def _come_home(self) -> None:
        """Forget the timer and the task of a loop that is not this one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._task, self._in_hand = loop, None, None, 0

    def _start(self) -> asyncio.Task[None]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())
            self._task.add_done_callback(self._ended)
        return self._task

    async def _work(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            self._in_hand = len(group)
            await self._hand_on(group)
            self._in_hand = 0

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:
            return
        self._task, self._in_hand = None, 0
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("A group of background work was lost: %s", type(error).__name__)
        if self._waiting and not task.cancelled():
            self._start()


__all__ = ["GROUP", "LINGER_S", "Gathering"]
