"""Small seeded worlds in which the best choice is known, to see whether a policy finds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit.core.events import Outcome
from conduit.core.models import ModelArm, as_vector

Floats = NDArray[np.float64]


class Draw(NamedTuple):
    """Queries of a world, and what every model answers to each: arrays of (queries, models)."""

    x: NDArray[np.float32]
    expected: Floats  # the probability that an answer is good
    quality: Floats  # 0 or 1
    cost_usd: Floats
    latency_s: Floats


@dataclass(frozen=True, kw_only=True)
class World:
    """Models whose answers are good with a probability that depends on one topic of the query.

    `quality` is each model's mean over both topics, `tilt` what it gains in the one and loses in
    the other. The vector holds a bias, the topic as ±1, and noise.
    """

    quality: tuple[float, ...] = (0.5, 0.7)
    tilt: tuple[float, ...] = (0.0, 0.0)
    cost_usd: tuple[float, ...] = (0.001, 0.01)
    latency_s: tuple[float, ...] = (0.5, 2.0)
    dim: int = 6
    names: tuple[str, ...] = field(default=("small", "large", "third", "fourth", "fifth"))

    @property
    def models(self) -> list[ModelArm]:
        """Return the models, of which nothing is known beforehand."""
        return [ModelArm(name) for name in self.names[: len(self.quality)]]

    def draw(self, n: int, seed: int) -> Draw:
        """Return n queries with every model's answer; the same seed gives the same queries."""
        rng = np.random.default_rng(seed)
        topic = rng.choice([-1.0, 1.0], n)
        noise = 0.3 * rng.standard_normal((n, self.dim - 2))
        x = np.column_stack([np.ones(n), topic, noise]).astype(np.float32)
        expected = np.clip(self.quality + np.outer(topic, self.tilt), 0.0, 1.0)
        spread = rng.lognormal(0.0, 0.3, (n, len(self.quality)))
        return Draw(
            x,
            expected,
            (rng.random(expected.shape) < expected).astype(np.float64),
            spread * self.cost_usd,
            spread * self.latency_s,
        )

    def outcomes(self, n: int, seed: int) -> list[Outcome]:
        """Return what n calls brought, each of a model picked at random."""
        drawn = self.draw(n, seed)
        picked = np.random.default_rng(seed + 1).integers(len(self.quality), size=n)
        return [
            Outcome(
                self.names[k],
                as_vector(drawn.x[i]),
                quality=float(drawn.quality[i, k]),
                cost_usd=float(drawn.cost_usd[i, k]),
                latency_s=float(drawn.latency_s[i, k]),
                input_tokens=float(20 + i % 7),
            )
            for i, k in enumerate(picked)
        ]


OPPOSITE_TOPICS = World(
    quality=(0.6, 0.6, 0.62),
    tilt=(0.3, -0.3, 0.0),
    cost_usd=(0.001, 0.001, 0.001),
    latency_s=(1.0, 1.0, 1.0),
)
ONE_IS_BETTER = World(quality=(0.45, 0.8), cost_usd=(0.001, 0.001), tilt=(0.0, 0.0))

__all__ = ["ONE_IS_BETTER", "OPPOSITE_TOPICS", "Draw", "World"]
