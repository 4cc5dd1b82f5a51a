"""What may be decided and learned on: finite vectors of one length, refused before they get in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from conduit.core.errors import InvalidInput
from conduit.engines.bandits.base import Floats

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
LONGEST = 1e6  # features are of the size of one; the squares of more would lose their digits
_SQUARE = LONGEST**2


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
    """Return X as float64, one vector a row, or raise InvalidInput."""
    wanted = f"a finite (n, {dim}) matrix, no row of it longer than {LONGEST:g}"
    try:
        matrix = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"X must be {wanted}", field="X", expected=wanted) from error
    square = np.clip(matrix, -2 * LONGEST, 2 * LONGEST) ** 2
    if matrix.ndim != 2 or matrix.shape[1] != dim or not (square.sum(1) <= _SQUARE).all():
        raise InvalidInput(
            f"X must be {wanted}, got shape {matrix.shape}",
            field="X",
            expected=wanted,
            value=matrix.shape,
        )
    return matrix


__all__ = ["checked_matrix", "checked_vector"]
