"""What a replay and a calibration showed, as tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conduit.cli.logs import Log
from conduit.cli.shell import dollars
from conduit.evaluation.plots import (
    Line,
    figures,
    line_chart,
    page,
    paragraph,
    percent,
    save,
    section,
    svg_chart,
    usd,
)
from conduit.evaluation.replay import ReplayResult
from conduit.evaluation.report import CalibrationReport

CLEAR = 2.0  # standard errors that a difference must have to be called one
LOWEST = 20  # queries over which a running mean says something


@dataclass(frozen=True, slots=True)
class Compared:
    """One way to choose: the means per query; None where the log does not say."""

    name: str
    quality: float
    cost_usd: float | None
    utility: float

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        return self.name, f"{self.quality:.3f}", dollars(self.cost_usd), f"{self.utility:.3f}"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay with what it is compared to."""

    log: Log
    result: ReplayResult
    baseline: str
    cost_weight: float

    def strategies(self) -> list[Compared]:
        """Return Conduit, then what could have been done instead."""
        r, mix = self.result, self.result.static_mix
        priced = self.log.table.cost_usd is not None
        steps = r.utility.shape[1]
        ours = Compared(
            f"Conduit ({r.policy})",
            r.quality.mean,
            r.cost_usd.mean if priced else None,
            r.utility_at(steps).mean,
        )
        names = [(f"baseline ({self.baseline})", self.baseline)]
        names.append((f"best single in hindsight ({r.best_single.model})", r.best_single.model))
        if priced:
            cheapest = min(r.alone, key=lambda fixed: fixed.cost_usd).model
            names.append((f"always cheapest ({cheapest})", cheapest))
        found = [ours, *(self._fixed(name, model) for name, model in names)]
        if priced:
            shares = [mix.shares.get(m, 0.0) for m in r.models]
            found.append(self._blend("static mix, same cost", shares))
        even = [1 / len(r.models)] * len(r.models)
        return [*found, self._blend("random", even)]

    def _fixed(self, name: str, model: str) -> Compared:
        return self._blend(name, [float(m == model) for m in self.result.models])

    def _blend(self, name: str, shares: Sequence[float]) -> Compared:
        """Return what models reach on the queries that were routed, each with its share of them."""
        weights, alone = np.asarray(shares), self.result.alone
        quality, cost, utility = (
            float(weights @ np.array(part))
            for part in zip(*((f.quality, f.cost_usd, f.utility) for f in alone), strict=True)
        )
        priced = self.log.table.cost_usd is not None
        return Compared(name, quality, cost if priced else None, utility)

    def verdict(self) -> str:
        """Say in one line whether routing pays here, beside the best single model."""
        r = self.result
        gain = -float(r.regret.mean())
        # Over the prompts, not over the orders, which all hold the same prompts.
        error = float(np.sqrt(r.regret.var(axis=1).mean() / r.regret.shape[1]))
        best = r.best_single.model
        if abs(gain) <= CLEAR * error:
            return f"No clear difference to the best single model in hindsight ({best})."
        if gain > 0:
            return f"Routing beats the best single model in hindsight ({best}) by {gain:.3f}."
        return (
            f"The best single model in hindsight ({best}) beats routing by {-gain:.3f}: if it "
            "stays the best, use it alone."
        )

    def fields(self) -> dict[str, Any]:
        """Return the result as JSON shows it."""
        return {
            "prompts": self.log.table.size,
            "prompts_in_file": self.log.prompts,
            "policy": self.result.policy,
            "cost_weight": self.cost_weight,
            "strategies": self.strategies(),
            "share_by_model": self.result.share_by_model,
            "verdict": self.verdict(),
        }

    def lines(self) -> list[Line]:
        """Return the mean utility so far, over all orders, and the fixed models as level lines."""
        utility = self.result.utility
        steps = np.arange(1, utility.shape[1] + 1)
        running = (np.cumsum(utility, axis=1) / steps).mean(axis=0)
        start = min(LOWEST, len(steps) - 1)
        at = steps[start:].astype(float).tolist()
        lines = [Line("Conduit", at, running[start:].tolist())]
        for other in self.strategies()[1:6]:
            lines.append(Line(other.name, at, [other.utility] * len(at)))
        return lines


def save_plot(path: Path, replayed: Replayed) -> None:
    """Write the plot: the drawing alone for .svg, a page with the figures for .html."""
    x_label, y_label = "queries routed", "mean utility so far"
    if path.suffix == ".svg":
        save(path, svg_chart(replayed.lines(), x_label=x_label, y_label=y_label, title="Utility"))
        return
    chart = line_chart(replayed.lines(), x_label=x_label, y_label=y_label)
    rows = [s.cells() for s in replayed.strategies()]
    shares = [(m, percent(round(s, 3))) for m, s in replayed.result.share_by_model.items()]
    save(
        path,
        page(
            "Conduit: your log, replayed",
            paragraph(replayed.verdict()),
            section("Result", figures(("strategy", "quality", "per query", "utility"), rows)),
            section("Learning", chart),
            section("Which model answered", figures(("model", "share"), shares)),
            paragraph(
                f"Utility = quality − {replayed.cost_weight:g} × cost / mean cost of the dearest "
                "model. The baselines are computed from the same table.",
                "note",
            ),
        ),
    )


def save_calibration(path: Path, report: CalibrationReport) -> None:
    """Write the page of a calibration: the models side by side."""
    rows = [
        (
            m.model,
            "unknown" if m.quality is None else f"{m.quality:.3f} ± {m.quality_95 or 0.0:.3f}",
            dollars(m.cost_usd),
            "unknown" if m.latency_s is None else f"{m.latency_s:.2f} s",
            "" if m.routed_share is None else percent(round(m.routed_share, 3)),
        )
        for m in report.models
    ]
    points = [
        Line(m.model, [1_000 * m.cost_usd], [m.quality])
        for m in report.models
        if m.quality is not None and m.cost_usd is not None
    ]
    chart = line_chart(
        points,
        x_label="US dollars per 1,000 queries",
        y_label="quality",
        x_format=usd,
        x_range=(0.0, 0.0),
        y_range=(0.0, 1.0),
    )
    save(
        path,
        page(
            "Conduit: calibration",
            section(
                "Models", figures(("model", "quality", "per query", "latency", "routed"), rows)
            ),
            section("Quality and price", chart),
            f"<pre>{_escaped(report.summary())}</pre>",
        ),
    )


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
