"""What every `Embedder` must do, as a suite to run on an implementation.

```python
class TestMyEmbedder(EmbedderContract):
    def make(self) -> Embedder:
        return MyEmbedder()
```

Each test makes its own embedder; one whose weights load slowly may be kept in a module's fixture or
behind `functools.cache`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from conduit.engines.embeddings.base import Embedder

BLOCKING_ABOVE_S = 0.002
SAME = 1e-5  # two unit rows of one text differ by less, whatever stands beside it in the batch

PLAIN = (
    "What is 2+2?",
    "Write a short poem about autumn leaves.",
    "Which enzyme unwinds the double helix of DNA?",
)
STRANGE = (
    "",
    " \t\r\n",
    "\x00",
    "a\x00b",
    "\ud800 half of a pair",
    "\udfff\ud800",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a",
    "\U0001f642" * 50,
    "e\u0301\u0301\u0301",
    "x" * 4000,
    "[CLS] [SEP] [PAD] [UNK] [MASK]",
)
NEAR = ("How do I sort a list in Python?", "Sorting lists with Python code")
FAR = "The patient's blood pressure fell after the surgery."


class EmbedderContract:
    """Subclass it and say in `make` how an embedder is made."""

    same = SAME

    def make(self) -> Embedder:
        """Return an embedder."""
        raise NotImplementedError

    def test_it_says_what_it_is(self) -> None:
        """Its id is a name that does not change, its dimension and `blocking` are what they say."""
        embedder, again = self.make(), self.make()
        assert isinstance(embedder, Embedder)
        assert embedder.id
        assert embedder.id == again.id
        assert embedder.id.isprintable()
        assert embedder.dim > 0
        assert isinstance(embedder.blocking, bool)

    def test_one_unit_row_per_text(self) -> None:
        """It returns float32 rows of unit length, one per text, in their order."""
        embedder = self.make()
        rows = embedder.embed(PLAIN)
        assert rows.shape == (len(PLAIN), embedder.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-4)
        for text, row in zip(PLAIN, rows, strict=True):
            np.testing.assert_allclose(embedder.embed([text])[0], row, atol=self.same)

    def test_no_texts_no_rows(self) -> None:
        """An empty batch is an array of no rows and the right width."""
        embedder = self.make()
        assert embedder.embed([]).shape == (0, embedder.dim)

    def test_the_same_text_is_the_same_row(self) -> None:
        """Two embedders made alike give the same row, and a caller who writes in it harms none."""
        first, second = self.make(), self.make()
        kept = first.embed(PLAIN)
        spoiled = first.embed(PLAIN)
        spoiled[:] = 0.0
        np.testing.assert_allclose(first.embed(PLAIN), kept, atol=self.same)
        np.testing.assert_allclose(second.embed(PLAIN), kept, atol=self.same)

    def test_every_text_has_a_finite_row(self) -> None:
        """No text breaks it: a row has unit length, or is all zero where there is nothing in it."""
        embedder = self.make()
        for text in STRANGE:
            row = embedder.embed([text])[0]
            assert np.isfinite(row).all(), ascii(text)
            length = float(np.linalg.norm(row))
            assert abs(length - 1.0) < 1e-4 or length == 0.0, ascii(text)

    def test_alike_texts_are_nearer(self) -> None:
        """Two phrasings of one question are nearer to each other than to another subject."""
        one, other, far = self.make().embed((*NEAR, FAR))
        assert one @ other > one @ far
        assert one @ other > other @ far

    def test_threads_may_share_it(self) -> None:
        """Calls from several threads at once give what one thread gets."""
        embedder = self.make()
        alone = embedder.embed(PLAIN)
        with ThreadPoolExecutor(4) as pool:
            for rows in pool.map(embedder.embed, [PLAIN] * 8):
                np.testing.assert_allclose(rows, alone, atol=self.same)

    def test_it_says_whether_it_blocks(self) -> None:
        """One that calls itself quick embeds a short text in less than 2 ms of its own time."""
        embedder = self.make()
        if embedder.blocking:
            return
        embedder.embed(PLAIN[:1])
        spent_s = []
        for _ in range(5):
            start_s = time.thread_time()
            embedder.embed(PLAIN[:1])
            spent_s.append(time.thread_time() - start_s)
        assert min(spent_s) < BLOCKING_ABOVE_S


__all__ = ["EmbedderContract"]
