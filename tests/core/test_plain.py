"""What a value holds is plain: Python's own numbers and strings, whatever it was given."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.core.events import DecisionRecord, Evidence, FeedbackRow, Outcome, Snapshot
from conduit.core.models import (
    Feedback,
    ImplicitFeedback,
    ModelArm,
    ModelEstimate,
    Preferences,
    Query,
    QueryConstraints,
    QueryFeatures,
    Response,
)


class Named(str):
    """A name that is a string, and yet prints as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return a label, as the members of an enumeration do."""
        return "Named.SMALL"


WORD = "small"
WORDS = [np.str_(WORD), Named(WORD)]
HALF, FIVE = 0.5, 5
HALVES = [np.float64(HALF), np.float32(HALF), np.float16(HALF), np.array(HALF)]
FIVES = [np.int64(FIVE), np.uint8(FIVE), np.float32(FIVE), float(FIVE), np.array(FIVE)]

# Of each value: what it needs, and which of its fields are fractions, counts and strings.
VALUES: list[tuple[Any, dict[str, Any], str, str, str]] = [
    (Preferences, {}, "quality cost latency cost_scale_usd latency_scale_s", "", ""),
    (QueryConstraints, {}, "max_cost max_latency min_quality", "", "preferred_provider"),
    (Query, {"text": WORD}, "", "", "text user_id task conversation_id previous_model"),
    (ModelArm, {"id": WORD}, "input_usd_per_mtok output_usd_per_mtok quality "
     "quality_observations latency_s output_tokens", "context_window", "id base_url"),
    (Feedback, {"met_expectations": True}, "quality_score given_at", "",
     "comments feedback_id user_id"),
    (ImplicitFeedback, {"signal": WORD}, "quality weight value cost_usd input_tokens output_tokens "
     "latency_s given_at", "", "signal error feedback_id"),
    (Response, {"model": WORD}, "cost_usd latency_s time_to_first_token_s",
     "input_tokens output_tokens validation_retries tool_calls tool_failures",
     "model text finish_reason"),
    (ModelEstimate, {"model": WORD, "quality": 0.5, "quality_sd": 0.1, "cost_usd": None,
     "cost_sd": None, "latency_s": None, "latency_sd": None, "utility": 0.5, "propensity": 0.5},
     "quality quality_sd cost_usd cost_sd latency_s latency_sd utility propensity", "", "model"),
    (QueryFeatures, {"vector": [1.0], "schema": WORD}, "complexity_score domain_confidence",
     "token_estimate", "schema domain degraded"),
    (Evidence, {}, "quality quality_weight cost_usd input_tokens output_tokens latency_s given_at "
     "lift", "rank", "error key"),
    (Outcome, {"model": WORD, "x": [1.0]}, "quality quality_weight cost_usd input_tokens "
     "output_tokens latency_s lift", "", "model error decision_id schema"),
    (DecisionRecord, {"id": WORD, "router": WORD, "model": WORD, "x": [1.0], "schema": WORD,
     "created_at": 1.0, "expires_at": 2.0}, "created_at expires_at propensity input_tokens", "",
     "id router model schema user_key text"),
    (FeedbackRow, {"feedback_id": WORD, "router": WORD, "decision_id": WORD, "model": WORD,
     "evidence": Evidence()}, "said", "", "feedback_id router decision_id model kind user_key"),
    (Snapshot, {"policy": WORD, "schema": WORD, "dim": 1, "arms": {}}, "", "dim applied",
     "policy schema"),
]  # fmt: skip
FIELDS = [
    pytest.param(cls, needs, name, kind, id=f"{cls.__name__}.{name}")
    for cls, needs, *kinds in VALUES
    for kind, names in zip((float, int, str), kinds, strict=True)
    for name in names.split()
]
FOREIGN = {float: HALVES, int: FIVES, str: WORDS}
MEANT = {float: HALF, int: FIVE, str: WORD}


@pytest.mark.parametrize(("cls", "needs", "name", "kind"), FIELDS)
def test_what_a_value_holds_is_plain(cls: Any, needs: Any, name: str, kind: type) -> None:
    """A numpy scalar, an array without dimensions or a kind of string becomes Python's own."""
    for foreign in FOREIGN[kind]:
        held = getattr(cls(**{**needs, name: foreign}), name)
        assert type(held) is kind
        assert held == MEANT[kind]


@pytest.mark.parametrize(("cls", "needs", "name", "kind"), FIELDS)
def test_what_is_none_of_its_kind_is_refused(cls: Any, needs: Any, name: str, kind: type) -> None:
    """NaN, infinity, broken counts, truths, bytes and other objects are refused by name."""
    bad: list[Any] = [True, b"small", object(), [HALF], np.array([HALF])]
    bad += [3] if kind is str else [np.nan, np.inf, np.array(np.nan), np.float32(np.inf), "5"]
    bad += [2.5, np.float32(2.5), -0.5] if kind is int else []
    if not any(f.name == name and "None" in str(f.type) for f in dataclasses.fields(cls)):
        bad.append(None)
    for value in bad:
        with pytest.raises(InvalidInput) as refused:
            cls(**{**needs, name: value})
        assert (refused.value.field, bool(refused.value.expected)) == (name, True)


def test_stars_and_sources_are_plain() -> None:
    """What has its own range, or its own list, is held as Python's own too."""
    said = Feedback(user_rating=np.int64(5), source=np.str_("judge"))  # type: ignore[arg-type]
    assert (type(said.user_rating), type(said.source)) == (float, str)


@pytest.mark.parametrize("made", [Preferences, lambda **said: Outcome("m", [1.0], **said)])  # type: ignore[arg-type]
def test_a_number_cannot_change_behind_a_value(made: Any) -> None:
    """An array without dimensions is read once: what is written to it later changes nothing."""
    number = np.array(0.5)
    value = made(quality=number)
    number[...] = np.nan
    assert value.quality == 0.5


@given(st.integers(-(2**40), 2**80))
def test_counts_lose_no_digit(count: int) -> None:
    """A count beyond what a float holds stays as it is, and one below nothing is refused."""
    if count < 0:
        with pytest.raises(InvalidInput, match="input_tokens"):
            Response(model="m", input_tokens=count)
    else:
        assert Response(model="m", input_tokens=count).input_tokens == count


@pytest.mark.parametrize(
    ("field", "value"),
    [("quality", 1.5), ("quality_sd", -1.0), ("cost_sd", -1.0), ("cost_usd", -1.0),
     ("latency_s", -1.0), ("latency_sd", -1.0), ("propensity", 7.0)],
)  # fmt: skip
def test_estimates_keep_their_ranges(field: str, value: float) -> None:
    """Quality and propensity are from 0 to 1, and nothing but utility is negative."""
    needs = next(needs for cls, needs, *_ in VALUES if cls is ModelEstimate)
    with pytest.raises(InvalidInput, match=field):
        ModelEstimate(**{**needs, field: value})
    assert ModelEstimate(**{**needs, "utility": -3.0}).utility == -3.0


RECORD: Any = next(needs for cls, needs, *_ in VALUES if cls is DecisionRecord)


@pytest.mark.parametrize("foreign", [np.float32(HALF), np.array(HALF), HALF, None])
def test_what_a_record_estimates_is_plain(foreign: Any) -> None:
    """What is kept of the estimates can be written as JSON, and changes with nothing else."""
    estimates = {"a": {"quality": foreign, "cost_usd": None}}
    record = DecisionRecord(**RECORD, estimates=estimates)
    meant = None if foreign is None else HALF
    assert json.loads(json.dumps(record.estimates)) == {"a": {"quality": meant, "cost_usd": None}}
    estimates["a"]["quality"] = np.nan
    assert record.estimates["a"]["quality"] == meant


@pytest.mark.parametrize("estimates", [{"a": {"quality": np.nan}}, {"a": {"quality": "high"}},
                                       {"a": 0.5}, [0.5], 3, None])  # fmt: skip
def test_estimates_that_are_none_are_refused(estimates: Any) -> None:
    """NaN and what is no number per model does not get into a record."""
    with pytest.raises(InvalidInput) as refused:
        DecisionRecord(**RECORD, estimates=estimates)
    assert (refused.value.field, bool(refused.value.expected)) == ("estimates", True)


@pytest.mark.parametrize("revises", [5, {"quality": 1.0}, "evidence"])
def test_an_outcome_revises_evidence(revises: Any) -> None:
    """What was taught before is evidence, or nothing."""
    with pytest.raises(InvalidInput) as refused:
        Outcome("m", [1.0], revises=revises)  # type: ignore[arg-type]
    assert (refused.value.field, bool(refused.value.expected)) == ("revises", True)


@pytest.mark.parametrize("output_valid", [1, "yes", np.bool_(True)])
def test_whether_an_output_is_valid_is_a_truth(output_valid: Any) -> None:
    """Whether an answer had the form asked for is True, False or unknown."""
    with pytest.raises(InvalidInput, match="output_valid"):
        Response(model="m", output_valid=output_valid)


def test_every_number_and_string_is_tried() -> None:
    """The table above names every field of these values that is a number or a string."""
    other = {"context", "preferences", "constraints", "model", "met_expectations", "user_rating",
             "source", "output_valid", "vector", "embedding", "_reader", "x", "revises", "evidence",
             "decision", "estimates", "arms", "shared", "beside", "local", "strict",
             "allow_unknown_cost"}  # fmt: skip
    for cls, _, *kinds in VALUES:
        named = set(" ".join(kinds).split())
        assert {f.name for f in dataclasses.fields(cls)} - other <= named, cls
