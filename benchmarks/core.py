"""What one decision and one update cost: CPU microseconds of this thread, and the state's size.

    python -m benchmarks.core [--quick]

Peers are measured beside it through their own public calls, on the same vectors and outcomes.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from benchmarks import results_page, windows
from benchmarks.peers import PEERS, Peer
from conduit.core.events import Outcome
from conduit.core.models import ModelArm, as_vector
from conduit.engines.bandits.policies import BanditPolicy
from conduit.engines.learner import Learner

Row = dict[str, float | str]
HOLD_US = {5: (30.0, 30.0), 50: (100.0, 100.0)}  # models: decide, apply, of 29 features


def learner_of(k: int, d: int, *, change_detection: bool = True, known: bool = True) -> Learner:
    """Return a learner of k priced models over d features; `known`: their output and time too."""
    arms = [
        ModelArm(
            f"model-{i}",
            input_usd_per_mtok=1.0 + i,
            output_usd_per_mtok=3.0 + i,
            output_tokens=200.0 if known else None,
            quality=0.5 + 0.4 * i / k,
            latency_s=1.0 if known else None,
        )
        for i in range(k)
    ]
    return Learner(arms, d, seed=1, change_detection=change_detection)


def world(k: int, d: int, n: int, seed: int = 0) -> list[Outcome]:
    """Return n outcomes of a seeded world."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) / np.sqrt(d)
    x[:, 0] = 1.0
    rated = rng.random(n) < 0.7
    return [
        Outcome(
            f"model-{int(rng.integers(k))}",
            as_vector(x[i]),
            quality=float(rated[i]),
            cost_usd=0.001,
            input_tokens=50.0,
            output_tokens=float(rng.integers(50, 400)),
            latency_s=float(rng.random() + 0.5),
        )
        for i in range(n)
    ]


def spent_us(call: Callable[[Outcome], object], events: Sequence[Outcome]) -> windows.Floats:
    """Return the CPU microseconds of each call."""
    spent = np.empty(len(events))
    for i, event in enumerate(events):
        start = time.thread_time_ns()
        call(event)
        spent[i] = time.thread_time_ns() - start
    return spent / 1e3


def row_of(k: int, d: int, n: int, *, known: bool = True) -> Row:
    """Measure our learner at one size; not `known`: of half of the models nothing comes back."""
    learner, events = learner_of(k, d, known=known), world(k, d, n)
    if not known:
        events = [e for e in events if int(e.model.removeprefix("model-")) < k // 2]
    for event in events[: n // 4]:
        learner.apply(event)
    decided, applied = [], []
    for start in range(0, len(events), windows.CALLS):  # in turns, so that both see every hour
        window = events[start : start + windows.CALLS]
        decided.append(spent_us(lambda e: learner.decide(e.x, input_tokens=50.0), window))
        applied.append(spent_us(learner.apply, window))
    decide, apply = np.concatenate(decided), np.concatenate(applied)
    name = "conduit" if known else "conduit, half of the models never tried"
    state_kb = len(learner.snapshot().to_bytes()) / 1000
    return {**_row(name, k, d, decide, apply), "state KB": state_kb}


def row_of_peer(peer: Peer, k: int, d: int, n: int) -> Row:
    """Measure a peer at one size: its choice, and its learning from one reward."""
    rival, events = peer.make(peer.defaults)(k, d, 1), world(k, d, n)
    vectors = [np.asarray(e.x, dtype=np.float64) for e in events]
    decide, learn = np.empty(n), np.empty(n)
    for i, (x, event) in enumerate(zip(vectors, events, strict=True)):
        start = time.thread_time_ns()
        chosen = rival.choose(x)
        middle = time.thread_time_ns()
        rival.learn(x, chosen, float(event.quality or 0.0))
        decide[i], learn[i] = middle - start, time.thread_time_ns() - middle
    return _row(peer.name, k, d, decide / 1e3, learn / 1e3)


def _row(name: str, k: int, d: int, decide: windows.Floats, apply: windows.Floats) -> Row:
    figures = {
        **windows.Spent(decide).figures("decide µs"),
        **windows.Spent(apply).figures("apply µs"),
    }
    row: Row = {"learner": name, "models": k, "features": d, **figures}
    hold = HOLD_US.get(k) if d == 29 and name == "conduit" else None
    if hold is not None:
        found = (figures["decide µs p50 quietest"], figures["apply µs p50 quietest"])
        row["hold"] = f"{hold[0]:g} / {hold[1]:g}"
        row["met"] = " / ".join("yes" if f <= h else "no" for f, h in zip(found, hold, strict=True))
    return row


def residual_after(updates: int, k: int = 5, d: int = 29) -> float:
    """Return how far the kept inverse is from exact after many updates without forgetting."""
    learner, events = learner_of(k, d, change_detection=False), world(k, d, 20_000)
    for i in range(updates):
        learner.apply(events[i % len(events)])
    policy = learner.policy
    assert isinstance(policy, BanditPolicy)
    return float(policy.estimates.residual())  # type: ignore[union-attr]


def growth_kb(updates: int, k: int = 50, d: int = 29) -> float:
    """Return how many KB a learner grows by after its first thousand updates."""
    learner, events = learner_of(k, d), world(k, d, 5_000)
    for event in events[:1000]:
        learner.apply(event)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(updates):
        learner.apply(events[i % len(events)])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / 1000


def main() -> None:
    """Print and keep the figures."""
    quick = windows.asked(__doc__, ("--quick", "a tenth of the updates")).quick
    rows: list[Row] = []
    references = list(windows.references())

    def add(row: Row) -> None:
        rows.append(row)
        references.extend(windows.references())
        print(row, flush=True)

    for k in (2, 5, 20, 50):
        for d in (29, 37, 64, 384):
            held = k in HOLD_US and d == 29
            calls = windows.CALLS * windows.WINDOWS if held else 200 if d == 384 else 2000
            add(row_of(k, d, calls))
    for k in (5, 50):
        add(row_of(k, 29, 2000, known=False))
    for peer in PEERS:
        if find_spec(peer.distribution.replace("paretobandit", "pareto_bandit")) is not None:
            for k, d in ((2, 29), (5, 29), (20, 29), (50, 29), (5, 64), (5, 384)):
                add(row_of_peer(peer, k, d, 20 if d == 384 else 60 if quick else 200))
    updates = 100_000 if quick else 1_000_000
    residual, grown = residual_after(updates), growth_kb(updates)
    notes = [
        "CPU time of the thread; OMP_NUM_THREADS=1. 37 features are 29 and 8 task columns.",
        windows.NOTE,
        windows.reference_note(references),
        f"greatest |A·A⁻¹ − I| after {updates:,} updates of 5 models: {residual:.1e}",
        f"memory grown by {updates:,} updates of 50 models after the first 1,000: {grown:.0f} KB",
    ]
    print("\n".join(notes))
    results_page.write("core", rows, title="The learning core", notes=notes)


if __name__ == "__main__":
    main()
