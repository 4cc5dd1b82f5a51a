"""Who gave how many opinions, kept in the process."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Set
from typing import NamedTuple

from conduit.core.events import FeedbackRow
from conduit.storage.ports import Opinions, is_opinion


class _Given(NamedTuple):
    """One opinion: when it came, and what it was about."""

    at: float
    decision_id: str
    feedback_id: str


class MemoryOpinions:
    """Opinions by router and user, in the order in which they came."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[str | None, list[_Given]]] = defaultdict(dict)

    def add(self, row: FeedbackRow, at: float) -> None:
        """Note an opinion; any other row is none."""
        if is_opinion(row):
            given = self._by_user[row.router].setdefault(row.user_key, [])
            given.append(_Given(at, row.decision_id, row.feedback_id))

    def drop(self, rows: Iterable[FeedbackRow]) -> None:
        """Let go of rows that were deleted."""
        gone: dict[tuple[str, str | None], set[str]] = defaultdict(set)
        for row in filter(is_opinion, rows):
            gone[row.router, row.user_key].add(row.feedback_id)
        for (router, user), ids in gone.items():
            users = self._by_user[router]
            users[user] = [g for g in users[user] if g.feedback_id not in ids]
            if not users[user]:
                del users[user]

    def counted(
        self, router: str, *, since: float, recent: float, user_key: str | None, hidden: Set[str]
    ) -> Opinions:
        """Return how many opinions came since a time, of one user or of all but the hidden."""
        users = self._by_user[router]
        wanted = [u for u in users if u not in hidden] if user_key is None else [user_key]
        lists = {u: _since(users.get(u, []), since) for u in wanted}
        signed = {u: given for u, given in lists.items() if u is not None and given}
        return Opinions(
            decisions=len({g.decision_id for given in lists.values() for g in given}),
            by_users=len({g.decision_id for given in signed.values() for g in given}),
            users=len(signed),
            recent=sum(len(_since(given, recent)) for given in lists.values()),
        )


def _since(given: list[_Given], at: float) -> list[_Given]:
    return given[bisect_left(given, (at,)) :]
