"""The contract of a policy: every one of ours passes these tests, and so should yours.

A subclass of `PolicyContract` in a test module provides one fixture, `policy`, that returns the
policy's name or a factory `dim -> Policy`; pytest collects the rest:

    class TestMyPolicy(PolicyContract):
        @pytest.fixture
        def policy(self) -> PolicyFactory:
            return partial(MyPolicy, patience=3)

A policy is driven as in use, by a `Learner`. What the contract asks of the policy itself:

* all randomness comes from the generator that `select` is handed;
* everything learned is a sum: `dump_row` and `dump_shared` return arrays that add up, `load_row`
  and `load_shared` add them; what does not add up goes into `dump_local`, as JSON;
* `propensities` is the distribution of `select` for the same view, whenever it is called, and both
  change nothing;
* what was returned stays as it was: no array of a prediction, a view or a dump is written again;
* a leverage is a variance in units of one observation's, so one more of weight w at the same vector
  makes l into l / (1 + w·l);
* calls in flight show in the view's leverage and pulls where `counts_pending` is True.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from conduit.core.errors import InvalidInput
from conduit.core.events import Evidence, Outcome, Snapshot
from conduit.core.models import ModelArm, Preferences
from conduit.engines.bandits.base import OUTPUTS, QUALITY, SPEND, PolicyFactory
from conduit.engines.bandits.choices import LearnedChoice
from conduit.engines.learner import Learner
from conduit.testing.worlds import World

WORLD = World(quality=(0.5, 0.6, 0.7), tilt=(0.1, 0.0, -0.1), cost_usd=(0.001, 0.003, 0.01),
              latency_s=(0.5, 1.0, 2.0))  # fmt: skip
DIM = WORLD.dim
NAMES = WORLD.names[:3]
AGREEMENT = 1e-9  # of sums that were added in another order, and of what follows from them
SOME = (None, NAMES[:2], (NAMES[2], NAMES[0]))  # candidates: all, and some in either order

BAD_VECTORS: list[Any] = [
    [1.0] * (DIM + 1), [1.0] * (DIM - 1), [], 1.0, [[1.0] * DIM], [float("nan")] * DIM,
    [float("inf")] + [0.0] * (DIM - 1), [1e200] * DIM, "text", [None] * DIM, [[1.0], [1.0, 2.0]],
]  # fmt: skip


def bits(learner: Learner) -> bytes:
    """Return everything that a learner holds."""
    return learner.snapshot().to_bytes()


def sums_of(learner: Learner) -> dict[str, NDArray[Any]]:
    """Return the additive part of what a learner holds, by names."""
    snapshot = learner.snapshot()
    arms = {f"{m}.{k}": v for m, state in snapshot.arms.items() for k, v in state.items()}
    return {**arms, **{f"shared.{k}": v for k, v in snapshot.shared.items()}}


def same_sums(one: Learner, other: Learner) -> None:
    """Assert that two learners hold the same sums, and expect the same of a query."""
    ours, theirs = sums_of(one), sums_of(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], AGREEMENT, AGREEMENT, err_msg=name)
    x = WORLD.draw(1, seed=99).x[0]
    for mine, its in zip(one.expect(x).prediction, other.expect(x).prediction, strict=True):
        np.testing.assert_allclose(mine, its, AGREEMENT, AGREEMENT)


class Reading(NamedTuple):
    """What a choice says, and the numbers that it was made of, as copies."""

    model: str
    shares: NDArray[Any]
    confidence: float
    view: list[NDArray[Any]]


def reading(choice: LearnedChoice) -> Reading:
    """Read a choice."""
    view = [part.copy() for part in choice.view]
    return Reading(choice.model, choice.propensities.copy(), choice.confidence, view)


class PolicyContract:
    """What every policy promises; the subclass provides the fixture `policy`."""

    @pytest.fixture
    def policy(self) -> str | PolicyFactory:
        """Return the policy's name or factory."""
        raise NotImplementedError("a subclass of PolicyContract provides the fixture `policy`")

    def learner(self, policy: str | PolicyFactory, **options: Any) -> Learner:
        """Return a learner of three models with this policy."""
        options.setdefault("seed", 7)
        options.setdefault("models", WORLD.models)
        return Learner(options.pop("models"), DIM, policy=policy, **options)

    def taught(self, policy: str | PolicyFactory, outcomes: list[Outcome]) -> Learner:
        """Return a learner that was taught outcomes, without regard to their order."""
        learner = self.learner(policy, change_detection=False)
        for outcome in outcomes:
            learner.apply(outcome)
        learner.policy.settle()
        return learner

    def served(self, learner: Learner, n: int, seed: int = 1) -> list[str]:
        """Return the models that were chosen for n queries, each outcome being taught at once."""
        drawn, chosen = WORLD.draw(n, seed), []
        for i, x in enumerate(drawn.x):
            model = learner.decide(x).model
            k = NAMES.index(model)
            learner.apply(
                Outcome(
                    model,
                    x,
                    quality=float(drawn.quality[i, k]),
                    cost_usd=float(drawn.cost_usd[i, k]),
                    latency_s=float(drawn.latency_s[i, k]),
                )
            )
            chosen.append(model)
        return chosen

    # choosing

    def test_the_same_seed_decides_the_same(self, policy: str | PolicyFactory) -> None:
        """Two learners with one seed choose alike, whatever other randomness there is."""
        np.random.seed(1)  # noqa: NPY002  the global generator must not matter
        first = self.served(self.learner(policy), 150)
        np.random.seed(2)  # noqa: NPY002  the global generator must not matter
        assert self.served(self.learner(policy), 150) == first

    def test_only_candidates_are_chosen(self, policy: str | PolicyFactory) -> None:
        """A model that is not a candidate is never chosen, though it is the best known."""
        learner = self.taught(policy, WORLD.outcomes(200, seed=2))
        x = WORLD.draw(1, seed=3).x[0]
        for candidates in (NAMES[:2], NAMES[1:], (NAMES[2], NAMES[0]), NAMES[1:2]):
            chosen = [learner.decide(x, candidates=candidates) for _ in range(60)]
            assert {c.model for c in chosen} <= set(candidates)
            assert tuple(chosen[0].estimates) == candidates

    def test_the_only_candidate_is_certain(self, policy: str | PolicyFactory) -> None:
        """One candidate is chosen with probability one, and is the best with probability one."""
        choice = self.learner(policy).decide(WORLD.draw(1, seed=3).x[0], candidates=NAMES[:1])
        assert (choice.propensity, choice.confidence) == (1.0, 1.0)

    def test_propensities_are_those_of_the_choices(self, policy: str | PolicyFactory) -> None:
        """Propensities sum to one, and over many decisions models are chosen as often."""
        for candidates in SOME:
            learner = self.taught(policy, WORLD.outcomes(60, seed=4))
            names = candidates or NAMES
            counts, sums, spread = np.zeros((3, len(names)))
            for x in WORLD.draw(600 if candidates is None else 300, seed=5).x:
                choice = learner.decide(x, candidates=candidates)
                shares = choice.propensities
                assert shares.min() > 0.0
                assert abs(shares.sum() - 1.0) < 1e-9
                assert choice.propensity == shares[names.index(choice.model)]
                counts[names.index(choice.model)] += 1
                sums += shares
                spread += shares * (1.0 - shares)
            assert (np.abs(counts - sums) <= 4.5 * np.sqrt(spread) + 1.0).all(), (counts, sums)

    def test_picking_changes_nothing(self, policy: str | PolicyFactory) -> None:
        """The same view and generator pick the same model; what is seen and learned stays."""
        learner = self.taught(policy, WORLD.outcomes(60, seed=15))
        view, before = learner.decide(WORLD.draw(1, seed=3).x[0]).view, bits(learner)
        seen = [part.copy() for part in view]
        once, again = (
            [learner.policy.select(view, np.random.default_rng(seed)) for seed in range(20)]
            for _ in range(2)
        )
        assert once == again
        shares = learner.policy.propensities(view).copy()
        np.testing.assert_array_equal(learner.policy.propensities(view), shares)
        for part, was in zip(view, seen, strict=True):
            np.testing.assert_array_equal(part, was)
        assert bits(learner) == before

    def test_a_choice_says_later_what_it_said_at_once(self, policy: str | PolicyFactory) -> None:
        """Propensities and confidence are those of the decision, whatever was learned since."""
        early, late = (self.taught(policy, WORLD.outcomes(60, seed=15)) for _ in range(2))
        told = WORLD.outcomes(60, seed=16)
        at_once: list[Reading] = []
        unread: list[LearnedChoice] = []
        for k, outcome in enumerate(told):
            candidates = SOME[k % len(SOME)]
            at_once.append(reading(early.decide(outcome.x, candidates=candidates)))
            unread.append(late.decide(outcome.x, candidates=candidates))
            early.apply(outcome)
            late.apply(outcome)
        self._shake(late)
        for now, choice in zip(at_once, unread, strict=True):
            then = reading(choice)
            assert then.model == now.model
            np.testing.assert_allclose(then.shares, now.shares, AGREEMENT, AGREEMENT)
            np.testing.assert_allclose(then.confidence, now.confidence, AGREEMENT, AGREEMENT)
            for mine, its in zip(then.view, now.view, strict=True):
                np.testing.assert_allclose(mine, its, AGREEMENT, AGREEMENT)

    def test_what_was_returned_is_not_written_again(self, policy: str | PolicyFactory) -> None:
        """A prediction and a snapshot stay as they were, whatever is asked and learned later."""
        learner = self.taught(policy, WORLD.outcomes(60, seed=17))
        x = WORLD.draw(1, seed=3).x[0]
        snapshot, prediction = learner.snapshot(), learner.expect(x).prediction
        data, parts = snapshot.to_bytes(), [part.copy() for part in prediction]
        other = self.taught(policy, WORLD.outcomes(20, seed=23))
        other.merge(snapshot)
        for each in (learner, other):
            self._shake(each)
        assert snapshot.to_bytes() == data
        for part, was in zip(prediction, parts, strict=True):
            np.testing.assert_array_equal(part, was)

    def _shake(self, learner: Learner) -> None:
        """Have a learner do all that may change what it holds."""
        drawn = WORLD.draw(20, seed=18)
        for x in drawn.x:
            learner.expect(x)
        for outcome in WORLD.outcomes(120, seed=19):
            learner.apply(outcome)
        learner.fit(drawn.x, {name: drawn.quality[:, k] for k, name in enumerate(NAMES)})
        learner.policy.discount(1, 0.5)
        learner.remove_model(NAMES[0])
        learner.add_model(ModelArm("new", quality=0.9))

    def test_a_burst_of_equals_is_spread(self, policy: str | PolicyFactory) -> None:
        """Without any outcome in between, models that are believed equal share a burst."""
        models = [ModelArm(name, quality=0.6) for name in NAMES]
        learner = self.learner(policy, models=models, floor=0.0)
        x = WORLD.draw(1, seed=3).x[0]
        chosen = [learner.decide(x).model for _ in range(60)]
        assert min(chosen.count(name) for name in NAMES) >= 5, chosen

    def test_calls_in_flight_count(self, policy: str | PolicyFactory) -> None:
        """Where calls in flight count, a burst goes on to the second best before any outcome."""
        models = [
            ModelArm(name, quality=q) for name, q in zip(NAMES, (0.6, 0.596, 0.2), strict=True)
        ]
        learner = self.learner(policy, models=models, floor=0.0)
        x = np.eye(DIM)[0]
        chosen = [learner.decide(x).model for _ in range(40)]
        if learner.policy.counts_pending:
            assert chosen[0] == NAMES[0]
            assert NAMES[1] in chosen
            assert NAMES[2] not in chosen

    def test_preferences_never_write(self, policy: str | PolicyFactory) -> None:
        """Deciding under any preferences changes nothing that was learned."""
        learner = self.taught(policy, WORLD.outcomes(100, seed=6))
        before = {k: v.tobytes() for k, v in sums_of(learner).items()}
        for x in WORLD.draw(30, seed=7).x:
            learner.decide(x, preferences=Preferences(quality=1.0, cost=float(abs(x[2]))))
            learner.propensity(x, preferences=Preferences.of("cost"))
        assert {k: v.tobytes() for k, v in sums_of(learner).items()} == before

    # learning

    def test_outcomes_are_learned(self, policy: str | PolicyFactory) -> None:
        """A model that answers well is believed better than one that does not."""
        learner, x = self.learner(policy), np.eye(DIM)[0]
        for _ in range(60):
            learner.apply(Outcome(NAMES[0], x, quality=1.0, cost_usd=0.5, latency_s=3.0))
            learner.apply(Outcome(NAMES[1], x, quality=0.0, cost_usd=0.1, latency_s=1.0))
        found = learner.expect(x)
        good, bad, _ = found.prediction.quality
        assert good > 0.9
        assert bad < 0.1
        np.testing.assert_allclose(found.cost_usd[:2], [0.5, 0.1], rtol=0.02)
        np.testing.assert_allclose(found.latency_s[:2], [3.0, 1.0], rtol=0.02)

    def test_the_order_of_updates_does_not_matter(self, policy: str | PolicyFactory) -> None:
        """Outcomes in any order lead to the same sums and the same expectations."""
        outcomes = WORLD.outcomes(260, seed=8)
        shuffled = [outcomes[k] for k in np.random.default_rng(0).permutation(len(outcomes))]
        same_sums(self.taught(policy, outcomes), self.taught(policy, shuffled))

    def test_two_halves_merged_are_the_whole(self, policy: str | PolicyFactory) -> None:
        """Two replicas that saw half of the outcomes each know together what one would alone."""
        outcomes = WORLD.outcomes(260, seed=9)
        merged, other = self.taught(policy, outcomes[::2]), self.taught(policy, outcomes[1::2])
        merged.merge(Snapshot.from_bytes(bits(other)))
        whole = self.taught(policy, outcomes)
        same_sums(merged, whole)
        assert merged.applied == whole.applied

    def test_many_outcomes_at_once_are_the_same_sums(self, policy: str | PolicyFactory) -> None:
        """`fit` teaches what applying the outcomes one by one teaches, whatever each weighs."""
        drawn = WORLD.draw(40, seed=10)
        weights = np.random.default_rng(10).uniform(0.1, 3.0, drawn.quality.shape)
        fitted = self.learner(policy, change_detection=False)
        taught = fitted.fit(
            drawn.x,
            {
                name: {
                    "quality": drawn.quality[:, k],
                    "quality_weight": weights[:, k],
                    "cost_usd": drawn.cost_usd[:, k],
                    "latency_s": np.where(np.arange(40) % 3, drawn.latency_s[:, k], np.nan),
                }
                for k, name in enumerate(NAMES)
            },
        )
        one_by_one = self.taught(
            policy,
            [
                Outcome(
                    name,
                    drawn.x[i],
                    quality=float(drawn.quality[i, k]),
                    quality_weight=float(weights[i, k]),
                    cost_usd=float(drawn.cost_usd[i, k]),
                    latency_s=float(drawn.latency_s[i, k]) if i % 3 else None,
                )
                for i in range(40)
                for k, name in enumerate(NAMES)
            ],
        )
        assert taught == 120
        same_sums(fitted, one_by_one)

    def test_what_is_counted_is_what_was_told(self, policy: str | PolicyFactory) -> None:
        """An outcome adds its weight to the counts of what it says, and to no other."""
        learner = self.taught(policy, WORLD.outcomes(30, seed=20))
        counts = learner.policy
        seen, pulls, behind = counts.seen().copy(), counts.pulls().copy(), counts.behind().copy()
        x = WORLD.draw(1, seed=3).x[0]
        learner.apply(Outcome(NAMES[1], x, quality=0.5, quality_weight=2.0, latency_s=1.0))
        np.testing.assert_allclose(counts.seen() - seen, [[0, 0, 0], [2, 0, 1], [0, 0, 0]], 1e-9)
        np.testing.assert_allclose(counts.pulls() - pulls, [0, 2, 0], 1e-9)
        np.testing.assert_allclose(counts.behind() - behind, [0, 2, 0], 1e-9)
        assert (behind >= pulls).all()
        noise = counts.noise()
        assert noise.shape == (3, OUTPUTS)
        assert np.isfinite(noise).all()
        assert (noise >= 0.0).all()

    def test_leverages_are_in_units_of_one_observation(self, policy: str | PolicyFactory) -> None:
        """They are those of the prediction, and shrink by what an outcome says of each output."""
        learner = self.taught(policy, WORLD.outcomes(12, seed=21))
        x = WORLD.draw(1, seed=3).x[0].astype(np.float64)
        before = learner.policy.leverages(x).copy()
        assert before.shape == (OUTPUTS, 3)
        np.testing.assert_allclose(before[QUALITY], learner.policy.predict(x).leverage, 1e-6)
        learner.apply(Outcome(NAMES[0], x, quality=0.5, quality_weight=2.0, cost_usd=0.001))
        wanted = before.copy()
        for output, weight in ((QUALITY, 2.0), (SPEND, 1.0)):
            wanted[output, 0] /= 1.0 + weight * before[output, 0]
        np.testing.assert_allclose(learner.policy.leverages(x), wanted, rtol=0.02)

    def test_a_revision_replaces_what_it_revises(self, policy: str | PolicyFactory) -> None:
        """A first guess that is revised leaves nothing behind but the later, stronger opinion."""
        outcomes = WORLD.outcomes(30, seed=11)
        revised = self.taught(policy, outcomes)
        x = outcomes[0].x
        weak = Evidence(quality=0.9, quality_weight=0.3, input_tokens=9.0)
        strong = Evidence(quality=0.05, quality_weight=2.0, cost_usd=0.5, input_tokens=9.0)
        revised.apply(Outcome.of(NAMES[0], x, weak))
        revised.apply(Outcome.of(NAMES[0], x, strong, revises=weak))
        revised.policy.settle()
        same_sums(revised, self.taught(policy, [*outcomes, Outcome.of(NAMES[0], x, strong)]))

    # models

    def test_models_appear_and_vanish(self, policy: str | PolicyFactory) -> None:
        """A new model can be chosen; removing one changes nothing of the others, nor of itself."""
        learner = self.taught(policy, WORLD.outcomes(200, seed=12))
        before = sums_of(learner)
        learner.add_model(ModelArm("new", quality=0.9))
        x = WORLD.draw(1, seed=3).x[0]
        assert "new" in {learner.decide(x).model for _ in range(600)}
        learner.remove_model("new")
        learner.remove_model(NAMES[0])
        assert learner.models == NAMES[1:]
        assert {learner.decide(x).model for _ in range(60)} <= set(NAMES[1:])
        learner.apply(Outcome(NAMES[0], x, quality=1.0))  # of a call that was still under way
        learner.add_model(WORLD.models[0])
        after = sums_of(learner)
        for name in before:
            if not name.startswith((NAMES[0], "shared")):
                np.testing.assert_array_equal(after[name], before[name])
        assert sorted(learner.models) == sorted(NAMES)
        assert learner.policy.pulls().sum() == 201

    # state

    def test_state_survives_bytes(self, policy: str | PolicyFactory) -> None:
        """A learner that was restored from bytes goes on as the one that never stopped."""
        learner = self.learner(policy)
        self.served(learner, 230)
        data = bits(learner)
        restored = Learner.restore(Snapshot.from_bytes(data), learner.arms, policy=policy)
        assert bits(restored) == data
        x = WORLD.draw(1, seed=3).x[0]
        for mine, its in zip(restored.expect(x)[0], learner.expect(x)[0], strict=True):
            np.testing.assert_allclose(mine, its, AGREEMENT, AGREEMENT)
        assert self.served(restored, 100, seed=2) == self.served(learner, 100, seed=2)

    def test_where_a_price_changed_spend_is_learned_anew(self, policy: str | PolicyFactory) -> None:
        """What was learned of a model's spend in other units is left out, and nothing else is."""
        learner = self.taught(policy, WORLD.outcomes(100, seed=22))
        priced = replace(WORLD.models[0], input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
        models = [priced, *WORLD.models[1:]]
        restored = Learner.restore(Snapshot.from_bytes(bits(learner)), models, policy=policy)
        wanted = learner.policy.seen().copy()
        wanted[0, SPEND] = 0.0
        np.testing.assert_allclose(restored.policy.seen(), wanted, AGREEMENT, AGREEMENT)
        x = WORLD.draw(1, seed=3).x[0]
        known, was = restored.expect(x).prediction, learner.expect(x).prediction
        spend = was.spend.copy()
        spend[0] = self.learner(policy, models=models).expect(x).prediction.spend[0]
        np.testing.assert_allclose(known.spend, spend, AGREEMENT, AGREEMENT)
        np.testing.assert_allclose(known.latency_s, was.latency_s, AGREEMENT, AGREEMENT)
        np.testing.assert_allclose(known.quality, was.quality, AGREEMENT, AGREEMENT)

    def test_what_a_change_forgets_stays_forgotten(self, policy: str | PolicyFactory) -> None:
        """Discounted evidence of quality weighs less, none else, and a restart keeps it so."""
        learner = self.taught(policy, WORLD.outcomes(100, seed=13))
        x = WORLD.draw(1, seed=3).x[0]
        known, expected = learner.policy.leverages(x).copy(), learner.expect(x).prediction
        learner.policy.discount(0, 0.1)
        less = learner.policy.leverages(x)
        assert less[QUALITY, 0] > 1.5 * known[QUALITY, 0]
        np.testing.assert_allclose(less[QUALITY, 1:], known[QUALITY, 1:])
        np.testing.assert_allclose(less[SPEND:], known[SPEND:])
        np.testing.assert_allclose(learner.expect(x).prediction.costs, expected.costs)
        restored = Learner.restore(Snapshot.from_bytes(bits(learner)), learner.arms, policy=policy)
        np.testing.assert_allclose(restored.policy.leverages(x), less, rtol=1e-9)

    @pytest.mark.parametrize("x", BAD_VECTORS, ids=lambda x: str(x)[:20])
    def test_a_refused_vector_changes_nothing(self, policy: str | PolicyFactory, x: Any) -> None:
        """A vector that is none is refused by name, and every bit stays as it was."""
        learner = self.taught(policy, WORLD.outcomes(40, seed=14))
        before = bits(learner)
        attempts: tuple[Callable[[], object], ...] = (
            lambda: learner.decide(x),
            lambda: learner.expect(x),
            lambda: learner.apply(Outcome(NAMES[0], x, quality=1.0)),
            lambda: learner.fit([x], {NAMES[0]: [1.0]}),
        )
        for attempt in attempts:
            with pytest.raises(InvalidInput) as refused:
                attempt()
            assert refused.value.field in ("x", "X")
            assert refused.value.expected
            assert bits(learner) == before

    def test_a_refused_call_changes_nothing(self, policy: str | PolicyFactory) -> None:
        """Unknown models, empty candidates and foreign schemas are refused; every bit stays."""
        learner = self.learner(policy, schema="ours")
        self.served(learner, 40)
        x, before = WORLD.draw(1, seed=3).x[0], bits(learner)
        attempts: dict[str, Callable[[], object]] = {
            "candidates": lambda: learner.decide(x, candidates=[]),
            "candidates ": lambda: learner.decide(x, candidates=[NAMES[0], NAMES[0]]),
            "model": lambda: learner.decide(x, candidates=["nobody"]),
            "model ": lambda: learner.apply(Outcome("nobody", x, quality=1.0)),
            "model  ": lambda: learner.remove_model("nobody"),
            "model   ": lambda: learner.fit([x], {"nobody": [1.0]}),
            "models": lambda: learner.add_model(WORLD.models[0]),
            "quality": lambda: learner.fit([x], {NAMES[0]: [1.5]}),
            "input_tokens": lambda: learner.decide(x, input_tokens=float("nan")),
            "saved_usd": lambda: learner.decide(x, saved_usd={NAMES[0]: -1.0}),
            "schema": lambda: learner.apply(Outcome(NAMES[0], x, quality=1.0, schema="theirs")),
        }
        for field, attempt in attempts.items():
            with pytest.raises(InvalidInput) as refused:
                attempt()
            assert (refused.value.field, bool(refused.value.expected)) == (field.strip(), True)
            assert bits(learner) == before
