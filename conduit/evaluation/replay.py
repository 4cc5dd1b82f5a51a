"""Replaying a policy on a table in which every model's answer to every prompt is known.

The harness that judges Conduit, and a user's own logs: any policy, any order, exact rewards.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> table = ReplayTable(
...     models=[ModelArm("small"), ModelArm("large")],
...     quality=rng.random((200, 2)) < [0.6, 0.8],
...     cost_usd=np.tile([0.001, 0.01], (200, 1)),
...     features=np.ones((200, 1)),
... )
>>> result = replay(table, cost_weight=0.1, orders=2)
>>> result.best_single.model
'large'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import InvalidInput
from conduit.core.events import Outcome
from conduit.core.models import ModelArm, Preferences, as_vector
from conduit.engines.bandits.base import PRIOR_OBSERVATIONS, PolicyFactory
from conduit.engines.learner import FLOOR, Learner

Floats = NDArray[np.float64]
Weight = float | Callable[[int], float]
Drift = Callable[[int, Floats], Floats]

QUALITY_ALONE = Preferences(quality=1.0, cost=0.0, latency=0.0)

# Policies that are only compared with: they explore nothing, so no floor is taken from them.
BASELINES = ("random", "oracle", "always_best", "always_cheapest")


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayTable:
    """What every model answers to every prompt: arrays of shape (prompts, models).

    `features` gives one vector per prompt; without it the texts are analysed as a router would.
    NaN is unknown: it teaches nothing, and is judged as the model's mean. `groups` names the kind
    of each prompt, for `ReplayResult.by_group`.
    """

    models: Sequence[ModelArm]
    quality: ArrayLike
    cost_usd: ArrayLike | None = None
    latency_s: ArrayLike | None = None
    input_tokens: ArrayLike | None = None
    output_tokens: ArrayLike | None = None
    texts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    features: ArrayLike | None = None

    def __post_init__(self) -> None:
        """Check the shapes, and turn everything into arrays."""
        quality = np.asarray(self.quality, dtype=np.float64)
        k = len(self.models)
        if quality.ndim != 2 or quality.shape[1] != k or not quality.shape[0]:
            raise _refused("quality", f"of shape (prompts, {k})", quality.shape)
        if not ((quality >= 0) & (quality <= 1)).all():
            raise _refused("quality", "numbers from 0 to 1")
        object.__setattr__(self, "quality", quality)
        for name in ("cost_usd", "latency_s", "input_tokens", "output_tokens"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _measured(name, value, quality.shape))
        if self.features is not None:
            object.__setattr__(self, "features", self._vectors(self.features))
        elif self.texts is None or len(self.texts) != quality.shape[0]:
            raise _refused("texts", "one text per prompt, where features are not given")
        if self.groups is not None and len(self.groups) != quality.shape[0]:
            raise _refused("groups", "one name per prompt", len(self.groups))

    def _vectors(self, given: ArrayLike) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(given, dtype=np.float32)
        rows = np.asarray(self.quality).shape[0]
        if vectors.ndim != 2 or vectors.shape[0] != rows or not np.isfinite(vectors).all():
            raise _refused("features", f"a finite ({rows}, d) matrix", vectors.shape)
        return vectors

    @property
    def size(self) -> int:
        """Return the number of prompts."""
        return int(np.asarray(self.quality).shape[0])

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return one feature vector per prompt."""
        if self.features is None:
            from conduit.engines.analyzer import Analyzer

            object.__setattr__(
                self, "features", self._vectors(Analyzer().vectors(self.texts or ()))
            )
        return np.asarray(self.features, dtype=np.float32)


def _measured(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape or (array[~np.isnan(array)] < 0).any() or np.isinf(array).any():
        raise _refused(name, f"numbers of at least 0 of shape {shape}, or NaN", array.shape)
    if np.isnan(array).all(axis=0).any():
        raise _refused(name, "known at least once for every model, or left out")
    return array


def _refused(name: str, wanted: str, value: object = None) -> InvalidInput:
    got = "" if value is None else f", got {value}"
    return InvalidInput(f"{name} must be {wanted}{got}", field=name, expected=wanted, value=value)


class Mean(NamedTuple):
    """A mean over the orders, with its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        """Show both."""
        return f"{self.mean:.4f} ± {self.se:.4f}"


class Fixed(NamedTuple):
    """What one fixed model would have reached; which one is known only in hindsight."""

    model: str
    quality: float
    cost_usd: float
    utility: float


class Mix(NamedTuple):
    """The best blind mix of two fixed models that costs as much: {model: share}."""

    shares: dict[str, float]
    quality: float
    cost_usd: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayResult:
    """What a policy reached, beside the best single model and the best static mix."""

    policy: str
    models: tuple[str, ...]
    utility: Floats  # (orders, steps), of each decision
    regret: Floats  # (orders, steps), of the best single model, paired, not summed
    chosen: NDArray[np.intp]  # (orders, steps)
    groups: NDArray[np.str_] | None  # (orders, steps), of the table's `groups`
    quality: Mean
    cost_usd: Mean
    best_single: Fixed
    static_mix: Mix

    def utility_at(self, t: int) -> Mean:
        """Return the mean utility of the first t queries."""
        return _mean(self.utility[:, :t].mean(axis=1))

    def regret_at(self, t: int) -> Mean:
        """Return what the best single model would have gained more in the first t queries."""
        return _mean(self.regret[:, :t].sum(axis=1))

    def utility_between(self, start: int, stop: int) -> Mean:
        """Return the mean utility of the queries from `start` up to `stop`."""
        return _mean(self.utility[:, start:stop].mean(axis=1))

    def by_group(self) -> dict[str, Mean]:
        """Return the mean utility of each group's queries."""
        if self.groups is None:
            return {}
        paired = list(zip(self.utility, self.groups, strict=True))
        return {
            str(name): _mean(np.array([u[g == name].mean() for u, g in paired if name in g]))
            for name in np.unique(self.groups)
        }

    @property
    def share_by_model(self) -> dict[str, float]:
        """Return the share of the queries that each model answered."""
        counts = np.bincount(self.chosen.ravel(), minlength=len(self.models))
        return dict(zip(self.models, (counts / counts.sum()).tolist(), strict=True))

    def summary(self) -> str:
        """Return a few lines for people."""
        n = self.utility.shape[1]
        marks = [t for t in (100, 500, 2000) if t < n] + [n]
        lines = [f"{self.policy}: quality {self.quality}, ${self.cost_usd.mean:.3g} per query"]
        lines += [
            f"  after {t}: utility {self.utility_at(t)}, regret {self.regret_at(t)}" for t in marks
        ]
        best, mix = self.best_single, self.static_mix
        lines.append(
            f"  best single model (in hindsight): {best.model}, utility {best.utility:.4f}, "
            f"quality {best.quality:.4f}, ${best.cost_usd:.3g}"
        )
        lines.append(f"  best static mix at the same cost: quality {mix.quality:.4f}")
        return "\n".join(lines)


def replay(
    table: ReplayTable,
    *,
    policy: str | PolicyFactory = "contextual_thompson",
    cost_weight: Weight = 0.1,
    latency_weight: float = 0.0,
    orders: int = 10,
    seed: int = 1000,
    delay: int = 0,
    calibration: int = 0,
    shuffle: bool = True,
    prior_error: float | None = None,
    floor: float | None = None,
    prior_observations: float = PRIOR_OBSERVATIONS,
    change_detection: bool = True,
    drift: Drift | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Run a policy over the table in several random orders, and judge it.

    Utility = quality − cost_weight · cost / (mean cost of the dearest model), likewise latency.
    `cost_weight` may be a function of the step, for weights that change. `calibration` rows per
    order (the first ones with `shuffle=False`), answered by every model, are taught first and left
    out of the stream. `delay` is how many more decisions are made before an outcome is seen.
    `prior_error` replaces the models' quality priors by simulated benchmark scores: the table's
    true mean, plus or minus this much at random. `drift(step, quality_row)` returns the qualities
    of that step.
    """
    truth = _Truth(table, cost_weight, latency_weight)
    if not 0 <= calibration < table.size:
        raise _refused("calibration", f"from 0 to {table.size - 1}", calibration)
    if orders < 1:
        raise _refused("orders", "at least 1", orders)
    if floor is None:
        floor = 0.0 if policy in BASELINES else FLOOR
    runs: list[_Run] = []
    for order in range(orders):
        rng = np.random.default_rng(seed + order)
        rows = rng.permutation(table.size) if shuffle else np.arange(table.size)
        learner = Learner(
            _with_priors(table, prior_error, rng),
            table.vectors.shape[1],
            policy=policy,
            seed=int(rng.integers(2**63)),
            floor=floor,
            prior_observations=prior_observations,
            change_detection=change_detection,
        )
        if calibration:
            _calibrate(learner, table, rows[:calibration])
        runs.append(_stream(learner, table, truth, rows[calibration:], delay, drift))
        if progress is not None:
            progress(order + 1, orders)
    return _judged(policy if isinstance(policy, str) else learner.policy.name, table, truth, runs)


class _Truth:
    """The table as utilities: what each decision is judged by."""

    def __init__(self, table: ReplayTable, cost_weight: Weight, latency_weight: float) -> None:
        self.quality = np.asarray(table.quality)
        self.cost = _judged_by(table.cost_usd, self.quality.shape)
        self.latency = _judged_by(table.latency_s, self.quality.shape)
        self.cost_scale = float(self.cost.mean(axis=0).max())
        self.latency_scale = float(self.latency.mean(axis=0).max())
        self.weight = cost_weight if callable(cost_weight) else (lambda _t, w=cost_weight: w)
        self.constant = not callable(cost_weight)
        self.latency_weight = latency_weight
        self._preferences: dict[float, Preferences] = {}

    def utility(self, t: int, row: int, quality: Floats) -> Floats:
        off = self.weight(t) * self.cost[row] / self.cost_scale if self.cost_scale else 0.0
        if self.latency_scale:
            off = off + self.latency_weight * self.latency[row] / self.latency_scale
        return np.asarray(quality - off)

    def preferences(self, t: int) -> Preferences:
        weight = self.weight(t)
        if weight not in self._preferences:
            self._preferences[weight] = Preferences(
                quality=1.0,
                cost=weight,
                latency=self.latency_weight,
                cost_scale_usd=self.cost_scale or None,
                latency_scale_s=self.latency_scale or None,
            )
        return self._preferences[weight]


class _Run(NamedTuple):
    utilities: Floats  # (steps, models): what each model would have brought
    chosen: NDArray[np.intp]
    quality: Floats
    cost: Floats
    rows: NDArray[np.intp]


def _judged_by(value: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Return a measurement with the model's mean where it is unknown; 0 where it was left out."""
    if value is None:
        return np.zeros(shape)
    array = np.asarray(value, dtype=np.float64)
    return np.where(np.isnan(array), np.nanmean(array, axis=0), array)


def _with_priors(
    table: ReplayTable, error: float | None, rng: np.random.Generator
) -> list[ModelArm]:
    if error is None:
        return list(table.models)
    mean = np.asarray(table.quality).mean(axis=0)
    score = np.clip(mean + error * rng.choice([-1.0, 1.0], mean.size), 0.0, 1.0)
    return [replace(arm, quality=float(s)) for arm, s in zip(table.models, score, strict=True)]


def _calibrate(learner: Learner, table: ReplayTable, rows: NDArray[np.intp]) -> None:
    fields = ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens")
    given = {
        name: np.asarray(getattr(table, name))
        for name in fields
        if getattr(table, name) is not None
    }
    outcomes = {
        arm.id: {name: array[rows, k] for name, array in given.items()}
        for k, arm in enumerate(table.models)
    }
    learner.fit(table.vectors[rows], outcomes)


def _stream(
    learner: Learner,
    table: ReplayTable,
    truth: _Truth,
    rows: NDArray[np.intp],
    delay: int,
    drift: Drift | None,
) -> _Run:
    place = {arm.id: k for k, arm in enumerate(table.models)}
    n = rows.size
    utilities = np.empty((n, len(place)))
    chosen = np.empty(n, dtype=np.intp)
    quality, cost = np.empty(n), np.empty(n)
    waiting: deque[Outcome] = deque()
    reveal = getattr(learner.policy, "reveal", None)
    vectors = [as_vector(v) for v in table.vectors]
    known_input = _input_tokens(table)
    for t, row in enumerate(rows):
        answers = truth.quality[row] if drift is None else drift(t, truth.quality[row])
        utilities[t] = truth.utility(t, row, answers)
        x = vectors[row]
        if reveal is None:
            preferences, tokens = truth.preferences(t), known_input[row]
        else:  # the truth that is told has its costs taken off already
            preferences, tokens = QUALITY_ALONE, 0.0
            reveal(utilities[t], np.zeros(len(place)))
        choice = learner.decide(x, preferences=preferences, input_tokens=tokens)
        k = place[choice.model]
        chosen[t], quality[t], cost[t] = k, answers[k], truth.cost[row, k]
        waiting.append(_outcome(table, row, k, x, float(answers[k])))
        if len(waiting) > delay:
            learner.apply(waiting.popleft())
    return _Run(utilities, chosen, quality, cost, rows)


def _input_tokens(table: ReplayTable) -> Floats:
    """Return the input tokens that are known before a call: the mean over the models' counts."""
    if table.input_tokens is None:
        return np.zeros(table.size)
    counts = np.asarray(table.input_tokens, dtype=np.float64)
    counted = np.maximum((~np.isnan(counts)).sum(axis=1), 1)
    return np.asarray(np.nan_to_num(counts).sum(axis=1) / counted)


def _outcome(
    table: ReplayTable, row: int, k: int, x: NDArray[np.float32], quality: float
) -> Outcome:
    def seen(values: ArrayLike | None) -> float | None:
        value = float("nan") if values is None else float(np.asarray(values)[row, k])
        return None if np.isnan(value) else value

    return Outcome(
        table.models[k].id,
        x,
        quality=quality,
        cost_usd=seen(table.cost_usd),
        latency_s=seen(table.latency_s),
        input_tokens=seen(table.input_tokens),
        output_tokens=seen(table.output_tokens),
    )


def _judged(policy: str, table: ReplayTable, truth: _Truth, runs: Sequence[_Run]) -> ReplayResult:
    models = tuple(arm.id for arm in table.models)
    steps = min(run.chosen.size for run in runs)
    rows = np.arange(steps)
    utility = np.stack([run.utilities[rows, run.chosen[:steps]] for run in runs])
    single = np.mean([run.utilities.mean(axis=0) for run in runs], axis=0)
    best = int(single.argmax())
    regret = np.stack([run.utilities[:steps, best] for run in runs]) - utility
    cost = _mean(np.array([run.cost.mean() for run in runs]))
    mean_quality, mean_cost = truth.quality.mean(axis=0), truth.cost.mean(axis=0)
    return ReplayResult(
        policy=policy,
        models=models,
        utility=utility,
        regret=regret,
        chosen=np.stack([run.chosen for run in runs]),
        groups=None
        if table.groups is None
        else np.stack([np.array(table.groups)[run.rows] for run in runs]),
        quality=_mean(np.array([run.quality.mean() for run in runs])),
        cost_usd=cost,
        best_single=Fixed(
            models[best], float(mean_quality[best]), float(mean_cost[best]), float(single[best])
        ),
        static_mix=static_mix(models, mean_quality, mean_cost, cost.mean),
    )


def static_mix(
    models: Sequence[str], quality: ArrayLike, cost_usd: ArrayLike, budget_usd: float
) -> Mix:
    """Return the blind mix of at most two models with the greatest quality within the budget."""
    q, c = np.asarray(quality, dtype=np.float64), np.asarray(cost_usd, dtype=np.float64)
    cheapest = int(np.lexsort((-q, c))[0])
    best = Mix({models[cheapest]: 1.0}, float(q[cheapest]), float(c[cheapest]))
    for i in range(len(models)):
        if c[i] <= budget_usd and q[i] > best.quality:
            best = Mix({models[i]: 1.0}, float(q[i]), float(c[i]))
        for j in range(len(models)):
            if c[i] <= budget_usd < c[j]:
                share = float((budget_usd - c[i]) / (c[j] - c[i]))
                mixed = float((1 - share) * q[i] + share * q[j])
                if mixed > best.quality:
                    best = Mix({models[i]: 1 - share, models[j]: share}, mixed, float(budget_usd))
    return best


def _mean(values: Floats) -> Mean:
    n = values.size
    return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0)


__all__ = ["Fixed", "Mean", "Mix", "ReplayResult", "ReplayTable", "replay", "static_mix"]
