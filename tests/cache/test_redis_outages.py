"""Redis absent, frozen, killed, emptied, full of garbage or badly connected: never a failure."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import redis

from conduit.cache.base import MemoryCache
from conduit.cache.breaker import CircuitBreaker
from conduit.cache.redis import RedisCache
from conduit.testing.caches import features_of, key_of
from tests.cache.conftest import (
    Stalls,
    at_once,
    quick_breaker,
    remote_only,
    serving,
    stored,
    until,
)
from tests.faultproxy import FaultProxy, Faults
from tests.servers import RedisServer

KEYS = 200
IN_MEMORY = 20  # so that most lookups need Redis
LONGEST_S = 1.0  # of 30 ms wanted; `benchmarks/cache_outages.py` has the milliseconds


def small_cache(url: str) -> RedisCache:
    """Return a cache with a small memory and a breaker that does not keep a test waiting."""
    return RedisCache(url, memory=MemoryCache(IN_MEMORY), breaker=quick_breaker())


@dataclass
class Load:
    """Queries that never stop: each looks up, and puts what was missing; answers are checked.

    While the circuit is open no lookup waits for anything.
    """

    cache: RedisCache
    lookups: int = 0
    calls: list[tuple[float, float]] = field(default_factory=list)  # from, to
    workers: list[asyncio.Task[None]] = field(default_factory=list)

    async def work(self, start: int) -> None:
        """Be one worker."""
        for number in itertools.count(start, 7):
            key, right = key_of(number % KEYS), features_of(number % KEYS)
            if self.cache.stats().circuit_state == "open":
                found = at_once(self.cache.get(key))
            else:
                started = time.perf_counter()
                found = await self.cache.get(key)
                self.calls.append((started, time.perf_counter()))
            assert found in (None, right)
            if found is None:
                self.cache.put(key, right)
            self.lookups += 1
            await asyncio.sleep(0.0005)

    async def go_on(self, lookups: int, until_state: str | None = None) -> None:
        """Let so many more lookups happen, and more until the circuit is in a state."""
        wanted = self.lookups + lookups
        await until(
            lambda: (
                all(not worker.done() for worker in self.workers)
                and self.lookups >= wanted
                and until_state in (None, self.cache.stats().circuit_state)
            ),
            timeout_s=30.0,
        )


@contextlib.asynccontextmanager
async def load_on(cache: RedisCache, workers: int = 8) -> AsyncIterator[Load]:
    """Keep workers busy with a cache; their failures are the test's."""
    load = Load(cache)
    load.workers = [asyncio.create_task(load.work(start)) for start in range(workers)]
    try:
        yield load
    finally:
        for worker in load.workers:
            worker.cancel()
        done = await asyncio.gather(*load.workers, return_exceptions=True)
        await cache.close()
    assert [each for each in done if not isinstance(each, asyncio.CancelledError)] == []


def fill_with_garbage(url: str) -> None:
    """Overwrite every key of every program with bytes that mean nothing."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        for number in range(KEYS):
            client.set(f"conduit:f:{key_of(number)}", bytes(range(256)) * (number % 4))


def flush(url: str) -> None:
    """Empty Redis."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.flushall()


@pytest.mark.slow
async def test_ten_thousand_lookups_through_every_outage(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, stalls: Stalls
) -> None:
    """Through every outage nothing raises, no answer is wrong and no lookup is slow."""
    caplog.set_level(logging.DEBUG)
    cache, url = small_cache(redis_server.url), redis_server.url
    outages: list[tuple[str, Callable[[], object], str]] = [
        ("absent at first", lambda: None, "open"),
        ("started", redis_server.start, "closed"),
        ("frozen", redis_server.pause, "open"),
        ("thawed", redis_server.resume, "closed"),
        ("killed", redis_server.kill, "open"),
        ("restarted", redis_server.start, "closed"),
        ("emptied", lambda: flush(url), "closed"),
        ("full of garbage", lambda: fill_with_garbage(url), "closed"),
    ]
    redis_server.stop()
    try:
        async with load_on(cache) as load:
            for what, happen, state in outages:
                logged = len(caplog.records)
                await asyncio.to_thread(happen)
                await load.go_on(1_250, until_state=state)
                assert len(caplog.records) - logged <= 10, (what, caplog.text)
    finally:
        redis_server.start()
    assert load.lookups >= 10_000
    assert stalls.took_s(load.calls).max() < LONGEST_S
    assert cache.stats().hits > 1_000


async def test_a_frozen_redis_costs_a_few_time_outs_and_then_nothing(
    redis_server: RedisServer, stalls: Stalls
) -> None:
    """Five lookups in a row wait their 30 ms, the circuit opens, and no other waits at all."""
    cache = remote_only(redis_server.url, timeout_s=0.030)
    await serving(cache)
    errors = cache.stats().errors
    redis_server.pause()
    calls = []
    try:
        while cache.stats().circuit_state == "closed":
            started = time.perf_counter()
            assert await cache.get(key_of(0)) is None
            calls.append((started, time.perf_counter()))
        assert cache.stats().errors - errors == len(calls) == 5
        assert min(ended - started for started, ended in calls) > 0.025
        assert stalls.took_s(calls).max() < LONGEST_S
        assert at_once(cache.get(key_of(0))) is None
    finally:
        redis_server.resume()
    await cache.close()


async def test_a_trial_is_made_in_the_background(redis_server: RedisServer) -> None:
    """While a trial hangs on a frozen Redis, no lookup waits for it, and closing ends it."""
    cache = remote_only(redis_server.url, timeout_s=0.030)
    redis_server.pause()
    try:
        await cache.get(key_of(0))
        await until(lambda: cache.stats().circuit_state == "half_open")
        for _ in range(20):
            assert at_once(cache.get(key_of(0))) is None
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2
        await cache.close()
        assert len(asyncio.all_tasks()) == 1
    finally:
        redis_server.resume()


async def test_closing_does_not_wait_for_a_redis_that_hangs(redis_server: RedisServer) -> None:
    """After a second the exchange under way is given up, and its lookups are misses."""
    cache = remote_only(redis_server.url, timeout_s=60.0)
    redis_server.pause()
    try:
        lookup = asyncio.create_task(cache.get(key_of(0)))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30.0):
            await cache.close()
        assert lookup.done()
        assert lookup.result() is None
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        redis_server.resume()


async def test_no_lookup_is_sent_twice(redis_server: RedisServer) -> None:
    """A connection that breaks is a miss: the client retries nothing."""
    at = urlsplit(redis_server.url)
    async with FaultProxy("127.0.0.1", at.port or 0, faults=Faults(reset=True)) as proxy:
        cache = remote_only(proxy.url(redis_server.url))
        assert await cache.get(key_of(0)) is None
        assert proxy.accepted == 1
        await cache.close()


async def test_a_redis_that_takes_no_writes_stays_out(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """A full Redis answers PING but does not serve, so the circuit does not flap."""
    cache = remote_only(redis_server.url)
    await serving(cache)
    used = admin.info("memory")["used_memory"]
    admin.config_set("maxmemory", used // 2)
    try:
        while cache.stats().circuit_state == "closed":
            cache.put(key_of(0), features_of(0))
            await asyncio.sleep(0.001)
        for _ in range(200):
            assert await cache.get(key_of(0)) is None
            assert cache.stats().circuit_state != "closed"
            await asyncio.sleep(0.005)
    finally:
        admin.config_set("maxmemory", 0)
    await serving(cache)
    await cache.close()


NETWORKS = [
    Faults(latency_s=0.050),
    Faults(blackhole=True),
    Faults(reset=True),
    Faults(refuse=True, reset=True),
    Faults(corrupt=0.01),
    Faults(corrupt=0.3),
    Faults(slice_bytes=1, latency_s=0.001),
]


@pytest.mark.parametrize("faults", NETWORKS, ids=str)
async def test_a_bad_network_costs_misses_only(
    redis_server: RedisServer,
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    stalls: Stalls,
) -> None:
    """Behind any bad network answers are right or missing, in time, and it recovers."""
    caplog.set_level(logging.DEBUG, logger="conduit")
    at = urlsplit(redis_server.url)
    async with FaultProxy("127.0.0.1", at.port or 0, seed=3) as proxy:
        cache = small_cache(proxy.url(redis_server.url))
        async with load_on(cache) as load:
            await load.go_on(100)
            await proxy.set(faults)
            await load.go_on(600)
            await proxy.set(Faults())
            await load.go_on(10, until_state="closed")
    assert stalls.took_s(load.calls).max() < LONGEST_S
    assert len(caplog.records) <= 10, caplog.text


class Seconds:
    """A clock of the cache on which a test lets one lookup happen per second."""

    def __init__(self, server: RedisServer) -> None:
        self.now_s = 0.0
        self.cache = RedisCache(server.url, timeout_s=2.0, clock=lambda: self.now_s)

    async def pass_by(self, seconds: int) -> None:
        """Let seconds pass, in a hundredth of the time."""
        for _ in range(seconds):
            self.now_s += 1.0
            await self.cache.get(key_of(0))
            await asyncio.sleep(0.01)


async def test_a_hiccup_is_no_news(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A time-out that the next trial does not confirm opens the circuit and is not logged."""
    cache = remote_only(redis_server.url, timeout_s=0.030)
    redis_server.pause()
    assert await cache.get(key_of(0)) is None
    assert cache.stats().circuit_state == "open"
    redis_server.resume()
    await serving(cache)
    assert caplog.records == []
    await cache.close()


async def test_each_outage_is_told_once_and_its_end_too(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A long outage is one warning; one that follows another is told once the minute is over."""
    caplog.set_level(logging.INFO, logger="conduit")
    clock = Seconds(redis_server)
    await clock.pass_by(1)
    for outage_s in (20, 200):
        redis_server.kill()
        await clock.pass_by(outage_s)
        redis_server.start()
        while clock.cache.stats().circuit_state != "closed":
            await clock.pass_by(1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    await clock.cache.close()


async def test_a_redis_that_comes_and_goes_is_told_once_a_minute(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Many short outages within a minute are one warning and at most one end."""
    caplog.set_level(logging.INFO, logger="conduit")
    at, clock = urlsplit(redis_server.url), Seconds(redis_server)
    async with FaultProxy("127.0.0.1", at.port or 0) as proxy:
        clock.cache = RedisCache(
            proxy.url(redis_server.url),
            timeout_s=2.0,
            breaker=CircuitBreaker(threshold=1, longest_pause_s=0.25),
            clock=lambda: clock.now_s,
        )
        for _ in range(14):
            await clock.pass_by(2)
            await proxy.set(Faults(reset=True, refuse=True))
            await clock.pass_by(2)
            await proxy.set(Faults())
        assert clock.cache.stats().errors >= 7
        assert [record.levelname for record in caplog.records] in (["WARNING", "INFO"], ["WARNING"])
        await clock.cache.close()


async def test_lookups_that_wait_in_line_are_answered_when_the_circuit_opens(
    redis_server: RedisServer,
) -> None:
    """Nobody waits for an exchange that will not be made, and unsent writes are counted."""
    cache = remote_only(redis_server.url, timeout_s=0.1)
    redis_server.pause()
    try:
        first = asyncio.create_task(cache.get(key_of(0)))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(cache.get(key_of(number))) for number in (1, 2)]
        cache.put(key_of(3), features_of(3))
        async with asyncio.timeout(30.0):
            assert await asyncio.gather(first, *others) == [None] * 3
        stats = cache.stats()
        assert (stats.errors, stats.dropped_writes, stats.circuit_state) == (1, 1, "open")
    finally:
        redis_server.resume()
    await cache.close()


async def test_entries_survive_the_reconnection(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """When connections were cut on the server's side, the next lookup after the trial hits."""
    cache = remote_only(redis_server.url)
    await stored(cache, admin, 0)
    admin.client_kill_filter(_type="normal", skipme=True)
    await cache.get(key_of(0))
    await serving(cache)
    assert await cache.get(key_of(0)) == features_of(0)
    await cache.close()
