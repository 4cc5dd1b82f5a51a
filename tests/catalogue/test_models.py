"""What the catalogue knows, by which names it is found, and what it fills into an arm."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import date

import pytest

from conduit.catalogue.models import (
    DEFAULT_POOL,
    PROVIDER_KEYS,
    KnownModel,
    arms_from_environment,
    as_of,
    canonical_id,
    complete_arm,
    default_arms,
    find_model,
    provider_key_names,
    provider_of,
    providers_with_keys,
    quality_scale,
    supported_models,
)
from conduit.core.models import ModelArm

PROVIDERS = (
    "openai",
    "anthropic",
    "google",
    "groq",
    "mistral",
    "cohere",
    "bedrock",
    "huggingface",
    "ollama",
)


def by_provider(provider: str) -> list[KnownModel]:
    """Return the models of one provider."""
    return [model for model in supported_models() if model.provider == provider]


def test_the_network_is_shut() -> None:
    """These tests would notice a look-up."""
    with (
        socket.socket() as outside,
        pytest.raises(AssertionError, match="went to the network"),
    ):
        outside.connect(("127.0.0.1", 9))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_models_and_a_way_in(provider: str) -> None:
    """Each provider has at least three models, two to four to start with, and its key's name."""
    models = by_provider(provider)
    assert len(models) >= 3
    assert 2 <= sum(model.start for model in models) <= 4
    assert provider_key_names(provider)


@pytest.mark.parametrize("model", supported_models(), ids=lambda model: model.id)
def test_every_model_is_priced_and_says_where_its_numbers_are_from(model: KnownModel) -> None:
    """No number stands without its source, and no model of a vendor is free."""
    price = model.price_on()
    assert price is not None
    assert (price.output_usd_per_mtok == 0.0) == (model.provider == "ollama")
    assert (model.quality is None) == (model.quality_source is None) == (model.rating is None)
    assert (model.latency_s is None) == (not model.latency_sources)
    assert (model.context_window is None) == (model.context_source is None)
    assert model.output_tokens_source is not None
    assert all(s.url.startswith("https://") for s in model.latency_sources)


@pytest.mark.parametrize("model", supported_models(), ids=lambda model: model.id)
def test_a_prior_is_the_share_of_votes_won_against_the_reference(model: KnownModel) -> None:
    """Every quality prior follows from its rating by the scale's own formula."""
    if model.rating is None:
        return
    scale = quality_scale()
    won = 1 / (1 + 10 ** ((scale.reference_rating - model.rating.value) / 400))
    assert model.quality == pytest.approx(won, abs=1e-4)
    assert model.rating.votes >= 1_000
    assert model.quality_source == scale.source
    assert scale.source.date is not None


def test_the_reference_model_wins_half_of_its_own_votes() -> None:
    """The scale's zero is the model it names."""
    reference = find_model(quality_scale().reference_model)
    assert reference is not None
    assert reference.quality == 0.5


def test_priors_rank_a_frontier_model_above_a_small_one() -> None:
    """The scale points upwards and tells models apart by more than noise."""
    small, middle, large = (
        find_model(name)
        for name in ("groq:llama-3.1-8b-instant", "openai:gpt-4o-mini", "anthropic:claude-opus-5-5")
    )
    assert small is not None
    assert middle is not None
    assert large is not None
    assert small.quality is not None
    assert middle.quality is not None
    assert large.quality is not None
    assert small.quality + 0.1 < middle.quality < large.quality - 0.1


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("openai:gpt-4o-mini", "openai:gpt-4o-mini"),
        ("gpt-4o-mini", "openai:gpt-4o-mini"),
        ("openai/gpt-4o-mini", "openai:gpt-4o-mini"),
        ("OpenAI:GPT-4o-mini", "openai:gpt-4o-mini"),
        (" gpt-4o-mini ", "openai:gpt-4o-mini"),
        ("openai-chat:gpt-4o-mini", "openai:gpt-4o-mini"),
        ("openai-responses:gpt-4o-mini", "openai:gpt-4o-mini"),
        ("gateway/openai:gpt-4o-mini", "openai:gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "openai:gpt-4o-mini"),
        ("anthropic/claude-haiku-4-5-20251001", "anthropic:claude-haiku-4-5"),
        ("gemini/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("vertex_ai/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("google-gla:gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("google-cloud:gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("groq/llama-3.1-8b-instant", "groq:llama-3.1-8b-instant"),
        ("groq/openai/gpt-oss-20b", "groq:openai/gpt-oss-20b"),
        ("groq:openai/gpt-oss-20b", "groq:openai/gpt-oss-20b"),
        ("mistral/mistral-large-4", "mistral:mistral-large-4"),
        ("cohere_chat/command-a-03-2025", "cohere:command-a-03-2025"),
        ("bedrock/amazon.nova-micro-v1:0", "bedrock:amazon.nova-micro-v1:0"),
        ("bedrock/converse/us.amazon.nova-micro-v1:0", "bedrock:amazon.nova-micro-v1:0"),
        ("amazon.nova-micro-v1:0", "bedrock:amazon.nova-micro-v1:0"),
        (
            "huggingface/meta-llama/Llama-3.3-70B-Instruct",
            "huggingface:meta-llama/Llama-3.3-70B-Instruct",
        ),
        (
            "huggingface/together/meta-llama/Llama-3.3-70B-Instruct",
            "huggingface:meta-llama/Llama-3.3-70B-Instruct",
        ),
        (
            "meta-llama/Llama-3.3-70B-Instruct",
            "huggingface:meta-llama/Llama-3.3-70B-Instruct",
        ),
        ("ollama:llama3.2", "ollama:llama3.2:3b"),
        ("ollama_chat/llama3.1:8b", "ollama:llama3.1:8b"),
        ("llama3.1:8b", "ollama:llama3.1:8b"),
    ],
)
def test_a_model_is_found_by_the_names_people_give_it(name: str, known: str) -> None:
    """PydanticAI's, LiteLLM's and the maker's own spelling lead to one model."""
    found = find_model(name)
    assert found is not None
    assert found.id == known
    assert canonical_id(name) == known
    assert provider_of(name) == known.split(":")[0]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "openai:",
        "gpt-9",
        "azure:gpt-4o",  # a deployment there may be anything, at another price
        "openai/gpt-oss-20b",  # OpenAI sells no such model; others serve it
        "gpt-oss-120b",  # several serve it under longer names
        "Qwen/Qwen3.8-27B",  # Groq and Hugging Face both call it that, at different prices
        "gpt-4o-2024-05-13",  # an older, dearer snapshot
        "groq:gpt-4o-mini",
        "huggingface/nobody/nothing",
    ],
)
def test_a_name_that_does_not_say_which_model_finds_none(name: str) -> None:
    """The catalogue does not guess: a wrong price is worse than none."""
    assert find_model(name) is None
    assert canonical_id(name) == name


@pytest.mark.parametrize(
    ("name", "provider"),
    [("azure:gpt-4o", "azure"), ("gemini/unheard-of", "google"), ("my-model", None)],
)
def test_an_unknown_model_has_the_provider_that_it_names(name: str, provider: str | None) -> None:
    """`preferred_provider` works for models outside the catalogue, too."""
    assert provider_of(name) == provider


def test_names_of_one_provider_are_unique() -> None:
    """No name or alias means two models of a provider."""
    for provider in PROVIDERS:
        names = [n.lower() for m in by_provider(provider) for n in (m.name, *m.aliases)]
        assert len(names) == len(set(names))


def test_completing_fills_what_is_missing_and_keeps_what_was_given() -> None:
    """The user's number wins over the catalogue's; the id stays as it was written."""
    arm = complete_arm(ModelArm("gpt-4o-mini", quality=0.9, input_usd_per_mtok=0.0))
    assert arm.id == "gpt-4o-mini"
    assert arm.quality == 0.9
    assert arm.input_usd_per_mtok == 0.0
    assert arm.output_usd_per_mtok == 0.6
    assert arm.context_window == 128_000
    assert arm.output_tokens is not None
    assert arm.latency_s is not None


def test_completing_leaves_an_unknown_model_alone() -> None:
    """What nobody knows stays None."""
    arm = ModelArm("nobody:knows-this")
    assert complete_arm(arm) is arm


def test_another_address_is_not_sold_at_the_list_price() -> None:
    """A server of the user's own has the model's quality, not its maker's price or speed."""
    arm = complete_arm(ModelArm("openai:gpt-4o-mini", base_url="http://127.0.0.1:1/v1"))
    assert arm.quality is not None
    assert arm.input_usd_per_mtok is None
    assert arm.output_usd_per_mtok is None
    assert arm.latency_s is None


def test_a_price_holds_from_its_day_on() -> None:
    """A price that is known to change does so on its day, without a new release."""
    model = find_model("google:gemini-4-argon")
    assert model is not None
    before, after = (model.price_on(date(2026, 11, 30)), model.price_on(date(2026, 12, 1)))
    assert before is not None
    assert after is not None
    assert (before.output_usd_per_mtok, after.output_usd_per_mtok) == (10.0, 20.0)
    assert model.arm(date(2026, 12, 1)).output_usd_per_mtok == 20.0
    assert model.price_on() == model.price_on(as_of())


@pytest.mark.parametrize(
    ("environ", "providers"),
    [
        ({}, ()),
        ({"OPENAI_API_KEY": "x"}, ("openai",)),
        ({"OPENAI_API_KEY": ""}, ()),
        ({"OPENAI_API_KEY": "  "}, ()),
        ({"GEMINI_API_KEY": "x"}, ("google",)),
        ({"COHERE_API_KEY": "x"}, ("cohere",)),
        ({"AWS_ACCESS_KEY_ID": "x"}, ()),
        ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}, ("bedrock",)),
        ({"AWS_PROFILE": "dev"}, ("bedrock",)),
        ({"HF_TOKEN": "x", "ANTHROPIC_API_KEY": "y"}, ("anthropic", "huggingface")),
        ({"OLLAMA_BASE_URL": "http://127.0.0.1:11434/v1"}, ("ollama",)),
    ],
)
def test_a_key_brings_in_its_providers_models(
    environ: dict[str, str], providers: tuple[str, ...]
) -> None:
    """Exactly the providers whose access is complete take part, each with a few models."""
    assert providers_with_keys(environ) == providers
    arms = arms_from_environment(environ)
    assert {arm.provider for arm in arms} == set(providers)
    assert len(arms) <= 4 * len(providers)
    assert all(arm.priced for arm in arms)


@pytest.mark.parametrize("provider", [p for p in PROVIDERS if p != "ollama"])
def test_what_a_key_starts_with_spans_prices(provider: str) -> None:
    """A provider's starting set holds models at least three times apart in price."""
    prices = [m.price_on() for m in by_provider(provider) if m.start]
    dollars = [p.output_usd_per_mtok for p in prices if p is not None]
    assert max(dollars) >= 3 * min(dollars)


def test_the_default_pool_is_small_known_and_shows_a_trade() -> None:
    """With no key there is a pool whose dearest model is rated best, each priced and rated."""
    arms = default_arms()
    assert [arm.id for arm in arms] == list(DEFAULT_POOL)
    prices = [arm.output_usd_per_mtok for arm in arms if arm.output_usd_per_mtok is not None]
    assert prices == sorted(prices)
    assert len(prices) == len(arms) <= 6
    assert max(arms, key=lambda arm: arm.quality or 0.0) is arms[-1]


def test_key_names_are_each_named_once() -> None:
    """The list that .env.example must hold has no repeats and covers every provider."""
    names = provider_key_names()
    assert len(names) == len(set(names))
    assert {n for p in PROVIDER_KEYS for n in provider_key_names(p)} == set(names)
    assert provider_key_names("nobody") == ()


def test_the_catalogue_loads_no_vendor() -> None:
    """Naming, completing and pricing known models needs neither genai-prices nor pydantic."""
    program = (
        "import sys;"
        "from conduit.catalogue.models import default_arms, supported_models;"
        "from conduit.catalogue.pricing import price_usd;"
        "assert 'conduit.catalogue.models' in sys.modules;"
        "supported_models(); price_usd(default_arms()[0], 10, 10);"
        "loaded = {'genai_prices', 'pydantic', 'pydantic_ai', 'litellm'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
