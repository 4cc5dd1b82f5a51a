"""Learned routing for LiteLLM routers."""

from conduit_litellm.feedback import ConduitFeedbackLogger
from conduit_litellm.strategy import ConduitRoutingStrategy, StrategyStats
from conduit_litellm.utils import extract_model_ids

__all__ = [
    "ConduitFeedbackLogger",
    "ConduitRoutingStrategy",
    "StrategyStats",
    "extract_model_ids",
]
