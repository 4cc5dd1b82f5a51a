"""The router: a thin asynchronous shell around analyzer, learner and log."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from inspect import signature
from typing import Any, Protocol, Self

from conduit import telemetry
from conduit.cache.base import CacheStats, FeatureCache
from conduit.cache.opening import open_cache
from conduit.catalogue.pool import arms_of, known_arm
from conduit.core.errors import (
    ConfigurationError,
    InvalidInput,
    StorageUnavailable,
    finite,
    string,
    unknown_name,
)
from conduit.core.events import LogEntry
from conduit.core.models import (
    Exclusion,
    Feedback,
    ImplicitFeedback,
    ModelArm,
    Preferences,
    Query,
    QueryFeatures,
    RoutingDecision,
)
from conduit.engines.analyzer import Analyzer
from conduit.engines.bandits.base import PolicyFactory
from conduit.engines.bandits.outcomes import only
from conduit.engines.beginnings import Beginnings
from conduit.engines.caps import OpinionLimits
from conduit.engines.constraints import eligible
from conduit.engines.conversations import Conversations
from conduit.engines.decided import Decided
from conduit.engines.embeddings.base import Embedder
from conduit.engines.follower import Companion, Follower
from conduit.engines.hearing import Hearing
from conduit.engines.intake import Intake
from conduit.engines.learner import FLOOR, Calibration, Learner
from conduit.engines.readings import RouterStats
from conduit.engines.rows import Weigher, calibration_rows, key_of
from conduit.loops import Home, at_once
from conduit.storage.base import Ack, MemoryStore, Pruned, Store, StoreHealth, new_id

log = logging.getLogger(__name__)

DECISION_TTL_S = 30 * 86_400.0


class Experience(Companion, Weigher, Protocol):
    """What is learned of signals beside the learner, and what it makes of feedback."""

    def expect(self, models: Iterable[ModelArm]) -> None: ...


class Router:
    """Picks the model that will serve a query best, and learns from what comes of it.

    In memory it serves any threads and event loops. With a database it lives in the event loop in
    which it starts: what is awaited in another one, but `route`, raises ConfigurationError.
    """

    def __init__(
        self,
        models: Sequence[str | ModelArm] | None = None,
        *,
        bandit_algorithm: str | PolicyFactory = "contextual_thompson",
        use_hybrid: bool = False,
        preferences: Preferences | str | Mapping[str, Any] = "balanced",
        embedding_model: str | Embedder | None = None,
        cache_enabled: bool = False,
        redis_url: str | None = None,
        cache_ttl: float = 3600.0,
        store: Store | None = None,
        seed: int | None = None,
        name: str = "default",
        secret: str | None = None,
        floor: float = FLOOR,
        prior_observations: float | None = None,
        change_detection: bool = True,
        store_text: bool = False,
        decision_ttl_s: float = DECISION_TTL_S,
        analyzer: Analyzer | None = None,
        cache: FeatureCache | None = None,
        environ: Mapping[str, str] | None = None,
        opinion_limits: OpinionLimits | None = None,
        clock: Callable[[], float] = time.time,
        **unknown: object,
    ) -> None:
        """Need nothing: models come from the keys in the environment, or from a default pool."""
        _refuse(unknown)
        _refuse_foreign(store, secret)
        environ = os.environ if environ is None else environ
        arms, self._note = arms_of(models, environ, datetime.fromtimestamp(clock(), UTC).date())
        self.name = string(name, "name")
        self.preferences = Preferences.of(preferences)
        redis_url = redis_url or environ.get("REDIS_URL")
        self.cache = open_cache(cache_enabled, redis_url, cache_ttl) if cache is None else cache
        self.analyzer = analyzer or Analyzer(embedding_model, cache=self.cache)
        self.store: Store = store or MemoryStore(clock=clock)
        self._owns_store = store is None
        self.durable = store is not None and not isinstance(store, MemoryStore)
        self._ready = not self.durable
        self._home = Home("this router with its database", "make another one here")
        self.store_text = store_text
        self._clock = clock
        self._intake = Intake(self.store, name, opinion_limits or OpinionLimits(), clock)
        self._decided = Decided(
            self.store, name, ttl_s=decision_ttl_s, durable=self.durable, clock=clock,
            secret=secret or environ.get("CONDUIT_SECRET"),
        )  # fmt: skip
        self._hearing = Hearing(self._decided, self._intake, name, lambda: self.learner, clock)
        self._models = {arm.id: arm for arm in arms}
        self._experience: Experience | None = None
        self._models_changed()
        self._conversations = Conversations()
        self._beginnings = Beginnings(
            self._models, schema=self.analyzer.schema, dim=self.analyzer.dim, seed=seed,
            policy="hybrid" if use_hybrid else bandit_algorithm, floor=floor,
            change_detection=change_detection, prior_observations=prior_observations,
        )  # fmt: skip
        self.lock = threading.RLock()  # held while it decides and while it is taught
        self._follower = self._level_with_the_log()

    def _level_with_the_log(self) -> Follower:
        """Return the follower that teaches the learner what comes into the log."""
        return Follower(
            self.store,
            self.name,
            self._beginnings.fresh,
            self._beginnings.restore,
            lock=self.lock,
            in_memory=not self.durable,
        )

    # life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Load what was learned before; a router that cannot is closed."""
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the router."""
        await self.close()

    async def start(self) -> None:
        """Load what was learned before, and follow what other replicas learn."""
        self._enter()
        if not self._ready:
            self._decided.settle()
            await self._follower.start()
            self._follower.watch()
            self._ready = True

    def _enter(self) -> None:
        """Refuse another event loop than the store's; a store in memory is good for any."""
        if self.durable:
            self._home.enter()

    async def close(self) -> None:
        """Write what is queued, save what was learned, and let go of every resource.

        While the database is away, what is queued goes to the journal.
        """
        self._enter()
        async with AsyncExitStack() as last_first:  # each is let go of, whatever another raises
            if self._owns_store:
                last_first.push_async_callback(self.store.close)
            last_first.push_async_callback(self.cache.close)
            last_first.push_async_callback(self.analyzer.close)
            if self.durable and self._ready:
                last_first.push_async_callback(self._follower.close)
            try:
                await self.flush()
            except StorageUnavailable as error:
                log.warning("The router closes during an outage: %s", error)

    async def flush(self) -> None:
        """Return once every decision made so far is in the store."""
        self._enter()
        if self.durable:
            await self._decided.flush()
            await self.store.flush()

    # deciding ----------------------------------------------------------------------------------

    @property
    def decision_ttl_s(self) -> float:
        """Return for how long after a decision feedback is taken."""
        return self._decided.ttl_s

    @property
    def learner(self) -> Learner:
        """Return the learner as it is now."""
        return self._follower.learner

    @property
    def models(self) -> tuple[ModelArm, ...]:
        """Return the models that can be chosen."""
        return self.learner.arms

    def arm(self, model_id: str) -> ModelArm:
        """Return a model by its id."""
        if model_id not in self._models:
            raise InvalidInput(unknown_name("model", model_id, tuple(self._models)), field="model")
        return self._models[model_id]

    async def route(
        self,
        query: Query | str,
        *,
        unavailable: Mapping[str, str] | None = None,
        cost_weight: float | None = None,
        tokens_beside: float = 0.0,
    ) -> RoutingDecision:
        """Return which model should answer; `unavailable` models (with reasons) are left out.

        `cost_weight` replaces the weight of cost (over that of quality), for a budget's pacing.
        `tokens_beside` is about how many tokens are read beside the query's text: the conversation
        so far, a system prompt, tools.
        """
        if not isinstance(query, Query):
            query = Query(text=query)
        finite(tokens_beside, "tokens_beside", low=0.0)
        if not self._ready:
            await self.start()
        self._home.stands()
        started = time.perf_counter()
        features = await self.analyzer.analyse(query)
        with self.lock:  # other threads may decide, or teach
            return self._decide(started, query, features, unavailable, cost_weight, tokens_beside)

    def route_sync(
        self, query: Query | str, *, unavailable: Mapping[str, str] | None = None
    ) -> RoutingDecision:
        """Return what `route` would, in this thread, with or without a running event loop.

        A durable store is written to by the next asynchronous call.
        """
        if not isinstance(query, Query):
            query = Query(text=query)
        started = time.perf_counter()
        features = self.analyzer.analyse_now(query)
        with self.lock:  # other threads may decide, or teach
            return self._decide(started, query, features, unavailable)

    def _decide(
        self,
        started: float,
        query: Query,
        features: QueryFeatures,
        unavailable: Mapping[str, str] | None,
        cost_weight: float | None = None,
        tokens_beside: float = 0.0,
    ) -> RoutingDecision:
        learner = self.learner
        own_tokens = float(features.token_estimate)
        tokens = own_tokens + tokens_beside
        x = features.vector
        candidates: tuple[str, ...] | None = None
        excluded: tuple[Exclusion, ...] = ()
        relaxed: tuple[str, ...] = ()
        if query.constraints is not None or unavailable or tokens > self._least_window:
            found = eligible(
                learner.arms,
                learner.expect(x, input_tokens=tokens),
                query.constraints,
                input_tokens=tokens,
                unavailable=unavailable,
            )
            candidates, excluded, relaxed = found.candidates, found.excluded, found.relaxed
        preferences = query.preferences or self.preferences
        choice = learner.decide(
            x,
            preferences=preferences,
            candidates=candidates,
            input_tokens=tokens,
            saved_usd=self._conversations.saved_usd(query, own_tokens, self._models),
            cost_weight=cost_weight,
        )
        now = self._clock()
        decision = RoutingDecision(
            id=new_id(now),
            choice=choice,
            features=features,
            preferences=preferences,
            created_at=now,
            router=self.name,
            excluded=excluded,
            relaxed=relaxed,
            note=self._note,
            user_id=query.user_id,
            receipt=self._decided.receipt,
        )
        self._decided.keep(decision, query.text if self.store_text else None)
        self._conversations.went_on(query, own_tokens, choice.model)
        telemetry.decided(decision, query.text, time.perf_counter() - started)
        return decision

    def served_by(
        self,
        decision: RoutingDecision,
        model: str,
        *,
        query: Query | None = None,
        answered: bool = True,
    ) -> None:
        """Know which model answered, or was asked last; what is said of the decision is about it.

        The `query`'s conversation is with the model that answers, not with the one chosen.
        """
        with self.lock:
            self._decided.served_by(decision.id, model)
            if query is not None:
                self._conversations.answered_by(query, model if answered else None)

    def _models_changed(self) -> None:
        windows = (arm.context_window for arm in self._models.values())
        self._least_window = min((w for w in windows if w is not None), default=math.inf)
        if self._experience is not None:
            self._experience.expect(self._models.values())

    # feedback ----------------------------------------------------------------------------------

    async def feedback(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        *,
        model: str | None = None,
    ) -> Ack:
        """Keep what is known of an answer and learn from it; returns once it is committed.

        `decision` is the decision, its id or its receipt, or the id of an answer to it: whichever,
        it stands for the model that answered. `model` names another attempt of the same decision.
        The same `feedback_id` again changes nothing.
        """
        ack = await self.keep(decision, feedback, model=model)
        if ack.status != "journaled":  # else the log, away as it is, does not have it yet
            await self._follower.sync()
        return ack

    async def keep(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        *,
        model: str | None = None,
    ) -> Ack:
        """Do as `feedback` does but for the learning, which comes with the next `sync`."""
        if not self.durable:
            return self._keep_now(decision, feedback, model)
        await self.start()
        await self._decided.flush()
        return await self._hearing.keep(decision, feedback, model)

    def _keep_now(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        model: str | None,
    ) -> Ack:
        """Keep it in memory, where other threads and event loops may be at the same."""
        with self.lock:
            return at_once(self._hearing.keep(decision, feedback, model))

    def feedback_sync(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        *,
        model: str | None = None,
    ) -> Ack:
        """Return what `feedback` would, in this thread; only where the log is in memory."""
        if self.durable:
            raise ConfigurationError("a durable store is written to by feedback()", field="store")
        ack = self._keep_now(decision, feedback, model)
        self._follower.sync_now()
        return ack

    def attach(self, experience: Experience) -> None:
        """Let what was learned of signals weigh feedback; it is taught by the log from now on.

        Attached before the router has read its log, it is kept in the router's snapshots.
        """
        self._experience = self._hearing.weigher = experience
        self._follower.attach(experience)
        experience.expect(self._models.values())

    def on_learned(self, listener: Callable[[LogEntry], None]) -> None:
        """Call a listener with every row of the log that the learner is taught.

        What it raises is logged; learning goes on.
        """
        self._follower.listeners.append(listener)

    async def sync(self) -> None:
        """Learn everything that was committed before the call, by any replica."""
        self._enter()
        await self._follower.sync()

    async def prune(self, *, older_than_s: float) -> Pruned:
        """Delete what is older from the store; what it taught stays learned."""
        self._enter()
        return await self._follower.prune(older_than_s)

    async def fit(
        self,
        texts: Sequence[str],
        outcomes: Calibration,
        *,
        tasks: Sequence[str | None] | None = None,
    ) -> int:
        """Teach what several models answered to the same texts; return how many outcomes.

        Texts that the embedder fails on teach nothing.
        """
        await self.start()
        vectors, whole = await self.analyzer.analyse_all(texts, tasks)
        if not whole.all():
            vectors, outcomes = vectors[whole], only(outcomes, whole, self.learner.models)
        if not self.durable:
            with self.lock:
                taught = self.learner.fit(vectors, outcomes)
                self._beginnings.fitted(vectors, outcomes)  # it is in no log to rebuild from
            return taught
        rows = calibration_rows(
            vectors,
            outcomes,
            models=self.learner.models,
            schema=self.analyzer.schema,
            router=self.name,
            now=self._clock(),
            ttl_s=self.decision_ttl_s,
        )
        await asyncio.gather(*(self.store.append(row) for row in rows))
        await self._follower.sync()
        return len(rows)

    async def quarantine(self, user_id: str) -> None:
        """Learn anew without what a user said and asked, before and from now on.

        Every replica of every router does, and ends where it would be without that user.
        """
        await self._hide(self.store.quarantine, user_id)

    async def release(self, user_id: str) -> None:
        """Undo a quarantine: what the user said and asked counts again, everywhere."""
        await self._hide(self.store.release, user_id)

    async def _hide(self, change: Callable[[str], Awaitable[None]], user_id: str) -> None:
        await self.start()
        await self.flush()
        await change(key_of(user_id))
        await self._follower.sync()

    # models ------------------------------------------------------------------------------------

    def add_model(self, model: str | ModelArm) -> None:
        """Let a model be chosen from now on."""
        arm = known_arm(model, datetime.fromtimestamp(self._clock(), UTC).date())
        with self.lock:
            self.learner.add_model(arm)
            self._models[arm.id] = arm
            self._models_changed()

    def remove_model(self, model_id: str) -> None:
        """Stop choosing a model; what was learned of it comes back with it."""
        if len(self._models) == 1:
            raise ConfigurationError("the last model cannot be removed", field="models")
        with self.lock:
            self.learner.remove_model(model_id)
            del self._models[model_id]
            self._models_changed()

    # readings ----------------------------------------------------------------------------------

    def explain(self, decision: RoutingDecision) -> str:
        """Return a small table of what was expected of every model, and why this one."""
        return decision.explain()

    def get_stats(self) -> RouterStats:
        """Return what this router has done, and what it has learned."""
        total = sum(self._decided.counts.values())
        return RouterStats(
            decisions=total,
            outcomes=self.learner.applied,
            models=self.learner.models,
            share_by_model={
                m: self._decided.counts[m] / total if total else 0.0 for m in self.learner.models
            },
            pending=self._decided.unwritten,
            degraded=self.analyzer.stats.degraded,
            skipped=self._follower.skipped,
            policy=self.learner.policy.name,
            schema=self.analyzer.schema,
            embedder=self.analyzer.embedder.id,
            learning_paused=self._follower.behind,
            opinions_capped=dict(self._intake.capped),
        )

    async def store_health(self) -> StoreHealth:
        """Return the truth about the store, and how far learning lags behind its log."""
        self._enter()
        return await self.store.health(router=self.name, cursor=self._follower.cursor)

    def get_cache_stats(self) -> CacheStats:
        """Return hits, misses, errors and the state of the circuit of the feature cache."""
        return self.cache.stats()

    def __repr__(self) -> str:
        """Show the models and the policy, never a secret."""
        return f"Router(models={list(self._models)}, policy={self.learner.policy.name!r})"


def _refuse(unknown: Mapping[str, object]) -> None:
    for argument in unknown:
        known = tuple(signature(Router).parameters)[:-1]
        raise TypeError(unknown_name("Router argument", argument, known))


def _refuse_foreign(store: object, secret: object) -> None:
    """Refuse an address instead of a store, and a secret that is no string; no value is shown."""
    if secret is not None:
        string(secret, "secret")
    if store is not None and not hasattr(store, "tail"):
        wanted = "an open store, as from await open_store(url)"
        raise ConfigurationError(
            f"store must be {wanted}, got {type(store).__name__}", field="store"
        )


__all__ = ["Router", "RouterStats"]
