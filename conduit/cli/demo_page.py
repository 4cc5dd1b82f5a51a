"""The demo as a page that can be kept: what was chosen, what it cost, beside what else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conduit.cli.demo_world import (
    MODELS,
    NAMES,
    PREFERENCES,
    RATED_EVERY,
    SIMULATED,
    Floats,
    Strategy,
    baselines,
    mix_shares,
)
from conduit.cli.shell import dollars
from conduit.evaluation.plots import (
    Line,
    figures,
    line_chart,
    page,
    paragraph,
    percent,
    section,
    share_grid,
    usd,
)
from conduit.testing.local_provider import TOPICS

if TYPE_CHECKING:
    from conduit.cli.demo_run import Run

SETTLED = 0.5  # of the run: what is chosen per topic is shown for what comes after
WINDOW = 60  # queries over which shares are counted


def report(run: Run, plain: Run | None, *, http: bool) -> str:
    """Return the page; `plain` is the same run without calibration."""
    ours = run.strategy()
    others = baselines(run.world, ours.cost_usd)
    routed = (ours,) if plain is None else (ours, plain.strategy())
    return page(
        "Conduit demo: learning which model to ask",
        paragraph(SIMULATED, "callout"),
        paragraph(_what_was_done(run, http=http)),
        section(
            "What it came to",
            _result(routed, others),
            paragraph(_reading(run, ours), "note"),
            paragraph(_plain_reading(run, plain), "note"),
        ),
        section("Spend", _cost_chart(run, plain), paragraph(_price_note(), "note")),
        section("Quality", _quality_chart(run, plain), paragraph(QUALITY_NOTE, "note")),
        section("Which model answered", _share_chart(run), paragraph(SHARE_NOTE, "note")),
        section("Which model for which topic", _topics(run), paragraph(TOPIC_NOTE, "note")),
        section("When a learning router does not pay", paragraph(WHEN_NOT)),
    )


QUALITY_NOTE = (
    "Share of right answers among all queries so far; every answer is graded for this page, but "
    f"the router was told the grade of one in {RATED_EVERY} only."
)
SHARE_NOTE = f"Share of each model among the last {WINDOW} queries."
TOPIC_NOTE = (
    "Per cent of each topic's queries that each model answered, in the second half of the run. "
    "The last column is the share of right answers."
)
WHEN_NOT = (
    "If one model is best for all of your queries, use that model: no router beats it, and "
    "exploring costs something. The same holds when there are too few queries, or no signal of "
    "quality at all. The line 'best single in hindsight' shows what that would have been here."
)


def _price_note() -> str:
    prices = ", ".join(f"{m.name} {dollars(m.output_usd_per_mtok)}" for m in MODELS)
    return f"Simulated prices per million output tokens: {prices}."


def _calibrated(run: Run) -> str:
    if not run.world.calibration:
        return ""
    return (
        f"Before the first query, every model answered {len(run.world.calibration)} other prompts "
        f"whose answers are known, for {dollars(run.calibration_usd)} in all, which the figures "
        "below leave out. Then "
    )


def _what_was_done(run: Run, *, http: bool) -> str:
    way = "over HTTP to a server on this machine" if http else "within one process, without HTTP"
    return (
        f"{_calibrated(run)}{run.done} queries of {len(TOPICS)} topics went through "
        f"service.complete, {way}, with a real SQLite file. {run.rated} answers were rated. The "
        "application names the task of each query, as one that serves several purposes can. The "
        "router knew each model's price and, as from a public benchmark, its mean skill; which "
        "model is good at what it had to learn."
    )


def _result(routed: tuple[Strategy, ...], others: tuple[Strategy, ...]) -> str:
    rows = [
        (s.name, percent(round(s.quality, 3)), dollars(s.cost_usd), f"{s.utility:.3f}")
        for s in (*routed, *others)
    ]
    weight = PREFERENCES.cost / PREFERENCES.quality
    return figures(
        ("strategy", "right answers", "spent", "utility"),
        rows,
        f"Utility = quality − {weight:.2f} × cost / mean cost of the dearest model. The baselines "
        "are computed exactly from what each model would have answered.",
    )


def _reading(run: Run, ours: Strategy) -> str:
    world = run.world
    best = world.best_single
    mix = world.mix(ours.cost_usd / len(run.at))
    saved = 1 - ours.cost_usd / float(world.cost_usd[:, world.strongest].sum())
    return (
        f"Beside always asking {NAMES[world.strongest]}, {saved:.0%} less was spent, for "
        f"{_points(ours.quality - float(world.quality[:, world.strongest].mean()))} of quality. "
        "Most of such a saving is the gap between the prices: a blind mix of two models at the "
        f"same cost gets {percent(round(mix.quality, 3))} right. What learning adds is the "
        f"difference to that mix, {_points(ours.quality - mix.quality)}, and to the best single "
        f"model in hindsight ({NAMES[best]}): "
        f"{ours.utility - float(world.utility(world.quality, world.cost_usd)[:, best].mean()):+.3f}"
        " of utility."
    )


def _plain_reading(run: Run, plain: Run | None) -> str:
    if plain is None:
        return (
            "Nothing was calibrated: all that the router knows of quality it learned from "
            f"{run.rated} ratings."
        )
    return (
        f"Calibration cost {dollars(run.calibration_usd)}, once, which is not in these figures. "
        f"The same queries without it, where {plain.rated} ratings are all that is known of the "
        f"answers, end at {_points(plain.gain())} beside the mix at their own cost: that is few "
        "for five models and ten topics. With another --seed all of this comes out differently."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _steps(run: Run) -> list[float]:
    return [float(n) for n in range(1, len(run.at) + 1)]


def _beside(run: Run, *, mixed: bool) -> list[tuple[str, Floats]]:
    """Return the blind strategies that the curves show, as shares of the models."""
    world, one = run.world, np.eye(len(MODELS))
    found = [
        (f"always best ({NAMES[world.strongest]})", one[world.strongest]),
        (f"always cheapest ({NAMES[world.cheapest]})", one[world.cheapest]),
        ("random", np.full(len(MODELS), 1 / len(MODELS))),
    ]
    if world.best_single not in (world.strongest, world.cheapest):
        name = f"best single in hindsight ({NAMES[world.best_single]})"
        found.append((name, one[world.best_single]))
    if mixed:
        mix = world.mix(sum(run.cost_usd) / len(run.at))
        found.append(("static mix at the same cost", mix_shares(mix)))
    return found


def _routed(run: Run, plain: Run | None) -> list[Run]:
    return [run] if plain is None else [run, plain]


def _cost_chart(run: Run, plain: Run | None) -> str:
    steps = _steps(run)
    lines = [
        Line(one.strategy().name, _steps(one), np.cumsum(one.cost_usd).tolist())
        for one in _routed(run, plain)
    ]
    for name, shares in _beside(run, mixed=False):
        spent = np.cumsum(run.world.cost_usd[run.at] @ shares)
        lines.append(Line(name, steps, spent.tolist()))
    return line_chart(
        lines, x_label="queries answered", y_label="spent so far, US dollars", y_format=usd
    )


def _quality_chart(run: Run, plain: Run | None) -> str:
    steps = _steps(run)
    counts = np.arange(1, len(run.at) + 1)
    start = min(20, len(run.at) - 1)  # a share of fewer says nothing
    lines = []
    for one in _routed(run, plain):
        so_far = np.cumsum(one.quality) / np.arange(1, len(one.quality) + 1)
        lines.append(Line(one.strategy().name, _steps(one)[start:], so_far[start:].tolist()))
    for name, shares in _beside(run, mixed=True):
        right = np.cumsum(run.world.quality[run.at] @ shares) / counts
        lines.append(Line(name, steps[start:], right[start:].tolist()))
    return line_chart(
        lines,
        x_label="queries answered",
        y_label="right answers so far, per cent",
        y_format=percent,
        y_range=(math.floor(5 * min(min(line.y) for line in lines)) / 5, 1.0),
    )


def _share_chart(run: Run) -> str:
    steps = _steps(run)
    chosen = np.eye(len(MODELS))[run.model]
    sums = np.vstack([np.zeros(len(MODELS)), np.cumsum(chosen, axis=0)])
    ends = np.arange(1, len(run.at) + 1)
    begins = np.maximum(0, ends - WINDOW)
    shares = (sums[ends] - sums[begins]) / (ends - begins)[:, None]
    start = min(WINDOW // 3, len(run.at) - 1)
    lines = [Line(name, steps[start:], shares[start:, k].tolist()) for k, name in enumerate(NAMES)]
    return line_chart(
        lines,
        x_label="queries answered",
        y_label="share of the queries, per cent",
        y_format=percent,
        y_range=(0.0, 1.0),
    )


def _topics(run: Run) -> str:
    first = int(SETTLED * len(run.at))
    topics = np.array([TOPICS.index(run.world.questions[i].topic) for i in run.at])[first:]
    models, right = np.array(run.model)[first:], np.array(run.quality)[first:]
    shown = [t for t in range(len(TOPICS)) if (topics == t).any()]
    shares = []
    for t in shown:
        of = topics == t
        counts = np.bincount(models[of], minlength=len(MODELS)) / of.sum()
        shares.append([*counts.tolist(), float(right[of].mean())])
    short = [name.removeprefix("sim-") for name in NAMES]
    return share_grid([TOPICS[t] for t in shown], [*short, "right"], shares, "topic")


__all__ = ["report"]
