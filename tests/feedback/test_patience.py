"""Latency is judged by the patience that the router's own history shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.feedback.patience import (
    BINS,
    MIN_LATENCIES,
    LatencySummary,
    Tolerance,
    latency_signal,
)

seconds = st.floats(0.002, 5_000.0)
calls = st.lists(st.tuples(seconds, st.booleans()), max_size=60)


def summary_of(history: list[tuple[float, bool]]) -> LatencySummary:
    """Return the summary of some calls."""
    summary = LatencySummary.empty()
    for latency_s, abandoned in history:
        summary = summary.added(latency_s, abandoned=abandoned)
    return summary


def usual(count: int = 200) -> LatencySummary:
    """Return a history of answers between half a second and eight seconds."""
    return summary_of([(float(s), False) for s in np.geomspace(0.5, 8.0, count)])


def test_too_little_history_says_nothing() -> None:
    """Before MIN_LATENCIES answers there is no signal, also of a caller who gave up."""
    short = usual(MIN_LATENCIES - 1)
    assert latency_signal(60.0, history=short) is None
    assert latency_signal(60.0, history=short, abandoned=True) is None
    assert latency_signal(60.0, history=short.added(1.0)) is not None


@pytest.mark.parametrize("tolerance", ["low", "medium", "high"])
def test_satisfaction_falls_with_the_wait(tolerance: Tolerance) -> None:
    """A fast answer satisfies, one at patience half does, one far beyond it does not."""
    history = usual()
    patience = history.patience_s(tolerance)
    assert patience is not None
    waits = [patience / 4, patience / 2, patience, 2 * patience, 8 * patience]
    signals = [latency_signal(w, history=history, tolerance=tolerance) for w in waits]
    content = [signal.satisfaction for signal in signals if signal is not None]
    assert content == sorted(content, reverse=True)
    assert content[0] > 0.99
    assert content[2] == pytest.approx(0.5)
    assert content[4] < 0.01


def test_tolerance_is_ordered() -> None:
    """Who tolerates less is impatient earlier."""
    history = usual()
    low, medium, high = (history.patience_s(t) for t in ("low", "medium", "high"))
    assert low is not None
    assert medium is not None
    assert high is not None
    assert low < medium < high


def test_patience_follows_the_routers_own_history() -> None:
    """Four seconds are slow where answers take one, and fast where they take a minute."""
    quick = summary_of([(1.0 + i / 100, False) for i in range(50)])
    slow = summary_of([(60.0 + i, False) for i in range(50)])
    after_quick = latency_signal(4.0, history=quick)
    after_slow = latency_signal(4.0, history=slow)
    assert after_quick is not None
    assert after_slow is not None
    assert after_quick.satisfaction < 0.05
    assert after_slow.satisfaction > 0.95


def test_a_caller_who_gave_up_is_censored_and_never_content() -> None:
    """An abandoned call says "at least this long", and nothing about the text."""
    signal = latency_signal(0.1, history=usual(), abandoned=True)
    assert signal is not None
    assert signal.censored
    assert signal.satisfaction == 0.5
    assert signal.quality is None
    assert signal.latency_s == 0.1


def test_abandoned_calls_lengthen_the_latencies_they_hide() -> None:
    """Leaving out the calls that callers gave up on would make answers look faster."""
    answered = [(float(s), False) for s in np.linspace(0.5, 3.0, 100)]
    waiting = [(3.0 + i / 100, True) for i in range(40)]
    without, with_them = summary_of(answered), summary_of(answered + waiting)
    a, b = (s.latency_quantile_s(0.6) for s in (without, with_them))
    assert a is not None
    assert b is not None
    assert b > a
    assert with_them.latency_quantile_s(0.9) is None  # nobody waited to see


def test_callers_who_give_up_early_show_that_they_are_impatient() -> None:
    """Where enough callers gave up, patience is what they had, if that is less."""
    answered = [(float(s), False) for s in np.linspace(1.0, 10.0, 100)]
    gave_up = [(2.0 + i / 100, True) for i in range(50)]
    patient, impatient = summary_of(answered), summary_of(answered + gave_up)
    a, b = patient.patience_s(), impatient.patience_s()
    assert a is not None
    assert b is not None
    assert b < 4.0 < a


def test_patience_is_what_callers_had_where_no_quantile_is_known() -> None:
    """Where hardly an answer is waited for, the callers who gave up tell alone."""
    history = summary_of([(1.0, False)] * 40 + [(2.0, True)] * 200)
    assert history.latency_quantile_s(0.9) is None
    assert history.patience_s() == pytest.approx(2.0, rel=0.11)


@given(calls, calls)
def test_summaries_add_up(mine: list[tuple[float, bool]], yours: list[tuple[float, bool]]) -> None:
    """Merging replicas gives what one replica would have seen, in either order."""
    both = summary_of(mine + yours)
    assert summary_of(mine).merged(summary_of(yours)) == both
    assert summary_of(yours).merged(summary_of(mine)) == both
    assert LatencySummary.from_json(both.to_json()) == both


@given(st.lists(seconds, min_size=40, max_size=200), st.sampled_from([0.25, 0.5, 0.75, 0.9]))
def test_quantiles_are_right_to_a_bin(latencies: list[float], share: float) -> None:
    """A quantile is within the width of two bins of the exact one."""
    summary = summary_of([(latency, False) for latency in latencies])
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    found = summary.latency_quantile_s(share)
    assert found is not None
    assert abs(np.log(found / exact)) <= 2 * np.log(10) / 24


@pytest.mark.parametrize("latency_s", [0.0, 1e-9, 1e9])
def test_extreme_latencies_count_in_the_outer_bins(latency_s: float) -> None:
    """No latency is lost, however short or long."""
    assert LatencySummary.empty().added(latency_s).count == 1.0


def test_equality_is_by_counts() -> None:
    """A summary equals another with the same counts, and nothing else."""
    assert usual() == usual()
    assert usual() != usual().added(1.0)
    assert usual() != 3


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "2"])
def test_a_latency_that_is_none_is_refused(wrong: float) -> None:
    """Negative, infinite and missing numbers are refused."""
    with pytest.raises(InvalidInput):
        usual().added(wrong)
    with pytest.raises(InvalidInput):
        latency_signal(wrong, history=usual())


def test_an_unknown_tolerance_is_refused() -> None:
    """The message names the nearest tolerance."""
    with pytest.raises(InvalidInput, match="did you mean 'medium'"):
        usual().patience_s("medum")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"bins": 3}', f'{{"bins": {BINS}, "answered": [[9999, 1]], "abandoned": []}}',
     f'{{"bins": {BINS}, "answered": [[0, -1]], "abandoned": []}}'],
)  # fmt: skip
def test_foreign_json_is_refused(text: str) -> None:
    """What no summary was written as is InvalidInput."""
    with pytest.raises(InvalidInput):
        LatencySummary.from_json(text)
