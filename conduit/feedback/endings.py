"""Tells a text that was cut off from one that merely ends without a full stop.

Short answers, lists, titles, poems, signatures and code end as they like; an open code block, an
open bracket or a sentence that stops after "the" does not. Only the last 2,000
characters are read; fences are counted in the whole text, brackets up to 20,000 characters.
"""

# ruff: noqa: RUF001  (the marks of other languages and typographic quotes are meant)

import re
import unicodedata
from typing import Final

TAIL_CHARS: Final = 2_000
_COUNTED_CHARS: Final = 20_000  # brackets of a longer text are not counted
_PROSE_CHARS: Final = 160  # below this, an answer may end without a full stop
_LONG_LINE_WORDS: Final = 15  # a line of prose this long is a sentence
_SHORT_PROSE_CHARS: Final = 80  # of two whole sentences and the beginning of a third
_LONE_LINE_WORDS: Final = 20  # one sentence this long, with a comma, ends with a full stop
_NAME_WORDS: Final = 5
_SIGNATURE_WORDS: Final = 8
_LOOP_CHARS: Final = 200
_OPEN_LINE_WORDS: Final = 8  # a line so long that ends with "of" is a sentence without its end
_FEWEST_ANNOUNCED: Final = 3
_CJK_STOPS: Final = 2  # so many sentences that end with a full stop, and another that does not


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_TERMINAL: Final = frozenset(".!?…。！？:;)]}>\"'»”’“`*_|$%°~#/\\=+")
_FENCE_OPENING: Final = re.compile(r"(?:^|\n)[ \t]*(?:[-*>]|\d+[.)])?[ \t]*```[^\n`]*(?:\n|$)")
_JSON_START: Final = re.compile(r"[\[{]\s*(?:[\"{\[]|-?\d+\s*,|\n)")
_MARKUP_START: Final = re.compile(
    r"<(?:!doctype|html|svg|\?xml|div|table|body|head|ul|section)\b", re.I
)
_ROOT: Final = re.compile(r"<([a-z][\w:-]*)(?:\s[^<>]*)?>\s*<[a-z]", re.I)
_ELEMENT: Final = re.compile(r"<[a-z][\w:-]*(?:\s[^<>]*)?(?<!/)>", re.I)
_BARE_MARKER: Final = re.compile(r"(?:[-*+•]|\d{1,3}[.)])(?:\s*\*{1,2})?\s*$")
_BOLD: Final = re.compile(r"(?<!\S)\*\*(?=\S|$)|(?<=\S)\*\*(?!\S|\*)")
_ITEM: Final = re.compile(r"\s*(?:[-*+•–]|\d{1,3}[.)]|[a-zA-Z][.)])\s+\S")
_NOT_PROSE: Final = re.compile(r"\s*(?:[#>|]|```|\$\$|https?://)|\s{4,}")
_OPEN_OPERATOR: Final = re.compile(r"(?:[(\[{,&]|[^=]=|[<>=!]=|\|\||&&|=>|->|\s[+*\-/<>±×÷])$")
_OPEN_SQL: Final = re.compile(
    r"\bSELECT\b.*\b(?:SELECT|FROM|WHERE|JOIN|ON|AND|OR|BY|HAVING|SET|VALUES|IN|AS|LIKE)$", re.S
)
_OPEN_TAG: Final = re.compile(r"<(?!(?:br|hr|img|input|meta|link)\b)\w+(?:\s[^<>]*[^/<>])?>$", re.I)
_CONJUNCTION: Final = re.compile(r"\b(?:and|so|such|provided|except|now) that$")
_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_CJK_STOP: Final = re.compile(r"[。！？]")
_CODE_LINE: Final = re.compile(r"[{};]\s*$", re.M)
_CODE_START: Final = re.compile(
    r"(?:#include|import|from|package|using|function|async|const|let|var|def|class|public|private"
    r"|static|fn|func|struct|interface|type|enum)\b[^\n]{0,120}[<{(;\"'=>]"
)
_CODE_LINES: Final = 3  # so many lines in braces or with semicolons are code
_EMOTICON: Final = re.compile(r"[:;=8xX]'?-?[(\[{<]$")
_CLOSING_LINE: Final = re.compile(
    r"(?:(?:best|kind|warm|warmest|many|with|yours|thank|thanks|sincerely|regards|cheers|love"
    r"|all|mit|viele|liebe"
    r"|herzliche|cordialement|bien|amicalement|saludos|atentamente|un|cordiali|dear|hi"
    r"|hello)\b[^.!?]{0,30},)$",
    re.I,
)
_STOPPED: Final = re.compile(r"[.!?。！？][\"')\]»”*]*(?=\s|$)|[。！？]")
_LAST_STOP: Final = re.compile(r".*[.!?:][\"')\]»”*]*\s|.*[。！？：]", re.S)
_CODE_SIGNS: Final = re.compile(r"[{}<>=|\\]|\(\)|::")
_OPEN_PAREN: Final = re.compile(r"\([^()\n]{0,300}$")
# A sentence does not end with these; other prepositions may ("what are you waiting for").
_NEVER_LAST: Final = _words(
    "the a an and or but because which than whose if while whereas although into its their your my",
    "our is are was were to of with from by as at for in on be has have had",
    "der die das und oder ein eine einen einem einer weil dass zu mit von für über den dem des im",
    "zur zum le la les et ou un une des du de que qui dans pour avec sur par est sont aux au",
    "el los las y o una del con para por en que como es son al lo il e di che per con nel della",
)
_ALWAYS_OPEN: Final = _words(
    "the an and or because which than whose its their your my our into und oder weil dass et ou y"
)
_WORDS: Final = re.compile(r"\S+")
_FEW: Final = ["three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ANNOUNCED: Final = re.compile(rf"\b(\d{{1,2}}|{'|'.join(_FEW)})\b(?: [\w'-]+){{1,8}}:\s*\n", re.I)
_NUMBERED: Final = re.compile(r"^\s*(\d{1,3})[.)]\s+\S", re.M)


def is_cut(text: str) -> bool:
    """Return whether a text, stripped and without its think block, was cut off before its end."""
    tail = text[-TAIL_CHARS:]
    return (
        _open_fence(text)
        or _open_structure(text)
        or _open_block(text)
        or _open_last_line(text, tail)
        or _open_sentence(text, tail)
        or _cut_loop(tail)
        or _fewer_than_announced(text)
    )


def _open_fence(text: str) -> bool:
    if text.count("```") % 2 == 0 or text.endswith("```"):
        return False
    return _FENCE_OPENING.match(text, max(0, text.rfind("\n", 0, text.rfind("```")))) is not None


def _open_structure(text: str) -> bool:
    """Return whether a text that is one JSON or XML value lacks its end."""
    if _JSON_START.match(text) and not text.startswith("{{"):
        last = text[-1]
        return last not in "]}" or (
            len(text) <= _COUNTED_CHARS and _depth(text, "{", "}") + _depth(text, "[", "]") > 0
        )
    if _MARKUP_START.match(text) is None:
        return _open_root(text)
    return not text.endswith((">", "```")) or _OPEN_TAG.search(text[-80:]) is not None


def _open_root(text: str) -> bool:
    """Return whether a text that is one element of XML lacks its end."""
    root = _ROOT.match(text)
    if root is None or len(text) > _COUNTED_CHARS:
        return False
    return f"</{root[1]}" not in text and len(_ELEMENT.findall(text)) > text.count("</") + 1


def _open_block(text: str) -> bool:
    """Return whether code without a fence has not closed what it opened."""
    if "```" in text:
        return False
    tail = text[-TAIL_CHARS:]
    for opening, closing in ("()", "[]"):
        last = tail.rfind(opening + "\n")
        if last >= 0 and _depth(tail[last:], opening, closing) > 0:
            return True
    least = 1 if _CODE_START.match(text) else _CODE_LINES
    code = len(text) <= _COUNTED_CHARS and len(_CODE_LINE.findall(tail)) >= least
    return code and _depth(text, "{", "}") > 0


def _depth(text: str, opening: str, closing: str) -> int:
    return text.count(opening) - text.count(closing)


def _open_last_line(text: str, tail: str) -> bool:
    lines = tail.split("\n")
    last = lines[-1].strip()
    if len(text) < 20 or _EMOTICON.search(last[-4:]):
        return False
    if len(lines) > 1 and (_BARE_MARKER.match(last) or len(_BOLD.findall(last)) % 2):
        return True
    if last.startswith("|"):
        above = lines[-2].strip() if len(lines) > 1 else ""
        return above.endswith("|") and (
            not last.endswith("|") or 2 <= last.count("|") < above.count("|")
        )
    if last.endswith(":"):
        return len(_WORDS.findall(last)) >= 3
    if last.endswith(","):
        return len(text) >= 40 and not _CLOSING_LINE.match(last)
    if _OPEN_OPERATOR.search(last[-8:]) or ("SELECT" in tail and _OPEN_SQL.search(tail)):
        return True
    if "\\" not in tail or len(text) > _COUNTED_CHARS:
        return False
    return text.count("\\begin{") > text.count("\\end{") or text.count("$$") % 2 == 1


def _open_sentence(text: str, tail: str) -> bool:
    if len(_CJK_STOP.findall(tail)) >= _CJK_STOPS or tail.endswith(("，", "、")):
        return bool(_CJK.match(tail[-1]) or tail[-1] in "，、")
    if len(text) < 40 or _ends_well(tail):
        return False
    lines = tail.split("\n")
    line = lines[-1]
    if _NOT_PROSE.match(line) or _inside_fence_or_code(line):
        return False
    words = _WORDS.findall(line)
    if len(words) <= _NAME_WORDS and all(w[0].isupper() for w in words):
        return False  # a signature, a name, a title
    last_word = words[-1].lower()
    if _OPEN_PAREN.search(line) and len(words) >= 6:
        return True
    if words[-1] == last_word and last_word in _ALWAYS_OPEN and len(words) >= 4:
        return True
    if _ITEM.match(line):
        return _unlike_other_items(lines)
    stopped = _STOPPED.search(line) is not None
    prose = len(_STOPPED.findall(tail)) >= 2 or (stopped and len(words) >= _LONG_LINE_WORDS)
    never_last = words[-1] == last_word and (
        last_word in _NEVER_LAST or _CONJUNCTION.search(line) is not None
    )
    if never_last and len(set(words)) >= _OPEN_LINE_WORDS:
        return True
    fragment = _WORDS.findall(_LAST_STOP.sub("", line, count=1)) if stopped else words
    if _begins_another(line, fragment) or _runs_on(line, words):
        return len(text) >= _SHORT_PROSE_CHARS
    if len(text) < _PROSE_CHARS or not prose:
        return False
    if never_last and len(words) >= 4:
        return True
    if words[-1].isupper() or (stopped and (len(fragment) < 2 or _signs(fragment))):
        return False
    return stopped or len(words) >= _LONG_LINE_WORDS


def _signs(fragment: list[str]) -> bool:
    """Return whether what follows the last stop is a greeting and a name."""
    return len(fragment) <= _SIGNATURE_WORDS and any(
        _CLOSING_LINE.match(" ".join(fragment[:k])) for k in range(1, len(fragment))
    )


def _begins_another(line: str, fragment: list[str]) -> bool:
    """Return whether a line of two whole sentences stops within a third."""
    lower = len(fragment) >= 2 and fragment[-1].islower()
    return lower and len(_STOPPED.findall(line)) >= 2


def _runs_on(line: str, words: list[str]) -> bool:
    """Return whether a line is one long sentence in clauses that lacks its end."""
    plain = line[:1].isupper() and words[-1].islower() and not _CODE_SIGNS.search(line)
    return plain and len(words) >= _LONE_LINE_WORDS and ", " in line


def _ends_well(tail: str) -> bool:
    last = tail[-1]
    return last in _TERMINAL or last.isdigit() or unicodedata.category(last)[0] in "SC"


def _inside_fence_or_code(line: str) -> bool:
    return line.rstrip().endswith(("{", "}", ";")) or line.startswith(("\t", "    "))


def _unlike_other_items(lines: list[str]) -> bool:
    """Return whether every earlier item of a list ends with a stop, and the last does not."""
    earlier = [line.rstrip() for line in lines[:-1] if _ITEM.match(line)]
    return len(earlier) >= 2 and all(line.endswith((".", "!", "?", "。")) for line in earlier)


def _fewer_than_announced(text: str) -> bool:
    """Return whether "ten names:" is followed by a numbered list that stops before the tenth."""
    found = _ANNOUNCED.search(text[:_LOOP_CHARS])
    numbers = [int(n) for n in _NUMBERED.findall(text)] if found else []
    if found is None or not numbers or not _NUMBERED.match(text[text.rfind("\n") + 1 :]):
        return False
    said = found[1].lower()
    wanted = int(said) if said.isdigit() else _FEW.index(said) + _FEWEST_ANNOUNCED
    in_order = numbers == list(range(1, len(numbers) + 1))
    return in_order and wanted >= _FEWEST_ANNOUNCED and len(numbers) < wanted


def _cut_loop(tail: str) -> bool:
    """Return whether a text says one phrase over and over and stops within a word of it."""
    end = tail[-24:]
    before = tail.rfind(end, 0, len(tail) - 1)
    period = len(tail) - len(end) - before
    if len(tail) < _LOOP_CHARS or before < 0 or period > _LOOP_CHARS // 4:
        return False
    span = tail[-_LOOP_CHARS:]
    # In a loop the next character is the one that came a period ago.
    return span[period:] == span[:-period] and tail[-1].isalpha() and tail[-period].isalpha()
