"""The contract of the log: every row once, in one order, exactly joined, or a typed error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conduit.core.errors import (
    ConflictingFeedback,
    ExpiredDecision,
    UnknownDecision,
)
from conduit.core.events import Evidence, FeedbackRow
from conduit.storage.ports import (
    MAY_STILL_ARRIVE_S,
    new_id,
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
    a_decision,
    a_row,
    check_before,
    log_sums,
    read_log,
    same_decision,
    same_sums,
)


class LogContract:
    """What `Writer` and `Reader.tail` promise."""

    # The log

    async def test_a_row_comes_back_whole(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """What was appended is read back with its decision, value by value."""
        decision = a_decision(router, user_key="u")
        evidence = Evidence(
            quality=0.25,
            quality_weight=0.5,
            cost_usd=1e-5,
            input_tokens=10,
            output_tokens=20.0,
            latency_s=1.5,
            error="timeout",
            rank=JUDGE,
            given_at=START,
            key="k",
        )
        row = FeedbackRow(
            feedback_id="f",
            router=router,
            decision_id=decision.id,
            model="other",
            evidence=evidence,
            kind="signal",
            user_key="v",
        )
        async with stores(clock=clock) as store:
            await store.record(decision)
            ack = await store.append(row)
            (entry,) = await store.tail(router)
        assert (ack.status, ack.feedback_id, ack.waiting) == ("stored", "f", False)
        for name in (
            "feedback_id",
            "router",
            "decision_id",
            "model",
            "evidence",
            "kind",
            "user_key",
        ):
            assert getattr(entry.row, name) == getattr(row, name)
        assert entry.row.decision is None
        assert entry.before is None
        same_decision(entry.decision, decision)

    async def test_every_row_comes_once_and_in_one_order(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Paging with any limit gives every row once, in the same order, and nothing afterwards."""
        async with stores(clock=clock) as store:
            made = [a_decision(router, seed=i) for i in range(7)]
            for each in made:
                await store.record(each)
                await store.append(a_row(each))
            whole = await read_log(store, router)
            for limit in (1, 2, 3, 7, 8):
                paged = await read_log(store, router, limit=limit)
                assert [e.row.feedback_id for e in paged] == [e.row.feedback_id for e in whole]
            assert await store.tail(router, whole[-1].cursor) == []
            assert [e.decision.id for e in whole] == [d.id for d in made]

    async def test_routers_do_not_see_each_other(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A router's log and decisions are its own, and feedback ids are too."""
        async with stores(clock=clock) as store:
            for name in (router, router + "b"):
                decision = a_decision(name)
                await store.record(decision)
                assert (await store.append(a_row(decision, "same"))).status == "stored"
                (entry,) = await store.tail(name)
                assert entry.decision.id == decision.id
            assert await store.decision(router, decision.id) is None

    async def test_each_entry_knows_what_was_said_before(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """`before` is the join of the earlier rows of the same call, however the log is paged."""
        said: list[dict[str, Any]] = [
            {"quality": None, "cost_usd": 0.01},
            {"quality": 0.4, "quality_weight": 0.3, "rank": IMPLICIT, "key": "a"},
            {"quality": 0.9, "rank": USER, "key": "b"},
            {"quality": 0.2, "rank": JUDGE, "key": "c", "latency_s": 2.0},
            {"quality": 0.1, "rank": USER, "given_at": 5.0, "key": "d"},
        ]
        async with stores(clock=clock) as store:
            decisions = [a_decision(router, seed=i) for i in range(2)]
            for each in decisions:
                await store.record(each)
            for fields in said:
                for each in decisions:
                    await store.append(a_row(each, **fields))
                    await store.append(a_row(each, model="other", quality=0.5))
            for limit in (1, 3, 100):
                entries = await read_log(store, router, limit=limit)
                check_before(entries)
                assert len(entries) == 20

    async def test_the_sum_counts_each_call_once(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Applying all entries of one call teaches its strongest evidence, once."""
        async with stores(clock=clock) as store:
            decision = a_decision(router)
            await store.record(decision)
            for rank, quality in ((IMPLICIT, 0.2), (USER, 0.75), (SYSTEM, 0.5), (JUDGE, 0.1)):
                await store.append(a_row(decision, quality=quality, rank=rank))
            sums = log_sums(await read_log(store, router))
        x = decision.x.astype(float)
        assert same_sums(sums, {"small": np.outer(x, [*x, 0.75])}, 1e-9)

    # Exactly once

    async def test_a_repeat_is_answered_and_changes_nothing(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """The same id with the same payload is a duplicate of the first, now and after a year."""
        async with stores(clock=clock) as store:
            decision = a_decision(router)
            await store.record(decision)
            row = a_row(decision, "f", quality=0.5, given_at=1.0)
            first = await store.append(row)
            clock.now += 365 * DAY_S
            later = replace(row, evidence=replace(row.evidence, given_at=2.0))
            again = [await store.append(row), await store.append(later)]
            assert [a.status for a in again] == ["duplicate", "duplicate"]
            assert {a.seq for a in again} == {first.seq}
            assert len(await store.tail(router)) == 1

    @pytest.mark.parametrize(
        "change", [{"quality": 0.6}, {"model": "other"}, {"cost_usd": 1.0}, {"error": "timeout"}]
    )
    async def test_an_id_stands_for_one_payload(
        self, stores: StoreFactory, clock: ManualClock, router: str, change: dict[str, Any]
    ) -> None:
        """The same id with another payload is refused, and the first one stands."""
        async with stores(clock=clock) as store:
            decision = a_decision(router)
            await store.record(decision)
            await store.append(a_row(decision, "f", quality=0.5))
            with pytest.raises(ConflictingFeedback) as caught:
                await store.append(a_row(decision, "f", **{"quality": 0.5, **change}))
            assert caught.value.feedback_id == "f"
            (entry,) = await store.tail(router)
            assert entry.row.evidence.quality == 0.5

    # Decisions that are not there

    @pytest.mark.parametrize(
        "identity",
        ["nonsense", "", new_id(START - MAY_STILL_ARRIVE_S - 1)],
        ids=["nonsense", "empty", "old"],  # an id is made anew in every process of a test run
    )
    async def test_feedback_needs_a_decision(
        self, stores: StoreFactory, clock: ManualClock, router: str, identity: str
    ) -> None:
        """Feedback on a decision that was never made is refused, and nothing is stored."""
        async with stores(clock=clock) as store:
            row = a_row(a_decision(router, id=identity), "f")
            with pytest.raises(UnknownDecision):
                await store.append(row)
            decision = a_decision(router)
            await store.record(decision)
            assert (await store.append(a_row(decision, "f"))).status == "stored"
            assert len(await store.tail(router)) == 1

    async def test_feedback_goes_to_the_router_that_decided(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Another router's decision is unknown here, and the error says where it belongs."""
        async with stores(clock=clock) as store:
            decision = a_decision(router + "b")
            await store.record(decision)
            with pytest.raises(UnknownDecision, match=f"{router}b"):
                await store.append(replace(a_row(decision), router=router))
            assert await store.tail(router) == []

    async def test_feedback_comes_before_the_decision_expires(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Feedback is taken up to the time of expiry, and refused after it."""
        async with stores(clock=clock) as store:
            decision = a_decision(router, expires_at=START + 10)
            await store.record(decision)
            clock.now = START + 10
            await store.append(a_row(decision))
            clock.now = START + 10.5
            for late in (a_row(decision), a_row(decision, decision=decision)):
                with pytest.raises(ExpiredDecision) as caught:
                    await store.append(late)
                assert caught.value.expired_at == START + 10
            assert len(await store.tail(router)) == 1

    async def test_feedback_waits_for_its_decision(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Feedback that overtakes its decision is kept, and enters the log when that is there."""
        async with stores(clock=clock) as store:
            late, early = a_decision(router, seed=1), a_decision(router, seed=2)
            ack = await store.append(a_row(late, "waiting"))
            assert (ack.status, ack.waiting) == ("stored", True)
            await store.record(early)
            await store.append(a_row(early, "first"))
            (first,) = await store.tail(router)
            assert (await store.append(a_row(late, "waiting"))).status == "duplicate"
            await store.record(late)
            await store.flush()
            (second,) = await read_log(store, router, first.cursor)
            assert (second.row.feedback_id, second.decision.id) == ("waiting", late.id)
            assert await store.tail(router, second.cursor) == []
            again = await store.append(a_row(late, "waiting"))
            assert (again.status, again.waiting) == ("duplicate", False)

    async def test_feedback_does_not_wait_for_another_router(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Feedback whose decision turns out to be another router's never enters a log."""
        async with stores(clock=clock) as store:
            decision = a_decision(router + "b")
            await store.append(replace(a_row(decision), router=router))
            await store.record(decision)
            await store.flush()
            assert await store.tail(router) == []
            assert await store.tail(router + "b") == []

    async def test_a_receipt_brings_its_decision(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A row that carries its decision needs no stored one, and does not replace one."""
        async with stores(clock=clock) as store:
            decision = a_decision(router, seed=3)
            await store.append(a_row(decision, decision=decision))
            await store.append(a_row(decision, decision=replace(decision, model="other")))
            entries = await store.tail(router)
            assert [e.decision.model for e in entries] == ["small", "small"]
            found = await store.decision(router, decision.id)
            assert found is not None
            same_decision(found, decision)
