"""What one request answers, asked without an agent: its graph takes as much CPU as the request.

Only what needs no agent is read here: a text, or one call of the output tool whose arguments fit.
An agent handles anything else, with the response that is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Self

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from conduit.engines.executor.base import Call

PROCESSED = "Final result processed."  # as PydanticAI's agents answer a call of the output tool


@dataclass(frozen=True, slots=True)
class Form:
    """What one request asks for, and how its answer is read."""

    parameters: ModelRequestParameters
    adapter: TypeAdapter[Any] | None = None  # None: it is a text

    @classmethod
    def of(cls, result_type: Any, parameters: ModelRequestParameters) -> Self | None:
        """Return the form that an agent asked for; None where only an agent can read the answer."""
        is_object = isinstance(result_type, type) and (
            issubclass(result_type, BaseModel) or is_dataclass(result_type)
        )
        simple = (
            len(parameters.output_tools) == 1
            and parameters.output_mode
            in ("tool", "auto")  # auto: the model's own way, often a tool
            and not parameters.function_tools
        )
        if not (is_object and simple):
            return None
        return cls(replace(parameters, instruction_parts=None), TypeAdapter(result_type))

    async def ask(
        self, model: Model[Any], call: Call, settings: ModelSettings | None
    ) -> tuple[ModelRequest, ModelResponse]:
        """Send the one request."""
        prompt = UserPromptPart(call.prompt or "")
        request = ModelRequest(
            [prompt], instructions=call.system_prompt, timestamp=prompt.timestamp
        )
        response = await model_request(
            model, [request], model_settings=settings, model_request_parameters=self.parameters
        )
        return request, response

    def read(self, response: ModelResponse) -> tuple[Any, Sequence[ModelMessage]] | None:
        """Return the data and what follows in the conversation; None where an agent is needed."""
        if response.state != "complete":
            return None
        calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
        texts = [part for part in response.parts if isinstance(part, TextPart)]
        thoughts = [part for part in response.parts if isinstance(part, ThinkingPart)]
        if len(calls) + len(texts) + len(thoughts) < len(response.parts):
            return None
        if self.adapter is None:
            text = "".join(part.content for part in texts)
            return None if calls or not text else (text, ())
        return self._read_call(calls[0], self.adapter) if len(calls) == 1 else None

    def _read_call(
        self, part: ToolCallPart, adapter: TypeAdapter[Any]
    ) -> tuple[Any, Sequence[ModelMessage]] | None:
        if part.tool_name != self.parameters.output_tools[0].name or not part.args:
            return None
        try:
            data = (
                adapter.validate_json(part.args)
                if isinstance(part.args, str)
                else adapter.validate_python(part.args)
            )
        except (ValidationError, ModelRetry):
            return None
        done = ToolReturnPart(part.tool_name, PROCESSED, part.tool_call_id)
        return data, (ModelRequest([done], timestamp=done.timestamp),)


TEXT = Form(ModelRequestParameters())
