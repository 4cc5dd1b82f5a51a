"""The harness that judges: exact rewards, honest baselines, the same rows for everyone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.core.models import ModelArm
from conduit.engines.bandits import POLICIES, ContextualThompsonBandit
from conduit.engines.bandits.policies import Oracle
from conduit.evaluation.replay import Rival, replay, replay_rival, static_mix
from tests.evaluation.replayed import SHORT, TABLE, K, N, Recorder, recorded, table_of


def test_utility_is_quality_less_weighted_cost() -> None:
    """A model that is always picked reaches its own mean utility, quality and cost, exactly."""
    quality, cost = np.asarray(TABLE.quality), np.asarray(TABLE.cost_usd)
    utility = quality - 0.2 * cost / cost.mean(axis=0).max()
    for k in range(K):
        result, _ = recorded(k, cost_weight=0.2)
        assert result.utility_at(N).mean == pytest.approx(utility[:, k].mean())
        assert result.quality.mean == pytest.approx(quality[:, k].mean())
        assert result.cost_usd.mean == pytest.approx(cost[:, k].mean())
        assert result.share_by_model[result.models[k]] == 1.0
        best = utility.mean(axis=0).max()
        assert result.best_single.utility == pytest.approx(best)
        assert result.regret_at(N).mean == pytest.approx(N * (best - utility[:, k].mean()))


def test_latency_counts_likewise() -> None:
    """Seconds come off in units of the slowest model's mean; what is unknown counts as its mean."""
    seconds = np.tile([1.0, 2.0, 4.0], (N, 1))
    seconds[0, 2] = np.nan
    table = table_of(latency_s=seconds, cost_usd=None)
    result = replay(table, policy="always_cheapest", latency_weight=0.4, cost_weight=9.0, **SHORT)
    k = np.asarray([0.1, 0.2, 0.4])[result.chosen]
    quality = result.utility + k
    assert set(np.unique(quality.round(9))) <= {0.0, 1.0}


def test_the_oracle_is_never_beaten() -> None:
    """On every row of every order the oracle's utility is the greatest there is."""
    oracle = replay(TABLE, policy="oracle", **SHORT)
    for policy in sorted(POLICIES):
        assert (replay(TABLE, policy=policy, **SHORT).utility <= oracle.utility + 1e-12).all()


def test_a_baseline_explores_nothing_however_it_is_named() -> None:
    """The class of a baseline is replayed as its name is; a floor that is asked for is kept."""
    named = replay(TABLE, policy="oracle", **SHORT)
    np.testing.assert_array_equal(replay(TABLE, policy=Oracle, **SHORT).chosen, named.chosen)
    floored = replay(TABLE, policy="oracle", floor=0.5, **SHORT)
    np.testing.assert_array_equal(
        replay(TABLE, policy=Oracle, floor=0.5, **SHORT).chosen, floored.chosen
    )
    assert (floored.chosen != named.chosen).mean() > 0.05


def test_baselines_are_what_their_names_say() -> None:
    """The cheapest is the cheapest, the best the best in quality, and random is spread."""
    priors = [ModelArm(m.id, quality=q) for m, q in zip(TABLE.models, (0.5, 0.8, 0.7), strict=True)]
    known = table_of(models=priors)
    # Before anything is seen of a model it may be anyone's; with a calibration it is the one.
    cheapest = replay(known, policy="always_cheapest", calibration=40, **SHORT)
    assert cheapest.share_by_model["cheap"] == 1.0
    assert replay(known, policy="always_best", **SHORT).share_by_model["good"] > 0.95
    assert min(replay(known, policy="random", **SHORT).share_by_model.values()) > 0.25


def test_everyone_meets_the_same_rows_in_the_same_orders() -> None:
    """A rival is asked the vectors that a policy is asked, order by order, and judged alike."""
    fixed, rivals = recorded(1)
    seen: list[list[float]] = []

    class Watching(ContextualThompsonBandit):
        def __init__(self, dim: int) -> None:
            super().__init__(dim)
            asked: list[float] = []
            seen.append(asked)
            predict = self.predict

            def watched(x: Any) -> Any:
                asked.append(float(x[1]))
                return predict(x)

            self.predict = watched  # type: ignore[method-assign]

    ours = replay(TABLE, policy=Watching, **SHORT)
    assert [r.asked for r in rivals] == [pytest.approx(asked) for asked in seen]
    assert ours.best_single == fixed.best_single
    assert ours.policy == "contextual_thompson"
    np.testing.assert_array_equal(ours.groups, fixed.groups)  # type: ignore[arg-type]


def test_a_seed_repeats_and_another_does_not() -> None:
    """The same seed gives the same result to the bit."""
    one, same = replay(TABLE, **SHORT), replay(TABLE, **SHORT)
    other = replay(TABLE, orders=3, seed=6)
    np.testing.assert_array_equal(one.chosen, same.chosen)
    assert (one.chosen != other.chosen).any()


def test_seeds_share_orders_unless_they_are_as_far_apart_as_there_are_orders() -> None:
    """Order k of a seed is order 0 of the seed + k, so repeats need seeds `orders` apart."""
    three, next_three = replay(TABLE, orders=3, seed=5), replay(TABLE, orders=3, seed=6)
    np.testing.assert_array_equal(three.chosen[1:], next_three.chosen[:2])
    apart = replay(TABLE, orders=3, seed=5 + 3)
    assert not any((one == other).all() for one in three.chosen for other in apart.chosen)


def test_calibration_rows_are_taught_and_left_out() -> None:
    """Calibration prompts are answered by every model, and none of them is routed afterwards."""
    result, rivals = recorded(1, calibration=100)
    assert result.utility.shape == (3, N - 100)
    assert all(r.calibrated == [(100, K)] for r in rivals)
    assert all(len(set(r.asked)) == N - 100 for r in rivals)
    first, _ = recorded(1, calibration=100, shuffle=False, orders=1)
    np.testing.assert_array_equal(first.groups[0], np.array(TABLE.groups)[100:])  # type: ignore[index,arg-type]


def test_calibration_starts_warm() -> None:
    """What is taught beforehand is known at the first query."""
    cold = replay(TABLE, **SHORT).utility_at(50).mean
    assert replay(TABLE, calibration=150, **SHORT).utility_at(50).mean > cold


def test_outcomes_come_late_where_delay_says_so() -> None:
    """With a delay of d, the choice t knows the outcomes of the choices before t − d."""
    _, (rival, *_) = recorded(1, delay=7)
    assert rival.heard_before == [max(0, t - 7) for t in range(N)]
    _, (prompt, *_) = recorded(1, delay=0)
    assert prompt.heard_before == list(range(N))


def test_a_rival_is_told_the_utility_of_its_own_choice() -> None:
    """The reward is the utility of the model that was chosen, under the weights in force."""
    result, (rival, *_) = recorded(2, cost_weight=lambda t: 0.0 if t < 100 else 0.5)
    assert [k for _, k, _ in rival.told] == [2] * N
    assert [u for _, _, u in rival.told] == pytest.approx(result.utility[0].tolist())
    assert set(result.utility[0, :100].tolist()) <= {0.0, 1.0}
    assert result.utility_between(100, N).mean < result.utility_between(0, 100).mean - 0.3


def test_a_limit_ends_the_stream_and_keeps_the_judge() -> None:
    """Only so many queries are routed; the best single model is still that of the whole stream."""
    whole, _ = recorded(0)
    short, _ = recorded(0, limit=60)
    assert short.utility.shape == (3, 60)
    assert short.best_single == whole.best_single
    np.testing.assert_array_equal(short.regret, whole.regret[:, :60])


def test_drift_changes_the_answers_from_its_step_on() -> None:
    """The qualities that drift returns are what is earned, and what the oracle knows."""

    def fallen(t: int, quality: Any) -> Any:
        return quality * [1.0, 0.0 if t >= 120 else 1.0, 1.0]

    result, _ = recorded(1, drift=fallen, cost_weight=0.0)
    assert result.utility_between(120, N).mean == 0.0
    assert result.utility_between(0, 120).mean > 0.7
    assert result.quality.mean == pytest.approx(result.utility_at(N).mean)
    oracle = replay(TABLE, policy="oracle", drift=fallen, cost_weight=0.0, **SHORT)
    assert (oracle.chosen[:, 120:] != 1).mean() > 0.8


def halved(t: int, quality: Any) -> Any:
    """Return the answers of a step from which on the best model is half as good."""
    return quality * [1.0, 0.5 if t >= 20 else 1.0, 1.0]


@pytest.mark.parametrize(
    "options",
    [{"calibration": 150}, {"drift": halved}, {"calibration": 150, "drift": halved, "limit": 50}],
    ids=["calibration", "drift", "all"],
)
def test_what_is_fixed_is_judged_on_the_streams_alone(options: dict[str, Any]) -> None:
    """Calibration rows do not count for the best single model or the mix, and a drift does."""
    result, _ = recorded(1, cost_weight=0.2, **options)
    cost = np.asarray(TABLE.cost_usd)
    best, scale = result.best_single, cost.mean(axis=0).max()
    assert best.quality - 0.2 * best.cost_usd / scale == pytest.approx(best.utility)
    place = result.models.index(best.model)
    alone, _ = recorded(place, cost_weight=0.2, **{**options, "limit": None})
    assert alone.quality.mean == pytest.approx(best.quality)
    assert alone.cost_usd.mean == pytest.approx(best.cost_usd)
    assert alone.regret.mean() == pytest.approx(0.0)
    by_model = [recorded(k, **{**options, "limit": None})[0] for k in range(K)]
    mix, shares = result.static_mix, [result.static_mix.shares.get(m, 0.0) for m in result.models]
    assert np.dot(shares, [r.quality.mean for r in by_model]) == pytest.approx(mix.quality)
    assert np.dot(shares, [r.cost_usd.mean for r in by_model]) == pytest.approx(mix.cost_usd)


def test_priors_are_off_by_what_they_are_said_to_be() -> None:
    """Simulated scores are the true means plus or minus the error, and never leave [0, 1]."""
    told: list[list[float | None]] = []

    def make(arms: Sequence[ModelArm], dim: int, seed: int) -> Rival:
        told.append([arm.quality for arm in arms])
        return Recorder(0)

    replay_rival(TABLE, make, prior_error=0.1, orders=6)
    off = np.array(told, dtype=float) - np.asarray(TABLE.quality).mean(axis=0)
    np.testing.assert_allclose(np.abs(off), 0.1)
    assert len(np.unique(off.round(6), axis=0)) > 1
    replay_rival(TABLE, make, prior_error=1.0, orders=2)
    assert all(q in (0.0, 1.0) for q in told[-1])
    replay_rival(TABLE, make, orders=1)
    assert told[-1] == [None] * K


def test_groups_are_judged_apart() -> None:
    """Each kind of prompt has its own mean, and together they are the whole."""
    result, _ = recorded(1)
    by_group = result.by_group()
    assert set(by_group) == {"odd", "even"}
    halves = np.mean([m.mean for m in by_group.values()])
    assert halves == pytest.approx(result.utility_at(N).mean)
    assert replay(table_of(groups=None), **SHORT).by_group() == {}


def test_what_is_unknown_teaches_nothing() -> None:
    """Rows without a cost are judged by the model's mean cost, and replay all the same."""
    cost = np.asarray(TABLE.cost_usd).copy()
    cost[::3, 0] = np.nan
    result = replay(table_of(cost_usd=cost), policy="linucb", **SHORT)
    assert np.isfinite(result.utility).all()


def test_a_table_of_prices_and_tokens_is_replayed() -> None:
    """With list prices the learner knows the input's cost, and learns the output's."""
    rng = np.random.default_rng(1)
    arms = [ModelArm(n, input_usd_per_mtok=p, output_usd_per_mtok=4 * p)
            for n, p in (("cheap", 0.1), ("good", 1.0), ("dear", 10.0))]  # fmt: skip
    into = np.repeat(rng.integers(20, 200, (N, 1)), K, axis=1).astype(float)
    out = rng.integers(50, 400, (N, K)).astype(float)
    usd = sum(t * [p * f / 1e6 for p in (0.1, 1.0, 10.0)] for t, f in ((into, 1.0), (out, 4.0)))
    table = table_of(models=arms, cost_usd=usd, input_tokens=into, output_tokens=out)
    result = replay(table, cost_weight=1.0, **SHORT)
    assert result.share_by_model["dear"] < 0.1


def test_texts_are_analysed_as_a_router_would() -> None:
    """Without features, each text becomes the vector that routing would use."""
    texts = [f"What is {i} + {i}?" if i % 2 else f"Write a poem about {i}." for i in range(30)]
    table = table_of(30, features=None, texts=texts)
    assert table.vectors.shape[0] == 30
    assert (table.vectors[:, 0] == 1.0).all()
    assert (table.vectors[0] != table.vectors[1]).any()
    assert replay(table, orders=1).utility.shape == (1, 30)


def test_progress_is_told_order_by_order() -> None:
    """A long replay says how far it is."""
    heard: list[tuple[int, int]] = []
    replay(TABLE, progress=lambda done, of: heard.append((done, of)), limit=5, **SHORT)
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_a_summary_names_the_honest_baselines() -> None:
    """What people read holds the best single model and the best static mix beside the policy."""
    text = replay(TABLE, **SHORT).summary()
    assert "contextual_thompson" in text
    assert "best single model (in hindsight): good" in text
    assert "best static mix at the same cost" in text
    assert f"after {N}" in text


def test_one_order_has_no_standard_error() -> None:
    """Without repetitions nothing is known of the spread; with them, it is that of the mean."""
    single = replay(TABLE, orders=1)
    assert np.isnan(single.utility_at(N).se)
    assert str(single.utility_at(N)) == f"{single.utility_at(N).mean:.4f} ± —"
    assert "nan" not in single.summary()
    result = replay(TABLE, **SHORT)
    each = result.utility.mean(axis=1)
    assert result.utility_at(N).se == pytest.approx(each.std(ddof=1) / np.sqrt(3))
    assert str(result.utility_at(N)).count("±") == 1


@pytest.mark.parametrize("t", [0, -1, -50, N + 1, 10**6, 1.5, True, None, "x"])
def test_what_was_not_routed_is_not_told(t: Any) -> None:
    """Beyond the queries of a replay there is no utility and no regret, and the range is named."""
    result, _ = recorded(1)
    assert result.queries == N
    assert result.utility_at(np.int64(N)) == result.utility_at(result.queries)
    for tell in (result.utility_at, result.regret_at):
        with pytest.raises(InvalidInput, match=f"t must be a whole number from 1 to {N}"):
            tell(t)


@pytest.mark.parametrize(
    ("start", "stop", "field"),
    [(-1, 5, "start"), (N, N, "start"), (5, 5, "stop"), (100, 50, "stop"), (0, N + 1, "stop")],
)
def test_a_part_that_was_not_routed_is_not_told(start: int, stop: int, field: str) -> None:
    """A part begins and ends within the queries, and has at least one of them."""
    result, _ = recorded(1)
    with pytest.raises(InvalidInput) as refused:
        result.utility_between(start, stop)
    assert refused.value.field == field


# the static mix ------------------------------------------------------------------------------

POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 1.0)), min_size=1, max_size=6)


@settings(max_examples=100)
@given(POINTS, st.floats(0.0, 1.2))
def test_the_static_mix_is_the_best_blind_choice(
    points: list[tuple[float, float]], budget: float
) -> None:
    """No model within the budget, and no mix of two at the budget, is better than the mix."""
    quality, cost = (np.array(each) for each in zip(*points, strict=True))
    names = [str(k) for k in range(len(points))]
    mix = static_mix(names, quality, cost, budget)
    shares = np.array([mix.shares.get(n, 0.0) for n in names])
    assert shares.sum() == pytest.approx(1.0)
    assert shares @ quality == pytest.approx(mix.quality)
    assert shares @ cost <= max(budget, cost.min()) + 1e-9
    if budget >= cost.min():
        assert mix.quality >= quality[cost <= budget].max() - 1e-12
        for i in range(len(points)):
            for j in range(len(points)):
                if cost[i] <= budget < cost[j]:
                    share = (budget - cost[i]) / (cost[j] - cost[i])
                    assert mix.quality >= (1 - share) * quality[i] + share * quality[j] - 1e-9
