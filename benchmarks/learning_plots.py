"""Regret over a stream, as pictures for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cells import PLAIN, Cell
from conduit.evaluation.plots import STYLES, Line, svg_chart

IMAGES = Path(__file__).parents[1] / "docs" / "img"
WORKLOADS = ("llmrouter9 λ=0.1", "routellm λ=0.13", "paretobandit_test λ=0.02")


def draw(cells: Sequence[Cell], ours: str) -> list[Path]:
    """Draw, for some workloads, our policies and then the peers; return the files."""
    drawn: list[Path] = []
    for title in WORKLOADS:
        plain = [c for c in cells if c.workload.title == title and c.setup == PLAIN]
        policies = [
            c for c in plain if c.contestant.peer is None and c.contestant.name not in _ENDS
        ]
        peers = [c for c in plain if c.contestant.peer is not None]
        default = [c for c in policies if c.contestant.name == ours]
        tuned = [c for c in peers if c.contestant.name.endswith("tuned")]
        for kind, chosen in (("policies", policies), ("peers", default + tuned)):
            if len(chosen) > 1:
                drawn.append(_chart(title, kind, chosen[: len(STYLES)]))
    return drawn


_ENDS = ("random", "always_best", "always_cheapest", "oracle")  # would flatten all other lines


def _chart(title: str, kind: str, cells: Sequence[Cell]) -> Path:
    lines = []
    for cell in cells:
        kept = cell.found().kept
        lines.append(Line(cell.contestant.name, kept["curve"], kept["curve_regret"]))
    picture = svg_chart(
        lines,
        x_label="queries",
        y_label="regret against the best single model",
        title=f"{title}: regret of {kind}, {PLAIN.title}",
    )
    IMAGES.mkdir(exist_ok=True)
    file = IMAGES / f"learning-{title.split()[0]}-{kind}.svg"
    file.write_text(picture)
    return file
