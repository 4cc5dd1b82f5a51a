"""One learner over some deployments: it follows their coming and going, decides and learns."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from typing import Any

import numpy as np

from conduit.core.errors import ConfigurationError
from conduit.core.events import Evidence, LogEntry, Outcome
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Query, RoutingDecision
from conduit.engines.bandits.base import Policy, PolicyFactory, Step
from conduit.engines.bandits.outcomes import step_of
from conduit.engines.bandits.policies import create_policy
from conduit.engines.router import Router
from conduit.storage.base import Ack
from conduit_litellm.arms import arm_of, model_of
from conduit_litellm.limits import Usage
from conduit_litellm.utils import Deployment, deployment_id
from conduit_litellm.worker import Worker

log = logging.getLogger("conduit_litellm")

# Of what one deployment's quality teaches, this much is taught of other deployments of its model:
# the weights are the same, but versions, quantisation and system settings may not be.
SIBLING_WEIGHT = 0.5
FORGETS_IN = 10  # steps per window: forgetting renews a matrix, so it is not done at every outcome
HELD_BACK = "LiteLLM does not offer it for this request"
TRIED = "it has failed this request"

MakeRouter = Callable[[Sequence[ModelArm]], Router]


class Pool:
    """The deployments that one learner chooses from, each an arm by its id."""

    def __init__(
        self,
        make: MakeRouter,
        deployments: Iterable[Deployment],
        *,
        worker: Worker | None = None,
        window_size: int | None = None,
    ) -> None:
        """`make` gives the router; with a `worker`, its log is durable and written to there."""
        self._worker = worker
        self._window = window_size
        self._models: dict[str, str] = {}
        self._added: set[str] = set()
        self._taught: Counter[str] = Counter()
        arms = [self._arm(d) for d in deployments]
        self.router = make(arms)
        self.router.on_learned(self._learned)
        known = {arm.id for arm in self.router.models}
        for arm in arms:
            if arm.id not in known:
                self.router.add_model(arm)

    def open(self, within_s: float) -> None:
        """Load what was learned before; what takes longer goes on while others are served.

        Where the database is away, it is tried again with what there is to write.
        """
        assert self._worker is not None
        loading = self._worker.submit(self.router.start())
        if not wait([loading], timeout=within_s).done:
            log.warning("The database is slow: Conduit decides without what was learned before")
        loading.add_done_callback(_opened)

    def _arm(self, deployment: Deployment) -> ModelArm:
        arm = arm_of(deployment, datetime.now(UTC).date())
        self._models[arm.id] = model_of(deployment)
        self._added.add(arm.id)
        return arm

    # deployments -------------------------------------------------------------------------------

    def add(self, deployments: Iterable[Deployment]) -> None:
        """Let new deployments be chosen; what was learned of one that is back comes back."""
        with self.router.lock:
            known = set(self.router.learner.models)
            for deployment in deployments:
                if deployment_id(deployment) not in known:
                    self.router.add_model(self._arm(deployment))

    def knows(self, ids: Iterable[str]) -> bool:
        """Return whether each of these deployments can be chosen."""
        models = self.router.learner.models
        return all(name in models for name in ids)

    def keep_only(self, ids: set[str]) -> None:
        """Let go of deployments that LiteLLM's router no longer has."""
        with self.router.lock:
            for gone in self._added - ids:
                if len(self.router.learner.models) > 1:
                    self._added.discard(gone)
                    self.router.remove_model(gone)

    def model_behind(self, deployment: str) -> str:
        """Return the model that a deployment serves."""
        return self._models.get(deployment, deployment)

    # deciding ----------------------------------------------------------------------------------

    def decide(
        self,
        query: Query,
        healthy: Mapping[str, Deployment],
        usage: Usage | None = None,
        tried: Set[str] = frozenset(),
    ) -> RoutingDecision:
        """Return the decision among the healthy deployments with room for it, in this thread.

        Those that were tried before for this request are left out while there are others. It is
        counted as a request at once: of two threads only one gets the last of a minute.
        """
        with self.router.lock:
            models = self.router.learner.models
            if not self.knows(healthy):
                self.add(healthy.values())
                models = self.router.learner.models
            off = {name: HELD_BACK for name in models if name not in healthy}
            if usage is None:
                return self.router.route_sync(query, unavailable=off or None)
            off |= usage.full(healthy)
            if any(name not in off and name not in tried for name in healthy):
                off |= dict.fromkeys(tried & healthy.keys(), TRIED)
            decision = self.router.route_sync(query, unavailable=off or None)
            usage.ask(decision.selected_model)
            return decision

    # learning ----------------------------------------------------------------------------------

    def teach(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        model: str | None,
    ) -> Future[Ack]:
        """Return the future acknowledgement; with the log in memory it is there already."""
        if self._worker is not None:
            return self._worker.submit(self._write(decision, feedback, model))
        done: Future[Ack] = Future()
        done.set_result(self.router.feedback_sync(decision, feedback, model=model))
        return done

    async def _write(
        self,
        decision: RoutingDecision | str,
        feedback: Feedback | ImplicitFeedback,
        model: str | None,
    ) -> Ack:
        await self.router.flush()  # the decision itself, for those who rate it elsewhere
        return await self.router.feedback(decision, feedback, model=model)

    def _learned(self, entry: LogEntry) -> None:
        """Teach what the log says of a deployment to its siblings too, and forget what is old."""
        self._share(entry)
        self._forget(entry.row.model)
        log.debug("Bandit updated for %s (%s)", entry.row.model, entry.row.kind)

    def _share(self, entry: LogEntry) -> None:
        """Teach an answer's quality to the other deployments of its model.

        Hearsay: whether a deployment has changed is for its own answers to show.
        """
        siblings = self._siblings(entry.row.model)
        if not siblings:
            return
        learner, outcome = self.router.learner, entry.outcome()
        # A call that failed says something about the place, not about the model.
        if outcome.error is not None:
            return
        step = _hearsay(outcome, entry.before, learner.arms[siblings[0]])
        x = outcome.x.astype(np.float64)
        for row in siblings:
            learner.policy.update(row, x, step)

    def _siblings(self, deployment: str) -> list[int]:
        """Return the rows of the other deployments that serve the same model."""
        model = self._models.get(deployment)
        if model is None:
            return []
        return [
            row
            for row, name in enumerate(self.router.learner.models)
            if name != deployment and self._models.get(name) == model
        ]

    def _forget(self, model: str) -> None:
        if self._window is None or model not in self.router.learner.models:
            return
        step = max(1, self._window // FORGETS_IN)
        self._taught[model] += 1
        if self._taught[model] % step == 0:
            row = self.router.learner.models.index(model)
            self.router.learner.policy.discount(row, (1.0 - 1.0 / self._window) ** step)


def _opened(loading: Future[None]) -> None:
    error = None if loading.cancelled() else loading.exception()
    if error is not None:
        log.warning("What was learned before is not known yet: %s", error)


def _hearsay(outcome: Outcome, before: Evidence | None, arm: ModelArm) -> Step:
    """Return what an outcome says of another deployment of its model: a part of its quality.

    It revises what was said before, of which a failure said nothing here.
    """
    said = Outcome(
        outcome.model,
        outcome.x,
        quality=outcome.quality,
        quality_weight=outcome.quality_weight * SIBLING_WEIGHT,
        lift=outcome.lift,
    )
    if before is None or before.error is not None:
        return step_of(said, None, arm)
    heard = Evidence(
        quality=before.quality,
        quality_weight=before.quality_weight * SIBLING_WEIGHT,
        lift=before.lift,
    )
    return step_of(said, heard, arm)


def ridge_policy(policy: str | PolicyFactory, lambda_reg: float) -> PolicyFactory:
    """Return a policy whose regression starts with `lambda_reg` observations of nothing."""

    def make(dim: int) -> Policy:
        made: Any = create_policy(policy, dim)
        halves: list[Any] = [made, getattr(made, "then", None)]
        ridges = [h.estimates for h in halves if hasattr(getattr(h, "estimates", None), "ridge")]
        if not ridges:
            raise ConfigurationError(
                f"lambda_reg is for regressions, and the policy {made.name!r} is none",
                field="lambda_reg",
            )
        for ridge in ridges:
            ridge.ridge = lambda_reg
        policy_made: Policy = made
        return policy_made

    return make


__all__ = ["SIBLING_WEIGHT", "Pool", "ridge_policy"]
