"""Calls models through LiteLLM: its names, its local price map, typed output, tools, streams."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import count
from types import ModuleType
from typing import Any

from conduit.catalogue.models import canonical_id
from conduit.catalogue.pricing import price_usd
from conduit.core.errors import ConfigurationError, ExecutionError
from conduit.core.models import ModelArm
from conduit.engines.executor.base import (
    Answer,
    AnswerStream,
    Call,
    Pieces,
    environment_key,
    forgetting,
    guarded,
)
from conduit.engines.executor.chat import Form, Talk, Told, Usage
from conduit.engines.executor.homes import Homes
from conduit.engines.executor.readings import cost_usd

MAX_CONNECTIONS = 1_000
LEAVE_AFTER_S = 0.25  # LiteLLM begins a call in a thread, which takes some milliseconds
# Ours ends a call before. LiteLLM keeps a client per timeout, with the connections it was given
# first; so each set of connections has a timeout of its own, a millisecond from the last.
HTTP_TIMEOUTS_S = (600.0 + n / 1_000 for n in count())

# PydanticAI's names of the providers that LiteLLM calls something else.
_PREFIXES: Mapping[str, str] = {
    "openai-chat": "openai", "openai-responses": "openai", "google": "gemini",
    "google-gla": "gemini", "google-vertex": "vertex_ai", "google-cloud": "vertex_ai",
    "cohere": "cohere_chat", "together": "together_ai", "fireworks": "fireworks_ai",
    "moonshotai": "moonshot", "vercel": "vercel_ai_gateway", "alibaba": "dashscope",
}  # fmt: skip
_SAME = (
    "anthropic", "azure", "bedrock", "cerebras", "deepseek", "github", "groq", "heroku",
    "huggingface", "mistral", "nebius", "ollama", "openai", "openrouter", "ovhcloud", "perplexity",
    "sambanova", "snowflake", "xai", "zai",
)  # fmt: skip
# What LiteLLM loads at its first call, half a second that no request has to wait for.
_LOADED_AT_FIRST_CALL = (
    "litellm.proxy._types", "litellm.litellm_core_utils.default_encoding", "openai.resources",
)  # fmt: skip
# Your own machine: only there does a price of nothing mean that it costs nothing.
_FREE = ("ollama", "ollama_chat", "llamafile", "lm_studio", "hosted_vllm", "vllm")


def litellm_name(arm: ModelArm) -> str:
    """Return the arm's model as LiteLLM names it, `provider/name`.

    >>> [litellm_name(ModelArm(i)) for i in ("google:gemini-2.5-flash", "gpt-4o-mini")]
    ['gemini/gemini-2.5-flash', 'openai/gpt-4o-mini']
    """
    name = arm.id if ":" in arm.id or "/" in arm.id else canonical_id(arm.id)
    prefix, mark, rest = name.partition(":")
    known = bool(mark) and (prefix in _PREFIXES or prefix in _SAME)
    if arm.base_url is not None:
        return f"openai/{rest if known else name.removeprefix('openai/')}"
    return f"{_PREFIXES.get(prefix, prefix)}/{rest}" if known else name


def _imported() -> ModuleType:
    """Return LiteLLM, which fetches no price list unless LITELLM_LOCAL_MODEL_COST_MAP says so."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise ConfigurationError(
            'LiteLLMExecutor needs LiteLLM: pip install "conduit-router[litellm]"',
            field="execution_backend",
        ) from error
    for name in _LOADED_AT_FIRST_CALL:
        with contextlib.suppress(ImportError):  # a module of theirs that has moved
            importlib.import_module(name)
    litellm.suppress_debug_info = True  # it prints to the terminal when a call fails
    # Its own types make pydantic warn when they are built, and some of its code is deprecated:
    # nothing that a user of ours could mend.
    warnings.filterwarnings("ignore", message=".*`ReadOnly` qualifier", category=UserWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"litellm\.")
    return litellm


class _Connections:
    """What one event loop has opened, and the calls that it has left."""

    def __init__(self) -> None:
        self.http_timeout_s = next(HTTP_TIMEOUTS_S)
        self._session: Any = None
        self._leaving: set[asyncio.Task[None]] = set()

    def opened(self) -> Any:
        """Return the connections, which a caller may have closed."""
        import aiohttp

        if self._session is None or self._session.closed:
            self.http_timeout_s = next(HTTP_TIMEOUTS_S)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def leave(self, asking: asyncio.Task[Any]) -> None:
        """Own a call that nobody waits for any more."""
        leaving = asyncio.create_task(_left(asking))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Wait for the calls that were left, and close the connections."""
        await asyncio.gather(*self._leaving)
        if self._session is not None:
            await self._session.close()


class LiteLLMExecutor:
    """Calls any model that LiteLLM knows, and any server that speaks OpenAI's protocol.

    Messages are OpenAI's, tools are functions, alone or in toolsets, and `model_settings` are
    LiteLLM's arguments.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[ModelArm], str] = litellm_name,
        api_key: Callable[[ModelArm], str | None] = environment_key,
    ) -> None:
        """Take how an arm's model is named, and the key for an arm with a `base_url`."""
        self._litellm = _imported()
        self._resolve = resolve
        self._api_key = api_key
        self._homes = Homes(_Connections)

    def __repr__(self) -> str:
        """Show no address and no key."""
        return "LiteLLMExecutor()"

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Return the answer of the model, within `call.timeout_s`."""
        talk = self._talk(arm, call)
        return await guarded(self._answered(talk), talk.ours)

    async def _answered(self, talk: Talk) -> Answer[Any]:
        async with talk.limited():
            while True:
                talk.asking = True
                reply = await self._asked(**self._arguments(talk))
                talk.asking = False
                if await talk.has_answered(reply.choices, _told(reply)):
                    return talk.answer()

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Return the answer piece by piece; leaving the context closes the connection."""
        talk = self._talk(arm, call)
        try:
            async with aclosing(self._pieces(talk)) as pieces:
                yield Pieces(pieces)
        except ExecutionError as error:
            forgetting(error)
            raise

    async def _pieces(self, talk: Talk) -> AsyncGenerator[Any, None]:
        talk.may_mend = False  # what has been sent on cannot be taken back
        answered = False
        while not answered:
            stream = await guarded(self._opened(talk), talk.ours)
            try:
                while (chunk := await guarded(self._next(talk, stream), talk.ours)) is not None:
                    for piece in talk.pieces(chunk.choices):
                        yield piece
            finally:
                await stream.aclose()
            answered = await guarded(self._ended(talk, stream), talk.ours)
        for piece in talk.last_pieces():
            yield piece
        yield talk.answer()

    async def _opened(self, talk: Talk) -> Any:
        async with talk.limited():
            talk.asking = True
            arguments = self._arguments(talk)
            return await self._asked(
                **arguments, stream=True, stream_options={"include_usage": True}
            )

    async def _asked(self, **arguments: Any) -> Any:
        """Ask through LiteLLM, which loses track of a call that is cancelled while it begins."""
        asking = asyncio.create_task(self._litellm.acompletion(**arguments))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._homes.here().leave(asking)
            raise

    async def _next(self, talk: Talk, stream: Any) -> Any:
        async with talk.limited():
            return await anext(stream, None)

    async def _ended(self, talk: Talk, stream: Any) -> bool:
        """Take in a reply that has been streamed whole."""
        if stream.received_finish_reason is None:
            raise talk.malformed("the stream has no end")
        talk.asking = False
        whole = self._litellm.stream_chunk_builder(stream.chunks)
        choices = whole.choices if whole is not None else []
        # LiteLLM counts the tokens itself where the provider did not say how many there were.
        told = any(getattr(chunk, "usage", None) is not None for chunk in stream.chunks)
        async with talk.limited():
            return await talk.has_answered(choices, _told(whole) if told else Told())

    def _talk(self, arm: ModelArm, call: Call) -> Talk:
        name = self._resolve(arm)
        form = Form(call.result_type)
        supported = self._litellm.get_supported_openai_params(model=name) or ()
        takes_schema = "response_format" in supported and not form.may_be_text
        return Talk(arm, call, name=name, form=form, takes_schema=takes_schema, price=self._price)

    def _arguments(self, talk: Talk) -> dict[str, Any]:
        here = self._homes.here()
        session = here.opened()
        arm, settings = talk.arm, dict(talk.call.model_settings or {})
        if "stop_sequences" in settings:
            settings["stop"] = settings.pop("stop_sequences")
        arguments: dict[str, Any] = {
            "model": talk.name,
            "messages": talk.messages,
            "timeout": here.http_timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "shared_session": session,
            **settings,
        }
        if arm.base_url is not None:
            arguments |= {"api_base": arm.base_url, "api_key": self._api_key(arm) or "not-set"}
        if talk.takes_schema:
            arguments["response_format"] = talk.form.response_format()
        if talk.tools:
            arguments["tools"] = [tool.description for tool in talk.tools.values()]
            arguments["_skip_mcp_handler"] = True  # else tools need the package `mcp`
        return arguments

    async def close(self) -> None:
        """Close the connections of this event loop; a later call opens new ones."""
        left = self._homes.leave()
        if left is not None:
            await left.close()

    def _price(self, arm: ModelArm, reply: Told) -> float | None:
        known = cost_usd(arm, reply)
        if known is not None or arm.base_url is not None:
            return known
        usage = reply.usage
        return self.list_price_usd(self._resolve(arm), usage.input_tokens, usage.output_tokens)

    def list_price_usd(self, name: str, input_tokens: int, output_tokens: int) -> float | None:
        """Return what so many tokens cost by LiteLLM's local map, else by genai-prices, or None.

        Models leave LiteLLM's map from one release to the next.
        """
        if input_tokens <= 0 or output_tokens < 0:
            return None
        told = self._mapped_usd(name, input_tokens, output_tokens)
        return told if told is not None else price_usd(name, input_tokens, output_tokens)

    def _mapped_usd(self, name: str, input_tokens: int, output_tokens: int) -> float | None:
        """Return the price by LiteLLM's map; $0 is believed of one's own machine alone."""
        try:
            dollars = self._litellm.cost_per_token(
                model=name, prompt_tokens=input_tokens, completion_tokens=output_tokens
            )
        except Exception:  # noqa: BLE001  some releases raise nothing narrower without a price
            return None
        total = float(sum(dollars))
        provider, _, model = name.partition("/")
        return total if total > 0.0 or (provider in _FREE and "cloud" not in model) else None


async def _left(asking: asyncio.Task[Any]) -> None:
    """Cancel a call that nobody waits for, once it has begun, and close what came of it."""
    await asyncio.wait({asking}, timeout=LEAVE_AFTER_S)
    asking.cancel()
    ended: Sequence[Any] = await asyncio.gather(asking, return_exceptions=True)
    if hasattr(ended[0], "aclose"):
        await ended[0].aclose()


def _told(reply: Any) -> Told:
    usage = getattr(reply, "usage", None)
    if usage is None:
        return Told()
    details = getattr(usage, "prompt_tokens_details", None)
    return Told(
        usage=Usage(
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            cache_read_tokens=getattr(details, "cached_tokens", None) or 0,
            cache_write_tokens=getattr(details, "cache_creation_tokens", None) or 0,
        ),
        provider_details={"cost": getattr(usage, "cost", None)},
    )
