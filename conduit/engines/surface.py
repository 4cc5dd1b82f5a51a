"""Surface signals: what can be read off a text in one pass, without knowing what it means.

Nothing here looks at a clock, a setting or the network, and nothing is fitted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceSignals:
    """What can be read off a text without knowing what it means."""

    values: Floats  # one number per name of SURFACE_NAMES, before scaling
    token_estimate: int  # of the whole text, also where it was clipped
    words: int
    options: int  # of a multiple-choice question; 0 when there are none
    turns: int  # lines that a speaker opens, as in "User: ..."
    wants_json: bool
    wants_list: bool
    script: str  # "latin", "cyrillic", "arabic", ...: of most letters
    distinct: frozenset[bytes] = field(repr=False)  # the words in small letters, as UTF-8

    def as_mapping(self) -> dict[str, float]:
        """Return the unscaled signals by name."""
        return dict(zip(SURFACE_NAMES, self.values.tolist(), strict=True))


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
_SPEAKERS = _words("user assistant system human ai bot")

# A letter or digit with what ends it; what begins it is looked at in `_multiple_choice`.
_OPTION = re.compile(rb"[A-J1-9](?:[.):] |')")
_BEFORE_OPTION = frozenset(b"\n ('")
_ORDINALS = (b"ABCDEFGHIJ", b"123456789")

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


def clip_text(text: str) -> str:
    """Return the text itself, or its first and last 2,000 characters when it is longer."""
    if len(text) <= CLIP_CHARS:
        return text
    return text[: CLIP_CHARS // 2] + text[-CLIP_CHARS // 2 :]


def surface_signals(text: str) -> SurfaceSignals:
    """Read the signals off a text in time linear in its clipped length."""
    clipped = clip_text(text)
    data = clipped.encode("utf-8", "replace")
    histogram = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    digits, operators, newlines, upper, lower, wide, marks, *counts, ticks = (
        _CLASS_ROWS.dot(histogram.astype(np.float32))
    ).tolist()
    words = data.translate(_WORD_BYTES).split()
    distinct = frozenset(words)
    options, stem = _multiple_choice(data)
    chars = max(len(clipped), 1)
    letters = max(upper + lower + wide, 1)
    told = distinct & _TELLING
    wants_json, wants_list = not _JSON.isdisjoint(told), not _LIST.isdisjoint(told)
    values = np.array(
        (
            math.log1p(chars),
            math.log1p(stem),
            math.log1p(options),
            math.sqrt(digits / chars),
            math.log1p(operators),
            math.log1p(len(told & _CODE) + 2 * _count(data, b"```", ticks)),
            math.log1p(newlines),
            min(len(told & _FACT), 2),
            min(len(told & _REASON), 3),
            min(len(told & _QUANTITY), 4),
            data[:stem].rstrip().endswith(b"?"),
            math.log1p(_bullets(data) if newlines else 0),
            min(len(told & _NEGATION), 3),
            not _IMPERATIVE.isdisjoint(words[:1]),
            wants_json + wants_list + len(told & _TABLE),
            min(len(told & _PERSONS), 3),
            len(distinct) / max(len(words), 1),
            math.sqrt(upper / letters),
            math.sqrt(wide / letters),
            math.log1p(letters / max(len(words), 1)),
            *_build(data, clipped[:1], max(len(words), 1), upper, digits, counts),
        ),
        dtype=np.float32,
    )
    estimate = _token_estimate(len(words), digits, marks, upper + lower, wide)
    return SurfaceSignals(
        values=values,
        token_estimate=max(1, round(estimate * len(text) / chars)),
        words=len(words),
        options=options,
        turns=_turns(data) if b":" in data else 0,
        wants_json=wants_json,
        wants_list=wants_list,
        script=_script(histogram, upper + lower, wide),
        distinct=distinct,
    )


def _build(
    data: bytes, first: str, words: int, upper: float, digits: float, counts: Sequence[float]
) -> tuple[float, ...]:
    """Return how the text is built: its sentences, names, numbers, formulas and marks."""
    commas, ends, latex, brackets, quotes, equals, angles, lines = counts
    size, sentences = max(len(data), 1), max(ends, 1.0)
    return (
        math.sqrt(commas / words),
        math.log1p(sentences),
        math.log1p(words / sentences),
        math.log1p(latex),
        math.sqrt(brackets / size),
        math.sqrt(quotes / size),
        first.isupper(),
        math.sqrt(upper / words),
        math.log1p(digits),
        math.log1p(max(map(len, data.split(b"\n")))),
        math.log1p(_count(data, b">>>", angles) + _count(data, b"():", brackets)),
        equals > 0,
        math.log1p(_count(data, b"__", lines)),
    )


def _count(data: bytes, mark: bytes, there: float) -> int:
    """Return how often a mark occurs; `there` is 0 where a part of it is known to be missing."""
    return data.count(mark) if there else 0


def _token_estimate(words: int, digits: int, marks: int, letters: int, wide: int) -> float:
    """Return about how many tokens there are: within 20 % for nine English prompts of ten.

    Non-negative least squares on cl100k counts of 17,000 prompts; the floor of one token per eight
    letters is for text without blanks.
    """
    fitted = 0.95 * words + 0.73 * digits + 0.79 * marks + 0.034 * letters + 1.06 * wide
    return max(fitted, (letters + marks + digits) / 8 + wide)


def _multiple_choice(data: bytes) -> tuple[int, int]:
    """Return how many answer options there are, and how many bytes stand before them."""
    if b"B" not in data and b"2" not in data:
        return 0, len(data)  # one option is none
    marks = list(_option_marks(data))
    runs = [_run(data, marks, ordinals) for ordinals in _ORDINALS]
    count, start = max(runs, key=lambda run: run[0])
    return (count, start) if count >= 2 else (0, len(data))


def _option_marks(data: bytes) -> Iterator[int]:
    """Yield where a letter or digit stands between what begins and what ends an option's mark."""
    kinds = data.translate(_OPTION_PIECES)
    if not any(shape in kinds for shape in _OPTION_SHAPES):
        return  # most texts: a pattern would cost ten times as much
    end = 0
    for match in _OPTION.finditer(data):
        at = match.start()
        if at > end and data[at - 1] in _BEFORE_OPTION:
            end = match.end()
            yield at


def _run(data: bytes, marks: Sequence[int], ordinals: bytes) -> tuple[int, int]:
    """Return how many marks follow each other as A, B, C ..., and where the first begins."""
    count = start = 0
    for at in marks:
        mark = data[at]
        if mark == ordinals[0]:
            count, start = 1, at - 1
        elif 0 < count < len(ordinals) and mark == ordinals[count]:
            count += 1
    return count, start


def _bullets(data: bytes) -> int:
    """Return how many lines begin with a dash or a star."""
    return sum(data.count(mark) for mark in (b"\n- ", b"\n* ", b"\n - ", b"\n  - "))


def _turns(data: bytes) -> int:
    """Return how many lines a speaker opens, as in `User: hello`."""
    heads = (line[:12].partition(b":") for line in data.split(b"\n"))
    return sum(bool(colon) and name.strip().lower() in _SPEAKERS for name, colon, _ in heads)


def _script(histogram: NDArray[np.int64], ascii_letters: int, wide: int) -> str:
    """Return the script of most letters, told by the lead bytes of UTF-8."""
    if 2 * wide <= ascii_letters:
        return "latin" if ascii_letters else "none"
    counts = {
        name: int(histogram[low : high + 1].sum()) for name, (low, high) in _SCRIPT_LEADS.items()
    }
    name = max(counts, key=counts.__getitem__)
    return name if 2 * counts[name] > wide else "other"
