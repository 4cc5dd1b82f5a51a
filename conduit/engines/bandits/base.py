"""What a policy is: estimates of every arm, and a rule that picks one of them.

A policy keeps one *row* per arm, in the order in which arms were added. It sees vectors and
numbers only; which model a row is, and what a query is worth, is the learner's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

# The three outputs that are learned of every arm, in the order of their rows.
QUALITY, SPEND, LATENCY = 0, 1, 2
OUTPUTS = 3

PRIOR_OBSERVATIONS = (
    30.0  # a benchmark score is worth so many rated answers (benchmarks/learning.py)
)
SCALE_OBSERVATIONS = 3.0  # a price list's or leaderboard's tokens and seconds are worth fewer
UNKNOWN_OBSERVATIONS = 1e-3  # no prior: the first observation decides


@dataclass(frozen=True, slots=True)
class ArmPrior:
    """What is believed of an arm before any outcome; for an unknown (None), the pool's mean."""

    quality: float | None = None
    quality_observations: float = PRIOR_OBSERVATIONS
    spend: float | None = None
    latency_s: float | None = None


class Prediction(NamedTuple):
    """What is expected of every row for one query, and for an average query.

    Spend is output tokens, or dollars where they have no price.
    """

    quality: Floats
    costs: Floats  # (2, rows): spend and seconds
    mean_costs: Floats  # the same for an average query
    leverage: Floats  # variance of the quality estimate, in units of one observation's variance

    @property
    def spend(self) -> Floats:
        """Return what is expected to be spent."""
        spend: Floats = self.costs[0]
        return spend

    @property
    def latency_s(self) -> Floats:
        """Return the seconds that are expected."""
        seconds: Floats = self.costs[1]
        return seconds


class View(NamedTuple):
    """What an exploration rule sees of the candidates of one decision."""

    quality: Floats
    penalty: Floats  # what cost and latency take off; utility = quality − penalty
    cost_usd: Floats  # expected dollars
    leverage: Floats  # already shrunk by the calls in flight
    pulls: Floats  # outcomes seen, and calls in flight
    behind: Floats  # observations behind an arm's quality: outcomes and the prior's
    noise: Floats  # sd of one rating of an arm

    @property
    def strength(self) -> Floats:
        """Return the observations behind each estimate, prior's and in-flight ones included."""
        return 1.0 / self.leverage


class Step(NamedTuple):
    """What one outcome adds to the sums of an arm, per output: weight, weight × value, × value²."""

    weight: Sequence[float] | Floats
    value: Sequence[float] | Floats
    square: Sequence[float] | Floats


class Policy(Protocol):
    """Estimates and exploration behind one set of rows.

    `update` adds one outcome, and returns the quality that was expected of the row before. What is
    returned is kept by those who read it: no policy writes into such an array again.
    """

    name: str
    dim: int
    # Whether calls in flight count as observations. A rule that draws at random spreads a burst by
    # itself, and one user's choices then never show in another's decisions.
    counts_pending: bool

    def add_row(self, prior: ArmPrior) -> None: ...  # noqa: D102  append an arm
    def remove_row(self, row: int) -> None: ...  # noqa: D102  later rows move up
    def predict(self, x: Floats) -> Prediction: ...  # noqa: D102  of every row
    def leverages(self, x: Floats) -> Floats: ...  # noqa: D102  (outputs, rows), see Prediction
    def select(self, view: View, rng: np.random.Generator) -> int: ...  # noqa: D102
    def propensities(self, view: View) -> Floats: ...  # noqa: D102  of `select`
    def update(self, row: int, x: Floats, step: Step) -> float: ...  # noqa: D102
    def update_many(  # noqa: D102
        self, row: int, x: Floats, weight: Floats, value: Floats
    ) -> None: ...
    def discount(self, row: int, keep: float) -> None: ...  # noqa: D102  forget a part
    def settle(self) -> None: ...  # noqa: D102  work out what is renewed only now and then
    def pulls(self) -> Floats: ...  # noqa: D102  outcomes behind each row's quality
    def behind(self) -> Floats: ...  # noqa: D102  the same, with the prior's observations
    def seen(self) -> Floats: ...  # noqa: D102  (rows, outputs) weight of outcomes
    def noise(self) -> Floats: ...  # noqa: D102  (rows, outputs) sd of one observation
    def dump_row(self, row: int) -> dict[str, NDArray[Any]]: ...  # noqa: D102  additive sums
    def load_row(  # noqa: D102  adds to the row; spend=False: all but what it spends
        self, row: int, sums: Arrays, *, spend: bool = True
    ) -> None: ...
    def dump_shared(self) -> dict[str, NDArray[Any]]: ...  # noqa: D102
    def load_shared(self, sums: Arrays) -> None: ...  # noqa: D102  adds
    def dump_local(self) -> dict[str, Any]: ...  # noqa: D102  JSON; not additive
    def load_local(self, local: Mapping[str, Any]) -> None: ...  # noqa: D102


PolicyFactory = Callable[[int], Policy]  # dim -> a policy without rows
