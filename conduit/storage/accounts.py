"""Spend limits that all replicas share, and answers that were paid for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Float, String, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.storage.ports import ROUNDING_USD, Clock, Reservation, Spend, check_money, clean
from conduit.storage.sessions import Sessions

# One statement: it frees what the dead reserved, and takes the amount if there is room for it. The
# row of the budget is locked by its update, and its new values follow from the values at that time.
# `granted` tells what this statement decided; `held` says that the id has reserved before.
FITS = """
    NOT EXISTS (SELECT 1 FROM held)
    AND b.spent_usd + b.reserved_usd - (SELECT usd FROM freed) + :amount <= :room
"""
RESERVE = text(f"""
    WITH held AS (
        SELECT 1 FROM reservations WHERE id = :id
    ), expired AS (
        UPDATE reservations SET state = 'freed'
        WHERE id IN (
            SELECT id FROM reservations
            WHERE scope_key = :scope AND period_start = :period AND state = 'held'
              AND expires_at <= :now
            ORDER BY id FOR UPDATE SKIP LOCKED
        )
        RETURNING amount_usd
    ), freed AS (
        SELECT coalesce(sum(amount_usd), 0.0) AS usd FROM expired
    ), budget AS (
        INSERT INTO budgets AS b
            (scope_key, period_start, limit_usd, spent_usd, reserved_usd, granted)
        SELECT :scope, :period, :limit, 0.0,
               CASE WHEN :amount <= :limit THEN :amount ELSE 0.0 END, :amount <= :limit
        ON CONFLICT (scope_key, period_start) DO UPDATE SET
            limit_usd = :limit,
            granted = {FITS},
            reserved_usd = greatest(0.0, b.reserved_usd - (SELECT usd FROM freed))
                + CASE WHEN {FITS} THEN :amount ELSE 0.0 END
        RETURNING granted, spent_usd, reserved_usd
    ), reserved AS (
        INSERT INTO reservations (id, scope_key, period_start, amount_usd, expires_at, state)
        SELECT :id, :scope, :period, :amount, :expires_at, 'held' FROM budget WHERE granted
    )
    SELECT granted OR EXISTS (SELECT 1 FROM held), spent_usd, reserved_usd FROM budget
""").bindparams(
    *(bindparam(name, type_=Float(53)) for name in ("amount", "limit", "room", "period")),
    *(bindparam(name, type_=String) for name in ("id", "scope")),
)
SETTLE = text("""
    WITH settled AS (
        UPDATE reservations r SET state = 'settled'
        FROM (SELECT id, state FROM reservations WHERE id = :id FOR UPDATE) was
        WHERE r.id = was.id AND was.state <> 'settled'
        RETURNING r.scope_key, r.period_start,
                  CASE WHEN was.state = 'held' THEN r.amount_usd ELSE 0.0 END AS usd
    )
    UPDATE budgets b SET
        spent_usd = b.spent_usd + :actual,
        reserved_usd = greatest(0.0, b.reserved_usd - settled.usd)
    FROM settled
    WHERE b.scope_key = settled.scope_key AND b.period_start = settled.period_start
""")
SPEND = text("""
    SELECT limit_usd, spent_usd, reserved_usd FROM budgets
    WHERE scope_key = :scope AND period_start = :period
""")

# An empty outcome is a beginning: the answer was about to be asked for.
BEGIN_CALIBRATION = text("""
    INSERT INTO calibrations (router, grader, prompt_hash, model, outcome, created_at)
    VALUES (:router, :grader, :prompt, :model, '', :now) ON CONFLICT DO NOTHING
""")
SAVE_CALIBRATION = text("""
    INSERT INTO calibrations (router, grader, prompt_hash, model, outcome, created_at)
    VALUES (:router, :grader, :prompt, :model, :outcome, :now)
    ON CONFLICT (router, grader, prompt_hash, model) DO UPDATE
        SET outcome = excluded.outcome, created_at = excluded.created_at
        WHERE calibrations.outcome = ''
""")
DROP_CALIBRATION = text("""
    DELETE FROM calibrations
    WHERE router = :router AND grader = :grader AND prompt_hash = :prompt AND model = :model
      AND outcome = ''
""")
CALIBRATIONS = text("""
    SELECT prompt_hash, model, outcome FROM calibrations
    WHERE router = :router AND grader = :grader
""")

# SQLite has one writer at a time, and no statement that writes several tables.
FREE_EXPIRED = text("""
    UPDATE reservations SET state = 'freed'
    WHERE scope_key = :scope AND period_start = :period AND state = 'held' AND expires_at <= :now
    RETURNING amount_usd
""")
HELD = text("SELECT 1 FROM reservations WHERE id = :id")
FITS_SQLITE = "NOT :held AND spent_usd + reserved_usd - :freed + :amount <= :room"
TAKE = text(f"""
    INSERT INTO budgets (scope_key, period_start, limit_usd, spent_usd, reserved_usd, granted)
    VALUES (:scope, :period, :limit, 0.0,
            CASE WHEN :amount <= :limit THEN :amount ELSE 0.0 END, :amount <= :limit)
    ON CONFLICT (scope_key, period_start) DO UPDATE SET
        limit_usd = :limit,
        granted = {FITS_SQLITE},
        reserved_usd = max(0.0, reserved_usd - :freed)
            + CASE WHEN {FITS_SQLITE} THEN :amount ELSE 0.0 END
    RETURNING granted, spent_usd, reserved_usd
""")
HOLD = text("""
    INSERT INTO reservations (id, scope_key, period_start, amount_usd, expires_at, state)
    VALUES (:id, :scope, :period, :amount, :expires_at, 'held')
""")
SETTLING = text("""
    UPDATE reservations SET state = 'settled' WHERE id = :id AND state = :state
    RETURNING scope_key, period_start, amount_usd
""")
SETTLED = text("""
    UPDATE budgets SET spent_usd = spent_usd + :actual,
                       reserved_usd = max(0.0, reserved_usd - :usd)
    WHERE scope_key = :scope AND period_start = :period
""")


class Accounts:
    """Keeps one database's spend limits and calibrations."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        several = sessions.dialect.name == "postgresql"
        self._reserve = _reserve_at_once if several else _reserve_in_steps
        self._settle = _settle_at_once if several else _settle_in_steps

    async def reserve(
        self,
        scope_key: str,
        period_start: float,
        *,
        limit_usd: float,
        amount_usd: float,
        reservation_id: str,
        now: float,
        expires_at: float,
    ) -> Reservation:
        """Set the amount aside if there is room for it."""
        check_money(limit_usd=limit_usd, amount_usd=amount_usd)
        given = {
            "scope": clean(scope_key), "period": period_start, "limit": float(limit_usd),
            "room": limit_usd + ROUNDING_USD,
            "amount": float(amount_usd), "id": clean(reservation_id), "now": now,
            "expires_at": expires_at,
        }  # fmt: skip
        granted, spent, reserved = await self._sessions.write(
            "reserve money", lambda c: self._reserve(c, given)
        )
        return Reservation(granted=granted, left_usd=max(0.0, limit_usd - spent - reserved))

    async def settle(self, reservation_id: str, actual_usd: float) -> None:
        """Turn a reservation into spent money, once."""
        check_money(actual_usd=actual_usd)
        given = {"id": clean(reservation_id), "actual": float(actual_usd)}
        await self._sessions.write("settle a reservation", lambda c: self._settle(c, given))

    async def spend(self, scope_key: str, period_start: float) -> Spend | None:
        """Return what is spent and reserved."""
        given = {"scope": clean(scope_key), "period": period_start}

        async def read(connection: AsyncConnection) -> Any:
            return (await connection.execute(SPEND, given)).one_or_none()

        row = await self._sessions.read("read what was spent", read)
        if row is None:
            return None
        return Spend(limit_usd=row[0], spent_usd=row[1], reserved_usd=row[2])

    async def begin_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Note what is about to be asked for."""
        given = {**_pair(router, prompt_hash, model, grader), "now": self._clock()}
        await self._sessions.write(
            "note what is asked for", lambda c: c.execute(BEGIN_CALIBRATION, given)
        )

    async def save_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str, outcome: str
    ) -> None:
        """Keep a graded outcome; the first one stands."""
        given = {
            **_pair(router, prompt_hash, model, grader),
            "outcome": clean(outcome), "now": self._clock(),
        }  # fmt: skip
        await self._sessions.write(
            "save a graded answer", lambda c: c.execute(SAVE_CALIBRATION, given)
        )

    async def drop_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Forget what only began."""
        given = _pair(router, prompt_hash, model, grader)
        await self._sessions.write(
            "forget what was not asked", lambda c: c.execute(DROP_CALIBRATION, given)
        )

    async def calibrations(self, router: str, grader: str) -> Mapping[tuple[str, str], str | None]:
        """Return the kept outcomes of one grader."""
        given = {"router": clean(router), "grader": clean(grader)}

        async def read(connection: AsyncConnection) -> Any:
            return (await connection.execute(CALIBRATIONS, given)).all()

        rows = await self._sessions.read("read graded answers", read)
        return {(prompt, model): outcome or None for prompt, model, outcome in rows}


def _pair(router: str, prompt_hash: str, model: str, grader: str) -> dict[str, str]:
    return {
        "router": clean(router), "prompt": clean(prompt_hash), "model": clean(model),
        "grader": clean(grader),
    }  # fmt: skip


Given = Mapping[str, Any]
Decided = tuple[bool, float, float]  # granted, spent, reserved


async def _reserve_at_once(connection: AsyncConnection, given: Given) -> Decided:
    granted, spent, reserved = (await connection.execute(RESERVE, given)).one()
    return granted, spent, reserved


async def _reserve_in_steps(connection: AsyncConnection, given: Given) -> Decided:
    freed = (await connection.execute(FREE_EXPIRED, given)).scalars().all()
    held = (await connection.execute(HELD, given)).scalar() is not None
    taken = await connection.execute(TAKE, {**given, "freed": sum(freed), "held": held})
    granted, spent, reserved = taken.one()
    if granted:
        await connection.execute(HOLD, given)
    return bool(granted) or held, spent, reserved


async def _settle_at_once(connection: AsyncConnection, given: Given) -> None:
    await connection.execute(SETTLE, given)


async def _settle_in_steps(connection: AsyncConnection, given: Given) -> None:
    for state in ("held", "freed"):
        row = (await connection.execute(SETTLING, {**given, "state": state})).one_or_none()
        if row is not None:
            scope, period, amount = row
            back = {"scope": scope, "period": period, "usd": amount if state == "held" else 0.0}
            await connection.execute(SETTLED, {**given, **back})
            return
