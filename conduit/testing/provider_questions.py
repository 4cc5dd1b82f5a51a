"""Questions of ten topics that know their own answer: generated, recognised and graded.

A simulated model answers right or wrong on purpose, so somebody must know what is right. Each form
below makes prompts and, from the text of such a prompt alone, computes its answer.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import blake2b

from conduit.core.errors import InvalidInput, unknown_name
from conduit.testing.provider_lexicon import (
    BLAME,
    CAPITALS,
    CUSTOMERS,
    ELEMENTS,
    GOODS,
    MONTHS,
    OPENINGS,
    PRAISE,
    REVIEWED,
    TRANSLATIONS,
    UNITS,
    WEEKDAYS,
    WORDS,
)

MARKER = re.compile(r"\[\[marker:[^\[\]]*\]\]")
OTHER = "other"  # the topic of a prompt that no form below made
RECOGNISED_CHARS = 4_000  # a question is short; longer texts are not searched for one
ECHO_CHARS = 120
ECHO = "You said: "
MAX_TRIES_PER_QUESTION = 200
_LETTERS = "ABCD"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SENTIMENT = re.compile("|".join(map(re.escape, (*PRAISE, *BLAME))))


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with its topic, its right answer, and plausible wrong ones."""

    prompt: str
    topic: str
    expected: str
    wrong: tuple[str, ...] = ()

    def grade(self, answer: object) -> bool:
        """Whether an answer, bare or inside a sentence or an object, is the right one."""
        said = plain(str(answer))
        if _NUMBER.fullmatch(self.expected):
            return float(self.expected) in map(float, _NUMBER.findall(_THOUSANDS.sub("", said)))
        if _bare(said) == _bare(self.expected):
            return True
        return _mentions(said, self.expected) and not any(_mentions(said, w) for w in self.wrong)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask about a topic: it makes prompts, and solves those that match its pattern."""

    topic: str
    pattern: re.Pattern[str]
    make: Callable[[random.Random], str]
    solve: Callable[[re.Match[str]], tuple[str, tuple[str, ...]] | None]


def markers_of(text: str) -> str:
    """Return the `[[marker:…]]` parts of a text, in order and joined by spaces."""
    return " ".join(MARKER.findall(text)) if "[[marker:" in text else ""


def plain(text: str) -> str:
    """Return a text without its markers."""
    return MARKER.sub("", text).strip() if "[[marker:" in text else text.strip()


def prompt_id(prompt: str) -> str:
    """Return the name under which the ledger lists a prompt: 16 hexadecimal digits."""
    return blake2b(prompt.encode("utf-8", "replace"), digest_size=8).hexdigest()


def recognise(prompt: str) -> Question:
    """Return the question that a prompt asks; one of topic `other`, answered by an echo, if none.

    >>> recognise("What is 17 + 4? Answer with the number.").expected
    '21'
    """
    if len(prompt) > RECOGNISED_CHARS:
        return _echo(prompt)
    return _recognise(prompt)


def provider_questions(
    topics: Sequence[str] | None = None, n: int = 100, seed: int = 0
) -> list[Question]:
    """Return `n` different questions, the topics in turn; the same seed gives the same ones.

    >>> [question.topic for question in provider_questions(["units", "code"], n=3)]
    ['units', 'code', 'units']
    """
    chosen = list(TOPICS) if topics is None else list(topics)
    for topic in chosen:
        if topic not in TOPICS:
            raise InvalidInput(unknown_name("topic", topic, TOPICS), field="topics", value=topic)
    if not chosen:
        raise InvalidInput("topics must name at least one topic", field="topics")
    rng = random.Random(f"questions {seed}")
    asked: set[str] = set()
    return [_new_question(chosen[i % len(chosen)], rng, asked) for i in range(n)]


def _new_question(topic: str, rng: random.Random, asked: set[str]) -> Question:
    forms = [form for form in FORMS if form.topic == topic]
    for _ in range(MAX_TRIES_PER_QUESTION):
        prompt = rng.choice(forms).make(rng)
        if prompt not in asked:
            asked.add(prompt)
            return recognise(prompt)
    raise InvalidInput(f"there are not that many different questions about {topic}", field="n")


@lru_cache(maxsize=8_192)
def _recognise(prompt: str) -> Question:
    for form in FORMS:
        match = form.pattern.search(prompt)
        solution = None if match is None else form.solve(match)
        if solution is not None:
            expected, wrong = solution
            return Question(prompt, form.topic, expected, _others(wrong, expected))
    return _echo(prompt)


def _echo(prompt: str) -> Question:
    """Return the question of an unknown prompt: whoever repeats how it begins is right."""
    said = " ".join(plain(prompt[: 10 * ECHO_CHARS]).split())[:ECHO_CHARS].strip()
    return Question(prompt, OTHER, f"{ECHO}{said}".strip(), ("I am not sure what you mean.",))


def _bare(text: str) -> str:
    """Return a text without the quotes, stops and case that an answer may have or lack."""
    return text.strip(" \n.!\"'").casefold()


def _mentions(text: str, wanted: str) -> bool:
    """Whether a text contains an answer as whole words; single letters must keep their case."""
    flags = re.NOFLAG if len(wanted) == 1 else re.IGNORECASE
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text, flags) is not None


def _others(candidates: Sequence[str], expected: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(wrong for wrong in candidates if wrong != expected))


def _near(number: int) -> tuple[str, ...]:
    """Return numbers that a careless calculation could have given."""
    return tuple(str(number + slip) for slip in (1, -1, 10, -10, 2, -2, 100))


def _arithmetic(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    a, sign, b = int(match[1]), match[2], int(match[3])
    value = a + b if sign == "+" else a - b if sign == "-" else a * b
    return str(value), _near(value)


def _make_arithmetic(rng: random.Random) -> str:
    ask = rng.choice(("What is {}?", "Calculate {}.", "How much is {}?", "Work out {}."))
    return ask.format(f"{rng.randint(12, 989)} {rng.choice('+-*')} {rng.randint(3, 97)}")


def _capital(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    if match[1] not in CAPITALS:
        return None
    cities = list(CAPITALS.values())
    at = list(CAPITALS).index(match[1])
    return CAPITALS[match[1]], tuple(cities[(at + step) % len(cities)] for step in (1, 7, 19, 31))


def _make_capital(rng: random.Random) -> str:
    ask = (
        "What is the capital of {}?",
        "Name the capital city of {}.",
        "Which city is the capital of {}?",
        "Tell me the capital of {}, please.",
        "My quiz asks for the capital of {}. What do I write?",
    )
    lead = rng.choice(("", "Geography: ", "A short one. ", "For a crossword: "))
    return lead + rng.choice(ask).format(rng.choice(list(CAPITALS)))


_RATIOS = {(large, small): ratio for large, ratio, small in UNITS}


def _units(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    ratio = _RATIOS.get((match["large"] or match["large2"], match["small"] or match["small2"]))
    if ratio is None:
        return None
    tenths = round(float(match["value"] or match["value2"]) * 10) * ratio
    wrong = (tenths * 10, tenths + 10 * ratio, tenths * 2, tenths // 10)
    return _decimal(tenths), tuple(map(_decimal, wrong))


def _decimal(tenths: int) -> str:
    return str(tenths // 10) if tenths % 10 == 0 else f"{tenths / 10:.1f}"


def _make_units(rng: random.Random) -> str:
    large, _, small = rng.choice(UNITS)
    ask = rng.choice(("Convert {0} {1} to {2}.", "How many {2} are there in {0} {1}?"))
    return ask.format(_decimal(5 * rng.randint(3, 199)), large, small)


def _reversal(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    right = match[1][::-1]
    swapped = (right[1] + right[0] + right[2:], right[:-2] + right[-1] + right[-2])
    return right, (*swapped, match[1], right[1:])


def _make_reversal(rng: random.Random) -> str:
    ask = (
        "Write the word '{}' backwards.",
        "Reverse the letters of the word '{}'.",
        "Take the word '{}' and spell it from its last letter to its first.",
    )
    word = rng.choice(WORDS) if rng.random() < 0.3 else rng.choice(WORDS) + rng.choice(WORDS)
    return rng.choice(ask).format(word)


def _loop(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    start, rounds, step = int(match[1]), int(match[2]), int(match[3])
    value = start + step * rounds * (rounds - 1) // 2
    return str(value), (str(value + step * rounds), str(value - start), *_near(value))


def _make_loop(rng: random.Random) -> str:
    return (
        "What does this Python program print?\n```python\n"
        f"total = {rng.randint(0, 40)}\nfor i in range({rng.randint(3, 12)}):\n"
        f"    total += i * {rng.randint(2, 9)}\nprint(total)\n```"
    )


def _comprehension(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    factor, stop, divisor = int(match[1]), int(match[2]), int(match[3])
    value = sum(x * factor for x in range(stop) if x % divisor == 0)
    return str(value), (str(value + factor * stop), str(value // factor), *_near(value))


def _make_comprehension(rng: random.Random) -> str:
    return (
        "What is the output of the following code?\n```python\n"
        f"print(sum([x * {rng.randint(2, 12)} for x in range({rng.randint(6, 20)})"
        f" if x % {rng.randint(2, 4)} == 0]))\n```"
    )


def _translation(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    word, language = match["word"] or match["word2"], match["language"] or match["language2"]
    if word not in TRANSLATIONS:
        return None
    words = list(TRANSLATIONS)
    near = (words[(words.index(word) + step) % len(words)] for step in (1, 11, 23))
    return TRANSLATIONS[word][language], tuple(TRANSLATIONS[w][language] for w in near)


def _make_translation(rng: random.Random) -> str:
    ask = (
        "Translate the word '{0}' into {1}.",
        "Translate the noun '{0}' into {1}, without its article.",
        "What is the {1} word for '{0}'?",
    )
    language = rng.choice(("Spanish", "French", "German"))
    lead = rng.choice(("", "For a menu: ", "Vocabulary test. "))
    return lead + rng.choice(ask).format(rng.choice(list(TRANSLATIONS)), language)


def _weekday(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    try:
        day = date(int(match[3]), MONTHS.index(match[2]) + 1, int(match[1])).weekday()
    except ValueError:  # no such day: not one of our questions
        return None
    return WEEKDAYS[day], tuple(WEEKDAYS[(day + step) % 7] for step in (1, 6, 3))


def _make_weekday(rng: random.Random) -> str:
    ask = rng.choice(("What day of the week was {}?", "On which weekday did {} fall?"))
    return ask.format(f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1960, 2023)}")


def _extraction(match: re.Match[str]) -> tuple[str, tuple[str, ...]]:
    values = match.groupdict()
    field = values.pop("field")
    number, name, total = values["number"], values["name"], values["total"]
    right = {"invoice number": number, "customer": name, "total amount": total}[field]
    return right, (number, total, values["days"]) if field != "customer" else CUSTOMERS


def _make_extraction(rng: random.Random) -> str:
    field = rng.choice(("invoice number", "customer", "total amount"))
    return (
        f"Extract the {field} from this text: Invoice {rng.randint(1000, 9999)} for "
        f"{rng.choice(CUSTOMERS)}: {rng.randint(2, 40)} {rng.choice(GOODS)}, total EUR "
        f"{rng.randint(1000, 99999) / 100:.2f}, due in {rng.randint(7, 90)} days."
    )


def _sentiment(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    verdict = _SENTIMENT.search(match[1])
    if verdict is None:
        return None
    return ("positive", ("negative",)) if verdict[0] in PRAISE else ("negative", ("positive",))


def _make_sentiment(rng: random.Random) -> str:
    ask = rng.choice(
        ("Is this review positive or negative?", "Classify the sentiment: positive or negative.")
    )
    verdict = rng.choice(rng.choice((PRAISE, BLAME)))
    return f'{ask}\nReview: "{rng.choice(OPENINGS)} The {rng.choice(REVIEWED)} {verdict}."'


def _choice(match: re.Match[str]) -> tuple[str, tuple[str, ...]] | None:
    wanted = ELEMENTS.get(match[1])
    offered = match.groups()[1:]
    if wanted not in offered:
        return None
    right = _LETTERS[offered.index(wanted)]
    return right, tuple(letter for letter in _LETTERS if letter != right)


def _make_choice(rng: random.Random) -> str:
    symbol = rng.choice(list(ELEMENTS))
    others = rng.sample([name for name in ELEMENTS.values() if name != ELEMENTS[symbol]], 3)
    options = rng.sample([ELEMENTS[symbol], *others], 4)
    listed = "\n".join(f"{letter}) {name}" for letter, name in zip(_LETTERS, options, strict=True))
    return (
        f"Which chemical element has the symbol {symbol}?\n{listed}\nAnswer with one letter only."
    )


_UNITS_PATTERN = (
    r"Convert (?P<value>[\d.]+) (?P<large>\w+) to (?P<small>\w+)|"
    r"How many (?P<small2>\w+) are there in (?P<value2>[\d.]+) (?P<large2>\w+)"
)
_TRANSLATION_PATTERN = (
    r"Translate the (?:word|noun) '(?P<word>\w+)' into (?P<language>Spanish|French|German)|"
    r"What is the (?P<language2>Spanish|French|German) word for '(?P<word2>\w+)'"
)
_EXTRACTION_PATTERN = (
    r"Extract the (?P<field>invoice number|customer|total amount) from this text: "
    r"Invoice (?P<number>\d+) for (?P<name>[\w ]+): \d+ \w+, total EUR (?P<total>[\d.]+), "
    r"due in (?P<days>\d+) days"
)
_CHOICE_PATTERN = (
    r"Which chemical element has the symbol (\w+)\?\nA\) (\w+)\nB\) (\w+)\nC\) (\w+)\nD\) (\w+)"
)

FORMS: tuple[Form, ...] = (
    Form(
        "arithmetic",
        re.compile(r"(?:What is|Calculate|How much is|Work out) (\d+) ([-+*]) (\d+)"),
        _make_arithmetic,
        _arithmetic,
    ),
    Form("capitals", re.compile(r"capital(?: city)? of (\w+)"), _make_capital, _capital),
    Form("units", re.compile(_UNITS_PATTERN), _make_units, _units),
    Form(
        "reversal",
        re.compile(r"(?:Write|Reverse the letters of|Take) the word '(\w{3,})'"),
        _make_reversal,
        _reversal,
    ),
    Form(
        "code",
        re.compile(r"total = (\d+)\nfor i in range\((\d{1,4})\):\n    total \+= i \* (\d+)\n"),
        _make_loop,
        _loop,
    ),
    Form(
        "code",
        re.compile(r"sum\(\[x \* ([1-9]\d*) for x in range\((\d{1,4})\) if x % ([1-9]\d*) == 0\]"),
        _make_comprehension,
        _comprehension,
    ),
    Form("translation", re.compile(_TRANSLATION_PATTERN), _make_translation, _translation),
    Form(
        "dates",
        re.compile(rf"week(?:day)? (?:was|did) (\d+) ({'|'.join(MONTHS)}) (\d{{4}})"),
        _make_weekday,
        _weekday,
    ),
    Form("extraction", re.compile(_EXTRACTION_PATTERN), _make_extraction, _extraction),
    Form(
        "sentiment",
        re.compile(r'positive or negative[?.]\nReview: "([^"]*)"'),
        _make_sentiment,
        _sentiment,
    ),
    Form("choice", re.compile(_CHOICE_PATTERN), _make_choice, _choice),
)
TOPICS: tuple[str, ...] = tuple(dict.fromkeys(form.topic for form in FORMS))
