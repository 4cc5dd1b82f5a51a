"""What single parts cost that a call passes through, and that no text makes reading slow.

    python -m benchmarks.parts

CPU time, the least of some rounds: the parts are small, and a busy machine only adds. What is
compared with something else takes turns with it.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from benchmarks import results_page, windows
from conduit.core.models import ModelArm
from conduit.engines.executor.base import Call, FunctionExecutor
from conduit.engines.executor.chain import run_chain
from conduit.engines.executor.health import ModelHealth
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.engines.features import surface_signals
from conduit.feedback.refusals import refusal_or_apology
from conduit.feedback.retries import retry_signal, trace_of
from conduit.feedback.signals import detect_error
from conduit.storage.database import DatabaseStore
from conduit.testing.local_provider import LocalProvider, SimulatedModel

ARMS = [ModelArm("a"), ModelArm("b"), ModelArm("c")]
PROSE = (
    "The town was quiet in the evening. I cannot say why, but people (mostly fishermen) sat on the "
    "wall, and nobody spoke. "
)
ANSWERS = {
    "100 KB of prose": PROSE * 850,
    "2 KB of prose": PROSE * 16,
    "100 KB, one word": "a" * 100_000,
    "100 KB of fences": "```\n" * 25_000,
    "100 KB of brackets": "(" * 100_000,
    "100 KB of JSON": '[{"a": 1},' + '{"a": 1},' * 11_000 + "{}]",
}
CONFUSING = ("i can't ", "sorry i can not, but ", "i and ", "the error ", " ")
UNITS = (
    "a", "\n", " ", "(", "\nA. ", " A. B. C.", "1. ", "User: ", "'A' ", "__", "\n \n - ", "你", "`",
)  # fmt: skip
CALLER = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for i in range(int(sys.argv[2])):
    messages = [{"role": "user", "content": f"What is {i} + 4?"}]
    body = json.dumps({"model": "good", "messages": messages})
    connection.request("POST", "/v1/chat/completions", body)
    assert connection.getresponse().read()
"""


def line(what: str, found: float, hold: float) -> dict[str, Any]:
    """Return one line of the table."""
    return {"what": what, "found": found, "hold": hold, "met": "yes" if found <= hold else "no"}


def least_s(call: Callable[[], object], rounds: int = 20, calls: int = 3) -> float:
    """Return the CPU seconds of one call: the least of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(calls):
            call()
        found.append((time.thread_time() - began) / calls)
    return min(found)


# --- a call ----------------------------------------------------------------------------------


async def spent_s(ask: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return the CPU seconds of one call, of some in a row."""
    began = time.process_time()
    for _ in range(calls):
        await ask()
    return (time.process_time() - began) / calls


async def added_s(
    bare: Callable[[], Awaitable[object]], ours: Callable[[], Awaitable[object]], calls: int
) -> float:
    """Return by how much one way is dearer than the other, at the median of turns they take."""
    return statistics.median(
        [-await spent_s(bare, calls) + await spent_s(ours, calls) for _ in range(40)]
    )


async def chain() -> dict[str, Any]:
    """Return what fallback and health add to a call."""

    async def four(_model: str, _prompt: Any) -> str:
        return "4"

    executor, health, call = FunctionExecutor(four), ModelHealth(), Call("?")
    seconds = await added_s(
        lambda: executor.execute(ARMS[0], call),
        lambda: run_chain(executor, ARMS, call, deadline=time.monotonic() + 10.0, health=health),
        calls=200,
    )
    return line("fallback, deadline and health around a call, µs", seconds * 1e6, 100.0)


async def executor() -> dict[str, Any]:
    """Return what meters, prices and translation add to a call of PydanticAI's own."""

    def answer(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("4")])

    model = FunctionModel(answer)
    arm = ModelArm("m", model=model, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    agent, ours = Agent(model), PydanticAIExecutor()
    seconds = await added_s(
        lambda: agent.run("?"), lambda: ours.execute(arm, Call("?", timeout_s=10.0)), calls=10
    )
    await ours.close()
    return line("our executor around an agent of PydanticAI, µs", seconds * 1e6, 1e3)


# --- reading ---------------------------------------------------------------------------------


def answers() -> Iterator[dict[str, Any]]:
    """Yield what looking at an answer takes, and at text made to confuse the patterns."""
    for name, text in ANSWERS.items():
        took_s = least_s(lambda text=text: detect_error(text))
        yield line(f"an answer looked at for errors: {name}, µs", took_s * 1e6, 2e3)
    took_s = max(
        least_s(lambda text=(phrase * 2_000)[:2_000]: refusal_or_apology(text), rounds=5, calls=1)
        for phrase in CONFUSING
    )
    yield line("2,000 characters made to confuse the patterns of refusals, µs", took_s * 1e6, 50e3)


def retries() -> Iterator[dict[str, Any]]:
    """Yield what comparing a query with eight earlier ones takes."""

    def trace(text: str, at_s: float = 0.0) -> Any:
        return trace_of(text, decision_id=text[:9], user_id="u", at_s=at_s, embedding=None)

    for size in (100, 2_000, 100_000):
        text = " ".join(f"word{i % 700} and another{i % 300}" for i in range(size // 15))
        earlier = [trace(f"{i} {text}") for i in range(8)]
        took_s = least_s(
            lambda text=text, earlier=earlier: retry_signal(trace(text, 1.0), earlier), rounds=5
        )
        yield line(f"a query of {size:,} characters told from a retry, µs", took_s * 1e6, 10e3)


def growth() -> Iterator[dict[str, Any]]:
    """Yield how the time of the surface signals grows, whatever a text is made of."""
    ratios = {}
    for unit in UNITS:
        short, long = (unit * (length // len(unit)) for length in (1_000, 4_000))
        short_s = least_s(lambda text=short: surface_signals(text))
        ratios[unit] = least_s(lambda text=long: surface_signals(text)) / (short_s + 2.5e-6)
    worst = max(ratios, key=lambda unit: ratios[unit])
    what = f"surface signals, 4,000 characters beside 1,000, of {len(UNITS)} units the worst"
    yield line(f"{what}: {worst!r}, times", ratios[worst], 8.0)
    short_s = least_s(lambda: surface_signals("word " * 800))
    long_s = least_s(lambda: surface_signals("word " * 200_000))
    yield line("surface signals, 1,000,000 characters beside 4,000, times", long_s / short_s, 3.0)


# --- what stands around ----------------------------------------------------------------------


async def new_file() -> dict[str, Any]:
    """Return what making and opening a new SQLite file takes."""
    took_s = []
    with tempfile.TemporaryDirectory() as directory:
        for i in range(3):
            began = time.process_time()
            async with DatabaseStore(f"sqlite:///{directory}/{i}.db"):
                took_s.append(time.process_time() - began)
    return line("a new SQLite file, made and opened, ms", min(took_s) * 1e3, 300.0)


def provider(count: int = 400) -> dict[str, Any]:
    """Return what `LocalProvider` needs per request, so that it does not slow what it tests."""
    took_s = []
    with LocalProvider([SimulatedModel("good")]).serve_in_thread() as served:
        for _ in range(3):
            began = time.process_time()
            subprocess.run([sys.executable, "-c", CALLER, str(served.port), str(count)], check=True)
            took_s.append((time.process_time() - began) / count)
        assert len(served.requests) == 3 * count
    return line("a request to `LocalProvider`, µs", min(took_s) * 1e6, 500.0)


def main() -> None:
    """Print and keep the figures."""
    windows.asked(__doc__)
    references = list(windows.references())
    rows = [asyncio.run(chain()), asyncio.run(executor()), *answers(), *retries(), *growth()]
    rows += [asyncio.run(new_file()), provider()]
    references += windows.references()
    for row in rows:
        print(row, flush=True)
    notes = ["CPU time; OMP_NUM_THREADS=1.", windows.reference_note(references)]
    results_page.write("parts", rows, title="What single parts cost", notes=notes)


if __name__ == "__main__":
    main()
