"""ParetoBandit's router, on vectors that are worked out beforehand."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from pareto_bandit import BanditRouter, FeatureService, RouterConfig

Floats = NDArray[np.float64]

# Utilities may be negative and are never clipped; they hold the cost already, so no further penalty
# is taken off at the choice.
CONFIG = RouterConfig(reward_min=-100.0, reward_max=1.0)


class ParetoBandit:
    """Disjoint LinUCB with forgetting; its vectors end with the bias that ours begin with."""

    def __init__(self, k: int, dim: int, seed: int, **settings: float) -> None:
        """Register k models without priors of its own."""
        prices = {"input_cost_per_m": 1.0, "output_cost_per_m": 1.0}
        self.router = BanditRouter.create(
            model_registry={str(a): dict(prices) for a in range(k)},
            feature_service=FeatureService.for_precomputed(dimension=dim),
            priors="none",
            bandit_seed=seed,
            config=CONFIG,
            cost_penalty=0.0,
            **settings,
        )
        self.requests: deque[str] = deque()

    def fit(self, x: Floats, utility: Floats) -> None:
        """Learn from prompts that every model answered."""
        for row, answers in zip(np.roll(x, -1, axis=1), utility, strict=True):
            for k, reward in enumerate(answers):
                self.router.update(str(k), row, float(reward), advance_time=False)

    def choose(self, x: Floats) -> int:
        """Route."""
        model, log = self.router.route(np.roll(x, -1))
        self.requests.append(log.request_id)
        return int(model)

    def learn(self, x: Floats, k: int, utility: float) -> None:
        """Give feedback to the oldest request under way."""
        self.router.process_feedback(self.requests.popleft(), utility)


def router(k: int, dim: int, seed: int, **settings: float) -> ParetoBandit:
    """Return a router."""
    return ParetoBandit(k, dim, seed, **settings)
