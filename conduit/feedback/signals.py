"""What an answer, its latency and the next query say of quality, without asking anybody.

The front of the pure modules beside it: `answers` (errors), `retries`, `patience` (latency),
`kinds` and `reliability` (how far each signal is believed), `ratings` (explicit feedback).
"""

from conduit.feedback.answers import ErrorKind, ErrorSignal, detect_error
from conduit.feedback.kinds import SIGNAL_RELIABILITY, Prior, SignalKind, SignalKinds
from conduit.feedback.patience import (
    MIN_LATENCIES,
    KnownPatience,
    LatencySignal,
    LatencySummary,
    Tolerance,
    latency_signal,
)
from conduit.feedback.ratings import (
    QualityByModel,
    RatingPropensity,
)
from conduit.feedback.reliability import Reliability, ReliabilityTable, evidence_of
from conduit.feedback.retries import (
    DEFAULT_RULE,
    RETRY_RULES,
    WINDOW_S,
    QueryTrace,
    RetryKind,
    RetryRule,
    RetrySignal,
    retry_signal,
    trace_of,
)

__all__ = [
    "DEFAULT_RULE",
    "MIN_LATENCIES",
    "RETRY_RULES",
    "SIGNAL_RELIABILITY",
    "WINDOW_S",
    "ErrorKind",
    "ErrorSignal",
    "KnownPatience",
    "LatencySignal",
    "LatencySummary",
    "Prior",
    "QualityByModel",
    "QueryTrace",
    "RatingPropensity",
    "Reliability",
    "ReliabilityTable",
    "RetryKind",
    "RetryRule",
    "RetrySignal",
    "SignalKind",
    "SignalKinds",
    "Tolerance",
    "detect_error",
    "evidence_of",
    "latency_signal",
    "retry_signal",
    "trace_of",
]
