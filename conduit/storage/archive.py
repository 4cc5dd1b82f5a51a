"""Snapshots of what was learned, and what may be taken out of the log."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Float, LargeBinary, String, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.log import LogReader
from conduit.storage.ports import (
    SNAPSHOTS_KEPT,
    Clock,
    Cursor,
    Fold,
    Pruned,
    StoredSnapshot,
    clean,
)
from conduit.storage.pruning import folded
from conduit.storage.sessions import LONG_TIMEOUT_S, Sessions

STATE = text("SELECT generation, pruned_xid, pruned_seq FROM routers WHERE router = :router")
SAVE = text("""
    INSERT INTO snapshots (router, state, generation, xid, seq, base, data, crc, meta, saved_at)
    SELECT :router, :state, :generation, :xid, :seq, :base, :data, :crc, :meta, :saved_at
    WHERE :generation = coalesce((SELECT generation FROM routers WHERE router = :router), 0)
""").bindparams(
    *(bindparam(name, type_=String) for name in ("router", "state", "meta")),
    *(bindparam(name, type_=BigInteger) for name in ("generation", "xid", "seq", "crc")),
    bindparam("base", type_=Boolean),
    bindparam("data", type_=LargeBinary),
    bindparam("saved_at", type_=Float(53)),
)
KEEP_NEWEST = text("""
    DELETE FROM snapshots
    WHERE router = :router AND state = :state AND base = :base AND id NOT IN (
        SELECT id FROM snapshots
        WHERE router = :router AND state = :state AND base = :base
        ORDER BY generation DESC, id DESC LIMIT :kept
    )
""")
# A base outlives every rewriting of the log; the others hold for their generation only.
LOAD = text("""
    SELECT xid, seq, data, crc, meta, saved_at FROM snapshots
    WHERE router = :router AND state = :state AND (base OR generation = :generation)
      AND (xid, seq) >= (:xid, :seq)
    ORDER BY CASE WHEN base THEN 1 ELSE 0 END, id DESC
""")
LOAD_BASE = text("""
    SELECT xid, seq, data, crc, meta, saved_at FROM snapshots
    WHERE router = :router AND state = :state AND base AND (xid, seq) >= (:xid, :seq)
    ORDER BY id DESC LIMIT 1
""")

THEIR_DECISIONS = "SELECT id FROM decisions WHERE user_key = :user"
THEIR_ROUTERS = text(f"""
    SELECT router FROM decisions WHERE user_key = :user
    UNION SELECT router FROM feedback WHERE user_key = :user
    UNION SELECT router FROM feedback WHERE decision_id IN ({THEIR_DECISIONS})
    ORDER BY router
""")
FORGET_FEEDBACK = text(
    f"DELETE FROM feedback WHERE user_key = :user OR decision_id IN ({THEIR_DECISIONS})"
)
FORGET_REST = [
    text(statement)
    for statement in (
        f"DELETE FROM queries WHERE decision_id IN ({THEIR_DECISIONS})",
        f"DELETE FROM responses WHERE user_key = :user OR decision_id IN ({THEIR_DECISIONS})",
        "DELETE FROM decisions WHERE user_key = :user",
        "DELETE FROM quarantine WHERE user_key = :user",
    )
]
REWRITE = text("""
    INSERT INTO routers (router, generation) VALUES (:router, 1)
    ON CONFLICT (router) DO UPDATE SET generation = routers.generation + 1
""")
DROP_SNAPSHOTS = text("DELETE FROM snapshots WHERE router = :router AND NOT base")
QUARANTINE = text("""
    INSERT INTO quarantine (user_key, since) VALUES (:user, :now) ON CONFLICT (user_key) DO NOTHING
""")
RELEASE = text("DELETE FROM quarantine WHERE user_key = :user")

# The end of the old part: the last row before the first one that is young enough to stay.
OLD_PART = text("""
    SELECT xid, seq FROM feedback
    WHERE router = :router AND xid IS NOT NULL AND (xid, seq) < (
        SELECT xid, seq FROM (
            SELECT xid, seq FROM feedback
            WHERE router = :router AND xid IS NOT NULL AND recorded_at >= :cut
            UNION ALL SELECT 9223372036854775807, 0
        ) young ORDER BY xid, seq LIMIT 1
    )
    ORDER BY xid DESC, seq DESC LIMIT 1
""")
# Decisions that are old, take no more feedback, and whose every row a base holds, which can only
# have learned from rows of its own schema.
OVER = """
    SELECT d.id FROM decisions d
    WHERE d.router = :router AND d.created_at < :cut AND d.expires_at < :now
      AND NOT EXISTS (
        SELECT 1 FROM feedback f
        WHERE f.decision_id = d.id AND (
            f.xid IS NULL OR (f.xid, f.seq) > (:xid, :seq)
            OR d.schema <> coalesce(CAST(:schema AS text), d.schema)
        )
      )
"""
PRUNE_LOG = text(f"DELETE FROM feedback WHERE decision_id IN ({OVER}) RETURNING xid, seq")
PRUNE_WAITING = text(
    "DELETE FROM feedback WHERE router = :router AND xid IS NULL AND recorded_at < :cut"
)
PRUNE_TEXTS = text("""
    DELETE FROM queries WHERE decision_id IN (
        SELECT id FROM decisions WHERE router = :router AND created_at < :cut
    )
""")
PRUNE_RESPONSES = text("DELETE FROM responses WHERE router = :router AND created_at < :cut")
PRUNE_DECISIONS = text(f"DELETE FROM decisions WHERE id IN ({OVER})")
PRUNE_RESERVATIONS = text("DELETE FROM reservations WHERE expires_at < :cut AND state <> 'held'")
MARK_PRUNED = text("""
    INSERT INTO routers (router, pruned_xid, pruned_seq) VALUES (:router, :xid, :seq)
    ON CONFLICT (router) DO UPDATE SET pruned_xid = :xid, pruned_seq = :seq
    WHERE (routers.pruned_xid, routers.pruned_seq) < (:xid, :seq)
""")


class Archive(LogReader):
    """Keeps snapshots beside the log, and rewrites it for `Custodian`."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        super().__init__(sessions)
        self._clock = clock

    # Snapshots

    async def save_snapshot(
        self, router: str, cursor: str, data: bytes, *, state: str = "", meta: str = ""
    ) -> None:
        """Keep a snapshot, unless the log was rewritten since its cursor."""
        await self._save(router, Cursor.parse(cursor), data, state=state, meta=meta, base=False)

    async def _save(
        self, router: str, cursor: Cursor, data: bytes, *, state: str, meta: str, base: bool
    ) -> None:
        row = {
            "router": router, "state": clean(state), "generation": cursor.generation,
            "xid": cursor.xid, "seq": cursor.seq, "base": base, "data": data,
            "crc": zlib.crc32(data), "meta": clean(meta), "saved_at": self._clock(),
            "kept": 1 if base else SNAPSHOTS_KEPT,
        }  # fmt: skip

        async def save(connection: AsyncConnection) -> None:
            await connection.execute(SAVE, row)
            await connection.execute(KEEP_NEWEST, row)

        await self._sessions.write("save a snapshot", save)

    async def load_snapshot(self, router: str, *, state: str = "") -> StoredSnapshot | None:
        """Return the newest undamaged snapshot that still agrees with the log."""

        async def load(connection: AsyncConnection) -> StoredSnapshot | None:
            place = await _state(connection, router)
            given = {**dataclasses.asdict(place), "router": router, "state": clean(state)}
            rows = (await connection.execute(LOAD, given)).all()
            return next(filter(None, (_undamaged(place.generation, row) for row in rows)), None)

        return await self._sessions.read("load a snapshot", load)

    # Forgetting

    async def forget(self, user_key: str) -> int:
        """Delete what belongs to a user, and make every reader rebuild."""
        user = {"user": clean(user_key)}

        async def forget(connection: AsyncConnection) -> int:
            await _rewrite(connection, user)
            gone = await connection.execute(FORGET_FEEDBACK, user)
            for statement in FORGET_REST:
                await connection.execute(statement, user)
            return gone.rowcount

        return await self._sessions.write("forget a user", forget, timeout_s=LONG_TIMEOUT_S)

    async def quarantine(self, user_key: str) -> None:
        """Hide a user's rows."""
        await self._hide(QUARANTINE, {"user": clean(user_key), "now": self._clock()})

    async def release(self, user_key: str) -> None:
        """Show a user's rows again."""
        await self._hide(RELEASE, {"user": clean(user_key)})

    async def _hide(self, statement: Any, given: dict[str, Any]) -> None:
        async def hide(connection: AsyncConnection) -> None:
            if (await connection.execute(statement, given)).rowcount:
                await _rewrite(connection, given)

        await self._sessions.write("quarantine a user", hide, timeout_s=LONG_TIMEOUT_S)

    # Pruning

    async def prune(
        self,
        router: str,
        *,
        older_than_s: float,
        state: str = "",
        schema: str | None = None,
        fold: Fold | None = None,
    ) -> Pruned:
        """Delete what is older, after folding the feedback into a base."""
        now = self._clock()
        given: dict[str, Any] = {
            "router": router, "now": now, "cut": now - older_than_s, "schema": schema,
        }  # fmt: skip
        if fold is not None:
            await self._fold(given, state, fold)
        base = await self._base(router, state)
        place = Cursor() if base is None else Cursor.parse(base.cursor)
        given |= {"xid": place.xid, "seq": place.seq}
        return await self._sessions.write(
            "prune", lambda c: _prune(c, given), timeout_s=LONG_TIMEOUT_S
        )

    async def _base(self, router: str, state: str) -> StoredSnapshot | None:
        """Return the base of a state, if nothing after it was pruned under another one."""

        async def load(connection: AsyncConnection) -> StoredSnapshot | None:
            place = await _state(connection, router)
            given = {**dataclasses.asdict(place), "router": router, "state": clean(state)}
            row = (await connection.execute(LOAD_BASE, given)).one_or_none()
            return None if row is None else _undamaged(place.generation, row)

        return await self._sessions.read("load a snapshot", load)

    async def _fold(self, given: dict[str, Any], state: str, fold: Fold) -> None:
        async def end_of_old_part(connection: AsyncConnection) -> Sequence[Any] | None:
            return (await connection.execute(OLD_PART, given)).one_or_none()

        end = await self._sessions.read("prune", end_of_old_part, timeout_s=LONG_TIMEOUT_S)
        if end is None:
            return
        router = given["router"]
        base = await self._base(router, state)
        new = await folded(self, router, base=base, end=(end[0], end[1]), fold=fold)
        if new is not None and new != base:
            cursor = Cursor.parse(new.cursor)
            await self._save(router, cursor, new.data, state=state, meta="", base=True)


async def _state(connection: AsyncConnection, router: str) -> Cursor:
    """Return the log's generation, and the place up to which rows were pruned."""
    row = (await connection.execute(STATE, {"router": router})).one_or_none()
    return Cursor() if row is None else Cursor(*row)


async def _rewrite(connection: AsyncConnection, user: dict[str, Any]) -> None:
    """Tell every reader of a log with rows of this user to rebuild."""
    routers = (await connection.execute(THEIR_ROUTERS, user)).scalars().all()
    for router in routers:
        await connection.execute(REWRITE, {"router": router})
        await connection.execute(DROP_SNAPSHOTS, {"router": router})


async def _prune(connection: AsyncConnection, given: dict[str, Any]) -> Pruned:
    gone = (await connection.execute(PRUNE_LOG, given)).all()
    await connection.execute(PRUNE_TEXTS, given)
    responses = await connection.execute(PRUNE_RESPONSES, given)
    decisions = await connection.execute(PRUNE_DECISIONS, given)
    for statement in (PRUNE_WAITING, PRUNE_RESERVATIONS):
        await connection.execute(statement, given)
    if gone:
        xid, seq = max((row[0], row[1]) for row in gone)
        await connection.execute(MARK_PRUNED, {**given, "xid": xid, "seq": seq})
    return Pruned(decisions=decisions.rowcount, responses=responses.rowcount, feedback=len(gone))


def _undamaged(generation: int, row: Sequence[Any]) -> StoredSnapshot | None:
    """Return a stored snapshot, or None if its checksum does not match."""
    xid, seq, data, crc, meta, saved_at = row
    if zlib.crc32(data) != crc:
        return None
    cursor = str(Cursor(generation, xid, seq))
    return StoredSnapshot(cursor=cursor, data=bytes(data), meta=meta, saved_at=saved_at)
