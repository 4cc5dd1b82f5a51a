"""Streams: fallback before the first piece, the truth after it, and nothing left open."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from conduit.core.errors import AllModelsFailed, ProviderError
from conduit.core.models import ModelArm, Response
from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import (
    Answer,
    AnswerStream,
    Call,
    Executor,
    FunctionExecutor,
    Pieces,
)
from conduit.engines.executor.chain import AttemptRecord, ChainStream, stream_chain
from conduit.engines.executor.health import ModelHealth
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider
from tests.engines.executor.conftest import arm_of
from tests.jumping import clock, jumping

ARMS = [ModelArm("a"), ModelArm("b")]


class Streams(FunctionExecutor):
    """Models whose streams fail after so many pieces: an error, or seconds of silence."""

    def __init__(self, **breaks: tuple[int, Exception | float]) -> None:
        super().__init__(lambda *_: "")
        self.breaks = breaks
        self.asked: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Yield one, two, three."""
        self.asked.append(arm.id)
        self.open += 1
        try:
            async with aclosing(self._counted(arm)) as pieces:
                yield Pieces(pieces)
        finally:
            self.open -= 1

    async def _counted(self, arm: ModelArm) -> AsyncGenerator[Any, None]:
        after, how = self.breaks.get(arm.id, (99, 0.0))
        for i, piece in enumerate(("one ", "two ", "three")):
            if i == after and isinstance(how, Exception):
                raise how
            if i == after and not isinstance(how, Exception):
                await asyncio.sleep(how)
            yield piece
        yield Answer(data="one two three", response=Response(model=arm.id))


def broken(kind: str = "connection") -> ProviderError:
    """Return the error of a stream that broke."""
    return ProviderError("no", model="a", kind=kind, partial="one ")


async def read(stream: ChainStream) -> list[str]:
    """Return all pieces."""
    return [piece async for piece in stream]


async def collect(
    into: list[str], executor: Executor, arms: Sequence[ModelArm], **options: Any
) -> None:
    """Keep each piece as it comes, so that they are there when the stream breaks."""
    call = Call("How much is 872 * 54?")
    async with stream_chain(executor, arms, call, **options) as stream:
        async for piece in stream:
            into.append(piece)


async def test_a_stream_is_read_to_its_answer() -> None:
    """The pieces, the answer and the model that gave them."""
    records: list[AttemptRecord] = []
    async with stream_chain(Streams(), ARMS, Call("?"), on_attempt=records.append) as stream:
        assert await read(stream) == ["one ", "two ", "three"]
        assert stream.answer.data == "one two three"
        assert stream.arm.id == "a"
    assert [(r.model, r.failure) for r in records] == [("a", None)]
    assert records[0].response is stream.answer.response


@jumping
@pytest.mark.parametrize("how", [broken(), 60.0])
async def test_before_the_first_piece_it_falls_back(how: Exception | float) -> None:
    """A model that fails or hangs before it says anything is replaced, unseen by the reader."""
    executor, records = Streams(a=(0, how)), []
    options: dict[str, Any] = {"deadline": clock() + 0.3, "clock": clock}
    async with stream_chain(
        executor, ARMS, Call("?"), on_attempt=records.append, **options
    ) as stream:
        assert executor.open == 1  # the stream that failed is closed already
        assert await read(stream) == ["one ", "two ", "three"]
    assert executor.asked == ["a", "b"]
    assert [(r.model, r.quality) for r in records] == [("a", 0.0), ("b", None)]


async def test_after_the_first_piece_it_raises_with_what_came() -> None:
    """A reader who has seen text gets an error, not the beginning of another answer."""
    executor, records = Streams(a=(1, broken())), []
    seen: list[str] = []
    with pytest.raises(ProviderError) as caught:
        await collect(seen, executor, ARMS, on_attempt=records.append)
    assert seen == ["one "]
    assert caught.value.partial == "one "
    assert executor.asked == ["a"]
    assert [(r.failure, r.quality) for r in records] == [("connection", 0.0)]
    assert executor.open == 0


async def test_when_no_stream_begins_all_attempts_are_listed() -> None:
    """`AllModelsFailed` comes before anything was yielded."""
    executor = Streams(a=(0, broken()), b=(0, broken("server_error")))
    with pytest.raises(AllModelsFailed) as caught:
        await collect([], executor, ARMS)
    assert [a.kind for a in caught.value.attempts] == ["connection", "server_error"]
    assert executor.open == 0


@jumping
async def test_the_deadline_holds_for_the_whole_stream() -> None:
    """A stream that falls silent is given up at the deadline."""
    executor, started = Streams(a=(2, 60.0)), clock()
    with pytest.raises(ProviderError) as caught:
        await collect([], executor, ARMS, deadline=started + 0.2, clock=clock)
    assert caught.value.kind == "timeout"
    assert 0.2 <= clock() - started <= 0.22


@jumping
@pytest.mark.parametrize(("reads_for_s", "blamed"), [(0.15, False), (0.02, True)])
async def test_a_slow_reader_is_no_fault_of_the_model(reads_for_s: float, blamed: bool) -> None:
    """Who takes most of the time for themselves meets the deadline, and the model is not blamed."""
    executor, health, records = Streams(a=(2, 60.0)), ModelHealth(failures_to_open=1), []
    limits: dict[str, Any] = {"deadline": clock() + 0.2, "clock": clock}

    async def read_slowly() -> None:
        async with stream_chain(
            executor, ARMS, Call("?"), health=health, on_attempt=records.append, **limits
        ) as stream:
            async for _ in stream:
                await asyncio.sleep(reads_for_s / 2)

    with pytest.raises(ProviderError, match="in time"):
        await read_slowly()
    assert [(r.failure, r.quality) for r in records] == [("timeout", 0.0 if blamed else None)]
    assert health.allows("a", clock()) is not blamed


class Stubborn(Streams):
    """A stream that fails once it is cancelled."""

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Say nothing until it is too late."""

        async def pieces() -> AsyncGenerator[Any, None]:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                raise broken() from None
            yield "never"

        async with aclosing(pieces()) as source:
            yield Pieces(source)


@jumping
async def test_what_fails_too_late_bothers_nobody() -> None:
    """The failure of a stream that was left behind is no complaint of the event loop."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    with pytest.raises(AllModelsFailed):
        await collect([], Stubborn(), ARMS, deadline=clock() + 0.2, clock=clock)
    await asyncio.sleep(1.0)
    gc.collect()
    assert complaints == []


async def leave(stream: ChainStream) -> None:
    """Read one piece and go."""
    async for _piece in stream:
        return


async def leave_by_error(stream: ChainStream) -> None:
    """Read one piece and fail."""
    await anext(aiter(stream))
    raise LookupError("the reader's own")


async def leave_cancelled(stream: ChainStream) -> None:
    """Read one piece and be cancelled."""
    await anext(aiter(stream))
    asyncio.current_task().cancel()  # type: ignore[union-attr]
    await asyncio.sleep(1.0)


LEAVING = [leave, leave_by_error, leave_cancelled]


@pytest.mark.parametrize("how", LEAVING)
async def test_leaving_teaches_nothing(how: Callable[[ChainStream], Awaitable[None]]) -> None:
    """A reader who has had enough says nothing about the model, however they go."""
    executor, health, records = Streams(), ModelHealth(), []

    async def reader() -> None:
        async with stream_chain(
            executor, ARMS, Call("?"), health=health, on_attempt=records.append
        ) as stream:
            await how(stream)

    await asyncio.gather(asyncio.create_task(reader()), return_exceptions=True)
    assert [(r.failure, r.quality) for r in records] == [("cancelled", None)]
    assert executor.open == 0
    assert health.allows("a", time.monotonic())


EXECUTORS = [PydanticAIExecutor, pytest.param(LiteLLMExecutor, marks=pytest.mark.litellm)]


@pytest.mark.parametrize("make", EXECUTORS)
@pytest.mark.parametrize("how", LEAVING)
async def test_the_connection_closes_when_the_reader_leaves(
    provider: LocalProvider,
    make: Callable[[], PydanticAIExecutor | LiteLLMExecutor],
    how: Callable[[ChainStream], Awaitable[None]],
) -> None:
    """The provider sees the client go before the answer is over, and bills no more tokens."""
    executor = make()

    async def reader() -> float:
        arm = arm_of(provider, "slow")
        try:
            async with stream_chain(executor, [arm], Call("Tell me a long story")) as stream:
                await how(stream)
        except LookupError:
            pass
        return time.time()

    (left_at,) = await asyncio.gather(asyncio.create_task(reader()), return_exceptions=True)
    left_at = left_at if isinstance(left_at, float) else time.time()
    async with asyncio.timeout(30.0):
        while provider.requests[0].client_disconnected_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert provider.requests[0].client_disconnected_at - left_at < 3.0  # of an answer of four
    assert provider.requests[0].output_tokens < 400
    await executor.close()


@pytest.mark.parametrize("make", EXECUTORS)
async def test_a_real_stream_that_breaks_raises_with_what_came(
    provider: LocalProvider, make: Callable[[], PydanticAIExecutor | LiteLLMExecutor]
) -> None:
    """Over HTTP, each way of breaking after the first token ends with the same typed error."""
    executor = make()
    for cut in ("reset", "close", "end"):
        provider.set_fault("good", Fault(FaultKind.CUT_AFTER_FIRST_TOKEN, cut=cut))
        pieces: list[str] = []
        with pytest.raises(ProviderError) as caught:
            await collect(pieces, executor, [arm_of(provider, "good")])
        assert pieces
        assert caught.value.partial == "".join(pieces)
    await executor.close()
