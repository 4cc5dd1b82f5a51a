"""The default embedder: what it ships, what it costs, and what the numbers are."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.engines.embeddings.static import StaticEmbedder, data_file, encodable, wordpiece

wordpiece_once = cache(wordpiece)


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Return the default embedder."""
    return StaticEmbedder()


def test_a_row_is_the_weighted_mean_of_its_tokens(embedder: StaticEmbedder) -> None:
    """An embedding is the sum of scale times row over the tokens, brought to unit length."""
    text = "The enzyme unwinds DNA; the enzyme stops."
    ids = wordpiece().encode(text, add_special_tokens=False).ids
    table = np.load(str(data_file("static-minilm-256.npy")))
    scales = np.load(str(data_file("static-minilm-256.scales.npy")))
    total = sum(scales[token] * table[token].astype(np.float64) for token in ids)
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(embedder.embed([text])[0], expected, atol=1e-6)


def test_the_order_of_words_does_not_matter(embedder: StaticEmbedder) -> None:
    """It is a bag of tokens: the same words in another order are the same row."""
    forward, backward = embedder.embed(["dogs chase cats", "cats chase dogs"])
    np.testing.assert_allclose(forward, backward, atol=1e-6)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00", "x" * 4000])
def test_nothing_to_embed_is_a_row_of_zeros(text: str, embedder: StaticEmbedder) -> None:
    """A text without a token that the table knows is all zero, not a division by zero."""
    assert not embedder.embed([text]).any()


def test_rare_words_weigh_more_than_common_ones(embedder: StaticEmbedder) -> None:
    """Beside a rare word, an article hardly moves the row."""
    plain, dressed, other = embedder.embed(["mitochondria", "the mitochondria", "the carburetor"])
    assert plain @ dressed > 0.95
    assert dressed @ other < 0.5


def test_no_token_is_cut_off(embedder: StaticEmbedder) -> None:
    """The last word of a long text counts as much as the first."""
    filler = "and so on " * 900
    first, last = embedder.embed(["mitochondria " + filler, filler + "mitochondria"])
    np.testing.assert_allclose(first, last, atol=1e-5)


@given(
    st.text(
        st.one_of(
            st.characters(),
            st.characters(categories=["Cs"]),
            st.characters(min_codepoint=0x3300, max_codepoint=0xA100),
            st.sampled_from(" \n\t\x00ab'?中\u0301\u3000\xa0\u2028"),
        ),
        max_size=60,
    )
)
def test_tokens_are_those_of_the_tokenizer(embedder: StaticEmbedder, text: str) -> None:
    """Splitting a text and remembering its words changes no token."""
    whole = wordpiece_once().encode(encodable(text), add_special_tokens=False).ids
    assert embedder._ids(text) == whole


@pytest.mark.parametrize("text", ["w{} ", "{}é ", "字{}", "?{}!"])
def test_many_new_words_are_the_tokenizers_too(text: str) -> None:
    """A text with more new words than are learned at once has the same tokens, then and later."""
    fresh = StaticEmbedder()
    whole = "".join(text.format(i) for i in range(300))
    expected = wordpiece_once().encode(whole, add_special_tokens=False).ids
    assert all(fresh._ids(whole) == expected for _ in range(6))


def test_a_word_of_many_marks_takes_time_by_its_length(embedder: StaticEmbedder) -> None:
    """Marks without a blank are one word of very many parts; they are not gone over again."""
    began_s = time.thread_time()
    embedder.embed(["?x" * 100_000])
    assert time.thread_time() - began_s < 5.0  # 0.1 s; by the square of the length, a minute


@given(st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=100))
def test_every_text_can_be_encoded(text: str) -> None:
    """Lone surrogates become question marks; every other text is left as it is."""
    clean = encodable(text)
    clean.encode("utf-8")
    assert len(clean) == len(text)
    if not any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        assert clean == text


def test_loading_is_small() -> None:
    """In a fresh process it takes less than 40 MB, numpy aside."""
    script = (
        "import numpy\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6\n"
        "before_mb = rss()\n"
        "from conduit.engines.embeddings.static import StaticEmbedder\n"
        "StaticEmbedder().embed(['What is 2+2?'])\n"
        "print(rss() - before_mb)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 40.0


def test_what_ships_is_licensed_and_small() -> None:
    """Beside the weights lie their licence and what was changed; all of it is below 9 MB."""
    licence = data_file("LICENSE-all-MiniLM-L6-v2").read_text("utf-8")
    notice = data_file("NOTICE").read_text("utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert "all-MiniLM-L6-v2" in notice
    assert "Changes" in notice
    names = ("static-minilm-256.npy", "static-minilm-256.scales.npy", "vocab.txt")
    assert sum(len(data_file(name).read_bytes()) for name in names) < 9_000_000
