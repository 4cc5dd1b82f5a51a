"""One cell of the comparison: a contestant on a workload, kept by the content of what it is.

A cell is run once and lies in `benchmarks/.cells` under the hash of the table, the vectors, the
set-up and the contestant: for a peer its release and its adapter, for us the code that learns. So a
run that was broken off goes on, and a change of the learner runs again only what it changes.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Peer, Settings
from benchmarks.workloads import MARKS, Workload
from conduit.core.models import ModelArm
from conduit.engines.bandits.arms import GUESSED_OUTPUT_TOKENS
from conduit.evaluation.replay import Drift, ReplayResult, Rival, RivalFactory, replay, replay_rival

ROOT = Path(__file__).parents[1]
CELLS = Path(__file__).parent / ".cells"
SEED = 1000
PRIOR_ERROR = 0.05  # of the simulated benchmark scores
PEER_PRIOR_OBSERVATIONS = 30  # DESIGN §4: a published score is worth so many answers
CURVE = 60  # points of a curve
AROUND = 500  # queries before and after the middle of a stream

LEARNING = (
    "conduit/core/events.py",
    "conduit/core/vectors.py",
    "conduit/engines/bandits",
    "conduit/engines/learner.py",
    "conduit/engines/utility.py",
)
JUDGING = ("conduit/evaluation/replay.py", "conduit/evaluation/results.py")


@dataclass(frozen=True)
class Setup:
    """What is known before the stream."""

    priors: float | None = PRIOR_ERROR
    calibration: int = 0

    @property
    def title(self) -> str:
        """Return how tables call it."""
        priors = "no priors" if self.priors is None else f"priors ±{self.priors:g}"
        return f"{priors}, {self.calibration} calibration prompts" if self.calibration else priors


PLAIN, CALIBRATED = Setup(), Setup(calibration=300)
BARE, BARE_CALIBRATED = Setup(None), Setup(None, 300)


@dataclass(frozen=True)
class Change:
    """What changes in the middle of a stream."""

    name: str
    weight: float | None = None  # of cost, from then on
    best_falls_to: float | None = None  # share of the best model's quality that is left

    def weight_of(self, work: Workload) -> float | Callable[[int], float]:
        """Return the weight of cost, by the step where it changes."""
        if self.weight is None:
            return work.cost_weight
        then, at = self.weight, middle(work)
        return lambda t: work.cost_weight if t < at else then

    def drift_of(self, work: Workload) -> Drift | None:
        """Return the qualities of a step, where they change."""
        if self.best_falls_to is None:
            return None
        at, left, best = middle(work), self.best_falls_to, best_model(work)

        def drift(t: int, quality: NDArray[np.float64]) -> NDArray[np.float64]:
            if t < at:
                return quality
            fallen = quality.copy()
            fallen[best] *= left
            return fallen

        return drift


def middle(work: Workload) -> int:
    """Return the step at which a change comes."""
    return work.table.size // 2


def best_model(work: Workload) -> int:
    """Return the place of the model with the greatest mean utility."""
    found = work.table
    cost = np.asarray(found.cost_usd).mean(axis=0)
    return int(
        (np.asarray(found.quality).mean(axis=0) - work.cost_weight * cost / cost.max()).argmax()
    )


@dataclass(frozen=True)
class Contestant:
    """One of our policies by name, or a peer with its settings."""

    name: str
    policy: str | None = None
    peer: Peer | None = None
    settings: Settings | None = None
    change_detection: bool = True

    @property
    def identity(self) -> str:
        """Return what changes whenever it might decide otherwise."""
        if self.peer is None:
            return f"{self.policy} {self.change_detection} {code(LEARNING)}"
        release = version(self.peer.distribution)
        settings = json.dumps(dict(self.settings or {}), sort_keys=True)
        adapter = code((f"benchmarks/peers/{self.peer.module}.py",))
        return f"{self.peer.factory} {release} {settings} {adapter} {self.peer.limit}"


@cache
def code(paths: Sequence[str]) -> str:
    """Return a hash of what the files say to Python: comments and layout do not count."""
    content = blake2b(digest_size=12)
    for path in paths:
        found = ROOT / path
        for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            content.update(ast.dump(ast.parse(file.read_text())).encode())
    return content.hexdigest()


@dataclass(frozen=True, eq=False)
class Cell:
    """A contestant on a workload with one set-up."""

    contestant: Contestant
    workload: Workload
    setup: Setup
    orders: int = 10
    limit: int | None = None
    change: Change | None = None

    @cached_property
    def key(self) -> str:
        """Return the hash under which it is kept."""
        parts = [self.contestant.identity, self.workload.digest, code(JUDGING),
                 f"{self.setup} {self.orders} {self.limit} {self.change} {SEED}"]  # fmt: skip
        return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def known(self) -> bool:
        """Whether it was run before."""
        return _file(self.key).exists()

    def found(self) -> Found:
        """Return what came out, running it where it is not known."""
        return Found(keep(self.key, lambda: _read_off(self.run(), self.workload)))

    def run(self) -> ReplayResult:
        """Replay it."""
        who, work, setup = self.contestant, self.workload, self.setup
        change = self.change or Change("none")
        if who.peer is None:
            return replay(
                work.table,
                policy=who.policy or "",
                cost_weight=change.weight_of(work),
                orders=self.orders,
                seed=SEED,
                calibration=setup.calibration,
                prior_error=setup.priors,
                change_detection=who.change_detection,
                drift=change.drift_of(work),
                limit=self.limit,
            )
        limits = [self.limit, who.peer.limit if self.change is None else None]
        return replay_rival(
            work.table,
            prepared(who.peer, who.settings or {}, work, told=setup.priors is not None),
            name=who.name,
            cost_weight=change.weight_of(work),
            orders=self.orders,
            seed=SEED,
            calibration=setup.calibration,
            prior_error=setup.priors,
            drift=change.drift_of(work),
            limit=min((n for n in limits if n is not None), default=None),
        )


def keep(key: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what is kept under a key, making it where nothing is."""
    file = _file(key)
    if not file.exists():
        CELLS.mkdir(exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(make()))
        part.replace(file)
    kept: Mapping[str, Any] = json.loads(file.read_text())
    return kept


def _file(key: str) -> Path:
    return CELLS / f"{key}.json"


def prepared(peer: Peer, settings: Settings, work: Workload, *, told: bool) -> RivalFactory:
    """Return what makes a peer that was told the priors, as history of the average query."""
    made = peer.make(settings)

    def make(arms: Sequence[ModelArm], dim: int, seed: int) -> Rival:
        rival = made(len(arms), dim, seed)
        if told:
            average = np.zeros((PEER_PRIOR_OBSERVATIONS, dim))
            average[:, 0] = 1.0
            expected = expected_utility(arms, work)
            rival.fit(average, np.tile(expected, (PEER_PRIOR_OBSERVATIONS, 1)))
        return rival

    return make


def expected_utility(arms: Sequence[ModelArm], work: Workload) -> NDArray[np.float64]:
    """Return what priors and list prices promise of an average query, as our learner reads them."""
    cost = np.asarray(work.table.cost_usd)
    counts = work.table.input_tokens
    tokens = 0.0 if counts is None else float(np.asarray(counts).mean())
    usd = np.array(
        [
            (a.input_usd_per_mtok or 0.0) * tokens / 1e6
            + (a.output_usd_per_mtok or 0.0) * GUESSED_OUTPUT_TOKENS / 1e6
            for a in arms
        ]
    )
    quality = np.array([a.quality or 0.0 for a in arms])
    return np.asarray(quality - work.cost_weight * usd / cost.mean(axis=0).max())


def _read_off(result: ReplayResult, work: Workload) -> dict[str, Any]:
    """Return what is kept of a result: per order at the marks, and the mean curves."""
    n = result.utility.shape[1]
    marks = [t for t in MARKS if t <= n]
    total, regret = result.utility.cumsum(axis=1), result.regret.cumsum(axis=1)
    points = np.unique(np.geomspace(10, n, CURVE).astype(int))
    at = middle(work)
    return {
        "policy": result.policy,
        "steps": n,
        "marks": [*marks, n],
        "utility": [(total[:, t - 1] / t).round(6).tolist() for t in (*marks, n)],
        "regret": [regret[:, t - 1].round(4).tolist() for t in (*marks, n)],
        "curve": points.tolist(),
        "curve_regret": regret[:, points - 1].mean(axis=0).round(3).tolist(),
        "curve_regret_se": _se(regret[:, points - 1]).round(3).tolist(),
        "around": [_between(result, at - AROUND, at), _between(result, at, at + AROUND)],
        "quality": result.quality.mean,
        "cost_usd": result.cost_usd.mean,
        "share": result.share_by_model,
        "best_single": result.best_single._asdict(),
        "static_mix": result.static_mix.quality,
    }


def _between(result: ReplayResult, start: int, stop: int) -> list[float]:
    """Return each order's mean utility of some queries; nothing where the stream is shorter."""
    if start < 0 or stop > result.utility.shape[1]:
        return []
    return [round(u, 6) for u in result.utility[:, start:stop].mean(axis=1).tolist()]


def _se(values: NDArray[np.float64]) -> NDArray[np.float64]:
    orders = values.shape[0]
    if orders == 1:
        return np.zeros(values.shape[1])
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(orders))


class Found:
    """What came out of a cell."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        """Read what was kept."""
        self.kept = kept
        self.steps = int(kept["steps"])

    def per_order(self, what: str, mark: int | None) -> NDArray[np.float64] | None:
        """Return a utility or regret per order after so many queries; None stands for the end."""
        marks = self.kept["marks"]
        place = len(marks) - 1 if mark is None else marks.index(mark) if mark in marks else None
        return None if place is None else np.array(self.kept[what][place])


def paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean difference over the same orders, and its standard error."""
    difference = ours - theirs
    return float(difference.mean()), float(_se(difference[:, None])[0])


def shown(values: NDArray[np.float64], digits: int, *, sign: bool = False) -> str:
    """Return the mean of the orders and its standard error, for a table."""
    mean, se = paired(values, np.zeros_like(values))
    return f"{mean:{'+' if sign else ''}.{digits}f} ± {se:.{digits}f}"
