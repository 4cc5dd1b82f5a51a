"""The history that people look at: decisions, answers, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Float, String, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from conduit.core.events import SOURCE_RANK, DecisionRecord
from conduit.storage.ports import ModelStats, Opinions, ResponseRecord, RouterStats, clean
from conduit.storage.rows import (
    DECISION_COLUMNS,
    RESPONSE_COLUMNS,
    to_decision,
    to_response,
)
from conduit.storage.sessions import Sessions

_DECISION = ", ".join(f"d.{column}" for column in DECISION_COLUMNS)
DECISIONS = (
    f"SELECT {_DECISION}, q.text FROM decisions d LEFT JOIN queries q ON q.decision_id = d.id"
)
ONE_DECISION = text(f"{DECISIONS} WHERE d.id = :id AND d.router = :router")
NEWEST = (
    f"{DECISIONS} WHERE d.router = :router {{}} ORDER BY d.created_at DESC, d.id DESC LIMIT :limit"
)
NEWEST_OF_ALL = text(NEWEST.format(""))
NEWEST_OF_ONE = text(NEWEST.format("AND d.user_key = :user"))
ONE_RESPONSE = text(
    f"SELECT {', '.join(RESPONSE_COLUMNS)} FROM responses WHERE id = :id AND router = :router"
)
NEWEST_ANSWER = text(f"""
    SELECT {", ".join(RESPONSE_COLUMNS)} FROM responses
    WHERE decision_id = :id AND router = :router
    ORDER BY CASE WHEN error IS NULL THEN 0 ELSE 1 END, created_at DESC, id DESC LIMIT 1
""")

COUNT_DECISIONS = text("""
    SELECT model, count(*) FROM decisions
    WHERE router = :router AND created_at >= :since GROUP BY model
""")
COUNT_RESPONSES = text("""
    SELECT model, count(*), sum(CASE WHEN error IS NULL THEN 0 ELSE 1 END),
           coalesce(sum(cost_usd), 0.0), avg(latency_s)
    FROM responses WHERE router = :router AND created_at >= :since GROUP BY model
""")
# The quality of a call is what its strongest opinion says.
COUNT_FEEDBACK = text("""
    SELECT model, count(*), avg(CASE WHEN place = 1 THEN quality END)
    FROM (
        SELECT model, quality, row_number() OVER (
            PARTITION BY decision_id, model
            ORDER BY CASE WHEN quality IS NULL THEN 1 ELSE 0 END, source_rank DESC,
                     quality_weight DESC, given_at DESC, evidence_key DESC
        ) AS place
        FROM feedback WHERE router = :router AND recorded_at >= :since AND xid IS NOT NULL
    ) ranked
    GROUP BY model
""")
COUNT_WAITING = text("""
    SELECT count(*) FROM feedback
    WHERE router = :router AND recorded_at >= :since AND xid IS NULL
""")
OPINIONS = f"""
    SELECT count(DISTINCT decision_id),
           count(DISTINCT decision_id) FILTER (WHERE user_key IS NOT NULL),
           count(DISTINCT user_key),
           count(*) FILTER (WHERE recorded_at >= :recent),
           EXISTS (SELECT 1 FROM feedback WHERE router = :router AND feedback_id = :feedback)
    FROM feedback
    WHERE router = :router AND recorded_at >= :since AND source_rank >= {SOURCE_RANK["user"]}
      AND kind <> 'calibration' AND {{}}
"""
_NOT_HIDDEN = "(user_key IS NULL OR user_key NOT IN (SELECT user_key FROM quarantine))"
OPINIONS_OF_ALL, OPINIONS_OF_ONE = (
    text(OPINIONS.format(whose)).bindparams(
        bindparam("recent", type_=Float(53)), bindparam("feedback", type_=String)
    )
    for whose in (_NOT_HIDDEN, "user_key = :user")
)


class HistoryReader:
    """Reads one database's history."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def decision(self, router: str, decision_id: str) -> DecisionRecord | None:
        """Return a stored decision of this router."""
        given = {"router": router, "id": clean(decision_id)}
        rows = await self._rows("read a decision", ONE_DECISION, given)
        return _decision(rows[0]) if rows else None

    async def decisions(
        self, router: str, *, limit: int = 100, user_key: str | None = None
    ) -> Sequence[DecisionRecord]:
        """Return the newest decisions, newest first."""
        statement = NEWEST_OF_ALL if user_key is None else NEWEST_OF_ONE
        user = {} if user_key is None else {"user": clean(user_key)}
        given = {"router": router, "limit": limit, **user}
        return [_decision(row) for row in await self._rows("read decisions", statement, given)]

    async def response(self, router: str, response_id: str) -> ResponseRecord | None:
        """Return a stored answer of this router."""
        return await self._answer(ONE_RESPONSE, router, response_id)

    async def answer_to(self, router: str, decision_id: str) -> ResponseRecord | None:
        """Return the newest stored answer to a decision, or its newest failed attempt."""
        return await self._answer(NEWEST_ANSWER, router, decision_id)

    async def _answer(
        self, statement: TextClause, router: str, identity: str
    ) -> ResponseRecord | None:
        given = {"router": router, "id": clean(identity)}
        rows = await self._rows("read an answer", statement, given)
        return to_response(rows[0]) if rows else None

    async def stats(self, router: str, *, since: float = 0.0) -> RouterStats:
        """Return counts, spend and means, by model."""
        given = {"router": router, "since": since}
        statements = (COUNT_DECISIONS, COUNT_RESPONSES, COUNT_FEEDBACK, COUNT_WAITING)

        async def count(connection: AsyncConnection) -> list[Sequence[Any]]:
            return [(await connection.execute(s, given)).all() for s in statements]

        decisions, responses, feedback, ((waiting,),) = await self._sessions.read(
            "read statistics", count
        )
        return _stats(decisions, responses, feedback, waiting)

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
        statement = OPINIONS_OF_ALL if user_key is None else OPINIONS_OF_ONE
        given = {
            "router": router,
            "since": since,
            "recent": since if recent is None else recent,
            "feedback": None if feedback_id is None else clean(feedback_id),
            **({} if user_key is None else {"user": clean(user_key)}),
        }
        ((decisions, by_users, users, lately, known),) = await self._rows(
            "count opinions", statement, given
        )
        return Opinions(
            decisions=decisions, by_users=by_users, users=users, recent=lately, known=bool(known)
        )

    async def _rows(
        self, doing: str, statement: TextClause, given: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        async def rows(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            return (await connection.execute(statement, given)).all()

        return await self._sessions.read(doing, rows)


def _decision(row: Sequence[Any]) -> DecisionRecord:
    return to_decision(row[:-1], row[-1])


def _stats(
    decisions: Sequence[Any], responses: Sequence[Any], feedback: Sequence[Any], waiting: int
) -> RouterStats:
    chosen = dict(map(tuple, decisions))
    answered = {model: values for model, *values in responses}
    said = {model: values for model, *values in feedback}
    models = {}
    for model in sorted({*chosen, *answered, *said}):
        answers, errors, cost_usd, latency_s = answered.get(model, (0, 0, 0.0, None))
        rows, quality = said.get(model, (0, None))
        models[model] = ModelStats(
            decisions=chosen.get(model, 0),
            responses=answers,
            errors=errors,
            feedback=rows,
            cost_usd=cost_usd,
            mean_latency_s=latency_s,
            mean_quality=quality,
        )
    return RouterStats(
        decisions=sum(m.decisions for m in models.values()),
        responses=sum(m.responses for m in models.values()),
        feedback=sum(m.feedback for m in models.values()) + waiting,
        waiting=waiting,
        cost_usd=sum(m.cost_usd for m in models.values()),
        models=models,
    )
