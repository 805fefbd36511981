"""Entries of refundable blocks have the dimension ``refundable``, which an account mapping can use.

After a downgrade, a database whose entries have this dimension keeps the column. Some rows differ only in this column,
and entries that refer to these rows are part of the log. An older version writes rows without it.

Revision: 0042, after 0041
"""

import sqlalchemy as sa
from alembic import op

from migrations.append_batch import backwards, replace_function

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

VALUES = ("ledger", "product", "credit_kind", "pool", "processor", "cohort")
INDEX = "ux_dimension_sets_values"
COMMENT = "true: of a refundable block"
KEPT = """
SELECT count(*) FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'dimension_sets' AND column_name = 'refundable'
"""
USED = "SELECT EXISTS (SELECT 1 FROM dimension_sets WHERE refundable <> '')"
ADDED = (
    (
        "set_cohort text[] DEFAULT NULL::text[]",
        "set_cohort text[] DEFAULT NULL::text[], set_refundable text[] DEFAULT NULL::text[]",
    ),
    ("pool, processor, cohort)", "pool, processor, cohort, refundable)"),
    ("set_processor, set_cohort)", "set_processor, set_cohort, set_refundable)"),
)


def upgrade() -> None:
    if not _scalar(KEPT):
        column = sa.Column("refundable", sa.Text(), nullable=False, server_default=sa.text("''"), comment=COMMENT)
        op.add_column("dimension_sets", column)
        op.drop_index(INDEX, "dimension_sets")
        op.create_index(INDEX, "dimension_sets", [*VALUES, "refundable"], unique=True)
    op.alter_column("dimension_sets", "refundable", server_default=None)
    replace_function(ADDED)


def downgrade() -> None:
    replace_function(backwards(ADDED))
    if _scalar(USED):
        op.alter_column("dimension_sets", "refundable", server_default=sa.text("''"))
        return
    op.drop_index(INDEX, "dimension_sets")
    op.create_index(INDEX, "dimension_sets", VALUES, unique=True)
    op.drop_column("dimension_sets", "refundable")


def _scalar(query: str) -> bool:
    return bool(op.get_bind().execute(sa.text(query)).scalar_one())
