"""An executor may be used from one event loop after another, and from several at once.

What a loop leaves open when it ends nobody can close any more, so this runs in other processes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from conduit.engines.executor import LiteLLMExecutor, PydanticAIExecutor
from conduit.engines.executor.base import Call, Executor
from conduit.testing import LocalProvider, SimulatedModel

ROOT = Path(__file__).parents[3]
THREADS, CALLS = 4, 5
PATIENCE_S = 60.0
EXECUTORS: dict[str, Callable[[], Executor]] = {
    "pydantic_ai": PydanticAIExecutor,
    "litellm": LiteLLMExecutor,
}


async def ask(executor: Executor, provider: LocalProvider, text: str) -> str:
    """Return an answer."""
    answer = await executor.execute(provider.arms[0], Call(text, timeout_s=PATIENCE_S))
    data: str = answer.data
    return data


def ask_in_turn(executor: Executor, provider: LocalProvider) -> None:
    """Ask from one loop after another."""
    for number in range(4):
        assert f"number {number}" in asyncio.run(ask(executor, provider, f"number {number}"))
    asyncio.run(executor.close())


def ask_at_once(executor: Executor, provider: LocalProvider) -> None:
    """Ask from a loop in each of some threads."""
    together = threading.Barrier(THREADS)

    async def several(thread: int) -> list[str]:
        try:
            return [await ask(executor, provider, f"{thread} and {n}") for n in range(CALLS)]
        finally:
            await executor.close()

    def in_a_loop(thread: int) -> list[str]:
        together.wait(PATIENCE_S)
        return asyncio.run(several(thread))

    with ThreadPoolExecutor(THREADS) as pool:
        for thread, answers in enumerate(pool.map(in_a_loop, range(THREADS))):
            wanted = [f"{thread} and {n}" for n in range(CALLS)]
            assert [w in a for w, a in zip(wanted, answers, strict=True)] == [True] * CALLS


WAYS = {"in_turn": ask_in_turn, "at_once": ask_at_once}


@pytest.mark.parametrize("name", EXECUTORS)
@pytest.mark.parametrize("way", WAYS)
def test_each_loop_has_connections_of_its_own(name: str, way: str) -> None:
    """No call takes up a connection of another loop, which may have ended."""
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, name, way],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


if __name__ == "__main__":
    with LocalProvider([SimulatedModel("quick")]).serve_in_thread() as serving:
        WAYS[sys.argv[2]](EXECUTORS[sys.argv[1]](), serving)
