"""Full information: what every model answers to every prompt, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import InvalidInput
from conduit.core.models import ModelArm

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayTable:
    """What every model answers to every prompt: arrays of shape (prompts, models).

    `features` gives one vector per prompt; without it the texts are analysed as a router would.
    NaN is unknown: it teaches nothing, and is judged as the model's mean. `groups` names the kind
    of each prompt, for `ReplayResult.by_group`.
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
        """Check the shapes, and turn everything into arrays."""
        quality = np.asarray(self.quality, dtype=np.float64)
        k = len(self.models)
        if quality.ndim != 2 or quality.shape[1] != k or not quality.shape[0]:
            raise refused("quality", f"of shape (prompts, {k})", quality.shape)
        if not ((quality >= 0) & (quality <= 1)).all():
            raise refused("quality", "numbers from 0 to 1")
        object.__setattr__(self, "quality", quality)
        for name in ("cost_usd", "latency_s", "input_tokens", "output_tokens"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _measured(name, value, quality.shape))
        if self.features is not None:
            object.__setattr__(self, "features", self._vectors(self.features))
        elif self.texts is None or len(self.texts) != quality.shape[0]:
            raise refused("texts", "one text per prompt, where features are not given")
        if self.groups is not None and len(self.groups) != quality.shape[0]:
            raise refused("groups", "one name per prompt", len(self.groups))

    def _vectors(self, given: ArrayLike) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(given, dtype=np.float32)
        rows = np.asarray(self.quality).shape[0]
        if vectors.ndim != 2 or vectors.shape[0] != rows or not np.isfinite(vectors).all():
            raise refused("features", f"a finite ({rows}, d) matrix", vectors.shape)
        return vectors

    @property
    def size(self) -> int:
        """Return the number of prompts."""
        return int(np.asarray(self.quality).shape[0])

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return one feature vector per prompt."""
        if self.features is None:
            from conduit.engines.analyzer import Analyzer

            object.__setattr__(
                self, "features", self._vectors(Analyzer().vectors(self.texts or ()))
            )
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


def _measured(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape or (array[~np.isnan(array)] < 0).any() or np.isinf(array).any():
        raise refused(name, f"numbers of at least 0 of shape {shape}, or NaN", array.shape)
    if np.isnan(array).all(axis=0).any():
        raise refused(name, "known at least once for every model, or left out")
    return array


def refused(name: str, wanted: str, value: object = None) -> InvalidInput:
    """Return the error for an argument that is not what was wanted."""
    got = "" if value is None else f", got {value}"
    return InvalidInput(f"{name} must be {wanted}{got}", field=name, expected=wanted, value=value)


__all__ = ["ReplayTable", "refused"]
