"""What the tests of the Redis cache share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from conduit.cache.base import FeatureCache, MemoryCache
from conduit.cache.breaker import CircuitBreaker
from conduit.cache.redis import RedisCache
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


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client of its own to look into Redis."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        yield client


async def until(condition: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    """Let the loop run until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def serving(cache: FeatureCache) -> None:
    """Use a cache until its circuit is closed, as queries would."""
    deadline = time.monotonic() + 5.0
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
