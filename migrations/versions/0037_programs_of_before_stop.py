"""Programs of the previous version cannot write any more, because the names that they use for writing have changed.

A server of the previous version that still runs would decide by version 1 of the accounting rules, and write wallets
without the derived values of version 2. It reads ``ledgers.rebuilds`` under the lock, and calls ``append_batch`` with
``at_rebuilds``. Both are renamed to ``replacements``, so each of its writes fails, and nothing is recorded.

Revision: 0037, after 0036
"""

from alembic import op

from migrations.append_batch import backwards, replace_function

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

RENAMED = (
    ("at_rebuilds integer", "at_replacements integer"),
    ("batch_hash, rebuilds, recorded_at", "batch_hash, replacements, recorded_at"),
    ("held.rebuilds <> at_rebuilds", "held.replacements <> at_replacements"),
)


def upgrade() -> None:
    op.alter_column("ledgers", "rebuilds", new_column_name="replacements")
    replace_function(RENAMED)


def downgrade() -> None:
    op.alter_column("ledgers", "replacements", new_column_name="rebuilds")
    replace_function(backwards(RENAMED))
