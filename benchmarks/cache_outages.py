"""Ten thousand routes while Redis is absent, frozen, killed, emptied and filled with garbage.

python -m benchmarks.cache_outages [--quick]

Two routers with one seed route the same texts and learn the same ratings, one with a Redis cache
and one without. A route's longest time is on the wall, without what the kernel counts as waiting
for other processes (Linux). With an open circuit a lookup waits for nothing, so what it adds is
CPU time of the thread, which a busy machine does not blur.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import redis

from benchmarks import results_page
from conduit.cache.base import MemoryCache
from conduit.cache.redis import RedisCache
from conduit.core.models import Feedback, ModelArm, Query
from conduit.engines.router import Router
from tests.servers import RedisServer

TEXTS = 300
IN_MEMORY = 30  # so that most lookups go to Redis
ROUTES = 10_000
ARMS = [
    ModelArm("a:small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.6),
    ModelArm("b:medium", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, quality=0.7),
    ModelArm("c:large", input_usd_per_mtok=5.0, output_usd_per_mtok=20.0, quality=0.8),
]
_WAITED = Path("/proc/thread-self/schedstat")


def waited_s() -> float:
    """Return how long this thread was ready to run while others ran."""
    try:
        return int(_WAITED.read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Lines(logging.Handler):
    """Counts log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1


@dataclass
class Pair:
    """Two routers that see the same, and what each call took."""

    cached: Router
    plain: Router
    routes: int = 0
    different: int = 0
    failed: int = 0
    plain_cpu_s: list[float] = field(default_factory=list)
    open_cpu_s: list[float] = field(default_factory=list)  # of the cached router
    cached_s: list[float] = field(default_factory=list)

    async def route(self) -> None:
        """Route one text twice, and rate both answers."""
        number = self.routes % TEXTS
        text = f"question {number} about {'tax law' if number % 2 else 'parsing dates'}"
        chosen = []
        for router in (self.plain, self.cached):
            state = router.get_cache_stats().circuit_state
            began, cpu, waited = time.perf_counter(), time.thread_time(), waited_s()
            try:
                decision = await router.route(Query(text=text))
            except Exception as error:  # noqa: BLE001  any failure is what this looks for
                logging.getLogger(__name__).error("a route failed: %r", error)
                self.failed += 1
                return
            took, spent = time.perf_counter() - began, time.thread_time() - cpu
            if router is self.plain:
                self.plain_cpu_s.append(spent)
            else:
                self.cached_s.append(took - (waited_s() - waited))
                if state == "open":
                    self.open_cpu_s.append(spent)
            chosen.append((decision.selected_model, decision.confidence))
            score = 0.9 if decision.selected_model == ARMS[number % 3].id else 0.4
            await router.feedback(decision, Feedback(quality_score=score))
        self.different += chosen[0] != chosen[1]
        self.routes += 1

    async def go_on(self, routes: int, state: str) -> None:
        """Route so many times, and on until the circuit is in a state."""
        until = self.routes + routes
        deadline = time.monotonic() + 60
        while self.routes < until or self.cached.get_cache_stats().circuit_state != state:
            assert time.monotonic() < deadline, f"the circuit did not become {state}"
            await self.route()
            await asyncio.sleep(0)


def fill_with_garbage(url: str) -> None:
    """Overwrite every entry with bytes that mean nothing."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        for number, key in enumerate(client.scan_iter("conduit:f:*")):
            client.set(key, bytes(range(256)) * (number % 4))


def flush(url: str) -> None:
    """Empty Redis."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.flushall()


async def scenario(server: RedisServer, routes: int) -> list[dict[str, object]]:
    """Let everything happen to Redis in turn, and return a row for each."""
    lines = Lines()
    logging.getLogger("conduit").addHandler(lines)
    logging.getLogger("conduit").propagate = False
    cache = RedisCache(server.url, memory=MemoryCache(IN_MEMORY))
    happenings: list[tuple[str, Callable[[], object], str]] = [
        ("absent at first", lambda: None, "open"),
        ("started", server.start, "closed"),
        ("SIGSTOP", server.pause, "open"),
        ("SIGCONT", server.resume, "closed"),
        ("SIGKILL", server.kill, "open"),
        ("restarted", server.start, "closed"),
        ("flushed", lambda: flush(server.url), "closed"),
        ("garbage", lambda: fill_with_garbage(server.url), "closed"),
    ]
    rows: list[dict[str, object]] = []
    cached = Router(ARMS, seed=1, cache=cache, environ={})
    async with cached, Router(ARMS, seed=1, environ={}) as plain:
        pair = Pair(cached, plain)
        for what, happen, state in happenings:
            logged, begun, hits = lines.count, pair.routes, cache.stats().hits
            pair.cached_s, pair.open_cpu_s, pair.plain_cpu_s = [], [], []
            await asyncio.to_thread(happen)
            await pair.go_on(routes // len(happenings), state)
            rows.append(
                row_of(pair, what, pair.routes - begun)
                | {
                    "hits": cache.stats().hits - hits,
                    "log lines": lines.count - logged,
                    "circuit at the end": cached.get_cache_stats().circuit_state,
                }
            )
        rows.append(
            {
                "Redis": "all",
                "routes": pair.routes,
                "failed": pair.failed,
                "other decisions": pair.different,
            }
        )
    return rows


def row_of(pair: Pair, what: str, routes: int) -> dict[str, object]:
    """Return the figures of one stretch."""
    plain_p99 = float(np.quantile(pair.plain_cpu_s, 0.99))
    row: dict[str, object] = {
        "Redis": what,
        "routes": routes,
        "failed": pair.failed,
        "other decisions": pair.different,
        "longest ms": max(pair.cached_s) * 1e3,
        "p99 without a cache, CPU ms": plain_p99 * 1e3,
    }
    if pair.open_cpu_s:
        open_p99 = float(np.quantile(pair.open_cpu_s, 0.99))
        row["added p99 while open, CPU ms"] = (open_p99 - plain_p99) * 1e3
    return row


def main() -> None:
    """Print a table and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the routes; not kept")
    quick = parser.parse_args().quick
    with RedisServer() as server:
        server.stop()
        rows = asyncio.run(scenario(server, ROUTES // 10 if quick else ROUTES))
    print("\n".join(results_page.as_table(rows)))
    if not quick:
        results_page.write(
            "cache_outages",
            rows,
            title="Whole routes while Redis fails in every way",
            notes=[
                "To hold: nothing failed, no other decision than without a cache, no route over "
                "100 ms, at most 5 ms added at the 99th percentile once the circuit is open, at "
                "most 10 log lines per outage.",
            ],
        )


if __name__ == "__main__":
    main()
