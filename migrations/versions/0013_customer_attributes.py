"""What a company says of its customers; and what of it each journal went by.

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customer_attributes",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("attributes", postgresql.JSONB(), nullable=False, comment="texts by name; an empty one is none"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "customer", name=op.f("pk_customer_attributes")),
        comment="What a company says of its customers, for its journals. Not part of the log; can be erased.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON customer_attributes TO subledger_app")


def downgrade() -> None:
    op.drop_table("customer_attributes")
