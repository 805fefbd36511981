"""Gifts are found by customer. A request whose event was recorded without a second person is settled.

Revision: 0031, after 0030
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

GIVING = "type IN ('block.repriced', 'credits.granted', 'credits.purchased')"


def upgrade() -> None:
    op.execute(f"CREATE INDEX ix_events_giving ON events (ledger, customer, position) WHERE {GIVING}")
    op.execute("CREATE INDEX ix_approvals_waiting ON approvals (ledger) WHERE state = 'waiting'")
    op.drop_constraint(op.f("ck_approvals_state"), "approvals")
    op.create_check_constraint(
        op.f("ck_approvals_state"), "approvals", "state IN ('waiting', 'approved', 'refused', 'recorded')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_approvals_state"), "approvals")
    # Rows in the state ``recorded`` do not change, because a decided row never changes.
    op.execute(
        "ALTER TABLE approvals ADD CONSTRAINT ck_approvals_state"
        " CHECK (state IN ('waiting', 'approved', 'refused')) NOT VALID"
    )
    op.drop_index("ix_approvals_waiting", "approvals")
    op.drop_index("ix_events_giving", "events")
