"""Attributes of customers, and the attributes that each journal used.

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CUSTOMERS_HASH = "of its journal_customers; NULL where it went by no customer"


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
    op.create_table(
        "journal_customers",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column(
            "attributes", postgresql.JSONB(), nullable=False, comment="those that its mapping goes by, as they were"
        ),
        sa.PrimaryKeyConstraint("ledger", "period", "number", "customer", name=op.f("pk_journal_customers")),
        comment="What a journal went by of its customers. Never changed: part of what was handed over.",
    )
    op.add_column("journals", sa.Column("customers_hash", sa.Text(), nullable=True, comment=CUSTOMERS_HASH))
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON customer_attributes TO subledger_app")
    op.execute("GRANT SELECT, INSERT ON journal_customers TO subledger_app")


def downgrade() -> None:
    op.drop_column("journals", "customers_hash")
    op.drop_table("journal_customers")
    op.drop_table("customer_attributes")
