"""What the features of a query cost: computed, from Redis, and from memory; serial, per query.

python -m benchmarks.cache [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable

import numpy as np

from benchmarks import results_page
from conduit.cache.base import MemoryCache
from conduit.cache.redis import RedisCache
from conduit.core.models import Query, QueryFeatures
from conduit.engines.analyzer import Analyzer
from tests.servers import RedisServer

WORDS = (20, 200)
EMBEDDERS = {"static": 1_000, "all-MiniLM-L6-v2": 100}  # queries of each
WRITTEN = (
    "The invoice of our customer shows a tax rate that does not match what we agreed. Please "
    "explain which rule applies, write a function that parses dates from mixed formats, tell how "
    "many litres flow through a pipe in one hour, and summarise the report in three sentences."
)
VOCABULARY = WRITTEN.split()


def queries(words: int, number: int) -> list[Query]:
    """Return seeded queries of so many words, all different."""
    chance = random.Random(words)
    return [Query(" ".join(chance.choices(VOCABULARY, k=words))) for _ in range(number)]


async def spent_us(answer: Awaitable[object]) -> tuple[float, float]:
    """Return the CPU time of this process and the wall time that an answer took."""
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    await answer
    spent, took = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return spent / 1e3, took / 1e3


async def row_of(url: str, embedder: str, words: int, number: int) -> dict[str, float | str]:
    """Measure one embedder on texts of one length; the ways take turns, so that noise is shared."""
    alone = Analyzer(embedder)
    in_redis = RedisCache(url, memory=MemoryCache(0), timeout_s=1.0)
    shared = Analyzer(alone.embedder, cache=in_redis)
    remembering = Analyzer(alone.embedder, cache=MemoryCache())

    async def compute(query: Query) -> QueryFeatures:
        return alone.analyse_now(query)

    ways = {"computed": compute, "Redis": shared.analyse, "memory": remembering.analyse}
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for query in queries(words, number):
        await shared.analyse(query)
        await remembering.analyse(query)
        for way, answer in ways.items():
            spent[way].append(await spent_us(answer(query)))
    assert in_redis.stats().hits == number
    await in_redis.close()
    cost = {way: np.median(each, axis=0).tolist() for way, each in spent.items()}
    return {
        "embedder": embedder,
        "words": words,
        "computed CPU µs": cost["computed"][0],
        "computed wall µs": cost["computed"][1],
        "Redis hit CPU µs": cost["Redis"][0],
        "Redis hit wall µs": cost["Redis"][1],
        "memory hit CPU µs": cost["memory"][0],
        "Redis hit / computed, CPU": cost["Redis"][0] / cost["computed"][0],
        "Redis hit / computed, wall": cost["Redis"][1] / cost["computed"][1],
    }


def main() -> None:
    """Print a table and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a fifth of the queries; not kept")
    quick = parser.parse_args().quick
    with RedisServer() as server:
        rows = [
            asyncio.run(row_of(server.url, embedder, words, number // 5 if quick else number))
            for embedder, number in EMBEDDERS.items()
            for words in WORDS
        ]
    for row in rows:
        shown = (f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(" | ".join(shown))
    if not quick:
        results_page.write(
            "cache",
            rows,
            title="Features of a query: computed, from Redis on this machine, from memory",
            notes=[
                "Medians, one query at a time. Where a hit costs more than computing, as with the "
                "default embedder, Redis only shares work that is cheaper to repeat.",
            ],
        )


if __name__ == "__main__":
    main()
