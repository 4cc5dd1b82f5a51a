"""The real command, in an empty folder with an empty home."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Ended = subprocess.CompletedProcess[str]
Conduit = Callable[..., Ended]


@pytest.fixture
def conduit(tmp_path: Path) -> Conduit:
    """Return a function that runs `conduit …` in a folder where nothing is."""

    def run(*arguments: str, given: str | None = None, **environ: str) -> Ended:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        surroundings = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            # An address where nothing listens: whoever goes on the network fails.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
            **environ,
        }
        return subprocess.run(
            [sys.executable, "-m", "conduit.cli", *arguments],
            cwd=tmp_path,
            env=surroundings,
            input=given,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def inline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conduit:
    """Return a function that runs a command in this process, which is quicker."""
    from typer.testing import CliRunner

    from conduit.cli.app import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str, given: str | None = None, **environ: str) -> Ended:
        before = dict(os.environ)
        result = CliRunner().invoke(app, arguments, input=given, env=environ)
        os.environ.clear()  # a command makes the keys of .env known to the whole process
        os.environ.update(before)
        # A traceback would be an exception that reached the runner.
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Ended(arguments, result.exit_code, result.stdout, result.stderr)

    return run
