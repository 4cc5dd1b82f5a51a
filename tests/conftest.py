"""Every test runs without keys, without network defaults and without a developer's own settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.servers",)

# The machine's own settings and keys must not reach a test: `Router()` picks models by keys.
_PRIVATE_PREFIXES = ("CONDUIT_",)
_PRIVATE_SUFFIXES = ("_API_KEY", "_API_BASE", "_BASE_URL", "_ACCESS_KEY", "_TOKEN")
_PRIVATE_NAMES = ("DATABASE_URL", "REDIS_URL", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_PROFILE")

# One BLAS thread, so that timings are of the code; nothing is fetched from a hub or a price list.
_FIXED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
}


def _is_private(name: str) -> bool:
    """Whether a variable may hold a key or a setting of the machine that runs the tests."""
    return (
        name in _PRIVATE_NAMES
        or name.startswith(_PRIVATE_PREFIXES)
        or name.endswith(_PRIVATE_SUFFIXES)
    )


def _clean_environment() -> None:
    """Take keys and settings out of the environment and fix what the tests rely on."""
    for name in [name for name in os.environ if _is_private(name)]:
        del os.environ[name]
    os.environ.update(_FIXED)


_clean_environment()

# No deadline: two shared cores make wall time say nothing. Derandomised: a red run is red again.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty home that is also its working directory, as a newcomer has it."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(home)
    return home
