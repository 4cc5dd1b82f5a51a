"""What the log of one router teaches about its signals: how reliable, how slow, who rates.

Fed with the rows of the log in their order, as the learner is, so every replica holds the same.
Everything is a sum over calls: when a row adds to what is known of a call, what the call counted
before is taken away and what it counts now is added. Order and repeats therefore do not matter.

A call is of the class of its most telling verdict, which is also the evidence that the learner
goes by until somebody says more: a call without an error that was tried again is a retry.

A failed call is of none: there is no answer to say anything of, and it is taught as what it is. Did
failures count, every answer without one would be good news while another model is down.

What a signal teaches (`weigh`) is read from these sums as they were at the last of every
`REFRESH_EVERY` rows (of the first ones, at each), and written into the log with the row, so that
everybody who reads the log later is taught the same.

Who rates is corrected for by this as well. Where calls of one class are rated more often than
others, their ratings alone are a biased sample; but the calls that nobody rated have been taught by
their signals, each with the weight of its likelihood beside a rating's. Then the rated calls are
missing at random within a class, and the two kinds of evidence pull towards the same quality: the
score of the likelihood is 0 at the truth whatever the propensities are. A weight is that of its
model: v (t) / Var(y), with t the model's mean of what its signals teach, v (t) the variance of a
rating there, and Var(y) that of what its signals teach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit.core.events import SOURCE_RANK, Lesson, LogEntry, Remark
from conduit.core.models import ModelArm
from conduit.feedback.kinds import SignalKinds, telling
from conduit.feedback.patience import BINS, KnownPatience, LatencySummary, bin_of
from conduit.feedback.ratings import QualityByModel, RatingCounts, RatingPropensity
from conduit.feedback.reliability import Counts, ReliabilityTable, Verdict, evidence_of, lift_of

REFRESH_EVERY: Final = 25  # rows of the log between two readings of the sums
OWN_DECISIONS: Final = 50.0  # of a model from which its own frequencies count more than all models'
_LEAST_QUALITY: Final = 0.02  # of a model, and by as much below 1, for the variance of its ratings
_LEAST_WEIGHT: Final = 1e-9
GAVE_UP: Final = "gave_up"  # said: the seconds that a caller waited in vain

Sums = Mapping[str, NDArray[np.float64]]
Cell = tuple[str, str, bool]  # the model, the kind of signal, and its verdict


class _Call(NamedTuple):
    """What the rows of one call say together."""

    verdicts: frozenset[Verdict]
    opinion: float | None  # of a user
    answered_s: float | None
    waited_s: float | None

    @property
    def signal(self) -> Verdict | None:
        """Return the class of the call: its most telling verdict."""
        if not self.verdicts:
            return None
        return max(self.verdicts, key=lambda verdict: (telling(*verdict), verdict))


def _call_of(remarks: Iterable[Remark]) -> _Call:
    said: dict[str, tuple[float, float]] = {}
    opinion: Remark | None = None
    answered_s = waited_s = None
    for remark in remarks:
        kind, value, evidence = remark
        if kind == GAVE_UP:
            waited_s = max(waited_s or 0.0, value or 0.0)
        elif value is not None and evidence.quality is not None and evidence.error is None:
            latest = (evidence.given_at, value)
            said[kind] = max(said.get(kind, latest), latest)
        elif _is_opinion(remark) and (
            opinion is None or evidence.strength() > opinion.evidence.strength()
        ):
            opinion = remark
        if evidence.latency_s is not None and evidence.error is None:
            answered_s = max(answered_s or 0.0, evidence.latency_s)
    return _Call(
        frozenset((kind, value >= 0.5) for kind, (_, value) in said.items()),
        None if opinion is None else opinion.evidence.quality,
        answered_s,
        waited_s,
    )


def _is_opinion(remark: Remark) -> bool:
    """Return whether a user said it, who need not have rated every answer as calibration does."""
    rank, quality = remark.evidence.rank, remark.evidence.quality
    return quality is not None and rank >= SOURCE_RANK["user"] and remark.kind != "calibration"


_NOTHING: Final = _Call(frozenset(), None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalWorth:
    """How far one verdict of a signal is believed now, and what that rests on."""

    right: float  # the probability that the verdict is right
    prior: float  # the documented starting point
    weight: float  # of its evidence, beside a rating's 1
    teaches: float  # the quality that its evidence says
    seen: float
    agreed: float  # ratings of the same decisions, by how far they agreed
    disagreed: float


class SignalExperience:
    """The sums over one router's log, and what follows from them."""

    def __init__(self, kinds: SignalKinds | None = None) -> None:
        """Start from the documented reliabilities alone."""
        self.kinds = kinds or SignalKinds()
        self._scores: dict[str, float] = {}
        self.clear()

    def fresh(self) -> SignalExperience:
        """Return another of the same kinds of signals that has learned nothing."""
        other = SignalExperience(self.kinds)
        other._scores = self._scores
        other._refresh()
        return other

    def expect(self, models: Iterable[ModelArm]) -> None:
        """Take the published quality of models for that of their answers, until ratings tell."""
        self._scores = {arm.id: arm.quality for arm in models if arm.quality is not None}
        self._refresh()

    def clear(self) -> None:
        """Forget everything, as before a log is read again."""
        self._cells: dict[Cell, NDArray[np.float64]] = {}  # decisions, ratings, sum, squares
        self._latency = np.zeros((2, BINS))
        self._rows = 0
        self._refresh()

    # learning ------------------------------------------------------------------------------------

    def learn(self, entry: LogEntry) -> None:
        """Count what a row of the log adds to what was known of its call."""
        row = entry.row
        remark = Remark(row.kind, row.said, row.evidence)
        before = _call_of(entry.earlier) if entry.earlier else _NOTHING
        after = _call_of((*entry.earlier, remark))
        if before != after:
            self._count(row.model, before, -1.0)
            self._count(row.model, after, 1.0)
        self._rows += 1
        if self._rows % REFRESH_EVERY == 0 or self._rows < REFRESH_EVERY:
            self._refresh()

    def _count(self, model: str, call: _Call, sign: float) -> None:
        if call.signal is not None:
            cell = self._cells.setdefault((model, *call.signal), np.zeros(4))
            cell[0] += sign
            if call.opinion is not None:
                said = call.opinion
                cell[1:] += (sign, sign * said, sign * said * said)
        if call.answered_s is not None:
            self._latency[0, bin_of(call.answered_s)] += sign
        elif call.waited_s is not None:
            self._latency[1, bin_of(call.waited_s)] += sign

    def _refresh(self) -> None:
        self.reliability = self.table()
        self._kinds_known = self.kinds.changes
        # The rest is read when it is asked for, from what was counted until now.
        self._patience: KnownPatience | None = None
        self._seen: dict[str, dict[Verdict, float]] = {}
        for (model, kind, good), cell in self._cells.items():
            self._seen.setdefault(model, {})[kind, good] = max(float(cell[0]), 0.0)
        self._weights: dict[str, float] = {}
        self._lessons: dict[Cell, Lesson] = {}

    # reading -------------------------------------------------------------------------------------

    def table(self) -> ReliabilityTable:
        """Return what is known of each signal's reliability now."""
        counts = {}
        pooled: dict[Verdict, NDArray[np.float64]] = {}
        for (_, kind, good), cell in self._cells.items():
            pooled[kind, good] = pooled.get((kind, good), np.zeros(4)) + cell
        for (kind, good), cell in pooled.items():
            seen, rated, total, square = map(float, np.maximum(cell, 0.0))
            agreed = min(max(total if good else rated - total, 0.0), rated)
            counts[kind, good] = Counts(seen, agreed, rated - agreed, square)
        return ReliabilityTable(counts, self.kinds.priors(), self._level())

    def _level(self) -> float | None:
        """Return the mean score of the models, each as often as it answered."""
        if not self._scores:
            return None
        answered = dict.fromkeys(self._scores, 1.0)
        for (model, _, _), cell in self._cells.items():
            if model in answered:
                answered[model] += max(float(cell[0]), 0.0)
        total = sum(count * self._scores[model] for model, count in answered.items())
        return total / sum(answered.values())

    def quality(self) -> QualityByModel:
        """Return the ratings by model and class of signal, from which a model's quality follows."""
        cells = self._cells.items()
        return QualityByModel({(m, named(k, good)): _counts(c) for (m, k, good), c in cells})

    def quality_by_model(self) -> dict[str, float]:
        """Return each model's quality, whoever rates: its ratings and what its signals teach."""
        taught, found = self.reliability.taught(), {}
        for model in {model for model, _, _ in self._cells}:
            weight, total = 0.0, 0.0
            for (name, kind, good), (seen, rated, said, _) in self._cells.items():
                if name == model:
                    unrated = max(seen - rated, 0.0) * self._weight_of(model)
                    lesson = taught.get((kind, good), (0.0, self.reliability.mean))[1]
                    weight, total = weight + unrated + rated, total + unrated * lesson + said
            if weight > 0.0:
                found[model] = float(min(max(total / weight, 0.0), 1.0))
        return found

    def latency(self) -> LatencySummary:
        """Return how long answers took, and how long callers waited in vain."""
        return LatencySummary(*np.maximum(self._latency, 0.0))

    @property
    def patience(self) -> KnownPatience:
        """Return how long callers wait: once it is known, as at the last refresh."""
        if self._patience is None or self._patience.patience_s() is None:
            self._patience = KnownPatience.of(self.latency())
        return self._patience

    def _classes(self) -> dict[Verdict, RatingCounts]:
        """Return the counts of each class over all models."""
        classes: dict[Verdict, RatingCounts] = {}
        for (_, *verdict), cell in self._cells.items():
            key = (str(verdict[0]), bool(verdict[1]))
            classes[key] = classes.get(key, RatingCounts()).plus(_counts(cell))
        return classes

    @property
    def propensity(self) -> RatingPropensity:
        """Return how often calls of each class are rated."""
        return RatingPropensity({named(*verdict): c for verdict, c in self._classes().items()})

    def _weight_of(self, model: str) -> float:
        """Return what a signal weighs beside a rating, of an answer of this model."""
        if model not in self._seen:
            return self.reliability.channel_weight
        if model not in self._weights:
            self._weights[model] = self._weight_from(self._seen[model])
        return self._weights[model]

    def _weight_from(self, own: Mapping[Verdict, float]) -> float:
        """Return the weight for a model of which so many calls of each class were seen."""
        pooled, noise = self.reliability.taught(), self.reliability.noise_left**2
        count = OWN_DECISIONS + sum(own.values())
        shares = [
            ((OWN_DECISIONS * p + own.get(v, 0.0)) / count, y) for v, (p, y) in pooled.items()
        ]
        mean = sum(p * y for p, y in shares)
        variance = noise * sum(p * (y - mean) ** 2 for p, y in shares)
        quality = min(max(mean, _LEAST_QUALITY), 1.0 - _LEAST_QUALITY)
        weight = self.reliability.spread * quality * (1.0 - quality)
        return max(min(weight, variance) / max(variance, _LEAST_WEIGHT), _LEAST_WEIGHT)

    def weigh(self, kind: str, value: float, model: str | None = None) -> Lesson | None:
        """Return what a signal teaches; None for unknown kinds."""
        if kind not in self.kinds:
            return None
        if self._kinds_known != self.kinds.changes:
            self._refresh()  # a kind that was registered since is believed from its first signal on
        if value not in (0.0, 1.0):
            return self._lesson(kind, value, model)
        key = (model or "", kind, value == 1.0)
        lesson = self._lessons.get(key)
        if lesson is None:
            lesson = self._lessons[key] = self._lesson(kind, value, model)
        return lesson

    def _lesson(self, kind: str, value: float, model: str | None) -> Lesson:
        reliability = self.reliability.reliability_of(kind)
        quality, _ = evidence_of(value, reliability)
        return Lesson(
            quality,
            lift_of(value, reliability),
            self._weight_of(model or ""),
            telling(kind, value >= 0.5),
        )

    def worth(self) -> dict[str, SignalWorth]:
        """Return how far each verdict is believed, those of the documented kinds first."""
        table, found = self.table(), {}
        for kind, prior in self.kinds.priors().items():
            reliability = table.reliability_of(kind)
            for good in prior.verdicts:
                counts = table.counts.get((kind, good), Counts())
                quality, weight = evidence_of(float(good), reliability)
                found[named(kind, good)] = SignalWorth(
                    right=table.right(kind, good=good),
                    prior=prior.right,
                    weight=weight,
                    teaches=quality,
                    seen=counts.seen,
                    agreed=counts.agree,
                    disagreed=counts.disagree,
                )
        return found

    # keeping -------------------------------------------------------------------------------------

    def sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums, which those of other logs may be added to."""
        cells = {json.dumps(cell): counts.copy() for cell, counts in self._cells.items()}
        return {**cells, "latency": self._latency.copy(), "rows": np.array([float(self._rows)])}

    def load(self, sums: Sums) -> None:
        """Go on from sums; nothing counted so far stays."""
        self.clear()
        self._latency = np.array(sums["latency"], np.float64).reshape(2, BINS)
        self._rows = int(sums["rows"][0])
        for name, counts in sums.items():
            if name.startswith("["):
                model, kind, good = json.loads(name)
                self._cells[model, kind, good] = np.array(counts, np.float64)
        self._refresh()


def named(kind: str, good: bool) -> str:
    """Return the name of a verdict: a signal, and whether it speaks for the answer."""
    return f"{kind}{'+' if good else '-'}"


def _counts(cell: NDArray[np.float64]) -> RatingCounts:
    return RatingCounts(*map(float, cell[:3]))
