"""A model that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conduit.core.errors import InvalidInput, optional_finite

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
        """Refuse an empty id and numbers out of range."""
        if not isinstance(self.id, str) or not self.id.strip():
            raise InvalidInput("a model needs an id", field="id", expected="a non-empty string")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "latency_s", "output_tokens"):
            optional_finite(getattr(self, name), name, low=0.0, high=MOST)
        optional_finite(self.quality, "quality", low=0.0, high=1.0)
        optional_finite(self.quality_observations, "quality_observations", low=0.0, high=MOST)
        optional_finite(self.context_window, "context_window", low=1)

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
