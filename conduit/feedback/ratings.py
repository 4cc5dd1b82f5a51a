"""Ratings: a correction for who gives any.

Users who are dissatisfied rate more often, so the mean of the ratings is below the quality of the
answers, most of all for the model that is used most. Within one class of implicit signal (no error
seen, a retry, a copy ...) we take rating to be independent of quality. Then with p_c, the share of
decisions of class c that are rated,

* a rating in class c stands for 1 / p_c decisions: `RatingPropensity.correction` is that weight,
  scaled to mean 1 over the ratings and clipped, for a learner that takes ratings one by one;
* a model's quality (`QualityByModel.estimate`) follows from how often its decisions are of each
  class. Over all models the ratings tell how often good and bad answers show class c (g_c, f_c);
  a model of quality b then shows it in b g_c + (1 - b) f_c of its decisions, which is solved for b
  by EM. Its own ratings correct what that leaves: in each class, the mean surplus of its ratings
  over the expected b g_c / (b g_c + (1 - b) f_c) counts, drawn towards 0 while there are few.

Where a class is never rated nothing is known of it but `expected`, what is assumed of its quality.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from conduit.core.errors import InvalidInput, finite

_LEAST_WEIGHT: Final = 0.2  # of a rating's correction
_MOST_WEIGHT: Final = 10.0
_PRIOR_DECISIONS: Final = 20.0  # by which a class's propensity is drawn towards the overall one
_LEAST_PROPENSITY: Final = 0.002
_PRIOR_SURPLUS: Final = 50.0  # by which a model's own surplus in a class is drawn towards 0
_EM_STEPS: Final = 60
_LEAST_ODDS: Final = 1e-6
_PRIOR_RATINGS: Final = 4.0  # by which a class's mean is drawn towards what is expected of it


class RatingCounts(NamedTuple):
    """How many decisions of a class there were, how many were rated, and the sum of the ratings."""

    seen: float = 0.0
    rated: float = 0.0
    total: float = 0.0

    def plus(self, other: RatingCounts) -> RatingCounts:
        """Return both together."""
        return RatingCounts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class RatingPropensity:
    """How often decisions are rated, by the class of their implicit signal; additive."""

    counts: Mapping[str, RatingCounts] = field(default_factory=dict)

    def seen(self, signal: str, weight: float = 1.0) -> RatingPropensity:
        """Count a decision."""
        return self._plus(signal, RatingCounts(seen=_positive(weight)))

    def rated(self, signal: str, weight: float = 1.0) -> RatingPropensity:
        """Count that a decision, which was counted as seen, was rated."""
        return self._plus(signal, RatingCounts(rated=_positive(weight)))

    def merged(self, other: RatingPropensity) -> RatingPropensity:
        """Return what both counted; the order does not matter."""
        result = self
        for signal, more in other.counts.items():
            result = result._plus(signal, more)
        return result

    def _plus(self, signal: str, more: RatingCounts) -> RatingPropensity:
        known = self.counts.get(signal, RatingCounts())
        return RatingPropensity({**self.counts, signal: known.plus(more)})

    @property
    def overall(self) -> float:
        """Return the share of all decisions that are rated."""
        seen = sum(c.seen for c in self.counts.values())
        rated = sum(c.rated for c in self.counts.values())
        return min(max(rated / seen if seen else 1.0, _LEAST_PROPENSITY), 1.0)

    def probability(self, signal: str) -> float:
        """Return the probability that a decision with this signal is rated."""
        counts, overall = self.counts.get(signal, RatingCounts()), self.overall
        rate = (counts.rated + _PRIOR_DECISIONS * overall) / (counts.seen + _PRIOR_DECISIONS)
        return min(max(rate, _LEAST_PROPENSITY), 1.0)

    def correction(self, signal: str) -> float:
        """Return the weight of a rating in this class beside that of an average rating."""
        weight = self.overall / self.probability(signal)
        return min(max(weight, _LEAST_WEIGHT), _MOST_WEIGHT)

    def to_json(self) -> str:
        """Return JSON that `from_json` turns back into an equal value."""
        rows = [[signal, *counts] for signal, counts in sorted(self.counts.items())]
        return json.dumps({"propensity": 1, "counts": rows}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RatingPropensity:
        """Return what `to_json` was given, or raise InvalidInput for anything else."""
        try:
            rows: list[list[Any]] = json.loads(text)["counts"]
            return cls({str(r[0]): RatingCounts(*map(_positive, r[1:])) for r in rows})
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise InvalidInput("not the JSON of a RatingPropensity", field="propensity") from error


@dataclass(frozen=True, slots=True)
class QualityByModel:
    """Ratings by model and class of signal, from which each model's quality follows; additive."""

    counts: Mapping[tuple[str, str], RatingCounts] = field(default_factory=dict)

    def seen(self, model: str, signal: str, weight: float = 1.0) -> QualityByModel:
        """Count a decision for a model."""
        return self._plus((model, signal), RatingCounts(seen=_positive(weight)))

    def rated(self, model: str, signal: str, quality: float, weight: float = 1.0) -> QualityByModel:
        """Count the rating of a decision, which was counted as seen."""
        weight = _positive(weight)
        total = weight * finite(quality, "quality", low=0.0, high=1.0)
        return self._plus((model, signal), RatingCounts(rated=weight, total=total))

    def merged(self, other: QualityByModel) -> QualityByModel:
        """Return what both counted; the order does not matter."""
        result = self
        for cell, more in other.counts.items():
            result = result._plus(cell, more)
        return result

    def _plus(self, cell: tuple[str, str], more: RatingCounts) -> QualityByModel:
        known = self.counts.get(cell, RatingCounts())
        return QualityByModel({**self.counts, cell: known.plus(more)})

    def mean_rating(self, model: str) -> float | None:
        """Return the plain mean of a model's ratings, which depends on who rates."""
        cells = [counts for (name, _), counts in self.counts.items() if name == model]
        rated = sum(counts.rated for counts in cells)
        return sum(counts.total for counts in cells) / rated if rated else None

    def estimate(self, model: str, expected: Mapping[str, float] | None = None) -> float | None:
        """Return a model's quality whoever rates, None before its first decision.

        `expected` is the quality to assume of a class before any rating in it (0.5 by default).
        """
        cells = {signal: c for (name, signal), c in self.counts.items() if name == model}
        seen = sum(counts.seen for counts in cells.values())
        if not seen:
            return None
        classes = self._classes()
        means = {
            signal: _mean(c, (expected or {}).get(signal, 0.5)) for signal, c in classes.items()
        }
        shares = {signal: counts.seen / seen for signal, counts in cells.items()}
        ratio = _odds_ratio(shares, {signal: c.seen for signal, c in classes.items()}, means)
        total = 0.0
        for signal, counts in cells.items():
            mean = _moved(means[signal], ratio)
            surplus = (counts.total - counts.rated * mean) / (counts.rated + _PRIOR_SURPLUS)
            total += shares[signal] * (mean + surplus)
        return min(max(total, 0.0), 1.0)

    def _classes(self) -> dict[str, RatingCounts]:
        """Return the counts of each class over all models."""
        classes: dict[str, RatingCounts] = {}
        for (_, signal), counts in self.counts.items():
            classes[signal] = classes.get(signal, RatingCounts()).plus(counts)
        return classes


def _mean(counts: RatingCounts, expected: float) -> float:
    return (counts.total + _PRIOR_RATINGS * expected) / (counts.rated + _PRIOR_RATINGS)


def _moved(mean: float, ratio: float) -> float:
    """Return the quality of a class where the odds of a good answer are `ratio` times as high."""
    good = mean * ratio
    return good / (good + 1.0 - mean) if good > 0.0 else 0.0


def _odds_ratio(
    shares: Mapping[str, float], pooled: Mapping[str, float], means: Mapping[str, float]
) -> float:
    """Return how much higher a model's odds of a good answer are than those of all models.

    EM: the odds give each class of the model an expected quality, whose mean gives new odds.
    """
    usual = sum(seen * means[signal] for signal, seen in pooled.items()) / sum(pooled.values())
    odds = _odds(usual)
    ratio = 1.0
    for _ in range(_EM_STEPS):
        quality = sum(share * _moved(means[signal], ratio) for signal, share in shares.items())
        ratio = _odds(quality) / odds
    return ratio


def _odds(probability: float) -> float:
    clipped = min(max(probability, _LEAST_ODDS), 1.0 - _LEAST_ODDS)
    return clipped / (1.0 - clipped)


def _positive(value: float) -> float:
    return finite(value, "weight", low=0.0)
