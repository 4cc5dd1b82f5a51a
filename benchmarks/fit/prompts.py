"""The prompts that features are fitted on: read from the routing tables, never shipped."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TABLES = ("llmrouter9", "mmlu_pro", "paretobandit_k4", "routellm_gsm8k", "routellm_mmlu")
DEFAULT_ROOT = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Prompts:
    """The prompts of one table, in its order, with what each model scored on them."""

    name: str
    root: Path
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str, ...]

    @cached_property
    def quality(self) -> dict[str, NDArray[np.float64]]:
        """The quality of each model's answers, in the order of the prompts."""
        row = {name: index for index, name in enumerate(self.ids)}
        scores: dict[str, NDArray[np.float64]] = {}
        with gzip.open(self.root / self.name / "outcomes.csv.gz", "rt", newline="") as file:
            for line in csv.DictReader(file):
                column = scores.setdefault(line["model"], np.full(len(row), np.nan))
                column[row[line["id"]]] = float(line["quality"])
        return scores


def load_prompts(name: str, root: Path = DEFAULT_ROOT) -> Prompts:
    """Return the prompts of a table."""
    with gzip.open(root / name / "prompts.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Prompts(
        name,
        root,
        tuple(row["id"] for row in rows),
        tuple(row["text"] for row in rows),
        tuple(str(row["group"]) for row in rows),
    )


def load_all(root: Path = DEFAULT_ROOT) -> list[Prompts]:
    """Return the prompts of every table."""
    return [load_prompts(name, root) for name in TABLES]


def share(ids: Sequence[str], parts: int, salt: str) -> NDArray[np.int64]:
    """Return which of so many parts each id falls in: by its hash, so the same on every run."""
    digests = (blake2b(f"{salt}:{name}".encode(), digest_size=8).digest() for name in ids)
    return np.array([int.from_bytes(digest, "little") % parts for digest in digests], np.int64)


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser that knows where the tables are."""
    parser = argparse.ArgumentParser(description=description)
    root = os.environ.get("CONDUIT_DATA", str(DEFAULT_ROOT))
    parser.add_argument("--data", type=Path, default=Path(root), help="folder of the tables")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return parser
