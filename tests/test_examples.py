"""Every example runs offline, from an empty directory, and prints what its closing comment says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conduit.testing import LocalProvider, SimulatedModel

ROOT = Path(__file__).parents[1]
HELPERS = {"pool", "deployments"}
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").glob("*/*.py")
    if path.stem not in HELPERS and path.parent.name != "04_litellm"  # tests/litellm runs those
)
NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]\d+)?")


def run(path: Path, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a user does who has nothing but Conduit."""
    surroundings = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # whoever goes on the network fails
        "NO_PROXY": "127.0.0.1,localhost",
        **environ,
    }
    return subprocess.run(
        [sys.executable, str(path)],
        cwd=folder, env=surroundings, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def closing_comment(path: Path) -> str:
    """Return what an example says that it printed."""
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    start = len(lines)
    while lines[start - 1].startswith("#"):
        start -= 1
    return "\n".join(line[1:] for line in lines[start:])


def pattern_of(comment: str) -> re.Pattern[str]:
    """Return what the output must be: `…` is anything, a number any number, spaces any spaces."""
    words = []
    for word in comment.split():
        parts = [re.escape(NUMBER.sub("0", part)) for part in word.split("…")]
        words.append(".*".join(parts))
    return re.compile(r"\s+".join(words), re.DOTALL)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    """It ends well, without a warning, and its closing comment is what it printed."""
    needs = {"litellm_backend": "litellm", "fastapi_service": "fastapi",
             "monitoring": "opentelemetry.sdk"}.get(path.stem)  # fmt: skip
    if needs is not None and importlib.util.find_spec(needs.partition(".")[0]) is None:
        pytest.skip(f"{needs} is not installed")
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr.strip()
    comment = closing_comment(path)
    assert comment
    printed = NUMBER.sub("0", done.stdout).strip()
    assert pattern_of(comment).fullmatch(printed), f"printed:\n{done.stdout}\nsaid:\n{comment}"


def test_with_a_key_the_provider_of_the_key_is_asked(tmp_path: Path) -> None:
    """An example does not simulate what the user has a key for."""
    from conduit.catalogue.models import arms_from_environment

    names = [arm.id.partition(":")[2] for arm in arms_from_environment({"OPENAI_API_KEY": "k"})]
    models = [SimulatedModel(name, 1.0, 4.0) for name in names]
    with LocalProvider(models, api_key="k").serve_in_thread() as provider:
        done = run(
            ROOT / "examples" / "05_production" / "batch_processing.py",
            tmp_path,
            OPENAI_API_KEY="k",
            OPENAI_BASE_URL=provider.base_url,
        )
        assert "asking openai:" in done.stdout, done.stderr
        assert "30 answered, 0 failed" in done.stdout
        assert len(provider.requests) == 30
