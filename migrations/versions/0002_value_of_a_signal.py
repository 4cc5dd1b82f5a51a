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
    """Add the column; rows from before hold no signal's value."""
    op.add_column("feedback", sa.Column("said", sa.Float(53)))


def downgrade() -> None:
    """Remove the column; reliabilities are then learned from new signals alone."""
    op.drop_column("feedback", "said")
