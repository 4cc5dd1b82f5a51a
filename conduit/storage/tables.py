"""The tables, as SQLAlchemy describes them for SQLite and PostgreSQL: one schema for both.

`migrations/` builds the same schema step by step; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from conduit.storage.ports import BEGINNING

HEAD = "0002"  # the newest migration, which builds what is described here
# The greatest finite number: PostgreSQL sorts NaN above everything, SQLite stores it as NULL.
GREATEST = "1.7976931348623157e308"

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
# Ids compare byte by byte: faster than by the rules of a language, and the same everywhere.
NAME = String().with_variant(String(collation="C"), "postgresql")
SERIAL = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER counts up by itself there


def within(column: str, greatest: str = GREATEST) -> CheckConstraint:
    """Return the rule that a number lies from 0 to `greatest`, which NaN and infinity do not."""
    return CheckConstraint(f"{column} >= 0 AND {column} <= {greatest}", name=column)


ROUTERS = Table(
    "routers",
    METADATA,
    Column("router", NAME, primary_key=True),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("pruned_xid", BigInteger, nullable=False, server_default=text(str(BEGINNING))),
    Column("pruned_seq", BigInteger, nullable=False, server_default=text("0")),
)

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("router", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("x", LargeBinary, nullable=False),  # float32, little-endian
    Column("schema", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("propensity", Float(53)),
    Column("input_tokens", Float(53)),
    Column("user_key", NAME),
    Column("estimates", Text, nullable=False),
    within("created_at"),
    within("expires_at"),
    within("propensity", "1"),
    within("input_tokens"),
    Index(None, "router", "created_at"),
    Index(
        "ix_decisions_user_key",
        "user_key",
        sqlite_where=text("user_key IS NOT NULL"),
        postgresql_where=text("user_key IS NOT NULL"),
    ),
)

QUERIES = Table(
    "queries",
    METADATA,
    Column("decision_id", NAME, primary_key=True),
    Column("text", Text, nullable=False),
)

RESPONSES = Table(
    "responses",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("decision_id", NAME, nullable=False),
    Column("router", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("user_key", NAME),
    Column("error", Text),
    Column("text", Text),
    Column("cost_usd", Float(53)),
    Column("latency_s", Float(53)),
    Column("time_to_first_token_s", Float(53)),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("finish_reason", Text),
    Column("output_valid", Boolean),
    Column("validation_retries", Integer, nullable=False),
    Column("tool_calls", Integer, nullable=False),
    Column("tool_failures", Integer, nullable=False),
    within("created_at"),
    within("cost_usd"),
    within("latency_s"),
    within("time_to_first_token_s"),
    Index(None, "router", "created_at"),
    Index(None, "decision_id"),
)

# `xid` is the writing transaction on PostgreSQL and 0 on SQLite; NULL while the row waits for its
# decision. (xid, seq) is the place in the log.
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("seq", SERIAL, primary_key=True, autoincrement=True),
    Column("xid", BigInteger),
    Column("router", NAME, nullable=False),
    Column("feedback_id", NAME, nullable=False),
    Column("decision_id", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("user_key", NAME),
    Column("said", Float(53)),  # the value of a signal
    Column("digest", LargeBinary, nullable=False),  # of the payload, to tell repeats from conflicts
    Column("recorded_at", Float(53), nullable=False),
    Column("quality", Float(53)),
    Column("quality_weight", Float(53), nullable=False),
    Column("cost_usd", Float(53)),
    Column("input_tokens", Float(53)),
    Column("output_tokens", Float(53)),
    Column("latency_s", Float(53)),
    Column("error", Text),
    Column("source_rank", Integer, nullable=False),
    Column("given_at", Float(53), nullable=False),
    Column("evidence_key", NAME, nullable=False),
    Column("lift", Float(53), nullable=False, server_default=text("0")),
    UniqueConstraint("router", "feedback_id"),
    within("recorded_at"),
    within("quality", "1"),
    within("quality_weight", "1000"),
    within("cost_usd"),
    within("input_tokens"),
    within("output_tokens"),
    within("latency_s"),
    CheckConstraint(f"given_at >= -{GREATEST} AND given_at <= {GREATEST}", name="given_at"),
    Index(
        "ix_feedback_log",
        "router",
        "xid",
        "seq",
        sqlite_where=text("xid IS NOT NULL"),
        postgresql_where=text("xid IS NOT NULL"),
    ),
    Index(
        "ix_feedback_waiting",
        "router",
        "decision_id",
        sqlite_where=text("xid IS NULL"),
        postgresql_where=text("xid IS NULL"),
    ),
    Index(None, "decision_id"),
    Index(
        "ix_feedback_user_key",
        "user_key",
        sqlite_where=text("user_key IS NOT NULL"),
        postgresql_where=text("user_key IS NOT NULL"),
    ),
    sqlite_autoincrement=True,  # a place in the log is never given out twice
)

SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("router", NAME, nullable=False),
    Column("state", NAME, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("xid", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("base", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("crc", BigInteger, nullable=False),
    Column("meta", Text, nullable=False),
    Column("saved_at", Float(53), nullable=False),
    Index(None, "router", "state"),
    sqlite_autoincrement=True,
)

QUARANTINE = Table(
    "quarantine",
    METADATA,
    Column("user_key", NAME, primary_key=True),
    Column("since", Float(53), nullable=False),
)

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("scope_key", NAME, nullable=False),
    Column("period_start", Float(53), nullable=False),
    Column("limit_usd", Float(53), nullable=False),
    Column("spent_usd", Float(53), nullable=False),
    Column("reserved_usd", Float(53), nullable=False),
    Column("granted", Boolean, nullable=False),  # what the newest reservation was told
    PrimaryKeyConstraint("scope_key", "period_start"),
    within("limit_usd"),
    within("spent_usd"),
)

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("scope_key", NAME, nullable=False),
    Column("period_start", Float(53), nullable=False),
    Column("amount_usd", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("state", NAME, nullable=False),
    within("amount_usd"),
    CheckConstraint("state IN ('held', 'freed', 'settled')", name="state"),
    Index(
        "ix_reservations_held",
        "scope_key",
        "period_start",
        "expires_at",
        sqlite_where=text("state = 'held'"),
        postgresql_where=text("state = 'held'"),
    ),
)

CALIBRATIONS = Table(
    "calibrations",
    METADATA,
    Column("router", NAME, nullable=False),
    Column("grader", NAME, nullable=False),
    Column("prompt_hash", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    PrimaryKeyConstraint("router", "grader", "prompt_hash", "model"),
)

# One row per decision: what was chosen, what it took, and the strongest opinion of the answer.
ANALYTICS = """
CREATE VIEW routing_analytics AS
WITH opinions AS (
    SELECT decision_id, model, quality, source_rank,
           row_number() OVER (
               PARTITION BY decision_id, model
               ORDER BY source_rank DESC, quality_weight DESC, given_at DESC, evidence_key DESC
           ) AS place
    FROM feedback
    WHERE quality IS NOT NULL AND xid IS NOT NULL
), answers AS (
    SELECT decision_id,
           count(*) AS attempts,
           sum(CASE WHEN error IS NULL THEN 0 ELSE 1 END) AS errors,
           sum(cost_usd) AS cost_usd,
           sum(latency_s) AS latency_s,
           sum(input_tokens) AS input_tokens,
           sum(output_tokens) AS output_tokens
    FROM responses
    GROUP BY decision_id
)
SELECT d.id AS decision_id, d.router, d.created_at, d.model, d.propensity, d.user_key,
       a.attempts, a.errors, a.cost_usd, a.latency_s, a.input_tokens, a.output_tokens,
       o.quality, o.source_rank
FROM decisions d
LEFT JOIN answers a ON a.decision_id = d.id
LEFT JOIN opinions o ON o.decision_id = d.id AND o.model = d.model AND o.place = 1
"""


def create_schema(connection: Connection) -> None:
    """Build the newest schema in an empty database, and mark it as such."""
    METADATA.create_all(connection)
    connection.execute(text(ANALYTICS))
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
