"""No figure of the README is typed: they are those that the benchmarks wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import readme

CELL = {
    "workload": "t", "calibration": 0, "priors": 0.05, "settings": {}, "quality": 0.7,
    "at": [100, 500, 900], "static_mix_quality": 0.65, "best_single": {"utility": 0.6},
}  # fmt: skip


def test_the_readme_shows_what_was_measured() -> None:
    """`python -m benchmarks.readme` copies the results; nothing else is between the marks."""
    text = readme.README.read_text(encoding="utf-8")
    assert readme.BEGIN + readme.measured() + readme.END in text, "run python -m benchmarks.readme"


def test_learning_is_shown_beside_the_peers_and_the_best_single_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best peer, the hindsight, the mix and the traffic that it took are read off the cells."""
    cells = [
        CELL | {"contestant": "contextual_thompson", "utility": [[0.55, 0], [0.61, 0], [0.62, 0]]},
        CELL | {"contestant": "contextual_thompson", "calibration": 300,
                "utility": [[0.63, 0], [0.64, 0], [0.65, 0]]},
        CELL | {"contestant": "Peer A", "utility": [[0.5, 0], [0.5, 0], [0.5, 0]]},
        CELL | {"contestant": "Peer B, tuned", "utility": [[0.5, 0], [0.5, 0], [0.58, 0]]},
    ]  # fmt: skip
    (tmp_path / "learning.json").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    said = readme.measured()
    assert (
        "| t | 0.550 / 0.610 / 0.620 | 0.630 / 0.640 / 0.650 | "
        "0.500 / 0.500 / 0.580 (Peer B, tuned) | 0.600 | 0.700, 0.650 |"
    ) in said
    assert "within the first 500 queries on t" in said
