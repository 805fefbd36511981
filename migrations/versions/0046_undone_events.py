"""Undone events are found by their position in the log. Their documents may be recorded again, for another customer.

Revision: 0046, after 0045
"""

import sqlalchemy as sa
from alembic import op

from migrations.append_batch import backwards, edited

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

ON_CONFLICT = "ON CONFLICT (ledger, kind, document_id) DO UPDATE SET "
STATE = "state = excluded.state"
OWNER = "customer = excluded.customer, "
EDITS = ((ON_CONFLICT + STATE, ON_CONFLICT + OWNER + STATE),)


def upgrade() -> None:
    op.create_index(
        "ix_events_undone",
        "events",
        ["ledger", sa.text("(decision::jsonb ->> 'original'::text)")],
        postgresql_where=sa.text("type = 'event.reversed'"),
    )
    op.get_bind().exec_driver_sql(edited(EDITS))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(edited(backwards(EDITS)))
    op.drop_index("ix_events_undone", "events")
