"""Rejected events: every event that was refused, with its reason, until it is corrected, retried or dismissed.

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import only_forward, seal

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

SENT = "the event as it was sent, its first bytes where it was longer; NULL: counted together, not kept one by one"
POSITION = "of the ledger's last event when it was last refused"
COLUMNS = (
    "ledger", "rejection_id", "content_hash", "sent", "sent_bytes", "source", "event_id", "type", "customer",
    "occurred_at", "data_hash", "amount_minor", "currency", "credits", "unit", "sender", "way", "first_at", "code",
    "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
)  # fmt: skip
CHANGING = (
    "code", "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
)  # fmt: skip
# The last refusal changes only together with the number of attempts. A dismissal cannot be taken back.
FINAL = (
    "NEW.attempts < OLD.attempts OR NEW.last_at < OLD.last_at OR NEW.position < OLD.position"
    " OR NEW.attempts = OLD.attempts AND (OLD.code, OLD.problem, OLD.position, OLD.last_at)"
    " IS DISTINCT FROM (NEW.code, NEW.problem, NEW.position, NEW.last_at)"
    " OR OLD.dismissed_at IS NOT NULL AND (OLD.dismissed_at, OLD.dismissed_by, OLD.dismissed_reason)"
    " IS DISTINCT FROM (NEW.dismissed_at, NEW.dismissed_by, NEW.dismissed_reason)"
)


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "rejected_events",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("rejection_id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of all that was sent"),
        sa.Column("sent", sa.LargeBinary(), nullable=True, comment=SENT),
        sa.Column("sent_bytes", sa.BigInteger(), nullable=False, comment="length of all that was sent"),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("customer", sa.Text(), nullable=True),
        _moment("occurred_at", nullable=True),
        sa.Column("data_hash", sa.LargeBinary(), nullable=True, comment="SHA-256 of its data in canonical JSON"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("credits", sa.Numeric(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("way", sa.Text(), nullable=False, comment="http, file:NAME, stdin, retry …"),
        _moment("first_at"),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False, comment="why, as it was answered last: a problem document"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment=POSITION),
        _moment("last_at"),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="how often it was refused"),
        _moment("dismissed_at", nullable=True),
        sa.Column("dismissed_by", sa.Text(), nullable=True),
        sa.Column("dismissed_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "attempts >= 1 AND position >= 0 AND sent_bytes >= 0", name=op.f("ck_rejected_events_counts_up")
        ),
        sa.CheckConstraint("num_nonnulls(amount_minor, currency) <> 1", name=op.f("ck_rejected_events_money")),
        sa.CheckConstraint("num_nonnulls(credits, unit) <> 1", name=op.f("ck_rejected_events_credits")),
        sa.CheckConstraint(
            "num_nonnulls(dismissed_at, dismissed_by, dismissed_reason) IN (0, 3)",
            name=op.f("ck_rejected_events_dismissal"),
        ),
        sa.PrimaryKeyConstraint("ledger", "rejection_id", name=op.f("pk_rejected_events")),
        comment="Events that were refused, whoever sent them and however. Kept beside the log, never changed but for "
        "how often and why they were refused last, and their dismissal.",
    )
    op.create_index(op.f("ix_rejected_events_first_at"), "rejected_events", ["ledger", "first_at", "rejection_id"])
    op.create_index(
        "ix_rejected_events_not_dismissed",
        "rejected_events",
        ["ledger", "first_at"],
        postgresql_where=sa.text("dismissed_at IS NULL"),
    )
    seal("rejected_events")
    only_forward("rejected_events", CHANGING, COLUMNS, FINAL)
    op.execute("GRANT SELECT, INSERT ON rejected_events TO subledger_app")
    op.execute(f"GRANT UPDATE ({', '.join(CHANGING)}) ON rejected_events TO subledger_app")


def downgrade() -> None:
    op.drop_table("rejected_events")
