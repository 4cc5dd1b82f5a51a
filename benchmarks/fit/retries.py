"""Fit the weights of the retry score on half of the labelled conversation pairs.

    python -m benchmarks.fit.retries

prints the numbers that `conduit/feedback/retries.py` holds, what they reach on either half, and
the mean and deviation of the cosine for each embedder. Pairs whose id is even are fitted on, and
those that were written for practice; the others judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks import windows
from conduit.engines.embeddings.named import create_embedder
from conduit.feedback.likeness import FEATURE_NAMES, Likeness, likeness
from conduit.feedback.retries import RetryRule
from conduit.feedback.wording import wording_of

PAIRS = Path(__file__).parents[2] / "tests/feedback/data/pairs.jsonl"
RELATED = ("rephrase", "refine", "related")  # what the cosine's mean and deviation are of
# The score does not decide on these: what a group's name ends with.
ELSEWHERE = ("exact", "nobody", "other-user", "late", "translation", "translated", "complaint")
PRACTICE = 13  # the batch that is only fitted on
JUDGES = 14  # the batch that only judges
EMBEDDERS = ("static", "all-MiniLM-L6-v2", "onnx")
RIDGE = 3.0

Pair = dict[str, Any]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def load() -> list[Pair]:
    """Return the pairs that the score decides on."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if not row["group"].endswith(ELSEWHERE)]


def is_tuned_on(pair: Pair) -> bool:
    """Return whether a pair belongs to the half that is fitted on."""
    if pair["batch"] in (PRACTICE, JUDGES):
        return bool(pair["batch"] == PRACTICE)
    return int(pair["id"], 16) % 2 == 0


def rule_of(pairs: Sequence[Pair], embed: Embed) -> RetryRule:
    """Return the rule with the mean and deviation of an embedder over related pairs."""
    chosen = [pair for pair in pairs if pair["group"] in RELATED]
    a, b = (embed([pair[side] for pair in chosen]) for side in ("earlier", "later"))
    cosines = (a * b).sum(axis=1)
    return RetryRule(
        cosine_mean=round(float(cosines.mean()), 2), cosine_sd=round(float(cosines.std()), 2)
    )


def likenesses(pairs: Sequence[Pair], embed: Embed | None, rule: RetryRule) -> list[Likeness]:
    """Return what the queries of each pair have in common."""
    cosines: list[float | None] = [None] * len(pairs)
    if embed is not None:
        a, b = (embed([pair[side] for pair in pairs]) for side in ("earlier", "later"))
        cosines = (((a * b).sum(axis=1) - rule.cosine_mean) / rule.cosine_sd).tolist()
    return [
        likeness(wording_of(pair["earlier"]), wording_of(pair["later"]), cosine)
        for pair, cosine in zip(pairs, cosines, strict=True)
    ]


def fit(likes: Sequence[Likeness], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return one weight per feature, of the pairs that no rule decides."""
    kept = np.array([not like.moved_on for like in likes])
    rows = np.array([like.features() for like in likes])[kept]
    model = LogisticRegression(C=1 / RIDGE, fit_intercept=False, max_iter=2000)
    weights: NDArray[np.float64] = model.fit(rows, labels[kept]).coef_[0]
    return np.round(weights, 2)


def reached(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> str:
    """Return precision and recall in words."""
    hits = int((said & true).sum())
    return (
        f"precision {hits / max(said.sum(), 1):.3f} recall {hits / true.sum():.3f} of {len(true)}"
    )


def report(name: str, likes: Sequence[Likeness], pairs: Sequence[Pair]) -> None:
    """Fit, and print the weights and what they reach."""
    tuned = np.array([is_tuned_on(pair) for pair in pairs])
    labels = np.array([pair["label"] for pair in pairs])
    weights = fit([like for like, t in zip(likes, tuned, strict=True) if t], labels[tuned])
    print(f"{name}: " + ", ".join(f"{w:g}" for w in weights) + f"  # {', '.join(FEATURE_NAMES)}")
    rows = np.array([like.features() for like in likes])
    moved = np.array([like.moved_on for like in likes])
    said = (1 / (1 + np.exp(-rows @ weights)) >= RetryRule().threshold) & ~moved
    print(f"    fitted on: {reached(said[tuned], labels[tuned])}")
    print(f"    judged on: {reached(said[~tuned], labels[~tuned])}")


def main() -> None:
    """Print the weights, and each embedder's rule."""
    windows.asked(__doc__)
    pairs = load()
    tuned = [pair for pair in pairs if is_tuned_on(pair)]
    for name in EMBEDDERS:
        embedder = create_embedder(name)
        rule = rule_of(tuned, embedder.embed)
        print(f"{embedder.id}: {rule}")
        report(f"weights with {name}", likenesses(pairs, embedder.embed, rule), pairs)
    report("weights without a cosine", likenesses(pairs, None, RetryRule()), pairs)


if __name__ == "__main__":
    main()
