"""What the value of a signal was, beside what it taught.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; rows from before hold no signal's value, and teach what they did."""
    op.add_column("feedback", sa.Column("said", sa.Float(53)))
    op.add_column(
        "feedback",
        sa.Column("lift", sa.Float(53), nullable=False, server_default=sa.text("0")),
    )


def downgrade() -> None:
    """Remove the columns; reliabilities are then learned from new signals alone."""
    op.drop_column("feedback", "lift")
    op.drop_column("feedback", "said")
