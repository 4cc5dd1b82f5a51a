"""Learned routing for LiteLLM routers; each name loads what it needs when it is first used."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit_litellm.feedback import ConduitFeedbackLogger
    from conduit_litellm.strategy import ConduitRoutingStrategy, StrategyStats
    from conduit_litellm.utils import extract_model_ids
else:
    __getattr__ = exporter(
        __name__,
        {
            "ConduitFeedbackLogger": "conduit_litellm.feedback",
            "ConduitRoutingStrategy": "conduit_litellm.strategy",
            "StrategyStats": "conduit_litellm.strategy",
            "extract_model_ids": "conduit_litellm.utils",
        },
    )

__all__ = [
    "ConduitFeedbackLogger",
    "ConduitRoutingStrategy",
    "StrategyStats",
    "extract_model_ids",
]
