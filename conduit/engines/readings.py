"""What a router says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStats:
    """What a router has done since it started, and what it has learned in all."""

    decisions: int
    outcomes: int  # applied to the learner, other replicas' included
    models: tuple[str, ...]
    share_by_model: Mapping[str, float]
    pending: int
    degraded: int
    skipped: int
    policy: str
    schema: str
    embedder: str
    learning_paused: str | None
    opinions_capped: Mapping[str, int] = field(default_factory=dict)  # by the limit


__all__ = ["RouterStats"]
