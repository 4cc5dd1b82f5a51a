"""Calls models through PydanticAI: typed output, tools, history, files, usage and cost."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from ssl import SSLContext
from typing import Any

# Loaded here is what no request then has to wait for: 0.9 s in all.
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
from openai.resources.chat import AsyncChat, AsyncCompletions  # noqa: F401
from pydantic import PydanticUserError
from pydantic_ai import Agent, capture_run_messages
from pydantic_ai.exceptions import (
    ContentFilterError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.result import StreamedRunResult
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from conduit.catalogue.models import PROVIDER_SPELLINGS, canonical_id
from conduit.catalogue.pricing import load_prices
from conduit.core.errors import ExecutionError, OutputInvalid
from conduit.core.models import ModelArm, Response
from conduit.engines.executor.asking import unusable
from conduit.engines.executor.base import (
    Answer,
    AnswerStream,
    Call,
    Pieces,
    environment_key,
    forgetting,
    guarded,
    timed_out,
    unaskable,
)
from conduit.engines.executor.failures import ForeignError, described, meaning, translated
from conduit.engines.executor.homes import Homes
from conduit.engines.executor.metering import IDEMPOTENCY, CompatibleModel, Metered, cut_off
from conduit.engines.executor.readings import Readings, read, response_of
from conduit.engines.executor.single import TEXT, Form
from conduit.engines.executor.sizes import requests_of
from conduit.engines.executor.vocabulary import check

# OpenAI's HTTP library: httpx, or httpx2 from one of its releases on.
_HTTPX = next(
    base.__module__.partition(".")[0]
    for base in DefaultAsyncHttpxClient.__mro__
    if base.__name__ == "AsyncClient"
)
for _loaded_at_first_call in (_HTTPX.replace("httpx", "httpcore"), "anyio._backends._asyncio"):
    with suppress(ImportError):  # nobody promises that it stays there
        import_module(_loaded_at_first_call)

MAX_AGENTS = 64  # kept, each with the schemas of one result type and one set of tools
PARTIAL_EVERY_S = 0.1  # validating partial data at every token is quadratic in its length
NO_KEY = "not-set"  # OpenAI's client wants a key even where the server does not


def pydantic_ai_name(arm: ModelArm) -> str:
    """Return the arm's model as PydanticAI names it, `provider:name`.

    >>> pydantic_ai_name(ModelArm("gpt-4o-mini")), pydantic_ai_name(ModelArm("groq/some-model"))
    ('openai:gpt-4o-mini', 'groq:some-model')
    """
    if _names_provider(arm.id):
        return arm.id
    name = canonical_id(arm.id)
    for mark in (":", "/"):
        prefix, found, rest = name.partition(mark)
        if found and prefix in PROVIDER_SPELLINGS:
            return f"{PROVIDER_SPELLINGS[prefix]}:{rest}"
    return name


def _names_provider(model_id: str) -> bool:
    prefix, mark, _rest = model_id.partition(":")
    try:
        return bool(mark) and infer_provider_class(prefix) is not None
    except ValueError:
        return False
    except ImportError:
        return True  # it is known, only its library is not here


@dataclass(slots=True)
class _Kept:
    """An agent for one form of call, and what it asks for where one request is enough."""

    agent: Agent[Any, Any]
    meant: Any  # what the ids in its key stand for
    form: Form | None = None  # once it was seen to ask


@dataclass(slots=True)
class _Connections:
    """What one event loop has opened."""

    models: dict[tuple[str, str | None], Model[Any]] = field(default_factory=dict)
    providers: dict[tuple[str, str | None], Provider[Any]] = field(default_factory=dict)
    clients: list[AsyncOpenAI] = field(default_factory=list)


class PydanticAIExecutor:
    """Calls any model that PydanticAI knows, and any server that speaks OpenAI's protocol.

    `arm.model` may be a PydanticAI `Model` of one's own; `arm.base_url` an OpenAI-compatible
    server. Connections are shared per event loop, provider and address, and live until `close()`.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[ModelArm], str] = pydantic_ai_name,
        api_key: Callable[[ModelArm], str | None] = environment_key,
    ) -> None:
        """Take how an arm's model is named, and the key for an arm with a `base_url`.

        What the first request would have to load is loaded now: its time is the caller's.
        """
        load_prices()
        _tls()
        self._resolve = resolve
        self._api_key = api_key
        self._homes = Homes(_Connections)
        self._replayable: set[str] = set()  # idempotency keys that came back
        self._agents: OrderedDict[Any, _Kept] = OrderedDict()

    def __repr__(self) -> str:
        """Show no address and no key."""
        return "PydanticAIExecutor()"

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Return the answer of the model, within `call.timeout_s`."""
        check(call)
        run = _Run(arm, call)
        return await guarded(self._answered(run), run.ours)

    async def _answered(self, run: _Run) -> Answer[Any]:
        async with run.limited():
            form = self._form(run.call)
            if form is not None and (answer := await self._at_once(run, form)) is not None:
                return answer
            kept, arguments = self._prepared(run)
            with run.captured():
                result = await kept.agent.run(run.call.prompt, **arguments)
        if run.metered is not None and run.call.stands_alone:
            kept.form = kept.form or Form.of(run.call.result_type, run.metered.parameters)
        return run.answer(result, result.output)

    def _form(self, call: Call) -> Form | None:
        """Return what one request may ask for; of data, what an agent asked for before."""
        if not call.stands_alone:
            return None
        if call.result_type is str:
            return TEXT
        kept = self._agents.get(_key(call))
        return None if kept is None else kept.form

    async def _at_once(self, run: _Run, form: Form) -> Answer[Any] | None:
        """Return the answer of one request; None leaves the response to an agent."""
        model = self._metered(run)
        request, response = await form.ask(model, run.call, _settings(run.call))
        found = form.read(response)
        if found is None:
            model.first = response
            return None
        data, more = found
        return run.read(data, [request, response, *more], Readings())

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Return the answer piece by piece; leaving the context closes the connection."""
        check(call)
        run = _Run(arm, call)
        try:
            async with AsyncExitStack() as stack:
                source = await guarded(self._opened(run, stack), run.ours)
                pieces = await stack.enter_async_context(aclosing(run.pieces(source)))
                yield Pieces(pieces)
        except ExecutionError as error:
            forgetting(error)  # it has passed through the agent's task groups
            raise

    async def _opened(self, run: _Run, stack: AsyncExitStack) -> StreamedRunResult[Any, Any]:
        async with run.limited():
            kept, arguments = self._prepared(run)
            opened = kept.agent.run_stream(run.call.prompt, **arguments)
            with run.captured():
                return await stack.enter_async_context(opened)

    async def close(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
        left = self._homes.leave()
        if left is None:
            return
        async with AsyncExitStack() as each:
            for provider in left.providers.values():
                # leaving a provider closes the client that it made itself
                await each.enter_async_context(provider)
            for client in left.clients:
                each.push_async_callback(client.close)

    def _prepared(self, run: _Run) -> tuple[_Kept, dict[str, Any]]:
        call = run.call
        return self._agent(call), {
            "model": run.metered or self._metered(run),
            "message_history": call.message_history or None,
            "instructions": call.system_prompt,
            "model_settings": _settings(call),
            "usage_limits": UsageLimits(request_limit=requests_of(call)),
            "toolsets": call.toolsets or None,
            "deps": call.deps,
            "infer_name": False,
        }

    def _metered(self, run: _Run) -> Metered:
        model = self.model(run.arm)
        return run.begun(Metered(model, run.arm, run.call.idempotency_key, self._replayable))

    def _agent(self, call: Call) -> _Kept:
        """Return an agent for this form of call, made once."""
        key = _key(call)
        if key in self._agents:
            self._agents.move_to_end(key)
            return self._agents[key]
        kept = self._agents[key] = _Kept(_agent_for(call), (call.result_type, tuple(call.tools)))
        if len(self._agents) > MAX_AGENTS:
            self._agents.popitem(last=False)
        return kept

    def model(self, arm: ModelArm) -> Model[Any]:
        """Return the PydanticAI model of an arm, made once."""
        if arm.model is not None:
            return infer_model(arm.model)
        key, models = (arm.id, arm.base_url), self._homes.here().models
        if key not in models:
            models[key] = self._built(arm)
        return models[key]

    def _built(self, arm: ModelArm) -> Model[Any]:
        name = self._resolve(arm)
        try:
            if arm.base_url is not None:
                return self._compatible(arm, arm.base_url, name)
            return infer_model(name, provider_factory=self._provider)
        except ImportError as error:
            raise unusable(arm, name, "not_installed", error) from None
        except (UserError, OpenAIError) as error:
            kind = "auth" if ":" in name else "not_found"
            raise unusable(arm, name, kind, error) from None
        except ValueError as error:
            raise unusable(arm, name, "not_found", error) from None

    def _compatible(self, arm: ModelArm, base_url: str, name: str) -> Model[Any]:
        """Return a model of a server that speaks OpenAI's chat completions."""
        key, providers = (arm.provider or "", base_url), self._homes.here().providers
        if key not in providers:
            client = self._client(base_url=base_url, api_key=self._api_key(arm) or NO_KEY)
            providers[key] = OpenAIProvider(openai_client=client)
        model_name = name.partition(":")[2] if _names_provider(name) else arm.id
        return CompatibleModel(model_name, provider=providers[key])

    def _provider(self, name: str) -> Provider[Any]:
        """Return a provider whose client never retries by itself, made once."""
        key, providers = (name, None), self._homes.here().providers
        if key not in providers:
            if name in ("openai", "openai-chat", "openai-responses"):
                provider: Provider[Any] = OpenAIProvider(openai_client=self._client())
            else:
                provider = infer_provider(name)
            _forbid_retries(provider.client)
            providers[key] = provider
        return providers[key]

    def _client(self, **arguments: Any) -> AsyncOpenAI:
        hooks = {"response": [self._note_key]}
        http = DefaultAsyncHttpxClient(verify=_tls(), event_hooks=hooks)
        client = AsyncOpenAI(max_retries=0, http_client=http, **arguments)
        self._homes.here().clients.append(client)
        return client

    async def _note_key(self, response: Any) -> None:
        """Note that a provider keeps an answer, which it says by sending the key back."""
        key = response.request.headers.get(IDEMPOTENCY)
        if key is not None and response.headers.get(IDEMPOTENCY) == key:
            self._replayable.add(key)


@cache
def _tls() -> SSLContext:
    """Return what all clients check certificates by: reading the authorities takes 0.1 s."""
    context: SSLContext = import_module(_HTTPX).create_ssl_context()
    return context


def _forbid_retries(client: Any) -> None:
    """Let a vendor's client send each request once; whether to try again is the chain's business.

    OpenAI's, Anthropic's and Groq's take it as an attribute; Cohere's and Amazon's only when they
    are made, which PydanticAI does for us. Google's, Mistral's and Hugging Face's never retry.
    """
    if hasattr(client, "max_retries"):
        client.max_retries = 0
    if (wrapper := getattr(client, "_client_wrapper", None)) is not None:
        wrapper.httpx_client.base_max_retries = 0
    if hasattr(client, "meta"):
        events, service = client.meta.events, "bedrock-runtime"
        events.unregister(f"needs-retry.{service}", unique_id=f"retry-config-{service}")


def _agent_for(call: Call) -> Agent[Any, Any]:
    try:
        return Agent(
            output_type=call.result_type,
            tools=call.tools,
            retries={"output": _retries(call)},
            name="conduit",
        )
    except (UserError, PydanticUserError) as error:  # no model has seen it: every one would refuse
        raise unaskable(error) from None


def _settings(call: Call) -> ModelSettings | None:
    return ModelSettings(**call.model_settings) if call.model_settings else None  # type: ignore[typeddict-item]


def _retries(call: Call) -> int:
    # An empty text is not asked for once more: another model may do better.
    return 0 if call.result_type is str else call.output_retries


def _key(call: Call) -> Any:
    return _identity(call.result_type), tuple(map(id, call.tools)), _retries(call)


def _identity(result_type: Any) -> Any:
    try:
        hash(result_type)
    except TypeError:
        return id(result_type)
    return result_type


class _Run:
    """One call under way: its clock, its limit, and what its requests have given so far."""

    def __init__(self, arm: ModelArm, call: Call) -> None:
        self.arm = arm
        self.call = call
        self.metered: Metered | None = None
        self._started = time.perf_counter()
        self._first_s: float | None = None
        self._partial: Any = None
        self._messages: list[ModelMessage] = []
        self._limit = asyncio.timeout(call.timeout_s)
        self._deadline = self._limit.when()

    def begun(self, metered: Metered) -> Metered:
        """Start the clock: the model is about to be asked."""
        self._started = time.perf_counter()
        self.metered = metered
        return metered

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Keep hold of the messages, which a run that fails does not return."""
        with capture_run_messages() as self._messages:
            yield

    def limited(self) -> asyncio.Timeout:
        """Return what interrupts the next step at the deadline of the call."""
        self._limit = asyncio.timeout_at(self._deadline)
        return self._limit

    def ours(self, error: Exception) -> Exception:
        """Return the model's failures as ours, and what the caller's own code raised as it is."""
        failure = self._failure(error)
        if failure is None:
            return error
        if self.metered is not None:
            failure.response = self.response(self._read_so_far(), output_valid=False)
        return failure

    def _read_so_far(self) -> Readings:
        """Return the retries and tool calls since the history that the call came with."""
        assert self.metered is not None
        new = self._messages[len(self.call.message_history) :]
        return read(new, self.metered.output_tools)

    def _failure(self, error: Exception) -> ExecutionError | None:
        if isinstance(error, ExecutionError):
            return error
        if isinstance(error, TimeoutError) and self._limit.expired():
            return timed_out(self.arm.id, self.call.timeout_s, partial=self._partial)
        if isinstance(error, UserError) or (self.metered and self.metered.is_streaming()):
            return translated(error, self.arm.id, now=time.time(), partial=self._partial)
        if isinstance(error, ContentFilterError):
            return translated(error, self.arm.id, now=time.time(), kind="content_filter")
        if isinstance(error, UnexpectedModelBehavior):
            if self.metered is not None and self.metered.was_cut():
                return cut_off(self.arm, self._partial)
            return self._invalid(error)
        made = len(self.metered.given()) if self.metered else 0
        # With fewer requests it is the limit of an agent in one of the caller's tools.
        if isinstance(error, UsageLimitExceeded) and made >= requests_of(self.call):
            return self._invalid(error, " (it calls tools for ever)")
        return None

    def _invalid(self, error: Exception, why: str = "") -> OutputInvalid:
        retries = self._read_so_far().retries if self.metered else 0
        words = f"{self.arm.id} {meaning('invalid_output').words}{why}"
        failure = OutputInvalid(words, model=self.arm.id, retries=retries)
        failure.__cause__ = ForeignError(described(error))
        return failure

    def answer(
        self, result: AgentRunResult[Any] | StreamedRunResult[Any, Any], data: Any
    ) -> Answer[Any]:
        """Return the data with what the whole call took."""
        assert self.metered is not None
        readings = read(result.new_messages(), self.metered.output_tools)
        return self.read(data, result.all_messages(), readings)

    def read(self, data: Any, messages: Sequence[ModelMessage], readings: Readings) -> Answer[Any]:
        """Return the data with what the requests took."""
        return Answer(
            data=data,
            response=self.response(readings, output_valid=True),
            messages=messages,
            replayable=self.metered is not None and self.metered.is_replayable(),
        )

    def response(self, readings: Readings, *, output_valid: bool) -> Response:
        """Return what the call has taken until now."""
        return response_of(
            self.arm,
            self.metered.given() if self.metered else [],
            readings,
            latency_s=time.perf_counter() - self._started,
            first_s=self._first_s,
            output_valid=output_valid,
        )

    async def pieces(self, source: StreamedRunResult[Any, Any]) -> AsyncGenerator[Any, None]:
        """Yield text deltas or partial data, and then the `Answer`."""
        is_text = self.call.result_type is str
        stream: AsyncIterator[Any] = (
            source.stream_text(delta=True, debounce_by=None)
            if is_text
            else source.stream_output(debounce_by=PARTIAL_EVERY_S)
        )
        while (piece := await guarded(self._next(stream), self.ours)) is not _END:
            if self._first_s is None:
                self._first_s = time.perf_counter() - self._started
            self._partial = (self._partial or "") + piece if is_text else piece
            yield piece
        yield await guarded(self._whole(source), self.ours)

    async def _next(self, stream: AsyncIterator[Any]) -> Any:
        async with self.limited():
            return await anext(stream, _END)

    async def _whole(self, source: StreamedRunResult[Any, Any]) -> Answer[Any]:
        assert self.metered is not None
        async with self.limited():
            data = await source.get_output()
        if self.metered.was_cut():
            raise cut_off(self.arm, self._partial)
        return self.answer(source, data)


_END = object()
