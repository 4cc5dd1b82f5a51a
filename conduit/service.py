"""The service: the one place where settings become objects, and a prompt becomes an answer."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from conduit.catalogue.models import provider_key_names
from conduit.config import Settings, export_dotenv, load_settings
from conduit.core.errors import BudgetExceeded, ConduitError, InvalidInput, UnknownDecision
from conduit.core.models import (
    Feedback,
    ModelArm,
    Preferences,
    Query,
    QueryConstraints,
    Response,
    RoutingDecision,
    RoutingResult,
)
from conduit.engines.budget import MAX_OUTPUT_TOKENS, Budget, Budgets, Hold, worst_case_usd
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.chain import AttemptRecord, ChainStream, run_chain, stream_chain
from conduit.engines.executor.health import ModelHealth
from conduit.engines.router import Router, RouterStats, user_key
from conduit.evaluation.calibration import CalibrationReport, calibrate
from conduit.evaluation.graders import Grader, Prompt
from conduit.feedback.collector import FeedbackCollector, SignalStats
from conduit.storage.base import Ack, ResponseRecord, Store, StoreHealth, new_id

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///conduit.db"
REMEMBERED = 10_000  # answers that feedback can name without asking the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The truth about the parts of a service at this moment."""

    ok: bool
    store: StoreHealth
    cache: str  # the state of its circuit, or that it is in memory
    models_unavailable: Mapping[str, str] = field(default_factory=dict)
    learning_paused: str | None = None
    feedback_waiting: int = 0  # observations on their way to the log


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStats:
    """What a service has done since it started."""

    requests: int
    answered: int
    failed: int
    attempts: int
    cost_usd: float
    unknown_cost: int
    router: RouterStats
    signals: SignalStats
    budget_left_usd: float | None = None


class Service:
    """Completes prompts with the model that the router picks, and teaches it what came of it."""

    def __init__(
        self,
        router: Router,
        executor: Executor,
        *,
        default_result_type: Any = str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        budgets: Sequence[Budget] = (),
        collector: FeedbackCollector | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Put the parts together; `store` is closed with the service when it is given."""
        self.router = router
        self.executor = executor
        self.default_result_type = default_result_type
        self.timeout_s = timeout_s
        self.health_of_models = ModelHealth()
        self.collector = collector or FeedbackCollector(router)
        self._budgets = Budgets(budgets, router.store, router.name, clock=clock)
        self._store = store
        self._clock = clock
        self._loop = _Loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answers: OrderedDict[str, tuple[RoutingDecision, str]] = OrderedDict()
        self._requests = self._answered = self._attempts = self._unknown_cost = 0
        self._cost_usd = 0.0

    # answering ---------------------------------------------------------------------------------

    async def complete(
        self,
        prompt: str | Sequence[Any],
        *,
        result_type: Any = None,
        user_id: str | None = None,
        task: str | None = None,
        context: Mapping[str, Any] | None = None,
        constraints: QueryConstraints | Mapping[str, Any] | None = None,
        preferences: Preferences | str | Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        timeout_s: float | None = None,
        fallback: bool = True,
        **call: Any,
    ) -> RoutingResult[Any]:
        """Return the answer in the form asked for, with its receipt.

        `call` takes what the executor's `Call` knows: message_history, system_prompt, tools,
        toolsets, model_settings, deps, output_retries.
        """
        query = _query(prompt, user_id, task, context, constraints, preferences, conversation_id)
        request = await self._begin(query, prompt, result_type, timeout_s, call)
        try:
            served = await run_chain(
                self.executor,
                request.arms,
                request.call,
                deadline=request.deadline,
                health=self.health_of_models,
                on_attempt=request.attempts.append,
                fallback=fallback,
            )
        finally:
            await self._end(request)
        return self._result(
            request, served.answer.data, served.answer.response, served.answer.messages
        )

    @asynccontextmanager
    async def stream(
        self,
        prompt: str | Sequence[Any],
        *,
        result_type: Any = None,
        user_id: str | None = None,
        task: str | None = None,
        context: Mapping[str, Any] | None = None,
        constraints: QueryConstraints | Mapping[str, Any] | None = None,
        preferences: Preferences | str | Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        timeout_s: float | None = None,
        fallback: bool = True,
        **call: Any,
    ) -> AsyncIterator[AnswerInParts]:
        """Give the answer piece by piece; leaving the context closes the connection."""
        query = _query(prompt, user_id, task, context, constraints, preferences, conversation_id)
        request = await self._begin(query, prompt, result_type, timeout_s, call)
        try:
            async with stream_chain(
                self.executor,
                request.arms,
                request.call,
                deadline=request.deadline,
                health=self.health_of_models,
                on_attempt=request.attempts.append,
                fallback=fallback,
            ) as pieces:
                yield AnswerInParts(self, request, pieces)
        finally:
            await self._end(request)

    async def complete_batch(
        self,
        prompts: Sequence[str],
        *,
        concurrency: int = 8,
        progress: bool = True,
        **options: Any,
    ) -> list[RoutingResult[Any] | ConduitError]:
        """Return one result per prompt, in order; a failure is its error, as a value."""
        if concurrency < 1:
            raise InvalidInput("concurrency must be at least 1", field="concurrency")
        from conduit.progress import progress_bar

        gate = asyncio.Semaphore(concurrency)
        with progress_bar("Completing", len(prompts), shown=progress) as advance:

            async def one(prompt: str) -> RoutingResult[Any] | ConduitError:
                async with gate:
                    try:
                        return await self.complete(prompt, **options)
                    except ConduitError as error:
                        return error
                    finally:
                        advance()

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(prompt)) for prompt in prompts]
        return [task.result() for task in tasks]

    async def _begin(
        self,
        query: Query,
        prompt: str | Sequence[Any],
        result_type: Any,
        timeout_s: float | None,
        options: Mapping[str, Any],
    ) -> _Request:
        self._requests += 1
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        call = Call(prompt, result_type=result_type or self.default_result_type, **options)
        unavailable = self.health_of_models.blocked(
            time.monotonic(), list(self.router.learner.models)
        )
        if len(unavailable) == len(self.router.learner.models):
            unavailable = {}  # every model is in trouble: the chain asks the one that is free first
        decision = await self.router.route(
            query, unavailable=unavailable, cost_weight=self._budgets.cost_weight
        )
        arms = [self.router.arm(model) for model in decision.candidates]
        hold = None
        if self._budgets.budgets:
            hold, arms, call = await self._afford(decision, arms, call)
        return _Request(
            id=new_id(self._clock()),
            query=query,
            decision=decision,
            arms=arms,
            call=call,
            deadline=deadline,
            hold=hold,
        )

    async def _afford(
        self, decision: RoutingDecision, arms: list[ModelArm], call: Call
    ) -> tuple[Hold, list[ModelArm], Call]:
        """Set aside the worst case of the candidates that the budget still allows."""
        settings = dict(call.model_settings or {})
        most = float(settings.setdefault("max_tokens", MAX_OUTPUT_TOKENS))
        tokens = float(decision.features.token_estimate)
        key = user_key(decision.user_id)
        worst = {a.id: worst_case_usd(a, tokens, most) for a in arms}
        left = await self._budgets.left_usd(key)
        within = [a for a in arms if (w := worst[a.id]) is not None and w <= left]
        amount = max((worst[a.id] or 0.0 for a in within), default=None)
        if amount is None:
            known = [w for w in worst.values() if w is not None]
            amount = min(known) if known else left + 1.0
        hold = await self._budgets.reserve(amount, key)
        return hold, within, replace(call, model_settings=settings)

    async def _end(self, request: _Request) -> None:
        """Book the money, and hand what the attempts showed to the background."""
        self._attempts += len(request.attempts)
        if request.hold is not None:
            spent = request.spent_usd()
            await asyncio.shield(self._budgets.settle(request.hold, spent))
            paid = request.hold.amount_usd if spent is None else spent
            await self._budgets.pace(paid, user_key(request.decision.user_id))
        if request.attempts:
            self._spawn(self._learn(request))

    async def _learn(self, request: _Request) -> None:
        for attempt in request.attempts:
            await self.router.store.record_response(self._history(request, attempt))
        await self.collector.observe(request.decision, request.query, request.attempts)

    def _history(self, request: _Request, attempt: AttemptRecord) -> ResponseRecord:
        response = attempt.response or Response(model=attempt.model, latency_s=attempt.latency_s)
        return ResponseRecord(
            id=request.id if attempt.failure is None else new_id(self._clock()),
            decision_id=request.decision.id,
            router=self.router.name,
            created_at=self._clock(),
            response=response,
            user_key=user_key(request.decision.user_id),
            error=attempt.failure,
        )

    def _result(
        self, request: _Request, data: T, response: Response, messages: Sequence[Any]
    ) -> RoutingResult[T]:
        self._answered += 1
        if response.cost_usd is None:
            self._unknown_cost += 1
        else:
            self._cost_usd += response.cost_usd
        self._answers[request.id] = (request.decision, response.model)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return RoutingResult(
            id=request.id,
            data=data,
            model=response.model,
            decision=request.decision,
            response=response,
            messages=messages,
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def calibrate(
        self,
        prompts: Sequence[Prompt | str | Mapping[str, Any]],
        *,
        grader: Grader | type | None = None,
        models: Sequence[str] | None = None,
        max_usd: float | None = None,
        result_type: Any = None,
        concurrency: int = 8,
        progress: bool = True,
        resume: bool = True,
    ) -> CalibrationReport:
        """Have every model answer every prompt, grade the answers, and start warm.

        `grader` is a callable, a pydantic type, or nothing where the prompts say what is expected.
        """
        from conduit.progress import progress_bar

        total = len(prompts) * len(models or self.router.models)
        with progress_bar("Calibrating", total, shown=progress) as advance:
            return await calibrate(
                self.router,
                self.executor,
                prompts,
                grader=grader,
                models=models,
                max_usd=max_usd,
                result_type=result_type or self.default_result_type,
                concurrency=concurrency,
                timeout_s=self.timeout_s,
                resume=resume,
                advance=advance,
            )

    def complete_sync(self, prompt: str | Sequence[Any], **options: Any) -> RoutingResult[Any]:
        """Return what `complete` would, from a thread without a running event loop."""
        return self.run_sync(self.complete(prompt, **options))

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in this service's own event loop, from another thread or after it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._loop.run(work)
        work.close()
        raise RuntimeError("an event loop is running in this thread: await the coroutine instead")

    # feedback ----------------------------------------------------------------------------------

    async def submit_feedback(
        self,
        response_id: str,
        *,
        quality_score: float | None = None,
        user_rating: float | None = None,
        met_expectations: bool | None = None,
        comments: str | None = None,
        feedback_id: str | None = None,
        user_id: str | None = None,
    ) -> Ack:
        """Keep an opinion about an answer and learn from it; returns once it is committed."""
        feedback = Feedback(
            quality_score=quality_score,
            user_rating=user_rating,
            met_expectations=met_expectations,
            comments=comments,
            feedback_id=feedback_id,
            user_id=user_id,
        )
        decision, model = await self._answer_of(response_id)
        return await self.collector.submit(decision, feedback, model=model)

    async def _answer_of(self, response_id: str) -> tuple[RoutingDecision | str, str]:
        known = self._answers.get(response_id)
        if known is not None:
            return known
        stored = await self.router.store.response(self.router.name, response_id)
        if stored is None:
            raise UnknownDecision(response_id, "no answer with this id was given here")
        return stored.decision_id, stored.response.model

    # readings and life -------------------------------------------------------------------------

    async def get_stats(self) -> ServiceStats:
        """Return what this service has done since it started."""
        return ServiceStats(
            requests=self._requests,
            answered=self._answered,
            failed=self._requests - self._answered,
            attempts=self._attempts,
            cost_usd=self._cost_usd,
            unknown_cost=self._unknown_cost,
            router=self.router.get_stats(),
            signals=self.collector.stats(),
            budget_left_usd=await self._budgets.left_usd(None) if self._budgets.budgets else None,
        )

    def get_models(self) -> tuple[ModelArm, ...]:
        """Return the models that can be chosen."""
        return self.router.models

    async def health(self) -> Health:
        """Return the truth about database, log, journal, cache and models."""
        store = await self.router.store_health()
        unavailable = self.health_of_models.blocked(time.monotonic())
        stats = self.router.get_cache_stats()
        return Health(
            ok=store.ok and len(unavailable) < len(self.router.models),
            store=store,
            cache=str(stats.circuit_state or stats.backend),
            models_unavailable=unavailable,
            learning_paused=self.router.get_stats().learning_paused,
            feedback_waiting=len(self._tasks),
        )

    async def flush(self) -> None:
        """Return once everything that was observed so far is committed and learned."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.collector.flush()
        await self.router.flush()

    async def close(self) -> None:
        """Finish the background work, save what was learned, and let go of every resource."""
        await self.flush()
        await self.collector.close()
        await self.router.close()
        await self.executor.close()
        if self._store is not None:
            await self._store.close()

    def close_sync(self) -> None:
        """Close the service, and the event loop that it lived in if that was its own."""
        self.run_sync(self.close())
        self._loop.stop()

    async def __aenter__(self) -> Self:
        """Load what was learned before."""
        await self.router.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the service."""
        await self.close()


@dataclass(slots=True)
class _Request:
    """One prompt on its way."""

    id: str
    query: Query
    decision: RoutingDecision
    arms: Sequence[ModelArm]
    call: Call
    deadline: float
    hold: Hold | None
    attempts: list[AttemptRecord] = field(default_factory=list)

    def spent_usd(self) -> float | None:
        """Return what the attempts cost together, or None when an answer's cost is unknown."""
        if any(
            a.failure is None and (a.response is None or a.response.cost_usd is None)
            for a in self.attempts
        ):
            return None
        return sum(a.response.cost_usd or 0.0 for a in self.attempts if a.response is not None)


class AnswerInParts:
    """An answer on its way; iterate, then read `result`."""

    def __init__(self, service: Service, request: _Request, pieces: ChainStream) -> None:
        """Wrap the pieces of a chain."""
        self._service = service
        self._request = request
        self._pieces = pieces
        self._result: RoutingResult[Any] | None = None
        self.decision = request.decision

    @property
    def id(self) -> str:
        """Return the id under which feedback can be given."""
        return self._request.id

    @property
    def model(self) -> str:
        """Return the model that answers."""
        return self._pieces.arm.id

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return text deltas, or ever more complete data where a type was asked for."""
        return aiter(self._pieces)

    @property
    def result(self) -> RoutingResult[Any]:
        """Return the whole answer; known once the pieces have ended."""
        if self._result is None:
            answer = self._pieces.answer
            self._result = self._service._result(
                self._request, answer.data, answer.response, answer.messages
            )
        return self._result


def _query(
    prompt: str | Sequence[Any],
    user_id: str | None,
    task: str | None,
    context: Mapping[str, Any] | None,
    constraints: QueryConstraints | Mapping[str, Any] | None,
    preferences: Preferences | str | Mapping[str, Any] | None,
    conversation_id: str | None,
) -> Query:
    return Query(
        text=text_of(prompt),
        user_id=user_id,
        task=task,
        context=context,
        constraints=QueryConstraints.of(constraints),
        preferences=None if preferences is None else Preferences.of(preferences),
        conversation_id=conversation_id,
    )


def text_of(prompt: str | Sequence[Any]) -> str:
    """Return what text there is in a prompt: images are routed by the text beside them."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(part for part in prompt if isinstance(part, str)) or "(no text)"


class _Loop:
    """The event loop that a service lives in, for callers that have none."""

    def __init__(self) -> None:
        try:
            self._home: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._home = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wherever that is; start one where there is none yet."""
        if self._home is None:
            self.start()
        home = self._home
        assert home is not None
        if home.is_closed():
            work.close()
            raise RuntimeError(
                "the event loop in which this service was made has ended; make it with "
                "create_service_sync(), or use it within that loop"
            )
        if home.is_running():
            return asyncio.run_coroutine_threadsafe(work, home).result()
        return home.run_until_complete(work)

    def start(self) -> None:
        """Run a loop of our own in a thread."""
        self._home = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._home.run_forever, name="conduit-service", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the loop of our own, if there is one."""
        if self._thread is not None and self._home is not None:
            self._home.call_soon_threadsafe(self._home.stop)
            self._thread.join()
            self._home.close()
            self._thread = None


def create_service_sync(**options: Any) -> Service:
    """Return what `create_service` does, living in an event loop of its own, for synchronous code.

    Use `complete_sync`, `run_sync` and, at the end, `close_sync`.
    """
    loop = _Loop()
    loop.start()
    try:
        service = loop.run(create_service(**options))
    except BaseException:
        loop.stop()
        raise
    service._loop = loop
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
    settings: Settings | None = None,
    **options: Any,
) -> Service:
    """Return a service that is ready to answer.

    Everything not given here comes from the environment, `.env`, `conduit.yaml` and defaults. The
    history goes to `database_url`; without one, to the SQLite file `conduit.db`.
    """
    given = {"models": models, "database_url": database_url, "redis_url": redis_url,
             "execution_backend": execution_backend, **options}  # fmt: skip
    if settings is None:
        export_dotenv(provider_key_names(), os.environ)  # vendors look for keys there alone
        settings = load_settings(**{k: v for k, v in given.items() if v is not None})
    store = await _opened_store(settings)
    router = router_of(settings, store)
    service = Service(
        router,
        executor or executor_of(settings),
        default_result_type=default_result_type,
        timeout_s=settings.timeout_s,
        budgets=(*budgets, *_budgets_of(settings)),
        store=store,
    )
    try:
        await router.cache.get("warm-up")  # a Redis that is not there is warned about now
        await router.start()
    except BaseException:
        await service.close()
        raise
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
    )


def executor_of(settings: Settings) -> Executor:
    """Return the executor that the settings name."""
    if settings.execution_backend == "litellm":
        from conduit.engines.executor.litellm import LiteLLMExecutor

        return LiteLLMExecutor()
    from conduit.engines.executor.pydantic_ai import PydanticAIExecutor

    return PydanticAIExecutor()


def _budgets_of(settings: Settings) -> tuple[Budget, ...]:
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


def create_router(
    arms: Sequence[str | ModelArm] | None = None,
    algorithm: str | None = None,
    **options: Any,
) -> Router:
    """Return a router over the given models and policy; `options` are those of `Router`."""
    if algorithm is not None:
        options["bandit_algorithm"] = algorithm
    return Router(arms, **options)


__all__ = [
    "AnswerInParts",
    "BudgetExceeded",
    "Health",
    "Service",
    "ServiceStats",
    "create_router",
    "create_service",
    "create_service_sync",
]
