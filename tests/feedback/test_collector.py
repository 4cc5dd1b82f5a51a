"""From attempts, opinions and an application's events to evidence about the right call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from conduit.core.errors import InvalidInput, UnknownDecision
from conduit.core.events import LogEntry
from conduit.core.models import (
    Feedback,
    ImplicitFeedback,
    ModelArm,
    Query,
    Response,
    RoutingDecision,
)
from conduit.engines.analyzer import Analyzer
from conduit.engines.executor import FunctionExecutor
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.router import Router
from conduit.feedback import FeedbackCollector, FeedbackPayload, SignalEvent, SignalPayload
from conduit.feedback.experience import GAVE_UP
from conduit.service import Service
from conduit.storage.database import DatabaseStore

MODELS = [ModelArm("acme:a"), ModelArm("acme:b")]
QUESTION = "How do I convert a list of strings to integers in Python?"
REPHRASED = "How can I turn a python list of strings into ints?"


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    """Give a router over two models, with its log in memory."""
    async with Router(MODELS, seed=1, environ={}) as made:
        yield made


def answered(model: str, text: str = "Use a comprehension.", **given: object) -> AttemptRecord:
    """Return an attempt that gave an answer."""
    response = Response(model=model, text=text, latency_s=0.5, cost_usd=0.001, **given)  # type: ignore[arg-type]
    return AttemptRecord(model=model, response=response, latency_s=0.5)


async def asked(
    router: Router,
    collector: FeedbackCollector,
    text: str,
    *,
    user: str | None = "u",
    model: str | None = None,
    answer: str = "Use a comprehension.",
) -> RoutingDecision:
    """Route a query and observe an answer to it."""
    query = Query(text=text, user_id=user)
    decision = await router.route(query)
    await collector.observe(decision, query, [answered(model or decision.selected_model, answer)])
    return decision


async def log_of(router: Router) -> list[LogEntry]:
    """Return the whole log."""
    return list(await router.store.tail(router.name))


async def test_signals_begin_at_the_level_of_the_models_scores() -> None:
    """The router tells which scores its models have, whenever they change."""
    arms = [ModelArm("a", quality=0.8), ModelArm("b")]
    async with Router(arms, seed=1, environ={}) as router:
        collector = FeedbackCollector(router)
        levels = [collector.experience.reliability.level]
        router.add_model(ModelArm("c", quality=0.6))
        levels.append(collector.experience.reliability.level)
        router.remove_model("a")
        levels.append(collector.experience.reliability.level)
    assert levels == pytest.approx([0.8, 0.7, 0.6])


async def test_a_retry_is_evidence_about_the_earlier_answer(router: Router) -> None:
    """The second try counts against the model that answered the first, and only against it."""
    collector = FeedbackCollector(router)
    first = await asked(router, collector, QUESTION, model="acme:b")
    await asked(router, collector, REPHRASED)
    retries = [e.row for e in await log_of(router) if e.row.kind == "retry"]
    assert [(r.decision_id, r.model, r.said) for r in retries] == [(first.id, "acme:b", 0.0)]
    assert collector.stats().seen == {"no_error": 2, "retry": 1}
    assert collector.experience.quality().counts[("acme:b", "retry-")].seen == 1.0


@pytest.mark.parametrize(("first", "second"), [(None, None), ("u", "v")])
async def test_only_the_same_user_asks_again(
    router: Router, first: str | None, second: str | None
) -> None:
    """A batch job that repeats a prompt is no retry, nor is another user's same question."""
    collector = FeedbackCollector(router)
    await asked(router, collector, QUESTION, user=first)
    await asked(router, collector, QUESTION, user=second)
    assert {e.row.kind for e in await log_of(router)} == {"no_error"}


async def test_who_asks_again_after_a_failure_is_no_retry(router: Router) -> None:
    """Where no model answered there was no answer to be dissatisfied with."""
    collector = FeedbackCollector(router)
    query = Query(text=QUESTION, user_id="u")
    decision = await router.route(query)
    failed = AttemptRecord(
        model="acme:a", response=None, latency_s=0.1, failure="server_error", quality=0.0
    )
    await collector.observe(decision, query, [failed])
    await asked(router, collector, QUESTION)
    assert sorted(e.row.kind for e in await log_of(router)) == ["exception", "no_error"]


async def test_each_attempt_is_evidence_about_its_own_model(router: Router) -> None:
    """A failure weighs as much as a rating against its model; the answer speaks for the other."""
    collector = FeedbackCollector(router)
    query = Query(text=QUESTION)
    decision = await router.route(query)
    failed = AttemptRecord(
        model="acme:a", response=None, latency_s=0.1, failure="timeout", quality=0.0
    )
    limited = AttemptRecord(
        model="acme:a", response=None, latency_s=0.1, failure="rate_limited", quality=None
    )
    await collector.observe(decision, query, [limited, failed, answered("acme:b")])
    rows = {e.row.model: e.row for e in await log_of(router)}
    assert (rows["acme:a"].evidence.quality, rows["acme:a"].evidence.quality_weight) == (0.0, 1.0)
    assert rows["acme:a"].evidence.error == "timeout"
    assert rows["acme:b"].kind == "no_error"
    assert 0.0 < rows["acme:b"].evidence.quality_weight < 1.0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("4", "no_error"),
        ("Paris.", "no_error"),
    ],
)
async def test_the_text_of_an_answer_is_looked_at(router: Router, text: str, kind: str) -> None:
    """Empty answers and refusals speak against their model; short right answers do not."""
    collector = FeedbackCollector(router)
    await asked(router, collector, "What is 2+2?", answer=text)
    (entry,) = await log_of(router)
    assert (entry.row.kind, entry.row.said) == (kind, float(kind == "no_error"))


async def test_the_patience_of_callers_is_learned_from_the_log(router: Router) -> None:
    """After thirty answers a wait is judged; one given up is censored, not a latency."""
    collector = FeedbackCollector(router)
    query = Query(text="x")
    assert collector.stats().patience_s["medium"] is None
    for k in range(30):
        decision = await router.route(query)
        seconds = 0.5 + k / 100
        response = Response(model="acme:a", text="Yes.", latency_s=seconds)
        await collector.observe(
            decision, query, [AttemptRecord(model="acme:a", response=response, latency_s=seconds)]
        )
    patience = collector.stats().patience_s
    assert patience["low"]
    assert patience["medium"]
    assert patience["high"]
    assert 0.5 < patience["low"] < patience["medium"] < patience["high"] < 1.0
    left = AttemptRecord(model="acme:a", response=None, latency_s=3.0, failure="cancelled")
    await collector.observe(await router.route(query), query, [left])
    slow = Response(model="acme:a", text="Yes.", latency_s=9.0)
    await collector.observe(
        await router.route(query),
        query,
        [AttemptRecord(model="acme:a", response=slow, latency_s=9.0)],
    )
    assert collector.stats().seen[GAVE_UP] == collector.stats().seen["slow"] == 1
    assert collector.experience.latency().abandoned.sum() == 1.0
    assert collector.experience.latency().answered.sum() == 31.0
    (row,) = [e.row for e in await log_of(router) if e.row.kind == GAVE_UP]
    assert (row.said, row.evidence.latency_s, row.evidence.quality) == (3.0, None, None)


# What the application sees


async def test_an_application_reports_what_becomes_of_an_answer(router: Router) -> None:
    """Each adapter is one event; a repeat changes nothing; an answer nobody saw says nothing."""
    collector = FeedbackCollector(router)
    decision = await asked(router, collector, QUESTION)
    for report in (
        lambda: collector.on_copy(decision),
        lambda: collector.on_edit(decision.id, 0.25),
        lambda: collector.on_regenerate(decision.receipt),
        lambda: collector.on_abandon(decision, shown=0.5),
        lambda: collector.on_task_success(decision, 0.7),
    ):
        first, again = await report(), await report()
        assert first is not None
        assert first.status == "stored"
        assert again is not None
        assert again.status == "duplicate"
    assert await collector.on_abandon(decision, shown=0.0) is None
    said = {e.row.kind: e.row.said for e in await log_of(router)}
    assert said == {
        "no_error": 1.0, "copy": 1.0, "edit": 0.75, "regenerate": 0.0, "abandon": 0.0,
        "task_success": 0.7,
    }  # fmt: skip


async def test_an_application_may_have_signals_of_its_own(router: Router) -> None:
    """A registered kind is taken, weighed by its reliability, and shown in the statistics."""
    collector = FeedbackCollector(router)
    collector.register_signal("thumbs_up", reliability=0.95)
    decision = await asked(router, collector, QUESTION)
    payload = SignalPayload.model_validate(
        {"decision_id": decision.id, "signal": "thumbs_up", "value": 1.0}
    )
    ack = await collector.record(payload.event())
    assert ack is not None
    assert ack.status == "stored"
    assert collector.stats().reliability["thumbs_up+"].prior == pytest.approx(0.95)
    with pytest.raises(InvalidInput, match="thumbs_down"):
        await collector.record(SignalEvent(target=decision, signal="thumbs_down", value=1.0))
    with pytest.raises(UnknownDecision):
        await collector.on_copy("nobody-made-this")


async def test_a_signal_is_believed_as_soon_as_it_is_registered(router: Router) -> None:
    """The first signal of a kind that was registered, or registered anew, teaches its worth."""
    collector = FeedbackCollector(router)
    for reliability, least, most in ((0.95, 0.9, 3.0), (0.05, -3.0, 0.2)):
        decision = await asked(router, collector, QUESTION)
        collector.register_signal("thumbs_up", reliability=reliability)
        await collector.record(SignalEvent(target=decision, signal="thumbs_up", value=1.0))
        evidence = (await log_of(router))[-1].row.evidence
        assert evidence.quality is not None
        assert least < evidence.quality + evidence.lift < most


async def test_reliabilities_are_learned_from_rated_decisions(router: Router) -> None:
    """Users who rate well what they asked for twice make a retry less believed, from its prior."""
    collector = FeedbackCollector(router)
    before = collector.stats().reliability["retry-"]
    assert before.right == before.prior
    for k in range(40):
        decision = await router.route(Query(text=f"question {k}"))
        await router.feedback(decision, ImplicitFeedback(signal="retry", quality=0.0))
        await router.feedback(decision, Feedback(user_rating=5))
    after = collector.stats().reliability["retry-"]
    assert (after.seen, after.agreed, after.disagreed) == (40.0, 0.0, 40.0)
    assert after.right < 15 / 60  # good answers are commoner here than documented, besides
    assert after.teaches > before.teaches


# One truth per decision

PIECES: tuple[ImplicitFeedback | Feedback, ...] = (
    ImplicitFeedback(
        signal="response", cost_usd=0.002, latency_s=0.7, input_tokens=40, output_tokens=90,
        feedback_id="response", given_at=1.0,
    ),
    ImplicitFeedback(signal="no_error", quality=1.0, feedback_id="error", given_at=2.0),
    ImplicitFeedback(signal="retry", quality=0.0, feedback_id="retry", given_at=3.0),
    Feedback(quality_score=0.4, source="judge", feedback_id="judge", given_at=4.0),
    Feedback(user_rating=4, user_id="u", feedback_id="rating", given_at=5.0),
)  # fmt: skip
X_SEED = "One decision is one observation."


async def state_after(
    order: tuple[int, ...], analyzer: Analyzer
) -> tuple[dict[str, object], FeedbackCollector]:
    """Return every sum of a fresh learner that was told the pieces in an order."""
    router = Router(MODELS, seed=1, environ={}, analyzer=analyzer)
    collector = FeedbackCollector(router)
    decision = router.route_sync(Query(text=X_SEED))
    for k in order:
        await router.feedback(decision, PIECES[k], model="acme:a")
    snapshot = router.learner.snapshot()
    return {**snapshot.arms["acme:a"], **snapshot.shared}, collector


async def test_120_orders_and_repeats_lead_to_one_state() -> None:
    """Response, error-free signal, retry, judge and rating: one observation, the user's quality."""
    analyzer = Analyzer()
    wanted, _ = await state_after((4, 0), analyzer)
    for order in permutations(range(5)):
        for repeats in ((), order[::-1]):
            found, collector = await state_after((*order, *repeats), analyzer)
            for name, sums in wanted.items():
                np.testing.assert_allclose(found[name], sums, rtol=0, atol=1e-9, err_msg=name)
            cell = collector.experience.quality().counts["acme:a", "retry-"]
            assert cell == pytest.approx((1.0, 1.0, 0.75), abs=1e-9)


@pytest.mark.parametrize("known", range(1, 5))
async def test_the_strongest_evidence_so_far_is_the_quality(known: int) -> None:
    """An implicit signal yields to the judge, who yields to the user; a retry to none."""
    async with Router(MODELS, seed=1, environ={}) as router:
        FeedbackCollector(router)
        decision = await router.route(Query(text=X_SEED))
        for piece in PIECES[: known + 1]:
            await router.feedback(decision, piece, model="acme:a")
        last = (await log_of(router))[-1]
        outcome = last.outcome()
        assert (outcome.quality, outcome.quality_weight) == (
            last.row.evidence.quality,
            last.row.evidence.quality_weight,
        )
        assert (outcome.cost_usd, outcome.latency_s) == (0.002, 0.7)


# Beyond one process


async def test_replicas_and_restarts_know_the_same_of_signals(tmp_path: Path) -> None:
    """Reliabilities follow from the log: for a replica, after a restart, and read late."""
    url = f"sqlite:///{tmp_path}/log.db"
    sums = []
    async with DatabaseStore(url) as store:
        async with Router(MODELS, seed=1, environ={}, store=store, secret="s") as router:
            collector = FeedbackCollector(router)
            await router.sync()
            for k in range(12):
                decision = await asked(router, collector, f"question {k}")
                await router.feedback(decision, Feedback(user_rating=1 + k % 5, user_id="u"))
            sums.append(collector.experience.sums())
        for attach_late in (False, True):
            replica = Router(MODELS, environ={}, store=store, secret="s")
            there = None if attach_late else FeedbackCollector(replica)
            async with replica:
                there = there or FeedbackCollector(replica)
                await replica.sync()
                sums.append(there.experience.sums())
    for found in sums[1:]:
        assert found.keys() == sums[0].keys()
        for name, counts in sums[0].items():
            assert found[name] == pytest.approx(counts, abs=1e-9), name


# The service


def answer(_model: str, prompt: str) -> str:
    """Answer a prompt."""
    return f"An answer to {prompt}."


async def test_feedback_names_an_answer_in_any_way() -> None:
    """By the answer, its id, its decision, that one's id, the receipt, or a payload to POST."""
    ways: list[Callable[[object], object]] = [
        lambda r: r,
        lambda r: r.id,  # type: ignore[attr-defined]
        lambda r: r.decision,  # type: ignore[attr-defined]
        lambda r: r.decision.id,  # type: ignore[attr-defined]
        lambda r: r.decision.receipt,  # type: ignore[attr-defined]
    ]
    async with Service(Router(MODELS, seed=1, environ={}), FunctionExecutor(answer)) as service:
        for way in ways:
            result = await service.complete("What is this?")
            ack = await service.submit_feedback(way(result), user_rating=5)  # type: ignore[arg-type]
            assert ack.status == "stored"
        payload = FeedbackPayload(response_id=result.id, met_expectations=False)
        assert (await service.submit_feedback(payload, user_id="u")).status == "stored"
        copied = SignalPayload(response_id=result.id, signal="copy")
        assert (await service.submit_signal(copied)).status == "stored"  # type: ignore[union-attr]
        await service.flush()
        rows = await log_of(service.router)
        assert sum(e.row.kind == "explicit" for e in rows) == 6
        assert (await service.get_stats()).signals.seen["no_error"] == 5


async def test_an_answer_is_known_by_its_id_to_another_process(tmp_path: Path) -> None:
    """A response id suffices where only the database knows the answer."""
    async with DatabaseStore(f"sqlite:///{tmp_path}/log.db") as store:
        router = Router(MODELS, seed=1, environ={}, store=store, secret="s")
        async with Service(router, FunctionExecutor(answer)) as service:
            result = await service.complete("What is this?")
            await service.flush()
            async with Router(MODELS, environ={}, store=store, secret="s") as other:
                ack = await other.feedback(result.id, Feedback(user_rating=2))
                assert ack.status == "stored"
                last = (await log_of(other))[-1]
                assert (last.row.decision_id, last.row.model) == (result.decision.id, result.model)


def report_elsewhere(url: str, response_id: str, decision_id: str, receipt: str) -> list[str]:
    """Report what became of an answer, in a process of one's own that knows its names alone."""

    async def reported() -> list[str]:
        async with (
            DatabaseStore(url) as store,
            Router(MODELS, environ={}, store=store, secret="s") as router,
        ):
            collector = FeedbackCollector(router)
            collector.register_signal("shared", reliability=0.9)
            acks = [
                await collector.on_copy(response_id),
                await collector.on_edit(decision_id, 0.5),
                await collector.on_regenerate(receipt),
                await collector.on_abandon(response_id),
                await collector.on_task_success(decision_id, 0.9),
                await collector.record(
                    SignalEvent(target=response_id, signal="shared", value=1.0, given_at=7.0)
                ),
                await collector.on_copy(response_id),
            ]
            await collector.close()
            return [ack.status for ack in acks if ack is not None]

    return asyncio.run(reported())


async def test_signals_from_another_process_reach_the_one_that_answered(tmp_path: Path) -> None:
    """An answer's id, its decision's or the receipt suffices; the model that answered learns."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with DatabaseStore(url) as store:
        router = Router(MODELS, seed=1, environ={}, store=store, secret="s")
        async with Service(router, FunctionExecutor(answer)) as service:
            result = await service.complete("What is this?")
            await service.flush()
            named = (result.id, result.decision.id, str(result.decision.receipt))
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                said = await asyncio.wrap_future(pool.submit(report_elsewhere, url, *named))
            assert said == [*["stored"] * 6, "duplicate"]
            await router.sync()
            rows = {e.row.kind: (e.row.said, e.row.model) for e in await log_of(router)}
            assert rows == {
                kind: (value, result.model)
                for kind, value in {
                    "no_error": 1.0, "copy": 1.0, "edit": 0.5, "regenerate": 0.0, "abandon": 0.0,
                    "task_success": 0.9, "shared": 1.0,
                }.items()
            }  # fmt: skip
            assert router.learner.applied == 7


async def test_a_caller_who_leaves_is_noticed() -> None:
    """Cancelling a completion is no failure of the model, and tells how long somebody waited."""

    async def slow(_model: str, _prompt: str) -> str:
        await asyncio.sleep(30)
        return "too late"

    async with Service(Router(MODELS, seed=1, environ={}), FunctionExecutor(slow)) as service:
        task = asyncio.create_task(service.complete("What is this?"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await service.flush()
        assert [e.row.kind for e in await log_of(service.router)] == [GAVE_UP]
        seen = service.router.learner.policy.seen()
        assert not seen.any()
