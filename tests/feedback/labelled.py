"""The hand-written examples of this project, and how detection is judged on them.

`data/responses.jsonl` holds answers with the kind of failure they are ("none" for a good one) and
what a provider told of them; `data/pairs.jsonl` holds two queries of one user and whether the
second tries the first again. Both were written in batches, each before the rules were changed for
it. Ids are hashes of the content: rules were tuned where the id is even, judged where it is odd.
`data/README.md` names the batches that are only tuned on, or only judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).parent / "data"
PRACTICE = {"text": 15, "earlier": 13}  # the batch of answers, and of pairs, to learn from
HALVED = {"text": 14, "earlier": 12}  # of which nothing was shaped on the half that judges
UNTOUCHED = {"text": (12, 16), "earlier": (14,)}  # that nothing was shaped on
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """Return the rows of a file."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def half(row: Row) -> str:
    """Return which half a row belongs to."""
    kind = "text" if "text" in row else "earlier"
    if row["batch"] == PRACTICE[kind]:
        return "tune"
    if row["batch"] in UNTOUCHED[kind]:
        return "judge"
    return "judge" if int(row["id"], 16) % 2 else "tune"


def is_untouched(row: Row) -> bool:
    """Return whether no rule and no weight was made for a row."""
    kind = "text" if "text" in row else "earlier"
    halved = row["batch"] == HALVED[kind] and half(row) == "judge"
    return halved or row["batch"] in UNTOUCHED[kind]


class Figures(NamedTuple):
    """How well something was detected."""

    precision: float
    recall: float
    rows: int

    def __str__(self) -> str:
        return f"precision {self.precision:.3f}, recall {self.recall:.3f} of {self.rows} rows"


def figures(
    chosen: Iterable[Row], true: Callable[[Row], bool], said: Callable[[Row], bool]
) -> Figures:
    """Return precision and recall over some rows."""
    verdicts = [(true(row), said(row)) for row in chosen]
    hits = sum(1 for is_true, is_said in verdicts if is_true and is_said)
    positives = sum(1 for is_true, _ in verdicts if is_true)
    claimed = sum(1 for _, is_said in verdicts if is_said)
    return Figures(hits / max(claimed, 1), hits / max(positives, 1), len(verdicts))
