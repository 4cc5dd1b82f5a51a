"""PydanticAI's models with our meter around them: what each request gave, and what it did wrong."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from openai.types import CompletionUsage, chat
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RequestUsage

from conduit.core.errors import ExecutionError, ProviderError
from conduit.core.models import ModelArm
from conduit.engines.executor.asking import unwritable
from conduit.engines.executor.base import guarded
from conduit.engines.executor.failures import meaning, translated, unwritten

IDEMPOTENCY = "Idempotency-Key"  # a provider that keeps answers by it sends it back


class Metered(WrapperModel):
    """Notes what the requests of one call gave, and raises what the model did wrong as ours."""

    def __init__(
        self, wrapped: Model[Any], arm: ModelArm, key: str | None, replayable: set[str]
    ) -> None:
        super().__init__(wrapped)
        self.parameters = ModelRequestParameters()  # of the last request
        self.output_tools: frozenset[str] = frozenset()
        self.first: ModelResponse | None = None  # given already, for an agent that takes over
        self._arm = arm
        self._key = key
        self._keys: list[str] = []  # one per model and request: another body is another request
        self._replayable = replayable
        self._responses: list[ModelResponse] = []
        self._stream: StreamedResponse | None = None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the model."""
        self._note(model_request_parameters)
        if self.first is not None:
            response, self.first = self.first, None
            return response
        settings = self._keyed(model_settings)
        asked = self.wrapped.request(messages, settings, model_request_parameters)
        response = await guarded(asked, self._ours)
        self._responses.append(response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask the model for a stream; what breaks it later is told apart by `is_streaming`."""
        self._note(model_request_parameters)
        async with AsyncExitStack() as stack:
            opened = self.wrapped.request_stream(
                messages, self._keyed(model_settings), model_request_parameters, run_context
            )
            self._stream = await guarded(stack.enter_async_context(opened), self._ours)
            yield self._stream

    def _keyed(self, settings: ModelSettings | None) -> ModelSettings | None:
        """Return the settings with the idempotency key of the next request, if it has one."""
        if self._key is None:
            return settings
        said = repr((self._key, self._arm.id, len(self._keys)))
        key = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
        self._keys.append(key)
        headers = {**((settings or {}).get("extra_headers") or {}), IDEMPOTENCY: key}
        return {**(settings or {}), "extra_headers": headers}

    def is_replayable(self) -> bool:
        """Return whether the provider keeps every answer that it gave."""
        kept = bool(self._keys) and self._replayable.issuperset(self._keys)
        self._replayable.difference_update(self._keys)
        return kept

    def _note(self, parameters: ModelRequestParameters) -> None:
        self.parameters = parameters
        self.output_tools = frozenset(tool.name for tool in parameters.output_tools)
        if self._stream is not None:
            self._responses.append(self._stream.get())
            self._stream = None

    def _ours(self, error: Exception) -> Exception:
        if isinstance(error, ExecutionError):
            return error
        cause = unwritten(error)
        if cause is not None and not self._responses:  # a later request repeats what was answered
            return unwritable(cause)
        return translated(error, self._arm.id, now=time.time())

    def given(self) -> list[ModelResponse]:
        """Return the responses until now, the last perhaps in part."""
        return [*self._responses, *([self._stream.get()] if self._stream is not None else [])]

    def is_streaming(self) -> bool:
        """Return whether a stream has begun and not ended."""
        return self._stream is not None and self._stream.get().state == "incomplete"

    def was_cut(self) -> bool:
        """Return whether the last stream ended without the word that it was over."""
        return self._stream is not None and was_cut(self.wrapped, self._stream)


def was_cut(model: Model[Any], stream: StreamedResponse) -> bool:
    """Return whether a stream that gives no more ended without the word that it was over."""
    if isinstance(stream, CompatibleStream):
        return not stream.has_ended
    response = stream.get()
    tells = isinstance(model, OpenAIChatModel)
    return response.state == "incomplete" or (tells and response.finish_reason is None)


def cut_off(arm: ModelArm, partial: object) -> ProviderError:
    """Return the error of a stream that has no end."""
    words = f"{arm.id} {meaning('malformed').words} (the stream has no end)"
    return ProviderError(words, model=arm.id, kind="malformed", partial=partial)


class CompatibleModel(OpenAIChatModel):
    """A model of an OpenAI-compatible server, which may say what a call cost."""

    def _process_provider_details(self, response: chat.ChatCompletion) -> dict[str, Any] | None:
        return _with_cost(super()._process_provider_details(response), response.usage)

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return CompatibleStream


class CompatibleStream(OpenAIStreamedResponse):
    """A stream of such a server, which knows whether it was ended."""

    has_ended = False  # a chunk said why it ended; PydanticAI may assume that it did

    def _map_usage(self, response: chat.ChatCompletionChunk) -> RequestUsage:
        if response.choices and response.choices[0].finish_reason:
            self.has_ended = True
        self.provider_details = _with_cost(self.provider_details, response.usage)
        return super()._map_usage(response)


def _with_cost(
    details: dict[str, Any] | None, usage: CompletionUsage | None
) -> dict[str, Any] | None:
    told = (usage.model_extra or {}).get("cost") if usage is not None else None
    return details if told is None else {**(details or {}), "cost": told}
