"""Fit how probably a short text is no answer, on answers that were written by hand.

    python -m benchmarks.fit.unanswered

writes `conduit/feedback/data/unanswered.npz` and prints what it reaches on batches that it was not
fitted on. Batches 12 and 16 are never fitted on, nor is the half of batch 14 whose ids are odd.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from benchmarks import windows
from conduit.feedback.unanswered import (
    BUCKETS,
    KINDS,
    THRESHOLD,
    features_of,
    is_read,
)

ROOT = Path(__file__).parents[2]
RESPONSES = ROOT / "tests/feedback/data/responses.jsonl"
WEIGHTS = ROOT / "conduit/feedback/data/unanswered.npz"
UNTOUCHED = (12, 16)  # the batches that nothing was shaped on
HALVED = 14  # the batch of which the odd half only judges
LATE = 8  # from which on batches were written beside each other
OTHER_RULES = ("truncated", "invalid_output", "empty")  # shapes, not words
TOLD = ("finish_reason", "error", "output_valid")
INVERSE_RIDGE = 30.0
STEPS = 127  # of a weight: one signed byte

Row = dict[str, Any]


def load() -> list[Row]:
    """Return the answers that words decide."""
    rows = [json.loads(line) for line in RESPONSES.read_text(encoding="utf-8").splitlines()]
    return [
        row
        for row in rows
        if row["label"] not in OTHER_RULES
        and not any(row.get(name) is not None for name in TOLD)
        and is_read((row["text"] or "").strip())
    ]


def is_fitted_on(row: Row) -> bool:
    """Return whether an answer may be learned from."""
    judges = row["batch"] == HALVED and int(row["id"], 16) % 2 == 1
    return row["batch"] not in UNTOUCHED and not judges


def matrix(rows: Sequence[Row]) -> csr_matrix:
    """Return the features of texts, each row of length one."""
    found = [features_of(row["text"].strip()) for row in rows]
    places = np.concatenate([np.full(len(f), i) for i, f in enumerate(found)])
    values = np.concatenate([np.full(len(f), len(f) ** -0.5) for f in found])
    return csr_matrix((values, (places, np.concatenate(found))), shape=(len(rows), BUCKETS))


def labels(rows: Sequence[Row]) -> NDArray[np.intp]:
    """Return 0 for an answer, and the place of its kind for what is none."""
    places = {"none": 0, "tool_failure": 3, **{kind: 1 + k for k, kind in enumerate(KINDS)}}
    return np.array([places[row["label"]] for row in rows])


def fit(rows: Sequence[Row]) -> LogisticRegression:
    """Return the regression on some answers."""
    return LogisticRegression(C=INVERSE_RIDGE, max_iter=2000).fit(matrix(rows), labels(rows))


def write(model: LogisticRegression) -> None:
    """Write the weights against an answer, in bytes."""
    weights, bias = model.coef_[1:] - model.coef_[0], model.intercept_[1:] - model.intercept_[0]
    scale = np.abs(weights).max() / STEPS
    WEIGHTS.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        WEIGHTS,
        weights=np.round(weights.T / scale).astype(np.int8),
        scale=np.float32(scale),
        bias=bias.astype(np.float32),
    )


def reached(probability: NDArray[np.float64], bad: NDArray[np.bool_], threshold: float) -> str:
    """Return precision and recall as a line."""
    said = probability > threshold
    hits = int((said & bad).sum())
    return (
        f"over {threshold:.2f}: precision {hits / max(said.sum(), 1):.3f}, "
        f"recall {hits / max(bad.sum(), 1):.3f}"
    )


def main() -> None:
    """Cross-validate over batches, fit, and write."""
    windows.asked(__doc__)
    rows = [row for row in load() if is_fitted_on(row)]
    batch, bad = np.array([row["batch"] for row in rows]), labels(rows) > 0
    probability = np.zeros(len(rows))
    for left_out in np.unique(batch):
        held = batch == left_out
        model = fit([row for row, out in zip(rows, held, strict=True) if not out])
        probability[held] = 1.0 - model.predict_proba(matrix(rows))[held, 0]
    for threshold in (0.5, 0.6, THRESHOLD, 0.8):
        print("a batch left out,", reached(probability, bad, threshold))
        late = batch >= LATE
        print(f"  batches from {LATE} on,", reached(probability[late], bad[late], threshold))
    write(fit(rows))
    print(f"{len(rows)} answers; wrote {WEIGHTS.relative_to(ROOT)}, {WEIGHTS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
