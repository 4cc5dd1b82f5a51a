"""Money that was set aside is booked or given back, whoever leaves and whatever goes away."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, StorageUnavailable
from conduit.core.models import ModelArm
from conduit.engines import bookings
from conduit.engines.budget import Budget, Budgets
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service
from conduit.storage import engines, sqlite
from conduit.storage.base import MemoryStore, Spend

PATIENCE_S = 60.0  # for what takes a moment; only a fault takes that long
AN_HOUR_S = 3600.0
ARM = ModelArm("m", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
TOTAL = Budget(1.0, per="total")
DAY = Budget(1.0, per="day")


class Ledger(MemoryStore):
    """A store in memory whose bookkeeping can be held up, or be away."""

    def __init__(self) -> None:
        """Be there, and answer at once."""
        super().__init__()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()
        self.away_after = 10_000  # calls that are answered before it is away
        self.keys: set[tuple[str, float]] = set()

    async def _answer(self) -> None:
        self.asked.set()
        await self.go_on.wait()
        self.away_after -= 1
        if self.away_after < 0:
            raise StorageUnavailable("away")

    async def reserve(self, scope_key: str, period_start: float, **options: Any) -> Any:
        """Reserve, when it may go on: whoever has asked may be gone."""
        self.keys.add((scope_key, period_start))

        async def reserved() -> Any:
            await self._answer()
            return await super(Ledger, self).reserve(scope_key, period_start, **options)

        return await asyncio.shield(asyncio.ensure_future(reserved()))

    async def settle(self, reservation_id: str, actual_usd: float) -> None:
        """Settle, when it may go on."""
        await self._answer()
        await super().settle(reservation_id, actual_usd)

    async def spends(self) -> list[Spend]:
        """Return what is spent and reserved in every budget."""
        found = [await self.spend(*key) for key in self.keys]
        return [each for each in found if each is not None]


def service_with(store: Ledger, *budgets: Budget, timeout_s: float = AN_HOUR_S) -> Service:
    """Return a service with limits."""

    def paid(model: str, prompt: str) -> str:
        return "here"

    router = Router([ARM], seed=1, environ={}, store=store)
    return Service(router, FunctionExecutor(paid), budgets=budgets, timeout_s=timeout_s)


async def test_what_is_set_aside_for_a_caller_who_has_gone_is_given_back() -> None:
    """A cancelled call, or one that was out of time, leaves nothing reserved."""
    store = Ledger()
    service = service_with(store, TOTAL, DAY)
    store.go_on.clear()
    cancelled = asyncio.ensure_future(service.complete("hello"))
    late = asyncio.ensure_future(service.complete("hello", timeout_s=0.001))
    await store.asked.wait()
    with pytest.raises(AllModelsFailed):
        await late
    cancelled.cancel()
    await asyncio.wait([cancelled], timeout=PATIENCE_S)
    assert cancelled.cancelled()
    store.go_on.set()
    await service.flush()
    assert {(s.spent_usd, s.reserved_usd) for s in await store.spends()} == {(0.0, 0.0)}
    await service.close()


async def test_what_one_limit_granted_is_given_back_when_another_cannot_be_asked() -> None:
    """The database goes away between two limits: the first is as it was, once it is back."""
    store = Ledger()
    budgets = Budgets([TOTAL, DAY], store, "r")
    store.away_after = 1
    with pytest.raises(StorageUnavailable):
        await budgets.reserve(0.5, None)
    assert [s.reserved_usd for s in await store.spends()] == [0.5]
    store.away_after = 10_000
    await budgets.bookings.flush()
    assert [s.reserved_usd for s in await store.spends()] == [0.0]
    await budgets.bookings.close()


async def test_a_cost_is_booked_after_an_outage_of_any_length(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again until the database is back, by itself; a flush tells that it is away."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(bookings, "AGAIN_S", (0.001,))
    store = Ledger()
    budgets = Budgets([TOTAL], store, "r")
    hold = await budgets.reserve(0.5, None)
    store.away_after = 0
    await budgets.settle(hold, 0.2)
    async with asyncio.timeout(PATIENCE_S):
        while store.away_after > -20:  # noqa: ASYNC110  so often it has been away
            await asyncio.sleep(0)
        with pytest.raises(StorageUnavailable):
            await budgets.bookings.flush()
        store.away_after = 10_000
        while len(budgets.bookings):  # noqa: ASYNC110  nobody asks for it
            await asyncio.sleep(0)
    spends = await store.spends()
    assert [(s.spent_usd, s.reserved_usd) for s in spends] == [(0.2, 0.0)]
    await budgets.bookings.close()


async def test_what_a_dead_process_set_aside_for_an_endless_call_is_free_again() -> None:
    """A call without a deadline holds its money for a day; if it ends after all, that is booked."""
    store, now = Ledger(), 1e9
    dead = Budgets([TOTAL], store, "r", clock=lambda: now)
    hold = await dead.reserve(1.0, None, lasts_s=math.inf)
    later = Budgets([TOTAL], store, "r", clock=lambda: now + 86_401.0)
    await later.settle(await later.reserve(0.75, None), 0.5)
    await dead.settle(hold, 0.25)
    assert [s.spent_usd for s in await store.spends()] == [0.75]


async def test_what_is_not_booked_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Closing during an outage ends, leaves no task, and says what was not booked."""
    before = asyncio.all_tasks()
    store = Ledger()
    budgets = Budgets([TOTAL], store, "r")
    hold = await budgets.reserve(0.5, None)
    store.away_after = 0
    await budgets.settle(hold, 0.2)
    await budgets.bookings.close()
    assert asyncio.all_tasks() <= before
    assert "1 calls cost was not booked" in caplog.text


async def test_a_caller_who_leaves_does_not_wait_for_the_books() -> None:
    """A call that is cancelled ends at once, and what it may have cost is booked by itself."""
    store = Ledger()
    begun = asyncio.Event()

    async def forever(model: str, prompt: str) -> Answer[str]:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    router = Router([ARM], seed=1, environ={}, store=store)
    service = Service(router, FunctionExecutor(forever), budgets=[TOTAL], timeout_s=AN_HOUR_S)
    asking = asyncio.ensure_future(service.complete("hello"))
    await begun.wait()
    store.go_on.clear()
    asking.cancel()
    await asyncio.wait([asking], timeout=PATIENCE_S)
    assert asking.cancelled()
    store.go_on.set()
    await service.flush()
    (spend,) = await store.spends()
    assert spend.spent_usd > 0.0  # the provider may ask for all that the answer could have cost
    assert spend.reserved_usd == 0.0
    await service.close()


async def test_a_locked_database_books_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file cannot be written between reserving and settling: the answer comes all the same."""
    monkeypatch.setattr(sqlite, "WAIT_S", 0.1)
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.1)
    other = sqlite3.connect(tmp_path / "conduit.db", isolation_level=None, check_same_thread=False)

    def answer(model: str, prompt: str) -> str:
        other.execute("BEGIN IMMEDIATE")
        return "here"

    service = await create_service(
        models=[ARM],
        database_url=f"sqlite:///{tmp_path}/conduit.db",
        budgets=[TOTAL],
        executor=FunctionExecutor(answer),
        timeout_s=PATIENCE_S,
    )
    assert (await service.complete("hello")).data == "here"
    assert (await service.get_stats()).answered == 1
    with pytest.raises(StorageUnavailable):
        await service.flush()
    other.execute("COMMIT")
    await service.flush()
    await service.close()
    ((spent, reserved),) = other.execute("SELECT spent_usd, reserved_usd FROM budgets").fetchall()
    assert spent > 0.0
    assert reserved == pytest.approx(0.0)
    other.close()


async def test_what_is_left_is_unknown_while_the_database_is_away() -> None:
    """What a service has done can be read at any time; what its limits leave is in the books."""

    class Away(Ledger):
        async def spend(self, scope_key: str, period_start: float) -> Spend | None:
            await self._answer()
            return await super().spend(scope_key, period_start)

    store = Away()
    service = service_with(store, TOTAL)
    await service.complete("hello")
    await service.flush()
    assert (await service.get_stats()).budget_left_usd is not None
    store.away_after = 0
    stats = await service.get_stats()
    assert (stats.answered, stats.budget_left_usd) == (1, None)
    store.away_after = 10_000
    await service.close()
