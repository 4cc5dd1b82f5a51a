"""The default embedder: what it ships, what it costs, and what the numbers are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.fit.static_embedder import FILES, tokenizer
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.engines.embeddings.wordpiece import data_file


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Return the default embedder."""
    return StaticEmbedder()


def test_a_row_is_the_weighted_mean_of_its_tokens(embedder: StaticEmbedder) -> None:
    """An embedding is the sum of scale times row over the tokens, brought to unit length."""
    text = "The enzyme unwinds DNA; the enzyme stops."
    ids = tokenizer().encode(text, add_special_tokens=False).ids
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
    assert sum(len(data_file(name).read_bytes()) for name in FILES) < 9_000_000
