"""The event loop of this thread, and that in which something lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

from conduit.core.errors import ConfigurationError

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def at_once(work: Coroutine[object, object, T]) -> T:
    """Return what a coroutine that waits for nothing returns."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("a store in memory waits for nothing")


class Home:
    """The one event loop in which something can be used, as its tasks and connections are there."""

    def __init__(self, owner: str, way_out: str) -> None:
        """Say in errors whose home this is, and what to do from elsewhere."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._owner = owner
        self._way_out = way_out
        self._claiming = threading.Lock()

    def claim(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Return the home, which is this loop if there was none."""
        with self._claiming:
            if self.loop is None:
                self.loop = loop
            return self.loop

    def enter(self) -> None:
        """Live in the running loop from the first call on, and refuse every other loop."""
        here = asyncio.get_running_loop()
        if self.loop is not here and self.claim(here) is not here:
            self.stands()
            raise ConfigurationError(
                f"{self._owner} belongs to the event loop that it was opened in, and this is "
                f"another one: {self._way_out}"
            )

    def stands(self) -> None:
        """Refuse to go on without a home that has ended."""
        if self.loop is not None and self.loop.is_closed():
            raise ConfigurationError(
                f"the event loop that {self._owner} was opened in has ended: {self._way_out}"
            )


__all__ = ["Home", "at_once", "running_loop"]
