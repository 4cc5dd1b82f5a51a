"""Fallback along the candidates of one decision, within one deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, ConduitError, OutputInvalid, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor.base import Answer, Call, FunctionExecutor
from conduit.engines.executor.chain import AttemptRecord, Served, run_chain
from conduit.engines.executor.failures import MEANINGS
from conduit.engines.executor.health import FAILURES_TO_OPEN, ModelHealth
from tests.jumping import clock, jumping

ARMS = [ModelArm("a"), ModelArm("b"), ModelArm("c")]


class Models:
    """Models whose conduct is a kind of failure, a number of seconds, or an answer."""

    def __init__(self, **conduct: Any) -> None:
        self.conduct = conduct
        self.asked: list[str] = []
        self.records: list[AttemptRecord] = []
        self.health = ModelHealth()
        self.executor = FunctionExecutor(self.answer)

    async def answer(self, model: str, _prompt: Any) -> Any:
        """Do what was agreed for this model."""
        self.asked.append(model)
        conduct = self.conduct.get(model, f"from {model}")
        if isinstance(conduct, Exception):
            raise conduct
        if isinstance(conduct, int | float):
            await asyncio.sleep(conduct)
            return f"late from {model}"
        if conduct == "invalid_output":
            raise OutputInvalid("no", model=model)
        if conduct in MEANINGS or conduct == "other":
            raise ProviderError("no", model=model, kind=conduct)
        return conduct

    async def serve(self, timeout_s: float | None = None, **options: Any) -> Served:
        """Run the chain over a, b and c."""
        now = options.setdefault("clock", clock)
        deadline = None if timeout_s is None else now() + timeout_s
        return await run_chain(
            self.executor,
            options.pop("arms", ARMS),
            options.pop("call", Call("?")),
            deadline=deadline,
            health=self.health,
            on_attempt=self.records.append,
            **options,
        )


FALLING_BACK = [kind for kind, means in MEANINGS.items() if means.falls_back]


async def test_the_first_choice_answers() -> None:
    """Where nothing goes wrong, one model is asked, and its answer is returned with its arm."""
    models = Models()
    served = await models.serve()
    assert (served.arm, served.answer.data) == (ARMS[0], "from a")
    assert models.asked == ["a"]
    (record,) = models.records
    assert (record.model, record.failure, record.quality) == ("a", None, None)
    assert record.response is served.answer.response


@pytest.mark.parametrize("kind", [*FALLING_BACK, "other"])
async def test_the_next_candidate_is_tried(kind: str) -> None:
    """Whatever keeps one model from answering, another one is asked, and never the same again."""
    models = Models(a=kind, b=kind)
    served = await models.serve()
    assert served.answer.data == "from c"
    assert models.asked == ["a", "b", "c"]
    assert [record.failure for record in models.records] == [kind, kind, None]


@pytest.mark.parametrize("kind", [*FALLING_BACK, "other"])
async def test_each_attempt_teaches_its_own_model(kind: str) -> None:
    """A failure is quality 0 for the model that failed, or nothing where it was not its fault."""
    models = Models(a=kind)
    await models.serve()
    expected = MEANINGS[kind].quality if kind in MEANINGS else 0.0
    assert [(r.model, r.quality, r.first_choice) for r in models.records] == [
        ("a", expected, True),
        ("b", None, False),
    ]


async def test_when_all_fail_each_attempt_is_listed() -> None:
    """`AllModelsFailed` names every attempt with its cause, in order."""
    models = Models(a="server_error", b="auth", c="timeout")
    with pytest.raises(AllModelsFailed) as caught:
        await models.serve()
    assert [(a.model, a.kind) for a in caught.value.attempts] == [
        ("a", "server_error"),
        ("b", "auth"),
        ("c", "timeout"),
    ]
    assert all(a.cause and a.latency_s is not None for a in caught.value.attempts)


async def test_without_fallback_its_own_error_comes_out() -> None:
    """With `fallback=False` only the first model is asked."""
    models = Models(a="server_error")
    with pytest.raises(ProviderError) as caught:
        await models.serve(fallback=False)
    assert (caught.value.kind, caught.value.model) == ("server_error", "a")
    assert models.asked == ["a"]


async def test_a_failure_says_what_it_took() -> None:
    """An answer of the wrong form costs money: the response of the attempt is passed on."""
    failure = OutputInvalid("no", model="a", retries=1)
    failure.response = Response(model="a", cost_usd=0.25, output_valid=False)
    models = Models(a=failure)
    await models.serve()
    assert models.records[0].response is failure.response


# Time


@jumping
async def test_a_model_that_hangs_leaves_time_for_the_next() -> None:
    """The first attempt may use two thirds of the deadline while another candidate is left."""
    models, started = Models(a=60.0), clock()
    served = await models.serve(0.3)
    assert served.answer.data == "from b"
    assert clock() - started == pytest.approx(2 / 3 * 0.285)  # 0.3 without what ends the last one
    assert (models.records[0].failure, models.records[0].quality) == ("timeout", 0.0)


@jumping
async def test_the_last_candidate_has_all_the_time_that_is_left() -> None:
    """Nothing is held back for nobody."""
    models = Models(a=0.28)
    served = await models.serve(0.3, arms=ARMS[:1])
    assert served.answer.data == "late from a"


@jumping
@pytest.mark.parametrize("fallback", [True, False])
async def test_the_deadline_holds_for_all_attempts_together(fallback: bool) -> None:
    """However many models hang, the caller waits for one deadline, and not much less."""
    models, started = Models(a=60.0, b=60.0, c=60.0), clock()
    with pytest.raises(ConduitError):
        await models.serve(0.3, fallback=fallback)
    assert 0.28 <= clock() - started <= 0.3


@jumping
async def test_a_timeout_in_too_little_time_teaches_nothing() -> None:
    """What an attempt could not do with the rest of the time says nothing about its model."""
    models = Models(a=60.0, b=60.0, c=60.0)
    with pytest.raises(AllModelsFailed):
        await models.serve(0.3)
    assert [(r.failure, r.quality) for r in models.records] == [
        ("timeout", 0.0),
        ("timeout", None),
        ("timeout", None),
    ]


async def test_what_was_not_tried_is_said() -> None:
    """A candidate for whom no time was left is listed as not tried."""

    now = [0.0]

    def block(_model: str, _prompt: Any) -> str:
        now[0] += 0.06  # a call that cannot be interrupted
        raise ConnectionError

    with pytest.raises(AllModelsFailed) as caught:
        await run_chain(
            FunctionExecutor(block), ARMS, Call("?"), deadline=0.05, clock=lambda: now[0]
        )
    assert [a.kind for a in caught.value.attempts][1:] == ["not_tried", "not_tried"]


@jumping
async def test_the_calls_own_timeout_limits_one_attempt() -> None:
    """`Call.timeout_s` holds for each attempt, the deadline for all."""
    models, started = Models(a=60.0), clock()
    await models.serve(10.0, call=Call("?", timeout_s=0.1))
    assert clock() - started == pytest.approx(0.1)


@jumping
async def test_an_executor_that_ignores_its_timeout_is_cut_off() -> None:
    """The chain keeps the deadline for executors that do not."""

    class Deaf(FunctionExecutor):
        """Waits for as long as it likes."""

        async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
            """Hang."""
            await asyncio.sleep(60.0)
            raise AssertionError

    started, records = clock(), list[AttemptRecord]()
    with pytest.raises(AllModelsFailed):
        await run_chain(
            Deaf(lambda *_: ""),
            ARMS[:1],
            Call("?"),
            deadline=started + 0.1,
            on_attempt=records.append,
            clock=clock,
        )
    assert clock() - started <= 0.12  # its own timeout would have come first, and told more
    assert records[0].error is not None
    assert records[0].error.__context__ is None


# Callers


async def test_a_cancelled_call_teaches_nothing() -> None:
    """Nobody else is asked, no quality is learned, and the cancellation passes through."""
    models = Models(a=60.0)
    task = asyncio.create_task(models.serve(10.0))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert models.asked == ["a"]
    assert [(r.failure, r.quality) for r in models.records] == [("cancelled", None)]
    assert models.health.allows("a", clock())


class CallersError(Exception):
    """What a tool of the caller raises."""


async def test_the_callers_own_error_passes_through() -> None:
    """What is no `ExecutionError` is not the model's: no fallback, no evidence, no translation."""

    class Tools(FunctionExecutor):
        """Runs a tool of the caller that fails."""

        async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
            """Raise what the tool raises."""
            raise CallersError

    records: list[AttemptRecord] = []
    with pytest.raises(CallersError):
        await run_chain(Tools(lambda *_: ""), ARMS, Call("?"), on_attempt=records.append)
    assert [(r.failure, r.quality) for r in records] == [("caller_error", None)]


# Health


async def calls(models: Models, count: int, **options: Any) -> None:
    """Serve so many requests."""
    for _ in range(count):
        await models.serve(**options)


async def test_a_dead_model_is_soon_left_alone() -> None:
    """Upstream calls stay within the requests and three more."""
    models = Models(a="server_error")
    await calls(models, 50)
    assert models.asked.count("a") == FAILURES_TO_OPEN
    assert models.asked.count("b") == 50


async def test_one_outage_is_three_failures_not_thousands() -> None:
    """While a model is known to be down, its failing probes are no evidence of quality."""
    models, now = Models(a="server_error"), 0.0

    def clock() -> float:
        return now

    for _ in range(600):
        now += 1.0
        await models.serve(clock=clock)
    failures = [r for r in models.records if r.model == "a"]
    news, probes = failures[:FAILURES_TO_OPEN], failures[FAILURES_TO_OPEN:]
    assert {r.quality for r in news} == {0.0}
    assert 20 <= len(probes) <= 30
    assert {(r.probe, r.quality) for r in probes} == {(True, None)}


async def test_a_recovered_model_is_back_within_a_minute() -> None:
    """A probe goes first once in a back-off, even where the decision prefers another model."""
    models, now = Models(a="server_error"), 0.0
    order = [ARMS[1], ARMS[0]]  # the decision has learned to prefer b

    def clock() -> float:
        return now

    await calls(models, 3, clock=clock)
    for _ in range(300):
        now += 1.0
        await models.serve(clock=clock, arms=order)
    models.conduct = {}
    recovered_at = now
    while models.health.blocked(now) or models.asked[-1] != "a":
        now += 1.0
        await models.serve(clock=clock, arms=order)
        assert now - recovered_at < 60.0
    assert (await models.serve(clock=clock)).arm.id == "a"


@jumping
async def test_a_model_that_hangs_holds_up_few_callers() -> None:
    """A probe that is not answered in its short time is a probe that failed: the pauses grow."""
    models = Models(a=60.0)
    for _ in range(60):
        await models.serve(0.3)
        await asyncio.sleep(1.0)
    assert models.asked.count("a") <= FAILURES_TO_OPEN + 6
    known = [r for r in models.records if r.model == "a"][FAILURES_TO_OPEN:]
    assert {(r.probe, r.quality) for r in known} == {(True, None)}


@jumping
async def test_a_probe_gets_less_time() -> None:
    """A model that may well still hang does not take two thirds of somebody's deadline."""
    models, started = Models(a=60.0), clock()
    for _ in range(FAILURES_TO_OPEN):
        models.health.failed("a", started - 100.0)
    served = await models.serve(0.3)
    assert served.arm.id == "b"
    assert clock() - started == pytest.approx(1 / 3 * 0.285)
    assert models.records[0].probe


async def test_a_rate_limit_cools_the_model_down() -> None:
    """The model stays away for as long as it asked, and no quality is lost."""
    limit = ProviderError("no", model="a", kind="rate_limited", retry_after_s=30.0)
    models, now = Models(a=limit), 0.0
    await calls(models, 20, clock=lambda: now)
    assert models.asked.count("a") == 1
    assert models.health.blocked(29.0)
    assert not models.health.blocked(30.0)


DOUBTFUL = [kind for kind, means in MEANINGS.items() if means.doubtful]


@pytest.mark.parametrize("kind", DOUBTFUL)
async def test_requests_that_nobody_answers_open_nothing(kind: str) -> None:
    """One user's bad requests do not take a model away from the others."""
    models = Models(a=kind, b=kind, c=kind)
    for _ in range(10):
        with pytest.raises(AllModelsFailed):
            await models.serve()
    assert models.asked.count("a") == 10
    assert not models.health.blocked(clock())


@pytest.mark.parametrize("kind", DOUBTFUL)
async def test_requests_that_only_one_model_refuses_open_it(kind: str) -> None:
    """Where another model answers what one refuses, the calls wasted on it stay few."""
    models = Models(a=kind)
    await calls(models, 50, clock=lambda: 0.0)
    assert models.asked.count("a") == FAILURES_TO_OPEN
    taught = [record.quality for record in models.records if record.model == "a"]
    assert taught == [MEANINGS[kind].quality] * FAILURES_TO_OPEN


async def test_blocked_models_are_listed_with_their_reasons() -> None:
    """The error says which models were not tried, and why."""
    models = Models(a="server_error", b="bad_request")
    models.health.rate_limited("a", clock(), 60.0)
    with pytest.raises(AllModelsFailed) as caught:
        await models.serve(arms=ARMS[:2])
    kinds = {a.model: (a.kind, a.cause) for a in caught.value.attempts}
    assert kinds["a"][0] == "blocked"
    assert "rate limited" in kinds["a"][1]
    assert kinds["b"][0] == "bad_request"


async def test_when_all_are_blocked_one_is_still_asked() -> None:
    """A request never fails without having asked anybody."""
    models = Models()
    for arm in ARMS:
        models.health.rate_limited(arm.id, clock(), 60.0)
    assert (await models.serve()).answer.data == "from a"


async def test_a_burst_of_failures_is_one_piece_of_news() -> None:
    """A hundred calls under way when a model dies teach three failures."""
    models = Models(a=0.01)

    async def fail(model: str, _prompt: Any) -> str:
        await asyncio.sleep(0.01)
        if model == "a":
            raise ConnectionError
        return "ok"

    models.executor = FunctionExecutor(fail)
    await asyncio.gather(*(models.serve() for _ in range(100)))
    assert [r.quality for r in models.records if r.model == "a"].count(0.0) == FAILURES_TO_OPEN
