"""What the learner sees of a query: numbers, which are read-only and finite."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import (
    InvalidInput,
    hold_counts,
    hold_numbers,
    hold_strings,
    known_fields,
)

Vector = NDArray[np.float32]
T = TypeVar("T")

_SINGLE = np.dtype(np.float32)
_VECTOR_MAGIC = b"CQF1"
_READ_LATER = ("complexity_score", "domain", "domain_confidence")

# What people read of a text, in that order; no decision waits for it.
Reader = Callable[[], tuple[float | None, str | None, float | None]]


def as_vector(value: object, *, dim: int | None = None, name: str = "x") -> Vector:
    """Return a `sealed` float32 vector, or raise InvalidInput for a wrong shape or number."""
    known = value if _is_sealed(value) else None
    vector = _numbers(value, name) if known is None else known
    if vector.ndim != 1 or (dim is not None and vector.shape[0] != dim):
        wanted = "a vector" if dim is None else f"a vector of {dim} numbers"
        raise InvalidInput(
            f"{name} must be {wanted}, got shape {vector.shape}",
            field=name,
            expected=wanted,
            value=vector.shape,
        )
    if known is None:
        vector = sealed(vector)
    # One product, which `vdot` makes without a warning, tells of all but vectors of huge numbers.
    if not math.isfinite(np.vdot(vector, vector)) and not np.isfinite(vector).all():
        raise InvalidInput(
            f"{name} must be finite", field=name, expected="finite numbers of single precision"
        )
    return vector


def sealed(vector: Vector) -> Vector:
    """Return a copy over immutable bytes, which nobody can make writeable again."""
    return np.frombuffer(np.asarray(vector, _SINGLE).tobytes(), _SINGLE)


def reduced(value: Any, **instead: object) -> tuple[Any, ...]:
    """Return what copies and pickles of a frozen value are made of, as its `__reduce__`.

    What is given as `instead` stands in the copy for what the value holds.
    """
    held = {name: getattr(value, name) for name in value.__slots__}
    return restored, (type(value), *{**held, **instead}.values())


def restored(cls: type[T], *values: object) -> T:
    """Return a frozen value with these in its slots; the arrays, which numpy copied, are sealed."""
    made = object.__new__(cls)
    for name, value in zip(cls.__slots__, values, strict=True):  # type: ignore[attr-defined]
        given = as_vector(value, name=name) if isinstance(value, np.ndarray) else value
        object.__setattr__(made, name, given)
    return made


def _is_sealed(value: object) -> TypeGuard[Vector]:
    if type(value) is not np.ndarray or value.dtype != _SINGLE:
        return False
    base: object = value.base
    return type(base) is bytes


def _numbers(value: object, name: str) -> Vector:
    """Return the value as float32; what is not numbers, such as digits in a string, is refused."""
    try:
        given = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise _not_numbers(name) from error
    if given.dtype == _SINGLE:
        return given
    if given.dtype.kind not in "biuf":
        raise _not_numbers(name)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        return given.astype(_SINGLE)


def _not_numbers(name: str) -> InvalidInput:
    wanted = "a vector of numbers"
    return InvalidInput(f"{name} must be {wanted}", field=name, expected=wanted)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryFeatures:
    """What the learner sees of a query: a read-only vector, and what people read beside it."""

    vector: Vector
    schema: str
    token_estimate: int = 0
    complexity_score: float | None = None
    domain: str | None = None
    domain_confidence: float | None = None
    degraded: str | None = None  # why the embedding is missing from the vector, if it is
    embedding: Vector | None = None  # stays in the process: in no receipt, row or pickle
    _reader: Reader | None = field(default=None, init=False)  # until it has been asked

    def __post_init__(self) -> None:
        """Own sealed vectors, plain numbers and strings, and refuse what is none of them."""
        object.__setattr__(self, "vector", as_vector(self.vector, name="vector"))
        if self.embedding is not None:
            object.__setattr__(self, "embedding", as_vector(self.embedding, name="embedding"))
        hold_strings(self, ("schema",), required=True)
        hold_strings(self, ("domain", "degraded"))
        hold_counts(self, ("token_estimate",), required=True)
        hold_numbers(self, ("complexity_score", "domain_confidence"), low=0.0, high=1.0)

    @classmethod
    def unread(
        cls,
        vector: Vector,
        schema: str,
        token_estimate: int,
        reader: Reader,
        *,
        degraded: str | None = None,
        embedding: Vector | None = None,
    ) -> Self:
        """Return features whose complexity and domain are asked of `reader` when first read.

        Nothing is checked or copied: `vector` and `embedding` must be as `as_vector` returns them.
        """
        made, put = object.__new__(cls), object.__setattr__
        put(made, "vector", vector)
        put(made, "schema", schema)
        put(made, "token_estimate", token_estimate)
        put(made, "degraded", degraded)
        put(made, "embedding", embedding)
        put(made, "_reader", reader)
        return made

    if not TYPE_CHECKING:  # pragma: no branch  (a checker would take any name for an attribute)

        def __getattr__(self, name: str) -> Any:
            """Work out what `unread` left open; called for attributes that are not there."""
            if name not in _READ_LATER:
                raise AttributeError(f"QueryFeatures has no attribute {name!r}")
            reader = self._reader
            if reader is not None:  # another thread may have read it just now
                for reading, value in zip(_READ_LATER, reader(), strict=True):
                    object.__setattr__(self, reading, value)
                object.__setattr__(self, "_reader", None)
            return object.__getattribute__(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle everything but the embedding."""
        return reduced(self, embedding=None)

    def __copy__(self) -> Self:
        """Return itself: nothing of it can change."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: nothing of it can change."""
        return self

    def __repr__(self) -> str:
        """Show the readings, not the numbers of the vector."""
        return (
            f"QueryFeatures(dim={self.vector.shape[0]}, schema={self.schema!r}, "
            f"token_estimate={self.token_estimate}, complexity_score={self.complexity_score}, "
            f"domain={self.domain!r})"
        )

    def __eq__(self, other: object) -> bool:
        """Compare everything but the embedding."""
        if not isinstance(other, QueryFeatures):
            return NotImplemented
        return self._readings() == other._readings() and np.array_equal(self.vector, other.vector)

    def __hash__(self) -> int:
        """Hash by the vector's bytes."""
        return hash((self.schema, self.vector.tobytes()))

    def _readings(self) -> dict[str, Any]:
        names = (
            "schema",
            "token_estimate",
            "complexity_score",
            "domain",
            "domain_confidence",
            "degraded",
        )
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> str:
        """Return JSON that `from_json` turns back into an equal value."""
        return json.dumps({**self._readings(), "vector": [float(v) for v in self.vector]})

    @classmethod
    def from_json(cls, text: str) -> QueryFeatures:
        """Return what `to_json` was given."""
        try:
            said = json.loads(text)
            if not isinstance(said, dict):
                raise TypeError("no object")
            return cls(**known_fields(cls, said, "feature"))
        except InvalidInput:  # which names the field
            raise
        except (TypeError, ValueError, RecursionError) as error:
            wanted = "what QueryFeatures.to_json returned"
            raise InvalidInput(f"not {wanted}", field="features", expected=wanted) from error

    def to_bytes(self) -> bytes:
        """Return compact bytes (no pickle) that `from_bytes` turns back into an equal value."""
        head = json.dumps(self._readings(), separators=(",", ":")).encode()
        body = self.vector.astype("<f4").tobytes()
        return _VECTOR_MAGIC + struct.pack("<II", len(head), len(body)) + head + body

    @classmethod
    def from_bytes(cls, data: bytes) -> QueryFeatures:
        """Return what `to_bytes` was given, or raise InvalidInput for anything else."""
        try:
            if data[:4] != _VECTOR_MAGIC:
                raise ValueError("foreign bytes")
            head_size, body_size = struct.unpack_from("<II", data, 4)
            if len(data) != 12 + head_size + body_size:
                raise ValueError("cut or padded")
            readings = json.loads(data[12 : 12 + head_size])
            return cls(np.frombuffer(data[12 + head_size :], dtype="<f4"), **readings)
        except (ValueError, TypeError, RecursionError, struct.error) as error:
            wanted = "what QueryFeatures.to_bytes returned"
            raise InvalidInput(f"not {wanted}", field="features", expected=wanted) from error
