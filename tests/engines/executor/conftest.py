"""A provider on loopback, and the models it plays as arms."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from conduit.core.models import ModelArm
from conduit.testing.local_provider import LocalProvider, SimulatedModel

MODELS = (
    SimulatedModel("good", 2.0, 8.0),
    SimulatedModel("cheap", 0.1, 0.4),
    SimulatedModel("sloppy", 0.1, 0.4, validity=0.0),
    SimulatedModel("handy", 0.1, 0.4, calls_tools=True),
    SimulatedModel("slow", 1.0, 1.0, ttft_s=0.02, tokens_per_s=100.0, output_tokens=400),
)


def arm_of(provider: LocalProvider, name: str) -> ModelArm:
    """Return the arm of a model that a provider plays, with its prices."""
    model = next(model for model in provider.models if model.name == name)
    return ModelArm(
        name,
        base_url=provider.base_url,
        input_usd_per_mtok=model.input_usd_per_mtok,
        output_usd_per_mtok=model.output_usd_per_mtok,
    )


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Give the test its own provider."""
    async with LocalProvider(MODELS) as provider:
        yield provider


class Stalls:
    """The longest time for which the machine gave this process no turn, while a test ran."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self, every_s: float = 0.005) -> None:
        """Sleep again and again, and note by how much each sleep was too long."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(every_s)
            self.worst_s = max(self.worst_s, time.monotonic() - before - every_s)

    def late(self, allowed_s: float = 0.05) -> float:
        """Return how late something may be, on a machine that others use too."""
        return allowed_s + 2.0 * self.worst_s


@pytest.fixture
async def stalls() -> AsyncIterator[Stalls]:
    """Watch the event loop of the test."""
    stalls = Stalls()
    task = asyncio.create_task(stalls.watch())
    yield stalls
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
