"""What `conduit.testing` offers is there by name, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import conduit.testing

ROOT = Path(__file__).parent.parent.parent
SUITES = {
    "CacheContract": "conduit.testing.caches",
    "EmbedderContract": "conduit.testing.embedders",
    "ExecutorContract": "conduit.testing.executors",
    "PolicyContract": "conduit.testing.policies",
    "StoreContract": "conduit.testing.stores",
}


@pytest.mark.parametrize(("name", "module"), SUITES.items())
def test_every_suite_is_offered_by_name(name: str, module: str) -> None:
    """`from conduit.testing import PolicyContract` works, and so for every contract."""
    assert name in conduit.testing.__all__
    assert getattr(conduit.testing, name) is getattr(import_module(module), name)


def test_only_the_suites_need_the_tools_of_tests() -> None:
    """An application without pytest and hypothesis can import the package and use its fakes."""
    code = """
import sys
sys.modules["pytest"] = sys.modules["hypothesis"] = None  # as where they are not installed
import conduit.testing
from conduit.testing import LocalProvider, SimulatedModel
try:
    conduit.testing.PolicyContract
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["pytest"]
