"""Texts of rejections that did not fit within the limits are added when the event is refused again.

Revision: 0032, after 0031
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import differ, only_forward, unguard

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

CHANGING = (
    "code", "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
    "reopened_at", "settled_position",
)  # fmt: skip
ADDED = ("sent", "sent_bytes", "text_at")
COLUMNS = (
    "ledger", "rejection_id", "content_hash", "sent", "sent_bytes", "source", "event_id", "type", "customer",
    "occurred_at", "data_hash", "amount_minor", "currency", "credits", "unit", "sender", "way", "first_at", *CHANGING,
)  # fmt: skip
BEFORE = (
    "NEW.attempts < OLD.attempts OR NEW.last_at < OLD.last_at OR NEW.position < OLD.position"
    f" OR NEW.attempts = OLD.attempts AND ({differ(('code', 'problem', 'position', 'last_at'))})"
    f" OR OLD.dismissed_at IS NOT NULL AND ({differ(('dismissed_at', 'dismissed_by', 'dismissed_reason'))})"
    " AND NOT (greatest(OLD.last_at, OLD.reopened_at) > OLD.dismissed_at"
    " AND coalesce(NEW.dismissed_at >= greatest(OLD.last_at, OLD.reopened_at), false))"
    " OR OLD.reopened_at IS NOT NULL AND coalesce(NEW.reopened_at < OLD.reopened_at, true)"
    " OR NEW.reopened_at IS DISTINCT FROM OLD.reopened_at AND coalesce(NEW.reopened_at <= OLD.dismissed_at, true)"
    " OR OLD.settled_position IS NOT NULL AND coalesce(NEW.settled_position < OLD.settled_position, true)"
)
# An incomplete text may be replaced only by a longer one or by the complete text.
FINAL = (
    f"{BEFORE} OR ({differ(ADDED)})"
    " AND NOT coalesce(NEW.text_at = NEW.last_at"
    " AND octet_length(OLD.sent) < OLD.sent_bytes AND octet_length(NEW.sent) <= NEW.sent_bytes"
    " AND (octet_length(NEW.sent) > octet_length(OLD.sent) OR octet_length(NEW.sent) = NEW.sent_bytes), false)"
)
INDEX = "ix_rejected_events_text_at"
GUARDS = ("only_forward", "never_deleted", "never_truncated")
TEXT_AT = "when the text was added that there was no room for before; NULL: it is as it was refused first"


def upgrade() -> None:
    op.add_column("rejected_events", sa.Column("text_at", sa.DateTime(timezone=True), nullable=True, comment=TEXT_AT))
    unguard("rejected_events", *GUARDS)
    only_forward("rejected_events", (*CHANGING, *ADDED), (*COLUMNS, "text_at"), FINAL)
    op.execute(f"GRANT UPDATE ({', '.join(ADDED)}) ON rejected_events TO subledger_app")
    op.create_index(INDEX, "rejected_events", ["ledger", "text_at"], postgresql_where=sa.text("text_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_index(INDEX, "rejected_events")
    unguard("rejected_events", *GUARDS)
    # This also makes the seals without it.
    op.execute("UPDATE rejected_events SET text_at = NULL WHERE text_at IS NOT NULL")
    op.drop_column("rejected_events", "text_at")
    op.execute("REVOKE UPDATE (sent, sent_bytes) ON rejected_events FROM subledger_app")
    only_forward("rejected_events", CHANGING, COLUMNS, BEFORE)
