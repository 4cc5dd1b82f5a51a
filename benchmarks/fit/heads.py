"""Fit the heads that read complexity and domain off a prompt.

    python -m benchmarks.fit.heads              # make the file
    python -m benchmarks.fit.heads --check      # is the shipped file what this makes?
    python -m benchmarks.fit.heads --report     # fit on one half, judge on the other (markdown)

Domain: the subject groups of the tables (`labels.py`), each prompt with and without its answer
options, and prompts of our own. Complexity: whether small models answered wrongly.
"""

from __future__ import annotations



