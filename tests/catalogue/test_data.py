"""The shipped file is what its script makes of genai-prices and of the facts kept by hand."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from pydantic_ai.models import KnownModelName

from benchmarks.fit import catalogue
from benchmarks.fit.catalogue_facts import ARENA, MODELS, SPEED
from conduit.catalogue.models import KnownModel, find_model, supported_models
from conduit.catalogue.pricing import usage_price_usd
from tests.catalogue.test_pricing import AT

DATA = Path(catalogue.DATA)


def test_the_file_is_what_the_script_makes() -> None:
    """`--check` finds no difference, or says that another price list is installed."""
    problem = catalogue.check(catalogue.rendered(catalogue.build()))
    same_version = json.loads(DATA.read_text())["genai_prices"] == version("genai-prices")
    assert problem == "" or (not same_version and "cannot compare" in problem)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"genai_prices": "', '"genai_prices": "0.'), "cannot compare"),
        (lambda text: text.replace("68705", "68706"), "run it without --check"),
        (lambda text: text, ""),
    ],
)
def test_the_check_says_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object, said: str
) -> None:
    """A file that was edited, or made from other prices, is noticed and told apart."""
    text = DATA.read_text()
    changed = change(text)  # type: ignore[operator]
    assert (changed == text) == (said == "")
    monkeypatch.setattr(catalogue, "DATA", tmp_path / "data.json")
    catalogue.DATA.write_text(changed)
    problem = catalogue.check(text)
    assert said in problem
    assert bool(problem) == bool(said)


def test_nothing_kept_by_hand_is_left_unused() -> None:
    """Every rating and speed that was written down belongs to a model of the catalogue."""
    entries = [entry for entries in MODELS.values() for entry in entries]
    assert {entry.arena for entry in entries if entry.arena} == set(ARENA)
    assert set(SPEED) <= {model.id for model in supported_models()}


@pytest.mark.parametrize(
    "model",
    [m for m in supported_models() if m.aliases and m.provider != "ollama"],
    ids=lambda m: m.id,
)
def test_an_alias_costs_what_its_model_costs(model: KnownModel) -> None:
    """The price list itself prices each alias like the model that it stands for."""
    from genai_prices.data import providers

    wanted = catalogue.GENAI_PROVIDER.get(model.provider, model.provider)
    seller = next(p for p in providers if p.id == wanted)
    period = model.price_on(AT.date())
    assert period is not None
    for name in model.aliases:
        found = seller.find_model(name)
        assert found is not None, name
        prices = found.get_prices(AT)
        assert catalogue.price_of(prices.input_mtok) == period.input_usd_per_mtok
        assert catalogue.price_of(prices.output_mtok) == period.output_usd_per_mtok


@pytest.mark.parametrize("model", supported_models(), ids=lambda m: m.id)
def test_a_short_call_costs_its_list_price(model: KnownModel) -> None:
    """Estimates before a call and the bill after it agree for prompts of ordinary length."""
    period = model.price_on(AT.date())
    assert period is not None
    billed = usage_price_usd(model.id, 1_000, 100, at=AT)
    estimate = (1_000 * period.input_usd_per_mtok + 100 * period.output_usd_per_mtok) / 1e6
    assert billed == pytest.approx(estimate, rel=1e-9)


def test_most_models_of_pydantic_ai_for_these_providers_have_a_price() -> None:
    """Of the models that PydanticAI lists for three large providers, 9 in 10 are priced."""
    from conduit.catalogue.pricing import list_price

    listed = get_args(KnownModelName.__value__)
    names = [n for n in listed if n.split(":")[0] in ("openai", "anthropic", "google")]
    priced = [n for n in names if list_price(n) is not None]
    assert len(names) > 50
    assert len(priced) >= 0.9 * len(names)
    assert sum(find_model(n) is not None for n in names) >= 30
