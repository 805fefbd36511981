"""Every table, in one place. The migrations build them; a test compares the two.

Every key begins with the ledger and nothing but reports crosses ledgers, so that ledgers can be spread over servers.
Texts, not surrogate keys, name customers, blocks and events: they are the billing system's own ids.

    the log, append-only     batches, events, entries
    the writer's memory      ledgers (the lock), wallets, blocks, documents, dimension_sets, merkle_nodes
    settings, from the log   posting_policies, posting_rules, account_mappings
    totals                   ledger_days, other_currencies, snapshots
    handed over              journals, journal_customers, journal_exports, export_targets
    on the way               delivery_channels, credential_grants, deliveries, delivery_steps
    watched                  monitor_settings, monitor_states, monitor_notices, cleared_blocks, verifications
    counted, signed          tallies, checkpoints
    access                   api_keys
    waiting                  approvals
    refused                  rejected_events, rejection_steps
    of customers, erasable   customer_attributes, erasures

A table outside the log that nothing else proves has a ``seal``: a hash of the row, by a trigger (migrations/sealing).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

APP_ROLE = "subledger_app"
APPEND_ONLY = ("batches", "events", "entries")
HANDED_OVER: Final = (
    "journals", "journal_exports", "journal_customers", "delivery_steps", "checkpoints", "erasures", "rejection_steps",
)  # fmt: skip
"""Outside the log, and never changed either."""
ONLY_FORWARD: Final = {
    "deliveries": (
        "state", "attempts", "looks", "steps", "due_at", "claim", "claimed_until", "erp_id", "reason", "payload",
        "payload_hash", "submitted_at", "changed_at",
    ),
    "approvals": ("state", "checker", "decided_at", "note"),
    "rejected_events": (
        "code", "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
        "reopened_at", "settled_position", "sent", "sent_bytes", "text_at",
    ),
    "api_keys": ("revoked_at", "revoked_by", "last_used_at"),
    "credential_grants": ("revoked_at", "revoked_by"),
}  # fmt: skip
"""Tables whose rows are never deleted, with the columns that may change."""
NEVER_TRUNCATED: Final = (*APPEND_ONLY, *HANDED_OVER, *ONLY_FORWARD)
COUNTED: Final = (
    "api_keys", "approvals", "checkpoints", "credential_grants", "deliveries", "erasures", "journal_exports",
    "journals", "rejected_events", "rejection_steps",
)  # fmt: skip
"""Tables whose rows are counted as they are added, so that a missing one is detected: see ``tallies``."""
EVERY_LEDGER: Final = "*"
"""In the place of a ledger's name: a key for every ledger."""
FROZEN_AT_ONCE = {"autovacuum_freeze_min_age": 0}
"""For tables that are only added to: vacuum need not come back to a page once it is old (subledger/SIZING.md)."""

# A search in the text: unlike a reading of it as JSON, it fails on no text. Quotes inside of a string are escaped
# there, and usage that is used up has no other reason (shortfalls).
REJECTION_KIND: Final = (
    "\nCASE\n    WHEN sent IS NULL THEN 'counted'::text\n    WHEN code = 'insufficient_credits'::text"
    """ AND strpos(problem, '"reasons":[{"reason":"used_up"'::text) > 0 THEN 'used_up'::text"""
    "\n    ELSE 'other'::text\nEND"
)
"""The kind of a rejection beside its code, as PostgreSQL writes the expression: it only counts others; usage for which
all credits are used up; any other."""

WRITTEN: Final = "(e.amount_minor > 0 OR e.amount_minor = 0 AND e.functional_minor > 0)"
MIRRORED: Final = "(e.amount_minor < 0 OR e.amount_minor = 0 AND e.functional_minor < 0)"
"""Conditions on entries ``e``: that one is written as it is, or with its sides swapped (``journal.is_mirrored``)."""

DOCUMENT_ID = """
CASE type
    WHEN 'payment.received'::text THEN data::jsonb ->> 'payment_id'::text
    WHEN 'dispute.opened'::text THEN data::jsonb ->> 'dispute_id'::text
    WHEN 'overage.billed'::text THEN data::jsonb ->> 'invoice_id'::text
    WHEN 'payout.settled'::text THEN data::jsonb ->> 'payout_id'::text
    WHEN 'payment.refunded'::text THEN data::jsonb ->> 'refund_id'::text
    ELSE NULL::text
END"""
"""The id of the document that an event records, as PostgreSQL writes the expression: a test compares the two."""
DOCUMENT_TYPES = (
    "type IN ('payment.received', 'dispute.opened', 'overage.billed', 'payout.settled', 'payment.refunded')"
)

GIVING: Final = "type IN ('block.repriced', 'credits.granted', 'credits.purchased')"
"""The events that can give credits away (``approvals.GIVING_TYPES``): the condition of an index, in the words of the
statement that reads it. Usage is in no index but those of its key and its position."""

LAPSED: Final = """NOT is_open AND expires_at IS NOT NULL AND state LIKE '%"expired":true%'"""
"""The blocks that expired and have left their wallet: the condition of an index, and of the statement that reads it."""


def _ledger() -> Column[str]:
    return Column("ledger", Text, primary_key=True)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _seal() -> Column[bytes]:
    """Columns that a table's seal leaves out, as a hash beside them covers them, are in its ``info``: UNSEALED."""
    return Column("seal", LargeBinary, nullable=False, comment="SHA-256 of the row, by the trigger sealed")


UNSEALED: Final = "unsealed"


def sealed_tables() -> dict[str, tuple[str, ...]]:
    """Every table whose rows are sealed, with the columns that the seal leaves out."""
    return {
        name: tuple(table.info.get(UNSEALED, ())) for name, table in metadata.tables.items() if "seal" in table.columns
    }


ledgers = Table(
    "ledgers",
    metadata,
    _ledger(),
    Column("entity", Text, nullable=False),
    Column("functional_currency", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("on_shortfall", Text, nullable=False),
    Column("late_usage", Text, nullable=False),
    Column("policy", SmallInteger, nullable=False),
    Column("mapping", Integer, nullable=False),
    Column("closed_through", Date),
    Column("approvals", Text, nullable=False, comment="what needs a second person, in canonical JSON"),
    Column("future_tolerance", Text, nullable=False, comment="how far ahead of now events may lie, such as 1d"),
    Column("sandbox", Boolean, nullable=False, comment="has a clock of its own, and delivers nothing"),
    Column("clock", DateTime(timezone=True), comment="the now of a sandbox; NULL: that of the database"),
    Column("open_cut", Integer, nullable=False),
    Column("position", BigInteger, nullable=False, comment="of the last event; 0 before the first"),
    _moment("recorded_at", nullable=True),
    Column("batch_hash", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False, comment="complete subtrees of the Merkle tree, largest first"),
    _moment("answered_through", nullable=True),
    Column("rebuilds", Integer, nullable=False, comment="how often its derived rows were replaced"),
    Column("wallets_through", BigInteger, nullable=False, comment="every wallet's row knows all events through this"),
    CheckConstraint("position >= 0 AND open_cut >= 1", name="counts_up"),
    CheckConstraint("wallets_through BETWEEN 0 AND position", name="wallets_through"),
    CheckConstraint("on_shortfall IN ('reject', 'overage', 'backfill')", name="shortfall"),
    comment="One row per ledger: its head and its settings. Locking it is the right to write.",
)

batches = Table(
    "batches",
    metadata,
    _ledger(),
    Column("last_position", BigInteger, primary_key=True, autoincrement=False),
    Column("first_position", BigInteger, nullable=False),
    _moment("recorded_at"),
    Column("root", LargeBinary, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("first_position BETWEEN 1 AND last_position", name="in_order"),
    Index("ux_batches_recorded_at", "ledger", "recorded_at", unique=True),
    comment="One row per commit: the hash chain.",
    postgresql_with=FROZEN_AT_ONCE,
)

events = Table(
    "events",
    metadata,
    _ledger(),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("customer", Text),
    _moment("occurred_at"),
    Column("data", Text, nullable=False, comment="as received, in canonical JSON"),
    Column("attributes", Text, comment="other CloudEvents attributes as received, in canonical JSON"),
    Column(
        "decision",
        Text,
        comment="what was decided, in canonical JSON; never recomputed. NULL where its entries say all of it: see the "
        "view recorded_events",
    ),
    Column("leaf", LargeBinary, nullable=False),
    Index("ux_events_key", "ledger", "source", "event_id", unique=True),
    Index("ix_events_type", "ledger", "type", "position", postgresql_where=text("type <> 'credits.consumed'")),
    Index("ix_events_giving", "ledger", "customer", "position", postgresql_where=text(GIVING)),
    Index("ix_events_document", "ledger", "type", text(f"({DOCUMENT_ID})"), postgresql_where=text(DOCUMENT_TYPES)),
    comment="The log. Append-only.",
    postgresql_with=FROZEN_AT_ONCE,
)

entries = Table(
    "entries",
    metadata,
    _ledger(),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("policy", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("customer", Text),
    Column("block_id", Text),
    Column("unit", Text),
    Column("credits", Numeric, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("functional_minor", BigInteger, nullable=False),
    Column("accounting_date", Date, nullable=False),
    Column("effective_date", Date, nullable=False),
    Column("cut", Integer, nullable=False),
    Column("dimension_set", Integer, nullable=False),
    CheckConstraint("accounting_date >= effective_date", name="dates"),
    CheckConstraint("credits = 0 OR unit IS NOT NULL", name="unit"),
    Index("ix_entries_customer", "ledger", "customer", "position"),
    comment="Journal entries: a kind and an amount. Append-only; part of the log.",
    postgresql_with=FROZEN_AT_ONCE,
)  # fmt: skip

dimension_sets = Table(
    "dimension_sets",
    metadata,
    _ledger(),
    Column("dimension_set", Integer, primary_key=True, autoincrement=False),
    Column("product", Text, nullable=False),
    Column("credit_kind", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("processor", Text, nullable=False),
    Index("ux_dimension_sets_values", "ledger", "product", "credit_kind", "pool", "processor", unique=True),
    comment="The combinations of dimensions that entries carry, numbered in the order of their first use.",
)

posting_policies = Table(
    "posting_policies",
    metadata,
    _ledger(),
    Column("policy", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    comment="The policies a ledger has adopted, numbered in order.",
)

posting_rules = Table(
    "posting_rules",
    metadata,
    _ledger(),
    Column("policy", SmallInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("pair", SmallInteger, primary_key=True, autoincrement=False),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    comment="The account pairs of every entry kind under every adopted policy.",
)

account_mappings = Table(
    "account_mappings",
    metadata,
    _ledger(),
    Column("mapping", Integer, primary_key=True, autoincrement=False),
    Column("content_hash", Text, nullable=False),
    Column("rows", Text, nullable=False, comment="the mapping's rows, in canonical JSON"),
    Column("position", BigInteger, nullable=False),
    Column("valid_from", Text, comment="the first month that it holds for; NULL: any"),
    comment="The account mappings a ledger has adopted, numbered in order.",
)

wallets = Table(
    "wallets",
    metadata,
    _ledger(),
    Column("customer", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, comment="of the last event it includes"),
    Column("state", Text, nullable=False),
    comment="One row per customer: open blocks and overages. Rebuildable.",
)

blocks = Table(
    "blocks",
    metadata,
    _ledger(),
    Column("block_id", Text, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("invoice_id", Text),
    Column("opened_at_position", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), comment="when its expiry is due; NULL: never, or disputed"),
    Column("is_open", Boolean, nullable=False),
    Column("state", Text, comment="of a finished block; NULL while it is open, for then its wallet has it"),
    Index("ix_blocks_customer", "ledger", "customer", "block_id"),
    Index("ix_blocks_due", "ledger", "expires_at", postgresql_where=text("is_open AND expires_at IS NOT NULL")),
    Index("ix_blocks_invoice", "ledger", "invoice_id", postgresql_where=text("invoice_id IS NOT NULL")),
    Index(
        "ix_blocks_lapsed",
        "ledger",
        "customer",
        text("expires_at DESC"),
        "block_id",
        postgresql_where=text(LAPSED.replace(":", r"\:")),
    ),
    comment="One row per credit block: to find it by. Rebuildable.",
)

documents = Table(
    "documents",
    metadata,
    _ledger(),
    Column("kind", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("customer", Text, comment="NULL for what belongs to the ledger as a whole"),
    Column("state", Text, nullable=False),
    comment="What later events refer to: finished overages, corrections, payments, invoices, disputes; exchange "
    "rates, breakage pools, money held in other currencies. Rebuildable.",
)

ledger_days = Table(
    "ledger_days",
    metadata,
    _ledger(),
    Column("accounting_date", Date, primary_key=True),
    Column("recorded_date", Date, primary_key=True, comment="of recorded_at, in UTC"),
    Column("cut", Integer, primary_key=True, autoincrement=False),
    Column("currency", Text, primary_key=True),
    Column("policy", SmallInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("dimension_set", Integer, primary_key=True, autoincrement=False),
    Column("unit", Text, primary_key=True),
    Column("written_minor", Numeric, nullable=False, comment="sum of the entries written as they are"),
    Column(
        "mirrored_minor",
        Numeric,
        nullable=False,
        comment="sum of the entries written as the mirror, positive",
    ),
    Column("functional_written_minor", Numeric, nullable=False),
    Column("functional_mirrored_minor", Numeric, nullable=False),
    Column("credits", Numeric, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Index("ix_ledger_days_recorded_date", "ledger", "recorded_date", "accounting_date"),
    comment="Totals by kind, dimensions and day: trial balances and exports. Rebuildable.",
)

other_currencies = Table(
    "other_currencies",
    metadata,
    _ledger(),
    Column("customer", Text, primary_key=True, comment="empty for the ledger as a whole"),
    comment="Who has entries in another currency than the functional one, and is remeasured at a close. Rebuildable.",
)

snapshots = Table(
    "snapshots",
    metadata,
    _ledger(),
    Column("customer", Text, primary_key=True, comment="empty for the ledger as a whole"),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("accounting_date", Date, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("policy", SmallInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("recorded_date", Date, comment="of a ledger's: the day, in UTC, that the position was recorded on"),
    Column("day_is_over", Boolean, nullable=False, comment="whether it is the last position of that day"),
    Column("written_minor", Numeric, nullable=False),
    Column("mirrored_minor", Numeric, nullable=False),
    Column("functional_written_minor", Numeric, nullable=False),
    Column("functional_mirrored_minor", Numeric, nullable=False),
    Column("credits", Numeric, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Index("ix_snapshots_accounting_date", "ledger", "customer", "accounting_date", "position"),
    comment="Sums of everything recorded through a position and booked through a day, left by readers for the next. "
    "A cache: its presence affects cost, never meaning.",
)

merkle_nodes = Table(
    "merkle_nodes",
    metadata,
    _ledger(),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    comment="Roots of complete subtrees of 256, 65,536 … events, so that a proof rehashes little. Rebuildable.",
    postgresql_with=FROZEN_AT_ONCE,
)

journals = Table(
    "journals",
    metadata,
    _ledger(),
    Column("period", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="1 is the first, later ones adjust"),
    Column("from_cut", Integer, nullable=False, comment="exclusive"),
    Column("to_cut", Integer, nullable=False, comment="inclusive"),
    Column("mapping", Integer, nullable=False),
    Column(
        "lines",
        Text,
        nullable=False,
        comment="the journal's lines with their accounts resolved, in canonical JSON",
    ),
    Column("content_hash", Text, nullable=False),
    Column("reverses", Integer, comment="the journal of the period whose lines it takes back"),
    Column("reissues", Integer, comment="the journal of the period whose entries it holds in its place"),
    Column("reason", Text, comment="of a reversal and its re-issue; else NULL"),
    Column("made_by", Text),
    _moment("made_at", nullable=True),
    Column("customers_hash", Text, comment="of its journal_customers; NULL where it went by no customer"),
    CheckConstraint("from_cut <= to_cut", name="cuts"),
    CheckConstraint(
        "num_nonnulls(reverses, reissues) IN (0, 1) AND coalesce(reverses, reissues, 0) < number"
        " AND num_nonnulls(reason, made_by, made_at) = 3 * num_nonnulls(reverses, reissues)",
        name="correction",
    ),
    Index("ux_journals_reverses", "ledger", "period", "reverses", unique=True),
    Index("ux_journals_reissues", "ledger", "period", "reissues", unique=True),
    comment="Journals handed over: the entries of a period in an interval of cuts, summarised.",
)

journal_customers = Table(
    "journal_customers",
    metadata,
    _ledger(),
    Column("period", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer", Text, primary_key=True),
    Column("attributes", JSONB, nullable=False, comment="those that its mapping goes by, as they were"),
    comment="What a journal went by of its customers. Never changed: part of what was handed over.",
)

journal_exports = Table(
    "journal_exports",
    metadata,
    _ledger(),
    Column("export_id", Text, primary_key=True),
    Column("period", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("format", Text, nullable=False),
    Column("detail", Boolean, nullable=False),
    Column("filename", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("content", LargeBinary, comment="NULL for detail, which is rendered anew from the log"),
    Column("content_hash", Text, nullable=False),
    _moment("created_at"),
    Column("created_by", Text, comment="who asked for it first; NULL where nobody was named"),
    Column("postings", Text, comment="the documents of a general ledger's format, in canonical JSON; else NULL"),
    Column("postings_hash", Text),
    _seal(),
    Index("ux_journal_exports_rendering", "ledger", "period", "number", "format", "detail", unique=True),
    comment="A journal rendered in a format, byte by byte.",
    info={UNSEALED: ("content", "postings")},
)

export_targets = Table(
    "export_targets",
    metadata,
    _ledger(),
    Column("target", Text, primary_key=True),
    Column("settings", Text, nullable=False, comment="in canonical JSON; an export keeps those it was made with"),
    _moment("changed_at"),
    Column("changed_by", Text, nullable=False),
    _seal(),
    comment="What a company sets about each general ledger that journals go to.",
)

delivery_channels = Table(
    "delivery_channels",
    metadata,
    _ledger(),
    Column("channel", Text, primary_key=True),
    Column("connector", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("settings", Text, nullable=False, comment="in canonical JSON; credentials are named, never written"),
    _moment("changed_at"),
    Column("changed_by", Text, nullable=False),
    _moment("free_at", nullable=True),
    _moment("dropped_at", nullable=True),
    Column("dropped_by", Text),
    _seal(),
    comment="Where a ledger's journals go, and how; and, of those taken away, who did that and when.",
)

credential_grants = Table(
    "credential_grants",
    metadata,
    _ledger(),
    Column("credential", Text, primary_key=True, comment="as channels name it, never the secret"),
    Column("granted_at", DateTime(timezone=True), primary_key=True),
    Column("granted_by", Text, nullable=False),
    _moment("revoked_at", nullable=True),
    Column("revoked_by", Text),
    _seal(),
    CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked"),
    Index(
        "ux_credential_grants_in_force",
        "ledger",
        "credential",
        unique=True,
        postgresql_where=text("revoked_at IS NULL"),
    ),
    comment="The credentials that a ledger's channels and webhook may use.",
)

deliveries = Table(
    "deliveries",
    metadata,
    _ledger(),
    Column("delivery_id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("destination", Text, nullable=False, comment="the general ledger, whatever the format"),
    Column("export_id", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("part", Integer, nullable=False, comment="of the journal's documents; 0: the whole file"),
    Column("name", Text, nullable=False),
    Column("reference", Text, nullable=False, comment="what the target knows it by"),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, comment="submissions that came to nothing, since a retry"),
    Column("looks", Integer, nullable=False, comment="look-ups in its state"),
    Column("steps", Integer, nullable=False),
    _moment("due_at", nullable=True),
    Column("claim", Text, comment="of the worker that has it in hand"),
    _moment("claimed_until", nullable=True),
    Column("erp_id", Text, comment="the target's own id"),
    Column("reason", Text, comment="why it is what it is"),
    Column("payload", LargeBinary, comment="what is sent; NULL: the export's file"),
    Column("payload_hash", Text),
    _moment("created_at"),
    _moment("submitted_at", nullable=True),
    _moment("changed_at"),
    _seal(),
    CheckConstraint(
        "state IN ('built', 'rendered', 'submitted', 'unknown', 'accepted', 'posted', 'reconciled', 'rejected', "
        "'failed', 'abandoned')",
        name="state",
    ),
    # Whatever is on its way is somebody's to look at: nothing can be forgotten in the midst.
    CheckConstraint("due_at IS NOT NULL OR state NOT IN ('built', 'rendered', 'submitted', 'unknown')", name="due"),
    Index(
        "ux_deliveries_once", "ledger", "destination", "period", "number", "part", unique=True,
        postgresql_where=text("state <> 'abandoned'"),
    ),
    Index("ix_deliveries_due", "ledger", "channel", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_deliveries_export_id", "ledger", "export_id"),
    Index(
        "ix_deliveries_waiting", "ledger", "created_at",
        postgresql_where=text("state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])"),
    ),
    Index("ix_deliveries_changed_at", "ledger", "changed_at"),
    comment="The outbox: every document or file on its way into a general ledger, and what became of it.",
    info={UNSEALED: ("payload",)},
)  # fmt: skip

delivery_steps = Table(
    "delivery_steps",
    metadata,
    _ledger(),
    Column("delivery_id", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    _moment("at"),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("by", Text, nullable=False),
    Column("exchanges", Text, comment="what was called and answered, in JSON, no secrets"),
    _seal(),
    comment="What became of a delivery, step by step. Never changed.",
)

monitor_settings = Table(
    "monitor_settings",
    metadata,
    _ledger(),
    Column("settings", Text, nullable=False, comment="in canonical JSON; the webhook's secret is named, never written"),
    _moment("changed_at"),
    Column("changed_by", Text, nullable=False),
    _seal(),
    comment="The thresholds of a ledger's monitors, and who is told.",
)

monitor_states = Table(
    "monitor_states",
    metadata,
    _ledger(),
    _moment("looked_at", nullable=True),
    Column("ringing", Text, nullable=False, comment="monitor to the moment since when, in JSON, as told"),
    _seal(),
    comment="What was last told of a ledger's monitors. Locking it is the right to tell.",
)

monitor_notices = Table(
    "monitor_notices",
    metadata,
    _ledger(),
    Column("notice_id", Text, primary_key=True),
    _moment("made_at"),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    _moment("due_at", nullable=True),
    _moment("sent_at", nullable=True),
    Column("failure", Text, comment="why the last attempt came to nothing"),
    _seal(),
    Index("ix_monitor_notices_waiting", "ledger", "made_at", postgresql_where=text("due_at IS NOT NULL")),
    comment="Notices that monitors began or ceased to ring, on their way to the webhook.",
)

cleared_blocks = Table(
    "cleared_blocks",
    metadata,
    _ledger(),
    Column("position", BigInteger, nullable=False, comment="through which finished blocks were looked at"),
    Column("uncleared", Text, nullable=False, comment="those that were not at zero then, in JSON"),
    _seal(),
    comment="How far finished blocks were found at zero. A cache: its presence affects cost, never meaning.",
)

verifications = Table(
    "verifications",
    metadata,
    _ledger(),
    _moment("verified_at"),
    Column("position", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False, comment="events through this were not read again"),
    Column("differences", Integer, nullable=False),
    _moment("clean_at", nullable=True),
    _seal(),
    comment="What the last verification of a ledger found, and when one was last clean.",
)

customer_attributes = Table(
    "customer_attributes",
    metadata,
    _ledger(),
    Column("customer", Text, primary_key=True),
    Column("attributes", JSONB, nullable=False, comment="texts by name; an empty one is none"),
    _moment("changed_at"),
    Column("changed_by", Text, nullable=False),
    _seal(),
    comment="What a company says of its customers, for its journals. Not part of the log; can be erased.",
)

erasures = Table(
    "erasures",
    metadata,
    _ledger(),
    Column("customer", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), primary_key=True),
    Column("erased_by", Text, nullable=False),
    _seal(),
    comment="That a customer's attributes were erased, when and by whom; never which they were.",
)

approvals = Table(
    "approvals",
    metadata,
    _ledger(),
    Column("approval_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("customer", Text),
    _moment("occurred_at"),
    Column("data", Text, nullable=False),
    Column("attributes", Text),
    Column("maker", Text, nullable=False),
    _moment("requested_at"),
    Column("state", Text, nullable=False),
    Column("checker", Text),
    _moment("decided_at", nullable=True),
    Column("note", Text),
    _seal(),
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
    _ledger(),
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
    _moment("occurred_at", nullable=True),
    Column("data_hash", LargeBinary, comment="SHA-256 of its data in canonical JSON"),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("credits", Numeric),
    Column("unit", Text),
    Column("sender", Text, nullable=False),
    Column("way", Text, nullable=False, comment="http, file:NAME, stdin, retry …"),
    _moment("first_at"),
    Column("code", Text, nullable=False),
    Column("problem", Text, nullable=False, comment="why, as it was answered last: a problem document"),
    Column("position", BigInteger, nullable=False, comment="of the ledger's last event when it was last refused"),
    _moment("last_at"),
    Column("attempts", BigInteger, nullable=False, comment="how often it was refused"),
    _moment("dismissed_at", nullable=True),
    Column("dismissed_by", Text),
    Column("dismissed_reason", Text),
    _seal(),
    _moment("reopened_at", nullable=True),
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
        "ix_rejected_events_open", "ledger", "first_at", "rejection_id",
        postgresql_where=text(
            "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
            " AND COALESCE(settled_position, 0) <= position"
        ),
    ),
    Index(
        "ix_rejected_events_open_by_code", "ledger", "code", text(f"({REJECTION_KIND})"), "first_at", "rejection_id",
        postgresql_where=text(
            "(dismissed_at IS NULL OR GREATEST(last_at, reopened_at) > dismissed_at)"
            " AND COALESCE(settled_position, 0) <= position"
        ),
    ),
    Index("ix_rejected_events_text_at", "ledger", "text_at", postgresql_where=text("text_at IS NOT NULL")),
    comment="Events that were refused, whoever sent them and however. Kept beside the log, never changed but for "
    "how often and why they were refused last, and their dismissal.",
)  # fmt: skip

rejection_steps = Table(
    "rejection_steps",
    metadata,
    _ledger(),
    Column("rejection_id", Text, primary_key=True),
    Column("done_at", DateTime(timezone=True), primary_key=True),
    Column("action", Text, nullable=False),
    Column("done_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _seal(),
    CheckConstraint("action IN ('dismissed', 'reopened')", name="action"),
    comment="Dismissals of rejected events, and those that were taken back: when, by whom and why. Never changed.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column(
        "key_hash",
        LargeBinary,
        primary_key=True,
        comment="SHA-256 of the key; the key itself is kept nowhere",
    ),
    Column("ledger", Text, nullable=False, comment="* for every ledger"),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False, comment="whose key it is: maker or checker"),
    _moment("created_at"),
    _seal(),
    Column(
        "key_id", Text, nullable=False, comment="public: names the key in lists and commands; says nothing of the key"
    ),
    Column("created_by", Text),
    Column("replaces", Text, comment="the key that it was rotated from"),
    _moment("expires_at", nullable=True),
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
    _ledger(),
    Column("size", BigInteger, primary_key=True, autoincrement=False, comment="how many events it is over"),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False, comment="as it was signed and handed out"),
    _moment("signed_at"),
    _seal(),
    Column("public_key", LargeBinary, comment="verifies the note; NULL: signed before keys were kept here"),
    comment="Tree heads that were signed, one a size. Never changed.",
)

tallies = Table(
    "tallies",
    metadata,
    _ledger(),
    Column("relation", Text, primary_key=True, comment="the table whose rows are counted"),
    Column("rows", BigInteger, nullable=False),
    comment="How many rows a ledger has in tables that none is deleted from, counted as they are added.",
)
