"""Features of a query that comes again are remembered; with Redis, by all replicas."""

import asyncio
import os

from conduit import Query, Router


async def main() -> None:
    """Route the same text twice and look at the counts."""
    redis_url = os.environ.get("REDIS_URL")
    if redis_url is None:
        print("REDIS_URL is not set: with it the cache would be shared; going on in memory")
    async with Router(cache_enabled=True, redis_url=redis_url, seed=1) as router:
        for _ in range(3):
            await router.route(Query(text="What is the tallest mountain?"))
        stats = router.get_cache_stats()
        print(f"{stats.backend}: {stats.hits} hits, {stats.misses} misses")


asyncio.run(main())

# REDIS_URL is not set: with it the cache would be shared; going on in memory
# memory: 2 hits, 1 misses
