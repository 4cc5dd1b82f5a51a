"""What was decided: written to the store, and found again when feedback names it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from conduit.core.errors import InvalidInput, StorageUnavailable, UnknownDecision, finite
from conduit.core.events import DecisionRecord
from conduit.core.models import RoutingDecision, Vector
from conduit.engines.gathering import Gathering
from conduit.engines.rows import lesson_of, record_of, user_key
from conduit.storage import receipts
from conduit.storage.base import Store

REMEMBERED = 10_000  # decisions that feedback can name by id without asking the store


class _Recent(NamedTuple):
    """What is kept at hand of a decision whose feedback has not come; the rest is in the store."""

    model: str
    x: Vector
    schema: str
    created_at: float
    user_id: str | None
    tokens: int
    served_by: str | None = None  # who answered, or was asked last


class Decided:
    """Remembers the latest decisions, and knows the others by their rows and receipts."""

    def __init__(
        self,
        store: Store,
        router: str,
        *,
        ttl_s: float,
        secret: str | None,
        durable: bool,
        clock: Callable[[], float],
    ) -> None:
        """Write to a store that is durable; any other need not know what nobody asks it for."""
        self.ttl_s = finite(ttl_s, "decision_ttl_s", low=1.0)
        self.counts: Counter[str] = Counter()  # of decisions by model
        self._store = store
        self._router = router
        self._durable = durable
        self._secret = receipts.secret_bytes(secret)
        self._clock = clock
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._unwritten = Gathering(self._write, most=REMEMBERED)

    @property
    def unwritten(self) -> int:
        """Return how many decisions are not in the store yet."""
        return len(self._unwritten)

    def keep(self, decision: RoutingDecision, text: str | None) -> None:
        """Remember a decision, and write it in a moment with its text, if any."""
        model, features = decision.selected_model, decision.features
        self.counts[model] += 1
        self._recent[decision.id] = _Recent(
            model,
            features.vector,
            features.schema,
            decision.created_at,
            decision.user_id,
            features.token_estimate,
        )
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        if self._durable:
            self._unwritten.add((decision, text))

    def served_by(self, decision_id: str, model: str) -> None:
        """Know who answered a decision, or was asked last: feedback on it is about that model."""
        known = self._recent.get(decision_id)
        if known is not None:
            self._recent[decision_id] = known._replace(served_by=model)

    def settle(self) -> None:
        """Write in the running event loop, where the store lives, wherever decisions are made."""
        self._unwritten.settle()

    async def flush(self) -> None:
        """Return once the store was told of everything that was kept."""
        await self._unwritten.flush()

    async def _write(self, made: Sequence[tuple[RoutingDecision, str | None]]) -> None:
        for decision, text in made:
            await self._store.record(record_of(decision, self.ttl_s, text=text))

    def receipt(self, decision: RoutingDecision) -> str:
        """Return a signed token that stands for the decision in any process with the secret."""
        known = self._recent.get(decision.id)
        served_by = None if known is None else known.served_by
        return receipts.sign(record_of(decision, self.ttl_s), self._secret, served_by)

    async def find(self, decision: RoutingDecision | str) -> tuple[DecisionRecord, str | None]:
        """Return what feedback is about, and the model whose answer that is, where it is known."""
        if isinstance(decision, RoutingDecision):
            # The estimates cost more than the lesson; of what was decided here they are written.
            elsewhere = self._durable and decision.id not in self._recent
            written = record_of if elsewhere else lesson_of
            return written(decision, self.ttl_s), await self._served(decision.id)
        if not isinstance(decision, str):
            wanted = "a decision, its id or its receipt"
            raise InvalidInput(
                f"feedback is about {wanted}, not {type(decision).__name__}",
                field="decision",
                expected=wanted,
            )
        if receipts.is_receipt(decision):
            record, model = receipts.verify(decision, self._secret, self._clock())
            return record, model or await self._served(record.id)
        known = self._recent.get(decision)
        if known is not None:
            return self._recalled(decision, known), known.served_by
        stored = await self._store.decision(self._router, decision)
        if stored is not None:
            return stored, await self._served(decision)
        answer = await self._store.response(self._router, decision)
        if answer is None:
            raise UnknownDecision(decision, "it was never made here, or was pruned or forgotten")
        record, _ = await self.find(answer.decision_id)
        return record, answer.response.model

    async def _served(self, decision_id: str) -> str | None:
        """Return who answered a decision; None where nobody was asked, or no database can tell."""
        known = self._recent.get(decision_id)
        if known is not None:
            return known.served_by
        try:
            answer = await self._store.answer_to(self._router, decision_id)
        except StorageUnavailable:  # what is said goes to the journal, about the chosen model
            return None
        return None if answer is None else answer.response.model

    def _recalled(self, decision_id: str, recent: _Recent) -> DecisionRecord:
        """Return what teaching needs of a decision that was made here; its row has the rest."""
        return DecisionRecord(
            id=decision_id,
            router=self._router,
            model=recent.model,
            x=recent.x,
            schema=recent.schema,
            created_at=recent.created_at,
            expires_at=recent.created_at + self.ttl_s,
            user_key=user_key(recent.user_id),
            input_tokens=float(recent.tokens),
        )


__all__ = ["Decided"]
