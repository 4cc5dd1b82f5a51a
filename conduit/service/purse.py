"""The money of one request: its worst case is set aside before each attempt, and settled after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from conduit.core.errors import BudgetExceeded, ConfigurationError, ProviderError
from conduit.core.models import ModelArm
from conduit.engines.budget import Budget, Budgets, Hold
from conduit.engines.executor.base import Answer, AnswerStream, Call, Executor
from conduit.engines.executor.chain import AttemptRecord
from conduit.engines.executor.failures import meaning
from conduit.engines.executor.sizes import Size

CALL_LASTS_S = 60.0  # more than its deadline; until then what it reserved is not given to others


def listed(budgets: Sequence[Budget]) -> Sequence[Budget]:
    """Return the spend limits, or refuse what is no list of them."""
    if not isinstance(budgets, Sequence) or not all(isinstance(b, Budget) for b in budgets):
        raise ConfigurationError(
            "budgets must be a list, as in budgets=[Budget(5.0)]", field="budgets"
        )
    return budgets


@dataclass(slots=True)
class Purse:
    """What is set aside for one request, in every budget that it counts against."""

    budgets: Budgets
    user_key: str | None
    lasts_s: float
    worst_usd: Mapping[str, float]  # of one attempt, by model
    holds: list[Hold] = field(default_factory=list)

    @property
    def held_usd(self) -> float:
        """Return what is set aside."""
        return sum(hold.amount_usd for hold in self.holds)

    async def hold(self, amount_usd: float) -> None:
        """Set some more aside, or raise BudgetExceeded."""
        held = await self.budgets.reserve(amount_usd, self.user_key, lasts_s=self.lasts_s)
        self.holds.append(held)

    async def cover(self, arm: ModelArm, attempts: Sequence[AttemptRecord]) -> None:
        """Hold the worst case of another attempt beside what the earlier ones may have cost."""
        missing = self.spent_usd(attempts) + self.worst_usd[arm.id] - self.held_usd
        if missing <= 0.0:
            return
        try:
            await self.hold(missing)
        except BudgetExceeded as error:
            raise ProviderError(
                f"{arm.id} {meaning('over_budget').words}", model=arm.id, kind="over_budget"
            ) from error

    def spent_usd(self, attempts: Sequence[AttemptRecord]) -> float:
        """Return what the attempts cost; the worst case where a provider may want money for it."""
        return sum(map(self._spent_usd, attempts))

    def _spent_usd(self, attempt: AttemptRecord) -> float:
        known = attempt.cost_usd
        return self.worst_usd[attempt.model] if known is None else known

    async def settle(self, attempts: Sequence[AttemptRecord]) -> None:
        """Book what the attempts cost, and give the rest back."""
        spent = self.spent_usd(attempts)
        for number, hold in enumerate(self.holds):
            await self.budgets.settle(hold, spent if number == 0 else 0.0)
        await self.budgets.pace(spent, self.user_key)


async def afford(
    budgets: Budgets, arms: Sequence[ModelArm], size: Size, *, user_key: str | None, within_s: float
) -> tuple[Purse, list[ModelArm]]:
    """Set aside the worst case of the candidates that the budgets still allow, and return those."""
    worst = {arm.id: usd for arm in arms if (usd := budgets.worst_case_usd(arm, size)) is not None}
    if not worst:
        raise ConfigurationError(
            f"a spend limit needs prices, and none is known of {', '.join(a.id for a in arms)}: "
            "give input_usd_per_mtok and output_usd_per_mtok",
            field="budgets",
        )
    purse = Purse(budgets, user_key, within_s + CALL_LASTS_S, worst)
    amount = max(worst.values())
    try:
        await purse.hold(amount)
    except BudgetExceeded as refused:
        amount = max((usd for usd in worst.values() if usd <= refused.left_usd), default=-1.0)
        if amount < 0.0:
            raise
        await purse.hold(amount)
    return purse, [arm for arm in arms if worst.get(arm.id, amount + 1.0) <= amount]


class Covered:
    """An executor that asks a model only once the worst case of asking it is set aside."""

    def __init__(
        self, executor: Executor, purse: Purse, attempts: Callable[[], Sequence[AttemptRecord]]
    ) -> None:
        """Wrap an executor for one request, whose ended attempts `attempts` returns."""
        self._executor = executor
        self._purse = purse
        self._attempts = attempts

    async def execute(self, arm: ModelArm, call: Call) -> Answer[Any]:
        """Return the answer of the model, within `call.timeout_s`."""
        await self._purse.cover(arm, self._attempts())
        return await self._executor.execute(arm, call)

    @asynccontextmanager
    async def stream(self, arm: ModelArm, call: Call) -> AsyncIterator[AnswerStream]:
        """Return the answer piece by piece; leaving the context closes the connection."""
        await self._purse.cover(arm, self._attempts())
        async with self._executor.stream(arm, call) as pieces:
            yield pieces

    async def close(self) -> None:
        """Leave the connections to their owner."""
