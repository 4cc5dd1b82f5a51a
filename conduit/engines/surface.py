"""Surface signals: what can be read off a text in one pass, without knowing what it means.

Nothing here looks at a clock, a setting or the network, and nothing is fitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import log1p, sqrt
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CLIP_CHARS = 4_000  # the first and the last half of it stand for a longer text

SURFACE_NAMES: tuple[str, ...] = (
    "length",
    "stem_length",
    "options",
    "digit_share",
    "operators",
    "code",
    "newlines",
    "asks_fact",
    "asks_reason",
    "asks_quantity",
    "question_mark",
    "bullets",
    "negation",
    "imperative",
    "format_asked",
    "persons",
    "diversity",
    "uppercase",
    "non_ascii",
    "word_length",
    "commas",
    "sentences",
    "sentence_length",
    "latex",
    "brackets",
    "quotes",
    "opens_upper",
    "upper_per_word",
    "digits",
    "longest_line",
    "snippets",
    "equation",
    "blanks",
)


class SurfaceSignals(NamedTuple):
    """What can be read off a text without knowing what it means."""

    values: Floats  # one number per name of SURFACE_NAMES, before scaling
    token_estimate: int  # of the whole text, also where it was clipped
    words: int
    options: int  # of a multiple-choice question; 0 when there are none
    turns: int  # lines that a speaker opens, as in "User: ..."
    wants_json: bool
    wants_list: bool
    script: str  # "latin", "cyrillic", "arabic", ...: of most letters
    distinct: frozenset[bytes]  # the words in small letters, as UTF-8

    def as_mapping(self) -> dict[str, float]:
        """Return the unscaled signals by name."""
        return dict(zip(SURFACE_NAMES, self.values.tolist(), strict=True))

    def __repr__(self) -> str:
        """Show the signals, never a word of the text."""
        return f"SurfaceSignals({self.as_mapping()})"


def _words(text: str) -> frozenset[bytes]:
    return frozenset(word.encode() for word in text.split())


_FACT = _words("who whom whose when where which name")
_REASON = _words("why how explain because prove show derive reason step steps compare discuss")
_QUANTITY = _words(
    "many much calculate compute find total percent average each value sum number evaluate "
    "determine estimate solve approximately probability ratio rate equation cost"
)
_NEGATION = _words(
    "not no never none nor neither except false incorrect wrong least without cannot isn't doesn't "
    "don't can't won't aren't"
)
_IMPERATIVE = _words(
    "write list give create generate translate summarize summarise complete implement make fix "
    "rewrite describe answer choose select identify convert classify extract compose draft "
    "produce return define design sort edit improve please tell let suppose consider"
)
_CODE = _words(
    "def return import assert function python javascript java sql class void int str const lambda "
    "elif print printf null none_type boolean array regex html css bash api async await struct "
    "std include public static self var func fn"
)
_PERSONS = _words("i me my we our you your he him his she her they them their")
_LIST = _words("list bullet bullets bulleted enumerate itemize itemise")
_TABLE = _words("table csv yaml xml markdown schema")
_JSON = _words("json")
_TELLING = frozenset().union(  # most words of a text are none of these
    _FACT, _REASON, _QUANTITY, _NEGATION, _CODE, _PERSONS, _LIST, _TABLE, _JSON
)

# What an option begins with; `_multiple_choice` looks whether they count up from the first.
_OPTION = re.compile(rb"[\n (']([A-J1-9])(?:[.):] |')")
_ORDINALS = (b"ABCDEFGHIJ", b"123456789")
_BULLET = re.compile(rb"\n(?:[-*]| {1,2}-) ")
_TURN = re.compile(  # a speaker's name and a colon among the first twelve bytes of a line
    rb"\n(?=[^\n]{0,11}:)[^\S\n]*(?i:user|assistant|system|human|ai|bot)[^\S\n]*:"
)

_BYTE = np.arange(256)
_CHARS = [chr(code) for code in range(256)]


def _class(members: str) -> NDArray[np.bool_]:
    return np.isin(_BYTE, [ord(character) for character in members])


_CLASSES = (
    _class("0123456789"),
    _class("+-*/=<>^%~|\\${}"),
    _class("\n"),
    _class("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    _class("abcdefghijklmnopqrstuvwxyz"),
    _BYTE >= 0xC0,  # a lead byte: one character outside ASCII
    _class(".,;:!?()[]{}\"'`-+*/=<>^%~|\\$_#@&"),
    _class(","),
    _class(".?!"),
    _class("$\\"),
    _class("([{"),
    _class("\"'"),
    _class("="),
    _class(">"),
    _class("_"),
    _class("`"),
)
_CLASS_ROWS = np.array(_CLASSES, dtype=np.float32)  # a product of whole numbers is slower

_SCRIPT_LEADS: Mapping[str, tuple[int, int]] = {
    "latin": (0xC3, 0xCA),
    "greek": (0xCD, 0xCF),
    "cyrillic": (0xD0, 0xD4),
    "hebrew": (0xD6, 0xD7),
    "arabic": (0xD8, 0xDB),
    "indic": (0xE0, 0xE1),
    "cjk": (0xE3, 0xE9),
    "hangul": (0xEA, 0xED),
}
_WORD_BYTES = bytes(
    ord(character.lower()) if character.isalnum() or character in "_'" else 32
    for character in _CHARS[:128]
) + bytes(range(128, 256))


# In these pieces an option's mark is a "b" or a quote, an "o" that opens a run, and what ends it.
_OPTION_KINDS = {
    **dict.fromkeys("\n (", "b"),
    **dict.fromkeys("A1", "o"),
    **dict.fromkeys(".):'", "e"),
}
_OPTION_PIECES = bytes(ord(_OPTION_KINDS.get(character, "x")) for character in _CHARS)
_OPTION_SHAPES = (b"boe", b"eoe")


def clip_text(text: str, most: int = CLIP_CHARS, between: str = "") -> str:
    """Return the text itself, or its first and its last half of `most` characters if longer."""
    if len(text) <= most:
        return text
    return text[: most // 2] + between + text[-most // 2 :]


def surface_signals(text: str) -> SurfaceSignals:
    """Read the signals off a text in time linear in its clipped length."""
    clipped = clip_text(text)
    data = clipped.encode("utf-8", "replace")
    histogram = np.bincount(np.frombuffer(data, np.uint8), minlength=256).astype(np.float32)
    (
        digits, operators, newlines, upper, lower, wide, marks, commas, ends, latex, brackets,
        quotes, equals, angles, underscores, ticks,
    ) = _CLASS_ROWS.dot(histogram).tolist()  # fmt: skip
    found = data.translate(_WORD_BYTES).split()
    distinct = frozenset(found)
    told = distinct & _TELLING
    wants_json, wants_list = not told.isdisjoint(_JSON), not told.isdisjoint(_LIST)
    options, stem = _multiple_choice(data)
    chars, size, words = len(clipped) or 1, len(data) or 1, len(found) or 1
    letters, sentences = upper + lower + wide or 1.0, ends or 1.0
    # A mark is only looked for where the characters that it is made of occur.
    fences = data.count(b"```") if ticks else 0
    prompts = data.count(b">>>") if angles else 0
    calls = data.count(b"():") if brackets else 0
    gaps = data.count(b"__") if underscores else 0
    values = (
        log1p(chars),
        log1p(stem),
        log1p(options),
        sqrt(digits / chars),
        log1p(operators),
        log1p(len(told & _CODE) + 2 * fences),
        log1p(newlines),
        min(len(told & _FACT), 2),
        min(len(told & _REASON), 3),
        min(len(told & _QUANTITY), 4),
        data[:stem].rstrip().endswith(b"?"),
        log1p(len(_BULLET.findall(data))) if newlines else 0.0,
        min(len(told & _NEGATION), 3),
        not _IMPERATIVE.isdisjoint(found[:1]),
        wants_json + wants_list + len(told & _TABLE),
        min(len(told & _PERSONS), 3),
        len(distinct) / words,
        sqrt(upper / letters),
        sqrt(wide / letters),
        log1p(letters / words),
        sqrt(commas / words),
        log1p(sentences),
        log1p(words / sentences),
        log1p(latex),
        sqrt(brackets / size),
        sqrt(quotes / size),
        clipped[:1].isupper(),
        sqrt(upper / words),
        log1p(digits),
        log1p(max(map(len, data.split(b"\n"))) if newlines else len(data)),
        log1p(prompts + calls),
        equals > 0,
        log1p(gaps),
    )
    estimate = _token_estimate(len(found), digits, marks, upper + lower, wide)
    return SurfaceSignals(
        np.fromiter(values, np.float32, len(SURFACE_NAMES)),
        max(1, round(estimate * len(text) / chars)),
        len(found),
        options,
        len(_TURN.findall(b"\n" + data)) if b":" in data else 0,
        wants_json,
        wants_list,
        _script(histogram, upper + lower, wide),
        distinct,
    )


def _token_estimate(words: int, digits: float, marks: float, letters: float, wide: float) -> float:
    """Return about how many tokens there are: within 20 % for nine English prompts of ten.

    Non-negative least squares on cl100k counts of 17,000 prompts; the floor of one token per eight
    letters is for text without blanks.
    """
    fitted = 0.95 * words + 0.73 * digits + 0.79 * marks + 0.034 * letters + 1.06 * wide
    return max(fitted, (letters + marks + digits) / 8 + wide)


def _multiple_choice(data: bytes) -> tuple[int, int]:
    """Return how many answer options there are, and how many bytes stand before them."""
    if not _may_have_options(data):
        return 0, len(data)
    marks = list(_OPTION.finditer(data))
    written = b"".join([mark[1] for mark in marks])
    count, first = max((_run(written, ordinals) for ordinals in _ORDINALS), key=itemgetter(0))
    return (count, marks[first].start()) if count >= 2 else (0, len(data))


def _may_have_options(data: bytes) -> bool:
    """Return whether a first and any second option may be there: the pattern is slower."""
    if b"B" not in data and b"2" not in data:
        return False
    kinds = data.translate(_OPTION_PIECES)
    return any(shape in kinds for shape in _OPTION_SHAPES)


def _run(written: bytes, ordinals: bytes) -> tuple[int, int]:
    """Return how many ordinals follow each other from the last A or 1 on, and which mark that is.

    Marks between them do not count.
    """
    first = at = written.rfind(ordinals[:1])
    count = 0
    while at >= 0:
        count += 1
        at = written.find(ordinals[count : count + 1], at + 1) if count < len(ordinals) else -1
    return count, first


def _script(histogram: Floats, ascii_letters: int, wide: int) -> str:
    """Return the script of most letters, told by the lead bytes of UTF-8."""
    if 2 * wide <= ascii_letters:
        return "latin" if ascii_letters else "none"
    counts = {
        name: int(histogram[low : high + 1].sum()) for name, (low, high) in _SCRIPT_LEADS.items()
    }
    name = max(counts, key=counts.__getitem__)
    return name if 2 * counts[name] > wide else "other"
