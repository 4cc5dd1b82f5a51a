"""Folding the old part of a log into one base snapshot, before its rows are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conduit.core.events import LogEntry
from conduit.storage.ports import TAIL_LIMIT, Cursor, Fold, StoredSnapshot


class Log(Protocol):
    """What is read to fold a log."""

    async def tail(
        self, router: str, after: str | None = None, limit: int = TAIL_LIMIT
    ) -> Sequence[LogEntry]:
        """Return the next rows."""


async def folded(
    log: Log,
    router: str,
    *,
    base: StoredSnapshot | None,
    end: tuple[int, int],
    fold: Fold,
) -> StoredSnapshot | None:
    """Return the base that takes in every row up to the place `end`, or None without any row."""
    data, cursor = (base.data, base.cursor) if base is not None else (None, None)
    while True:
        entries = await log.tail(router, cursor, TAIL_LIMIT)
        old = [entry for entry in entries if Cursor.parse(entry.cursor).place <= end]
        if old:
            data, cursor = fold(data, old), old[-1].cursor
        if len(old) < TAIL_LIMIT:
            break
    return None if data is None or cursor is None else StoredSnapshot(cursor=cursor, data=data)
