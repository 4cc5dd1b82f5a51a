"""The rules that pick an arm from estimates, each with the probability of every pick.

A rule draws from the generator that it is handed and keeps nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from conduit.engines.bandits import beta
from conduit.engines.bandits.base import Floats, View
from conduit.engines.bandits.normal import LEAST_SD, probability_of_best

ENOUGH = 10.0  # observations behind an arm: with fewer it is hardly known
LEAST = 1e-3  # observations: the draw of an arm of which nothing is known stays finite
MOST = 1e6  # observations: the draw of an arm that is known better still scatters
ANSWERS = 10.0  # more of an arm, that the worth of one is reckoned by (docs/decisions/0011)
FAMILIAR = 30.0  # outcomes of an arm after which one more is worth half
TYPICAL_NOISE = 0.45  # of an answer that is right or wrong: v is said for it
HUGE = 1e3  # utility: beyond it a draw would lose digits that matter
FEW = 12  # arms: more are drawn faster by arrays
TIE = 1e-9  # closer scores are equal: rounding must not decide, before a restart or after


class Exploration(Protocol):
    """One rule: pick, and say how probable each pick was."""

    def select(self, view: View, rng: np.random.Generator) -> int: ...  # noqa: D102
    def propensities(self, view: View) -> Floats: ...  # noqa: D102


def pick_best(scores: Floats, rng: np.random.Generator) -> int:
    """Return the place of the greatest score; ties are broken at random."""
    best = int(scores.argmax())
    if np.count_nonzero(scores >= scores[best] - TIE) == 1:
        return best
    return int(rng.choice(np.flatnonzero(scores >= scores[best] - TIE)))


def best_shares(scores: Floats) -> Floats:
    """Return the distribution of `pick_best`."""
    tied = scores >= scores.max() - TIE
    return np.asarray(tied / tied.sum())


def dearer(view: View) -> Floats:
    """Return what is taken off beyond the least: of huge penalties the differences count alone."""
    return np.asarray(view.penalty - view.penalty.min())


@dataclass(frozen=True, slots=True)
class Greedy:
    """The greatest expected utility; with probability epsilon any arm."""

    epsilon: float = 0.0

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the best arm, or any arm with probability epsilon."""
        if self.epsilon and rng.random() < self.epsilon:
            return int(rng.integers(view.quality.size))
        return pick_best(view.quality - view.penalty, rng)

    def propensities(self, view: View) -> Floats:
        """Return the probability of each pick."""
        share = best_shares(view.quality - view.penalty)
        return (1.0 - self.epsilon) * share + self.epsilon / share.size


@dataclass(frozen=True, slots=True)
class UpperBound:
    """Expected utility plus alpha standard errors (LinUCB; Li et al. 2010)."""

    alpha: float

    def _scores(self, view: View) -> Floats:
        return view.quality - view.penalty + self.alpha * np.sqrt(view.leverage)

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the greatest bound."""
        return pick_best(self._scores(view), rng)

    def propensities(self, view: View) -> Floats:
        """Return the probability of each pick: one, but for ties."""
        return best_shares(self._scores(view))


@dataclass(frozen=True, slots=True)
class CountBound:
    """Expected utility plus c·sqrt(2 ln t / n) (UCB1; Auer et al. 2002)."""

    c: float = 1.0

    def _scores(self, view: View) -> Floats:
        bonus = self.c * np.sqrt(2.0 * math.log(max(float(view.pulls.sum()), 2.0)) / view.strength)
        return np.asarray(view.quality - view.penalty + bonus)

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the greatest bound."""
        return pick_best(self._scores(view), rng)

    def propensities(self, view: View) -> Floats:
        """Return the probability of each pick: one, but for ties."""
        return best_shares(self._scores(view))


def worth_of_an_answer(view: View, utility: Floats) -> Floats:
    """Return what one answer of each arm may gain a later query that is like this one.

    The knowledge gradient (Frazier et al. 2009) of m = ANSWERS answers at once, shared among them.
    They would move the estimate by s = noise·h / √(h + 1/m), where h is the leverage. That helps
    where it lets an arm pass the best of the others, so by the mean of max(0, N(−gap, s)).
    """
    best = int(utility.argmax())
    gap = utility[best] - utility
    gap[best] = math.inf
    gap[best] = gap.min()  # the best would have to fall behind the second
    return np.asarray(_gain(gap, view.leverage, view.noise, np))


def _gain(gap: Any, h: Any, noise: Any, by: Any) -> Any:
    """Return the worth at a distance from the best of the others; `by` is numpy, or math."""
    s = noise * h / by.sqrt(h + 1.0 / ANSWERS) + TIE  # where nothing can be learned, not 0
    z = gap / s
    # The mean of max(0, N(−z, 1)) is 0.3989·exp(−1.2z − 0.36z²), within an eighth for z below 3.
    return 0.3989 / ANSWERS * s * by.exp(-z * (1.2 + 0.36 * z))


@dataclass(frozen=True, slots=True)
class NormalThompson:
    """A draw of each arm's utility from N(mean + worth, v²·leverage), without a draw of weights.

    That is for answers that are right or wrong. Where they scatter less, less is open, and the
    draw is narrower in proportion.

    The worth is that of an answer to `ahead` later queries like this one, half of it when the arm
    has FAMILIAR outcomes, a third when it has twice as many.

    An arm that is hardly known, neither by a prior nor by outcomes, is drawn more widely: with n
    observations behind it, a draw of sd wide_v·(1/n − 1/ENOUGH)² is added, so that one that was
    never asked is asked now and then beside one that never failed. A text of a new kind does not
    widen the draw: what is learned of it is learned of every later one too.
    """

    v: float
    wide_v: float = 0.0
    ahead: float = 0.0

    def _mean(self, view: View) -> Floats:
        utility = view.quality - dearer(view)
        if not self.ahead or utility.size == 1:
            return utility
        worth = worth_of_an_answer(view, utility)
        worth *= self.ahead * FAMILIAR / (FAMILIAR + view.pulls)
        worth += utility
        return worth

    def _sd(self, view: View) -> Floats:
        sd: Floats = np.sqrt(view.leverage) * view.noise
        sd *= self.v / TYPICAL_NOISE
        if min(view.behind.tolist()) < ENOUGH:
            beyond = np.maximum(1.0 / np.maximum(view.behind, LEAST) - 1.0 / ENOUGH, 0.0)
            sd = np.sqrt(sd * sd + (self.wide_v * beyond * beyond) ** 2)
        sd += LEAST_SD
        return sd

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the greatest draw."""
        scores: Floats = rng.standard_normal(view.quality.size)
        if scores.size <= FEW:
            few = self._scores_of_few(view, scores.tolist())
            return few.index(max(few))
        scores *= self._sd(view)
        scores += self._mean(view)
        return int(scores.argmax())

    def _scores_of_few(self, view: View, draws: Sequence[float]) -> list[float]:
        """Return `_mean` + `_sd`·draw, number by number: for five arms twice as fast as arrays."""
        utility = (view.quality - view.penalty).tolist()
        ranked = sorted(utility)
        if abs(ranked[-1]) > HUGE:
            utility = (view.quality - dearer(view)).tolist()
            ranked = sorted(utility)
        rows = zip(
            utility, view.leverage.tolist(), view.noise.tolist(), view.pulls.tolist(),
            view.behind.tolist(), draws, strict=True,
        )  # fmt: skip
        first, second = ranked[-1], ranked[-2:][0]
        leader = utility.index(first)
        ahead = self.ahead * FAMILIAR if len(utility) > 1 else 0.0
        v, scores = self.v / TYPICAL_NOISE, []
        for k, (mean, h, noise, pulls, behind, draw) in enumerate(rows):
            sd = v * noise * math.sqrt(h)
            if behind < ENOUGH:
                beyond = 1.0 / max(behind, LEAST) - 1.0 / ENOUGH
                sd = math.hypot(sd, self.wide_v * beyond * beyond)
            score = mean + (sd + LEAST_SD) * draw
            if ahead:
                gap = first - (second if k == leader else mean)
                score += _gain(gap, h, noise, math) * ahead / (FAMILIAR + pulls)
            scores.append(score)
        return scores

    def propensities(self, view: View) -> Floats:
        """Return the probability of each pick, by quadrature."""
        return probability_of_best(self._mean(view), self._sd(view))


@dataclass(frozen=True, slots=True)
class BetaThompson:
    """A draw of each arm's quality from its Beta posterior (fractional), less its penalty."""

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the greatest draw; ties are broken at random."""
        return pick_best(beta.steps(rng.beta(*_beta_parameters(view)), dearer(view)), rng)

    def propensities(self, view: View) -> Floats:
        """Return the probability of each pick, by quadrature."""
        return beta.probability_of_best(*_beta_parameters(view), dearer(view))


def _beta_parameters(view: View) -> tuple[Floats, Floats]:
    mean = np.minimum(np.maximum(view.quality, 1e-6), 1.0 - 1e-6)
    strength = np.minimum(np.maximum(view.strength, LEAST), MOST)
    return mean * strength, (1.0 - mean) * strength


@dataclass(frozen=True, slots=True)
class Uniform:
    """Any arm, each as probable as the other."""

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick any arm."""
        return int(rng.integers(view.quality.size))

    def propensities(self, view: View) -> Floats:
        """Return the same probability for each arm."""
        return np.full(view.quality.size, 1.0 / view.quality.size)


@dataclass(frozen=True, slots=True)
class BestQuality:
    """The arm believed best, whatever it costs."""

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the greatest expected quality."""
        return pick_best(view.quality, rng)

    def propensities(self, view: View) -> Floats:
        """Return one for the pick."""
        return best_shares(view.quality)


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The arm believed cheapest, however bad."""

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Pick the least expected cost."""
        return pick_best(-view.cost_usd, rng)

    def propensities(self, view: View) -> Floats:
        """Return one for the pick."""
        return best_shares(-view.cost_usd)
