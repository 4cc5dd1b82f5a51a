"""Learning beside the numbers that DESIGN §9 wants, our default policy alone.

    python -m benchmarks.design            # some ten minutes of CPU time
    python -m benchmarks.design --quick    # four orders, nothing written

A utility hangs on which rows an order happens to begin with: over ten orders its standard error is
.015 at 100 queries and .004 at 2,000, in §9 as here. The gain over the best single model on the
same rows hangs on that far less, so it stands beside it, with §9's less its best single model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results_page
from benchmarks.cells import BARE, BARE_CALIBRATED, CALIBRATED, PLAIN, SEED, Setup, paired, shown
from benchmarks.workloads import MARKS, Workload, workloads
from conduit.evaluation.replay import replay

ORDERS = 40
SETUPS = (PLAIN, CALIBRATED, BARE, BARE_CALIBRATED)


def rows_of(work: Workload, setup: Setup, orders: int) -> Iterator[dict[str, Any]]:
    """Yield a row per mark of a workload that DESIGN §9 lists."""
    result = replay(
        work.table,
        cost_weight=work.cost_weight,
        orders=orders,
        seed=SEED,
        calibration=setup.calibration,
        prior_error=setup.priors,
        limit=max(MARKS),
    )
    utility, regret = result.utility.cumsum(axis=1), result.regret.cumsum(axis=1)
    for mark in MARKS:
        target, best = work.target(mark, setup.calibration), work.best_single
        if target is None or best is None:
            continue
        at = min(mark, utility.shape[1])  # a table may be shorter
        reached, gain, wanted = utility[:, at - 1] / at, -regret[:, at - 1] / at, target - best
        yield {
            "workload": work.title,
            "set-up": setup.title,
            "queries": at,
            "utility": shown(reached, 3),
            "§9": f"{target:.3f}",
            "utility reached": "yes" if round(float(reached.mean()), 3) >= target else "no",
            "over the best single model, same rows": shown(gain, 4, sign=True),
            "§9 over it": f"{wanted:+.4f}",
            "gain reached": _verdict(gain, wanted),
        }


def _verdict(values: NDArray[np.float64], wanted: float) -> str:
    short, se = paired(np.full_like(values, wanted), values)
    return "yes" if short <= 0 else f"no, {short / se:.1f} SE short"


def main(given: Sequence[str] | None = None) -> None:
    """Print and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="four orders, nothing written")
    options = parser.parse_args(given)
    orders = 4 if options.quick else ORDERS
    rows: list[dict[str, Any]] = []
    for work in workloads():
        for setup in SETUPS if work.plain else ():
            for row in rows_of(work, setup, orders):
                rows.append(row)
                print(row, flush=True)
    if not rows:
        print("the routing tables are not here; nothing to measure")
    elif not options.quick:
        results_page.write(
            "design",
            rows,
            title="Learning beside DESIGN §9",
            notes=[
                f"Our default policy, {ORDERS} orders, mean ± standard error. Utility = quality − "
                "λ·cost / (mean cost of the dearest model). §9's own numbers are means of ten "
                "orders of other draws, so they have a standard error too: about .015 at 100, "
                ".007 at 500 and .004 at 2,000 queries.",
                "§9's numbers are for scores within ±.05; they stand beside the runs without any "
                "as well.",
            ],
        )


if __name__ == "__main__":
    main()
