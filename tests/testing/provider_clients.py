"""The models, clients and calls that the provider's tests share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from conduit.testing.local_provider import LocalProvider, SimulatedModel

MODELS = [
    SimulatedModel("good", 2.0, 8.0),
    SimulatedModel("bad", 0.1, 0.4, skill=0.0),
    SimulatedModel("sloppy", 0.1, 0.4, validity=0.0),
    SimulatedModel("handy", 0.1, 0.4, calls_tools=True),
    SimulatedModel("slow", 1.0, 1.0, ttft_s=0.05, tokens_per_s=100.0, output_tokens=500),
]


def client_of(base_url: str, key: str = "local") -> AsyncOpenAI:
    """Return a client that loads no certificates, which would take most of a test's time."""
    http_client = httpx.AsyncClient(verify=False, limits=httpx.Limits(max_connections=None))
    return AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, http_client=http_client)


@contextlib.asynccontextmanager
async def serving(
    *models: SimulatedModel, seed: int = 0
) -> AsyncIterator[tuple[LocalProvider, AsyncOpenAI]]:
    """Serve other models than those above, and yield the provider with a client."""
    async with LocalProvider(models, seed=seed) as provider, client_of(provider.base_url) as client:
        yield provider, client


async def said(client: AsyncOpenAI, prompt: str, model: str = "good", **options: Any) -> str:
    """Return the text that a model answers."""
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], **options
    )
    return answer.choices[0].message.content or ""


async def chunks_of(
    client: AsyncOpenAI, prompt: str, model: str = "good", **options: Any
) -> AsyncIterator[ChatCompletionChunk]:
    """Yield the chunks of a streamed answer."""
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True, **options
    )
    async for chunk in stream:
        yield chunk


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Wait for a condition; False when it did not come in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 (it is the ledger that changes, not an event)
                await asyncio.sleep(0.002)
    return condition()
