"""What every `FeatureCache` must do, as a suite to run on an implementation.

```python
class TestMyCache(CacheContract):
    async def open(self, ttl_s: float) -> FeatureCache:
        return MyCache(ttl_s=ttl_s)
```
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from conduit.cache.base import FeatureCache, cache_key
from conduit.core.models import QueryFeatures

DIM = 37
SHORT_TTL_S = 0.05


def features_of(number: int) -> QueryFeatures:
    """Return features that differ for every number."""
    return QueryFeatures(
        np.array([((number + 1) * column % 97) / 97 for column in range(DIM)], np.float32),
        "contract/1",
        token_estimate=number,
        complexity_score=(number % 11) / 10,
        domain="code" if number % 2 else None,
    )


def key_of(number: int) -> str:
    """Return a key that differs for every number."""
    return cache_key("contract", "contract/1", f"text {number}")


class CacheContract:
    """Subclass it, say in `open` how a cache is made, and let pytest-asyncio (auto) run it."""

    async def open(self, ttl_s: float) -> FeatureCache:
        """Return a new, empty cache whose entries live for `ttl_s` seconds."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, ttl_s: float = 3600.0) -> AsyncIterator[FeatureCache]:
        """Give a new cache and close it afterwards."""
        cache = await self.open(ttl_s)
        try:
            yield cache
        finally:
            await cache.close()

    async def test_what_was_put_comes_back_equal(self) -> None:
        """Every entry comes back under its own key, and a key never put is None."""
        async with self.opened() as cache:
            for number in range(20):
                cache.put(key_of(number), features_of(number))
            for number in range(20):
                assert await cache.get(key_of(number)) == features_of(number)
            assert await cache.get(key_of(20)) is None

    async def test_the_last_put_counts(self) -> None:
        """A second put under a key replaces the first."""
        async with self.opened() as cache:
            for number in range(3):
                cache.put(key_of(0), features_of(number))
            assert await cache.get(key_of(0)) == features_of(2)

    async def test_get_now_is_right_or_none(self) -> None:
        """What `get_now` returns without waiting is what was put, or nothing."""
        async with self.opened() as cache:
            assert cache.get_now(key_of(0)) is None
            cache.put(key_of(0), features_of(0))
            assert cache.get_now(key_of(0)) in (features_of(0), None)

    async def test_entries_end_with_their_time(self) -> None:
        """An entry older than its time to live is gone."""
        async with self.opened(SHORT_TTL_S) as cache:
            cache.put(key_of(0), features_of(0))
            await asyncio.sleep(3 * SHORT_TTL_S)
            assert await cache.get(key_of(0)) is None

    async def test_clear_forgets_everything(self) -> None:
        """After `clear` nothing put before comes back, and the cache can be filled again."""
        async with self.opened() as cache:
            for number in range(10):
                cache.put(key_of(number), features_of(number))
            assert await cache.clear()
            assert [await cache.get(key_of(number)) for number in range(10)] == [None] * 10
            cache.put(key_of(0), features_of(0))
            assert await cache.get(key_of(0)) == features_of(0)

    async def test_every_lookup_is_a_hit_or_a_miss(self) -> None:
        """The counts add up to the lookups, and the rate is unknown before the first."""
        async with self.opened() as cache:
            assert cache.stats().hit_rate is None
            cache.put(key_of(0), features_of(0))
            for number in (0, 1, 0, 2):
                await cache.get(key_of(number))
            stats = cache.stats()
            assert (stats.hits, stats.misses, stats.hit_rate) == (2, 2, 0.5)

    async def test_each_of_many_callers_gets_its_own(self) -> None:
        """Lookups at the same time never meet, whatever their order."""
        async with self.opened() as cache:
            for number in range(50):
                cache.put(key_of(number), features_of(number))
            found = await asyncio.gather(*(cache.get(key_of(n % 60)) for n in range(180)))
            wanted = [features_of(n % 60) if n % 60 < 50 else None for n in range(180)]
            assert found == wanted

    async def test_a_cancelled_lookup_disturbs_no_other(self) -> None:
        """Lookups cancelled at random moments leave every other answer right."""
        async with self.opened() as cache:
            for number in range(50):
                cache.put(key_of(number), features_of(number))
            chance = random.Random(0)
            lookups = [asyncio.create_task(cache.get(key_of(n % 50))) for n in range(200)]
            for lookup in chance.sample(lookups, 100):
                lookup.cancel()
                if chance.random() < 0.1:
                    await asyncio.sleep(0)
            found = await asyncio.gather(*lookups, return_exceptions=True)
            for number, answer in enumerate(found):
                if not isinstance(answer, asyncio.CancelledError):
                    assert answer == features_of(number % 50)

    async def test_closing_twice_is_safe_and_lookups_go_on(self) -> None:
        """A closed cache answers from what it has left, and nothing raises."""
        async with self.opened() as cache:
            cache.put(key_of(0), features_of(0))
            await cache.close()
            assert await cache.get(key_of(0)) in (features_of(0), None)
            cache.put(key_of(1), features_of(1))
