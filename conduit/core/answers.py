"""What came of a decision: the answer, and what is thought of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from conduit.core.decisions import RoutingDecision
from conduit.core.errors import (
    InvalidInput,
    hold_counts,
    hold_numbers,
    hold_strings,
    optional_finite,
    unknown_name,
)

T = TypeVar("T")

Source = Literal["system", "implicit", "judge", "user"]
SOURCES: tuple[Source, ...] = get_args(Source)
# The latest opinion counts, so that one in the far future would for ever: it is in milliseconds.
YEAR_2100 = 4_102_444_800.0


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
        hold_numbers(self, ("quality_score",), low=0.0, high=1.0)
        hold_numbers(self, ("user_rating",), low=1.0, high=5.0)
        _hold_time(self)
        hold_strings(self, ("comments", "feedback_id", "user_id", "source"))
        _truth_or_unknown(self.met_expectations, "met_expectations")
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


def _hold_time(said: Feedback | ImplicitFeedback) -> None:
    """Make the time at which it was given plain epoch seconds, or None."""
    hold_numbers(said, ("given_at",), low=0.0)
    if said.given_at is not None and said.given_at >= YEAR_2100:
        wanted = "epoch seconds before the year 2100"
        raise InvalidInput(
            f"given_at must be {wanted}, got {said.given_at!r}",
            field="given_at",
            expected=wanted,
            value=said.given_at,
        )


def _truth_or_unknown(value: object, field: str) -> None:
    if value is not None and not isinstance(value, bool):
        wanted = "True, False or None"
        raise InvalidInput(f"{field} must be {wanted}", field=field, expected=wanted, value=value)


def quality_of(
    quality_score: float | None = None,
    user_rating: float | None = None,
    met_expectations: bool | None = None,
) -> float | None:
    """Return the quality in [0, 1] that explicit feedback says; None where it says nothing.

    The finest of what was given counts: a score as it is; else stars, evenly from 1 (nothing) to
    5 (all); else whether expectations were met, 1 or 0.
    """
    score = optional_finite(quality_score, "quality_score", low=0.0, high=1.0)
    stars = optional_finite(user_rating, "user_rating", low=1.0, high=5.0)
    if score is not None:
        return score
    if stars is not None:
        return (stars - 1.0) / 4.0
    if met_expectations is not None:
        return 1.0 if met_expectations else 0.0
    return None


_MEASURED = ("value", "cost_usd", "input_tokens", "output_tokens", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImplicitFeedback:
    """What a call showed by itself: how it ended, what it took, what quality it hints at."""

    signal: str  # the kind, for its reliability
    quality: float | None = None
    weight: float | None = None  # None: the learned reliability of the signal's kind
    value: float | None = None  # of the signal, where that is no quality, such as seconds waited
    cost_usd: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    error: str | None = None
    feedback_id: str | None = None
    given_at: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a signal that is no name."""
        hold_strings(self, ("signal",), required=True)
        hold_strings(self, ("error", "feedback_id"))
        hold_numbers(self, ("quality", "weight"), low=0.0, high=1.0)
        hold_numbers(self, _MEASURED, low=0.0)
        _hold_time(self)


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

    def __post_init__(self) -> None:
        """Refuse measurements and counts that are none; what is held is plain."""
        hold_strings(self, ("model",), required=True)
        hold_strings(self, ("text", "finish_reason"))
        hold_numbers(self, ("cost_usd", "latency_s", "time_to_first_token_s"), low=0.0)
        hold_counts(self, ("input_tokens", "output_tokens"))
        hold_counts(self, ("validation_retries", "tool_calls", "tool_failures"), required=True)
        _truth_or_unknown(self.output_valid, "output_valid")

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
