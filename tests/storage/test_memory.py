"""The store in memory keeps the contract, and stays bounded."""

from __future__ import annotations

import pytest

from conduit.core.errors import UnknownDecision
from conduit.storage.base import Clock
from conduit.storage.memory import MemoryStore
from conduit.testing.records import (
    ManualClock,
    StoreFactory,
    a_decision,
    a_row,
    read_log,
)
from conduit.testing.stores import StoreContract


class TestMemoryStore(StoreContract):
    """The store that lives in the process keeps the contract."""

    @pytest.fixture
    def stores(self) -> StoreFactory:
        """Make stores in memory; each has its own data."""

        def make(*, clock: Clock, store_text: bool = False) -> MemoryStore:
            return MemoryStore(clock=clock, store_text=store_text)

        return make


async def test_memory_stays_bounded() -> None:
    """The oldest decisions go with their feedback, and what is left is still read in order."""
    store = MemoryStore(max_decisions=100, clock=ManualClock())
    made = [a_decision("r", seed=i, id=f"d{i}") for i in range(1000)]
    for each in made:
        await store.record(each)
        await store.append(a_row(each, each.id))
    ids = [e.row.feedback_id for e in await read_log(store, "r")]
    assert 100 <= len(ids) <= 110
    assert ids == [d.id for d in made[-len(ids) :]]
    with pytest.raises(UnknownDecision):
        await store.append(a_row(made[0]))
