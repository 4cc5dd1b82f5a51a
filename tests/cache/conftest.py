"""What the tests of the Redis cache share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import cast

import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from conduit.cache.base import FeatureCache, MemoryCache
from conduit.cache.breaker import CircuitBreaker
from conduit.cache.redis import RedisCache
from conduit.core.models import QueryFeatures
from conduit.testing.caches import features_of, key_of


def quick_breaker() -> CircuitBreaker:
    """Return a breaker whose pauses a test can wait for."""
    return CircuitBreaker(pause_s=0.05, longest_pause_s=0.4)


def remote_only(url: str, *, ttl_s: float = 60.0, timeout_s: float = 2.0) -> RedisCache:
    """Return a cache that remembers nothing by itself, so that every answer comes from Redis.

    It is patient, so that a busy machine does not decide a test that is not about time.
    """
    return RedisCache(
        url, ttl_s, timeout_s=timeout_s, memory=MemoryCache(0), breaker=quick_breaker()
    )


def patient(url: str, *, ttl_s: float = 60.0) -> RedisCache:
    """Return a cache as users have it, but for the time-out, in tests that are not about time."""
    return RedisCache(url, ttl_s, timeout_s=2.0, breaker=quick_breaker())


def at_once(coroutine: Coroutine[object, None, QueryFeatures | None]) -> QueryFeatures | None:
    """Return what a coroutine returns without ever waiting; one that waits is a failure."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(QueryFeatures | None, done.value)
    coroutine.close()
    raise AssertionError("it waited")


class Stalls:
    """Knows when the event loop stood still: a busy machine does not make a call slow."""

    BEAT_S = 0.002

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Take notes until cancelled."""
        while True:
            due = time.perf_counter() + self.BEAT_S
            await asyncio.sleep(self.BEAT_S)
            self._found.append((due, time.perf_counter()))

    def took_s(self, calls: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        """Return how long each call took, from start to end, while the loop was running."""
        spans, stalls = np.array(calls), np.array(self._found)
        starts, ends = (
            np.maximum.outer(spans[:, 0], stalls[:, 0]),
            np.minimum.outer(spans[:, 1], stalls[:, 1]),
        )
        stood_still = np.maximum(ends - starts, 0.0).sum(axis=1)
        return cast(NDArray[np.float64], spans[:, 1] - spans[:, 0] - stood_still)


@pytest.fixture
async def stalls() -> AsyncIterator[Stalls]:
    """Watch the event loop of the test."""
    found = Stalls()
    watching = asyncio.create_task(found.watch())
    yield found
    watching.cancel()


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client of its own to look into Redis."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        yield client


async def until(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Let the loop run until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def serving(cache: FeatureCache) -> None:
    """Use a cache until its circuit is closed, as queries would."""
    deadline = time.monotonic() + 30.0
    await cache.get(key_of(999_999))
    while cache.stats().circuit_state != "closed":
        assert time.monotonic() < deadline, cache.stats()
        await asyncio.sleep(0.01)
        await cache.get(key_of(999_999))


async def stored(cache: FeatureCache, admin: redis.Redis, *numbers: int) -> None:
    """Put entries and wait until Redis has them."""
    for number in numbers:
        cache.put(key_of(number), features_of(number))
    names = [f"conduit:f:{key_of(number)}" for number in numbers]
    await until(lambda: admin.exists(*names) == len(names))
