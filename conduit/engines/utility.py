"""Quality, cost and latency under the weights of one query: the only place where they meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import Preferences
from conduit.core.queries import LEAST_WEIGHT, MOST_WEIGHT

Floats = NDArray[np.float64]
MOST_RATE = MOST_WEIGHT / LEAST_WEIGHT  # of cost beside quality: no preferences say more


def penalty(
    preferences: Preferences,
    costs: Floats,
    scales: tuple[float, float],
    *,
    cost_weight: float | None = None,
) -> Floats:
    """Return what cost and latency take off each model's quality; costs are dollars and seconds.

    Utility = quality − penalty, with
    penalty = (w_c·cost/cost_scale + w_l·latency/latency_scale) / w_q. A missing scale is the
    expected value of the dearest (slowest) candidate for an average query. `cost_weight` stands for
    w_c/w_q where a budget sets it; below 0 it says that money left over has no use.
    """
    quality, per_usd = preferences.quality, cost_weight
    if per_usd is None:
        per_usd = preferences.cost / quality
    usd, seconds = preferences.cost_scale_usd, preferences.latency_scale_s
    rates = (
        _rate(per_usd, scales[0] if usd is None else usd),
        _rate(preferences.latency / quality, scales[1] if seconds is None else seconds),
    )
    taken: Floats = np.array(rates).dot(costs)
    return taken


def _rate(weight: float, scale: float) -> float:
    return weight / scale if scale > 0.0 else 0.0
