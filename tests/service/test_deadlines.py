"""A database that takes its time takes none of the caller's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, StorageUnavailable
from conduit.core.models import ModelArm
from conduit.engines.budget import Budget
from conduit.engines.executor.base import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service
from conduit.storage.base import MemoryStore

LONG_S = 5.0


class SlowLedger(MemoryStore):
    """A store in memory that is slow to reserve, or to settle."""

    def __init__(self, slow: str) -> None:
        """Take the name of what is slow."""
        super().__init__()
        self._slow = slow

    async def reserve(self, *args: Any, **options: Any) -> Any:
        """Reserve, after a while."""
        if self._slow == "reserve":
            await asyncio.sleep(LONG_S)
        return await super().reserve(*args, **options)

    async def settle(self, reservation_id: str, actual_usd: float) -> None:
        """Settle, after a while."""
        if self._slow == "settle":
            await asyncio.sleep(LONG_S)
        await super().settle(reservation_id, actual_usd)


def service_with(slow: str) -> Service:
    """Return a service with a limit, whose store is slow."""
    arms = [ModelArm("m", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)]
    router = Router(arms, seed=1, environ={}, store=SlowLedger(slow))
    executor = FunctionExecutor(lambda model, prompt: "here")
    return Service(router, executor, budgets=[Budget(usd=1.0, per="total")], timeout_s=0.3)


async def test_a_slow_reservation_fails_in_time_and_says_that_nobody_was_asked() -> None:
    """The error is the database's, not that of models nobody asked, and comes at the deadline."""
    service, began = service_with("reserve"), time.monotonic()
    with pytest.raises(StorageUnavailable, match="no model was asked"):
        await service.complete("hello")
    assert time.monotonic() - began < LONG_S / 2


async def test_no_time_at_all_is_not_the_databases_fault() -> None:
    """The error lists every model as not tried."""
    service = service_with("reserve")
    with pytest.raises(AllModelsFailed) as caught:
        await service.complete("hello", timeout_s=0.001)
    assert [(a.model, a.kind) for a in caught.value.attempts] == [("m", "not_tried")]


async def test_a_slow_settlement_holds_up_no_answer() -> None:
    """The answer comes at the deadline at the latest; the cost is booked in the background."""
    service, began = service_with("settle"), time.monotonic()
    assert (await service.complete("hello")).data == "here"
    assert time.monotonic() - began < LONG_S / 2
    assert service.desk.waiting > 0
    for task in service.desk._tasks:
        task.cancel()
