"""`make` brings `.venv` up to date by itself, whatever state it finds it in.

One environment is really made, in a copy of the tree. A script stands in for pip and notes what it
was asked to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAMP = ".venv/.installed"

pytestmark = pytest.mark.slow  # Python takes its time to make an environment


def tree_in(directory: Path) -> Path:
    """Return a directory that holds what the rule for `.venv` needs, and a pip that only notes."""
    directory.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, directory)
        os.utime(directory / name, (0, 0))  # older than any stamp
    (directory / "pip").write_text('#!/bin/sh\necho "$@" >> installed\n')
    (directory / "pip").chmod(0o755)
    return directory


def make(tree: Path, *arguments: str) -> str:
    """Run make in a tree, its own pip in pip's place; return what it prints."""
    done = subprocess.run(
        ["make", *arguments, f"PIP={tree / 'pip'}"],
        cwd=tree,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(tree: Path) -> str:
    """Return what the pip of a tree was asked to install since the last time."""
    noted = tree / "installed"
    lines = noted.read_text() if noted.exists() else ""
    noted.unlink(missing_ok=True)
    return lines


def stamped(tree: Path) -> Path:
    """Put an environment without scripts in a tree, finished by its stamp; return their place."""
    scripts = tree / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (tree / STAMP).touch()
    return scripts


def without_scripts(tree: Path) -> None:
    """The stamp is all there is."""
    stamped(tree).rmdir()


def without_interpreter(tree: Path) -> None:
    """The Python that made the environment is gone."""
    (stamped(tree) / "python").symlink_to(tree / "gone" / "python3")


def without_packages(tree: Path) -> None:
    """The Python behind the link is another one by now, and finds none of the packages."""
    python = stamped(tree) / "python"
    python.write_text("#!/bin/sh\nexit 1  # No module named pip\n")
    python.chmod(0o755)


def made_elsewhere(tree: Path) -> None:
    """The environment was moved or copied here, and its scripts name another interpreter."""
    scripts = stamped(tree)
    (scripts / "python").symlink_to(sys.executable)
    (scripts / "pip").write_text("#!/old/home/.venv/bin/python3\n")


@pytest.mark.parametrize(
    "state", [without_scripts, without_interpreter, without_packages, made_elsewhere]
)
@pytest.mark.parametrize("target", ["test", "bench", "docs"])
def test_an_environment_that_does_not_work_is_to_be_made_anew(
    state: Callable[[Path], None], target: str, tmp_path: Path
) -> None:
    """A stamp does not save what cannot run: every target begins with a new environment."""
    tree = tree_in(tmp_path / "tree")
    state(tree)
    planned = make(tree, "-n", target)
    assert "-m venv --clear .venv" in planned
    assert planned.index("-m venv --clear .venv") < planned.index(' -e ".[dev,')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have a tree's environment made in the place of one that has lost its scripts."""
    tree = tree_in(tmp_path_factory.mktemp("made") / "tree")
    without_scripts(tree)
    make(tree, STAMP)
    return tree


def works(tree: Path) -> bool:
    """Whether the scripts of a tree's environment run, with the packages that stand there."""
    pip = tree / ".venv" / "bin" / "pip"
    done = subprocess.run([pip, "--version"], capture_output=True, text=True, check=True)
    return str(tree / ".venv") in done.stdout


def test_an_environment_that_was_made_anew_works_and_is_kept(made: Path) -> None:
    """It can run, it was filled, and while it is up to date nothing more is done."""
    assert works(made)
    assert "-e .[dev," in installed(made)
    assert "up to date" in make(made, STAMP)
    assert installed(made) == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "Makefile"])
def test_what_says_what_to_install_is_newer(made: Path, name: str) -> None:
    """Where that has changed, pip looks again, and the environment stays."""
    installed(made)
    (made / name).touch()
    assert "Making .venv" not in make(made, STAMP)
    assert "-e .[dev," in installed(made)
    assert works(made)


def test_a_link_to_an_environment_is_used(made: Path, tmp_path: Path) -> None:
    """A `.venv` that is a link to one that works is not emptied."""
    tree = tree_in(tmp_path / "tree")
    (tree / ".venv").symlink_to(made / ".venv")
    assert "up to date" in make(tree, STAMP)
    assert works(made)
