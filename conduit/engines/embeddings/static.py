"""The default embedder: a table of token vectors that lies in the package.

The table was distilled from all-MiniLM-L6-v2 (`benchmarks/fit/static_embedder.py`, `data/NOTICE`).
A text is the weighted mean of the rows of its tokens, at unit length: no network, no torch, and
0.1 ms for 20 words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conduit.engines.embeddings.base import Rows
from conduit.engines.embeddings.wordpiece import WordPieces, data_file

MANY: Final = 500  # tokens, from where on it is quicker to look each row up once


class StaticEmbedder:
    """Embeds a text as the weighted mean of its tokens' rows; loads in 30 ms, shares its pages."""

    id: Final = "static-minilm-256/1"
    blocking: Final = False

    def __init__(self) -> None:
        self._pieces = WordPieces()
        with resources.as_file(data_file("static-minilm-256.npy")) as path:
            # Mapped, not read: only the rows of words that occur are ever in memory.
            self._table: NDArray[np.int8] = np.asarray(np.load(path, mmap_mode="r"))
        with resources.as_file(data_file("static-minilm-256.scales.npy")) as path:
            self._scales: NDArray[np.float32] = np.load(path)
        self._dim = int(self._table.shape[1])

    @property
    def dim(self) -> int:
        """The length of every vector."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Rows:
        """Return one row of unit length per text; a text without any token is a row of zeros."""
        rows = np.zeros((len(texts), self._dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            self._embed_into(row, text)
        return rows

    def _embed_into(self, row: NDArray[np.float32], text: str) -> None:
        ids = self._pieces.ids(text)
        if not ids:
            return
        places = np.array(ids, np.intp)
        if len(ids) <= MANY:
            weights = self._scales.take(places)
        else:
            places, counts = np.unique(places, return_counts=True)
            weights = self._scales.take(places) * counts.astype(np.float32)
        found = self._table.take(places, axis=0).astype(np.float32)
        weights.dot(found, out=row)
        square = float(row.dot(row))
        if square > 0.0:
            row /= math.sqrt(square)
