"""A second try is told from a new question, by what two queries share and swap."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.feedback.retries import (
    DEFAULT_RULE,
    RETRY_RULES,
    QueryTrace,
    RetryRule,
    RetrySignal,
    retry_signal,
    trace_of,
)
from tests.feedback.labelled import Figures, Row, figures, half, is_untouched, rows

PAIRS = rows("pairs")
EMBEDDER = StaticEmbedder()


def trace(
    text: str, *, user: str | None = "u", at_s: float = 0.0, blind: bool = False, **more: Any
) -> QueryTrace:
    """Return the trace of a query as the router would make it."""
    return trace_of(
        text,
        decision_id=more.get("decision_id", text),
        user_id=user,
        at_s=at_s,
        embedding=None if blind else EMBEDDER.embed([text])[0],
    )


def judged(row: Row, *, blind: bool) -> RetrySignal | None:
    """Return what is made of a labelled pair."""
    user = row.get("user_id", "u")
    earlier = trace(row["earlier"], user=user, blind=blind, decision_id="earlier")
    later = trace(
        row["later"],
        user=row.get("later_user", user),
        at_s=row.get("gap_s", 40.0),
        blind=blind,
        decision_id="later",
    )
    return retry_signal(later, [earlier], rule=RETRY_RULES[EMBEDDER.id])


def retry_figures(chosen: list[Row], *, blind: bool) -> Figures:
    """Return how well retries are detected on some rows."""
    return figures(
        chosen, lambda row: row["label"], lambda row: judged(row, blind=blind) is not None
    )


def asked_again(before: str, after: str, gap_s: float = 40.0) -> RetrySignal | None:
    """Return the signal of one query after another of the same user."""
    earlier = trace(before, decision_id="earlier")
    return retry_signal(trace(after, at_s=gap_s, decision_id="later"), [earlier])


# --- the labelled set ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["judge", "tune", "whole"])
def test_retries_are_detected_with_precision_and_recall(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On pairs written by hand, with the default embedder, both are at least 0.9."""
    chosen = [row for row in PAIRS if part in (half(row), "whole")]
    result = retry_figures(chosen, blind=False)
    with capsys.disabled():
        sys.stdout.write(f"\nretries, {part}: {result}\n")
    assert result.precision >= 0.9
    assert result.recall >= 0.9


def test_retries_are_detected_on_pairs_that_nothing_was_shaped_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the rows that no rule or weight was made for, both hold as well."""
    result = retry_figures([row for row in PAIRS if is_untouched(row)], blind=False)
    with capsys.disabled():
        sys.stdout.write(f"\nretries, never shaped on: {result}\n")
    assert result.precision >= 0.9
    assert result.recall >= 0.9


def test_retries_are_detected_without_an_embedding(capsys: pytest.CaptureFixture[str]) -> None:
    """The wording alone reaches 0.85 of both."""
    result = retry_figures(PAIRS, blind=True)
    with capsys.disabled():
        sys.stdout.write(f"\nretries, no embedding: {result}\n")
    assert min(result.precision, result.recall) >= 0.85


def test_the_labelled_set_is_large_and_balanced() -> None:
    """At least 100 pairs, neither kind rarer than 40 %."""
    again = sum(row["label"] for row in PAIRS)
    assert len(PAIRS) >= 100
    assert 0.4 <= again / len(PAIRS) <= 0.6


# --- who and when ----------------------------------------------------------------------------


@pytest.mark.parametrize(("gap_s", "again"), [(0.0, True), (300.0, True), (300.1, False)])
def test_only_the_window_counts(gap_s: float, again: bool) -> None:
    """The same words within five minutes are a retry, and not after."""
    signal = asked_again("How do magnets work?", "How do magnets work?", gap_s)
    assert (signal is not None) == again
    if signal is not None:
        assert (signal.kind, signal.score, signal.gap_s) == ("exact", 1.0, gap_s)
        assert (signal.quality, signal.reliability_key) == (0.0, "retry")


@pytest.mark.parametrize(("before", "after"), [(None, None), ("u", None), (None, "u"), ("u", "v")])
def test_without_the_same_user_nothing_is_a_retry(before: str | None, after: str | None) -> None:
    """Identical prompts of a batch job, or of two users, are no retries."""
    earlier = trace("Classify: fine", user=before, decision_id="a")
    later = trace("Classify: fine", user=after, at_s=1.0, decision_id="b")
    assert retry_signal(later, [earlier]) is None


def test_a_later_query_and_the_query_itself_are_no_earlier_tries() -> None:
    """What came after, and the decision itself, are not compared with."""
    now = trace("How do magnets work?", at_s=5.0, decision_id="a")
    later = trace("How do magnets work?", at_s=6.0, decision_id="b")
    assert retry_signal(now, [now, later]) is None


def test_the_signal_names_the_answer_that_did_not_do() -> None:
    """Among several earlier queries the likeliest is meant, and of equals the latest."""
    earlier = [
        trace("What is a monad?", at_s=1.0, decision_id="first"),
        trace("Write a haiku about rust.", at_s=2.0, decision_id="other"),
        trace("What is a monad?", at_s=3.0, decision_id="second"),
    ]
    signal = retry_signal(trace("what is a monad", at_s=9.0, decision_id="now"), earlier)
    assert signal is not None
    assert signal.decision_id == "second"
    assert signal.cosine == pytest.approx(1.0, abs=0.02)


# --- what is a retry, and what is not ----------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("What is 17 * 23?", "what is 17 * 23", "exact"),
        ("recipie for bannana bread", "recipe for banana bread", "rephrased"),
        ("Who wrote Middlemarch?", "try again", "complaint"),
        ("Who wrote Middlemarch?", "That's wrong. Who wrote Middlemarch?", "complaint"),
        ("Explain the Treaty of Versailles", "Erkläre den Vertrag von Versailles", "translated"),
        ("Explain closures", "Explain closures in JavaScript with an example", "rephrased"),
    ],
)
def test_the_kind_of_a_retry(before: str, after: str, kind: str) -> None:
    """Repeats, mended typos, complaints, translations and refinements are told apart."""
    signal = asked_again(before, after)
    assert signal is not None
    assert signal.kind == kind
    assert (signal.reliability_key == "complaint") == (kind == "complaint")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("What is the capital of France?", "And in Spain?"),
        ("Show me revenue by region for 2023", "now do it for 2024"),
        ("Write a function that parses dates", "thanks, now add tests"),
        ("What is the capital of France?", "What is the capital of Germany?"),
        ("What is 17 * 23?", "What is 18 * 23?"),
        ("Next bus from Mitte to Tegel", "Next bus from Tegel to Mitte"),
        ("Label the intent: I want my money back", "Label the intent: where is my order"),
        ("How tall is the Eiffel Tower?", "When was the Eiffel Tower built?"),
        ("Write a limerick", "continue"),
        ("continue", "continue"),
        ("How do I exit vim?", "it worked, thanks"),
        ("What is the population of Sweden in 2023?", "Comment faire une pâte à crêpes ?"),
        ("Wie viele Einwohner hat Bremen?", "Explain Kubernetes"),
        ("Was kostet das Ticket 2023 nach Wien?", "How much is the ticket to Vienna in 2024?"),
    ],
)
def test_the_next_question_is_no_retry(before: str, after: str) -> None:
    """Sequels, other values, other questions, templates and thanks are not second tries."""
    assert asked_again(before, after) is None


def test_a_complaint_needs_something_to_complain_about() -> None:
    """Nobody complains before the first answer."""
    assert retry_signal(trace("that's wrong", at_s=1.0), []) is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_texts_are_compared(before: str, after: str) -> None:
    """No text breaks the comparison, and a score is a probability."""
    signal = retry_signal(
        trace(after, at_s=1.0, blind=True, decision_id="b"),
        [trace(before, blind=True, decision_id="a")],
        threshold=0.0,
    )
    assert signal is None or 0.0 <= signal.score <= 1.0


# --- the rule ------------------------------------------------------------------------------------


def test_the_threshold_decides() -> None:
    """A lower threshold finds more, a higher one less; the argument goes before the rule."""
    before, after = trace("Why is the sky blue?"), trace("What makes the sky blue?", at_s=9.0)
    found = retry_signal(after, [before])
    assert found is not None
    assert retry_signal(after, [before], threshold=1.0) is None
    strict = replace(DEFAULT_RULE, threshold=1.0)
    assert retry_signal(after, [before], rule=strict) is None
    assert retry_signal(after, [before], rule=strict, threshold=0.1) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5},
        {"cosine_sd": 0.0},
        {"cosine_mean": float("nan")},
        {"weights": (1.0, 2.0)},
        {"weights": (float("inf"),) * 13},
    ],
)
def test_a_rule_refuses_numbers_that_cannot_be(wrong: dict[str, Any]) -> None:
    """A rule with an impossible number is refused when it is made."""
    with pytest.raises(InvalidInput):
        RetryRule(**wrong)


def test_embeddings_of_other_lengths_are_not_compared() -> None:
    """After a change of the embedder the wording decides alone."""
    before = replace(trace("What is a monad?"), embedding=np.ones(3, np.float32))
    signal = retry_signal(trace("what's a monad", at_s=1.0), [before])
    assert signal is not None
    assert signal.cosine is None


def test_a_trace_holds_no_word_of_the_query() -> None:
    """Nothing in a trace shows a word, and without a user the text is not even read."""
    shown = repr(trace("Is Ludmilla pregnant?", decision_id="d"))
    assert "Ludmilla" not in shown
    assert "pregnant" not in shown
    assert trace("Is Ludmilla pregnant?", user=None).wording.matter == b""


def test_a_long_text_is_compared_by_its_head_middle_and_tail() -> None:
    """One template around other long texts is no retry; the same text with a word more is one."""
    head, tail = "Summarise this article in one sentence. ", " Answer in German."
    first = " ".join(f"river{i} flows past town{i}" for i in range(120))
    other = " ".join(f"union{i} signed paper{i}" for i in range(120))
    assert asked_again(head + first + tail, head + other + tail) is None
    again = asked_again(head + first + tail, head + first + tail + " Be brief.")
    assert again is not None
