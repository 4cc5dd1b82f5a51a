"""Replicas that write and read at once lose nothing, double nothing, and agree."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg
import numpy as np
import pytest

from conduit.core.errors import StorageUnavailable
from conduit.storage.database import DatabaseStore
from conduit.storage.ports import Rebuild
from conduit.storage.postgres import _append, _Session
from conduit.storage.rows import Arrived, decision_row
from conduit.testing.records import (
    START,
    ManualClock,
    a_decision,
    a_row,
    check_before,
    log_sums,
    read_log,
    same_sums,
)
from tests.storage.load import Load, Report, expected_sums, run_together


def check_agreement(base: Load, reports: Sequence[Report]) -> None:
    """Check that every replica has read everything once, and sums up to what was said."""
    expected = expected_sums(base)
    for report in reports:
        assert report.entries == base.rows * base.workers
        assert report.sums.keys() == expected.keys()
        for model, total in expected.items():
            np.testing.assert_allclose(report.sums[model], total, atol=1e-6)


def test_processes_lose_nothing_and_double_nothing(url: str) -> None:
    """Processes that write at once, with repeats of each other's rows, all end with the same sums.

    `benchmarks/storage.py` does the same with 25,000 rows each.
    """
    workers = 2 if url.startswith("sqlite") else 4
    base = Load(url=url, rows=300, workers=workers, concurrency=32, follow_s=0.1)
    reports = run_together([replace(base, worker=w) for w in range(workers)])
    told = [report.statuses for report in reports]
    assert sum(t.get("stored", 0) for t in told) == 300 * workers
    assert sum(t.get("duplicate", 0) for t in told) == 30 * workers
    check_agreement(base, reports)


@dataclass
class Writer:
    """Writes transactions that end in every way, each after a pause."""

    url: str
    router: str
    seed: int
    committed: list[str]

    async def run(self, transactions: int) -> None:
        """Write, pausing between the row and the end of its transaction."""
        chance = random.Random(self.seed)
        raw = await asyncpg.connect(self.url)
        for number in range(transactions):
            identity = f"{self.seed}-{number}"
            decision = a_decision(self.router, seed=self.seed)
            arrived = Arrived(a_row(decision, identity), START)
            await raw.execute("BEGIN")
            await _append(_Session(raw, None), [decision_row(decision)], [arrived])
            await asyncio.sleep(chance.random() * 0.03)
            end = chance.choice(["COMMIT", "COMMIT", "ROLLBACK", "die"])
            if end == "die":
                raw.terminate()
                raw = await asyncpg.connect(self.url)
                continue
            await raw.execute(end)
            if end == "COMMIT":
                self.committed.append(identity)
        await raw.close()


async def test_a_follower_misses_no_row_of_slow_writers(shared: str) -> None:
    """Transactions that commit out of order, roll back or die leave no gap for a live follower."""
    committed: list[str] = []
    writers = [Writer(shared, "gap", seed, committed) for seed in range(8)]
    async with DatabaseStore(shared, clock=ManualClock()) as store:
        writing = asyncio.gather(*(w.run(25) for w in writers))
        seen: list[str] = []
        cursor, after_the_end = None, 0
        while after_the_end < 3:
            after_the_end += writing.done()
            page = await store.tail("gap", cursor)
            seen += [entry.row.feedback_id for entry in page]
            cursor = page[-1].cursor if page else cursor
            await asyncio.sleep(0.002)
        await writing
        again = [e.row.feedback_id for e in await read_log(store, "gap")]
    assert len(seen) == len(set(seen))
    assert set(seen) == set(committed)
    assert seen == again  # whoever reads later reads the same order


async def test_feedback_that_overtakes_its_decision_is_taught_once(url: str) -> None:
    """However many replicas look for it at once, waiting feedback enters the log one time."""
    stores = [DatabaseStore(url, clock=ManualClock()) for _ in range(3)]
    for store in stores:
        await store.open()
    decisions = [a_decision("late", seed=i) for i in range(20)]
    for decision in decisions:
        assert (await stores[0].append(a_row(decision, decision.id))).waiting
    for decision in decisions:
        await stores[1].record(decision)
    await stores[1].flush()
    await asyncio.gather(*(store.tail("late") for store in stores for _ in range(3)))
    logs = [await read_log(store, "late", limit=7) for store in stores]
    for log in logs:
        assert sorted(e.row.feedback_id for e in log) == sorted(d.id for d in decisions)
        assert [e.cursor for e in log] == [e.cursor for e in logs[0]]
    for store in stores:
        await store.close()


async def test_every_page_knows_what_came_before_it(url: str) -> None:
    """With several writers about the same calls, `before` is exact for every reader and page."""
    stores = [DatabaseStore(url, clock=ManualClock()) for _ in range(2)]
    for store in stores:
        await store.open()
    decisions = [a_decision("calls", seed=i) for i in range(4)]
    rows = [
        a_row(d, f"{d.id}-{i}", quality=i / 20, rank=i % 4, key=str(i), decision=d)
        for d in decisions
        for i in range(20)
    ]
    random.Random(1).shuffle(rows)
    await asyncio.gather(*(stores[i % 2].append(row) for i, row in enumerate(rows)))
    pages = [await read_log(store, "calls", limit=n) for store in stores for n in (1, 7, 100)]
    for page in pages:
        assert len(page) == len(rows)
        check_before(page)
        assert same_sums(log_sums(page), log_sums(pages[0]))
    for store in stores:
        await store.close()


async def test_forgetting_reaches_every_replica(url: str) -> None:
    """A user that one replica forgets is unlearned by the others, which were reading meanwhile."""
    one, other = DatabaseStore(url, clock=ManualClock()), DatabaseStore(url, clock=ManualClock())
    await one.open()
    await other.open()
    mine, theirs = a_decision("r", seed=1, user_key="me"), a_decision("r", seed=2, user_key="they")
    for decision in (mine, theirs):
        await one.append(a_row(decision, decision=decision))
    cursor = (await other.tail("r"))[-1].cursor
    await other.save_snapshot("r", cursor, b"both")
    await one.forget("me")
    with pytest.raises(Rebuild):
        await other.tail("r", cursor)
    await other.save_snapshot("r", cursor, b"both")  # it has not heard of it yet
    assert await other.load_snapshot("r") is None
    kept = await other._sessions.fetch("look", "SELECT id FROM snapshots", {})
    assert list(kept) == []
    assert [e.decision.id for e in await read_log(other, "r")] == [theirs.id]
    await one.close()
    await other.close()


async def test_a_shared_limit_is_never_passed(url: str) -> None:
    """Replicas that reserve at once stop together at the limit, and settle to what was spent."""
    stores = [DatabaseStore(url, clock=ManualClock()) for _ in range(2)]
    for store in stores:
        await store.open()

    async def reserve(number: int) -> bool:
        made = await stores[number % 2].reserve(
            "shared",
            START,
            limit_usd=0.3,
            amount_usd=0.01,
            reservation_id=f"{number}",
            now=START + number % 3,
            expires_at=START + 60,
        )
        return made.granted

    granted = await asyncio.gather(*(reserve(n) for n in range(60)))
    assert sum(granted) == 30
    taken = [n for n, yes in enumerate(granted) if yes]
    await asyncio.gather(*(stores[n % 2].settle(str(n), 0.005) for n in taken for _ in range(2)))
    spend = await stores[0].spend("shared", START)
    assert spend is not None
    assert spend.spent_usd == pytest.approx(0.15)
    assert spend.reserved_usd == pytest.approx(0.0)
    for store in stores:
        await store.close()


async def test_expired_reservations_are_freed_once(url: str) -> None:
    """Replicas that find the same expired reservations at once free each of them one time."""
    stores = [DatabaseStore(url, clock=ManualClock()) for _ in range(2)]
    for store in stores:
        await store.open()

    async def reserve(number: int, now: float) -> bool:
        made = await stores[number % 2].reserve(
            "dead",
            START,
            limit_usd=0.1,
            amount_usd=0.01,
            reservation_id=f"{now}-{number}",
            now=now,
            expires_at=now + 10,
        )
        return made.granted

    assert sum(await asyncio.gather(*(reserve(n, START) for n in range(10)))) == 10
    assert sum(await asyncio.gather(*(reserve(n, START + 20) for n in range(24)))) == 10
    spend = await stores[0].spend("dead", START)
    assert spend is not None
    assert spend.reserved_usd == pytest.approx(0.1)
    for store in stores:
        await store.close()


async def test_a_value_that_is_no_number_reaches_no_table(url: str) -> None:
    """The database itself refuses NaN and infinity, wherever they might come from."""
    async with DatabaseStore(url, clock=ManualClock()) as store:
        decision = a_decision("r")
        good = a_row(decision, "good", decision=decision)
        for field in ("quality", "quality_weight", "cost_usd", "latency_s", "output_tokens"):
            for value in (float("nan"), float("inf"), -1.0):
                if value != value and url.startswith("sqlite") and field != "quality_weight":
                    continue  # SQLite binds NaN as NULL, which is "unknown"
                bad = a_row(decision, f"{field}{value}")
                object.__setattr__(bad.evidence, field, value)
                results = await asyncio.gather(
                    store.append(bad), store.append(good), return_exceptions=True
                )
                assert isinstance(results[0], Exception), (field, value)
                assert not isinstance(results[0], StorageUnavailable), (field, value)
                assert not isinstance(results[1], Exception)
        assert [e.row.feedback_id for e in await store.tail("r")] == ["good"]
