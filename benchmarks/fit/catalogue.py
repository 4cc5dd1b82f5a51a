"""Writes conduit/catalogue/data.json: facts kept by hand, prices from genai-prices.

    python -m benchmarks.fit.catalogue            # write the file
    python -m benchmarks.fit.catalogue --check    # say whether it is what this script makes

Nothing is fetched: prices and context windows are those that the installed genai-prices carries,
ratings and speeds were read from the pages named beside them. A number that no page gave is absent.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.fit.catalogue_facts import (
    ARENA,
    MODELS,
    OUTPUT_TOKENS,
    REFERENCE_MODEL,
    REFERENCE_RATING,
    SOURCES,
    SPEED,
    Entry,
)

DATA = Path(__file__).resolve().parents[2] / "conduit" / "catalogue" / "data.json"
AS_OF = "2026-11-21"  # the day on which "the list price" is read off, where prices change by date

# our provider (PydanticAI's name): the provider ids of genai-prices
GENAI_PROVIDER = {"bedrock": "aws"}


@dataclass(frozen=True)
class Listed:
    """What genai-prices lists for one model: price periods and the context window."""

    periods: list[dict[str, Any]]
    context_window: int | None
    notes: list[str] = field(default_factory=list)


def price_of(value: Any) -> float | None:
    """Return the base price of a field; a price that grows with the prompt starts at its base."""
    if value is None:
        return None
    base = value if isinstance(value, Decimal) else value.base
    return float(base)


def periods(model: Any) -> Iterator[dict[str, Any]]:
    """Yield the model's prices with the day from which each holds, oldest first."""
    conditions = model.prices if isinstance(model.prices, list) else [None]
    for condition in conditions:
        prices = model.prices if condition is None else condition.prices
        start = getattr(getattr(condition, "constraint", None), "start_date", None)
        if condition is not None and condition.constraint is not None and start is None:
            raise SystemExit(f"{model.id}: a price by time of day has no place in the catalogue")
        pair = price_of(prices.input_mtok), price_of(prices.output_mtok)
        if None in pair:
            raise SystemExit(f"{model.id}: genai-prices has no price for its text")
        yield {
            "from": start and start.isoformat(),
            "input_usd_per_mtok": pair[0],
            "output_usd_per_mtok": pair[1],
        }


def distinct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop a period that changes neither price."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if not kept or {**row, "from": None} != {**kept[-1], "from": None}:
            kept.append(row)
    return kept


def listed(provider: str, name: str) -> Listed:
    """Return what genai-prices lists for a model, or stop: unpriced models are not shipped."""
    from genai_prices.data import providers

    if provider == "ollama":
        free = {"from": None, "input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}
        return Listed([free], None, ["runs on your own machine: no price per token"])
    if provider == "huggingface":
        return hosted(name)
    wanted = GENAI_PROVIDER.get(provider, provider)
    found = next(p for p in providers if p.id == wanted).find_model(name, all_providers=providers)
    if found is None:
        raise SystemExit(f"genai-prices does not know {provider}:{name}")
    notes = ["rises with the length of the prompt"] if has_tiers(found) else []
    return Listed(distinct(list(periods(found))), found.context_window, notes)


def has_tiers(model: Any) -> bool:
    """Say whether the input price depends on how long the prompt is."""
    last = model.prices[-1].prices if isinstance(model.prices, list) else model.prices
    return not isinstance(last.input_mtok, Decimal)


def hosted(name: str) -> Listed:
    """Return the dearest price and the smallest window of the hosts that Hugging Face may pick."""
    from genai_prices.data import providers

    hosts = [p for p in providers if p.id.startswith("huggingface_")]
    found = [m for p in hosts for m in p.models if m.id == name]
    rows = [list(periods(m))[-1] for m in found]
    if not rows:
        raise SystemExit(f"genai-prices does not know huggingface:{name}")
    ceiling: dict[str, Any] = {
        key: max(row[key] for row in rows) for key in ("input_usd_per_mtok", "output_usd_per_mtok")
    }
    windows = [m.context_window for m in found if m.context_window]
    note = f"a ceiling: the dearest of {len(rows)} hosts that Hugging Face may pick"
    return Listed([{"from": None, **ceiling}], min(windows, default=None), [note])


def output_tokens(item: Entry) -> tuple[int, str]:
    """Return the expected tokens of an answer and where the figure is from."""
    return OUTPUT_TOKENS.get(item.name, OUTPUT_TOKENS["thinks" if item.thinks else "plain"])


def quality(rating: int) -> float:
    """Return the share of votes that a model of this rating wins against the reference."""
    odds: float = 10.0 ** ((rating - REFERENCE_RATING) / 400.0)
    return round(odds / (1.0 + odds), 4)


def row(provider: str, item: Entry) -> dict[str, Any]:
    """Return one model as it is stored."""
    model_id, prices = f"{provider}:{item.name}", listed(provider, item.name)
    tokens, tokens_source = output_tokens(item)
    context, context_source = (prices.context_window, "genai-prices")
    if context is None and item.context is not None:
        context, context_source = item.context
    stored: dict[str, Any] = {
        "id": model_id,
        "aliases": list(item.aliases),
        "start": item.start,
        "prices": prices.periods,
        "notes": prices.notes,
        "context_window": context,
        "context_source": context_source if context else None,
        "output_tokens": tokens,
        "output_tokens_source": tokens_source,
    }
    if item.arena is not None:
        rating, interval, votes = ARENA[item.arena]
        stored["rating"] = {"of": item.arena, "value": rating, "ci95": interval, "votes": votes}
        stored["quality"] = quality(rating)
    if model_id in SPEED:
        first_token_s, tokens_per_s, sources = SPEED[model_id]
        stored["latency_s"] = round(first_token_s + tokens / tokens_per_s, 2)
        stored["latency_sources"] = list(sources)
    return stored


def build() -> dict[str, Any]:
    """Return the whole catalogue."""
    return {
        "made_by": "benchmarks/fit/catalogue.py",
        "as_of": AS_OF,
        "genai_prices": version("genai-prices"),
        "quality_scale": {
            "meaning": "share of blind votes won against the reference model (a tie is half)",
            "formula": "1 / (1 + 10 ** ((reference_rating - rating) / 400))",
            "reference_model": REFERENCE_MODEL,
            "reference_rating": REFERENCE_RATING,
            "source": "arena",
        },
        "sources": SOURCES,
        "models": [row(provider, item) for provider, items in MODELS.items() for item in items],
    }


def rendered(data: dict[str, Any]) -> str:
    """Return the file's text: one model a line, so that a change of one is a line of a diff."""
    models = ",\n".join("  " + json.dumps(model) for model in data["models"])
    head = json.dumps({**data, "models": []}, indent=1)
    return head.replace('"models": []', f'"models": [\n{models}\n ]') + "\n"


def check(text: str) -> str:
    """Return what is wrong with the stored file, or nothing."""
    stored = json.loads(DATA.read_text(encoding="utf-8"))
    if stored["genai_prices"] != version("genai-prices"):
        return (
            f"the file was made with genai-prices {stored['genai_prices']}, "
            f"installed is {version('genai-prices')}: cannot compare"
        )
    if DATA.read_text(encoding="utf-8") != text:
        return f"{DATA} is not what this script makes: run it without --check"
    return ""


def main() -> int:
    """Write the file, or compare it with what would be written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    text = rendered(build())
    if parser.parse_args().check:
        problem = check(text)
        sys.stderr.write(problem and problem + "\n")
        return 1 if problem else 0
    DATA.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
