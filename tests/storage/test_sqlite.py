"""SQLite keeps the contract."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from conduit.storage import sqlite
from conduit.storage.database import DatabaseStore
from conduit.storage.ports import Clock
from conduit.testing.records import ManualClock, StoreFactory, a_decision, a_row, read_log
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


async def test_a_writer_waits_for_its_turn_and_no_longer(tmp_path: Path) -> None:
    """While another process writes, feedback waits; it is stored once the file is free."""
    url = f"sqlite:///{tmp_path}/conduit.db"
    async with DatabaseStore(url, clock=ManualClock()) as store:
        decision = a_decision("r")
        await store.append(a_row(decision, "first", decision=decision))
        other = sqlite3.connect(tmp_path / "conduit.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.append(a_row(decision, "second")))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        other.close()
        async with asyncio.timeout(30):
            assert (await waiting).status == "stored"


async def test_a_writer_that_holds_the_file_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file stays taken, feedback is journaled, and is in the file once it is free."""
    monkeypatch.setattr(sqlite, "WAIT_S", 0.1)
    url = f"sqlite:///{tmp_path}/conduit.db"
    journal = tmp_path / "journal"
    async with DatabaseStore(url, clock=ManualClock(), journal_path=journal) as store:
        decision = a_decision("r")
        other = sqlite3.connect(tmp_path / "conduit.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ack = await store.append(a_row(decision, "f", decision=decision))
        assert ack.status == "journaled"
        other.execute("COMMIT")
        other.close()
        async with asyncio.timeout(30):
            while (await store.health()).journal_depth:  # noqa: ASYNC110  health is asked for
                await asyncio.sleep(0.02)
        assert [e.row.feedback_id for e in await read_log(store, "r")] == ["f"]


@pytest.mark.parametrize("rows", [1, 64, 2500])
async def test_rows_are_told_their_places(tmp_path: Path, rows: int) -> None:
    """Each row is told the place that it has in the log, however many come together."""
    url = f"sqlite:///{tmp_path}/conduit.db"
    async with DatabaseStore(url, clock=ManualClock()) as store:
        decision = a_decision("r")
        given = [a_row(decision, f"f{n * 7919 % rows:04}", decision=decision) for n in range(rows)]
        acks = await asyncio.gather(*map(store.append, given))
        told = {a.feedback_id: a.seq for a in acks}
        log = await read_log(store, "r", limit=1000)
        places = {e.row.feedback_id: int(e.cursor.split(".")[-1]) for e in log}
    assert told == places
    assert len(told) == rows
