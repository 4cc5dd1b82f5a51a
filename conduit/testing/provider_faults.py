"""How a provider misbehaves: each kind of failure that a client meets in the world."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from conduit.core.errors import ConfigurationError, InvalidInput, finite, optional_finite

Cut = Literal["reset", "close", "end"]


class FaultKind(StrEnum):
    """What goes wrong with a request."""

    # Refused with an error, at once.
    RATE_LIMITED = "rate_limited"  # 429, with Retry-After as seconds, as a date, or without
    SERVER_ERROR = "server_error"  # 500
    UNAVAILABLE = "unavailable"  # 503
    UNAUTHORIZED = "unauthorized"  # 401
    CONTEXT_TOO_LONG = "context_too_long"  # 400, code context_length_exceeded
    # Slow or silent.
    SLOW_HEADERS = "slow_headers"  # `delay_s` before the first byte
    SLOW_BODY = "slow_body"  # headers at once, then pieces `delay_s` apart
    HANG = "hang"  # not one byte, until the client leaves
    HANG_IN_BODY = (
        "hang_in_body"  # headers and the first half, then nothing until the client leaves
    )
    # The connection breaks; how is said by `cut`.
    CUT_AT_ONCE = "cut_at_once"  # before any byte
    CUT_BEFORE_FIRST_TOKEN = "cut_before_first_token"  # after the headers
    CUT_AFTER_FIRST_TOKEN = "cut_after_first_token"
    # An answer that is not one.
    HTML = "html"  # a page of a proxy, with `status`
    EMPTY_BODY = "empty_body"
    TRUNCATED_JSON = "truncated_json"
    WRONG_SCHEMA = "wrong_schema"  # valid JSON that is no completion
    NO_CHOICES = "no_choices"
    NULL_CONTENT = "null_content"
    ERROR_IN_BODY = "error_in_body"  # status 200 and an error object; in a stream after a token
    # An answer with a flaw.
    NO_USAGE = "no_usage"
    NEGATIVE_USAGE = "negative_usage"
    CONTENT_FILTER = "content_filter"
    LENGTH = "length"  # cut off by the token limit


REFUSALS: dict[FaultKind, tuple[int, str, str]] = {
    FaultKind.RATE_LIMITED: (429, "rate_limit_exceeded", "Rate limit reached for requests"),
    FaultKind.SERVER_ERROR: (500, "server_error", "The server had an error"),
    FaultKind.UNAVAILABLE: (503, "overloaded", "The engine is currently overloaded"),
    FaultKind.UNAUTHORIZED: (401, "invalid_api_key", "Incorrect API key provided"),
    FaultKind.CONTEXT_TOO_LONG: (
        400,
        "context_length_exceeded",
        "This model's maximum context length is exceeded",
    ),
}
# The model did no work, or the provider noticed that its work never arrived.
FREE: frozenset[FaultKind] = frozenset(
    {
        *REFUSALS,
        FaultKind.HANG,
        FaultKind.CUT_AT_ONCE,
        FaultKind.CUT_BEFORE_FIRST_TOKEN,
        FaultKind.HTML,
        FaultKind.EMPTY_BODY,
        FaultKind.WRONG_SCHEMA,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of failure, and which requests it strikes.

    It strikes each of the first `first_n` requests (all, if None) within `lasts_s` seconds after it
    was set (for good, if None), with the given probability. `cut` says how a connection breaks:
    by a reset, by closing in the middle of the body, or by an end of the body that looks complete.
    """

    kind: FaultKind
    probability: float = 1.0
    first_n: int | None = None
    lasts_s: float | None = None
    delay_s: float = 0.5
    retry_after_s: float | None = None
    retry_after_as_date: bool = False
    cut: Cut = "close"
    status: int = 200  # of the HTML page

    def __post_init__(self) -> None:
        """Take the kind by name too, and refuse numbers and names that mean nothing."""
        try:
            object.__setattr__(self, "kind", FaultKind(self.kind))
        except ValueError as error:
            known = ", ".join(FaultKind)
            raise InvalidInput(f"unknown fault (known: {known})", field="kind") from error
        finite(self.probability, "probability", low=0.0, high=1.0)
        finite(self.delay_s, "delay_s", low=0.0)
        for name in ("first_n", "lasts_s", "retry_after_s"):
            optional_finite(getattr(self, name), name, low=0.0)
        if self.cut not in ("reset", "close", "end"):
            raise InvalidInput("cut must be 'reset', 'close' or 'end'", field="cut")

    @property
    def is_billed(self) -> bool:
        """Whether the provider asks money for a request that this strikes."""
        return self.kind not in FREE


def fault_from(value: Fault | dict[str, Any] | None) -> Fault | None:
    """Return a fault from itself, its fields, or None."""
    if value is None or isinstance(value, Fault):
        return value
    try:
        return Fault(**value)
    except TypeError as error:
        raise ConfigurationError(f"not a fault: {error}", field="fault") from error
