"""WordPiece, uncased: the tokens of a text, in time linear in its length whatever it is made of.

The tokens are those of BERT's tokenizer. That one compares a word with its vocabulary once for
every end a token might have, and Python waits meanwhile: 4,000 characters of Greek letters without
sense take 17 ms. Here only those lengths are tried that tokens with the same first letters have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from tokenizers.normalizers import BertNormalizer

from conduit.engines.surface import clip_text

WORDS_KEPT: Final = 10_000  # with their tokens, about 2 MB
UNSEEN: Final = 64  # words to learn from one text; with more, it is quicker to read it whole
UNSEEN_WIDE: Final = 16  # beyond ASCII, where a word by itself takes five times as long
DENSE: Final = 1.5  # bytes per character, above which a script says more in one than Latin does
MOST_DENSE: Final = 2_400  # characters of such a script: the first and the last half stand for more
LONGEST_KEPT: Final = 32  # characters; what is longer is seldom a word
LONGEST_WORD: Final = 100  # characters; what is longer is one unknown token
LEAD: Final = 2  # letters that say how long a token may be
_ONE: Final = (1,)
_LATER: Final = "##"  # before a token that goes on with a word
_UNKNOWN: Final = "[UNK]"
_CHINESE: Final = (
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0002a6df\U0002a700-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f"
)
# A Chinese character is a word, as the tokenizer has it too.
_WORDS: Final = re.compile(rf"[{_CHINESE}]|[^ \t\n\r{_CHINESE}]+")
_LOWER: Final = bytes(range(256)).lower()
_CONTROL: Final = bytes({*range(32), 127} - set(b"\t\n\r"))  # dropped, not split at
_DATA: Final = "conduit.engines.embeddings"


def data_file(name: str) -> Traversable:
    """Return a file of the package's embedding data."""
    return resources.files(_DATA) / "data" / name


def encodable(text: str) -> str:
    """Return the text as a Rust tokenizer takes it: lone surrogates become question marks."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _enough(text: str) -> str:
    """Return the text, or what stands for it where it is long and of a dense script."""
    if len(text) <= MOST_DENSE or len(text.encode("utf-8", "replace")) <= DENSE * len(text):
        return text
    return clip_text(text, MOST_DENSE, between=" ")


def _mark_or_run(marks: str) -> re.Pattern[str]:
    """Return what matches one of the marks, or as many other characters as there are.

    Characters beyond 16 bits are compared with one range of marks after another, so what can be
    told without them is.
    """
    common = re.escape("".join(mark for mark in marks if mark <= "\uffff"))
    every = re.escape(marks)
    beyond = "\U00010000-\U0010ffff"
    return re.compile(rf"[{common}]|[^{common}{beyond}]+[^{every}]*|[^{every}]+|[{every}]")


class Pieces:
    """Tokens by their letters: those that open a word, or those that go on with one."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids: Final = ids
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for letters in ids:
            lengths[letters[:LEAD]].add(len(letters))
        self.lengths: Final[Mapping[str, Sequence[int]]] = {  # by first letters, longest first
            lead: sorted(found | {1}, reverse=True) for lead, found in lengths.items()
        }


class WordPieces:
    """Knows the tokens of every text, and by heart those of words that it met before."""

    def __init__(self) -> None:
        tokens = data_file("vocab.txt").read_text("utf-8").splitlines()
        rows = range(len(tokens))
        self._unknown = tokens.index(_UNKNOWN)
        self.opening = Pieces({tokens[i]: i for i in rows if not tokens[i].startswith(_LATER)})
        later = (i for i in rows if tokens[i].startswith(_LATER))
        self.later = Pieces({tokens[i].removeprefix(_LATER): i for i in later})
        self._parts = _mark_or_run(data_file("marks.txt").read_text("utf-8"))
        self._normalised = BertNormalizer().normalize_str
        self._known: dict[str, tuple[int, ...]] = {}

    @property
    def remembered(self) -> int:
        """Return how many words are known by heart."""
        return len(self._known)

    def ids(self, text: str) -> list[int]:
        """Return the token ids, word by word.

        Tokens never reach across blanks, so those of a word seen before are remembered.
        """
        if text.isascii():
            words, most = self._clean(text).split(), UNSEEN
        else:
            words, most = _WORDS.findall(encodable(_enough(text))), UNSEEN_WIDE
        known = self._known
        ids: list[int] = []
        unseen = 0
        rest = iter(words)
        for word in rest:
            found = known.get(word)
            if found is None:
                unseen += 1
                if unseen > most:
                    return ids + self._read(" ".join((word, *rest)))
                found = self._remembered(word)
            ids += found
        return ids

    def _remembered(self, word: str) -> tuple[int, ...]:
        ids = tuple(self._read(word))
        if len(self._known) >= WORDS_KEPT:
            self._known.clear()
        if len(word) <= LONGEST_KEPT:
            self._known[word] = ids
        return ids

    def _clean(self, text: str) -> str:
        """Return a text in small letters, without accents and control characters."""
        if text.isascii():  # as the normaliser has it, in one pass over bytes
            return text.encode().translate(_LOWER, _CONTROL).decode()
        return self._normalised(text)

    def _read(self, text: str) -> list[int]:
        return self._looked_up(self._clean(text).split(), self._taken_apart)

    def _looked_up(
        self, words: Sequence[str], otherwise: Callable[[str], Iterable[int]]
    ) -> list[int]:
        """Return the ids of words, and what `otherwise` makes of each that is no token."""
        ids: list[int] = []
        for word, whole in zip(words, map(self.opening.ids.get, words), strict=True):
            if whole is None:
                ids += otherwise(word)
            else:
                ids.append(whole)
        return ids

    def _taken_apart(self, word: str) -> Iterable[int]:
        """Return the ids of a word that is no token, and may have marks in it."""
        if len(word) == 1:
            return (self._unknown,)
        if word.isalnum():
            return self._split(word)
        return self._looked_up(self._parts.findall(word), self._split)

    def _split(self, word: str) -> Iterable[int]:
        """Return the longest token that opens a word, the longest that goes on, and so forth."""
        if len(word) > LONGEST_WORD:
            return (self._unknown,)
        ids: list[int] = []
        at, end, pieces = 0, len(word), self.opening
        while at < end:
            known = pieces.ids
            for length in pieces.lengths.get(word[at : at + LEAD], _ONE):
                if at + length > end:
                    continue
                found = known.get(word[at : at + length])
                if found is not None:
                    break
            else:
                return (self._unknown,)  # a word that tokens do not make up to its end is none
            ids.append(found)
            at += length
            pieces = self.later
        return ids
