"""From outcomes to what they add to the sums of an arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import InvalidInput, finite, unknown_name
from conduit.core.events import (
    MOST_RATING_WEIGHT,
    MOST_SECONDS,
    MOST_TOKENS,
    MOST_USD,
    Evidence,
    Outcome,
)
from conduit.core.models import ModelArm
from conduit.engines.bandits.base import QUALITY, Floats, Step

Observed = float | Mapping[str, float | None] | Evidence | Outcome
Calibration = Sequence[Mapping[str, Observed]] | Mapping[str, ArrayLike | Mapping[str, ArrayLike]]

# What a calibration may say of one answer, and the most that each may be.
MOST: Mapping[str, float] = {
    "quality": 1.0,
    "quality_weight": MOST_RATING_WEIGHT,
    "cost_usd": MOST_USD,
    "input_tokens": MOST_TOKENS,
    "output_tokens": MOST_TOKENS,
    "latency_s": MOST_SECONDS,
}
FIELDS = tuple(MOST)
_OF_A_FAILURE = ("quality", "quality_weight", "input_tokens")  # its cost and time are unknown


def step_of(new: Outcome, old: Evidence | None, arm: ModelArm) -> Step:
    """Return what an outcome adds to the sums beyond what was taught of its call before."""
    said = _sums_of(new, arm)
    if old is None:
        return said
    return Step(*(np.array(said) - np.array(_sums_of(old, arm))))


def _sums_of(said: Outcome | Evidence, arm: ModelArm) -> Step:
    """Return what would be added if nothing had been taught before."""
    spend, latency = spend_of(said, arm), None if said.error else said.latency_s
    w, q = 0.0, 0.0
    if said.quality is not None:
        w, q = said.quality_weight, said.quality + said.lift
    s, t = spend or 0.0, latency or 0.0
    weight = (w, 0.0 if spend is None else 1.0, 0.0 if latency is None else 1.0)
    return Step(weight, (w * q, s, t), (w * q * q, s * s, t * t))


def spend_of(said: Outcome | Evidence, arm: ModelArm) -> float | None:
    """Return output tokens where they have a price, else dollars; None for a failed call."""
    if said.error is not None:
        return None
    if not arm.priced:
        return said.cost_usd
    if said.output_tokens is not None:
        return said.output_tokens
    if said.cost_usd is None or not arm.output_usd_per_mtok:
        return None
    known = (said.input_tokens or 0.0) * (arm.input_usd_per_mtok or 0.0)
    paid = max(said.cost_usd * 1e6 - known, 0.0)
    return min(paid / arm.output_usd_per_mtok, MOST_TOKENS)


def columns_of(
    outcomes: Calibration, n: int, models: Sequence[str]
) -> dict[str, dict[str, Floats]]:
    """Return, per model and field, an array of n values with NaN where nothing is known."""
    if isinstance(outcomes, Mapping):
        check_models(outcomes, models)
        given = {m: v if isinstance(v, Mapping) else {"quality": v} for m, v in outcomes.items()}
        return {m: _columns(v, n) for m, v in given.items()}
    if not isinstance(outcomes, Sequence) or isinstance(outcomes, str):
        wanted = "a mapping from models, or a list of them"
        raise InvalidInput(f"outcomes must be {wanted}", field="outcomes", expected=wanted)
    if len(outcomes) != n:
        wanted = f"{n} entries, one per row of X"
        raise InvalidInput(
            f"outcomes must have {wanted}, got {len(outcomes)}", field="outcomes", expected=wanted
        )
    columns: dict[str, dict[str, Floats]] = {}
    for k, entry in enumerate(outcomes):
        if not isinstance(entry, Mapping):
            wanted = "a mapping from models"
            raise InvalidInput(f"outcomes[{k}] must be {wanted}", field="outcomes", expected=wanted)
        check_models(entry, models)
        for model, seen in entry.items():
            column = columns.setdefault(model, {f: np.full(n, np.nan) for f in FIELDS})
            for name, value in _said(seen, model).items():
                if value is not None:
                    column[name][k] = finite(value, name, low=0.0, high=MOST[name])
    return columns


def only(outcomes: Calibration, rows: NDArray[np.bool_], models: Sequence[str]) -> Calibration:
    """Return what is said of some of the rows."""
    columns = columns_of(outcomes, len(rows), models)
    return {model: {f: c[rows] for f, c in column.items()} for model, column in columns.items()}


def check_models(given: Iterable[str], models: Sequence[str]) -> None:
    """Refuse a name that is not that of a model."""
    for name in given:
        if name not in models:
            raise InvalidInput(
                unknown_name("model", name, models),
                field="model",
                expected=f"one of {', '.join(models)}",
                value=name,
            )


def _said(seen: Observed, model: str) -> Mapping[str, float | None]:
    if isinstance(seen, Mapping):
        _check_fields(seen)
        return seen
    if isinstance(seen, Evidence | Outcome):
        _check_complete(seen, model)
        known = FIELDS if seen.error is None else _OF_A_FAILURE
        return {name: getattr(seen, name) for name in known}
    return {"quality": seen}


def _check_complete(seen: Evidence | Outcome, model: str) -> None:
    """Refuse what says more than a calibration can teach, or says it of another model."""
    of_another = isinstance(seen, Outcome) and seen.model != model
    if of_another or seen.lift or getattr(seen, "revises", None) is not None:
        wanted = f"what is known of an answer of {model!r}, without a lift and revising nothing"
        raise InvalidInput(f"outcomes must be {wanted}", field="outcomes", expected=wanted)


def _check_fields(given: Mapping[str, object]) -> None:
    for name in given:
        if name not in FIELDS:
            raise InvalidInput(
                unknown_name("field", name, FIELDS),
                field="outcomes",
                expected=f"of {', '.join(FIELDS)}",
                value=name,
            )


def _columns(given: Mapping[str, ArrayLike], n: int) -> dict[str, Floats]:
    _check_fields(given)
    return {name: _column(given.get(name), n, name) for name in FIELDS}


def _column(value: ArrayLike | None, n: int, name: str) -> Floats:
    if value is None:
        return np.full(n, np.nan)
    wanted = f"{n} numbers from 0 to {MOST[name]:g} (NaN where unknown)"
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "fiuO":
            raise TypeError(f"got {given.dtype}")
        column = given.astype(np.float64)  # None is unknown too
        if isinstance(value, np.ma.MaskedArray):
            column[np.ma.getmaskarray(value)] = np.nan
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{name} must be {wanted}", field=name, expected=wanted) from error
    known = column[~np.isnan(column)]
    if column.shape != (n,) or (known < 0).any() or (known > MOST[name]).any():
        raise InvalidInput(
            f"{name} must be {wanted}", field=name, expected=wanted, value=column.shape
        )
    return column


def weights_and_values(column: Mapping[str, Floats], arm: ModelArm) -> tuple[Floats, Floats]:
    """Return (n, outputs) weights and values of quality, spend and latency; 0 where unknown."""
    value = np.stack([column["quality"], _spends(column, arm), column["latency_s"]], axis=1)
    weight = np.isfinite(value).astype(np.float64)
    given = column["quality_weight"]
    weight[:, QUALITY] *= np.where(np.isnan(given), 1.0, given)
    return weight, np.nan_to_num(value)


def _spends(column: Mapping[str, Floats], arm: ModelArm) -> Floats:
    if not arm.priced:
        return column["cost_usd"]
    tokens, price = column["output_tokens"], arm.output_usd_per_mtok or 0.0
    if not price:
        return tokens
    known = np.nan_to_num(column["input_tokens"]) * (arm.input_usd_per_mtok or 0.0)
    paid = np.maximum(column["cost_usd"] * 1e6 - known, 0.0)
    return np.where(np.isnan(tokens), np.minimum(paid / price, MOST_TOKENS), tokens)


__all__ = [
    "Calibration", "Observed", "check_models", "columns_of", "only", "spend_of", "step_of",
    "weights_and_values",
]  # fmt: skip
