"""The default embedder: a table of token vectors that lies in the package.

The table was distilled from all-MiniLM-L6-v2 (`benchmarks/fit/static_embedder.py`, `data/NOTICE`).
A text is the weighted mean of the rows of its tokens, at unit length: no network, no torch, and
0.1 ms for 20 words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from conduit.engines.embeddings.base import Rows

WORDS_KEPT: Final = 10_000  # with their pieces, about 2 MB
UNSEEN: Final = 64  # words to learn from one text; with more, it is quicker to encode it whole
LONGEST_WORD: Final = 32  # characters; what is longer is seldom a word
_PARTS: Final = re.compile(rb"[a-z0-9]+|[^a-z0-9]")
_WORDS: Final = re.compile(  # a Chinese character is a word, as the tokenizer has it too
    r"[\u3400-\u4dbf\u4e00-\u9fff]|[^ \t\n\r\u3400-\u4dbf\u4e00-\u9fff]+"
)
_LOWER: Final = bytes(range(256)).lower()
_CONTROL: Final = bytes({*range(32), 127} - set(b"\t\n\r"))  # dropped, not split at
_DATA: Final = "conduit.engines.embeddings"


def data_file(name: str) -> Traversable:
    """Return a file of the package's embedding data."""
    return resources.files(_DATA) / "data" / name


def wordpiece() -> Tokenizer:
    """Return the uncased BERT tokenizer, without special tokens, padding or truncation."""
    with resources.as_file(data_file("vocab.txt")) as path:
        tokenizer = Tokenizer(WordPiece.from_file(str(path), unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def encodable(text: str) -> str:
    """Return the text as the Rust tokenizer takes it: lone surrogates become question marks."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


class StaticEmbedder:
    """Embeds a text as the weighted mean of its tokens' rows; loads in 30 ms, shares its pages."""

    id: Final = "static-minilm-256/1"
    blocking: Final = False

    def __init__(self) -> None:
        self._tokenizer = wordpiece()
        with resources.as_file(data_file("static-minilm-256.npy")) as path:
            # Mapped, not read: only the rows of words that occur are ever in memory.
            self._table: NDArray[np.int8] = np.asarray(np.load(path, mmap_mode="r"))
        with resources.as_file(data_file("static-minilm-256.scales.npy")) as path:
            self._scales: NDArray[np.float32] = np.load(path)
        self._dim = int(self._table.shape[1])
        self._known: dict[str | bytes, tuple[int, ...]] = {}

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
        ids = self._ids(text)
        if not ids:
            return
        places = np.array(ids, np.intp)
        found = self._table.take(places, axis=0).astype(np.float32)
        self._scales.take(places).dot(found, out=row)
        square = float(row.dot(row))
        if square > 0.0:
            row /= math.sqrt(square)

    def _ids(self, text: str) -> list[int]:
        """Return the token ids, word by word.

        Word pieces never reach across blanks, so the pieces of a word seen before are remembered;
        that is ten times as fast as asking the tokenizer for every text.
        """
        words: Sequence[str | bytes]
        if text.isascii():  # bytes are lowered and split in one pass each
            words = text.encode().translate(_LOWER, _CONTROL).split()
        else:
            words = _WORDS.findall(encodable(text))
        known = self._known
        ids: list[int] = []
        unseen = 0
        for word in words:
            pieces = known.get(word)
            if pieces is None:
                unseen += 1
                if unseen > UNSEEN:
                    return list(self._encoded(encodable(text)))
                pieces = self._remembered(word)
            ids += pieces
        return ids

    def _remembered(self, word: str | bytes) -> tuple[int, ...]:
        """Return the ids of a word, of which ASCII is in small letters with the marks around it."""
        if isinstance(word, str):
            return self._kept(word, self._encoded(word))
        parts = _PARTS.findall(word)
        if len(parts) == 1:
            return self._kept(word, self._looked_up(parts[0].decode()))
        ids: list[int] = []  # a tuple that grew would be copied for every part of a long word
        for part in parts:
            ids += self._known.get(part) or self._remembered(part)
        return self._kept(word, tuple(ids))

    def _looked_up(self, part: str) -> tuple[int, ...]:
        """Return the ids of letters and digits, or of one mark: mostly a token of its own."""
        whole = self._tokenizer.token_to_id(part)
        return self._encoded(part) if whole is None else (whole,)

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _kept(self, word: str | bytes, ids: tuple[int, ...]) -> tuple[int, ...]:
        if len(self._known) >= WORDS_KEPT:
            self._known.clear()
        if len(word) <= LONGEST_WORD:
            self._known[word] = ids
        return ids
