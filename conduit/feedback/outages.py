"""What failures say once their model is back: nothing, if they came from an outage.

A model that is down fails a few times before its circuit breaker keeps callers away. Each of those
failures taught quality 0. When the model answers again, they are withdrawn, by rows of the
log, so that replicas and restarts agree. Failures that come and go stay: a model that fails one
call in three is that much worse, and three of its failures in a row are no outage.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final

from conduit.core.models import ImplicitFeedback, RoutingDecision
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.failures import meaning
from conduit.engines.rows import WITHDRAWN

# Failures in a row are an outage when a model that fails as often as this one would hardly have
# so many by chance: two where fifteen calls were answered before, three of a model without
# history, six of one that fails 30 % of its calls. One alone never is.
CHANCE: Final = 0.002
USUAL_FAILURES, USUAL_CALLS = 1.0, 10.0  # of a model of which nothing is known yet
# The first failures of a model that was hardly asked yet are one, too, however few: each would
# weigh as much as what is believed of it, and a model that nobody asks again shows nothing better.
FIRST_CALLS: Final = 15.0
MEMORY = 200.0  # calls over which a model's failures are counted
REMEMBERED: Final = 100  # failures of one outage


@dataclass(slots=True)
class _Past:
    """How often a model failed, and its failures since it last answered."""

    calls: float = 0.0  # until the failures in a row
    failed: float = 0.0
    began_at: float = 0.0  # of the first failure in a row
    in_a_row: int = 0
    taught: deque[RoutingDecision] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def count(self, failed: bool) -> None:
        """Count a call, beside those before it."""
        keep = 1.0 - 1.0 / MEMORY
        self.calls = keep * self.calls + 1.0
        self.failed = keep * self.failed + failed

    def was_down(self) -> bool:
        """Return whether the failures in a row are too many for one that fails as often as it."""
        if self.calls < FIRST_CALLS and not self.failed:
            return True
        share = (self.failed + USUAL_FAILURES) / (self.calls + USUAL_CALLS)
        return share**self.in_a_row <= CHANCE

    def answered(self) -> None:
        """Count the failures in a row, and the answer after them."""
        for _ in self.taught:
            self.count(failed=True)
        self.count(failed=False)
        self.in_a_row = 0
        self.taught.clear()


class Outages:
    """Remembers how each model fails: now and then, or for a while."""

    def __init__(self) -> None:
        """Start without knowing any model."""
        self._past: dict[str, _Past] = defaultdict(_Past)

    def ended(self, decision: RoutingDecision, attempt: AttemptRecord) -> list[RoutingDecision]:
        """Note how an attempt ended; return decisions whose failures it shows to be an outage."""
        past = self._past[attempt.model]
        if attempt.failure is not None:
            taught = attempt.quality is not None
            if meaning(attempt.failure).trips and (taught or attempt.probe):
                past.began_at = past.began_at if past.in_a_row else attempt.began_at
                past.in_a_row += 1
                if taught:
                    past.taught.append(decision)
            return []
        if past.in_a_row and attempt.began_at < past.began_at:
            past.count(failed=False)
            return []  # it was on its way before the failures began
        found = list(past.taught) if past.was_down() else []
        past.answered()
        return found


def withdrawal(decision: RoutingDecision, model: str) -> ImplicitFeedback:
    """Return the feedback that takes back what a failed attempt taught."""
    return ImplicitFeedback(
        signal=WITHDRAWN,
        quality=0.0,
        weight=0.0,
        feedback_id=f"{decision.id}:{model}:{WITHDRAWN}",
    )


__all__ = ["Outages", "withdrawal"]
