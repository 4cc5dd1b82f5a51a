"""What the service adds to a call, and how it holds when providers misbehave, over real HTTP.

    python -m benchmarks.service [--calls 300]

The provider is `LocalProvider` in a process of its own. The overhead is CPU time per call beside an
`Agent` of PydanticAI that asks the same model; both take turns in blocks, so that a busy machine
troubles them alike, and the figure is the median of the quietest quarter of the blocks. A block
ends when everything that its calls showed is written and learned.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.results_page import write
from benchmarks.windows import quietest
from conduit.core.errors import ConduitError
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.router import Router
from conduit.feedback.collector import Attempted, FeedbackCollector
from conduit.service import Service
from conduit.storage.database import open_store
from conduit.testing.local_provider import Fault, FaultKind, LocalProvider, SimulatedModel

BLOCK = 20
TOGETHER = 200
REQUESTS = 10
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
    store = await open_store(database_url)
    router = Router(arms, seed=1, environ={}, store=store)
    collector = TimedCollector(router)
    async with Service(router, PydanticAIExecutor(), collector=collector, store=store) as service:
        yield service


class TimedCollector(FeedbackCollector):
    """Adds up the CPU time of what follows an answer: signals, rows, learning."""

    cpu_s = 0.0

    async def observe_all(self, requests: Sequence[Attempted]) -> None:
        """Write and learn what requests showed."""
        began = time.process_time()
        await super().observe_all(requests)
        self.cpu_s += time.process_time() - began


async def block_ms(
    step: Callable[[int], Awaitable[Any]], at: int, flush: Callable[[], Awaitable[None]]
) -> float:
    """Return the CPU milliseconds per call of one block, with all that goes on behind it."""
    began = time.process_time()
    for n in range(BLOCK):
        await step(at + n)
    await flush()
    return (time.process_time() - began) / BLOCK * 1e3


async def overhead(url: str, calls: int, result_type: Any, database_url: str | None) -> Row:
    """Return the CPU time per call of PydanticAI alone, of the service, and the difference."""
    client = AsyncOpenAI(base_url=url, api_key="local", max_retries=0)
    model = OpenAIChatModel("sim-large", provider=OpenAIProvider(openai_client=client))
    agent: Agent[None, Any] = Agent(model, output_type=result_type)
    seen: list[tuple[float, ...]] = []
    async with service_at(url, database_url) as service:
        collector = service.collector
        assert isinstance(collector, TimedCollector)

        async def alone(k: int) -> Any:
            return await agent.run(PROMPT.format(k))

        async def through(k: int) -> Any:
            return await service.complete(PROMPT.format(k), result_type=result_type)

        for at in range(-2 * BLOCK, calls, BLOCK):
            before_s = collector.cpu_s
            alone_ms = await block_ms(alone, at, service.flush)
            service_ms = await block_ms(through, at, service.flush)
            after_ms = (collector.cpu_s - before_s) / BLOCK * 1e3
            if at >= 0:
                seen.append((alone_ms, service_ms, after_ms))
    await client.close()
    quiet = quietest(seen)
    alone_p50, service_p50, after_p50 = (statistics.median(c) for c in zip(*quiet, strict=True))
    return {
        "what": "CPU per call, " + ("text" if result_type is str else "typed"),
        "log": "memory" if database_url is None else "SQLite",
        "PydanticAI ms": round(alone_p50, 2),
        "service ms": round(service_p50, 2),
        "added p50 ms": round(statistics.median(s - a for a, s, _ in quiet), 2),
        # With a database, others have their turn while it is waited for: only memory tells.
        "after an answer ms": round(after_p50, 2) if database_url is None else None,
        "target": "added <= 2 ms, after an answer <= 1 ms",
    }


async def together(url: str, database_url: str) -> Row:
    """Return what 200 calls at once take, whether they mix, and what the history holds."""
    async with service_at(url, database_url) as service:
        began = time.process_time()
        results = await service.complete_batch(
            [f"Say it: [[marker:{i}]]" for i in range(TOGETHER)],
            concurrency=TOGETHER,
            progress=False,
        )
        ms = (time.process_time() - began) / TOGETHER * 1e3
        await service.flush()
        kept = (await service.router.store.stats(service.router.name)).responses
    own = sum(
        isinstance(r, RoutingResult) and f"[[marker:{i}]]" in r.data for i, r in enumerate(results)
    )
    return {
        "what": f"{TOGETHER} calls at once",
        "log": "SQLite",
        "service ms": round(ms, 2),
        "own answers": own,
        "history rows": kept,
        "target": "200 and 200",
    }


def pair_of(
    provider: LocalProvider,
    scores: tuple[float | None, float | None] = (None, None),
    **options: Any,
) -> Service:
    """Return a service over two equal models of a provider, believed to be of these qualities."""
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
    arms = [
        ModelArm(m, base_url=provider.base_url, quality=score, **prices)
        for m, score in zip(("one", "two"), scores, strict=True)
    ]
    return Service(Router(arms, seed=3, environ={}), PydanticAIExecutor(), **options)


async def chosen(service: Service, calls: int) -> float:
    """Return the share of calls whose first choice is the first model."""
    first = []
    for i in range(calls):
        first.append((await service.complete(f"question {i}")).decision.selected_model)
        await service.flush()
    return first.count("one") / calls


async def dead_and_back(kind: FaultKind, calls: int) -> Row:
    """Return how a pair answers while the better one is dead, and how it comes back."""
    provider = LocalProvider([SimulatedModel("one"), SimulatedModel("two")])
    async with provider, pair_of(provider, (0.9, 0.8)) as service:
        before = await chosen(service, 50)
        provider.set_fault("one", Fault(kind))
        early, late = await chosen(service, min(calls, 50)), None
        if calls > 50:
            late = await chosen(service, calls - 50)
        provider.set_fault("one", None)
        began, back_s = time.monotonic(), None
        while back_s is None and time.monotonic() - began < 60.0:
            result = await service.complete(f"again {time.monotonic()}")
            if result.model == "one":
                back_s = round(time.monotonic() - began, 1)
            await asyncio.sleep(0.05)
        await service.flush()
        again = await chosen(service, 50)
    return {
        "what": f"one of two dead for {calls} calls ({kind}), then back",
        "first choice before": f"{before:.0%}",
        "of the first 50 calls": f"{early:.0%}",
        "after 50": None if late is None else f"{late:.0%}",
        "answers again after s": back_s,
        "first choice of the next 50": f"{again:.0%}",
        "target": "after 50 below 10 %, again within 60 s, then as before",
    }


async def misbehaving(kind: str, streamed: bool, fallback: bool) -> tuple[float, int, int, int]:
    """Return the lateness, the calls too many, the untyped errors, and the bills of $0."""
    deadline_s = 0.4 if kind in ("hang", "hang_in_body") else 2.0
    late_s, untyped, nothing = 0.0, 0, 0
    async with LocalProvider([SimulatedModel("one", 1, 4), SimulatedModel("two", 1, 4)]) as p:
        async with pair_of(p, timeout_s=deadline_s) as service:
            if kind == "refused":
                service.router.add_model(ModelArm("gone", base_url=p.refused_url, quality=0.99))
            else:
                p.set_fault("one", Fault(FaultKind(kind), delay_s=0.05))
            for i in range(REQUESTS):
                began = time.monotonic()
                try:
                    if streamed:
                        async with service.stream(f"question {i}", fallback=fallback) as pieces:
                            async for _piece in pieces:
                                pass
                    else:
                        await service.complete(f"question {i}", fallback=fallback)
                except ConduitError:
                    pass
                except Exception:  # noqa: BLE001  what is counted here
                    untyped += 1
                late_s = max(late_s, time.monotonic() - began - deadline_s)
            stats = await service.get_stats()
            nothing = int(stats.cost_usd <= 0.0 and stats.answered > stats.unknown_cost)
        over = len(p.requests) - int(1.2 * REQUESTS + 3)
    return late_s, max(over, 0), untyped, nothing


async def misbehaviours() -> Row:
    """Return the worst of every misbehaviour, streamed or not, with fallback or without."""
    kinds = [*FaultKind, "refused"]
    seen = [
        await misbehaving(kind, streamed, fallback)
        for kind in kinds
        for streamed in (False, True)
        for fallback in (True, False)
    ]
    late, over, untyped, nothing = zip(*seen, strict=True)
    return {
        "what": f"{len(kinds)} misbehaviours x stream x fallback, {REQUESTS} calls each",
        "untyped errors": sum(untyped),
        "worst lateness ms": round(max(late) * 1e3, 1),
        "calls too many": sum(over),
        "bills of $0": sum(nothing),
        "target": "0, <= 50 ms, 0, 0",
    }


async def main(calls: int) -> None:
    """Print and keep the figures."""
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    with served() as url, tempfile.TemporaryDirectory() as place:
        for result_type in (str, Place):
            for database in (None, f"sqlite:///{place}/{result_type.__name__}.db"):
                keep(await overhead(url, calls, result_type, database))
        keep(await together(url, f"sqlite:///{place}/together.db"))
    for kind, dead in ((FaultKind.SERVER_ERROR, 100), (FaultKind.CUT_AT_ONCE, 20)):
        keep(await dead_and_back(kind, dead))
    keep(await misbehaviours())
    write(
        "service",
        rows,
        title="The service over real HTTP",
        notes=[
            "CPU time with all that goes on behind a call: learning, history, signals.",
            "The median of the quietest quarter of the blocks, direct and ours taking turns.",
            "Direct is Agent.run. The service asks for what one request answers without an agent.",
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300)
    asyncio.run(main(parser.parse_args().calls))
