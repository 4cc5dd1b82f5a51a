"""What users hand in: a query, what it must keep and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conduit.core.errors import (
    InvalidInput,
    hold_numbers,
    hold_strings,
    known_fields,
    string,
    unknown_name,
)

MAX_TEXT_CHARS = 1_000_000
SHOWN_CHARS = 40  # of a prompt, in a repr
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6  # of a preference
LEAST_SCALE = 1e-12  # dollars or seconds


def shown(text: str) -> str:
    """Return a text as a repr may show it: at most its first 40 characters."""
    return repr(text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…")


def normalise_text(text: str) -> str:
    """Return the text with lone surrogates replaced, so that it can be hashed and stored."""
    text = string(text, "text")
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
    return without_surrogates(text)


def without_surrogates(text: str) -> str:
    """Return the text with each half of an emoji replaced: alone it is no Unicode."""
    if text.isascii():
        return text
    try:
        text.encode("utf-32-le")  # refuses what UTF-8 does, in a third of the time
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


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
        """Refuse limits that are not numbers, and a provider that is no name."""
        hold_numbers(self, ("max_cost", "max_latency"), low=0.0)
        hold_numbers(self, ("min_quality",), low=0.0, high=1.0)
        hold_strings(self, ("preferred_provider",))

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
        return cls(**known_fields(cls, value, "constraint"))


@dataclass(frozen=True, slots=True)
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
        hold_numbers(self, ("quality",), low=LEAST_WEIGHT, high=MOST_WEIGHT, required=True)
        hold_numbers(self, ("cost", "latency"), low=0.0, high=MOST_WEIGHT, required=True)
        hold_numbers(self, ("cost_scale_usd", "latency_scale_s"), low=LEAST_SCALE)

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
        return cls(**known_fields(cls, value, "preference"))


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
        """Normalise the text, take short forms of the rest, and refuse what is none of it."""
        object.__setattr__(self, "text", normalise_text(self.text))
        if self.preferences is not None:
            object.__setattr__(self, "preferences", Preferences.of(self.preferences))
        if self.constraints is not None:
            object.__setattr__(self, "constraints", QueryConstraints.of(self.constraints))
        hold_strings(self, ("user_id", "task", "conversation_id", "previous_model"))
        if self.context is not None and not isinstance(self.context, Mapping):
            raise InvalidInput(
                f"context must be a mapping, got {type(self.context).__name__}",
                field="context",
                expected="a mapping",
            )

    def __repr__(self) -> str:
        """Show at most 40 characters of each text and none of the context."""
        given = [f"text={shown(self.text)}"]
        for name in ("user_id", "task", "preferences", "constraints", "conversation_id"):
            value = getattr(self, name)
            if value is not None:
                given.append(f"{name}={shown(value) if isinstance(value, str) else repr(value)}")
        return f"Query({', '.join(given)})"
