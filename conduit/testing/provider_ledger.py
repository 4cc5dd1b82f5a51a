"""The provider's own books: one row per request, and what it costs."""

import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from conduit.testing.provider_answers import Ask, Completion
from conduit.testing.provider_faults import Fault
from conduit.testing.provider_questions import markers_of, prompt_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One request as the provider saw it; times are seconds since 1970.

    `finished_at` is None while the request is under way. `status` is None until a status line has
    been sent, and for good when none was. The key is never kept, only whether there was one.
    """

    id: str
    path: str
    model: str
    prompt_id: str  # the same prompt, the same id; see `prompt_id(prompt)`
    marker: str  # the `[[marker:…]]` parts of the prompt
    streamed: bool
    has_authorization: bool
    started_at: float
    topic: str | None = None
    fault: str | None = None
    is_right: bool | None = None
    is_valid: bool | None = None
    status: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    finished_at: float | None = None
    client_disconnected_at: float | None = None


class Ledger:
    """All rows, in the order in which the requests came."""

    def __init__(self) -> None:
        self._rows: list[LedgerRow] = []

    def open(self, path: str, ask: Ask, *, has_authorization: bool) -> int:
        """Enter a request, and return where its row is."""
        row = LedgerRow(
            id=f"req-{len(self._rows) + 1}",
            path=path,
            model=ask.model,
            prompt_id=prompt_id(ask.prompt),
            marker=markers_of(ask.prompt),
            streamed=ask.stream,
            has_authorization=has_authorization,
            started_at=time.time(),
        )
        self._rows.append(row)
        return len(self._rows) - 1

    def answered(self, at: int, said: Completion, fault: Fault | None) -> None:
        """Note what the model is going to say, and what will go wrong with it."""
        self._rows[at] = replace(
            self._rows[at],
            topic=said.topic,
            is_right=said.is_right,
            is_valid=said.is_valid,
            fault=None if fault is None else fault.kind.value,
        )

    def close(self, at: int, **facts: Any) -> None:
        """Finish a row: its status, its tokens, its dollars, and whether the client left."""
        self._rows[at] = replace(self._rows[at], finished_at=time.time(), **facts)

    def __getitem__(self, at: int) -> LedgerRow:
        return self._rows[at]

    @property
    def rows(self) -> list[LedgerRow]:
        """Return the rows as they are now."""
        return list(self._rows)

    @property
    def spent_usd(self) -> float:
        """Return what all requests cost together."""
        return math.fsum(row.usd for row in list(self._rows))

    @property
    def calls_by_model(self) -> dict[str, int]:
        """Return how many requests each model got."""
        return dict(Counter(row.model for row in list(self._rows)))
