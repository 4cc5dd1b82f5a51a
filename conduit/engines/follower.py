"""Keeping a learner level with the log: snapshot, tail, rebuild.

The learner is taught by the log alone, this replica's own feedback included, so every replica
applies the same rows in the same order.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from numpy.typing import NDArray

from conduit.core.errors import IncompatibleState, InvalidInput, StorageUnavailable
from conduit.core.events import LogEntry, Snapshot
from conduit.engines.learner import Learner
from conduit.loops import at_once
from conduit.storage.base import TAIL_LIMIT, Pruned, Rebuild, Store

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 2000  # rows of the log between two snapshots by one replica
POLL_S = 0.5  # between two looks for what other replicas wrote
ROWS_AT_A_STRETCH = 50  # that are taught before others on the event loop have their turn


class Companion(Protocol):
    """Learns from the same rows as the learner, in the same order, and is kept with it."""

    def fresh(self) -> Companion: ...  # noqa: D102  another that has learned nothing
    def learn(self, entry: LogEntry) -> None: ...  # noqa: D102
    def clear(self) -> None: ...  # noqa: D102
    def sums(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    def load(self, sums: Mapping[str, NDArray[Any]]) -> None: ...  # noqa: D102  replaces


class Follower:
    """Owns a learner and the cursor up to which it has read the log."""

    def __init__(
        self,
        store: Store,
        router: str,
        fresh: Callable[[], Learner],
        restore: Callable[[Snapshot], Learner],
        *,
        lock: threading.RLock | None = None,
        in_memory: bool = False,
    ) -> None:
        """`fresh` makes an untaught learner, `restore` one that goes on from a snapshot.

        The learner is taught under `lock`, for those who decide in other threads. A store
        `in_memory` waits for nothing, so any number of event loops and threads may read it.
        """
        self.store = store
        self.router = router
        self.learner = fresh()
        self.cursor: str | None = None
        self.listeners: list[Callable[[LogEntry], None]] = []  # of every row that is taught
        self.skipped = 0  # rows whose features were made by another schema
        self.behind: str | None = None  # why the log cannot be read, while it cannot
        self._companion: Companion | None = None
        self._companion_late = False  # it has not read the rows up to the cursor
        self._fresh = fresh
        self._restore = restore
        self._lock = lock or threading.RLock()
        self._in_memory = in_memory
        self._since_snapshot = 0
        self._started = False
        self._starting = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._wanted = self._served = 0  # calls of `sync`, and those that are done
        self._poll: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """Name what a snapshot must have been made with to be continued here."""
        learner = self.learner
        return f"{learner.policy.name}|{learner.schema}"

    def attach(self, companion: Companion) -> None:
        """Teach a companion as well; what was read before is read to it at the next `sync`."""
        self._companion = companion
        self._companion_late = self.cursor is not None

    async def start(self) -> None:
        """Go on from the newest snapshot, then from the log; a second call changes nothing."""
        async with self._starting:
            if self._started:
                return
            await self._load()
            self._started = True
            await self.sync()

    async def _load(self) -> None:
        found = await self.store.load_snapshot(self.router, state=self.state)
        snapshot = None if found is None else Snapshot.from_bytes(found.data)
        # What is refused leaves the learner and its cursor as they were.
        self.learner = self._fresh() if snapshot is None else self._restore(snapshot)
        self.cursor = None if found is None else found.cursor
        self._since_snapshot = 0
        if self._companion is not None:
            self._companion.clear()
            self._companion_late = self.cursor is not None
            if snapshot is not None and snapshot.beside is not None:
                self._companion.load(snapshot.beside)
                self._companion_late = False

    async def _catch_up(self, companion: Companion) -> None:
        """Read the rows up to the cursor once more, to the companion alone."""
        following = await self.store.tail(self.router, self.cursor, 1)
        end = following[0].cursor if following else None
        after: str | None = None
        companion.clear()
        while entries := await self.store.tail(self.router, after, TAIL_LIMIT):
            for entry in entries:
                if entry.cursor == end:
                    return
                companion.learn(entry)
            after = entries[-1].cursor

    async def sync(self) -> None:
        """Return once everything that was committed before the call is applied.

        Calls that overlap share one reading. Cancelling a call loses nothing: rows are applied,
        and the cursor moved, without a pause in between.
        """
        if self._in_memory:
            while self._stretch_now():  # noqa: ASYNC110  it waits for nothing
                await asyncio.sleep(0)  # others have their turn, in this loop and elsewhere
            return
        self._wanted += 1
        mine = self._wanted
        async with self._turn:
            if self._served >= mine:
                return  # a reading that began after this call has covered it
            upto = self._wanted
            await self._read()
            self._served = upto

    def sync_now(self) -> None:
        """Do what `sync` does without an event loop; only for a store in memory."""
        while self._stretch_now():
            pass

    def _stretch_now(self) -> bool:
        """Apply the next few rows under the lock; False when those were all."""
        with self._lock:
            return at_once(self._step(ROWS_AT_A_STRETCH))

    async def _read(self) -> None:
        while await self._step(TAIL_LIMIT):
            pass

    async def _step(self, limit: int) -> bool:
        """Apply the next rows, `limit` at most; False once those were all, or none can be read."""
        try:
            if await self._read_some(limit):
                return True
            self.behind = None
        except (StorageUnavailable, IncompatibleState) as error:
            if self.behind is None:
                log.warning("Learning waits: %s", error)
            self.behind = str(error)
            return False
        if self._since_snapshot >= SNAPSHOT_EVERY:
            await self.save()
        return False

    async def _read_some(self, limit: int) -> bool:
        """Apply the next rows; False when there were fewer than could have come."""
        try:
            if self._companion is not None and self._companion_late:
                await self._catch_up(self._companion)
                self._companion_late = False
            entries = await self.store.tail(self.router, self.cursor, limit)
        except Rebuild:
            await self._load()
            return True
        for start in range(0, len(entries), ROWS_AT_A_STRETCH):
            if start:
                await asyncio.sleep(0)  # a thousand rows take tens of milliseconds
            self.apply(entries[start : start + ROWS_AT_A_STRETCH])
        return len(entries) == limit

    def apply(self, entries: Sequence[LogEntry]) -> None:
        """Teach the learner rows of the log, in their order."""
        with self._lock:
            for entry in entries:
                self.cursor = entry.cursor  # first: whatever fails now, no row is taught twice
                self._since_snapshot += 1
                self._teach(entry)

    def _teach(self, entry: LogEntry) -> None:
        if self._companion is not None and not self._companion_late:
            self._companion.learn(entry)
        if not _taught(self.learner, entry):
            self.skipped += 1
        else:
            self._tell(entry)

    def _tell(self, entry: LogEntry) -> None:
        for listener in self.listeners:
            try:
                listener(entry)
            except Exception:  # the row is learned, and others are to come
                log.exception("A listener of what is learned failed")

    async def prune(self, older_than_s: float) -> Pruned:
        """Delete what is older from the store; what it taught stays, in the base of every start."""
        return await self.store.prune(
            self.router,
            older_than_s=older_than_s,
            state=self.state,
            schema=self.learner.schema,
            fold=self._folded,
        )

    def _folded(self, base: bytes | None, entries: Sequence[LogEntry]) -> bytes:
        """Return what a replica knows that has learned these rows after what the base knows."""
        known = None if base is None else Snapshot.from_bytes(base)
        learner = self._fresh() if known is None else self._restore(known)
        companion = None if self._companion is None else self._companion.fresh()
        if companion is not None and known is not None and known.beside is not None:
            companion.load(known.beside)
        for entry in entries:
            _taught(learner, entry)
            if companion is not None:
                companion.learn(entry)
        beside = None if companion is None else companion.sums()
        return replace(learner.snapshot(), beside=beside).to_bytes()

    async def save(self) -> None:
        """Keep a snapshot, so that the next start need not read the whole log."""
        if self.cursor is None:
            return
        self._since_snapshot = 0
        snapshot = self.learner.snapshot()
        if self._companion is not None and not self._companion_late:
            snapshot = replace(snapshot, beside=self._companion.sums())
        data = snapshot.to_bytes()
        try:
            await self.store.save_snapshot(self.router, self.cursor, data, state=self.state)
        except (StorageUnavailable, IncompatibleState) as error:
            log.warning("No snapshot was saved: %s", error)

    def watch(self) -> None:
        """Read what other replicas write, in the background, until `close`."""
        if self._poll is None:
            self._poll = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.sync()

    async def close(self) -> None:
        """Stop watching, and save what was learned."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
        async with self._turn:
            await self.save()


def _taught(learner: Learner, entry: LogEntry) -> bool:
    """Teach one row of the log; False if it cannot be, and is not."""
    if entry.decision.schema != learner.schema:
        return False
    if entry.row.model not in learner.models:
        learner.park(entry.row.model)
    try:
        learner.apply(entry.outcome())
    except InvalidInput:
        log.exception("A row of the log could not be applied: %s", entry.row.feedback_id)
        return False
    return True
