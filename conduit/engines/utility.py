"""Quality, cost and latency under the weights of one query: the only place where they meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import Preferences

Floats = NDArray[np.float64]


def penalty(
    preferences: Preferences,
    cost_usd: Floats,
    latency_s: Floats,
    *,
    mean_cost_usd: Floats,
    mean_latency_s: Floats,
    cost_weight: float | None = None,
) -> Floats:
    """Return what cost and latency take off each model's quality.

    Utility = quality − penalty, with
    penalty = (w_c·cost/cost_scale + w_l·latency/latency_scale) / w_q. A missing scale is the
    expected value of the dearest (slowest) candidate for an average query. `cost_weight` stands for
    w_c/w_q where a budget sets it; below 0 it says that money left over has no use.
    """
    quality, latency = preferences.quality, preferences.latency
    weight = preferences.cost / quality if cost_weight is None else cost_weight
    taken = cost_usd * _rate(weight, preferences.cost_scale_usd, mean_cost_usd)
    if latency:
        taken += latency_s * _rate(latency / quality, preferences.latency_scale_s, mean_latency_s)
    return taken


def _rate(weight: float, scale: float | None, means: Floats) -> float:
    if not weight:
        return 0.0
    size = max(means.tolist()) if scale is None else scale
    return weight / size if size > 0.0 else 0.0
