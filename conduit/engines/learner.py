"""The whole learning loop without I/O: decide, apply, snapshot, restore, merge.

>>> learner = Learner([ModelArm("small", quality=0.6), ModelArm("large", quality=0.8)], 2, seed=1)
>>> choice = learner.decide([1.0, 0.0])
>>> choice.model
'large'
>>> learner.apply(Outcome("large", [1.0, 0.0], quality=1.0))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from conduit.core.errors import (
    ANSWERED_BADLY,
    IncompatibleState,
    InvalidInput,
    finite,
    optional_finite,
)
from conduit.core.events import MOST_TOKENS, Outcome, Snapshot
from conduit.core.models import ModelArm, Preferences
from conduit.engines.bandits.arms import (
    Arms,
    Expected,
    greatest,
    prior_of,
    units_of,
)
from conduit.engines.bandits.base import (
    OUTPUTS,
    PRIOR_OBSERVATIONS,
    QUALITY,
    Floats,
    Policy,
    PolicyFactory,
    View,
)
from conduit.engines.bandits.changes import KEEP, LEAST_OUTCOMES, MOST_KEPT, ChangeDetector
from conduit.engines.bandits.choices import LearnedChoice, floor_shares
from conduit.engines.bandits.outcomes import (
    Calibration,
    Observed,
    columns_of,
    step_of,
    weights_and_values,
)
from conduit.engines.bandits.parking import Parking
from conduit.engines.bandits.policies import create_policy, name_of
from conduit.engines.bandits.sums import DEFAULT_NOISE
from conduit.engines.bandits.vectors import checked_matrix, checked_vector, dimension, of_type
from conduit.engines.utility import MOST_RATE, penalty

FLOOR = 0.02  # of decisions explore whatever is believed, so that every propensity is known and > 0
PENDING_MEMORY = 64.0  # decisions after which a call that never reported back no longer counts
NOISE_EVERY = 50  # outcomes between readings of the residual noise
LEAST_NOISE = 0.05
BALANCED = Preferences()


class Learner:
    """Decides which model answers a query, and learns from what comes of it.

    Sees vectors and numbers only. Replicas that apply the same outcomes in the same order hold the
    same state. In another order they hold the same sums, unless the change detection saw an alarm;
    what is worked out from them now and then is the same after `settle`.
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
        self.dim = dimension(dim)
        self.schema = schema
        self.floor = finite(floor, "floor", low=0.0, high=1.0)
        self.prior_observations = finite(prior_observations, "prior_observations", low=0.0)
        self.change_detection = change_detection
        self._make = policy
        self.policy = create_policy(policy, self.dim)
        self.reseed(seed)
        self.applied = 0
        self._arms = Arms()
        self._changes = ChangeDetector()
        self._pending = np.zeros(0)
        self._parked = Parking(self._policy_of)
        for arm in models:
            self.add_model(arm)

    def reseed(self, seed: int | None) -> None:
        """Start the randomness anew; what was learned stays."""
        try:
            self.rng = np.random.default_rng(seed)  # noqa: TID251  where chance comes in
        except (TypeError, ValueError) as error:
            wanted = "a whole number of at least 0"
            raise InvalidInput(
                f"seed must be {wanted}, got {seed!r}", field="seed", expected=wanted, value=seed
            ) from error

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
        arm = of_type(arm, ModelArm, "models")
        if arm.id in self._arms.row:
            raise InvalidInput(
                f"model {arm.id!r} is there already",
                field="models",
                expected="each model once",
                value=arm.id,
            )
        self.policy.add_row(prior_of(arm, self.prior_observations))
        self._arms.add(arm)
        self._changes.add_row()
        self._pending = np.append(self._pending, 0.0)
        parked = self._parked.take(arm.id)
        if parked is not None:
            sums, units = parked
            self.policy.load_row(self._arms.row[arm.id], sums, spend=units == units_of(arm))
        self._models_changed()

    def remove_model(self, model_id: str) -> None:
        """Stop choosing a model, and park what was learned of it."""
        row = self._row(model_id)
        self._parked.put(self._arms.arms[row], self.policy.dump_row(row))
        self.policy.remove_row(row)
        self._arms.remove(row)
        self._changes.remove_row(row)
        self._pending = np.delete(self._pending, row)
        self._models_changed()

    def knows(self, model_id: str) -> bool:
        """Return whether a model can be chosen here, or is parked."""
        return model_id in self._arms.row or model_id in self._parked

    def park(self, model: str | ModelArm) -> None:
        """Learn of a model that cannot be chosen here, as when another replica still uses it.

        A model that is known by its name alone has its dollars counted, not its tokens.
        """
        arm = ModelArm(model) if isinstance(model, str) else of_type(model, ModelArm, "model")
        if not self.knows(arm.id):
            self._parked.put(arm)

    def _policy_of(self, arm: ModelArm) -> Policy:
        """Return a policy whose only row is a model that nothing was learned of."""
        policy = create_policy(self._make, self.dim)
        policy.add_row(prior_of(arm, self.prior_observations))
        return policy

    def _models_changed(self) -> None:
        self._read_noise()
        self._read_known()

    def _read_noise(self) -> None:
        noise = np.maximum(self.policy.noise(), 0.0) if self.models else np.zeros((0, OUTPUTS))
        noise[:, QUALITY] = np.maximum(noise[:, QUALITY], LEAST_NOISE)
        self._hold_noise(noise)

    def _hold_noise(self, noise: Floats) -> None:
        """Take note of the noise of what was taught; a rating's own is no wider than [0, 1] allows.

        What signals teach scatters more than ratings do, and weighs less for it.
        """
        self._noise = noise
        self._of_ratings = np.minimum(noise[:, QUALITY], DEFAULT_NOISE)

    def _read_known(self) -> None:
        if self.models:
            self._arms.read_known(self.policy.seen())

    def _row(self, model_id: str) -> int:
        return self._arms.row_of(model_id)

    # deciding ------------------------------------------------------------------------------

    def expect(self, x: ArrayLike, *, input_tokens: float = 0.0) -> Expected:
        """Return what is expected of every model for this query."""
        tokens = finite(input_tokens, "input_tokens", low=0.0, high=MOST_TOKENS)
        return self._expect(checked_vector(x, self.dim), tokens)

    def _expect(self, x: Floats, input_tokens: float) -> Expected:
        return self._arms.expected(self.policy.predict(x), input_tokens)

    def decide(
        self,
        x: ArrayLike,
        *,
        preferences: Preferences = BALANCED,
        candidates: Sequence[str] | None = None,
        input_tokens: float = 0.0,
        saved_usd: Mapping[str, float] | None = None,
        cost_weight: float | None = None,
    ) -> LearnedChoice:
        """Choose one of the candidates (all models by default).

        Where the policy counts calls in flight, this is one now.

        `saved_usd` are dollars that choosing a model saves on this query, such as by a prompt
        prefix that its provider has cached. `cost_weight` replaces the preferences' weight of cost
        (over that of quality), for a budget that paces itself.
        """
        vector = checked_vector(x, self.dim)
        choice = self._choice(vector, preferences, candidates, input_tokens, saved_usd, cost_weight)
        view, rng = choice.view, self.rng
        if self.floor and view.quality.size > 1 and rng.random() < self.floor:
            place = int(np.searchsorted(np.cumsum(floor_shares(view)), rng.random()))
            place = min(place, view.quality.size - 1)
        else:
            place = self.policy.select(view, rng)
        choice.choose(place)
        if self.policy.counts_pending:
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
        choice = self._choice(checked_vector(x, self.dim), preferences, candidates, input_tokens)
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
        cost_weight: float | None = None,
    ) -> LearnedChoice:
        rows, ids = self._arms.candidates(candidates)
        optional_finite(cost_weight, "cost_weight", low=-MOST_RATE, high=MOST_RATE)
        e = self._expect(x, finite(input_tokens, "input_tokens", low=0.0, high=MOST_TOKENS))
        if saved_usd is not None:
            self._arms.save(e, saved_usd)
        quality, lever, costs, known = e.prediction.quality, e.prediction.leverage, e.costs, e.known
        pulls, behind = self.policy.pulls(), self.policy.behind()
        noise = self._of_ratings
        if self.policy.counts_pending:
            lever = lever / (1.0 + self._pending * lever)
            pulls = pulls + self._pending
        scales = e.scales
        if rows is not None:
            quality, lever, noise = quality[rows], lever[rows], noise[rows]
            pulls, behind = pulls[rows], behind[rows]
            costs, known, scales = costs[:, rows], known[:, rows], greatest(e.mean_costs[:, rows])
        off = penalty(Preferences.of(preferences), costs, scales, cost_weight=cost_weight)
        return LearnedChoice(
            ids,
            rows,
            View(quality, off, costs[0], lever, pulls, behind, noise),
            costs,
            known,
            x,
            self.policy,
            self.floor,
            self._noise,
            self._arms,
        )

    # learning ------------------------------------------------------------------------------

    def apply(self, event: Outcome) -> None:
        """Teach what one outcome adds to (or revises of) what was known of its call."""
        of_type(event, Outcome, "event")
        x = checked_vector(event.x, self.dim)
        if self.schema and event.schema is not None and event.schema != self.schema:
            raise InvalidInput(
                "the outcome's features were made by another schema",
                field="schema",
                expected=self.schema,
                value=event.schema,
            )
        if event.model in self._parked:
            self._parked.learn(event, x)
            self.applied += 1
            return
        row = self._row(event.model)
        old = event.revises
        step = step_of(event, old, self._arms.arms[row])
        seen = float(self.policy.seen()[row, QUALITY])
        expected = self.policy.update(row, x, step)
        if seen >= LEAST_OUTCOMES and self._changed(row, event, expected, seen):
            self.policy.discount(row, min(KEEP, MOST_KEPT / seen))
        if old is not None:
            self._arms.count_input(old.input_tokens, -1.0)
        elif self.policy.counts_pending:
            self._pending[row] = max(0.0, self._pending[row] - 1.0)
        self._arms.count_input(event.input_tokens)
        self.applied += 1
        if self.applied % NOISE_EVERY == 0 or (
            self.applied < NOISE_EVERY and self.applied % 8 == 0
        ):
            self._read_noise()
        if not self._arms.all_known and self._arms.is_news(row, self.policy.seen()[row]):
            self._read_known()

    def _changed(self, row: int, said: Outcome, expected: float, seen: float) -> bool:
        """Whether a first opinion, beside what was expected, says that a model has changed."""
        first = said.revises is None or said.revises.quality is None
        if not self.change_detection or said.quality is None or not first:
            return False
        # That a model is not there is no sign that its answers changed: an alarm would leave it a
        # twentieth of what was learned, for an outage whose failures are withdrawn.
        if said.error is not None and said.error not in ANSWERED_BADLY:
            return False
        off, noise = said.quality + said.lift - expected, float(self._of_ratings[row])
        weight = min(said.quality_weight, 1.0)
        return self._changes.changed(row, off, weight, expected, noise, seen)

    def fit(self, X: ArrayLike, outcomes: Calibration) -> int:
        """Teach many outcomes of many models at once; return how many were taught.

        `outcomes` is, per row of X, a mapping from model to its quality, or to a mapping of
        quality, quality_weight, cost_usd, input_tokens, output_tokens and latency_s; or, per model,
        an array of qualities, or a mapping of arrays, with NaN where nothing is known.
        """
        matrix = checked_matrix(X, self.dim)
        taught = 0
        for model, column in columns_of(outcomes, matrix.shape[0], self.models).items():
            row = self._row(model)
            weight, value = weights_and_values(column, self._arms.arms[row])
            used = weight.any(axis=1)
            if used.any():
                self.policy.update_many(row, matrix[used], weight[used], value[used])
                tokens = column["input_tokens"]
                known = tokens[~np.isnan(tokens)]
                self._arms.add_input_sums(float(known.sum()), float(known.size))
                taught += int(used.sum())
        self.applied += taught
        self.settle()
        self._read_known()
        return taught

    def settle(self) -> None:
        """Work out what is otherwise renewed now and then: the same sums then choose alike."""
        self.policy.settle()
        self._read_noise()

    # state ---------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return everything that a restart needs; its sums can be merged into another learner."""
        arms = {name: self.policy.dump_row(row) for row, name in enumerate(self.models)}
        return Snapshot(
            policy=self.policy.name,
            schema=self.schema,
            dim=self.dim,
            arms={**self._parked.sums(), **arms},
            shared={**self.policy.dump_shared(), "input": np.array(self._arms.input_sums)},
            local={
                "rng": self.rng.bit_generator.state,
                "pending": dict(zip(self.models, self._pending.tolist(), strict=True)),
                "changes": {m: self._changes.dump(k) for k, m in enumerate(self.models)},
                "noise": self._noise.tolist(),
                "policy": self.policy.dump_local(),
                "units": {arm.id: units_of(arm) for arm in (*self.arms, *self._parked.arms)},
                "made": self._made(),
            },
            applied=self.applied,
        )

    def _made(self) -> dict[str, Any]:
        """Return with what this learner was made."""
        return {
            "policy": name_of(self._make, self.policy),
            "floor": self.floor,
            "prior_observations": self.prior_observations,
            "change_detection": self.change_detection,
        }

    @classmethod
    def restore(cls, snapshot: Snapshot, models: Sequence[ModelArm], **options: Any) -> Self:
        """Return a learner that goes on from a snapshot: same models, same choices.

        A model that the snapshot does not know starts from its prior; one that is no longer listed
        is parked; where a price came to be known or was lost since, what the model spends is
        learned anew. `options` replace those of the constructor that the snapshot was made with; a
        seed starts the randomness anew. A policy that was made by a factory must be given again.
        """
        made = dict(of_type(snapshot, Snapshot, "snapshot").local.get("made", {}))
        if made.setdefault("policy", snapshot.policy) is None and "policy" not in options:
            raise InvalidInput(
                f"a factory made the policy {snapshot.policy!r} of this snapshot: give it again",
                field="policy",
                expected="the factory",
            )
        learner = cls(models, snapshot.dim, schema=snapshot.schema, **{**made, **options})
        if learner.policy.name != snapshot.policy:
            raise IncompatibleState(
                f"the state was learned by {snapshot.policy!r}, not {learner.policy.name!r}",
                stored=snapshot.policy,
                wanted=learner.policy.name,
            )
        with _read_or_refused():
            learner._add(snapshot)
            learner._go_on(snapshot.local, fresh_seed=options.get("seed") is not None)
        return learner

    def merge(self, other: Snapshot | Learner) -> None:
        """Add what another learner learned from outcomes that this one has not seen.

        The other is one that began without outcomes. One that was restored from this learner's
        snapshot holds what this one knows already, which would then count twice.
        """
        snapshot = other.snapshot() if isinstance(other, Learner) else other
        found = of_type(snapshot, Snapshot, "other")
        if (found.policy, found.dim, found.schema) != (self.policy.name, self.dim, self.schema):
            raise IncompatibleState(
                "only what was learned with the same policy, dimension and schema can be merged",
                stored=(found.policy, found.dim, found.schema),
                wanted=(self.policy.name, self.dim, self.schema),
            )
        with _read_or_refused():  # by another first, so that what is refused changes nothing here
            trial = Learner(self.arms, self.dim, schema=self.schema, policy=self._make)
            trial._add(found)
        self._add(found)
        self.settle()

    def _add(self, snapshot: Snapshot) -> None:
        for arrays in (*snapshot.arms.values(), snapshot.shared):
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise IncompatibleState("the sums of the state are not finite")
        units = snapshot.local.get("units", {})
        for name, sums in snapshot.arms.items():
            theirs = units.get(name)
            row = self._arms.row.get(name)
            if row is None:
                self._parked.add(name, theirs, sums)
            else:
                same = theirs in (None, units_of(self._arms.arms[row]))
                self.policy.load_row(row, sums, spend=same)
        self.policy.load_shared(snapshot.shared)
        self._arms.add_input_sums(*map(float, snapshot.shared["input"]))
        self.applied += snapshot.applied
        self._read_noise()
        self._read_known()

    def _go_on(self, local: Mapping[str, Any], *, fresh_seed: bool) -> None:
        if not local:  # as of a snapshot that was put together from sums
            return
        if not fresh_seed:
            self.rng.bit_generator.state = local["rng"]
        self._pending = np.array([local["pending"].get(m, 0.0) for m in self.models])
        for row, name in enumerate(self.models):
            if name in local["changes"]:
                self._changes.load(row, local["changes"][name])
        if tuple(local["pending"]) == self.models:
            self._hold_noise(np.array(local["noise"]).reshape(self._noise.shape))
        self.policy.load_local(local["policy"])


@contextmanager
def _read_or_refused() -> Iterator[None]:
    """Say of sums that cannot be read that they are not of this version."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise IncompatibleState(f"the state cannot be read: {error!r}") from error


__all__ = [
    "FLOOR", "Calibration", "Expected", "LearnedChoice", "Learner", "Observed", "columns_of",
    "floor_shares", "prior_of",
]  # fmt: skip
