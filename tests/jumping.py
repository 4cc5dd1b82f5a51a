"""A loop on which waiting takes no time, so that deadlines are tested to the millisecond."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import ParamSpec

P = ParamSpec("P")


class _Jumps(selectors.DefaultSelector):
    """Where nothing is ready, moves the clock to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        """Begin at an hour that no real clock shows."""
        super().__init__()
        self.now_s = 1e6

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready at once; with no timer to move to, wait for it."""
        ready = super().select(0.0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.now_s += max(timeout, 0.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Sleeps and timeouts end in their order, at once; `time` says when they would have."""

    def __init__(self) -> None:
        """Make the clock."""
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        """Return the seconds on the clock that jumps."""
        return self._jumps.now_s


def clock() -> float:
    """Return the seconds on the clock of the running loop."""
    return asyncio.get_running_loop().time()


def jumping(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test on a loop whose clock jumps, where a busy machine makes nothing late."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
