"""What a route from raw text costs, and what a fresh process costs, beside the peers.

    python -m benchmarks.route

CPU time of the process, one BLAS thread, unique prompts. `hold` is what the design wants, judged in
the quietest window of calls (`benchmarks/windows.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from benchmarks import results_page, windows
from benchmarks.route_peers import EXAMPLES_PER_MODEL, MODELS, PEERS, Route
from conduit import ModelArm, Query, Router

WARM, TIMED = 200, windows.CALLS * windows.WINDOWS
PEER_WARM, PEER_TIMED = 10, 100
HOLD_MS = {20: (0.30, 1.0), 200: (1.2, 2.5)}  # words: p50, p99
HOLD_IMPORT_S, HOLD_FIRST_S, HOLD_RSS_MB, HOLD_STATE_KB = 0.35, 0.8, 120.0, 100.0

FRESH = """
import time, sys, resource
import conduit
imported = time.process_time()
names = "torch sklearn scipy litellm redis sqlalchemy pydantic_ai".split()
heavy = [m for m in names if m in sys.modules]
import asyncio, json, socket
from conduit import Router, Query
def refused(*_):
    raise OSError("the network is off")
socket.socket.connect = socket.getaddrinfo = refused
async def main():
    await Router(environ={}).route(Query(text="What is 2+2?"))
asyncio.run(main())
print(json.dumps({"import": imported, "first": time.process_time(),
  "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "heavy": heavy}))
"""


@cache
def common_words() -> list[str]:
    """Return the common words of the tokenizer's vocabulary."""
    path = resources.files("conduit.engines.embeddings") / "data" / "vocab.txt"
    known = [w for w in path.read_text().split() if w.isascii() and w.isalpha() and len(w) > 2]
    return known[:8000]


def texts(words: int, n: int, seed: int = 0) -> list[str]:
    """Return unique prompts of so many words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(common_words(), k=words)) + "?" for _ in range(n)]


async def timed(route: Route, words: int, warm: int, n: int) -> windows.Floats:
    """Return the CPU milliseconds of this process per call, after warming up."""
    found = texts(words, warm + n)
    for text in found[:warm]:
        await route(text)
    spent = np.empty(n)
    for i, text in enumerate(found[warm:]):
        start = time.process_time_ns()
        await route(text)
        spent[i] = time.process_time_ns() - start
    return spent / 1e6


def line(
    who: str, what: str, figure: str, found: float, hold: float | None = None
) -> dict[str, Any]:
    """Return one line of the table."""
    met = None if hold is None else "yes" if found <= hold else "no"
    return {"router": who, "does": what, "figure": figure, "found": found, "hold": hold, "met": met}


def route_lines(
    who: str, what: str, words: int, ms: windows.Floats, hold: tuple[float | None, float | None]
) -> Iterator[dict[str, Any]]:
    """Yield median and 99th percentile of a route, in the quietest window and of all calls."""
    figures = windows.Spent(ms).figures(f"route, {words} words, CPU ms")
    for (figure, found), most in zip(figures.items(), (*hold, None, None), strict=True):
        yield line(who, what, figure, found, most)


async def ours() -> list[dict[str, Any]]:
    """Measure `Router.route` on unique prompts, and what five models leave behind."""
    arms = [
        ModelArm(f"a:m{i}", quality=0.5 + 0.05 * i, input_usd_per_mtok=1.0 + i,
                 output_usd_per_mtok=2.0 + i, output_tokens=100)
        for i in range(MODELS)
    ]  # fmt: skip
    router = Router(arms, seed=0, environ={})

    async def route(text: str) -> object:
        return await router.route(Query(text=text))

    what = "signals, static embedding, Thompson over 5 models"
    rows: list[dict[str, Any]] = []
    for words, hold in HOLD_MS.items():
        rows += route_lines("conduit", what, words, await timed(route, words, WARM, TIMED), hold)
    state_kb = len(router.learner.snapshot().to_bytes()) / 1000
    rows.append(line("conduit", "persisted state of 5 models", "KB", state_kb, HOLD_STATE_KB))
    return rows


def fresh_process(runs: int = 5) -> list[dict[str, Any]]:
    """Return the median figures of a fresh process that imports and routes once, offline."""
    found = []
    for _ in range(runs):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=env
        )
        found.append(json.loads(done.stdout))
    imported, first, rss = (
        float(np.median([f[k] for f in found])) for k in found[0] if k != "heavy"
    )
    fresh = "fresh process, sockets refused"
    return [
        line("conduit", fresh, "import conduit, CPU s", imported, HOLD_IMPORT_S),
        line("conduit", fresh, "heavy modules that the import loads", len(found[0]["heavy"]), 0),
        line("conduit", fresh, "import, Router(), first route, CPU s", first, HOLD_FIRST_S),
        line("conduit", fresh, "the same, MB of resident memory", rss, HOLD_RSS_MB),
    ]


def peers(notes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the peers' lines; one that does not install or run is named with its reason."""
    examples = texts(8, EXAMPLES_PER_MODEL * MODELS, seed=1)
    for peer in PEERS:
        try:
            for who, what, route in peer(examples):
                for words in HOLD_MS:
                    ms = asyncio.run(timed(route, words, PEER_WARM, PEER_TIMED))
                    yield from route_lines(who, what, words, ms, (None, None))
        except Exception as error:  # noqa: BLE001  a peer's failure is a line of the page
            notes.append(f"{peer.__name__} did not run: {type(error).__name__}: {str(error)[:160]}")


def main() -> None:
    """Print and keep the figures."""
    windows.asked(__doc__)
    references = list(windows.references())
    rows = [*fresh_process(), *asyncio.run(ours())]
    references += windows.references()
    notes = [
        "CPU time of the process, unique prompts, 5 models, OMP_NUM_THREADS=1; of a fresh process "
        "the median of five.",
        f"Load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores: beside other work, CPU "
        "time is up to twice what it is on an idle machine.",
        windows.NOTE,
        windows.reference_note(references),
        "All-MiniLM-L6-v2 is a transformer; where a peer embeds with it, that is most of its time.",
    ]
    rows += peers(notes)
    for each in rows:
        print(each)
    print("\n".join(notes))
    results_page.write("route", rows, title="From text to decision", notes=notes)


if __name__ == "__main__":
    main()
