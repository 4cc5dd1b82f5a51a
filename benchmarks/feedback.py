"""What few late ratings and unreliable signals teach together, beside either alone and all ratings.

And how far quality estimates are from the truth where mostly the dissatisfied rate.

python -m benchmarks.feedback [--orders N] [--compared N] [--half 0|1] [--only TABLE ...] [--kept]

"Signals alone" is the same router without a rating: its reliabilities stay at their documented
values. Orders, chance and seeds are the same for every way of being taught.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results_page
from benchmarks.cells import BARE, CELLS, LEARNING, PLAIN, Setup, code, keep
from benchmarks.tables import CARRIED
from benchmarks.workloads import Workload, workloads
from conduit.core.events import (
    SOURCE_RANK,
    DecisionRecord,
    Evidence,
    LogEntry,
    Outcome,
    Remark,
)
from conduit.core.models import ModelArm, Preferences, as_vector
from conduit.engines.learner import Learner
from conduit.evaluation.plots import Line, svg_chart
from conduit.evaluation.tables import ReplayTable
from conduit.feedback.experience import SignalExperience
from conduit.testing.records import an_entry

Floats = NDArray[np.float64]

RIGHT = 0.75  # of the signals; an answer of graded quality q counts as good with probability q
RATED = 0.05
LATE = 500  # queries
ORDERS = 48
# Of the two ways whose difference is a few thousandths, where orders differ by ten to twenty: set
# before any was run, for two standard errors of what a seventh more evidence may bring.
COMPARED_ORDERS = 192
BLOCK = 12  # orders that are kept together, so that a run that was broken off goes on
SEED = 3000
CURVE = 120  # points
COMPARED = ("signals alone", "signals and ratings")
SETUPS = (PLAIN, BARE)
DRAWN = (("llmrouter9 λ=0.1", PLAIN), ("mmlu_pro λ=0.1", PLAIN))
PARTS_KEPT = ("whole", "last", "course")
CODE = (
    *LEARNING,
    "conduit/feedback/experience.py",
    "conduit/feedback/kinds.py",
    "conduit/feedback/reliability.py",
)
IMAGES = Path(__file__).parents[1] / "docs" / "img"
NOTES = [
    f"{RATED:.0%} of the decisions get a true rating, {LATE} queries late; signals are right "
    f"{RIGHT:.0%} of the time (an answer of graded quality q counts as good with probability q).",
    "Gains are of mean utility over uniform random routing; SE is of the paired difference over "
    "orders. Where only the dissatisfied rate: 30 % of the calls that were "
    "tried again, 2 % of the others.",
]


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
        self.asked = np.zeros(len(self.x)) if self.input is None else np.nanmean(self.input, axis=1)
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

    def __init__(self, world: World, setup: Setup, sources: Sources, seed: int) -> None:
        self.world, self.sources = world, sources
        self.rng = np.random.default_rng(seed)
        self.rows = self.rng.permutation(len(world.x))
        models = world.table.models_scored(setup.priors, self.rng)
        self.learner = Learner(models, world.x[0].size, seed=int(self.rng.integers(2**62)))
        self.experience = SignalExperience()
        self.experience.expect(models)
        self._known: dict[int, tuple[Remark, ...]] = {}
        self._joined: dict[int, Evidence] = {}

    def utilities(self) -> Floats:
        """Return the utility of every decision."""
        world, reached = self.world, np.empty(self.rows.size)
        waiting: deque[tuple[int, int, int, float]] = deque()
        coins = self.rng.random((self.rows.size, 3))
        for t, row in enumerate(self.rows):
            k = self.choice(int(row))
            quality = float(world.quality[row, k])
            reached[t] = world.utility[row, k]
            self._signalled(t, int(row), k, quality, coins[t])
            if coins[t, 2] < self.sources.rated:
                waiting.append((t, int(row), k, quality))
            while waiting and waiting[0][0] <= t - self.sources.late:
                self._rated(*waiting.popleft())
        return reached

    def choice(self, row: int) -> int:
        """Return the place of the model that is chosen for a query."""
        world = self.world
        choice = self.learner.decide(
            world.x[row], preferences=world.preferences, input_tokens=float(world.asked[row])
        )
        return world.models.index(choice.model)

    def _signalled(self, t: int, row: int, k: int, quality: float, coin: Floats) -> None:
        """Tell the measurements of a call, and a signal of its quality that may be wrong."""
        kind, said = "response", None
        evidence = Evidence(
            rank=SOURCE_RANK["implicit"], given_at=float(t), **self.world.measured(row, k)
        )
        if self.sources.signals:
            good = bool(coin[0] < quality) == bool(coin[1] < RIGHT)
            kind, said = ("no_error", 1.0) if good else ("retry", 0.0)
            found = self.experience.weigh(kind, said, self.world.models[k])
            assert found is not None
            evidence = found.taught(evidence)
        self._teach(t, row, k, Remark(kind, said, evidence))

    def _rated(self, t: int, row: int, k: int, quality: float) -> None:
        evidence = Evidence(quality=quality, rank=SOURCE_RANK["user"], given_at=float(t))
        self._teach(t, row, k, Remark("explicit", None, evidence))

    def _teach(self, t: int, row: int, k: int, remark: Remark) -> None:
        model, x = self.world.models[k], self.world.x[row]
        before, earlier = self._joined.get(t), self._known.get(t, ())
        now = remark.evidence if before is None else before.joined(remark.evidence)
        self._joined[t], self._known[t] = now, (*earlier, remark)
        self.learner.apply(Outcome.of(model, x, now, revises=before))
        if self.sources.signals:
            self.experience.learn(_entry(t, model, x, *earlier, remark))


def _entry(t: int, model: str, x: NDArray[np.float32], *said: Remark) -> LogEntry:
    decision = DecisionRecord(
        id=str(t), router="bench", model=model, x=x, schema="", created_at=0.0, expires_at=1e9
    )
    return an_entry(decision, said)


@dataclass(frozen=True)
class Measured:
    """The utilities of one way of being taught: per order over all and the last, and over time."""

    whole: Floats
    last: Floats
    course: Floats  # the mean utility up to each of `steps`


def steps_of(n: int) -> NDArray[np.intp]:
    """Return the queries at which a curve is drawn."""
    return np.unique(np.linspace(20, n, CURVE).astype(int))


def measured(work: Workload, setup: Setup, way: str, orders: int) -> Measured:
    """Return what came out of one way to be taught; orders that were run before are kept."""
    blocks = [
        keep(_key(work, setup, way, seeds), partial(_run_block, work, setup, way, seeds))
        for seeds in _seeds(orders)
    ]
    return Measured(*(np.concatenate([np.array(b[k]) for b in blocks]) for k in PARTS_KEPT))


def _seeds(orders: int) -> list[range]:
    return [range(SEED + s, SEED + min(s + BLOCK, orders)) for s in range(0, orders, BLOCK)]


def _key(work: Workload, setup: Setup, way: str, seeds: range) -> str:
    key = f"{code(CODE)} {work.digest} {setup} {way} {WAYS[way]} {seeds} {RIGHT} {CURVE}"
    return blake2b(key.encode(), digest_size=16).hexdigest()


def orders_kept(work: Workload, setup: Setup, way: str, most: int) -> int:
    """Return how many orders of a workload were run before in one way."""
    kept = 0
    for seeds in _seeds(most):
        if not (CELLS / f"{_key(work, setup, way, seeds)}.json").exists():
            break
        kept += len(seeds)
    return kept


def _run_block(work: Workload, setup: Setup, way: str, seeds: range) -> dict[str, Any]:
    world = World(work.table, work.cost_weight)
    sources = WAYS[way]
    if sources is None:
        mean = world.utility.mean(axis=1)
        runs = [mean[np.random.default_rng(seed).permutation(mean.size)] for seed in seeds]
    else:
        runs = [Run(world, setup, sources, seed).utilities() for seed in seeds]
    reached = np.stack(runs)
    at = steps_of(reached.shape[1])
    return {
        "whole": reached.mean(axis=1).tolist(),
        "last": reached[:, -(reached.shape[1] // 4) :].mean(axis=1).tolist(),
        "course": (reached.cumsum(axis=1)[:, at - 1] / at).tolist(),
    }


def se(values: Floats) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(values.size))


def row_of(work: Workload, setup: Setup, found: dict[str, Floats], which: str) -> dict[str, Any]:
    """Return what came out of a workload; differences are paired by order, as far as both went."""
    gain = {way: less(utility, found["random"]) for way, utility in found.items()}
    both, full = gain["signals and ratings"], gain["every rating, at once"]
    row: dict[str, Any] = {"workload": work.title, "set-up": setup.title, "over": which}
    row |= {f"gain, {n}": float(v.mean()) for n, v in gain.items() if n != "random"}
    row["share of the full gain"] = float(both[: full.size].mean() / full[: both.size].mean())
    for other in ("signals alone", "ratings alone"):
        more = less(both, gain[other])
        row[f"above {other}"] = float(more.mean())
        row[f"above {other}, in SE"] = float(more.mean() / se(more))
        row[f"orders beside {other}"] = more.size
    return row


def less(one: Floats, other: Floats) -> Floats:
    """Return the difference, over the orders that both have."""
    both = min(len(one), len(other))
    return one[:both] - other[:both]


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
        found = experience.weigh(kind, float(kind == "no_error"), model)
        assert found is not None
        signal = found.taught(Evidence())
        remark = Remark(kind, float(kind == "no_error"), signal)
        corrected.apply(Outcome.of(model, x, signal))
        experience.learn(_entry(t, model, x, remark))
        if rng.random() < rates[kind]:
            waiting.append((t, model, quality, remark))
        while waiting and waiting[0][0] <= t - LATE:
            at, model, quality, remark = waiting.popleft()
            given[model].append(quality)
            said = Evidence(quality=quality, rank=SOURCE_RANK["user"])
            corrected.apply(Outcome.of(model, x, said, revises=remark.evidence))
            plain.apply(Outcome.of(model, x, said))
            rated = Remark("explicit", None, said)
            experience.learn(_entry(at, model, x, remark, rated))
    estimates = experience.quality_by_model()
    expected = [learner.expect(x).prediction.quality for learner in (plain, corrected)]
    return [
        {
            "model": name,
            "quality": truth[name],
            "mean of its ratings": float(np.mean(given[name])),
            "learner, ratings alone": float(expected[0][k]),
            "learner": float(expected[1][k]),
            "counted": estimates[name],
        }
        for k, name in enumerate(truth)
    ]


def draw(found: dict[str, Measured], work: Workload) -> None:
    """Draw how the gain grows, for the documentation."""
    base = found["random"].course
    steps = steps_of(work.table.size).tolist()
    lines = [
        Line(way, steps, less(m.course, base).mean(axis=0).tolist())
        for way, m in found.items()
        if way != "random"
    ]
    picture = svg_chart(
        lines,
        x_label="queries",
        y_label="utility gained over random routing, per query",
        title=f"{work.title}: what each source teaches",
    )
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"feedback-{work.name}.svg").write_text(picture)


def main() -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", type=int, choices=(0, 1), default=None)
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--compared", type=int, default=COMPARED_ORDERS, help="orders of two ways")
    parser.add_argument("--only", nargs="*", help="names of tables; nothing is written then")
    parser.add_argument("--kept", action="store_true", help="run nothing; write what was run")
    given = parser.parse_args()
    chosen = [w for w in workloads() if given.only is None or w.name in given.only]
    chosen = [w for w in chosen if w.name not in CARRIED]
    if given.half is not None:
        chosen = [Workload(w.name, w.cost_weight, rows=f"half {given.half}") for w in chosen]
    rows = [] if given.only else who_rates()
    left = []
    for work, setup in product(chosen, SETUPS):
        most = max(given.orders, given.compared)
        orders = {way: most if way == "random" else given.orders for way in WAYS}
        orders |= dict.fromkeys(COMPARED, most)
        if given.kept:
            orders = {way: orders_kept(work, setup, way, n) for way, n in orders.items()}
        if not all(orders.values()):
            left.append(f"{work.title}, {setup.title}")
            continue
        found = {way: measured(work, setup, way, n) for way, n in orders.items()}
        for which, part in (("all queries", "whole"), ("the last quarter", "last")):
            whose = {way: getattr(m, part) for way, m in found.items()}
            rows.append(row_of(work, setup, whose, which))
            print(shown(rows[-1]), flush=True)
        if not given.only and given.half is None and (work.title, setup) in DRAWN:
            draw(found, work)
    if not given.only and given.half is None and chosen:
        notes = [*NOTES, f"Not run: {'; '.join(left)}."] if left else NOTES
        results_page.write("feedback", rows, title="Dual feedback", notes=notes)


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    cells = (f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items())
    return "; ".join(cells)


if __name__ == "__main__":
    main()
