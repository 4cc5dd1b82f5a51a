"""The values that users hand in and get back: frozen, validated, and discreet in their reprs."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from conduit.core.errors import InvalidInput
from conduit.core.events import DecisionRecord, Evidence
from conduit.core.models import (
    MAX_TEXT_CHARS,
    PRESETS,
    SOURCES,
    Exclusion,
    Feedback,
    ImplicitFeedback,
    ModelArm,
    ModelEstimate,
    Preferences,
    Query,
    QueryConstraints,
    QueryFeatures,
    Response,
    RoutingDecision,
    RoutingResult,
    as_vector,
    normalise_text,
    quality_of,
    shown,
)
from conduit.core.queries import SHOWN_CHARS

SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = npst.arrays(np.float32, st.integers(0, 40), elements=SINGLE)
SCORE = st.none() | st.floats(0, 1)
FEATURES = st.builds(
    QueryFeatures,
    VECTORS,
    schema=st.text(max_size=20),
    token_estimate=st.integers(0, 10**9),
    complexity_score=SCORE,
    domain=st.none() | st.text(max_size=10),
    domain_confidence=SCORE,
    degraded=st.none() | st.text(max_size=10),
)


class FakeChoice:
    """A choice between three models, of which the second one's price is unknown."""

    model = "b"
    propensity = 0.75
    confidence = 0.5
    ranked = ("c", "a", "b")

    @property
    def estimates(self) -> dict[str, ModelEstimate]:
        """Return one estimate per model."""
        known: dict[str, Any] = {"quality_sd": 0.1, "cost_sd": None, "latency_s": None,
                                 "latency_sd": None, "propensity": 0.3}  # fmt: skip
        return {
            "a": ModelEstimate(model="a", quality=0.6, cost_usd=0.01, utility=0.5, **known),
            "b": ModelEstimate(model="b", quality=0.7, cost_usd=None, utility=0.4, **known),
            "c": ModelEstimate(model="c", quality=0.9, cost_usd=0.09, utility=0.8, **known),
        }


def a_decision(**given_fields: Any) -> RoutingDecision:
    """Return a decision with everything filled in; `given_fields` overrides."""
    fields: dict[str, Any] = {
        "id": "d1",
        "choice": FakeChoice(),
        "features": QueryFeatures([1.0, 2.0], "s"),  # type: ignore[arg-type]
        "preferences": Preferences(),
        "created_at": 1.0,
    }
    return RoutingDecision(**{**fields, **given_fields})


# Text


@given(st.text(min_size=1))
def test_text_that_can_be_stored_stays_as_it_is(text: str) -> None:
    """A text that is valid Unicode is not touched."""
    assert normalise_text(text) == text


@pytest.mark.parametrize("value", [3, b"name", ["name"]])
@pytest.mark.parametrize("field", ["user_id", "task", "conversation_id", "previous_model"])
def test_names_that_are_no_strings_are_refused(field: str, value: Any) -> None:
    """A user's number is no id: it would fail where it is hashed, long after the query was made."""
    with pytest.raises(InvalidInput) as refused:
        Query("x", **{field: value})
    assert (refused.value.field, refused.value.expected) == (field, "a string")


@pytest.mark.parametrize("value", [3, "prefix_tokens=3", [("prefix_tokens", 3)]])
def test_a_context_that_is_no_mapping_is_refused(value: Any) -> None:
    """What is known beside the text has names."""
    with pytest.raises(InvalidInput) as refused:
        Query("x", context=value)
    assert refused.value.field == "context"


def test_lone_surrogates_are_replaced() -> None:
    """Half of a surrogate pair cannot be hashed or stored; it becomes a question mark."""
    assert normalise_text("a\ud83cb") == "a?b"
    assert Query(text="a\ud83cb").text == "a?b"


@pytest.mark.parametrize("text", ["", None, b"bytes", 3, "x" * (MAX_TEXT_CHARS + 1)])
def test_what_is_no_text_is_refused(text: Any) -> None:
    """Nothing, other types and more than a million characters are refused by name."""
    with pytest.raises(InvalidInput) as refused:
        Query(text=text)
    assert (refused.value.field, bool(refused.value.expected)) == ("text", True)
    assert len(str(refused.value)) < 100


# Reprs


@given(st.text(min_size=1, max_size=200))
def test_a_text_is_shown_in_part(text: str) -> None:
    """At most forty characters of a text are shown, and a short one whole."""
    whole = len(text) <= SHOWN_CHARS
    assert shown(text) == repr(text if whole else text[: SHOWN_CHARS - 1] + "…")


SECRET = "the quick brown fox jumps over the lazy dog and then sleeps until noon"
KEY = "sk-live-0123456789"
DISCREET = [
    Query(text=SECRET, context={"key": KEY, "text": SECRET}, task="summarise", user_id="u"),
    Query(text="x", task=SECRET, user_id=SECRET, conversation_id=SECRET),
    ModelArm("m", base_url=f"https://user:{KEY}@host/v1", model={"api_key": KEY}),
    Feedback(quality_score=1.0, comments=SECRET),
    Response(model="m", text=SECRET),
    RoutingResult(id="r", data=SECRET, model="m", decision=a_decision(),
                  response=Response(model="m", text=SECRET), messages=[SECRET]),
    a_decision(features=QueryFeatures([1.0], "s", embedding=as_vector([0.5]))),  # type: ignore[arg-type]
    DecisionRecord(id="d", router="r", model="m", x=as_vector([1.0]), schema="s", created_at=1.0,
                   expires_at=2.0, text=SECRET),
]  # fmt: skip


@pytest.mark.parametrize("value", DISCREET, ids=lambda value: type(value).__name__)
def test_reprs_are_discreet(value: object) -> None:
    """No repr shows more than forty characters of a text, nor a key."""
    found = repr(value)
    assert type(value).__name__ in found
    assert KEY not in found
    assert SECRET[:SHOWN_CHARS] not in found
    assert SECRET[20:] not in found


def test_a_query_shows_what_it_was_given() -> None:
    """A repr names what was given and leaves out what was not."""
    assert repr(Query(text="hi")) == "Query(text='hi')"
    assert "task='code'" in repr(Query(text="hi", task="code"))


# Vectors


@given(VECTORS)
def test_a_vector_is_an_owned_read_only_copy(given_vector: Any) -> None:
    """The vector is a float32 copy that nobody can write to, and equal to what was given."""
    vector = as_vector(given_vector, dim=given_vector.size)
    assert vector.dtype == np.float32
    assert vector.tobytes() == given_vector.tobytes()
    assert not np.shares_memory(vector, given_vector)
    with pytest.raises(ValueError, match="read-only"):
        vector[:] = 0


@pytest.mark.parametrize(
    "value",
    ["12", [[1.0], [2.0]], 3.0, None, [None], ["1"], [1.0, [2.0]], [np.nan], [np.inf], [1e39],
     [1j], [10**400], np.ones(3)],
)  # fmt: skip
def test_what_is_no_vector_is_refused(value: Any) -> None:
    """Other shapes, other types, NaN, infinity and what is no single precision are refused."""
    with pytest.raises(InvalidInput, match="emb must be") as refused:
        as_vector(value, dim=2, name="emb")
    assert (refused.value.field, bool(refused.value.expected)) == ("emb", True)


# Features


@given(FEATURES)
def test_features_survive_json_and_bytes(features: QueryFeatures) -> None:
    """Through JSON and through bytes, features come back equal, hash included, and read-only."""
    for found in (
        QueryFeatures.from_json(features.to_json()),
        QueryFeatures.from_bytes(features.to_bytes()),
    ):
        assert found == features
        assert hash(found) == hash(features)
        assert found.vector.tobytes() == features.vector.tobytes()
        assert not found.vector.flags.writeable


@given(FEATURES, FEATURES)
def test_features_are_equal_by_what_they_say(one: QueryFeatures, other: QueryFeatures) -> None:
    """Features are equal exactly if their bytes are; the embedding does not count."""
    # Minus zero equals zero, though its bytes differ.
    same = one.to_json().replace("-0.0", "0.0") == other.to_json().replace("-0.0", "0.0")
    assert (one == other) == same
    assert one == replace(one, embedding=as_vector([1.0]))
    assert one != "features"


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """Whatever is not the bytes of features is refused with one error."""
    for made in (data, b"CQF1" + data):
        with pytest.raises(InvalidInput, match="to_bytes"):
            QueryFeatures.from_bytes(made)


@given(FEATURES, st.data())
def test_cut_bytes_are_refused(features: QueryFeatures, data: st.DataObject) -> None:
    """Bytes that lost their end are refused."""
    whole = features.to_bytes()
    with pytest.raises(InvalidInput):
        QueryFeatures.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '"x"', "{}", '{"vector": [1.0]}', '{"vector": [NaN], "schema": "s"}',
     '{"vector": [1.0], "schema": "s", "evil": 1}'],
)  # fmt: skip
def test_foreign_json_is_refused(text: str) -> None:
    """JSON that is not that of features is refused."""
    with pytest.raises(InvalidInput):
        QueryFeatures.from_json(text)


@pytest.mark.parametrize(
    "field", ["token_estimate", "complexity_score", "domain_confidence", "vector"]
)
def test_features_hold_numbers_that_are_numbers(field: str) -> None:
    """NaN gets into no field."""
    values: dict[str, Any] = {"vector": [1.0], "schema": "s"}
    with pytest.raises(InvalidInput) as refused:
        QueryFeatures(**{**values, field: [float("nan")] if field == "vector" else float("nan")})
    assert refused.value.field == field


def test_features_show_their_readings() -> None:
    """The repr shows what people read, not the numbers of the vector."""
    features = QueryFeatures([0.125, 0.25], "s1", token_estimate=7, domain="code")  # type: ignore[arg-type]
    assert "dim=2" in repr(features)
    assert "token_estimate=7" in repr(features)
    assert "0.125" not in repr(features)


def unread(calls: list[int], **given: Any) -> QueryFeatures:
    """Return features whose readings nobody has asked for."""

    def reader() -> tuple[float, str, float]:
        calls.append(1)
        return (0.25, "code", 0.5)

    return QueryFeatures.unread(as_vector([0.125, 0.25]), "s1", 7, reader, **given)


def test_readings_are_worked_out_once_and_only_when_asked() -> None:
    """The vector is there at once; complexity and domain come with the first look at one."""
    calls: list[int] = []
    features = unread(calls, degraded="no network")
    assert (features.vector.tolist(), features.token_estimate) == ([0.125, 0.25], 7)
    assert not calls
    assert (features.complexity_score, features.domain, features.domain_confidence) == (
        0.25, "code", 0.5
    )  # fmt: skip
    assert calls == [1]
    assert type(features).__getattr__(features, "domain") == "code"  # as where two threads look
    assert calls == [1]
    with pytest.raises(AttributeError, match="complexity"):
        _ = features.complexity  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        features.domain = "law"  # type: ignore[misc]


def test_unread_features_are_what_they_would_be_read() -> None:
    """Equality, repr, JSON, bytes, copies and replacements know no difference."""
    plain = QueryFeatures(
        as_vector([0.125, 0.25]), "s1", token_estimate=7, complexity_score=0.25, domain="code",
        domain_confidence=0.5,
    )  # fmt: skip
    assert plain == unread([])
    assert repr(plain) == repr(unread([]))
    assert plain.to_json() == unread([]).to_json()
    assert plain.to_bytes() == unread([]).to_bytes()
    assert copy.copy(unread([])) == plain
    assert replace(unread([]), domain="law") == replace(plain, domain="law")


# Preferences and constraints


def test_preferences_are_given_by_place_too() -> None:
    """The weights come first, then the scales."""
    assert Preferences(0.6, 0.3, 0.1, 0.02, 4.0) == Preferences(
        quality=0.6, cost=0.3, latency=0.1, cost_scale_usd=0.02, latency_scale_s=4.0
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, PRESETS["balanced"]),
        ("speed", PRESETS["speed"]),
        (Preferences(quality=0.9), Preferences(quality=0.9)),
        ({"quality": 0.9, "cost": 0.3}, Preferences(quality=0.9, cost=0.3)),
    ],
)
def test_preferences_have_short_forms(value: Any, expected: Preferences) -> None:
    """Nothing, a preset's name, a mapping and preferences themselves all become preferences."""
    assert Preferences.of(value) == expected
    if value is not None:
        assert Query(text="x", preferences=value).preferences == expected


@pytest.mark.parametrize(
    ("given_value", "field"),
    [
        ({"quality": 0.0}, "quality"),
        ({"quality": float("nan")}, "quality"),
        ({"cost": -0.1}, "cost"),
        ({"latency": float("inf")}, "latency"),
        ({"cost_scale_usd": 0.0}, "cost_scale_usd"),
        ({"latency_scale_s": -1.0}, "latency_scale_s"),
        ({"costs": 1.0}, "costs"),
        ("cheap", "preferences"),
        (3, "preferences"),
    ],
)
def test_preferences_that_make_no_sense_are_refused(given_value: Any, field: str) -> None:
    """Weights that are none, and names that do not exist, are refused with what was expected."""
    with pytest.raises(InvalidInput) as refused:
        Preferences.of(given_value)
    assert (refused.value.field, bool(refused.value.expected)) == (field, True)


@pytest.mark.parametrize(
    ("given_value", "field"),
    [
        ({"max_cost": -1.0}, "max_cost"),
        ({"max_latency": "fast"}, "max_latency"),
        ({"min_quality": 1.5}, "min_quality"),
        ({"max_costs": 1.0}, "max_costs"),
        ({"preferred_provider": 3}, "preferred_provider"),
        (3, "constraints"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(given_value: Any, field: str) -> None:
    """Limits that are none, and names that do not exist, are refused with what was expected."""
    with pytest.raises(InvalidInput) as refused:
        QueryConstraints.of(given_value)
    assert (refused.value.field, bool(refused.value.expected)) == (field, True)


def test_constraints_have_short_forms() -> None:
    """Nothing stays nothing; a mapping becomes constraints, in a query too."""
    limits = QueryConstraints(max_cost=0.5, strict=True)
    assert QueryConstraints.of(None) is None
    assert QueryConstraints.of(limits) is limits
    assert Query(text="x", constraints={"max_cost": 0.5, "strict": True}).constraints == limits  # type: ignore[arg-type]


# Models


@pytest.mark.parametrize(
    ("model_id", "provider"),
    [("openai:gpt-4o", "openai"), ("groq/llama", "groq"), ("a:b/c", "a"), ("gpt-4o", None)],
)
def test_the_provider_stands_first(model_id: str, provider: str | None) -> None:
    """What stands before the first colon, or else slash, is the provider."""
    assert ModelArm(model_id).provider == provider


def test_a_model_is_priced_by_both_prices() -> None:
    """Dollars follow from tokens only where both prices are known, be they nothing."""
    assert ModelArm("m", input_usd_per_mtok=0.0, output_usd_per_mtok=0.0).priced
    assert not ModelArm("m", input_usd_per_mtok=1.0).priced


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", None),
        ("input_usd_per_mtok", -1.0),
        ("output_usd_per_mtok", float("nan")),
        ("quality", 71),
        ("quality_observations", -1),
        ("latency_s", float("inf")),
        ("latency_s", 1e300),
        ("input_usd_per_mtok", 1e300),
        ("output_tokens", "many"),
        ("context_window", 0),
    ],
)
def test_models_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    """A model without an id, or with numbers that are none, is refused by field."""
    with pytest.raises(InvalidInput) as refused:
        ModelArm(**{"id": "m", field: value})
    assert (refused.value.field, bool(refused.value.expected)) == (field, True)


# Feedback


@pytest.mark.parametrize(
    ("said", "quality"),
    [
        ({"quality_score": 0.3, "user_rating": 5, "met_expectations": True}, 0.3),
        ({"user_rating": 1}, 0.0),
        ({"user_rating": 3, "met_expectations": False}, 0.5),
        ({"user_rating": 5}, 1.0),
        ({"met_expectations": True}, 1.0),
        ({"met_expectations": False}, 0.0),
    ],
)
def test_the_finest_opinion_counts(said: dict[str, Any], quality: float) -> None:
    """A score counts before stars, stars before whether expectations were met."""
    assert Feedback(**said).quality == quality


def test_no_opinion_is_no_quality() -> None:
    """Where nothing was said, nothing is known."""
    assert quality_of() is None


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"user_rating": 6, "quality_score": 0.5}, "user_rating"),
        ({}, "quality_score"),
        ({"quality_score": 1.1}, "quality_score"),
        ({"user_rating": 0}, "user_rating"),
        ({"user_rating": 6}, "user_rating"),
        ({"met_expectations": 1}, "met_expectations"),
        ({"quality_score": 1.0, "source": "rumour"}, "source"),
        ({"quality_score": 1.0, "given_at": -1.0}, "given_at"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(said: dict[str, Any], field: str) -> None:
    """Opinions out of range, of unknown sources or none at all are refused."""
    with pytest.raises(InvalidInput) as refused:
        Feedback(**said)
    assert (refused.value.field, bool(refused.value.expected)) == (field, True)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_may_give_feedback(source: Any) -> None:
    """Each source of the list is taken."""
    assert Feedback(quality_score=0.5, source=source).source == source


@pytest.mark.parametrize("field", ["quality", "weight", "cost_usd", "latency_s", "given_at"])
def test_signals_hold_numbers_that_are_numbers(field: str) -> None:
    """NaN gets into no field of an implicit signal."""
    with pytest.raises(InvalidInput) as refused:
        ImplicitFeedback(signal="latency", **{field: float("nan")})  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_response_counts_what_is_known() -> None:
    """Tokens are the sum of both counts, and unknown where one is."""
    known = Response(model="m", cost_usd=0.5, latency_s=1.5, input_tokens=3, output_tokens=4)
    assert (known.tokens, known.cost, known.latency) == (7, 0.5, 1.5)
    assert Response(model="m", input_tokens=3).tokens is None


@pytest.mark.parametrize(
    "value",
    [Query(text="x"), QueryConstraints(), Preferences(), ModelArm("m"), Feedback(quality_score=1.0),
     QueryFeatures(as_vector([1.0]), "s"), Response(model="m"), Evidence(),
     Exclusion(model="m", reason="r"), ImplicitFeedback(signal="retry", cost_usd=0.1)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_are_frozen(value: Any) -> None:
    """What was handed in cannot be changed afterwards."""
    with pytest.raises(FrozenInstanceError):
        setattr(value, next(iter(value.__dataclass_fields__)), "other")


# Decisions


def test_a_decision_reads_its_choice() -> None:
    """A decision shows what was chosen, how surely, and the order in which others would follow."""
    decision = a_decision(excluded=[Exclusion(model="z", reason="too dear")], user_id="u")
    assert decision.selected_model == "b"
    assert (decision.propensity, decision.confidence) == (0.75, 0.5)
    assert decision.candidates == ("b", "c", "a")
    assert decision.excluded[0].model == "z"
    assert not decision.constraints_relaxed
    assert repr(decision) == "RoutingDecision(id='d1', selected_model='b')"


def test_a_decision_gives_its_reason() -> None:
    """One line says why; what was relaxed, missing or noted is in it, and unknown is said."""
    plain = a_decision().reasoning
    assert "an unknown price" in plain
    assert "best of 3 with probability 0.50" in plain
    assert "relaxed" not in plain
    features = QueryFeatures(as_vector([1.0]), "s", degraded="no network")
    full = a_decision(features=features, relaxed=["max_cost"], note="default pool").reasoning
    assert "constraints were relaxed (max_cost)" in full
    assert "without an embedding (no network)" in full
    assert full.endswith("default pool")
    dear = FakeChoice()
    dear.model = "c"
    assert "for $0.09;" in a_decision(choice=dear).reasoning


def test_a_decision_explains_itself_in_a_table() -> None:
    """Every candidate has a line, the best first, the chosen one marked."""
    told = a_decision(excluded=[Exclusion(model="z", reason="too dear")]).explain().splitlines()
    assert told[0] == a_decision().reasoning
    assert [line[:2] for line in told[3:6]] == [" c", " a", "*b"]
    assert "unknown" in told[5]
    assert "9.00e-02" in told[3]
    assert told[6].split(":")[1] == " too dear"


@pytest.mark.parametrize("name", ["id", "features", "receipt", "constraints_relaxed", "other"])
def test_a_decision_is_frozen(name: str) -> None:
    """The receipt of a choice stays what was decided."""
    decision = a_decision(relaxed=["max_cost"])
    assert decision.receipt == "d1"  # what is worked out when it is first read still is
    with pytest.raises(FrozenInstanceError):
        setattr(decision, name, None)
    with pytest.raises(FrozenInstanceError):
        delattr(decision, name)
    assert decision.constraints_relaxed


@pytest.mark.parametrize(
    ("given_at", "taken"),
    [(1.8e9, True), (4_102_444_799, True), (4_102_444_800, False), (1.8e12, False), (1e300, False)],
)
def test_a_time_in_other_units_is_refused(given_at: float, taken: bool) -> None:
    """Milliseconds would outrank every later opinion for ever."""
    values: list[Any] = [partial(Feedback, user_rating=5), partial(ImplicitFeedback, signal="copy")]
    for value in values:
        if taken:
            assert value(given_at=given_at).given_at == given_at
            continue
        with pytest.raises(InvalidInput, match="epoch seconds") as refused:
            value(given_at=given_at)
        told = (refused.value.field, refused.value.expected, refused.value.value)
        assert told == ("given_at", "epoch seconds before the year 2100", given_at)


def pickled(value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Any:
    """Return what another process would be given."""
    return pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled, lambda d: pickled(d, 0)])
def test_a_copy_of_a_decision_says_the_same(copied: Any) -> None:
    """What is frozen can be copied, and the copy is as frozen; whoever signs stays behind."""
    decision = a_decision(relaxed=["max_cost"], user_id="u", receipt=lambda d: f"signed {d.id}")
    made = copied(decision)
    assert (made.id, made.user_id, made.features) == ("d1", "u", decision.features)
    assert (made.receipt, made.candidates) == ("signed d1", ("b", "c", "a"))
    assert made.reasoning == decision.reasoning
    with pytest.raises(FrozenInstanceError):
        made.id = "d2"


def test_a_receipt_is_made_once() -> None:
    """The receipt is signed when it is first read, and is the id where nothing signs."""
    made: list[str] = []

    def sign(decision: RoutingDecision) -> str:
        made.append(decision.id)
        return "signed"

    decision = a_decision(receipt=sign)
    assert not made
    assert (decision.receipt, decision.receipt, made) == ("signed", "signed", ["d1"])
    assert a_decision().receipt == "d1"


def test_json_of_features_is_readable() -> None:
    """The JSON is a plain object with the vector as a list of numbers."""
    features = QueryFeatures(as_vector([0.5]), "s", domain="code")
    found = json.loads(features.to_json())
    assert (found["vector"], found["domain"]) == ([0.5], "code")
