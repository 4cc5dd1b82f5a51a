"""The policies by name: each a pair of estimates and an exploration rule.

>>> sorted(POLICIES)[:3]
['always_best', 'always_cheapest', 'contextual_thompson']
>>> create_policy("linucb", dim=4).name
'linucb'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conduit.core.errors import ConfigurationError, InvalidInput, unknown_name
from conduit.engines.bandits.base import (
    QUALITY,
    ArmPrior,
    Arrays,
    Floats,
    Policy,
    PolicyFactory,
    Prediction,
    Step,
    View,
)
from conduit.engines.bandits.estimates import ArmMeans, RidgeArms
from conduit.engines.bandits.explorations import (
    BestQuality,
    BetaThompson,
    Cheapest,
    CountBound,
    Exploration,
    Greedy,
    NormalThompson,
    Uniform,
    UpperBound,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint  # noqa: TID251  for its name alone

THOMPSON_V = (
    0.05  # sd of a draw per unit of leverage; more explores too much (benchmarks/learning.py)
)
THOMPSON_WIDE_V = 1.75  # of an arm of which neither prior nor outcomes say much (decision 9)
THOMPSON_AHEAD = 60.0  # later queries of a kind that an answer is to help (decision 11)
LINUCB_ALPHA = 0.1  # the textbook's 1 loses on every table of benchmarks/learning.py
UCB1_C = 0.1
EPSILON = 0.1
SWITCH_AFTER = 100  # outcomes before the hybrid trusts its contextual half
ENTRY_POINTS = "conduit.policies"
FACTORY = "a callable that takes the number of features and returns a policy"


class BanditPolicy:
    """A policy made of two halves; the named ones below are this with their halves chosen.

    What is learned is kept under the policy's `name`: a class without one bears its own.
    """

    name = "bandit"

    def __init_subclass__(cls) -> None:
        """Name the class, unless it or the policy that it is a kind of has a name."""
        super().__init_subclass__()
        if cls.name == BanditPolicy.name:
            cls.name = cls.__name__

    def __init__(self, dim: int, estimates: ArmMeans | RidgeArms, exploration: Exploration) -> None:
        """Start without rows."""
        self.dim = dim
        self.counts_pending = isinstance(exploration, UpperBound | CountBound)
        self.estimates = estimates
        self.exploration = exploration
        # The hot calls go straight to the halves.
        self.predict = estimates.predict
        self.update = estimates.update
        self.update_many = estimates.update_many
        self.pulls = estimates.pulls
        self.behind = estimates.behind
        self.select = exploration.select
        self.propensities = exploration.propensities

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm."""
        self.estimates.add_row(prior)

    def remove_row(self, row: int) -> None:
        """Drop an arm; later rows move up."""
        self.estimates.remove_row(row)

    def discount(self, row: int, keep: float) -> None:
        """Keep only a part of what is known of an arm's quality."""
        self.estimates.discount(row, keep)

    def settle(self) -> None:
        """Work out what is renewed only now and then."""
        self.estimates.settle()

    def leverages(self, x: Floats) -> Floats:
        """Return the variance of every estimate in units of one observation's."""
        return self.estimates.leverages(x)

    def seen(self) -> Floats:
        """Return the weight of the outcomes behind each row and output."""
        return self.estimates.n

    def noise(self) -> Floats:
        """Return the standard deviation of one observation per row and output."""
        return self.estimates.noise()

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's additive sums."""
        return self.estimates.dump_row(row)

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:
        """Add sums to a row; without `spend`, all but what the arm spends."""
        self.estimates.load_row(row, sums, spend=spend)

    def dump_shared(self) -> dict[str, NDArray[Any]]:
        """Return additive sums that belong to no row."""
        return self.estimates.dump_shared()

    def load_shared(self, sums: Arrays) -> None:
        """Add sums that belong to no row."""
        self.estimates.load_shared(sums)

    def dump_local(self) -> dict[str, Any]:
        """Return what a restart needs and a merge must not add."""
        return self.estimates.dump_local()

    def load_local(self, local: Mapping[str, Any]) -> None:
        """Go on from `dump_local`."""
        self.estimates.load_local(local)


class ContextualThompsonBandit(BanditPolicy):
    """Ridge per arm, Thompson draws of scores: the default."""

    name = "contextual_thompson"

    def __init__(
        self,
        dim: int,
        *,
        v: float = THOMPSON_V,
        wide_v: float = THOMPSON_WIDE_V,
        ahead: float = THOMPSON_AHEAD,
        share: bool = True,
    ) -> None:
        """Draw with standard deviation v·√leverage, more widely what is hardly known.

        Beside what it is expected to bring, an arm counts what its answer teaches for `ahead`
        later queries of the kind.
        """
        super().__init__(dim, RidgeArms(dim, share=share), NormalThompson(v, wide_v, ahead))


class LinUCBBandit(BanditPolicy):
    """Ridge per arm, upper confidence bounds (disjoint LinUCB; Li et al. 2010)."""

    name = "linucb"

    def __init__(self, dim: int, *, alpha: float = LINUCB_ALPHA, share: bool = True) -> None:
        """Add alpha standard errors."""
        super().__init__(dim, RidgeArms(dim, share=share), UpperBound(alpha))


class ThompsonSamplingBandit(BanditPolicy):
    """A Beta posterior per arm, blind to the query (Agrawal & Goyal 2012)."""

    name = "thompson"

    def __init__(self, dim: int) -> None:
        """Need no vector; dim is kept so that every policy is made alike."""
        super().__init__(dim, ArmMeans(dim), BetaThompson())


class UCB1Bandit(BanditPolicy):
    """A mean per arm with a bound that grows while the arm is not tried (Auer et al. 2002)."""

    name = "ucb1"

    def __init__(self, dim: int, *, c: float = UCB1_C) -> None:
        """Add c·√(2 ln t / n)."""
        super().__init__(dim, ArmMeans(dim), CountBound(c))


class EpsilonGreedyBandit(BanditPolicy):
    """A mean per arm; with probability epsilon any arm."""

    name = "epsilon_greedy"

    def __init__(self, dim: int, *, epsilon: float = EPSILON) -> None:
        """Explore with probability epsilon."""
        super().__init__(dim, ArmMeans(dim), Greedy(epsilon))


class RandomBandit(BanditPolicy):
    """Any arm: the baseline that learns nothing."""

    name = "random"

    def __init__(self, dim: int) -> None:
        """Keep means only to report them."""
        super().__init__(dim, ArmMeans(dim), Uniform())


class AlwaysBest(BanditPolicy):
    """The arm believed best, whatever it costs: a baseline."""

    name = "always_best"

    def __init__(self, dim: int) -> None:
        """Follow the means."""
        super().__init__(dim, ArmMeans(dim), BestQuality())


class AlwaysCheapest(BanditPolicy):
    """The arm believed cheapest, however bad: a baseline."""

    name = "always_cheapest"

    def __init__(self, dim: int) -> None:
        """Follow the means."""
        super().__init__(dim, ArmMeans(dim), Cheapest())


class Oracle(BanditPolicy):
    """Knows every arm's answer beforehand: an upper bound that only a replay can give."""

    name = "oracle"

    def __init__(self, dim: int) -> None:
        """Wait for `reveal`."""
        super().__init__(dim, ArmMeans(dim), Greedy())
        self.predict = self._predict_revealed
        self._truth: tuple[Floats, Floats] | None = None

    def reveal(self, quality: Floats, spend: Floats) -> None:
        """Take the truth of the next decision."""
        self._truth = (quality, spend)

    def _predict_revealed(self, x: Floats) -> Prediction:
        known = self.estimates.predict(x)
        if self._truth is None:
            return known
        quality, spend = self._truth
        return known._replace(quality=quality, costs=np.stack([spend, known.latency_s]))


class HybridBandit:
    """UCB1 until `switch_after` outcomes, then LinUCB; both learn from the start."""

    name = "hybrid"
    counts_pending = True

    def __init__(self, dim: int, *, switch_after: int = SWITCH_AFTER) -> None:
        """Hold both policies."""
        self.dim = dim
        self.switch_after = switch_after
        self.outcomes = 0.0  # that were rated; what a change forgets is still counted
        self.first: Policy = UCB1Bandit(dim)
        self.then: Policy = LinUCBBandit(dim)

    @property
    def current(self) -> Policy:
        """Return the half that decides now."""
        return self.first if self.outcomes < self.switch_after else self.then

    def add_row(self, prior: ArmPrior) -> None:
        """Append an arm to both halves."""
        self.first.add_row(prior)
        self.then.add_row(prior)

    def remove_row(self, row: int) -> None:
        """Drop an arm from both halves."""
        self.first.remove_row(row)
        self.then.remove_row(row)

    def predict(self, x: Floats) -> Prediction:
        """Return what the half in charge expects."""
        return self.current.predict(x)

    def select(self, view: View, rng: np.random.Generator) -> int:
        """Let the half in charge pick."""
        return self.current.select(view, rng)

    @property
    def propensities(self) -> Callable[[View], Floats]:
        """Return the probabilities of the half that is in charge now."""
        return self.current.propensities

    def update(self, row: int, x: Floats, step: Step) -> float:
        """Teach both halves; return what the half in charge expected before."""
        first_in_charge = self.current is self.first
        self.outcomes += float(step.weight[QUALITY])
        first, then = self.first.update(row, x, step), self.then.update(row, x, step)
        return first if first_in_charge else then

    def update_many(self, row: int, x: Floats, weight: Floats, value: Floats) -> None:
        """Teach both halves many outcomes."""
        self.outcomes += float(weight[:, QUALITY].sum())
        self.first.update_many(row, x, weight, value)
        self.then.update_many(row, x, weight, value)

    def discount(self, row: int, keep: float) -> None:
        """Forget a part in both halves."""
        self.first.discount(row, keep)
        self.then.discount(row, keep)

    def settle(self) -> None:
        """Settle both halves."""
        self.first.settle()
        self.then.settle()

    def leverages(self, x: Floats) -> Floats:
        """Return the variance of the estimates of the half in charge."""
        return self.current.leverages(x)

    def pulls(self) -> Floats:
        """Return the outcomes behind each row."""
        return self.first.pulls()

    def behind(self) -> Floats:
        """Return the observations behind each row, the prior's included."""
        return self.first.behind()

    def seen(self) -> Floats:
        """Return the weight of the outcomes behind each row and output."""
        return self.first.seen()

    def noise(self) -> Floats:
        """Return the standard deviation of one observation."""
        return self.first.noise()

    def dump_row(self, row: int) -> dict[str, NDArray[Any]]:
        """Return both halves' sums of a row."""
        return _joined(self.first.dump_row(row), self.then.dump_row(row))

    def load_row(self, row: int, sums: Arrays, *, spend: bool = True) -> None:
        """Add both halves' sums to a row."""
        self.first.load_row(row, _part(sums, "first."), spend=spend)
        self.then.load_row(row, _part(sums, "then."), spend=spend)

    def dump_shared(self) -> dict[str, NDArray[Any]]:
        """Return both halves' shared sums, and the outcomes counted."""
        sums = _joined(self.first.dump_shared(), self.then.dump_shared())
        return {**sums, "outcomes": np.array([self.outcomes])}

    def load_shared(self, sums: Arrays) -> None:
        """Add both halves' shared sums."""
        self.outcomes += float(sums["outcomes"][0])
        self.first.load_shared(_part(sums, "first."))
        self.then.load_shared(_part(sums, "then."))

    def dump_local(self) -> dict[str, Any]:
        """Return what a restart needs."""
        return {"then": self.then.dump_local()}

    def load_local(self, local: Mapping[str, Any]) -> None:
        """Go on from `dump_local`."""
        self.then.load_local(local["then"])


def _joined(first: Arrays, then: Arrays) -> dict[str, NDArray[Any]]:
    return {f"first.{k}": v for k, v in first.items()} | {f"then.{k}": v for k, v in then.items()}


def _part(sums: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in sums.items() if k.startswith(prefix)}


POLICIES: dict[str, PolicyFactory] = {
    policy.name: policy
    for policy in (
        ContextualThompsonBandit,
        LinUCBBandit,
        ThompsonSamplingBandit,
        UCB1Bandit,
        EpsilonGreedyBandit,
        HybridBandit,
        RandomBandit,
        Oracle,
        AlwaysBest,
        AlwaysCheapest,
    )
}


def register_policy(name: str, factory: PolicyFactory) -> None:
    """Make a policy known by name; a name that is ours or registered is refused.

    One that an installed package brings under the name gives way, as it does to ours.
    """
    if not isinstance(name, str) or not name:
        expected = "a string that is not empty"
        raise InvalidInput(f"name must be {expected}", field="name", expected=expected, value=name)
    if not callable(factory):
        raise InvalidInput(
            f"factory must be {FACTORY}, got {type(factory).__name__}",
            field="factory",
            expected=FACTORY,
            value=factory,
        )
    if name in POLICIES:
        raise ConfigurationError(
            f"a policy named {name!r} exists already", field="bandit_algorithm"
        )
    POLICIES[name] = factory


def create_policy(policy: str | PolicyFactory, dim: int) -> Policy:
    """Return a policy without rows, by name (ours, a registered or an installed one) or factory.

    One that is made by name bears it: what it learns is restored by the same factory.
    """
    if not isinstance(policy, str):
        return _made(policy, dim)
    factory = POLICIES.get(policy) or _installed(policy)
    if factory is None:
        raise ConfigurationError(
            unknown_name("policy", policy, sorted({*POLICIES, *_installed_names()})),
            field="bandit_algorithm",
        )
    made = _made(factory, dim)
    if made.name != policy:
        made.name = policy
    return made


def _made(factory: PolicyFactory, dim: int) -> Policy:
    if not callable(factory):
        raise ConfigurationError(
            f"bandit_algorithm must be a policy's name or {FACTORY}, got {type(factory).__name__}",
            field="bandit_algorithm",
        )
    made = factory(dim)
    if not isinstance(getattr(made, "name", None), str):
        raise ConfigurationError(
            f"bandit_algorithm must make a policy that has a name, made {type(made).__name__}",
            field="bandit_algorithm",
        )
    return made


def name_of(made: str | PolicyFactory, policy: Policy) -> str | None:
    """Return the name that makes such a policy again; None where only its factory does."""
    if isinstance(made, str):
        return made
    return policy.name if POLICIES.get(policy.name) is made else None


def _installed_names() -> tuple[str, ...]:
    from importlib.metadata import entry_points  # noqa: TID251  what is installed is a registry too

    return tuple(entry.name for entry in entry_points(group=ENTRY_POINTS))


def _installed(name: str) -> PolicyFactory | None:
    from importlib.metadata import entry_points  # noqa: TID251  what is installed is a registry too

    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            return _loaded(entry)
    return None


def _loaded(entry: EntryPoint) -> PolicyFactory:
    """Return the factory that an entry point names, or raise ConfigurationError naming it."""
    found = f"the entry point {entry.name} = {entry.value} of {ENTRY_POINTS}"
    try:
        factory: PolicyFactory = entry.load()
    except Exception as error:  # whatever the package's modules raise
        raise ConfigurationError(
            f"{found} does not load: {type(error).__name__}: {error}", field="bandit_algorithm"
        ) from error
    if not callable(factory):
        raise ConfigurationError(
            f"{found} must be {FACTORY}, not {type(factory).__name__}", field="bandit_algorithm"
        )
    return factory


__all__ = [
    "POLICIES", "AlwaysBest", "AlwaysCheapest", "BanditPolicy", "ContextualThompsonBandit",
    "EpsilonGreedyBandit", "HybridBandit", "LinUCBBandit", "Oracle", "RandomBandit",
    "ThompsonSamplingBandit", "UCB1Bandit", "create_policy", "name_of", "register_policy",
]  # fmt: skip
