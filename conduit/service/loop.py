"""The event loop that a service lives in, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class HomeLoop:
    """The loop in which a service was made, or one of its own in a thread."""

    def __init__(self) -> None:
        """Live in the running loop, if there is one."""
        try:
            self._home: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._home = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wherever that is; start one where there is none yet."""
        if self._home is None:
            self.start()
        home = self._home
        assert home is not None
        if home.is_closed():
            work.close()
            raise RuntimeError(
                "the event loop in which this service was made has ended; make it with "
                "create_service_sync(), or use it within that loop"
            )
        if home.is_running():
            return asyncio.run_coroutine_threadsafe(work, home).result()
        return home.run_until_complete(work)

    def start(self) -> None:
        """Run a loop of our own in a thread."""
        self._home = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._home.run_forever, name="conduit-service", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the loop of our own, if there is one."""
        if self._thread is not None and self._home is not None:
            self._home.call_soon_threadsafe(self._home.stop)
            self._thread.join()
            self._home.close()
            self._thread = None
