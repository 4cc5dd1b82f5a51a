"""The circuit breaker and the cool-down of each model, with time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.engines.executor.health import (
    DEFAULT_COOLDOWN_S,
    DOUBT_S,
    FAILURES_TO_OPEN,
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    MAX_COOLDOWN_S,
    PROBE_EXPIRES_S,
    ModelHealth,
)


def opened(now: float = 0.0) -> ModelHealth:
    """Return health in which the model `m` has just failed too often."""
    health = ModelHealth()
    for _ in range(FAILURES_TO_OPEN):
        assert health.failed("m", now)
    return health


def test_a_model_nobody_asked_is_healthy() -> None:
    """An unknown model may be asked, and nothing is blocked."""
    health = ModelHealth()
    assert health.allows("m", 0.0)
    assert health.blocked(0.0) == {}


def test_failures_in_a_row_open() -> None:
    """The third failure in a row keeps callers away for the first back-off."""
    health = ModelHealth()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("m", 10.0)
        assert health.allows("m", 10.0)
    health.failed("m", 10.0)
    assert not health.allows("m", 10.0 + FIRST_BACKOFF_S - 0.01)
    assert health.allows("m", 10.0 + FIRST_BACKOFF_S)


def test_an_answer_between_failures_keeps_it_closed() -> None:
    """Failures count only when they come in a row."""
    health = ModelHealth()
    for _ in range(10):
        health.failed("m", 0.0)
        health.failed("m", 0.0)
        health.succeeded("m")
    assert health.allows("m", 0.0)


def test_failures_of_a_model_that_is_down_are_no_news() -> None:
    """Calls that were under way when it opened teach nothing more, and do not prolong it."""
    health = opened(0.0)
    assert not health.failed("m", 0.9)
    assert health.allows("m", FIRST_BACKOFF_S)


def test_one_probe_at_a_time() -> None:
    """After the back-off a single call goes through; its success closes."""
    health = opened(0.0)
    assert health.begin("m", 1.0)
    assert not health.allows("m", 1.0)
    assert "finds out" in health.blocked(1.0)["m"]
    health.succeeded("m")
    assert health.allows("m", 1.0)
    assert not health.begin("m", 1.0)


def test_a_probe_that_is_abandoned_makes_way() -> None:
    """A cancelled probe, or one nobody reports on, does not keep the model away."""
    health = opened(0.0)
    health.begin("m", 1.0)
    health.abandoned("m")
    assert health.allows("m", 1.0)
    health.begin("m", 1.0)
    assert health.allows("m", 1.0 + PROBE_EXPIRES_S)


def test_back_off_doubles_up_to_half_a_minute() -> None:
    """However long a model was down, it is asked again within a minute of its recovery."""
    health = opened(0.0)
    now, waits = FIRST_BACKOFF_S, []
    for _ in range(10):
        health.begin("m", now)
        health.failed("m", now, probe=True)
        wait = next(w for w in (2.0, 4.0, 8.0, 16.0, 30.0) if health.allows("m", now + w))
        waits.append(wait)
        now += wait
    assert waits == [2.0, 4.0, 8.0, 16.0] + [MAX_BACKOFF_S] * 6
    assert MAX_BACKOFF_S < 60.0


@pytest.mark.parametrize(
    ("asked_s", "kept_s"),
    [(7.0, 7.0), (0.0, 0.0), (1e9, MAX_COOLDOWN_S), (None, DEFAULT_COOLDOWN_S)],
)
def test_a_rate_limit_cools_down(asked_s: float | None, kept_s: float) -> None:
    """Callers stay away for as long as the provider asked, within reason; it is no failure."""
    health = ModelHealth()
    health.rate_limited("m", 100.0, asked_s)
    assert health.allows("m", 100.0 + kept_s)
    assert kept_s == 0.0 or not health.allows("m", 100.0 + kept_s - 0.01)
    assert kept_s == 0.0 or "rate limited" in health.blocked(100.0)["m"]
    assert not health.begin("m", 100.0 + kept_s)  # no probe is needed


def test_an_answer_does_not_end_a_cool_down() -> None:
    """A call that was under way when the limit was hit does not call the others back."""
    health = ModelHealth()
    health.rate_limited("m", 0.0, 10.0)
    health.succeeded("m")
    assert not health.allows("m", 5.0)


def test_the_order_tries_a_probe_first_and_skips_the_blocked() -> None:
    """One call in a back-off finds out whether a model is back; until then it is skipped."""
    health = opened(0.0)
    assert health.order(["a", "m", "b"], 0.5) == ["a", "b"]
    assert health.order(["a", "m", "b"], 1.5) == ["m", "a", "b"]
    health.begin("m", 1.5)
    assert health.order(["a", "m", "b"], 1.5) == ["a", "b"]


def test_when_all_are_blocked_the_soonest_free_is_tried() -> None:
    """No request fails without having asked anybody."""
    health = opened(0.0)
    health.rate_limited("n", 0.0, 60.0)
    assert health.order(["n", "m"], 0.1) == ["m"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fail", "probe fails", "ok", "abandon", "limit", "begin"]),
            st.floats(0.0, 50.0),
        ),
        max_size=40,
    )
)
def test_whatever_happens_a_model_comes_back(events: list[tuple[str, float]]) -> None:
    """After any history, two quiet minutes are enough for a model to be asked again."""
    health, now = ModelHealth(), 0.0
    for event, wait in events:
        now += wait
        match event:
            case "fail":
                health.failed("m", now)
            case "probe fails":
                health.failed("m", now, probe=True)
            case "ok":
                health.succeeded("m")
            case "abandon":
                health.abandoned("m")
            case "limit":
                health.rate_limited("m", now, wait)
            case "begin":
                health.begin("m", now)
        assert (not health.allows("m", now)) == ("m" in health.blocked(now))
    assert health.allows("m", now + MAX_COOLDOWN_S)


def test_a_model_that_failed_and_is_avoided_is_asked_once_more() -> None:
    """Fewer failures than open the breaker, then nobody: one call in a while finds out."""
    health = ModelHealth()
    health.failed("a", 0.0)
    assert health.order(["b", "a"], DOUBT_S - 1.0) == ["b", "a"]
    assert not health.begin("a", DOUBT_S - 1.0)
    assert health.order(["b", "a"], DOUBT_S) == ["a", "b"]
    assert health.begin("a", DOUBT_S)
    assert health.order(["b", "a"], DOUBT_S) == ["b", "a"]  # one call is enough
    health.succeeded("a")
    assert health.order(["b", "a"], 10 * DOUBT_S) == ["b", "a"]


def test_a_failure_in_passing_is_looked_into_soon() -> None:
    """After as long as the failure took, one call finds out whether it was an accident."""
    health = ModelHealth()
    health.failed("a", 0.0, doubt_s=0.2)
    assert health.order(["b", "a"], 0.1) == ["b", "a"]
    assert health.order(["b", "a"], 0.2) == ["a", "b"]
    health.failed("a", 0.3, probe=True, doubt_s=99.0)
    assert health.order(["b", "a"], 0.3 + DOUBT_S) == ["a", "b"]  # a slow failure waits no longer


def test_every_second_probe_has_its_time() -> None:
    """A short probe holds up nobody for long; a model that is slow needs more to pass one."""
    health, had = opened(0.0), []
    for n in range(4):
        had.append(health.has_time("m"))
        health.failed("m", 100.0 * n, probe=True)
    assert had == [False, True, False, True]
    health.succeeded("m")
    assert health.has_time("m")
