"""Times on a machine that others use too: in windows, beside a fixed piece of work.

What other work on a host adds to a time comes and goes within seconds. So times are taken in
windows of consecutive calls; the quietest window is the one with the least median, and what a
figure is held to is judged there. The median and the 99th percentile of all calls stand beside it,
and how long a fixed loop took in the same run, by which runs on two machines can be compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALLS = 200  # of a window
WINDOWS = 30
_LOOPS = 20
_MATRIX, _VECTOR = np.ones((160, 29)), np.full(29, 0.01)

NOTE = (
    f"Times are taken in windows of {CALLS} calls: `quietest` is the window with the least median, "
    "and what is to hold is judged there; `all` is every call."
)


class Spent:
    """The times of many calls in a row, window by window."""

    def __init__(self, times: Floats) -> None:
        """Take times in the order in which they were measured; the last window may be longer."""
        self.times = times
        windows = np.array_split(times, max(1, len(times) // CALLS))
        self.quietest: Floats = min(windows, key=lambda window: float(np.median(window)))

    def figures(self, name: str) -> dict[str, float]:
        """Return median and 99th percentile of the quietest window and of all calls."""
        return {
            f"{name} {percent} {where}": float(np.percentile(times, int(percent[1:])))
            for where, times in (("quietest", self.quietest), ("all", self.times))
            for percent in ("p50", "p99")
        }


def reference_us(clock_ns: Callable[[], int] = time.thread_time_ns) -> float:
    """Return the microseconds of a fixed loop: plain Python and small products."""
    words: dict[str, float] = {}
    start, total = clock_ns(), 0.0
    for i in range(_LOOPS):
        total += float(_MATRIX.dot(_VECTOR)[i])
        for j in range(20):
            words[str(j)] = total * j
    return (clock_ns() - start) / 1e3


def references(runs: int = 50) -> Iterator[float]:
    """Yield the times of the fixed loop, some runs of it."""
    for _ in range(runs):
        yield reference_us()


def reference_note(found: list[float]) -> str:
    """Say how long the fixed loop took."""
    return (
        f"The fixed loop of `benchmarks/windows.py` took {min(found):.0f} µs at its quickest and "
        f"{float(np.median(found)):.0f} µs at the median of this run."
    )


def asked(description: str | None, *flags: tuple[str, str]) -> argparse.Namespace:
    """Return the flags of the command line; `--help` says what a benchmark does, and runs none."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, meaning in flags:
        parser.add_argument(flag, action="store_true", help=meaning)
    return parser.parse_args()


def quietest(pairs: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return the quarter of the blocks in which the machine was least disturbed."""
    return sorted(pairs, key=sum)[: max(len(pairs) // 4, 1)]
