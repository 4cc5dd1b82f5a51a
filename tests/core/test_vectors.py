"""Vectors that nobody can write to, and features that survive JSON and bytes."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from conduit.core.errors import InvalidInput
from conduit.core.events import DecisionRecord, Evidence, Outcome
from conduit.core.models import QueryFeatures, as_vector, sealed

KINDS = st.sampled_from([np.float16, np.float32, np.float64, np.dtype(">f4"), np.int32, np.bool_])
LISTED = st.one_of(
    npst.arrays(KINDS, st.integers(0, 9), elements=st.sampled_from([0, 1])),
    st.lists(st.floats(-1e6, 1e6), max_size=9),
)


def assert_sealed(vector: Any) -> None:
    """Assert that a vector is read-only, and stays so."""
    with pytest.raises(ValueError, match="read-only"):
        vector[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        vector.setflags(write=True)
    with pytest.raises(ValueError, match="WRITEABLE"):
        vector.flags.writeable = True


@given(LISTED)
def test_a_vector_cannot_be_made_writeable_again(numbers: Any) -> None:
    """What `as_vector` returns lies over bytes; it is the numbers, and itself the second time."""
    vector = as_vector(numbers)
    assert_sealed(vector)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, np.asarray(numbers, dtype=np.float32))
    assert as_vector(vector, dim=len(numbers)) is vector
    assert_sealed(sealed(np.array(numbers, dtype=np.float32)))


def test_every_value_holds_its_vector_sealed() -> None:
    """An array that is only marked read-only is copied: its owner could write to it again."""
    mine = np.ones(2, dtype=np.float32)
    mine.flags.writeable = False
    times: Any = {"created_at": 1.0, "expires_at": 2.0}
    held = [
        QueryFeatures(mine, "s").vector,
        QueryFeatures(mine, "s", embedding=mine).embedding,
        Outcome("m", mine).x,
        DecisionRecord(id="d", router="r", model="m", x=mine, schema="s", **times).x,
        QueryFeatures.from_bytes(QueryFeatures(mine, "s").to_bytes()).vector,
        QueryFeatures.from_bytes(bytearray(QueryFeatures(mine, "s").to_bytes())).vector,
        QueryFeatures.from_json(QueryFeatures(mine, "s").to_json()).vector,
    ]
    mine.setflags(write=True)
    mine[0] = np.nan
    for vector in held:
        assert_sealed(vector)
        assert vector is not None
        assert vector.tolist() == [1.0, 1.0]


COPIES = (copy.copy, copy.deepcopy, *(
    lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
))  # fmt: skip
TIMES: Any = {"created_at": 1.0, "expires_at": 2.0}
READ = (0.5, "code", 0.75)


@pytest.mark.parametrize(
    ("made", "vectors"),
    [
        (QueryFeatures([1.0], "s", domain="code"), ["vector"]),  # type: ignore[arg-type]
        (QueryFeatures.unread(as_vector([1.0]), "s", 3, lambda: READ), ["vector"]),
        (Outcome("m", [1.0], quality=0.5, revises=Evidence(quality=0.25)), ["x"]),  # type: ignore[arg-type]
        (DecisionRecord(id="d", router="r", model="m", x=[1.0], schema="s", **TIMES), ["x"]),
    ],
)  # fmt: skip
def test_a_copied_vector_is_sealed_as_well(made: Any, vectors: list[str]) -> None:
    """numpy makes a copied array writeable; that of a value stays what it was."""
    for copied in COPIES:
        again = copied(made)
        assert type(again) is type(made)
        for field in dataclasses.fields(made):
            assert getattr(again, field.name) == getattr(made, field.name), field.name
        for name in vectors:
            assert_sealed(getattr(again, name))
            assert as_vector(getattr(again, name)) is getattr(again, name)


def test_an_embedding_stays_in_the_process() -> None:
    """Copies of features hold it, pickles do not, and what was read with its help is read first."""
    embedding = as_vector([0.123, 0.456])
    made = QueryFeatures.unread(as_vector([1.0]), "s", 3, lambda: READ, embedding=embedding)
    data = pickle.dumps(made)
    assert embedding.tobytes() not in data
    again = pickle.loads(data)
    assert (again, again.embedding, again.domain) == (made, None, "code")
    for copied in (copy.copy, copy.deepcopy):
        assert copied(made) == made
        assert copied(made).embedding is embedding


@pytest.mark.parametrize("numbers", [[3e38, 3e38], [-3e38, 1e-45], []])
def test_numbers_as_large_as_single_precision_are_a_vector(numbers: Any) -> None:
    """Their squares are beyond it; they are not."""
    assert as_vector(numbers).tolist() == np.asarray(numbers, np.float32).tolist()


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_sealed_vector_is_looked_at_as_well(at: int, number: float) -> None:
    """That an array cannot change does not make it finite."""
    numbers = np.array([3e38, 1.0, -3e38], np.float32)
    numbers[at] = number
    for value in (numbers, sealed(numbers)):
        with pytest.raises(InvalidInput, match="finite"):
            as_vector(value)


@pytest.mark.parametrize("embedding", ["nonsense", [np.nan], np.array([np.inf]), [[1.0]], 3])
def test_an_embedding_is_a_vector(embedding: Any) -> None:
    """What is no vector of finite numbers is no embedding either."""
    with pytest.raises(InvalidInput) as refused:
        QueryFeatures([1.0], "s", embedding=embedding)  # type: ignore[arg-type]
    assert (refused.value.field, bool(refused.value.expected)) == ("embedding", True)


NUMBERS = st.one_of(
    st.integers(0, 2**70),
    st.integers(0, 2**31 - 1).map(np.int64),
    st.integers(0, 255).map(np.uint8),
    st.integers(0, 2**20).map(float),
    st.integers(0, 2**31 - 1).map(np.array),
)
SHARES = st.none() | st.floats(0, 1).flatmap(
    lambda share: st.sampled_from([share, np.float64(share), np.float32(share), np.array(share)])
)
STRINGS = st.text(max_size=9).flatmap(lambda text: st.sampled_from([text, np.str_(text)]))


@given(
    vector=LISTED,
    schema=STRINGS,
    token_estimate=NUMBERS,
    complexity_score=SHARES,
    domain=st.none() | STRINGS,
    domain_confidence=SHARES,
    degraded=st.none() | STRINGS,
)
def test_whatever_gets_in_survives_json_and_bytes(**said: Any) -> None:
    """Features that were accepted come back equal from both, whatever they were made of."""
    features = QueryFeatures(**said)
    assert QueryFeatures.from_json(features.to_json()) == features
    assert QueryFeatures.from_bytes(features.to_bytes()) == features
    assert features.token_estimate == said["token_estimate"]
    assert features.schema == said["schema"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["vector", "schema", "domain", "_reader", "x"]), inner)
    ),
    max_leaves=6,
)
DEEP = "[" * 100_000
LONG = '{"vector": [1], "schema": "s", "token_estimate": ' + "9" * 5000 + "}"


@given(JSON.map(json.dumps))
def test_json_of_something_else_is_refused(text: str) -> None:
    """JSON is either that of features or refused with one error, from text and from bytes."""
    head = text.encode()
    packed = b"CQF1" + struct.pack("<II", len(head), 4) + head + struct.pack("<f", 1.0)
    for made in (lambda: QueryFeatures.from_json(text), lambda: QueryFeatures.from_bytes(packed)):
        with suppress(InvalidInput):
            assert isinstance(made(), QueryFeatures)


@pytest.mark.parametrize("text", [DEEP, LONG, '["schema"]', b'{"schema": "\xff"}', b"\xff", None])
def test_json_that_cannot_be_read_is_refused(text: Any) -> None:
    """JSON without end, numbers without end and what is no text are refused as well."""
    with pytest.raises(InvalidInput):
        QueryFeatures.from_json(text)
    if isinstance(text, str):
        head = text.encode()
        with pytest.raises(InvalidInput):
            QueryFeatures.from_bytes(b"CQF1" + struct.pack("<II", len(head), 0) + head)


def test_json_names_what_may_be_said() -> None:
    """What is refused by name is told which names there are, and none of them is private."""
    with pytest.raises(InvalidInput) as refused:
        QueryFeatures.from_json('{"vector": [1.0], "schema": "s", "_reader": null}')
    assert refused.value.field == "_reader"
    assert "_reader" not in refused.value.expected
