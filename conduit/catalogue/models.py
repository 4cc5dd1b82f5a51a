"""The models that are known before the first query: prices, windows, priors, and their sources.

The facts are in `data.json` beside this file, which `benchmarks/fit/catalogue.py` makes from the
offline data of genai-prices and from published ratings; they are read when first asked for.

A quality prior is the share of blind votes that a model would win against GPT-3.5 Turbo, from its
rating on the Arena's text leaderboard, so that all priors are on one scale; a model that is not
rated there has none. A latency is there only where somebody published a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from conduit.core.models import ModelArm

# Each provider by PydanticAI's name, with the sets of variables that give access to it: one
# complete set is enough. Both PydanticAI's and LiteLLM's names are here where they differ.
PROVIDER_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "openai": (("OPENAI_API_KEY",),),
        "anthropic": (("ANTHROPIC_API_KEY",),),
        "google": (("GOOGLE_API_KEY",), ("GEMINI_API_KEY",)),
        "groq": (("GROQ_API_KEY",),),
        "mistral": (("MISTRAL_API_KEY",),),
        "cohere": (("CO_API_KEY",), ("COHERE_API_KEY",)),
        "bedrock": (
            ("AWS_BEARER_TOKEN_BEDROCK",),
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            ("AWS_PROFILE",),
        ),
        "huggingface": (("HF_TOKEN",),),
        "ollama": (("OLLAMA_BASE_URL",), ("OLLAMA_API_BASE",)),
    }
)

# What PydanticAI and LiteLLM write before a model's name, and the provider they mean by it.
PROVIDER_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in PROVIDER_KEYS},
        "openai-chat": "openai",
        "openai-responses": "openai",
        "google-gla": "google",
        "google-vertex": "google",
        "google-cloud": "google",
        "gemini": "google",
        "vertex_ai": "google",
        "cohere_chat": "cohere",
        "bedrock_converse": "bedrock",
        "ollama_chat": "ollama",
    }
)

# What a router without models and without a single key chooses among, cheapest first: current
# models of three providers, each priced and rated, so that a first decision shows a trade.
DEFAULT_POOL: tuple[str, ...] = (
    "openai:gpt-6-luna",
    "google:gemini-3.5-flash-lite",
    "anthropic:claude-haiku-4-5",
    "openai:gpt-6.1-sol",
    "anthropic:claude-opus-5-5",
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number was read: title, address, the day it was published or last changed there."""

    title: str
    url: str
    date: str | None = None
    read: str | None = None  # the stored copy that was read, where it was not the page itself


@dataclass(frozen=True, slots=True)
class PricePeriod:
    """What a model costs from one day on; the first period has no first day."""

    start: date | None
    input_usd_per_mtok: float
    output_usd_per_mtok: float


@dataclass(frozen=True, slots=True)
class Rating:
    """A model's row on the leaderboard: its name there, rating, half the 95 % interval, votes."""

    of: str
    value: int
    ci95: int
    votes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One model of the catalogue; what nobody published is None."""

    id: str
    provider: str
    name: str
    aliases: tuple[str, ...] = ()
    start: bool = False  # among the models that the provider's key alone starts with
    prices: tuple[PricePeriod, ...] = ()
    notes: tuple[str, ...] = ()
    context_window: int | None = None
    context_source: Source | None = None
    quality: float | None = None
    quality_source: Source | None = None
    rating: Rating | None = None
    output_tokens: float | None = None
    output_tokens_source: Source | None = None
    latency_s: float | None = None
    latency_sources: tuple[Source, ...] = ()

    def price_on(self, day: date | None = None) -> PricePeriod | None:
        """Return the price that holds on a day, or on the day the catalogue was made."""
        day = day or as_of()
        holding = [p for p in self.prices if p.start is None or p.start <= day]
        return holding[-1] if holding else None

    def arm(self, day: date | None = None) -> ModelArm:
        """Return this model as an arm with everything that is known about it."""
        return complete_arm(ModelArm(self.id), day)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityScale:
    """What the quality priors mean, in the words and numbers that made them."""

    meaning: str
    formula: str
    reference_model: str
    reference_rating: int
    source: Source


def supported_models() -> tuple[KnownModel, ...]:
    """Return every model of the catalogue, provider by provider."""
    return _catalogue().models


def as_of() -> date:
    """Return the day on which the catalogue's prices were read off."""
    return _catalogue().as_of


def quality_scale() -> QualityScale:
    """Return the scale that every quality prior is on."""
    return _catalogue().scale


def find_model(name: str) -> KnownModel | None:
    """Return the model that PydanticAI, LiteLLM or its maker calls by this name, if it is known.

    >>> find_model("gpt-4o-mini").id == find_model("openai/gpt-4o-mini").id
    True
    """
    provider, bare = _read_name(name.strip())
    return _catalogue().index.get((provider, bare.lower()))


def canonical_id(name: str) -> str:
    """Return `provider:name` for a known model, and any other name as it is."""
    known = find_model(name)
    return name if known is None else known.id


def provider_of(name: str) -> str | None:
    """Return the provider of a model as PydanticAI calls it, or None for a bare unknown name."""
    known = find_model(name)
    if known is not None:
        return known.provider
    written = ModelArm(name).provider
    return written if written is None else PROVIDER_SPELLINGS.get(written, written)


def complete_arm(arm: ModelArm, day: date | None = None) -> ModelArm:
    """Return the arm with what is known filled in; what the user gave stays.

    An arm at another `base_url` is not the provider's: its prices and speed are not filled in.
    """
    known = find_model(arm.id)
    if known is None:
        return arm
    facts: dict[str, Any] = {
        name: getattr(known, name) for name in ("quality", "output_tokens", "context_window")
    }
    price = known.price_on(day)
    if arm.base_url is None and price is not None:
        facts |= {
            "input_usd_per_mtok": price.input_usd_per_mtok,
            "output_usd_per_mtok": price.output_usd_per_mtok,
            "latency_s": known.latency_s,
        }
    return replace(arm, **{k: v for k, v in facts.items() if getattr(arm, k) is None})


def default_arms(day: date | None = None) -> tuple[ModelArm, ...]:
    """Return the pool of a router that was given neither models nor keys."""
    return tuple(complete_arm(ModelArm(name), day) for name in DEFAULT_POOL)


def arms_from_environment(
    environ: Mapping[str, str], day: date | None = None
) -> tuple[ModelArm, ...]:
    """Return a few current models, dear to cheap, of each provider that has its key there."""
    present = providers_with_keys(environ)
    return tuple(m.arm(day) for m in supported_models() if m.start and m.provider in present)


def providers_with_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the providers that an environment gives access to; an empty variable is none."""
    return tuple(
        provider
        for provider, ways in PROVIDER_KEYS.items()
        if any(all(environ.get(name, "").strip() for name in way) for way in ways)
    )


def provider_key_names(provider: str | None = None) -> tuple[str, ...]:
    """Return the variables that hold access to one provider, or to any."""
    wanted = PROVIDER_KEYS if provider is None else {provider: PROVIDER_KEYS.get(provider, ())}
    return tuple(dict.fromkeys(name for ways in wanted.values() for way in ways for name in way))


def _read_name(name: str) -> tuple[str, str]:
    """Return the provider that a name begins with ("" for none) and the rest of the name."""
    name = name.removeprefix("gateway/")
    for mark in (":", "/"):
        prefix, _, rest = name.partition(mark)
        provider = PROVIDER_SPELLINGS.get(prefix.lower())
        if provider is not None and rest:
            return provider, _without_host(provider, rest)
    return "", name


def _without_host(provider: str, rest: str) -> str:
    """Drop what LiteLLM writes between Hugging Face or Bedrock and the model: the host, the API."""
    host, found, inner = rest.partition("/")
    if provider == "huggingface" and found and "/" in inner:
        return inner
    if provider == "bedrock" and host in ("converse", "invoke"):
        return inner
    return rest


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """The file, read."""

    as_of: date
    scale: QualityScale
    models: tuple[KnownModel, ...]
    index: Mapping[tuple[str, str], KnownModel]  # provider "" holds names that only one has


@cache
def _catalogue() -> _Catalogue:
    file = resources.files("conduit.catalogue").joinpath("data.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    sources = {key: Source(**value) for key, value in data["sources"].items()}
    scale = dict(data["quality_scale"])
    quality_source = sources[scale.pop("source")]
    models = tuple(_model(row, sources, quality_source) for row in data["models"])
    return _Catalogue(
        as_of=date.fromisoformat(data["as_of"]),
        scale=QualityScale(**scale, source=quality_source),
        models=models,
        index=_index(models),
    )


def _model(
    row: Mapping[str, Any], sources: Mapping[str, Source], quality_source: Source
) -> KnownModel:
    provider, _, name = row["id"].partition(":")
    rating = row.get("rating")
    return KnownModel(
        id=row["id"],
        provider=provider,
        name=name,
        aliases=tuple(row["aliases"]),
        start=row["start"],
        prices=tuple(_period(p) for p in row["prices"]),
        notes=tuple(row["notes"]),
        context_window=row["context_window"],
        context_source=sources.get(row["context_source"] or ""),
        quality=row.get("quality"),
        quality_source=quality_source if rating else None,
        rating=Rating(**rating) if rating else None,
        output_tokens=row["output_tokens"],
        output_tokens_source=sources[row["output_tokens_source"]],
        latency_s=row.get("latency_s"),
        latency_sources=tuple(sources[key] for key in row.get("latency_sources", ())),
    )


def _period(row: Mapping[str, Any]) -> PricePeriod:
    start = row["from"] and date.fromisoformat(row["from"])
    return PricePeriod(start, row["input_usd_per_mtok"], row["output_usd_per_mtok"])


def _index(models: Iterable[KnownModel]) -> Mapping[tuple[str, str], KnownModel]:
    index: dict[tuple[str, str], KnownModel] = {}
    shared: set[str] = set()
    for model in models:
        for name in (model.name, *model.aliases):
            key = name.lower()
            index[model.provider, key] = model
            if index.setdefault(("", key), model) is not model:
                shared.add(key)  # two providers have it: alone, the name says neither
    for key in shared:
        del index["", key]
    return MappingProxyType(index)
