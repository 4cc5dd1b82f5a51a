"""PostgreSQL keeps the contract, and replicas of it agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from conduit.storage import sessions
from conduit.storage.database import DatabaseStore
from conduit.storage.migrations import upgrade
from conduit.storage.ports import Clock
from conduit.testing.records import ManualClock, StoreFactory, a_decision, a_row
from conduit.testing.stores import StoreContract
from tests.servers import PostgresServer, create_database, drop_database
from tests.storage.pooler import TransactionPooler


@pytest.fixture(scope="module")
def module_database(postgres_session: PostgresServer) -> Iterator[str]:
    """Give all tests of this module one migrated database; each has its own routers in it."""
    url = create_database(postgres_session.start().url)
    upgrade(url)
    yield url
    drop_database(postgres_session.start().url, url)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a commit take its time: a busy machine is no outage, and nothing here is about one."""
    monkeypatch.setattr(sessions, "COMMIT_TIMEOUT_S", 60.0)


class TestPostgres(StoreContract):
    """The store in PostgreSQL keeps the contract."""

    @pytest.fixture
    def stores(self, module_database: str) -> StoreFactory:
        """Make stores over one database."""

        def make(*, clock: Clock, store_text: bool = False) -> DatabaseStore:
            return DatabaseStore(module_database, clock=clock, store_text=store_text)

        return make


class TestBehindPooler(StoreContract):
    """The store keeps the contract where each transaction goes to another session."""

    @pytest.fixture
    async def stores(self, module_database: str) -> AsyncIterator[StoreFactory]:
        """Make stores that reach one database through a pooler, and are not told of it."""
        async with TransactionPooler(module_database) as pooler:

            def make(*, clock: Clock, store_text: bool = False) -> DatabaseStore:
                return DatabaseStore(pooler.address, clock=clock, store_text=store_text)

            yield make
            assert pooler.transactions > 0


async def test_nothing_is_prepared_where_the_address_tells_of_a_pooler(
    module_database: str,
) -> None:
    """With `pgbouncer=true` no statement has a name, in any session of the pooler."""
    async with TransactionPooler(module_database, sessions=1) as pooler:
        async with DatabaseStore(pooler.address + "?pgbouncer=true", clock=ManualClock()) as store:
            decision = a_decision("pooled")
            await store.append(a_row(decision, decision=decision))
            assert len(await store.tail("pooled")) == 1
        connection = await asyncpg.connect(pooler.address, statement_cache_size=0)
        assert await connection.fetch("SELECT name FROM pg_prepared_statements") == []
        await connection.close()
