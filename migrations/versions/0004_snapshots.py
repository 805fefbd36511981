"""Tables that replace the reading of many entries: snapshots, day totals by day of recording, customers with other
currencies.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLE = "subledger_app"
WHOLE = "empty for the ledger as a whole"
RECORDED = "of a ledger's: the day, in UTC, that the position was recorded on"
OVER = "whether it is the last position of that day"
SNAPSHOTS = (
    "Sums of everything recorded through a position and booked through a day, left by readers for the next. "
    "A cache: its presence affects cost, never meaning."
)
OTHERS = "Who has entries in another currency than the functional one, and is remeasured at a close. Rebuildable."
FIND_OTHERS = """
INSERT INTO other_currencies (ledger, customer)
SELECT DISTINCT e.ledger, coalesce(e.customer, '') FROM entries e JOIN ledgers l ON l.ledger = e.ledger
WHERE e.currency <> l.functional_currency
"""


def upgrade() -> None:
    op.create_table(
        "other_currencies",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False, comment=WHOLE),
        sa.PrimaryKeyConstraint("ledger", "customer", name=op.f("pk_other_currencies")),
        comment=OTHERS,
    )
    op.execute(FIND_OTHERS)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON other_currencies TO {ROLE}")
    op.create_table(
        "snapshots",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False, comment=WHOLE),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("accounting_date", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("policy", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("recorded_date", sa.Date(), comment=RECORDED),
        sa.Column("day_is_over", sa.Boolean(), nullable=False, comment=OVER),
        sa.Column("written_minor", sa.Numeric(), nullable=False),
        sa.Column("mirrored_minor", sa.Numeric(), nullable=False),
        sa.Column("functional_written_minor", sa.Numeric(), nullable=False),
        sa.Column("functional_mirrored_minor", sa.Numeric(), nullable=False),
        sa.Column("credits", sa.Numeric(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "ledger",
            "customer",
            "position",
            "accounting_date",
            "currency",
            "policy",
            "kind",
            "unit",
            name=op.f("pk_snapshots"),
        ),
        comment=SNAPSHOTS,
    )
    op.create_index("ix_snapshots_accounting_date", "snapshots", ["ledger", "customer", "accounting_date", "position"])
    op.create_index("ix_ledger_days_recorded_date", "ledger_days", ["ledger", "recorded_date", "accounting_date"])
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON snapshots TO {ROLE}")
    op.create_index("ix_approvals_requested_at", "approvals", ["ledger", "requested_at", "approval_id"])
    rare = sa.text("type <> 'credits.consumed'")
    op.create_index("ix_events_type", "events", ["ledger", "type", "position"], postgresql_where=rare)


def downgrade() -> None:
    op.drop_index("ix_events_type", "events")
    op.drop_index("ix_approvals_requested_at", "approvals")
    op.drop_index("ix_ledger_days_recorded_date", "ledger_days")
    op.drop_table("snapshots")
    op.drop_table("other_currencies")
