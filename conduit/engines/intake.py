"""The way of feedback into the log, past the limits of what one user's opinions may amount to.

The limits are kept where a row enters the log: a capped opinion is not in it, so every replica,
restart and rebuild learns the same without knowing of limits. What counts is what the log holds by
its own clock. Replicas that ask at the same moment may each let one opinion in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from conduit.core.errors import StorageUnavailable
from conduit.core.events import FeedbackRow
from conduit.engines.caps import HOUR_S, WINDOW_S, OpinionCounts, OpinionLimits
from conduit.storage.base import Ack, Opinions, Store, is_opinion

EVERYBODY_S = 10.0  # for which a count of everybody's opinions is good, with our own added
REMEMBERED_USERS = 10_000  # whose opinions are counted here while the database is away


class Intake:
    """Appends rows to a store's log; an opinion too many of one user is answered, not kept."""

    def __init__(
        self, store: Store, router: str, limits: OpinionLimits, clock: Callable[[], float]
    ) -> None:
        """Keep these limits for one router."""
        self.limits = limits
        self.capped: Counter[str] = Counter()  # opinions by the limit that they would have broken
        self._store = store
        self._router = router
        self._clock = clock
        self._on_their_way: Counter[str] = Counter()
        self._lately: OrderedDict[str, deque[float]] = OrderedDict()
        self._everybody: tuple[float, Opinions] = (float("-inf"), Opinions())
        self._added = 0  # opinions of users since everybody was counted

    async def append(self, row: FeedbackRow) -> Ack:
        """Return once the row is in the log, or say that it is capped."""
        user = row.user_key
        if user is None or not is_opinion(row) or self.limits.unlimited:
            return await self._store.append(row)
        self._on_their_way[user] += 1
        try:
            broken = await self._broken(user, row)
            if broken is not None:
                self.capped[broken] += 1
                return Ack(status="capped", feedback_id=row.feedback_id, capped_by=broken)
            ack = await self._store.append(row)
        finally:
            self._on_their_way[user] -= 1
            if not self._on_their_way[user]:
                del self._on_their_way[user]
        if ack.status != "duplicate":
            self._note(user)
        return ack

    async def _broken(self, user: str, row: FeedbackRow) -> str | None:
        """Return the limit that one more opinion of a user would break."""
        now, others = self._clock(), self._on_their_way[user] - 1
        try:
            theirs = await self._store.opinions(
                self._router,
                since=now - WINDOW_S,
                recent=now - HOUR_S,
                user_key=user,
                feedback_id=row.feedback_id,
            )
            if theirs.known:
                return None  # a repeat, which the log answers as such
            own = theirs.decisions + others
            everybody = await self._all(now) if own >= self.limits.free else Opinions()
        except StorageUnavailable:  # it goes to the journal; what this process knows still counts
            lately = sum(at > now - HOUR_S for at in self._lately.get(user, ()))
            return self.limits.exceeded(OpinionCounts(within_hour=lately + others))
        counts = OpinionCounts(
            within_hour=theirs.recent + others,
            own=own,
            by_users=everybody.by_users + self._added,
            users=everybody.users,
        )
        return self.limits.exceeded(counts)

    async def _all(self, now: float) -> Opinions:
        counted_at, found = self._everybody
        if not 0.0 <= now - counted_at < EVERYBODY_S:
            found = await self._store.opinions(self._router, since=now - WINDOW_S)
            self._everybody, self._added = (now, found), 0
        return found

    def _note(self, user: str) -> None:
        self._added += 1
        lately = self._lately.setdefault(user, deque(maxlen=self.limits.per_hour or 1))
        self._lately.move_to_end(user)
        lately.append(self._clock())
        if len(self._lately) > REMEMBERED_USERS:
            self._lately.popitem(last=False)


__all__ = ["Intake"]
