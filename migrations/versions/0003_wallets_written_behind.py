"""Wallets written behind: the position through which every wallet's row has all events.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

THROUGH = "every wallet's row knows all events through this"
CURRENT = """
-- What was written before knows of no row that is behind.
DO $$
BEGIN
    IF EXISTS (SELECT FROM ledgers WHERE wallets_through < position) THEN
        RAISE EXCEPTION 'wallets are behind: record one event in every ledger that was busy, then try again';
    END IF;
END
$$
"""


def upgrade() -> None:
    op.add_column("ledgers", sa.Column("wallets_through", sa.BigInteger(), nullable=True, comment=THROUGH))
    op.execute("UPDATE ledgers SET wallets_through = position")
    op.alter_column("ledgers", "wallets_through", nullable=False)
    op.create_check_constraint(op.f("ck_ledgers_wallets_through"), "ledgers", "wallets_through BETWEEN 0 AND position")


def downgrade() -> None:
    op.execute(CURRENT)
    op.drop_column("ledgers", "wallets_through")
