"""The measured part of the README, made of what the benchmarks wrote, so that no figure is typed.

`results_page` renews it with every result, and `python -m benchmarks.readme` at any time; a test
compares the two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: begin -->\n\n", "\n<!-- measured: end -->\n"
OURS = "contextual_thompson"
SHOWN = (100, 500, 2_000)  # queries
CALIBRATED = 300  # prompts

TOPICS = ("units", "dates")  # of the plugin's benchmark

Row = Mapping[str, Any]


class Line(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    hold: str
    beside: str
    by: str  # the benchmark


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
    columns = ("what", "Conduit", "to hold", "beside it", "command")
    parts = [_table(columns, [(*line[:4], _by(line.by)) for line in _measured()])]
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


def _measured() -> Iterator[Line]:
    """Yield a line for every time, size and budget that there is a result of."""
    yield from _routes()
    yield from _core()
    for what, hold in (("conduit --help", 0.5), ("conduit route 'What is 2+2?'", 1.5)):
        if row := _first("cli", what=what):
            wall = f"{row['wall s, least']:.2f}"
            yield Line(f"`{what}` from a cold shell, wall s", wall, f"{hold:g}", "", "cli")
    yield from _service()
    yield from _stored()
    yield from _litellm()
    for row in _read("pacing").get("rows", []):
        if row["priors"] == "±0.05" and row["budget"].startswith("0.5"):
            what = f"quality at half the dearest model's cost, {row['table']}"
            mix = f"best static mix: {row['static mix']:.3f}"
            yield Line(what, f"{row['quality']:.3f}", "", mix, "pacing")


def _routes() -> Iterator[Line]:
    """Yield what importing and routing cost, the latter beside the peers."""
    rows = _read("route").get("rows", [])
    for row in rows:
        if row["router"] != "conduit" or row.get("hold") is None:
            continue
        beside = [
            f"{other['router']} ({other['does'].split(',')[0]}) {other['found']:.3g}"
            for other in rows
            if other["router"] != "conduit" and other["figure"] == row["figure"]
        ]
        if not row["figure"].endswith(("KB", "p99 quietest")):
            hold = f"{row['hold']:g}"
            yield Line(row["figure"], f"{row['found']:.3g}", hold, "; ".join(beside), "route")


def _core() -> Iterator[Line]:
    """Yield what deciding and learning cost without the text, beside a peer."""
    for models, hold in ((5, "30 / 30"), (50, "100 / 100")):
        ours = _first("core", learner="conduit", models=models, features=29)
        theirs = _first("core", learner="ParetoBandit", models=models, features=29)
        if ours:
            what = f"`decide` / `apply`, {models} models, 29 features, CPU µs p50 quietest"
            beside = f"ParetoBandit {_acts(theirs)}" if theirs else ""
            yield Line(what, _acts(ours), hold, beside, "core")
    if row := _first("core", learner="conduit", models=5, features=37):
        yield Line("state of 5 models, KB", f"{row['state KB']:.0f}", "100", "", "core")


def _acts(row: Row) -> str:
    return " / ".join(f"{row[f'{act} µs p50 quietest']:.0f}" for act in ("decide", "apply"))


def _service() -> Iterator[Line]:
    """Yield what a completion costs beside PydanticAI alone."""
    for kind in ("text", "typed"):
        if row := _first("service", what=f"CPU per call, {kind}", log="memory"):
            what = f"`service.complete` over real HTTP, {kind}, added CPU ms p50"
            beside = f"PydanticAI alone {row['PydanticAI ms']:.1f}"
            yield Line(what, f"{row['added p50 ms']:.1f}", "2", beside, "service")


def _stored() -> Iterator[Line]:
    """Yield how fast feedback is kept, and that none is lost."""
    figures = (
        ("rows", "acknowledged_per_s", "feedback through PostgreSQL, 4 processes, per s"),
        ("rows", "ack_p99_ms", "the same, until it is acknowledged, ms p99"),
        ("kills", "acknowledged_and_lost", "acknowledged and lost in 20 rounds of kills"),
        ("start", "from_snapshot_and_tail_s", "a new replica after 100,000 events, s"),
    )
    for bench, figure, what in figures:
        if row := _first("storage", bench=bench, figure=figure):
            found = row["measured"]
            shown = f"{found:,.0f}" if float(found).is_integer() else f"{found:.3g}"
            hold = str(row["to hold"]).split(" on ")[0]
            yield Line(what, shown, hold.lstrip("<>= "), "", "storage")


def _litellm() -> Iterator[Line]:
    """Yield what the plugin costs and learns, beside LiteLLM's own strategies."""
    for act in ("choose", "acompletion"):
        if row := _first("litellm", figure=f"{act}, conduit, added CPU ms p50"):
            shuffle = _first("litellm", figure=f"{act}, shuffle, CPU ms p50") or row
            what = f"LiteLLM plugin, `{act}`, added CPU ms p50"
            beside = f"simple-shuffle alone {shuffle['measured']:.2g}"
            yield Line(what, f"{row['measured']:.2g}", "1", beside, "litellm")
    found = {
        who: [_first("litellm", figure=f"two topics, {who}, right on {t}") for t in TOPICS]
        for who in ("conduit", "LiteLLM adaptive", "simple-shuffle")
    }
    if all(all(rows) for rows in found.values()):
        shown = {
            who: " / ".join(f"{row['measured']:.0%}" for row in rows if row)
            for who, rows in found.items()
        }
        beside = "; ".join(f"{who} {what}" for who, what in list(shown.items())[1:])
        what = "LiteLLM plugin, right deployment per topic after 300 requests"
        yield Line(what, shown["conduit"], "80%", beside, "litellm")


def _first(name: str, **wanted: object) -> Row | None:
    """Return the first row of a result that says so, where there is one."""
    for row in _read(name).get("rows", []):
        if all(row.get(key) == value for key, value in wanted.items()):
            return row  # type: ignore[no-any-return]
    return None


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
