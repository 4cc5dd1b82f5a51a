"""The one place where settings become objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from conduit.catalogue.models import provider_key_names
from conduit.config import Settings, export_dotenv, load_settings
from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm
from conduit.engines.budget import Budget
from conduit.engines.caps import OpinionLimits
from conduit.engines.executor.base import Executor
from conduit.engines.router import Router
from conduit.evaluation.judge import ArbiterEvaluator
from conduit.feedback.collector import FeedbackCollector
from conduit.service.loop import HomeLoop
from conduit.service.purse import listed
from conduit.service.service import Service
from conduit.storage.base import Store

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///conduit.db"


def create_service_sync(**options: Any) -> Service:
    """Return what `create_service` does, living in an event loop of its own, for synchronous code.

    Use `complete_sync`, `run_sync` and, at the end, `close_sync`.
    """
    loop = HomeLoop()
    loop.start()
    try:
        service = loop.run(create_service(**options))
    except BaseException:
        loop.stop()
        raise
    service.loop = loop
    return service


async def create_service(
    *,
    default_result_type: Any = str,
    execution_backend: str | None = None,
    models: Sequence[str | ModelArm] | None = None,
    database_url: str | None = None,
    redis_url: str | None = None,
    executor: Executor | None = None,
    budgets: Sequence[Budget] = (),
    evaluator: ArbiterEvaluator | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Service:
    """Return a service that is ready to answer.

    Everything not given here comes from the environment, `.env`, `conduit.yaml` and defaults. The
    history goes to `database_url`; without one, to the SQLite file `conduit.db`. An `evaluator`
    judges a sample of the answers; it is closed with the service.
    """
    budgets = listed(budgets)
    given = {"models": models, "database_url": database_url, "redis_url": redis_url,
             "execution_backend": execution_backend, **options}  # fmt: skip
    if settings is None:
        export_dotenv(provider_key_names(), os.environ)  # vendors look for keys there alone
        settings = load_settings(**{k: v for k, v in given.items() if v is not None})
    if "log_level" in settings.model_fields_set:  # else the application's own set-up stands
        logging.getLogger("conduit").setLevel(settings.log_level)
    evaluator = evaluator or evaluator_of(settings)
    all_budgets = (*budgets, *budgets_of(settings))
    async with AsyncExitStack() as unless_made:
        store = await _opened_store(settings)
        unless_made.push_async_callback(store.close)
        router = router_of(settings, store)
        service = Service(
            router,
            executor or executor_of(settings),
            default_result_type=default_result_type,
            timeout_s=settings.timeout_s,
            budgets=all_budgets,
            collector=collector_of(settings, router),
            store=store,
            evaluator=evaluator,
            environment=settings.environment,
        )
        unless_made.push_async_callback(service.close)
        await router.cache.get("warm-up")  # a Redis that is not there is warned about now
        await router.start()
        unless_made.pop_all()
    return service


async def _opened_store(settings: Settings) -> Store:
    from conduit.storage.database import open_store

    return await open_store(
        settings.database_url or DEFAULT_DATABASE_URL,
        store_text=settings.store_text,
        journal_path=settings.journal_path,
    )


def router_of(settings: Settings, store: Store | None = None) -> Router:
    """Return the router that the settings describe."""
    try:
        return _router_of(settings, store)
    except ConfigurationError as error:
        raise settings.placed(error) from None


def _router_of(settings: Settings, store: Store | None) -> Router:
    return Router(
        settings.models,
        bandit_algorithm=settings.bandit_algorithm,
        use_hybrid=settings.use_hybrid,
        preferences=settings.preferences,
        embedding_model=settings.embedding_model,
        cache_enabled=settings.cache_enabled or settings.redis_url is not None,
        redis_url=settings.redis_url,
        cache_ttl=settings.cache_ttl,
        store=store,
        seed=settings.seed,
        name=settings.router_name,
        secret=None if settings.secret is None else settings.secret.get_secret_value(),
        floor=settings.exploration_floor,
        prior_observations=settings.prior_observations,
        store_text=settings.store_text,
        decision_ttl_s=settings.feedback_days * 86_400.0,
        opinion_limits=limits_of(settings),
    )


def limits_of(settings: Settings) -> OpinionLimits:
    """Return what one user's opinions may amount to."""
    return OpinionLimits(
        per_hour=settings.opinions_per_hour or None,
        times_average=settings.opinions_times_average or None,
    )


def collector_of(settings: Settings, router: Router) -> FeedbackCollector:
    """Return a collector whose memory of queries replicas share where there is a Redis."""
    if settings.redis_url is None:
        return FeedbackCollector(router)
    from conduit.feedback.history_redis import RedisQueryHistoryTracker

    return FeedbackCollector(router, history=RedisQueryHistoryTracker(settings.redis_url))


def executor_of(settings: Settings) -> Executor:
    """Return the executor that the settings name."""
    if settings.execution_backend == "litellm":
        from conduit.engines.executor.litellm import LiteLLMExecutor

        return LiteLLMExecutor()
    from conduit.engines.executor.pydantic_ai import PydanticAIExecutor

    return PydanticAIExecutor()


def budgets_of(settings: Settings) -> tuple[Budget, ...]:
    """Return the spend limit that the settings describe, if they do."""
    if settings.budget_usd is None:
        return ()
    return (
        Budget(
            settings.budget_usd,
            per=settings.budget_per,
            scope=settings.budget_scope,
            pace=settings.budget_pace,
        ),
    )


def evaluator_of(settings: Settings) -> ArbiterEvaluator | None:
    """Return the judge that the settings describe, if they name one."""
    if settings.judge_model is None:
        return None
    return ArbiterEvaluator(
        sample_rate=settings.judge_sample_rate,
        daily_budget_usd=settings.judge_daily_budget_usd,
        model=settings.judge_model,
    )


def create_router(
    arms: Sequence[str | ModelArm] | None = None,
    algorithm: str | None = None,
    **options: Any,
) -> Router:
    """Return a router over the given models and policy; `options` are those of `Router`."""
    named = {"models": arms, "bandit_algorithm": algorithm}
    return Router(**options | {name: value for name, value in named.items() if value is not None})
