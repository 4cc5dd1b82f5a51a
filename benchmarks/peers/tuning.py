"""Choose the settings of the tuned peers: least mean regret on half 0 of the shared tables.

    python -m benchmarks.peers.tuning [--only vowpal]

Three orders of 1,000 queries with priors per table. What comes out is written into
`benchmarks.peers` by hand.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np

from benchmarks.cells import PLAIN, Cell, Contestant
from benchmarks.peers import PEERS, Peer, Settings
from benchmarks.tables import DATA
from benchmarks.workloads import to_tune_on

ORDERS = 3
QUERIES = 1000


def regret_of(peer: Peer, settings: Settings) -> tuple[float, list[float]]:
    """Return the mean over the tables, and each table's regret."""
    each: list[float] = []
    for work in to_tune_on():
        contestant = Contestant(peer.name, peer=peer, settings=settings)
        found = Cell(contestant, work, PLAIN, orders=ORDERS, limit=QUERIES).found()
        regret = found.per_order("regret", None)
        assert regret is not None
        each.append(float(regret.mean()))
    return float(np.mean(each)), each


def main() -> None:
    """Print every setting with its regret, the best first."""
    parser = argparse.ArgumentParser(description="choose the settings of the tuned peers")
    parser.add_argument("--only", default="", help="peers whose name contains this")
    only = parser.parse_args().only.lower()
    if not DATA.exists():
        print("the routing tables are not here; nothing to tune on")
        return
    for peer in PEERS:
        if only not in peer.name.lower():
            continue
        names, values = list(peer.grid), list(peer.grid.values())
        tried = [dict(zip(names, each, strict=True)) for each in product(*values)]
        found = sorted((regret_of(peer, settings), str(settings)) for settings in tried)
        print(f"\n{peer.name} (beside its defaults: {regret_of(peer, peer.defaults)[0]:+.2f})")
        for (mean, each), settings in found:
            print(f"  {mean:+.2f}  {settings}  {[round(r, 1) for r in each]}", flush=True)


if __name__ == "__main__":
    main()
