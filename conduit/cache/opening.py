"""How settings become a cache."""

from __future__ import annotations

from conduit.cache.base import TTL_S, FeatureCache, MemoryCache


def open_cache(enabled: bool, redis_url: str | None = None, ttl_s: float = TTL_S) -> FeatureCache:
    """Return the cache that settings ask for: none (it keeps nothing), in memory, or with Redis.

    Nothing is connected here. A Redis that does not answer later is warned about once, and the
    cache goes on in memory.
    """
    if not enabled:
        return MemoryCache(max_entries=0)
    if redis_url is None:
        return MemoryCache(ttl_s=ttl_s)
    from conduit.cache.redis import RedisCache  # loads the vendor only for those who use it

    return RedisCache(redis_url, ttl_s=ttl_s)
