"""Policies are known by name: ours, those that are registered, those that a package installs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import ConfigurationError, IncompatibleState, InvalidInput
from conduit.core.models import ModelArm
from conduit.engines.bandits import (
    POLICIES,
    BanditPolicy,
    LinUCBBandit,
    create_policy,
    register_policy,
)
from conduit.engines.bandits.base import Policy
from conduit.engines.bandits.estimates import ArmMeans, RidgeArms
from conduit.engines.bandits.explorations import Greedy
from conduit.engines.learner import Learner

MODULE = """
from conduit.engines.bandits import LinUCBBandit


class Bold(LinUCBBandit):
    name = "bold"

    def __init__(self, dim: int) -> None:
        super().__init__(dim, alpha=2.0)


number = 5
"""
ENTRIES = """[conduit.policies]
bold = bold_policy:Bold
linucb = bold_policy:Bold
missing = no_such_module:Bold
nobody = bold_policy:Nobody
number = bold_policy:number
"""
FILES = {
    "bold_policy.py": MODULE,
    "bold_policy-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: bold-policy\nVersion: 1.0\n"
    ),
    "bold_policy-1.0.dist-info/entry_points.txt": ENTRIES,
}
MODELS = [ModelArm("a"), ModelArm("b")]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a distribution with entry points `conduit.policies`."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("bold_policy", None)


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


@pytest.mark.parametrize(
    ("name", "factory", "field"),
    [
        (None, LinUCBBandit, "name"),
        ("", LinUCBBandit, "name"),
        (LinUCBBandit, "mine", "name"),
        ("mine", LinUCBBandit(3), "factory"),
        ("mine", 5, "factory"),
        ("mine", None, "factory"),
    ],
    ids=["None", "empty", "swapped", "policy", "number", "nothing"],
)
def test_only_what_can_be_named_and_made_is_registered(name: Any, factory: Any, field: str) -> None:
    """A name is a string and a factory is called; else nothing is registered."""
    before = dict(POLICIES)
    with pytest.raises(InvalidInput) as refused:
        register_policy(name, factory)
    assert refused.value.field == field
    assert before == POLICIES


@pytest.mark.parametrize(
    "policy",
    [None, 5, LinUCBBandit(3), lambda dim: dim, str],
    ids=["None", "number", "policy", "identity", "str"],
)
def test_what_makes_no_policy_is_refused_by_name(policy: Any) -> None:
    """A policy itself, or what makes something else, is a wrong `bandit_algorithm`."""
    with pytest.raises(ConfigurationError, match="bandit_algorithm must") as refused:
        create_policy(policy, 3)
    assert refused.value.field == "bandit_algorithm"


def test_a_policy_bears_the_name_that_it_is_made_by(registered: str) -> None:
    """What a registered policy learned is restored with the constants that it has there."""
    POLICIES[registered] = partial(LinUCBBandit, alpha=50.0)
    learner = Learner(MODELS, 2, policy=registered, seed=1)
    again = Learner.restore(learner.snapshot(), MODELS)
    assert again.policy.name == registered
    assert again.policy.exploration.alpha == 50.0
    assert LinUCBBandit.name == "linucb"


def test_a_class_without_a_name_bears_its_own() -> None:
    """Two policies that nobody named are not taken for one, and each goes on from its state."""

    class Means(BanditPolicy):
        def __init__(self, dim: int) -> None:
            super().__init__(dim, ArmMeans(dim), Greedy())

    class Ridges(BanditPolicy):
        def __init__(self, dim: int) -> None:
            super().__init__(dim, RidgeArms(dim), Greedy())

    class Bolder(LinUCBBandit):
        """Continues what a `linucb` learned."""

    assert [p(2).name for p in (Means, Ridges, Bolder)] == ["Means", "Ridges", "linucb"]
    means, ridges = (Learner(MODELS, 2, policy=p, seed=1) for p in (Means, Ridges))
    with pytest.raises(IncompatibleState):
        means.merge(ridges)
    assert Learner.restore(means.snapshot(), MODELS, policy=Means).policy.name == "Means"


@pytest.mark.usefixtures("installed")
def test_an_installed_package_brings_its_policy() -> None:
    """A distribution with the entry point `conduit.policies` is enough: nothing else is set up."""
    learner = Learner(MODELS, 2, policy="bold", seed=1)
    assert (learner.policy.name, type(learner.policy).__module__) == ("bold", "bold_policy")
    assert learner.decide([1.0, 0.0]).model in ("a", "b")
    with pytest.raises(ConfigurationError) as refused:
        create_policy("blod", 2)
    assert "bold" in str(refused.value)
    assert "contextual_thompson" in str(refused.value)


@pytest.mark.usefixtures("installed")
def test_an_installed_package_replaces_none_of_ours() -> None:
    """A name of ours stands for ours, whatever is installed under it."""
    assert type(create_policy("linucb", 2)) is LinUCBBandit


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "missing = no_such_module:Bold .* does not load: ModuleNotFoundError"),
        ("nobody", "nobody = bold_policy:Nobody .* does not load: AttributeError"),
        ("number", "number = bold_policy:number .* must be a callable .*, not int"),
    ],
)
def test_an_entry_point_that_does_not_load_is_named(name: str, said: str) -> None:
    """Which entry point of the environment is broken, and how, is in the error."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        create_policy(name, 2)
    assert refused.value.field == "bandit_algorithm"
