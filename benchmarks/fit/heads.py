"""Fit the heads that read complexity and domain off a prompt.

    python -m benchmarks.fit.heads              # make the file
    python -m benchmarks.fit.heads --check      # is the shipped file what this makes?
    python -m benchmarks.fit.heads --report     # fit on one half, judge on the other (markdown)

How they are fitted: `head_fitting.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.fit.feature_tables import compared
from benchmarks.fit.head_fitting import FILE, SPACES, corpus, fit
from benchmarks.fit.heads_report import report
from benchmarks.fit.prompts import arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file, compare it, or report how well heads do on rows they did not see."""
    parser = arguments("Fit the heads for complexity and domain.")
    parser.add_argument("--report", action="store_true", help="print how well they do")
    parser.add_argument(
        "--fast",
        action="store_true",
        help="leave out the transformer's space, whose numbers stay as they are in the file",
    )
    options = parser.parse_args(argv)
    names = SPACES[:2] if options.fast else SPACES
    if options.report:
        print(report(corpus(options.data), names=names))
        return 0
    arrays = fit(options.data, names)
    if options.check:
        return compared(arrays, FILE)
    if options.fast:
        with np.load(FILE) as archive:
            arrays = {key: archive[key] for key in archive if key.startswith("minilm.")} | arrays
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
