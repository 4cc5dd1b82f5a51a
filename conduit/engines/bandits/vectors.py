"""What may be decided and learned on: the rest is refused before it gets in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from conduit.core.errors import InvalidInput
from conduit.engines.bandits.base import Floats

T = TypeVar("T")
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
LONGEST = 1e6  # features are of the size of one; the squares of more would lose their digits
_SQUARE = LONGEST**2


def dimension(dim: object) -> int:
    """Return the length of vectors as an int of at least 1, or raise InvalidInput."""
    if isinstance(dim, int | np.integer) and not isinstance(dim, bool) and dim >= 1:
        return int(dim)
    wanted = "a positive integer"
    raise InvalidInput(
        f"dim must be {wanted}, got {dim!r}", field="dim", expected=wanted, value=dim
    )


def of_type(value: T, kind: type[T], field: str) -> T:
    """Return the value, or raise InvalidInput where it is of another kind."""
    if isinstance(value, kind):
        return value
    raise InvalidInput(
        f"{field} must be of type {kind.__name__}, got {type(value).__name__}",
        field=field,
        expected=kind.__name__,
        value=value,
    )


def checked_vector(x: ArrayLike, dim: int) -> Floats:
    """Return x as float64, or raise InvalidInput."""
    if type(x) is np.ndarray and x.dtype is _SINGLE and x.shape == (dim,):  # as analyzers make it
        vector: Floats = x.astype(_DOUBLE)
        if vector.dot(vector) <= _SQUARE:  # the square of a float32 cannot overflow
            return vector
    try:
        given = np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise _not_a_vector(dim, "lists") from error
    if given.dtype.kind not in "fiub" or given.shape != (dim,):
        raise _not_a_vector(dim, f"{given.dtype} of shape {given.shape}")
    vector = given.astype(_DOUBLE, copy=False)
    with np.errstate(over="ignore"):
        square = vector.dot(vector)
    if not square <= _SQUARE:  # NaN is not
        wanted = f"finite, and at most {LONGEST:g} long"
        raise InvalidInput(f"x must be {wanted}", field="x", expected=wanted)
    return vector


def _not_a_vector(dim: int, got: str) -> InvalidInput:
    wanted = f"a vector of {dim} numbers"
    return InvalidInput(f"x must be {wanted}, got {got}", field="x", expected=wanted, value=got)


def checked_matrix(x: ArrayLike, dim: int) -> Floats:
    """Return X as float64, one vector a row, each rounded as a single one is; or InvalidInput."""
    wanted = f"a finite (n, {dim}) matrix, no row of it longer than {LONGEST:g}"
    try:
        given = np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise InvalidInput(f"X must be {wanted}", field="X", expected=wanted) from error
    if given.dtype.kind not in "fiub" or given.ndim != 2 or given.shape[1] != dim:
        got = f"{given.dtype} of shape {given.shape}"
        raise InvalidInput(f"X must be {wanted}, got {got}", field="X", expected=wanted, value=got)
    with np.errstate(over="ignore"):
        matrix = given.astype(_SINGLE).astype(_DOUBLE)
        square = (matrix**2).sum(axis=1)
    if not (square <= _SQUARE).all():  # NaN is not
        raise InvalidInput(f"X must be {wanted}", field="X", expected=wanted)
    return matrix


__all__ = ["checked_matrix", "checked_vector", "dimension", "of_type"]
