"""The contract of a store: every implementation passes these tests.

A subclass of `StoreContract` in a test module provides one fixture, `stores`, that returns a
`StoreFactory`; pytest collects the rest:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def stores(self) -> StoreFactory:
            return lambda *, clock, store_text: MyStore(clock=clock, store_text=store_text)
"""

from __future__ import annotations

import pytest

from conduit.core.errors import (
    StorageUnavailable,
)
from conduit.storage.ports import (
    new_id,
)
from conduit.testing.records import (
    ManualClock,
    StoreFactory,
    a_decision,
    a_row,
    some_log,
)
from conduit.testing.store_history import HistoryContract, LedgerContract
from conduit.testing.store_log import LogContract
from conduit.testing.store_upkeep import UpkeepContract


class StoreContract(LogContract, UpkeepContract, HistoryContract, LedgerContract):
    """What every store promises; the subclass provides the fixture `stores`."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Give the test its own clock."""
        return ManualClock()

    @pytest.fixture
    def router(self) -> str:
        """Give the test a router that nobody else uses."""
        return f"router-{new_id()}"

    @pytest.fixture
    def user(self) -> str:
        """Give the test a user that nobody else knows."""
        return f"user-{new_id()}"

    # Life

    async def test_health_says_what_lags(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Health is fine on an open store and counts the rows that a reader has not read."""
        async with stores(clock=clock) as store:
            entries = await some_log(store, router, 3)
            health = await store.health(router=router, cursor=entries[0].cursor)
            assert (health.ok, health.detail, health.log_lag) == (True, None, 2)
            assert (await store.health(router=router)).log_lag == 3
            assert (await store.health()).log_lag is None

    async def test_a_closed_store_refuses(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """After `close`, which may be called again, nothing is taken and health says so."""
        async with stores(clock=clock) as store:
            decision = a_decision(router)
            await store.record(decision)
        await store.close()
        with pytest.raises(StorageUnavailable):
            await store.append(a_row(decision))
        with pytest.raises(StorageUnavailable):
            await store.record(decision)
        assert not (await store.health()).ok
