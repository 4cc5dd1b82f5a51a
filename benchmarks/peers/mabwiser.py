"""MABWiser's linear bandits (fidelity/mabwiser)."""

from __future__ import annotations

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class MABWiser:
    """A MAB with a linear policy; it wants history before it predicts, so it starts with a zero."""

    def __init__(self, k: int, dim: int, seed: int, policy: LearningPolicy.LinUCB) -> None:
        """Start from its ridge alone: a zero vector that earned zero leaves it as it was."""
        self.mab = MAB(list(range(k)), policy, seed=seed % 2**31)
        self.mab.fit([0], [0.0], np.zeros((1, dim)))

    def fit(self, x: Floats, utility: Floats) -> None:
        """Learn from prompts that every model answered."""
        n, k = utility.shape
        self.mab.partial_fit(np.tile(np.arange(k), n), utility.ravel(), np.repeat(x, k, axis=0))

    def choose(self, x: Floats) -> int:
        """Pick a model."""
        return int(self.mab.predict(x[None]))

    def learn(self, x: Floats, k: int, utility: float) -> None:
        """Learn what came of it."""
        self.mab.partial_fit([k], [utility], x[None])


def lin_ts(k: int, dim: int, seed: int, *, alpha: float = 1.0, l2_lambda: float = 1.0) -> MABWiser:
    """Return Thompson sampling of the weights."""
    return MABWiser(k, dim, seed, LearningPolicy.LinTS(alpha=alpha, l2_lambda=l2_lambda))


def lin_ucb(k: int, dim: int, seed: int, *, alpha: float = 1.0, l2_lambda: float = 1.0) -> MABWiser:
    """Return upper confidence bounds."""
    return MABWiser(k, dim, seed, LearningPolicy.LinUCB(alpha=alpha, l2_lambda=l2_lambda))
