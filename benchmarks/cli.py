"""What the first hour waits for: the commands from a cold process, and what nobody watches.

python -m benchmarks.cli
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import results_page, windows
from conduit import Router, telemetry

RUNS = 3
CALLS = 20_000
# What a command may take, in seconds of wall time on two idle cores.
COMMANDS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("--help",), 0.5),
    (("route", "What is 2+2?"), 1.5),
    (("models",), 1.5),
)


def spent(arguments: tuple[str, ...], folder: str) -> tuple[float, float]:
    """Return the CPU seconds and the wall seconds of one command in an empty folder."""
    environ = {"PATH": os.environ["PATH"], "HOME": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "conduit.cli", *arguments]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, wall


def command_rows() -> list[dict[str, Any]]:
    """Measure every command, after one run that fills the file cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for arguments, hold in COMMANDS:
            spent(arguments, folder)
            cpu, wall = np.array([spent(arguments, folder) for _ in range(RUNS)]).T
            rows.append(
                {
                    "what": shlex.join(("conduit", *arguments)),
                    "CPU s, median": float(np.median(cpu)),
                    "wall s, least": float(wall.min()),
                    "hold, wall s": hold,
                }
            )
    return rows


def telling_rows() -> list[dict[str, Any]]:
    """Measure what telling OpenTelemetry of a decision costs where nobody listens."""
    decision = Router(environ={}).route_sync("hello")
    rows = []
    for loaded in (False, True):
        if loaded:
            import opentelemetry.trace  # noqa: F401  as an application's other library may
        start = time.process_time()
        for _ in range(CALLS):
            telemetry.decided(decision, "hello", 0.001)
        cpu = (time.process_time() - start) / CALLS
        state = "loaded, no provider" if loaded else "not loaded"
        rows.append({"what": f"telemetry per decision, OpenTelemetry {state}", "CPU µs": cpu * 1e6})
    return rows


def main() -> None:
    """Measure, print and write."""
    windows.asked(__doc__)
    rows = command_rows() + telling_rows()
    notes = [
        f"Medians of {RUNS} runs in an empty folder with an empty home. Wall time is the least "
        "of the runs, since other work on the machine can only add to it."
    ]
    results_page.write("cli", rows, title="The command line, cold", notes=notes)
    print("\n".join(results_page.as_table(rows)))


if __name__ == "__main__":
    main()
