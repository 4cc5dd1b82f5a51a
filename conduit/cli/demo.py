"""`conduit demo`: a service over simulated models learns before one's eyes, and writes a report."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conduit.cli.shell import AsJson, command, dollars, fail, say, show, show_json, writable

if TYPE_CHECKING:
    from conduit.cli.demo_run import Run
    from conduit.cli.demo_world import World
    from conduit.core.models import RoutingResult
    from conduit.service import Service

CONCURRENCY = 8
MOST_QUERIES = 5_000
MOST_FAILED = 0.05  # of the queries: beyond it the demo shows nothing


@command
def demo(
    queries: Annotated[int, typer.Option(min=10, max=MOST_QUERIES, help="How many.")] = 600,
    calibration: Annotated[
        int, typer.Option("--calibrate", min=0, max=1_000, help="Prompts for all models first.")
    ] = 100,
    http: Annotated[
        bool, typer.Option("--http/--no-http", help="Call the models over HTTP, or in process.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("demo-report.html"),
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Watch Conduit learn, offline: five simulated models, ten topics, one rating in five.

    First every model answers a few prompts (--calibrate 0 leaves that out), then queries come. The
    same queries are routed once more without calibration, to show what the ratings alone teach.

    The models are simulated: their skills and prices are made up. Everything else is real: the
    service, HTTP to a local server, the SQLite file, and what is learned from cost and ratings.

    Examples:

      conduit demo

      conduit demo --queries 200 --no-http --out /tmp/report.html
    """
    from conduit.cli.demo_page import report
    from conduit.cli.demo_world import make_world
    from conduit.evaluation.plots import save

    writable(out)
    world = make_world(queries, seed, calibration)
    run = asyncio.run(_run(world, seed, http=http, quiet=as_json))
    plain = asyncio.run(_plain(world, seed, quiet=as_json)) if calibration else None
    if run.failed > MOST_FAILED * queries:
        fail(f"{run.failed} of {queries} queries failed; is something wrong with loopback HTTP?")
    save(out, report(run, plain, http=http))
    if as_json:
        show_json(_summary(run, plain, out, http=http))
    else:
        _show(run, plain, out)


async def _plain(world: World, seed: int, *, quiet: bool) -> Run:
    """Route the same queries with ratings alone, in this process: what comes out is the same."""
    if not quiet:
        say("The same queries without calibration, for comparison.")
    return await _run(replace(world, calibration=()), seed, http=False, quiet=True)


def _summary(run: Run, plain: Run | None, out: Path, *, http: bool) -> dict[str, Any]:
    from conduit.cli.demo_world import NAMES, SIMULATED, baselines

    ours = run.strategy()
    return {
        "simulated": SIMULATED,
        "queries": run.done,
        "failed": run.failed,
        "rated": run.rated,
        "calibration": {"prompts": len(run.world.calibration), "spent_usd": run.calibration_usd},
        "http": http,
        "conduit": ours,
        "gain_over_static_mix": run.gain(),
        "not_calibrated": None if plain is None else plain.strategy(),
        "not_calibrated_gain_over_static_mix": None if plain is None else plain.gain(),
        "baselines": baselines(run.world, ours.cost_usd),
        "share_by_model": {
            name: run.model.count(k) / max(1, len(run.model)) for k, name in enumerate(NAMES)
        },
        "report": out,
    }


def _show(run: Run, plain: Run | None, out: Path) -> None:
    from conduit.cli.demo_live import result_table
    from conduit.cli.demo_world import SIMULATED

    show(result_table(run, plain), SIMULATED)
    ours = run.strategy()
    lines = [
        f"Learning brought {100 * run.gain():+.1f} points of quality beside the static mix at the "
        f"same cost ({dollars(ours.cost_usd)}); the rest of the saving is the gap between the "
        "prices."
    ]
    if plain is not None:
        lines += [
            f"Calibration cost {dollars(run.calibration_usd)}, once, which is not in the table. "
            f"Without it, from {plain.rated} ratings alone: {100 * plain.gain():+.1f} points.",
        ]
    show(*lines, "Another --seed is another world.", f"The report with the plots: {out}")
    if run.failed:
        say(f"{run.failed} queries failed and are left out.")


async def _run(world: World, seed: int, *, http: bool, quiet: bool) -> Run:
    from conduit.cli.demo_live import live_view
    from conduit.cli.demo_run import Run

    run = Run(world)
    async with _service(seed, http=http) as service:
        if world.calibration:
            await _calibrate(service, run, quiet=quiet)
        with live_view(run, quiet=quiet) as refresh:
            await _ask_all(service, run, refresh)
    return run


async def _calibrate(service: Service, run: Run, *, quiet: bool) -> None:
    """Let every model answer a few prompts whose answers are known, before the first query."""
    from conduit.evaluation.graders import Prompt

    known = {question.prompt: question for question in run.world.calibration}

    def by_question(prompt: Prompt, answer: object) -> float:
        return float(known[prompt.text].grade(answer))

    if not quiet:
        say(f"Calibration: every model answers {len(known)} prompts whose answers are known.")
    prompts = [Prompt(q.prompt, task=q.topic) for q in run.world.calibration]
    report = await service.calibrate(prompts, grader=by_question, progress=not quiet)
    run.calibration_usd = report.spent_usd


@contextlib.asynccontextmanager
async def _service(seed: int, *, http: bool) -> AsyncIterator[Service]:
    """Give a service over the simulated models with a database of its own, in a new folder."""
    from conduit.cli.demo_world import MODELS, PREFERENCES, arms, executor_without_http
    from conduit.config import load_settings
    from conduit.service import create_service
    from conduit.testing.local_provider import LocalProvider

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conduit-demo-")))
        base_url = executor = None
        if http:
            provider = stack.enter_context(LocalProvider(MODELS, seed=seed).serve_in_thread())
            base_url = provider.base_url
        else:
            executor = executor_without_http(seed)
        # Of the user's own environment nothing takes part: the demo is the same everywhere.
        settings = load_settings(
            environ={},
            path=_no_settings(folder),
            models=arms(base_url),
            preferences=PREFERENCES,
            database_url=f"sqlite+aiosqlite:///{folder / 'demo.db'}",
            journal_path=folder / "journal",
            seed=seed,
        )
        async with await create_service(settings=settings, executor=executor) as service:
            yield service


def _no_settings(folder: Path) -> Path:
    empty = folder / "conduit.yaml"
    empty.touch()
    return empty


async def _ask_all(service: Service, run: Run, refresh: Callable[[], None]) -> None:
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(i: int) -> None:
        try:
            await _ask(service, run, i)
        finally:
            gate.release()
            refresh()

    async with asyncio.TaskGroup() as group:
        for i in range(len(run.world.questions)):
            await gate.acquire()  # in the order of the questions, as an application has them
            group.create_task(one(i))


async def _ask(service: Service, run: Run, i: int) -> None:
    from conduit.cli.demo_world import RATED_EVERY
    from conduit.core.errors import ExecutionError

    question = run.world.questions[i]
    try:
        result = await service.complete(question.prompt, task=question.topic)
    except ExecutionError:
        run.failed += 1
        return
    right = question.grade(result.data)
    _note(run, i, result, right)
    if i % RATED_EVERY == 0:
        run.rated += 1
        await service.submit_feedback(response_id=result.id, quality_score=float(right))


def _note(run: Run, i: int, result: RoutingResult[Any], right: bool) -> None:
    from conduit.cli.demo_world import NAMES

    run.at.append(i)
    run.model.append(NAMES.index(result.model))
    run.quality.append(float(right))
    run.cost_usd.append(result.response.cost_usd or 0.0)
