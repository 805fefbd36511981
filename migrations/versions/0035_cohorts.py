"""Entries of breakage pools have a cohort: the month in which their block was opened, or the cohort of an estimate.

After a downgrade, a database whose entries have cohorts keeps them. Some rows differ only in the cohort, and entries
that refer to these rows are part of the log. An older version writes rows without a cohort.

Revision: 0035, after 0034
"""

import sqlalchemy as sa
from alembic import op

from migrations.append_batch import backwards, replace_function

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

VALUES = ("ledger", "product", "credit_kind", "pool", "processor")
POOLED = """NOT is_open AND expires_at IS NOT NULL AND state LIKE '%"pool":"%'"""
INDEX = "ux_dimension_sets_values"
COMMENT = "the month of issue of a pooled block"
KEPT = """
SELECT count(*) FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'dimension_sets' AND column_name = 'cohort'
"""
USED = "SELECT EXISTS (SELECT 1 FROM dimension_sets WHERE cohort <> '')"
ADDED = (
    (
        "set_processor text[] DEFAULT NULL::text[]",
        "set_processor text[] DEFAULT NULL::text[], set_cohort text[] DEFAULT NULL::text[]",
    ),
    ("credit_kind, pool, processor)", "credit_kind, pool, processor, cohort)"),
    ("set_pool, set_processor)", "set_pool, set_processor, set_cohort)"),
)


def upgrade() -> None:
    if not _scalar(KEPT):
        column = sa.Column("cohort", sa.Text(), nullable=False, server_default=sa.text("''"), comment=COMMENT)
        op.add_column("dimension_sets", column)
        op.drop_index(INDEX, "dimension_sets")
        op.create_index(INDEX, "dimension_sets", [*VALUES, "cohort"], unique=True)
    op.alter_column("dimension_sets", "cohort", server_default=None)
    replace_function(ADDED)
    op.create_index("ix_blocks_pooled", "blocks", ["ledger", "expires_at"], postgresql_where=sa.text(POOLED))


def downgrade() -> None:
    op.drop_index("ix_blocks_pooled", "blocks")
    replace_function(backwards(ADDED))
    if _scalar(USED):
        op.alter_column("dimension_sets", "cohort", server_default=sa.text("''"))
        return
    op.drop_index(INDEX, "dimension_sets")
    op.create_index(INDEX, "dimension_sets", VALUES, unique=True)
    op.drop_column("dimension_sets", "cohort")


def _scalar(query: str) -> bool:
    return bool(op.get_bind().execute(sa.text(query)).scalar_one())
