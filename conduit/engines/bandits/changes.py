"""Noticing that a model is no longer what it was: two wagers per model, for and against it.

Each outcome multiplies the stake of one wager by 1 + b·(r − s) and that of the other by
1 − b·(r + s). r is how far the outcome is off what was expected, s the standard error of that: of
the models, the one in use is mostly the one that luck favoured, and is expected to be better than
it is by about one. A stake below 1 starts again at 1, and one of ALARM is a change.

While the estimate is right to within s, neither wager pays on average, whatever the outcomes look
like: the mean number of outcomes up to a false alarm of one wager is ALARM or more (Lorden 1971;
Shin, Ramdas and Rinaldo 2023, "E-detectors"), and more than ten times as many were measured
(decision 14). For outcomes of yes and no this is Page's CUSUM of log-likelihood ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

SHIFT = 0.6  # the change that the wagers are made for, in standard deviations
SHARE = 0.5  # of a stake is what an outcome in [0, 1] costs at most, but for s
ALARM = 20_000.0
KEEP = 0.05  # of the evidence, once a model has changed,
MOST_KEPT = 10.0  # and no more than so many outcomes
LEAST_OUTCOMES = 30.0  # of an arm before its estimate is worth comparing with


class ChangeDetector:
    """One pair of stakes per row; sees outcomes in the log's order."""

    __slots__ = ("down", "up")

    def __init__(self) -> None:
        """Start without rows."""
        self.up: list[float] = []
        self.down: list[float] = []

    def add_row(self) -> None:
        """Append an arm."""
        self.up.append(1.0)
        self.down.append(1.0)

    def remove_row(self, row: int) -> None:
        """Drop an arm."""
        del self.up[row], self.down[row]

    def changed(
        self, row: int, off: float, weight: float, expected: float, noise: float, seen: float
    ) -> bool:
        """Take how far one outcome is off what was expected, and say whether the arm has changed.

        `weight` is at most 1; `noise` the standard deviation of one outcome; `seen` are the
        outcomes behind what was expected.
        """
        least, error = noise / SHIFT, noise / math.sqrt(seen)
        rise = weight * (off - error) / max(least, expected / SHARE)
        fall = weight * (off + error) / max(least, (1.0 - expected) / SHARE)
        up, down = self.up[row] * (1.0 + rise), self.down[row] * (1.0 - fall)
        alarm = up >= ALARM or down >= ALARM
        self.up[row], self.down[row] = (1.0, 1.0) if alarm else (max(1.0, up), max(1.0, down))
        return alarm

    def dump(self, row: int) -> tuple[float, float]:
        """Return a row's stakes."""
        return (self.up[row], self.down[row])

    def load(self, row: int, stakes: Sequence[float]) -> None:
        """Go on from a row's stakes."""
        self.up[row], self.down[row] = float(stakes[0]), float(stakes[1])
