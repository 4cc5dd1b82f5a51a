"""The kinds of implicit signals: what each says of quality, and how far it is believed at first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from conduit.core.errors import InvalidInput, finite, optional_finite, unknown_name

QualityOf = Callable[[float | None], float | None]

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a signal before anything was learned, as counts of decisions.

    `agree` and `disagree` are a Beta prior of the signal's verdict being right; `seen` is how often
    the signal occurs among a hundred decisions or so; `verdicts` are those that it gives: for the
    answer, against it, or both.
    """

    agree: float
    disagree: float
    seen: float = 1.0
    verdicts: tuple[bool, ...] = (True, False)

    def __post_init__(self) -> None:
        """Refuse counts that are none, and a prior without a single observation."""
        for name in ("agree", "disagree", "seen"):
            finite(getattr(self, name), name, low=0.0)
        if self.agree + self.disagree <= 0.0:
            raise InvalidInput("agree and disagree must not both be 0", field="agree")

    @property
    def right(self) -> float:
        """How probable it is that the signal's verdict is right."""
        return self.agree / (self.agree + self.disagree)


_FOR: Final = (True,)
_AGAINST: Final = (False,)

# Documented starting points, not measurements: what is learned from rated decisions outweighs them
# after some twenty ratings of a kind. The verdict of "no_error" is right as often as answers are.
SIGNAL_RELIABILITY: Final[Mapping[str, Prior]] = {
    # the answer itself (`detect_error`)
    "no_error": Prior(14, 6, 70, _FOR),
    "valid_output": Prior(15, 5, 10, _FOR),
    "repaired_output": Prior(10, 10, 2),
    "exception": Prior(19, 1, 3, _AGAINST),
    "empty": Prior(19, 1, 1, _AGAINST),
    "refusal": Prior(17, 3, 3, _AGAINST),
    "apology": Prior(16, 4, 1, _AGAINST),
    "truncated": Prior(14, 6, 2, _AGAINST),
    "invalid_output": Prior(19, 1, 2, _AGAINST),
    "tool_failure": Prior(14, 6, 1, _AGAINST),
    # what the user did next
    "retry": Prior(15, 5, 7, _AGAINST),
    "complaint": Prior(18, 2, 2, _AGAINST),
    # what the application saw
    "copy": Prior(16, 4, 5, _FOR),
    "edit": Prior(14, 6, 2),
    "regenerate": Prior(16, 4, 3, _AGAINST),
    "abandon": Prior(12, 8, 2, _AGAINST),
    "task_success": Prior(18, 2, 2),
}
_USUAL: Final = SIGNAL_RELIABILITY["no_error"].right  # the quality of an answer that shows nothing
DEFAULT_PRIOR_WEIGHT: Final = 20.0  # observations that a reliability given as one number stands for


def telling(kind: str, good: bool) -> float:
    """Return how far a verdict is from saying nothing, by what is documented of its kind.

    Of several verdicts on one answer the most telling counts; what is learned later does not change
    which one that is.
    """
    prior = SIGNAL_RELIABILITY.get(kind)
    right = 0.75 if prior is None else prior.right
    return abs((right if good else 1.0 - right) - _USUAL)


@dataclass(frozen=True, slots=True)
class SignalKind:
    """A kind of signal: its name, its prior, and the quality that a value of it says."""

    name: str
    prior: Prior
    quality_of: QualityOf

    def quality(self, value: float | None = None) -> float | None:
        """Return the quality in [0, 1] that a value says, None where it says nothing."""
        return optional_finite(self.quality_of(value), f"quality of {self.name}", low=0.0, high=1.0)


def as_given(value: float | None) -> float | None:
    """Take the value for the quality."""
    return value


def good(_value: float | None) -> float:
    """Say quality 1 whatever the value."""
    return 1.0


def bad(_value: float | None) -> float:
    """Say quality 0 whatever the value."""
    return 0.0


def untouched(distance: float | None) -> float | None:
    """Return the share of an answer that the user kept: 1 less the edit distance."""
    return None if distance is None else 1.0 - finite(distance, "distance", low=0.0, high=1.0)


def left(shown: float | None) -> float | None:
    """Return quality 0 for an answer that was left, None where nothing of it had been shown."""
    return None if shown == 0.0 else 0.0


def succeeded(value: float | None) -> float:
    """Return the success of the task; 1 when it is reported without a number."""
    return 1.0 if value is None else float(value)


_BUILT_IN: Final[Mapping[str, QualityOf]] = {
    "copy": good,
    "edit": untouched,
    "regenerate": bad,
    "abandon": left,
    "task_success": succeeded,
}


class SignalKinds:
    """The kinds that one application knows: the built-in ones and its own."""

    def __init__(self) -> None:
        self.changes = 0  # how often a kind was registered
        self._kinds = {
            name: SignalKind(name, prior, _BUILT_IN.get(name, as_given))
            for name, prior in SIGNAL_RELIABILITY.items()
        }

    def register(
        self,
        name: str,
        *,
        reliability: float | Prior | tuple[float, float],
        quality: QualityOf = as_given,
    ) -> SignalKind:
        """Add a kind and return it; the same name again replaces it.

        `reliability` is the probability that its verdict is right (worth 20 observations), or the
        counts (agree, disagree). `quality` turns the value of an event into a quality in [0, 1].
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(
                f"a signal's name must look like 'thumbs_up', got {name!r}",
                field="name",
                expected="1 to 64 lower-case letters, digits, '_', '-' and '.'",
                value=name,
            )
        kind = SignalKind(name, _as_prior(reliability), quality)
        self._kinds[name] = kind
        self.changes += 1
        return kind

    def __getitem__(self, name: str) -> SignalKind:
        if name not in self._kinds:
            raise InvalidInput(unknown_name("signal", name, tuple(self._kinds)), field="signal")
        return self._kinds[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def priors(self) -> dict[str, Prior]:
        """Return the prior of every kind."""
        return {name: kind.prior for name, kind in self._kinds.items()}


def _as_prior(reliability: float | Prior | tuple[float, float]) -> Prior:
    if isinstance(reliability, Prior):
        return reliability
    if isinstance(reliability, tuple):
        agree, disagree = reliability
        return Prior(agree, disagree)
    right = finite(reliability, "reliability", low=0.0, high=1.0)
    return Prior(DEFAULT_PRIOR_WEIGHT * right, DEFAULT_PRIOR_WEIGHT * (1.0 - right))
