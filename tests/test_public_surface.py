"""The public names are those promised, and importing them costs nothing before their use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import conduit
from conduit.core import errors

ROOT = Path(__file__).parent.parent
PACKAGES = ["conduit", "conduit_litellm"]
HEAVY = ["torch", "sklearn", "scipy", "litellm", "redis", "sqlalchemy", "pydantic_ai", "openai"]


def packages() -> Iterator[str]:
    """Name every package of the distribution; none of their modules is imported."""
    for root in PACKAGES:
        yield root
        path = [str(ROOT / root)]
        yield from (each.name for each in walk_packages(path, f"{root}.") if each.ispkg)


def declared_for_type_checkers() -> dict[str, str]:
    """Map each name that type checkers see in `conduit` to the module they find it in."""
    tree = ast.parse(inspect.getsource(conduit))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {name.name: node.module or "" for node in imports for name in node.names}


@pytest.mark.parametrize("name", conduit.__all__)
def test_every_public_name_resolves_to_what_type_checkers_see(name: str) -> None:
    """Each name of `__all__` is there, and is the object its module defines."""
    value = getattr(conduit, name)
    if name != "__version__":
        assert value is getattr(import_module(declared_for_type_checkers()[name]), name)


def test_all_is_sorted_complete_and_without_repeats() -> None:
    """`__all__`, `dir()` and what type checkers see are the same names."""
    names = {*declared_for_type_checkers(), "__version__"}
    assert sorted(names) == sorted(conduit.__all__)
    assert sorted(names) == dir(conduit)


def test_every_error_is_public() -> None:
    """Whoever catches an error of Conduit can import it from `conduit`."""
    kinds = [each for each in vars(errors).values() if inspect.isclass(each)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, errors.ConduitError)}
    assert names <= set(conduit.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    """A misspelt public name fails as on any module."""
    with pytest.raises(AttributeError, match="module 'conduit' has no attribute 'Ruoter'"):
        conduit.Ruoter  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    """`conduit.__version__` is what pip shows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert conduit.__version__ == project["version"]


@pytest.mark.parametrize("package", list(packages()))
def test_every_name_a_package_offers_resolves(package: str) -> None:
    """No package lists a name in `__all__` that it does not have."""
    if package.startswith("conduit_litellm"):
        pytest.importorskip("litellm")
    module = import_module(package)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None, name


@pytest.mark.parametrize("package", [each for each in packages() if each.startswith("conduit.")])
def test_importing_a_package_loads_no_vendor(package: str) -> None:
    """`import conduit` and every package below it leave the heavy libraries alone."""
    code = f"import sys, {package}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
