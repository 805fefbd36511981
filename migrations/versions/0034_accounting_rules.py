"""The version of the accounting rules that a ledger has adopted. Existing ledgers have version 1.

Revision: 0034, after 0033
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

COMMENT = "version of the rules that decide its events"


def upgrade() -> None:
    op.add_column(
        "ledgers", sa.Column("accounting_rules", sa.SmallInteger(), nullable=False, server_default="1", comment=COMMENT)
    )
    op.alter_column("ledgers", "accounting_rules", server_default=None)


def downgrade() -> None:
    op.drop_column("ledgers", "accounting_rules")
