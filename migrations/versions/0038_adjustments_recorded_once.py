"""An adjustment of a processor's balance is found by its id, as other documents are, and recorded once.

Revision: 0038, after 0037
"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

INDEX = "ix_events_document"
BEFORE = {
    "payment.received": "payment_id",
    "dispute.opened": "dispute_id",
    "overage.billed": "invoice_id",
    "payout.settled": "payout_id",
    "payment.refunded": "refund_id",
}
AFTER = {**BEFORE, "processor.adjusted": "adjustment_id"}


def _index(documents: dict[str, str]) -> None:
    op.drop_index(INDEX, "events")
    cases = "\n".join(
        f"    WHEN '{type}'::text THEN data::jsonb ->> '{field}'::text" for type, field in documents.items()
    )
    types = ", ".join(f"'{type}'" for type in documents)
    expression = f"CASE type\n{cases}\n    ELSE NULL::text\nEND"
    op.create_index(
        INDEX, "events", ["ledger", "type", sa.text(f"({expression})")], postgresql_where=sa.text(f"type IN ({types})")
    )


def upgrade() -> None:
    _index(AFTER)


def downgrade() -> None:
    _index(BEFORE)
