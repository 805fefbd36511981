"""A customer's entries are found by position alone: snapshots leave so few to be added up that their columns need not
stand in the index: they made it wide, and every entry pays for it.

Revision: 0005, after 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ["ledger", "customer", "position"]
INCLUDED = [
    "accounting_date", "policy", "kind", "block_id", "unit", "credits", "currency", "amount_minor", "functional_minor",
]  # fmt: skip


def upgrade() -> None:
    op.drop_index("ix_entries_customer", "entries")
    op.create_index("ix_entries_customer", "entries", COLUMNS)


def downgrade() -> None:
    op.drop_index("ix_entries_customer", "entries")
    op.create_index("ix_entries_customer", "entries", COLUMNS, postgresql_include=INCLUDED)
