"""Spend limits and paid answers, kept in the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from conduit.storage.ports import ROUNDING_USD, Reservation, Spend, check_money


@dataclass(slots=True)
class _Held:
    """Money set aside for one call."""

    account: tuple[str, float]
    amount_usd: float
    expires_at: float


@dataclass(slots=True)
class _Account:
    """One limit in one period."""

    limit_usd: float
    spent_usd: float = 0.0
    held: dict[str, float] = field(default_factory=dict)

    def left_usd(self) -> float:
        """Return what neither was spent nor is held."""
        return max(0.0, self.limit_usd - self.spent_usd - sum(self.held.values()))


class MemoryLedger:
    """Reservations of one process; no await lies within a change, so no caller sees half of one."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, float], _Account] = {}
        self._reservations: dict[str, _Held] = {}
        self._calibrations: dict[tuple[str, str], dict[tuple[str, str], str | None]] = defaultdict(
            dict
        )

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
        key = (scope_key, period_start)
        account = self._accounts.setdefault(key, _Account(limit_usd))
        account.limit_usd = limit_usd
        self._free_expired(account, now)
        granted = reservation_id in self._reservations
        if (
            not granted
            and account.spent_usd + sum(account.held.values()) + amount_usd
            <= limit_usd + ROUNDING_USD
        ):
            account.held[reservation_id] = amount_usd
            self._reservations[reservation_id] = _Held(key, amount_usd, expires_at)
            granted = True
        return Reservation(granted=granted, left_usd=account.left_usd())

    def _free_expired(self, account: _Account, now: float) -> None:
        for identity in [i for i in account.held if self._reservations[i].expires_at <= now]:
            del account.held[identity]  # the reservation itself stays, so that it can be settled

    async def settle(self, reservation_id: str, actual_usd: float) -> None:
        """Turn a reservation into spent money, once."""
        check_money(actual_usd=actual_usd)
        held = self._reservations.pop(reservation_id, None)
        if held is not None:
            account = self._accounts[held.account]
            account.held.pop(reservation_id, None)
            account.spent_usd += actual_usd

    async def spend(self, scope_key: str, period_start: float) -> Spend | None:
        """Return what is spent and reserved."""
        account = self._accounts.get((scope_key, period_start))
        if account is None:
            return None
        return Spend(
            limit_usd=account.limit_usd,
            spent_usd=account.spent_usd,
            reserved_usd=sum(account.held.values()),
        )

    async def begin_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Note what is about to be asked for."""
        self._calibrations[router, grader].setdefault((prompt_hash, model), None)

    async def save_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str, outcome: str
    ) -> None:
        """Keep a graded outcome; the first one stands."""
        kept = self._calibrations[router, grader]
        if kept.get((prompt_hash, model)) is None:
            kept[prompt_hash, model] = outcome

    async def drop_calibration(
        self, router: str, prompt_hash: str, model: str, grader: str
    ) -> None:
        """Forget what only began."""
        kept = self._calibrations[router, grader]
        if kept.get((prompt_hash, model), "") is None:
            del kept[prompt_hash, model]

    async def calibrations(self, router: str, grader: str) -> Mapping[tuple[str, str], str | None]:
        """Return the kept outcomes of one grader."""
        return dict(self._calibrations[router, grader])
