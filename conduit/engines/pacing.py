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


def allowed_usd(left_usd: float, queries_left: float) -> float:
    """Return what each of the remaining queries may cost."""
    return left_usd / max(queries_left, 1.0)
