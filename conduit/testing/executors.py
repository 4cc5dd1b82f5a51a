"""The contract of an executor: every implementation passes these tests.

A subclass of `ExecutorContract` in a test module provides one fixture, `world`, with an executor
and a model whose conduct the test decides; pytest collects the rest:

    class TestMyExecutor(ExecutorContract):
        @pytest.fixture
        async def world(self) -> AsyncIterator[ExecutorWorld]:
            async with LocalProvider(...) as provider:
                yield MyWorld(MyExecutor(), provider)
"""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pytest
from pydantic import BaseModel, TypeAdapter

from conduit.core.errors import ExecutionError, InvalidInput, OutputInvalid, ProviderError
from conduit.core.models import ModelArm
from conduit.engines.executor.base import Call, Executor

Conduct = Literal["answers", "fails", "hangs", "talks nonsense"]

PROMPT = "Say something about [[marker:canary-prompt]]"
LATE_S = 3.0  # after its timeout an executor must have given up, on a machine others use too


class Reply(BaseModel):
    """A pydantic model that the contract asks for."""

    answer: str


@dataclass
class Named:
    """A dataclass that the contract asks for."""

    answer: str


class ExecutorWorld(Protocol):
    """An executor, and a model that does what the test says."""

    @property
    def executor(self) -> Executor:
        """Return the executor under test."""

    @property
    def arm(self) -> ModelArm:
        """Return the model; it repeats the markers of a prompt."""

    def let_it(self, conduct: Conduct) -> None:
        """Decide what the model does from now on; nonsense is an answer of the wrong form."""


class ExecutorContract:
    """What every executor promises; the subclass provides the fixture `world`."""

    # Answers

    async def test_a_text_comes_with_its_response(self, world: ExecutorWorld) -> None:
        """An answer holds text, and says which model gave it and how long that took."""
        answer = await world.executor.execute(world.arm, Call(PROMPT))
        assert "canary-prompt" in answer.data
        response = answer.response
        assert response.model == world.arm.id
        assert response.output_valid is True
        assert response.latency_s is not None
        assert response.latency_s > 0.0
        assert response.cost_usd is None or response.cost_usd > 0.0

    @pytest.mark.parametrize("result_type", [Reply, Named, Reply | int])
    async def test_data_comes_in_the_form_asked_for(
        self, world: ExecutorWorld, result_type: type
    ) -> None:
        """A pydantic model, a dataclass and a union are validated."""
        answer = await world.executor.execute(world.arm, Call(PROMPT, result_type=result_type))
        TypeAdapter(result_type).validate_python(answer.data)
        assert not isinstance(answer.data, str | dict)

    async def test_an_answer_of_the_wrong_form_is_an_error(self, world: ExecutorWorld) -> None:
        """`OutputInvalid` says how often the model was asked to mend its answer."""
        world.let_it("talks nonsense")
        with pytest.raises(OutputInvalid) as caught:
            await world.executor.execute(
                world.arm, Call(PROMPT, result_type=Reply, output_retries=1)
            )
        assert caught.value.model == world.arm.id
        assert caught.value.retries <= 1

    @pytest.mark.parametrize("no_type", ["Reply", 5])
    async def test_what_is_no_type_is_the_callers_mistake(
        self, world: ExecutorWorld, no_type: Any
    ) -> None:
        """No model is blamed for a form that none can be asked for."""
        with pytest.raises(InvalidInput, match="cannot be asked for"):
            await world.executor.execute(world.arm, Call(PROMPT, result_type=no_type))

    async def test_concurrent_calls_do_not_mix(self, world: ExecutorWorld) -> None:
        """Fifty calls at once each get the answer to their own prompt."""
        prompts = [f"Repeat [[marker:m{i}]]" for i in range(50)]
        calls = [world.executor.execute(world.arm, Call(prompt)) for prompt in prompts]
        answers = await asyncio.gather(*calls)
        assert [f"[[marker:m{i}]]" in a.data for i, a in enumerate(answers)] == [True] * 50

    # Failures

    async def test_a_failure_is_ours_and_keeps_secrets(self, world: ExecutorWorld) -> None:
        """A failing model raises `ProviderError` that shows neither prompt nor foreign context."""
        world.let_it("fails")
        with pytest.raises(ProviderError) as caught:
            await world.executor.execute(world.arm, Call(PROMPT))
        assert caught.value.model == world.arm.id
        assert caught.value.__context__ is None
        assert "canary-prompt" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_a_timeout_is_kept(self, world: ExecutorWorld, streamed: bool) -> None:
        """A model that hangs is given up at `timeout_s`, however long it would go on."""
        world.let_it("hangs")
        started = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            await _ask(world, Call(PROMPT, timeout_s=0.3), streamed)
        assert caught.value.kind == "timeout"
        assert 0.29 <= time.monotonic() - started <= 0.3 + LATE_S

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_a_cancellation_passes_through(
        self, world: ExecutorWorld, streamed: bool
    ) -> None:
        """A cancelled call raises `CancelledError` and nothing else."""
        world.let_it("hangs")
        task = asyncio.create_task(_ask(world, Call(PROMPT), streamed))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # Streams

    async def test_the_pieces_of_a_text_are_the_text(self, world: ExecutorWorld) -> None:
        """Text deltas add up to the data, which is known once they have ended."""
        async with world.executor.stream(world.arm, Call(PROMPT)) as stream:
            with pytest.raises(RuntimeError):
                _ = stream.answer
            pieces = [piece async for piece in stream]
            answer = stream.answer
        assert "".join(pieces) == answer.data
        assert answer.response.time_to_first_token_s is not None
        assert answer.response.latency_s is not None
        assert 0.0 < answer.response.time_to_first_token_s <= answer.response.latency_s

    async def test_the_last_piece_of_data_is_the_data(self, world: ExecutorWorld) -> None:
        """Partial data becomes complete data, of the type that was asked for."""
        async with world.executor.stream(world.arm, Call(PROMPT, result_type=Reply)) as stream:
            pieces = [piece async for piece in stream]
            assert pieces[-1] == stream.answer.data
        assert isinstance(pieces[-1], Reply)

    async def test_a_stream_that_fails_raises_ours(self, world: ExecutorWorld) -> None:
        """A model that fails before the first piece raises `ProviderError`."""
        world.let_it("fails")
        with pytest.raises(ProviderError):
            await _ask(world, Call(PROMPT), streamed=True)

    async def test_a_stream_may_be_left(self, world: ExecutorWorld) -> None:
        """Leaving after the first piece is no error, and the executor goes on working."""
        async with world.executor.stream(world.arm, Call(PROMPT)) as stream:
            async for _piece in stream:
                break
        assert (await world.executor.execute(world.arm, Call(PROMPT))).data

    async def test_the_error_of_the_reader_passes_through(self, world: ExecutorWorld) -> None:
        """What the body of the `async with` raises comes out as it is."""
        with pytest.raises(LookupError, match="mine"):
            await _read_and_raise(world)

    # Life

    async def test_closing_is_not_final(self, world: ExecutorWorld) -> None:
        """`close` may be called twice; a later call opens what it needs."""
        await world.executor.execute(world.arm, Call(PROMPT))
        await world.executor.close()
        await world.executor.close()
        assert (await world.executor.execute(world.arm, Call(PROMPT))).data

    async def test_nothing_private_is_shown(self, world: ExecutorWorld) -> None:
        """Neither the executor nor a call shows the prompt in its repr."""
        call = Call(PROMPT, system_prompt=PROMPT, model_settings={"extra_headers": PROMPT})
        assert "canary" not in repr(call) + repr(world.executor)

    async def test_it_recovers(self, world: ExecutorWorld) -> None:
        """After a failure the next call works."""
        world.let_it("fails")
        with pytest.raises(ExecutionError):
            await world.executor.execute(world.arm, Call(PROMPT))
        world.let_it("answers")
        assert (await world.executor.execute(world.arm, Call(PROMPT))).data


async def _ask(world: ExecutorWorld, call: Call, streamed: bool) -> object:
    if not streamed:
        return await world.executor.execute(world.arm, call)
    async with world.executor.stream(world.arm, call) as stream:
        return [piece async for piece in stream]


async def _read_and_raise(world: ExecutorWorld) -> None:
    async with world.executor.stream(world.arm, Call(PROMPT)) as stream:
        async for _piece in stream:
            raise LookupError("mine")
