"""PostgreSQL keeps the contract, and replicas of it agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conduit.storage.database import DatabaseStore
from conduit.storage.migrations import upgrade
from conduit.storage.ports import Clock
from conduit.testing.records import StoreFactory
from conduit.testing.stores import StoreContract
from tests.servers import PostgresServer, create_database, drop_database


@pytest.fixture(scope="module")
def module_database(postgres_session: PostgresServer) -> Iterator[str]:
    """Give all tests of this module one migrated database; each has its own routers in it."""
    url = create_database(postgres_session.start().url)
    upgrade(url)
    yield url
    drop_database(postgres_session.start().url, url)


class TestPostgres(StoreContract):
    """The store in PostgreSQL keeps the contract."""

    @pytest.fixture
    def stores(self, module_database: str) -> StoreFactory:
        """Make stores over one database."""

        def make(*, clock: Clock, store_text: bool = False) -> DatabaseStore:
            return DatabaseStore(module_database, clock=clock, store_text=store_text)

        return make
