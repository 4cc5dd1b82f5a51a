"""What two wordings share and what they swap, as the numbers of a logistic score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Final

from conduit.feedback.lexicon import Asks, Cue
from conduit.feedback.wording import (
    ASPECT,
    FORM,
    GENERIC_WORD,
    NAME,
    NUMBER,
    Word,
    Wording,
    initial,
    letters_alike,
)

ALIKE: Final = 0.6  # share of letter pairs from which two words are one
ALIKE_ABROAD: Final = 0.42  # the same for a word and its cognate in another language
_TYPO_WORDS: Final = 24  # with more words that do not meet, typos are not looked for

# With this share of the words standing still, another word in their midst is another question ...
_SLOT_SHARE: Final = 0.55
_SLOT_WEIGHT: Final = 1.5  # ... where so much matter was swapped, both sides together
_SAME_SLOT: Final = 0.5  # share of the matter after a colon that must meet

_ABROAD_SHARED: Final = 0.9  # across languages, about one word must meet ...
_ABROAD_SHARE: Final = 0.3  # ... and this share of the shorter query
_ABROAD_SCORE: Final = 0.7

FEATURE_NAMES: Final = (
    "bias", "common", "swapped", "gained", "lost", "frame", "swapped in frame", "changed off frame",
    "slot", "conflict", "narrowed", "entered", "cosine", "kept", "same question", "other question",
    "question of a request", "same start", "gained off start", "formed", "other aspect",
    "gained aspect", "lost aspect", "refers", "compares", "gained name", "same number",
    "deeper", "kept off start", "refined", "cosine off start", "cosine of common", "common squared",
    "swapped at start", "frame at start", "frame squared", "swapped in question",
    "other aspect in question",
)  # fmt: skip
_MOST: Final = 4.0  # more of it says no more
_WHOLE: Final = 0.99  # share of the earlier matter that is there again
_MOSTLY: Final = 0.8

_REFERS, _COMPARES = int(Cue.REFERS), int(Cue.COMPARES)  # flags of an enum cost a call each


@dataclass(frozen=True, slots=True)
class Alignment:
    """The matter of two queries: the weight that meets, and the words of either left over."""

    shared: float
    mended: int  # how many words met as typos of each other
    same_number: bool  # whether a number met
    before: tuple[Word, ...]
    after: tuple[Word, ...]

    @property
    def lost(self) -> float:
        """The weight that only the earlier query has."""
        return sum(word.weight for word in self.before)

    @property
    def gained(self) -> float:
        """The weight that only the later query has."""
        return sum(word.weight for word in self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What two queries share and what they swap."""

    common: float  # share of the matter that meets
    swapped: float  # weight that either side has instead of the other's
    gained: float  # weight that came on top
    lost: float  # weight that went
    frame: float  # share of the shorter query that the other has too, word by word in order
    slot: float  # share of the words that stand still around one place of swapped words
    conflict: bool  # names were swapped
    renumbered: bool  # a number was swapped
    relabelled: bool  # the same words before a colon, and other matter after it
    reordered: bool  # the same words in another order
    other_kind: bool  # another kind of question: "why" and then "how much"
    narrowed: bool  # a wide question and then one of a kind
    entered: float  # weight that came on top of "what is" and one word
    content: bool  # the later query opens as people do who got what they wanted
    cosine: float | None  # in standard deviations of the embedder
    kept: float  # share of the earlier matter that the later query has too
    same_question: bool  # both ask for the same kind of answer
    other_question: bool  # both ask, and for other kinds
    asked_after_request: bool  # "explain ..." and then a question
    same_start: bool
    formed: float  # weight that came on top and says how the answer is to look
    other_aspect: bool  # "causes" were swapped for "effects"
    gained_aspect: bool
    lost_aspect: bool
    refers: bool  # the later query points at what was said before
    compares: bool
    gained_name: bool
    same_number: bool

    @property
    def moved_on(self) -> bool:
        """Whether the later query is plainly another one, whatever the score says."""
        variant = self.renumbered or self.relabelled or self.reordered
        return self.content or self.other_kind or variant or self.slot >= _SLOT_SHARE

    def features(self) -> tuple[float, ...]:
        """Return the numbers that weights are for, in the order of FEATURE_NAMES."""
        swapped, gained, lost = (min(v, _MOST) for v in (self.swapped, self.gained, self.lost))
        start, question, frame = float(self.same_start), float(self.same_question), self.frame
        cosine = 0.0 if self.cosine is None else min(max(self.cosine, -_MOST), _MOST)
        formed, off_start = min(self.formed, _MOST), 1.0 - start
        grown = lost == swapped == 0.0  # nothing but more
        return (
            1.0,
            self.common,
            swapped,
            gained,
            lost,
            frame,
            swapped * frame,
            (gained + lost) * (1.0 - frame),
            self.slot,
            float(self.conflict),
            float(self.narrowed),
            min(self.entered, _MOST),
            cosine,
            self.kept,
            question,
            float(self.other_question),
            float(self.asked_after_request),
            start,
            gained * off_start,
            formed,
            float(self.other_aspect),
            float(self.gained_aspect),
            float(self.lost_aspect),
            float(self.refers),
            float(self.compares),
            float(self.gained_name),
            float(self.same_number),
            off_start * grown * max(gained - formed, 0.0),
            off_start * (self.kept > _WHOLE),
            start * gained * (self.kept > _MOSTLY),
            off_start * cosine,
            self.common * cosine,
            self.common**2,
            start * swapped,
            start * frame,
            frame**2,
            question * swapped,
            question * self.other_aspect,
        )


def probability(like: Likeness, weights: Sequence[float]) -> float:
    """Return how surely two queries are one request, 0 to 1."""
    if like.moved_on:
        return 0.0
    return 1.0 / (1.0 + math.exp(-sum(map(mul, weights, like.features()))))


def likeness(before: Wording, after: Wording, cosine: float | None) -> Likeness:
    """Return what an earlier and a later query have in common; the cosine is standardised."""
    met = align(before.words(), after.words())
    swapped = min(met.lost, met.gained)
    whole = met.shared + met.lost + met.gained
    old, new = before.frame_words(), after.frame_words()
    gone, come = _left_over(old, new)
    slot = _slot(old, new, met.mended)
    lacked, brought = _traits(met.before), _traits(met.after)
    return Likeness(
        common=met.shared / whole if whole else 0.0,
        swapped=swapped,
        gained=met.gained - swapped,
        lost=met.lost - swapped,
        frame=in_order(old, new),
        slot=slot,
        conflict=bool(lacked & brought & NAME),
        renumbered=any(map(is_number, gone)) and any(map(is_number, come)),
        relabelled=_relabelled(before.label, after.label, old, new),
        reordered=old != new and not gone and not come and _skeleton(old) == _skeleton(new),
        other_kind=_other_kind(before.asks, after.asks),
        narrowed=before.asks <= Asks.WHAT and after.asks >= Asks.WHY,
        entered=met.gained if before.asks == Asks.WHAT and met.shared + met.lost <= 1.0 else 0.0,
        content=_content(Cue(after.cues)),
        cosine=cosine,
        kept=met.shared / (met.shared + met.lost) if met.shared else 0.0,
        same_question=before.asks == after.asks != Asks.ANYTHING,
        other_question=Asks.ANYTHING not in (before.asks, after.asks) and before.asks != after.asks,
        asked_after_request=before.asks == Asks.ANYTHING != after.asks,
        same_start=old[:1] == new[:1],
        formed=sum(word.weight for word in met.after if word.traits & FORM),
        other_aspect=bool(lacked & brought & ASPECT),
        gained_aspect=bool(brought & ~lacked & ASPECT),
        lost_aspect=bool(lacked & ~brought & ASPECT),
        refers=bool(after.cues & ~before.cues & _REFERS),
        compares=bool(after.cues & ~before.cues & _COMPARES),
        gained_name=bool(brought & ~lacked & NAME),
        same_number=met.same_number,
    )


def align(a: Sequence[Word], b: Sequence[Word], *, alike: float = ALIKE) -> Alignment:
    """Return which words of two queries meet: by their key, or by their letters but for a typo."""
    mine = {word.key: word for word in a}
    yours = {word.key: word for word in b}
    both = mine.keys() & yours.keys()
    shared = sum(max(mine[key].weight, yours[key].weight) for key in both)
    number = any(mine[key].traits & NUMBER for key in both)
    before = [word for key, word in mine.items() if key not in yours]
    after = [word for key, word in yours.items() if key not in mine]
    if min(len(before), len(after)) > _TYPO_WORDS:
        return Alignment(shared, 0, number, tuple(before), tuple(after))
    twins = _twins(before, after, alike)
    shared += sum(max(x.weight, y.weight) for x, y in twins)
    gone, come = {x.key for x, _ in twins}, {y.key for _, y in twins}
    return Alignment(
        shared,
        len(twins),
        number,
        tuple(word for word in before if word.key not in gone),
        tuple(word for word in after if word.key not in come),
    )


def _twins(before: Sequence[Word], after: Sequence[Word], alike: float) -> list[tuple[Word, Word]]:
    """Return the pairs of words that differ by a typo, each word once."""
    by_initial: dict[int, list[Word]] = {}
    for word in after:
        by_initial.setdefault(initial(word), []).append(word)
    twins = []
    for word in before:
        others = by_initial.get(initial(word), [])
        share, place = max(
            ((letters_alike(word, other), i) for i, other in enumerate(others)), default=(0.0, 0)
        )
        if share >= alike:
            twins.append((word, others.pop(place)))
    return twins


def score_abroad(before: Wording, after: Wording) -> float:
    """Return the score of a query asked again in another language: what must meet is its names."""
    mine, yours = (
        [word for word in wording.words() if not word.traits & GENERIC_WORD]
        for wording in (before, after)
    )
    met = align(mine, yours, alike=ALIKE_ABROAD)
    shorter = met.shared + min(met.lost, met.gained)
    enough = met.shared >= _ABROAD_SHARED and met.shared >= _ABROAD_SHARE * shorter
    renumbered = _traits(met.before) & _traits(met.after) & NUMBER
    return _ABROAD_SCORE if enough and not renumbered else 0.0


def _traits(words: Sequence[Word]) -> int:
    """Return the traits that any of the words has."""
    found = 0
    for word in words:
        found |= word.traits
    return found


def _content(cues: Cue) -> bool:
    return bool(cues & (Cue.SEQUEL | Cue.APPROVAL)) and Cue.COMPLAINT not in cues


def _other_kind(before: int, after: int) -> bool:
    """Return whether two questions want different things; "how" and "where" are often one."""
    if before == after or min(before, after) < Asks.HOW:
        return False
    return {before, after} != {Asks.HOW, Asks.WHERE}


# --- frames: all words but articles, in their order ----------------------------------------------


def frame_weight(framed: int) -> float:
    """Return how much of a query's matter a word of a frame carries; nothing for function words."""
    return (0.0, 0.5, 1.0, 1.0)[framed & 3]


def is_number(framed: int) -> bool:
    """Return whether a word of a frame is a number."""
    return framed & 3 == 3


def _skeleton(frame: Sequence[int]) -> list[int]:
    """Return the function words of a frame in their places, 0 where matter stands."""
    return [0 if framed & 3 else framed for framed in frame]


def _left_over(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the words of either frame that the other lacks; frames are short, lists are fast."""
    gone, come = [], [*b]
    for word in a:
        if word in come:
            come.remove(word)
        else:
            gone.append(word)
    return gone, come


def _matter(words: Sequence[int]) -> float:
    return sum(map(frame_weight, words))


def in_order(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the longest common subsequence over the shorter one (bit-parallel: Hyyrö 2004)."""
    if not a or not b:
        return 0.0
    places: dict[int, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for word in b:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return (len(a) - row.bit_count()) / min(len(a), len(b))


def _slot(a: Sequence[int], b: Sequence[int], mended: int) -> float:
    """Return the share of words that stand still around one place where matter was swapped.

    0 where words only came or went, or where all that was swapped are mended typos.
    """
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    old, new = _left_over(*(words[head : len(words) - tail] for words in (a, b)))
    gone, come = _matter(old), _matter(new)
    if min(gone, come) <= mended or gone + come - 2 * mended < _SLOT_WEIGHT:
        return 0.0
    return (head + tail) / max(len(a), len(b))


def _relabelled(size: int, other: int, old: Sequence[int], new: Sequence[int]) -> bool:
    """Return whether two queries are one template, "label: slot", with other slots."""
    if size < 2 or size != other or old[:size] != new[:size]:
        return False
    gone, come = old[size:], new[size:]
    less = min(_matter(gone), _matter(come))
    both = _matter(gone) - _matter(_left_over(gone, come)[0])
    return less > 0.0 and both < less * _SAME_SLOT
