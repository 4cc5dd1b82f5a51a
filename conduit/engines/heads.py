"""What a text is about, and how hard it is for a small model: two small regressions.

Both look at the embedding, at the scaled surface signals and at which of some thousand words occur,
weighted by how rare they are, at unit length; beside a transformer's embedding, not at words. The
fitted numbers lie in one data file of the package, which `benchmarks/fit/heads.py` makes;
docs/features.md says how well they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import NamedTuple

import numpy as np

from conduit.engines.features import SPACES, Floats, SurfaceSignals, scaled_signals

DOMAINS: tuple[str, ...] = (
    "mathematics",
    "code",
    "natural science",
    "medicine",
    "law",
    "humanities",
    "social science",
    "business",
    "writing",
    "general",
)

FORMS: tuple[str, ...] = ("open", "few options", "many options")
FEW_OPTIONS = 5


class Analysis(NamedTuple):
    """What a text seems to be about, and how hard it is for a small model."""

    complexity_score: float  # calibrated probability that small models get it wrong
    domain: str
    domain_confidence: float  # probability of that domain among DOMAINS


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Logistic regressions over the embedding, the scaled signals and the words."""

    domain_weights: Floats  # (len(DOMAINS), inputs)
    domain_bias: Floats
    complexity_weights: Floats  # (len(FORMS), inputs)
    complexity_bias: Floats
    # Per word (there may be none): its part in each domain, its part in complexity, its rarity
    # squared. The sum of rows over the root of the last column's sum is what the words at unit
    # length say.
    words: Floats  # (vocabulary, len(DOMAINS) + 2)


def form_of(signals: SurfaceSignals) -> int:
    """Return the index in FORMS: what is hard depends on how much guessing helps."""
    return 0 if not signals.options else 1 if signals.options <= FEW_OPTIONS else 2


@cache
def _shipped() -> Mapping[str, Floats]:
    """Read the fitted numbers of the package, once."""
    path = resources.files("conduit.engines.embeddings") / "data" / "heads.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # noqa: TID251  our own
        return dict(archive)


@cache
def vocabulary() -> Mapping[bytes, int]:
    """Return the row of each word that the heads know."""
    return {word: row for row, word in enumerate(_shipped()["words"].tolist())}


@cache
def heads(space: str) -> Heads:
    """Return the fitted heads of a space; "surface" is what is known without an embedding."""
    shipped = _shipped()
    parts = ("domain.weights", "domain.bias", "complexity.weights", "complexity.bias", "words")
    return Heads(*(np.ascontiguousarray(shipped[f"{space}.{part}"], np.float32) for part in parts))


def head_inputs(values: Floats, embedding: Floats | None) -> Floats:
    """Return what the heads look at beside the words: the embedding, then the scaled signals."""
    scaled = scaled_signals(values)
    return scaled if embedding is None else np.concatenate((embedding, scaled))


@cache
def _known_words() -> frozenset[bytes]:
    return frozenset(vocabulary())


def rows_of(signals: SurfaceSignals) -> Sequence[int]:
    """Return the rows of a text's known words, in no order."""
    return tuple(map(vocabulary().__getitem__, signals.distinct & _known_words()))


def said_by_words(rows: Sequence[int], words: Floats) -> Floats:
    """Return what the known words of a text add to each domain, and then to its complexity."""
    if not rows or not len(words):
        return np.zeros(len(DOMAINS) + 1, np.float32)
    total: Floats = words.take(sorted(rows), axis=0).sum(axis=0)
    said: Floats = total[:-1] / np.sqrt(total[-1])
    return said


def analyse(signals: SurfaceSignals, embedding: Floats | None, embedder_id: str) -> Analysis:
    """Return complexity and domain; without the embedding where no head was fitted on it."""
    return reader(signals, embedding, embedder_id)()


def reader(
    signals: SurfaceSignals, embedding: Floats | None, embedder_id: str
) -> Callable[[], Analysis]:
    """Return what `analyse` would, put off until it is called; it keeps numbers and no word."""
    rows, form = rows_of(signals), form_of(signals)
    return partial(_analysis, signals.values, form, rows, embedding, SPACES.get(embedder_id))


def _analysis(
    values: Floats, form: int, rows: Sequence[int], embedding: Floats | None, space: str | None
) -> Analysis:
    if space is None or embedding is None or not embedding.any():
        space, embedding = "surface", None
    fitted = heads(space)
    inputs, said = head_inputs(values, embedding), said_by_words(rows, fitted.words)
    logits = fitted.domain_weights @ inputs + fitted.domain_bias + said[:-1]
    best = int(logits.argmax())
    confidence = 1.0 / float(np.exp(logits - logits[best]).sum())
    hard = float(fitted.complexity_weights[form] @ inputs + fitted.complexity_bias[form] + said[-1])
    return Analysis(1.0 / (1.0 + math.exp(-hard)), DOMAINS[best], confidence)


__all__ = [
    "DOMAINS",
    "FORMS",
    "Analysis",
    "Heads",
    "analyse",
    "form_of",
    "head_inputs",
    "heads",
    "reader",
    "rows_of",
    "said_by_words",
    "vocabulary",
]
