"""Synchronous callers: many threads, whoever runs the loop, and services that close meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conduit.core.errors import ConfigurationError
from conduit.core.models import Feedback, ModelArm
from conduit.engines.executor import FunctionExecutor
from conduit.engines.router import Router
from conduit.service import Service, create_service

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
from conduit.core.models import Feedback, ModelArm
from conduit.engines.executor import FunctionExecutor
from conduit.service import Service, create_service

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


def in_threads(work: Callable[[], Coroutine[Any, Any, object]]) -> list[BaseException | None]:
    """Return what each of several threads meets that runs this in an event loop of its own."""
    with at_once() as (pool, together):

        def run() -> None:
            together.wait(PATIENCE_S)
            asyncio.run(asyncio.wait_for(work(), PATIENCE_S))

        return [each.exception(PATIENCE_S) for each in [pool.submit(run) for _ in range(THREADS)]]


async def on_disk(directory: Path) -> Service:
    """Return a service with a database."""
    return await create_service(
        models=[ModelArm("acme:a"), ModelArm("acme:b")],
        database_url=f"sqlite:///{directory}/conduit.db",
        executor=FunctionExecutor(lambda model, prompt: prompt),
    )


async def test_another_event_loop_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    """Who awaits a service elsewhere learns of `run_sync`; at home everything goes on."""
    service = await on_disk(tmp_path)
    answer = await service.complete("hello")
    everything: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: service.complete("elsewhere"),
        lambda: service.complete_batch(["elsewhere"], progress=False),
        lambda: service.submit_feedback(answer, quality_score=0.5),
        lambda: service.collector.on_copy(answer),
        lambda: service.quarantine("somebody"),
        lambda: service.release("somebody"),
        lambda: service.router.feedback(answer.decision, Feedback(quality_score=0.5)),
        service.router.sync,
        service.router.flush,
        service.router.close,
        service.router.store_health,
        service.get_stats,
        service.health,
        service.flush,
        service.close,
    ]
    for work in everything:
        for error in await asyncio.to_thread(in_threads, work):
            assert isinstance(error, ConfigurationError), error
    with pytest.raises(ConfigurationError, match="run_sync"):
        await asyncio.to_thread(asyncio.run, service.complete("elsewhere"))
    async with asyncio.timeout(PATIENCE_S):
        assert (await asyncio.to_thread(service.complete_sync, "at home")).data == "at home"
        assert (await service.submit_feedback(answer, quality_score=0.5)).status == "stored"
        await service.close()


OUTLIVED = """
import asyncio, sys
from conduit import create_service
from conduit.core.errors import ConfigurationError
from conduit.engines.executor import FunctionExecutor

service = asyncio.run(create_service(
    models=["acme:a"], database_url=sys.argv[1], executor=FunctionExecutor(lambda m, p: p)
))
for work in (
    lambda: service.complete("hello"),
    lambda: service.router.route("hello"),
    service.router.flush,
    service.flush,
    service.close,
):
    try:
        asyncio.run(work())
    except ConfigurationError as error:
        print("has ended" in str(error))
try:
    service.complete_sync("hello")
except ConfigurationError as error:
    print("create_service_sync" in str(error))
"""


def test_a_service_does_not_outlive_its_event_loop(tmp_path: Path) -> None:
    """What is asked of it after `asyncio.run` is refused, not answered with the lesson lost."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OUTLIVED, f"sqlite:///{tmp_path}/conduit.db"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert ended.stdout.split() == ["True"] * 6, ended.stderr


def test_a_router_in_memory_serves_several_event_loops() -> None:
    """Threads that each run a loop decide and teach at once, and nothing is lost or hangs."""
    router, rounds = Router([ModelArm("a"), ModelArm("b")], environ={}, seed=1), 50

    async def teach() -> None:
        for number in range(rounds):
            decision = await router.route(f"question {number}")
            await router.feedback(decision, Feedback(quality_score=0.5))

    assert in_threads(teach) == [None] * THREADS
    assert router.learner.applied == router.get_stats().decisions == THREADS * rounds
