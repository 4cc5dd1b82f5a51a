"""Failed answers are told from good ones, also from short, quoted and foreign ones."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput, ProviderError
from conduit.feedback import signals
from conduit.feedback.refusals import refusal_or_apology
from conduit.feedback.signals import ErrorSignal, detect_error
from tests.feedback.labelled import Figures, Row, figures, half, is_untouched, rows

RESPONSES = rows("responses")
TOLD = (
    "error", "finish_reason", "output_valid", "validation_retries", "tool_failures", "tool_calls",
    "prompt",
)  # fmt: skip

PROSE = (
    "The town was quiet in the evening. I cannot say why, but people (mostly fishermen) sat on the "
    "wall, and nobody spoke. "
)


def detected(row: Row) -> ErrorSignal:
    """Return what is made of a labelled answer."""
    return detect_error(row["text"], **{name: row[name] for name in TOLD if name in row})


def error_figures(chosen: list[Row]) -> Figures:
    """Return how well errors are detected on some rows."""
    return figures(chosen, lambda row: row["label"] != "none", lambda row: detected(row).is_error)


# --- the labelled set ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["judge", "tune", "whole"])
def test_errors_are_detected_with_precision_and_recall(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On answers written by hand, precision is at least 0.95 and recall at least 0.85."""
    chosen = [row for row in RESPONSES if part in (half(row), "whole")]
    result = error_figures(chosen)
    with capsys.disabled():
        sys.stdout.write(f"\nerrors, {part}: {result}\n")
    assert result.precision >= 0.95
    assert result.recall >= 0.85


def test_errors_are_detected_on_answers_that_nothing_was_shaped_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the rows that no rule or weight was made for, both hold as well."""
    chosen = [row for row in RESPONSES if is_untouched(row)]
    result = error_figures(chosen)
    with capsys.disabled():
        sys.stdout.write(f"\nerrors, never shaped on: {result}\n")
    assert result.precision >= 0.95
    assert result.recall >= 0.85


def test_the_labelled_set_is_large_and_balanced() -> None:
    """At least 200 answers, neither kind rarer than 40 %, and every kind of error among them."""
    good = sum(row["label"] == "none" for row in RESPONSES)
    assert len(RESPONSES) >= 200
    assert 0.4 <= good / len(RESPONSES) <= 0.6
    assert {row["label"] for row in RESPONSES} == {
        "none", "exception", "empty", "refusal", "apology", "truncated", "invalid_output",
        "tool_failure",
    }  # fmt: skip


def test_the_kind_of_an_error_is_right_as_well() -> None:
    """Of the errors that are detected, at least 95 % are of the kind they were labelled with."""
    found = [(detected(row), row) for row in RESPONSES if row["label"] != "none"]
    kinds = [signal.kind == row["label"] for signal, row in found if signal.is_error]
    assert sum(kinds) / len(kinds) >= 0.95


# --- short right answers, and what only looks like an error ------------------------------------


@pytest.mark.parametrize(
    "text",
    ["4", "Paris.", "No.", "42%", "True", "👍", "x += 1", "None", "-", "C++", ":(", "は", "[]",
     "{}", "I don't know him personally, but he is well liked.", "as soon as possible"],
)  # fmt: skip
@pytest.mark.parametrize("reason", [None, "stop", "end_turn", "STOP"])
def test_a_short_right_answer_is_no_error(text: str, reason: str | None) -> None:
    """An answer is not an error for being short, or for ending without a full stop."""
    signal = detect_error(text, finish_reason=reason)
    assert (signal.kind, signal.quality) == ("none", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "When a bot says \"I'm sorry, but I can't help with that\", its filter has fired.",
        "```python\n# I'm sorry, but I can't help with that.\nraise NotImplementedError\n```",
        "Dear Ms Ito,\n\nI'm sorry, but I cannot help with this request.\n\nYours,\nBo",
        "I can't browse the web, but in 2023 the city had 68,000 inhabitants in nine districts.",
        "While I can't predict the result, the polls give the mayor 54 % of the votes.",
        "Sorry, typo! The year is 1987.",
    ],
)
def test_what_only_mentions_or_opens_with_a_refusal_is_an_answer(text: str) -> None:
    """Quotes, code, letters, and hedges before an answer do not count as refusals."""
    assert detect_error(text).kind == "none"


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Write an answering machine text that apologises", "none"),
        ("Schreibe eine Absage", "none"),
        ("How do I reach you?", "refusal"),
        (None, "refusal"),
    ],
)
def test_a_refusal_that_was_asked_for_is_no_error(prompt: str | None, kind: str) -> None:
    """Where the prompt asks for a refusal or an apology, one is the right answer."""
    text = "I'm sorry, I can't help you right now. Please call back after nine."
    assert detect_error(text, prompt=prompt).kind == kind


# --- what the provider told ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kind", "quality"),
    [
        ({"error": "TimeoutError"}, "exception", 0.0),
        ({"error": ProviderError("down")}, "exception", 0.0),
        ({"error": ValueError}, "exception", 0.0),
        ({"error": "RateLimitError"}, "exception", None),
        ({"error": "rate_limit"}, "exception", None),
        ({"error": "CancelledError"}, "exception", None),
        ({"error": "AuthenticationError"}, "exception", None),
        ({"output_valid": False}, "invalid_output", 0.0),
        ({"finish_reason": "length"}, "truncated", 0.25),
        ({"finish_reason": "FinishReason.MAX_TOKENS"}, "truncated", 0.25),
        ({"finish_reason": "content_filter"}, "refusal", 0.0),
        ({"finish_reason": "error"}, "exception", 0.0),
        ({"tool_failures": 2, "tool_calls": 2}, "tool_failure", 0.0),
        ({"tool_failures": 1, "tool_calls": 2}, "tool_failure", 0.25),
        ({"tool_failures": 1}, "tool_failure", 0.0),
        ({"validation_retries": 1}, "repaired_output", 0.5),
        ({"validation_retries": 2, "output_valid": True}, "repaired_output", 0.25),
        ({"output_valid": True}, "none", 1.0),
    ],
)
def test_what_the_provider_told_counts(
    told: dict[str, Any], kind: str, quality: float | None
) -> None:
    """Exceptions, finish reasons, validity and tools decide beside the text."""
    signal = detect_error("The answer is on its way to you, as promised, in two parts.", **told)
    assert (signal.kind, signal.quality) == (kind, quality)
    assert signal.is_error == (kind not in ("none", "repaired_output"))


@pytest.mark.parametrize(
    ("told", "kind"),
    [({}, "empty"), ({"output_valid": True}, "none"), ({"tool_calls": 1}, "none")],
)
@pytest.mark.parametrize("text", [None, "", " \n", "\u200b", "...", "```\n```", "<|im_end|>"])
def test_an_empty_text_is_an_error_unless_the_answer_lies_elsewhere(
    text: str | None, told: dict[str, Any], kind: str
) -> None:
    """No text is an error, but not beside typed output or a call of a tool."""
    assert detect_error(text, **told).kind == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Positive", "none"),
        ("The capital of", "truncated"),
        ("<think>It is Ottawa, I am", "truncated"),
        ("<think>It is Ottawa.</think>Ottawa", "none"),
        ("<think>It is Ottawa.</think>", "empty"),
    ],
)
def test_length_and_thoughts(text: str, kind: str) -> None:
    """A label that used up its one token is whole; a thought that never ended has no answer."""
    reason = "length" if text[0] != "<" else None
    assert detect_error(text, finish_reason=reason).kind == kind


def test_a_stop_sequence_may_end_a_text_anywhere() -> None:
    """Where the caller named what ends the text, ending within a sentence is not truncation."""
    cut = PROSE * 3 + "He walked to the"
    assert detect_error(cut).kind == "truncated"
    assert detect_error(cut, finish_reason="stop_sequence").kind == "none"


@pytest.mark.parametrize("name", ["validation_retries", "tool_failures", "tool_calls"])
def test_counts_are_not_negative(name: str) -> None:
    """A negative count is refused."""
    with pytest.raises(InvalidInput):
        detect_error("4", **{name: -1})


# --- truncation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("```python\nprint(1)\n", True),
        ("```python\nprint(1)\n```", False),
        ("Wrap the code in ``` and it is shown as it is, with every blank kept.", False),
        ("- one\n- ```js\n  let a", True),
        ('{"a": [1, 2', True),
        ('{"a": [1, 2]}', False),
        ('{"a": {"b": 1}', True),
        ("[1] Smith 2003, [2] Lee 2007", False),
        ("<html><body><p>Hello", True),
        ("<html><body></body></html>", False),
        ("fn a() {\n  b();\n  c();\n  if d {\n    e();\n", True),
        ("total = sum(\n    a,\n    b", True),
        ("1. First\n2. Second\n3.", True),
        ("1. First\n2. Second\n**Third", True),
        ("| a | b |\n|---|---|\n| 1 | 2", True),
        ("| a | b |\n|---|---|\n| 1 | 2 |", False),
        ("Either way | or not, this is no table at all", False),
        ("|x| is the absolute value of x", False),
        ("Here is the improved text:", True),
        ("Answer: yes:", False),
        ("He bought apples, pears, plums and then, at last,", True),
        ("All the best from the two of us in rainy Hamburg\nKind regards,", False),
        ("where o.created_at >=\n", True),
        ("That is how it ends, sadly :(", False),
        ("\\begin{align} x &= 1 \\\\ and so on without an end", True),
        ("\\begin{align} x &= 1 \\end{align} and that is the end of it", False),
        ("1. Sand the wood.\n2. Oil it twice.\n3. Wait for a", True),
        ("1. Sand the wood.\n2. Oil it twice.\n3. Wait for a day", True),
        ("1. Sand the wood\n2. Oil it twice\n3. Wait for a day", False),
        ("The real owner of the land that they had loved so long is (as it", True),
        ("la " * 100 + "l", True),
        ("la " * 100, False),
        ("# A heading that is long enough to be looked at, but which ends as headings do", False),
        (PROSE * 2 + "The rest of it is in the report that we sent you on Mon", True),
        (PROSE * 2 + "The rest of it is in the report that we sent you on Monday.", False),
        (PROSE * 2 + "Enjoy", False),
        (PROSE * 2 + "Type of plant: PERENNIAL", False),
        (PROSE * 2 + "\n\nDr. Eva Lang", False),
        ("see " + "x" * 30_000 + "\\ and so it goes on and on and on and never ends", False),
    ],
)  # fmt: skip
def test_truncation_is_told_from_an_open_end(text: str, cut: bool) -> None:
    """Open blocks, brackets and sentences are cut; lists, titles and signatures just end."""
    assert (detect_error(text.strip()).kind == "truncated") == cut


# --- bounds ---------------------------------------------------------------------------------------


@given(st.text(max_size=400))
def test_any_text_gets_a_signal(text: str) -> None:
    """No text breaks detection, and every verdict lies in [0, 1]."""
    signal = detect_error(text)
    assert signal.quality is not None
    assert 0.0 <= signal.quality <= 1.0
    assert signal.reliability_key in signals.SIGNAL_RELIABILITY


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "```\n" * 25_000,
        "(" * 100_000,
        '[{"a": 1},' + '{"a": 1},' * 11_000 + "{}]",
        *(
            (phrase * 2_000)[:2_000]
            for phrase in ("i can't ", "sorry i can not, but ", "i and ", "the error ", " ")
        ),
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_no_text_makes_looking_at_it_hang(text: str) -> None:
    """Text made to confuse the patterns ends them; `benchmarks/parts.py` has what it takes."""
    began_s = time.thread_time()
    detect_error(text)
    refusal_or_apology(text[:2_000])
    assert time.thread_time() - began_s < 1.0  # some milliseconds, where nothing is wrong


def test_every_public_name_is_there() -> None:
    """The front of the pure modules offers what it says."""
    assert all(hasattr(signals, name) for name in signals.__all__)
