"""Executors call the model that was chosen; each vendor's module is imported when it is used."""

from typing import TYPE_CHECKING

from conduit._exports import exporter

if TYPE_CHECKING:
    from conduit.engines.executor.base import (
        Answer,
        AnswerStream,
        Call,
        Executor,
        FunctionExecutor,
    )
    from conduit.engines.executor.litellm import LiteLLMExecutor
    from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
else:
    __getattr__ = exporter(
        __name__,
        {
            "Answer": "conduit.engines.executor.base",
            "AnswerStream": "conduit.engines.executor.base",
            "Call": "conduit.engines.executor.base",
            "Executor": "conduit.engines.executor.base",
            "FunctionExecutor": "conduit.engines.executor.base",
            "LiteLLMExecutor": "conduit.engines.executor.litellm",
            "PydanticAIExecutor": "conduit.engines.executor.pydantic_ai",
        },
    )

__all__ = [
    "Answer",
    "AnswerStream",
    "Call",
    "Executor",
    "FunctionExecutor",
    "LiteLLMExecutor",
    "PydanticAIExecutor",
]
