"""From what an answer shows, and what is said of it, to evidence that the router learns from."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.feedback.collector import FeedbackCollector, SignalStats
    from conduit.feedback.detector import ImplicitFeedbackDetector
    from conduit.feedback.events import FeedbackPayload, SignalEvent, SignalPayload
    from conduit.feedback.history import QueryHistoryTracker
    from conduit.feedback.history_redis import RedisQueryHistoryTracker
else:
    __getattr__ = exporter(
        __name__,
        {
            "FeedbackCollector": "conduit.feedback.collector",
            "FeedbackPayload": "conduit.feedback.events",
            "ImplicitFeedbackDetector": "conduit.feedback.detector",
            "QueryHistoryTracker": "conduit.feedback.history",
            "RedisQueryHistoryTracker": "conduit.feedback.history_redis",
            "SignalEvent": "conduit.feedback.events",
            "SignalPayload": "conduit.feedback.events",
            "SignalStats": "conduit.feedback.collector",
        },
    )

__all__ = [
    "FeedbackCollector",
    "FeedbackPayload",
    "ImplicitFeedbackDetector",
    "QueryHistoryTracker",
    "RedisQueryHistoryTracker",
    "SignalEvent",
    "SignalPayload",
    "SignalStats",
]
