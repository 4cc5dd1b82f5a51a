"""A store that lives and dies with the process: the default, and the model for every other."""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice, takewhile
from typing import Self

from conduit.core.events import DecisionRecord, Evidence, FeedbackRow, LogEntry, Remark
from conduit.storage.memory_ledger import MemoryLedger
from conduit.storage.memory_opinions import MemoryOpinions
from conduit.storage.ports import (
    COUNTED_AT_MOST,
    SNAPSHOTS_KEPT,
    TAIL_LIMIT,
    Ack,
    Clock,
    Cursor,
    Fold,
    ModelStats,
    Opinions,
    Pruned,
    Rebuild,
    ResponseRecord,
    RouterStats,
    StoredSnapshot,
    StoreHealth,
    check_decision,
    closed,
    payload_hash,
    repeated,
)
from conduit.storage.pruning import folded

MAX_DECISIONS = 20_000  # with their feedback and answers
EVICTION_SLACK = 1.1  # eviction looks at every row, so it takes many at once


@dataclass(slots=True, eq=False)
class _Row:
    """One piece of feedback; `seq` is its place in the log, None while it waits."""

    row: FeedbackRow
    digest: bytes
    recorded_at: float
    seq: int | None = None


@dataclass(slots=True)
class _Saved:
    """A snapshot with its place; a base survives every rewriting of the log."""

    cursor: Cursor
    data: bytes
    meta: str
    saved_at: float


@dataclass(slots=True)
class _Log:
    """The state of one router's log."""

    rows: list[_Row] = field(default_factory=list)
    generation: int = 0
    pruned: tuple[int, int] = (0, 0)
    snapshots: dict[str, list[_Saved]] = field(default_factory=lambda: defaultdict(list))
    bases: dict[str, _Saved] = field(default_factory=dict)


class MemoryStore(MemoryLedger):
    """Keeps the newest 20,000 decisions with their feedback; nothing survives the process.

    What is pushed out was applied long ago and stays learned; it can no longer be forgotten or
    quarantined by itself, and a rebuild no longer sees it.
    """

    def __init__(
        self,
        *,
        store_text: bool = False,
        max_decisions: int = MAX_DECISIONS,
        clock: Clock = time.time,
    ) -> None:
        super().__init__()
        self._store_text = store_text
        self._max_decisions = max_decisions
        self._clock = clock
        self._closed = False
        self._seq = 0
        self._decisions: dict[str, DecisionRecord] = {}
        self._feedback: dict[tuple[str, str], _Row] = {}
        self._opinions = MemoryOpinions()
        self._calls: dict[str, list[_Row]] = defaultdict(list)  # by decision, in log order
        self._waiting: dict[str, list[_Row]] = defaultdict(list)
        self._logs: dict[str, _Log] = defaultdict(_Log)
        self._responses: dict[str, ResponseRecord] = {}
        self._quarantined: set[str] = set()

    # Writer

    async def record(self, decision: DecisionRecord) -> None:
        """Keep a decision, and let feedback that waited for it into the log."""
        self._check_open()
        self._keep_decision(decision)

    def _keep_decision(self, decision: DecisionRecord) -> None:
        if decision.id in self._decisions:
            return
        if decision.text is not None and not self._store_text:
            decision = dataclasses.replace(decision, text=None)
        self._decisions[decision.id] = decision
        for waiting in self._waiting.pop(decision.id, ()):
            if self._fits(waiting, decision):
                self._enter(waiting)
        if len(self._decisions) > self._max_decisions * EVICTION_SLACK:
            excess = len(self._decisions) - self._max_decisions
            self._drop(set(islice(self._decisions, excess)))

    def _fits(self, waiting: _Row, decision: DecisionRecord) -> bool:
        return decision.router == waiting.row.router and decision.expires_at >= waiting.recorded_at

    def _enter(self, row: _Row) -> None:
        self._seq += 1
        row.seq = self._seq
        self._logs[row.row.router].rows.append(row)
        self._calls[row.row.decision_id].append(row)

    async def append(self, row: FeedbackRow) -> Ack:
        """Keep a row at once."""
        self._check_open()
        known = self._feedback.get((row.router, row.feedback_id))
        if known is not None:
            return repeated(row, known.digest, known.seq, waiting=known.seq is None)
        now = self._clock()
        if row.decision is not None and row.decision.expires_at >= now:
            self._keep_decision(row.decision)
        decision = self._decisions.get(row.decision_id)
        stored = None if decision is None else (decision.router, decision.expires_at)
        waits = check_decision(row, now, stored)
        kept = _Row(dataclasses.replace(row, decision=None), payload_hash(row), now)
        self._feedback[row.router, row.feedback_id] = kept
        self._opinions.add(row, now)
        if waits:
            self._waiting[row.decision_id].append(kept)
        else:
            self._enter(kept)
        return Ack(status="stored", feedback_id=row.feedback_id, seq=kept.seq, waiting=waits)

    async def flush(self) -> None:
        """Return: nothing is ever queued."""

    # Reader

    async def tail(
        self, router: str, after: str | None = None, limit: int = TAIL_LIMIT
    ) -> Sequence[LogEntry]:
        """Return the next rows of one router's log, or raise Rebuild."""
        self._check_open()
        log = self._logs[router]
        start = self._start(log, after)
        rows = (r for r in log.rows[start:] if not self._hidden(r))
        return [self._entry(r, log.generation) for r in islice(rows, limit)]

    def _start(self, log: _Log, after: str | None) -> int:
        if after is None:
            return 0
        cursor = Cursor.parse(after)
        if cursor.generation != log.generation or cursor.place < log.pruned:
            raise Rebuild("the log was rewritten")
        return bisect_right(log.rows, cursor.seq, key=_seq)

    def _hidden(self, row: _Row) -> bool:
        return bool(self._quarantined) and bool(self._users(row) & self._quarantined)

    def _users(self, row: _Row) -> set[str]:
        decision = self._decisions.get(row.row.decision_id)
        keys = {row.row.user_key, None if decision is None else decision.user_key}
        return {key for key in keys if key is not None}

    def _entry(self, row: _Row, generation: int) -> LogEntry:
        assert row.seq is not None
        earlier = [
            Remark(r.row.kind, r.row.said, r.row.evidence)
            for r in self._calls[row.row.decision_id]
            if r.row.model == row.row.model and (r.seq or 0) < row.seq and not self._hidden(r)
        ]
        return LogEntry(
            cursor=str(Cursor(generation, 0, row.seq)),
            row=row.row,
            decision=self._decisions[row.row.decision_id],
            before=reduce(Evidence.joined, (r.evidence for r in earlier)) if earlier else None,
            earlier=tuple(earlier),
        )

    async def decision(self, router: str, decision_id: str) -> DecisionRecord | None:
        """Return a decision of this router."""
        found = self._decisions.get(decision_id)
        return found if found is not None and found.router == router else None

    async def save_snapshot(
        self, router: str, cursor: str, data: bytes, *, state: str = "", meta: str = ""
    ) -> None:
        """Keep the newest three snapshots of each state."""
        self._check_open()
        log, place = self._logs[router], Cursor.parse(cursor)
        if place.generation == log.generation:
            log.snapshots[state].append(_Saved(place, data, meta, self._clock()))
            del log.snapshots[state][:-SNAPSHOTS_KEPT]

    async def load_snapshot(self, router: str, *, state: str = "") -> StoredSnapshot | None:
        """Return the newest snapshot, or the base that pruning left."""
        log = self._logs[router]
        return next(filter(None, (self._usable(log, s) for s in self._saved(log, state))), None)

    def _saved(self, log: _Log, state: str) -> Iterator[_Saved]:
        yield from reversed(log.snapshots[state])
        if state in log.bases:
            yield log.bases[state]

    def _usable(self, log: _Log, saved: _Saved) -> StoredSnapshot | None:
        """Return a snapshot as readers get it, or None when rows after it were pruned."""
        if saved.cursor.place < log.pruned:
            return None
        cursor = dataclasses.replace(saved.cursor, generation=log.generation)
        return StoredSnapshot(
            cursor=str(cursor), data=saved.data, meta=saved.meta, saved_at=saved.saved_at
        )

    # History

    async def record_response(self, response: ResponseRecord) -> None:
        """Keep an answer, its text only with store_text."""
        self._check_open()
        if not self._store_text:
            plain = dataclasses.replace(response.response, text=None)
            response = dataclasses.replace(response, response=plain)
        self._responses[response.id] = response
        if len(self._responses) > self._max_decisions:
            del self._responses[next(iter(self._responses))]

    async def response(self, router: str, response_id: str) -> ResponseRecord | None:
        """Return an answer of this router."""
        found = self._responses.get(response_id)
        return found if found is not None and found.router == router else None

    async def answer_to(self, router: str, decision_id: str) -> ResponseRecord | None:
        """Return the newest answer to a decision, or its newest failed attempt."""
        asked = (decision_id, router)
        of = [r for r in self._responses.values() if (r.decision_id, r.router) == asked]
        return max(reversed(of), key=lambda r: (r.error is None, r.created_at), default=None)

    async def decisions(
        self, router: str, *, limit: int = 100, user_key: str | None = None
    ) -> Sequence[DecisionRecord]:
        """Return the newest decisions, newest first."""
        wanted = [
            d
            for d in self._decisions.values()
            if d.router == router and (user_key is None or d.user_key == user_key)
        ]
        return sorted(wanted, key=lambda d: (d.created_at, d.id), reverse=True)[:limit]

    async def stats(self, router: str, *, since: float = 0.0) -> RouterStats:
        """Return counts, spend and means, by model."""
        return summarised(
            decisions=[
                d for d in self._decisions.values() if d.router == router and d.created_at >= since
            ],
            responses=[
                r for r in self._responses.values() if r.router == router and r.created_at >= since
            ],
            feedback=[
                (r.row, r.seq is None)
                for r in self._feedback.values()
                if r.row.router == router and r.recorded_at >= since
            ],
        )

    async def opinions(
        self,
        router: str,
        *,
        since: float,
        recent: float | None = None,
        user_key: str | None = None,
        feedback_id: str | None = None,
    ) -> Opinions:
        """Return how many opinions of users came since a time."""
        counted = self._opinions.counted(
            router,
            since=since,
            recent=since if recent is None else recent,
            user_key=user_key,
            hidden=self._quarantined,
        )
        known = feedback_id is not None and (router, feedback_id) in self._feedback
        return dataclasses.replace(counted, known=known)

    # Custodian

    async def forget(self, user_key: str) -> int:
        """Delete what belongs to a user, and make every reader rebuild."""
        theirs = [key for key, r in self._feedback.items() if user_key in self._users(r)]
        mine = {i for i, d in self._decisions.items() if d.user_key == user_key}
        touched = self._routers_of(user_key)
        self._drop(mine, set(theirs))
        self._responses = {i: r for i, r in self._responses.items() if r.user_key != user_key}
        self._quarantined.discard(user_key)
        self._rewrite(touched)
        return len(theirs)

    async def quarantine(self, user_key: str) -> None:
        """Hide a user's rows."""
        self._quarantined.add(user_key)
        self._rewrite(self._routers_of(user_key))

    async def release(self, user_key: str) -> None:
        """Show a user's rows again."""
        self._quarantined.discard(user_key)
        self._rewrite(self._routers_of(user_key))

    def _routers_of(self, user_key: str) -> set[str]:
        rows = {r.row.router for r in self._feedback.values() if user_key in self._users(r)}
        return rows | {d.router for d in self._decisions.values() if d.user_key == user_key}

    def _rewrite(self, routers: Iterable[str]) -> None:
        for log in map(self._logs.__getitem__, routers):
            log.generation += 1
            log.snapshots.clear()

    def _drop(
        self, decisions: Set[str], feedback: Set[tuple[str, str]] = frozenset()
    ) -> list[_Row]:
        """Remove decisions with all that hangs on them, and single rows; return the rows."""
        gone = [
            r
            for key, r in self._feedback.items()
            if key in feedback or r.row.decision_id in decisions
        ]
        if gone:
            out = set(map(id, gone))
            self._opinions.drop(r.row for r in gone)
            for key in [(r.row.router, r.row.feedback_id) for r in gone]:
                del self._feedback[key]
            for router in {r.row.router for r in gone}:
                log = self._logs[router]
                log.rows = [r for r in log.rows if id(r) not in out]
            for call in {r.row.decision_id for r in gone}:
                self._calls[call] = [r for r in self._calls[call] if id(r) not in out]
                self._waiting[call] = [r for r in self._waiting[call] if id(r) not in out]
        for call in decisions:
            del self._decisions[call]
            self._calls.pop(call, None)
        return gone

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
        cut, log = now - older_than_s, self._logs[router]
        if fold is not None:
            await self._fold(router, log, cut, state, fold)
        covered = log.bases[state].cursor.seq if state in log.bases else 0
        answers = [
            i for i, r in self._responses.items() if r.router == router and r.created_at < cut
        ]
        for identity in answers:
            del self._responses[identity]
        over = {
            i
            for i, d in self._decisions.items()
            if self._is_over(d, router, cut, now, covered if schema in (None, d.schema) else 0)
        }
        gone = self._drop(over)
        log.pruned = max([log.pruned, *((0, r.seq) for r in gone if r.seq is not None)])
        self._forget_texts(router, cut)
        return Pruned(decisions=len(over), responses=len(answers), feedback=len(gone))

    async def _fold(self, router: str, log: _Log, cut: float, state: str, fold: Fold) -> None:
        base = log.bases.get(state)
        start = self._usable(log, base) if base is not None else None
        old = takewhile(lambda r: r.recorded_at < cut, log.rows)
        end = max(((0, r.seq or 0) for r in old), default=(0, 0))
        new = await folded(self, router, base=start, end=end, fold=fold)
        if new is not None:
            log.bases[state] = _Saved(Cursor.parse(new.cursor), new.data, "", self._clock())

    def _is_over(
        self, decision: DecisionRecord, router: str, cut: float, now: float, covered: int
    ) -> bool:
        """Return whether a decision is old, takes no more feedback, and is wholly in a base."""
        if decision.router != router or decision.created_at >= cut or decision.expires_at >= now:
            return False
        return all((r.seq or 0) <= covered for r in self._calls.get(decision.id, ()))

    def _forget_texts(self, router: str, cut: float) -> None:
        for d in self._decisions.values():
            if d.text is not None and d.router == router and d.created_at < cut:
                self._decisions[d.id] = dataclasses.replace(d, text=None)

    # Life

    async def health(self, *, router: str | None = None, cursor: str | None = None) -> StoreHealth:
        """Return how much is kept and how far a reader lags."""
        lag = None
        if router is not None:
            log = self._logs[router]
            seq = Cursor.parse(cursor).seq if cursor is not None else 0
            lag = min(COUNTED_AT_MOST, len(log.rows) - bisect_right(log.rows, seq, key=_seq))
        return StoreHealth(
            ok=not self._closed,
            backend="memory",
            detail="the store is closed" if self._closed else None,
            waiting=sum(map(len, self._waiting.values())),
            log_lag=lag,
        )

    async def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _seq(row: _Row) -> int:
    return row.seq or 0


def summarised(
    *,
    decisions: Sequence[DecisionRecord],
    responses: Sequence[ResponseRecord],
    feedback: Sequence[tuple[FeedbackRow, bool]],
) -> RouterStats:
    """Return the statistics of these records; the flag of feedback says that it waits."""
    chosen = Counter(d.model for d in decisions)
    answers: dict[str, list[ResponseRecord]] = defaultdict(list)
    for r in responses:
        answers[r.response.model].append(r)
    said: dict[str, list[FeedbackRow]] = defaultdict(list)
    for row, waits in feedback:
        if not waits:
            said[row.model].append(row)
    models = {
        model: _model_stats(chosen[model], answers[model], said[model])
        for model in sorted({*chosen, *answers, *said})
    }
    return RouterStats(
        decisions=len(decisions),
        responses=len(responses),
        feedback=len(feedback),
        waiting=sum(waits for _, waits in feedback),
        cost_usd=sum(m.cost_usd for m in models.values()),
        models=models,
    )


def _model_stats(
    decisions: int, answers: Sequence[ResponseRecord], said: Sequence[FeedbackRow]
) -> ModelStats:
    known: dict[str, Evidence] = {}
    for row in said:
        earlier = known.get(row.decision_id)
        known[row.decision_id] = row.evidence if earlier is None else earlier.joined(row.evidence)
    return ModelStats(
        decisions=decisions,
        responses=len(answers),
        errors=sum(r.error is not None for r in answers),
        feedback=len(said),
        cost_usd=sum(r.response.cost_usd or 0.0 for r in answers),
        mean_latency_s=_mean(r.response.latency_s for r in answers),
        mean_quality=_mean(e.quality for e in known.values()),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
