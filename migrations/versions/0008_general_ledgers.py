"""Journals for general ledgers: their documents, stored with the files; a company's settings for each general ledger.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

POSTINGS = "the documents of a general ledger's format, in canonical JSON; else NULL"
SETTINGS = "in canonical JSON; an export keeps those it was made with"


def upgrade() -> None:
    op.add_column("journal_exports", sa.Column("postings", sa.Text(), nullable=True, comment=POSTINGS))
    op.add_column("journal_exports", sa.Column("postings_hash", sa.Text(), nullable=True))
    op.create_table(
        "export_targets",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False, comment=SETTINGS),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "target", name=op.f("pk_export_targets")),
        comment="What a company sets about each general ledger that journals go to.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON export_targets TO subledger_app")


def downgrade() -> None:
    op.drop_table("export_targets")
    op.drop_column("journal_exports", "postings_hash")
    op.drop_column("journal_exports", "postings")
