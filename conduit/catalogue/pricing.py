"""Tokens times price in dollars, or None where the price is unknown: unknown is never $0.

Before a call, the list prices of the catalogue are enough. Afterwards `usage_price_usd` prices what
the provider counted, with the steps and cache discounts that genai-prices knows. That library takes
0.2 s to import, so it is loaded only then, and for list prices of models outside the catalogue. It
is asked for its offline data alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from conduit.catalogue.models import PROVIDER_SPELLINGS, as_of, canonical_id, find_model
from conduit.core.errors import InvalidInput, finite
from conduit.core.models import ModelArm

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider, TieredPrices

Price = tuple[float, float]  # dollars per million input and output tokens

# PydanticAI's and LiteLLM's names of providers that genai-prices calls something else.
_GENAI_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "bedrock": "aws",
        "xai": "x-ai",
        "together_ai": "together",
        "fireworks_ai": "fireworks",
        "azure_ai": "azure",
        "azure-responses": "azure",
        "openai-decisions": "openai",
    }
)


def load_prices() -> None:
    """Load genai-prices' list now, for those who will need it and want no call to wait for it."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def list_price(model_id: str, day: date | None = None) -> Price | None:
    """Return dollars per million (input, output) tokens on a day, or None where nobody says."""
    known = find_model(model_id)
    if known is not None:
        period = known.price_on(day)
        return None if period is None else (period.input_usd_per_mtok, period.output_usd_per_mtok)
    provider, bare = _split(model_id)
    if provider == "ollama":
        return None if "cloud" in bare else (0.0, 0.0)  # your own machine, whatever it runs
    return _genai_list_price(model_id, day or as_of())


def with_list_price(arm: ModelArm, day: date | None = None) -> ModelArm:
    """Return the arm with the list prices that it lacks, where they are known and apply."""
    if arm.priced or arm.base_url is not None:
        return arm
    prices = list_price(arm.id, day)
    if prices is None:
        return arm
    given = arm.input_usd_per_mtok, arm.output_usd_per_mtok
    dollars = [p if g is None else g for g, p in zip(given, prices, strict=True)]
    return replace(arm, input_usd_per_mtok=dollars[0], output_usd_per_mtok=dollars[1])


def price_usd(
    model: ModelArm | str,
    input_tokens: float | None,
    output_tokens: float | None,
    *,
    day: date | None = None,
) -> float | None:
    """Return what so many tokens cost at the arm's own price, or at the list price of an id.

    >>> price_usd("openai:gpt-4o-mini", 1_000_000, 500_000)
    0.45
    >>> price_usd("nobody:knows-this", 1_000, 1_000) is None
    True
    """
    counted = _counts(input_tokens=input_tokens, output_tokens=output_tokens)
    prices = _own_price(model) if isinstance(model, ModelArm) else list_price(model, day)
    if prices is None or counted is None:
        return None
    return _dollars(counted["input_tokens"], counted["output_tokens"], prices)


def usage_price_usd(
    model: ModelArm | str,
    input_tokens: float | None,
    output_tokens: float | None,
    *,
    at: datetime,
    cache_read_tokens: float = 0,
    cache_write_tokens: float = 0,
) -> float | None:
    """Return what a provider charges for the tokens it counted (cached ones among the input).

    A price that the user set on the arm is taken as it is; otherwise steps in the price of long
    prompts and the prices of cached tokens are those that held at the time of the call (a naive
    time is UTC).
    """
    counted = _counts(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
    )
    arm = model if isinstance(model, ModelArm) else ModelArm(model)
    if counted is None:
        return None
    own, listed = _own_price(arm), _provider_price(arm, at.date())
    if listed is not None and (own is None or _is_listed(arm.id, own, listed)):
        exact = _genai_dollars(arm.id, counted, at)
        if exact is not None:
            return exact
        own = listed
    prices = own or listed
    return prices and _dollars(counted["input_tokens"], counted["output_tokens"], prices)


def most_usd(
    arm: ModelArm, input_tokens: float, output_tokens: float, *, requests: int = 1, day: date
) -> float | None:
    """Return the most that a provider charges for at most so many tokens, in so many requests.

    That is at the step of the longest prompt, and with a cache that is written to. A price that
    the user set on the arm is taken as it is; None where there is none.
    """
    own = _own_price(arm)
    if own is None:
        return None
    most = _dollars(input_tokens, output_tokens, own)
    for step in _steps(arm.id, own, day) if arm.base_url is None else ():
        if input_tokens > step.beyond_tokens:
            usd = _dollars(input_tokens, output_tokens, step.usd_per_mtok)
            most = max(most, usd + requests * step.usd_per_request)
    return most


@dataclass(frozen=True, slots=True)
class _Step:
    """What a listed model costs at most for a prompt of more than so many tokens."""

    beyond_tokens: int
    usd_per_mtok: Price
    usd_per_request: float


@lru_cache(maxsize=1024)  # it is asked before every call under a limit, and takes 0.2 ms
def _steps(model_id: str, own: Price, day: date) -> tuple[_Step, ...]:
    """Return the steps in the price of a model, none where the price is the user's own."""
    listed = list_price(model_id, day)
    found = _genai_model(model_id)
    if found is None or listed is None or not _is_listed(model_id, own, listed):
        return ()
    prices = found[1].get_prices(datetime.combine(day, time(12), UTC))
    read = prices.input_mtok, prices.cache_write_mtok
    per_request = (_base(prices.requests_kcount) or 0.0) / 1_000
    return tuple(
        _Step(n, (max(_at(p, n) for p in read), _at(prices.output_mtok, n)), per_request)
        for n in sorted({-1, *(n for p in (*read, prices.output_mtok) for n in _starts(p))})
    )


def _starts(price: Decimal | TieredPrices | None) -> list[int]:
    return [] if price is None or isinstance(price, Decimal) else [t.start for t in price.tiers]


def _at(price: Decimal | TieredPrices | None, beyond_tokens: int) -> float:
    """Return the price of a prompt of more than so many tokens; 0 where there is none."""
    if price is None or isinstance(price, Decimal):
        return float(price or 0)
    below = (t.price for t in price.tiers if t.start <= beyond_tokens)
    return float(max(below, default=price.base, key=float))


def _provider_price(arm: ModelArm, day: date) -> Price | None:
    """Return the list price, unless the arm is at an address that the list is not about."""
    return None if arm.base_url is not None else list_price(arm.id, day)


def _is_listed(model_id: str, prices: Price, listed: Price) -> bool:
    """Say whether a list gives this price, or gave it on some day: the user did not set it."""
    if prices == listed:
        return True
    known = find_model(model_id)
    periods = () if known is None else known.prices
    return any((p.input_usd_per_mtok, p.output_usd_per_mtok) == prices for p in periods)


def _own_price(arm: ModelArm) -> Price | None:
    if arm.input_usd_per_mtok is None or arm.output_usd_per_mtok is None:
        return None
    return arm.input_usd_per_mtok, arm.output_usd_per_mtok


def _dollars(input_tokens: float, output_tokens: float, prices: Price) -> float:
    return (input_tokens * prices[0] + output_tokens * prices[1]) / 1_000_000


def _counts(**tokens: float | None) -> dict[str, float] | None:
    """Return the counts as numbers, None if one is unknown; refuse what cannot be a count."""
    known = {
        name: None if value is None else finite(value, name, low=0.0)
        for name, value in tokens.items()
    }
    counted = {name: value for name, value in known.items() if value is not None}
    return counted if len(counted) == len(known) else None


def _genai_model(model_id: str) -> tuple[Provider, ModelInfo] | None:
    """Return what genai-prices lists under a name, or None; providers are not guessed."""
    from genai_prices.data_snapshot import get_snapshot

    provider, bare = _split(canonical_id(model_id))
    snapshot, wanted = get_snapshot(), provider and _GENAI_NAMES.get(provider, provider)
    seller = next((p for p in snapshot.providers if p.id == wanted), None)
    if provider is not None and seller is None:
        return None
    try:
        return snapshot.find_provider_model(bare, seller, None, None)
    except LookupError:
        return None


def _split(name: str) -> tuple[str | None, str]:
    """Return the provider as PydanticAI calls it (None for a bare name) and the rest."""
    for mark in (":", "/"):
        prefix, found, rest = name.removeprefix("gateway/").partition(mark)
        if found and rest:
            return PROVIDER_SPELLINGS.get(prefix, prefix), rest
    return None, name


def _genai_list_price(model_id: str, day: date) -> Price | None:
    found = _genai_model(model_id)
    if found is None:
        return None
    prices = found[1].get_prices(datetime.combine(day, time(12), UTC))
    pair = _base(prices.input_mtok), _base(prices.output_mtok)
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def _base(price: Decimal | TieredPrices | None) -> float | None:
    """Return the price of a short prompt; genai-prices has no field where it knows no price."""
    if price is None:
        return None
    return float(price if isinstance(price, Decimal) else price.base)


def _genai_dollars(model_id: str, counted: Mapping[str, float], at: datetime) -> float | None:
    """Return the exact price of a usage of a listed model, or None where another list has it."""
    found = _genai_model(model_id)
    if found is None:
        return None
    from genai_prices import Usage

    provider, model = found
    usage = Usage(**{name: count for name, count in counted.items() if count})
    try:
        return float(
            model.calc_price(
                usage, provider, genai_request_timestamp=at.astimezone(UTC)
            ).total_price
        )
    except ValueError as error:  # more cached tokens than tokens
        raise InvalidInput(
            "the cached tokens must be among the input tokens",
            field="cache_read_tokens",
            expected="at most input_tokens",
            value=counted["cache_read_tokens"],
        ) from error
