"""Tables beside the books: approvals, rejected events, keys, checkpoints, monitors, verifications.

Owns: the declarations, and the kind of a rejection. Does not own: the rows (``rejected``, ``writing/approvals.py``,
``api/access.py``, projections).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    text,
)

from subledger.store.tables.metadata import ledger_column, metadata, moment_column, seal_column

EVERY_LEDGER: Final = "*"
"""The value in place of a ledger's name in a key for every ledger."""

# The condition searches in the text, because parsing it as JSON could fail. Quotes inside a JSON string are escaped, so
# they cannot match. Usage that is refused because all credits are used up has no other reason (shortfalls).
REJECTION_KIND: Final = (
    "\nCASE\n    WHEN sent IS NULL THEN 'counted'::text\n    WHEN code = 'insufficient_credits'::text"
    """ AND strpos(problem, '"reasons":[{"reason":"used_up"'::text) > 0 THEN 'used_up'::text"""
    "\n    ELSE 'other'::text\nEND"
)
"""The kind of a rejection, in the form in which PostgreSQL writes the expression. The kinds are: a row that only counts
others; usage for which all credits are used up; any other.
"""

approvals = Table(
    "approvals",
    metadata,
    ledger_column(),
    Column("approval_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("customer", Text),
    moment_column("occurred_at"),
    Column("data", Text, nullable=False),
    Column("attributes", Text),
    Column("maker", Text, nullable=False),
    moment_column("requested_at"),
    Column("state", Text, nullable=False),
    Column("checker", Text),
    moment_column("decided_at", nullable=True),
    Column("note", Text),
    Column("effect", Text, comment="the effect of the event when it was requested, as JSON"),
    seal_column(),
    CheckConstraint("state IN ('waiting', 'approved', 'refused', 'recorded')", name="state"),
    CheckConstraint("checker IS NULL OR checker <> maker", name="two_persons"),
    Index("ux_approvals_event", "ledger", "source", "event_id", unique=True),
    Index("ix_approvals_waiting", "ledger", postgresql_where=text("state = 'waiting'")),
    Index("ix_approvals_requested_at", "ledger", "requested_at", "approval_id"),
    comment="Events that wait for a second person, and how it was decided. Not part of the log.",
)

rejected_events = Table(
    "rejected_events",
    metadata,
    ledger_column(),
    Column("rejection_id", Text, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False, comment="SHA-256 of all that was sent"),
    Column(
        "sent",
        LargeBinary,
        comment="the event as it was sent, its first bytes where it was longer; NULL: counted together, not kept one "
        "by one",
    ),
    Column("sent_bytes", BigInteger, nullable=False, comment="length of all that was sent"),
    Column("source", Text),
    Column("event_id", Text),
    Column("type", Text),
    Column("customer", Text),
    moment_column("occurred_at", nullable=True),
    Column("data_hash", LargeBinary, comment="SHA-256 of its data in canonical JSON"),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("credits", Numeric),
    Column("unit", Text),
    Column("sender", Text, nullable=False),
    Column("way", Text, nullable=False, comment="http, file:NAME, stdin, retry …"),
    moment_column("first_at"),
    Column("code", Text, nullable=False),
    Column("problem", Text, nullable=False, comment="why, as it was answered last: a problem document"),
    Column("position", BigInteger, nullable=False, comment="of the ledger's last event when it was last refused"),
    moment_column("last_at"),
    Column("attempts", BigInteger, nullable=False, comment="how often it was refused"),
    moment_column("dismissed_at", nullable=True),
    Column("dismissed_by", Text),
    Column("dismissed_reason", Text),
    seal_column(),
    moment_column("reopened_at", nullable=True),
    Column(
        "settled_position",
        BigInteger,
        comment="of the event of its key that was found recorded after it; a note, so that it need not be looked for "
        "again",
    ),
    Column(
        "text_at",
        DateTime(timezone=True),
        comment="when the text was added that there was no room for before; NULL: it is as it was refused first",
    ),
    CheckConstraint("attempts >= 1 AND position >= 0 AND sent_bytes >= 0", name="counts_up"),
    CheckConstraint("num_nonnulls(amount_minor, currency) <> 1", name="money"),
    CheckConstraint("num_nonnulls(credits, unit) <> 1", name="credits"),
    CheckConstraint("num_nonnulls(dismissed_at, dismissed_by, dismissed_reason) IN (0, 3)", name="dismissal"),
    Index("ix_rejected_events_first_at", "ledger", "first_at", "rejection_id"),
    Index(
        "ix_rejected_events_open",
        "ledger",
        "first_at",
        "rejection_id",
        postgresql_where=text(
            "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
            " AND COALESCE(settled_position, 0) <= position"
        ),
    ),
    Index(
        "ix_rejected_events_open_by_code",
        "ledger",
        "code",
        text(f"({REJECTION_KIND})"),
        "first_at",
        "rejection_id",
        postgresql_where=text(
            "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
            " AND COALESCE(settled_position, 0) <= position"
        ),
    ),
    Index("ix_rejected_events_text_at", "ledger", "text_at", postgresql_where=text("text_at IS NOT NULL")),
    comment="Events that were refused, whoever sent them and however. Kept beside the log, never changed but for "
    "how often and why they were refused last, and their dismissal.",
)

rejection_steps = Table(
    "rejection_steps",
    metadata,
    ledger_column(),
    Column("rejection_id", Text, primary_key=True),
    Column("done_at", DateTime(timezone=True), primary_key=True),
    Column("action", Text, nullable=False),
    Column("done_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    seal_column(),
    CheckConstraint("action IN ('dismissed', 'reopened')", name="action"),
    comment="Dismissals of rejected events, and those that were taken back: when, by whom and why. Never changed.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_hash", LargeBinary, primary_key=True, comment="SHA-256 of the key; the key itself is kept nowhere"),
    Column("ledger", Text, nullable=False, comment="* for every ledger"),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False, comment="whose key it is: maker or checker"),
    moment_column("created_at"),
    seal_column(),
    Column(
        "key_id", Text, nullable=False, comment="public: names the key in lists and commands; says nothing of the key"
    ),
    Column("created_by", Text),
    Column("replaces", Text, comment="the key that it was rotated from"),
    moment_column("expires_at", nullable=True),
    Column("revoked_at", DateTime(timezone=True), comment="later than now: in a grace period"),
    Column("revoked_by", Text),
    Column("last_used_at", DateTime(timezone=True), comment="to about a minute"),
    CheckConstraint("role IN ('reader', 'writer', 'controller', 'admin')", name="role"),
    CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked"),
    Index("ux_api_keys_key_id", "key_id", unique=True),
    comment="Who may call the HTTP API.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    ledger_column(),
    Column("size", BigInteger, primary_key=True, autoincrement=False, comment="how many events it is over"),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False, comment="as it was signed and handed out"),
    moment_column("signed_at"),
    seal_column(),
    Column("public_key", LargeBinary, comment="verifies the note; NULL: signed before keys were kept here"),
    comment="Tree heads that were signed, one a size. Never changed.",
)

tallies = Table(
    "tallies",
    metadata,
    ledger_column(),
    Column("relation", Text, primary_key=True, comment="the table whose rows are counted"),
    Column("rows", BigInteger, nullable=False),
    comment="How many rows a ledger has in tables that none is deleted from, counted as they are added.",
)

monitor_settings = Table(
    "monitor_settings",
    metadata,
    ledger_column(),
    Column("settings", Text, nullable=False, comment="in canonical JSON; the webhook's secret is named, never written"),
    moment_column("changed_at"),
    Column("changed_by", Text, nullable=False),
    seal_column(),
    comment="The thresholds of a ledger's monitors, and who is told.",
)

monitor_states = Table(
    "monitor_states",
    metadata,
    ledger_column(),
    moment_column("looked_at", nullable=True),
    Column("ringing", Text, nullable=False, comment="monitor to the moment since when, in JSON, as told"),
    seal_column(),
    comment="What was last told of a ledger's monitors. Locking it is the right to tell.",
)

monitor_notices = Table(
    "monitor_notices",
    metadata,
    ledger_column(),
    Column("notice_id", Text, primary_key=True),
    moment_column("made_at"),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    moment_column("due_at", nullable=True),
    moment_column("sent_at", nullable=True),
    Column("failure", Text, comment="why the last attempt came to nothing"),
    seal_column(),
    Index("ix_monitor_notices_waiting", "ledger", "made_at", postgresql_where=text("due_at IS NOT NULL")),
    comment="Notices that monitors began or ceased to ring, on their way to the webhook.",
)

cleared_blocks = Table(
    "cleared_blocks",
    metadata,
    ledger_column(),
    Column("position", BigInteger, nullable=False, comment="through which finished blocks were looked at"),
    Column("uncleared", Text, nullable=False, comment="those that were not at zero then, in JSON"),
    seal_column(),
    comment="How far finished blocks were found at zero. A cache: its presence affects cost, never meaning.",
)

verifications = Table(
    "verifications",
    metadata,
    ledger_column(),
    moment_column("verified_at"),
    Column("position", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False, comment="events through this were not read again"),
    Column("differences", Integer, nullable=False),
    moment_column("clean_at", nullable=True),
    seal_column(),
    comment="What the last verification of a ledger found, and when one was last clean.",
)
