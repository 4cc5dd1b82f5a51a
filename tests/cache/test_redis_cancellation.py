"""Callers that give up: no wrong reply, no connection and no task is left behind."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

import redis

from conduit.testing.caches import features_of, key_of
from tests.cache.conftest import remote_only, serving, stored, until
from tests.faultproxy import FaultProxy, Faults
from tests.servers import RedisServer


async def test_cancelled_lookups_leave_nothing_behind(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """Through a slow network, lookups cancelled at random moments never cause a wrong reply."""
    at, chance = urlsplit(redis_server.url), random.Random(5)
    slow = Faults(latency_s=0.002, slice_bytes=400)
    async with FaultProxy("127.0.0.1", at.port or 0, faults=slow) as proxy:
        cache = remote_only(proxy.url(redis_server.url))
        await stored(cache, admin, *range(40))
        right = wrong = cancelled = 0

        async def look(number: int) -> None:
            nonlocal right, wrong
            found = await cache.get(key_of(number))
            right += found == features_of(number)
            wrong += found not in (None, features_of(number))

        for _ in range(60):
            lookups = [asyncio.create_task(look(chance.randrange(40))) for _ in range(6)]
            await asyncio.sleep(chance.uniform(0.0, 0.012))
            for lookup in chance.sample(lookups, 3):
                cancelled += lookup.cancel()
            done = await asyncio.gather(*lookups, return_exceptions=True)
            assert all(each is None or isinstance(each, asyncio.CancelledError) for each in done)
        assert wrong == 0
        assert right >= 150
        assert cancelled >= 50
        # One connection of the cache, one of this test.
        assert len(admin.client_list()) == 2
        assert cache.stats().errors == 0
        await cache.close()
        await until(lambda: len(admin.client_list()) == 1)


async def test_a_courier_that_is_cancelled_answers_everybody(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """When the background task itself is ended mid-reply, lookups are misses, and then go on."""
    at, chance = urlsplit(redis_server.url), random.Random(6)
    slow = Faults(latency_s=0.002, slice_bytes=100)
    async with FaultProxy("127.0.0.1", at.port or 0, faults=slow) as proxy:
        cache = remote_only(proxy.url(redis_server.url))
        await stored(cache, admin, *range(20))
        for _ in range(40):
            lookups = [asyncio.create_task(cache.get(key_of(n))) for n in range(5)]
            await asyncio.sleep(chance.uniform(0.0, 0.008))
            for task in asyncio.all_tasks():
                if task.get_name() == "conduit-cache":
                    task.cancel()
            for number, found in enumerate(await asyncio.gather(*lookups)):
                assert found in (None, features_of(number))
        await serving(cache)
        assert await cache.get(key_of(7)) == features_of(7)
        await until(lambda: len(admin.client_list()) == 2)
        await cache.close()
        await until(lambda: len(admin.client_list()) == 1)


async def test_a_time_out_in_the_middle_of_a_reply_spoils_no_other(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """Replies that come after their time are read by nobody."""
    at = urlsplit(redis_server.url)
    async with FaultProxy("127.0.0.1", at.port or 0) as proxy:
        writer = remote_only(redis_server.url)
        await stored(writer, admin, *range(20))
        await writer.close()
        cache = remote_only(proxy.url(redis_server.url), timeout_s=0.02)
        for number in range(60):
            await proxy.set(Faults(latency_s=0.012 if number % 3 == 0 else 0.0, slice_bytes=90))
            assert await cache.get(key_of(number % 20)) in (None, features_of(number % 20))
        await cache.close()
