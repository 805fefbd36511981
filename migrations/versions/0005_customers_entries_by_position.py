"""Index of a customer's entries by position only.

With snapshots so few entries are added up that the index does not need their columns. These columns made the index
wide, at a cost for every entry.

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
