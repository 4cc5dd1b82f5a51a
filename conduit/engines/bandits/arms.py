"""The models behind the rows: their priors, and what each is expected to cost and to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput, finite
from conduit.core.models import ModelArm
from conduit.engines.bandits.base import SPEND, ArmPrior, Floats, Prediction
from conduit.engines.bandits.outcomes import check_models

MOST_PLACES = 1024  # lists of candidates whose rows are remembered
GUESSED_OUTPUT_TOKENS = 300.0  # before any model's output was counted: prices then rank models


class Expected(NamedTuple):
    """What is expected of every model, in dollars and seconds."""

    prediction: Prediction
    costs: Floats  # (2, models): dollars and seconds
    mean_costs: Floats  # the same for an average query
    scales: tuple[float, float]  # the greatest of each of these
    known: NDArray[np.bool_]  # (2, models): learned or given, not guessed

    @property
    def cost_usd(self) -> Floats:
        """Return the dollars that each model is expected to cost."""
        dollars: Floats = self.costs[0]
        return dollars

    @property
    def latency_s(self) -> Floats:
        """Return the seconds that each model is expected to take."""
        seconds: Floats = self.costs[1]
        return seconds


class Arms:
    """The models in row order, and what turns their spend into dollars.

    Unknown is not free: where nothing was seen of a model's output, other models' output is taken
    at its own price; where it has no price, its cost is taken to be the others' mean.
    """

    def __init__(self) -> None:
        """Start without models."""
        self.arms: list[ModelArm] = []
        self._places: dict[tuple[str, ...], tuple[NDArray[np.intp], tuple[str, ...]]] = {}
        self._input_tokens, self._inputs = 0.0, 0.0  # of an average query
        self._refresh()

    def add(self, arm: ModelArm) -> None:
        """Append a model."""
        self.arms.append(arm)
        self._refresh()

    def remove(self, row: int) -> None:
        """Drop a model; later rows move up."""
        del self.arms[row]
        self._refresh()

    def _refresh(self) -> None:
        self._places.clear()
        self.ids = tuple(arm.id for arm in self.arms)
        self.row = {name: k for k, name in enumerate(self.ids)}
        self.priced = np.array([a.priced for a in self.arms], dtype=np.bool_)
        self.per_spend = np.array([spend_usd(a) for a in self.arms], dtype=np.float64)
        self._units = np.stack([self.per_spend, np.ones(len(self.arms))])  # dollars and seconds
        self.per_input = np.array([_input_usd(a) for a in self.arms], dtype=np.float64)
        given = [(_cost_given(a), a.latency_s is not None) for a in self.arms]
        self._given = np.array(given, dtype=np.bool_).reshape(-1, 2).T
        self.read_known(np.zeros((len(self.arms), SPEND + 2)))

    def row_of(self, model_id: str) -> int:
        """Return the row of a model, or raise InvalidInput naming the models that are there."""
        check_models((model_id,), self.ids)
        return self.row[model_id]

    def candidates(
        self, ids: Sequence[str] | None
    ) -> tuple[NDArray[np.intp] | None, tuple[str, ...]]:
        """Return the rows of candidates (None for all, in order) and their ids."""
        if ids is None:
            wanted = self.ids
        elif isinstance(ids, str) or not isinstance(ids, Iterable):
            raise _not_ids(ids)
        else:
            wanted = tuple(ids)
        if wanted == self.ids and wanted:
            return None, self.ids
        try:
            found = self._places.get(wanted)
        except TypeError as error:  # of what cannot be an id
            raise _not_ids(ids) from error
        if found is None:
            rows = self._rows_of(wanted)
            found = rows, tuple(self.ids[row] for row in rows)
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            self._places[wanted] = found
        return found

    def _rows_of(self, ids: tuple[str, ...]) -> NDArray[np.intp]:
        if not self.ids:
            raise InvalidInput(
                "there are no models to choose from",
                field="models",
                expected="at least one model",
            )
        if not ids:
            raise InvalidInput(
                "candidates must not be empty",
                field="candidates",
                expected="at least one model id",
            )
        if len(set(ids)) != len(ids):
            raise InvalidInput(
                "candidates must not repeat",
                field="candidates",
                expected="each model once",
                value=ids,
            )
        return np.array([self.row_of(name) for name in ids], dtype=np.intp)

    def read_known(self, seen: Floats) -> None:
        """Take note of what was seen of each model; `seen` is (models, outputs)."""
        self.known = np.logical_or(seen.T[SPEND:] > 0, self._given)
        cost, latency = self.known
        self._tokens = _Guess(self.priced & cost, self.priced & ~cost)
        dollars = self.priced | cost
        self._dollars = _Guess(dollars, ~dollars)
        self._latency = _Guess(latency, ~latency)
        self.all_known = bool(self.known.all())
        nothing = np.zeros(0)  # of an average query: it changes with what is learned alone
        self._average = (nothing, 0.0, nothing, (0.0, 0.0))

    def is_news(self, row: int, seen: Floats) -> bool:
        """Whether what was seen of a model, (outputs,), changes what is known of it."""
        known = np.logical_or(seen[SPEND:] > 0, self._given[:, row])
        return bool((known != self.known[:, row]).any())

    # an average query ----------------------------------------------------------------------

    @property
    def input_sums(self) -> tuple[float, float]:
        """Return the input tokens seen, and in how many calls."""
        return self._input_tokens, self._inputs

    def count_input(self, tokens: float | None, times: float = 1.0) -> None:
        """Add the input tokens of calls; `times` is −1 where a call is taken back."""
        if tokens is not None:
            self._input_tokens += times * tokens
            self._inputs += times

    def add_input_sums(self, tokens: float, times: float) -> None:
        """Add sums that `input_sums` returned."""
        self._input_tokens += tokens
        self._inputs += times

    # expecting -----------------------------------------------------------------------------

    def expected(self, p: Prediction, input_tokens: float) -> Expected:
        """Return predictions in dollars and seconds, for a query of so many input tokens."""
        mean_input = self._input_tokens / self._inputs if self._inputs > 0.0 else input_tokens
        seen, seen_input, mean, scales = self._average
        if p.mean_costs is not seen or mean_input != seen_input:
            mean = self._priced(p.mean_costs, mean_input)
            scales = greatest(mean)
            self._average = (p.mean_costs, mean_input, mean, scales)
        return Expected(p, self._priced(p.costs, input_tokens), mean, scales, self.known)

    def save(self, expected: Expected, saved_usd: Mapping[str, float]) -> None:
        """Take off what is saved of a model's dollars on this query, no more than they are."""
        if not isinstance(saved_usd, Mapping):
            wanted = "a mapping from model ids to dollars"
            raise InvalidInput(f"saved_usd must be {wanted}", field="saved_usd", expected=wanted)
        dollars = expected.cost_usd
        for model, usd in saved_usd.items():
            saved, row = finite(usd, "saved_usd", low=0.0), self.row_of(model)
            dollars[row] -= min(saved, float(dollars[row]))

    def _priced(self, costs: Floats, input_tokens: float) -> Floats:
        """Return dollars and seconds, with guesses where something was never counted."""
        if not self.all_known:
            costs = costs.copy()
            self._tokens.fill(costs[0], GUESSED_OUTPUT_TOKENS)
        priced: Floats = costs * self._units
        dollars = priced[0]
        dollars += self.per_input * input_tokens
        if not self.all_known:
            self._dollars.fill(dollars)
            self._latency.fill(priced[1])
        return priced


def _not_ids(given: object) -> InvalidInput:
    wanted = "a list of model ids"
    return InvalidInput(
        f"candidates must be {wanted}", field="candidates", expected=wanted, value=given
    )


def greatest(costs: Floats) -> tuple[float, float]:
    """Return what the dearest model costs and the slowest takes; nothing without models."""
    usd, seconds = costs.tolist()
    return max(usd, default=0.0), max(seconds, default=0.0)


class _Guess:
    """Stands in for what is not known: the mean of what is, worked out on every decision."""

    __slots__ = ("known", "unknown")

    def __init__(self, known: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> None:
        self.known = np.flatnonzero(known)
        self.unknown = np.flatnonzero(unknown)

    def fill(self, values: Floats, default: float | None = None) -> None:
        """Put the mean of the known values, else the default, in the place of the others."""
        if not self.unknown.size:
            return
        if self.known.size:
            default = float(values[self.known].sum()) / self.known.size
        if default is not None:
            values[self.unknown] = default


def spend_usd(arm: ModelArm) -> float:
    """Return the dollars of one unit of spend: of an output token where priced, else one."""
    return (arm.output_usd_per_mtok or 0.0) / 1e6 if arm.priced else 1.0


def _input_usd(arm: ModelArm) -> float:
    return (arm.input_usd_per_mtok or 0.0) / 1e6 if arm.priced else 0.0


def _cost_given(arm: ModelArm) -> bool:
    """Whether the cost is known before any call: typical output at a price, or nothing at all."""
    free = not arm.input_usd_per_mtok and not arm.output_usd_per_mtok
    return arm.priced and (arm.output_tokens is not None or free)


def prior_of(arm: ModelArm, observations: float) -> ArmPrior:
    """Return what the catalogue or the caller says of a model, as a prior."""
    own = arm.quality_observations
    return ArmPrior(
        quality=arm.quality,
        quality_observations=observations if own is None else own,
        spend=arm.output_tokens if arm.priced else None,
        latency_s=arm.latency_s,
    )


def units_of(arm: ModelArm) -> str:
    """Return in what the spend of a model is counted."""
    return "tokens" if arm.priced else "usd"


def arm_in(units: str | None, name: str) -> ModelArm:
    """Return a model of which only the units of its spend are known."""
    if units == "tokens":
        return ModelArm(name, input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    return ModelArm(name)


__all__ = ["Arms", "Expected", "arm_in", "greatest", "prior_of", "spend_usd", "units_of"]
