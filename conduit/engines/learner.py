"""The whole learning loop without I/O: decide, apply, snapshot, restore, merge.

>>> learner = Learner([ModelArm("small", quality=0.6), ModelArm("large", quality=0.8)], 2, seed=1)
>>> choice = learner.decide([1.0, 0.0])
>>> choice.model
'large'
>>> learner.apply(Outcome("large", [1.0, 0.0], quality=1.0))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit.core.errors import IncompatibleState, InvalidInput, finite, unknown_name
from conduit.core.events import Evidence, Outcome, Snapshot
from conduit.core.models import ModelArm, ModelEstimate, Preferences
from conduit.engines.bandits.base import (
    LATENCY,
    OUTPUTS,
    PRIOR_OBSERVATIONS,
    QUALITY,
    SPEND,
    ArmPrior,
    Floats,
    Policy,
    PolicyFactory,
    Prediction,
    Step,
    View,
)
from conduit.engines.bandits.changes import KEEP, LEAST_OUTCOMES, ChangeDetector
from conduit.engines.bandits.normal import probability_of_best
from conduit.engines.bandits.policies import create_policy
from conduit.engines.utility import penalty

FLOOR = 0.02  # of decisions explore whatever is believed, so that every propensity is known and > 0
FLOOR_TEMPERATURE = 0.1  # of utility: the floor prefers models that might be worth it
PENDING_MEMORY = 64.0  # decisions after which a call that never reported back no longer counts
NOISE_EVERY = 50  # outcomes between readings of the residual noise
LEAST_NOISE = 0.05
BALANCED = Preferences()

Observed = float | Mapping[str, float | None] | Evidence
Calibration = Sequence[Mapping[str, Observed]] | Mapping[str, ArrayLike | Mapping[str, ArrayLike]]


class LearnedChoice:
    """What was decided; probabilities and estimates are worked out when first read."""

    __slots__ = (
        "_confidence",
        "_estimates",
        "_floor",
        "_noise",
        "_per_spend",
        "_policy",
        "_rows",
        "_shares",
        "_x",
        "cost_known",
        "cost_usd",
        "latency_known",
        "latency_s",
        "model",
        "models",
        "place",
        "view",
    )  # fmt: skip

    def __init__(
        self,
        *,
        models: Sequence[str],
        place: int,
        view: View,
        latency_s: Floats,
        known: NDArray[np.bool_],
        x: Floats,
        rows: NDArray[np.intp] | None,
        policy: Policy,
        floor: float,
        noise: Floats,
        per_spend: Floats,
    ) -> None:
        """Keep references only; `models` are the candidates and `place` the chosen one."""
        self.models = models
        self.place = place
        self.model = models[place]
        self.view = view
        self.latency_s = latency_s
        self.cost_usd = view.cost_usd
        self.cost_known, self.latency_known = known[0], known[1]
        self._x = x
        self._rows = rows
        self._policy = policy
        self._floor = floor
        self._noise = noise
        self._per_spend = per_spend
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
            p = self._policy.propensities(self.view)
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
    def estimates(self) -> Mapping[str, ModelEstimate]:
        """Return what was expected of each candidate, with standard deviations."""
        if self._estimates is None:
            self._estimates = dict(zip(self.models, self._listed(), strict=True))
        return self._estimates

    def _leverages(self) -> list[Floats]:
        """Return the leverage per output; quality's for all where models have changed since."""
        now = self._policy.leverages(self._x)
        if now.shape[1] != self._noise.shape[0]:
            return [self.view.leverage] * OUTPUTS
        return [self.view.leverage, *(self._of(row) for row in now[SPEND:])]

    def _of(self, column: Floats) -> Floats:
        return column if self._rows is None else column[self._rows]

    def _listed(self) -> list[ModelEstimate]:
        view = self.view
        sd = [self._of(self._noise[:, o]) * np.sqrt(v) for o, v in enumerate(self._leverages())]
        cost_sd = sd[SPEND] * self._of(self._per_spend)
        shares = self.propensities
        return [
            ModelEstimate(
                model=model,
                quality=float(min(max(view.quality[k], 0.0), 1.0)),
                quality_sd=float(sd[QUALITY][k]),
                cost_usd=float(self.cost_usd[k]) if self.cost_known[k] else None,
                cost_sd=float(cost_sd[k]) if self.cost_known[k] else None,
                latency_s=float(self.latency_s[k]) if self.latency_known[k] else None,
                latency_sd=float(sd[LATENCY][k]) if self.latency_known[k] else None,
                utility=float(view.quality[k] - view.penalty[k]),
                propensity=float(shares[k]),
            )
            for k, model in enumerate(self.models)
        ]


def floor_shares(view: View) -> Floats:
    """Return how the exploration floor is shared: more to models that might be worth it."""
    utility = view.quality - view.penalty
    share = np.exp((utility - utility.max()) / FLOOR_TEMPERATURE)
    share = 0.5 * share / share.sum() + 0.5 / share.size
    return np.asarray(share)


class _Arms:
    """The arms in row order, with what turns their spend into dollars."""

    def __init__(self) -> None:
        self.arms: list[ModelArm] = []
        self.row: dict[str, int] = {}
        self.ids: tuple[str, ...] = ()
        self._refresh()

    def add(self, arm: ModelArm) -> None:
        self.arms.append(arm)
        self._refresh()

    def remove(self, row: int) -> None:
        del self.arms[row]
        self._refresh()

    def _refresh(self) -> None:
        self.ids = tuple(arm.id for arm in self.arms)
        self.row = {name: k for k, name in enumerate(self.ids)}
        self.per_spend = np.array([spend_usd(a) for a in self.arms], dtype=np.float64)
        self.per_input = np.array(
            [(a.input_usd_per_mtok or 0.0) / 1e6 if a.priced else 0.0 for a in self.arms]
        )
        self.in_tokens = tuple(a.priced for a in self.arms)
        free = [
            a.priced and not a.input_usd_per_mtok and not a.output_usd_per_mtok for a in self.arms
        ]
        self.prior_known = np.array(
            [
                [
                    (a.priced and a.output_tokens is not None) or f
                    for a, f in zip(self.arms, free, strict=True)
                ],
                [a.latency_s is not None for a in self.arms],
            ],
            dtype=np.bool_,
        ).reshape(2, -1)


def spend_usd(arm: ModelArm) -> float:
    """Return the dollars of one unit of spend: of an output token where priced, else one."""
    return (arm.output_usd_per_mtok or 0.0) / 1e6 if arm.priced else 1.0


def prior_of(arm: ModelArm, observations: float) -> ArmPrior:
    """Return what the catalogue or the caller says of an arm, as a prior."""
    own = arm.quality_observations
    return ArmPrior(
        quality=arm.quality,
        quality_observations=observations if own is None else own,
        spend=arm.output_tokens if arm.priced else None,
        latency_s=arm.latency_s,
    )


class Learner:
    """Decides which model answers a query, and learns from what comes of it.

    Sees vectors and numbers only. Replicas that apply the same outcomes in the same order hold the
    same state; without an alarm of the change detection, in any order.
    """

    def __init__(
        self,
        models: Sequence[ModelArm],
        dim: int,
        *,
        policy: str | PolicyFactory = "contextual_thompson",
        schema: str = "",
        seed: int | None = None,
        floor: float = FLOOR,
        prior_observations: float = PRIOR_OBSERVATIONS,
        change_detection: bool = True,
    ) -> None:
        """Start from the priors of the models alone."""
        if not isinstance(dim, int) or dim < 1:
            raise InvalidInput("dim must be a positive integer", field="dim", value=dim)
        self.dim = dim
        self.schema = schema
        self.floor = finite(floor, "floor", low=0.0, high=1.0)
        self.prior_observations = finite(prior_observations, "prior_observations", low=0.0)
        self.change_detection = change_detection
        self._make = policy
        self.policy = create_policy(policy, dim)
        self.rng = np.random.default_rng(seed)
        self.applied = 0
        self._arms = _Arms()
        self._changes = ChangeDetector()
        self._pending = np.zeros(0)
        self._parked: dict[str, Policy] = {}
        self._places: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self._input = [0.0, 0.0]  # sum and count of input tokens, for an average query
        for arm in models:
            self.add_model(arm)

    def reseed(self, seed: int | None) -> None:
        """Start the randomness anew; what was learned stays."""
        self.rng = np.random.default_rng(seed)

    # models --------------------------------------------------------------------------------

    @property
    def models(self) -> tuple[str, ...]:
        """Return the ids of the models that can be chosen, in the order in which they came."""
        return self._arms.ids

    @property
    def arms(self) -> tuple[ModelArm, ...]:
        """Return the models that can be chosen."""
        return tuple(self._arms.arms)

    def add_model(self, arm: ModelArm) -> None:
        """Let a model be chosen; what was learned of it before it was removed comes back."""
        if arm.id in self._arms.row:
            raise InvalidInput(f"model {arm.id!r} is there already", field="models", value=arm.id)
        self.policy.add_row(prior_of(arm, self.prior_observations))
        self._arms.add(arm)
        self._changes.add_row()
        self._pending = np.append(self._pending, 0.0)
        parked = self._parked.pop(arm.id, None)
        if parked is not None:
            self.policy.load_row(len(self._arms.arms) - 1, parked.dump_row(0))
        self._models_changed()

    def remove_model(self, model_id: str) -> None:
        """Stop choosing a model, and park what was learned of it."""
        row = self._row(model_id)
        self.park(model_id, self._arms.arms[row])
        self._parked[model_id].load_row(0, self.policy.dump_row(row))
        self.policy.remove_row(row)
        self._arms.remove(row)
        self._changes.remove_row(row)
        self._pending = np.delete(self._pending, row)
        self._models_changed()

    def park(self, model_id: str, arm: ModelArm | None = None) -> None:
        """Learn of a model that cannot be chosen here, as when another replica still uses it."""
        if (model_id not in self._parked and model_id not in self._arms.row) or arm is not None:
            policy = create_policy(self._make, self.dim)
            policy.add_row(prior_of(arm or ModelArm(model_id), self.prior_observations))
            self._parked[model_id] = policy

    def _models_changed(self) -> None:
        self._places.clear()
        self._read_noise()
        self._read_known()

    def _read_noise(self) -> None:
        self._noise = (
            np.maximum(self.policy.noise(), 0.0) if self.models else np.zeros((0, OUTPUTS))
        )
        self._noise[:, QUALITY] = np.maximum(self._noise[:, QUALITY], LEAST_NOISE)

    def _read_known(self) -> None:
        if not self.models:
            return
        seen = self.policy.seen().T[SPEND:] > 0
        self._known = np.logical_or(seen, self._arms.prior_known)
        partly = np.asarray(self._known.any(axis=1) & ~self._known.all(axis=1))
        self._guess_cost, self._guess_latency = bool(partly[0]), bool(partly[1])
        self._learn_known = not self._known.all()

    def _row(self, model_id: str) -> int:
        row = self._arms.row.get(model_id)
        if row is None:
            raise InvalidInput(
                unknown_name("model", model_id, self.models), field="model", value=model_id
            )
        return row

    # deciding ------------------------------------------------------------------------------

    def expect(self, x: ArrayLike, *, input_tokens: float = 0.0) -> Expected:
        """Return what is expected of every model for this query."""
        return self._expect(self._vector(x), input_tokens)

    def _expect(self, x: Floats, input_tokens: float) -> Expected:
        p = self.policy.predict(x)
        arms = self._arms
        mean_input = self._input[0] / self._input[1] if self._input[1] else input_tokens
        cost = p.spend * arms.per_spend + input_tokens * arms.per_input
        mean_cost = p.mean_spend * arms.per_spend + mean_input * arms.per_input
        latency, mean_latency = p.latency_s, p.mean_latency_s
        if self._guess_cost:
            cost, mean_cost = _guessed(cost, self._known[0]), _guessed(mean_cost, self._known[0])
        if self._guess_latency:
            latency = _guessed(latency, self._known[1])
            mean_latency = _guessed(mean_latency, self._known[1])
        return Expected(p, cost, mean_cost, latency, mean_latency, self._known)

    def decide(
        self,
        x: ArrayLike,
        *,
        preferences: Preferences = BALANCED,
        candidates: Sequence[str] | None = None,
        input_tokens: float = 0.0,
        saved_usd: Mapping[str, float] | None = None,
    ) -> LearnedChoice:
        """Choose one of the candidates (all models by default), and count it as in flight.

        `saved_usd` are dollars that choosing a model saves on this query, such as by a prompt
        prefix that its provider has cached.
        """
        choice = self._choice(self._vector(x), preferences, candidates, input_tokens, saved_usd)
        view, rng = choice.view, self.rng
        if self.floor and view.quality.size > 1 and rng.random() < self.floor:
            place = int(np.searchsorted(np.cumsum(floor_shares(view)), rng.random()))
            place = min(place, view.quality.size - 1)
        else:
            place = self.policy.select(view, rng)
        choice.choose(place)
        self._pending *= 1.0 - 1.0 / PENDING_MEMORY
        self._pending[self._arms.row[choice.model]] += 1.0
        return choice

    def propensity(
        self,
        x: ArrayLike,
        model: str | None = None,
        *,
        preferences: Preferences = BALANCED,
        candidates: Sequence[str] | None = None,
        input_tokens: float = 0.0,
    ) -> float | dict[str, float]:
        """Return the probability of choosing a model now, or of each candidate; nothing changes."""
        choice = self._choice(self._vector(x), preferences, candidates, input_tokens)
        shares = dict(zip(choice.models, map(float, choice.propensities), strict=True))
        if model is None:
            return shares
        self._row(model)
        return shares.get(model, 0.0)

    def _choice(
        self,
        x: Floats,
        preferences: Preferences,
        candidates: Sequence[str] | None,
        input_tokens: float,
        saved_usd: Mapping[str, float] | None = None,
    ) -> LearnedChoice:
        rows, ids = self._candidates(candidates)
        e = self._expect(x, input_tokens)
        for model, usd in (saved_usd or {}).items():
            e.cost_usd[self._row(model)] -= min(usd, float(e.cost_usd[self._row(model)]))
        lever = e.prediction.leverage
        pulls = self.policy.pulls()
        if self.policy.counts_pending:
            lever = lever / (1.0 + self._pending * lever)
            pulls = pulls + self._pending
        columns = (e.prediction.quality, e.cost_usd, e.latency_s, e.mean_cost_usd, e.mean_latency_s)
        known = e.known
        if rows is not None:
            columns = tuple(c[rows] for c in columns)  # type: ignore[assignment]
            lever, known, pulls = lever[rows], known[:, rows], pulls[rows]
        quality, cost, latency, mean_cost, mean_latency = columns
        off = penalty(
            preferences, cost, latency, mean_cost_usd=mean_cost, mean_latency_s=mean_latency
        )
        view = View(quality, off, cost, lever, pulls)
        return LearnedChoice(
            models=ids,
            place=0,
            view=view,
            latency_s=latency,
            known=known,
            x=x,
            rows=rows,
            policy=self.policy,
            floor=self.floor,
            noise=self._noise,
            per_spend=self._arms.per_spend,
        )

    def _candidates(
        self, candidates: Sequence[str] | None
    ) -> tuple[NDArray[np.intp] | None, tuple[str, ...]]:
        if candidates is None:
            if not self._arms.ids:
                raise InvalidInput("there are no models to choose from", field="models")
            return None, self._arms.ids
        ids = tuple(candidates)
        if ids == self._arms.ids:
            return None, ids
        rows = self._places.get(ids)
        if rows is None:
            if not ids:
                raise InvalidInput(
                    "candidates must not be empty",
                    field="candidates",
                    expected="at least one model id",
                )
            if len(set(ids)) != len(ids):
                raise InvalidInput("candidates must not repeat", field="candidates", value=ids)
            rows = np.array([self._row(name) for name in ids], dtype=np.intp)
            if len(self._places) >= 1024:
                self._places.clear()
            self._places[ids] = rows
        return rows, ids

    def _vector(self, x: ArrayLike) -> Floats:
        try:
            vector = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput("x must be a vector of numbers", field="x") from error
        if vector.shape != (self.dim,):
            raise InvalidInput(
                f"x must be a vector of {self.dim} numbers, got shape {vector.shape}",
                field="x",
                expected=f"a vector of {self.dim} numbers",
                value=vector.shape,
            )
        if not math.isfinite(vector @ vector):
            raise InvalidInput("x must be finite", field="x", expected="finite numbers")
        return vector

    # learning ------------------------------------------------------------------------------

    def apply(self, event: Outcome) -> None:
        """Teach what one outcome adds to (or revises of) what was known of its call."""
        x = self._vector(event.x)
        if self.schema and event.schema is not None and event.schema != self.schema:
            raise InvalidInput(
                "the outcome's features were made by another schema",
                field="schema",
                expected=self.schema,
                value=event.schema,
            )
        row = self._arms.row.get(event.model)
        if row is None:
            self._apply_parked(event, x)
            return
        old = event.revises
        step = self._step(event, old, row)
        first = old is None or old.quality is None
        changed = (
            self.change_detection
            and first
            and event.quality is not None
            and self.policy.seen()[row, QUALITY] >= LEAST_OUTCOMES
            and self._changed(row, x, event.quality, event.quality_weight)
        )
        self.policy.update(row, x, step)
        if changed:
            self.policy.discount(row, KEEP)
        if old is None:
            self._pending[row] = max(0.0, self._pending[row] - 1.0)
            if event.input_tokens is not None:
                self._input[0] += event.input_tokens
                self._input[1] += 1.0
        self.applied += 1
        if self.applied % NOISE_EVERY == 0 or (
            self.applied < NOISE_EVERY and self.applied % 8 == 0
        ):
            self._read_noise()
        if self._learn_known:
            self._read_known()

    def _apply_parked(self, event: Outcome, x: Floats) -> None:
        parked = self._parked.get(event.model)
        if parked is None:
            self._row(event.model)  # raises, naming the models that are known
            return
        parked.update(0, x, _step(event, event.revises, ModelArm(event.model)))
        self.applied += 1

    def _step(self, event: Outcome, old: Evidence | None, row: int) -> Step:
        return _step(event, old, self._arms.arms[row])

    def _changed(self, row: int, x: Floats, quality: float, weight: float) -> bool:
        expected = self.policy.expected_quality(row, x)
        z = (quality - expected) / self._noise[row, QUALITY]
        return self._changes.changed(row, z * min(weight, 1.0))

    def fit(self, x: ArrayLike, outcomes: Calibration) -> int:
        """Teach many outcomes of many models at once; return how many were taught.

        `outcomes` is, per row of x, a mapping from model to its quality (or a mapping of quality,
        cost_usd, input_tokens, output_tokens, latency_s); or, per model, an array of qualities (or
        a mapping of arrays) with NaN where nothing is known.
        """
        matrix = np.asarray(x, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.dim or not np.isfinite(matrix).all():
            raise InvalidInput(
                f"X must be a finite (n, {self.dim}) matrix, got shape {matrix.shape}",
                field="X",
                expected=f"a finite (n, {self.dim}) matrix",
                value=matrix.shape,
            )
        columns = columns_of(outcomes, matrix.shape[0], self.models)
        plans = [(self._row(m), c) for m, c in columns.items()]
        taught = 0
        for row, column in plans:
            value = _values(column, self._arms.arms[row])
            weight = np.isfinite(value).astype(np.float64)
            used = weight.any(axis=1)
            if not used.any():
                continue
            self.policy.update_many(row, matrix[used], weight[used], np.nan_to_num(value[used]))
            tokens = column["input_tokens"]
            known = np.isfinite(tokens)
            self._input[0] += float(tokens[known].sum())
            self._input[1] += float(known.sum())
            taught += int(used.sum())
        self.applied += taught
        self.policy.settle()
        self._read_noise()
        self._read_known()
        return taught

    # state ---------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return everything that a restart needs; its sums can be merged into another learner."""
        arms = {name: self.policy.dump_row(row) for row, name in enumerate(self.models)}
        parked = {name: policy.dump_row(0) for name, policy in self._parked.items()}
        return Snapshot(
            policy=self.policy.name,
            schema=self.schema,
            dim=self.dim,
            arms={**parked, **arms},
            shared={**self.policy.dump_shared(), "input": np.array(self._input)},
            local={
                "rng": self.rng.bit_generator.state,
                "pending": dict(zip(self.models, self._pending.tolist(), strict=True)),
                "changes": {m: self._changes.dump(k) for k, m in enumerate(self.models)},
                "noise": self._noise.tolist(),
                "policy": self.policy.dump_local(),
                "units": {a.id: "tokens" if a.priced else "usd" for a in self._arms.arms},
            },
            applied=self.applied,
        )

    @classmethod
    def restore(cls, snapshot: Snapshot, models: Sequence[ModelArm], **options: Any) -> Self:
        """Return a learner that goes on from a snapshot: same models, same choices.

        A model that the snapshot does not know starts from its prior; one that is no longer listed
        is parked. `options` are those of the constructor; a seed starts the randomness anew.
        """
        options.setdefault("policy", snapshot.policy)
        learner = cls(models, snapshot.dim, schema=snapshot.schema, **options)
        if learner.policy.name != snapshot.policy:
            raise IncompatibleState(
                f"the state was learned by {snapshot.policy!r}, not {learner.policy.name!r}",
                stored=snapshot.policy,
                wanted=learner.policy.name,
            )
        learner._add(snapshot)
        learner._go_on(snapshot.local, fresh_seed=options.get("seed") is not None)
        return learner

    def merge(self, other: Snapshot | Learner) -> None:
        """Add what another learner learned from outcomes that this one has not seen."""
        snapshot = other.snapshot() if isinstance(other, Learner) else other
        if (snapshot.policy, snapshot.dim, snapshot.schema) != (
            self.policy.name,
            self.dim,
            self.schema,
        ):
            raise IncompatibleState(
                "only what was learned with the same policy, dimension and schema can be merged",
                stored=(snapshot.policy, snapshot.dim, snapshot.schema),
                wanted=(self.policy.name, self.dim, self.schema),
            )
        self._add(snapshot)
        self.policy.settle()

    def _add(self, snapshot: Snapshot) -> None:
        units = snapshot.local.get("units", {})
        for name, sums in snapshot.arms.items():
            row = self._arms.row.get(name)
            if row is not None:
                arm = self._arms.arms[row]
                if units.get(name, "tokens" if arm.priced else "usd") != (
                    "tokens" if arm.priced else "usd"
                ):
                    raise IncompatibleState(
                        f"what {name!r} spends was learned in {units[name]}; its price was "
                        f"{'added' if arm.priced else 'removed'} since",
                        stored=units[name],
                    )
                self.policy.load_row(row, sums)
            else:
                self.park(name)
                self._parked[name].load_row(0, sums)
        self.policy.load_shared(snapshot.shared)
        self._input = [
            a + float(b) for a, b in zip(self._input, snapshot.shared["input"], strict=True)
        ]
        self.applied += snapshot.applied
        self._read_noise()
        self._read_known()

    def _go_on(self, local: Mapping[str, Any], *, fresh_seed: bool) -> None:
        if not fresh_seed:
            self.rng.bit_generator.state = local["rng"]
        self._pending = np.array([local["pending"].get(m, 0.0) for m in self.models])
        for row, name in enumerate(self.models):
            if name in local["changes"]:
                self._changes.load(row, local["changes"][name])
        noise = np.array(local["noise"])
        if noise.shape == self._noise.shape and tuple(local["pending"]) == self.models:
            self._noise = noise
        self.policy.load_local(local["policy"])


class Expected(NamedTuple):
    """What is expected of every model, in dollars and seconds."""

    prediction: Prediction
    cost_usd: Floats
    mean_cost_usd: Floats
    latency_s: Floats
    mean_latency_s: Floats
    known: NDArray[np.bool_]  # (cost, latency) × model: learned or given, not guessed


def _guessed(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return values with the mean of the known ones where nothing is known: unknown is not free."""
    return np.where(known, values, values[known].mean())


def _step(new: Outcome, old: Evidence | None, arm: ModelArm) -> Step:
    known = (new.quality, _spend(new, arm), None if new.error else new.latency_s)
    before: tuple[float | None, ...] = (None, None, None)
    if old is not None:
        before = (old.quality, _spend(old, arm), None if old.error else old.latency_s)
    weight, value, square = np.zeros(OUTPUTS), np.zeros(OUTPUTS), np.zeros(OUTPUTS)
    for o in range(OUTPUTS):
        r = known[o]
        if r is not None:
            w = new.quality_weight if o == QUALITY else 1.0
            weight[o], value[o], square[o] = w, w * r, w * r * r
        r = before[o]
        if r is not None and old is not None:
            w = old.quality_weight if o == QUALITY else 1.0
            weight[o] -= w
            value[o] -= w * r
            square[o] -= w * r * r
    return Step(weight, value, square)


def _spend(outcome: Outcome | Evidence, arm: ModelArm) -> float | None:
    """Return output tokens where they have a price, else dollars; None for a failed call."""
    if outcome.error is not None:
        return None
    if not arm.priced:
        return outcome.cost_usd
    if outcome.output_tokens is not None:
        return outcome.output_tokens
    if outcome.cost_usd is None or not arm.output_usd_per_mtok:
        return None
    known = (outcome.input_tokens or 0.0) * (arm.input_usd_per_mtok or 0.0)
    return max(outcome.cost_usd * 1e6 - known, 0.0) / arm.output_usd_per_mtok


_FIELDS = ("quality", "cost_usd", "input_tokens", "output_tokens", "latency_s")


def columns_of(outcomes: Calibration, n: int, models: Sequence[str]) -> dict[str, dict[str, Floats]]:
    """Return, per model and field, an array of n values with NaN where nothing is known."""
    if isinstance(outcomes, Mapping):
        given = {m: v if isinstance(v, Mapping) else {"quality": v} for m, v in outcomes.items()}
        return {m: {f: _column(v.get(f), n, f) for f in _FIELDS} for m, v in given.items()}
    if len(outcomes) != n:
        raise InvalidInput(
            f"outcomes must have {n} entries, one per row of X, got {len(outcomes)}",
            field="outcomes",
        )
    columns: dict[str, dict[str, Floats]] = {}
    for k, entry in enumerate(outcomes):
        for model, seen in entry.items():
            column = columns.setdefault(model, {f: np.full(n, np.nan) for f in _FIELDS})
            for name, value in _fields(seen).items():
                if value is not None:
                    column[name][k] = finite(
                        value, name, low=0.0, high=1.0 if name == "quality" else None
                    )
    return columns


def _fields(seen: Observed) -> Mapping[str, float | None]:
    if isinstance(seen, Mapping):
        unknown = set(seen) - set(_FIELDS)
        if unknown:
            raise InvalidInput(unknown_name("field", sorted(unknown)[0], _FIELDS), field="outcomes")
        return seen
    if isinstance(seen, Evidence | Outcome):
        return {name: getattr(seen, name) for name in _FIELDS}
    return {"quality": seen}


def _column(value: ArrayLike | None, n: int, name: str) -> Floats:
    if value is None:
        return np.full(n, np.nan)
    column = np.asarray(value, dtype=np.float64)
    known = column[~np.isnan(column)]
    high = 1.0 if name == "quality" else np.inf
    if column.shape != (n,) or (known < 0).any() or (known > high).any() or np.isinf(known).any():
        raise InvalidInput(
            f"{name} must be {n} numbers in range (NaN where unknown)",
            field=name,
            value=column.shape,
        )
    return column


def _values(column: Mapping[str, Floats], arm: ModelArm) -> Floats:
    """Return (n, outputs) of quality, spend and latency, NaN where unknown."""
    spend = column["cost_usd"]
    if arm.priced:
        spend = column["output_tokens"].copy()
        price = arm.output_usd_per_mtok or 0.0
        if price:
            known = np.nan_to_num(column["input_tokens"]) * (arm.input_usd_per_mtok or 0.0)
            from_cost = np.maximum(column["cost_usd"] * 1e6 - known, 0.0) / price
            spend = np.where(np.isnan(spend), from_cost, spend)
    return np.stack([column["quality"], spend, column["latency_s"]], axis=1)


__all__ = [
    "FLOOR", "Expected", "LearnedChoice", "Learner", "columns_of", "floor_shares", "prior_of",
]
