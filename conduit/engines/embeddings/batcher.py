"""A slow embedder's own thread: event loops hand texts in, and wait for their rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, Generic, TypeVar

BATCH: Final = 32  # texts that a slow embedder takes at once
PATIENCE_S: Final = 10.0  # a decision waits no longer for what only makes it better

Row = TypeVar("Row")
Waiting = tuple[str, Future[Row]]


class Batcher(Generic[Row]):
    """Runs a slow embedder in one thread; what queues up meanwhile goes in one batch.

    Any number of event loops may wait for it at once. One that hangs is waited for once: until it
    answers, there is nothing to be had from it.
    """

    def __init__(
        self, embed: Callable[[Sequence[str]], Sequence[Row]], *, patience_s: float = PATIENCE_S
    ) -> None:
        """Start no thread before the first text."""
        self._embed = embed
        self.patience_s: Final = patience_s
        self._waiting: SimpleQueue[Waiting[Row] | None] = SimpleQueue()
        self._began_s: float | None = None  # of the batch under way
        self._thread: Thread | None = None
        self._starting = Lock()

    async def embed(self, text: str) -> Row | None:
        """Return the row of a text, or None where the embedder takes longer than is waited."""
        if self._hangs():
            return None
        self._start()
        future: Future[Row] = Future()
        self._waiting.put((text, future))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.patience_s)
        except TimeoutError:
            return None

    async def close(self) -> None:
        """End the thread once it has done what it was given; one that hangs is left behind."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._waiting.put(None)
        if not self._hangs():
            await asyncio.to_thread(thread.join, self.patience_s)

    def _hangs(self) -> bool:
        began_s = self._began_s
        return began_s is not None and time.monotonic() - began_s > self.patience_s

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon: an embedder that hangs must not keep the process from ending.
                self._thread = Thread(target=self._work, name="conduit-embed", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first, *self._queued()]
            wanted = [(text, f) for text, f in batch if f.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _queued(self) -> Sequence[Waiting[Row]]:
        """Return what has queued up, as much as makes a batch."""
        found: list[Waiting[Row]] = []
        while len(found) < BATCH - 1:
            try:
                following = self._waiting.get_nowait()
            except Empty:
                break
            if following is None:  # the end, after this batch
                self._waiting.put(None)
                break
            found.append(following)
        return found

    def _answer(self, wanted: Sequence[Waiting[Row]]) -> None:
        self._began_s = time.monotonic()
        try:
            rows = self._embed([text for text, _ in wanted])
        except BaseException as error:  # noqa: BLE001  whoever waits is told; the thread goes on
            for _, future in wanted:
                future.set_exception(error)
        else:
            for (_, future), row in zip(wanted, rows, strict=True):
                future.set_result(row)
        finally:
            self._began_s = None


__all__ = ["BATCH", "PATIENCE_S", "Batcher"]
