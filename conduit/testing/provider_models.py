"""The models that a local provider simulates: what they cost, know, and how fast they are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from conduit.core.errors import ConfigurationError, InvalidInput, finite, optional_finite
from conduit.testing.provider_faults import Fault, fault_from

CHARS_PER_TOKEN = 4  # the usual rule of thumb for English
EVERYTHING_ELSE = "*"  # in a mapping of topics: what holds for the topics it does not name

Chance = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """A model with a price, a skill per topic and a speed.

    `skill` and `validity` are probabilities, of a right answer and of a structured answer that
    its schema accepts; a mapping gives them per topic, a topic that it does not name takes `"*"`,
    else 1. `output_tokens` is what it bills: None means what its answer has, a pair is a range.
    """

    name: str
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    skill: Chance = 1.0
    validity: Chance = 1.0
    ttft_s: float = 0.0
    tokens_per_s: float | None = None  # None: everything at once
    output_tokens: int | tuple[int, int] | None = None
    calls_tools: bool = False  # calls the first ordinary tool before it answers
    fault: Fault | None = None
    # What it says to a prompt instead of a simulated answer; None leaves it to the simulation.
    responder: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are none."""
        if not self.name:
            raise InvalidInput("a model needs a name", field="name")
        finite(self.input_usd_per_mtok, "input_usd_per_mtok", low=0.0)
        finite(self.output_usd_per_mtok, "output_usd_per_mtok", low=0.0)
        finite(self.ttft_s, "ttft_s", low=0.0)
        if optional_finite(self.tokens_per_s, "tokens_per_s", low=0.0) == 0.0:
            raise InvalidInput("tokens_per_s must be above 0", field="tokens_per_s", value=0.0)
        for name in ("skill", "validity"):
            chance = getattr(self, name)
            for part in chance.values() if isinstance(chance, Mapping) else (chance,):
                finite(part, name, low=0.0, high=1.0)
        low, high = self.output_range()
        if not 0 <= low <= high:
            raise InvalidInput("output_tokens must be a range of counts", field="output_tokens")

    def output_range(self) -> tuple[int, int]:
        """Return the fewest and the most output tokens that it bills beside its answer's own."""
        if self.output_tokens is None:
            return 0, 0
        if isinstance(self.output_tokens, int):
            return self.output_tokens, self.output_tokens
        low, high = self.output_tokens
        return low, high

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return what so many tokens cost."""
        usd = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return usd / 1_000_000

    def duration_s(self, output_tokens: int) -> float:
        """Return how long it takes for an answer of so many tokens."""
        return self.ttft_s + (output_tokens / self.tokens_per_s if self.tokens_per_s else 0.0)

    def tokens_by(self, elapsed_s: float, output_tokens: int) -> int:
        """Return how many tokens of an answer it has produced by then."""
        if elapsed_s < self.ttft_s:
            return 0
        if self.tokens_per_s is None:
            return output_tokens
        return min(output_tokens, int((elapsed_s - self.ttft_s) * self.tokens_per_s))


# Prices and speeds spread as real ones do; the cheap are good at something, the dear at everything.
SIMULATED_POOL: tuple[SimulatedModel, ...] = (
    SimulatedModel("sim-nano", 0.05, 0.20, {"sentiment": 0.95, "choice": 0.8, "*": 0.35}),
    SimulatedModel("sim-small", 0.15, 0.60, {"code": 0.3, "dates": 0.3, "*": 0.75}),
    SimulatedModel("sim-code", 0.60, 2.40, {"code": 0.97, "arithmetic": 0.97, "*": 0.6}),
    SimulatedModel("sim-large", 2.50, 10.0, {"code": 0.85, "*": 0.92}),
    SimulatedModel("sim-frontier", 10.0, 40.0, 0.97),
)


def model_from(value: SimulatedModel | dict[str, Any]) -> SimulatedModel:
    """Return a model from itself or from its fields as JSON has them."""
    if isinstance(value, SimulatedModel):
        return value
    known = {field.name for field in fields(SimulatedModel)} - {"responder"}
    unknown = sorted(set(value) - known)
    if unknown or "name" not in value:
        raise ConfigurationError(
            f"not a model: {', '.join(unknown) or 'no name'} (fields: {', '.join(sorted(known))})",
            field="models",
        )
    count = value.get("output_tokens")
    pair = (count[0], count[1]) if isinstance(count, list) else count
    fault = fault_from(value.get("fault"))
    return SimulatedModel(**{**value, "output_tokens": pair, "fault": fault})


def count_tokens(text: str) -> int:
    """Return how many tokens the provider takes a text for: one per four characters."""
    return -(-len(text) // CHARS_PER_TOKEN)


def chance_of(chance: Chance, topic: str) -> float:
    """Return the probability that holds for a topic."""
    if not isinstance(chance, Mapping):
        return chance
    return chance.get(topic, chance.get(EVERYTHING_ELSE, 1.0))


def draw(*what: object) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments."""
    text = "\0".join(map(str, what)).encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64


class ActiveFault:
    """A fault since the moment it was set: it counts and times what it may strike."""

    def __init__(self, fault: Fault, seed: int, model: str) -> None:
        self._fault = fault
        self._lot = (seed, model, "fault")
        self._since = time.monotonic()
        self._seen = 0

    def strikes(self) -> Fault | None:
        """Return the fault if it strikes this request."""
        self._seen += 1
        fault = self._fault
        is_over = (fault.first_n is not None and self._seen > fault.first_n) or (
            fault.lasts_s is not None and time.monotonic() - self._since > fault.lasts_s
        )
        return None if is_over or draw(*self._lot, self._seen) >= fault.probability else fault
