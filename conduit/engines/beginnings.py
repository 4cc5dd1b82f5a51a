"""How a router's learner begins: from priors and calibration, or from what was stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit.core.events import Snapshot
from conduit.core.models import ModelArm
from conduit.engines.bandits.base import PRIOR_OBSERVATIONS
from conduit.engines.bandits.policies import create_policy
from conduit.engines.learner import Calibration, Learner


class Beginnings:
    """Makes learners of the models that there are at the time."""

    def __init__(
        self,
        models: Mapping[str, ModelArm],
        *,
        schema: str,
        dim: int,
        seed: int | None,
        **options: Any,
    ) -> None:
        """Take the models by id, which may change, and the learner's options: None is its own."""
        create_policy(options["policy"], 1)  # an unknown name fails here
        self._models = models
        self._schema, self._dim = schema, dim
        self._seed = seed
        # All of them, so that none is taken from a snapshot of a router that had others.
        self._options: dict[str, Any] = options
        if options.get("prior_observations") is None:
            options["prior_observations"] = PRIOR_OBSERVATIONS
        self._fitted: list[tuple[NDArray[np.float32], Calibration]] = []

    def fitted(self, vectors: NDArray[np.float32], outcomes: Calibration) -> None:
        """Teach every later beginning a calibration that no log holds."""
        self._fitted.append((vectors, outcomes))

    def fresh(self) -> Learner:
        """Return a learner that knows priors and calibration."""
        arms = list(self._models.values())
        learner = Learner(arms, self._dim, schema=self._schema, seed=self._seed, **self._options)
        for vectors, outcomes in self._fitted:
            learner.fit(vectors, outcomes)
        return learner

    def restore(self, snapshot: Snapshot) -> Learner:
        """Return a learner that goes on from a snapshot; replicas must not explore in step."""
        learner = Learner.restore(snapshot, list(self._models.values()), **self._options)
        if self._seed is None:
            learner.reseed(None)
        return learner


__all__ = ["Beginnings"]
