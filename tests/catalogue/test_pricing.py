"""Dollars follow from tokens where the price is known, and are None where it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conduit.catalogue.models import complete_arm, supported_models
from conduit.catalogue.pricing import (
    list_price,
    most_usd,
    price_usd,
    usage_price_usd,
    with_list_price,
)
from conduit.core.errors import InvalidInput
from conduit.core.models import ModelArm

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=10_000_000)


@pytest.mark.parametrize(
    ("model", "tokens", "dollars"),
    [
        ("openai:gpt-4o-mini", (1_000_000, 1_000_000), 0.75),
        ("gpt-4o-mini", (1_000, 500), 0.00045),
        ("bedrock/amazon.nova-micro-v1:0", (2_000_000, 0), 0.07),
        ("ollama:llama3.1:8b", (1_000, 1_000), 0.0),
        ("openai:gpt-4o-mini", (0, 0), 0.0),
    ],
)
def test_tokens_times_price(model: str, tokens: tuple[int, int], dollars: float) -> None:
    """A known model's tokens cost what its list says."""
    assert price_usd(model, *tokens) == pytest.approx(dollars, abs=1e-12)
    assert usage_price_usd(model, *tokens, at=AT) == pytest.approx(dollars, abs=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        "nobody:knows-this",
        "unheard-of",
        "openai:gpt-9",
        "google:gemma-4-31b-it",  # listed without a price, which sums to 0 if one is not careful
        "openai:text-embedding-3-small",  # has no price for output
        "my-openai-proxy:gpt-4o",  # a provider is not guessed from part of its name
        "ollama:gpt-oss:120b-cloud",  # not your own machine
        "litellm:whatever",
    ],
)
def test_an_unknown_price_is_none_and_never_nothing(model: str) -> None:
    """A model without a price has no cost, rather than a cost of $0."""
    assert list_price(model) is None
    assert price_usd(model, 1_000, 1_000) is None
    assert usage_price_usd(model, 1_000, 1_000, at=AT) is None
    assert price_usd(ModelArm(model), 1_000, 1_000) is None


@pytest.mark.parametrize("model", ["openai:gpt-4o-mini", "ollama:llama3.1:8b", "nobody:knows-this"])
def test_missing_usage_is_not_free(model: str) -> None:
    """A response that does not say how many tokens it took has no price, even from a free model."""
    assert price_usd(model, None, 10) is None
    assert price_usd(model, 10, None) is None
    assert usage_price_usd(model, None, None, at=AT) is None


@pytest.mark.parametrize(
    "model",
    [
        "openai:gpt-4o-2024-05-13",
        "gpt-4o-2024-05-13",
        "azure/gpt-4o",
        "deepseek:deepseek-v4-pro",
        "xai:grok-4.5",
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "openrouter:openai/gpt-4o",
    ],
)
def test_models_outside_the_catalogue_are_priced_from_the_offline_list(model: str) -> None:
    """Any name of PydanticAI or LiteLLM that genai-prices knows has a price."""
    prices = list_price(model)
    assert prices is not None
    assert min(prices) > 0.0
    assert usage_price_usd(model, 1_000, 1_000, at=AT) is not None


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), -0.5, "12", True])
def test_what_cannot_be_a_count_is_refused(name: str, value: object) -> None:
    """Negative and infinite token counts name their field, whether the price is known or not."""
    counts = {"input_tokens": 1, "output_tokens": 1, name: value}
    for model in ("openai:gpt-4o-mini", "nobody:knows-this"):
        with pytest.raises(InvalidInput) as caught:
            price_usd(model, **counts)  # type: ignore[arg-type]
        assert caught.value.field == name
        with pytest.raises(InvalidInput):
            usage_price_usd(model, at=AT, **counts)  # type: ignore[arg-type]


def test_more_cached_tokens_than_tokens_is_refused() -> None:
    """A provider's impossible usage is an error with a field, not a price."""
    with pytest.raises(InvalidInput) as caught:
        usage_price_usd("openai:gpt-4o-mini", 10, 10, at=AT, cache_read_tokens=500)
    assert caught.value.field == "cache_read_tokens"


def test_cached_tokens_and_long_prompts_have_their_own_price() -> None:
    """What a provider counted is priced with its discounts and steps."""
    plain = usage_price_usd("openai:gpt-4o-mini", 300_000, 1_000, at=AT)
    cached = usage_price_usd("openai:gpt-4o-mini", 300_000, 1_000, at=AT, cache_read_tokens=200_000)
    assert plain == pytest.approx(0.0456)
    assert cached == pytest.approx(0.0306)
    listed = price_usd("anthropic:claude-haiku-5-5", 300_000, 1_000)
    stepped = usage_price_usd("anthropic:claude-haiku-5-5", 300_000, 1_000, at=AT)
    assert listed == pytest.approx(0.0305)
    assert stepped is not None
    assert stepped > 2 * listed


def test_a_price_of_ones_own_wins() -> None:
    """An arm that carries its user's price is priced with it, cache or not."""
    arm = complete_arm(
        ModelArm("openai:gpt-4o-mini", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
    )
    assert price_usd(arm, 1_000_000, 1_000_000) == 3.0
    assert usage_price_usd(arm, 1_000_000, 1_000_000, at=AT, cache_read_tokens=500_000) == 3.0


def test_a_completed_arm_is_priced_like_its_id() -> None:
    """Prices that the catalogue filled in do not hide the provider's discounts."""
    arm = complete_arm(ModelArm("openai:gpt-4o-mini"))
    usage = {"at": AT, "cache_read_tokens": 200_000}
    assert usage_price_usd(arm, 300_000, 1_000, **usage) == usage_price_usd(  # type: ignore[arg-type]
        "openai:gpt-4o-mini",
        300_000,
        1_000,
        **usage,  # type: ignore[arg-type]
    )


def test_a_price_change_reaches_arms_that_were_completed_before_it() -> None:
    """A process that runs over the day of a change bills the new price."""
    arm = complete_arm(ModelArm("google:gemini-4-argon"), date(2026, 11, 30))
    november = usage_price_usd(arm, 1_000_000, 0, at=datetime(2026, 11, 30, tzinfo=UTC))
    december = usage_price_usd(arm, 1_000_000, 0, at=datetime(2026, 12, 1, tzinfo=UTC))
    assert (november, december) == (2.0, 4.0)


def test_the_day_of_a_call_is_counted_in_utc() -> None:
    """A call at half past midnight in Tokyo is still the day before; a naive time is UTC."""
    tokyo = timezone(timedelta(hours=9))
    half_past_midnight = datetime(2026, 12, 1, 0, 30, tzinfo=tokyo)
    assert usage_price_usd("google:gemini-4-argon", 1_000_000, 0, at=half_past_midnight) == 2.0
    naive = datetime(2026, 12, 1)  # noqa: DTZ001  that is the point
    assert usage_price_usd("google:gemini-4-argon", 1_000_000, 0, at=naive) == 4.0


def test_another_address_has_no_list_price() -> None:
    """A server of the user's own is not billed at the maker's price."""
    arm = ModelArm("openai:gpt-4o-mini", base_url="http://127.0.0.1:1/v1")
    assert with_list_price(arm) is arm
    assert usage_price_usd(arm, 1_000, 1_000, at=AT) is None
    own = ModelArm(
        "openai:gpt-4o-mini",
        base_url="http://127.0.0.1:1/v1",
        input_usd_per_mtok=0.15,
        output_usd_per_mtok=0.6,
    )
    assert usage_price_usd(own, 1_000_000, 0, at=AT, cache_read_tokens=10) == 0.15


def test_list_prices_fill_only_what_is_missing() -> None:
    """A price given by the user is kept beside the one that is looked up."""
    arm = with_list_price(ModelArm("azure:gpt-4o", output_usd_per_mtok=1.0))
    assert (arm.input_usd_per_mtok, arm.output_usd_per_mtok) == (2.5, 1.0)
    priced = ModelArm("x", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    assert with_list_price(priced) is priced
    unknown = ModelArm("nobody:knows-this")
    assert with_list_price(unknown) is unknown


@given(st.sampled_from(supported_models()), COUNTS, COUNTS)
def test_cost_is_additive_and_grows_with_tokens(model: object, a: int, b: int) -> None:
    """Pricing two parts costs what pricing the whole costs, and no token is worth less than $0."""
    name: str = model.id  # type: ignore[attr-defined]
    whole, first, second = price_usd(name, a, b), price_usd(name, a, 0), price_usd(name, 0, b)
    assert whole is not None
    assert first is not None
    assert second is not None
    assert whole == pytest.approx(first + second)
    assert min(first, second) >= 0.0


@pytest.mark.parametrize("model", [*(m.id for m in supported_models()), "perplexity:sonar"])
@given(read=COUNTS, fewer=st.floats(0.0, 1.0), written=COUNTS, cached=st.floats(0.0, 1.0))
@settings(max_examples=20)
def test_nothing_costs_more_than_the_most(
    model: str, read: int, fewer: float, written: int, cached: float
) -> None:
    """At most so many tokens, however many of them go to the cache, cost at most that much."""
    arm = with_list_price(complete_arm(ModelArm(model)), AT.date())
    most = most_usd(arm, read, written, day=AT.date())
    tokens = int(read * fewer)
    cost = usage_price_usd(arm, tokens, written, at=AT, cache_write_tokens=int(tokens * cached))
    assert (most is None) == (cost is None)
    assert most is None or cost is None or cost <= most * (1.0 + 1e-9) + 1e-15


def test_the_most_at_a_price_of_ones_own_is_that_price() -> None:
    """Steps and cache prices are the list's, not those of a price that somebody set."""
    own = ModelArm("anthropic:claude-haiku-5-5", input_usd_per_mtok=7.0, output_usd_per_mtok=9.0)
    assert most_usd(own, 1e6, 1e6, day=AT.date()) == pytest.approx(16.0)
    listed = with_list_price(ModelArm("anthropic:claude-haiku-5-5"), AT.date())
    elsewhere = replace(listed, base_url="http://localhost")
    assert most_usd(elsewhere, 1e6, 0.0, day=AT.date()) == pytest.approx(0.1)
    assert most_usd(listed, 1e6, 0.0, day=AT.date()) == pytest.approx(0.625)
    assert most_usd(ModelArm("nobody:knows"), 1e6, 0.0, day=AT.date()) is None
