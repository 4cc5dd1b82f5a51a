"""What the service adds to a call, and how it holds when providers misbehave, over real HTTP.

    python -m benchmarks.service [--calls 300]

The provider is `LocalProvider` in a process of its own. The overhead is CPU time per call beside an
`Agent` of PydanticAI that asks the same model; both take turns in blocks, so that a busy machine
troubles them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.results_page import write
from conduit.core.errors import ConduitError
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

BLOCK = 20
MODELS = ("sim-nano", "sim-small", "sim-code", "sim-large", "sim-frontier")
PROMPT = "Which of these three contracts has the longest notice period, and what does it cost? ({})"
Row = dict[str, Any]


class Place(BaseModel):
    """A typed answer."""

    answer: str


@contextmanager
def served() -> Iterator[str]:
    """Serve the simulated pool from another process, and give its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "conduit.testing.local_provider"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def service_at(url: str, database_url: str | None) -> AsyncIterator[Service]:
    """Give a service over the pool, with its log in memory or in a file."""
    arms = [
        ModelArm(m, base_url=url, input_usd_per_mtok=1.0, output_usd_per_mtok=4.0) for m in MODELS
    ]
    if database_url is None:
        service = Service(Router(arms, seed=1, environ={}), PydanticAIExecutor())
    else:
        service = await create_service(models=arms, database_url=database_url, seed=1)
    async with service:
        yield service


async def block_ms(step: Callable[[int], Awaitable[Any]], at: int) -> float:
    """Return the CPU milliseconds per call of one block, with what goes on behind it."""
    began = time.process_time()
    for n in range(BLOCK):
        await step(at + n)
    await asyncio.sleep(0.02)
    return (time.process_time() - began) / BLOCK * 1e3


async def overhead(url: str, calls: int, result_type: Any, database_url: str | None) -> Row:
    """Return the CPU time per call of PydanticAI alone, of the service, and the difference."""
    client = AsyncOpenAI(base_url=url, api_key="local", max_retries=0)
    model = OpenAIChatModel("sim-large", provider=OpenAIProvider(openai_client=client))
    agent: Agent[None, Any] = Agent(model, output_type=result_type)
    seen: dict[str, list[float]] = {"alone": [], "service": []}
    async with service_at(url, database_url) as service:

        async def alone(k: int) -> Any:
            return await agent.run(PROMPT.format(k))

        async def through(k: int) -> Any:
            return await service.complete(PROMPT.format(k), result_type=result_type)

        for at in range(-2 * BLOCK, calls, BLOCK):
            for name, step in (("alone", alone), ("service", through)):
                ms = await block_ms(step, at)
                if at >= 0:
                    seen[name].append(ms)
    await client.close()
    added = [b - a for a, b in zip(seen["alone"], seen["service"], strict=True)]
    return {
        "what": "CPU per call, " + ("text" if result_type is str else "typed"),
        "log": "memory" if database_url is None else "SQLite",
        "PydanticAI ms": round(statistics.median(seen["alone"]), 2),
        "service ms": round(statistics.median(seen["service"]), 2),
        "added p50 ms": round(statistics.median(added), 2),
        "target": "<= 2 ms",
    }


async def main(calls: int) -> None:
    """Print and keep the figures."""
    rows: list[Row] = []
    with served() as url, tempfile.TemporaryDirectory() as place:
        for result_type in (str, Place):
            for database in (None, f"sqlite:///{place}/{result_type.__name__}.db"):
                rows.append(await overhead(url, calls, result_type, database))
                print(rows[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300)
    asyncio.run(main(parser.parse_args().calls))
