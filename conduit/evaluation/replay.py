"""Replaying a policy on a table in which every model's answer to every prompt is known.

The harness that judges Conduit, and a user's own logs: any policy, any order, exact rewards; and
any other learner on the same rows in the same orders (`replay_rival`).

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

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import finite
from conduit.core.events import Outcome
from conduit.core.models import ModelArm, Preferences, as_vector
from conduit.core.queries import MOST_WEIGHT
from conduit.engines.bandits.base import PRIOR_OBSERVATIONS, PolicyFactory
from conduit.engines.learner import FLOOR, Learner
from conduit.evaluation.arguments import (
    Drift,
    Floats,
    Plan,
    Weight,
    drifted,
    flag,
    function,
    refused,
    weight_of,
    whole,
)
from conduit.evaluation.results import Fixed, Mean, Mix, ReplayResult, mean_of, static_mix
from conduit.evaluation.tables import MEASURED, ReplayTable

Rows = NDArray[np.intp]

QUALITY_ALONE = Preferences(quality=1.0, cost=0.0, latency=0.0)

# Policies that are only compared with: they explore nothing, so no floor is taken from them.
BASELINES = ("random", "oracle", "always_best", "always_cheapest")


class Rival(Protocol):
    """A learner of one number per choice, to be replayed beside a policy; `k` is a model's place.

    It sees the same vectors as the policy, and of the outcome the utility under the weights that
    are in force.
    """

    def fit(self, x: Floats, utility: Floats) -> None:
        """Learn from calibration prompts (n, d) that every model answered (n, models)."""

    def choose(self, x: Floats) -> int:
        """Pick a model for a query."""

    def learn(self, x: Floats, k: int, utility: float) -> None:
        """Learn what came of a choice."""


# The models, with their quality priors where there are any; the dimension; a seed.
RivalFactory = Callable[[Sequence[ModelArm], int, int], Rival]


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
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Run a policy over the table in several random orders, and judge it.

    Utility = quality − cost_weight · cost / (mean cost of the dearest model), likewise latency;
    where a table has no costs, they take nothing off. `cost_weight` may be a function of the step,
    for weights that change. Order k is drawn from `seed + k`, so repeats that are to share no
    order need seeds at least `orders` apart. `calibration` rows per order (the first ones with
    `shuffle=False`), answered by every model, are taught first and left out of the stream.
    `delay` is how many more decisions are made before an outcome is seen. `prior_error` replaces
    the models' quality priors by simulated benchmark scores: the table's true mean, plus or minus
    this much at random. `floor` is the share of decisions that explore whatever is believed, 2 %
    by default and none for a baseline. `drift(step, quality_row)` returns the qualities of that
    step. `limit` stops each order after so many queries. `progress` is told how many orders are
    done, and of how many.
    """
    plan = Plan(orders, seed, calibration, shuffle, prior_error, delay, drift, limit, progress)
    truth = _Truth(table, cost_weight, latency_weight)
    if not isinstance(policy, str) and not callable(policy):
        raise refused("policy", "a name or a function that makes a policy", policy)
    names: list[str] = [policy] if isinstance(policy, str) else []

    def player(order: _Order) -> _Player:
        learner = Learner(
            order.arms,
            table.dim,
            policy=policy,
            seed=order.seed,
            floor=FLOOR if floor is None else floor,
            prior_observations=prior_observations,
            change_detection=flag(change_detection, "change_detection"),
        )
        if floor is None and learner.policy.name in BASELINES:
            learner.floor = 0.0
        names.append(learner.policy.name)
        return _Learned(learner, table, truth)

    runs = _run(table, truth, plan, player)
    return _judged(names[0], table, truth, runs)


def replay_rival(
    table: ReplayTable,
    make: RivalFactory,
    *,
    name: str = "rival",
    cost_weight: Weight = 0.1,
    latency_weight: float = 0.0,
    orders: int = 10,
    seed: int = 1000,
    delay: int = 0,
    calibration: int = 0,
    shuffle: bool = True,
    prior_error: float | None = None,
    drift: Drift | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Run any other learner over the very rows and orders that `replay` uses, and judge it alike.

    The arguments are those of `replay`.
    """
    plan = Plan(orders, seed, calibration, shuffle, prior_error, delay, drift, limit, progress)
    truth = _Truth(table, cost_weight, latency_weight)
    function(make, "make")

    def player(order: _Order) -> _Player:
        rival = make(order.arms, table.dim, order.seed)
        return _Rivalling(rival, table, truth)

    return _judged(name, table, truth, _run(table, truth, plan, player))


class _Truth:
    """The table as utilities: what each decision is judged by."""

    def __init__(self, table: ReplayTable, cost_weight: Weight, latency_weight: float) -> None:
        if not isinstance(table, ReplayTable):
            raise refused("table", "a ReplayTable", table)
        self.weight = weight_of(cost_weight)
        self.latency_weight = finite(latency_weight, "latency_weight", low=0.0, high=MOST_WEIGHT)
        if self.latency_weight and table.latency_s is None:
            raise refused("latency_weight", "0 where the table has no latency_s", latency_weight)
        self.quality = np.asarray(table.quality)
        self.cost = _judged_by(table.cost_usd, self.quality.shape)
        self.latency = _judged_by(table.latency_s, self.quality.shape)
        self.cost_scale = float(self.cost.mean(axis=0).max())
        self.latency_scale = float(self.latency.mean(axis=0).max())
        self._preferences: dict[float, Preferences] = {}

    def utilities(self, rows: Rows, quality: Floats, start: int = 0) -> Floats:
        """Return the utility of every model for the rows of the stream, the first being `start`."""
        weights = np.array([self.weight(start + t) for t in range(rows.size)])
        off = np.zeros(quality.shape)
        if self.cost_scale:
            off += weights[:, None] * self.cost[rows] / self.cost_scale
        if self.latency_scale:
            off += self.latency_weight * self.latency[rows] / self.latency_scale
        return np.asarray(quality - off)

    def preferences(self, t: int) -> Preferences:
        """Return the weights of one step, and the scales that the utilities are judged with."""
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


def _judged_by(value: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Return a measurement with the model's mean where it is unknown; 0 where it was left out."""
    if value is None:
        return np.zeros(shape)
    array = np.asarray(value, dtype=np.float64)
    return np.where(np.isnan(array), np.nanmean(array, axis=0), array)


class _Order(NamedTuple):
    """One order of the rows, the models as they are known in it, and the player's seed."""

    rows: Rows
    arms: list[ModelArm]
    seed: int


class _Run(NamedTuple):
    rows: Rows  # of the whole stream
    quality: Floats  # (stream, models)
    utility: Floats  # (stream, models): what each model would have brought
    chosen: Rows  # (steps,)


class _Player(Protocol):
    """Whoever chooses."""

    def fit(self, rows: Rows) -> None: ...
    def choose(self, t: int, row: int, truth: Floats) -> int: ...
    def learn(self, row: int, k: int, quality: float, utility: float) -> None: ...


def _orders(table: ReplayTable, plan: Plan) -> Iterator[_Order]:
    for order in range(plan.orders):
        rng = np.random.default_rng(plan.seed + order)
        rows = rng.permutation(table.size) if plan.shuffle else np.arange(table.size)
        arms = table.models_scored(plan.prior_error, rng)
        yield _Order(rows, arms, int(rng.integers(2**63)))


def _run(
    table: ReplayTable, truth: _Truth, plan: Plan, make: Callable[[_Order], _Player]
) -> list[_Run]:
    plan = plan.checked(table.size)
    for step in range(table.size - plan.calibration):
        truth.weight(step)  # refused now, not in the midst of an order
    runs: list[_Run] = []
    for order in _orders(table, plan):
        rows = order.rows[plan.calibration :]
        quality = truth.quality[rows]
        if plan.drift is not None:
            quality = drifted(plan.drift, quality)
        player = make(order)
        if plan.calibration:
            player.fit(order.rows[: plan.calibration])
        runs.append(_stream(player, truth, rows, quality, plan))
        if plan.progress is not None:
            plan.progress(len(runs), plan.orders)
    return runs


def _stream(player: _Player, truth: _Truth, rows: Rows, quality: Floats, plan: Plan) -> _Run:
    utility = truth.utilities(rows, quality)
    steps = rows.size if plan.limit is None else min(plan.limit, rows.size)
    chosen = np.empty(steps, dtype=np.intp)
    waiting: deque[tuple[int, int, float, float]] = deque()
    for t, row in enumerate(rows[:steps].tolist()):
        k = player.choose(t, row, utility[t])
        chosen[t] = k
        waiting.append((row, k, float(quality[t, k]), float(utility[t, k])))
        if len(waiting) > plan.delay:
            player.learn(*waiting.popleft())
    return _Run(rows, quality, utility, chosen)


class _Learned:
    """Our learner: it is told quality, cost and time apart, and weighs them when it decides."""

    def __init__(self, learner: Learner, table: ReplayTable, truth: _Truth) -> None:
        self.learner = learner
        self.truth = truth
        self.table = table
        self.names = [arm.id for arm in table.models]
        self.place = {name: k for k, name in enumerate(self.names)}
        self.vectors = [as_vector(v) for v in table.vectors]
        self.input_tokens = _input_tokens(table)
        self.given = {n: np.asarray(a) for n in MEASURED if (a := getattr(table, n)) is not None}
        self.reveal = getattr(learner.policy, "reveal", None)

    def fit(self, rows: Rows) -> None:
        given = {"quality": self.truth.quality, **self.given}
        outcomes = {
            name: {field: array[rows, k] for field, array in given.items()}
            for k, name in enumerate(self.names)
        }
        self.learner.fit(self.table.vectors[rows], outcomes)

    def choose(self, t: int, row: int, truth: Floats) -> int:
        preferences, tokens = self.truth.preferences(t), self.input_tokens[row]
        if self.reveal is not None:  # the truth that is told has its costs taken off already
            preferences, tokens = QUALITY_ALONE, 0.0
            self.reveal(truth, np.zeros(truth.size))
        choice = self.learner.decide(
            self.vectors[row], preferences=preferences, input_tokens=tokens
        )
        return self.place[choice.model]

    def learn(self, row: int, k: int, quality: float, utility: float) -> None:
        self.learner.apply(
            Outcome(
                self.names[k],
                self.vectors[row],
                quality=quality,
                cost_usd=self._seen("cost_usd", row, k),
                latency_s=self._seen("latency_s", row, k),
                input_tokens=self._seen("input_tokens", row, k),
                output_tokens=self._seen("output_tokens", row, k),
            )
        )

    def _seen(self, name: str, row: int, k: int) -> float | None:
        value = float(self.given[name][row, k]) if name in self.given else float("nan")
        return None if math.isnan(value) else value


class _Rivalling:
    """Another learner: it is told one number, the utility under the weights in force."""

    def __init__(self, rival: Rival, table: ReplayTable, truth: _Truth) -> None:
        self.rival = rival
        self.truth = truth
        self.last = len(table.models) - 1
        self.vectors = table.vectors.astype(np.float64)

    def fit(self, rows: Rows) -> None:
        self.rival.fit(self.vectors[rows], self.truth.utilities(rows, self.truth.quality[rows]))

    def choose(self, t: int, row: int, truth: Floats) -> int:
        return whole(self.rival.choose(self.vectors[row]), "choose", low=0, high=self.last)

    def learn(self, row: int, k: int, quality: float, utility: float) -> None:
        self.rival.learn(self.vectors[row], k, utility)


def _input_tokens(table: ReplayTable) -> list[float]:
    """Return the input tokens that are known before a call: the mean over the models' counts."""
    if table.input_tokens is None:
        return [0.0] * table.size
    counts = np.asarray(table.input_tokens, dtype=np.float64)
    counted = np.maximum((~np.isnan(counts)).sum(axis=1), 1)
    means: list[float] = (np.nan_to_num(counts).sum(axis=1) / counted).tolist()
    return means


def _judged(policy: str, table: ReplayTable, truth: _Truth, runs: Sequence[_Run]) -> ReplayResult:
    models = tuple(arm.id for arm in table.models)
    steps = runs[0].chosen.size
    at = np.arange(steps)
    utility = np.stack([run.utility[at, run.chosen] for run in runs])
    single = np.mean([run.utility.mean(axis=0) for run in runs], axis=0)
    quality = np.mean([run.quality.mean(axis=0) for run in runs], axis=0)
    dollars = np.mean([truth.cost[run.rows].mean(axis=0) for run in runs], axis=0)
    best = int(single.argmax())
    cost = mean_of(np.array([truth.cost[r.rows[:steps], r.chosen].mean() for r in runs]))
    groups = None if table.groups is None else np.array(table.groups)
    return ReplayResult(
        policy=policy,
        models=models,
        utility=utility,
        regret=np.stack([run.utility[:steps, best] for run in runs]) - utility,
        chosen=np.stack([run.chosen for run in runs]),
        groups=None if groups is None else np.stack([groups[r.rows[:steps]] for r in runs]),
        quality=mean_of(np.array([run.quality[at, run.chosen].mean() for run in runs])),
        cost_usd=cost,
        alone=tuple(map(Fixed, models, quality.tolist(), dollars.tolist(), single.tolist())),
        static_mix=static_mix(models, quality, dollars, cost.mean),
    )


__all__ = [
    "Drift", "Fixed", "Mean", "Mix", "ReplayResult", "ReplayTable", "Rival", "RivalFactory",
    "Weight", "replay", "replay_rival", "static_mix",
]  # fmt: skip
