"""Every executor that we ship keeps the contract."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from conduit.core.models import ModelArm
from conduit.engines.executor import FunctionExecutor, LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Executor
from conduit.testing.executors import Conduct, ExecutorContract, ExecutorWorld
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

FAULTS = {"fails": Fault(FaultKind.SERVER_ERROR), "hangs": Fault(FaultKind.HANG)}


@dataclass
class ProviderWorld:
    """A world whose model is played by a provider on loopback, over real HTTP."""

    executor: Executor
    provider: LocalProvider

    @property
    def arm(self) -> ModelArm:
        """The one model of the provider."""
        return ModelArm("echo", base_url=self.provider.base_url)

    def let_it(self, conduct: Conduct) -> None:
        """Set the model's fault, or what it is worth."""
        validity = 0.0 if conduct == "talks nonsense" else 1.0
        self.provider.replace_model(SimulatedModel("echo", validity=validity))
        self.provider.set_fault("echo", FAULTS.get(conduct))


@pytest.fixture
async def echo() -> AsyncIterator[LocalProvider]:
    """Give the test a provider with one model."""
    async with LocalProvider([SimulatedModel("echo")]) as provider:
        yield provider


class TestPydanticAIExecutor(ExecutorContract):
    """PydanticAI keeps the contract."""

    @pytest.fixture
    async def world(self, echo: LocalProvider) -> AsyncIterator[ExecutorWorld]:
        """Give a world over HTTP."""
        executor = PydanticAIExecutor()
        yield ProviderWorld(executor, echo)
        await executor.close()


@pytest.mark.litellm
class TestLiteLLMExecutor(ExecutorContract):
    """LiteLLM keeps the contract."""

    @pytest.fixture
    async def world(self, echo: LocalProvider) -> AsyncIterator[ExecutorWorld]:
        """Give a world over HTTP."""
        pytest.importorskip("litellm")
        executor = LiteLLMExecutor()
        yield ProviderWorld(executor, echo)
        await executor.close()


class FunctionWorld:
    """A world whose model is a function."""

    def __init__(self) -> None:
        self.arm = ModelArm("echo")
        self.executor = FunctionExecutor(self.said)
        self.conduct: Conduct = "answers"

    def let_it(self, conduct: Conduct) -> None:
        """Remember what to do."""
        self.conduct = conduct

    async def said(self, _model: str, prompt: Any) -> str:
        """Repeat the prompt as JSON that is also text, or misbehave."""
        if self.conduct == "fails":
            raise ConnectionError(f"about {prompt}")
        if self.conduct == "hangs":
            await asyncio.sleep(60.0)
        return "nonsense" if self.conduct == "talks nonsense" else json.dumps({"answer": prompt})


class TestFunctionExecutor(ExecutorContract):
    """A plain function keeps the contract."""

    @pytest.fixture
    def world(self) -> ExecutorWorld:
        """Give a world without HTTP."""
        return FunctionWorld()


class PlainWorld(FunctionWorld):
    """A world whose model is a function that blocks its thread while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = FunctionExecutor(self.said_at_once)

    def said_at_once(self, model: str, prompt: Any) -> str:
        """Do the same without an event loop."""
        if self.conduct == "hangs":
            time.sleep(1.0)
            return "late"
        return asyncio.run(self.said(model, prompt))


class TestPlainFunction(ExecutorContract):
    """A function that is no coroutine keeps it as well, deadlines too."""

    @pytest.fixture
    def world(self) -> ExecutorWorld:
        """Give a world without HTTP."""
        return PlainWorld()
