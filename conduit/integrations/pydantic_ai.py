"""Conduit as a model of PydanticAI: an agent whose every request is routed, and learned from.

agent = Agent(ConduitModel(router), tools=[...], output_type=Invoice)
result = await agent.run("…")
result.response.metadata["conduit"]     # which model answered, and by which decision
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from pydantic_ai.messages import (
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from conduit.core.errors import ConduitError
from conduit.core.models import (
    MAX_TEXT_CHARS,
    ImplicitFeedback,
    ModelArm,
    Query,
    Response,
    RoutingDecision,
)
from conduit.engines.executor.base import (
    Answer,
    AnswerStream,
    Call,
    Pieces,
    guarded,
)
from conduit.engines.executor.chain import run_chain, stream_chain
from conduit.engines.executor.failures import translated
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.metering import cut_off, was_cut
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.executor.readings import Readings, read, response_of
from conduit.integrations.desks import FrontDesk, Opened, RouterDesk, RouterLike

METADATA = "conduit"  # the key under which a response says who gave it
# A run stays on its model unless another one promises this much more utility: a switch loses the
# prompt that the provider has cached, and what the model was thinking.
SWITCH_GAIN = 0.01
NOTHING_SAID = "(no text)"


class ConduitModel(Model[Any]):
    """A PydanticAI model that asks the model which the router picks, request by request.

    A request that fails is tried with the next candidate. An agent's run stays on its model unless
    switching pays; what a provider's models think never reaches another model.
    """

    _answers_requests_itself: ClassVar[bool] = False  # PydanticAI: another model does

    def __init__(
        self,
        router: RouterLike | Any,
        *,
        timeout_s: float | None = None,
        user_id: str | None = None,
        task: str | None = None,
    ) -> None:
        """Take a router, or a service whose models, limits and signals are then shared."""
        super().__init__()
        executor = getattr(router, "executor", None)
        self._shares_models = isinstance(executor, PydanticAIExecutor)
        self._models = (
            executor if isinstance(executor, PydanticAIExecutor) else PydanticAIExecutor()
        )
        self._health: ModelHealth = getattr(router, "health_of_models", None) or ModelHealth()
        self._timeout_s = timeout_s if timeout_s is not None else getattr(router, "timeout_s", None)
        self._user_id = user_id
        self._task = task
        self._own = RouterDesk(getattr(router, "router", router), self._health)
        self._desk: FrontDesk = getattr(router, "desk", self._own)

    @property
    def unlearned(self) -> int:
        """Return how many pieces of feedback could not be kept."""
        return self._own.unlearned

    # What PydanticAI asks of a model ------------------------------------------------------------

    @property
    def model_name(self) -> str:
        """Return a name: the models behind it change from request to request."""
        return "conduit"

    @property
    def system(self) -> str:
        """Return the name under which telemetry files this model."""
        return "conduit"

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close the connections; a later request opens new ones."""
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless a service owns them."""
        if not self._shares_models:
            await self._models.close()

    def prepare_request(
        self,
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        """Leave the request as it is: the model that answers prepares it."""
        return model_settings, model_request_parameters

    def prepare_messages(
        self,
        messages: list[ModelMessage],
        model_request_parameters: ModelRequestParameters | None = None,
    ) -> list[ModelMessage]:
        """Leave the messages as they are: the model that answers prepares them."""
        return messages

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        """Leave the parameters as they are: the model that answers customises them."""
        return model_request_parameters

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the response of the first candidate that gives one."""
        call = _call(messages, model_settings, model_request_parameters)
        routed, arms = await self._routed(messages, call)
        asker = _Asker(self._models, messages, model_request_parameters)
        async with self._desk.answering(routed):
            served = await run_chain(
                routed.through(asker), arms, routed.call, **self._options(routed)
            )
        response: ModelResponse = served.answer.data
        return _signed(response, served.arm, routed.decision)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Give the response of the first candidate that begins one, event by event."""
        call = _call(messages, model_settings, model_request_parameters)
        routed, arms = await self._routed(messages, call)
        asker = _Asker(self._models, messages, model_request_parameters, run_context)
        async with (
            self._desk.answering(routed),
            stream_chain(
                routed.through(asker), arms, routed.call, **self._options(routed)
            ) as events,
        ):
            response = asker.opened
            assert response is not None
            # The events go through the chain, which notes how they end.
            response._event_iterator = events
            _sign(response, events.arm, routed.decision)
            yield response

    # Routing and learning -----------------------------------------------------------------------

    async def _routed(
        self, messages: Sequence[ModelMessage], call: Call
    ) -> tuple[Opened, list[ModelArm]]:
        """Return the request, and whom to ask in which order."""
        last = _last_response(messages)
        await self._judge(last, messages)
        query = Query(
            text=_text(messages) or NOTHING_SAID,
            user_id=self._user_id,
            task=self._task,
            previous_model=_signature(last).get("model"),
            context={"prefix_tokens": _prefix_tokens(last)},
        )
        routed = await self._desk.open(query, call, self._timeout_s)
        arms = {arm.id: arm for arm in routed.arms}
        order = _staying(routed.decision, query.previous_model)
        return routed, [arms[model] for model in order if model in arms]

    def _options(self, routed: Opened) -> dict[str, Any]:
        return {
            "deadline": routed.deadline,
            "health": self._health,
            "on_attempt": routed.attempts.append,
        }

    async def _judge(self, last: ModelResponse | None, messages: Sequence[ModelMessage]) -> None:
        """Teach that the last response was refused, if the agent asks for a better one."""
        signature = _signature(last)
        if signature and messages and _asks_to_mend(messages[-1]):
            failed = ImplicitFeedback(signal="invalid_output", quality=0.0, error="invalid_output")
            await self._own.teach(signature["decision_id"], failed, signature["model"])


def _call(
    messages: list[ModelMessage],
    settings: ModelSettings | None,
    parameters: ModelRequestParameters,
) -> Call:
    """Return a request as limits see it: all that is sent, in the place of the conversation."""
    sent = (messages, parameters.function_tools, parameters.output_tools)
    return Call(None, message_history=sent, model_settings=dict(settings) if settings else None)


class _Asker:
    """An executor of one request, which it words for the model that is asked."""

    def __init__(
        self,
        models: PydanticAIExecutor,
        messages: list[ModelMessage],
        parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> None:
        self.opened: StreamedResponse | None = None
        self._models = models
        self._messages = messages
        self._parameters = parameters
        self._run_context = run_context

    async def execute(self, arm: ModelArm, call: Call) -> Answer[ModelResponse]:
        """Return the response of a model; the chain limits the time."""
        started = time.perf_counter()

        async def asked() -> ModelResponse:
            model, messages = self._worded(arm)
            return await model.request(messages, _settings(call), self._parameters)

        response = await guarded(asked(), partial(_ours, arm))
        return Answer(data=response, response=_taken(arm, response, started))

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Give the events of a model's response; the chain limits the time."""
        started = time.perf_counter()
        async with AsyncExitStack() as stack:
            model, response = await guarded(self._opened(arm, call, stack), partial(_ours, arm))
            self.opened = response
            events = _events(arm, model, response, started)
            yield Pieces(await stack.enter_async_context(aclosing(events)))

    async def _opened(
        self, arm: ModelArm, call: Call, stack: AsyncExitStack
    ) -> tuple[Model[Any], StreamedResponse]:
        model, messages = self._worded(arm)
        opening = model.request_stream(
            messages, _settings(call), self._parameters, self._run_context
        )
        return model, await stack.enter_async_context(opening)

    def _worded(self, arm: ModelArm) -> tuple[Model[Any], list[ModelMessage]]:
        model = self._models.model(arm)
        messages = messages_for(self._messages, arm.id, model.system)
        return model, model.prepare_messages(messages, self._parameters)

    async def close(self) -> None:
        """Do nothing: the connections belong to whoever made the models."""


def _settings(call: Call) -> ModelSettings | None:
    return None if call.model_settings is None else ModelSettings(**call.model_settings)  # type: ignore[typeddict-item]


_END = object()


async def _events(
    arm: ModelArm, model: Model[Any], response: StreamedResponse, started: float
) -> AsyncGenerator[Any, None]:
    """Yield the events of a response, and then what it took."""
    source = aiter(response)
    first_s: float | None = None
    while (event := await guarded(anext(source, _END), partial(_ours, arm))) is not _END:
        if first_s is None:
            first_s = time.perf_counter() - started
        yield event
    if was_cut(model, response) and not response.cancelled:
        raise cut_off(arm, response.get().text)
    whole = response.get()
    yield Answer(data=whole, response=_taken(arm, whole, started, first_s))


def _ours(arm: ModelArm, error: Exception) -> Exception:
    if isinstance(error, ConduitError):
        return error
    return translated(error, arm.id, now=time.time())


def _taken(
    arm: ModelArm, response: ModelResponse, started: float, first_s: float | None = None
) -> Response:
    return response_of(
        arm,
        [response],
        Readings(tool_calls=len(response.tool_calls)),
        latency_s=time.perf_counter() - started,
        first_s=first_s,
        output_valid=None,  # the agent finds out
    )


def _staying(decision: RoutingDecision, previous: str | None) -> Sequence[str]:
    """Return the candidates to ask, the run's own model first unless a switch pays."""
    candidates, estimates = decision.candidates, decision.estimates
    if previous is None or previous not in estimates:
        return candidates
    gain = estimates[decision.selected_model].utility - estimates[previous].utility
    if gain > SWITCH_GAIN:
        return candidates
    return (previous, *(model for model in candidates if model != previous))


# Messages


def messages_for(
    messages: Sequence[ModelMessage], model_id: str, system: str
) -> list[ModelMessage]:
    """Return a conversation without what only another model's provider can read.

    Thoughts, the calls of a provider's own tools, and the ids and signatures of a response go to
    the model that gave it, and to nobody else.
    """
    kept: list[ModelMessage] = []
    for message in messages:
        if not isinstance(message, ModelResponse) or _is_own(message, model_id, system):
            kept.append(message)
        elif parts := [p for part in message.parts if (p := _plain(part)) is not None]:
            kept.append(
                ModelResponse(parts=parts, usage=message.usage, timestamp=message.timestamp)
            )
    return kept


def _is_own(response: ModelResponse, model_id: str, system: str) -> bool:
    signature = _signature(response)
    if signature:
        return bool(signature.get("model") == model_id)
    return response.provider_name == system


def _plain(part: ModelResponsePart) -> ModelResponsePart | None:
    if isinstance(part, TextPart):
        return TextPart(part.content)
    if isinstance(part, ToolCallPart):
        return ToolCallPart(part.tool_name, part.args, tool_call_id=part.tool_call_id)
    if isinstance(part, FilePart):
        return FilePart(part.content)
    return None


def _signed(response: ModelResponse, arm: ModelArm, decision: RoutingDecision) -> ModelResponse:
    return replace(response, metadata=_with_signature(response.metadata, arm, decision))


def _sign(response: StreamedResponse, arm: ModelArm, decision: RoutingDecision) -> None:
    response.metadata = _with_signature(response.metadata, arm, decision)


def _with_signature(
    metadata: dict[str, Any] | None, arm: ModelArm, decision: RoutingDecision
) -> dict[str, Any]:
    return {**(metadata or {}), METADATA: {"model": arm.id, "decision_id": decision.id}}


def _signature(response: ModelResponse | None) -> dict[str, str]:
    metadata = response.metadata if response is not None else None
    signature = (metadata or {}).get(METADATA)
    return signature if isinstance(signature, dict) else {}


def _last_response(messages: Sequence[ModelMessage]) -> ModelResponse | None:
    return next((m for m in reversed(messages) if isinstance(m, ModelResponse)), None)


def _prefix_tokens(response: ModelResponse | None) -> int:
    """Return how many tokens of the conversation the last model has seen."""
    if response is None:
        return 0
    return max(response.usage.input_tokens, 0) + max(response.usage.output_tokens, 0)


def _asks_to_mend(message: ModelMessage) -> bool:
    readings = read([message], ())
    return readings.retries + readings.tool_failures > 0


def _text(messages: Sequence[ModelMessage]) -> str:
    """Return what the user said last, for the features of the query."""
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            said = [
                _said(part.content) for part in message.parts if part.part_kind == "user-prompt"
            ]
            if any(said):
                return "\n".join(said)[:MAX_TEXT_CHARS]
    return ""


def _said(content: str | Sequence[Any]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(item for item in content if isinstance(item, str))
