"""An event loop in a thread of its own, for what must not wait in a request: the database."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any, TypeVar

T = TypeVar("T")


CLEANING_UP_S = 1.0


async def _others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=CLEANING_UP_S)


class Worker:
    """Runs coroutines in a loop; its own one in a thread, or one that somebody else runs."""

    def __init__(self, home: asyncio.AbstractEventLoop | None = None) -> None:
        """Use the loop `home` if it is given; otherwise start one."""
        self._own = home is None
        self._loop = home or asyncio.new_event_loop()
        self._waiting: set[Future[Any]] = set()
        self._thread: threading.Thread | None = None
        if self._own:
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="conduit-litellm", daemon=True
            )
            self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine, and remember it until it has ended."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    @property
    def waiting(self) -> int:
        """Return how many coroutines have not ended."""
        return len(self._waiting)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine; only a loop of our own may be waited for."""
        return self.submit(work).result()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Return once everything submitted so far has ended."""
        if self._own:
            wait_for(list(self._waiting), timeout=timeout_s)

    def cancel(self) -> None:
        """Give up what has not ended, and let it clean up."""
        left = list(self._waiting)
        for future in left:
            future.cancel()
        if left and self._own:
            self.run(_others_ended())

    def close(self) -> None:
        """Finish what was submitted, and end the loop if it is our own."""
        self.flush()
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._thread = None
