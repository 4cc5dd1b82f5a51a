"""What is learned, and how soon: our policies and other bandits on the same rows and orders.

    python -m benchmarks.learning            # everything; what was run before is taken as it is
    python -m benchmarks.learning --ours     # our default alone, beside what is known of the others
    python -m benchmarks.learning --quick    # two orders of 500 queries, nothing written
    python -m benchmarks.learning --only hybrid --on routellm --jobs 2
    python -m benchmarks.learning --on llmrouter9 --orders 40    # nothing written

Utility = quality − λ·cost / (mean cost of the dearest model); regret is counted against the best
single model in hindsight, on the same rows. See `benchmarks.peers` for how peers are set up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from benchmarks import changes, learning_plots, learning_tables, results_page
from benchmarks.cells import BARE, BARE_CALIBRATED, CALIBRATED, PLAIN, Cell, Contestant, Setup
from benchmarks.peers import PEERS
from benchmarks.workloads import Workload, workloads

OURS = Contestant("contextual_thompson", policy="contextual_thompson")
LEARNERS = ("linucb", "thompson", "ucb1", "epsilon_greedy", "hybrid")
BASELINES = ("random", "always_best", "always_cheapest", "oracle")
ORDERS = 10
QUICK = {"orders": 2, "limit": 500}


@dataclass(frozen=True)
class Entry:
    """A contestant, and the set-ups in which it takes part."""

    contestant: Contestant
    setups: tuple[Setup, ...]


def entries() -> list[Entry]:
    """Return everyone who takes part; the slow peers in fewer set-ups."""
    found = [Entry(OURS, (PLAIN, BARE, CALIBRATED, BARE_CALIBRATED))]
    found += [Entry(Contestant(n, policy=n), (PLAIN,)) for n in (*LEARNERS, *BASELINES)]
    for peer in PEERS:
        default = Contestant(peer.name, peer=peer, settings=peer.defaults)
        tuned = Contestant(f"{peer.name}, tuned", peer=peer, settings=peer.tuned)
        found.append(Entry(default, (PLAIN, BARE)))
        found.append(Entry(tuned, (PLAIN,) if peer.limit else (PLAIN, CALIBRATED)))
    return found


def planned(on: Sequence[Workload], quick: bool, orders: int = ORDERS) -> list[Cell]:
    """Return all cells; a quick look leaves out slow and tuned peers, and all but one set-up."""
    size = QUICK if quick else {"orders": orders}
    return [
        Cell(entry.contestant, work, setup, **size)
        for work in on
        for entry in entries()
        for setup in entry.setups
        if not quick or (setup == PLAIN and _is_quick(entry.contestant))
    ]


def _is_quick(who: Contestant) -> bool:
    return who.peer is None or (who.peer.limit is None and who.settings == who.peer.defaults)


def run(cells: Iterable[Cell], jobs: int) -> None:
    """Run what is not known yet, and say what is done."""
    missing = [cell for cell in cells if not cell.known()]
    missing.sort(key=lambda cell: cell.contestant.peer is not None)  # ours first
    numbered = [(cell, f"{k}/{len(missing)}") for k, cell in enumerate(missing, 1)]
    if jobs == 1:
        for each in numbered:
            _said(each)
        return
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(_said, numbered))


def _said(numbered: tuple[Cell, str]) -> None:
    cell, place = numbered
    regret = cell.found().per_order("regret", None)
    assert regret is not None
    print(
        f"{place} {cell.workload.title} · {cell.setup.title} · {cell.contestant.name}: "
        f"regret at the end {regret.mean():.1f}",
        flush=True,
    )


def main(given: Sequence[str] | None = None) -> None:
    """Run, print, and keep the figures once all are known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ours", action="store_true", help="run our default policy only")
    parser.add_argument("--quick", action="store_true", help="two orders of 500 queries")
    parser.add_argument("--only", default="", help="run contestants whose name contains this")
    parser.add_argument("--on", default="", help="run workloads whose name contains this")
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders of every table")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(given)
    on = [work for work in workloads() if options.on in work.title]
    if not on:
        print("no routing tables are here: install `paretobandit`, or set CONDUIT_DATA")
        return
    cells = planned(on, options.quick, options.orders)
    usual = not options.quick and options.orders == ORDERS
    around = changes.planned(on, OURS) if usual else []
    chosen = [
        cell
        for cell in (*cells, *around)
        if options.only in cell.contestant.name
        and (not options.ours or cell.contestant.name.startswith(OURS.name))
    ]
    run(chosen, options.jobs)
    whole = usual and not (options.on or options.only or options.ours)
    report(cells, around, on if usual and not options.only else [], write=whole)


def report(
    cells: Sequence[Cell], around: Sequence[Cell], stationary: Sequence[Workload], *, write: bool
) -> None:
    """Print the tables of what is known, and keep them."""
    known = [cell for cell in cells if cell.known()]
    known_around = [cell for cell in around if cell.known()]
    missing = len(cells) + len(around) - len(known) - len(known_around)
    tables = learning_tables.tables(known, OURS.name)
    tables["Utility of the 500 queries before and after a change"] = changes.around(known_around)
    tables["Changes that are seen where none is"] = changes.false_alarms(stationary)
    for title, rows in tables.items():
        print(f"\n{title}\n" + "\n".join(results_page.as_table(rows)))
    if missing:
        print(f"\n{missing} cells were not run")
    if write:
        results_page.write_tables(
            "learning",
            tables,
            title="Learning",
            notes=_notes(missing),
            cells=learning_tables.listed(known),
        )
        learning_plots.draw(known, OURS.name)


def _notes(missing: int) -> list[str]:
    notes: list[str] = [
        "Utility = quality − λ·cost / (mean cost of the dearest model). Regret is the sum over the "
        "queries of what the best single model, known only in hindsight, would have gained more, "
        "on the same rows; negative is better than it. Mean ± standard error over 10 orders.",
        "Features: 29 numbers, their tables fitted on the other tables' prompts. Priors: simulated "
        "benchmark scores, each the true mean plus or minus 0.05. Oracle: the best answer of each "
        "query, which no router can know.",
        "Peers see the same vectors, rows and orders; their reward is the utility. Calibration "
        "prompts and priors (30 answers of the average query with the utility that score and list "
        "price promise) are given as history. Tuned: the setting with the least regret on half 0 "
        "of the shared tables (`python -m benchmarks.peers.tuning`). Half of the rows that tuned "
        "peers are judged on were used to tune them; so it is with our constants.",
    ]
    if missing:
        notes.append(f"{missing} cells were not run; they are left empty.")
    notes += [
        f"{peer.name} stops after {peer.limit:,} queries of an order, for the time it takes."
        for peer in PEERS
        if peer.limit is not None
    ]
    return notes


if __name__ == "__main__":
    main()
