"""`conduit replay` and `conduit calibrate`: what routing is worth on one's own questions."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conduit.cli import workplace
from conduit.cli.shell import (
    AsJson,
    command,
    dollars,
    existing_file,
    say,
    show,
    show_json,
    table,
    writable,
    wrong,
)

if TYPE_CHECKING:
    from conduit.evaluation.report import CalibrationReport

UTILITY = "Utility = quality − {:g} × cost / mean cost of the dearest model."
UNPRICED = "The log has no costs, so utility is quality."


@command
def replay(
    log: Annotated[Path, typer.Argument(help="A .jsonl, .csv or .parquet file.")],
    baseline: Annotated[str, typer.Option(help="The model to compare with: what you use now.")],
    models: Annotated[str | None, typer.Option(help="Only these models: a,b,c.")] = None,
    cost_weight: Annotated[
        float, typer.Option(min=0.0, help="What the dearest model's cost takes off quality.")
    ] = 0.1,
    policy: Annotated[str, typer.Option(help="How to learn.")] = "contextual_thompson",
    orders: Annotated[int, typer.Option(min=1, max=200, help="Random orders to average.")] = 5,
    calibration: Annotated[int, typer.Option(min=0, help="Prompts to learn from first.")] = 0,
    out: Annotated[Path, typer.Option(help="The plot: .html or .svg.")] = Path(
        "replay-report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Replay your own table of answers: what would routing have brought?

    Every model's answer to a prompt must be known. Long form: one row per prompt and model with
    the columns prompt, model, quality (0 to 1), cost_usd and latency_s, the last two if known.
    Wide form: one row per prompt with quality:MODEL, cost_usd:MODEL, latency_s:MODEL.

    Examples:

      conduit replay answers.csv --baseline gpt-4o

      conduit replay answers.jsonl --baseline gpt-4o --cost-weight 0.25 --out plot.svg
    """
    from conduit.cli.logs import read_log
    from conduit.cli.replay_page import Replayed, save_plot
    from conduit.core.errors import unknown_name
    from conduit.evaluation.replay import replay as run
    from conduit.progress import progress_bar

    writable(out)
    if out.suffix not in (".html", ".svg"):
        wrong("--out must end with .html or .svg")
    found = read_log(existing_file(log), workplace.names(models))
    names = tuple(arm.id for arm in found.table.models)
    if baseline not in names:
        wrong(unknown_name("baseline", baseline, names))
    with progress_bar("Replaying", orders) as advance:
        result = run(
            found.table,
            policy=policy,
            cost_weight=cost_weight,
            orders=orders,
            calibration=calibration,
            progress=lambda _done, _all: advance(),
        )
    replayed = Replayed(found, result, baseline, cost_weight)
    save_plot(out, replayed)
    if as_json:
        show_json({**replayed.fields(), "plot": out})
        return
    columns = ("strategy", "quality", "$ per query", "utility")
    show(
        f"{found.table.size:,} of {found.prompts:,} prompts were answered by all "
        f"{len(names)} models; {orders} random orders",
        table("", columns, [s.cells() for s in replayed.strategies()]),
        "Share: " + ", ".join(f"{m} {s:.0%}" for m, s in result.share_by_model.items()),
        UTILITY.format(cost_weight) if found.table.cost_usd is not None else UNPRICED,
        replayed.verdict(),
        f"The plot: {out}",
    )


@command
def calibrate(
    prompts: Annotated[Path, typer.Argument(help="A .jsonl or .csv file of prompts.")],
    max_usd: Annotated[float, typer.Option(min=0.0, help="Stop before this is passed.")],
    grader: Annotated[
        str, typer.Option(help="expected, or module:function(prompt, answer) -> 0..1.")
    ] = "expected",
    models: Annotated[str | None, typer.Option(help="Only these models: a,b,c.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at the same time.")] = 8,
    out: Annotated[Path, typer.Option(help="The page with the plot.")] = Path(
        "calibration-report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Have every model answer your prompts, grade the answers, and let routing start warm.

    A row has prompt (or text) and, for the grader `expected`, the expected answer; task if known.
    What was paid for is kept in the database: run it again to go on after an interruption.

    Examples:

      conduit calibrate prompts.jsonl --max-usd 2

      conduit calibrate prompts.jsonl --max-usd 2 --grader my_app.grading:grade
    """
    from conduit.cli.replay_page import save_calibration

    writable(out)
    rows = _prompts(existing_file(prompts))
    judge = None if grader == "expected" else _function(grader)
    report = asyncio.run(
        _calibrated(rows, judge, workplace.names(models), max_usd, concurrency, quiet=as_json)
    )
    save_calibration(out, report)
    if as_json:
        show_json({"report": report, "page": out})
    else:
        show(report.summary(), f"The page: {out}")
    if report.complete == 0:
        say("No prompt was answered by every model: see `conduit doctor`, or raise --max-usd.")
        raise typer.Exit(1)


def _prompts(path: Path) -> list[dict[str, Any]]:
    from conduit.cli.logs import read_rows
    from conduit.evaluation.graders import Prompt

    rows = []
    for place, row in read_rows(path):
        given = {k: v for k, v in row.items() if v not in (None, "")}
        if not isinstance(given.get("text", given.get("prompt")), str):
            wrong(f"{place}: no prompt (a column prompt or text)")
        Prompt.of(given)
        rows.append(given)
    if not rows:
        wrong(f"{path.name} has no prompts")
    return rows


def _function(name: str) -> Any:
    """Return the function that `module:function` names; modules of this folder are found too."""
    module, found, attribute = name.partition(":")
    if not found or not module or not attribute:
        wrong(f"--grader is `expected` or module:function, not {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        wrong(f"--grader: {error}")
    except AttributeError:
        wrong(f"--grader: {module} has no {attribute!r}")
    finally:
        sys.path.pop(0)
    if not callable(function):
        wrong(f"--grader: {name} cannot be called")
    return function


async def _calibrated(
    rows: list[dict[str, Any]],
    judge: Any,
    models: list[str] | None,
    max_usd: float,
    concurrency: int,
    *,
    quiet: bool,
) -> CalibrationReport:
    from conduit.service import create_service

    settings = workplace.settings_here()
    if models is not None:
        settings = settings.model_copy(update={"models": workplace.arms_named(models, settings)})
    async with await create_service(settings=settings) as service:
        if not quiet:
            count = len(service.get_models())
            say(f"{len(rows)} prompts × {count} models, {dollars(max_usd)} at most")
        return await service.calibrate(
            rows, grader=judge, max_usd=max_usd, concurrency=concurrency, progress=not quiet
        )
