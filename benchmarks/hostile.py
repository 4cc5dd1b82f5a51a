"""Texts made to be slow: scripts, marks, keys and digests in words of every length.

None of them means anything. They are what an event loop has to bear all the same, since whoever may
write to a service may write these.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from random import Random
from typing import Final

from conduit.engines.surface import CLIP_CHARS


def _between(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


ALPHABETS: Final[Mapping[str, str]] = {
    "base64": string.ascii_letters + string.digits + "+/",
    "hexadecimal": "0123456789abcdef",
    "small letters": string.ascii_lowercase,
    "capitals": string.ascii_uppercase,
    "digits": string.digits,
    "one letter": "a",
    "ASCII": _between(0x20, 0x7E),
    "ASCII marks": string.punctuation,
    "marks": _between(0x2010, 0x2060),
    "control characters": _between(0, 0x1F),
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "zero width between letters": "\u200babc\u200d",
    "accents": "éàüñçøåß",
    "Vietnamese": _between(0x1EA0, 0x1EF9),
    "combining marks": _between(0x300, 0x36F),
    "combining marks on letters": _between(0x300, 0x36F) + "aeiou",
    "Greek": _between(0x3B1, 0x3C9),
    "Cyrillic": _between(0x400, 0x45F),
    "Hebrew": _between(0x5D0, 0x5EA),
    "Arabic": _between(0x621, 0x64A),
    "Devanagari": _between(0x905, 0x939),
    "Thai": _between(0xE01, 0xE2E),
    "kana": _between(0x3041, 0x30FE),
    "Hangul": _between(0xAC00, 0xD7A3),
    "jamo": _between(0x1100, 0x11FF),
    "ideographs": _between(0x4E00, 0x9FFF),
    "rare ideographs": _between(0x20000, 0x2A6DF),
    "full width": _between(0xFF01, 0xFF5E),
    "ligatures": "\ufdfa\u0390\u1fb7\u1e9b\ufb03",
    "emoji": _between(0x1F300, 0x1F6FF),
    "lone surrogates": _between(0xD800, 0xD8FF),
    "two bytes of everything": _between(0x20, 0xD7FF),
    "a mixture": string.ascii_letters + string.digits + "éñ你好שע\U0001f600\u0301\u200b.,!+/",
}
WORD_LENGTHS: Final = (1, 2, 3, 5, 8, 12, 20, 33, 64, 100, 101, CLIP_CHARS)


def hostile_text(alphabet: str, word_length: int, chance: Random, chars: int = CLIP_CHARS) -> str:
    """Return so many characters: words of one length from an alphabet, blanks between them."""
    words = chars // (word_length + 1) + 1
    letters = iter(chance.choices(alphabet, k=words * word_length))
    drawn = ("".join(next(letters) for _ in range(word_length)) for _ in range(words))
    return " ".join(drawn)[:chars]


__all__ = ["ALPHABETS", "WORD_LENGTHS", "hostile_text"]
