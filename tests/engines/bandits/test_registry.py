"""Policies are known by name: ours, those that are registered, those that a package installs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm
from conduit.engines.bandits import POLICIES, LinUCBBandit, create_policy, register_policy
from conduit.engines.bandits.base import Policy
from conduit.engines.learner import Learner

MODULE = """
from conduit.engines.bandits import LinUCBBandit


class Bold(LinUCBBandit):
    name = "bold"

    def __init__(self, dim: int) -> None:
        super().__init__(dim, alpha=2.0)
"""
FILES = {
    "bold_policy.py": MODULE,
    "bold_policy-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: bold-policy\nVersion: 1.0\n"
    ),
    "bold_policy-1.0.dist-info/entry_points.txt": "[conduit.policies]\nbold = bold_policy:Bold\n",
}


@pytest.fixture
def registered() -> Iterator[str]:
    """Register a policy for one test."""
    name = "for_this_test"
    register_policy(name, LinUCBBandit)
    yield name
    del POLICIES[name]


def test_ours_are_known_by_their_names() -> None:
    """Every name of the registry makes the policy of that name."""
    for name in POLICIES:
        policy: Policy = create_policy(name, 3)
        assert (policy.name, policy.dim) == (name, 3)


def test_a_registered_policy_is_known(registered: str) -> None:
    """What is registered can be named, and no name is taken twice."""
    assert isinstance(create_policy(registered, 3), LinUCBBandit)
    with pytest.raises(ConfigurationError, match="exists already"):
        register_policy(registered, LinUCBBandit)


def test_an_unknown_name_lists_those_that_are_known(registered: str) -> None:
    """A slip of the pen is answered with the nearest name and all others."""
    with pytest.raises(ConfigurationError) as refused:
        create_policy("linucp", 3)
    for name in (*POLICIES, registered):
        assert name in str(refused.value)


def test_an_installed_package_brings_its_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution with the entry point `conduit.policies` is enough: nothing else is set up."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        learner = Learner([ModelArm("a"), ModelArm("b")], 2, policy="bold", seed=1)
        assert (learner.policy.name, type(learner.policy).__module__) == ("bold", "bold_policy")
        assert learner.decide([1.0, 0.0]).model in ("a", "b")
        with pytest.raises(ConfigurationError) as refused:
            create_policy("blod", 2)
        assert "bold" in str(refused.value)
        assert "contextual_thompson" in str(refused.value)
    finally:
        sys.modules.pop("bold_policy", None)
