"""What a service says of itself: its health, and what it has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.router import RouterStats
from conduit.evaluation.judge import JudgeStats
from conduit.feedback.collector import SignalStats
from conduit.storage.base import StoreHealth

GIVEN_UP = ("cancelled", "caller_error")  # ends that are the caller's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The truth about the parts of a service at this moment."""

    ok: bool
    environment: str  # as the settings name it
    store: StoreHealth
    cache: str  # the state of its circuit, or that it is in memory
    models_unavailable: Mapping[str, str] = field(default_factory=dict)
    learning_paused: str | None = None
    feedback_waiting: int = 0  # observations on their way to the log
    judge: JudgeStats | None = None  # of the answers, where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStats:
    """What a service has done since it started."""

    requests: int
    answered: int
    failed: int
    attempts: int
    cost_usd: float
    unknown_cost: int
    router: RouterStats
    signals: SignalStats
    budget_left_usd: float | None = None
    judge: JudgeStats | None = None  # what was judged, left out, failed and paid


@dataclass(slots=True)
class Tally:
    """Counts requests and what their attempts took."""

    requests: int = 0
    answered: int = 0
    failed: int = 0  # refused, or without an answer; one that its caller gave up is neither
    attempts: int = 0
    unknown_cost: int = 0  # attempts that may be paid for, and nobody knows how much
    cost_usd: float = 0.0

    def ended(self, attempts: Sequence[AttemptRecord]) -> None:
        """Note how a request ended, by its attempts."""
        self.attempts += len(attempts)
        costs = [attempt.cost_usd for attempt in attempts]
        self.unknown_cost += costs.count(None)
        self.cost_usd += sum(usd for usd in costs if usd is not None)
        end = attempts[-1].failure if attempts else "not tried"
        if end is None:
            self.answered += 1
        elif end not in GIVEN_UP:
            self.failed += 1
