"""The whole accounting: documents of the ledger as a whole, and events that wait for a second person.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
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
ROLE = "subledger_app"
ASKED = "what needs a second person, in canonical JSON"
WHOSE = "whose key it is: maker or checker"
APPROVALS = "Events that wait for a second person, and how it was decided. Not part of the log."
DUE = "when its expiry is due; NULL: never, or disputed"


def upgrade() -> None:
    op.alter_column("documents", "customer", nullable=True, comment=OF_LEDGER)
    op.create_table_comment("documents", DOCUMENTS, existing_comment=DOCUMENTS_BEFORE)
    op.alter_column("blocks", "expires_at", comment=DUE)
    op.add_column("ledgers", sa.Column("approvals", sa.Text(), nullable=False, server_default="{}", comment=ASKED))
    op.alter_column("ledgers", "approvals", server_default=None)
    op.add_column("api_keys", sa.Column("name", sa.Text(), nullable=False, server_default="", comment=WHOSE))
    op.alter_column("api_keys", "name", server_default=None)
    op.create_table(
        "approvals",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text()),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text()),
        sa.Column("maker", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("checker", sa.Text()),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("note", sa.Text()),
        sa.CheckConstraint("state IN ('waiting', 'approved', 'refused')", name=op.f("ck_approvals_state")),
        sa.CheckConstraint("checker IS NULL OR checker <> maker", name=op.f("ck_approvals_two_persons")),
        sa.PrimaryKeyConstraint("ledger", "approval_id", name=op.f("pk_approvals")),
        comment=APPROVALS,
    )
    op.create_index("ux_approvals_event", "approvals", ["ledger", "source", "event_id"], unique=True)
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON approvals TO {ROLE}")


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_column("api_keys", "name")
    op.drop_column("ledgers", "approvals")
    op.alter_column("blocks", "expires_at", comment=None)
    op.create_table_comment("documents", DOCUMENTS_BEFORE, existing_comment=DOCUMENTS)
    op.execute("DELETE FROM documents WHERE customer IS NULL")
    op.alter_column("documents", "customer", nullable=False, comment=None)
