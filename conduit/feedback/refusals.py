"""Tells an answer that is a refusal or a bare apology from one that only mentions or opens with it.

A sentence near the start must say that the answer is withheld, and what follows must be no answer:
offers, advice to ask somebody else, and reasons for refusing do not count as substance. So "I can't
give medical advice, but adults usually take one tablet" is an answer, and "I can't help with that.
Please see a doctor" is none. Six Western languages are read word by word; for some others the
set phrases that assistants use are known.
"""

# ruff: noqa: RUF001  (the marks of other languages and typographic quotes are meant)

import re
from collections.abc import Iterable
from typing import Final, Literal

from conduit.feedback import phrases

MAX_CHARS: Final = 2_000  # a longer text has something to say
_LOOKED_AT: Final = 3  # sentences in which a refusal may come first
_OPENING_CHARS: Final = 400
_LEAK_CHARS: Final = 400
_SENTENCE_CHARS: Final = 300
_SHORT_WORDS: Final = 40

# How many words may follow that are neither offer, advice nor reason:
_FIRM_SUBSTANCE: Final = 60  # after "I can't help with that": sermons
_TURNED_SUBSTANCE: Final = 8  # after "I can't help with that, but"
_SOFT_SUBSTANCE: Final = 7  # after "I don't have live data"
_APOLOGY_SUBSTANCE: Final = 9
_HINT_SUBSTANCE: Final = 12
_CUES_NEEDED: Final = 2
_TURN_WORDS: Final = 3  # "but" and this many words more begin an answer
_ANSWER_WORDS: Final = 9  # that a clause with a figure in it needs to be an answer after "but"

Verdict = Literal["refusal", "apology"]

_TURN: Final = re.compile(
    r"[,;:]?\s+(?:but|however|though|although|yet|aber|doch|jedoch|mais|cependant|toutefois|pero"
    r"|sin embargo|ma|mas|porém)\b[,\s]*"
    r"|[;:]\s+|\s[–—]\s|,\s+(?:so|since|because|da|denn|car|ya que|which|as)\s"
)
_STILL_NO: Final = re.compile(
    r"^(?:therefore |thus |hence )?(?:i|we)(?:'m| am|'re| are)? (?:\w+ly |therefore )?(?:can't"
    r"|cannot|can not|couldn't|won't|unable|not able|don't|do not|have no)\b"
)
_CALLED: Final = re.compile(r"\b(?:call|dial|text|phone|hotline|lifeline|helpline|line at)\b")
_FIGURE: Final = re.compile(r"\b\d")
_SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[。！？])|\n+")
_LISTED: Final = re.compile(r"(?m)^\s*(?:[-*•]|\d{1,2}[.)])\s")
_WORD: Final = re.compile(r"[^\W_]+|[\u3040-\u9fff]")
_QUOTED: Final = re.compile(r"[\"“„«][^\"“”„«»\n]{1,300}[\"”“»]")
_CODE: Final = re.compile(
    r"```|^\s*(?:for|while|if|try|except|import|from|return|print|raise|with|async|const|let|var"
    r"|function|public|private|static|def|class|echo|throw|#include)\b.*[(){};:=].*[(){};:'\"]$",
    re.M,
)
_SPOKEN: Final = re.compile(
    r"(?m)^\W{0,3}(?!(?:Assistant|User|Human|AI|Bot|System)\b)[A-Z][\w.'-]{0,20}(?: [A-Z]\w{0,15})?"
    r"\W{0,3}: ?\S"
)
_LEAST_SPOKEN: Final = 3  # lines that begin with who says them
_STRAIGHT: Final = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "ʼ": "'"})
_OPENS_AS_MATTER: Final = ('"', "“", "„", "«", "{", "[", "<", "#", "|", "def ", "class ", "> ")


def refusal_or_apology(text: str, prompt: str | None = None) -> Verdict | None:
    """Return what stands where the answer should be; None when there is an answer.

    `text` is stripped; `prompt`, where known, tells when a refusal or an apology was asked for.
    """
    if len(text) > MAX_CHARS or text.startswith(_OPENS_AS_MATTER):
        return None
    lowered = text.translate(_STRAIGHT).lower()
    leaked = len(lowered) <= _LEAK_CHARS and phrases.LEAKED.match(lowered)
    opening = lowered[:_OPENING_CHARS]
    if not (
        leaked
        or _negates(opening)
        or phrases.SORRY.match(opening)
        or phrases.SORRY_LATER.search(opening)
    ):
        return None
    if written_for_another(text) or asked_for(prompt):
        return None
    if leaked:
        return "apology"
    sentences = _sentences(lowered)
    listed = len(_LISTED.findall(lowered)) >= 3
    if _refuses(sentences, listed=listed):
        return "refusal"
    if _only_apologises(sentences):
        return "apology"
    return "refusal" if _hints_at_refusal(sentences) else None


def written_for_another(text: str) -> bool:
    """Return whether a text is code or a letter, whose words are not the assistant's own."""
    lowered = text.translate(_STRAIGHT).lower()
    letter = phrases.LETTER_HEAD.match(lowered) or phrases.SIGNED.search(lowered)
    return bool(letter or _CODE.search(text)) or len(_SPOKEN.findall(text)) >= _LEAST_SPOKEN


def asked_for(prompt: str | None) -> bool:
    """Return whether a prompt, where it is known, asks for a refusal or an apology."""
    if not prompt:
        return False
    return bool(phrases.ASKED_FOR.search(prompt[:MAX_CHARS].translate(_STRAIGHT).lower()))


def _sentences(lowered: str) -> list[str]:
    """Return the sentences without what they quote, each no longer than the patterns may read."""
    parts = _SENTENCE.split(
        _QUOTED.sub(" ", lowered) if '"' in lowered or "“" in lowered else lowered
    )
    return [part.strip()[:_SENTENCE_CHARS] for part in parts if part and not part.isspace()]


def _refuses(sentences: list[str], *, listed: bool) -> bool:
    """Return whether one of the first sentences withholds the answer and no answer follows."""
    seen = 0
    for index, sentence in enumerate(sentences[:_LOOKED_AT]):
        found = _refusing(sentence) if _negates(sentence) else None
        if found is not None and not _conceded(sentence):
            soft = phrases.SOFT.search(sentence) is not None
            before = sum(map(_substance, sentences[:index]))
            turns, rest = _clauses_after(sentence[found.end() :]), sentences[index + 1 :]
            return not listed and _no_answer(before, turns, rest, soft=soft)
        seen += len(sentence)
        if seen > _OPENING_CHARS:
            return False
    return False


def _conceded(sentence: str) -> bool:
    """Return whether a sentence names the limit first and answers in its main clause."""
    clause = phrases.CONCEDED.match(sentence)
    return clause is not None and _refusing(sentence[clause.end() - 1 :]) is None


def _negates(text: str) -> bool:
    return any(map(text.__contains__, phrases.NEGATIONS))


def _refusing(sentence: str) -> re.Match[str] | None:
    """Return the words that withhold an answer, or name a limit."""
    patterns = (phrases.FIRM, phrases.OTHER, phrases.SOFT)
    return next(filter(None, (pattern.search(sentence) for pattern in patterns)), None)


def _clauses_after(remainder: str) -> list[str]:
    """Return the clauses that turn away from a refusal in its own sentence ("but ...")."""
    pieces = filter(None, _TURN.split(remainder)[1:])
    return [piece for piece in pieces if not _STILL_NO.match(piece)]


def _no_answer(before: int, turns: list[str], rest: list[str], *, soft: bool) -> bool:
    if any(map(_answers_in_figures, turns)):
        return False
    turned = any(_substance(clause) > _TURN_WORDS for clause in turns)
    if soft and turned:
        return False
    allowed = _SOFT_SUBSTANCE if soft else _TURNED_SUBSTANCE if turned else _FIRM_SUBSTANCE
    return not _says_more_than(allowed - before, [*turns, *rest])


def _answers_in_figures(clause: str) -> bool:
    """Return whether a clause after "but" tells a figure that is no number to call."""
    figured = _FIGURE.search(clause) and not _CALLED.search(clause)
    return bool(figured) and len(_WORD.findall(clause)) >= _ANSWER_WORDS


def _says_more_than(allowed: int, clauses: Iterable[str]) -> bool:
    """Return whether the clauses hold more words of substance; reads no further than needed."""
    for clause in clauses:
        allowed -= _substance(clause)
        if allowed < 0:
            return True
    return allowed < 0


def _hints_at_refusal(sentences: list[str]) -> bool:
    """Return whether a short text says no in the first person, with two more cues and no matter."""
    whole = " ".join(sentences)
    if not _brief(sentences) or phrases.MENDED.search(whole):
        return False
    no = next((i for i, s in enumerate(sentences[:_LOOKED_AT]) if phrases.SAYS_NO.search(s)), None)
    if no is None or sum(cue.search(whole) is not None for cue in phrases.CUES) < _CUES_NEEDED:
        return False
    clauses = [*_TURN.split(sentences[no])[1:], *sentences[:no], *sentences[no + 1 :]]
    return not _says_more_than(_HINT_SUBSTANCE, filter(None, clauses))


def _substance(clause: str) -> int:
    """Return how many words of a clause may be an answer: none for offers, advice and reasons."""
    return 0 if phrases.EXCUSE.search(clause) else len(_WORD.findall(clause))


def _only_apologises(sentences: list[str]) -> bool:
    if not sentences:
        return False
    opening = " ".join(sentences[:2])
    failed = phrases.FAILED.search(opening)
    if phrases.SORRY.match(sentences[0]):
        if not (failed or phrases.REGRET.search(sentences[0])):
            return False
    elif not (failed and phrases.SORRY_LATER.search(" ".join(sentences)) and _brief(sentences)):
        return False
    rest = [*_clauses_after(sentences[0]), *sentences[1:]]
    return not any(map(_mends, rest)) and sum(map(_new_matter, rest)) <= _APOLOGY_SUBSTANCE


def _brief(sentences: list[str]) -> bool:
    return sum(len(_WORD.findall(s)) for s in sentences) <= _SHORT_WORDS


def _mends(clause: str) -> bool:
    return phrases.MENDED.search(clause) is not None


def _new_matter(clause: str) -> int:
    idle = phrases.FAILED.search(clause) or phrases.IDLE.search(clause)
    return 0 if idle else _substance(clause)
