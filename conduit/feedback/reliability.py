"""How far each implicit signal is believed, and what it therefore teaches.

A signal is one outcome of a channel that says something about nearly every decision: no error, a
retry, a refusal, a copy. For outcome k let m_k be the expected quality of decisions that show it
(learned from those that were rated too), P_k how often it occurs, and b = sum P_k m_k the channel's
mean. The share of the variance V of quality that the channel explains is

    R2 = sum P_k (m_k - b)^2 / V,

which for one verdict that is right with probability r, at b = 1/2, is (2r - 1)^2. An implicit
signal therefore teaches with weight R2 beside a rating's 1. What it teaches is

    y_k = b + (m_k - b) / R2,

which is right on average: a noisy verdict moves its channel's mean by R2 of a change in quality,
and this undoes it. It may lie below 0 or above 1, where no answer is; so evidence has a quality in
[0, 1], the largest stretch of m_k that stays there, and a lift for what is missing.

Ratings teach m_k in two steps. How good answers are in general differs most between applications,
so one shift of all log-odds is learned first (a normal prior, sd 1). It starts from what brings b
to the published scores of the models that answered, where there are any and some signal has spoken
against answers: then what signals teach and what was believed before are of one level. Next comes
each outcome's own deviation from its documented value so shifted, which counts for some twenty
ratings. V is b (1 - b) where ratings are yes or no, and less where they are graded, as ratings
tell; what is documented of outcomes is documented for yes or no, and differs less between them by
the same factor.

All that is learned is counts, so tables of replicas merge by adding them up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

from conduit.core.errors import InvalidInput, finite
from conduit.core.events import MOST_LIFT
from conduit.feedback.kinds import DEFAULT_PRIOR_WEIGHT, SIGNAL_RELIABILITY, Prior

# Which the documented frequencies of all signals stand for. As long as they outweigh what is seen,
# an answer without an error is better than usual; in a pool where that is usual, that ends soon.
USUAL_DECISIONS: Final = 5.0  # 20 lifted a model by .15 while another was down (decision 10)
# Verdicts against answers from which scores set the level: where none is ever seen, signals tell
# nothing apart, and what speaks for all answers alike must not be taken for more.
_AGAINST_ENOUGH: Final = 5.0
_SHIFT_SD: Final = 1.0  # of the log-odds of a good answer, between applications
_SHIFT_MOST: Final = 6.0
_SHIFT_STEPS: Final = 40
_PRIOR_OF_SPREAD: Final = 10.0  # ratings behind "ratings are yes or no"
_CERTAIN: Final = 1e-3  # log-odds of what is documented as sure are taken from here
_UNKNOWN: Final = Prior(DEFAULT_PRIOR_WEIGHT / 2, DEFAULT_PRIOR_WEIGHT / 2)
_LEAST_SPREAD: Final = 1e-9
_LEAST_TRUST: Final = 0.05  # R2 of a channel below which its noise is not undone in full

Verdict = tuple[str, bool]  # the kind, and whether it speaks for the answer


class Counts(NamedTuple):
    """How often a verdict was seen, and how often a rating agreed with it or not.

    `square` is the sum of the squares of those ratings.
    """

    seen: float = 0.0
    agree: float = 0.0
    disagree: float = 0.0
    square: float = 0.0

    @property
    def rated(self) -> float:
        """Return how many ratings there were."""
        return self.agree + self.disagree

    def plus(self, other: Counts) -> Counts:
        """Return both together."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """What one kind of signal is worth now, within its channel."""

    right_when_good: float  # P(the answer is good | the signal speaks for it)
    right_when_bad: float  # P(the answer is bad | the signal speaks against it)
    mean: float = 0.5  # of quality over the channel
    stretch: float = math.inf
    weight: float | None = None  # None: that of this signal alone

    @classmethod
    def of(cls, right: float) -> Reliability:
        """Return the reliability of a signal that stands alone, right with this probability."""
        right = finite(right, "right", low=0.0, high=1.0)
        return cls(right_when_good=right, right_when_bad=right)

    def expected(self, quality: float) -> float:
        """Return the expected quality of an answer of which the signal says `quality`."""
        low = 1.0 - self.right_when_bad
        return low + quality * (self.right_when_good - low)


def evidence_of(quality: float, reliability: Reliability) -> tuple[float, float]:
    """Return the quality in [0, 1] and the weight that a signal's verdict teaches."""
    said = finite(quality, "quality", low=0.0, high=1.0)
    mean, expected = reliability.mean, reliability.expected(said)
    weight = reliability.weight
    if weight is None:
        spread = reliability.right_when_good + reliability.right_when_bad - 1.0
        weight = min(spread * spread, 1.0)
    stretch = min(reliability.stretch, 1.0 / weight) if weight > 0.0 else 0.0
    taught = mean + stretch * (expected - mean)
    return min(max(taught, 0.0), 1.0), weight


def lift_of(quality: float, reliability: Reliability) -> float:
    """Return what must be added to the quality that a verdict teaches, to be right on average."""
    taught, weight = evidence_of(quality, reliability)
    expected, mean = reliability.expected(quality), reliability.mean
    whole = mean + (expected - mean) / max(weight, _LEAST_TRUST)
    return min(max(whole - taught, -MOST_LIFT), MOST_LIFT)


class _Channel(NamedTuple):
    mean: float
    stretch: float
    weight: float


@dataclass(frozen=True)
class ReliabilityTable:
    """What was learned of every kind of signal, as counts; the priors are held apart."""

    counts: Mapping[Verdict, Counts] = field(default_factory=dict)
    priors: Mapping[str, Prior] = field(default_factory=lambda: SIGNAL_RELIABILITY, compare=False)
    level: float | None = field(default=None, compare=False)  # of answers, before any rating

    # learning ------------------------------------------------------------------------------------

    def seen(self, kind: str, quality: float, weight: float = 1.0) -> ReliabilityTable:
        """Count a signal as seen, whether or not its decision will be rated."""
        return self._plus((kind, quality >= 0.5), Counts(seen=_positive(weight)))

    def updated(
        self, kind: str, agreed: bool | float, weight: float = 1.0, *, good: bool
    ) -> ReliabilityTable:
        """Count whether a rating agreed with a verdict (or how far, 0 to 1)."""
        share = finite(float(agreed), "agreed", low=0.0, high=1.0)
        weight, quality = _positive(weight), share if good else 1.0 - share
        more = Counts(0.0, weight * share, weight * (1.0 - share), weight * quality * quality)
        return self._plus((kind, good), more)

    def learned(
        self, kind: str, implicit: float, explicit: float, weight: float = 1.0
    ) -> ReliabilityTable:
        """Learn from a decision that has a signal and a rating, both as qualities."""
        right = finite(explicit, "explicit", low=0.0, high=1.0)
        good = implicit >= 0.5
        return self.updated(kind, right if good else 1.0 - right, weight, good=good)

    def merged(self, other: ReliabilityTable) -> ReliabilityTable:
        """Return what both tables learned; the order does not matter."""
        counts = dict(self.counts)
        for verdict, more in other.counts.items():
            counts[verdict] = counts.get(verdict, Counts()).plus(more)
        return replace(self, counts=counts)

    def _plus(self, verdict: Verdict, more: Counts) -> ReliabilityTable:
        known = self.counts.get(verdict, Counts())
        return replace(self, counts={**self.counts, verdict: known.plus(more)})

    # reading -------------------------------------------------------------------------------------

    def right(self, kind: str, *, good: bool) -> float:
        """Return the probability that a verdict is right."""
        prior, counts = self.priors.get(kind, _UNKNOWN), self.counts.get((kind, good), Counts())
        usual = self._usual(kind, good)
        if self.spread < 1.0 - _LEAST_SPREAD:
            usual = self._level + self.spread * (usual - self._level)
        size = prior.agree + prior.disagree
        agree = size * (usual if good else 1.0 - usual) + counts.agree
        return agree / (size + counts.rated)

    def _usual(self, kind: str, good: bool) -> float:
        """Return the documented quality of answers with a verdict, at the level of answers here."""
        documented = self._documented(kind, good)
        return _shifted(documented, self._shift) if self._shift else documented

    @cached_property
    def _level(self) -> float:
        """Return the mean over all verdicts of what is usual."""
        verdicts, shares = self._frequencies
        usual = [self._usual(*verdict) for verdict in verdicts]
        return sum(p * m for p, m in zip(shares, usual, strict=True)) / sum(shares)

    def _documented(self, kind: str, good: bool) -> float:
        """Return the quality that is documented of answers with a verdict."""
        right = self.priors.get(kind, _UNKNOWN).right
        return right if good else 1.0 - right

    @cached_property
    def _shift(self) -> float:
        """Return how much higher the log-odds of good answers are here than documented.

        The most probable shift given all ratings: where the ratings that it expects, and its prior,
        meet those that there are.
        """
        usual = self._shift_to_level
        rated = [
            (counts.rated, self._documented(kind, good))
            for (kind, good), counts in self.counts.items()
            if counts.rated > 0.0
        ]
        if not rated:
            return usual
        total = sum(c.agree if good else c.disagree for (_, good), c in self.counts.items())
        return _crossed(
            lambda shift: (
                sum(n * _shifted(m, shift) for n, m in rated) + (shift - usual) / _SHIFT_SD**2
            ),
            total,
        )

    @cached_property
    def _shift_to_level(self) -> float:
        """Return the shift that brings the mean of what is documented to the level."""
        against = sum(counts.seen for (_, good), counts in self.counts.items() if not good)
        if self.level is None or not against:
            return 0.0
        verdicts, shares = self._frequencies
        means = [(p, self._documented(*v)) for v, p in zip(verdicts, shares, strict=True)]
        wanted = self.level * sum(shares)
        shift = _crossed(lambda shift: sum(p * _shifted(m, shift) for p, m in means), wanted)
        return shift * min(against / _AGAINST_ENOUGH, 1.0)

    def reliability_of(self, kind: str) -> Reliability:
        """Return what a kind is worth now, for `evidence_of`."""
        mean, stretch, weight = self._channel
        return Reliability(
            right_when_good=self.right(kind, good=True),
            right_when_bad=self.right(kind, good=False),
            mean=mean,
            stretch=stretch,
            weight=weight,
        )

    def taught(self) -> dict[Verdict, tuple[float, float]]:
        """Return how often each verdict occurs, and the quality that it teaches, lift and all."""
        mean, _, weight = self._channel
        verdicts, shares, means = self._outcomes
        by = 1.0 / max(weight, _LEAST_TRUST)
        total = sum(shares)
        return {
            verdict: (share / total, mean + by * (m - mean))
            for verdict, share, m in zip(verdicts, shares, means, strict=True)
        }

    @cached_property
    def spread(self) -> float:
        """Return the variance of ratings beside that of yes or no with the same mean."""
        rated = sum(counts.rated for counts in self.counts.values())
        first = second = 0.0
        verdicts, shares = self._frequencies
        for verdict, share in zip(verdicts, shares, strict=True):
            counts = self.counts.get(verdict, Counts())
            if counts.rated > 0.0:
                total = counts.agree if verdict[1] else counts.disagree
                first += share * total / counts.rated
                second += share * counts.square / counts.rated
            else:
                mean = self._usual(*verdict)
                first, second = first + share * mean, second + share * mean
        first, second = first / sum(shares), second / sum(shares)
        found = (second - first * first) / max(first * (1.0 - first), _LEAST_SPREAD)
        found = min(max(found, 0.0), 1.0)
        return (_PRIOR_OF_SPREAD + rated * found) / (_PRIOR_OF_SPREAD + rated)

    @property
    def mean(self) -> float:
        """Return the quality of answers in general."""
        return self._channel.mean

    @property
    def channel_weight(self) -> float:
        """Return the weight of a signal's evidence, whichever it is."""
        return self._channel.weight

    @property
    def noise_left(self) -> float:
        """Return by how much more a signal's lesson would vary, were its noise undone in full.

        Above 1 where signals say next to nothing: they teach little, and not with great weight.
        """
        return max(_LEAST_TRUST / self._channel.weight, 1.0)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return, for each verdict that was seen or rated, its counts and how often it is right."""
        return {
            f"{kind}{'+' if good else '-'}": {
                **counts._asdict(),
                "right": self.right(kind, good=good),
            }
            for (kind, good), counts in sorted(self.counts.items())
        }

    @cached_property
    def _channel(self) -> _Channel:
        _, shares, means = self._outcomes
        total = sum(shares)
        mean = sum(p * m for p, m in zip(shares, means, strict=True)) / total
        spread = sum(p * (m - mean) ** 2 for p, m in zip(shares, means, strict=True)) / total
        variance = self.spread * mean * (1.0 - mean)
        weight = max(spread / max(variance, _LEAST_SPREAD), _LEAST_SPREAD)
        room = [((1.0 if m > mean else 0.0) - mean) / (m - mean) for m in means if m != mean]
        return _Channel(mean, min([1.0 / weight, *room]), min(weight, 1.0))

    @cached_property
    def _outcomes(self) -> tuple[list[Verdict], list[float], list[float]]:
        """Return the verdicts, how often each occurs, and the quality that is expected then."""
        verdicts, shares = self._frequencies
        right = [self.right(kind, good=good) for kind, good in verdicts]
        means = [r if good else 1.0 - r for r, (_, good) in zip(right, verdicts, strict=True)]
        return verdicts, shares, means

    @cached_property
    def _frequencies(self) -> tuple[list[Verdict], list[float]]:
        """Return the verdicts, and how often each occurs."""
        scale = USUAL_DECISIONS / max(sum(p.seen for p in self.priors.values()), _LEAST_SPREAD)
        usual = {
            (kind, good): scale * prior.seen / len(prior.verdicts)
            for kind, prior in self.priors.items()
            for good in prior.verdicts
        }
        verdicts: list[Verdict] = [*{**usual, **self.counts}]
        shares = [usual.get(v, 0.0) + self.counts.get(v, Counts()).seen for v in verdicts]
        return verdicts, shares

    # keeping -------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return JSON of the counts that `from_json` turns back into an equal table."""
        rows = [[kind, good, *counts] for (kind, good), counts in sorted(self.counts.items())]
        return json.dumps({"reliability": 1, "counts": rows}, separators=(",", ":"))

    @classmethod
    def from_json(
        cls, text: str, priors: Mapping[str, Prior] = SIGNAL_RELIABILITY
    ) -> ReliabilityTable:
        """Return what `to_json` was given, or raise InvalidInput for anything else."""
        try:
            data = json.loads(text)
            rows: list[list[Any]] = data["counts"]
            counts = {(str(r[0]), bool(r[1])): Counts(*map(_positive, r[2:])) for r in rows}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InvalidInput("not the JSON of a ReliabilityTable", field="reliability") from error
        return cls(counts, priors)


def _shifted(mean: float, shift: float) -> float:
    """Return a probability whose log-odds were shifted."""
    clipped = min(max(mean, _CERTAIN), 1.0 - _CERTAIN)
    return 1.0 / (1.0 + (1.0 - clipped) / clipped * math.exp(-shift))


def _crossed(rising: Callable[[float], float], wanted: float) -> float:
    """Return the shift at which a rising function of it has the value that is wanted."""
    low, high = -_SHIFT_MOST, _SHIFT_MOST
    for _ in range(_SHIFT_STEPS):
        shift = 0.5 * (low + high)
        low, high = (shift, high) if rising(shift) < wanted else (low, shift)
    return 0.5 * (low + high)


def _positive(value: float) -> float:
    return finite(value, "weight", low=0.0)
