"""The laws of the circuit breaker, under every history."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit.cache.breaker import CircuitBreaker

Step = tuple[Literal["call ok", "call fails", "late ok", "late failure", "lost"], float]

WINDOW_S = 10.0
PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0

steps = st.lists(
    st.tuples(
        st.sampled_from(["call ok", "call fails", "late ok", "late failure", "lost"]),
        st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0, 5.0, 10.0, 40.0]),
    ),
    max_size=60,
)


def proven(threshold: int = 3) -> CircuitBreaker:
    """Return a closed breaker through which a call has succeeded."""
    breaker = CircuitBreaker(
        threshold=threshold, window_s=WINDOW_S, pause_s=PAUSE_S, longest_pause_s=LONGEST_PAUSE_S
    )
    breaker.succeeded(0.0)
    return breaker


def play(breaker: CircuitBreaker, history: list[Step]) -> float:
    """Live through a history as a caller would and return its end."""
    now = 0.0
    for what, wait_s in history:
        now += wait_s
        if what.startswith("late") or breaker.allows(now):
            if what.endswith("ok"):
                breaker.succeeded(now)
            elif what != "lost":
                breaker.failed(now)
    return now


@given(steps)
def test_it_is_never_stuck(history: list[Step]) -> None:
    """After any history, trials that were lost included, the longest pause ends in a trial."""
    breaker = proven()
    now = play(breaker, history) + LONGEST_PAUSE_S
    assert breaker.allows(now)
    breaker.succeeded(now)
    assert breaker.state(now) == "closed"


@given(steps)
def test_it_allows_only_what_its_state_says(history: list[Step]) -> None:
    """Closed allows, open refuses, and half open allows at most once in a row."""
    breaker = proven()
    now = play(breaker, history)
    state, allowed = breaker.state(now), breaker.allows(now)
    if state != "half_open":
        assert allowed == (state == "closed")
    elif allowed:
        assert not breaker.allows(now)


@given(steps)
def test_asking_for_the_state_changes_nothing(history: list[Step]) -> None:
    """Two breakers with one history agree, however often one of them was asked."""
    asked, quiet = proven(), proven()
    now = 0.0
    for step in history:
        play_one(asked, step, now)
        play_one(quiet, step, now)
        now += step[1]
        assert asked.state(now) == asked.state(now)
        asked.state(now + 100.0)
    assert asked.state(now) == quiet.state(now)
    assert asked.allows(now) == quiet.allows(now)


def play_one(breaker: CircuitBreaker, step: Step, start_s: float) -> None:
    """Live through one step that begins at a given moment."""
    now = start_s + step[1]
    if step[0].startswith("late") or breaker.allows(now):
        breaker.succeeded(now) if step[0].endswith("ok") else breaker.failed(now)


@given(st.integers(1, 8), st.lists(st.booleans(), max_size=80))
def test_successes_between_failures_do_not_hide_them(threshold: int, results: list[bool]) -> None:
    """It opens at the `threshold`-th failure of a window, whatever succeeded between."""
    breaker = proven(threshold)
    failures = 0
    for number, ok in enumerate(results):
        now = number * 0.1
        breaker.succeeded(now) if ok else breaker.failed(now)
        failures += not ok
        if failures == threshold:
            assert breaker.state(now) == "open"
            return
        assert breaker.state(now) == "closed"


def test_failures_further_apart_than_the_window_do_not_open_it() -> None:
    """A failure now and then is not an outage."""
    breaker = proven(threshold=3)
    for number in range(50):
        breaker.failed(number * WINDOW_S / 1.9)
        assert breaker.state(number * WINDOW_S / 1.9) == "closed"


def test_one_failure_opens_what_never_worked() -> None:
    """A service that was never there costs one call, not `threshold` of them."""
    breaker = CircuitBreaker(threshold=5)
    breaker.failed(0.0)
    assert breaker.state(0.0) == "open"


@pytest.mark.parametrize("late", ["failed", "succeeded"])
def test_late_results_do_not_move_an_open_circuit(late: str) -> None:
    """Results of calls from before it opened neither close it nor prolong the pause."""
    breaker = proven(threshold=1)
    breaker.failed(1.0)
    getattr(breaker, late)(1.1)
    assert breaker.state(1.0 + PAUSE_S - 0.001) == "open"
    assert breaker.state(1.0 + PAUSE_S) == "half_open"


def test_pauses_double_up_to_the_longest() -> None:
    """Each failed trial doubles the pause, and the longest one is never exceeded."""
    breaker = proven(threshold=1)
    now, pauses = 0.0, []
    breaker.failed(now)
    for _ in range(10):
        pause = PAUSE_S
        while not breaker.allows(now + pause):
            pause += PAUSE_S
        pauses.append(pause)
        now += pause
        breaker.failed(now)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_flapping_makes_the_pauses_longer_and_a_quiet_time_resets_them() -> None:
    """A circuit that opens again soon pauses for longer; after a quiet time, as at first."""
    breaker = proven(threshold=1)
    breaker.failed(0.0)
    assert breaker.allows(0.25)
    breaker.succeeded(0.25)
    breaker.failed(1.0)
    assert breaker.state(1.0 + PAUSE_S) == "open"
    assert breaker.allows(1.5)
    breaker.succeeded(1.5)
    quiet_until = 1.5 + LONGEST_PAUSE_S
    breaker.failed(quiet_until)
    assert breaker.state(quiet_until + PAUSE_S) == "half_open"


def test_failures_from_before_an_outage_do_not_count_after_it() -> None:
    """A circuit that closed again starts with no failures counted."""
    breaker = proven(threshold=2)
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert breaker.allows(0.25)
    breaker.succeeded(0.25)
    breaker.failed(0.3)
    assert breaker.state(0.3) == "closed"
