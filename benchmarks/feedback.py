"""What few late ratings and unreliable signals teach together, beside either alone and all ratings.

And how far quality estimates are from the truth where mostly the dissatisfied rate.

python -m benchmarks.feedback [--orders N] [--half 0|1] [--tables NAME ...]
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results_page
from benchmarks.tables import DATA, PARTS, SHARED, half, raw, table
from conduit.core.events import (
    SOURCE_RANK,
    DecisionRecord,
    Evidence,
    FeedbackRow,
    LogEntry,
    Outcome,
    Remark,
)
from conduit.core.models import ModelArm, Preferences, as_vector
from conduit.engines.learner import Learner
from conduit.evaluation.plots import Line, line_chart
from conduit.evaluation.tables import ReplayTable
from conduit.feedback.experience import SignalExperience

Floats = NDArray[np.float64]

RIGHT = 0.75  # of the signals; an answer of graded quality q counts as good with probability q
RATED = 0.05
LATE = 500  # queries
DRAWN = "llmrouter9"
DOCS = Path(__file__).parents[1] / "docs"
NOTES = [
    f"{RATED:.0%} of the decisions get a true rating, {LATE} queries late; signals are right "
    f"{RIGHT:.0%} of the time (an answer of graded quality q counts as good with probability q).",
    "Gains are of mean utility over uniform random routing; SE is of the paired difference over "
    "orders. Priors of models: none. Where only the dissatisfied rate: 30 % of the calls that were "
    "tried again, 2 % of the others.",
]
COST_WEIGHT = {"mmlu_pro": 0.1, "llmrouter9": 0.1, "routellm": 0.13, "paretobandit_k4": 0.02}


@dataclass(frozen=True)
class Sources:
    """What a router gets to know of the quality of its answers."""

    signals: bool = False
    rated: float = 0.0
    late: int = 0


WAYS = {
    "random": None,
    "signals alone": Sources(signals=True),
    "ratings alone": Sources(rated=RATED, late=LATE),
    "signals and ratings": Sources(signals=True, rated=RATED, late=LATE),
    "every rating, at once": Sources(rated=1.0),
}


class World:
    """A table as a stream of queries: what each model would bring, and what it costs."""

    def __init__(self, found: ReplayTable, cost_weight: float) -> None:
        self.table = found
        self.models = [arm.id for arm in found.models]
        self.quality = np.asarray(found.quality, float)
        cost = np.asarray(found.cost_usd, float)
        self.cost = np.where(np.isnan(cost), np.nanmean(cost, axis=0), cost)
        scale = float(self.cost.mean(axis=0).max())
        self.utility = self.quality - cost_weight * self.cost / scale
        self.preferences = Preferences(
            quality=1.0, cost=cost_weight, latency=0.0, cost_scale_usd=scale
        )
        self.x = [as_vector(v) for v in found.vectors]
        tokens = found.input_tokens
        self.input = None if tokens is None else np.asarray(tokens, float)
        written = found.output_tokens
        self.output = None if written is None else np.asarray(written, float)

    def measured(self, row: int, k: int) -> dict[str, float]:
        """Return what is known of a call without anybody's opinion."""
        found = {"cost_usd": float(self.cost[row, k])}
        if self.input is not None and self.output is not None:
            found |= {
                "input_tokens": float(self.input[row, k]),
                "output_tokens": float(self.output[row, k]),
            }
        return found


class Run:
    """One router on one order of a table, taught as the service teaches it."""

    def __init__(self, world: World, sources: Sources, seed: int) -> None:
        self.world, self.sources = world, sources
        self.rng = np.random.default_rng(seed)
        self.rows = self.rng.permutation(len(world.x))
        models = world.table.models
        self.learner = Learner(models, world.x[0].size, seed=int(self.rng.integers(2**62)))
        self.experience = SignalExperience()
        self._known: dict[int, tuple[Remark, ...]] = {}
        self._joined: dict[int, Evidence] = {}

    def utilities(self) -> Floats:
        """Return the utility of every decision."""
        world, reached = self.world, np.empty(self.rows.size)
        place = {m: k for k, m in enumerate(world.models)}
        waiting: deque[tuple[int, int, int, float]] = deque()
        coins = self.rng.random((self.rows.size, 3))
        for t, row in enumerate(self.rows):
            tokens = 0.0 if world.input is None else float(np.nanmean(world.input[row]))
            choice = self.learner.decide(
                world.x[row], preferences=world.preferences, input_tokens=tokens
            )
            k = place[choice.model]
            quality = float(world.quality[row, k])
            reached[t] = world.utility[row, k]
            self._signalled(t, int(row), k, quality, coins[t])
            if coins[t, 2] < self.sources.rated:
                waiting.append((t, int(row), k, quality))
            while waiting and waiting[0][0] <= t - self.sources.late:
                self._rated(*waiting.popleft())
        return reached

    def _signalled(self, t: int, row: int, k: int, quality: float, coin: Floats) -> None:
        """Tell the measurements of a call, and a signal of its quality that may be wrong."""
        kind, said, taught, lift, weight = "response", None, None, 0.0, 0.0
        if self.sources.signals:
            good = bool(coin[0] < quality) == bool(coin[1] < RIGHT)
            kind, said = ("no_error", 1.0) if good else ("retry", 0.0)
            found = self.experience.weigh(kind, said)
            assert found is not None
            taught, lift, weight = found
        evidence = Evidence(
            quality=taught,
            quality_weight=weight,
            lift=lift,
            rank=SOURCE_RANK["implicit"],
            given_at=float(t),
            **self.world.measured(row, k),
        )
        self._teach(t, row, k, Remark(kind, said, evidence))

    def _rated(self, t: int, row: int, k: int, quality: float) -> None:
        weight = self.experience.rating_weight(str(t), self.world.models[k])
        evidence = Evidence(
            quality=quality, quality_weight=weight, rank=SOURCE_RANK["user"], given_at=float(t)
        )
        self._teach(t, row, k, Remark("explicit", None, evidence))

    def _teach(self, t: int, row: int, k: int, remark: Remark) -> None:
        model, x = self.world.models[k], self.world.x[row]
        before, earlier = self._joined.get(t), self._known.get(t, ())
        now = remark.evidence if before is None else before.joined(remark.evidence)
        self._joined[t], self._known[t] = now, (*earlier, remark)
        self.learner.apply(Outcome.of(model, x, now, revises=before))
        if self.sources.signals:
            self.experience.learn(_entry(t, model, x, remark, before, earlier))


def _entry(
    t: int,
    model: str,
    x: NDArray[np.float32],
    remark: Remark,
    before: Evidence | None,
    earlier: tuple[Remark, ...],
) -> LogEntry:
    decision = DecisionRecord(
        id=str(t), router="bench", model=model, x=x, schema="", created_at=0.0, expires_at=1e9
    )
    row = FeedbackRow(
        feedback_id=f"{t}:{remark.kind}", router="bench", decision_id=str(t), model=model,
        evidence=remark.evidence, kind=remark.kind, said=remark.said,
    )  # fmt: skip
    return LogEntry(cursor=str(t), row=row, decision=decision, before=before, earlier=earlier)


def curves(world: World, orders: int, seed: int = 3000) -> dict[str, Floats]:
    """Return, for each way to be taught, the utilities of every order."""
    found = {}
    for name, sources in WAYS.items():
        if sources is None:
            mean = world.utility.mean(axis=1)
            runs = [
                mean[np.random.default_rng(seed + k).permutation(mean.size)] for k in range(orders)
            ]
        else:
            runs = [Run(world, sources, seed + k).utilities() for k in range(orders)]
        found[name] = np.stack(runs)
    return found


def gains(found: dict[str, Floats], last: int) -> dict[str, Floats]:
    """Return each order's gain over random routing, over its last decisions."""
    base = found["random"][:, -last:].mean(axis=1)
    return {n: u[:, -last:].mean(axis=1) - base for n, u in found.items() if n != "random"}


def se(values: Floats) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(values.size))


def row_of(name: str, found: dict[str, Floats], last: int, which: str) -> dict[str, Any]:
    """Return what came out of a table."""
    g = gains(found, last)
    both, full = g["signals and ratings"], g["every rating, at once"]
    row: dict[str, Any] = {"table": name, "over": which, "queries": found["random"].shape[1]}
    row |= {f"gain, {n}": float(v.mean()) for n, v in g.items()}
    row["share of the full gain"] = float(both.mean() / full.mean())
    for other in ("signals alone", "ratings alone"):
        more = both - g[other]
        row[f"above {other}"] = float(more.mean())
        row[f"above {other}, in SE"] = float(more.mean() / se(more))
    return row


def who_rates(decisions: int = 20_000, seed: int = 11) -> list[dict[str, Any]]:
    """Return how far quality estimates are from the truth when the dissatisfied rate most."""
    truth = {"most used": 0.85, "second": 0.7, "third": 0.55}
    share = (0.7, 0.2, 0.1)
    rates = {"retry": 0.30, "no_error": 0.02}
    rng = np.random.default_rng(seed)
    arms = [ModelArm(name, quality=0.7) for name in truth]
    corrected, plain = Learner(arms, 1, seed=1), Learner(arms, 1, seed=1)
    experience, x = SignalExperience(), as_vector([1.0])
    given: dict[str, list[float]] = {name: [] for name in truth}
    waiting: deque[tuple[int, str, float, Remark]] = deque()
    for t in range(decisions):
        model = str(rng.choice(list(truth), p=share))
        quality = float(rng.random() < truth[model])
        kind = "no_error" if (rng.random() < RIGHT) == bool(quality) else "retry"
        found = experience.weigh(kind, float(kind == "no_error"))
        assert found is not None
        signal = Evidence(
            quality=found[0], lift=found[1], quality_weight=found[2], rank=SOURCE_RANK["implicit"]
        )
        remark = Remark(kind, float(kind == "no_error"), signal)
        for learner in (corrected, plain):
            learner.apply(Outcome.of(model, x, signal))
        experience.learn(_entry(t, model, x, remark, None, ()))
        if rng.random() < rates[kind]:
            waiting.append((t, model, quality, remark))
        while waiting and waiting[0][0] <= t - LATE:
            at, model, quality, remark = waiting.popleft()
            given[model].append(quality)
            weight = experience.rating_weight(str(at), model)
            for learner, w in ((corrected, weight), (plain, 1.0)):
                said = Evidence(quality=quality, quality_weight=w, rank=SOURCE_RANK["user"])
                learner.apply(Outcome.of(model, x, said, revises=remark.evidence))
            rated = Remark("explicit", None, said)
            experience.learn(_entry(at, model, x, rated, remark.evidence, (remark,)))
    estimates = experience.quality()
    expected = [learner.expect(x).prediction.quality for learner in (plain, corrected)]
    return [
        {
            "model": name,
            "quality": truth[name],
            "mean of its ratings": float(np.mean(given[name])),
            "learner, uncorrected": float(expected[0][k]),
            "learner": float(expected[1][k]),
            "by classes of signal": estimates.estimate(name),
        }
        for k, name in enumerate(truth)
    ]


def draw(found: dict[str, Floats], name: str) -> None:
    """Draw how the gain grows, for the documentation."""
    base = found["random"].mean(axis=0).cumsum()
    n = base.size
    steps = np.unique(np.linspace(20, n, 120).astype(int))
    lines = [
        Line(way, steps.tolist(), ((u.mean(axis=0).cumsum() - base)[steps - 1] / steps).tolist())
        for way, u in found.items()
        if way != "random"
    ]
    chart = line_chart(
        lines, x_label="queries", y_label="utility gained over random routing, per query"
    )
    wide = chart[chart.index("<svg") : chart.index("</svg>") + len("</svg>")]
    (DOCS / f"feedback-{name}.svg").write_text(wide + "\n")


def main() -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", type=int, choices=(0, 1), default=None)
    parser.add_argument("--orders", type=int, default=12)
    known = [name for name in SHARED if (DATA / PARTS.get(name, (name,))[0]).exists()]
    parser.add_argument("--tables", nargs="*", default=known)
    given = parser.parse_args()
    rows = []
    if set(given.tables) == set(known):
        rows = who_rates()
        for row in rows:
            print(shown(row), flush=True)
    for name in given.tables:
        among = None if given.half is None else half(raw(name).ids, given.half)
        world = World(table(name, rows=among), COST_WEIGHT[name])
        found = curves(world, given.orders)
        n = len(world.x)
        for which, last in (("all queries", n), ("the last quarter", n // 4)):
            rows.append(row_of(name, found, last, which))
            print(shown(rows[-1]), flush=True)
        if given.half is None and name == DRAWN:
            draw(found, name)
    if given.half is None and set(given.tables) == set(known):
        results_page.write("feedback", rows, title="Dual feedback", notes=NOTES)


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    cells = (f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items())
    return "; ".join(cells)


if __name__ == "__main__":
    main()
