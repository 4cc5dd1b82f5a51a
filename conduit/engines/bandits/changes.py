"""Noticing that a model is no longer what it was: two one-sided CUSUMs of standardised residuals.

Page (1954). A residual within DRIFT standard deviations of the estimate counts as noise; the excess
adds up, and an alarm is raised when it passes THRESHOLD. With these values a stationary stream
raises about one alarm in 10⁵ queries per model, and a fall by one standard deviation is noticed
after about twenty (benchmarks/learning.py).
"""

from __future__ import annotations

from collections.abc import Sequence

DRIFT = 0.35
THRESHOLD = 14.0
KEEP = 0.05  # of the evidence, once a model has changed
LEAST_OUTCOMES = 30.0  # of an arm before its estimate is worth comparing with
LIMIT = 3.0  # one residual counts for at most so many standard deviations


class ChangeDetector:
    """One pair of sums per row; sees outcomes in the log's order."""

    __slots__ = ("down", "up")

    def __init__(self) -> None:
        """Start without rows."""
        self.up: list[float] = []
        self.down: list[float] = []

    def add_row(self) -> None:
        """Append an arm."""
        self.up.append(0.0)
        self.down.append(0.0)

    def remove_row(self, row: int) -> None:
        """Drop an arm."""
        del self.up[row], self.down[row]

    def changed(self, row: int, residual: float) -> bool:
        """Take one standardised residual, and say whether the arm has changed."""
        z = min(max(residual, -LIMIT), LIMIT)
        self.up[row] = max(0.0, self.up[row] + z - DRIFT)
        self.down[row] = max(0.0, self.down[row] - z - DRIFT)
        if self.up[row] <= THRESHOLD and self.down[row] <= THRESHOLD:
            return False
        self.up[row] = self.down[row] = 0.0
        return True

    def dump(self, row: int) -> tuple[float, float]:
        """Return a row's sums."""
        return (self.up[row], self.down[row])

    def load(self, row: int, sums: Sequence[float]) -> None:
        """Go on from a row's sums."""
        self.up[row], self.down[row] = float(sums[0]), float(sums[1])
