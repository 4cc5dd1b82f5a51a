"""What a replay is asked for; what makes no replay is refused by name, before any work."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import InvalidInput, finite, optional_finite
from conduit.core.queries import MOST_WEIGHT

Floats = NDArray[np.float64]
Weight = float | Callable[[int], float]
Drift = Callable[[int, Floats], Floats]


class Plan(NamedTuple):
    """How often, in which orders and how far a table is replayed."""

    orders: int
    seed: int
    calibration: int
    shuffle: bool
    prior_error: float | None
    delay: int
    drift: Drift | None
    limit: int | None
    progress: Callable[[int, int], None] | None

    def checked(self, rows: int) -> Self:
        """Return the plan in plain numbers, or raise InvalidInput naming what makes no replay."""
        return self._replace(
            orders=whole(self.orders, "orders", low=1),
            seed=whole(self.seed, "seed", low=0),
            calibration=whole(self.calibration, "calibration", low=0, high=rows - 1),
            shuffle=flag(self.shuffle, "shuffle"),
            prior_error=optional_finite(self.prior_error, "prior_error", low=0.0, high=1.0),
            delay=whole(self.delay, "delay", low=0),
            drift=None if self.drift is None else function(self.drift, "drift"),
            limit=None if self.limit is None else whole(self.limit, "limit", low=1),
            progress=None if self.progress is None else function(self.progress, "progress"),
        )


def weight_of(given: Weight) -> Callable[[int], float]:
    """Return the weight of cost as a function of the step, whose every value is checked."""
    if not callable(given):
        constant = finite(given, "cost_weight", low=0.0, high=MOST_WEIGHT)
        return lambda _step: constant

    @cache
    def weight(step: int) -> float:
        value = given(step)
        try:
            return finite(value, "cost_weight", low=0.0, high=MOST_WEIGHT)
        except InvalidInput as error:
            raise refused("cost_weight", error.expected, value, f" at step {step}") from error

    return weight


def drifted(drift: Drift, quality: Floats) -> Floats:
    """Return the qualities (steps, models) that `drift` makes of these."""
    wanted = f"a function that returns {quality.shape[1]} numbers from 0 to 1"
    rows = []
    for step, answers in enumerate(quality):
        where = f" at step {step}"
        row = numbers(drift(step, answers), "drift", wanted, where)
        if row.shape != answers.shape:
            raise refused("drift", wanted, row.shape, where)
        wrong = row[~((row >= 0) & (row <= 1))]
        if wrong.size:
            raise refused("drift", wanted, wrong[0], where)
        rows.append(row)
    return np.stack(rows)


def whole(value: object, field: str, *, low: int, high: int | None = None) -> int:
    """Return the value as an int within [low, high], or raise InvalidInput naming the field."""
    wanted = f"a whole number of at least {low}"
    if high is not None:
        wanted = f"a whole number from {low} to {high}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise refused(field, wanted, value) from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise refused(field, wanted, value)
    return number


def numbers(value: ArrayLike, field: str, wanted: str, where: str = "") -> Floats:
    """Return the value as an array of float64, None as NaN, or raise InvalidInput."""
    try:
        given = np.asarray(value)
        if given.dtype.kind in "fiubO":  # digits in strings are no numbers
            return given.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:  # such as lists of different lengths
        raise refused(field, wanted, value, where) from error
    raise refused(field, wanted, value, where)


def function(value: Any, field: str) -> Any:
    """Return the value if it can be called, or raise InvalidInput naming the field."""
    if not callable(value):
        raise refused(field, "a function", value)
    return value


def flag(value: object, field: str) -> bool:
    """Return the value as a bool, or raise InvalidInput naming the field."""
    if not isinstance(value, bool | np.bool_):
        raise refused(field, "True or False", value)
    return bool(value)


def refused(field: str, wanted: str, value: object, where: str = "") -> InvalidInput:
    """Return the error for a value that is not what was wanted; what is no number stays out."""
    is_shown = isinstance(value, int | float | np.number | tuple)
    got = value if is_shown else type(value).__name__
    return InvalidInput(
        f"{field} must be {wanted}, got {got}{where}",
        field=field,
        expected=wanted,
        value=value if is_shown else None,
    )


__all__ = [
    "Drift", "Floats", "Plan", "Weight", "drifted", "flag", "function", "numbers", "refused",
    "weight_of", "whole",
]  # fmt: skip
