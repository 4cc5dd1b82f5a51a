"""The errors that Conduit raises, as one tree.

ConduitError
├── InvalidInput            a value that must not get in: which field, and what was expected
├── NoEligibleModel         strict constraints left no model: each model with its reason
├── UnknownDecision         feedback for a decision that this router never made
├── ExpiredDecision         feedback that came after the decision's time was over
├── ConflictingFeedback     a feedback id that was used before for something else
├── ExecutionError          a call that gave no usable answer
│   ├── ProviderError       the provider refused, failed or could not be reached
│   ├── OutputInvalid       the provider answered, but not in the form that was asked for
│   └── AllModelsFailed     every attempt of a fallback chain failed: each with its cause
├── BudgetExceeded          a spend limit is used up: what is left and when it resets
├── StorageUnavailable      neither the database nor the journal could take the write
├── IncompatibleState       stored learning that this configuration cannot continue
└── ConfigurationError      settings that cannot work: which one, and the known choices

No message holds prompt text, a key or a password.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any


class ConduitError(Exception):
    """The root: `except ConduitError` catches everything that Conduit raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle words and fields as they are, whatever the constructor takes."""
        return _unmade, (type(self), *self.args), vars(self)


def _unmade(cls: type[ConduitError], *args: object) -> ConduitError:
    """Return an error with these arguments, whose constructor was not called."""
    return cls.__new__(cls, *args)


class InvalidInput(ConduitError, ValueError):
    """A value was refused before it could change anything."""

    def __init__(
        self, message: str, *, field: str = "", expected: str = "", value: object = None
    ) -> None:
        """Keep which field was wrong, what was expected, and the value where it is safe to show."""
        super().__init__(message)
        self.field = field
        self.expected = expected
        self.value = value


class NoEligibleModel(ConduitError):
    """No model satisfies the constraints, and they were strict."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """Keep, for each model, why it was not eligible."""
        listed = "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
        super().__init__(f"no model satisfies the constraints ({listed or 'there are no models'})")
        self.reasons = dict(reasons)


class UnknownDecision(ConduitError, KeyError):
    """The decision is not known to this router."""

    def __init__(self, decision_id: str, hint: str = "") -> None:
        """Keep the id that was not found."""
        super().__init__(decision_id)
        self.decision_id = decision_id
        self.hint = hint

    def __str__(self) -> str:
        """Say which decision, and what to do about it."""
        return f"unknown decision {self.decision_id!r}" + (f": {self.hint}" if self.hint else "")


class ExpiredDecision(ConduitError):
    """The decision no longer takes feedback."""

    def __init__(self, decision_id: str, expired_at: float) -> None:
        """Keep the decision and the time (seconds since the epoch) at which it expired."""
        super().__init__(f"decision {decision_id!r} no longer takes feedback")
        self.decision_id = decision_id
        self.expired_at = expired_at


class ConflictingFeedback(ConduitError):
    """A feedback id came back with another payload; the first one stands."""

    def __init__(self, feedback_id: str) -> None:
        """Keep the id that was used twice."""
        super().__init__(
            f"feedback id {feedback_id!r} was already used for another payload; "
            "give a changed opinion a new feedback_id"
        )
        self.feedback_id = feedback_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed call of a fallback chain: the model, the kind of failure, its cause."""

    model: str
    kind: str
    cause: str
    latency_s: float | None = None


class ExecutionError(ConduitError):
    """A model call gave no usable answer."""

    response: object = None  # what the failed call took (a `Response`), where its adapter knows

    def __init__(self, message: str, *, model: str = "", kind: str = "error") -> None:
        """Keep which model failed and the kind of failure in one word."""
        super().__init__(message)
        self.model = model
        self.kind = kind


class ProviderError(ExecutionError):
    """The provider refused the call, failed at it, or could not be reached."""

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        kind: str = "provider_error",
        status: int | None = None,
        retry_after_s: float | None = None,
        partial: object = None,
        was_sent: bool = True,
    ) -> None:
        """Keep the HTTP status, how long to wait, and what had come of a broken stream.

        `was_sent` is False where there was no connection to send the request through.
        """
        super().__init__(message, model=model, kind=kind)
        self.status = status
        self.retry_after_s = retry_after_s
        self.partial = partial
        self.was_sent = was_sent


class OutputInvalid(ExecutionError):
    """The model answered, but never in the form that was asked for."""

    def __init__(self, message: str, *, model: str = "", retries: int = 0) -> None:
        """Keep how many times the model was asked to mend its answer."""
        super().__init__(message, model=model, kind="invalid_output")
        self.retries = retries


# Kinds of failure in which the model did answer, badly; the others say that it was not there.
ANSWERED_BADLY = frozenset({"invalid_output", "content_filter"})


class AllModelsFailed(ExecutionError):
    """Every model that was tried failed."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        """Keep each attempt with its cause, in the order in which they were made."""
        listed = "; ".join(f"{a.model}: {a.kind} ({a.cause})" for a in attempts)
        super().__init__(f"all models failed ({listed})", kind="all_failed")
        self.attempts = tuple(attempts)


LEAST_USD = 1e-9  # what is less was left by rounding


def _dollars(usd: float) -> str:
    """Return dollars with four decimals, or with two figures where those would say nothing."""
    return f"${usd:.4f}" if usd < LEAST_USD or usd >= 0.001 else f"${usd:.2g}"


class BudgetExceeded(ConduitError):
    """A spend limit does not allow the call."""

    def __init__(
        self, *, limit_usd: float, left_usd: float, resets_at: float | None, scope: str
    ) -> None:
        """Keep the limit, what is left of it, and when it starts anew (epoch seconds)."""
        when = "never resets"
        if resets_at is not None:
            when = f"resets at {datetime.fromtimestamp(resets_at, UTC):%Y-%m-%d %H:%M} UTC"
        super().__init__(
            f"budget of {_dollars(limit_usd)} per {scope} leaves {_dollars(left_usd)}, "
            f"less than this call may cost at most; it {when}"
        )
        self.limit_usd = limit_usd
        self.left_usd = left_usd
        self.resets_at = resets_at
        self.scope = scope


class StorageUnavailable(ConduitError):
    """The write could not be kept anywhere, so it was not acknowledged."""


class IncompatibleState(ConduitError):
    """Stored learning does not fit this configuration, and is left as it is."""

    def __init__(self, message: str, *, stored: object = None, wanted: object = None) -> None:
        """Keep what is stored and what this process would have needed."""
        super().__init__(message)
        self.stored = stored
        self.wanted = wanted


class ConfigurationError(ConduitError, ValueError):
    """Settings that cannot work."""

    def __init__(self, message: str, *, field: str = "") -> None:
        """Keep the setting that is wrong."""
        super().__init__(message)
        self.field = field


def unknown_name(kind: str, name: object, known: Sequence[str]) -> str:
    """Say that a name is unknown, which one was probably meant, and which ones exist."""
    near = get_close_matches(str(name), list(known), n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}{meant} (known: {', '.join(known)})"


def finite(
    value: object, field: str, *, low: float | None = None, high: float | None = None
) -> float:
    """Return the value as a float within [low, high], or raise InvalidInput naming the field."""
    number = value if type(value) is float else _as_float(value, field, low, high)
    if (
        not math.isfinite(number)
        or (low is not None and number < low)
        or (high is not None and number > high)
    ):
        raise _out_of_range(number, field, repr(number), low, high)
    return number


def whole(value: object, field: str, *, low: float | None = None, high: float | None = None) -> int:
    """Return the value as an int within [low, high], or raise InvalidInput naming the field."""
    if not finite(value, field, low=low, high=high).is_integer():
        raise InvalidInput(
            f"{field} must be a whole number, got {value!r}",
            field=field,
            expected="a whole number",
            value=value,
        )
    return int(value)  # type: ignore[call-overload, no-any-return]


_REAL = (int, float)


def _as_float(value: object, field: str, low: float | None, high: float | None) -> float:
    """Return a number of Python's or numpy's as a plain float; refuse anything else."""
    if isinstance(value, bool) or (not isinstance(value, _REAL) and not _is_numpy_real(value)):
        raise _out_of_range(value, field, type(value).__name__, low, high)
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _out_of_range(
    value: object, field: str, got: str, low: float | None, high: float | None
) -> InvalidInput:
    expected = _range_words(low, high)
    return InvalidInput(
        f"{field} must be {expected}, got {got}", field=field, expected=expected, value=value
    )


def optional_finite(
    value: object, field: str, *, low: float | None = None, high: float | None = None
) -> float | None:
    """Return None for None, else what `finite` returns."""
    return None if value is None else finite(value, field, low=low, high=high)


def string(value: object, field: str) -> str:
    """Return the value as a plain string, or raise InvalidInput naming the field."""
    if not isinstance(value, str):
        raise InvalidInput(
            f"{field} must be a string, got {type(value).__name__}",
            field=field,
            expected="a string",
        )
    return value if type(value) is str else str.__str__(value)  # str() of an enum is its label


LARGEST = math.nextafter(math.inf, 0.0)
MOST_EXACT = 2**53  # counts below it are floats as well, digit for digit


def hold_numbers(
    made: object,
    names: Sequence[str],
    *,
    low: float | None = None,
    high: float | None = None,
    required: bool = False,
) -> None:
    """Make fields of a frozen value plain floats within [low, high], or None if not required."""
    least, most = -LARGEST if low is None else low, LARGEST if high is None else high
    for name in names:
        value = getattr(made, name)
        if type(value) is float and least <= value <= most:
            continue
        if value is not None or required:
            object.__setattr__(made, name, finite(value, name, low=low, high=high))


def hold_counts(
    made: object, names: Sequence[str], *, low: int = 0, required: bool = False
) -> None:
    """Make fields of a frozen value plain ints of at least `low`, or None if not required."""
    for name in names:
        value = getattr(made, name)
        if type(value) is int and low <= value <= MOST_EXACT:
            continue
        if value is not None or required:
            object.__setattr__(made, name, whole(value, name, low=low))


def hold_strings(made: object, names: Sequence[str], *, required: bool = False) -> None:
    """Make fields of a frozen value plain strings, or None if not required."""
    for name in names:
        value = getattr(made, name)
        if type(value) is not str and (value is not None or required):
            object.__setattr__(made, name, string(value, name))


def _range_words(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "a finite number"
    if high is None:
        return f"a finite number of at least {low:g}"
    if low is None:
        return f"a finite number of at most {high:g}"
    return f"a number from {low:g} to {high:g}"


def _is_numpy_real(value: object) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return getattr(value, "ndim", None) == 0 and kind in ("i", "u", "f")


def known_fields(cls: type, values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the values as keyword arguments of a dataclass, or name the one it does not have."""
    known = [f.name for f in fields(cls) if f.init]
    for name in values:
        if name not in known:
            raise InvalidInput(
                unknown_name(kind, name, known),
                field=str(name),
                expected=f"one of {', '.join(known)}",
            )
    return dict(values)
