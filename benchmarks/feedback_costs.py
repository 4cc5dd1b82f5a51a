"""What processing feedback costs: CPU of a completion, memory of what is pending.

python -m benchmarks.feedback_costs
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results_page, windows
from conduit.core.models import ModelArm, Query, Response
from conduit.engines.executor import FunctionExecutor
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.router import Router
from conduit.feedback.collector import Attempted, FeedbackCollector
from conduit.feedback.retries import trace_of
from conduit.service import Service

BLOCK = 16
BLOCKS = 60
WINDOW = 10  # blocks
CALLS = 1_000
PAIRS = Path(__file__).parents[1] / "tests" / "feedback" / "data" / "pairs.jsonl"
NOTES = [
    "CPU of the process: the answer is read, compared with the user's queries of the last minutes, "
    "written to a log in memory and learned. It runs after the answer is given.",
    f"Added to a completion: blocks of {BLOCK} completions of a service, as they come, less those "
    "of a service that looks at no answer. Alone: one answer after the other, each waited for. Of "
    "both the median of the quietest window, since others use the machine too.",
    "Memory is what tracemalloc counts.",
]
WORDS = [
    "the",
    "router",
    "learns",
    "which",
    "model",
    "answers",
    "best",
    "and",
    "what",
    "it",
    "costs",
    "to",
    "ask",
    "each",
    "of",
    "them",
]


def prompts() -> list[str]:
    """Return prompts as people write them."""
    lines = PAIRS.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(line)["earlier"] for line in lines))


def text_of(words: int, rng: np.random.Generator) -> str:
    """Return prose of a length."""
    said = [str(rng.choice(WORDS)) + ("." if k % 12 == 11 else "") for k in range(words)]
    return " ".join(said).capitalize() + "."


class Deaf(FeedbackCollector):
    """Looks at no answer."""

    async def observe_all(self, requests: Sequence[Attempted]) -> None:
        """Do nothing."""


async def added_ms(words: int) -> float:
    """Return the CPU milliseconds that looking at answers adds to a completion."""
    rng = np.random.default_rng(5)
    texts, asked = [text_of(words, rng) for _ in range(64)], prompts()
    said = {prompt: texts[k % len(texts)] for k, prompt in enumerate(asked)}
    async with service_of(said, FeedbackCollector) as one, service_of(said, Deaf) as other:
        spent = np.zeros((BLOCKS, 2))
        for block in range(BLOCKS):
            for k in (0, 1) if block % 2 else (1, 0):
                gc.collect()
                start = time.process_time()
                await answered((one, other)[k], asked, block * BLOCK)
                spent[block, k] = time.process_time() - start
    medians = np.median(spent.reshape(-1, WINDOW, 2), axis=1)
    with_, without = medians[1:].min(axis=0)  # the first window warms up
    return float(with_ - without) * 1e3 / BLOCK


def service_of(said: dict[str, str], collector: type[FeedbackCollector]) -> Service:
    """Return a service that says what it is told to."""
    router = Router([ModelArm("acme:a"), ModelArm("acme:b")], seed=1, environ={})
    executor = FunctionExecutor(lambda _model, prompt: said[prompt])
    return Service(router, executor, collector=collector(router))


async def answered(service: Service, asked: list[str], first: int) -> None:
    """Complete a block of prompts, and wait until what they showed is learned."""
    for k in range(first, first + BLOCK):
        await service.complete(asked[k % len(asked)], user_id=f"u{k % 40}")
    await service.flush()


async def cpu_ms(words: int) -> float:
    """Return the CPU milliseconds that observing one answer of a user takes."""
    rng = np.random.default_rng(5)
    spent, asked = [], prompts()
    texts = [text_of(words, rng) for _ in range(CALLS)]
    async with Router([ModelArm("acme:a"), ModelArm("acme:b")], seed=1, environ={}) as router:
        collector = FeedbackCollector(router)
        for k, text in enumerate(texts):
            query = Query(text=asked[k % len(asked)], user_id=f"u{k % 40}")
            decision = await router.route(query)
            response = Response(model=decision.selected_model, text=text, latency_s=rng.random())
            attempt = AttemptRecord(
                model=response.model, response=response, latency_s=response.latency_s or 0.0
            )
            start = time.process_time()
            await collector.observe(decision, query, [attempt])
            spent.append(time.process_time() - start)
    return float(np.median(windows.Spent(np.array(spent)).quietest) * 1e3)


async def pending_mb(decisions: int = 10_000) -> tuple[float, float]:
    """Return what decisions take whose feedback has not come, and what recent queries take."""
    rng, asked = np.random.default_rng(6), prompts()
    router = Router([ModelArm(f"acme:{c}") for c in "abcde"], seed=1, environ={})
    collector = FeedbackCollector(router)
    texts = [f"{asked[k % len(asked)]} ({k})" for k in range(decisions)]
    router.route_sync("warm up")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for k, text in enumerate(texts):
        query = Query(text=text, user_id=f"u{k % 2000}")
        decision = router.route_sync(query)
        collector.remember(f"{k}:{rng.random()}", decision, decision.selected_model)
    del decision, query
    gc.collect()
    pending = tracemalloc.get_traced_memory()[0] - before
    for k, text in enumerate(texts):
        await collector.history.add(
            trace_of(text, decision_id=f"decision-{k}", user_id=f"u{k % 2000}", at_s=k / 100)
        )
    recent = tracemalloc.get_traced_memory()[0] - before - pending
    tracemalloc.stop()
    return pending / 1e6, recent / 1e6


def costs() -> list[dict[str, Any]]:
    """Return what processing feedback costs."""
    rows: list[dict[str, Any]] = [
        {"what": f"{what}, an answer of {w} words, CPU ms", "hold": 1.0, "measured": ms}
        for what, measure in (("added to a completion", added_ms), ("alone", cpu_ms))
        for w in (1, 200, 2000)
        for ms in (asyncio.run(measure(w)),)
    ]
    pending, recent = asyncio.run(pending_mb())
    return [
        *rows,
        {"what": "10,000 pending decisions, MB", "hold": 20.0, "measured": pending},
        {"what": "10,000 recent queries of 2,000 users, MB", "hold": 20.0, "measured": recent},
    ]


def main() -> None:
    """Print and keep the figures."""
    windows.asked(__doc__)
    rows = costs()
    for row in rows:
        print(row, flush=True)
    results_page.write("feedback_costs", rows, title="What feedback costs", notes=NOTES)


if __name__ == "__main__":
    main()
