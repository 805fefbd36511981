"""A step of a delivery stores the id that the target answered. Steps never change, so a later change of the delivery's
id is detected.

Revision: 0041, after 0040
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

COMMENT = "the target's own id, if the step brought one"
# The last step of each delivery gets the delivery's id, because the step that received the id is not recorded.
ANSWERED = """
UPDATE delivery_steps s SET erp_id = d.erp_id FROM deliveries d
WHERE d.ledger = s.ledger AND d.delivery_id = s.delivery_id AND d.steps = s.step AND d.erp_id IS NOT NULL
"""
FORGOTTEN = "UPDATE delivery_steps SET erp_id = NULL WHERE erp_id IS NOT NULL"


def upgrade() -> None:
    op.add_column("delivery_steps", sa.Column("erp_id", sa.Text(), nullable=True, comment=COMMENT))
    _past_the_guard(ANSWERED)


def downgrade() -> None:
    _past_the_guard(FORGOTTEN)
    op.drop_column("delivery_steps", "erp_id")


def _past_the_guard(statement: str) -> None:
    """Changes rows of an append-only table. The trigger ``sealed`` makes new seals for them."""
    op.execute("ALTER TABLE delivery_steps DISABLE TRIGGER append_only")
    op.execute(statement)
    op.execute("ALTER TABLE delivery_steps ENABLE ALWAYS TRIGGER append_only")
