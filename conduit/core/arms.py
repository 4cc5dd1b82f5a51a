"""A model that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conduit.core.errors import InvalidInput, hold_counts, hold_numbers, hold_strings

_AMOUNTS = (
    "input_usd_per_mtok", "output_usd_per_mtok", "quality_observations", "latency_s",
    "output_tokens",
)  # fmt: skip
MOST = 1e12  # dollars per million tokens, seconds, tokens: beyond it sums lose their digits


@dataclass(frozen=True, slots=True)
class ModelArm:
    """One model that can be chosen; only the id is needed, the catalogue fills what it knows."""

    id: str
    input_usd_per_mtok: float | None = field(default=None, kw_only=True)
    output_usd_per_mtok: float | None = field(default=None, kw_only=True)
    quality: float | None = field(default=None, kw_only=True)
    quality_observations: float | None = field(default=None, kw_only=True)
    latency_s: float | None = field(default=None, kw_only=True)
    output_tokens: float | None = field(default=None, kw_only=True)
    context_window: int | None = field(default=None, kw_only=True)
    base_url: str | None = field(default=None, kw_only=True, repr=False)  # may hold a password
    model: Any = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse an empty id and numbers out of range; what is held is plain."""
        if not isinstance(self.id, str) or not self.id.strip():
            raise InvalidInput("a model needs an id", field="id", expected="a non-empty string")
        hold_strings(self, ("id", "base_url"))
        hold_numbers(self, _AMOUNTS, low=0.0, high=MOST)
        hold_numbers(self, ("quality",), low=0.0, high=1.0)
        hold_counts(self, ("context_window",), low=1)

    @property
    def provider(self) -> str | None:
        """Return what stands before the first colon or slash of the id, if anything does."""
        for mark in (":", "/"):
            if mark in self.id:
                return self.id.split(mark, 1)[0]
        return None

    @property
    def priced(self) -> bool:
        """Return whether dollars follow from tokens for this model."""
        return self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
