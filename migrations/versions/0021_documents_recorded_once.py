"""Documents are found by their ids in the log. So a payout or a refund is recorded once, under any event id.

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

DOCUMENT_ID = """
CASE type
    WHEN 'payment.received'::text THEN data::jsonb ->> 'payment_id'::text
    WHEN 'dispute.opened'::text THEN data::jsonb ->> 'dispute_id'::text
    WHEN 'overage.billed'::text THEN data::jsonb ->> 'invoice_id'::text
    WHEN 'payout.settled'::text THEN data::jsonb ->> 'payout_id'::text
    WHEN 'payment.refunded'::text THEN data::jsonb ->> 'refund_id'::text
    ELSE NULL::text
END"""
DOCUMENT_TYPES = (
    "type IN ('payment.received', 'dispute.opened', 'overage.billed', 'payout.settled', 'payment.refunded')"
)


def upgrade() -> None:
    op.create_index(
        "ix_events_document",
        "events",
        ["ledger", "type", sa.text(f"({DOCUMENT_ID})")],
        postgresql_where=sa.text(DOCUMENT_TYPES),
    )


def downgrade() -> None:
    op.drop_index("ix_events_document", "events")
