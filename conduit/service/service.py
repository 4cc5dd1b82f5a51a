"""The service: a prompt in, the answer of the model that was worth it out."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import signature
from typing import Any, Self, TypeVar

from conduit import telemetry
from conduit.core.errors import InvalidInput, StorageUnavailable, finite, unknown_name, whole
from conduit.core.models import (
    Feedback,
    ModelArm,
    Preferences,
    QueryConstraints,
    RoutingResult,
)
from conduit.engines.budget import Budget, Budgets
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.chain import run_chain, stream_chain
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.leftovers import Leftovers
from conduit.engines.router import Router
from conduit.evaluation.calibration import CalibrationReport, calibrate, distinct
from conduit.evaluation.graders import Grader, Prompt
from conduit.evaluation.judge import ArbiterEvaluator
from conduit.feedback.collector import FeedbackCollector
from conduit.feedback.events import FeedbackPayload, SignalEvent, SignalPayload, Target
from conduit.loops import running_loop
from conduit.service.desk import Desk
from conduit.service.judging import Judging
from conduit.service.loop import HomeLoop
from conduit.service.purse import listed
from conduit.service.readings import Health, ServiceStats
from conduit.service.requests import AnswerInParts, closed, query_of
from conduit.storage.base import Ack, Store

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 60.0
CLOSE_S = 5.0  # in which what is under way may still end when a service closes
# What `complete` and `stream` hand to the executor as it is.
CALL_OPTIONS = (
    "message_history", "system_prompt", "tools", "toolsets", "model_settings", "deps",
    "output_retries", "idempotency_key",
)  # fmt: skip


class Service:
    """Completes prompts with the model that the router picks, and teaches it what came of it.

    It lives in the event loop in which it was made, or else first used: awaited in another one, it
    raises ConfigurationError. Threads have `complete_sync` and `run_sync`.
    """

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
        evaluator: ArbiterEvaluator | None = None,
        environment: str = "development",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Put the parts together; a `store` or an `evaluator` is closed with the service."""
        self.router = router
        self.executor = executor
        self.default_result_type = default_result_type
        self.timeout_s = _seconds(timeout_s)
        self.health_of_models = ModelHealth()
        self.collector = collector or FeedbackCollector(router)
        self.environment = environment  # a name for health reports and spans
        self.loop = HomeLoop()
        self._leftovers = Leftovers()
        self._budgets = Budgets(listed(budgets), router.store, router.name, clock=clock)
        self.evaluator = evaluator
        self.desk = Desk(
            router,
            self.collector,
            self._budgets,
            self.health_of_models,
            home=self.loop,
            judging=None if evaluator is None else Judging(evaluator, router),
            clock=clock,
        )
        self._store = store
        self._closed = False

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
        toolsets, model_settings, deps, output_retries, idempotency_key.
        """
        query = query_of(
            prompt,
            user_id=user_id,
            task=task,
            context=context,
            constraints=constraints,
            preferences=preferences,
            conversation_id=conversation_id,
        )
        with telemetry.request_span(self.environment):
            request = await self.desk.open(
                query, self._call(prompt, result_type, call), self._within(timeout_s)
            )
            async with self.desk.answering(request):
                served = await run_chain(
                    request.through(self.executor),
                    request.arms,
                    request.call,
                    deadline=request.deadline,
                    health=self.health_of_models,
                    on_attempt=request.attempts.append,
                    fallback=fallback,
                    leftovers=self._leftovers,
                )
                request.data = served.answer.data
        return request.result(served.answer)

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
        query = query_of(
            prompt,
            user_id=user_id,
            task=task,
            context=context,
            constraints=constraints,
            preferences=preferences,
            conversation_id=conversation_id,
        )
        with telemetry.request_span(self.environment):
            request = await self.desk.open(
                query, self._call(prompt, result_type, call), self._within(timeout_s)
            )
            async with (
                self.desk.answering(request),
                stream_chain(
                    request.through(self.executor),
                    request.arms,
                    request.call,
                    deadline=request.deadline,
                    health=self.health_of_models,
                    on_attempt=request.attempts.append,
                    fallback=fallback,
                    leftovers=self._leftovers,
                ) as pieces,
            ):
                self.desk.began(request, pieces.arm.id)
                yield AnswerInParts(request, pieces)
                if request.response is not None:
                    request.data = pieces.answer.data

    def _call(self, prompt: str | Sequence[Any], result_type: Any, options: Any) -> Call:
        _refuse_unknown(options, CALL_OPTIONS)
        return Call(prompt, result_type=result_type or self.default_result_type, **options)

    def _within(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else _seconds(timeout_s)

    async def complete_batch(
        self,
        prompts: Iterable[str | Sequence[Any]],
        *,
        concurrency: int = 8,
        progress: bool = True,
        **options: Any,
    ) -> list[RoutingResult[Any] | Exception]:
        """Return one result per prompt, in order; a failure is its error, as a value.

        `options` are those of `complete`. What one prompt's own tools raise is a value, too.
        """
        self.loop.enter()
        whole(concurrency, "concurrency", low=1)
        if isinstance(prompts, str):
            raise InvalidInput("prompts must be many, not one text", field="prompts")
        _refuse_unknown(options, (*_own_options(), *CALL_OPTIONS))
        from conduit.progress import progress_bar

        waiting, gate = list(prompts), asyncio.Semaphore(concurrency)
        with progress_bar("Completing", len(waiting), shown=progress) as advance:

            async def one(prompt: str | Sequence[Any]) -> RoutingResult[Any] | Exception:
                async with gate:
                    try:
                        return await self.complete(prompt, **options)
                    except Exception as error:  # noqa: BLE001  the other prompts have theirs to come
                        return error
                    finally:
                        advance()

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(prompt)) for prompt in waiting]
        return [task.result() for task in tasks]

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
        It stops before `max_usd`, or a budget of the service, could be passed. When the service
        closes, it ends with an error after what it was asking for.
        """
        from conduit.progress import progress_bar

        whole(concurrency, "concurrency", low=1)
        if models is not None and (isinstance(models, str) or not models):
            raise InvalidInput(
                "models must be names of this router's models, one at least", field="models"
            )
        asked = distinct(prompts)
        total = len(asked) * len(models or self.router.models)
        async with self.desk.at_work():
            with progress_bar("Calibrating", total, shown=progress) as advance:
                return await calibrate(
                    self.router,
                    self.executor,
                    asked,
                    grader=grader,
                    models=models,
                    max_usd=max_usd,
                    result_type=result_type or self.default_result_type,
                    concurrency=concurrency,
                    timeout_s=self.timeout_s,
                    resume=resume,
                    budgets=self._budgets,
                    advance=advance,
                    is_over=lambda: self._closed,
                )

    def complete_sync(self, prompt: str | Sequence[Any], **options: Any) -> RoutingResult[Any]:
        """Return what `complete` would, from a thread without a running event loop."""
        return self.run_sync(self.complete(prompt, **options))

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in this service's own event loop, from another thread or after it."""
        if running_loop() is None:
            return self._at_home(work)
        work.close()
        raise RuntimeError("an event loop is running in this thread: await the coroutine instead")

    def _at_home(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:  # and perhaps its loop with it
            work.close()
            raise closed()
        return self.loop.run(work)

    # feedback ----------------------------------------------------------------------------------

    async def submit_feedback(
        self,
        response_id: Target | FeedbackPayload,
        *,
        quality_score: float | None = None,
        user_rating: float | None = None,
        met_expectations: bool | None = None,
        comments: str | None = None,
        feedback_id: str | None = None,
        user_id: str | None = None,
    ) -> Ack:
        """Keep an opinion about an answer and learn from it; returns once it is committed.

        The answer is named by itself or its id, its decision or that one's id or receipt; or a
        `FeedbackPayload` says it all but the user.
        """
        self.loop.enter()
        if isinstance(response_id, FeedbackPayload):
            payload = response_id
            return await self.collector.submit(
                payload.response_id, payload.feedback(user_id=user_id)
            )
        feedback = Feedback(
            quality_score=quality_score,
            user_rating=user_rating,
            met_expectations=met_expectations,
            comments=comments,
            feedback_id=feedback_id,
            user_id=user_id,
        )
        return await self.collector.submit(response_id, feedback)

    async def submit_signal(self, event: SignalEvent | SignalPayload) -> Ack | None:
        """Keep what the application saw of an answer's fate; None where it says nothing."""
        self.loop.enter()
        if isinstance(event, SignalPayload):
            event = event.event()
        return await self.collector.record(event)

    async def quarantine(self, user_id: str) -> None:
        """Learn anew without what a user said and asked, before and from now on."""
        self.loop.enter()
        await self.desk.flush()
        await self.router.quarantine(user_id)

    async def release(self, user_id: str) -> None:
        """Undo a quarantine: what the user said and asked counts again."""
        self.loop.enter()
        await self.router.release(user_id)

    # readings and life -------------------------------------------------------------------------

    async def get_stats(self) -> ServiceStats:
        """Return what this service has done since it started."""
        self.loop.enter()
        tally = self.desk.tally
        return ServiceStats(
            requests=tally.requests,
            answered=tally.answered,
            failed=tally.failed,
            attempts=tally.attempts,
            cost_usd=tally.cost_usd,
            unknown_cost=tally.unknown_cost,
            router=self.router.get_stats(),
            signals=self.collector.stats(),
            budget_left_usd=await self._left_usd(),
            judge=None if self.evaluator is None else self.evaluator.stats(),
        )

    async def _left_usd(self) -> float | None:
        """Return what the limits leave; None without any, and while the database is away."""
        if not self._budgets.budgets:
            return None
        try:
            return await self._budgets.left_usd(None)
        except StorageUnavailable:
            return None

    def get_models(self) -> tuple[ModelArm, ...]:
        """Return the models that can be chosen."""
        return self.router.models

    async def health(self) -> Health:
        """Return the truth about database, log, journal, cache and models."""
        self.loop.enter()
        store = await self.router.store_health()
        unavailable = self.health_of_models.blocked(time.monotonic())
        stats = self.router.get_cache_stats()
        return Health(
            environment=self.environment,
            ok=store.ok and len(unavailable) < len(self.router.models),
            store=store,
            cache=str(stats.circuit_state or stats.backend),
            models_unavailable=unavailable,
            learning_paused=self.router.get_stats().learning_paused,
            feedback_waiting=self.desk.waiting,
            judge=None if self.evaluator is None else self.evaluator.stats(),
        )

    async def flush(self) -> None:
        """Return once everything that was observed so far is committed and learned."""
        self.loop.enter()
        await self.desk.flush()
        if self.evaluator is not None:
            await self.evaluator.flush()
        await self.collector.flush()
        await self.router.flush()

    async def close(self) -> None:
        """Finish the background work, save what was learned, and let go of every resource.

        Calls that are under way have five seconds to end, then they fail, and no new one is taken.
        A service that was closed stays closed; closing it again changes nothing.
        """
        if self._closed:
            return
        self.loop.enter()
        self._closed = True
        async with AsyncExitStack() as last_first:  # each is let go of, whatever another raises
            last_first.push_async_callback(self.executor.close)  # last: who loses it is not blamed
            if self._store is not None:
                last_first.push_async_callback(self._store.close)
            last_first.push_async_callback(self.router.close)
            last_first.push_async_callback(self._leftovers.close)
            last_first.push_async_callback(self.collector.close)
            last_first.push_async_callback(self.collector.flush)
            if self.evaluator is not None:
                # within its deadline; what it judged is learned then
                last_first.push_async_callback(self.evaluator.close)
            last_first.push_async_callback(self.desk.finish)
            await self.desk.shut(CLOSE_S)

    def close_sync(self) -> None:
        """Close the service, and the event loop that it lived in if that was its own."""
        try:
            if not self._closed:
                self.run_sync(self.close())
        finally:
            self.loop.stop()

    async def __aenter__(self) -> Self:
        """Load what was learned before; a service that cannot is closed."""
        self.loop.enter()
        try:
            await self.router.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the service."""
        await self.close()


def _refuse_unknown(options: Iterable[str], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            raise TypeError(unknown_name("argument", name, (*_own_options(), *CALL_OPTIONS)))


def _own_options() -> tuple[str, ...]:
    """Return the names that `complete` takes itself, the prompt apart."""
    given = signature(Service.complete).parameters.values()
    return tuple(each.name for each in given if each.kind is each.KEYWORD_ONLY)


def _seconds(timeout_s: float) -> float:
    """Return a time limit; infinity is none."""
    return timeout_s if timeout_s == math.inf else finite(timeout_s, "timeout_s", low=0.0)
