"""What can go wrong with a call, what each kind means, and how foreign errors are told apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import PurePath

from conduit.core.errors import ExecutionError, ProviderError

MAX_RETRY_AFTER_S = 120.0  # a provider that asks for longer is asked again after this long
MAX_CAUSES = 8  # of a chain of foreign errors


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one kind of failure says about the model, and what to do next."""

    words: str
    quality: float | None  # what it teaches; None: nothing about quality
    falls_back: bool = True  # the next candidate may do better; the same model is never asked twice
    trips: bool = False  # counts against the model's health
    doubtful: bool = False  # counts, too, where another model then answers the same request


# Evidence about quality is only what the model (or its provider) did to a call that was in order.
# A wrong key, an unknown model or an unfitting request says nothing about how well it answers.
# One user's bad requests must not take a model away from the others, so what may be the request's
# own fault counts against the model's health only when another model did answer it.
MEANINGS: Mapping[str, Meaning] = {
    "timeout": Meaning("did not answer in time", 0.0, trips=True),
    "connection": Meaning("could not be reached, or hung up", 0.0, trips=True),
    "server_error": Meaning("failed on its side", 0.0, trips=True),
    "malformed": Meaning("sent something that is not an answer", 0.0, trips=True),
    "invalid_output": Meaning("never gave the form that was asked for", 0.0, doubtful=True),
    "content_filter": Meaning("refused the content", 0.0, doubtful=True),
    "rate_limited": Meaning("is asked too often", None),
    "quota": Meaning("has no credit left", None, trips=True),
    "auth": Meaning("does not accept the key", None, trips=True),
    "not_found": Meaning("does not know the model", None, trips=True),
    "not_installed": Meaning("needs a library that is not installed", None, trips=True),
    "over_budget": Meaning("is dearer than what the spend limit leaves", None),
    "bad_request": Meaning("refuses the request, which may fit another", None, doubtful=True),
    "caller_error": Meaning("was interrupted by an error of the caller", None, falls_back=False),
    "cancelled": Meaning("was cancelled", None, falls_back=False),
}
OTHER = Meaning("failed", 0.0, trips=True)

_STATUS: Mapping[int, str] = {
    401: "auth", 402: "quota", 403: "auth", 404: "not_found", 408: "timeout", 409: "server_error",
    425: "server_error", 429: "rate_limited", 504: "timeout",
}  # fmt: skip

# Vendors name their errors alike; a part of the class name decides, the first that fits. Names, not
# classes: nothing needs to be imported to recognise an error of a library that is not there.
_NAMES: tuple[tuple[str, str], ...] = (
    ("ContentFilter", "content_filter"),
    ("ContentPolicy", "content_filter"),
    ("Authentication", "auth"),
    ("PermissionDenied", "auth"),
    ("RateLimit", "rate_limited"),
    ("NotFound", "not_found"),
    ("ContextWindow", "bad_request"),
    ("BadRequest", "bad_request"),
    ("UnsupportedParams", "bad_request"),
    ("InternalServer", "server_error"),
    ("ServiceUnavailable", "server_error"),
    ("Timeout", "timeout"),
    ("JSONDecode", "malformed"),
    ("ValidationError", "malformed"),
    ("UnexpectedModelBehavior", "malformed"),
    ("Connect", "connection"),
    ("RemoteProtocol", "connection"),
    ("ProtocolError", "connection"),
    ("ReadError", "connection"),
    ("WriteError", "connection"),
    ("BrokenPipe", "connection"),
    ("Closed", "connection"),
    ("IncompleteRead", "connection"),
    ("UserError", "bad_request"),  # PydanticAI: this model cannot do what is asked of it
    ("ImportError", "not_installed"),
    ("APIError", "server_error"),  # without a status: an error object in a stream
)
_UNCONNECTED = (
    "ConnectError", "ConnectTimeout", "ConnectionRefusedError", "ClientConnectorError", "gaierror",
)  # fmt: skip

_SERIALIZING = ("PydanticSerializationError",)


def meaning(kind: str) -> Meaning:
    """Return what a kind of failure means; a kind nobody named counts as the provider's failure."""
    return MEANINGS.get(kind, OTHER)


# Kinds for which no provider wants money: it did no work, or was never asked.
_FREE = frozenset(
    {"rate_limited", "quota", "auth", "not_found", "not_installed", "bad_request", "over_budget"}
)


def was_free(error: ExecutionError) -> bool:
    """Return whether the provider surely wants no money for a call that failed like this."""
    if error.kind in _FREE:
        return True
    return isinstance(error, ProviderError) and (
        not error.was_sent or (error.status is not None and error.status >= 400)
    )


def kind_of_status(status: int) -> str:
    """Return the kind of failure that an HTTP status stands for."""
    if status in _STATUS:
        return _STATUS[status]
    if 400 <= status < 500:
        return "bad_request"
    return "server_error" if status >= 500 else "malformed"


def retry_after_s(header: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or a date), at most 120."""
    if not header:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    if math.isnan(wait):
        return None
    return min(max(wait, 0.0), MAX_RETRY_AFTER_S)


class ForeignError(Exception):
    """What a vendor's library raised: its types and the place, not its words.

    The words of a vendor's error may repeat the key, the prompt or the whole response.
    """


def translated(
    error: BaseException, model: str, *, now: float, kind: str | None = None, partial: object = None
) -> ProviderError:
    """Return a foreign error as one of ours, with what can be known of it and nothing secret."""
    status = _status(error)
    kind = kind or _kind(error, status)
    shown = f" (status {status})" if status is not None else ""
    failure = ProviderError(
        f"{model} {meaning(kind).words}{shown}",
        model=model,
        kind=kind,
        status=status,
        retry_after_s=retry_after_s(_header(error, "retry-after"), now),
        partial=partial,
        was_sent=not _never_sent(error),
    )
    failure.__cause__ = ForeignError(described(error))
    return failure


def described(error: BaseException) -> str:
    """Return the types of an error and its causes, and where it came from."""
    names = " from ".join(f"{type(e).__module__}.{type(e).__name__}" for e in _causes(error))
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f", at {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return names + place


def _kind(error: BaseException, status: int | None) -> str:
    if _code(error) in ("insufficient_quota", "billing_hard_limit_reached"):
        return "quota"
    if _code(error) in ("content_filter", "content_policy_violation"):
        return "content_filter"
    if unwritten(error) is not None:  # before the status, which LiteLLM makes up for it
        return "bad_request"
    if status is not None:
        return kind_of_status(status)
    causes = list(_causes(error))
    for cause in reversed(causes):  # the innermost knows best: a timeout below a connection error
        for part, kind in _NAMES:
            if any(part in base.__name__ for base in type(cause).__mro__):
                return kind
    return (
        "malformed"
        if isinstance(causes[-1], LookupError | TypeError | ValueError)
        else "provider_error"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
            continue
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def unwritten(error: BaseException) -> BaseException | None:
    """Return what kept a request from being written, if that was it: no text, or no JSON."""
    *_, cause = _causes(error)
    if isinstance(cause, UnicodeEncodeError) or type(cause).__name__ in _SERIALIZING:
        return cause
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else trace.tb_frame.f_globals.get("__name__")
    return cause if place == "json.encoder" else None


def _never_sent(error: BaseException) -> bool:
    """Return whether there was not even a connection to send the request through."""
    names = {base.__name__ for cause in _causes(error) for base in type(cause).__mro__}
    return not names.isdisjoint(_UNCONNECTED)


def _status(error: BaseException) -> int | None:
    for cause in _causes(error):
        for name in ("status_code", "status", "code"):
            status = getattr(cause, name, None)
            if isinstance(status, int) and not isinstance(status, bool) and 300 <= status < 600:
                return status
    return None


def _code(error: BaseException) -> str | None:
    for cause in _causes(error):
        body = getattr(cause, "body", None)
        inner = body.get("error", body) if isinstance(body, Mapping) else None
        code = inner.get("code") if isinstance(inner, Mapping) else None
        if isinstance(code, str):
            return code
    return None


def _header(error: BaseException, name: str) -> str | None:
    for cause in _causes(error):
        for holder in (cause, getattr(cause, "response", None)):
            get = getattr(getattr(holder, "headers", None), "get", None)
            value = get(name) if callable(get) else None
            if isinstance(value, str):
                return value
    return None
