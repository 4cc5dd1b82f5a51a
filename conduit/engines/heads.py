"""What a text is about, and how hard it is for a small model: two small regressions.

Both look at the embedding, at the scaled surface signals and at which of some thousand words occur,
weighted by how rare they are, at unit length; beside a transformer's embedding, not at words. The
fitted numbers lie in one data file of the package, which `benchmarks/fit/heads.py` makes;
docs/features.md says how well they do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

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


@dataclass(frozen=True, slots=True)
class Analysis:
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
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
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


def head_inputs(signals: SurfaceSignals, embedding: Floats | None) -> Floats:
    """Return what the heads look at beside the words: the embedding, then the scaled signals."""
    scaled = scaled_signals(signals)
    return scaled if embedding is None else np.concatenate((embedding, scaled))


def said_by_words(signals: SurfaceSignals, words: Floats) -> Floats:
    """Return what the known words of a text add to each domain, and then to its complexity."""
    find = vocabulary().get
    rows = [row for word in signals.distinct if (row := find(word)) is not None]
    if not rows or not len(words):
        return np.zeros(len(DOMAINS) + 1, np.float32)
    total: Floats = words.take(rows, axis=0).sum(axis=0)
    said: Floats = total[:-1] / np.sqrt(total[-1])
    return said


def analyse(signals: SurfaceSignals, embedding: Floats | None, embedder_id: str) -> Analysis:
    """Return complexity and domain; without the embedding where no head was fitted on it."""
    space = SPACES.get(embedder_id)
    if space is None or embedding is None or not embedding.any():
        space, embedding = "surface", None
    fitted = heads(space)
    inputs, said = head_inputs(signals, embedding), said_by_words(signals, fitted.words)
    logits = fitted.domain_weights @ inputs + fitted.domain_bias + said[:-1]
    best = int(logits.argmax())
    confidence = 1.0 / float(np.exp(logits - logits[best]).sum())
    form = form_of(signals)
    hard = float(fitted.complexity_weights[form] @ inputs + fitted.complexity_bias[form] + said[-1])
    return Analysis(1.0 / (1.0 + math.exp(-hard)), DOMAINS[best], confidence)


__all__ = ["DOMAINS", "FORMS", "Analysis", "Heads", "analyse", "form_of", "head_inputs", "heads"]
