"""Decisions, feedback and logs to test stores with."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from conduit.core.events import (
    SOURCE_RANK,
    DecisionRecord,
    Evidence,
    FeedbackRow,
    LogEntry,
    Remark,
)
from conduit.core.models import Response
from conduit.storage.ports import (
    Clock,
    ResponseRecord,
    Store,
    new_id,
)

DIM = 5
START = 1_700_000_000.0  # epoch seconds at which the clock of these tests starts
DAY_S = 86_400.0
SYSTEM, IMPLICIT, JUDGE, USER = (SOURCE_RANK[s] for s in ("system", "implicit", "judge", "user"))
Sums = Mapping[str, NDArray[np.float64]]


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class StoreFactory(Protocol):
    """Makes a store that is not open yet, over the data of the stores made before."""

    def __call__(self, *, clock: Clock, store_text: bool = False) -> Store:
        """Return the store."""


def a_vector(seed: int) -> NDArray[np.float32]:
    """Return a vector that belongs to the seed."""
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def a_decision(router: str, *, at: float = START, seed: int = 0, **given: Any) -> DecisionRecord:
    """Return a decision with everything filled in; `given` overrides."""
    fields: dict[str, Any] = {
        "id": new_id(at),
        "router": router,
        "model": "small",
        "x": a_vector(seed),
        "schema": "s1",
        "created_at": at,
        "expires_at": at + 30 * DAY_S,
        "propensity": 0.25,
        "input_tokens": 12.0,
        "estimates": {"small": {"quality": 0.5, "cost_usd": None}},
    }
    return DecisionRecord(**{**fields, **given})


def a_row(on: DecisionRecord, feedback_id: str | None = None, **given: Any) -> FeedbackRow:
    """Return feedback on a decision; fields of the evidence may be given beside the row's own."""
    names = Evidence.__dataclass_fields__.keys() & given.keys()
    evidence = Evidence(**{"quality": 0.5, **{name: given.pop(name) for name in names}})
    fields: dict[str, Any] = {
        "feedback_id": feedback_id or new_id(),
        "router": on.router,
        "decision_id": on.id,
        "model": on.model,
        "evidence": evidence,
    }
    return FeedbackRow(**{**fields, **given})


def an_entry(on: DecisionRecord, said: Sequence[Remark]) -> LogEntry:
    """Return the last of what was said of one call as a row of the log that follows the rest."""
    *earlier, (kind, value, evidence) = said
    row = a_row(on, f"{on.id}:{kind}", evidence=evidence, kind=kind, said=value)
    before = joined([each.evidence for each in earlier])
    return LogEntry(cursor=on.id, row=row, decision=on, before=before, earlier=tuple(earlier))


async def read_log(
    store: Store, router: str, after: str | None = None, *, limit: int = 100
) -> list[LogEntry]:
    """Return everything in the log after a cursor, read in pages."""
    entries: list[LogEntry] = []
    while page := await store.tail(router, after, limit):
        entries += page
        after = page[-1].cursor
    return entries


def log_sums(entries: Iterable[LogEntry]) -> Sums:
    """Return what entries teach about quality, by model: [Σ w·xxᵀ | Σ w·r·x], in plain numpy."""
    sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros((DIM, DIM + 1)))
    for entry in entries:
        x = entry.decision.x.astype(np.float64)
        known = entry.outcome()
        for sign, said in ((1.0, known), (-1.0, entry.before)):
            if said is not None and said.quality is not None:
                weighted = sign * said.quality_weight * x
                sums[entry.row.model] += np.outer(weighted, [*x, said.quality])
    return sums


def same_sums(a: Sums, b: Sums, tolerance: float = 1e-9) -> bool:
    """Return whether two sums agree, model by model; a model without a sum is zero."""
    nothing = np.zeros((DIM, DIM + 1))
    return all(
        np.allclose(a.get(m, nothing), b.get(m, nothing), rtol=0, atol=tolerance) for m in {*a, *b}
    )


def joined(rows: Sequence[Evidence]) -> Evidence | None:
    """Return what several pieces of evidence say together."""
    result: Evidence | None = None
    for evidence in rows:
        result = evidence if result is None else result.joined(evidence)
    return result


def folding(base: bytes | None, entries: Sequence[LogEntry]) -> bytes:
    """Fold entries into a base that holds their sums, as a learner would."""
    total = {m: np.array(v) for m, v in json.loads(base or b"{}").items()}
    for model, part in log_sums(entries).items():
        total[model] = total.get(model, 0.0) + part
    return json.dumps({m: v.tolist() for m, v in total.items()}).encode()


def unfolded(base: bytes) -> Sums:
    """Return the sums that `folding` packed."""
    return {m: np.array(v) for m, v in json.loads(base).items()}


def same_decision(found: DecisionRecord, given: DecisionRecord) -> None:
    """Check that two decisions are equal in everything but the text."""
    for name in DecisionRecord.__dataclass_fields__.keys() - {"x", "text"}:
        assert getattr(found, name) == getattr(given, name), name
    assert found.x.tobytes() == given.x.tobytes()


def check_before(entries: Sequence[LogEntry]) -> None:
    """Compare `before` with the join of the entries before, of the same decision and model."""
    said: dict[tuple[str, str], list[Evidence]] = defaultdict(list)
    for entry in entries:
        call = (entry.row.decision_id, entry.row.model)
        assert entry.before == joined(said[call])
        said[call].append(entry.row.evidence)


def an_answer(decision: DecisionRecord, **given: Any) -> ResponseRecord:
    """Return an answer to a decision."""
    return ResponseRecord(
        id=new_id(),
        decision_id=decision.id,
        router=decision.router,
        created_at=decision.created_at,
        response=Response(model=decision.model, **given),
        user_key=decision.user_key,
    )


async def some_log(store: Store, router: str, rows: int) -> list[LogEntry]:
    """Write rows about as many decisions, and return the log."""
    for i in range(rows):
        decision = a_decision(router, seed=i)
        await store.record(decision)
        await store.append(a_row(decision, quality=i / rows))
    return await read_log(store, router)
