"""The measured part of the README, made of what the benchmarks wrote, so that no figure is typed.

`results_page` renews it with every result, and `python -m benchmarks.readme` at any time; a test
compares the two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: begin -->\n\n", "\n<!-- measured: end -->\n"
OURS = "contextual_thompson"
SHOWN = (100, 500, 2_000)  # queries
CALIBRATED = 300  # prompts

Row = Mapping[str, Any]


def renew() -> None:
    """Put what is measured now into the README."""
    text = README.read_text(encoding="utf-8")
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert begun
    assert ended
    README.write_text(before + BEGIN + measured() + END + after, encoding="utf-8")


def measured() -> str:
    """Return the tables, and what they say of how much traffic learning needs."""
    parts = [_table(("what", "measured", "to hold", "command"), list(_times()))]
    learning = _read("learning").get("cells", [])
    if learning:
        parts += [
            "Learning, replayed on tables in which every model's answer is known (10 orders; "
            "utility = quality − λ · cost / mean cost of the dearest model; peers see the same "
            "rows, vectors and orders): `python -m benchmarks.learning`.\n",
            _table(
                (
                    "table",
                    "Conduit, mean utility of the first 100 / 500 / 2,000 queries",
                    f"after {CALIBRATED} calibration prompts",
                    "best peer, tuned or not",
                    "best single model, in hindsight",
                    "quality, and of the static mix at the same cost",
                ),
                list(_learned(learning)),
            ),
            _traffic(learning),
        ]
    return "\n".join(parts)


def _read(name: str) -> Mapping[str, Any]:
    path = RESULTS / f"{name}.json"
    found: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _times() -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for every time, size and budget that there is a result of."""
    for row in _read("route").get("rows", []):
        found, hold = row.get("found"), row.get("hold")
        if found is not None and _is_shown(row["figure"]):
            who = "" if row["router"] == "conduit" else f"{row['router']}: "
            held = "" if hold is None else f"{hold:g}"
            yield who + row["figure"], f"{found:.3g}", held, _by("route")
    for row in _read("core").get("rows", []):
        if row.get("models") in (5, 50) and row.get("features") == 29:
            window = "p50 CPU µs" if "decide p50 µs" in row else "CPU µs p50, quietest window"
            figure = " / ".join(
                f"{row.get(f'{act} µs p50 quietest', row.get(f'{act} p50 µs')):.0f}"
                for act in ("decide", "apply")
            )
            what = f"`decide` / `apply`, {row['models']} models, {window}"
            yield what, figure, "30 / 30" if row["models"] == 5 else "100 / 100", _by("core")
        if (row.get("models"), row.get("features")) == (5, 37):
            yield "state of 5 models, KB", f"{row['state KB']:.0f}", "100", _by("core")
    for row in _read("cli").get("rows", []):
        if "hold, wall s" in row:
            what, cpu = f"`{row['what']}`, cold, CPU s", f"{row['CPU s, median']:.2f}"
            yield what, cpu, f"{row['hold, wall s']:g} (wall, idle)", _by("cli")
    for row in _read("pacing").get("rows", []):
        if row["priors"] == "±0.05" and row["budget"].startswith("0.5"):
            what = f"quality at half the dearest model's cost, {row['table']}; best static mix"
            yield what, f"{row['quality']:.3f}; {row['static mix']:.3f}", "", _by("pacing")


def _is_shown(figure: str) -> bool:
    """Whether a figure of the route stands in the README: no size, and of times the median."""
    return figure != "KB" and not figure.endswith(("all", "p99 quietest", "p99 CPU ms"))


def _by(name: str) -> str:
    return f"`python -m benchmarks.{name}`"


def _learned(cells: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield a row per table: ours, calibrated, the best peer, the best single model, the mix."""
    for title in dict.fromkeys(cell["workload"] for cell in cells):
        of = [cell for cell in cells if cell["workload"] == title]
        plain = [cell for cell in of if cell["priors"] is not None and not cell["calibration"]]
        ours = next((cell for cell in plain if cell["contestant"] == OURS), None)
        if ours is None:
            continue
        warm = [
            cell for cell in of
            if cell["contestant"] == OURS and cell["calibration"] == CALIBRATED and cell["priors"]
        ]  # fmt: skip
        peers = [cell for cell in plain if _is_peer(cell) and _at(cell, SHOWN[-1]) is not None]
        best = max(peers, key=lambda cell: _at(cell, SHOWN[-1]) or 0.0, default=None)
        yield (
            title,
            _marks(ours),
            _marks(warm[0]) if warm else "",
            "" if best is None else f"{_marks(best)} ({best['contestant']})",
            f"{ours['best_single']['utility']:.3f}",
            f"{ours['quality']:.3f}, {ours['static_mix_quality']:.3f}",
        )


def _is_peer(cell: Row) -> bool:
    return " " in cell["contestant"] or bool(cell["settings"])  # our policies have neither


def _at(cell: Row, mark: int) -> float | None:
    """Return the mean utility of the first queries, of a shorter table of all."""
    if mark in cell["at"]:
        return float(cell["utility"][cell["at"].index(mark)][0])
    return float(cell["utility"][-1][0]) if cell["at"][-1] < mark else None


def _marks(cell: Row) -> str:
    return " / ".join("" if (u := _at(cell, t)) is None else f"{u:.3f}" for t in SHOWN)


def _traffic(cells: Sequence[Row]) -> str:
    """Return from how many queries on routing was worth more than the best single model."""
    reached: dict[str, list[str]] = {}
    for cell in cells:
        if cell["contestant"] == OURS and cell["priors"] is not None and not cell["calibration"]:
            best = cell["best_single"]["utility"]
            ahead = [t for t, (u, _) in zip(cell["at"], cell["utility"], strict=True) if u >= best]
            key = f"within the first {ahead[0]:,} queries" if ahead else "never, to its end"
            reached.setdefault(key, []).append(cell["workload"])
    said = "; ".join(f"{when} on {', '.join(titles)}" for when, titles in reached.items())
    return (
        "Without calibration and with every answer rated, routing was worth more than the best "
        f"single model, which nobody knows beforehand: {said}.\n"
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    renew()
