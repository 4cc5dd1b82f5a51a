"""What failures say once their model is back: nothing, if it was down for a while.

A model that is down fails a few times before its circuit breaker keeps callers away. Each of those
failures taught quality 0. When a probe finds the model back after an outage, they are withdrawn, by
rows of the log, so that replicas and restarts agree. Failures that come and go stay: a model that
fails one call in three is that much worse, and its short pauses are no outage.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Final, NamedTuple

from conduit.core.models import ImplicitFeedback, RoutingDecision
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.failures import meaning
from conduit.engines.executor.health import FAILURES_TO_OPEN
from conduit.engines.rows import WITHDRAWN

# A breaker that opened by chance finds its model back within a few back-offs of 1, 2, 4 s.
OUTAGE_S: Final = 10.0
REMEMBERED: Final = 100  # failures of one outage


class _Failure(NamedTuple):
    """A failure that was taught, and when."""

    decision: RoutingDecision
    at_s: float


class Outages:
    """Remembers the failures of each model since it last answered."""

    def __init__(self, outage_s: float = OUTAGE_S) -> None:
        """Count as an outage what lasts so long from the first failure to an answer."""
        self.outage_s = outage_s
        self._failures: dict[str, deque[_Failure]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def ended(
        self, decision: RoutingDecision, attempt: AttemptRecord, now: float
    ) -> list[RoutingDecision]:
        """Note how an attempt ended; return the decisions whose failures it shows to be an outage.

        Only the answer to a probe does: without one, the model was never kept away.
        """
        failures = self._failures[attempt.model]
        if attempt.failure is not None:
            if attempt.quality is not None and meaning(attempt.failure).trips:
                failures.append(_Failure(decision, now))
            return []
        past = [failure.decision for failure in failures]
        was_down = len(failures) >= FAILURES_TO_OPEN
        lasted = was_down and now - failures[0].at_s >= self.outage_s
        failures.clear()
        return past if attempt.probe and lasted else []


def withdrawal(decision: RoutingDecision, model: str) -> ImplicitFeedback:
    """Return the feedback that takes back what a failed attempt taught."""
    return ImplicitFeedback(
        signal=WITHDRAWN,
        quality=0.0,
        weight=0.0,
        feedback_id=f"{decision.id}:{model}:{WITHDRAWN}",
    )


__all__ = ["OUTAGE_S", "Outages", "withdrawal"]
