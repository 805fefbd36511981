"""The whole accounting: documents of the ledger as a whole.

Revision: 0002, after 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DOCUMENTS_BEFORE = "What later events refer to: finished overages, corrections of usage. Rebuildable."
DOCUMENTS = (
    "What later events refer to: finished overages, corrections, payments, invoices, disputes; exchange rates, "
    "breakage pools, money held in other currencies. Rebuildable."
)
OF_LEDGER = "NULL for what belongs to the ledger as a whole"
DUE = "when its expiry is due; NULL: never, or disputed"


def upgrade() -> None:
    op.alter_column("documents", "customer", nullable=True, comment=OF_LEDGER)
    op.create_table_comment("documents", DOCUMENTS, existing_comment=DOCUMENTS_BEFORE)
    op.alter_column("blocks", "expires_at", comment=DUE)


def downgrade() -> None:
    op.alter_column("blocks", "expires_at", comment=None)
    op.create_table_comment("documents", DOCUMENTS_BEFORE, existing_comment=DOCUMENTS)
    op.execute("DELETE FROM documents WHERE customer IS NULL")
    op.alter_column("documents", "customer", nullable=False, comment=None)
