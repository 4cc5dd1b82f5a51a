"""The database may stop, die, freeze or vanish: what was acknowledged is counted, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from conduit.core.errors import StorageUnavailable
from conduit.core.events import DecisionRecord
from conduit.storage import sessions
from conduit.storage.database import DatabaseStore, open_store
from conduit.storage.engines import POOL_SIZE
from conduit.storage.ports import Ack
from conduit.testing.records import ManualClock, a_decision, a_row, an_answer, read_log
from tests.faultproxy import FaultProxy, Faults
from tests.servers import PostgresServer
from tests.storage.load import Load, expected_sums, go, row_of, start
from tests.storage.load import Replica as Following

CANARY = "canary-7d1f"


async def sessions_of(url: str) -> dict[int, str]:
    """Return Conduit's sessions in a database with their states."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT pid, state FROM pg_stat_activity WHERE application_name = 'conduit'"
        " AND datname = current_database()"
    )
    await connection.close()
    return {row["pid"]: row["state"] for row in rows}


async def until_drained(store: DatabaseStore) -> None:
    """Wait until the journal is in the database."""
    async with asyncio.timeout(60):
        while (health := await store.health()).journal_depth or not health.ok:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_told(acks: list[Ack], status: str, times: int) -> None:
    """Wait until so much feedback was acknowledged in that way."""
    async with asyncio.timeout(60):
        while sum(ack.status == status for ack in acks) < times:  # noqa: ASYNC110  a list tells none
            await asyncio.sleep(0.01)


async def test_a_stopped_server_costs_nothing(
    database: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Feedback under load goes on while the server is down, and is in the log after it returns.

    `benchmarks/storage.py` does the same with an outage of 30 s, and says how soon that is.
    """
    async with DatabaseStore(database, journal_path=tmp_path, clock=ManualClock()) as store:
        acks: list[Ack] = []

        async def sender(number: int) -> None:
            while not over.is_set():
                decision = a_decision("r", seed=number)
                await store.record(decision)
                acks.append(await store.append(a_row(decision)))
                await asyncio.sleep(0.01)

        over = asyncio.Event()
        senders = [asyncio.create_task(sender(n)) for n in range(4)]
        await until_told(acks, "stored", 20)
        await asyncio.to_thread(postgres_server.stop)
        await until_told(acks, "journaled", 20)
        during = await store.health()
        await asyncio.to_thread(postgres_server.start)
        await until_drained(store)
        over.set()
        await asyncio.gather(*senders)
        log = await read_log(store, "r")
    assert not during.ok
    assert during.journal_depth > 0
    assert during.detail is not None
    assert sorted(e.row.feedback_id for e in log) == sorted(a.feedback_id for a in acks)
    assert list_of(tmp_path) == []


def list_of(directory: Path) -> list[Path]:
    """Return what is in a directory."""
    return list(directory.iterdir())


async def test_without_a_journal_nothing_is_acknowledged(
    database: str, postgres_server: PostgresServer
) -> None:
    """A store without a journal refuses while the server is down, and works after it."""
    async with DatabaseStore(database, clock=ManualClock()) as store:
        decision = a_decision("r")
        await store.append(a_row(decision, "before", decision=decision))
        await asyncio.to_thread(postgres_server.stop)
        for attempt in (
            store.append(a_row(decision, "during")),
            store.tail("r"),
            store.decision("r", "nonsense"),
            store.load_snapshot("r"),
        ):
            with pytest.raises(StorageUnavailable) as caught:
                await attempt
            assert "postgres@" not in str(caught.value)
        await asyncio.to_thread(postgres_server.start)
        await until_drained(store)
        await store.append(a_row(decision, "after"))
        assert [e.row.feedback_id for e in await store.tail("r")] == ["before", "after"]


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[FaultProxy]:
    """Put a proxy before the server."""
    async with FaultProxy("127.0.0.1", urlsplit(database).port or 0) as proxy:
        yield proxy


async def test_a_network_that_swallows_everything(
    database: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing comes back, feedback is journaled after the time limit, and counted once."""
    monkeypatch.setattr(sessions, "COMMIT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sessions, "READ_TIMEOUT_S", 0.3)
    async with DatabaseStore(
        proxy.url(database), journal_path=tmp_path, clock=ManualClock()
    ) as store:
        decision = a_decision("r")
        await store.append(a_row(decision, "before", decision=decision))
        await proxy.set(Faults(blackhole=True))
        async with asyncio.timeout(30):
            unsure = await store.append(a_row(decision, "unsure"))
            assert unsure.status == "journaled"
            monkeypatch.setattr(sessions, "COMMIT_TIMEOUT_S", 3_600.0)  # nobody waits for it again
            assert (await store.append(a_row(decision, "at once"))).status == "journaled"
        with pytest.raises(StorageUnavailable):
            await store.tail("r")
        await proxy.set(Faults())
        await until_drained(store)
        log = await read_log(store, "r")
        assert sorted(e.row.feedback_id for e in log) == ["at once", "before", "unsure"]
        assert (await store.append(a_row(decision, "unsure"))).status == "duplicate"
    assert set((await sessions_of(database)).values()) <= {"idle"}


@pytest.mark.parametrize("faults", [Faults(reset=True), Faults(slice_bytes=7, latency_s=0.001)])
async def test_a_bad_network(
    database: str, proxy: FaultProxy, tmp_path: Path, faults: Faults
) -> None:
    """Resets and slices of a few bytes lose nothing and double nothing."""
    async with DatabaseStore(
        proxy.url(database), journal_path=tmp_path, clock=ManualClock()
    ) as store:
        decisions = [a_decision("r", seed=i) for i in range(30)]
        rows = [a_row(d, d.id, decision=d) for d in decisions]
        sending = asyncio.gather(*(store.append(row) for row in rows[:15]))
        await proxy.set(faults)
        await sending
        await asyncio.gather(*(store.append(row) for row in rows[10:]))
        await proxy.set(Faults())
        await until_drained(store)
        log = await read_log(store, "r")
    assert sorted(e.row.feedback_id for e in log) == sorted(row.feedback_id for row in rows)


async def test_a_session_that_was_ended_unseen(database: str, proxy: FaultProxy) -> None:
    """Sessions that the server ended, while the network hides it, are replaced at the next use."""
    await proxy.set(Faults(hide_end=True))
    async with DatabaseStore(proxy.url(database), clock=ManualClock()) as store:
        decision = a_decision("r")
        await store.append(a_row(decision, "before", decision=decision))
        await store.tail("r")
        ended = await end_sessions(database)
        assert len(ended) >= 2  # the writer's and the reader's
        await asyncio.sleep(0.1)  # what the server said at last arrives while they are idle
        assert (await store.append(a_row(decision, "after"))).status == "stored"
        assert [e.row.feedback_id for e in await store.tail("r")] == ["before", "after"]
        assert await store.decision("r", decision.id) is not None
        assert (await store.health()).ok


async def end_sessions(url: str) -> list[int]:
    """Let the server end every session of Conduit's; return which."""
    ended = list(await sessions_of(url))
    connection = await asyncpg.connect(url)
    await connection.fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", ended)
    await connection.close()
    return ended


async def test_kills_lose_nothing_that_was_acknowledged(
    database: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Whatever of clients and server is killed, each acknowledged row is stored once.

    Rows whose fate their sender never learned are sent again, and count once as well.
    `benchmarks/storage.py` does 20 rounds.
    """
    journal = tmp_path / "journal"
    for number, victims in enumerate(("client", "server", "both")):
        base = Load(
            url=database,
            rows=2000,
            workers=2,
            concurrency=16,
            follow_s=0,
            run=f"round{number}",
            router=f"round{number}",
            journal_path=str(journal),
            acks=str(tmp_path / f"acks{number}"),
            pause_s=0.002,
        )
        workers = [await asyncio.to_thread(start, replace(base, worker=w)) for w in range(2)]
        for worker in workers:
            go(worker)
        await asyncio.sleep(0.4)
        if victims != "client":
            await asyncio.to_thread(postgres_server.kill)
        if victims != "server":
            workers[0].kill()
        await asyncio.sleep(0.2)
        for worker in workers:
            worker.kill()
            worker.communicate()
        await asyncio.to_thread(postgres_server.start)
        await check_round(base)


async def check_round(base: Load) -> None:
    """Check that what was acknowledged is there; send everything again, and check the sums."""
    acknowledged = (await asyncio.to_thread(Path(base.acks or "").read_text)).split()
    assert len(acknowledged) > 50
    store = await open_store(base.url, journal_path=base.journal_path)
    assert isinstance(store, DatabaseStore)
    await asyncio.sleep(0.1)
    await until_drained(store)
    before = [e.row.feedback_id for e in await read_log(store, base.router, limit=1000)]
    assert len(before) == len(set(before))
    assert set(acknowledged) <= set(before)
    rows = [row_of(base, w, i) for w in range(base.workers) for i in range(base.rows)]
    acks = await asyncio.gather(*map(store.append, rows))
    again = {a.feedback_id for a in acks if a.status == "duplicate"}
    assert again == set(before)
    following = Following(store, base.router)
    await following.catch_up()
    assert following.entries == len(rows)
    expected = expected_sums(base)
    for model, total in following.sums.items():
        assert abs(total - expected[model]).max() < 1e-6
    await store.close()


async def test_cancelling_anywhere_leaks_nothing(url: str) -> None:
    """A caller who is cancelled at any step leaves no session behind and no wrong answer."""
    async with DatabaseStore(url, clock=ManualClock()) as store:
        decision = a_decision("r")
        await store.append(a_row(decision, "first", decision=decision))
        await store.tail("r")
        shared = url.startswith("postgresql")
        before = await sessions_of(url) if shared else {}
        for step in range(25):
            row = a_row(decision, f"f{step}")
            for work in (
                store.append(row),
                store.tail("r"),
                store.decision("r", decision.id),
                store.stats("r"),
                store.save_snapshot("r", "0.1.1", b"x"),
                store.settle("nothing", 1.0),
            ):
                await cancelled_after(step, work)
            ack = await store.append(row)
            assert ack.status in ("stored", "duplicate")
        assert len(await read_log(store, "r")) == 26
        if shared:
            await asyncio.sleep(0.05)
            after = await sessions_of(url)
            assert before.keys() <= after.keys()  # a caller who leaves costs nobody a connection
            assert len(after) <= 2 * POOL_SIZE
            assert set(after.values()) <= {"idle"}
    if shared:
        await asyncio.sleep(0.05)
        assert await sessions_of(url) == {}


async def cancelled_after(steps: int, work: Coroutine[Any, Any, object]) -> bool:
    """Start work and cancel it after some turns of the event loop; return whether it was done."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return done


@pytest.mark.parametrize("damaged", [1, 2, 3])
async def test_a_damaged_snapshot_gives_way_to_an_older_one(url: str, damaged: int) -> None:
    """Bytes that changed on the disk are not loaded; the newest sound ones are, or none."""
    async with DatabaseStore(url, clock=ManualClock()) as store:
        for i in range(4):
            decision = a_decision("r", seed=i)
            await store.append(a_row(decision, decision=decision))
        log = await store.tail("r")
        for i, entry in enumerate(log):
            await store.save_snapshot("r", entry.cursor, bytes([i]) * 10)
        await damage_newest(store, damaged)
        found = await store.load_snapshot("r")
        kept = bytes([3 - damaged]) * 10 if damaged < 3 else None  # the newest three were kept
        assert (found.data if found else None) == kept


async def damage_newest(store: DatabaseStore, count: int) -> None:
    """Change the newest snapshots on the disk."""
    statement = text(
        "UPDATE snapshots SET data = :rot"
        " WHERE id IN (SELECT id FROM snapshots ORDER BY id DESC LIMIT :count)"
    )
    await store._sessions.write(
        "damage", lambda c: c.execute(statement, {"rot": b"rotten", "count": count})
    )


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Record every log line of every library."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.parametrize("store_text", [False, True])
async def test_text_is_nowhere_unless_asked(
    store_text: bool, tmp_path: Path, loud: pytest.LogCaptureFixture
) -> None:
    """Without store_text no file and no log line holds a word of a prompt or an answer."""
    url = f"sqlite:///{tmp_path}/conduit.db"
    store = DatabaseStore(
        url, store_text=store_text, journal_path=tmp_path / "journal", clock=ManualClock()
    )
    async with store:
        decision = a_decision("r", text=f"a prompt with {CANARY}")
        await store.record(decision)
        await store.record_response(an_answer(decision, text=f"an answer with {CANARY}"))
        await store.append(a_row(decision, decision=decision))
        await store.flush()
        await outage(store, decision)
    everything = [p.read_bytes() for p in files_under(tmp_path)]
    assert any(CANARY.encode() in data for data in everything) == store_text
    assert store_text or CANARY not in loud.text  # aiosqlite shows what it is told to store


async def outage(store: DatabaseStore, decision: DecisionRecord) -> None:
    """Journal something with a text."""
    store._writer.outage = "the test says so"
    store._writer._recovering = asyncio.create_task(asyncio.sleep(60))
    other = a_decision("r", seed=5, text=f"journaled with {CANARY}")
    await store.record(other)
    assert (await store.append(a_row(other, decision=other))).status == "journaled"
    assert decision.text is not None


def files_under(directory: Path) -> list[Path]:
    """Return every file below a directory."""
    return [p for p in directory.rglob("*") if p.is_file()]
