"""`service.health()` tells the truth, whatever stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from conduit.core.models import Feedback, ModelArm
from conduit.engines.executor.base import FunctionExecutor
from conduit.service import create_service
from conduit.service.readings import Health
from conduit.service.service import Service
from conduit.storage.migrations import upgrade
from tests.servers import PostgresServer, RedisServer

ARMS = [ModelArm("a:one", quality=0.6), ModelArm("b:two", quality=0.7)]


async def until(service: Service, condition: Callable[[Health], bool]) -> Health:
    """Let queries go on until the health is as expected."""
    async with asyncio.timeout(30):
        while not condition(health := await service.health()):
            await service.router.route("how are you?" + str(asyncio.get_running_loop().time()))
            await asyncio.sleep(0.02)
    return health


async def test_health_follows_what_happens(
    own_database: str, postgres_server: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Database, journal, lag, cache and breaker are shown as they are, down and up again."""
    await asyncio.to_thread(upgrade, own_database)
    service = await create_service(
        models=ARMS,
        database_url=own_database,
        redis_url=redis_server.url,
        journal_path=str(tmp_path / "journal"),
        executor=FunctionExecutor(lambda model, prompt: "yes"),
    )
    router = service.router
    try:
        await router.route("first")
        well = await until(service, lambda h: h.cache == "closed")
        assert (well.ok, well.store.ok, well.store.backend) == (True, True, "postgresql")
        assert (well.store.journal_depth, well.store.log_lag, well.learning_paused) == (0, 0, None)

        await asyncio.to_thread(redis_server.kill)
        without = await until(service, lambda h: h.cache == "open")
        assert without.ok  # a cache is not what an answer needs
        await asyncio.to_thread(redis_server.start)
        assert (await until(service, lambda h: h.cache == "closed")).ok

        await asyncio.to_thread(postgres_server.stop)
        decision = await router.route("while it is away")
        ack = await router.feedback(decision, Feedback(quality_score=1.0))
        assert ack.status == "journaled"
        away = await until(service, lambda h: h.learning_paused is not None)
        assert (away.ok, away.store.ok, away.store.journal_depth) == (False, False, 1)
        assert away.store.detail is not None
        await asyncio.to_thread(postgres_server.start)
        back = await until(service, lambda h: h.ok and h.store.journal_depth == 0)
        assert back.store.detail is None
        await router.sync()
        assert router.learner.applied == 1
        assert (await service.health()).store.log_lag == 0
    finally:
        await service.close()
