"""The error tree is what its drawing says, and every error says what to do about it."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core import errors
from conduit.core.errors import (
    AllModelsFailed,
    Attempt,
    BudgetExceeded,
    ConduitError,
    ConfigurationError,
    ConflictingFeedback,
    ExecutionError,
    ExpiredDecision,
    IncompatibleState,
    InvalidInput,
    NoEligibleModel,
    OutputInvalid,
    ProviderError,
    StorageUnavailable,
    UnknownDecision,
    finite,
    optional_finite,
    unknown_name,
)


class Refused(ConduitError):
    """An error with a constructor of its own, as an adapter might add one."""

    def __init__(self, *, reason: str) -> None:
        """Keep the reason."""
        super().__init__(f"refused: {reason}")
        self.reason = reason


DRAWN = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+)", re.MULTILINE)


def test_the_drawing_is_the_tree() -> None:
    """Every error class is drawn once, under its parent."""
    parents, stack = {}, ["ConduitError"]
    for found in DRAWN.finditer(errors.__doc__ or ""):
        depth = len(found["indent"]) // 4 + 1
        stack[depth:] = [found["name"]]
        parents[found["name"]] = stack[depth - 1]
    real = {
        name: cls.__mro__[1].__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, ConduitError) and cls is not ConduitError
    }
    assert parents == real


ERRORS = pytest.mark.parametrize(
    ("error", "fields", "words"),
    [
        (InvalidInput("no", field="x", expected="y", value=3), {"field": "x", "value": 3}, "no"),
        (NoEligibleModel({"a": "too dear"}), {"reasons": {"a": "too dear"}}, "a: too dear"),
        (NoEligibleModel({}), {"reasons": {}}, "there are no models"),
        (UnknownDecision("d1"), {"decision_id": "d1", "hint": ""}, "unknown decision 'd1'"),
        (UnknownDecision("d1", "it expired"), {"hint": "it expired"}, "'d1': it expired"),
        (ExpiredDecision("d1", 7.0), {"decision_id": "d1", "expired_at": 7.0}, "no longer takes"),
        (ConflictingFeedback("f1"), {"feedback_id": "f1"}, "new feedback_id"),
        (ExecutionError("bad", model="m", kind="k"), {"model": "m", "kind": "k"}, "bad"),
        (
            ProviderError("429", model="m", kind="rate_limit", status=429, retry_after_s=2.0),
            {"status": 429, "retry_after_s": 2.0, "partial": None, "response": None},
            "429",
        ),
        (OutputInvalid("no JSON", model="m", retries=2), {"kind": "invalid_output"}, "no JSON"),
        (
            AllModelsFailed([Attempt("m", "timeout", "2 s"), Attempt("n", "refused", "x", 0.1)]),
            {"kind": "all_failed"},
            "m: timeout (2 s); n: refused (x)",
        ),
        (
            BudgetExceeded(limit_usd=2.0, left_usd=0.5, resets_at=None, scope="day"),
            {"limit_usd": 2.0, "left_usd": 0.5, "scope": "day", "resets_at": None},
            "never resets",
        ),
        (
            BudgetExceeded(limit_usd=2.0, left_usd=0.5, resets_at=9.0, scope="day"),
            {"resets_at": 9.0},
            "resets at 1970-01-01 00:00 UTC",
        ),
        (
            BudgetExceeded(limit_usd=1.0, left_usd=0.00005, resets_at=None, scope="user"),
            {},
            "budget of $1.0000 per user leaves $5e-05",
        ),
        (
            BudgetExceeded(limit_usd=1.0, left_usd=1.7e-18, resets_at=None, scope="user"),
            {},
            "leaves $0.0000",
        ),
        (StorageUnavailable("gone"), {}, "gone"),
        (IncompatibleState("no", stored=1, wanted=2), {"stored": 1, "wanted": 2}, "no"),
        (ConfigurationError("no", field="models"), {"field": "models"}, "no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)


@ERRORS
def test_errors_have_fields(error: Exception, fields: dict[str, Any], words: str) -> None:
    """What went wrong is in fields, what to do about it in the words."""
    assert {name: getattr(error, name) for name in fields} == fields
    assert words in str(error)
    with pytest.raises(ConduitError):
        raise error


COPIES = (copy.copy, copy.deepcopy, *(
    lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
))  # fmt: skip


@ERRORS
def test_errors_can_be_copied_and_pickled(
    error: Exception, fields: dict[str, Any], words: str
) -> None:
    """A worker's error reaches its parent as it was: its kind, its words, its fields and notes."""
    error.add_note("seen in a worker")
    for copied in COPIES:
        again = copied(error)
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert {name: getattr(again, name) for name in fields} == fields
        assert words in str(again)


def test_an_error_of_the_users_own_can_be_pickled() -> None:
    """Whatever its constructor takes: it is not called again."""
    error = Refused(reason="no room")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.reason) == (Refused, "refused: no room", "no room")


def test_attempts_are_kept_in_order() -> None:
    """A chain that failed names each attempt, the first one first."""
    attempts = [Attempt(f"m{i}", "timeout", "slow") for i in range(3)]
    assert AllModelsFailed(attempts).attempts == tuple(attempts)


@pytest.mark.parametrize(
    "value", [3, 0.5, np.float32(0.5), np.float64(2), np.int64(3), np.uint8(1), np.array(0.25)]
)
def test_numbers_get_in(value: Any) -> None:
    """Real numbers of Python and numpy become floats."""
    number = finite(value, "x")
    assert (type(number), number) == (float, float(value))


@pytest.mark.parametrize(
    "value",
    [
        True, np.True_, "1", None, 1j, np.complex64(1), np.str_("1"), b"1", [1.0], np.ones(1),
        np.array("1"), np.datetime64("2020-01-01"), np.array(None), object(),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Anything but a real number is refused, with the field and its type."""
    with pytest.raises(InvalidInput, match=f"x must be .* got {type(value).__name__}") as refused:
        finite(value, "x")
    assert (refused.value.field, refused.value.expected) == ("x", "a finite number")


@pytest.mark.parametrize(
    ("low", "high", "value", "expected"),
    [
        (None, None, float("nan"), "a finite number"),
        (None, None, float("-inf"), "a finite number"),
        (None, None, 10**400, "a finite number"),
        (0.0, None, -1, "a finite number of at least 0"),
        (0.0, None, float("inf"), "a finite number of at least 0"),
        (None, 5.0, 6, "a finite number of at most 5"),
        (0.0, 1.0, 1.5, "a number from 0 to 1"),
        (0.0, 1.0, np.float32(-0.5), "a number from 0 to 1"),
        (0.0, 1.0, float("nan"), "a number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    low: float | None, high: float | None, value: Any, expected: str
) -> None:
    """A number that is not finite or not in range is refused, and the range is named."""
    with pytest.raises(InvalidInput, match=re.escape(f"x must be {expected}, got")) as refused:
        finite(value, "x", low=low, high=high)
    assert refused.value.expected == expected


@given(st.floats() | st.none(), st.floats(-5, 5), st.floats(0, 5))
def test_whatever_gets_in_is_in_range(value: float | None, low: float, width: float) -> None:
    """Either the number comes back as it is, within its bounds, or it is refused."""
    try:
        found = optional_finite(value, "x", low=low, high=low + width)
    except InvalidInput:
        assert value is None or not low <= value <= low + width
    else:
        assert found == value
        assert found is None or low <= found <= low + width


def test_unknown_names_list_the_known() -> None:
    """An unknown name is answered by the nearest one and by all of them."""
    words = unknown_name("policy", "linucbb", ["linucb", "thompson"])
    assert "did you mean 'linucb'" in words
    assert "(known: linucb, thompson)" in words
    assert "did you mean" not in unknown_name("policy", "zzz", ["linucb", "thompson"])
