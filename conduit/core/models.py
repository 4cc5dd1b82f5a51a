"""What users hand in and get back: frozen values that never hold a number that is not one."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, finite, optional_finite, unknown_name

Vector = NDArray[np.float32]
T = TypeVar("T")

MAX_TEXT_CHARS = 1_000_000
SHOWN_CHARS = 40  # of a prompt, in a repr
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6  # of a preference
LEAST_SCALE = 1e-12  # dollars or seconds
_VECTOR_MAGIC = b"CQF1"

Source = Literal["system", "implicit", "judge", "user"]
SOURCES: tuple[Source, ...] = get_args(Source)


def shown(text: str) -> str:
    """Return a text as a repr may show it: at most its first 40 characters."""
    return repr(text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…")


def normalise_text(text: str) -> str:
    """Return the text with lone surrogates replaced, so that it can be hashed and stored."""
    if not isinstance(text, str):
        raise InvalidInput(
            f"text must be a string, got {type(text).__name__}", field="text", expected="a string"
        )
    if not text:
        raise InvalidInput(
            "text must not be empty", field="text", expected="1 to 1,000,000 characters"
        )
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInput(
            f"text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are routed",
            field="text",
            expected="1 to 1,000,000 characters",
            value=len(text),
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryConstraints:
    """Limits that a model must keep, judged by what was learned about it."""

    max_cost: float | None = None  # USD for this query
    max_latency: float | None = None  # seconds
    min_quality: float | None = None  # 0 to 1
    preferred_provider: str | None = None
    strict: bool = False  # refuse rather than relax
    allow_unknown_cost: bool = False  # a model without a known price may pass max_cost

    def __post_init__(self) -> None:
        """Refuse limits that are not numbers."""
        optional_finite(self.max_cost, "max_cost", low=0.0)
        optional_finite(self.max_latency, "max_latency", low=0.0)
        optional_finite(self.min_quality, "min_quality", low=0.0, high=1.0)

    @classmethod
    def of(cls, value: QueryConstraints | Mapping[str, Any] | None) -> QueryConstraints | None:
        """Return constraints from themselves, a mapping of their fields, or None."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            wanted = "QueryConstraints or a mapping of their fields"
            raise InvalidInput(
                f"constraints must be {wanted}", field="constraints", expected=wanted
            )
        return cls(**_known_fields(cls, value, "constraint"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What a query is worth: weights of quality, cost and latency, relative to each other.

    Utility = (quality·q − cost·dollars/cost_scale_usd − latency·seconds/latency_scale_s) / quality.
    A missing scale is what the dearest (slowest) candidate takes for an average query.
    """

    quality: float = 0.7
    cost: float = 0.2
    latency: float = 0.1
    cost_scale_usd: float | None = None
    latency_scale_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse weights and scales that are not numbers, and a quality weight of nothing."""
        # Above 0: the other weights are relative to quality's, costs to their scale.
        finite(self.quality, "quality", low=LEAST_WEIGHT, high=MOST_WEIGHT)
        finite(self.cost, "cost", low=0.0, high=MOST_WEIGHT)
        finite(self.latency, "latency", low=0.0, high=MOST_WEIGHT)
        optional_finite(self.cost_scale_usd, "cost_scale_usd", low=LEAST_SCALE)
        optional_finite(self.latency_scale_s, "latency_scale_s", low=LEAST_SCALE)

    @classmethod
    def of(cls, value: Preferences | str | Mapping[str, Any] | None) -> Preferences:
        """Return preferences from themselves, a preset's name, a mapping, or the default."""
        if value is None:
            return PRESETS["balanced"]
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            if value not in PRESETS:
                raise InvalidInput(
                    unknown_name("preference", value, tuple(PRESETS)),
                    field="preferences",
                    expected=f"one of {', '.join(PRESETS)}",
                    value=value,
                )
            return PRESETS[value]
        if not isinstance(value, Mapping):
            wanted = "Preferences, a preset's name or a mapping of their fields"
            raise InvalidInput(
                f"preferences must be {wanted}", field="preferences", expected=wanted
            )
        return cls(**_known_fields(cls, value, "preference"))


PRESETS: Mapping[str, Preferences] = {
    "balanced": Preferences(),
    "quality": Preferences(quality=0.95, cost=0.04, latency=0.01),
    "cost": Preferences(quality=0.5, cost=0.45, latency=0.05),
    "speed": Preferences(quality=0.5, cost=0.05, latency=0.45),
}


@dataclass(frozen=True, slots=True, repr=False)
class Query:
    """One thing to route: its text, and what the caller knows about it."""

    text: str
    user_id: str | None = None
    task: str | None = None
    context: Mapping[str, Any] | None = None
    preferences: Preferences | None = None
    constraints: QueryConstraints | None = None
    conversation_id: str | None = None
    previous_model: str | None = None

    def __post_init__(self) -> None:
        """Normalise the text, and take preferences and constraints in their short forms too."""
        object.__setattr__(self, "text", normalise_text(self.text))
        if self.preferences is not None:
            object.__setattr__(self, "preferences", Preferences.of(self.preferences))
        if self.constraints is not None:
            object.__setattr__(self, "constraints", QueryConstraints.of(self.constraints))

    def __repr__(self) -> str:
        """Show at most 40 characters of the text and none of the context."""
        given = [f"text={shown(self.text)}"]
        for name in ("user_id", "task", "preferences", "constraints", "conversation_id"):
            value = getattr(self, name)
            if value is not None:
                given.append(f"{name}={value!r}")
        return f"Query({', '.join(given)})"


@dataclass(frozen=True, slots=True)
class ModelArm:
    """One model that can be chosen; only the id is needed, the catalogue fills what it knows."""

    id: str
    input_usd_per_mtok: float | None = field(default=None, kw_only=True)
    output_usd_per_mtok: float | None = field(default=None, kw_only=True)
    quality: float | None = field(default=None, kw_only=True)
    quality_observations: float | None = field(default=None, kw_only=True)
    latency_s: float | None = field(default=None, kw_only=True)
    output_tokens: float | None = field(default=None, kw_only=True)
    context_window: int | None = field(default=None, kw_only=True)
    base_url: str | None = field(default=None, kw_only=True, repr=False)  # may hold a password
    model: Any = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse an empty id and numbers out of range."""
        if not isinstance(self.id, str) or not self.id.strip():
            raise InvalidInput("a model needs an id", field="id", expected="a non-empty string")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "latency_s", "output_tokens"):
            optional_finite(getattr(self, name), name, low=0.0)
        optional_finite(self.quality, "quality", low=0.0, high=1.0)
        optional_finite(self.quality_observations, "quality_observations", low=0.0)
        optional_finite(self.context_window, "context_window", low=1)

    @property
    def provider(self) -> str | None:
        """Return what stands before the first colon or slash of the id, if anything does."""
        for mark in (":", "/"):
            if mark in self.id:
                return self.id.split(mark, 1)[0]
        return None

    @property
    def priced(self) -> bool:
        """Return whether dollars follow from tokens for this model."""
        return self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None


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

    def __post_init__(self) -> None:
        """Own a read-only copy of the vector, and refuse what is not finite."""
        object.__setattr__(self, "vector", as_vector(self.vector, name="vector"))
        finite(self.token_estimate, "token_estimate", low=0)
        optional_finite(self.complexity_score, "complexity_score", low=0.0, high=1.0)
        optional_finite(self.domain_confidence, "domain_confidence", low=0.0, high=1.0)

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
            return cls(**_known_fields(cls, json.loads(text), "feature"))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """What was expected of one model for one query, each with its standard deviation."""

    model: str
    quality: float
    quality_sd: float
    cost_usd: float | None
    cost_sd: float | None
    latency_s: float | None
    latency_sd: float | None
    utility: float
    propensity: float


class Choice(Protocol):
    """What a learner decided; the expensive readings are worked out when first read."""

    @property
    def model(self) -> str: ...  # noqa: D102  what was chosen
    @property
    def propensity(self) -> float: ...  # noqa: D102  the probability with which it was chosen
    @property
    def confidence(self) -> float: ...  # noqa: D102  P(it has the highest utility)
    @property
    def estimates(self) -> Mapping[str, ModelEstimate]: ...  # noqa: D102  per candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A model that was not a candidate, and why."""

    model: str
    reason: str


class RoutingDecision:
    """The receipt of one choice: feedback brings it (or its id) back."""

    __slots__ = (
        "_choice", "_receipt", "constraints_relaxed", "created_at", "excluded", "features", "id",
        "note", "preferences", "relaxed", "router", "user_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,
        choice: Choice,
        features: QueryFeatures,
        preferences: Preferences,
        created_at: float,
        router: str = "default",
        excluded: Sequence[Exclusion] = (),
        relaxed: Sequence[str] = (),
        note: str = "",
        user_id: str | None = None,
        receipt: Any = None,
    ) -> None:
        """Keep the choice; confidence, propensity, estimates and receipt come on demand."""
        self.id = id
        self._choice = choice
        self.features = features
        self.preferences = preferences
        self.created_at = created_at
        self.router = router
        self.excluded = tuple(excluded)
        self.relaxed = tuple(relaxed)
        self.constraints_relaxed = bool(relaxed)
        self.note = note
        self.user_id = user_id
        self._receipt = receipt

    @property
    def selected_model(self) -> str:
        """Return the id of the chosen model."""
        return self._choice.model

    @property
    def confidence(self) -> float:
        """Return the posterior probability that the chosen model has the highest utility."""
        return self._choice.confidence

    @property
    def propensity(self) -> float:
        """Return the probability with which this model was chosen."""
        return self._choice.propensity

    @property
    def estimates(self) -> Mapping[str, ModelEstimate]:
        """Return what was expected of each candidate."""
        return self._choice.estimates

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the candidates, the most useful first: the order in which fallback tries them."""
        chosen = self.selected_model
        ranked = sorted(self.estimates.values(), key=lambda e: -e.utility)
        return (chosen, *(e.model for e in ranked if e.model != chosen))

    @property
    def receipt(self) -> str:
        """Return the signed token with which feedback can be given in another process."""
        if callable(self._receipt):
            self._receipt = self._receipt(self)
        return str(self._receipt or self.id)

    @property
    def reasoning(self) -> str:
        """Return one line of prose that says why this model."""
        e = self.estimates[self.selected_model]
        cost = "an unknown price" if e.cost_usd is None else f"${e.cost_usd:.2g}"
        parts = [
            f"{e.model} is expected to reach quality {e.quality:.2f} ± {e.quality_sd:.2f}"
            f" for {cost}",
            f"the best of {len(self.estimates)} with probability {self.confidence:.2f}",
        ]
        if self.constraints_relaxed:
            parts.append("constraints were relaxed (" + ", ".join(self.relaxed) + ")")
        if self.features.degraded:
            parts.append(f"without an embedding ({self.features.degraded})")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)

    def __repr__(self) -> str:
        """Show the choice, never the text."""
        return f"RoutingDecision(id={self.id!r}, selected_model={self.selected_model!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """An opinion about one answer; any one of score, stars and met expectations suffices."""

    quality_score: float | None = None
    user_rating: float | None = None
    met_expectations: bool | None = None
    comments: str | None = field(default=None, repr=False)
    feedback_id: str | None = None
    user_id: str | None = None
    source: Source = "user"
    given_at: float | None = None  # epoch seconds; the time of receipt when it is not given

    def __post_init__(self) -> None:
        """Refuse ratings out of range, and feedback that says nothing."""
        optional_finite(self.quality_score, "quality_score", low=0.0, high=1.0)
        optional_finite(self.user_rating, "user_rating", low=1.0, high=5.0)
        optional_finite(self.given_at, "given_at", low=0.0)
        if self.met_expectations is not None and not isinstance(self.met_expectations, bool):
            raise InvalidInput(
                "met_expectations must be True, False or None",
                field="met_expectations",
                expected="True, False or None",
                value=self.met_expectations,
            )
        if (
            self.quality_score is None
            and self.user_rating is None
            and self.met_expectations is None
        ):
            wanted = "quality_score, user_rating or met_expectations"
            raise InvalidInput(
                f"feedback needs {wanted}", field="quality_score", expected=f"any of {wanted}"
            )
        if self.source not in SOURCES:
            raise InvalidInput(
                unknown_name("source", self.source, SOURCES),
                field="source",
                expected=f"one of {', '.join(SOURCES)}",
                value=self.source,
            )

    @property
    def quality(self) -> float:
        """Return the quality that the feedback says."""
        quality = quality_of(self.quality_score, self.user_rating, self.met_expectations)
        assert quality is not None  # the constructor saw to it
        return quality


def quality_of(
    quality_score: float | None = None,
    user_rating: float | None = None,
    met_expectations: bool | None = None,
) -> float | None:
    """Return the quality in [0, 1] that explicit feedback says; None where it says nothing.

    The finest of what was given counts: a score as it is; else stars, evenly from 1 (nothing) to
    5 (all); else whether expectations were met, 1 or 0.
    """
    if quality_score is not None:
        return finite(quality_score, "quality_score", low=0.0, high=1.0)
    if user_rating is not None:
        return (finite(user_rating, "user_rating", low=1.0, high=5.0) - 1.0) / 4.0
    if met_expectations is not None:
        return 1.0 if met_expectations else 0.0
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImplicitFeedback:
    """What a call showed by itself: how it ended, what it took, what quality it hints at."""

    signal: str  # the kind, for its reliability
    quality: float | None = None
    weight: float | None = None  # None: the learned reliability of the signal's kind
    cost_usd: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    error: str | None = None
    feedback_id: str | None = None
    given_at: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        optional_finite(self.quality, "quality", low=0.0, high=1.0)
        optional_finite(self.weight, "weight", low=0.0, high=1.0)
        for name in ("cost_usd", "input_tokens", "output_tokens", "latency_s", "given_at"):
            optional_finite(getattr(self, name), name, low=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What one call gave and took; what the provider did not say is None."""

    model: str
    text: str | None = field(default=None, repr=False)
    cost_usd: float | None = None
    latency_s: float | None = None
    time_to_first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    output_valid: bool | None = None
    validation_retries: int = 0
    tool_calls: int = 0
    tool_failures: int = 0

    @property
    def cost(self) -> float | None:
        """Return the dollars of the call, or None when unknown."""
        return self.cost_usd

    @property
    def latency(self) -> float | None:
        """Return the seconds of the call."""
        return self.latency_s

    @property
    def tokens(self) -> int | None:
        """Return input and output tokens together, or None when unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingResult(Generic[T]):
    """An answer with its receipt: the data in the form asked for, who gave it, and why."""

    id: str
    data: T = field(repr=False)  # an answer may quote its prompt
    model: str
    decision: RoutingDecision
    response: Response
    messages: Sequence[Any] = field(default=(), repr=False)


def _known_fields(cls: type, values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            raise InvalidInput(
                unknown_name(kind, name, known),
                field=str(name),
                expected=f"one of {', '.join(known)}",
            )
    return dict(values)


__all__ = [
    "MAX_TEXT_CHARS",
    "PRESETS",
    "SOURCES",
    "Choice",
    "Exclusion",
    "Feedback",
    "ImplicitFeedback",
    "ModelArm",
    "ModelEstimate",
    "Preferences",
    "Query",
    "QueryConstraints",
    "QueryFeatures",
    "Response",
    "RoutingDecision",
    "RoutingResult",
    "Source",
    "Vector",
    "as_vector",
    "normalise_text",
    "quality_of",
    "shown",
]  # fmt: skip
