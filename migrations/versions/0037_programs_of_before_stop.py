"""Programs of the version before cannot write any more: what they read and call to write has other names.

A server of before that still runs would decide by version 1 of the accounting rules, and write wallets without what
version 2 derives. It reads ``ledgers.rebuilds`` under the lock, and calls ``append_batch`` with ``at_rebuilds``: both
are renamed to ``replacements``, so each of its writes fails, and nothing is recorded.

Revision: 0037, after 0036
"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

DEFINITION = "SELECT pg_get_functiondef('append_batch'::regproc)"
RENAMED = (
    ("at_rebuilds integer", "at_replacements integer"),
    ("batch_hash, rebuilds, recorded_at", "batch_hash, replacements, recorded_at"),
    ("held.rebuilds <> at_rebuilds", "held.replacements <> at_replacements"),
)


def upgrade() -> None:
    op.alter_column("ledgers", "rebuilds", new_column_name="replacements")
    _replace_function(RENAMED)


def downgrade() -> None:
    op.alter_column("ledgers", "replacements", new_column_name="rebuilds")
    _replace_function(tuple((after, before) for before, after in RENAMED))


def _replace_function(edits: tuple[tuple[str, str], ...]) -> None:
    """Replaces the function by one with other names; it is otherwise that of the migration that made it."""
    definition = op.get_bind().execute(sa.text(DEFINITION)).scalar_one()
    for before, after in edits:
        if definition.count(before) != 1:
            raise RuntimeError(f"append_batch is not as expected: {before}")
        definition = definition.replace(before, after)
    comment = op.get_bind().execute(sa.text("SELECT obj_description('append_batch'::regproc)")).scalar_one()
    op.execute("DROP FUNCTION append_batch")
    op.get_bind().exec_driver_sql(definition.replace("%", "%%"))
    quoted = comment.replace("'", "''")
    op.get_bind().exec_driver_sql(f"COMMENT ON FUNCTION append_batch IS '{quoted}'".replace("%", "%%"))
    op.execute("REVOKE EXECUTE ON FUNCTION append_batch FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION append_batch TO subledger_app")
