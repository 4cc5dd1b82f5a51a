"""What the heads read off a text: its domain, and how hard it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fit.head_fitting import Lexicon
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.features import surface_signals
from conduit.engines.heads import DOMAINS, analyse, heads, rows_of, said_by_words, vocabulary

STATIC = StaticEmbedder.id

ANY_TEXT = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs"]), st.just("\x00")), max_size=200
)


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Return the default embedder."""
    return StaticEmbedder()


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("What is 2+2?", "mathematics"),
        ("Solve x^2 - 5x + 6 = 0", "mathematics"),
        ("Write a Python function that removes duplicates from a list", "code"),
        ("Why does the density of water fall when it freezes?", "natural science"),
        ("What are the symptoms of appendicitis?", "medicine"),
        ("Can a landlord evict a tenant without a court order?", "law"),
        ("What did Kant mean by the categorical imperative?", "humanities"),
        ("How does a central bank's interest rate affect unemployment?", "social science"),
        ("How should a company recognise deferred revenue on its balance sheet?", "business"),
        ("Write a short poem about the sea", "writing"),
        ("Hi, how are you?", "general"),
    ],
)
def test_plain_questions_have_their_domain(
    text: str, domain: str, embedder: StaticEmbedder
) -> None:
    """A plain question of each domain is taken for what it is."""
    found = analyse(surface_signals(text), embedder.embed([text])[0], embedder.id)
    assert found.domain == domain
    assert found.domain_confidence > 1 / len(DOMAINS)


def test_guessing_among_ten_is_harder_than_a_greeting(embedder: StaticEmbedder) -> None:
    """A hard question with ten options is more complex than an easy open one."""
    hard = (
        "Evaluate the surface integral of the curl of F over the upper half of the ellipsoid.\n"
        + "\n".join(f"{letter}. {index}π/3" for index, letter in enumerate("ABCDEFGHIJ"))
    )
    scores = [
        analyse(surface_signals(text), embedder.embed([text])[0], embedder.id).complexity_score
        for text in (hard, "What is the capital of France?\nA. Paris\nB. Rome\nC. Bonn\nD. Oslo")
    ]
    assert scores[0] > scores[1] + 0.2


@given(ANY_TEXT, st.sampled_from([STATIC, "somebody/else"]), st.booleans())
@settings(deadline=None)
def test_every_reading_is_a_probability(text: str, embedder_id: str, embedded: bool) -> None:
    """Complexity and confidence are probabilities for every text, embedder and failure."""
    row = StaticEmbedder().embed([text])[0] if embedded and embedder_id == STATIC else None
    found = analyse(surface_signals(text), row, embedder_id)
    assert 0.0 <= found.complexity_score <= 1.0
    assert found.domain in DOMAINS
    assert 1 / len(DOMAINS) <= found.domain_confidence <= 1.0 + 1e-6


def test_an_unknown_space_is_read_from_signals_alone(embedder: StaticEmbedder) -> None:
    """An embedding that no head was fitted on is not looked at, nor is one of no tokens."""
    signals = surface_signals(
        "Write a Python function:\n```python\ndef f(x):\n    return x + 1\n```"
    )
    alone = analyse(signals, None, STATIC)
    assert analyse(signals, np.ones(12, np.float32), "somebody/else") == alone
    assert analyse(signals, np.zeros(256, np.float32), STATIC) == alone
    assert alone.domain == "code"


def test_one_known_word_says_what_its_row_holds() -> None:
    """A text's words count at unit length: one alone says its row over its rarity."""
    table = heads("static").words
    row = table[vocabulary()[b"photosynthesis"]]
    for text in ("photosynthesis", "Photosynthesis zzzqqq photosynthesis?"):
        found = said_by_words(rows_of(surface_signals(text)), table)
        np.testing.assert_allclose(found, row[:-1] / np.sqrt(row[-1]), rtol=1e-5)


def test_words_that_nobody_knows_say_nothing() -> None:
    """Without a known word the words add nothing to any head."""
    assert not said_by_words(rows_of(surface_signals("zzzqqq 你好")), heads("static").words).any()


@given(ANY_TEXT)
def test_the_order_of_words_does_not_matter_to_heads(text: str) -> None:
    """The same words in another order say the same."""
    table = heads("surface").words
    words = ["law", *text.split(), "court"]
    forward, backward = (" ".join(each) for each in (words, words[::-1]))
    np.testing.assert_allclose(
        said_by_words(rows_of(surface_signals(forward)), table),
        said_by_words(rows_of(surface_signals(backward)), table),
        atol=1e-4,
    )


def test_signals_do_not_show_the_words_they_hold() -> None:
    """The words of a prompt stay out of what is printed of its signals."""
    assert "ludmilla" not in repr(surface_signals("Is Ludmilla well?")).lower()


def test_what_is_fitted_is_what_is_read() -> None:
    """The rows of words that heads are fitted on say what the package reads off a text."""
    table = heads("static").words
    lexicon = Lexicon(vocabulary(), np.sqrt(table[:, -1].astype(np.float64)))
    texts = ("What is photosynthesis?", "Can a court evict a tenant? A court can.", "zzzqqq")
    signals = [surface_signals(text) for text in texts]
    fitted = lexicon.rows(signals) @ (table[:, :-1] / np.maximum(lexicon.rarity, 1e-9)[:, None])
    read = [said_by_words(rows_of(each), table) for each in signals]
    np.testing.assert_allclose(fitted, read, rtol=1e-3, atol=1e-3)
