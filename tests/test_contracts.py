"""Each import contract of the project catches what it forbids, in a copy of the real tree.

So do the lint rules that keep a pure module from the clock, chance and files without an import.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS: dict[str, dict[str, Any]] = {each["id"]: each for each in CONFIG["contracts"]}
# What a pure module may import; the one adapter among them reads prices that ship with its vendor.
# `importlib` finds the numbers that come with the package; what else it can do, a lint rule bans.
PURE_VENDORS = {"numpy", "scipy", "pydantic", "pydantic_core", "typing_extensions"}
PURE_STANDARD = {
    "__future__", "collections", "contextlib", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "functools", "hashlib", "importlib", "json", "math", "operator", "re", "struct",
    "types", "typing", "unicodedata", "zlib",
}  # fmt: skip
PURE_ADAPTERS = {"conduit.catalogue.pricing": {"genai_prices"}}

# Violations by contract: lines to add to files of the tree, which are made where they are missing.
PLANTS: list[tuple[str, Mapping[str, str]]] = [
    ("floors", {"conduit/storage/new.py": "import conduit.feedback"}),
    ("floors", {"conduit/storage/new.py": "import conduit.cache"}),
    ("floors", {"conduit/evaluation/new.py": "import conduit.feedback"}),
    ("floors", {"conduit/helpers.py": ""}),
    ("front-doors", {"conduit/evaluation/new.py": "import conduit_litellm"}),
    ("engines", {"conduit/engines/embeddings/new.py": "import conduit.engines.executor"}),
    ("engines", {"conduit/engines/helpers.py": ""}),
    ("service", {"conduit/service/purse.py": "import conduit.service.loop"}),
    ("service", {"conduit/service/helpers.py": ""}),
    ("core", {"conduit/core/errors.py": "import conduit.core.models"}),
    ("core", {"conduit/core/helpers.py": ""}),
    ("pure", {"conduit/engines/learner.py": "import uuid"}),
    ("pure", {"conduit/engines/learner.py": "import io"}),
    ("pure", {"conduit/engines/learner.py": "import ctypes"}),
]

# Ways out of a pure module that no import contract sees, by the lint rule that sees them.
IMPURE_LINES = [
    ("TID251", "from datetime import datetime\nNOW = datetime.now(UTC)"),
    ("TID251", "import datetime as d\nNOW = d.datetime.utcnow()"),
    ("TID251", "from datetime import date\nclock = date.today"),
    ("DTZ006", "from datetime import datetime\nDAY = datetime.fromtimestamp(0.0)"),
    ("TID251", "NOW = np.datetime64('now')"),
    ("NPY002", "np.random.seed(0)"),
    ("NPY002", "from numpy import random\nLUCK = random.rand()"),
    ("TID251", "LUCK = np.random.default_rng().random()"),
    ("TID251", "LUCK = np.random.Generator(np.random.PCG64()).random()"),
    ("TID251", "from scipy import stats\nLUCK = stats.norm.rvs()"),
    ("PTH123", "with open('/etc/hosts') as file:\n    pass"),
    ("PTH123", "TEXT = open('/etc/hosts', 'rb').read()"),
    ("TID251", "TEXT = np.fromfile('/etc/hosts')"),
    ("TID251", "np.load('numbers.npy')"),
    ("TID251", "from importlib import metadata\nTEXT = metadata.version('numpy')"),
    ("TID251", "import importlib\nimportlib.import_module('time').time()"),
]


def file_of(module: str, root: Path = ROOT) -> Path | None:
    """Find the file of a module or package; None where it does not exist."""
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def modules_matching(expression: str) -> Iterator[str]:
    """Name the modules that an expression of a contract stands for."""
    for path in ROOT.glob(expression.replace(".", "/") + ".py"):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if file_of(expression):
        yield expression


def pure_modules() -> list[str]:
    """Name the modules and packages that are said to be pure."""
    sources = CONTRACTS["pure"]["source_modules"]
    return sorted({module for source in sources for module in modules_matching(source)})


def reached_from_pure_modules() -> Iterator[Path]:
    """Find the files of the pure modules, and of what they import of ours."""
    graph = grimp.build_graph("conduit", cache_dir=None)
    pure = {each for name in pure_modules() for each in {name} | graph.find_descendants(name)}
    for module in pure.union(*map(graph.find_upstream_modules, pure)):
        path = file_of(module)
        assert path is not None
        yield path.relative_to(ROOT)


def all_plants() -> list[tuple[str, Mapping[str, str]]]:
    """List the violations above, one for each pure module and one for each vendor."""
    plants = list(PLANTS)
    for module in pure_modules():
        path = file_of(module)
        assert path is not None
        plants.append(("pure", {str(path.relative_to(ROOT)): "import time"}))
    for module in CONTRACTS["stores"]["source_modules"]:
        # Through a new neighbour, which may itself import it, so that no other contract is touched.
        neighbour = {"conduit/storage/new.py": "import sqlalchemy"}
        plants.append(
            (
                "stores",
                {f"{module.replace('.', '/')}.py": "import conduit.storage.new", **neighbour},
            )
        )
    for contract in CONTRACTS.values():
        if contract.get("source_modules") == CONFIG["root_packages"]:
            (vendor,) = contract["forbidden_modules"]
            plants.append((contract["id"], {"conduit/integrations/new.py": f"import {vendor}"}))
    return plants


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what the contracts look at."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", tree)
    for package in CONFIG["root_packages"]:
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("data", "__pycache__")
        )
    return tree


def broken_contracts(tree: Path) -> set[str]:
    """Run the linter on a tree and return the ids of the contracts it finds broken."""
    linter = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "COLUMNS": "300", "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.startswith("Contracts: ") for line in lines), done.stdout + done.stderr
    broken = {
        key
        for key, each in CONTRACTS.items()
        if any(line.startswith(f"{each['name']} BROKEN") for line in lines)
    }
    assert bool(broken) == bool(done.returncode), done.stdout
    return broken


@pytest.fixture(scope="module")
def broken_before(clean_tree: Path) -> set[str]:
    """Name the contracts that the tree itself breaks: none, as the next test says."""
    return broken_contracts(clean_tree)


def test_the_tree_keeps_every_contract(broken_before: set[str]) -> None:
    """The project's own code breaks no import contract."""
    assert broken_before == set()


@pytest.mark.parametrize(("contract", "plant"), all_plants())
def test_a_violation_breaks_its_contract_and_no_other(
    contract: str,
    plant: Mapping[str, str],
    clean_tree: Path,
    broken_before: set[str],
    tmp_path: Path,
) -> None:
    """A planted import is caught by the contract that forbids it, and by that one alone."""
    tree = shutil.copytree(clean_tree, tmp_path / "tree")
    for path, line in plant.items():
        with (tree / path).open("a") as file:
            file.write(f"\n{line}\n")
    assert broken_contracts(tree) == broken_before | {contract}


def test_every_contract_has_a_planted_violation() -> None:
    """A contract cannot be added without a proof that it catches something."""
    assert {contract for contract, _plant in all_plants()} == set(CONTRACTS)


def linted(tree: Path) -> set[tuple[Path, str]]:
    """Lint a tree as `make test` does; return which rule it finds broken in which file."""
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [ruff, "check", "--output-format", "json", "."],
        cwd=tree,
        env={**os.environ, "RUFF_NO_CACHE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {(Path(each["filename"]), each["code"]) for each in json.loads(done.stdout)}
    assert bool(found) == bool(done.returncode), done.stderr
    return {(path.relative_to(tree.resolve()), code) for path, code in found}


def test_the_tree_breaks_no_lint_rule(clean_tree: Path) -> None:
    """What the next tests find in the tree is what they planted."""
    assert linted(clean_tree) == set()


@pytest.mark.parametrize(("rule", "lines"), IMPURE_LINES)
def test_a_way_to_clock_chance_or_file_is_caught(
    rule: str, lines: str, clean_tree: Path, tmp_path: Path
) -> None:
    """A pure module cannot read the clock, draw from anywhere or open a file and pass the lint."""
    tree = shutil.copytree(clean_tree, tmp_path / "tree")
    learner = tree / "conduit" / "engines" / "learner.py"
    learner.write_text(f"{learner.read_text()}\n{lines}\n")
    assert (learner.relative_to(tree), rule) in linted(tree)


def test_every_pure_module_is_kept_from_clock_chance_and_file(
    clean_tree: Path, tmp_path: Path
) -> None:
    """The lint rules hold in each pure module, and in each module of ours that one imports."""
    tree = shutil.copytree(clean_tree, tmp_path / "tree")
    paths = set(reached_from_pure_modules())
    for path in paths:
        with (tree / path).open("a") as file:
            file.write(
                "\nimport datetime\n\nNOW = datetime.datetime.now(datetime.UTC)\nopen('x')\n"
            )
    found = linted(tree)
    assert {path for path, rule in found if rule == "TID251"} == paths
    assert {path for path, rule in found if rule == "PTH123"} == paths


def test_pure_modules_import_what_computes_only() -> None:
    """A pure module imports numpy, scipy, pydantic and the computing part of Python's library."""
    graph = grimp.build_graph("conduit", include_external_packages=True, cache_dir=None)
    known = PURE_VENDORS | PURE_STANDARD | {"conduit"}
    strangers = {}
    for package in pure_modules():
        for module in {package} | graph.find_descendants(package):
            imported = {
                name.split(".")[0] for name in graph.find_modules_directly_imported_by(module)
            }
            if more := imported - known - PURE_ADAPTERS.get(module, set()):
                strangers[module] = more
    assert strangers == {}


# What a declared dependency is sure to bring, by what it is imported as.
BROUGHT_ALONG = {
    "dotenv": "pydantic-settings",
    "openai": "pydantic-ai-slim[openai]",
    "pydantic_core": "pydantic",
    "anyio": "openai",
    "aiohttp": "litellm",
    "pytest": "conduit.testing is for those who have it",
}


def declared() -> set[str]:
    """Name the distributions that users get, with the core or with an extra of theirs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ours = [extras[name] for name in extras if name not in ("dev", "docs", "bench", "all")]
    listed = [*project["dependencies"], *chain.from_iterable(ours)]
    return {canonicalize_name(Requirement(each).name) for each in listed}


def test_everything_imported_is_a_dependency() -> None:
    """Nothing is imported that is only there because the tools of the tests brought it along."""
    graph = grimp.build_graph(
        "conduit", "conduit_litellm", include_external_packages=True, cache_dir=None
    )
    outside = {name for name in graph.modules if graph.is_module_squashed(name)}
    outside -= {*sys.stdlib_module_names, *BROUGHT_ALONG}
    found = packages_distributions()
    strangers = {
        name
        for name in outside
        if declared().isdisjoint(map(canonicalize_name, found.get(name, [name])))
    }
    assert strangers == set()
