"""Append-only tables: the first vacuum freezes a row, so that the row is not read and written again when it is old.

Revision: 0011, after 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ONLY_ADDED_TO = ("batches", "events", "entries", "merkle_nodes")


def upgrade() -> None:
    for table in ONLY_ADDED_TO:
        op.execute(f"ALTER TABLE {table} SET (autovacuum_freeze_min_age = 0)")


def downgrade() -> None:
    for table in ONLY_ADDED_TO:
        op.execute(f"ALTER TABLE {table} RESET (autovacuum_freeze_min_age)")
