"""The journal keeps what it took, whatever happens to its process, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.core.errors import StorageUnavailable
from conduit.core.events import DecisionRecord
from conduit.storage.journal import Journal
from conduit.storage.rows import Arrived, Journaled, from_json, to_json
from conduit.testing.records import START, a_decision, a_row, an_answer, same_decision

# A process that journals until it is killed, and tells of each line once it is safe.
JOURNALING = """
import sys
from pathlib import Path
from conduit.storage.journal import Journal
journal = Journal(Path(sys.argv[1]), "db")
for number in range(10**9):
    journal.append([f"line {number}"])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Callable[..., Journal]]:
    """Make journals of one database over one directory, closed after the test."""
    made: list[Journal] = []

    def make(directory: Path = tmp_path, database: str = "db", **given: int) -> Journal:
        made.append(Journal(directory, database, **given))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


Journals = Callable[..., Journal]


def drained(journal: Journal, *, at_once: int = 10) -> list[str]:
    """Take everything out of a journal."""
    lines: list[str] = []
    for _ in range(10_000):
        if not (page := journal.peek(at_once)):
            return lines
        lines += page
        journal.drop()
    raise AssertionError("the journal never ends")


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_lines_come_back_in_order(journals: Journals, at_once: int) -> None:
    """What was appended is read in order, the same until it is dropped, and then never again."""
    journal = journals()
    lines = [f"line {i} ä" for i in range(10)]
    journal.append(lines[:4])
    journal.append(lines[4:])
    assert journal.depth == 10
    assert journal.peek(at_once) == journal.peek(at_once) == lines[:at_once]
    assert drained(journal, at_once=at_once) == lines
    assert (journal.depth, journal.peek(1)) == (0, [])
    journal.append(["again"])
    assert drained(journal) == ["again"]


def test_a_closed_journal_waits_for_the_next_process(tmp_path: Path) -> None:
    """Lines survive `close`; the file goes once they are taken, and an empty one goes at once."""
    first = Journal(tmp_path, "db")
    first.append(["a", "b"])
    first.peek(1)
    first.drop()
    first.close()
    other = Journal(tmp_path, "another database")
    other.adopt()
    assert other.depth == 0
    second = Journal(tmp_path, "db")
    second.adopt()
    assert sorted(drained(second)) == ["a", "b"]  # what was dropped may come again
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_journal_takes_nothing_up(tmp_path: Path) -> None:
    """A thread that comes after `close` neither locks what waits nor writes where nobody looks."""
    late = Journal(tmp_path, "db")
    late.append(["a"])
    late.peek(1)
    late.close()
    late.adopt()
    late.drop()
    with pytest.raises(StorageUnavailable, match="closed"):
        late.append(["b"])
    heir = Journal(tmp_path, "db")
    heir.adopt()
    assert drained(heir) == ["a"]
    heir.close()


def test_a_living_process_keeps_its_file(journals: Journals) -> None:
    """Two journals over one directory never read each other's files."""
    first, second = journals(), journals()
    first.append(["first"])
    second.append(["second"])
    for journal in (first, second):
        journal.adopt()
    assert (drained(first), drained(second)) == (["first"], ["second"])


def test_lines_survive_a_kill(tmp_path: Path, journals: Journals) -> None:
    """Every line that a killed process was told is safe is there for the next one."""
    process = subprocess.Popen(
        [sys.executable, "-c", JOURNALING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    process.stdout.close()
    journal = journals()
    journal.adopt()
    lines = drained(journal)
    assert lines[: len(told)] == [f"line {n}" for n in told]
    assert len(lines) <= len(told) + 1


@settings(max_examples=40)
@given(cut=st.integers(0, 200), damage=st.none() | st.integers(0, 80))
def test_a_torn_or_damaged_line_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, cut: int, damage: int | None
) -> None:
    """Wherever a file ends or is damaged, only the line there is lost, and none is made up."""
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory, "db")
    lines = [f"{i}" * 10 for i in range(10)]
    journal.append(lines)
    journal.close()
    (path,) = directory.iterdir()
    data = bytearray(path.read_bytes()[: -cut or None])
    hit = damage is not None and damage < len(data)
    if damage is not None and hit:
        data[damage] ^= 1
    path.write_bytes(data)
    again = Journal(directory, "db")
    again.adopt()
    whole = bytes(data).count(b"\n")
    read = drained(again)
    assert set(read) <= set(lines)
    assert len(read) >= whole - 2 * hit
    again.close()


def test_a_file_that_was_cut_ends(tmp_path: Path, journals: Journals) -> None:
    """A file that somebody shortened is read up to its new end, and reading comes to one."""
    journal = journals()
    journal.append(["a" * 20, "b" * 20])
    (path,) = tmp_path.iterdir()
    os.truncate(path, 35)
    assert drained(journal) == ["a" * 20]


def test_a_full_journal_refuses(journals: Journals) -> None:
    """A journal never grows over its bound; what it refused is not in it."""
    journal = journals(max_bytes=100)
    journal.append(["x" * 80])
    with pytest.raises(StorageUnavailable, match="full"):
        journal.append(["y"])
    assert drained(journal) == ["x" * 80]
    journal.append(["y"])
    assert drained(journal) == ["y"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Without a place to write, the row is refused."""
    tmp_path.chmod(0o500)
    with pytest.raises(StorageUnavailable):
        Journal(tmp_path / "deeper", "db").append(["x"])


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    """A journal path that is a file refuses rows, and says so."""
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file", "db")
    journal.adopt()
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        journal.append(["x"])


def test_the_file_is_private(tmp_path: Path, journals: Journals) -> None:
    """Nobody else may read the journal."""
    journals().append(["x"])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_everything_that_is_journaled_comes_back() -> None:
    """Feedback, decisions and answers survive a line of the journal, value by value."""
    decision = a_decision("r", user_key="u", text="a text")
    answer = an_answer(decision, text="a text", latency_s=1.0, output_valid=True)
    row = a_row(decision, "f", quality=None, cost_usd=0.5, decision=decision, user_key="v")
    items: list[Journaled] = [decision, answer, Arrived(row, START)]
    one, two, three = (from_json(to_json(item)) for item in items)
    assert isinstance(one, DecisionRecord)
    same_decision(one, decision)
    assert one.text == "a text"
    assert two == answer
    assert isinstance(three, Arrived)
    assert (three.at, three.row.evidence, three.row.user_key) == (START, row.evidence, "v")
    assert three.row.decision is not None
    same_decision(three.row.decision, decision)
