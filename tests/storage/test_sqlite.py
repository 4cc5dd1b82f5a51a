"""SQLite keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from conduit.storage.database import DatabaseStore
from conduit.storage.ports import Clock
from conduit.testing.records import StoreFactory
from conduit.testing.stores import StoreContract


class TestSQLite(StoreContract):
    """The store in a file keeps the contract."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> StoreFactory:
        """Make stores over one file."""

        def make(*, clock: Clock, store_text: bool = False) -> DatabaseStore:
            url = f"sqlite:///{tmp_path}/conduit.db"
            return DatabaseStore(url, clock=clock, store_text=store_text)

        return make
