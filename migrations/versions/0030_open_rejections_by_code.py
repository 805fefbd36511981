"""Open rejections by code: a few of each code can be read without reading older ones of other codes.

Revision: 0030, after 0029
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

KIND = """
CASE
    WHEN sent IS NULL THEN 'counted'::text
    WHEN code = 'insufficient_credits'::text AND strpos(problem, '"reasons":[{"reason":"used_up"'::text) > 0
        THEN 'used_up'::text
    ELSE 'other'::text
END"""
OPEN = (
    "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
    " AND COALESCE(settled_position, 0) <= position"
)
INDEX = "ix_rejected_events_open_by_code"


def upgrade() -> None:
    op.create_index(
        INDEX,
        "rejected_events",
        ["ledger", "code", sa.text(f"({KIND})"), "first_at", "rejection_id"],
        postgresql_where=sa.text(OPEN),
    )


def downgrade() -> None:
    op.drop_index(INDEX, "rejected_events")
