"""LiteLLM routers whose deployments are simulated models behind a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before litellm is imported

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what LiteLLM and its libraries warn of is theirs
    litellm = pytest.importorskip("litellm", reason='needs the extra "litellm"')

from conduit.testing.local_provider import LocalProvider, SimulatedModel
from conduit_litellm import ConduitRoutingStrategy

MODELS = (
    SimulatedModel("gpt-4o-mini", 0.15, 0.60),
    SimulatedModel("gpt-4o", 2.50, 10.0),
    SimulatedModel("units-only", 1.0, 1.0, skill={"units": 1.0, "*": 0.0}),
    SimulatedModel("dates-only", 1.0, 1.0, skill={"dates": 1.0, "*": 0.0}),
)

# LiteLLM's own types make pydantic warn, and it uses deprecated parts of the standard library and
# of aiohttp, whose sessions it leaves to the garbage collector.
THEIRS = (
    "ignore:.*ReadOnly. qualifier:UserWarning",
    "ignore::DeprecationWarning:litellm",
    "ignore::DeprecationWarning:httpx",
    # Newer LiteLLM has other words for what these tests, and not the plugin, do to a router.
    r"ignore:Router\.\w+ is deprecated:DeprecationWarning:tests\.litellm",
    "ignore:Pydantic serializer warnings:UserWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore:Unclosed:ResourceWarning",
    "ignore:enable_cleanup_closed:DeprecationWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here, and let LiteLLM's own warnings pass."""
    for item in items:
        if "tests/litellm" in item.path.as_posix():
            item.add_marker(pytest.mark.litellm)
            for warning in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    """Give the test its own provider."""
    async with LocalProvider(MODELS) as provider:
        yield provider


@pytest.fixture
def threaded_provider() -> Iterator[LocalProvider]:
    """Give the test a provider that serves from another thread, for synchronous calls."""
    with LocalProvider(MODELS).serve_in_thread() as provider:
        yield provider


@pytest.fixture(autouse=True)
def untouched_callbacks() -> Iterator[None]:
    """Leave LiteLLM's global lists as they were."""
    yield
    litellm.logging_callback_manager._reset_all_callbacks()


@pytest.fixture(autouse=True)
async def clients_are_closed() -> AsyncIterator[None]:
    """Close the clients that LiteLLM keeps, in the loop that they were used in.

    It keeps 200 of them, and drops older ones unclosed in the middle of somebody else's test.
    """
    yield
    kept = litellm.in_memory_llm_clients_cache
    for client in list(kept.cache_dict.values()):
        close = getattr(client, "aclose", None) or getattr(client, "close", None)
        with contextlib.suppress(RuntimeError):  # used in a thread, whose loop is closed
            if close is not None and inspect.isawaitable(closing := close()):
                await closing
    await litellm.close_litellm_async_clients()
    kept.flush_cache()


@pytest.fixture(autouse=True, scope="module")
def what_is_left_is_collected() -> Iterator[None]:
    """Collect what LiteLLM left open in threads, before another file's tests begin."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def deploy(request: pytest.FixtureRequest) -> Deploy:
    """Return what writes an entry of a model list: group, model, id."""
    names = {"provider", "threaded_provider"} & set(request.fixturenames)
    provider: LocalProvider = request.getfixturevalue(names.pop())

    def entry(group: str, model: str, name: str, **params: Any) -> dict[str, Any]:
        info = {"id": name, **params.pop("model_info", {})}
        given = {"model": f"openai/{model}", "api_base": provider.base_url, "api_key": "local"}
        return {"model_name": group, "litellm_params": {**given, **params}, "model_info": info}

    return entry


def ask(text: str) -> list[dict[str, Any]]:
    """Return the messages of a question."""
    return [{"role": "user", "content": text}]


def served_by(response: Any) -> str:
    """Return the id of the deployment that gave a response."""
    return str(response._hidden_params["model_id"])


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for LiteLLM's callbacks, which run after the response was returned."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "LiteLLM's callbacks did not come"
        await asyncio.sleep(0.01)


def credited(strategy: ConduitRoutingStrategy) -> int:
    """Return how many answers were credited so far."""
    return sum(strategy.stats().credited.values())
