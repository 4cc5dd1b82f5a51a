"""What one user may do to everybody's router, and how it is undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.core.errors import InvalidInput
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Query, RoutingDecision
from conduit.engines.caps import OpinionCounts, OpinionLimits
from conduit.engines.learner import Learner
from conduit.engines.router import Router
from conduit.storage.base import MemoryStore, Store
from conduit.storage.database import open_store
from conduit.storage.migrations import upgrade
from conduit.testing.records import ManualClock

ARMS = [ModelArm("good", quality=0.6), ModelArm("bad", quality=0.6)]
EVIL = "evil"
USERS = ("ann", "ben", EVIL, None)

# The limits, as arithmetic ---------------------------------------------------------------------


@given(users=st.integers(1, 3), each=st.integers(0, 500))
def test_a_small_team_is_never_limited_by_its_share(users: int, each: int) -> None:
    """Where three people or fewer rate, any of them may give all opinions."""
    total = each + users - 1
    counts = OpinionCounts(own=each, by_users=total, users=users)
    assert OpinionLimits().exceeded(counts) is None


@given(others=st.integers(0, 100_000), raters=st.integers(1, 10_000))
def test_no_user_holds_more_than_the_share(others: int, raters: int) -> None:
    """Opinion by opinion, a user stops at what is free, or at three average shares."""
    limits, own = OpinionLimits(), 0
    raters = min(raters, max(others, 1))

    def counts(own: int) -> OpinionCounts:
        total = others + own
        return OpinionCounts(own=own, by_users=total, users=raters + 1)

    while own < 2_000 and limits.exceeded(counts(own)) is None:
        own += 1
    total = others + own
    allowed = max(limits.free, (limits.times_average or 0) * total / (raters + 1))
    assert own == 2_000 or own <= allowed + 1
    assert own >= limits.free


@pytest.mark.parametrize(
    "wrong", [{"per_hour": 0}, {"free": -1}, {"times_average": 0}, {"times_average": float("nan")}]
)
def test_limits_are_numbers_that_can_hold(wrong: dict[str, float]) -> None:
    """A limit that would let nobody say anything is refused."""
    with pytest.raises(InvalidInput):
        OpinionLimits(**wrong)  # type: ignore[arg-type]


# The limits, in a router -----------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    """Give the test its own clock."""
    return ManualClock()


def router_on(store: Store | None, clock: ManualClock, **options: object) -> Router:
    """Return a router on a store."""
    return Router(ARMS, store=store, seed=3, clock=clock, environ={}, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def open_one(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Callable[[], object]]:
    """Return what opens a store on one database of this test; in memory a new one each time."""
    url: str | None = None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/conduit.db"
    elif request.param == "postgresql":
        url = request.getfixturevalue("fresh_database")
    if url is not None:
        await asyncio.to_thread(upgrade, url)
    async with AsyncExitStack() as stack:

        async def opened() -> Store:
            if url is None:
                return MemoryStore(clock=clock)
            return await stack.enter_async_context(await open_store(url, clock=clock))

        yield opened


async def rate(router: Router, number: int, user: str | None, **given: object) -> str:
    """Rate a new decision, and return what became of the opinion."""
    decision = await router.route(f"question {number}")
    ack = await router.feedback(decision, Feedback(quality_score=1.0, user_id=user, **given))  # type: ignore[arg-type]
    return ack.capped_by or ack.status


async def test_a_user_has_so_many_opinions_an_hour(open_one, clock: ManualClock) -> None:  # type: ignore[no-untyped-def]
    """The 60th opinion of an hour counts, the 61st does not; in the next hour opinions count."""
    router = router_on(await open_one(), clock)
    said = [await rate(router, i, "ann") for i in range(62)]
    assert said == ["stored"] * 60 + ["per_hour"] * 2
    assert router.learner.applied == 60
    assert await rate(router, 70, "ben") == "stored"
    assert router.get_stats().opinions_capped == {"per_hour": 2}
    clock.now += 3_601.0
    assert await rate(router, 80, "ann") == "stored"
    await router.close()


async def test_a_capped_opinion_may_be_given_again_and_a_repeat_is_a_repeat(
    open_one,  # type: ignore[no-untyped-def]
    clock: ManualClock,
) -> None:
    """A repeat of what was kept is a duplicate even at the limit; what was capped was not kept."""
    router = router_on(await open_one(), clock, opinion_limits=OpinionLimits(per_hour=1))
    decision, other = await router.route("a"), await router.route("b")
    first = Feedback(quality_score=1.0, user_id="ann", feedback_id="f1")
    second = Feedback(quality_score=1.0, user_id="ann", feedback_id="f2")
    assert (await router.feedback(decision, first)).status == "stored"
    assert (await router.feedback(decision, first)).status == "duplicate"
    assert (await router.feedback(other, second)).status == "capped"
    clock.now += 3_601.0
    assert (await router.feedback(other, second)).status == "stored"
    await router.close()


async def test_opinions_without_a_user_and_signals_are_never_capped(clock: ManualClock) -> None:
    """A backend that names no user, a judge and the signals may say as much as they like."""
    router = router_on(None, clock, opinion_limits=OpinionLimits(per_hour=1, free=0))
    assert [await rate(router, i, None) for i in range(50)] == ["stored"] * 50
    assert [await rate(router, i, "ann", source="judge") for i in range(5)] == ["stored"] * 5
    decision = await router.route("again")
    ack = await router.feedback(decision, ImplicitFeedback(signal="copied", quality=1.0))
    assert ack.status == "stored"


async def test_a_user_among_many_stops_at_a_fair_share(clock: ManualClock) -> None:
    """Where a hundred users rate once, one of them counts ten times, and more as others rate."""
    router = router_on(None, clock)
    for i in range(100):
        assert await rate(router, i, f"user {i}") == "stored"
    said = [await rate(router, 200 + i, EVIL) for i in range(30)]
    assert said == ["stored"] * 10 + ["share"] * 20
    alone = router_on(None, clock)
    assert {await rate(alone, i, EVIL) for i in range(59)} == {"stored"}


async def test_opinions_at_the_same_moment_do_not_slip_through(
    open_one, clock: ManualClock
) -> None:  # type: ignore[no-untyped-def]
    """However many opinions a user sends at once, one process lets in no more than the limit."""
    router = router_on(await open_one(), clock, opinion_limits=OpinionLimits(per_hour=5))
    decisions = [await router.route(f"question {i}") for i in range(20)]
    acks = await asyncio.gather(
        *(router.feedback(d, Feedback(quality_score=0.0, user_id=EVIL)) for d in decisions)
    )
    assert 1 <= sum(a.status == "stored" for a in acks) <= 5
    await router.close()


async def test_one_opinion_of_a_user_counts_per_decision(clock: ManualClock) -> None:
    """Whoever rates an answer again changes the opinion; it never counts twice."""
    router, once = router_on(None, clock), router_on(None, clock)
    decision = await router.route("a question")
    for i, stars in enumerate((1, 5, 2)):
        await router.feedback(
            decision, Feedback(user_rating=stars, user_id=EVIL, given_at=clock.now + i)
        )
    await once.feedback(decision, Feedback(user_rating=2, user_id=EVIL))
    assert_same(router.learner, once.learner)


# Quarantine ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One event: who asked, who says it, and what."""

    asks: str | None
    says: str | None
    quality: float
    implicit: bool = False


EVENTS = st.lists(
    st.builds(
        Said,
        st.sampled_from(USERS),
        st.sampled_from(USERS),
        st.sampled_from([0.0, 0.25, 1.0]),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def assert_same(one: Learner, other: Learner) -> None:
    """Check that two learners hold the same sums to 1e-9, and expect the same."""
    a, b = one.snapshot(), other.snapshot()
    assert a.arms.keys() == b.arms.keys()
    for name in a.arms:
        for key, sums in a.arms[name].items():
            np.testing.assert_allclose(sums, b.arms[name][key], rtol=0, atol=1e-9)
    for key, sums in a.shared.items():
        np.testing.assert_allclose(sums, b.shared[key], rtol=0, atol=1e-9)


async def play(
    router: Router, clean: Router, events: Sequence[Said], decisions: list[RoutingDecision]
) -> None:
    """Teach a router all events, and another one those that the evil user has no part in."""
    for i, said in enumerate(events):
        decision = await router.route(Query(text=f"question {i}?", user_id=said.asks))
        decisions.append(decision)
        about = decisions[i // 2]  # others' decisions are rated too, and rated again
        feedback: Feedback | ImplicitFeedback
        if said.implicit:
            feedback = ImplicitFeedback(
                signal="x", quality=said.quality, latency_s=1.0, feedback_id=f"f{i}"
            )
        else:
            feedback = Feedback(quality_score=said.quality, user_id=said.says, feedback_id=f"f{i}")
        await router.feedback(about, feedback)
        theirs = about.user_id == EVIL or (not said.implicit and said.says == EVIL)
        if not theirs:
            await clean.feedback(about, feedback)


@settings(max_examples=15)
@given(EVENTS)
async def test_quarantine_is_as_if_the_user_had_never_been(events: list[Said]) -> None:
    """After `quarantine` the state is that of a run without the user; `release` brings it back."""
    clock = ManualClock()
    router, clean = router_on(None, clock), router_on(None, clock)
    await router.fit(["to begin with"], [{"good": 0.5}])
    await clean.fit(["to begin with"], [{"good": 0.5}])
    await play(router, clean, events, [])
    before = router.learner
    await router.quarantine(EVIL)
    assert_same(router.learner, clean.learner)
    await router.release(EVIL)
    assert_same(router.learner, before)


async def test_quarantine_in_every_store_and_replica(open_one, clock: ManualClock) -> None:  # type: ignore[no-untyped-def]
    """In a database too, replicas and later starts included, and for what comes afterwards."""
    rng = np.random.default_rng(5)
    events = [
        Said(
            USERS[rng.integers(4)], USERS[rng.integers(4)], float(rng.random()), rng.random() < 0.3
        )
        for _ in range(60)
    ]
    store = await open_one()
    router, clean = router_on(store, clock), router_on(None, clock)
    decisions: list[RoutingDecision] = []
    await play(router, clean, events[:40], decisions)
    before = router.learner
    await router.quarantine(EVIL)
    assert_same(router.learner, clean.learner)
    for i, said in enumerate(events[40:]):  # the quarantined go on
        decision = await router.route(Query(text=f"more {i}", user_id=said.asks))
        opinion = Feedback(quality_score=said.quality, user_id=said.says)
        await router.feedback(decision, opinion)
        if EVIL not in (said.asks, said.says):
            await clean.feedback(decision, opinion)
    assert_same(router.learner, clean.learner)
    if router.durable:
        replica = router_on(await open_one(), clock)
        await replica.start()
        assert_same(replica.learner, clean.learner)
        await replica.release(EVIL)
        await router.sync()
        assert_same(router.learner, replica.learner)
        await replica.close()
    else:
        await router.release(EVIL)
    assert router.learner.applied > before.applied
    await router.close()


async def test_quarantine_needs_a_name(clock: ManualClock) -> None:
    """Nobody is quarantined by accident."""
    for wrong in ("", None):
        with pytest.raises(InvalidInput):
            await router_on(None, clock).quarantine(wrong)  # type: ignore[arg-type]
