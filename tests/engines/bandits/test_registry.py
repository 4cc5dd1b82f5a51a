"""Policies are known by name: ours, those that are registered, those that a package installs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conduit.core.errors import ConfigurationError
from conduit.engines.bandits import POLICIES, LinUCBBandit, create_policy, register_policy
from conduit.engines.bandits.base import Policy

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
    "bold_policy-1.0.dist-info/WHEEL": (
        "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
    "bold_policy-1.0.dist-info/entry_points.txt": "[conduit.policies]\nbold = bold_policy:Bold\n",
    "bold_policy-1.0.dist-info/RECORD": "",
}
USE = """
from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm
from conduit.engines.learner import Learner

learner = Learner([ModelArm("a"), ModelArm("b")], 2, policy="bold", seed=1)
chosen = learner.decide([1.0, 0.0]).model
print(learner.policy.name, type(learner.policy).__module__, chosen in "ab")
try:
    Learner([], 2, policy="blod")
except ConfigurationError as error:
    print(error)
"""


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


def test_an_installed_package_brings_its_policy(tmp_path: Path) -> None:
    """A distribution with the entry point `conduit.policies` is enough: nothing else is set up."""
    wheel, site = tmp_path / "bold_policy-1.0-py3-none-any.whl", tmp_path / "site"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{USE}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    used, said = done.stdout.strip().split("\n", 1)
    assert used == "bold bold_policy True"
    assert "bold" in said
    assert "contextual_thompson" in said
