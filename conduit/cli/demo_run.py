"""What has happened in the demo so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from conduit.cli.demo_world import Strategy, World


@dataclass(slots=True)
class Run:
    """What has happened so far: one entry per answered query, in the order of the answers."""

    world: World
    at: list[int] = field(default_factory=list)  # the question's place in the world
    model: list[int] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    cost_usd: list[float] = field(default_factory=list)
    calibration_usd: float = 0.0
    rated: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Return how many queries have ended, in one way or another."""
        return len(self.at) + self.failed

    def strategy(self) -> Strategy:
        """Return what routing brought."""
        quality, cost = np.array(self.quality), np.array(self.cost_usd)
        utility = self.world.utility(quality, cost)
        name = "Conduit" if self.world.calibration else "Conduit, not calibrated"
        return Strategy(name, quality.mean(), cost.sum(), utility.mean())

    def gain(self) -> float:
        """Return the quality beyond that of the best blind mix at the same cost."""
        ours = self.strategy()
        return ours.quality - self.world.mix(ours.cost_usd / len(self.at)).quality
