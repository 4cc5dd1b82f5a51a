"""Other bandits, each behind one adapter, to be replayed on the rows and orders that judge ours.

Every peer gets the vectors that our learner gets, and as its reward the utility under the weights
in force. Calibration prompts and priors reach it as history, through its own call for history: a
prior is `PRIOR_OBSERVATIONS` answers of the average query with the expected utility.

Each peer runs as its documentation sets it up, and once more tuned: among a few settings,
`python -m benchmarks.peers.tuning` found the least regret on half 0 of the shared tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

from conduit.evaluation.replay import Rival

Settings = Mapping[str, float | str]


@dataclass(frozen=True)
class Peer:
    """One bandit of another project: where it comes from, and how it is set up."""

    name: str
    distribution: str  # on PyPI
    module: str  # of this package
    factory: str  # of the module: (k, dim, seed, **settings) -> Rival
    defaults: Settings = field(default_factory=dict)  # beside the library's own
    tuned: Settings = field(default_factory=dict)
    grid: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    limit: int | None = None  # queries per order, where a whole table takes too long

    def make(self, settings: Settings) -> Callable[[int, int, int], Rival]:
        """Return what makes the peer for k models, a dimension and a seed."""
        module = import_module(f"benchmarks.peers.{self.module}")
        return partial(getattr(module, self.factory), **settings)


PEERS: tuple[Peer, ...] = (
    Peer(
        "MABWiser LinTS",
        "mabwiser",
        "mabwiser",
        "lin_ts",
        tuned={"alpha": 0.1, "l2_lambda": 10.0},
        grid={"alpha": (0.05, 0.1, 0.3), "l2_lambda": (1.0, 10.0)},
        limit=2000,
    ),
    Peer(
        "MABWiser LinUCB",
        "mabwiser",
        "mabwiser",
        "lin_ucb",
        tuned={"alpha": 0.05, "l2_lambda": 10.0},
        grid={"alpha": (0.05, 0.1, 0.3), "l2_lambda": (1.0, 10.0)},
        limit=2000,
    ),
    Peer(
        "Vowpal Wabbit bag 5",
        "vowpalwabbit",
        "vowpal",
        "explorer",
        defaults={"options": "--bag 5"},
        tuned={"options": "--bag 5", "learning_rate": 0.5, "power_t": 0.0},
        grid={"options": ("--bag 5",), "learning_rate": (0.02, 0.1, 0.5), "power_t": (0.0, 0.5)},
    ),
    Peer(
        "Vowpal Wabbit squarecb",
        "vowpalwabbit",
        "vowpal",
        "explorer",
        defaults={"options": "--squarecb"},
        tuned={"options": "--squarecb --gamma_scale 1000", "learning_rate": 0.1},
        grid={
            "options": ("--squarecb --gamma_scale 100", "--squarecb --gamma_scale 1000"),
            "learning_rate": (0.02, 0.1, 0.5),
        },
    ),
    Peer(
        "ParetoBandit",
        "paretobandit",
        "paretobandit",
        "router",
        tuned={"alpha": 0.01, "forgetting_factor": 1.0},
        grid={"alpha": (0.01, 0.05, 0.2), "forgetting_factor": (0.997, 1.0)},
    ),
)
