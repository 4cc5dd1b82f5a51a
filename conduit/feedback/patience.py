"""Latency against the patience that a router's own history shows.

A histogram with log-spaced bins counts how long answers took, and how long callers who gave up had
waited. Counts add up, so the histograms of replicas merge. An abandoned call is censored: it would
have taken at least that long, so it counts among the calls still running in every bin before its
own and in none after (Kaplan and Meier); the same table read the other way round tells after how
long callers give up.

How slow an answer was is no evidence of its text: the learner has an output for latency. The signal
says how content a caller is with the wait.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, finite, unknown_name

Tolerance = Literal["high", "medium", "low"]

MIN_LATENCIES: Final = 30  # answers before a wait is judged
MIN_ABANDONED: Final = 10  # callers who gave up before their patience is read

# The quantile of this router's own latencies up to which a caller waits without complaint.
PATIENCE_QUANTILE: Final[dict[Tolerance, float]] = {"high": 0.97, "medium": 0.90, "low": 0.75}
# The share of callers that have given up at the end of patience, where enough have.
_GIVEN_UP: Final[dict[Tolerance, float]] = {"high": 0.5, "medium": 0.25, "low": 0.1}
_STEEPNESS: Final = 4.0  # satisfaction is 1/2 at patience, 0.94 at half of it, 0.06 at its double

SHORTEST_S: Final = 0.001
_BINS_PER_DECADE: Final = 24  # neighbouring bins are 10 % apart
_DECADES: Final = 7  # 1 ms to 10,000 s
BINS: Final = _BINS_PER_DECADE * _DECADES


@dataclass(frozen=True, slots=True, eq=False)
class LatencySummary:
    """How long answers took and callers waited in vain: counts in log-spaced bins."""

    answered: NDArray[np.float64]
    abandoned: NDArray[np.float64]

    @classmethod
    def empty(cls) -> LatencySummary:
        """Return the summary of no calls."""
        return cls(np.zeros(BINS), np.zeros(BINS))

    def __post_init__(self) -> None:
        """Own read-only counts of the right shape."""
        for name in ("answered", "abandoned"):
            counts = np.array(getattr(self, name), np.float64)
            if counts.shape != (BINS,) or not np.isfinite(counts).all() or (counts < 0).any():
                raise InvalidInput(f"{name} must be {BINS} counts", field=name)
            counts.flags.writeable = False
            object.__setattr__(self, name, counts)

    def added(self, latency_s: float, *, abandoned: bool = False) -> LatencySummary:
        """Return the summary with one call more."""
        extra = np.zeros(BINS)
        extra[bin_of(finite(latency_s, "latency_s", low=0.0))] = 1.0
        if abandoned:
            return LatencySummary(self.answered, self.abandoned + extra)
        return LatencySummary(self.answered + extra, self.abandoned)

    def merged(self, other: LatencySummary) -> LatencySummary:
        """Return what both saw; the order does not matter."""
        return LatencySummary(self.answered + other.answered, self.abandoned + other.abandoned)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencySummary):
            return NotImplemented
        same = np.array_equal(self.answered, other.answered)
        return same and np.array_equal(self.abandoned, other.abandoned)

    __hash__ = None  # type: ignore[assignment]  # counts are compared by value

    @property
    def count(self) -> float:
        """Return the number of answers."""
        return float(self.answered.sum())

    def latency_quantile_s(self, share: float) -> float | None:
        """Return the seconds within which this share of calls is answered; None where unknown."""
        return _quantile_s(self.answered, self.abandoned, share)

    def waiting_quantile_s(self, share: float) -> float | None:
        """Return the seconds after which this share of callers gives up; None where unknown."""
        return _quantile_s(self.abandoned, self.answered, share)

    def patience_s(self, tolerance: Tolerance = "medium") -> float | None:
        """Return how long callers of a tolerance wait; None before there is enough history."""
        if tolerance not in PATIENCE_QUANTILE:
            known = tuple(PATIENCE_QUANTILE)
            raise InvalidInput(unknown_name("tolerance", tolerance, known), field="tolerance")
        if self.count < MIN_LATENCIES:
            return None
        usual = self.latency_quantile_s(PATIENCE_QUANTILE[tolerance])
        if self.abandoned.sum() < MIN_ABANDONED:
            return usual
        given_up = self.waiting_quantile_s(_GIVEN_UP[tolerance])
        known_s = [each for each in (usual, given_up) if each is not None]
        return min(known_s, default=None)

    def to_json(self) -> str:
        """Return JSON that `from_json` turns back into an equal summary."""
        both = {"answered": self.answered, "abandoned": self.abandoned}
        sparse = {
            name: [[int(i), float(counts[i])] for i in np.flatnonzero(counts)]
            for name, counts in both.items()
        }
        return json.dumps({"latency": 1, "bins": BINS, **sparse}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> LatencySummary:
        """Return what `to_json` was given, or raise InvalidInput for anything else."""
        try:
            data = json.loads(text)
            if data["bins"] != BINS:
                raise ValueError("other bins")
            return cls(*(_dense(data[name]) for name in ("answered", "abandoned")))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise InvalidInput("not the JSON of a LatencySummary", field="latency") from error


@dataclass(frozen=True, slots=True)
class KnownPatience:
    """What a summary says of patience, read once for many calls."""

    seconds: Mapping[Tolerance, float | None]

    @classmethod
    def of(cls, summary: LatencySummary) -> KnownPatience:
        """Read a summary."""
        return cls({tolerance: summary.patience_s(tolerance) for tolerance in PATIENCE_QUANTILE})

    def patience_s(self, tolerance: Tolerance = "medium") -> float | None:
        """Return how long callers of a tolerance wait; None before there is enough history."""
        return self.seconds[tolerance]


def _dense(pairs: list[tuple[int, float]]) -> NDArray[np.float64]:
    counts = np.zeros(BINS)
    for i, count in pairs:
        counts[i] = count
    return counts


def bin_of(latency_s: float) -> int:
    """Return the bin that a latency is counted in."""
    if latency_s <= SHORTEST_S:
        return 0
    return min(int(math.log10(latency_s / SHORTEST_S) * _BINS_PER_DECADE), BINS - 1)


def _quantile_s(
    ended: NDArray[np.float64], censored: NDArray[np.float64], share: float
) -> float | None:
    """Return the Kaplan-Meier quantile, within a bin on its log scale; None where it is open."""
    share = finite(share, "share", low=0.0, high=1.0)
    running = np.cumsum((ended + censored)[::-1])[::-1]  # calls that reach each bin
    hazard = np.divide(ended, running, out=np.zeros(BINS), where=running > 0.0)
    left = np.cumprod(1.0 - hazard)
    reached = np.flatnonzero((left <= 1.0 - share + 1e-12) & (running > 0.0))
    if not reached.size:
        return None
    i = int(reached[0])
    before = left[i - 1] if i else 1.0
    within = (before - (1.0 - share)) / (before - left[i]) if before > left[i] else 1.0
    place = i + min(max(float(within), 0.0), 1.0)
    return float(SHORTEST_S * 10.0 ** (place / _BINS_PER_DECADE))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySignal:
    """How content a caller is with a wait, 0 to 1; nothing about the text of the answer."""

    satisfaction: float
    latency_s: float  # where the caller gave up, "at least this long"
    patience_s: float
    tolerance: Tolerance
    censored: bool = False
    reliability_key: str = "latency"

    @property
    def quality(self) -> None:
        """Return None: a slow text is as good as a fast one."""
        return None


def latency_signal(
    latency_s: float,
    *,
    history: LatencySummary | KnownPatience,
    tolerance: Tolerance = "medium",
    abandoned: bool = False,
) -> LatencySignal | None:
    """Return the signal of one wait, None before `MIN_LATENCIES` answers are known.

    A caller who gave up is never content, however short the wait was.
    """
    waited = finite(latency_s, "latency_s", low=0.0)
    patience = history.patience_s(tolerance)
    if patience is None:
        return None
    satisfaction = 1.0 / (1.0 + (waited / patience) ** _STEEPNESS)
    return LatencySignal(
        satisfaction=min(satisfaction, 0.5) if abandoned else satisfaction,
        latency_s=waited,
        patience_s=patience,
        tolerance=tolerance,
        censored=abandoned,
    )
