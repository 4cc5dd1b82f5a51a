"""What the features of a query cost: computed, from Redis, and from memory; serial, per query.

python -m benchmarks.cache [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks import results_page
from conduit.cache.base import MemoryCache
from conduit.cache.redis import RedisCache
from conduit.core.models import Query, QueryFeatures
from conduit.engines.analyzer import Analyzer
from tests.servers import RedisServer

WORDS = (20, 200)
EMBEDDERS = ("static", "all-MiniLM-L6-v2")
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


async def cost_us(
    call: Callable[[Query], Awaitable[QueryFeatures]], asked: list[Query]
) -> tuple[float, float]:
    """Return the CPU time of this process and the median wall time per call, in microseconds."""
    for query in asked[: len(asked) // 5]:
        await call(query)
    walls, cpu = [], time.process_time()
    for query in asked:
        started = time.perf_counter()
        await call(query)
        walls.append(time.perf_counter() - started)
    return (time.process_time() - cpu) / len(asked) * 1e6, statistics.median(walls) * 1e6


async def row_of(url: str, embedder: str, words: int, number: int) -> dict[str, float | str]:
    """Measure one embedder on texts of one length."""
    asked = queries(words, number)
    alone = Analyzer(embedder)
    in_redis = RedisCache(url, memory=MemoryCache(0), timeout_s=1.0)
    shared = Analyzer(alone.embedder, cache=in_redis)
    remembering = Analyzer(alone.embedder, cache=MemoryCache())

    async def compute(query: Query) -> QueryFeatures:
        return alone.analyse_now(query)

    computed_cpu, computed_wall = await cost_us(compute, asked)
    redis_cpu, redis_wall = await hits_us(shared, asked)
    memory_cpu, _ = await hits_us(remembering, asked)
    await in_redis.close()
    return {
        "embedder": embedder,
        "words": words,
        "computed CPU µs": computed_cpu,
        "computed wall µs": computed_wall,
        "Redis hit CPU µs": redis_cpu,
        "Redis hit wall µs": redis_wall,
        "memory hit CPU µs": memory_cpu,
        "Redis hit / computed, CPU": redis_cpu / computed_cpu,
        "Redis hit / computed, wall": redis_wall / computed_wall,
    }


async def hits_us(analyzer: Analyzer, asked: list[Query]) -> tuple[float, float]:
    """Fill an analyzer's cache, and measure when every query is a hit."""
    for query in asked:
        await analyzer.analyse(query)
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)  # the last writes
    before = analyzer.cache.stats().misses
    cost = await cost_us(analyzer.analyse, asked)
    assert analyzer.cache.stats().misses == before
    return cost


def main() -> None:
    """Print a table and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a fifth of the queries; not kept")
    number = 100 if parser.parse_args().quick else 500
    with RedisServer() as server:
        rows = [
            asyncio.run(row_of(server.url, embedder, words, number))
            for embedder in EMBEDDERS
            for words in WORDS
        ]
    for row in rows:
        shown = (f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(" | ".join(shown))
    if number == 500:
        results_page.write(
            "cache",
            rows,
            title="Features of a query: computed, from Redis on this machine, from memory",
            notes=[
                "One query at a time. Where a Redis hit costs more than computing, as with the "
                "default embedder, Redis only shares work that is cheaper to repeat.",
            ],
        )


if __name__ == "__main__":
    main()
