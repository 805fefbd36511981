"""The person behind each export; and erasures of a customer's attributes, with time and person.

Revision: 0022, after 0021
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import never_changed, reseal, seal

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

CREATED_BY = "who asked for it first; NULL where nobody was named"


def upgrade() -> None:
    # Seals leave NULLs out, so the seals of existing exports do not change.
    op.add_column("journal_exports", sa.Column("created_by", sa.Text(), nullable=True, comment=CREATED_BY))
    op.create_table(
        "erasures",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "customer", "erased_at", name=op.f("pk_erasures")),
        comment="That a customer's attributes were erased, when and by whom; never which they were.",
    )
    op.execute("GRANT SELECT, INSERT ON erasures TO subledger_app")
    seal("erasures")
    never_changed("erasures")


def downgrade() -> None:
    op.drop_table("erasures")
    op.execute("DELETE FROM tallies WHERE relation = 'erasures'")
    op.drop_column("journal_exports", "created_by")
    reseal("journal_exports")  # the seals of exports with a name include it
