"""What is kept of a query's wording so that the next one can be compared with it: never a word.

A word becomes a key (a hash of its stem, or of the commonest of its synonyms), bitmaps of its
letters and letter pairs (typos and cognates share most of them) and flags. Function words of
English, German, French, Spanish, Italian and Portuguese carry the frame of a question ("what is
the ... of"), the other words its matter.
"""

# ruff: noqa: RUF001  (typographic apostrophes are meant)

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar

from conduit.feedback.lexicon import (
    AMOUNTS,
    APPROVAL,
    ARTICLES,
    ASKED_WITHIN,
    ASPECTS,
    COMMANDS,
    COMPARES,
    COMPLAINT,
    FORMS,
    FUNCTION_WORDS,
    GENERIC,
    LATE_COMPLAINT,
    NUMBERS,
    OPENERS,
    QUESTION_WORDS,
    QUOTED,
    REFERS,
    SEQUEL,
    STEM_CHARS,
    STEM_ENDINGS,
    TOKEN,
    WHETHER,
    WHETHER_IN_GERMAN,
    YOU,
    Asks,
    Cue,
    plain,
)
from conduit.feedback.synonyms import HASTY, PHRASE_STARTS, PHRASES, SAME

# Of a longer text, three parts of this size are read: its head, its middle and its tail.
PART_CHARS: Final = 400
MAX_WORDS: Final = 48  # kept of a text, a third from either end and from the middle
_PAIR_BITS: Final = 56
_PAIRS: Final = (1 << _PAIR_BITS) - 1
_FEWEST_PAIRS: Final = 4  # a shorter word is compared as a whole only
_LABEL_CHARS: Final = 400
_SAME_LETTERS: Final = 0.15
_QUOTE_CHARS: Final = 60  # a longer quotation is text, not a word that is spoken of
GENERIC_WEIGHT: Final = 0.5  # "explain", "best": what many queries have in common

_COMMAND, _APPROVAL, _COMPLAINT, _SEQUEL, _REFERS, _COMPARES = (
    int(cue)
    for cue in (
        Cue.COMMAND,
        Cue.APPROVAL,
        Cue.COMPLAINT,
        Cue.SEQUEL,
        Cue.REFERS,
        Cue.COMPARES,
    )
)

T = TypeVar("T")


# What a word is beside its letters; plain numbers, since flags of an enum cost a call each.
GENERIC_WORD: Final = 1
NUMBER: Final = 2
NAME: Final = 4
ASPECT: Final = 8  # what is asked of a thing, or done to it
FORM: Final = 16  # how an answer is to look


class Word(NamedTuple):
    """One word of the matter of a query."""

    key: int
    pairs: int
    letters: int
    traits: int

    @property
    def weight(self) -> float:
        """How much of a query's matter the word carries."""
        return GENERIC_WEIGHT if self.traits & GENERIC_WORD else 1.0


class _Token(NamedTuple):
    word: str  # in its plain form
    named: bool  # written like a name
    quoted: bool


_WORD_FORMAT: Final = struct.Struct("<IQIB")


@dataclass(frozen=True, slots=True)
class Wording:
    """The wording of one query, packed."""

    matter: bytes = b""
    frame: bytes = b""  # two bytes for every word but articles, in their order
    language: str = ""
    cues: int = 0
    asks: int = 0
    label: int = 0  # how many words of the frame stand before the first colon

    def words(self) -> list[Word]:
        """Return the words of the matter in their order."""
        return [*map(Word._make, _WORD_FORMAT.iter_unpack(self.matter))]

    def frame_words(self) -> tuple[int, ...]:
        """Return the words of the frame in their order, as numbers."""
        return struct.unpack(f"<{len(self.frame) // 2}H", self.frame)


# --- reading ----------------------------------------------------------------------------------


def wording_of(text: str) -> Wording:
    """Return the packed wording of a text."""
    if len(text) > 3 * PART_CHARS:
        half = (len(text) - PART_CHARS) // 2
        parts = text[:PART_CHARS], text[half : half + PART_CHARS], text[-PART_CHARS:]
        text = " ".join(parts)
    tokens = _tokens(text)
    words = [token.word for token in tokens]
    language = _language(words)
    functional = FUNCTION_WORDS[language]
    told = [(token, token.word in functional and not token.quoted) for token in tokens]
    matter = list({token.word: token for token, function in told if not function}.values())
    return Wording(
        matter=_packed(_thinned(matter), language),
        frame=b"".join(_framed(t.word, f) for t, f in _thinned(told) if t.word not in ARTICLES),
        label=_label(text),
        language=language,
        cues=_cues(text, words),
        asks=int(_asks(words, language)),
    )


def text_digest(text: str) -> bytes:
    """Return eight bytes, equal for short texts that differ only in case, blanks and end marks."""
    if len(text) <= 3 * PART_CHARS:
        text = " ".join(text.casefold().split()).rstrip(" .?!")
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def _tokens(text: str) -> list[_Token]:
    """Return the words of a text, each with what its spelling tells."""
    text = text.replace("’", "'")
    quotes = [q.span() for q in QUOTED.finditer(text) if q.end() - q.start() <= _QUOTE_CHARS]
    found, before = [], ""
    for match in TOKEN.finditer(text):
        token = match[0]
        if token[0].isalnum():
            quoted = bool(quotes) and any(a < match.start() < b for a, b in quotes)
            shouted = token.isupper() and len(token) > 1
            named = quoted or shouted or (token[0].isupper() and before not in OPENERS)
            word = plain(token.removesuffix("'s"))
            word = HASTY.get(word) or NUMBERS.get(word, word)
            found.append(_Token(word, named, quoted))
        before = token
    return _joined(found)


def _joined(tokens: list[_Token]) -> list[_Token]:
    """Return the tokens, two that are as good as one word as that word."""
    if PHRASE_STARTS.isdisjoint([token.word for token in tokens]):
        return tokens
    found: list[_Token] = []
    for token in tokens:
        whole = PHRASES.get((found[-1].word, token.word)) if found else None
        if whole is None:
            found.append(token)
        else:
            found[-1] = _Token(whole, False, found[-1].quoted)
    return found


def _label(text: str) -> int:
    """Return how many words, articles left out, a text puts before its first colon."""
    head, colon, _ = text[:_LABEL_CHARS].partition(":")
    words = [token.word for token in _tokens(head)] if colon else []
    return min(sum(word not in ARTICLES for word in words), MAX_WORDS // 3)


def _language(words: Sequence[str]) -> str:
    """Return the language most function words belong to; English where nothing tells."""
    counts = {
        language: sum(map(functional.__contains__, words))
        for language, functional in FUNCTION_WORDS.items()
    }
    return max(counts, key=counts.__getitem__)


def _thinned(items: Sequence[T]) -> Sequence[T]:
    if len(items) <= MAX_WORDS:
        return items
    third, half = MAX_WORDS // 3, (len(items) - MAX_WORDS // 3) // 2
    return [*items[:third], *items[half : half + third], *items[-third:]]


def _packed(matter: Sequence[_Token], language: str) -> bytes:
    return b"".join(
        _word(token.word, token.named and language != "de")  # where every noun is written so
        for token in matter
    )


@lru_cache(maxsize=4096)
def _word(word: str, named: bool) -> bytes:
    number = word[0].isdigit()
    traits = GENERIC_WORD * (word in GENERIC) | NUMBER * number | NAME * (named and not number)
    root = stem(word)
    traits |= ASPECT * (root in _ASPECT_STEMS) | FORM * (word in FORMS)
    key = int.from_bytes(_hashed(root, 4), "little")
    return _WORD_FORMAT.pack(key, letter_pairs(word), letter_set(word), traits)


def stem(word: str) -> str:
    """Return what stands for a word, its forms, and the commonest of its synonyms."""
    if word[0].isdigit():
        return word
    if word in SAME:
        return SAME[word]
    for ending, put in STEM_ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= STEM_CHARS:
            return word[: -len(ending)] + put
    return word


_ASPECT_STEMS: Final = frozenset(map(stem, ASPECTS))


@lru_cache(maxsize=4096)
def _framed(word: str, functional: bool) -> bytes:
    """Return two bytes for a word; the two lowest bits tell how much matter it carries."""
    low, high = _hashed(word if functional else stem(word), 2)
    return bytes((low & 0xFC | _burden(word, functional), high))


def _burden(word: str, functional: bool) -> int:
    if functional:
        return 0
    return 3 if word[0].isdigit() else 1 if word in GENERIC else 2


def letter_pairs(word: str) -> int:
    """Return a bitmap of the letter pairs of a word, under a byte for its first letter."""
    bits = 0
    for a, b in zip(f"^{word}", f"{word}$", strict=True):
        bits |= 1 << (ord(a) * 31 + ord(b)) * 0x9E3779B1 % 0xFFFFFFFB % _PAIR_BITS
    return (ord(word[0]) & 0xFF) << _PAIR_BITS | bits


def letter_set(word: str) -> int:
    """Return a bitmap of the letters of a word."""
    bits = 0
    for letter in word:
        bits |= 1 << ord(letter) % 32
    return bits


def initial(word: Word) -> int:
    """Return a byte for the first letter of a word."""
    return word.pairs >> _PAIR_BITS


def letters_alike(a: Word, b: Word) -> float:
    """Return how far two words share their letter pairs; 0 for numbers and other initials.

    A typo seldom changes the first letter; "methanol" and "disadvantage" do. Two letters that
    changed places cost three pairs, but no letter.
    """
    if initial(a) != initial(b) or (a.traits | b.traits) & NUMBER:
        return 0.0
    mine, yours = a.pairs & _PAIRS, b.pairs & _PAIRS
    few, many = sorted((mine.bit_count(), yours.bit_count()))
    if few < _FEWEST_PAIRS:
        return 0.0
    share = 2.0 * (mine & yours).bit_count() / (few + many)
    return share + _SAME_LETTERS * (a.letters == b.letters)


def _hashed(word: str, size: int) -> bytes:
    return blake2b(word.encode(), digest_size=size).digest()


def _asks(words: Sequence[str], language: str) -> Asks:
    """Return what kind of answer is wanted, by the first question word of the opening."""
    if words[:2] == ["is", "there"] and "way" in words[2:4]:
        return Asks.HOW
    openings = WHETHER_IN_GERMAN if language == "de" else WHETHER
    if words and words[0] in openings:
        asked_of_you = len(words) > 1 and words[1] in YOU
        return Asks.ANYTHING if asked_of_you else Asks.WHETHER
    for word, following in zip(words[:ASKED_WITHIN], (*words[1:], ""), strict=False):
        kind = QUESTION_WORDS.get(word)
        if kind is Asks.HOW and following in AMOUNTS:
            return Asks.AMOUNT
        if kind is not None:
            return kind
    return Asks.ANYTHING


def _cues(text: str, words: Sequence[str]) -> int:
    opening = QUOTED.sub(" ", text[:300].replace("’", "'").lower())
    cues = 0  # plain numbers, since flags of an enum cost a call each
    if plain(opening.strip(" .!?")) in COMMANDS:
        cues |= _COMMAND
    if APPROVAL.match(opening):
        cues |= _APPROVAL
    if COMPLAINT.match(opening) or LATE_COMPLAINT.search(opening):
        cues |= _COMPLAINT
    if SEQUEL.search(opening):
        cues |= _SEQUEL
    if not REFERS.isdisjoint(words):
        cues |= _REFERS
    if not COMPARES.isdisjoint(words):
        cues |= _COMPARES
    return cues
