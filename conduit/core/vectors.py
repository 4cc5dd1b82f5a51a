"""What the learner sees of a query: numbers, which are read-only and finite."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, finite, known_fields, optional_finite

Vector = NDArray[np.float32]

_VECTOR_MAGIC = b"CQF1"
_READ_LATER = ("complexity_score", "domain", "domain_confidence")

# What people read of a text, in that order; no decision waits for it.
Reader = Callable[[], tuple[float | None, str | None, float | None]]


def as_vector(value: object, *, dim: int | None = None, name: str = "x") -> Vector:
    """Return a read-only float32 vector, or raise InvalidInput for a wrong shape or number."""
    vector = _numbers(value, name)
    if vector.ndim != 1 or (dim is not None and vector.shape[0] != dim):
        wanted = "a vector" if dim is None else f"a vector of {dim} numbers"
        raise InvalidInput(
            f"{name} must be {wanted}, got shape {vector.shape}",
            field=name,
            expected=wanted,
            value=vector.shape,
        )
    if not np.isfinite(vector).all():
        raise InvalidInput(
            f"{name} must be finite", field=name, expected="finite numbers of single precision"
        )
    vector.flags.writeable = False
    return vector


def _numbers(value: object, name: str) -> Vector:
    """Return a copy as float32; what is not numbers, such as digits in a string, is refused."""
    try:
        given = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise _not_numbers(name) from error
    if given.dtype.kind not in "biuf":
        raise _not_numbers(name)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        return np.array(given, dtype=np.float32)


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
    embedding: Vector | None = None  # stays in the process: receipts and rows do not carry it
    _reader: Reader | None = field(default=None, init=False)  # until it has been asked

    def __post_init__(self) -> None:
        """Own a read-only copy of the vector, and refuse what is not finite."""
        object.__setattr__(self, "vector", as_vector(self.vector, name="vector"))
        finite(self.token_estimate, "token_estimate", low=0)
        optional_finite(self.complexity_score, "complexity_score", low=0.0, high=1.0)
        optional_finite(self.domain_confidence, "domain_confidence", low=0.0, high=1.0)

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

        Nothing is checked or copied: `vector` must be as `as_vector` returns it, and nobody else's.
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
            return cls(**known_fields(cls, json.loads(text), "feature"))
        except (TypeError, json.JSONDecodeError) as error:
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
        except (ValueError, TypeError, struct.error) as error:
            wanted = "what QueryFeatures.to_bytes returned"
            raise InvalidInput(f"not {wanted}", field="features", expected=wanted) from error
