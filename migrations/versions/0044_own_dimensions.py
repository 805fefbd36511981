"""The company's own dimensions: their names are a setting of the ledger, their texts are part of a dimension set.

After a downgrade, a database whose entries have such dimensions keeps the columns. Some rows differ only in these
columns, and entries that refer to these rows are part of the log. An older version writes rows without them.

Revision: 0044, after 0043
"""

import sqlalchemy as sa
from alembic import op

from migrations.append_batch import backwards, replace_function

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

VALUES = ("ledger", "product", "credit_kind", "pool", "processor", "cohort", "refundable")
INDEX = "ux_dimension_sets_values"
OWN = sa.text("md5((own || chr(31)) || usage)")
COMMENTS = {
    "own": "the company's own dimensions of the block, as JSON",
    "usage": "those of the usage, if they are others",
}
NAMES = "names of the company's own dimensions, as JSON"
KEPT = """
SELECT count(*) FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'dimension_sets' AND column_name = 'own'
"""
USED = "SELECT EXISTS (SELECT 1 FROM dimension_sets WHERE own <> '' OR usage <> '')"
ADDED = (
    (
        "set_refundable text[] DEFAULT NULL::text[]",
        "set_refundable text[] DEFAULT NULL::text[], set_own text[] DEFAULT NULL::text[], "
        "set_usage text[] DEFAULT NULL::text[]",
    ),
    ("processor, cohort, refundable)", "processor, cohort, refundable, own, usage)"),
    ("set_cohort, set_refundable)", "set_cohort, set_refundable, set_own, set_usage)"),
)


def upgrade() -> None:
    if not _scalar(KEPT):
        for name, comment in COMMENTS.items():
            column = sa.Column(name, sa.Text(), nullable=False, server_default=sa.text("''"), comment=comment)
            op.add_column("dimension_sets", column)
        op.drop_index(INDEX, "dimension_sets")
        op.create_index(INDEX, "dimension_sets", [*VALUES, OWN], unique=True)
    for name in COMMENTS:
        op.alter_column("dimension_sets", name, server_default=None)
    column = sa.Column("dimensions", sa.Text(), nullable=False, server_default="[]", comment=NAMES)
    op.add_column("ledgers", column)
    op.alter_column("ledgers", "dimensions", server_default=None)
    replace_function(ADDED)


def downgrade() -> None:
    replace_function(backwards(ADDED))
    op.drop_column("ledgers", "dimensions")
    if _scalar(USED):
        for name in COMMENTS:
            op.alter_column("dimension_sets", name, server_default=sa.text("''"))
        return
    op.drop_index(INDEX, "dimension_sets")
    op.create_index(INDEX, "dimension_sets", VALUES, unique=True)
    for name in COMMENTS:
        op.drop_column("dimension_sets", name)


def _scalar(query: str) -> bool:
    return bool(op.get_bind().execute(sa.text(query)).scalar_one())
