"""What is learned outlives a process, and processes that share a database learn together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from litellm import Router

from conduit.core.errors import StorageUnavailable
from conduit.storage.migrations import upgrade
from conduit_litellm import ConduitRoutingStrategy
from conduit_litellm import strategy as strategy_module
from tests.litellm.conftest import ask, until
from tests.servers import PostgresServer, RedisServer

ROOT = Path(__file__).parents[2]
RATINGS = 60
# Two deployments of equal price, of which only ratings tell which is the better one.
MODELS = [
    {
        "model_name": "g",
        "litellm_params": {
            "model": f"openai/model-{name}",
            "api_key": "k",
            "mock_response": "Yes.",
        },
        "model_info": {"id": name, "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
    }
    for name in ("good", "bad")
]
OTHERS = [
    {**model, "model_info": {**model["model_info"], "id": f"late-{model['model_info']['id']}"}}
    for model in MODELS
]
OTHER_PROCESS = """
import sys, warnings
warnings.simplefilter("ignore")
from litellm import Router
from conduit_litellm import ConduitRoutingStrategy
from tests.litellm.test_storage import MODELS, rate
with ConduitRoutingStrategy(database_url=sys.argv[1], preferences="quality", seed=1) as strategy:
    rate(Router(model_list=MODELS), strategy)
"""


def rate(router: Router, strategy: ConduitRoutingStrategy) -> None:
    """Ask, and rate each answer by who gave it."""
    ConduitRoutingStrategy.setup_strategy(router, strategy)
    for k in range(RATINGS):
        response = router.completion(model="g", messages=ask(f"Question {k}?"))
        good = strategy.decision(response).selected_model == "good"
        strategy.record_feedback(response, quality_score=float(good))


async def shares(router: Router, n: int = 40) -> float:
    """Return the share of requests that the better deployment gets."""
    served = [await router.acompletion(model="g", messages=ask(f"Now {k}?")) for k in range(n)]
    return sum(r._hidden_params["model_id"] == "good" for r in served) / n


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_two_processes_learn_together_and_a_third_starts_where_they_ended(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Ratings of another process move this one's choices, and those of one that starts later."""
    if kind == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/learned.db"
    else:
        url = request.getfixturevalue("fresh_database")
        await asyncio.to_thread(upgrade, url)
    router = Router(model_list=MODELS)
    strategy = ConduitRoutingStrategy(database_url=url, preferences="quality", seed=2)
    async with ConduitRoutingStrategy.setup_strategy(router, strategy):
        await router.acompletion(model="g", messages=ask("hello"))  # the pool is there
        command = [sys.executable, "-c", OTHER_PROCESS, url]
        await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True)
        pool = next(iter(next(iter(strategy._seats.values())).pools.values()))
        await until(lambda: pool.router.learner.applied >= RATINGS)
        assert await shares(router) >= 0.8
    later = Router(model_list=MODELS)
    async with ConduitRoutingStrategy(database_url=url, preferences="quality", seed=3) as third:
        ConduitRoutingStrategy.setup_strategy(later, third)
        assert await shares(later) >= 0.8
        assert third.stats().lost == 0


def patient(redis_url: str) -> ConduitRoutingStrategy:
    """Return a strategy that gives Redis the time that a busy machine takes."""
    strategy = ConduitRoutingStrategy(redis_url=redis_url)
    assert strategy._shared is not None
    strategy._shared.timeout_s = 10.0
    return strategy


def analysed(strategy: ConduitRoutingStrategy) -> int:
    """Return how many texts a strategy had to work out by itself."""
    return strategy._analyzer.stats.analysed


def connections(redis_url: str) -> int:
    """Return how many connections of ours a Redis has."""
    with redis.Redis.from_url(redis_url) as client:
        return sum(c["name"] == "conduit-cache" for c in client.client_list())


async def test_redis_keeps_features_for_other_processes(redis_url: str) -> None:
    """What one strategy worked out of a text is found by another that never saw the text."""
    for new in (5, 0):
        router = Router(model_list=MODELS)
        async with patient(redis_url) as strategy:
            ConduitRoutingStrategy.setup_strategy(router, strategy)
            for k in range(5):
                await router.acompletion(model="g", messages=ask(f"Question {k}?"))
            assert analysed(strategy) == new
            assert connections(redis_url) == 1
        assert connections(redis_url) == 0


def test_redis_is_asked_by_synchronous_calls_after_every_set_up(redis_url: str) -> None:
    """What was kept is found, and each cleanup disconnects what the next set-up opens anew."""
    router, strategy = Router(model_list=MODELS), patient(redis_url)
    for turn in range(3):
        with ConduitRoutingStrategy.setup_strategy(router, strategy):
            router.completion(model="g", messages=ask(f"Turn {turn}?"))
        assert connections(redis_url) == 0
    assert analysed(strategy) == 3
    with patient(redis_url) as other:
        ConduitRoutingStrategy.setup_strategy(router, other)
        for turn in range(3):
            router.completion(model="g", messages=ask(f"Turn {turn}?"))
        assert analysed(other) == 0


async def test_without_its_redis_a_strategy_goes_on(redis_server: RedisServer) -> None:
    """A Redis that is gone costs nothing but the cache: every request is still decided."""
    url = redis_server.url
    redis_server.stop()
    router = Router(model_list=MODELS)
    async with ConduitRoutingStrategy(redis_url=url) as strategy:
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        assert 0.0 <= await shares(router) <= 1.0
        assert strategy.stats().fallbacks == 0
        assert sum(strategy.stats().decisions.values()) == 40


async def rated(strategy: ConduitRoutingStrategy, response: object) -> bool:
    """Return whether a rating is stored, which fails while the database is away."""
    try:
        ack = await strategy.arecord_feedback(response, quality_score=1.0)
    except StorageUnavailable:
        return False
    return ack.status == "stored"


async def test_a_frozen_database_holds_up_no_request(
    own_database: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conduit decides for a group that is first asked for meanwhile, and learns when it is over."""
    monkeypatch.setattr(strategy_module, "OPEN_S", 0.01)
    await asyncio.to_thread(upgrade, own_database)
    router = Router(model_list=[*MODELS, *({**m, "model_name": "late"} for m in OTHERS)])
    async with ConduitRoutingStrategy(database_url=own_database, seed=1) as strategy:
        ConduitRoutingStrategy.setup_strategy(router, strategy)
        postgres_server.pause()
        try:
            for _ in range(3):
                response = await router.acompletion(model="late", messages=ask("A question?"))
        finally:
            postgres_server.resume()
        assert strategy.stats().fallbacks == 0
        async with asyncio.timeout(60.0):
            while not await rated(strategy, response):  # noqa: ASYNC110  until it is back
                await asyncio.sleep(0.05)
        pool = strategy._trips[strategy.decision(response).id].pool
        await until(lambda: pool.router.get_stats().learning_paused is None)
        await until(lambda: pool.router.get_stats().outcomes > 0)
