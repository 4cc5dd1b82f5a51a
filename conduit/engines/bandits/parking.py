"""Models that cannot be chosen: what was learned of them, and still is, until they come back."""

from __future__ import annotations

from collections.abc import Callable

from conduit.core.events import Outcome
from conduit.core.models import ModelArm
from conduit.engines.bandits.arms import arm_in, units_of
from conduit.engines.bandits.base import Arrays, Floats, Policy
from conduit.engines.bandits.outcomes import step_of


class Parking:
    """One policy of a single row per parked model."""

    def __init__(self, make: Callable[[ModelArm], Policy]) -> None:
        """`make` returns a policy whose only row is a model that nothing was learned of."""
        self._make = make
        self._parked: dict[str, tuple[Policy, ModelArm]] = {}

    def __contains__(self, model_id: str) -> bool:
        """Return whether a model is parked."""
        return model_id in self._parked

    @property
    def arms(self) -> tuple[ModelArm, ...]:
        """Return the models that are parked."""
        return tuple(arm for _, arm in self._parked.values())

    def put(self, arm: ModelArm, sums: Arrays | None = None) -> None:
        """Park a model with what was learned of it."""
        policy = self._make(arm)
        if sums is not None:
            policy.load_row(0, sums)
        self._parked[arm.id] = policy, arm

    def take(self, model_id: str) -> tuple[Arrays, str] | None:
        """Return what is known of a model that comes back, and in what its spend was counted."""
        found = self._parked.pop(model_id, None)
        return None if found is None else (found[0].dump_row(0), units_of(found[1]))

    def learn(self, event: Outcome, x: Floats) -> None:
        """Teach an outcome of a model that is parked."""
        policy, arm = self._parked[event.model]
        policy.update(0, x, step_of(event, event.revises, arm))

    def add(self, name: str, units: str | None, sums: Arrays) -> None:
        """Add sums of a model, which may be of one that was never heard of."""
        if name not in self._parked:
            self.put(arm_in(units, name))
        policy, arm = self._parked[name]
        policy.load_row(0, sums, spend=units in (None, units_of(arm)))

    def sums(self) -> dict[str, Arrays]:
        """Return what is known of every model that is parked."""
        return {name: policy.dump_row(0) for name, (policy, _) in self._parked.items()}


__all__ = ["Parking"]
