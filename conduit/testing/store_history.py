"""The contract of the history and the ledger: what was asked, answered and spent."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from conduit.core.errors import (
    InvalidInput,
)
from conduit.core.models import Response
from conduit.storage.ports import (
    Opinions,
    Store,
)
from conduit.testing.records import (
    DAY_S,
    IMPLICIT,
    JUDGE,
    START,
    USER,
    ManualClock,
    StoreFactory,
    a_decision,
    a_row,
    an_answer,
    same_decision,
)


class HistoryContract:
    """What `History` promises."""

    # Decisions, answers, statistics

    async def test_a_decision_is_readable_at_once(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A recorded decision is found by its id, whole, and recording it again changes nothing."""
        async with stores(clock=clock) as store:
            decision = a_decision(router, user_key="u", text="secret")
            await store.record(decision)
            await store.record(replace(decision, model="other"))
            for _ in range(2):
                found = await store.decision(router, decision.id)
                assert found is not None
                same_decision(found, decision)
                assert found.text is None
                await store.flush()
            assert await store.decision(router, "nonsense") is None

    async def test_text_is_kept_only_when_asked(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """With store_text the texts of queries and answers come back, without NUL; else None."""
        for store_text, expected in ((True, "a secret"), (False, None)):
            async with stores(clock=clock, store_text=store_text) as store:
                decision = a_decision(router, text="a \0secret")
                answer = an_answer(decision, text="a \0secret")
                await store.record(decision)
                await store.record_response(answer)
                await store.flush()
                found = await store.decision(router, decision.id)
                kept = await store.response(router, answer.id)
                assert found is not None
                assert kept is not None
                assert (found.text or "").replace("\0", "") == (expected or "")
                assert (kept.response.text or "").replace("\0", "") == (expected or "")

    async def test_history_comes_newest_first(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """The newest decisions come first, of one user where one is named."""
        async with stores(clock=clock) as store:
            made = [a_decision(router, at=START + i, user_key=f"u{i % 2}") for i in range(4)]
            for each in made:
                await store.record(each)
            await store.flush()
            newest = await store.decisions(router, limit=3)
            assert [d.id for d in newest] == [d.id for d in reversed(made[1:])]
            theirs = await store.decisions(router, user_key="u0")
            assert [d.id for d in theirs] == [made[2].id, made[0].id]

    async def test_answers_and_statistics(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Answers come back by id; statistics count calls, dollars and strongest opinions."""
        async with stores(clock=clock) as store:
            decisions = [a_decision(router, at=START + i) for i in range(3)]
            answers = [
                an_answer(d, cost_usd=0.5, latency_s=i + 1.0) for i, d in enumerate(decisions)
            ]
            answers[2] = replace(answers[2], error="timeout", response=Response(model="large"))
            for each, answer in zip(decisions, answers, strict=True):
                await store.record(each)
                await store.record_response(answer)
            await store.append(a_row(decisions[0], quality=0.25, rank=IMPLICIT))
            await store.append(a_row(decisions[0], quality=0.5, rank=USER, user_key="u"))
            await store.append(a_row(decisions[1], quality=1.0))
            await store.flush()
            assert await store.response(router, answers[0].id) == answers[0]
            assert await store.response(router, answers[2].id) == answers[2]
            assert await store.response(router + "b", answers[0].id) is None
            stats = await store.stats(router)
            recent = await store.stats(router, since=START + 1)
        assert (stats.decisions, stats.responses, stats.feedback, stats.waiting) == (3, 3, 3, 0)
        assert stats.cost_usd == 1.0
        small, large = stats.models["small"], stats.models["large"]
        assert (small.decisions, small.responses, small.errors, small.feedback) == (3, 2, 0, 3)
        assert (small.cost_usd, small.mean_latency_s, small.mean_quality) == (1.0, 1.5, 0.75)
        assert (large.decisions, large.responses, large.errors) == (0, 1, 1)
        assert (large.mean_latency_s, large.mean_quality) == (None, None)
        assert (recent.decisions, recent.responses) == (2, 2)

    async def test_a_decision_finds_its_answer(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Of several attempts the newest that answered is found; without one, the newest."""
        async with stores(clock=clock) as store:
            answered, failed = a_decision(router), a_decision(router, seed=1)
            for decision, errors in (
                (answered, ("down", None, None, "down")),
                (failed, ("timeout", "cancelled")),
            ):
                made = [
                    replace(an_answer(decision, latency_s=i), error=e, created_at=START + i)
                    for i, e in enumerate(errors)
                ]
                for each in made:
                    await store.record_response(each)
                await store.flush()
                found = await store.answer_to(router, decision.id)
                assert found == made[2 if decision is answered else 1]
                assert await store.answer_to(router + "b", decision.id) is None
            assert await store.answer_to(router, "nonsense") is None

    async def test_opinions_are_counted_by_user_and_decision(
        self, stores: StoreFactory, clock: ManualClock, router: str, user: str
    ) -> None:
        """Opinions are counted since a time, of one user or all, a changed one once; no signals."""
        async with stores(clock=clock) as store:
            made = [a_decision(router, at=START, seed=i) for i in range(4)]
            for each in made:
                await store.record(each)
            said = [
                (made[0], USER, user, "explicit"),
                (made[0], USER, user, "explicit"),
                (made[1], USER, user, "explicit"),
                (made[1], USER, "somebody", "explicit"),
                (made[2], USER, None, "explicit"),
                (made[2], JUDGE, user, "explicit"),  # a judge's score
                (made[3], USER, None, "calibration"),
            ]
            for i, (decision, rank, whose, kind) in enumerate(said):
                clock.now = START + i
                await store.append(a_row(decision, f"f{i}", rank=rank, user_key=whose, kind=kind))
            everybody = await store.opinions(router, since=START, recent=START + 3)
            theirs = await store.opinions(
                router, since=START, recent=START + 2, user_key=user, feedback_id="f1"
            )
            late = await store.opinions(router, since=START + 4, user_key=user, feedback_id="g")
            elsewhere = await store.opinions(router + "b", since=START, feedback_id="f1")
            await store.quarantine(user)
            rest = await store.opinions(router, since=START)
        assert everybody == Opinions(decisions=3, by_users=2, users=2, recent=2)
        assert theirs == Opinions(decisions=2, by_users=2, users=1, recent=1, known=True)
        assert late == elsewhere == Opinions()
        assert rest == Opinions(decisions=2, by_users=1, users=1, recent=2)

    async def test_opinions_of_the_forgotten_are_not_counted(
        self, stores: StoreFactory, clock: ManualClock, router: str, user: str
    ) -> None:
        """What was deleted is not counted any more."""
        async with stores(clock=clock) as store:
            for i, whose in enumerate((user, "somebody")):
                decision = a_decision(router, seed=i)
                await store.record(decision)
                await store.append(a_row(decision, rank=USER, user_key=whose))
            await store.forget(user)
            assert (await store.opinions(router, since=START)).decisions == 1
            assert await store.opinions(router, since=START, user_key=user) == Opinions()


class LedgerContract:
    """What `Ledger` promises."""

    # Money

    async def test_a_limit_lets_in_what_fits(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """Reservations stop at the limit, settling frees what was not spent, once."""
        async with stores(clock=clock) as store:
            granted = [await _reserve(store, router, f"{router}{i}") for i in range(4)]
            assert [g.granted for g in granted] == [True, True, True, False]
            assert math.isclose(granted[2].left_usd, 0.1, abs_tol=1e-9)
            assert (await _reserve(store, router, f"{router}0")).granted
            for _ in range(2):
                await store.settle(f"{router}0", 0.1)
            spend = await store.spend(router, START)
            assert spend is not None
            assert spend.limit_usd == 1.0
            assert spend.spent_usd == pytest.approx(0.1)
            assert spend.reserved_usd == pytest.approx(0.6)
            assert (await _reserve(store, router, f"{router}4")).granted
            await store.settle("nonsense", 5.0)
            assert await store.spend(router, START + DAY_S) is None

    async def test_what_the_dead_reserved_is_free_again(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """An expired reservation no longer counts, and what it cost after all is still recorded."""
        async with stores(clock=clock) as store:
            for i in range(3):
                await _reserve(store, router, f"{router}{i}")
            assert not (await _reserve(store, router, f"{router}x", now=START + 59)).granted
            assert (await _reserve(store, router, f"{router}x", now=START + 60)).granted
            await store.settle(f"{router}0", 0.2)
            spend = await store.spend(router, START)
            assert spend is not None
            assert spend.spent_usd == pytest.approx(0.2)
            assert spend.reserved_usd == pytest.approx(0.3)

    @pytest.mark.parametrize("amount", [math.nan, math.inf, -1.0])
    async def test_money_is_a_number(
        self, stores: StoreFactory, clock: ManualClock, router: str, amount: float
    ) -> None:
        """Amounts that are no amounts are refused."""
        async with stores(clock=clock) as store:
            with pytest.raises(InvalidInput):
                await _reserve(store, router, router, amount_usd=amount)
            with pytest.raises(InvalidInput):
                await store.settle(router, amount)

    async def test_paid_answers_are_kept(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A graded outcome is found again by router and grader, and the first one stands."""
        async with stores(clock=clock) as store:
            for outcome in ('{"q":1}', '{"q":0}'):
                await store.save_calibration(router, "p1", "small", "g", outcome)
            await store.save_calibration(router, "p1", "small", "g2", "{}")
            await store.begin_calibration(router, "p1", "small", "g")
            await store.drop_calibration(router, "p1", "small", "g")
            assert await store.calibrations(router, "g") == {("p1", "small"): '{"q":1}'}
            assert await store.calibrations(router + "b", "g") == {}

    async def test_an_answer_that_was_only_asked_for_is_remembered(
        self, stores: StoreFactory, clock: ManualClock, router: str
    ) -> None:
        """A beginning has no outcome until one is saved, or it is dropped."""
        async with stores(clock=clock) as store:
            for model in ("kept", "dropped", "open"):
                await store.begin_calibration(router, "p1", model, "g")
                await store.begin_calibration(router, "p1", model, "g")
            await store.save_calibration(router, "p1", "kept", "g", '{"q":1}')
            await store.drop_calibration(router, "p1", "dropped", "g")
            assert await store.calibrations(router, "g") == {
                ("p1", "kept"): '{"q":1}',
                ("p1", "open"): None,
            }


async def _reserve(
    store: Store, scope: str, identity: str, *, now: float = START, amount_usd: float = 0.3
) -> Any:
    return await store.reserve(
        scope,
        START,
        limit_usd=1.0,
        amount_usd=amount_usd,
        reservation_id=identity,
        now=now,
        expires_at=now + 60,
    )
