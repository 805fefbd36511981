"""Undone events are found by their position in the log; their documents may be recorded again, for another customer.

Revision: 0046, after 0045
"""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

DEFINITION = "SELECT pg_get_functiondef('append_batch'::regproc)"
ON_CONFLICT = "ON CONFLICT (ledger, kind, document_id) DO UPDATE SET "
STATE = "state = excluded.state"
OWNER = "customer = excluded.customer, "


def upgrade() -> None:
    op.create_index(
        "ix_events_undone",
        "events",
        ["ledger", sa.text("(decision::jsonb ->> 'original'::text)")],
        postgresql_where=sa.text("type = 'event.reversed'"),
    )
    _replace(ON_CONFLICT + STATE, ON_CONFLICT + OWNER + STATE)


def downgrade() -> None:
    _replace(ON_CONFLICT + OWNER + STATE, ON_CONFLICT + STATE)
    op.drop_index("ix_events_undone", "events")


def _replace(before: str, after: str) -> None:
    """Replaces the function by one that differs in this; its comment and its rights stay."""
    definition = op.get_bind().execute(sa.text(DEFINITION)).scalar_one()
    if definition.count(before) != 1:
        raise RuntimeError(f"append_batch is not as expected: {before}")
    op.get_bind().exec_driver_sql(definition.replace(before, after).replace("%", "%%"))
