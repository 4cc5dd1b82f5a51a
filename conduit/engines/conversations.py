"""What leaving a conversation's model would cost: dollars, weighed like any other, not a rule.

The model that answered last has the conversation so far in its prompt cache, and may hold reasoning
that it carries on. Another model reads the whole prefix at full price and reasons anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from conduit.core.errors import finite
from conduit.core.models import ModelArm, Query

REMEMBERED = 10_000  # conversations
CACHED_PREFIX_SAVES = 0.75  # of the input price, on a prompt prefix that the provider has cached


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who answered last, and about how many tokens were asked so far."""

    model: str
    tokens: float
    before: Conversation | None = None  # as it was, should nobody answer


class Conversations:
    """Remembers the last model and the length of a bounded number of conversations."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Conversation] = OrderedDict()

    def went_on(self, query: Query, tokens: float, model: str) -> None:
        """Keep that a model was chosen for the next query of a conversation, of so many tokens."""
        if query.conversation_id is None:
            return
        before, asked = self._known.pop(query.conversation_id, None), tokens
        if before is not None:
            before = replace(before, before=None)
            asked += before.tokens
        self._known[query.conversation_id] = Conversation(model, asked, before)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def answered_by(self, query: Query, model: str | None) -> None:
        """Keep who answered, whoever was chosen; None: nobody, so that all is as it was before."""
        identity = query.conversation_id
        known = None if identity is None else self._known.get(identity)
        if identity is None or known is None:
            return
        now = known.before if model is None else replace(known, model=model)
        if now is None:
            del self._known[identity]
        else:
            self._known[identity] = now

    def saved_usd(
        self, query: Query, tokens: float, arms: Mapping[str, ModelArm]
    ) -> Mapping[str, float] | None:
        """Return the dollars that staying with the last model saves; None where nothing is known.

        The query says who that was (`previous_model`), how long the cached prefix is and how much
        reasoning would be lost (`context`: `prefix_tokens`, `reasoning_tokens`), or the
        conversation's earlier queries do.
        """
        known = self._known.get(query.conversation_id) if query.conversation_id else None
        last = query.previous_model or (known.model if known else None)
        arm = arms.get(last) if last is not None else None
        if arm is None:
            return None
        context = query.context or {}
        earlier = known.tokens if known else tokens
        prefix = finite(context.get("prefix_tokens", earlier), "prefix_tokens", low=0.0)
        reasoning = finite(context.get("reasoning_tokens", 0.0), "reasoning_tokens", low=0.0)
        saved = CACHED_PREFIX_SAVES * prefix * (arm.input_usd_per_mtok or 0.0)
        saved += reasoning * (arm.output_usd_per_mtok or 0.0)
        return {arm.id: saved / 1e6} if saved else None
