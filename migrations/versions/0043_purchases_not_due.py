"""Purchases whose price is not due yet are found by the day on which it becomes due.

Revision: 0043, after 0042
"""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

NOT_DUE_UNTIL = (
    "\nCASE\n    WHEN (data::jsonb ->> 'cancellable'::text) = 'true'::text "
    "OR (data::jsonb ->> 'refundable'::text) = 'true'::text THEN '9999-12-31'::text\n"
    "    ELSE \"left\"(data::jsonb ->> 'due_at'::text, 10)\nEND"
)
PURCHASES = "type = 'credits.purchased'"


def upgrade() -> None:
    op.create_index(
        "ix_events_not_due",
        "events",
        ["ledger", sa.text(f"({NOT_DUE_UNTIL})")],
        postgresql_where=sa.text(f"{PURCHASES} AND ({NOT_DUE_UNTIL}) IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_events_not_due", "events")
