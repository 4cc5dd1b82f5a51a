"""Finds what stands where an answer should be though nobody wrote it as one.

The text of an error that a gateway, a server or a script gave instead; a slot of a template that
was never filled; one phrase said over and over. Only a text that is nothing else counts: an answer
that explains an error, quotes a template or repeats a refrain goes on to say something.
"""

from __future__ import annotations

import json
import re
from typing import Final, Literal

Debris = Literal["exception", "empty", "truncated", "invalid_output"]

MAX_CHARS: Final = 1_500  # of an error's text or a template
_PLAIN_CHARS: Final = 300  # of an error in a line of prose
_LOOP_CHARS: Final = 400  # of the end that is looked at
_LEAST_LOOP_CHARS: Final = 120
_LEAST_TURNS: Final = 4
_LONGEST_TURN: Final = 66

_TRACE: Final = re.compile(
    r"traceback \(most recent call last\):.*\n[\w.]*(?:error|exception|interrupt|exit|timeout)\b"
    r"[^\n]*$"
    r"|(?:[\w.$]+\.)?\w*(?:error|exception)\b[^\n]{0,200}(?:\n\s+at [^\n]+)+$"
    r"|(?:[a-z_]\w*\.)+\w*(?:error|exception|timeout): [^\n]+$",
    re.I | re.S,
)
_REASON: Final = (
    r"(?:internal server error|bad gateway|gateway time-?out|service (?:temporarily )?unavailable"
    r"|too many requests|request time-?out|unauthori[sz]ed|forbidden|payload too large"
    r"|origin is unreachable|web server is down|a timeout occurred|bad request|not found)"
)
_STATUS: Final = re.compile(
    rf"(?:http(?:/[\d.]+)?\s*|error:?\s*|status(?: code)?:?\s*)*[45]\d\d\W{{1,3}}{_REASON}"
    r"[.!]?$",
    re.I,
)
_REASON_ALONE: Final = re.compile(rf"{_REASON}[.!]?", re.I)
_NAMED: Final = re.compile(
    r"(?:[a-z_]\w*\.)+[A-Z]\w*(?:Error|Exception|Timeout)$"
    r"|(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception): [^\n]{4,}$"
)
_CODE_ALONE: Final = re.compile(
    r"[\w .-]{0,20}\b(?:error|exception|failure)\b\W.{0,80}\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\W*$",
    re.S,
)
_PAGE: Final = re.compile(
    rf"\s*<(?:!doctype|html|head)\b.*<(?:title|h1)>[^<]*(?:\b[45]\d\d\b|{_REASON}|error)[^<]*</",
    re.I | re.S,
)
_PLAIN: Final = re.compile(
    r"\W*(?:(?:an? |the )?(?:\w+ ?)?(?:error|exception|failure|err|fatal)\b\W*)?"
    r"(?:code\W*)?(?:[\w.]+(?:error|exception):\s*)?(?:\(?\b[45]\d\d\b\)?\W*)?"
    r"(?:(?:api |token |request )?(?:rate|usage|request|token|quota) (?:limit|quota)s? "
    r"(?:has been |was |is )?(?:exceeded|reached|hit)|quota (?:has been )?exceeded"
    r"|you(?:'ve| have)? (?:exceeded|reached|hit) your\b.{0,40}\b(?:quota|limits?|credits?)\b"
    r"|(?:incorrect|invalid|missing|expired|no) (?:api|access|auth\w*) (?:key|token)"
    r"|insufficient[_ ](?:quota|credits?|balance|funds)"
    r"|(?:maximum )?context (?:length|window)\b.{0,30}\b(?:exceeded|is)\b"
    r"|max(?:imum)? tokens exceeded"
    r"|(?:the )?(?:\w+ )?(?:model|engine|server|backend)\b.{0,30}\b(?:overloaded|not (?:found"
    r"|loaded|available|exist|ready)|does not exist|out of memory|unreachable)"
    r"|(?:cuda )?out of memory|upstream\b.{0,60}\b(?:error|timeout|reset|failure)"
    r"|connect e[a-z]{5,}|(?:read|connect\w*|socket|request|gateway|deadline|operation"
    r"|response) ?(?:time[d-]? ?out"
    r"|exceeded|refused|reset|aborted|closed)|econn(?:reset|refused|aborted)|etimedout|enotfound"
    r"|(?:failed|unable|could not) to (?:connect|reach|parse|decode|load|fetch|establish)"
    r"|unexpected (?:token|end of (?:json|input|file)|status code)"
    r"|segmentation fault|null ?pointer|cannot read propert\w+ of (?:undefined|null)"
    r"|\w+ is not (?:defined|a function)|undefined is not)",
    re.I,
)
# What programs print as they fail, and what is told of a tool that did.
_PRINTED: Final = re.compile(
    r"\W*(?:error|fatal(?: error)?|panic|critical)\W*[:\]]\s*\S.{6,}"
    r"|(?:unhandled|uncaught) (?:exception|error|\w+(?:error|exception))\b"
    r"|thread '[^'\n]*' panicked|(?:ba)?sh: \S+: |\w+: command not found"
    r"|(?:warning|notice|parse error|fatal error): .{1,200} in \S+ on line \d"
    r"|an error occurred \(\w+\)|<error\b[^>]*>\s*<"
    r"|(?:network|internal|system|server|runtime|database|unknown|unexpected) error\W*(?:$|[:(])"
    r"|(?:\w+ )?(?:request|call|query|job|task) failed with (?:status|code|error|http)\b"
    r"|this (?:model|endpoint)'s maximum context|internal error\b"
    r"|e(?:rr)?_?[A-Z]+_[A-Z_]+$|socket hang up$|(?:max(?:imum)? )?retries exceeded"
    r"|model \S+ is (?:currently |still )?loading|cannot connect to host"
    r"|(?:authentication|authorization|login) failed:|permission denied (?:on|for)\b"
    r"|(?:worker|process|job|task|container) (?:\S+ )?(?:died|crashed|was killed|exceeded"
    r"|timed out)"
    r"|function \S+ is not defined$",
    re.I | re.S,
)
# What a decoder leaves that nobody reads: marks of bytes and of blanks, letters hit at random.
_GARBLED: Final = ("\ufffd", "\u0120", "\u010a", "\u2581")
_LEAST_GARBLED: Final = 0.08
_MASHED: Final = re.compile(
    r"[^aeiouy\W\d_]{5,}|qw|zx|xz|jk|kj|qk|kq|jq|zq|qz|lkj|sdf|fgh|xcv|wq|(?!mb)[bmn]{2,}[zx]", re.I
)
_LEAST_MASHED: Final = 4
_CALL: Final = re.compile(
    r"(?:(?:functions?|tools?|default_api)\.\w+\s*\(.*\)"
    r"|<(?:function|tool|invoke)\b[=\s:][^<>]*>.*|<\|?(?:tool|python)[_▁]\w+\|?>.*)",
    re.S,
)
_CALL_ENDS: Final = (")", ">", "}")
_SLOTS: Final = re.compile(r"\{[a-z][a-z_]{1,30}\}|\[[A-Z][A-Z _]{1,30}\]")
_LEAST_SLOTTED: Final = 0.4  # share of a text that is slots from which it is a template
_TOOL: Final = re.compile(
    r"(?:(?:sorry|unfortunately)\W+)?(?:the |an? |your )?(?:[\w.-]+ ){0,3}?[`'\"]?[\w.-]*"
    r"(?:(?:tool|function|plugin|action|mcp server|api|connector|agent)\b|\w\(\))"
    r"[^.!?]{0,60}?\b(?:failed(?! to\b(?! respond))|failed to respond|timed out|crashed"
    r"|disconnected|raised|threw|returned (?:an? )?(?:\w+ )?(?:error|exception|status|nothing)"
    r"|(?:call |execution )?error\b)",
    re.I,
)
_TOLD_CHARS: Final = 200
# An answer about errors explains them.
_EXPLAINS: Final = re.compile(
    r"\b(?:means?|meaning|happens?|occurs when|indicates?|because|usually|typically|caused by"
    r"|to fix|you can(?! (?:find|get|obtain|view|see|check|contact))|raised|thrown|you should"
    r"|you need|try (?:to|adding|setting|increasing|using)|solution"
    r"|(?:is|are) (?:printed|shown|logged|displayed)|for example"
    r"|status code is|refers to|which|why|at the time|so that|therefore)\b",
    re.I,
)
_ERROR_KEYS: Final = frozenset(("error", "errors", "exception", "traceback", "fault"))
_BESIDE_ERRORS: Final = frozenset(
    ("code", "status", "message", "msg", "type", "detail", "details", "title", "path", "timestamp",
     "request_id", "requestid", "success", "ok", "statuscode", "status_code", "param", "data",
     "result", "reason", "instance", "trace_id", "retry_after", "id", "object", "response")
)  # fmt: skip
_SLOT_WORDS: Final = (
    r"(?:your|the|insert|add|enter|put|write|type|fill|answer|response|reply|output|content|text"
    r"|placeholder|generated|assistant|completion|result|summary|translation)"
)
_SLOT: Final = re.compile(
    rf"(?:\[{_SLOT_WORDS}\b[^\][]{{0,80}}\]|<{_SLOT_WORDS}[ _-][^<>]{{1,60}}>"
    r"|\{\{[^{}]{1,60}\}\}|\$\{[^{}]{1,60}\}|%\(?\w+\)?s)\.?",
    re.I,
)
_EMPTY_TAGS: Final = re.compile(
    r"<(?:empty|none|null|blank|no[ _-]\w+)>|(?:<(\w+)[^<>]*>\s*</\1>\s*)+"
)
_UNFILLED: Final = re.compile(
    r"[-\u2013\u2014]{2,}|\W*(?:to-?do|tbd|tba|fixme|placeholder|coming soon|lorem ipsum\b.*"
    r"|work in progress"
    r"|(?:answer|response|content|text|output) (?:goes )?here|insert \w+ here|to be (?:determined"
    r"|added|completed|written|filled in)|\[object object\]|null|nil|nan|undefined|n/?a"
    r"|(?:(?:final )?answer|assistant|response|reply|output|result|summary|translation|ai|bot):"
    r"|not available|none available|no (?:answer|response|output|result|content))\W*",
    re.I | re.S,
)
_REPEATED: Final = re.compile(
    r"\b(?:repeat\w*|times|over and over|loop|copies|lines? of|characters?|zeros?|padding|fill\w*"
    r"|string of|spam|mantra|chant|lyrics|again and again)\b",
    re.I,
)
_JSON_CHARS: Final = 20_000
_JSON_OPENING: Final = ("{", "[", "```")
_JSON_FENCE: Final = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.S)
_JSON_SHAPE: Final = re.compile(r"(?:\{\s*\"|\[\s*\{\s*\").*[\]}]", re.S)
_SKETCHED: Final = re.compile(r"\.\.\.|…|^\s*(?://|#)|/\*|\{\{|\$\{", re.M)
_OPENS_AS_DATA: Final = ("[", "{", "(", "|", "#", "```", "<", '"')


def debris(text: str, prompt: str | None = None, *, data: bool = False) -> Debris | None:
    """Return what a stripped text is instead of an answer; None where it is one.

    `data` says that a type was asked for and got, so that JSON about an error is an answer.
    """
    if len(text) <= MAX_CHARS:
        if not data and _is_error(text, prompt):
            return "exception"
        if _is_unfilled(text) or _is_template(text):
            return "empty"
    if _is_broken_json(text):
        return "invalid_output"
    return "truncated" if _is_loop(text, prompt) else None


def _is_error(text: str, prompt: str | None) -> bool:
    if _TRACE.match(text) or _PAGE.match(text) or _is_garbled(text):
        return not _asked(prompt)
    if text[-1] in _CALL_ENDS and _CALL.fullmatch(text):
        return True
    if text.startswith("{"):
        return _is_error_object(text)
    if _STATUS.match(text) or _REASON_ALONE.fullmatch(text) or _CODE_ALONE.match(text):
        return not _asked(prompt)
    found = len(text) <= _PLAIN_CHARS and (
        _PLAIN.match(text) or _NAMED.match(text) or _PRINTED.match(text)
    )
    found = found or (len(text) <= _TOLD_CHARS and _TOOL.match(text))
    return bool(found) and not _EXPLAINS.search(text) and not _asked(prompt)


def _asked(prompt: str | None) -> bool:
    """Return whether the prompt is itself about an error, whose text may then be the answer."""
    return prompt is not None and _ABOUT_ERRORS.search(prompt[:2_000]) is not None


_ABOUT_ERRORS: Final = re.compile(
    r"\b(?:errors?|exceptions?|traceback|stack ?trace|status codes?|http|output of"
    r"|prints?|logs?)\b",
    re.I,
)


def _is_error_object(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    keys = {str(key).lower() for key in value}
    keys = {key for key in keys if not key.startswith("error_")}
    named = [v for k, v in value.items() if str(k).lower() in _ERROR_KEYS and v]
    told = [v for v in value.values() if isinstance(v, str) and _is_error_text(v.strip())]
    return bool(named or told) and keys <= _ERROR_KEYS | _BESIDE_ERRORS


def _is_error_text(text: str) -> bool:
    return bool(_STATUS.match(text) or _PLAIN.match(text) or _REASON_ALONE.fullmatch(text))


def _is_broken_json(text: str) -> bool:
    """Return whether a text, or its one fence, opens and ends as JSON and is none.

    JSON with comments or omissions is a sketch of some, and one value a line is another format.
    """
    if len(text) > _JSON_CHARS or not text.startswith(_JSON_OPENING):
        return False
    fenced = _JSON_FENCE.fullmatch(text)
    value = fenced[1] if fenced else text
    if not _JSON_SHAPE.fullmatch(value) or _SKETCHED.search(value):
        return False
    if value.count("{") > value.count("}") or value.count("[") > value.count("]"):
        return False  # it was cut off
    return not _parses(value) and not all(map(_parses, filter(str.strip, value.splitlines())))


def _parses(value: str) -> bool:
    try:
        json.loads(value, strict=False)
    except ValueError:
        return False
    return True


def _is_unfilled(text: str) -> bool:
    return bool(_SLOT.fullmatch(text) or _EMPTY_TAGS.fullmatch(text) or _UNFILLED.fullmatch(text))


def _is_template(text: str) -> bool:
    """Return whether most of a text is slots that were never filled."""
    if "{" not in text and "[" not in text:
        return False
    slots = _SLOTS.findall(text)
    return len(slots) >= 2 and sum(map(len, slots)) >= _LEAST_SLOTTED * len(text)


def _is_garbled(text: str) -> bool:
    """Return whether a text is marks of a decoder, or letters hit at random."""
    if not text.isascii():
        return sum(map(text.count, _GARBLED)) >= _LEAST_GARBLED * len(text)
    if len(text) > _PLAIN_CHARS or not text.islower():
        return False
    words = text.split()
    return (
        len(words) >= _LEAST_MASHED
        and all(map(str.isalpha, words))
        and sum(_MASHED.search(word) is not None for word in words) > 0.6 * len(words)
    )


def _is_loop(text: str, prompt: str | None) -> bool:
    """Return whether a text ends in one phrase that is said over and over."""
    if len(text) < _LEAST_LOOP_CHARS or text.startswith(_OPENS_AS_DATA) or "```" in text[-2_000:]:
        return False
    end = text[-_LOOP_CHARS:]
    if end.rfind(end[-8:], 0, -1) < 0 or (prompt is not None and _REPEATED.search(prompt)):
        return False
    most = min(_LONGEST_TURN, len(end) // _LEAST_TURNS)
    turn = next((n for n in range(1, most + 1) if end[n:] == end[:-n]), None)
    if turn is None or "\n" in end[-turn:]:
        return False  # lines are repeated on purpose: lyrics, drills, tables
    said = end[-turn:].strip().lower()
    sung = len(said) <= 3 and said.isalpha()  # la la la
    return not sung and any(map(str.isalnum, said))


__all__ = ["Debris", "debris"]
