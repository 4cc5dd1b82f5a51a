"""Group commit, and what happens to the queue while the database is away.

Rows that arrive while a commit is under way share the next one, so an idle writer answers at once
and a busy one commits many rows together. Callers wait for a future, never for the connection: one
who is cancelled leaves the commit undisturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from conduit.core.errors import ConduitError, ConflictingFeedback, InvalidInput, StorageUnavailable
from conduit.core.events import DecisionRecord, FeedbackRow, unchecked
from conduit.storage.batches import Batch, Commit, Result, batch_of, singles
from conduit.storage.journal import Journal
from conduit.storage.ports import Ack, Clock, ResponseRecord, clean, closed, payload_hash
from conduit.storage.rows import Arrived, Journaled, from_json, to_json

log = logging.getLogger(__name__)
_row = unchecked(FeedbackRow)
T = TypeVar("T")

GROUP_ROWS = 64  # feedback rows in one commit
GROUP_RECORDS = 256  # decisions or answers beside them
GROUP_JOURNALED = 1000  # lines of the journal in one commit, for which nobody waits
RECORDS_LINGER_S = 0.25  # for which decisions and answers, which nobody awaits, wait for company
QUEUED_RECORDS = 20_000  # decisions and answers that wait for the database
KNOWN_DECISIONS = 10_000  # that need not be sent again with each receipt
RETRY_S = 0.5  # between two looks whether the database is back
CLOSE_TIMEOUT_S = 10.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """One `append` on its way."""

    arrived: Arrived
    future: asyncio.Future[Ack]

    def resolve(self, result: Result) -> None:
        """Answer the caller, unless it has gone."""
        if self.future.done():
            return
        if isinstance(result, Ack):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


@dataclass(slots=True)
class Counters:
    """What `health` reports of a writer."""

    dropped: int = 0
    refused: int = 0


@dataclass(slots=True, eq=False)
class GroupWriter:
    """Owns the queue of a store and the tasks that empty it."""

    commit: Commit
    journal: Journal | None
    clock: Clock
    store_text: bool = False
    counters: Counters = field(default_factory=Counters)
    outage: str | None = None  # why the database is away, while it is
    _appends: deque[_Waiting] = field(default_factory=deque)
    _records: OrderedDict[str, DecisionRecord | ResponseRecord] = field(default_factory=OrderedDict)
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _due: bool = False  # the records have waited for company
    _lingering: asyncio.TimerHandle | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Event = field(default_factory=asyncio.Event)  # replaced after every group
    _asked: asyncio.Event = field(default_factory=asyncio.Event)  # look at the database now
    _looks_begun: int = 0
    _looks_ended: int = 0
    _writing: asyncio.Task[None] | None = None
    _recovering: asyncio.Task[None] | None = None
    _closed: bool = False
    _finished: bool = False

    # The callers' side

    def start(self) -> None:
        """Begin to write, and to bring in what earlier processes left in the journal."""
        self._writing = asyncio.create_task(self._write(), name="conduit store writer")
        self._writing.add_done_callback(self._ended)
        if self.journal is not None:
            self._recover()

    def record(self, item: DecisionRecord | ResponseRecord) -> None:
        """Queue a decision or an answer; the oldest go when the queue is full."""
        self._check_open()
        item = self._discreet(item)
        self._records.setdefault(_key(item), item)
        while len(self._records) > QUEUED_RECORDS:
            self._records.popitem(last=False)
            self.counters.dropped += 1
        if len(self._records) >= GROUP_RECORDS:
            self._hurry()
        elif self._lingering is None and not self._due:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(RECORDS_LINGER_S, self._hurry)

    def _hurry(self) -> None:
        """Write the records now, whether feedback comes along or not."""
        self._due = True
        self._wake.set()

    async def append(self, row: FeedbackRow) -> Ack:
        """Return once the row is committed or journaled."""
        self._check_open()
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._appends.append(_Waiting(Arrived(self._trimmed(cleaned(row)), self.clock()), future))
        self._wake.set()
        return await future

    def _trimmed(self, row: FeedbackRow) -> FeedbackRow:
        """Leave out a decision that is stored already, and text that may not be.

        Of a decision that is queued, the queued row comes along: it has the estimates too.
        """
        if row.decision is None:
            return row
        if row.decision.id in self._known:
            return _row(
                row.feedback_id, row.router, row.decision_id, row.model, row.evidence, row.kind,
                row.user_key, None, row.said,
            )  # fmt: skip
        whole = self.pending(row.decision.id) or row.decision
        return replace(row, decision=self._discreet(whole))

    def _discreet(self, item: T) -> T:
        """Return a decision or an answer as it may be kept: this is where texts are left out."""
        return item if self.store_text else without_text(item)

    def pending(self, decision_id: str) -> DecisionRecord | None:
        """Return a decision that is queued but not written."""
        found = self._records.get("d" + decision_id)
        return found if isinstance(found, DecisionRecord) else None

    @property
    def queued(self) -> int:
        """Return how many decisions and answers are not written."""
        return len(self._records)

    @property
    def journaled(self) -> int:
        """Return how much waits in the journal."""
        return self.journal.depth if self.journal is not None else 0

    async def flush(self) -> None:
        """Return once everything queued is written.

        During an outage the database is asked anew, and StorageUnavailable raised if it is away.
        """
        self._check_open()
        before = list(self._records)
        if before:
            self._hurry()
        while any(key in self._records for key in before):
            if self.outage is not None:
                await self._look()
            elif self._writing is None or self._writing.done():
                raise closed()
            else:
                await self._turn.wait()

    async def _look(self) -> None:
        """Return if the database is back now, whenever it was last looked for."""
        mine = self._looks_begun + 1
        self._asked.set()
        while self._looks_ended < mine and self.outage is not None and not self._closed:
            await self._turn.wait()
        if self.outage is not None:
            raise StorageUnavailable(self.outage)

    async def close(self) -> None:
        """Write what is queued, or journal it, and end the tasks."""
        if self._finished:
            return
        self._finished = self._closed = True
        self._hurry()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_TIMEOUT_S)
        for task in (self._writing, self._recovering):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self.journal is not None:
            await asyncio.to_thread(self._leave_behind, self.journal)
        elif self._records:
            log.warning("%d decisions and answers are lost: %s", len(self._records), self.outage)

    def _leave_behind(self, journal: Journal) -> None:
        """Journal what could not be written, so that the next process writes it."""
        if self._records:
            try:
                journal.append([to_json(item) for item in self._records.values()])
            except StorageUnavailable as error:
                log.warning("%d decisions and answers are lost: %s", len(self._records), error)
        journal.close()

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    # The background's side

    async def _write(self) -> None:
        while True:
            if not self._appends and not self._records_go():
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(0)  # let callers that were woken together come together
                continue
            group = [self._appends.popleft() for _ in range(min(GROUP_ROWS, len(self._appends)))]
            try:
                await (self._commit_group(group) if self.outage is None else self._journal(group))
            except Exception as error:  # noqa: BLE001  told to the callers and logged; others go on
                refusal = _refusal(error)
                for waiting in group:
                    waiting.resolve(refusal)
                await asyncio.sleep(RETRY_S)
            finally:
                for waiting in group:  # whatever ends this task, nobody waits for ever
                    waiting.resolve(closed())
                self._turned()
            await asyncio.sleep(0)  # those who were answered together may come together again

    def _turned(self) -> None:
        """Let those look again who wait for something to change."""
        self._turn.set()
        self._turn = asyncio.Event()

    def _records_go(self) -> bool:
        return self._due and bool(self._records) and self.outage is None

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Refuse everything once the task that writes is gone."""
        self._closed = True
        for waiting in self._appends:
            waiting.resolve(closed())
        self._turn.set()

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        items = [
            item for _, item in zip(range(GROUP_RECORDS), self._records.values(), strict=False)
        ]
        unique, repeats = _unique(group)
        batch = batch_of(items, [w.arrived for w in unique])
        try:
            results = await self._committed(batch)
        except StorageUnavailable as error:
            self._lost(error)
            await self._journal(group)
            return
        for item in items:
            self._records.pop(_key(item), None)
        if not self._records:
            self._rest()
        self._remember(batch.decisions)
        answers = dict(zip((w.arrived.key for w in unique), results, strict=True))
        for waiting, result in zip(unique, results, strict=True):
            waiting.resolve(result)
        for waiting in repeats:
            waiting.resolve(_repeat(waiting.arrived, answers, unique))

    def _rest(self) -> None:
        """Let the next record wait for company again."""
        self._due = False
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    async def _committed(self, batch: Batch) -> Sequence[Result]:
        """Commit a batch; when a piece of it cannot be written, find out which."""
        try:
            return await self.commit(batch)
        except StorageUnavailable:
            raise
        except Exception as error:
            refusal = _refusal(error)
            parts = list(singles(batch))
            if not parts:  # an empty batch only asks
                raise refusal from error
        if len(parts) == 1:
            return self._refused(parts[0], refusal)
        results: list[Result] = []
        for part in parts:
            results += await self._committed_alone(part)
        return results

    async def _committed_alone(self, part: Batch) -> Sequence[Result]:
        try:
            return await self.commit(part)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  the first of the batch was logged
            return self._refused(part, _refusal(error, logged=True))

    def _refused(self, part: Batch, refusal: ConduitError) -> Sequence[Result]:
        self.counters.refused += len(part.decisions) + len(part.responses)
        return [refusal] * len(part.feedback)

    def _remember(self, decisions: Iterable[DecisionRecord]) -> None:
        for decision in decisions:
            self._known[decision.id] = None
        while len(self._known) > KNOWN_DECISIONS:
            self._known.popitem(last=False)

    def forget_known(self) -> None:
        """Send decisions again from now on: some may have been deleted."""
        self._known.clear()

    # The outage

    def _lost(self, error: StorageUnavailable) -> None:
        if self.outage is None:
            log.warning("The database is away: %s", error)
        self.outage = str(error)
        self._recover()

    def _recover(self) -> None:
        if self._recovering is None or self._recovering.done():
            self._recovering = asyncio.create_task(self._recovery(), name="conduit store recovery")

    async def _journal(self, group: Sequence[_Waiting]) -> None:
        """Keep rows on the local disk, each with its decision if that is not written either."""
        if not group:
            return
        self._recover()
        try:
            if self.journal is None:
                raise StorageUnavailable(self.outage or "the database is away")
            lines = [to_json(self._with_decision(w.arrived)) for w in group]
            await asyncio.to_thread(self.journal.append, lines)
        except StorageUnavailable as error:
            for waiting in group:
                waiting.resolve(StorageUnavailable(str(error)))
            return
        for waiting in group:
            waiting.resolve(Ack(status="journaled", feedback_id=waiting.arrived.row.feedback_id))

    def _with_decision(self, arrived: Arrived) -> Arrived:
        queued = self.pending(arrived.row.decision_id)
        if arrived.row.decision is not None or queued is None:
            return arrived
        return Arrived(replace(arrived.row, decision=queued), arrived.at)

    async def _recovery(self) -> None:
        """Bring the journal into the database, and try until the database is back."""
        if self.journal is not None:
            await asyncio.to_thread(self.journal.adopt)
        while self.outage is not None or self.journaled:
            self._asked.clear()
            self._looks_begun += 1
            try:
                await self._drain_once()
            except StorageUnavailable as error:
                if self.outage is None:
                    self._lost(error)
                await self._pause()
            except Exception as error:  # noqa: BLE001  logged, and tried again: nothing is dropped
                _refusal(error)
                await self._pause()
            else:
                self._returned()

    async def _pause(self) -> None:
        """Wait before the next look, unless somebody wants to know now."""
        self._looks_ended = self._looks_begun
        self._turned()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._asked.wait()

    def _returned(self) -> None:
        if self.outage is not None:
            log.warning("The database is back")
            self.outage = None
            self._turned()
            self._hurry()

    async def _drain_once(self) -> None:
        """Write the oldest lines of the journal; without any, ask whether the database is there."""
        lines = await asyncio.to_thread(self.journal.peek, GROUP_JOURNALED) if self.journal else []
        items = list(self._parsed(lines))
        unique: dict[tuple[str, str], Arrived] = {}
        for item in items:
            if isinstance(item, Arrived):
                unique.setdefault(item.key, item)
        records = [item for item in items if not isinstance(item, Arrived)]
        rows = [unique[key] for key in sorted(unique)]
        again: list[str] = []
        results = await self._committed(batch_of(records, rows))
        for arrived, result in zip(rows, results, strict=True):
            if isinstance(result, StorageUnavailable):
                again.append(to_json(arrived))  # it was acknowledged, so it stays
            elif not isinstance(result, Ack):
                self.counters.refused += 1
                log.warning("Journaled feedback %s: %s", arrived.row.feedback_id, result)
        if self.journal is None or not lines:
            return
        if again:
            await asyncio.to_thread(self.journal.append, again)
        await asyncio.to_thread(self.journal.drop)
        if again:
            self._returned()
            await asyncio.sleep(RETRY_S)

    def _parsed(self, lines: Iterable[str]) -> Iterable[Journaled]:
        """Return what lines hold; one that another version wrote must not block the others."""
        for line in lines:
            try:
                yield self._discreet(from_json(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.counters.refused += 1
                log.warning("A line of the journal cannot be read: %s", type(error).__name__)


def _refusal(error: Exception, *, logged: bool = False) -> ConduitError:
    """Return what callers are told whose rows failed with this; what nobody foresaw is logged."""
    if isinstance(error, InvalidInput):
        return error
    if not logged:
        log.error("The store could not write", exc_info=error)
    refusal = StorageUnavailable(f"could not write: {type(error).__name__}")
    refusal.__cause__ = error
    return refusal


def cleaned(row: FeedbackRow) -> FeedbackRow:
    """Return a row whose id reads the same before and after it was stored."""
    given = (row.router, row.feedback_id)
    storable = (clean(row.router), clean(row.feedback_id))
    if storable == given:
        return row
    return replace(row, router=storable[0], feedback_id=storable[1])


def without_text(item: T) -> T:
    """Return a decision, an answer or feedback without the text of a user or a model."""
    if isinstance(item, Arrived) and item.row.decision is not None:
        brought = without_text(item.row.decision)
        return replace(item, row=replace(item.row, decision=brought))
    if isinstance(item, DecisionRecord) and item.text is not None:
        return replace(item, text=None)
    if isinstance(item, ResponseRecord) and item.response.text is not None:
        return replace(item, response=replace(item.response, text=None))
    return item


def _key(item: DecisionRecord | ResponseRecord) -> str:
    return ("d" if isinstance(item, DecisionRecord) else "r") + item.id


def _unique(group: Sequence[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Return the first row of each id, ordered by id, and the rows that repeat one of them."""
    first: dict[tuple[str, str], _Waiting] = {}
    repeats = []
    for waiting in group:
        if first.setdefault(waiting.arrived.key, waiting) is not waiting:
            repeats.append(waiting)
    return sorted(first.values(), key=lambda w: w.arrived.key), repeats


def _repeat(
    arrived: Arrived, answers: dict[tuple[str, str], Result], unique: Sequence[_Waiting]
) -> Result:
    """Return what a row is told whose id came twice in one group."""
    first = next(w.arrived for w in unique if w.arrived.key == arrived.key)
    answer = answers[arrived.key]
    if isinstance(answer, Ack) and payload_hash(first.row) != payload_hash(arrived.row):
        return ConflictingFeedback(arrived.row.feedback_id)
    return replace(answer, status="duplicate") if isinstance(answer, Ack) else answer
