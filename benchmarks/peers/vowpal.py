"""Vowpal Wabbit's contextual bandits with action-dependent features."""

from __future__ import annotations

from collections import deque

import numpy as np
import vowpalwabbit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class VowpalWabbit:
    """An explorer over k actions; the vector crosses every action (`-q SA`), costs are −utility."""

    def __init__(self, k: int, seed: int, options: str) -> None:
        """Start a workspace."""
        self.rng = np.random.default_rng(seed)
        self.workspace = vowpalwabbit.Workspace(
            f"--cb_explore_adf -q SA --quiet --random_seed {seed % 2**31} {options}"
        )
        self.actions = [f"|A model={a}" for a in range(k)]
        self.drawn: deque[float] = deque()  # propensities of the choices under way

    def fit(self, x: Floats, utility: Floats) -> None:
        """Learn from prompts that every model answered: each answer is known for certain."""
        for row, answers in zip(x, utility, strict=True):
            for k, reward in enumerate(answers):
                self._learn(row, k, float(reward), 1.0)

    def choose(self, x: Floats) -> int:
        """Draw a model from the distribution that it returns."""
        shares = np.array(self.workspace.predict([_shared(x), *self.actions]))
        shares /= shares.sum()
        k = int(self.rng.choice(shares.size, p=shares))
        self.drawn.append(float(shares[k]))
        return k

    def learn(self, x: Floats, k: int, utility: float) -> None:
        """Learn what came of the oldest choice under way."""
        self._learn(x, k, utility, self.drawn.popleft())

    def _learn(self, x: Floats, k: int, utility: float, propensity: float) -> None:
        lines = [_shared(x), *self.actions]
        lines[k + 1] = f"0:{-utility:.6f}:{propensity:.6f} {lines[k + 1]}"
        self.workspace.learn(lines)


def _shared(x: Floats) -> str:
    return "shared |S " + " ".join(f"{i}:{v:.5g}" for i, v in enumerate(x.tolist()))


def explorer(
    k: int,
    dim: int,
    seed: int,
    *,
    options: str,
    learning_rate: float | None = None,
    power_t: float | None = None,
) -> VowpalWabbit:
    """Return an explorer with these options."""
    if learning_rate is not None:
        options += f" --learning_rate {learning_rate}"
    if power_t is not None:
        options += f" --power_t {power_t}"
    return VowpalWabbit(k, seed, options)
