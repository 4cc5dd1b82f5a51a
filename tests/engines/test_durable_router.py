"""What a router learned survives it, is shared by its replicas, and is counted once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conduit.core.errors import (
    ConduitError,
    ConflictingFeedback,
    ExpiredDecision,
    IncompatibleState,
    InvalidInput,
    UnknownDecision,
)
from conduit.core.models import Feedback, ImplicitFeedback, ModelArm, Query
from conduit.engines.bandits.policies import POLICIES
from conduit.engines.router import Router
from conduit.engines.rows import user_key
from conduit.storage.base import Store
from conduit.storage.database import open_store
from conduit.storage.migrations import upgrade

ARMS = [
    ModelArm("a:one", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, quality=0.6,
             output_tokens=100),
    ModelArm("b:two", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, quality=0.7,
             output_tokens=100),
    ModelArm("c:three", input_usd_per_mtok=10.0, output_usd_per_mtok=40.0, quality=0.8,
             output_tokens=100),
]  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty, migrated database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'conduit.db'}"
    url = str(request.getfixturevalue("fresh_database"))
    await asyncio.to_thread(upgrade, url)
    return url


def rating(text: str, model: str) -> float:
    """Return what this world's users say: each topic has its best model."""
    best = ARMS[sum(map(ord, text)) % 3].id
    return 0.9 if model == best else 0.3


async def play(router: Router, start: int, stop: int) -> list[str]:
    """Route and rate a stretch of the stream; return the choices."""
    chosen = []
    for i in range(start, stop):
        text = f"{['alpha', 'beta', 'gamma'][i % 3]} question {i}"
        decision = await router.route(Query(text=text))
        chosen.append(decision.selected_model)
        score = rating(text.split()[0], decision.selected_model)
        await router.feedback(decision, Feedback(quality_score=score))
    return chosen


def opened(store: Store, **options: object) -> Router:
    """Return a router of this test on a store."""
    options.setdefault("seed", 5)
    return Router(ARMS, store=store, environ={}, secret="s", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"oracle"}))
async def test_stop_and_resume_is_an_uninterrupted_run(policy: str, database_url: str) -> None:
    """Stopping and resuming at ten points leaves every choice as it would have been."""
    async with Router(ARMS, seed=5, environ={}, bandit_algorithm=policy) as router:
        whole = await play(router, 0, 45)
    stops = [0, *sorted(np.random.default_rng(1).choice(np.arange(1, 45), 10, replace=False)), 45]
    pieces: list[str] = []
    for start, stop in pairwise(stops):
        store = await open_store(database_url)
        async with opened(store, bandit_algorithm=policy) as router:
            pieces += await play(router, int(start), int(stop))
        await store.close()
    assert pieces == whole


async def test_replicas_learn_what_each_other_learned(database_url: str) -> None:
    """Two routers on one database hold the same sums, and a third starts from both."""
    one, two = await open_store(database_url), await open_store(database_url)
    async with opened(one, seed=1) as first, opened(two, seed=2) as second:
        await asyncio.gather(play(first, 0, 40), play(second, 40, 80))
        await first.sync()
        await second.sync()
        a, b = first.learner.snapshot(), second.learner.snapshot()
        assert a.applied == b.applied == 80
        for model, sums in a.arms.items():
            for name, array in sums.items():
                assert array == pytest.approx(b.arms[model][name], abs=1e-9)
    await one.close()
    await two.close()
    late = await open_store(database_url)
    async with opened(late) as third:
        assert third.learner.applied == 80
    await late.close()


async def test_another_embedders_state_is_left_alone(database_url: str) -> None:
    """A router with other features starts afresh beside what was learned, and nothing is lost."""
    store = await open_store(database_url)
    async with opened(store) as router:
        await play(router, 0, 20)
    async with opened(store, embedding_model=_Tiny()) as other:
        assert other.learner.applied == 0
        assert other.get_stats().skipped == 20
    async with opened(store) as again:
        assert again.learner.applied == 20
    await store.close()


async def test_feedback_in_another_process_by_id_alone(database_url: str) -> None:
    """A second router that never saw the decision takes feedback by its id."""
    one, two = await open_store(database_url), await open_store(database_url)
    async with opened(one) as first, opened(two) as second:
        decision = await first.route("hello")
        await first.flush()
        await second.feedback(decision.id, Feedback(quality_score=1.0))
        await first.sync()
        assert first.learner.applied == 1
    await one.close()
    await two.close()


async def test_forgetting_a_user_takes_their_evidence_out(database_url: str) -> None:
    """After `forget`, every replica's sums are those of a run without that user, to 1e-9."""

    async def run(store: Store, *, with_user: bool) -> dict[str, dict[str, np.ndarray]]:
        async with opened(store, name=f"r{with_user}", bandit_algorithm="linucb") as router:
            for i in range(30):
                decision = await router.route(Query(text=f"question {i}"))
                score = Feedback(quality_score=0.5, user_id="u2")
                await router.feedback(decision, score, model="a:one")
                if with_user:
                    theirs = await router.route(Query(text=f"theirs {i}", user_id="u1"))
                    mine = Feedback(quality_score=1.0, user_id="u1")
                    await router.feedback(theirs, mine, model="b:two")
            if with_user:
                await store.forget(str(user_key("u1")))
                await router.sync()
            return {m: dict(s) for m, s in router.learner.snapshot().arms.items()}

    store = await open_store(database_url)
    forgotten, never = await run(store, with_user=True), await run(store, with_user=False)
    await store.close()
    for model in ("a:one", "b:two"):
        for name, array in never[model].items():
            assert forgotten[model][name] == pytest.approx(array, abs=1e-9)


class Days:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def pass_by(self, days: float) -> None:
        """Let days go by."""
        self.now += days * 86_400


def aging(store: Store, clock: Days, **options: object) -> Router:
    """Return a router whose decisions take feedback for ten days."""
    return opened(store, clock=clock, decision_ttl_s=10 * 86_400.0, **options)


def check_same_sums(one: Router, other: Router) -> None:
    """Check that two routers have learned the same."""
    a, b = one.learner.snapshot(), other.learner.snapshot()
    assert a.applied == b.applied
    assert a.arms.keys() == b.arms.keys()
    for model, sums in a.arms.items():
        for name, array in sums.items():
            assert array == pytest.approx(b.arms[model][name], abs=1e-9), (model, name)


@pytest.mark.parametrize("policy", ["contextual_thompson", "thompson", "hybrid"])
async def test_what_is_pruned_stays_learned(policy: str, database_url: str) -> None:
    """Whoever starts after two prunings, or follows through them, agrees with who saw it all."""
    clock = Days()
    store = await open_store(database_url, clock=clock)
    whole = aging(store, clock, name="whole", bandit_algorithm=policy)
    pruned = aging(store, clock, name="pruned", bandit_algorithm=policy)
    follower = aging(store, clock, name="pruned", bandit_algorithm=policy)
    async with whole, pruned, follower:
        deleted = 0
        for start in range(0, 60, 20):
            for router in (whole, pruned):
                await play(router, start, start + 20)
            clock.pass_by(15)
            if start:
                deleted += (await pruned.prune(older_than_s=20 * 86_400)).feedback
            await pruned.sync()
            await follower.sync()
        assert deleted == 40
        check_same_sums(pruned, whole)
        check_same_sums(follower, whole)
        late = await open_store(database_url, clock=clock)
        async with aging(late, clock, name="pruned", bandit_algorithm=policy) as newcomer:
            check_same_sums(newcomer, whole)
        await late.close()
    await store.close()


async def test_pruning_keeps_what_another_embedder_taught(database_url: str) -> None:
    """A router prunes only rows that it could learn from, so the old features' state survives."""
    clock = Days()
    store = await open_store(database_url, clock=clock)
    async with aging(store, clock) as router:
        await play(router, 0, 20)
        before = router.learner.snapshot()
    async with aging(store, clock, embedding_model=_Tiny()) as other:
        await play(other, 0, 10)
        clock.pass_by(60)
        assert (await other.prune(older_than_s=30 * 86_400)).feedback == 10
        assert other.learner.applied == 10
    async with aging(store, clock) as again:
        after = again.learner.snapshot()
    assert after.applied == 20
    for model, sums in before.arms.items():
        for name, array in sums.items():
            assert array == pytest.approx(after.arms[model][name], abs=1e-9)
    await store.close()


async def test_forgetting_reaches_back_to_the_last_pruning(database_url: str) -> None:
    """What a user said before the pruning is a nameless sum and stays; the rest goes."""
    clock = Days()
    store = await open_store(database_url, clock=clock)
    async with aging(store, clock) as router:
        for part in range(2):
            for i in range(5):
                decision = await router.route(Query(text=f"{part} {i}", user_id="u1"))
                await router.feedback(decision, Feedback(quality_score=1.0))
            if part == 0:
                clock.pass_by(60)
                assert (await router.prune(older_than_s=30 * 86_400)).feedback == 5
        assert router.learner.applied == 10
        assert await store.forget(str(user_key("u1"))) == 5
        await router.sync()
        assert router.learner.applied == 5
    await store.close()


async def test_what_cannot_be_kept_is_refused(database_url: str) -> None:
    """Each kind of unusable feedback is its own error without the prompt, and leaves no row."""
    clock = Days()
    store = await open_store(database_url, clock=clock)
    async with aging(store, clock) as router, aging(store, clock, name="other") as other:
        old = await router.route("canary: an old question")
        clock.pass_by(11)
        fresh, theirs = await router.route("canary: a question"), await other.route("canary")
        await router.flush()
        await other.flush()
        good = Feedback(quality_score=0.5, feedback_id="kept")
        await router.feedback(fresh, good)
        changed = Feedback(quality_score=0.6, feedback_id="kept")
        refused: list[tuple[str, Feedback, type[ConduitError]]] = [
            ("0199f000-0000-7000-8000-000000000000", good, UnknownDecision),
            ("nonsense", good, UnknownDecision),
            (old.id, Feedback(quality_score=1.0), ExpiredDecision),
            (theirs.id, Feedback(quality_score=1.0), UnknownDecision),
            (fresh.id, changed, ConflictingFeedback),
        ]
        for decision, feedback, error in refused:
            with pytest.raises(error) as caught:
                await router.feedback(decision, feedback)
            assert "canary" not in repr(caught.value)
        for number in (float("nan"), float("inf"), -0.1, 1.1):
            with pytest.raises(InvalidInput):
                await router.feedback(fresh, Feedback(quality_score=number))
            with pytest.raises(InvalidInput):
                await router.feedback(
                    fresh, ImplicitFeedback(signal="latency", cost_usd=number - 2.0)
                )
        assert [e.row.feedback_id for e in await store.tail("default")] == ["kept"]
        assert list(await store.tail("other")) == []
        assert (await store.stats("default")).waiting == 0
    await store.close()


async def test_a_removed_models_state_comes_back_with_it(database_url: str) -> None:
    """Without a model its state is kept aside; under a new name it starts from its prior."""
    store = await open_store(database_url)
    async with opened(store) as router:
        await play(router, 0, 20)
        whole = router.learner.snapshot()
    renamed = [*ARMS[:2], ModelArm("c:renamed", quality=0.8)]
    for learned, models in ((20, ARMS[:2]), (22, renamed)):
        async with Router(models, store=store, environ={}, seed=1, secret="s") as router:
            assert router.learner.applied == learned
            assert router.learner.models == tuple(arm.id for arm in models)
            kept = router.learner.snapshot().arms["c:three"]
            for name, array in whole.arms["c:three"].items():
                assert array == pytest.approx(kept[name], abs=1e-9)
            await play(router, 20, 22)
    async with opened(store) as again:
        back = again.learner.snapshot()
        assert back.applied == 24
        for name, array in whole.arms["c:three"].items():
            assert array == pytest.approx(back.arms["c:three"][name], abs=1e-9)
    await store.close()


async def test_another_policy_learns_from_the_same_log(database_url: str) -> None:
    """A changed policy starts afresh and reads what others' users said; the old state stays."""
    store = await open_store(database_url)
    async with opened(store) as router:
        await play(router, 0, 20)
    async with opened(store, bandit_algorithm="ucb1") as other:
        assert other.learner.applied == 20
    assert await store.load_snapshot("default", state=_state_of(router)) is not None
    await store.close()


async def test_a_snapshot_of_a_newer_version_is_refused_and_kept(database_url: str) -> None:
    """What a newer Conduit saved is IncompatibleState for this one, which deletes nothing."""
    store = await open_store(database_url)
    async with opened(store) as router:
        await play(router, 0, 5)
        state, cursor = _state_of(router), str((await store.tail("default"))[-1].cursor)
    await store.save_snapshot("default", cursor, b"CSN9 of the future", state=state)
    with pytest.raises(IncompatibleState):
        await opened(store).start()
    found = await store.load_snapshot("default", state=state)
    assert found is not None
    assert found.data == b"CSN9 of the future"
    assert len(await store.tail("default")) == 5
    await store.close()


async def test_a_rebuild_that_is_refused_teaches_nothing_twice(database_url: str) -> None:
    """A running router that cannot load what is newer says so, and learns no row again."""
    store = await open_store(database_url)
    async with opened(store) as router:
        await play(router, 0, 5)
        decision = await router.route(Query(text="theirs", user_id="u1"))
        await router.feedback(decision, Feedback(quality_score=1.0))
        await store.forget(str(user_key("u1")))
        kept = str((await store.tail("default"))[-1].cursor)
        await store.save_snapshot("default", kept, b"CSN9", state=_state_of(router))
        for _ in range(2):
            await router.sync()
            assert router.learner.applied == 6
        assert "not a snapshot of this version" in str(router.get_stats().learning_paused)
        await router.route("it goes on")
    await store.close()


def _state_of(router: Router) -> str:
    return f"{router.learner.policy.name}|{router.learner.schema}"


async def test_calibration_is_kept_and_shared(database_url: str) -> None:
    """What `fit` taught is there after a restart, and in a replica."""
    one, two = await open_store(database_url), await open_store(database_url)
    async with opened(one) as first, opened(two) as second:
        texts = [f"calibration prompt {i}" for i in range(20)]
        taught = await first.fit(texts, {"a:one": np.ones(20), "b:two": np.zeros(20)})
        assert taught == 40
        await second.sync()
        assert second.learner.applied == 40
    await one.close()
    again = await open_store(database_url)
    async with opened(again) as resumed:
        assert resumed.learner.applied == 40
    await again.close()
    await two.close()


class _Tiny:
    id = "tiny"
    dim = 4
    blocking = False

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 4), np.float32) / 2.0
