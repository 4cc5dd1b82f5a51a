"""Every block of Python in the README and the docs runs, offline, from an empty folder."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks

LANGUAGES = {"python", "sh", "text", "yaml", "sql", "json"}
PYTHON = [b for b in blocks() if b.language == "python"]
HAS_LITELLM = importlib.util.find_spec("litellm") is not None
RUNNER = Path(__file__).with_name("run_blocks.py")


def needs_litellm(block: Block) -> bool:
    """Return whether a block uses LiteLLM, which may be missing."""
    return "litellm" in block.code or (block.setup or "").startswith("litellm")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Run all blocks in one process, those with LiteLLM in another, and return how each ended."""
    results: dict[str, str | None] = {}
    groups = [[b for b in PYTHON if not needs_litellm(b)], [b for b in PYTHON if needs_litellm(b)]]
    if not HAS_LITELLM:
        groups = groups[:1]
    for group in groups:
        folder = tmp_path_factory.mktemp("blocks")
        given = [{"name": b.name, "code": b.code, "setup": b.setup} for b in group]
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HTTPS_PROXY": "http://127.0.0.1:9",  # whoever goes on the network fails
            "NO_PROXY": "127.0.0.1,localhost",
        }
        done = subprocess.run(
            [sys.executable, str(RUNNER)],
            input=json.dumps(given), cwd=folder, env=environ, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        results |= json.loads(done.stdout)
    return results


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: b.name)
def test_the_block_runs(block: Block, ended: dict[str, str | None]) -> None:
    """A reader who pastes it sees it work."""
    if needs_litellm(block) and not HAS_LITELLM:
        pytest.skip("LiteLLM is not installed")
    assert ended[block.name] is None, ended[block.name]


def test_every_block_says_what_it_is() -> None:
    """No block escapes by a language that no test knows."""
    strange = [(b.name, b.language) for b in blocks() if b.language not in LANGUAGES]
    assert not strange
    assert len(PYTHON) > 10
