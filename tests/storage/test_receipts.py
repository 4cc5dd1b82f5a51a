"""Receipts come back as they were signed, and nothing else is taken for one."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import ExpiredDecision, UnknownDecision
from conduit.core.events import DecisionRecord
from conduit.storage.receipts import PREFIX, is_receipt, secret_bytes, sign, verify
from conduit.testing.records import START, a_decision

SECRET = secret_bytes("of the tests")
NAMED = ("id", "router", "model", "schema", "user_key", "created_at", "expires_at", "propensity")
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)


def same(a: DecisionRecord, b: DecisionRecord) -> bool:
    """Whether two decisions are equal in what a receipt holds."""
    return a.x.tobytes() == b.x.tobytes() and all(
        getattr(a, name) == getattr(b, name) for name in (*NAMED, "input_tokens")
    )


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=64),
    TEXT,
    TEXT,
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1e9),
    st.none() | TEXT.filter(bool),
    st.none() | TEXT,
)
def test_a_receipt_says_what_was_signed(
    x: list[float],
    router: str,
    model: str,
    propensity: float | None,
    tokens: float | None,
    user: str | None,
    answered_by: str | None,
) -> None:
    """Whatever the decision, its receipt gives it back, in URL-safe characters."""
    decision = a_decision(
        router,
        x=np.array(x, np.float32),
        model=model,
        propensity=propensity,
        input_tokens=tokens,
        user_key=user,
    )
    token = sign(decision, SECRET, answered_by)
    assert is_receipt(token)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    found, who = verify(token, SECRET, START)
    assert same(found, decision)
    assert who == (answered_by or None)


@pytest.mark.parametrize(
    "identity", ["d1", "", "x" * 15, "ä" * 16, "00000000-9dad-11d1-80b4-00c04fd430c8", "F" * 32]
)
def test_any_id_comes_back(identity: str) -> None:
    """Ids that are no uuid7 survive a receipt too."""
    decision = a_decision("r", id=identity)
    assert verify(sign(decision, SECRET), SECRET, START)[0].id == identity


def test_a_receipt_is_small_and_holds_no_text() -> None:
    """A decision of 29 features makes a receipt under 400 characters, without text or estimates."""
    decision = a_decision("default", x=np.ones(29), text="a secret", model="openai:gpt-4o-mini")
    token = sign(decision, SECRET)
    assert len(token) < 400
    again, _ = verify(token, SECRET, START)
    assert again.text is None
    assert again.estimates == {}


def test_no_bit_can_be_changed() -> None:
    """A receipt with any one byte altered, cut or added is unknown."""
    token = sign(a_decision("r"), SECRET)
    raw = base64.urlsafe_b64decode(token.removeprefix(PREFIX) + "==="[: -len(token) % 4])
    for i in range(len(raw)):
        altered = raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]
        forged = PREFIX + base64.urlsafe_b64encode(altered).rstrip(b"=").decode()
        with pytest.raises(UnknownDecision):
            verify(forged, SECRET, START)
    for forged in (token[:-4], token + "AAAA", token[:-1] + "é", PREFIX, "d1", token[4:]):
        with pytest.raises(UnknownDecision):
            verify(forged, SECRET, START)


def test_another_secret_is_another_router() -> None:
    """A receipt that another secret signed is unknown, and the error says what to look at."""
    token = sign(a_decision("r"), secret_bytes("theirs"))
    with pytest.raises(UnknownDecision, match="CONDUIT_SECRET"):
        verify(token, SECRET, START)
    own = secret_bytes(None)
    assert own == secret_bytes("") != SECRET
    assert verify(sign(a_decision("r"), own), own, START)[0].router == "r"


def test_a_receipt_expires() -> None:
    """A receipt is good up to its time of expiry, not after it."""
    decision = replace(a_decision("r"), expires_at=START + 1)
    token = sign(decision, SECRET)
    assert verify(token, SECRET, START + 1)[0].id == decision.id
    with pytest.raises(ExpiredDecision) as caught:
        verify(token, SECRET, START + 1.5)
    assert caught.value.decision_id == decision.id
