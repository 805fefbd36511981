"""A history of dismissals, which can be taken back; and a note of rejections whose events were recorded since.

Revision: 0029, after 0028
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import differ, never_changed, only_forward, seal, unguard

revision = "0029"
down_revision = "0028"
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
ADDED = ("reopened_at", "settled_position")
FORWARD = (
    "NEW.attempts < OLD.attempts OR NEW.last_at < OLD.last_at OR NEW.position < OLD.position"
    f" OR NEW.attempts = OLD.attempts AND ({differ(('code', 'problem', 'position', 'last_at'))})"
    f" OR OLD.dismissed_at IS NOT NULL AND ({differ(('dismissed_at', 'dismissed_by', 'dismissed_reason'))})"
)
BEFORE = f"{FORWARD} AND NOT (OLD.last_at > OLD.dismissed_at AND coalesce(NEW.dismissed_at >= OLD.last_at, false))"
# A dismissal can be replaced by a later one if the event was refused after it, or reopened.
FINAL = (
    f"{FORWARD} AND NOT (greatest(OLD.last_at, OLD.reopened_at) > OLD.dismissed_at"
    " AND coalesce(NEW.dismissed_at >= greatest(OLD.last_at, OLD.reopened_at), false))"
    " OR OLD.reopened_at IS NOT NULL AND coalesce(NEW.reopened_at < OLD.reopened_at, true)"
    " OR NEW.reopened_at IS DISTINCT FROM OLD.reopened_at AND coalesce(NEW.reopened_at <= OLD.dismissed_at, true)"
    " OR OLD.settled_position IS NOT NULL AND coalesce(NEW.settled_position < OLD.settled_position, true)"
)
BEFORE_INDEX = "ix_rejected_events_not_dismissed"
INDEX = "ix_rejected_events_open"
OPEN = (
    "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
    " AND COALESCE(settled_position, 0) <= position"
)
GUARDS = ("only_forward", "never_deleted", "never_truncated")
SETTLED = "of the event of its key that was found recorded after it; a note, so that it need not be looked for again"


def upgrade() -> None:
    op.add_column("rejected_events", sa.Column("reopened_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("rejected_events", sa.Column("settled_position", sa.BigInteger(), nullable=True, comment=SETTLED))
    unguard("rejected_events", *GUARDS)
    only_forward("rejected_events", (*CHANGING, *ADDED), (*COLUMNS, *ADDED), FINAL)
    op.execute(f"GRANT UPDATE ({', '.join(ADDED)}) ON rejected_events TO subledger_app")
    op.drop_index(BEFORE_INDEX, "rejected_events")
    op.create_index(INDEX, "rejected_events", ["ledger", "first_at", "rejection_id"], postgresql_where=sa.text(OPEN))
    op.create_table(
        "rejection_steps",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("rejection_id", sa.Text(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("done_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("action IN ('dismissed', 'reopened')", name=op.f("ck_rejection_steps_action")),
        sa.PrimaryKeyConstraint("ledger", "rejection_id", "done_at", name=op.f("pk_rejection_steps")),
        comment="Dismissals of rejected events, and those that were taken back: when, by whom and why. Never changed.",
    )
    # If a rejection was dismissed twice before this migration, only the last dismissal is known.
    op.execute(
        "INSERT INTO rejection_steps (ledger, rejection_id, done_at, action, done_by, reason)"
        " SELECT ledger, rejection_id, dismissed_at, 'dismissed', dismissed_by, dismissed_reason"
        " FROM rejected_events WHERE dismissed_at IS NOT NULL"
    )
    op.execute(
        "INSERT INTO tallies (ledger, relation, rows)"
        " SELECT ledger, 'rejection_steps', count(*) FROM rejection_steps GROUP BY ledger"
    )
    seal("rejection_steps")
    never_changed("rejection_steps")
    op.execute("GRANT SELECT, INSERT ON rejection_steps TO subledger_app")


def downgrade() -> None:
    op.drop_table("rejection_steps")
    op.execute("DELETE FROM tallies WHERE relation = 'rejection_steps'")
    op.drop_index(INDEX, "rejected_events")
    unguard("rejected_events", *GUARDS)
    for column in ADDED:
        op.drop_column("rejected_events", column)
    # Without these columns a row has another seal. No trigger refuses this change now.
    op.execute("UPDATE rejected_events SET seal = ''")
    only_forward("rejected_events", CHANGING, COLUMNS, BEFORE)
    op.create_index(
        BEFORE_INDEX,
        "rejected_events",
        ["ledger", "first_at"],
        postgresql_where=sa.text("dismissed_at IS NULL OR last_at > dismissed_at"),
    )
