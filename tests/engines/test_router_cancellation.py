"""Callers that leave `route()` or `feedback()` at any point cost nothing and change no answer."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis

from conduit.cache.base import MemoryCache
from conduit.cache.redis import RedisCache
from conduit.core.models import Feedback, ModelArm, Query
from conduit.engines.analyzer import Analyzer
from conduit.engines.router import Router
from conduit.storage.database import open_store
from conduit.storage.engines import POOL_SIZE
from conduit.storage.migrations import upgrade
from tests.storage.test_outages import cancelled_after, sessions_of

ARMS = [ModelArm("a:one", quality=0.6), ModelArm("b:two", quality=0.7)]
STEPS = 40  # turns of the event loop; a whole call takes fewer


def clients_of(url: str) -> int:
    """Return how many clients a Redis has beside this one."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        database = (urlsplit(url).path or "/0").strip("/") or "0"
        mine = [c for c in client.client_list() if c["db"] == database]
        return len(mine) - 1


async def test_leaving_at_any_point_leaks_nothing(fresh_database: str, redis_url: str) -> None:
    """No session, client or task stays, every reply is that of its question, and sums agree."""
    await asyncio.to_thread(upgrade, fresh_database)
    others = await asyncio.to_thread(clients_of, redis_url)
    tasks = len(asyncio.all_tasks())
    right = Analyzer()
    cache = RedisCache(redis_url, memory=MemoryCache(0), timeout_s=2.0)
    async with await open_store(fresh_database) as store:
        async with Router(ARMS, store=store, cache=cache, environ={}, seed=1) as router:
            finished = [0, 0]
            for step in range(STEPS):
                query = Query(text=f"question {step}")
                finished[0] += await cancelled_after(step, router.route(query))
                decision = await router.route(query)
                vector = right.analyse_now(query).vector
                np.testing.assert_array_equal(decision.features.vector, vector)
                said = Feedback(quality_score=0.5, feedback_id=f"f{step}")
                finished[1] += await cancelled_after(step, router.feedback(decision, said))
                ack = await router.feedback(decision, said)
                assert (ack.feedback_id, ack.status in ("stored", "duplicate")) == (
                    f"f{step}",
                    True,
                )
            await router.sync()
            assert router.learner.applied == STEPS
            assert await asyncio.to_thread(clients_of, redis_url) - others <= 1
            await asyncio.sleep(0.05)
            states = await sessions_of(fresh_database)
            assert len(states) <= POOL_SIZE
            assert set(states.values()) <= {"idle"}
            assert max(finished) < STEPS  # many were cancelled on their way
        other = await open_store(fresh_database)
        async with other, Router(ARMS, store=other, environ={}) as replica:
            assert replica.learner.applied == STEPS
    await asyncio.sleep(0.05)
    assert await sessions_of(fresh_database) == {}
    assert await asyncio.to_thread(clients_of, redis_url) == others
    assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("step", range(4))
async def test_a_cancelled_start_can_be_repeated(fresh_database: str, step: int) -> None:
    """A router whose first call was cancelled while it loaded works at the next."""
    await asyncio.to_thread(upgrade, fresh_database)
    async with await open_store(fresh_database) as store:
        router = Router(ARMS, store=store, environ={}, seed=1)
        await cancelled_after(step, router.route("hello"))
        assert (await router.route("hello")).selected_model in ("a:one", "b:two")
        await router.close()
