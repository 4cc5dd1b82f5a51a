"""The strategy that users hand to LiteLLM's router: setting up, deciding, learning, letting go."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from litellm.router import Router as LiteLLMRouter
from litellm.types.router import CustomRoutingStrategyBase

from conduit.cache.opening import open_cache
from conduit.core.errors import ConfigurationError, UnknownDecision, finite, unknown_name
from conduit.core.models import Feedback, ModelArm, Preferences, RoutingDecision
from conduit.engines.analyzer import Analyzer
from conduit.engines.bandits.base import PolicyFactory
from conduit.engines.bandits.policies import create_policy
from conduit.engines.embeddings.base import Embedder
from conduit.engines.router import Router
from conduit.evaluation.judge import Answered, ArbiterEvaluator
from conduit.loops import running_loop
from conduit.storage.base import Ack, Store
from conduit_litellm.entry_points import router_of
from conduit_litellm.feedback import DECISION_ID, Attempt, ConduitFeedbackLogger
from conduit_litellm.judging import Evaluate, Judging
from conduit_litellm.limits import Usage
from conduit_litellm.pools import Pool, ridge_policy
from conduit_litellm.requests import group_of, note_in_metadata, query_of
from conduit_litellm.seat import Seat
from conduit_litellm.selection import of_other_groups, shuffled
from conduit_litellm.shared_cache import SharedCache
from conduit_litellm.utils import Deployment, deployment_id, text_of
from conduit_litellm.worker import Worker

log = logging.getLogger("conduit_litellm")

REMEMBERED = 10_000  # decisions whose outcome or rating may still come
OPEN_S = 1.0  # for which the first request of a group may wait for the database
ALL = "*"  # the name of the one pool, where groups are not apart

Arguments = (
    "conduit_router", "use_hybrid", "bandit_algorithm", "embedding_model", "cache_enabled",
    "redis_url", "cache_ttl", "evaluator", "database_url", "preferences", "window_size",
    "lambda_reg", "share_learning", "pool", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyStats:
    """What a strategy has done since it was made; counts are by deployment id."""

    decisions: Mapping[str, int]
    credited: Mapping[str, int]  # answers that were taught, each to the deployment that gave it
    failed: Mapping[str, int]
    ratings: int
    fallbacks: int  # decisions that simple shuffle made, because ours could not
    lost: int  # reports of calls that could not be taught


@dataclass(frozen=True, slots=True)
class _Trip:
    """A decision on its way, and where its outcome belongs."""

    decision: RoutingDecision
    pool: Pool
    text: str
    usage: Usage


class ConduitRoutingStrategy(CustomRoutingStrategyBase):
    """Chooses LiteLLM's deployments by what was learned, and learns from what comes of it.

    One learner per group (`model_name`); `share_learning=True` makes it one for all groups, and
    `pool="*"` lets every request go to any group's deployment.
    """

    def __init__(
        self,
        conduit_router: Router | None = None,
        use_hybrid: bool = False,
        bandit_algorithm: str | PolicyFactory | None = None,
        embedding_model: str | Embedder | None = None,
        cache_enabled: bool = False,
        redis_url: str | None = None,
        cache_ttl: float = 3600.0,
        evaluator: Evaluate | ArbiterEvaluator | None = None,
        database_url: str | None = None,
        preferences: Preferences | str | Mapping[str, Any] = "balanced",
        window_size: int | None = None,
        lambda_reg: float | None = None,
        *,
        share_learning: bool = False,
        pool: str | None = None,
        seed: int | None = None,
        **unknown: object,
    ) -> None:
        """Need nothing; a `conduit_router` brings its own settings and learns for all groups."""
        for argument in unknown:
            raise TypeError(unknown_name("ConduitRoutingStrategy argument", argument, Arguments))
        if pool not in (None, ALL):
            raise ConfigurationError('pool must be None or "*"', field="pool")
        if window_size is not None and window_size < 2:
            raise ConfigurationError("window_size must be at least 2", field="window_size")
        self._policy = _policy(use_hybrid, bandit_algorithm, lambda_reg)
        self._preferences = Preferences.of(preferences)
        self._given = conduit_router
        self._window = window_size
        self._one_pool = pool == ALL
        self._shares = share_learning or self._one_pool or conduit_router is not None
        self._seed = seed
        self._database_url = database_url
        self._judge = None if evaluator is None else Judging(evaluator)
        self._shared = None if redis_url is None else SharedCache(redis_url, cache_ttl)
        cache = self._shared or open_cache(cache_enabled, ttl_s=cache_ttl)
        self._analyzer = Analyzer(embedding_model, cache=cache)
        self._seats: dict[int, Seat] = {}
        self._lock = threading.Lock()
        self._trips: OrderedDict[str, _Trip] = OrderedDict()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("decisions", "credited", "failed", "other")
        }
        self._logger = ConduitFeedbackLogger(self)
        self._worker: Worker | None = None
        self._store: Store | None = None

    # life --------------------------------------------------------------------------------------

    @staticmethod
    def setup_strategy(
        router: Any, strategy: ConduitRoutingStrategy | None = None
    ) -> ConduitRoutingStrategy:
        """Let a strategy (a new one, if none is given) choose for a LiteLLM router."""
        strategy = strategy or ConduitRoutingStrategy()
        strategy._seat_of(router)
        return strategy

    def chooses_for(self, router: Any) -> bool:
        """Return whether the strategy is set up on a LiteLLM router, and no later one is."""
        seat = self._seats.get(id(router))
        return seat is not None and seat.is_taken

    def _seat_of(self, router: Any) -> Seat:
        with self._lock:
            seat = self._seats.get(id(router))
            if seat is None:
                self._open()
                seat = Seat(router, self, self._recall, self._decide, self._pool)
                self._seats[id(router)] = seat
                self._logger.register()
            if not seat.is_taken:
                seat.take()
            return seat

    def _open(self) -> None:
        """Open what needs an event loop, where anything does."""
        if self._worker is None and self._given is not None and self._given.durable:
            self._worker = Worker(running_loop())
        elif self._worker is None and self._given is None and self._database_url is not None:
            worker = Worker()
            try:
                self._store = worker.run(_opened(self._database_url))
            except BaseException:  # the next set-up opens it, or fails as well
                worker.close()
                raise
            self._worker = worker
        if self._shared is not None and self._given is None:
            self._shared.start()

    def cleanup(self) -> None:
        """Leave every router, unregister the callbacks, and write and close what is open."""
        with self._lock:
            seats, self._seats = list(self._seats.values()), {}
            for seat in seats:
                seat.leave()
            self._logger.unregister()
            worker, self._worker = self._worker, None
            store, self._store = self._store, None
        if self._judge is not None:
            self._judge.flush()
        if self._shared is not None:
            self._shared.stop()
        if worker is not None:
            worker.flush()
            if store is not None:
                worker.run(_close(seats, store))
            worker.close()

    def __enter__(self) -> Self:
        """Return the strategy."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Clean up."""
        self.cleanup()

    async def __aenter__(self) -> Self:
        """Return the strategy."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Clean up, without holding up the event loop."""
        await asyncio.to_thread(self.cleanup)

    # LiteLLM's questions, where the strategy was set without telling it the router ---------------

    @property
    def get_available_deployment(self) -> Callable[..., Any]:
        """Return what chooses for the LiteLLM router that is being handed the strategy."""
        return self._seat_of(_asking_router()).get_available_deployment

    @property
    def async_get_available_deployment(self) -> Callable[..., Any]:
        """Return what chooses for the LiteLLM router that is being handed the strategy."""
        return self._seat_of(_asking_router()).async_get_available_deployment

    # deciding ----------------------------------------------------------------------------------

    def _pool(self, name: str, deployments: Sequence[Deployment]) -> Pool:
        """Return a new pool over these deployments."""

        def make(arms: Sequence[ModelArm]) -> Router:
            if self._given is not None:
                return self._given
            return Router(
                arms,
                bandit_algorithm=self._policy,
                preferences=self._preferences,
                analyzer=self._analyzer,
                cache=self._analyzer.cache,
                store=self._store,
                seed=self._seed,
                name=f"litellm:{name}",
            )

        pool = Pool(make, deployments, worker=self._worker, window_size=self._window)
        if self._worker is not None and self._store is not None:
            pool.open(OPEN_S)
        return pool

    def _recall(
        self, *, messages: Any, input: Any, request_kwargs: dict[str, Any] | None
    ) -> Future[Any] | None:
        """Return the lookup of a request's features in Redis, which deciding does not wait for."""
        if self._shared is None:
            return None
        try:
            query = query_of(text_of(messages, input), request_kwargs)
            return self._shared.fetch(self._analyzer.key(query))
        except Exception as error:  # noqa: BLE001  deciding meets it again, and counts it
            log.debug("Redis is not asked: %s", type(error).__name__)
            return None

    def _decide(
        self,
        seat: Seat,
        group: str,
        healthy: Sequence[Deployment],
        *,
        messages: Any,
        input: Any,
        request_kwargs: dict[str, Any] | None,
    ) -> Deployment:
        """Return our choice; if anything of ours fails, LiteLLM's simple shuffle's."""
        try:
            text = text_of(messages, input)
            return self._chosen(seat, group, healthy, text, request_kwargs)
        except Exception as error:
            self._counts["other"]["fallbacks"] += 1
            if self._counts["other"]["fallbacks"] == 1:
                log.exception("Conduit could not decide; LiteLLM's simple shuffle does")
            log.debug("Simple shuffle decides for %s: %s", group, type(error).__name__)
            return shuffled(seat.router, group_of(group, healthy), healthy, request_kwargs)

    def _chosen(
        self,
        seat: Seat,
        group: str,
        healthy: Sequence[Deployment],
        text: str,
        request_kwargs: dict[str, Any] | None,
    ) -> Deployment:
        if self._one_pool:
            healthy = [*healthy, *of_other_groups(seat.router, group, healthy, request_kwargs)]
        offered = {i: d for d in healthy if (i := deployment_id(d)) is not None}
        name = ALL if self._shares else group_of(group, healthy)
        pool = seat.pool(name, offered)
        query = query_of(text, request_kwargs)
        decision = pool.decide(query, offered, seat.usage, seat.tried())
        chosen = offered[decision.selected_model]
        self._remember(_Trip(decision, pool, text, seat.usage))
        seat.note(decision.id, decision.selected_model)
        note_in_metadata(request_kwargs, decision.id)
        log.info("Conduit selected %s for %s", decision.selected_model, group)
        # The attempt's own model_info carries the decision: LiteLLM copies it for each attempt.
        return {**chosen, "model_info": {**chosen["model_info"], DECISION_ID: decision.id}}

    def _remember(self, trip: _Trip) -> None:
        with self._lock:
            self._trips[trip.decision.id] = trip
            if len(self._trips) > REMEMBERED:
                self._trips.popitem(last=False)
            self._counts["decisions"][trip.decision.selected_model] += 1

    # learning ----------------------------------------------------------------------------------

    def observe(self, attempt: Attempt) -> None:
        """Teach how an attempt ended, once; an attempt of another strategy's is not ours."""
        with self._lock:
            trip = self._trips.get(attempt.decision_id)
            if trip is None or attempt.decision_id in self._settled:
                return
            self._settled[attempt.decision_id] = None
            if len(self._settled) > REMEMBERED:
                self._settled.popitem(last=False)
        try:
            self._teach(trip, attempt)
        except Exception:
            self._counts["other"]["lost"] += 1
            if self._counts["other"]["lost"] == 1:
                log.exception("Conduit could not learn from a call")

    def _teach(self, trip: _Trip, attempt: Attempt) -> None:
        model = trip.decision.selected_model
        trip.usage.spend(model, (attempt.input_tokens or 0.0) + (attempt.output_tokens or 0.0))
        evidence = attempt.evidence()
        if evidence is not None:
            trip.pool.teach(trip.decision, evidence, model).add_done_callback(self._written)
        with self._lock:
            self._counts["credited" if attempt.failure is None else "failed"][model] += 1
        if self._judge is not None and attempt.answer is not None:
            item = Answered(
                decision_id=trip.decision.id,
                model=trip.pool.model_behind(model),
                prompt=trip.text,
                answer=attempt.answer,
            )
            self._judge.score(item, partial(self._judged, trip))
        log.info(
            "Feedback recorded for %s: %s in %s s, $%s",
            model, attempt.failure or "answered", attempt.latency_s, attempt.cost_usd,
        )  # fmt: skip

    def _written(self, done: Future[Ack]) -> None:
        """Count feedback that the database refused; the request that it is about is long served."""
        if done.cancelled() or done.exception() is not None:
            self._counts["other"]["lost"] += 1
            if self._counts["other"]["lost"] == 1:
                log.warning("Conduit could not write feedback: %s", done.exception())

    def _judged(self, trip: _Trip, score: float) -> None:
        """Learn a judge's score, which weighs more than an answer alone and less than a user."""
        feedback = Feedback(
            quality_score=score, source="judge", feedback_id=f"{trip.decision.id}:judge"
        )
        trip.pool.teach(trip.decision, feedback, trip.decision.selected_model).add_done_callback(
            self._written
        )
        with self._lock:
            self._counts["other"]["ratings"] += 1

    def record_feedback(
        self,
        decision: Any,
        *,
        quality_score: float | None = None,
        user_rating: float | None = None,
        met_expectations: bool | None = None,
        comments: str | None = None,
        feedback_id: str | None = None,
    ) -> Ack:
        """Learn an opinion about a response, given itself or by its decision id.

        With a database it returns once the opinion is committed; in an event loop use
        `arecord_feedback`.
        """
        return self._rated(decision, Feedback(
            quality_score=quality_score, user_rating=user_rating,
            met_expectations=met_expectations, comments=comments, feedback_id=feedback_id,
        )).result()  # fmt: skip

    async def arecord_feedback(self, decision: Any, **opinion: Any) -> Ack:
        """Do what `record_feedback` does without holding up the event loop."""
        return await asyncio.wrap_future(self._rated(decision, Feedback(**opinion)))

    def _rated(self, decision: Any, feedback: Feedback) -> Future[Ack]:
        name = decision if isinstance(decision, str) else decision_id_of(decision)
        trip = self._trips.get(name)
        if trip is None:
            raise UnknownDecision(name, "it was not made by this strategy, or long ago")
        model = trip.decision.selected_model
        done = trip.pool.teach(trip.decision, feedback, model)
        with self._lock:
            self._counts["other"]["ratings"] += 1
        log.info("Feedback recorded for %s: quality %.3f", model, feedback.quality)
        return done

    # readings ----------------------------------------------------------------------------------

    def stats(self) -> StrategyStats:
        """Return what was decided, credited and lost."""
        with self._lock:
            other = self._counts["other"]
            return StrategyStats(
                decisions=dict(self._counts["decisions"]),
                credited=dict(self._counts["credited"]),
                failed=dict(self._counts["failed"]),
                ratings=other["ratings"],
                fallbacks=other["fallbacks"],
                lost=other["lost"],
            )

    def decision(self, response: Any) -> RoutingDecision:
        """Return the decision behind a response or a decision id: its reasoning, its estimates."""
        name = response if isinstance(response, str) else decision_id_of(response)
        trip = self._trips.get(name)
        if trip is None:
            raise UnknownDecision(name, "it was not made by this strategy, or long ago")
        return trip.decision


def decision_id_of(response: Any) -> str:
    """Return the id of the decision that a LiteLLM response came of."""
    hidden = getattr(response, "_hidden_params", None)
    found = hidden.get(DECISION_ID) if isinstance(hidden, Mapping) else None
    if found is None:
        raise UnknownDecision("(none)", "the response carries no decision of Conduit's")
    return str(found)


def _policy(
    use_hybrid: bool, algorithm: str | PolicyFactory | None, lambda_reg: float | None
) -> str | PolicyFactory:
    policy = "hybrid" if use_hybrid else algorithm or "contextual_thompson"
    if lambda_reg is not None:
        policy = ridge_policy(policy, finite(lambda_reg, "lambda_reg", low=1e-6))
    create_policy(policy, 1)  # an unknown name fails here
    return policy


def _asking_router() -> Any:
    """Return the LiteLLM router that takes the strategy, which LiteLLM itself does not say."""
    frame = sys._getframe(2)
    while frame is not None:
        asking = frame.f_locals.get("self")
        found = asking if isinstance(asking, LiteLLMRouter) else router_of(asking)
        if found is not None:
            return found
        frame = frame.f_back  # type: ignore[assignment]
    raise ConfigurationError(
        "the strategy does not know its router: call setup_strategy(router, strategy)",
        field="router",
    )


async def _opened(url: str) -> Store:
    from conduit.storage.database import open_store

    return await open_store(url)


async def _close(seats: Sequence[Seat], store: Store) -> None:
    for seat in seats:
        for pool in set(seat.pools.values()):
            await pool.router.close()
    await store.close()


__all__ = ["ConduitRoutingStrategy", "StrategyStats", "decision_id_of"]
