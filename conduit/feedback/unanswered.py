"""Tells by its words how probably a short text is no answer: what no rule foresaw.

A logistic regression over the words of a text, pairs of words and beginnings of words, hashed. The
fitted numbers lie in one data file of the package, which `benchmarks/fit/unanswered.py` makes;
docs/feedback.md says how well it does.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Unanswered = Literal["refusal", "apology", "exception"]

KINDS: Final[tuple[Unanswered, ...]] = ("refusal", "apology", "exception")
BUCKETS: Final = 1 << 13
LEAST_CHARS: Final = 13  # shorter texts are labels, names and numbers
_LEAST_SIGNS: Final = 7  # the same where a sign is a syllable or a word
MOST_CHARS: Final = 600  # longer texts have something to say
THRESHOLD: Final = 0.7  # the probability from which a text counts; benchmarks/fit/unanswered.py

_READ_CHARS: Final = 400
_STEM_CHARS: Final = 4
_TOKEN: Final = re.compile(r"[^\W\d_\u0e00-\u0e7f\u3040-\u9fff\uac00-\ud7af]+(?:'[a-z]+)?|\d+|\S")
_SIGN: Final = re.compile(r"[\u3040-\u9fff\uac00-\ud7af]")
_QUOTED: Final = re.compile(r"[\"\u201c\u201e«][^\"\u201c\u201d\u201e«»\n]{3,300}[\"\u201c\u201d»]")
_AS_DATA: Final = ("{", "[", "<")
_STRAIGHT: Final = str.maketrans({"\u2019": "'", "\u2018": "'", "`": "'", "\u00b4": "'"})


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What each hashed feature says for each of KINDS, against a text that is an answer."""

    of_feature: NDArray[np.float32]  # (BUCKETS, KINDS)
    bias: NDArray[np.float32]


def features_of(text: str) -> list[int]:
    """Return the features of a text, as places in the table of weights; equal texts have equal."""
    read = text.strip()[:_READ_CHARS]
    if not read.startswith(_AS_DATA):
        read = _QUOTED.sub(" Q ", read)  # what others say
    found = _TOKEN.findall(read.translate(_STRAIGHT).lower())
    words = ["0" if word.isdigit() else word for word in found]
    said = set(words)
    said.update(map(" ".join, zip(["^", *words], words, strict=False)))
    said.update(map("\t".join, zip(words, words[2:], strict=False)))
    said.update(word[:_STEM_CHARS] + "*" for word in words if len(word) > _STEM_CHARS)
    said.add(f"\n{int(2.0 * math.log2(len(words) + 1))}")  # how long it is
    return sorted({crc32(feature.encode()) % BUCKETS for feature in said})


def is_read(text: str) -> bool:
    """Return whether a stripped text is of a length that its words can tell."""
    if len(text) < LEAST_CHARS:
        return len(_SIGN.findall(text)) >= _LEAST_SIGNS
    return len(text) <= MOST_CHARS


def unanswered(text: str, threshold: float = THRESHOLD) -> Unanswered | None:
    """Return what a text is instead of an answer, None where it probably is one."""
    if not is_read(text):
        return None
    weights, features = shipped(), features_of(text)
    sums = weights.of_feature[features].sum(axis=0) / math.sqrt(len(features)) + weights.bias
    odds = [math.exp(value) for value in sums.tolist()]
    if sum(odds) < threshold / (1.0 - threshold):
        return None
    return KINDS[odds.index(max(odds))]


@cache
def shipped() -> Weights:
    """Return the weights that came with the package."""
    path = resources.files("conduit.feedback") / "data" / "unanswered.npz"
    with path.open("rb") as file, np.load(file) as data:  # noqa: TID251  our own
        scale = data["scale"].astype(np.float32)
        return Weights(data["weights"].astype(np.float32) * scale, data["bias"])


__all__ = [
    "BUCKETS", "KINDS", "LEAST_CHARS", "MOST_CHARS", "THRESHOLD", "Unanswered", "Weights",
    "features_of", "is_read", "shipped", "unanswered",
]  # fmt: skip
