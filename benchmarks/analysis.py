"""What reading a text costs: its parts, its growth, the worst texts, its memory, the loop's lag.

    python -m benchmarks.analysis [--quick]

CPU time of the thread where nothing else is said. The lag is wall time: how late a timer of the
event loop is while fifty routes at a time wait for an embedder in its thread.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks import results_page, windows
from benchmarks.fit.static_embedder import tokenizer
from benchmarks.hostile import ALPHABETS, WORD_LENGTHS, hostile_text
from benchmarks.route import texts
from benchmarks.windows import Floats
from conduit import ModelArm, Query, Router
from conduit.core.errors import ConfigurationError
from conduit.engines import features, heads
from conduit.engines.analyzer import Analyzer
from conduit.engines.embeddings.static import StaticEmbedder

ARMS = [ModelArm(f"a:m{i}", quality=0.5 + 0.05 * i) for i in range(5)]
SLOW = ("sentence-transformers/all-MiniLM-L6-v2", "onnx")
CONCURRENT, ROUNDS = 50, 10
TICK_S = 0.001
IDLE_S = 5.0
HOLD_LAG_MS, HOLD_SIGNALS_US, HOLD_LOOP_MS = 20.0, 60.0, 5.0
SLOWEST_SHOWN, DRAWN = 3, 7
WHOLE = tuple(range(250, features.CLIP_CHARS + 1, 250))  # characters
TENFOLD = (100, 1_000, 10_000, 100_000, 1_000_000)
LONGEST = TENFOLD[-1]
UNITS = {
    "one letter": "a",
    "blanks": " ",
    "lines": "\n",
    "digits": "12345 ",
    "code": "def f(x):\n    return x + 1\n",
    "options": "\nA. one\nB. two",
    "turns": "User: hi\n",
    "marks": "?x",
    "Chinese": "你好,世界",
    "Hebrew": "שלום עולם ",
    "accents": "é́",
    "NUL": "\x00 a",
    "lone surrogates": "\ud800x",
}
FLAT_FROM = 10_000  # routes after which memory has to stay where it is
# The tables of what is bounded become one size larger once, when the first thing is dropped.
HOLD_GROWTH_MB = 4.0


def line(figure: str, what: str, found: float, hold: float | None = None) -> dict[str, Any]:
    """Return one line of the table."""
    met = None if hold is None else "yes" if found <= hold else "no"
    return {"figure": figure, "of": what, "found": found, "hold": hold, "met": met}


def least_s(call: Callable[[str], object], given: Sequence[str], rounds: int = 15) -> float:
    """Return the CPU seconds of one call: the mean over texts, the best of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.thread_time()
        for text in given:
            call(text)
        found.append((time.thread_time() - start) / len(given))
    return min(found)


# --- parts and growth ------------------------------------------------------------------------


def parts() -> Iterator[dict[str, Any]]:
    """Yield what each part of the analysis of one text costs, in microseconds."""
    embedder, berts = StaticEmbedder(), tokenizer()
    for words in (20, 200):
        given = texts(words, 200, seed=words)
        hold = HOLD_SIGNALS_US if words == 200 else None
        signals = least_s(features.surface_signals, given) * 1e6
        yield line(f"{words} words, CPU µs", "surface signals", signals, hold)
        embedding = least_s(lambda text: embedder.embed([text]), given) * 1e6
        yield line(f"{words} words, CPU µs", "static embedding", embedding)
        tokens = least_s(lambda text: berts.encode(text, add_special_tokens=False).ids, given)
        what = "the tokenizer alone, which model2vec asks for every text"
        yield line(f"{words} words, CPU µs", what, tokens * 1e6)
        read = [features.surface_signals(text) for text in given]
        rows = dict(zip(given, zip(read, embedder.embed(given), strict=True), strict=True))
        heads_s = least_s(lambda text, rows=rows: heads.analyse(*rows[text], embedder.id), given)
        yield line(f"{words} words, CPU µs", "domain and complexity", heads_s * 1e6)


def growth() -> Iterator[dict[str, Any]]:
    """Yield how the time of a whole analysis, the query included, grows with the text.

    Linear is what has both: a straight line explains the texts that are read whole (to 4,000
    characters), and no longer text, of which the ends are read, takes longer than that line says.
    Whatever a text is made of, ten times of it take at most about ten times as long.
    """
    analyzer = Analyzer()

    def spent_s(given: Sequence[str], rounds: int = 30) -> Floats:
        """Return the least time of each text; they take turns, so that all meet quiet moments."""
        took = [
            [least_s(lambda t: analyzer.analyse_now(Query(text=t)), [t] * 3, 1) for t in given]
            for _ in range(rounds)
        ]
        return np.array(took).min(axis=0)

    filler = " ".join(texts(2_000, 90, seed=7))
    assert len(filler) >= LONGEST
    spent = spent_s([filler[:n] for n in WHOLE])
    slope, offset, r2 = straight(np.array(WHOLE, float), spent)
    yield line("µs per 1,000 characters, texts read whole", "analysis", slope * 1e9)
    yield line("1 − R² of a straight line, texts read whole", "analysis", 1.0 - r2, 0.05)
    cut = np.array([n for n in TENFOLD if n > features.CLIP_CHARS])
    longer = spent_s([filler[:n] for n in cut])
    over = float((longer / (offset + slope * cut)).max())
    yield line("times the line, texts longer, the dearest", "analysis", over, 1.0)
    yield line("1,000,000 characters, CPU ms", "analysis", float(longer[-1]) * 1e3)
    times = {}
    for name, unit in UNITS.items():
        took = spent_s([(unit * (n // len(unit) + 1))[:n] for n in TENFOLD], rounds=15)
        times[name] = float((took[1:] / took[:-1]).max())
    worst = max(times, key=lambda name: times[name])
    what = f"analysis, of {', '.join(UNITS)}: {worst}"
    yield line("times as long for ten times the text, the worst", what, times[worst], 12.0)


def hostile() -> Iterator[dict[str, Any]]:
    """Yield what the texts cost that are made to be slow, the slowest kinds first.

    A whole analysis, the query included, which an event loop waits for. Each draw is a new text
    and meets an analyzer that has seen no word; of a kind counts the draw that took least.
    """
    for chars, lengths in ((features.CLIP_CHARS, WORD_LENGTHS), (LONGEST, WORD_LENGTHS[-1:])):
        found = {
            f"{name} in words of {length:,}": hostile_ms(ALPHABETS[name], length, chars)
            for name in ALPHABETS
            for length in lengths
        }
        figure = f"{chars:,} characters without sense, CPU ms"
        slowest = sorted(found, key=lambda kind: -found[kind])[:SLOWEST_SHOWN]
        for place, kind in enumerate(slowest, 1):
            what = f"analysis, the slowest of {len(found)} kinds, number {place}: {kind}"
            yield line(figure, what, found[kind], HOLD_LOOP_MS)


def hostile_ms(alphabet: str, word_length: int, chars: int) -> float:
    """Return the CPU milliseconds of the analysis of such a text."""
    took = []
    for seed in range(DRAWN):
        text = hostile_text(alphabet, word_length, Random(seed), chars)
        analyzer = Analyzer()
        took.append(least_s(lambda t: analyzer.analyse_now(Query(text=t)), [text], 1))  # noqa: B023
    return min(took) * 1e3


def straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return slope and offset of the line through the points, and how much of them it explains."""
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (slope * x + offset)
    r2 = 1.0 - (rest @ rest) / ((y - y.mean()) @ (y - y.mean()))
    return float(slope), float(offset), float(r2)


# --- memory ----------------------------------------------------------------------------------


def resident_mb() -> float:
    """Return the memory that this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def memory(routes: int) -> list[dict[str, Any]]:
    """Return how memory grows over so many routes of unique prompts without any feedback.

    Anything that kept one object per route would hold as many more blocks of Python's memory as
    there were routes. What the process holds beside them also shows what lies outside Python.
    """
    words = texts(9, 5_000, seed=3)
    async with Router(ARMS, seed=0, environ={}, cache_enabled=True) as router:
        held: list[float] = []
        blocks: list[int] = []
        for i in range(routes):
            await router.route(f"{i} {words[i % len(words)]}")
            if (i + 1) % FLAT_FROM == 0:
                held.append(resident_mb())
                blocks.append(sys.getallocatedblocks())
    what = f"{routes:,} routes, unique prompts, no feedback, cache on"
    more = (max(blocks) - blocks[0]) / (routes - FLAT_FROM)
    grown = max(held) - held[0]
    return [
        line(f"MB resident after {FLAT_FROM:,}", what, held[0]),
        line(f"MB resident after {routes:,}", what, held[-1]),
        line(f"objects that each route after {FLAT_FROM:,} left, at most", what, more, 0.1),
        line(f"MB that it grew at most after {FLAT_FROM:,}", what, grown, HOLD_GROWTH_MB),
    ]


# --- the loop --------------------------------------------------------------------------------


class Ticker:
    """Measures how late the loop's timer is while a block runs."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def __aenter__(self) -> Ticker:
        """Start ticking."""
        self._task = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop ticking."""
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(TICK_S)
            self._late.append(time.perf_counter() - start - TICK_S)

    def lines(self, what: str, hold: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield median, 99th percentile and greatest lag."""
        late = np.array(self._late) * 1e3
        yield line("lag of the event loop, p50 ms", what, float(np.percentile(late, 50)))
        yield line("lag of the event loop, p99 ms", what, float(np.percentile(late, 99)), hold)
        yield line("lag of the event loop, greatest ms", what, float(late.max()))


async def idle_lag() -> list[dict[str, Any]]:
    """Return how late the timer is beside one other thread that computes: the machine's own lag."""
    done = threading.Event()

    def busy() -> None:
        rows = np.ones((300, 300), np.float32)
        while not done.is_set():
            rows @ rows

    worker = threading.Thread(target=busy)
    async with Ticker() as ticker:
        worker.start()
        await asyncio.sleep(IDLE_S)
    done.set()
    worker.join()
    return list(ticker.lines("no routes, one thread multiplying matrices"))


async def lag(embedder: str) -> list[dict[str, Any]]:
    """Return how late the loop's timer is while fifty routes at a time are embedded."""
    given = iter(texts(40, CONCURRENT * (ROUNDS + 1), seed=5))
    async with Router(ARMS, seed=0, environ={}, embedding_model=embedder) as router:
        await asyncio.gather(*(router.route(next(given)) for _ in range(CONCURRENT)))
        start = time.perf_counter()
        async with Ticker() as ticker:
            for _ in range(ROUNDS):
                await asyncio.gather(*(router.route(next(given)) for _ in range(CONCURRENT)))
        took_s = time.perf_counter() - start
    what = f"{embedder}, {CONCURRENT} routes at a time, 40 words"
    wall = line("wall ms per route", what, took_s * 1e3 / (CONCURRENT * ROUNDS))
    return [*ticker.lines(what, HOLD_LAG_MS), wall]


def main() -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the routes for memory")
    routes = 20_000 if parser.parse_args().quick else 100_000
    references = list(windows.references())
    rows = [*parts(), *growth(), *hostile()]
    references += windows.references()
    notes = [
        "CPU time of the thread but for lag and wall time; OMP_NUM_THREADS=1.",
        windows.reference_note(references),
    ]
    rows += asyncio.run(memory(routes))
    rows += asyncio.run(idle_lag())
    for embedder in SLOW:
        try:
            rows += asyncio.run(lag(embedder))
        except ConfigurationError as error:
            notes.append(f"{embedder} did not run: {error}")
    for each in rows:
        print(each)
    print("\n".join(notes))
    results_page.write("analysis", rows, title="Reading a text", notes=notes)


if __name__ == "__main__":
    main()
