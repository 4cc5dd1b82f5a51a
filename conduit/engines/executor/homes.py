"""What belongs to an event loop: connections cannot be used from another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from conduit.loops import running_loop

T = TypeVar("T")


class Homes(Generic[T]):
    """One thing for each event loop that asks for it, made when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Make nothing yet."""
        self._make = make
        self._things: dict[asyncio.AbstractEventLoop | None, T] = {}

    def here(self) -> T:
        """Return the thing of the running loop; those of loops that have ended are let go of."""
        loop = running_loop()
        found = self._things.get(loop)
        if found is None:
            for other in [each for each in self._things if each is not None and each.is_closed()]:
                self._things.pop(other, None)
            found = self._things[loop] = self._make()
        return found

    def leave(self) -> T | None:
        """Return the thing of the running loop, if there is one, and forget it."""
        return self._things.pop(running_loop(), None)
