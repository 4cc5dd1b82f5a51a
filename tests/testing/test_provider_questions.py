"""The questions know their answers, and structured answers fit their schemas."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from conduit.core.errors import InvalidInput
from conduit.testing.provider_questions import (
    OTHER,
    TOPICS,
    prompt_id,
    provider_questions,
    recognise,
)
from conduit.testing.provider_schema import broken_json, instance


class Colour(Enum):
    """A closed choice."""

    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    """A nested part."""

    sku: str = Field(min_length=3, max_length=12)
    count: int = Field(ge=2, le=9)


class Invoice(BaseModel):
    """Most of what a schema can say."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{2}$")]
    issued: date
    at: datetime
    id: UUID
    lines: list[Line] = Field(min_length=2)
    ratio: float = Field(gt=0, lt=1)
    colour: Colour
    note: str | None = None
    tags: set[int] = Field(min_length=3)
    pair: tuple[int, str]
    extra: dict[str, float] = {}
    kind: Literal["invoice"] = "invoice"
    paid: bool
    nothing: None
    step: Annotated[int, Field(multiple_of=25, ge=60)]
    below: Annotated[int, Field(lt=-3)]
    words: set[str] = Field(min_length=2)
    when: timedelta


class Tree(BaseModel):
    """A schema that refers to itself."""

    value: str
    children: list["Tree"] = []


class Cat(BaseModel):
    """One animal."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Another one."""

    kind: Literal["dog"]
    name: str


class Owner(BaseModel):
    """Holds a union that a field tells apart."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Plain(BaseModel):
    """What most applications ask for."""

    answer: str
    confidence: float = Field(ge=0, le=1)


class Empty(BaseModel):
    """Nothing at all."""


TYPES: list[Any] = [Invoice, Tree, Owner, Plain, Line, list[int], dict[str, int], int | str, Colour]


def test_the_same_seed_asks_the_same_different_questions() -> None:
    """Questions are distinct, take the topics in turn, and depend on the seed alone."""
    first, again = provider_questions(n=1_000, seed=3), provider_questions(n=1_000, seed=3)
    assert first == again
    assert len({question.prompt for question in first}) == 1_000
    assert Counter(question.topic for question in first) == dict.fromkeys(TOPICS, 100)
    assert len(TOPICS) == 10
    assert provider_questions(n=5, seed=4) != first[:5]


@pytest.mark.parametrize("topic", TOPICS)
def test_right_answers_pass_and_wrong_ones_do_not(topic: str) -> None:
    """Each question's own answer is right however it is wrapped, and its wrong ones are wrong."""
    for question in provider_questions([topic], n=150, seed=1):
        right = question.expected
        for said in (right, f"The answer is {right}.", f"{right} [[marker:9]]", {"answer": right}):
            assert question.grade(said), (question, said)
        for wrong in question.wrong:
            assert not question.grade(wrong), (question, wrong)
        assert question.wrong
        assert not question.grade("")


@pytest.mark.parametrize("topic", TOPICS)
def test_a_question_is_recognised_inside_other_text(topic: str) -> None:
    """The answer follows from the text alone, also with words and markers around it."""
    for question in provider_questions([topic], n=50, seed=2):
        wrapped = recognise(f"Hello! {question.prompt} [[marker:x1]] Thank you.")
        assert (wrapped.topic, wrapped.expected) == (topic, question.expected)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is 17 + 4?", "21"),
        ("Calculate 12 - 40.", "-28"),
        ("What is the capital of Norway?", "Oslo"),
        ("Convert 2.5 kilometres to metres.", "2500"),
        ("How many hours are there in 1.5 days?", "36"),
        ("Write the word 'lantern' backwards.", "nretnal"),
        ("Translate the word 'house' into German.", "Haus"),
        ("What day of the week was 1 January 2000?", "Saturday"),
    ],
)
def test_answers_are_true(prompt: str, expected: str) -> None:
    """Known facts come out as they are."""
    assert recognise(prompt).expected == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Hello there",
        "What is the capital of Atlantis?",
        "What day of the week was 31 February 2001?",
        "Convert 3 apples to pears.",
        "Translate the word 'xylophone' into German.",
        "x" * 9_000,
    ],
)
def test_other_prompts_are_answered_by_an_echo(prompt: str) -> None:
    """A prompt that is no question of ours is one of topic `other`, and its echo is right."""
    question = recognise(prompt)
    assert question.topic == OTHER
    assert question.grade(question.expected)
    assert not question.grade(question.wrong[0])


@given(st.text())
def test_any_text_is_recognised_as_something(prompt: str) -> None:
    """No prompt makes recognition fail, and the same prompt has the same id."""
    assert recognise(prompt).expected
    assert prompt_id(prompt) == prompt_id(prompt)


@pytest.mark.parametrize("topics", [["poetry"], []])
def test_unknown_topics_are_refused(topics: list[str]) -> None:
    """A topic that does not exist is named in the error."""
    with pytest.raises(InvalidInput, match="topic"):
        provider_questions(topics, n=1)


def test_more_questions_than_there_are_is_an_error() -> None:
    """A topic that has no more different questions says so instead of repeating itself."""
    with pytest.raises(InvalidInput, match="different questions"):
        provider_questions(["capitals"], n=3_000)


@pytest.mark.parametrize("answer", ["Oslo", "42", "red", ""])
@pytest.mark.parametrize("kind", TYPES)
def test_instances_satisfy_their_schema(kind: Any, answer: str) -> None:
    """A generated value passes the validation of the type that the schema was made from."""
    adapter = TypeAdapter(kind)
    adapter.validate_json(json.dumps(instance(adapter.json_schema(), answer, "[[marker:1]]")))


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind is not Tree])
def test_broken_answers_do_not_satisfy_it(kind: Any) -> None:
    """What is meant to be invalid is refused, whatever the type."""
    adapter = TypeAdapter(kind)
    with pytest.raises(ValidationError):
        adapter.validate_json(broken_json(adapter.json_schema(), "Oslo"))


@pytest.mark.parametrize(
    ("properties", "answer", "expected"),
    [
        ({"note": "string", "answer": "string"}, "Oslo", {"answer": "Oslo"}),
        ({"city": "string"}, "Oslo", {"city": "Oslo"}),
        ({"name": "string", "total": "number"}, "12.5", {"total": 12.5}),
        ({"count": "integer"}, "7", {"count": 7}),
        ({"value": "integer", "unit": "string"}, "92000", {"value": 92000}),
    ],
)
def test_the_answer_is_where_its_author_expects_it(
    properties: dict[str, str], answer: str, expected: dict[str, Any]
) -> None:
    """A field named like an answer gets it, else a number's field or the first text."""
    schema = {"properties": {name: {"type": kind} for name, kind in properties.items()}}
    assert expected.items() <= instance(schema, answer).items()


def test_a_marker_field_takes_the_markers() -> None:
    """Markers have a field of their own where there is one, and free text where there is none."""
    fields = {"answer": {"type": "string"}, "marker": {"type": "string"}}
    assert instance({"properties": fields}, "Oslo", "[[marker:1]]") == {
        "answer": "Oslo",
        "marker": "[[marker:1]]",
    }
    assert instance({"type": "string"}, "Oslo", "[[marker:1]]") == "Oslo [[marker:1]]"
