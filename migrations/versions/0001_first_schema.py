"""The first schema: decisions, feedback, snapshots, history and spend.

Revision: 0001, after nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

GREATEST = "1.7976931348623157e308"
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def within(table: str, column: str, greatest: str = GREATEST) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"{column} >= 0 AND {column} <= {greatest}", name=op.f(f"ck_{table}_{column}")
    )


def upgrade() -> None:
    """Build every table, index and view."""
    op.create_table(
        "routers",
        sa.Column("router", NAME, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column(
            "pruned_xid", sa.BigInteger, nullable=False, server_default=sa.text("-4611686018427387904")
        ),
        sa.Column("pruned_seq", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("router", name=op.f("pk_routers")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("router", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("x", sa.LargeBinary, nullable=False),
        sa.Column("schema", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.Column("propensity", sa.Float(53)),
        sa.Column("input_tokens", sa.Float(53)),
        sa.Column("user_key", NAME),
        sa.Column("estimates", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        within("decisions", "created_at"),
        within("decisions", "expires_at"),
        within("decisions", "propensity", "1"),
        within("decisions", "input_tokens"),
    )
    op.create_index(
        op.f("ix_decisions_router_created_at"), "decisions", ["router", "created_at"]
    )
    partial("ix_decisions_user_key", "decisions", ["user_key"], "user_key IS NOT NULL")
    op.create_table(
        "queries",
        sa.Column("decision_id", NAME, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_queries")),
    )
    responses()
    feedback()
    beside_the_log()
    money()
    op.execute(ANALYTICS)


def partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        op.f(name), table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def responses() -> None:
    op.create_table(
        "responses",
        sa.Column("id", NAME, nullable=False),
        sa.Column("decision_id", NAME, nullable=False),
        sa.Column("router", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("user_key", NAME),
        sa.Column("error", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("cost_usd", sa.Float(53)),
        sa.Column("latency_s", sa.Float(53)),
        sa.Column("time_to_first_token_s", sa.Float(53)),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("finish_reason", sa.Text),
        sa.Column("output_valid", sa.Boolean),
        sa.Column("validation_retries", sa.Integer, nullable=False),
        sa.Column("tool_calls", sa.Integer, nullable=False),
        sa.Column("tool_failures", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
        within("responses", "created_at"),
        within("responses", "cost_usd"),
        within("responses", "latency_s"),
        within("responses", "time_to_first_token_s"),
    )
    op.create_index(
        op.f("ix_responses_router_created_at"), "responses", ["router", "created_at"]
    )
    op.create_index(op.f("ix_responses_decision_id"), "responses", ["decision_id"])


def feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("seq", SERIAL, nullable=False, autoincrement=True),
        sa.Column("xid", sa.BigInteger),
        sa.Column("router", NAME, nullable=False),
        sa.Column("feedback_id", NAME, nullable=False),
        sa.Column("decision_id", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("user_key", NAME),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("recorded_at", sa.Float(53), nullable=False),
        sa.Column("quality", sa.Float(53)),
        sa.Column("quality_weight", sa.Float(53), nullable=False),
        sa.Column("cost_usd", sa.Float(53)),
        sa.Column("input_tokens", sa.Float(53)),
        sa.Column("output_tokens", sa.Float(53)),
        sa.Column("latency_s", sa.Float(53)),
        sa.Column("error", sa.Text),
        sa.Column("source_rank", sa.Integer, nullable=False),
        sa.Column("given_at", sa.Float(53), nullable=False),
        sa.Column("evidence_key", NAME, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_feedback")),
        sa.UniqueConstraint("router", "feedback_id", name=op.f("uq_feedback_router_feedback_id")),
        within("feedback", "recorded_at"),
        within("feedback", "quality", "1"),
        within("feedback", "quality_weight", "1000"),
        within("feedback", "cost_usd"),
        within("feedback", "input_tokens"),
        within("feedback", "output_tokens"),
        within("feedback", "latency_s"),
        sa.CheckConstraint(
            f"given_at >= -{GREATEST} AND given_at <= {GREATEST}",
            name=op.f("ck_feedback_given_at"),
        ),
        sqlite_autoincrement=True,
    )
    partial("ix_feedback_log", "feedback", ["router", "xid", "seq"], "xid IS NOT NULL")
    partial("ix_feedback_waiting", "feedback", ["router", "decision_id"], "xid IS NULL")
    op.create_index(op.f("ix_feedback_decision_id"), "feedback", ["decision_id"])
    partial("ix_feedback_user_key", "feedback", ["user_key"], "user_key IS NOT NULL")


def beside_the_log() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("router", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("xid", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("base", sa.Boolean, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("crc", sa.BigInteger, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
        sa.Column("saved_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_snapshots_router_state"), "snapshots", ["router", "state"])
    op.create_table(
        "quarantine",
        sa.Column("user_key", NAME, nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("user_key", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "calibrations",
        sa.Column("router", NAME, nullable=False),
        sa.Column("grader", NAME, nullable=False),
        sa.Column("prompt_hash", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint(
            "router", "grader", "prompt_hash", "model", name=op.f("pk_calibrations")
        ),
    )


def money() -> None:
    op.create_table(
        "budgets",
        sa.Column("scope_key", NAME, nullable=False),
        sa.Column("period_start", sa.Float(53), nullable=False),
        sa.Column("limit_usd", sa.Float(53), nullable=False),
        sa.Column("spent_usd", sa.Float(53), nullable=False),
        sa.Column("reserved_usd", sa.Float(53), nullable=False),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("scope_key", "period_start", name=op.f("pk_budgets")),
        within("budgets", "limit_usd"),
        within("budgets", "spent_usd"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", NAME, nullable=False),
        sa.Column("scope_key", NAME, nullable=False),
        sa.Column("period_start", sa.Float(53), nullable=False),
        sa.Column("amount_usd", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
        within("reservations", "amount_usd"),
        sa.CheckConstraint(
            "state IN ('held', 'freed', 'settled')", name=op.f("ck_reservations_state")
        ),
    )
    partial(
        "ix_reservations_held",
        "reservations",
        ["scope_key", "period_start", "expires_at"],
        "state = 'held'",
    )


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


def downgrade() -> None:
    """Remove everything, what was learned included."""
    op.execute("DROP VIEW routing_analytics")
    for table in (
        "reservations", "budgets", "calibrations", "quarantine", "snapshots", "feedback",
        "responses", "queries", "decisions", "routers",
    ):
        op.drop_table(table)
