"""When the log is read: once by those who start together, and not while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from conduit.core.events import FeedbackRow, LogEntry
from conduit.core.models import Feedback, ModelArm
from conduit.engines import follower as module
from conduit.engines.follower import Follower
from conduit.engines.router import Router
from conduit.storage.base import Ack, MemoryStore

ROWS = 5


class Held(MemoryStore):
    """A store in memory that can be slow at the second snapshot and at the second reading."""

    def __init__(self) -> None:
        """Hold nothing up before the counts are set to 0."""
        super().__init__()
        self.readings = self.loads = -1_000
        self.held, self.go_on = asyncio.Event(), asyncio.Event()

    async def load_snapshot(self, *args: Any, **options: Any) -> Any:
        """Return a snapshot, the second time once the log is being read."""
        self.loads += 1
        is_second = self.loads == 2
        await asyncio.sleep(0)
        if is_second:
            await self.held.wait()
        return await super().load_snapshot(*args, **options)

    async def tail(self, *args: Any, **options: Any) -> Sequence[LogEntry]:
        """Return rows, of the second reading once it may go on."""
        self.readings += 1
        if self.readings == 2:
            self.held.set()
            await self.go_on.wait()
        return await super().tail(*args, **options)


async def test_starting_twice_at_once_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while the log is being read waits, and does not begin it anew."""
    monkeypatch.setattr(module, "TAIL_LIMIT", 2)
    store = Held()
    router = Router([ModelArm("a"), ModelArm("b")], store=store, environ={})
    for number in range(ROWS):
        await router.feedback(await router.route(f"{number}"), Feedback(quality_score=1.0))
    fresh = router._beginnings.fresh
    follower = Follower(store, router.name, fresh, router._beginnings.restore)
    store.readings = store.loads = 0
    first = asyncio.ensure_future(follower.start())
    second = asyncio.ensure_future(follower.start())
    await store.held.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    store.go_on.set()
    await asyncio.gather(first, second)
    assert follower.learner.applied == ROWS


class Journaling(MemoryStore):
    """A store in memory that has a journal, and counts how often its log is read."""

    readings = 0

    async def append(self, row: FeedbackRow) -> Ack:
        """Keep a row for later."""
        return Ack(status="journaled", feedback_id=row.feedback_id)

    async def tail(self, *args: Any, **options: Any) -> Sequence[LogEntry]:
        """Count a reading."""
        self.readings += 1
        return await super().tail(*args, **options)


async def test_what_is_journaled_waits_for_no_reading() -> None:
    """The log is away then: a frozen one would hold up whoever gives feedback."""
    store = Journaling()
    router = Router([ModelArm("a")], store=store, environ={})
    ack = await router.feedback(await router.route("?"), Feedback(quality_score=1.0))
    assert (ack.status, store.readings) == ("journaled", 0)


async def test_a_listener_that_raises_teaches_no_row_twice() -> None:
    """Feedback that is committed is acknowledged, and each outcome counts once."""
    router = Router([ModelArm("a"), ModelArm("b")], environ={}, seed=1)
    heard: list[str] = []

    def broken(entry: LogEntry) -> None:
        raise KeyError("of the application")

    router.on_learned(broken)
    router.on_learned(lambda entry: heard.append(entry.row.feedback_id))
    for number in range(ROWS):
        await router.feedback(await router.route(f"{number}"), Feedback(quality_score=1.0))
    assert router.learner.applied == len(heard) == ROWS
