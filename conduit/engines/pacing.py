"""Pacing: the weight of cost follows the spend, so that a budget lasts its period.

The weight λ is the price of a dollar in quality. It rises while queries cost more than the budget
allows each of them, and falls while they cost less (dual ascent on the budget's constraint), so
that the dear model goes where it gains most per dollar.
"""

from __future__ import annotations

from dataclasses import dataclass

STEP = 0.03  # of λ per query that costs twice what it may (benchmarks/pacing.py)
FADE = 300.0  # queries after which the step has halved: the right λ is known better by then
LEAST_STEP = 0.01
LEAST = -0.25  # money left over has no use, and a higher price is a sign of quality
GREATEST = 10.0  # λ beyond which only the cheapest model is left anyway
WORST_RATIO = 5.0  # one dear query moves λ by at most this many steps
SEEN_SHARE = 0.01  # of its period: traffic of less time says little about the rest
OPEN_END = 100.0  # queries that a budget without an end is spread over at least


@dataclass(slots=True)
class Pacer:
    """Keeps λ; time, spend and traffic are told to it."""

    weight: float = 0.2
    queries: int = 0

    def spent(self, usd: float, allowed_usd: float) -> None:
        """Note what one query cost, and what the budget allows a query from here on."""
        self.queries += 1
        ratio = WORST_RATIO if allowed_usd <= 0.0 else min(usd / allowed_usd, WORST_RATIO)
        step = max(STEP / (1.0 + self.queries / FADE), LEAST_STEP)
        self.weight = min(max(self.weight + step * (ratio - 1.0), LEAST), GREATEST)


@dataclass(slots=True)
class PacedPeriod:
    """What this process spent in one period of a budget, and what the others did beside it."""

    start: float
    before_usd: float  # spent before this process spent anything
    own_usd: float = 0.0
    own_queries: int = 0

    def spent(self, usd: float) -> None:
        """Count a query of this process."""
        self.own_usd += usd
        self.own_queries += 1

    def queries_left(
        self, all_usd: float, *, now: float, since: float, end: float | None, expected: int | None
    ) -> float:
        """Return how many queries all processes still have to pay from what is left.

        `all_usd` is what everyone spent in the period; from it follows how many queries the others
        had. This process has counted `since`, and `expected` is known for the whole period.
        """
        if expected is not None:
            return expected - self._queries(all_usd)
        queries = self._queries(all_usd - self.before_usd)
        if end is None:
            return max(queries, OPEN_END)
        seen_s = max(now - since, SEEN_SHARE * (end - self.start))
        return queries / seen_s * (end - now)

    def _queries(self, usd: float) -> float:
        """Return about how many queries cost so much."""
        return self.own_queries * max(usd / self.own_usd, 1.0) if self.own_usd else self.own_queries


def allowed_usd(left_usd: float, queries_left: float) -> float:
    """Return what each of the remaining queries may cost."""
    return left_usd / max(queries_left, 1.0)
