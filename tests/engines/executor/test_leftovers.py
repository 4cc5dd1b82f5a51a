"""What an attempt goes on doing after its time is over keeps nobody from an answer."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, ProviderError
from conduit.core.models import ModelArm
from conduit.engines.executor.base import Call, FunctionExecutor
from conduit.engines.executor.chain import run_chain, stream_chain
from conduit.engines.executor.leftovers import Leftovers
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.testing import LocalProvider
from tests.engines.executor.conftest import arm_of

LONG_S = 5.0  # against a deadline of a fraction of a second
ARMS = [ModelArm("deaf"), ModelArm("quick")]


async def test_an_executor_that_ignores_its_cancellation_is_left_behind() -> None:
    """The next model answers in time, while the first goes on and has an owner."""
    ended = asyncio.Event()

    async def function(model: str, prompt: Any) -> str:
        if model == "quick":
            return "here"
        while not ended.is_set():  # tidies up for as long as it likes
            with suppress(asyncio.CancelledError):
                await ended.wait()
        return "too late"

    leftovers, began = Leftovers(), time.monotonic()
    served = await run_chain(
        FunctionExecutor(function),
        ARMS,
        Call("?"),
        deadline=began + 0.5,
        leftovers=leftovers,
    )
    assert served.arm.id == "quick"
    assert time.monotonic() - began < LONG_S / 2
    assert len(leftovers) == 1
    ended.set()
    await leftovers.close()
    assert len(leftovers) == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_in_a_thread_does_not_hold_up_the_deadline(
    provider: LocalProvider, streamed: bool
) -> None:
    """A plain function as a tool cannot be interrupted, and nobody waits for it."""
    go_on, ended = threading.Event(), threading.Event()

    def slow(number: int) -> str:
        """Take a while."""
        go_on.wait(10 * LONG_S)
        ended.set()
        return "done"

    executor, leftovers = PydanticAIExecutor(), Leftovers()
    arm = arm_of(provider, "handy")
    await executor.execute(arm, Call("hello"))  # the libraries load what they load
    call = Call("Use the tool slow.", tools=[slow])
    limits: Any = {"deadline": time.monotonic() + 0.4, "leftovers": leftovers}

    async def read() -> None:
        async with stream_chain(executor, [arm], call, **limits) as stream:
            async for _piece in stream:
                pass

    with pytest.raises((ProviderError, AllModelsFailed)):
        await (read() if streamed else run_chain(executor, [arm], call, **limits))
    assert not ended.is_set()
    go_on.set()
    await leftovers.close()
    assert len(leftovers) == 0
    await executor.close()


async def test_a_caller_who_leaves_takes_the_call_along() -> None:
    """Cancelling the caller cancels the attempt, and waits until it has let go."""
    let_go = False

    async def function(model: str, prompt: Any) -> str:
        nonlocal let_go
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await asyncio.sleep(0)
            let_go = True
        return "too late"

    call = run_chain(
        FunctionExecutor(function), ARMS, Call("?"), deadline=time.monotonic() + LONG_S
    )
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert let_go
