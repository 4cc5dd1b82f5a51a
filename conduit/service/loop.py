"""The event loop that a service lives in, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from conduit.core.errors import ConfigurationError
from conduit.loops import Home, running_loop

T = TypeVar("T")

CLEANING_UP_S = 1.0  # in which what is cancelled with the loop may let go of its connections


class HomeLoop:
    """The loop in which a service was made or first used, or one of its own in a thread."""

    def __init__(self) -> None:
        """Live in the running loop, if there is one."""
        self._home = Home(
            "this service",
            "complete_sync() and run_sync() reach a service from other threads, and "
            "create_service_sync() makes one whose loop does not end",
        )
        if (here := running_loop()) is not None:
            self._home.claim(here)
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._turn = threading.Lock()  # of the thread that starts, drives or stops the loop

    def enter(self) -> None:
        """Refuse whoever awaits the service in another event loop than its own."""
        self._check_process()
        self._home.enter()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wherever that is; start one where there is none yet."""
        try:
            with self._turn:
                home = self._usable()
                if not home.is_running() and self._thread is None:
                    return home.run_until_complete(work)
        except BaseException:
            work.close()  # it may not have begun
            raise
        awaited = asyncio.run_coroutine_threadsafe(work, home)
        try:
            return awaited.result()
        except CancelledError:
            raise ConfigurationError("the service was closed before this ended") from None
        finally:
            awaited.cancel()  # who was interrupted does not want it any more

    def _usable(self) -> asyncio.AbstractEventLoop:
        self._check_process()
        if self._home.loop is None:
            self._start()
        self._home.stands()
        home = self._home.loop
        assert home is not None
        return home

    def _check_process(self) -> None:
        if self._process == os.getpid():
            return
        if self._home.loop is not None:
            raise ConfigurationError(
                "this service was made before the process forked, and its event loop stayed "
                "behind: make a service in each process"
            )
        self._process = os.getpid()

    def start(self) -> None:
        """Run a loop of our own in a thread."""
        with self._turn:
            self._start()

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        if self._home.claim(loop) is not loop:  # a caller in a loop came first
            loop.close()
            return
        self._thread = threading.Thread(
            target=loop.run_forever, name="conduit-service", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the loop of our own, if there is one; nobody waits for what ran in it."""
        with self._turn:
            thread, self._thread = self._thread, None
            home = self._home.loop
        if thread is None or home is None or self._process != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(_others_ended(), home).result()
        home.call_soon_threadsafe(home.stop)
        thread.join()
        home.close()


async def _others_ended() -> None:
    """Cancel what else runs in this loop, and let it clean up."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=CLEANING_UP_S)
