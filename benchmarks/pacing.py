"""Pacing on the routing tables: spend, and quality beside the best static mix at the same cost.

python -m benchmarks.pacing
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import results_page, windows
from benchmarks.tables import DATA, SHARED, table
from conduit.core.events import Outcome
from conduit.core.models import Preferences, as_vector
from conduit.engines.learner import Learner
from conduit.engines.pacing import Pacer, allowed_usd
from conduit.evaluation.replay import ReplayTable, static_mix

ORDERS = 10
QUALITY_ONLY = Preferences(quality=1.0, cost=0.0, latency=0.0)


def paced(
    found: ReplayTable, budget_usd: float, seed: int, prior_error: float | None
) -> tuple[float, float]:
    """Return the spend and the mean quality of one order within a budget for the whole table."""
    rng = np.random.default_rng(seed)
    quality, cost = np.asarray(found.quality), np.asarray(found.cost_usd)
    rows = rng.permutation(found.size)
    arms = list(found.models)
    if prior_error is not None:
        noise = prior_error * rng.choice([-1.0, 1.0], len(arms))
        arms = [
            replace(a, quality=float(np.clip(q, 0, 1)))
            for a, q in zip(arms, quality.mean(0) + noise, strict=True)
        ]
    learner = Learner(arms, found.vectors.shape[1], seed=seed, floor=0.02)
    tokens = None if found.input_tokens is None else np.asarray(found.input_tokens)
    written = None if found.output_tokens is None else np.asarray(found.output_tokens)
    place = {a.id: k for k, a in enumerate(arms)}
    cheapest = float(cost.mean(0).min())
    pacer, spent, reached = Pacer(), 0.0, 0.0
    for t, row in enumerate(rows):
        left, queries = budget_usd - spent, found.size - t
        known = 0.0 if tokens is None else float(tokens[row].mean())
        x = as_vector(found.vectors[row])
        # A hard limit: a model that would not leave the cheapest for the rest is no candidate.
        expected = learner.expect(x, input_tokens=known).cost_usd
        affordable = [
            a.id
            for a, c in zip(arms, expected, strict=True)
            if c <= left - (queries - 1) * cheapest * 0.5
        ]
        candidates = affordable or [arms[int(np.argmin(expected))].id]
        choice = learner.decide(
            x,
            preferences=QUALITY_ONLY,
            candidates=candidates,
            input_tokens=known,
            cost_weight=pacer.weight,
        )
        k = place[choice.model]
        usd = float(cost[row, k])
        pacer.spent(usd, allowed_usd(left, queries))
        spent += usd
        reached += float(quality[row, k])
        learner.apply(
            Outcome(
                choice.model,
                x,
                quality=float(quality[row, k]),
                cost_usd=usd,
                input_tokens=None if tokens is None else float(tokens[row, k]),
                output_tokens=None if written is None else float(written[row, k]),
            )
        )
    return spent, reached / found.size


def row_of(name: str, share: float, prior_error: float | None) -> dict[str, Any]:
    """Measure one table at one share of the dearest model's cost."""
    found = table(name)
    quality, cost = np.asarray(found.quality), np.asarray(found.cost_usd)
    budget = share * float(cost.mean(0).max()) * found.size
    runs = np.array([paced(found, budget, 1000 + o, prior_error) for o in range(ORDERS)])
    mixes = [
        static_mix(
            [a.id for a in found.models], quality.mean(0), cost.mean(0), budget / found.size
        ).quality
    ]
    gain = runs[:, 1] - mixes[0]
    return {
        "table": name,
        "budget": f"{share:g} of the dearest",
        "priors": "none" if prior_error is None else f"±{prior_error}",
        "spent / budget": float(runs[:, 0].mean() / budget),
        "worst spent / budget": float((runs[:, 0] / budget).max()),
        "quality": float(runs[:, 1].mean()),
        "static mix": mixes[0],
        "gain": float(gain.mean()),
        "gain se": float(gain.std(ddof=1) / np.sqrt(ORDERS)),
    }


def main() -> None:
    """Print and keep the figures."""
    windows.asked(__doc__)
    if not DATA.exists():
        print("the routing tables are not here; nothing to measure")
        return
    rows = []
    for name in SHARED:
        for share in (0.5, 0.25):
            for error in (0.05, None):
                rows.append(row_of(name, share, error))
                print(rows[-1], flush=True)
    results_page.write("pacing", rows, title="Pacing a budget over a replay")


if __name__ == "__main__":
    main()
