"""Spend limits: reserve the worst case before a call, settle what it really cost."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from conduit.catalogue.pricing import most_usd
from conduit.core.errors import (
    BudgetExceeded,
    InvalidInput,
    StorageUnavailable,
    finite,
    optional_finite,
    unknown_name,
)
from conduit.core.models import ModelArm
from conduit.engines.bookings import Bookings
from conduit.engines.executor.sizes import Size
from conduit.engines.pacing import PacedPeriod, Pacer, allowed_usd
from conduit.storage.base import Store, new_id

PERIODS = ("day", "month", "total")
SCOPES = ("router", "user")
RESERVATION_TTL_S = 300.0  # after which what a dead process reserved may be spent by others
LONGEST_TTL_S = 86_400.0  # also of a call that may take for ever: what it costs is booked later too
AT_ONCE = 4  # bookings of one process: they take turns at the row of the budget anyway
MAX_PACED = 10_000  # budgets of users whose pace is remembered
UNKNOWN_USER = "-"  # all callers without a user id share one limit


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit in dollars per day, month (UTC) or for good, for a router or for each user.

    With `pace=True` the weight of cost follows the spend, so that the budget lasts its period.
    """

    usd: float
    per: Literal["day", "month", "total"] = "day"
    scope: Literal["router", "user"] = "router"
    pace: bool = False
    expected_queries: int | None = None  # in one period, for pacing; learned from traffic without

    def __post_init__(self) -> None:
        """Refuse limits that are not dollars, unknown periods and scopes, and odd pacing."""
        if finite(self.usd, "usd", low=0.0) == 0.0:
            raise InvalidInput("a budget must be above 0", field="usd", value=self.usd)
        for name, value, known in (("per", self.per, PERIODS), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise InvalidInput(unknown_name(name, value, known), field=name)
        optional_finite(self.expected_queries, "expected_queries", low=1.0)
        if not isinstance(self.pace, bool):
            expected = "True or False"
            raise InvalidInput(
                f"pace must be {expected}", field="pace", expected=expected, value=self.pace
            )

    def period(self, now: float) -> tuple[float, float | None]:
        """Return when the current period began and when the next one does (epoch seconds)."""
        if self.per == "total":
            return 0.0, None
        at = datetime.fromtimestamp(now, UTC)
        start = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.per == "day":
            return start.timestamp(), (start + timedelta(days=1)).timestamp()
        start = start.replace(day=1)
        following = (start + timedelta(days=32)).replace(day=1)
        return start.timestamp(), following.timestamp()

    def key(self, router: str, user_key: str | None) -> str:
        """Return whose spend this is."""
        whose = "*" if self.scope == "router" else user_key or UNKNOWN_USER
        return f"{router}|{self.scope}|{whose}|{self.per}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money set aside for one call, in every budget that it counts against."""

    ids: tuple[str, ...]
    amount_usd: float


@dataclass(slots=True)
class _Paced:
    """The pace of one budget: its weight of cost lasts, what is counted begins anew."""

    pacer: Pacer = field(default_factory=Pacer)
    period: PacedPeriod | None = None

    def begun(self, start: float, before_usd: float) -> PacedPeriod:
        """Return the period that began at `start`."""
        if self.period is None or self.period.start != start:
            self.period = PacedPeriod(start, before_usd)
        return self.period


class Budgets:
    """All limits of one service, kept in the store, so that replicas share them."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        store: Store,
        router: str,
        *,
        clock: Callable[[], float] = time.time,
        ttl_s: float = RESERVATION_TTL_S,
    ) -> None:
        """Watch over the given limits."""
        tightest = {(b.scope, b.per): b for b in sorted(budgets, key=lambda b: -b.usd)}
        self.budgets = tuple(tightest.values())  # two of a kind would book each call twice
        self._store = store
        self._router = router
        self._clock = clock
        self._ttl_s = ttl_s
        self._paced: OrderedDict[str, _Paced] = OrderedDict()
        self._since = clock()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._open: dict[tuple[str, ...], Hold] = {}  # not settled yet
        self._given_up: set[tuple[str, ...]] = set()
        self.bookings = Bookings(store)

    def worst_case_usd(self, arm: ModelArm, size: Size) -> float | None:
        """Return the most that a call of this size costs now, or None at an unknown price."""
        return most_usd(
            arm,
            size.all_input_tokens,
            size.requests * size.output_tokens,
            requests=size.requests,
            day=datetime.fromtimestamp(self._clock(), UTC).date(),
        )

    async def left_usd(self, user_key: str | None) -> float:
        """Return what the tightest limit leaves now."""
        now = self._clock()
        left = float("inf")
        for budget in self.budgets:
            spend = await self._store.spend(
                budget.key(self._router, user_key), budget.period(now)[0]
            )
            used = 0.0 if spend is None else spend.spent_usd + spend.reserved_usd
            left = min(left, budget.usd - used)
        return left

    async def reserve(
        self, amount_usd: float, user_key: str | None, *, lasts_s: float = 0.0
    ) -> Hold:
        """Set an amount aside in every limit, or raise BudgetExceeded and set nothing aside.

        A call may take `lasts_s`; what a dead process set aside is free again after that. What is
        set aside for a caller who has gone, or in one limit before another fails, is given back.
        """
        now = self._clock()
        held: list[str] = []
        reserving = self.bookings.start(self._reserved(held, amount_usd, user_key, now, lasts_s))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            self.bookings.start(self._given_back(reserving, held))
            raise

    async def _given_back(self, reserving: asyncio.Task[Hold], held: Sequence[str]) -> None:
        await asyncio.wait([reserving])
        await self.settle(Hold(ids=tuple(held), amount_usd=0.0), 0.0)

    async def _reserved(
        self, held: list[str], amount_usd: float, user_key: str | None, now: float, lasts_s: float
    ) -> Hold:
        """Note in `held` what may be set aside, before it is."""
        try:
            for budget in self.budgets:
                start, end = budget.period(now)
                held.append(new_id(now))
                async with self._turn:
                    granted = await self._store.reserve(
                        budget.key(self._router, user_key),
                        start,
                        limit_usd=budget.usd,
                        amount_usd=amount_usd,
                        reservation_id=held[-1],
                        now=now,
                        expires_at=now + min(max(self._ttl_s, lasts_s), LONGEST_TTL_S),
                    )
                if not granted.granted:
                    raise BudgetExceeded(
                        limit_usd=budget.usd,
                        left_usd=max(granted.left_usd, 0.0),
                        resets_at=end,
                        scope=f"{budget.scope} and {budget.per}" if end else budget.scope,
                    )
        except (BudgetExceeded, StorageUnavailable):  # the database may have done it, and died
            await self.settle(Hold(ids=tuple(held), amount_usd=amount_usd), 0.0)
            raise
        hold = Hold(ids=tuple(held), amount_usd=amount_usd)
        self._open[hold.ids] = hold
        return hold

    def cost_weight(self, user_key: str | None) -> float | None:
        """Return the weight of cost that paces the spend, or None where no budget is paced."""
        keys = [b.key(self._router, user_key) for b in self.budgets if b.pace]
        return max((self._paced.get(k, _Paced()).pacer.weight for k in keys), default=None)

    async def pace(self, cost_usd: float, user_key: str | None) -> None:
        """Let the weight of cost follow what one query cost; it stays while nobody can tell."""
        now = self._clock()
        for budget in self.budgets:
            if not budget.pace:
                continue
            key, (start, end) = budget.key(self._router, user_key), budget.period(now)
            try:
                spend = await self._store.spend(key, start)
            except StorageUnavailable:
                return
            all_usd = cost_usd if spend is None else spend.spent_usd
            paced = self._paced.setdefault(key, _Paced())
            self._paced.move_to_end(key)
            if len(self._paced) > MAX_PACED:
                self._paced.popitem(last=False)
            period = paced.begun(start, all_usd - cost_usd)
            period.spent(cost_usd)
            queries = period.queries_left(
                all_usd,
                now=now,
                since=max(start, self._since),
                end=end,
                expected=budget.expected_queries,
            )
            paced.pacer.spent(cost_usd, allowed_usd(budget.usd - all_usd, queries))

    async def settle(self, hold: Hold, actual_usd: float | None) -> None:
        """Book what a call really cost; an unknown cost is booked as the worst case.

        While the database is away it is kept, and booked later.
        """
        self._open.pop(hold.ids, None)
        if hold.ids in self._given_up:
            return
        spent = hold.amount_usd if actual_usd is None else actual_usd
        for identity in hold.ids:
            async with self._turn:
                await self.bookings.settle(identity, spent)

    async def give_up(self) -> None:
        """Book what is still set aside as its worst case, whatever its call does from now on."""
        for hold in list(self._open.values()):
            await self.settle(hold, None)
            self._given_up.add(hold.ids)
