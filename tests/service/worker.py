"""A service as a process of its own, to be killed: it calibrates, or it spends a shared budget.

`python -m tests.service.worker '<json>'` runs `Work`, prints a JSON report and waits for the kill.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conduit.core.errors import BudgetExceeded
from conduit.core.models import ModelArm, RoutingResult
from conduit.engines.budget import Budget
from conduit.engines.executor.base import Answer, Call
from conduit.engines.executor.pydantic_ai import PydanticAIExecutor
from conduit.evaluation.graders import Prompt
from conduit.service import Service, create_service
from conduit.testing.local_provider import provider_questions

PATIENCE_S = 300.0  # for hundreds of calls at once, on a machine that others use too
TOPICS = ("capitals", "arithmetic")
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process does."""

    job: str  # calibrate, spend
    database_url: str
    provider_url: str
    prices: Mapping[str, tuple[float, float]]  # of each model: input, output
    prompts: int = 100
    max_usd: float | None = None
    calls: int = 200
    max_tokens: int = 1_000
    budget_usd: float = 1.0
    hang_of_ten: int = 0  # calls that got their reservation and wait for the kill
    worker: int = 0


def arms_of(work: Work) -> list[ModelArm]:
    """Return the models of the provider, with their prices."""
    return [
        ModelArm(name, input_usd_per_mtok=i, output_usd_per_mtok=o, base_url=work.provider_url)
        for name, (i, o) in work.prices.items()
    ]


async def opened(work: Work, **options: Any) -> Service:
    """Return the service of this process."""
    return await create_service(
        models=arms_of(work),
        database_url=work.database_url,
        seed=7,
        timeout_s=PATIENCE_S,
        **options,
    )


def prompts_of(work: Work) -> list[Prompt]:
    """Return the prompts to calibrate with, the same in every process."""
    questions = provider_questions(TOPICS, work.prompts, seed=5)
    return [Prompt(q.prompt, expected=q.expected) for q in questions]


async def calibrate(work: Work) -> dict[str, Any]:
    """Calibrate, on from where an earlier process was."""
    async with await opened(work) as service:
        report = await service.calibrate(prompts_of(work), max_usd=work.max_usd, progress=False)
    return {"complete": report.complete, "lost": report.lost, "spent_usd": report.spent_usd}


class Hanging(PydanticAIExecutor):
    """Asks the model for some calls; of ten that have reserved, a few wait for the kill."""

    def __init__(self, of_ten: int) -> None:
        super().__init__()
        self._of_ten = of_ten
        self._calls = 0
        self.hanging = 0

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Ask the model, or wait for the kill."""
        self._calls += 1
        if self._calls % 10 < self._of_ten:
            self.hanging += 1
            await asyncio.get_running_loop().create_future()
        return await super().execute(arm, call)


async def spend(work: Work) -> dict[str, Any]:
    """Send all calls at once: some are answered, some hang, the budget refuses the others."""
    executor = Hanging(work.hang_of_ten)
    budget = Budget(work.budget_usd, per="total")
    service = await opened(work, executor=executor, budgets=[budget])
    tasks = [
        asyncio.ensure_future(
            service.complete(
                f"Say it: [[marker:{work.worker}-{i}]]",
                model_settings={"max_tokens": work.max_tokens},
            )
        )
        for i in range(work.calls)
    ]
    while sum(task.done() for task in tasks) + executor.hanging < len(tasks):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    ended = await asyncio.gather(*(t for t in tasks if t.done()), return_exceptions=True)
    return {
        "answered": sum(isinstance(each, RoutingResult) for each in ended),
        "refused": sum(isinstance(each, BudgetExceeded) for each in ended),
        "hanging": executor.hanging,
        "others": sorted(
            {repr(each) for each in ended if not isinstance(each, RoutingResult | BudgetExceeded)}
        ),
    }


JOBS = {"calibrate": calibrate, "spend": spend}


@contextmanager
def started(work: Work) -> Iterator[subprocess.Popen[str]]:
    """Start a process for the work; it is killed at the end unless it has ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.worker", json.dumps(asdict(work))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the report of a process; what it holds then, it holds until it is killed."""
    assert process.stdout is not None
    report: dict[str, Any] = json.loads(process.stdout.readline())
    return report


async def run(work: Work) -> None:
    """Do the work, report, and stay until the kill."""
    report = await JOBS[work.job](work)
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """Do the work that the first argument describes."""
    asyncio.run(run(Work(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
