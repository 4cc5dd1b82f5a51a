"""What an application sees of an answer's fate, as one type of event, and as JSON to POST."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from conduit.core.errors import InvalidInput, optional_finite
from conduit.core.models import Feedback, RoutingDecision, RoutingResult

# An answer, its decision, the id of either, or the decision's receipt.
Target = RoutingResult[object] | RoutingDecision | str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalEvent:
    """Something happened to an answer: it was copied, edited, left, asked for again, put to use.

    `value` is what the kind of signal makes of it: an edit distance, the share that was shown, the
    success of a task. The same event again, by its id or by what it says, changes nothing.
    """

    target: Target
    signal: str
    value: float | None = None
    waited_s: float | None = None  # where the caller gave up before the answer was whole
    event_id: str | None = None
    given_at: float | None = None  # epoch seconds; the time of receipt when it is not given

    def __post_init__(self) -> None:
        """Refuse numbers that are none, and an event about nothing."""
        if not isinstance(self.target, str | RoutingDecision | RoutingResult) or not self.target:
            expected = "an answer, a decision, the id of either, or a receipt"
            raise InvalidInput(f"target must be {expected}", field="target", expected=expected)
        optional_finite(self.value, "value")
        optional_finite(self.waited_s, "waited_s", low=0.0)
        optional_finite(self.given_at, "given_at", low=0.0)


class _Payload(BaseModel):
    """JSON about one answer, which any of its names may stand for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    response_id: str = Field(
        validation_alias=AliasChoices("response_id", "decision_id", "receipt"),
        min_length=1,
        description="the id of an answer or of a decision, or a decision's receipt",
    )


class FeedbackPayload(_Payload):
    """The body of a request that rates an answer; one of the three opinions suffices.

    >>> payload = FeedbackPayload(response_id="a1", user_rating=5)
    >>> payload.feedback(user_id="u1").quality
    1.0
    """

    quality_score: float | None = Field(None, ge=0.0, le=1.0)
    user_rating: float | None = Field(None, ge=1.0, le=5.0)
    met_expectations: bool | None = None
    comments: str | None = Field(None, repr=False)  # taught by nothing, kept nowhere
    feedback_id: str | None = Field(None, min_length=1, description="the same again is a repeat")

    def feedback(self, *, user_id: str | None = None) -> Feedback:
        """Return the opinion; the user is who the application knows has asked, not the body."""
        said = self.model_dump(exclude={"response_id"})
        return Feedback(**said, user_id=user_id)


class SignalPayload(_Payload):
    """The body of a request that reports a signal: a copy, an edit, a task's success."""

    signal: str = Field(min_length=1)
    value: float | None = None
    waited_s: float | None = Field(None, ge=0.0)
    event_id: str | None = Field(None, min_length=1)

    def event(self) -> SignalEvent:
        """Return the event for `FeedbackCollector.record`."""
        said = self.model_dump(exclude={"response_id"})
        return SignalEvent(target=self.response_id, **said)


__all__ = ["FeedbackPayload", "SignalEvent", "SignalPayload", "Target"]
