"""The demo on the terminal: a table that moves while the service learns."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from conduit.cli.demo_world import (
    MODELS,
    NAMES,
    SIMULATED,
    Strategy,
    World,
    baselines,
    blend,
    fixed,
)
from conduit.cli.shell import console, dollars, say, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from conduit.cli.demo_run import Run

REFRESHES_PER_S = 8
BAR = 24  # characters
SAID_EVERY = 100  # queries, where no terminal shows the table


@contextlib.contextmanager
def live_view(run: Run, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Give a function to call after every query; it draws at most eight times a second."""
    if quiet:
        yield lambda: None
    elif sys.stdout.isatty():
        yield from _on_terminal(run)
    else:
        say(SIMULATED)
        yield _in_lines(run)


def _on_terminal(run: Run) -> Iterator[Callable[[], None]]:
    from rich.live import Live

    drawn = 0.0
    with Live(console=console(), auto_refresh=False, transient=True) as live:

        def refresh() -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= 1.0 / REFRESHES_PER_S:
                drawn = now
                live.update(_view(run), refresh=True)

        yield refresh


def _in_lines(run: Run) -> Callable[[], None]:
    said = 0

    def refresh() -> None:
        nonlocal said
        if run.done // SAID_EVERY > said and run.at:
            said = run.done // SAID_EVERY
            ours = run.strategy()
            say(f"{run.done} queries: quality {ours.quality:.2f}, {dollars(ours.cost_usd)} spent")

    return refresh


def _view(run: Run) -> RenderableType:
    from rich.console import Group

    head = f"Conduit demo: {run.done} of {len(run.world.questions)} queries, {run.rated} rated"
    if not run.at:
        return Group(head, SIMULATED)
    return Group(head, SIMULATED, _shares(run), _beside(run))


def _shares(run: Run) -> RenderableType:
    """Return how often each model answered, over all and lately."""
    lately = run.model[-100:]
    rows = []
    for k, model in enumerate(MODELS):
        share, now = run.model.count(k) / len(run.model), lately.count(k) / len(lately)
        bar = "█" * round(BAR * now)
        rows.append((NAMES[k], f"{model.output_usd_per_mtok:g}", f"{share:.0%}", f"{now:.0%}", bar))
    return table("", ("model", "$/Mtok out", "share", "last 100", "last 100 "), rows)


def _beside(run: Run) -> RenderableType:
    """Return quality and spend so far beside what could have been done instead."""
    seen = run.world
    partial = World(
        tuple(seen.questions[i] for i in run.at),
        seen.quality[run.at],
        seen.cost_usd[run.at],
    )
    others = (
        fixed(partial, "always best", seen.strongest),
        fixed(partial, "always cheapest", seen.cheapest),
        blend(partial, "random", np.full(len(MODELS), 1 / len(MODELS))),
    )
    return strategies_table("", (run.strategy(), *others))


def strategies_table(title: str, strategies: tuple[Strategy, ...]) -> RenderableType:
    """Return ways to choose beside each other."""
    rows = [
        (s.name, f"{s.quality:.3f}", dollars(s.cost_usd), f"{s.utility:.3f}") for s in strategies
    ]
    return table(title, ("", "quality", "spent", "utility"), rows)


def result_table(run: Run, plain: Run | None) -> RenderableType:
    """Return how the demo ended, beside everything that could have been done instead."""
    ours = run.strategy()
    routed = (ours,) if plain is None else (ours, plain.strategy())
    title = f"{run.done} queries, {run.rated} of them rated"
    if run.world.calibration:
        title += f", after {len(run.world.calibration)} calibration prompts"
    return strategies_table(title, (*routed, *baselines(run.world, ours.cost_usd)))


__all__ = ["live_view", "result_table", "strategies_table"]
