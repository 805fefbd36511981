"""A dismissed rejection that is refused again is open again, and can be dismissed again.

Revision: 0024, after 0023
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import only_forward, unguard

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

COLUMNS = (
    "ledger", "rejection_id", "content_hash", "sent", "sent_bytes", "source", "event_id", "type", "customer",
    "occurred_at", "data_hash", "amount_minor", "currency", "credits", "unit", "sender", "way", "first_at", "code",
    "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
)  # fmt: skip
CHANGING = (
    "code", "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
)  # fmt: skip
BEFORE = (
    "NEW.attempts < OLD.attempts OR NEW.last_at < OLD.last_at OR NEW.position < OLD.position"
    " OR NEW.attempts = OLD.attempts AND (OLD.code, OLD.problem, OLD.position, OLD.last_at)"
    " IS DISTINCT FROM (NEW.code, NEW.problem, NEW.position, NEW.last_at)"
    " OR OLD.dismissed_at IS NOT NULL AND (OLD.dismissed_at, OLD.dismissed_by, OLD.dismissed_reason)"
    " IS DISTINCT FROM (NEW.dismissed_at, NEW.dismissed_by, NEW.dismissed_reason)"
)
# A dismissal can be replaced by a later one if the event was refused after it.
FINAL = f"{BEFORE} AND NOT (OLD.last_at > OLD.dismissed_at AND coalesce(NEW.dismissed_at >= OLD.last_at, false))"
INDEX = "ix_rejected_events_not_dismissed"


def upgrade() -> None:
    unguard("rejected_events", "only_forward", "never_deleted", "never_truncated")
    only_forward("rejected_events", CHANGING, COLUMNS, FINAL)
    op.drop_index(INDEX, "rejected_events")
    op.create_index(
        INDEX,
        "rejected_events",
        ["ledger", "first_at"],
        postgresql_where=sa.text("dismissed_at IS NULL OR last_at > dismissed_at"),
    )


def downgrade() -> None:
    unguard("rejected_events", "only_forward", "never_deleted", "never_truncated")
    only_forward("rejected_events", CHANGING, COLUMNS, BEFORE)
    op.drop_index(INDEX, "rejected_events")
    op.create_index(INDEX, "rejected_events", ["ledger", "first_at"], postgresql_where=sa.text("dismissed_at IS NULL"))
