"""Policies that learn which arm to pick; see `policies` for the registry."""

from conduit.engines.bandits.base import ArmPrior, Policy, PolicyFactory, Prediction, Step, View
from conduit.engines.bandits.policies import (
    POLICIES,
    AlwaysBest,
    AlwaysCheapest,
    BanditPolicy,
    ContextualThompsonBandit,
    EpsilonGreedyBandit,
    HybridBandit,
    LinUCBBandit,
    Oracle,
    RandomBandit,
    ThompsonSamplingBandit,
    UCB1Bandit,
    create_policy,
    register_policy,
)

__all__ = [
    "POLICIES", "AlwaysBest", "AlwaysCheapest", "ArmPrior", "BanditPolicy",
    "ContextualThompsonBandit", "EpsilonGreedyBandit", "HybridBandit", "LinUCBBandit", "Oracle",
    "Policy", "PolicyFactory", "Prediction", "RandomBandit", "Step", "ThompsonSamplingBandit",
    "UCB1Bandit", "View", "create_policy", "register_policy",
]  # fmt: skip
