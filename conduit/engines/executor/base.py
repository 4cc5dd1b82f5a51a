"""What every executor takes and gives, and the one that calls a plain function."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from conduit.core.errors import (
    ExecutionError,
    InvalidInput,
    OutputInvalid,
    ProviderError,
    hold_counts,
    hold_strings,
)
from conduit.core.models import ModelArm, Response
from conduit.core.queries import without_surrogates
from conduit.engines.executor.asking import check_settings, prompt_of, several
from conduit.engines.executor.failures import ForeignError, meaning, translated

T = TypeVar("T")

DEFAULT_OUTPUT_RETRIES = 1  # how often a model is asked to mend an answer of the wrong form


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model, in words that every executor understands."""

    prompt: str | Sequence[Any] | None = field(repr=False)  # text, or parts: text, images, files
    result_type: Any = field(default=str, kw_only=True)
    message_history: Sequence[Any] = field(default=(), kw_only=True, repr=False)
    system_prompt: str | None = field(default=None, kw_only=True, repr=False)
    tools: Sequence[Any] = field(default=(), kw_only=True, repr=False)
    toolsets: Sequence[Any] = field(default=(), kw_only=True, repr=False)
    model_settings: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False)
    deps: Any = field(default=None, kw_only=True, repr=False)
    timeout_s: float | None = field(default=None, kw_only=True)
    output_retries: int = field(default=DEFAULT_OUTPUT_RETRIES, kw_only=True)
    # Under which the provider may keep the answer, and give it again without asking for money.
    idempotency_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Make its texts such as can be sent; refuse what no model can be asked."""
        # The name of a type: libraries take it for many things.
        if isinstance(self.result_type, str):
            raise unaskable("a type is needed, not the name of one")
        hold_strings(self, ("system_prompt", "idempotency_key"))
        hold_counts(self, ("output_retries",), required=True)
        check_settings(self.model_settings)
        system_prompt = self.system_prompt and without_surrogates(self.system_prompt)
        object.__setattr__(self, "system_prompt", system_prompt)
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        for name in ("message_history", "tools", "toolsets"):
            object.__setattr__(self, name, several(getattr(self, name), name, "a list"))

    @property
    def stands_alone(self) -> bool:
        """Return whether it is a prompt without tools and without a conversation before."""
        return self.prompt is not None and not (self.message_history or self.tools or self.toolsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What a model gave: the data in the form asked for, what it took, and the conversation."""

    data: T
    response: Response
    messages: Sequence[Any] = field(default=(), repr=False)
    replayable: bool = False  # the provider said that it keeps it under the call's idempotency key


class AnswerStream(Protocol):
    """An answer on its way: iterate over its pieces, then read `answer`.

    The pieces are text deltas where text was asked for, else ever more complete data.
    """

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the pieces as they come."""

    @property
    def answer(self) -> Answer[Any]:
        """Return the whole answer; only known once the pieces have ended."""


@runtime_checkable
class Executor(Protocol):
    """Calls one model; every failure is an `ExecutionError`, and nothing is tried twice.

    Only a cancellation, and what the caller's own tools raise, passes through as it is.
    """

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Return the answer of the model, within `call.timeout_s`."""

    def stream(self, arm: ModelArm, call: Call) -> AbstractAsyncContextManager[AnswerStream]:
        """Return the answer piece by piece; leaving the context closes the connection."""

    async def close(self) -> None:
        """Close the connections that this executor opened."""


class Pieces:
    """An `AnswerStream` over an async generator of pieces whose last item is the `Answer`."""

    def __init__(self, source: AsyncGenerator[Any, None]) -> None:
        """Take a generator that ends with an `Answer`."""
        self._source = source
        self._answer: Answer[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return itself: the pieces come once."""
        return self

    async def __anext__(self) -> Any:
        """Return the next piece; keep the answer that follows the last one."""
        async for piece in self._source:
            if not isinstance(piece, Answer):
                return piece
            self._answer = piece
        raise StopAsyncIteration

    @property
    def answer(self) -> Answer[Any]:
        """Return the whole answer."""
        if self._answer is None:
            raise RuntimeError("the answer is known once the pieces of the stream have ended")
        return self._answer


def unaskable(why: object) -> InvalidInput:
    """Return the error of a call that no model can be asked, so that none has failed."""
    words = f"this result_type, or these tools, cannot be asked for: {why}"
    return InvalidInput(words, field="result_type")


def environment_key(arm: ModelArm) -> str | None:
    """Return the key of the provider that the arm's id names: OPENAI_API_KEY for `openai:…`."""
    provider = arm.provider
    return os.environ.get(f"{provider.upper().replace('-', '_')}_API_KEY") if provider else None


def timed_out(model: str, timeout_s: float | None, *, partial: object = None) -> ProviderError:
    """Return the error of a model that took longer than it was given."""
    within = "" if timeout_s is None else f" (within {timeout_s:.3g} s)"
    failure = ProviderError(
        f"{model} {meaning('timeout').words}{within}", model=model, kind="timeout", partial=partial
    )
    failure.__cause__ = ForeignError("TimeoutError")
    return failure


async def guarded(work: Awaitable[T], translate: Callable[[Exception], Exception]) -> T:
    """Await the work; raise what `translate` makes of a failure, away from the vendor's frames.

    Those frames, and the vendor's own words in the context, may hold a key or the prompt.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001  raised below, where it has no context
        failure = translate(error)
    raise forgetting(failure)


def forgetting(error: Exception) -> Exception:
    """Return the error; one of ours without the frames and the context of a vendor's code."""
    if isinstance(error, ExecutionError):
        error.__context__ = error.__traceback__ = None
    return error


Returned = Any  # text, data in the form asked for, or an `Answer`
Function = Callable[[str, Any], Returned]


class FunctionExecutor:
    """Answers with what a function returns; for tests, examples and models of one's own.

    The function takes the model's id and the prompt, and returns (or awaits) text, data, or an
    `Answer` when it also knows tokens and cost. A plain function is called in a thread, so that one
    that waits holds up neither other calls nor its own deadline; it may be in several at once.

    >>> import asyncio
    >>> executor = FunctionExecutor(lambda model, prompt: f"{model} heard {prompt}")
    >>> asyncio.run(executor.execute(ModelArm("m"), Call("hello"))).data
    'm heard hello'
    """

    def __init__(self, function: Function) -> None:
        """Take the function that plays all models."""
        self._function = function

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Return what the function gave, validated as the result type."""
        started = time.perf_counter()
        limit = asyncio.timeout(call.timeout_s)

        async def returned() -> Any:
            async with limit:
                if inspect.iscoroutinefunction(self._function):
                    return await self._function(arm.id, call.prompt)
                value = await asyncio.to_thread(self._function, arm.id, call.prompt)
                return await value if inspect.isawaitable(value) else value

        def ours(error: Exception) -> Exception:
            if isinstance(error, ExecutionError):
                return error
            if isinstance(error, TimeoutError) and limit.expired():
                return timed_out(arm.id, call.timeout_s)
            if isinstance(error, InvalidInput):  # a measurement of its `Response` that is none
                words = f"{arm.id} {meaning('malformed').words} ({error})"
                return ProviderError(words, model=arm.id, kind="malformed")
            return translated(error, arm.id, now=time.time())

        value = await guarded(returned(), ours)
        return _answer(arm, call, value, time.perf_counter() - started)

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Return the same answer word by word, or whole where it is not text."""
        async with aclosing(self._pieces(arm, call)) as pieces:
            yield Pieces(pieces)

    async def _pieces(self, arm: ModelArm, call: Call) -> AsyncGenerator[Any, None]:
        started = time.perf_counter()
        answer = await self.execute(arm, call)
        first_s = time.perf_counter() - started
        text = answer.data if isinstance(answer.data, str) else None
        for piece in re.findall(r"\s*\S+|\s+$", text) if text is not None else [answer.data]:
            yield piece
        latency_s = time.perf_counter() - started
        response = replace(answer.response, time_to_first_token_s=first_s, latency_s=latency_s)
        yield replace(answer, response=response)

    async def close(self) -> None:
        """Do nothing: a function holds no connection."""


def _answer(arm: ModelArm, call: Call, returned: Any, latency_s: float) -> Answer[Any]:
    if isinstance(returned, Answer):
        if returned.response.latency_s is not None:
            return returned
        return replace(returned, response=replace(returned.response, latency_s=latency_s))
    text = returned if isinstance(returned, str) else None
    response = Response(model=arm.id, text=text, latency_s=latency_s, output_valid=True)
    try:
        data = validated(returned, call.result_type)
    except ValidationError as error:
        failure = OutputInvalid(f"{arm.id} {meaning('invalid_output').words}", model=arm.id)
        failure.response = replace(response, output_valid=False)
        raise failure from ForeignError(type(error).__name__)
    return Answer(data=data, response=response)


def validated(value: Any, result_type: Any) -> Any:
    """Return a value (or the JSON of one) as the result type, or raise pydantic's error."""
    if result_type is str and isinstance(value, str):
        return value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(result_type)
    except PydanticUserError as error:
        raise unaskable(error) from None
    if isinstance(value, str | bytes):
        try:
            return adapter.validate_json(value)
        except ValidationError:
            return adapter.validate_python(value)
    return adapter.validate_python(value)
