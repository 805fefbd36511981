"""A request has the effect of its event. The recent effects of a customer are found by customer, for all event types.

Revision: 0033, after 0032
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import only_forward, unguard

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

CHANGING = ("state", "checker", "decided_at", "note")
COLUMNS = (
    "ledger", "approval_id", "reason", "source", "event_id", "type", "customer", "occurred_at", "data", "attributes",
    "maker", "requested_at", *CHANGING,
)  # fmt: skip
FINAL = "OLD.state <> 'waiting'"
GUARDS = ("only_forward", "never_deleted", "never_truncated")
GIVING = "type IN ('block.repriced', 'credits.granted', 'credits.purchased')"
NO_USAGE = "type <> 'credits.consumed'"
COMMENT = "the effect of the event when it was requested, as JSON"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("effect", sa.Text(), nullable=True, comment=COMMENT))
    unguard("approvals", *GUARDS)
    only_forward("approvals", CHANGING, (*COLUMNS, "effect"), FINAL)
    op.drop_index("ix_events_giving", "events")
    op.execute(f"CREATE INDEX ix_events_customer ON events (ledger, customer, position) WHERE {NO_USAGE}")


def downgrade() -> None:
    op.drop_index("ix_events_customer", "events")
    op.execute(f"CREATE INDEX ix_events_giving ON events (ledger, customer, position) WHERE {GIVING}")
    unguard("approvals", *GUARDS)
    # Decided requests are included, and the trigger that guards them is off. The seals are made again without the
    # effect.
    op.execute("UPDATE approvals SET effect = NULL WHERE effect IS NOT NULL")
    op.drop_column("approvals", "effect")
    only_forward("approvals", CHANGING, COLUMNS, FINAL)
