"""A table of three models to replay, and a rival that writes down what it meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conduit.core.models import ModelArm
from conduit.evaluation.replay import ReplayResult, ReplayTable, Rival, replay_rival

N, K, DIM = 240, 3, 4
SHORT: dict[str, Any] = {"orders": 3, "seed": 5}


def table_of(n: int = N, seed: int = 0, **changes: Any) -> ReplayTable:
    """Return a table of three models: cheap and weak, dearer and good, dearest and middling."""
    rng = np.random.default_rng(seed)
    given: dict[str, Any] = {
        "models": [ModelArm(name) for name in ("cheap", "good", "dear")],
        "quality": (rng.random((n, K)) < [0.5, 0.8, 0.7]).astype(float),
        "cost_usd": rng.lognormal(0.0, 0.2, (n, K)) * [0.001, 0.004, 0.01],
        "features": np.column_stack([np.ones(n), rng.normal(size=(n, DIM - 1))]),
        "groups": [("odd", "even")[i % 2] for i in range(n)],
    }
    return ReplayTable(**{**given, **changes})


TABLE = table_of()


class Recorder:
    """A rival that always picks one model, and writes down what it is told."""

    def __init__(self, k: int) -> None:
        """Pick model k."""
        self.k = k
        self.asked: list[float] = []
        self.told: list[tuple[float, int, float]] = []
        self.heard_before: list[int] = []  # outcomes that were known at each choice
        self.calibrated: list[tuple[int, int]] = []

    def fit(self, x: Any, utility: Any) -> None:
        """Note the sizes."""
        self.calibrated.append((x.shape[0], utility.shape[1]))

    def choose(self, x: Any) -> int:
        """Pick the model."""
        self.heard_before.append(len(self.told))
        self.asked.append(float(x[1]))
        return self.k

    def learn(self, x: Any, k: int, utility: float) -> None:
        """Note it."""
        self.told.append((float(x[1]), k, utility))


def recorded(k: int = 1, **options: Any) -> tuple[ReplayResult, list[Recorder]]:
    """Replay a rival that picks model k; return the rivals, one per order."""
    made: list[Recorder] = []

    def make(arms: Sequence[ModelArm], dim: int, seed: int) -> Rival:
        assert (len(arms), dim) == (K, DIM)
        made.append(Recorder(k))
        return made[-1]

    return replay_rival(TABLE, make, **{**SHORT, **options}), made
