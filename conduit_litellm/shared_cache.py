"""The features of texts in Redis, reached from any thread and whatever event loop a request has.

Requests come from many loops and from none, so the connection lives in a loop of our own, which
ends with `stop`.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from conduit.cache.base import CacheStats, FeatureCache, MemoryCache
from conduit.core.models import QueryFeatures
from conduit_litellm.worker import Worker


class SharedCache:
    """Remembers in this process, and in Redis between `start` and `stop`, as often as you like."""

    def __init__(self, redis_url: str, ttl_s: float) -> None:
        """Check the address without connecting; a bad one is ConfigurationError."""
        self._url = redis_url
        self._ttl_s = ttl_s
        self.timeout_s: float | None = None  # of an exchange with Redis; None: as RedisCache has it
        self._memory = MemoryCache(ttl_s=ttl_s)
        self._redis = self._new()
        self._worker: Worker | None = None
        self._lock = threading.Lock()  # what is handed to the worker is handed over before it ends

    def _new(self) -> FeatureCache:
        # Here, because it loads the vendor, only for those who use it.
        from conduit.cache.redis import TIMEOUT_S, RedisCache

        timeout_s = TIMEOUT_S if self.timeout_s is None else self.timeout_s
        return RedisCache(self._url, self._ttl_s, timeout_s=timeout_s, memory=self._memory)

    def start(self) -> None:
        """Use Redis from now on."""
        with self._lock:
            if self._worker is None:
                self._redis = self._new()
                self._worker = Worker()

    def stop(self) -> None:
        """Write what is under way, a second at most, and disconnect; memory goes on working."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.flush()
            worker.run(self._redis.close())
            worker.close()

    def fetch(self, key: str) -> Future[QueryFeatures | None] | None:
        """Return the lookup that brings an entry of Redis here; None if there is none to make."""
        if self._memory.get_now(key) is not None:
            return None
        with self._lock:
            return None if self._worker is None else self._worker.submit(self._redis.get(key))

    def get_now(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers; Redis is not asked."""
        return self._memory.get_now(key)

    async def get(self, key: str) -> QueryFeatures | None:
        """Return what this process remembers, else what Redis answers in time."""
        lookup = self.fetch(key)
        return self._memory.get_now(key) if lookup is None else await asyncio.wrap_future(lookup)

    def put(self, key: str, features: QueryFeatures) -> None:
        """Remember, and have Redis told in the background."""
        self._memory.put(key, features)
        with self._lock:
            if self._worker is not None:
                self._worker.submit(self._told(key, features))

    async def _told(self, key: str, features: QueryFeatures) -> None:
        self._redis.put(key, features)

    async def clear(self) -> bool:
        """Forget every entry here and in Redis; False if Redis failed or is not in use."""
        with self._lock:
            work = None if self._worker is None else self._worker.submit(self._redis.clear())
        if work is not None:
            return await asyncio.wrap_future(work)
        await self._memory.clear()
        return False

    def stats(self) -> CacheStats:
        """Return the counts; of Redis, those since the last start."""
        return self._redis.stats()

    async def close(self) -> None:
        """Do what `stop` does without holding up the event loop."""
        await asyncio.to_thread(self.stop)


__all__ = ["SharedCache"]
