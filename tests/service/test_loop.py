"""Synchronous callers: many threads, whoever runs the loop, and services that close meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service

THREADS = 8
PATIENCE_S = 60.0  # for what takes a moment; only a fault takes that long


def service_of(function: Callable[[str, str], object] = lambda model, prompt: prompt) -> Service:
    """Return a service in memory."""
    return Service(Router([ModelArm("m")], environ={}), FunctionExecutor(function))


async def made() -> Service:
    """Return a service whose home is the running loop."""
    return service_of()


@contextmanager
def at_once() -> Iterator[tuple[ThreadPoolExecutor, threading.Barrier]]:
    """Give threads, and what lets them start together."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool, threading.Barrier(THREADS)
    finally:
        pool.shutdown(wait=False)


def ask_at_once(service: Service) -> list[str]:
    """Return what threads get that ask at the same moment."""
    with at_once() as (pool, together):

        def ask(number: int) -> str:
            together.wait(PATIENCE_S)
            data: str = service.complete_sync(f"question {number}").data
            return data

        asking = [pool.submit(ask, number) for number in range(THREADS)]
        return [each.result(PATIENCE_S) for each in asking]


def test_threads_share_a_loop_that_nobody_runs() -> None:
    """A service made in a loop that ended its work is asked by many threads, each answered."""
    loop = asyncio.new_event_loop()
    service = loop.run_until_complete(made())
    for _ in range(5):
        assert ask_at_once(service) == [f"question {n}" for n in range(THREADS)]
    service.close_sync()
    loop.close()


def test_threads_that_are_first_start_one_loop() -> None:
    """Of a service without a loop, the first callers start one, not one each."""
    before = set(threading.enumerate())
    service = service_of()
    assert ask_at_once(service) == [f"question {n}" for n in range(THREADS)]
    homes = [t for t in threading.enumerate() if t.name == "conduit-service"]
    assert len(homes) == 1
    service.close_sync()
    assert not homes[0].is_alive()
    left = [thread.name for thread in set(threading.enumerate()) - before]
    pools = ("ThreadPoolExecutor", "asyncio_")  # the callers' and that of plain functions: they may
    assert all(name.startswith(pools) for name in left), left
    assert len(left) <= 2 * THREADS  # linger, one of each for a caller


def test_nobody_waits_for_a_service_that_was_closed() -> None:
    """A call under way ends, though its model never answers, and a later one says what is wrong."""
    begun = threading.Event()

    async def never(model: str, prompt: str) -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    service = service_of(never)
    with at_once() as (pool, _):
        asking = pool.submit(service.complete_sync, "hello")
        assert begun.wait(PATIENCE_S)
        service.close_sync()
        with pytest.raises(ConfigurationError, match="closed"):
            asking.result(PATIENCE_S)
    with pytest.raises(ConfigurationError, match="closed"):
        service.complete_sync("hello")


def test_a_loop_ends_though_closing_fails() -> None:
    """The error of a part is told, and the thread is gone nevertheless."""
    service = service_of()
    service.complete_sync("hello")

    async def failing() -> None:
        raise OSError("the executor says so")

    service.executor.close = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the executor says so"):
        service.close_sync()
    assert "conduit-service" not in {t.name for t in threading.enumerate()}


FORKED = """
import os
from conduit import Router
from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm
from conduit.engines.executor import FunctionExecutor
from conduit.service import Service

def service():
    return Service(Router([ModelArm("m")], environ={}), FunctionExecutor(lambda m, p: p))

used, unused = service(), service()
used.complete_sync("hello")
if os.fork() == 0:
    try:
        used.complete_sync("hello")
    except ConfigurationError as error:
        print("forked" in str(error), unused.complete_sync("again").data, flush=True)
    os._exit(0)
os.wait()
used.close_sync()
"""


def test_a_forked_process_is_told_that_the_loop_stayed_behind() -> None:
    """Threads do not survive a fork: without a word, a child would wait for ever."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert ended.stdout.split() == ["True", "again"]
