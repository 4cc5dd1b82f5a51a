"""Text becomes numbers: the signals, the vector, the tables behind it, complexity and domain."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.features import (
    COMPONENTS,
    KERNEL_COMPONENTS,
    KERNEL_HEIGHT,
    KERNEL_LINEAR,
    KERNEL_WIDTH,
    KNOWN,
    SURFACE_NAMES,
    TASK_COLUMNS,
    TASK_START,
    VECTOR_DIM,
    FeatureTables,
    clip_text,
    encode_vector,
    feature_tables,
    surface_signals,
    task_columns,
)

STATIC = StaticEmbedder.id


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Return the default embedder."""
    return StaticEmbedder()


@pytest.fixture(scope="module")
def tables(embedder: StaticEmbedder) -> FeatureTables:
    """Return the shipped tables of the default embedder."""
    return feature_tables(embedder.id, embedder.dim)


def signal(text: str, name: str) -> float:
    """Return one unscaled signal of a text."""
    return surface_signals(text).as_mapping()[name]


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("length", "one two three four", "one two"),
        ("stem_length", "Which of these four is a prime?\nA. 4\nB. 5", "Prime?\nA. 4\nB. 5"),
        ("options", "Pick.\nA. x\nB. y\nC. z", "Pick.\nA. x\nB. y"),
        ("digit_share", "12 + 30", "twelve and thirty"),
        ("operators", "x = (a + b) / c", "x is a and b over c"),
        ("code", "def f(x): return x", "f of x gives x"),
        ("newlines", "a\nb\nc", "a b c"),
        ("asks_fact", "Who wrote it, and when?", "He wrote it."),
        ("asks_reason", "Explain why it rains", "It rains"),
        ("asks_quantity", "How many in total?", "Is it there?"),
        ("question_mark", "Is it raining?", "It is raining."),
        ("bullets", "Buy:\n- milk\n- bread", "Buy: milk, bread"),
        ("negation", "Which is not true?", "Which is true?"),
        ("imperative", "Write a poem", "The poem is old"),
        ("format_asked", "Answer as JSON", "Answer in words"),
        ("persons", "She told me about her dog", "The owner mentioned the dog"),
        ("diversity", "every word differs here", "same same same same"),
        ("uppercase", "SHOUTING loudly", "shouting loudly"),
        ("non_ascii", "große Straße", "grosse Strasse"),
        ("word_length", "incomprehensible terminology", "a b c d"),
        ("commas", "red, green, blue", "red green blue"),
        ("sentences", "It rains. It pours. Why?", "It rains and pours"),
        ("sentence_length", "one two three four five six.", "one. two. three."),
        ("latex", "Let $x$ be \\frac{1}{2}", "Let x be a half"),
        ("brackets", "f(a[0])", "f of a"),
        ("quotes", 'He said "no" to it', "He said no to it"),
        ("opens_upper", "Who is it", "who is it"),
        ("upper_per_word", "Ada met Alan in Rome", "she met him in town"),
        ("digits", "12 and 345", "12 and 3"),
        ("longest_line", "one long line of words\nb", "one\nlong\nline\nof"),
        ("snippets", ">>> add(2, 3)", "add two and three"),
        ("equation", "x = 3", "x is 3"),
        ("blanks", "The capital is ____.", "The capital is big."),
    ],
)
def test_each_signal_tells_two_texts_apart(name: str, more: str, less: str) -> None:
    """Every signal is larger for a text that has more of what it is named after."""
    assert signal(more, name) > signal(less, name)


def test_the_cases_above_cover_every_signal() -> None:
    """No signal is without such a pair."""
    marks = test_each_signal_tells_two_texts_apart.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(SURFACE_NAMES)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("What is 2+2?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:", 4),
        ("Is it so?\nOptions:\n(A) yes\n(B) no", 2),
        ("Balls contain\nChoices: (A) water, (B) air, (C) sand", 3),
        ("Pick one:\n  (1) first\n  (2) second\n  (3) third", 3),
        ("Option 1: Laura\nOption 2: Victoria", 2),
        ("Choices: {'text': ['x', 'y'], 'label': ['A', 'B', 'C']}", 3),
        ("Pick one." + "".join(f"\n{letter}. x" for letter in "ABCDEFGHIJ"), 10),
        ("I gave plan A. Then I slept.", 0),
        ("What is 2+2?", 0),
        ("Take vitamin B. It helps. See C. elegans.", 0),
    ],
)
def test_options_are_counted_however_they_are_written(text: str, options: int) -> None:
    """Letters or numbers, on lines or in a row: options are those that count up from the first."""
    assert surface_signals(text).options == options


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello there", "latin"),
        ("Où est la gare ?", "latin"),
        ("Привет, как дела?", "cyrillic"),
        ("مرحبا كيف حالك", "arabic"),
        ("שלום מה שלומך", "hebrew"),
        ("Γειά σου Κόσμε", "greek"),  # noqa: RUF001
        ("नमस्ते दुनिया", "indic"),
        ("你好,世界", "cjk"),
        ("안녕하세요 세계", "hangul"),
        ("12 + 30 = 42", "none"),
    ],
)
def test_the_script_is_told_by_most_letters(text: str, script: str) -> None:
    """The script of most letters is named, without a dictionary."""
    assert surface_signals(text).script == script


@pytest.mark.parametrize(
    ("text", "attribute", "expected"),
    [
        ("Return JSON only.", "wants_json", True),
        ("The jsonnet file", "wants_json", False),
        ("List three cities", "wants_list", True),
        ("The listless cat", "wants_list", False),
        ("User: hi\nAssistant: hello\nUser: bye", "turns", 3),
        ("Note: this is no turn", "turns", 0),
    ],
)
def test_what_is_asked_for_is_seen(text: str, attribute: str, expected: object) -> None:
    """A format that is asked for and the turns of a conversation are read off whole words."""
    assert getattr(surface_signals(text), attribute) == expected


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What is the capital of France?", 7),
        ("The quick brown fox jumps over the lazy dog. " * 20, 201),
        ("def add(a, b):\n    return a + b", 13),
        ("你好,世界,今天天气很好", 14),
        ("a" * 100_000, 12_500),
    ],
)
def test_tokens_are_estimated_within_a_third(text: str, tokens: int) -> None:
    """The estimate is near what a byte-pair tokenizer counts, also for a text that was clipped."""
    assert surface_signals(text).token_estimate == pytest.approx(tokens, rel=0.34)


@given(st.text(max_size=300))
def test_clipping_leaves_short_texts_alone(text: str) -> None:
    """A text of at most 4,000 characters is looked at whole."""
    assert clip_text(text) is text


@given(st.integers(4_001, 20_000))
def test_clipping_keeps_both_ends(length: int) -> None:
    """A longer text is its first and its last 2,000 characters."""
    text = "".join(chr(97 + index % 26) for index in range(length))
    clipped = clip_text(text)
    assert len(clipped) == 4_000
    assert text.startswith(clipped[:2_000])
    assert text.endswith(clipped[2_000:])


ANY_TEXT = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs"]), st.just("\x00")), max_size=200
)


@given(ANY_TEXT, st.integers(1, 30), st.one_of(st.none(), ANY_TEXT))
def test_every_text_has_a_finite_vector(text: str, repeats: int, task: str | None) -> None:
    """No text and no label, however strange, makes a number that is not one."""
    signals = surface_signals(text * repeats)
    vector = encode_vector(signals, None, feature_tables(STATIC, 256), task)
    assert np.isfinite(signals.values).all()
    assert signals.token_estimate >= 1
    assert np.isfinite(vector).all()
    assert np.abs(vector).max() <= 2.0


@pytest.mark.parametrize(
    "unit",
    [
        "a", "\n", " ", "(", "\nA. ", " A. B. C.", "1. ", "User: ", "'A' ", "__", "\n \n - ", "你",
        "`",
    ],
)  # fmt: skip
def test_no_text_makes_reading_hang(unit: str) -> None:
    """Whatever a text is made of, it is read; `benchmarks/parts.py` has how the time grows."""
    text = (unit * 4_000)[:4_000]
    began_s = time.thread_time()
    assert np.isfinite(surface_signals(text).values).all()
    assert time.thread_time() - began_s < 0.5  # mostly a fraction of a millisecond


def test_of_a_long_text_only_the_ends_are_read() -> None:
    """The middle of a million characters costs nothing: whatever it is, nothing changes."""
    ends = "Name three rivers. " * 200, "\nUser: which of them is the longest?" * 200
    plain, odd = (
        surface_signals(ends[0] + middle * (1_000_000 // len(middle)) + ends[1])
        for middle in ("word ", "\nA. `")
    )
    np.testing.assert_array_equal(plain.values, odd.values)
    assert plain.turns == odd.turns > 0


# --- the vector ------------------------------------------------------------------------------


def test_the_layout_is_bias_components_task() -> None:
    """29 numbers describe a query, 8 more its task, and each block stands where it is said to."""
    assert TASK_START == 1 + KERNEL_COMPONENTS == 29
    assert VECTOR_DIM == TASK_START + TASK_COLUMNS == 37
    assert len(set(SURFACE_NAMES)) == len(SURFACE_NAMES)


def test_a_vector_has_every_block(embedder: StaticEmbedder, tables: FeatureTables) -> None:
    """The bias is one, the components follow from what is known, the task has its columns."""
    text = "Which of these is NOT a prime?\nA. 2\nB. 4"
    signals, row = surface_signals(text), embedder.embed([text])[0]
    vector = encode_vector(signals, row, tables, "quiz")
    assert vector.dtype == np.float32
    assert vector[0] == 1.0
    known = tables.known(signals, row)
    np.testing.assert_allclose(known[:COMPONENTS], tables.components @ row - tables.offset, 1e-5)
    z = (signals.values - tables.signal_mean) * tables.signal_gain
    np.testing.assert_allclose(known[COMPONENTS:], np.clip(z, -tables.limit, tables.limit), 1e-5)
    np.testing.assert_array_equal(vector[1:TASK_START], tables.curved(known))
    np.testing.assert_array_equal(vector[TASK_START:], task_columns("quiz"))


def test_components_are_those_of_the_kernel(tables: FeatureTables) -> None:
    """They are the projected kernel to the landmarks, worked out here the long way."""
    known = np.random.default_rng(0).uniform(-0.6, 0.6, KNOWN).astype(np.float32)
    away = ((tables.landmarks - known) ** 2).sum(axis=1)
    kernel = KERNEL_HEIGHT * np.exp(-away / (2 * KERNEL_WIDTH**2))
    kernel += KERNEL_LINEAR * tables.landmarks @ known
    expected = tables.projection @ kernel - tables.centre
    np.testing.assert_allclose(tables.curved(known), expected, atol=1e-4)


@pytest.mark.parametrize("embedding", [None, np.zeros(256, np.float32)], ids=["none", "zero"])
def test_without_an_embedding_the_signals_remain(
    embedding: np.ndarray | None, embedder: StaticEmbedder, tables: FeatureTables
) -> None:
    """No embedding, or one of a text without tokens: its components are zero, the rest is not."""
    signals = surface_signals("What is 2+2?")
    with_it = tables.known(signals, embedder.embed(["What is 2+2?"])[0])
    without = tables.known(signals, embedding)
    assert not without[:COMPONENTS].any()
    np.testing.assert_array_equal(without[COMPONENTS:], with_it[COMPONENTS:])
    assert encode_vector(signals, embedding, tables)[1:TASK_START].any()


def test_one_vector_does_not_write_into_another(tables: FeatureTables) -> None:
    """A vector belongs to its caller."""
    signals = surface_signals("hello")
    first = encode_vector(signals, None, tables, "a")
    kept = first.copy()
    encode_vector(signals, None, tables, "a")[:] = 7.0
    np.testing.assert_array_equal(encode_vector(signals, None, tables, "a"), kept)


# --- tasks -----------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_a_task_is_two_signed_columns_of_norm_one(task: str) -> None:
    """Every label has the weight of the embedding's block, in two of the columns."""
    columns = task_columns(task)
    assert np.count_nonzero(columns) == 2
    assert float(columns @ columns) == pytest.approx(1.0)


def test_a_task_has_the_same_columns_everywhere() -> None:
    """The columns are the same in every process and release: stored vectors rely on it."""
    script = (
        "import json; from conduit.engines.features import task_columns;"
        "print(json.dumps([task_columns(t).tolist() for t in ('summarise', 'extract')]))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    half = np.float32(math.sqrt(0.5))
    expected = np.zeros((2, TASK_COLUMNS), np.float32)
    expected[0, [0, 1]] = -half, -half
    expected[1, [3, 5]] = -half, half
    np.testing.assert_array_equal(np.array(json.loads(printed), np.float32), expected)


def test_labels_differ_but_not_by_case_or_blanks() -> None:
    """Common labels have different columns; case and blanks around a label do not count."""
    labels = ("summarise", "extract", "translate", "classify", "chat", "code", "search", "rewrite")
    codes = {task_columns(label).tobytes() for label in labels}
    assert len(codes) == len(labels)
    np.testing.assert_array_equal(task_columns(" Summarise "), task_columns("summarise"))


def test_task_columns_cannot_be_written() -> None:
    """What is remembered for a label is read-only."""
    with pytest.raises(ValueError, match="read-only"):
        task_columns("chat")[0] = 1.0
