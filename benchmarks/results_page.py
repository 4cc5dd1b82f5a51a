"""Where figures go: one JSON file per benchmark, and one readable page of them all."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import readme

RESULTS = Path(__file__).parent / "results"


def write(
    name: str, rows: Sequence[Mapping[str, Any]], *, title: str, notes: Sequence[str] = ()
) -> None:
    """Keep a benchmark's rows as JSON, and renew the page."""
    _keep(name, title, notes, {"rows": [dict(row) for row in rows]})


def write_tables(
    name: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    title: str,
    notes: Sequence[str] = (),
    **more: Sequence[Mapping[str, Any]],
) -> None:
    """Keep several tables of one benchmark, and whatever more is not shown, and renew the page."""
    shown = [{"title": t, "rows": [dict(row) for row in rows]} for t, rows in tables.items()]
    _keep(name, title, notes, {"tables": shown, **more})


def _keep(name: str, title: str, notes: Sequence[str], content: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    found = {
        "title": title,
        "notes": list(notes),
        "measured_on": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **content,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    _renew_page()
    readme.renew()


def kept(name: str) -> list[dict[str, Any]]:
    """Return the rows that a benchmark wrote last."""
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text()).get("rows") if path.exists() else None
    return rows if isinstance(rows, list) else []


def _renew_page() -> None:
    parts = [
        "# Measured results",
        "",
        "Made by `make bench`; each part is one JSON file beside it.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        if not isinstance(found.get("rows", found.get("tables")), list):
            continue  # a benchmark with a shape of its own
        parts += [
            "",
            f"## {found['title']}",
            "",
            f"`python -m benchmarks.{path.stem}`, {found['measured_on']}, "
            f"Python {found['python']}, numpy {found['numpy']}.",
            "",
        ]
        parts += [f"* {note}" for note in found["notes"]] + [""]
        for table in found.get("tables", ()):
            parts += [f"### {table['title']}", "", *as_table(table["rows"]), ""]
        if "rows" in found:
            parts += as_table(found["rows"])
    (RESULTS / "README.md").write_text("\n".join(parts).rstrip() + "\n")


def as_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rows as lines of a Markdown table; a missing cell stays empty."""
    if not rows:
        return ["no rows"]
    names: list[str] = []
    for row in rows:
        names += [name for name in row if name not in names]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
