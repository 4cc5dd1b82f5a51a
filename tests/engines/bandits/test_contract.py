"""Every policy keeps the contract, ours by name and one that is not ours by its factory."""

from __future__ import annotations

from functools import partial

import pytest

from conduit.engines.bandits import POLICIES, LinUCBBandit, PolicyFactory
from conduit.testing.policies import PolicyContract


class TestEveryPolicy(PolicyContract):
    """All policies of the registry keep the contract, baselines too."""

    @pytest.fixture(params=sorted(POLICIES))
    def policy(self, request: pytest.FixtureRequest) -> str:
        """Return each name in turn."""
        return str(request.param)


class TestFactory(PolicyContract):
    """A policy that is given as a factory, with arguments of its own, keeps the contract."""

    @pytest.fixture
    def policy(self) -> PolicyFactory:
        """Return a LinUCB that explores more, each arm for itself."""
        return partial(LinUCBBandit, alpha=0.3, share=False)
