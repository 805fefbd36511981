"""A step of a delivery has the target's id as it was answered: steps are never changed, so a changed id is found.

Revision: 0041, after 0040
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

COMMENT = "the target's own id, if the step brought one"
# The last step of each delivery gets the id that the delivery has: which earlier step brought it is not recorded.
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
    """Changes rows that are never changed; the trigger ``sealed`` makes their seals anew."""
    op.execute("ALTER TABLE delivery_steps DISABLE TRIGGER append_only")
    op.execute(statement)
    op.execute("ALTER TABLE delivery_steps ENABLE ALWAYS TRIGGER append_only")
