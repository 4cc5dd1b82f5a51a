"""Full information: what every model answers to every prompt, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import InvalidInput
from conduit.core.events import MOST_SECONDS, MOST_TOKENS, MOST_USD
from conduit.core.models import ModelArm, normalise_text
from conduit.engines import features
from conduit.engines.bandits.vectors import LONGEST
from conduit.evaluation.arguments import numbers, refused

Floats = NDArray[np.float64]

# What may be measured of an answer beside its quality, and the most that can be learned of each.
MEASURED: Mapping[str, float] = {
    "cost_usd": MOST_USD,
    "latency_s": MOST_SECONDS,
    "input_tokens": MOST_TOKENS,
    "output_tokens": MOST_TOKENS,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayTable:
    """What every model answers to every prompt: arrays of shape (prompts, models).

    Every quality is known. In the other arrays NaN is unknown: it teaches nothing, and is judged
    as the model's mean. `features` gives one vector per prompt; without it the texts are analysed
    as a router would. `groups` names the kind of each prompt, for `ReplayResult.by_group`.
    """

    models: Sequence[ModelArm]
    quality: ArrayLike
    cost_usd: ArrayLike | None = None
    latency_s: ArrayLike | None = None
    input_tokens: ArrayLike | None = None
    output_tokens: ArrayLike | None = None
    texts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    features: ArrayLike | None = None

    def __post_init__(self) -> None:
        """Check shapes, ranges and names, and turn everything into arrays and tuples."""
        models = _models(self.models)
        quality = _quality(self.quality, len(models))
        given: dict[str, Any] = {"models": models, "quality": quality}
        for name, most in MEASURED.items():
            value = getattr(self, name)
            given[name] = None if value is None else _measured(name, value, most, quality.shape)
        rows = quality.shape[0]
        if self.features is not None:
            given["features"] = _vectors(self.features, rows)
        if self.texts is not None or self.features is None:
            given["texts"] = _per_prompt("texts", self.texts, rows)
        if self.features is None:
            _check_texts(given["texts"])
        if self.groups is not None:
            given["groups"] = _groups(self.groups, rows)
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def size(self) -> int:
        """Return the number of prompts."""
        return int(np.asarray(self.quality).shape[0])

    @property
    def dim(self) -> int:
        """Return the length of a feature vector; no text is analysed for it."""
        given = self.features
        return features.VECTOR_DIM if given is None else int(np.asarray(given).shape[1])

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return one feature vector per prompt."""
        if self.features is None:
            from conduit.engines.analyzer import Analyzer

            made = _vectors(Analyzer().vectors(self.texts or ()), self.size)
            object.__setattr__(self, "features", made)
        return np.asarray(self.features, dtype=np.float32)

    def models_scored(self, error: float | None, rng: np.random.Generator) -> list[ModelArm]:
        """Return the models with simulated benchmark scores: their quality here, off by `error`.

        Whether a score is too high or too low is drawn; without an error the models stay as given.
        """
        if error is None:
            return list(self.models)
        mean = np.asarray(self.quality, dtype=np.float64).mean(axis=0)
        score = np.clip(mean + error * rng.choice([-1.0, 1.0], mean.size), 0.0, 1.0)
        return [replace(arm, quality=float(s)) for arm, s in zip(self.models, score, strict=True)]


def _models(given: object) -> tuple[ModelArm, ...]:
    wanted = "a list of at least one ModelArm, each with an id of its own"
    if not isinstance(given, Iterable):
        raise refused("models", wanted, given)
    models = tuple(given)
    for arm in models:
        if not isinstance(arm, ModelArm):
            raise refused("models", wanted, arm)
    if not models or len({arm.id for arm in models}) < len(models):
        raise refused("models", wanted, tuple(arm.id for arm in models))
    return models


def _quality(given: ArrayLike, models: int) -> Floats:
    wanted = f"known numbers from 0 to 1 of shape (prompts, {models})"
    quality = numbers(given, "quality", wanted)
    if quality.ndim != 2 or quality.shape[1] != models or not quality.shape[0]:
        raise refused("quality", wanted, quality.shape)
    wrong = np.argwhere(~((quality >= 0) & (quality <= 1)))  # NaN as well
    if wrong.size:
        row, model = wrong[0]
        raise refused("quality", wanted, quality[row, model], f" in row {row}")
    return quality


def _measured(name: str, given: ArrayLike, most: float, shape: tuple[int, ...]) -> Floats:
    wanted = f"numbers from 0 to {most:g}, or NaN, of shape {shape}"
    array = numbers(given, name, wanted)
    if array.shape != shape:
        raise refused(name, wanted, array.shape)
    wrong = array[(array < 0) | (array > most)]
    if wrong.size:
        raise refused(name, wanted, wrong[0])
    if np.isnan(array).all(axis=0).any():
        raise refused(name, "known at least once for every model, or left out", float("nan"))
    return array


def _vectors(given: ArrayLike, rows: int) -> NDArray[np.float32]:
    wanted = f"a finite ({rows}, d) matrix, no row of it longer than {LONGEST:g}"
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        vectors = np.ascontiguousarray(numbers(given, "features", wanted), dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[0] != rows or not vectors.shape[1]:
        raise refused("features", wanted, vectors.shape)
    square = (vectors.astype(np.float64) ** 2).sum(axis=1)
    wrong = np.flatnonzero(~(square <= LONGEST**2))  # NaN as well
    if wrong.size:
        length = np.sqrt(square[wrong[0]])
        raise refused("features", wanted, length, f" as the length of row {wrong[0]}")
    return vectors


def _per_prompt(name: str, given: object, rows: int) -> tuple[Any, ...]:
    wanted = f"a list of {rows} strings, one per prompt"
    if given is None:
        wanted += ", where features are not given"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refused(name, wanted, given)
    listed = tuple(given)
    if len(listed) != rows:
        raise refused(name, wanted, len(listed))
    return listed


def _check_texts(texts: Sequence[str]) -> None:
    for row, text in enumerate(texts):
        try:
            normalise_text(text)
        except InvalidInput as error:
            raise InvalidInput(
                f"row {row} of texts: {error}", field="texts", expected=error.expected
            ) from error


def _groups(given: object, rows: int) -> tuple[str, ...]:
    groups = _per_prompt("groups", given, rows)
    for row, name in enumerate(groups):
        if not isinstance(name, str):
            raise refused("groups", "a list of strings", name, f" in row {row}")
    return groups


__all__ = ["MEASURED", "ReplayTable"]
