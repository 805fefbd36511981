"""Tolerance for events in the future, and sandbox ledgers with their own clock.

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

CLOCK = "the now of a sandbox; NULL: that of the database"
TOLERANCE = "how far ahead of now events may lie, such as 1d"


def upgrade() -> None:
    op.add_column(
        "ledgers", sa.Column("future_tolerance", sa.Text(), nullable=False, server_default="1d", comment=TOLERANCE)
    )
    op.add_column(
        "ledgers",
        sa.Column(
            "sandbox",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="has a clock of its own, and delivers nothing",
        ),
    )
    op.add_column("ledgers", sa.Column("clock", sa.DateTime(timezone=True), nullable=True, comment=CLOCK))
    for name in ("future_tolerance", "sandbox"):  # for existing ledgers; new ledgers state the value
        op.alter_column("ledgers", name, server_default=None)


def downgrade() -> None:
    for name in ("clock", "sandbox", "future_tolerance"):
        op.drop_column("ledgers", name)
