"""What a decision and the feedback on it become in the log: rows that hold no text unasked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, unknown_name
from conduit.core.events import (
    SOURCE_RANK,
    DecisionRecord,
    Evidence,
    FeedbackRow,
    Lesson,
    rank_of_signal,
)
from conduit.core.models import Feedback, ImplicitFeedback, RoutingDecision
from conduit.engines.learner import Calibration, columns_of
from conduit.storage.base import new_id

WITHDRAWN = "outage"  # the signal that takes back what a failure taught: of weight 0, but stronger
IMPLICIT_WEIGHT = 0.25  # of a signal whose reliability nobody has told
# Judges agree with people about as often as two people do (80 %: Zheng et al. 2023, MT-Bench), on
# pairs; on single answers less, so that a score weighs between a signal and a user's opinion.
JUDGE_WEIGHT = 0.5


class Weigher(Protocol):
    """Knows how far a signal is believed."""

    def weigh(self, kind: str, value: float, model: str | None = None) -> Lesson | None:
        """Return what a signal teaches; None for unknown kinds."""


def lesson_of(
    decision: RoutingDecision, ttl_s: float, *, text: str | None = None
) -> DecisionRecord:
    """Return what teaching needs of a decision, without estimates that cost more than it."""
    return DecisionRecord(
        id=decision.id,
        router=decision.router,
        model=decision.selected_model,
        x=decision.features.vector,
        schema=decision.features.schema,
        created_at=decision.created_at,
        expires_at=decision.created_at + ttl_s,
        user_key=user_key(decision.user_id),
        input_tokens=float(decision.features.token_estimate),
        text=text,
    )


def record_of(
    decision: RoutingDecision, ttl_s: float, *, text: str | None = None
) -> DecisionRecord:
    """Return the whole row of a decision, with the estimates; no text unless it is given."""
    return replace(
        lesson_of(decision, ttl_s, text=text),
        propensity=decision.propensity,
        estimates={
            m: {"quality": e.quality, "cost_usd": e.cost_usd, "latency_s": e.latency_s}
            for m, e in decision.estimates.items()
        },
    )


def row_of(
    record: DecisionRecord,
    feedback: Feedback | ImplicitFeedback,
    *,
    router: str,
    now: float,
    model: str | None = None,
    weigher: Weigher | None = None,
) -> FeedbackRow:
    """Return the row of the log that feedback becomes; `model` names another attempt."""
    evidence, said = evidence_of(feedback, now=now), None
    if weigher is not None:
        evidence, said = _weighed(feedback, evidence, model or record.model, weigher)
    return FeedbackRow(
        feedback_id=feedback.feedback_id or evidence.key,
        router=router,
        decision_id=record.id,
        model=model or record.model,
        evidence=evidence,
        kind="explicit" if isinstance(feedback, Feedback) else feedback.signal,
        user_key=user_key(feedback.user_id) if isinstance(feedback, Feedback) else None,
        decision=record,
        said=said,
    )


def _weighed(
    feedback: Feedback | ImplicitFeedback,
    evidence: Evidence,
    model: str,
    weigher: Weigher,
) -> tuple[Evidence, float | None]:
    """Return what feedback teaches by what was learned of its kind, and a signal's own value."""
    if isinstance(feedback, Feedback):
        return evidence, None
    if feedback.quality is None:
        return evidence, feedback.value
    learned = weigher.weigh(feedback.signal, feedback.quality, model)
    if learned is None:
        return evidence, None
    if feedback.error is None and feedback.weight is None:
        evidence = learned.taught(evidence)
    return evidence, feedback.quality


def calibration_rows(
    vectors: NDArray[np.float32],
    outcomes: Calibration,
    *,
    models: Sequence[str],
    schema: str,
    router: str,
    now: float,
    ttl_s: float,
) -> list[FeedbackRow]:
    """Return the rows of the log that calibration becomes: one decision per text."""
    columns = columns_of(outcomes, len(vectors), models)
    for model in columns:
        if model not in models:
            raise InvalidInput(unknown_name("model", model, models), field="model")
    records = [
        DecisionRecord(
            id=new_id(now),
            router=router,
            model=models[0],
            x=vector,
            schema=schema,
            created_at=now,
            expires_at=now + ttl_s,
        )
        for vector in vectors
    ]
    rows = []
    for model, column in columns.items():
        for k, record in enumerate(records):
            seen = {f: float(v[k]) for f, v in column.items() if not np.isnan(v[k])}
            if seen:
                rows.append(_calibration_row(record, model, seen, now))
    return rows


def _calibration_row(
    record: DecisionRecord, model: str, seen: Mapping[str, float], now: float
) -> FeedbackRow:
    key = new_id(now)
    return FeedbackRow(
        feedback_id=key,
        router=record.router,
        decision_id=record.id,
        model=model,
        evidence=Evidence(**seen, rank=SOURCE_RANK["user"], given_at=now, key=key),  # type: ignore[arg-type]
        kind="calibration",
        decision=record,
    )


def user_key(user_id: str | None) -> str | None:
    """Return what is stored instead of a user id: a hash of it."""
    if user_id is None:
        return None
    return hashlib.blake2b(user_id.encode("utf-8", "replace"), digest_size=12).hexdigest()


def key_of(user_id: str) -> str:
    """Return what is stored instead of a user id that is there; refuse an empty one."""
    key = user_key(user_id) if user_id else None
    if key is None:
        raise InvalidInput("name the user", field="user_id", expected="a user id")
    return key


def evidence_of(feedback: Feedback | ImplicitFeedback, *, now: float) -> Evidence:
    """Return what a piece of feedback says, with its rank and weight.

    A user's opinion weighs 1, a judge's score half as much. Of an implicit signal, a failed call
    weighs 1 as well; any other weighs its reliability, and tells as much as it weighs.
    """
    if not isinstance(feedback, Feedback | ImplicitFeedback):
        wanted = "Feedback or ImplicitFeedback"
        raise InvalidInput(
            f"feedback must be {wanted}, got {type(feedback).__name__}",
            field="feedback",
            expected=wanted,
        )
    given_at = now if feedback.given_at is None else feedback.given_at
    key = feedback.feedback_id or new_id(now)
    if isinstance(feedback, Feedback):
        return Evidence(
            quality=feedback.quality,
            quality_weight=JUDGE_WEIGHT if feedback.source == "judge" else 1.0,
            rank=SOURCE_RANK[feedback.source],
            given_at=given_at,
            key=key,
        )
    weight = feedback.weight
    if weight is None:
        weight = 1.0 if feedback.error is not None else IMPLICIT_WEIGHT
    return Evidence(
        quality=feedback.quality,
        quality_weight=weight,
        cost_usd=feedback.cost_usd,
        input_tokens=feedback.input_tokens,
        output_tokens=feedback.output_tokens,
        latency_s=feedback.latency_s,
        error=feedback.error,
        rank=SOURCE_RANK["judge"] if feedback.signal == WITHDRAWN else rank_of_signal(weight),
        given_at=given_at,
        key=key,
    )


__all__ = [
    "WITHDRAWN",
    "Weigher",
    "calibration_rows",
    "evidence_of",
    "key_of",
    "lesson_of",
    "record_of",
    "row_of",
    "user_key",
]  # fmt: skip
