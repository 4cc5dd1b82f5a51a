"""What was decided: the model, and the readings that are worked out when they are first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import ModelEstimate
from conduit.engines.bandits.arms import Arms
from conduit.engines.bandits.base import (
    LATENCY,
    OUTPUTS,
    QUALITY,
    SPEND,
    Floats,
    Policy,
    View,
)
from conduit.engines.bandits.normal import probability_of_best

FLOOR_TEMPERATURE = 0.05  # of utility: the floor prefers models that might be worth it
FLOOR_EVEN = 0.1  # the part of the floor that goes to all alike (docs/decisions/0008)


class LearnedChoice:
    """What was decided; probabilities and estimates are worked out when first read."""

    __slots__ = (
        "_arms",
        "_confidence",
        "_costs",
        "_estimates",
        "_floor",
        "_ids",
        "_known",
        "_noise",
        "_per_spend",
        "_policy",
        "_rows",
        "_share_rule",
        "_shares",
        "_x",
        "model",
        "models",
        "place",
        "view",
    )  # fmt: skip

    def __init__(
        self,
        models: Sequence[str],
        rows: NDArray[np.intp] | None,
        view: View,
        costs: Floats,
        known: NDArray[np.bool_],
        x: Floats,
        policy: Policy,
        floor: float,
        noise: Floats,
        arms: Arms,
    ) -> None:
        """Keep references only; the first of the candidates (`models`) until `choose` is called."""
        self.models = models
        self.place = 0
        self.model = models[0]
        self.view = view
        self._rows = rows
        self._costs = costs
        self._known = known
        self._x = x
        self._policy = policy
        self._share_rule = policy.propensities  # in charge now: the hybrid's may change meanwhile
        self._floor = floor
        self._noise = noise
        self._arms, self._ids = arms, arms.ids
        self._per_spend = arms.per_spend
        self._shares: Floats | None = None
        self._confidence: float | None = None
        self._estimates: dict[str, ModelEstimate] | None = None

    def choose(self, place: int) -> None:
        """Settle which candidate it is."""
        self.place = place
        self.model = self.models[place]

    @property
    def propensities(self) -> Floats:
        """Return the probability with which each candidate would have been chosen."""
        if self._shares is None:
            p = self._share_rule(self.view)
            if self._floor and p.size > 1:
                p = (1.0 - self._floor) * p + self._floor * floor_shares(self.view)
            self._shares = p
        return self._shares

    @property
    def propensity(self) -> float:
        """Return the probability with which this model was chosen."""
        return float(self.propensities[self.place])

    @property
    def confidence(self) -> float:
        """Return the posterior probability that this model has the highest utility."""
        if self._confidence is None:
            sd = self._of(self._noise[:, QUALITY]) * np.sqrt(self.view.leverage)
            best = probability_of_best(self.view.quality - self.view.penalty, sd)
            self._confidence = float(best[self.place])
        return self._confidence

    @property
    def ranked(self) -> Sequence[str]:
        """Return the candidates, the most useful first."""
        order = np.argsort(self.view.penalty - self.view.quality, kind="stable")
        return [self.models[k] for k in order]

    @property
    def estimates(self) -> Mapping[str, ModelEstimate]:
        """Return what was expected of each candidate, with standard deviations."""
        if self._estimates is None:
            self._estimates = dict(zip(self.models, self._listed(), strict=True))
        return self._estimates

    def _leverages(self) -> list[Floats]:
        """Return the leverage per output; quality's for all where models have changed since."""
        if self._arms.ids is not self._ids:
            return [self.view.leverage] * OUTPUTS
        now = self._policy.leverages(self._x)
        return [self.view.leverage, *(self._of(row) for row in now[SPEND:])]

    def _of(self, column: Floats) -> Floats:
        return column if self._rows is None else column[self._rows]

    def _listed(self) -> list[ModelEstimate]:
        view, costs, known = self.view, self._costs, self._known
        sd = [self._of(self._noise[:, o]) * np.sqrt(v) for o, v in enumerate(self._leverages())]
        cost_sd = sd[SPEND] * self._of(self._per_spend)
        shares = self.propensities
        return [
            ModelEstimate(
                model=model,
                quality=float(min(max(view.quality[k], 0.0), 1.0)),
                quality_sd=float(sd[QUALITY][k]),
                cost_usd=float(costs[0, k]) if known[0, k] else None,
                cost_sd=float(cost_sd[k]) if known[0, k] else None,
                latency_s=float(costs[1, k]) if known[1, k] else None,
                latency_sd=float(sd[LATENCY][k]) if known[1, k] else None,
                utility=float(view.quality[k] - view.penalty[k]),
                propensity=float(shares[k]),
            )
            for k, model in enumerate(self.models)
        ]


def floor_shares(view: View) -> Floats:
    """Return how the exploration floor is shared: more to models that might be worth it."""
    utility = view.quality - view.penalty
    share = np.exp((utility - utility.max()) / FLOOR_TEMPERATURE)
    even = FLOOR_EVEN / share.size
    return np.asarray((1.0 - FLOOR_EVEN) * share / share.sum() + even)


__all__ = ["LearnedChoice", "floor_shares"]
