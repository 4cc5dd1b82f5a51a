"""The built wheel does what the README says, in an empty directory without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = (
    "import socket\n"
    "def refuse(*a, **k): raise OSError('the network is off')\n"
    "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once, from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    kept = shutil.ignore_patterns(".git", ".venv*", "*_cache", "__pycache__", "benchmarks", "tests")
    shutil.copytree(ROOT, source, ignore=kept)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("conduit_router-*.whl"))


def first_code_of_readme() -> str:
    """Return the first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run(code: str, wheel: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code against the installed wheel, in an empty directory, with the network refused."""
    site, work = folder / "site", folder / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    path = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(work), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-P", "-c", path + BLOCK + code],
        cwd=work, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_readmes_first_example_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Five lines, no key, no server, no download: a model is named and the reason given."""
    done = run(first_code_of_readme(), wheel, tmp_path)
    assert done.returncode == 0, done.stderr
    assert ":" in done.stdout
    assert "no provider key was found" in done.stdout


def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """`conduit demo --no-http` needs nothing but the wheel and the core's libraries."""
    code = (
        "sys.argv = 'conduit demo --no-http --queries 20 --calibrate 2'.split()\n"
        "from conduit.cli import main\n"
        "main()\n"
    )
    done = run(code, wheel, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The models are simulated" in done.stdout
    assert (tmp_path / "work" / "demo-report.html").is_file()


def test_importing_loads_no_vendor(wheel: Path, tmp_path: Path) -> None:
    """`import conduit` and a first route load none of the heavy libraries."""
    heavy = ("torch", "sklearn", "scipy", "litellm", "redis", "sqlalchemy", "pydantic_ai")
    code = (
        "import conduit\n"
        "from conduit import Router\n"
        "Router(environ={}).route_sync('What is 2+2?')\n"
        f"print([m for m in {heavy!r} if m in sys.modules], conduit.__file__)\n"
    )
    done = run(code, wheel, tmp_path)
    assert done.stdout.startswith("[] "), done.stdout + done.stderr
    assert str(tmp_path) in done.stdout


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    """No tests and no tables of prompts; the embedding, the heads and the catalogue are in."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {n.partition("/")[0].partition("-")[0] for n in names} == {
        "conduit", "conduit_litellm", "conduit_router",
    }  # fmt: skip
    assert {Path(n).suffix for n in names if not n.startswith("conduit_router")} <= {
        ".py", ".typed", ".json", ".npy", ".npz", ".txt", "",
    }  # fmt: skip
    for needed in (
        "conduit/engines/embeddings/data/static-minilm-256.npy",
        "conduit/engines/embeddings/data/features.npz",
        "conduit/engines/embeddings/data/heads.npz",
        "conduit/engines/embeddings/data/LICENSE-all-MiniLM-L6-v2",
        "conduit/catalogue/data.json",
        "conduit/py.typed",
    ):
        assert needed in names
    assert wheel.stat().st_size < 12_000_000
