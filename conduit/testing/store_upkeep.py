"""The contract of what is taken out of the log, and of the snapshots of what was learned."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.core.events import LogEntry
from conduit.storage.ports import (
    Rebuild,
    Store,
)
from conduit.testing.records import (
    DAY_S,
    IMPLICIT,
    JUDGE,
    START,
    SYSTEM,
    USER,
    ManualClock,
    StoreFactory,
    Sums,
    a_decision,
    a_row,
    an_answer,
    check_before,
    folding,
    log_sums,
    read_log,
    same_sums,
    some_log,
    unfolded,
)


class UpkeepContract:
    """What snapshots and `Custodian` promise."""

    # Snapshots

    async def test_the_newest_snapshot_is_loaded(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Each state has its own snapshots, and the newest of it comes back whole."""
        async with stores(clock=clock) as store:
            assert await store.load_snapshot(router) is None
            entries = await some_log(store, router, 5)
            for i, entry in enumerate(entries):
                await store.save_snapshot(router, entry.cursor, bytes([i]), meta=f"m{i}")
            await store.save_snapshot(router, entries[0].cursor, b"old", state="other")
            newest = await store.load_snapshot(router)
            other = await store.load_snapshot(router, state="other")
            assert newest is not None
            assert other is not None
            assert (newest.cursor, newest.data, newest.meta) == (entries[4].cursor, b"\4", "m4")
            assert (other.cursor, other.data) == (entries[0].cursor, b"old")
            rest = await read_log(store, router, other.cursor)
            assert [e.row.feedback_id for e in rest] == [e.row.feedback_id for e in entries[1:]]

    # Forgetting

    async def test_forgetting_leaves_a_log_without_the_user(
        self, stores: StoreFactory, clock: ManualClock, router: str, user: str
    ) -> None:
        """After `forget` every reader rebuilds and ends where a run without the user would."""
        async with stores(clock=clock, store_text=True) as store:
            cursor, expected = await _two_users(store, router, user)
            await store.save_snapshot(router, cursor, b"with the user")
            assert await store.forget(user) == 3
            with pytest.raises(Rebuild):
                await store.tail(router, cursor)
            assert await store.load_snapshot(router) is None
            entries = await read_log(store, router)
            assert same_sums(log_sums(entries), expected)
            check_before(entries)
            assert await store.decisions(router, user_key=user) == []
            await store.save_snapshot(router, cursor, b"from before")
            assert await store.load_snapshot(router) is None

    async def test_a_quarantine_hides_and_its_release_shows(
        self, stores: StoreFactory, clock: ManualClock, router: str, user: str
    ) -> None:
        """A quarantined user's rows, new ones too, are not read until the user is released."""
        async with stores(clock=clock) as store:
            cursor, expected = await _two_users(store, router, user)
            everything = log_sums(await read_log(store, router))
            await store.quarantine(user)
            with pytest.raises(Rebuild):
                await store.tail(router, cursor)
            entries = await read_log(store, router)
            assert same_sums(log_sums(entries), expected)
            check_before(entries)
            late = a_decision(router, user_key=user, seed=9)
            await store.append(a_row(late, decision=late))
            assert await store.tail(router, entries[-1].cursor) == []
            await store.release(user)
            with pytest.raises(Rebuild):
                await store.tail(router, entries[-1].cursor)
            whole = await read_log(store, router)
            added = log_sums([e for e in whole if e.decision.id == late.id])
            total = {m: everything[m] + added.get(m, 0.0) for m in everything}
            assert same_sums(log_sums(whole), total)

    async def test_another_users_forgetting_disturbs_nobody(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Forgetting or quarantining a user that a router never saw rewrites nothing there."""
        async with stores(clock=clock) as store:
            entries = await some_log(store, router, 2)
            assert await store.forget("nobody") == 0
            await store.quarantine("nobody")
            await store.release("nobody")
            assert await store.tail(router, entries[-1].cursor) == []

    async def test_a_foreign_cursor_means_rebuild(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A cursor that this log never gave out asks the reader to start again."""
        async with stores(clock=clock) as store:
            for cursor in ("nonsense", "7.0.0"):
                with pytest.raises(Rebuild):
                    await store.tail(router, cursor)

    # Pruning

    async def test_pruning_keeps_what_was_learned(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """After pruning, the base and the rest of the log teach what the whole log taught."""
        async with stores(clock=clock) as store:
            before = await _aging_log(store, clock, router)
            lagging = before[1].cursor
            for _ in range(2):  # pruning again changes nothing
                await store.prune(router, older_than_s=30 * DAY_S, fold=folding)
                base = await store.load_snapshot(router)
                assert base is not None
                rest = await read_log(store, router, base.cursor)
                total = log_sums(rest)
                for model, part in unfolded(base.data).items():
                    total[model] = total.get(model, 0.0) + part  # type: ignore[index]
                assert same_sums(total, log_sums(before))
            with pytest.raises(Rebuild):
                await store.tail(router, lagging)
            assert await store.decision(router, before[0].decision.id) is None
            assert await store.decision(router, before[-1].decision.id) is not None

    async def test_pruning_counts_and_needs_a_fold_for_feedback(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Without `fold` the log stays whole; with it, expired decisions go with their rows."""
        async with stores(clock=clock, store_text=True) as store:
            old = [a_decision(router, text="secret", expires_at=START + 1) for _ in range(3)]
            for each in old:
                await store.record(each)
                await store.record_response(an_answer(each, text="secret"))
            await store.append(a_row(old[0]))
            await store.append(a_row(old[1]))
            await store.flush()
            clock.now += 40 * DAY_S
            plain = await store.prune(router, older_than_s=30 * DAY_S)
            assert (plain.decisions, plain.responses, plain.feedback) == (1, 3, 0)
            assert len(await store.tail(router)) == 2
            kept = await store.decision(router, old[0].id)
            assert kept is not None
            assert kept.text is None
            folded = await store.prune(router, older_than_s=30 * DAY_S, fold=folding)
            assert (folded.decisions, folded.responses, folded.feedback) == (2, 0, 2)
            assert await store.tail(router) == []

    async def test_late_evidence_revises_what_a_base_holds(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A decision that still takes feedback keeps its rows, so that a revision is exact."""
        async with stores(clock=clock) as store:
            decision = a_decision(router, expires_at=START + 90 * DAY_S)
            await store.record(decision)
            await store.append(a_row(decision, quality=0.25, rank=IMPLICIT))
            clock.now += 40 * DAY_S
            await store.prune(router, older_than_s=30 * DAY_S, fold=folding)
            base = await store.load_snapshot(router)
            assert base is not None
            await store.append(a_row(decision, quality=1.0, rank=USER))
            (entry,) = await store.tail(router, base.cursor)
            assert entry.before is not None
            assert entry.before.quality == 0.25


async def _two_users(store: Store, router: str, user: str) -> tuple[str, Sums]:
    """Write a log of two users; return its last cursor and the sums without one of them."""
    theirs = a_decision(router, user_key=user, seed=1, text="theirs")
    shared = a_decision(router, user_key="somebody", seed=2, text="shared")
    for each in (theirs, shared):
        await store.record(each)
    await store.append(a_row(shared, quality=0.25, rank=IMPLICIT))
    await store.append(a_row(theirs, quality=0.5))
    await store.append(a_row(shared, quality=1.0, rank=JUDGE, user_key=user))
    await store.append(a_row(theirs, quality=0.75, rank=USER, user_key="somebody"))
    await store.append(a_row(shared, quality=0.5, rank=USER, user_key="somebody"))
    x = shared.x.astype(float)
    return (await read_log(store, router))[-1].cursor, {"small": np.outer(x, [*x, 0.5])}


async def _aging_log(store: Store, clock: ManualClock, router: str) -> list[LogEntry]:
    """Write rows over 90 days, some of them revisions; the clock ends after the last of them."""
    decisions = []
    for day in range(0, 90, 5):
        clock.now = START + day * DAY_S
        decision = a_decision(
            router, at=clock.now, seed=day, expires_at=clock.now + 20 * DAY_S, model=f"m{day % 2}"
        )
        decisions.append(decision)
        await store.record(decision)
        await store.append(a_row(decision, quality=0.25, rank=SYSTEM))
        for earlier in decisions[-3:-1]:
            await store.append(a_row(earlier, quality=day / 90, rank=JUDGE, key=str(day)))
    return await read_log(store, router)
