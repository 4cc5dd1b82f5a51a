"""What each failure means, and how foreign errors become ours without their secrets."""

from __future__ import annotations

import traceback
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import ANSWERED_BADLY
from conduit.engines.executor.failures import (
    MAX_RETRY_AFTER_S,
    MEANINGS,
    OTHER,
    kind_of_status,
    meaning,
    retry_after_s,
    translated,
)

SECRET = "sk-canary-1234567890"


@pytest.mark.parametrize("kind", ["timeout", "connection", "server_error", "malformed"])
def test_a_failing_provider_is_quality_zero_and_counts_against_its_health(kind: str) -> None:
    """What the provider did to a call that was in order is evidence."""
    assert meaning(kind).quality == 0.0
    assert meaning(kind).trips
    assert meaning(kind).falls_back


@pytest.mark.parametrize("kind", ["rate_limited", "auth", "not_found", "bad_request", "quota"])
def test_a_refusal_for_our_own_sake_teaches_nothing(kind: str) -> None:
    """Keys, limits, names and unfitting requests say nothing about quality; others are tried."""
    assert meaning(kind).quality is None
    assert meaning(kind).falls_back


@pytest.mark.parametrize("kind", ["rate_limited", "bad_request", "cancelled", "caller_error"])
def test_what_is_not_the_models_fault_does_not_open_its_breaker(kind: str) -> None:
    """Rate limits cool down instead; the rest is ours."""
    assert not meaning(kind).trips


def test_a_bad_answer_is_told_from_none() -> None:
    """What is evidence of quality but not of health is a model that was there, and answered."""
    bad = {kind for kind, means in MEANINGS.items() if means.quality == 0.0 and not means.trips}
    assert bad == ANSWERED_BADLY


@pytest.mark.parametrize("kind", ["cancelled", "caller_error"])
def test_nothing_is_tried_for_a_caller_who_has_left(kind: str) -> None:
    """A cancellation and the caller's own error end the request."""
    assert not meaning(kind).falls_back


def test_a_kind_nobody_named_counts_as_the_providers_failure() -> None:
    """An executor of somebody else's may have kinds of its own."""
    assert meaning("weather") is OTHER


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"), (401, "auth"), (402, "quota"), (403, "auth"), (404, "not_found"),
        (408, "timeout"), (413, "bad_request"), (422, "bad_request"), (429, "rate_limited"),
        (500, "server_error"), (502, "server_error"), (503, "server_error"), (504, "timeout"),
        (529, "server_error"), (301, "malformed"),
    ],
)  # fmt: skip
def test_a_status_has_its_kind(status: int, kind: str) -> None:
    """Each HTTP status stands for one kind of failure."""
    assert kind_of_status(status) == kind
    assert kind in MEANINGS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("86400", MAX_RETRY_AFTER_S), ("nan", None),
        ("inf", MAX_RETRY_AFTER_S), ("soon", None), ("", None), (None, None),
        (formatdate(1_000_030, usegmt=True), 30.0), (formatdate(999_000, usegmt=True), 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """Both forms are read, capped, and rubbish is no instruction."""
    assert retry_after_s(header, 1_000_000.0) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_breaks_the_reader(header: str) -> None:
    """Whatever a provider sends, the wait is unknown or within its bounds."""
    wait = retry_after_s(header, 0.0)
    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_S


class StatusError(Exception):
    """An error as vendors' libraries raise them, talkative."""

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        super().__init__(f"Incorrect API key provided: {SECRET}; prompt was: {SECRET}")
        self.status_code = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ReadTimeout(Exception):
    """A name that vendors use."""


class APIConnectionError(Exception):
    """A name that vendors use."""


def test_a_foreign_error_keeps_its_facts_and_loses_its_words() -> None:
    """Status and wait survive; the key that the vendor printed does not."""
    failure = translated(StatusError(429, retry_after="3"), "m", now=0.0)
    assert (failure.kind, failure.status, failure.retry_after_s) == ("rate_limited", 429, 3.0)
    printed = "".join(traceback.format_exception(failure)) + repr(failure) + repr(vars(failure))
    assert SECRET not in printed
    assert "StatusError" in printed


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": "insufficient_quota"}}, "quota"),
        ({"code": "content_filter"}, "content_filter"),
        ({"error": "text"}, "rate_limited"),
        ("text", "rate_limited"),
    ],
)
def test_the_body_can_say_more_than_the_status(body: Any, kind: str) -> None:
    """OpenAI sends 429 for an account without credit too."""
    assert translated(StatusError(429, body), "m", now=0.0).kind == kind


def test_the_innermost_cause_names_the_kind() -> None:
    """A timeout below a connection error is a timeout."""
    outer = APIConnectionError(SECRET)
    outer.__cause__ = ReadTimeout(SECRET)
    assert translated(outer, "m", now=0.0).kind == "timeout"
    assert translated(APIConnectionError(SECRET), "m", now=0.0).kind == "connection"
    assert translated(ExceptionGroup("", [outer]), "m", now=0.0).kind == "timeout"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(SECRET), "malformed"), (IndexError(SECRET), "malformed"),
        (ConnectionResetError(SECRET), "connection"), (ImportError(SECRET), "not_installed"),
        (RuntimeError(SECRET), "provider_error"),
    ],
)  # fmt: skip
def test_plain_errors_are_told_apart(error: Exception, kind: str) -> None:
    """What a library's parser raises means that the answer was none."""
    assert translated(error, "m", now=0.0).kind == kind
