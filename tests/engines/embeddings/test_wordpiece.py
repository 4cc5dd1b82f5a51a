"""WordPiece: the tokens of BERT's tokenizer, for work in proportion to the text."""

from __future__ import annotations

import random
import string
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fit import static_embedder
from benchmarks.hostile import ALPHABETS, WORD_LENGTHS, hostile_text
from conduit.engines.embeddings.wordpiece import (
    DENSE,
    MOST_DENSE,
    UNSEEN,
    WORDS_KEPT,
    Pieces,
    WordPieces,
    data_file,
    encodable,
)

theirs = cache(static_embedder.tokenizer)
ours = cache(WordPieces)


def expected(text: str) -> list[int]:
    """Return the tokens that BERT's tokenizer makes of a text."""
    ids: list[int] = theirs().encode(encodable(text), add_special_tokens=False).ids
    return ids


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
def test_tokens_are_those_of_the_tokenizer(text: str) -> None:
    """Splitting a text and remembering its words changes no token."""
    assert ours().ids(text) == expected(text)


@given(st.text(string.ascii_letters + "éñ##", max_size=120), st.text("0123456789abcdef"))
def test_words_that_nobody_wrote_are_split_as_the_tokenizer_splits_them(a: str, b: str) -> None:
    """Letters without sense become the longest tokens there are; over 100 of them, one unknown."""
    assert ours().ids(f"{a} {b}") == expected(f"{a} {b}")


@pytest.mark.parametrize("length", WORD_LENGTHS)
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_texts_made_to_be_slow_have_the_tokenizers_tokens(alphabet: str, length: int) -> None:
    """Scripts, marks, emoji, keys and digests, in words of every length."""
    text = hostile_text(ALPHABETS[alphabet], length, random.Random(length))
    dense = len(encodable(text).encode()) > DENSE * len(text)
    text = text[:MOST_DENSE] if dense else text
    assert WordPieces().ids(text) == expected(text)


@pytest.mark.parametrize("text", ["字" * 3_000, "b人" * 1_800, "слово и дело " * 300])
def test_the_beginning_and_the_end_stand_for_a_long_text_of_a_dense_script(text: str) -> None:
    """Of more than is read, the first and the last half are; of Latin letters all is."""
    read = f"{text[: MOST_DENSE // 2]} {text[-MOST_DENSE // 2 :]}"
    assert WordPieces().ids(text) == expected(read) != expected(text)
    latin = "où est le café " * 300
    assert WordPieces().ids(latin) == expected(latin)


def test_every_character_has_the_tokenizers_tokens() -> None:
    """Each character of the two planes in use alone and between letters, and some of the others."""
    codes = [*range(0x20000), *range(0x20000, 0x110000, 64)]
    for start in range(0, len(codes), 256):
        block = map(chr, codes[start : start + 256])
        text = " ".join(f"{character} a{character}b" for character in block)
        assert ours().ids(text) == expected(text), f"U+{codes[start]:04X} and after"


@pytest.mark.parametrize("text", ["w{} ", "{}é ", "字{}", "?{}!"])
def test_many_new_words_are_the_tokenizers_too(text: str) -> None:
    """A text with more new words than are learned at once has the same tokens, then and later."""
    fresh = WordPieces()
    whole = "".join(text.format(i) for i in range(5 * UNSEEN))
    assert all(fresh.ids(whole) == expected(whole) for _ in range(6))


def test_no_more_words_are_remembered_than_are_kept() -> None:
    """New words in text after text do not fill the memory."""
    fresh = WordPieces()
    for start in range(0, WORDS_KEPT + 2 * UNSEEN, UNSEEN):
        fresh.ids(" ".join(f"w{i}" for i in range(start, start + UNSEEN)))
        assert 0 < fresh.remembered <= WORDS_KEPT
    assert fresh.remembered < WORDS_KEPT // 2


class Counted(dict[str, int]):
    """Counts how often anybody looks a token up."""

    asked = 0

    def get(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
        """Return the id of a token."""
        self.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("length", [12, 33, 100])
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_the_vocabulary_is_asked_in_proportion_to_the_text(alphabet: str, length: int) -> None:
    """A long word is not compared with the vocabulary once for every end that a token may have.

    BERT's tokenizer asks fifty times for each letter of a word of a hundred.
    """
    pieces = WordPieces()
    pieces.opening = Pieces(Counted(pieces.opening.ids))
    pieces.later = Pieces(Counted(pieces.later.ids))
    text = hostile_text(ALPHABETS[alphabet], length, random.Random(length))
    pieces.ids(text)
    normal = theirs().normalizer.normalize_str(encodable(text))
    asked = [kind.ids.asked for kind in (pieces.opening, pieces.later)]  # type: ignore[attr-defined]
    assert sum(asked) <= 4 * max(len(normal), 1)


@pytest.mark.parametrize(("kind", "most"), [("opening", 17), ("later", 9)])
def test_few_lengths_are_tried_at_one_place(kind: str, most: int) -> None:
    """Whatever letters stand there, few tokens are looked for, single ones last."""
    pieces: Pieces = getattr(ours(), kind)
    assert max(map(len, pieces.lengths.values())) <= most
    assert all(list(found) == sorted(found, reverse=True) for found in pieces.lengths.values())
    assert all(found[-1] == 1 for found in pieces.lengths.values())


def test_marks_are_what_the_tokenizer_splits_at() -> None:
    """The shipped file is what the program makes, and no mark is a letter or digit to Python."""
    shipped = data_file("marks.txt").read_text("utf-8")
    assert shipped == static_embedder.marks()
    assert not any(mark.isalnum() for mark in shipped)


@given(st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=100))
def test_every_text_can_be_encoded(text: str) -> None:
    """Lone surrogates become question marks; every other text is left as it is."""
    clean = encodable(text)
    clean.encode("utf-8")
    assert len(clean) == len(text)
    if not any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        assert clean == text
