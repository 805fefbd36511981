"""Dropped channels: their row stays, with the person and the time.

Revision: 0026, after 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

COMMENT = "Where a ledger's journals go, and how"


def upgrade() -> None:
    # Seals leave NULLs out, so the seals of existing channels do not change.
    op.add_column("delivery_channels", sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("delivery_channels", sa.Column("dropped_by", sa.Text(), nullable=True))
    op.create_table_comment("delivery_channels", f"{COMMENT}; and, of those taken away, who did that and when.")
    op.execute("REVOKE DELETE ON delivery_channels FROM subledger_app")


def downgrade() -> None:
    op.execute("GRANT DELETE ON delivery_channels TO subledger_app")
    op.execute("DELETE FROM delivery_channels WHERE dropped_at IS NOT NULL")
    op.create_table_comment("delivery_channels", f"{COMMENT}.")
    op.drop_column("delivery_channels", "dropped_by")
    op.drop_column("delivery_channels", "dropped_at")
