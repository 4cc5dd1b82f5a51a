"""Which model was chosen, and what was expected of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from conduit.core.errors import hold_numbers, hold_strings
from conduit.core.queries import Preferences
from conduit.core.vectors import QueryFeatures, reduced


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

    def __post_init__(self) -> None:
        """Refuse numbers out of range; what is held is plain."""
        hold_strings(self, ("model",), required=True)
        hold_numbers(self, ("quality", "propensity"), low=0.0, high=1.0, required=True)
        hold_numbers(self, ("quality_sd",), low=0.0, required=True)
        hold_numbers(self, ("utility",), required=True)
        hold_numbers(self, ("cost_usd", "cost_sd", "latency_s", "latency_sd"), low=0.0)


class Choice(Protocol):
    """What a learner decided; the expensive readings are worked out when first read."""

    @property
    def model(self) -> str: ...  # noqa: D102  what was chosen
    @property
    def propensity(self) -> float: ...  # noqa: D102  the probability with which it was chosen
    @property
    def confidence(self) -> float: ...  # noqa: D102  P(it has the highest utility)
    @property
    def ranked(self) -> Sequence[str]: ...  # noqa: D102  the candidates, the most useful first
    @property
    def estimates(self) -> Mapping[str, ModelEstimate]: ...  # noqa: D102  per candidate


@dataclass(frozen=True, slots=True)
class KnownChoice:
    """A choice whose readings were all worked out; it knows nothing of who made it."""

    model: str
    propensity: float
    confidence: float
    ranked: tuple[str, ...]
    estimates: Mapping[str, ModelEstimate]

    @classmethod
    def of(cls, choice: Choice) -> Self:
        """Return what a choice says."""
        ranked, estimates = tuple(choice.ranked), dict(choice.estimates)
        return cls(choice.model, choice.propensity, choice.confidence, ranked, estimates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A model that was not a candidate, and why."""

    model: str
    reason: str


class RoutingDecision:
    """The receipt of one choice: feedback brings it (or its id) back."""

    __slots__ = (
        "_choice", "_receipt", "created_at", "excluded", "features", "id", "note", "preferences",
        "relaxed", "router", "user_id",
    )  # fmt: skip
    id: str
    features: QueryFeatures
    preferences: Preferences
    created_at: float
    router: str
    excluded: tuple[Exclusion, ...]
    relaxed: tuple[str, ...]  # the limits that no model kept, and how far they were moved
    note: str
    user_id: str | None
    _choice: Choice
    _receipt: Any

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
        put = object.__setattr__
        put(self, "id", id)
        put(self, "_choice", choice)
        put(self, "features", features)
        put(self, "preferences", preferences)
        put(self, "created_at", created_at)
        put(self, "router", router)
        put(self, "excluded", tuple(excluded))
        put(self, "relaxed", tuple(relaxed))
        put(self, "note", note)
        put(self, "user_id", user_id)
        put(self, "_receipt", receipt)

    if not TYPE_CHECKING:  # pragma: no branch  (a checker sees the attributes that are not set)

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse every change: feedback must be about what was decided."""
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            """Refuse to forget a part."""
            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what was decided here, and neither learner nor signing key."""
        return reduced(self, _choice=KnownChoice.of(self._choice), _receipt=self.receipt)

    @property
    def constraints_relaxed(self) -> bool:
        """Return whether a limit was relaxed because no model kept it."""
        return bool(self.relaxed)

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
        return (chosen, *(model for model in self._choice.ranked if model != chosen))

    @property
    def receipt(self) -> str:
        """Return the signed token with which feedback can be given in another process."""
        if callable(self._receipt):
            object.__setattr__(self, "_receipt", self._receipt(self))
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

    def explain(self) -> str:
        """Return a small table of what was expected of every model, and why this one."""
        lines = [self.reasoning, ""]
        lines.append(
            f"{'model':<40} {'quality':>14} {'dollars':>10} {'seconds':>8} {'utility':>8} {'p':>6}"
        )
        for e in sorted(self.estimates.values(), key=lambda e: -e.utility):
            mark = "*" if e.model == self.selected_model else " "
            cost = "unknown" if e.cost_usd is None else f"{e.cost_usd:.2e}"
            seconds = "unknown" if e.latency_s is None else f"{e.latency_s:.2f}"
            quality = f"{e.quality:.3f} ± {e.quality_sd:.3f}"
            lines.append(
                f"{mark}{e.model:<39} {quality:>14} {cost:>10} {seconds:>8}"
                f" {e.utility:>8.3f} {e.propensity:>6.3f}"
            )
        lines += [f" {x.model:<39} not a candidate: {x.reason}" for x in self.excluded]
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Show the choice, never the text."""
        return f"RoutingDecision(id={self.id!r}, selected_model={self.selected_model!r})"
