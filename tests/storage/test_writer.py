"""Rows that come together are committed together, and an outage loses none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from conduit.core.errors import ConflictingFeedback, InvalidInput, StorageUnavailable
from conduit.core.events import DecisionRecord, FeedbackRow
from conduit.storage import writer as module
from conduit.storage.batches import Batch, Result
from conduit.storage.journal import Journal
from conduit.storage.ports import Ack
from conduit.storage.writer import GROUP_ROWS, GroupWriter
from conduit.testing.records import ManualClock, a_decision, a_row, an_answer

AWAY = "the test says so"


class Database:
    """Takes batches, refuses "bad" rows, trips over "cursed" ones; may go away or be slow."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.away = False
        self.broken = False
        self.curse_lifted = False
        self.rows: dict[str, FeedbackRow] = {}
        self.decisions: dict[str, DecisionRecord] = {}
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()  # somebody waits for an answer
        self.returning = False  # it is back after it said once more that it is away

    async def commit(self, batch: Batch) -> Sequence[Result]:
        """Keep a batch."""
        self.asked.set()
        await self.go_on.wait()
        if self.broken:
            raise RuntimeError("a bug")
        if self.away:
            self.away = not self.returning
            raise StorageUnavailable(AWAY)
        if any(f.row.kind == "bad" for f in batch.feedback):
            raise InvalidInput("bad")
        kinds = {f.row.kind for f in batch.feedback} | {d.id for d in batch.decisions}
        if "cursed" in kinds and not self.curse_lifted:
            raise KeyError("cursed")
        self.batches.append(batch)
        self.decisions |= {d.id: d for d in batch.decisions}
        self.rows |= {f.row.feedback_id: f.row for f in batch.feedback}
        return [Ack(status="stored", feedback_id=f.row.feedback_id) for f in batch.feedback]


@pytest.fixture
def database() -> Database:
    """Give the test a database."""
    return Database()


def writer_of(database: Database, directory: Path | None = None) -> GroupWriter:
    """Return a writer that has started."""
    journal = None if directory is None else Journal(directory, "db")
    writer = GroupWriter(database.commit, journal=journal, clock=ManualClock())
    writer.start()
    return writer


async def writer_in_an_outage(database: Database, directory: Path) -> GroupWriter:
    """Return a writer that has met an outage, with a decision "d" that is queued."""
    database.away = True
    writer = writer_of(database, directory)
    decision = a_decision("r", id="d")
    await writer.append(a_row(decision, "f", decision=decision))
    writer.record(decision)
    return writer


def files_in(directory: Path) -> list[Path]:
    """Return what is in a directory."""
    return list(directory.iterdir())


async def until_back(writer: GroupWriter) -> None:
    """Wait until an outage is over and the journal is empty."""
    async with asyncio.timeout(30):
        while writer.outage is not None or writer.journaled:  # noqa: ASYNC110  state, not an event
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the database often."""
    monkeypatch.setattr(module, "RETRY_S", 0.02)


async def test_rows_that_come_together_share_commits(database: Database) -> None:
    """Many rows at once take few commits of at most 64 rows, each in the order of the ids."""
    writer = writer_of(database)
    decision = a_decision("r")
    rows = [a_row(decision, f"f{i:03}") for i in range(200)]
    acks = await asyncio.gather(*(writer.append(row) for row in reversed(rows)))
    assert [a.feedback_id for a in acks] == [row.feedback_id for row in reversed(rows)]
    sizes = [len(b.feedback) for b in database.batches]
    assert sum(sizes) == 200
    assert max(sizes) <= GROUP_ROWS
    assert len(sizes) <= 5
    for batch in database.batches:
        assert [f.key for f in batch.feedback] == sorted(f.key for f in batch.feedback)
    await writer.close()


async def test_a_row_alone_does_not_wait(database: Database) -> None:
    """A single row is committed at once, by itself."""
    writer = writer_of(database)
    async with asyncio.timeout(30):
        await writer.append(a_row(a_decision("r")))
    assert len(database.batches) == 1
    await writer.close()


async def test_one_id_twice_in_a_group(database: Database) -> None:
    """Of rows with one id in one group the first is stored, and the others are told so."""
    writer = writer_of(database)
    decision = a_decision("r")
    first, *others = await asyncio.gather(
        writer.append(a_row(decision, "f", quality=0.5)),
        writer.append(a_row(decision, "f", quality=0.5)),
        writer.append(a_row(decision, "f", quality=0.6)),
        return_exceptions=True,
    )
    assert isinstance(first, Ack)
    assert first.status == "stored"
    assert isinstance(others[0], Ack)
    assert others[0].status == "duplicate"
    assert isinstance(others[1], ConflictingFeedback)
    assert database.rows["f"].evidence.quality == 0.5
    await writer.close()


async def test_a_bad_value_spoils_no_other_row(database: Database) -> None:
    """When the database refuses a value, only its row fails, and the rest is committed."""
    writer = writer_of(database)
    decision = a_decision("r")
    rows = [a_row(decision, f"f{i}", kind="bad" if i == 2 else "good") for i in range(5)]
    results = await asyncio.gather(*map(writer.append, rows), return_exceptions=True)
    assert [isinstance(r, InvalidInput) for r in results] == [False, False, True, False, False]
    assert sorted(database.rows) == ["f0", "f1", "f3", "f4"]
    await writer.close()


async def test_decisions_are_written_with_the_feedback_on_them(database: Database) -> None:
    """A queued decision is committed no later than the feedback on it, and only once."""
    writer = writer_of(database)
    decision = a_decision("r")
    writer.record(decision)
    await writer.append(a_row(decision, decision=decision))
    await writer.append(a_row(decision, decision=decision))
    assert [[d.id for d in b.decisions] for b in database.batches] == [[decision.id], []]
    writer.forget_known()
    await writer.append(a_row(decision, decision=decision))
    assert [d.id for d in database.batches[-1].decisions] == [decision.id]
    await writer.close()


async def test_an_outage_goes_to_the_journal_and_comes_back(
    database: Database, tmp_path: Path
) -> None:
    """Rows of an outage are journaled with their decisions, and all arrive once it is over."""
    writer = writer_of(database, tmp_path)
    database.away = True
    decisions = [a_decision("r", id=f"d{i}") for i in range(300)]
    for each in decisions:
        writer.record(each)
    rows = [a_row(d, d.id) for d in decisions]
    acks = await asyncio.gather(*map(writer.append, rows))
    assert {a.status for a in acks} == {"journaled"}
    assert (writer.outage, writer.journaled) == (AWAY, 300)
    with pytest.raises(StorageUnavailable, match=AWAY):
        await writer.flush()
    database.away = False
    await until_back(writer)
    await writer.flush()
    assert sorted(database.rows) == sorted(d.id for d in decisions)
    assert sorted(database.decisions) == sorted(d.id for d in decisions)
    assert (await writer.append(a_row(decisions[0], "later"))).status == "stored"
    await writer.close()
    assert files_in(tmp_path) == []


async def test_without_a_journal_an_outage_refuses(database: Database) -> None:
    """Nothing is acknowledged that is kept nowhere, and writing goes on after the outage."""
    writer = writer_of(database)
    database.away = True
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=AWAY):
            await writer.append(a_row(a_decision("r")))
    database.away = False
    await until_back(writer)
    assert (await writer.append(a_row(a_decision("r")))).status == "stored"
    await writer.close()


async def test_a_full_journal_refuses(database: Database, tmp_path: Path) -> None:
    """An outage longer than the journal is refused, not acknowledged."""
    writer = GroupWriter(
        database.commit, journal=Journal(tmp_path, "db", max_bytes=3000), clock=ManualClock()
    )
    writer.start()
    database.away = True
    results: list[Ack | BaseException] = []
    for i in range(20):
        row = a_row(a_decision("r"), f"f{i}")
        results += await asyncio.gather(writer.append(row), return_exceptions=True)
    journaled = {r.feedback_id for r in results if isinstance(r, Ack)}
    assert 0 < len(journaled) < 20
    assert all(isinstance(r, Ack | StorageUnavailable) for r in results)
    database.away = False
    await until_back(writer)
    assert set(database.rows) == journaled
    await writer.close()


async def test_a_flush_asks_the_database_anew(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush fails during an outage, and succeeds as soon as it is over: no look is awaited."""
    monkeypatch.setattr(module, "RETRY_S", 3600.0)
    writer = await writer_in_an_outage(database, tmp_path)
    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable, match=AWAY):
            await writer.flush()
        database.away = False
        await writer.flush()
    assert list(database.decisions) == ["d"]
    await writer.close()


async def test_an_asked_look_is_taken_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks before the first look of an outage is answered by it, and nobody looks again."""
    monkeypatch.setattr(module, "RETRY_S", 3600.0)
    database.away = True
    writer = writer_of(database, tmp_path)
    writer.record(a_decision("r", id="d"))
    database.go_on.clear()
    flushing = asyncio.ensure_future(writer.flush())  # its own write is what finds the outage
    async with asyncio.timeout(30):
        await database.asked.wait()
        database.go_on.set()
        with pytest.raises(StorageUnavailable):
            await flushing
        database.asked.clear()
        await asyncio.sleep(0.2)
    assert not database.asked.is_set()
    await writer.close()


async def test_a_flush_does_not_believe_a_look_that_began_before_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that came back while it was being asked is asked once more."""
    monkeypatch.setattr(module, "RETRY_S", 3600.0)
    writer = await writer_in_an_outage(database, tmp_path)
    with pytest.raises(StorageUnavailable):
        await writer.flush()  # whoever looks now has the whole hour before it
    database.go_on.clear()
    database.asked.clear()
    early = asyncio.ensure_future(writer.flush())
    async with asyncio.timeout(30):
        await database.asked.wait()  # a look is under way, and will say that the database is away
        late = asyncio.ensure_future(writer.flush())
        await asyncio.sleep(0)
        database.returning = True
        database.go_on.set()
        with pytest.raises(StorageUnavailable):
            await early
        await late
    assert list(database.decisions) == ["d"]
    await writer.close()


async def test_who_flushes_is_told_when_the_writer_closes(
    database: Database, tmp_path: Path
) -> None:
    """Nobody waits for a database whose writer has gone."""
    writer = await writer_in_an_outage(database, tmp_path)
    database.go_on.clear()
    database.asked.clear()
    waiting = asyncio.ensure_future(writer.flush())
    async with asyncio.timeout(30):
        await database.asked.wait()
        await writer.close()
        with pytest.raises(StorageUnavailable):
            await waiting


async def test_what_a_process_leaves_behind_is_taken_up(database: Database, tmp_path: Path) -> None:
    """Feedback and decisions of a process that closed during an outage reach the database."""
    database.away = True
    writer = writer_of(database, tmp_path)
    decision, lonely = a_decision("r", id="d"), a_decision("r", id="lonely")
    await writer.append(a_row(decision, "f", decision=decision))
    writer.record(lonely)
    writer.record(an_answer(decision))
    await writer.close()
    assert database.batches == []
    database.away = False
    heir = writer_of(database, tmp_path)
    await until_back(heir)
    async with asyncio.timeout(30):
        while not database.batches:  # noqa: ASYNC110  the files are adopted in the background
            await asyncio.sleep(0.01)
    assert sorted(database.decisions) == ["d", "lonely"]
    assert list(database.rows) == ["f"]
    assert sum(len(b.responses) for b in database.batches) == 1
    await heir.close()


async def test_feedback_of_a_killed_process_brings_its_decision(
    database: Database, tmp_path: Path
) -> None:
    """A decision that was only queued when its process was killed comes with its feedback."""
    database.away = True
    killed = writer_of(database, tmp_path)
    decision = a_decision("r", id="d")
    killed.record(decision)
    await killed.append(a_row(decision, "f"))
    assert killed.journal is not None
    killed.journal.close()  # as a kill does: locks go, and the queue is lost
    database.away, gone = False, Database()
    gone.away = True  # to the killed one, which writes and reads no more
    killed.commit = gone.commit
    heir = writer_of(database, tmp_path)
    async with asyncio.timeout(30):
        while "f" not in database.rows:  # noqa: ASYNC110  the files are adopted in the background
            await asyncio.sleep(0.01)
    assert list(database.decisions) == ["d"]
    await heir.close()
    await killed.close()


@pytest.mark.parametrize("store_text", [False, True])
async def test_texts_are_left_out_at_every_entrance(
    database: Database, tmp_path: Path, store_text: bool
) -> None:
    """Without store_text a text goes no further than the writer, from wherever it comes."""
    database.away = True
    earlier = GroupWriter(
        database.commit, journal=Journal(tmp_path, "db"), clock=ManualClock(), store_text=True
    )
    earlier.start()
    left = a_decision("r", id="left", text="a text")
    await earlier.append(a_row(left, decision=left))
    await earlier.close()
    database.away = False
    writer = GroupWriter(
        database.commit, journal=Journal(tmp_path, "db"), clock=ManualClock(), store_text=store_text
    )
    writer.start()
    queued = a_decision("r", id="queued", text="x")
    brought = a_decision("r", id="brought", text="x")
    writer.record(queued)
    writer.record(an_answer(queued, text="x"))
    await writer.append(a_row(brought, decision=brought))
    await writer.flush()
    async with asyncio.timeout(30):
        while "left" not in database.decisions:  # noqa: ASYNC110  adopted in the background
            await asyncio.sleep(0.01)
    texts = [d.text for d in database.decisions.values()]
    texts += [r.response.text for b in database.batches for r in b.responses]
    assert len(texts) == 4
    assert all((text is not None) == store_text for text in texts)
    await writer.close()


async def test_a_line_of_another_version_blocks_nothing(database: Database, tmp_path: Path) -> None:
    """A journal line that cannot be read is counted, and the lines after it are taken."""
    database.away = True
    writer = writer_of(database, tmp_path)
    await writer.append(a_row(a_decision("r"), "f"))
    assert writer.journal is not None
    writer.journal.append(['{"unheard": "of"}', "[]", "not json"])
    database.away = False
    await until_back(writer)
    assert (list(database.rows), writer.counters.refused) == (["f"], 3)
    await writer.close()


async def test_a_cancelled_append_is_committed_all_the_same(database: Database) -> None:
    """Cancelling the caller leaves the commit alone: the row is stored, and a repeat finds it."""
    writer = writer_of(database)
    database.go_on.clear()
    waiting = asyncio.create_task(writer.append(a_row(a_decision("r"), "f")))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    database.go_on.set()
    await writer.append(a_row(a_decision("r"), "g"))
    assert sorted(database.rows) == ["f", "g"]
    await writer.close()


async def test_a_bug_fails_its_group_and_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """If writing fails in a way nobody foresaw, its callers get an error; the next are written."""
    writer = writer_of(database)
    database.broken = True
    decision = a_decision("r")
    rows = [a_row(decision, f"f{i}") for i in range(GROUP_ROWS)]
    results = await asyncio.gather(*map(writer.append, rows), return_exceptions=True)
    assert {str(r) for r in results} == {"could not write: RuntimeError"}
    assert all(isinstance(r, StorageUnavailable) for r in results)
    assert caplog.text.count("a bug") == 2  # once: the error and its line in the traceback
    database.broken = False
    assert (await writer.append(a_row(decision, "after"))).status == "stored"
    await writer.close()


async def test_a_bug_in_one_row_spoils_no_other(database: Database) -> None:
    """A row or a decision that a bug does not let through fails alone, and is counted."""
    writer = writer_of(database)
    decision = a_decision("r")
    writer.record(a_decision("r", id="cursed"))
    rows = [a_row(decision, f"f{i}", kind="cursed" if i == 2 else "good") for i in range(5)]
    results = await asyncio.gather(*map(writer.append, rows), return_exceptions=True)
    assert [isinstance(r, StorageUnavailable) for r in results] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert sorted(database.rows) == ["f0", "f1", "f3", "f4"]
    assert (writer.counters.refused, writer.queued) == (1, 0)
    await writer.close()


async def test_a_bug_while_the_journal_drains_loses_nothing(
    database: Database, tmp_path: Path
) -> None:
    """Journaled rows that cannot be written for no known reason wait; the others are written."""
    writer = writer_of(database, tmp_path)
    database.away = True
    decision = a_decision("r")
    rows = [a_row(decision, f"f{i}", kind="cursed" if i == 2 else "good") for i in range(5)]
    await asyncio.gather(*map(writer.append, rows))
    database.away = False
    async with asyncio.timeout(30):
        while writer.outage is not None:  # noqa: ASYNC110  state, not an event
            await asyncio.sleep(0.01)
    assert (await writer.append(a_row(decision, "after"))).status == "stored"
    assert sorted(database.rows) == ["after", "f0", "f1", "f3", "f4"]
    assert writer.journaled == 1
    database.curse_lifted = True
    await until_back(writer)
    assert "f2" in database.rows
    await writer.close()


async def test_the_queue_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions beyond the bound push out the oldest, and are counted."""
    monkeypatch.setattr(module, "QUEUED_RECORDS", 10)
    writer = writer_of(database)
    database.go_on.clear()
    for i in range(15):
        writer.record(a_decision("r", id=f"d{i:02}"))
    assert (writer.queued, writer.counters.dropped) == (10, 5)
    assert writer.pending("d04") is None
    assert writer.pending("d05") is not None
    database.go_on.set()
    await writer.flush()
    assert sorted(database.decisions) == [f"d{i:02}" for i in range(5, 15)]
    await writer.close()


async def test_flush_does_not_wait_for_what_comes_later(database: Database) -> None:
    """`flush` returns once what was queued before it is committed, whatever is queued since."""
    writer = writer_of(database)
    database.go_on.clear()
    writer.record(a_decision("r", id="before"))
    flushing = asyncio.create_task(writer.flush())
    await asyncio.sleep(0.01)
    writer.record(a_decision("r", id="after"))
    assert not flushing.done()
    database.go_on.set()
    async with asyncio.timeout(30):
        await flushing
    assert "before" in database.decisions
    await writer.close()
    assert "after" in database.decisions
