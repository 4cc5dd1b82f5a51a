"""A user's own table of answers, from CSV, JSON Lines or Parquet, as `replay` takes it.

Long: one row per (prompt, model) with the columns `prompt` (or `text`, `query`), `model`,
`quality`, and where known `cost_usd` and `latency_s`. Wide: one row per prompt with the columns
`quality:MODEL`, `cost_usd:MODEL` and `latency_s:MODEL` for each model.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conduit.catalogue.models import complete_arm
from conduit.core.errors import ConfigurationError, InvalidInput, unknown_name
from conduit.core.models import ModelArm
from conduit.evaluation.replay import ReplayTable

MEASURES = ("quality", "cost_usd", "latency_s")
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "text", "query", "question"),
    "model": ("model", "model_id", "model_name"),
    "quality": ("quality", "score", "correct"),
    "cost_usd": ("cost_usd", "cost", "price_usd"),
    "latency_s": ("latency_s", "latency", "seconds"),
}
LEAST_PROMPTS = 20  # below, a replay says nothing
FORMATS = (".jsonl", ".csv", ".parquet")

Row = Mapping[str, Any]


class Cell(NamedTuple):
    """What one row says of one model's answer; unknown is NaN."""

    prompt: str
    model: str
    quality: float
    cost_usd: float
    latency_s: float


class Log(NamedTuple):
    """A table whose every prompt was answered by every model, and what was left out for it."""

    table: ReplayTable
    prompts: int  # in the file
    rows: int


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row of a file with the place to name in a message."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInput(
            f"{path.name}: known formats are {', '.join(FORMATS)}", field="log", value=suffix
        )
    try:
        if suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                for read in reader:
                    yield f"{path.name}:{reader.line_num}", read
        elif suffix == ".jsonl":
            yield from _json_lines(path)
        else:
            for k, row in enumerate(_parquet_rows(path)):
                yield f"{path.name} row {k}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path.name} cannot be read ({error})", field="log") from error


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InvalidInput(f"{place}: not JSON ({error.msg})", field="log") from None
            if not isinstance(row, dict):
                raise InvalidInput(f"{place}: a row must be an object", field="log")
            yield place, row


def _parquet_rows(path: Path) -> Iterable[Row]:
    for library, read in (("pyarrow.parquet", "read_table"), ("pandas", "read_parquet")):
        try:
            table = getattr(import_module(library), read)(path)
        except ImportError:
            continue
        rows: list[Row] = table.to_pylist() if read == "read_table" else table.to_dict("records")
        return rows
    raise ConfigurationError(
        "reading Parquet needs pyarrow: pip install pyarrow (or save the log as .csv or .jsonl)",
        field="log",
    )


def read_log(path: Path, models: Sequence[str] | None = None) -> Log:
    """Return the prompts that every model answered; with `models`, only these count."""
    cells = [cell for place, row in read_rows(path) for cell in _cells(place, row)]
    if not cells:
        raise InvalidInput(f"{path.name} has no rows", field="log")
    found = tuple(dict.fromkeys(cell.model for cell in cells))
    for name in models or ():
        if name not in found:
            raise InvalidInput(unknown_name("model", name, found), field="models", value=name)
    names = tuple(models or found)
    prompts = len({cell.prompt for cell in cells})
    return Log(_table(cells, names, prompts, path.name), prompts, len(cells))


def _cells(place: str, row: Row) -> Iterator[Cell]:
    """Yield what a row says: one cell of a long row, one per model of a wide one."""
    prompt = _named(row, "prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        wanted = ", ".join(SPELLINGS["prompt"])
        raise InvalidInput(f"{place}: no prompt (a column {wanted})", field="prompt")
    wide = [str(name).partition(":")[2] for name in row if str(name).startswith("quality:")]
    for model in wide:
        values = [_number(place, row.get(f"{m}:{model}"), m) for m in MEASURES]
        if not math.isnan(values[0]):
            yield Cell(prompt, model, *values)
    if wide:
        return
    model = _named(row, "model")
    if model in (None, ""):
        raise InvalidInput(
            f"{place}: neither a column `model` nor columns `quality:MODEL`", field="model"
        )
    values = [_number(place, _named(row, m), m) for m in MEASURES]
    if math.isnan(values[0]):
        raise InvalidInput(f"{place}: no quality", field="quality")
    yield Cell(prompt, str(model), *values)


def _named(row: Row, name: str) -> Any:
    return next((row[s] for s in SPELLINGS[name] if row.get(s) is not None), None)


def _number(place: str, value: Any, name: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        number = {"true": 1.0, "false": 0.0}.get(str(value).lower())
        number = float(value) if number is None else number
    except (TypeError, ValueError):
        raise InvalidInput(f"{place}: {name} is not a number", field=name) from None
    if name == "quality" and not (math.isnan(number) or 0.0 <= number <= 1.0):
        raise InvalidInput(
            f"{place}: quality is {number:g}, and must lie between 0 and 1 (divide a score by its "
            "highest value)",
            field=name,
        )
    if number < 0.0 or math.isinf(number):
        raise InvalidInput(f"{place}: {name} is {number:g}", field=name)
    return number


def _table(cells: Sequence[Cell], models: Sequence[str], prompts: int, file: str) -> ReplayTable:
    """Return the prompts that all models answered; an answer given twice counts by its mean."""
    answers: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        if cell.model in models:
            answers.setdefault(cell.prompt, {}).setdefault(cell.model, []).append(cell)
    full = [p for p, by_model in answers.items() if len(by_model) == len(models)]
    if len(models) < 2 or len(full) < LEAST_PROMPTS:
        raise InvalidInput(
            f"{file}: {len(full)} of {prompts} prompts were answered by all of the {len(models)} "
            f"models, and a replay needs {LEAST_PROMPTS} and two models: it must know what the "
            "others would have answered. Name fewer models with --models, or let `conduit "
            "calibrate` ask them all",
            field="log",
        )

    def grid(name: str) -> Any:
        return np.array(
            [[_mean([getattr(c, name) for c in answers[p][m]]) for m in models] for p in full]
        )

    cost, latency = grid("cost_usd"), grid("latency_s")
    return ReplayTable(
        models=[ModelArm(m, quality=complete_arm(ModelArm(m)).quality) for m in models],
        quality=grid("quality"),
        cost_usd=None if np.isnan(cost).all() else cost,
        latency_s=None if np.isnan(latency).all() else latency,
        texts=full,
    )


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


__all__ = ["Log", "read_log", "read_rows"]
