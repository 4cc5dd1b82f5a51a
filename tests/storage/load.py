"""A replica as a process of its own: it writes feedback under load and follows the log meanwhile.

`python -m tests.storage.load '<json>'` runs `Load` and prints a JSON report; `ready` comes before
it, and it starts when a line arrives on standard input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from conduit.core.errors import StorageUnavailable
from conduit.core.events import DecisionRecord, Evidence, FeedbackRow, LogEntry
from conduit.storage.database import open_store
from conduit.storage.ports import Rebuild, Store

DIM = 29
MODELS = ("small", "medium", "large")
ROWS_PER_DECISION = 5  # what it cost, three opinions of growing weight, another model's attempt
FAR_FUTURE = 4e9


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one process does."""

    url: str
    worker: int = 0
    workers: int = 1
    rows: int = 1000
    duplicates: float = 0.1  # of the rows come again, from the next worker too
    concurrency: int = 128
    follow_s: float = 0.25  # between two looks at the log; 0 never looks
    settle_s: float = 30.0  # at most until everything of all workers is read
    router: str = "load"
    journal_path: str | None = None
    run: str = "run"
    acks: str | None = (
        None  # a file that gets the id of each acknowledged row, before anything else
    )
    pause_s: float = 0.0  # after each row of each sender


@dataclass
class Report:
    """What came of it."""

    acknowledged: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    caught_up_s: float | None = None  # after the last acknowledgement of this worker
    sums: dict[str, list[list[float]]] = field(default_factory=dict)
    cpu_s: float = 0.0


@lru_cache(maxsize=64)
def _vectors(run: str, worker: int) -> np.ndarray[Any, Any]:
    seed = [worker, *run.encode()]
    return np.random.default_rng(seed).normal(size=(4096, DIM)).astype(np.float32)


def decision_of(load: Load, worker: int, number: int) -> DecisionRecord:
    """Return a decision that every process can work out."""
    return DecisionRecord(
        id=f"{load.run}-{worker}-{number}",
        router=load.router,
        model=MODELS[number % 3],
        x=_vectors(load.run, worker)[number % 4096],
        schema="load",
        created_at=1.0,
        expires_at=FAR_FUTURE,
        propensity=0.5,
    )


def evidence_of(worker: int, number: int, part: int) -> Evidence:
    """Return one piece of evidence that every process can work out."""
    quality = ((worker * 7919 + number * 104729 + part * 1299709) % 1000) / 1000
    if part == 0:
        return Evidence(cost_usd=quality, latency_s=1.0)
    rank, weight = (0, 1.0) if part == 4 else (part, 0.5 + part / 8)
    return Evidence(quality=quality, quality_weight=weight, rank=rank, key=str(part))


def row_of(load: Load, worker: int, index: int) -> FeedbackRow:
    """Return the row of a worker by its number; it brings its decision along."""
    number, part = divmod(index, ROWS_PER_DECISION)
    decision = decision_of(load, worker, number)
    return FeedbackRow(
        feedback_id=f"{load.run}-{worker}-{index}",
        router=load.router,
        decision_id=decision.id,
        model="other" if part == 4 else decision.model,
        evidence=evidence_of(worker, number, part),
        decision=decision,
    )


def rows_to_send(load: Load) -> list[FeedbackRow]:
    """Return a worker's rows in random order, with repeats of its own and of the next worker's."""
    rng = np.random.default_rng([load.worker, 1])
    own = [(load.worker, i) for i in range(load.rows)]
    repeats = int(load.rows * load.duplicates)
    other = (load.worker + 1) % load.workers
    places = rng.integers(0, load.rows, repeats)
    own += [(load.worker if n % 2 else other, int(i)) for n, i in enumerate(places)]
    rng.shuffle(own)
    return [row_of(load, worker, index) for worker, index in own]


def expected_sums(load: Load) -> dict[str, np.ndarray[Any, Any]]:
    """Return what all workers teach, in plain numpy: the strongest opinion of each call."""
    sums: dict[str, np.ndarray[Any, Any]] = {}
    for worker in range(load.workers):
        calls: dict[tuple[int, str], Evidence] = {}
        for index in range(load.rows):
            number, part = divmod(index, ROWS_PER_DECISION)
            model = "other" if part == 4 else MODELS[number % 3]
            said = evidence_of(worker, number, part)
            known = calls.get((number, model))
            calls[number, model] = said if known is None else known.joined(said)
        for (number, model), evidence in calls.items():
            if evidence.quality is not None:
                x = decision_of(load, worker, number).x.astype(float)
                part_sum = np.outer(evidence.quality_weight * x, [*x, evidence.quality])
                sums[model] = sums.get(model, 0.0) + part_sum
    return sums


class Replica:
    """Follows the log and keeps its sums."""

    def __init__(self, store: Store, router: str) -> None:
        self.store = store
        self.router = router
        self.clear()

    def clear(self) -> None:
        """Start again from nothing."""
        self.cursor: str | None = None
        self.entries = 0
        self.seen: set[str] = set()
        self.sums: dict[str, np.ndarray[Any, Any]] = {}

    async def catch_up(self) -> None:
        """Read what is there."""
        try:
            while page := await self.store.tail(self.router, self.cursor):
                self.apply(page)
                self.cursor = page[-1].cursor
        except Rebuild:
            self.clear()

    def apply(self, page: Sequence[LogEntry]) -> None:
        """Add a page to the sums; an entry that comes twice is a failure."""
        for entry in page:
            assert entry.row.feedback_id not in self.seen, entry.row.feedback_id
            self.seen.add(entry.row.feedback_id)
        self.entries += len(page)
        taught: dict[str, list[tuple[Any, float, float]]] = {}
        for entry in page:
            known = entry.outcome()
            for sign, said in ((1.0, known), (-1.0, entry.before)):
                if said is not None and said.quality is not None:
                    weight = sign * said.quality_weight
                    taught.setdefault(entry.row.model, []).append(
                        (entry.decision.x, weight, said.quality)
                    )
        for model, parts in taught.items():
            x = np.array([p[0] for p in parts], float)
            weighted = x.T * np.array([p[1] for p in parts])
            both = np.column_stack([x, [p[2] for p in parts]])
            self.sums[model] = self.sums.get(model, 0.0) + weighted @ both


async def send(
    store: Store,
    load: Load,
    rows: Iterator[FeedbackRow],
    report: Report,
    acknowledged: Callable[[str], object] = str,
) -> None:
    """Send rows with many senders, and keep the time that each acknowledgement took."""
    took: list[float] = []
    counts: Counter[str] = Counter()

    async def sender() -> None:
        for row in rows:
            start = time.perf_counter()
            try:
                ack = await store.append(row)
            except StorageUnavailable:
                counts["refused"] += 1
                continue
            took.append(time.perf_counter() - start)
            counts[ack.status] += 1
            acknowledged(row.feedback_id)
            if load.pause_s:
                await asyncio.sleep(load.pause_s)

    start = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(load.concurrency)))
    report.seconds = time.perf_counter() - start
    report.acknowledged, report.statuses = len(took), dict(counts)
    report.p50_ms, report.p99_ms = (float(v) * 1e3 for v in np.percentile(took, [50, 99]))


async def follow(replica: Replica, every_s: float, until: int) -> None:
    """Read the log until it has that many entries."""
    while replica.entries < until:
        await asyncio.sleep(every_s)
        await replica.catch_up()


async def run(load: Load) -> Report:
    """Write, follow, and wait until everything of all workers is read."""
    report = Report()
    store = await open_store(load.url, journal_path=load.journal_path)
    rows = rows_to_send(load)
    settle_memory()
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    cpu = time.process_time()
    replica = Replica(store, load.router)
    everything = load.rows * load.workers if load.follow_s else 0
    following = asyncio.create_task(follow(replica, load.follow_s, everything))
    with acknowledgements(load.acks) as acknowledged:
        await send(store, load, iter(rows), report, acknowledged)
    ended = time.perf_counter()
    await asyncio.wait([following], timeout=load.settle_s)
    if following.done():
        report.caught_up_s = time.perf_counter() - ended
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    report.entries = replica.entries
    report.sums = {m: s.tolist() for m, s in replica.sums.items()}
    report.cpu_s = time.process_time() - cpu
    await store.close()
    return report


def settle_memory() -> None:
    """Collect garbage as a server should that has started: seldom, and never what stays for good.

    A full collection looks at every object of every imported module; the loop stands still for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@contextmanager
def acknowledgements(path: str | None) -> Iterator[Callable[[str], object]]:
    """Give a function that writes an acknowledged id to a file, so that a kill cannot lose it."""
    if path is None:
        yield str
        return
    with Path(path).open("a", buffering=1) as file:
        yield lambda identity: file.write(identity + "\n")


def say(line: str) -> None:
    """Tell the parent process something."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def start(load: Load) -> subprocess.Popen[str]:
    """Start a process that waits for `go`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.load", json.dumps(asdict(load))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let a process begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def report_of(process: subprocess.Popen[str]) -> Report:
    """Wait for a process and return its report."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return Report(**json.loads(out.splitlines()[-1]))


def run_together(loads: Sequence[Load]) -> list[Report]:
    """Run several processes at once."""
    processes = [start(load) for load in loads]
    for process in processes:
        go(process)
    return [report_of(process) for process in processes]


if __name__ == "__main__":
    given = Load(**json.loads(sys.argv[1]))
    say(json.dumps(asdict(asyncio.run(run(given)))))
