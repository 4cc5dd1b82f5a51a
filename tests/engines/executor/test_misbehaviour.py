"""Every misbehaviour of a provider, over real HTTP, streamed or not, with fallback or without."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from conduit.core.errors import ConduitError, ExecutionError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.chain import AttemptRecord, run_chain, stream_chain
from conduit.engines.executor.health import ModelHealth
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel
from tests.engines.executor.conftest import arm_of

# Newer releases of PydanticAI warn of a provider that counts a negative number of tokens.
pytestmark = pytest.mark.filterwarnings("ignore:Failed to extract usage")

REQUESTS = 4
LATE_S = 5.0  # on a machine that others use; `benchmarks/service.py` has the milliseconds
# Each request takes all the time it is given, and a second model needs some of it to answer.
HANGS = {FaultKind.HANG, FaultKind.HANG_IN_BODY}
HANGING_S = {True: 2.4, False: 0.3}  # with fallback, and without
HANGING_REQUESTS = 2
PROMPT = "How much is 872 * 54?"
REFUSED = "refused"
MISBEHAVIOURS = [*FaultKind, REFUSED]
# What still gives an answer: late, short, or without a bill.
ANSWERED = {
    FaultKind.SLOW_HEADERS, FaultKind.NO_USAGE, FaultKind.NEGATIVE_USAGE, FaultKind.LENGTH,
}  # fmt: skip
# Streams that break after their first token cannot fall back any more.
BREAKS_LATE = {
    FaultKind.HANG_IN_BODY, FaultKind.CUT_AFTER_FIRST_TOKEN, FaultKind.ERROR_IN_BODY,
}  # fmt: skip


class Requests:
    """Some requests to a provider whose first model misbehaves, and how each of them ended."""

    def __init__(self, provider: LocalProvider, executor: Executor, misbehaviour: str) -> None:
        self.provider, self.executor = provider, executor
        self.health = ModelHealth()
        self.misbehaviour, self.deadline_s = misbehaviour, 10.0
        self.attempts: list[list[AttemptRecord]] = []
        self.responses: list[Response] = []
        self.errors: list[BaseException] = []
        self.took_s: list[float] = []
        bad = arm_of(provider, "good")
        if misbehaviour == REFUSED:
            bad = ModelArm(bad.id, base_url=provider.refused_url)
        else:
            provider.set_fault("good", Fault(FaultKind(misbehaviour), delay_s=0.05))
        self.arms = [bad, arm_of(provider, "cheap")]

    async def send(self, *, streamed: bool, fallback: bool) -> None:
        """Send the requests, one after the other."""
        hangs = self.misbehaviour in HANGS
        if hangs:
            self.deadline_s = HANGING_S[fallback]
        for _ in range(HANGING_REQUESTS if hangs else REQUESTS):
            self.attempts.append([])
            started = time.monotonic()
            options: dict[str, Any] = {
                "deadline": started + self.deadline_s,
                "health": self.health,
                "on_attempt": self.attempts[-1].append,
                "fallback": fallback,
            }
            try:
                self.responses.append(await self._one(streamed, options))
            except Exception as error:
                self.errors.append(error)
                if not isinstance(error, ConduitError):
                    raise
            self.took_s.append(time.monotonic() - started)

    async def _one(self, streamed: bool, options: dict[str, Any]) -> Response:
        call = Call(PROMPT)
        if not streamed:
            return (await run_chain(self.executor, self.arms, call, **options)).answer.response
        async with stream_chain(self.executor, self.arms, call, **options) as stream:
            async for _piece in stream:
                pass
            return stream.answer.response


@pytest.fixture(
    params=[PydanticAIExecutor, pytest.param(LiteLLMExecutor, marks=pytest.mark.litellm)],
    ids=["pydantic_ai", "litellm"],
)
async def executor(request: pytest.FixtureRequest) -> AsyncIterator[Executor]:
    """Give each executor that speaks HTTP."""
    make: Callable[[], Executor] = request.param
    executor = make()
    await warm(executor)
    yield executor
    await executor.close()


async def warm(executor: Executor) -> None:
    """Let the libraries load what they load at the first call; that is not what is timed here."""
    async with LocalProvider([SimulatedModel("warm")]) as provider:
        arm = ModelArm("warm", base_url=provider.base_url)
        await executor.execute(arm, Call(PROMPT))
        async with executor.stream(arm, Call(PROMPT)) as stream:
            async for _piece in stream:
                pass


@pytest.mark.parametrize("fallback", [True, False], ids=["fallback", "alone"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS)
async def test_no_misbehaviour_gets_out_of_hand(
    provider: LocalProvider,
    executor: Executor,
    misbehaviour: str,
    streamed: bool,
    fallback: bool,
) -> None:
    """Only typed errors, in time, with few calls, and no bill of $0.

    With fallback every request is answered, by another model, unless its stream broke too late.
    """
    requests = Requests(provider, executor, misbehaviour)
    await requests.send(streamed=streamed, fallback=fallback)

    assert all(isinstance(error, ExecutionError) for error in requests.errors)
    assert max(requests.took_s) <= requests.deadline_s + LATE_S
    assert len(provider.requests) <= 1.2 * len(requests.took_s) + 3
    for attempts in requests.attempts:
        models = [record.model for record in attempts]
        assert len(set(models)) == len(models)
    responses = [r.response for attempts in requests.attempts for r in attempts if r.response]
    assert all(r.cost_usd is None or r.cost_usd > 0.0 for r in responses)
    if fallback and not (streamed and misbehaviour in BREAKS_LATE):
        assert requests.errors == []
    if misbehaviour in ANSWERED:
        assert requests.errors == []
        assert {r.model for r in requests.responses} == {"good"}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("misbehaviour", [FaultKind.NO_USAGE, FaultKind.NEGATIVE_USAGE])
async def test_a_bill_without_numbers_is_unknown(
    provider: LocalProvider, executor: Executor, misbehaviour: FaultKind, streamed: bool
) -> None:
    """Tokens that are missing or negative are None, and so is their price."""
    requests = Requests(provider, executor, misbehaviour)
    await requests.send(streamed=streamed, fallback=True)
    for response in requests.responses:
        assert response.cost_usd is None
        assert response.input_tokens is None
        assert response.output_tokens is None


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
async def test_retry_after_is_obeyed(
    provider: LocalProvider, executor: Executor, as_date: bool
) -> None:
    """A model that asks for time is left alone, whichever way it says so, and loses nothing."""
    requests = Requests(provider, executor, FaultKind.RATE_LIMITED)
    provider.set_fault(
        "good",
        Fault(FaultKind.RATE_LIMITED, retry_after_s=30.0, retry_after_as_date=as_date),
    )
    await requests.send(streamed=False, fallback=True)
    assert provider.calls_by_model == {"good": 1, "cheap": REQUESTS}
    assert requests.attempts[0][0].quality is None
    now = time.monotonic()
    assert not requests.health.allows("good", now + 25.0)
    assert requests.health.allows("good", now + 32.0)
