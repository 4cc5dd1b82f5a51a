"""A key, a prompt and a response body never get out: in no repr, log, message or traceback."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest

from conduit.core.errors import ConduitError
from conduit.core.models import ModelArm
from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Call, Executor
from conduit.engines.executor.chain import AttemptRecord, run_chain, stream_chain
from conduit.engines.executor.health import ModelHealth
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

# Newer releases of PydanticAI warn of a provider that counts a negative number of tokens.
pytestmark = pytest.mark.filterwarnings("ignore:Failed to extract usage")

KEY = "sk-canary-0123456789abcdef"
PROMPT = "canary-prompt: how much is 872 * 54?"
ANSWER = "47088"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error with everything that hangs on it, shown by tracebacks or not."""
    while error is not None:
        yield error
        if error.__context__ is not None and error.__context__ is not error.__cause__:
            yield from causes(error.__context__)
        error = error.__cause__


def shown(error: BaseException) -> str:
    """Return all that an error can be made to say, but for what its reader was given already."""
    said = [*traceback.format_exception(error)]
    for cause in causes(error):
        kept = {name: value for name, value in vars(cause).items() if name != "partial"}
        said += [str(cause), repr(cause), repr(cause.args), repr(kept)]
    return "".join(said)


async def outcome(
    executor: Executor, arms: list[ModelArm], streamed: bool, **options: bool
) -> tuple[str, str]:
    """Return all that one request shows, of its failure and of its attempts."""
    records: list[AttemptRecord] = []
    call, health = Call(PROMPT, timeout_s=0.3, system_prompt=PROMPT), ModelHealth()
    said = ""
    try:
        if streamed:
            async with stream_chain(
                executor, arms, call, on_attempt=records.append, health=health, **options
            ) as stream:
                async for _piece in stream:
                    pass
        else:
            await run_chain(
                executor, arms, call, on_attempt=records.append, health=health, **options
            )
    except ConduitError as error:
        said = shown(error)
    return said, repr(records) + repr(executor) + repr(arms) + repr(call) + repr(health)


@pytest.mark.parametrize(
    "make", [PydanticAIExecutor, pytest.param(LiteLLMExecutor, marks=pytest.mark.litellm)]
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_failure_shows_a_key_or_a_prompt(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: type[PydanticAIExecutor] | type[LiteLLMExecutor],
    streamed: bool,
) -> None:
    """With DEBUG logging, through every misbehaviour, alone and with fallback."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    executor = make()
    async with LocalProvider([SimulatedModel("bad")], api_key=KEY) as provider:
        arms = [
            ModelArm("openai:bad", base_url=provider.base_url),
            ModelArm("openai:nobody", base_url=provider.base_url),
            ModelArm("openai:refused", base_url=provider.refused_url),
        ]
        for kind in FaultKind:
            provider.set_fault("bad", Fault(kind, delay_s=0.01))
            for fallback in (True, False):
                error, around = await outcome(executor, arms, streamed, fallback=fallback)
                assert KEY not in error + around
                assert "canary-prompt" not in error + around
                assert ANSWER not in error
        assert {row.has_authorization for row in provider.requests} == {True}
    await executor.close()
    ours = [r for r in caplog.records if r.name.startswith("conduit")]
    assert not [r for r in ours if "canary-prompt" in r.getMessage()]
    assert not [r for r in caplog.records if KEY in r.getMessage() + repr(r.args)]


async def test_a_wrong_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that prints the key in its refusal is not quoted."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    executor = PydanticAIExecutor()
    async with LocalProvider([SimulatedModel("good")], api_key="another") as provider:
        arm = ModelArm("openai:good", base_url=provider.base_url)
        error, around = await outcome(executor, [arm], False, fallback=False)
    assert "does not accept the key (status 401)" in error
    assert KEY not in error + around
    await executor.close()
