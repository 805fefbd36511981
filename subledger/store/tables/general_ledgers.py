"""Tables of general ledgers: journals and their exports, the targets, channels and deliveries, customer attributes.

Owns: the declarations. Does not own: the rows (projections).
"""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, DateTime, Index, Integer, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from subledger.store.tables.metadata import UNSEALED, ledger_column, metadata, moment_column, seal_column

journals = Table(
    "journals",
    metadata,
    ledger_column(),
    Column("period", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="1 is the first, later ones adjust"),
    Column("from_cut", Integer, nullable=False, comment="exclusive"),
    Column("to_cut", Integer, nullable=False, comment="inclusive"),
    Column("mapping", Integer, nullable=False),
    Column(
        "lines", Text, nullable=False, comment="the journal's lines with their accounts resolved, in canonical JSON"
    ),
    Column("content_hash", Text, nullable=False),
    Column("reverses", Integer, comment="the journal of the period whose lines it takes back"),
    Column("reissues", Integer, comment="the journal of the period whose entries it holds in its place"),
    Column("reason", Text, comment="of a reversal and its re-issue; else NULL"),
    Column("made_by", Text),
    moment_column("made_at", nullable=True),
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
    ledger_column(),
    Column("period", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer", Text, primary_key=True),
    Column("attributes", JSONB, nullable=False, comment="those that its mapping goes by, as they were"),
    comment="What a journal went by of its customers. Never changed: part of what was handed over.",
)

journal_exports = Table(
    "journal_exports",
    metadata,
    ledger_column(),
    Column("export_id", Text, primary_key=True),
    Column("period", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("format", Text, nullable=False),
    Column("detail", Boolean, nullable=False),
    Column("filename", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("content", LargeBinary, comment="NULL for detail, which is rendered anew from the log"),
    Column("content_hash", Text, nullable=False),
    moment_column("created_at"),
    Column("created_by", Text, comment="who asked for it first; NULL where nobody was named"),
    Column("postings", Text, comment="the documents of a general ledger's format, in canonical JSON; else NULL"),
    Column("postings_hash", Text),
    seal_column(),
    Index("ux_journal_exports_rendering", "ledger", "period", "number", "format", "detail", unique=True),
    comment="A journal rendered in a format, byte by byte.",
    info={UNSEALED: ("content", "postings")},
)

export_targets = Table(
    "export_targets",
    metadata,
    ledger_column(),
    Column("target", Text, primary_key=True),
    Column("settings", Text, nullable=False, comment="in canonical JSON; an export keeps those it was made with"),
    moment_column("changed_at"),
    Column("changed_by", Text, nullable=False),
    seal_column(),
    comment="What a company sets about each general ledger that journals go to.",
)

delivery_channels = Table(
    "delivery_channels",
    metadata,
    ledger_column(),
    Column("channel", Text, primary_key=True),
    Column("connector", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("settings", Text, nullable=False, comment="in canonical JSON; credentials are named, never written"),
    moment_column("changed_at"),
    Column("changed_by", Text, nullable=False),
    moment_column("free_at", nullable=True),
    moment_column("dropped_at", nullable=True),
    Column("dropped_by", Text),
    seal_column(),
    comment="Where a ledger's journals go, and how; and, of those taken away, who did that and when.",
)

credential_grants = Table(
    "credential_grants",
    metadata,
    ledger_column(),
    Column("credential", Text, primary_key=True, comment="as channels name it, never the secret"),
    Column("granted_at", DateTime(timezone=True), primary_key=True),
    Column("granted_by", Text, nullable=False),
    moment_column("revoked_at", nullable=True),
    Column("revoked_by", Text),
    seal_column(),
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
    ledger_column(),
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
    moment_column("due_at", nullable=True),
    Column("claim", Text, comment="of the worker that has it in hand"),
    moment_column("claimed_until", nullable=True),
    Column("erp_id", Text, comment="the target's own id"),
    Column("reason", Text, comment="why it is what it is"),
    Column("payload", LargeBinary, comment="what is sent; NULL: the export's file"),
    Column("payload_hash", Text),
    moment_column("created_at"),
    moment_column("submitted_at", nullable=True),
    moment_column("changed_at"),
    seal_column(),
    CheckConstraint(
        "state IN ('built', 'rendered', 'submitted', 'unknown', 'accepted', 'posted', 'reconciled', 'rejected', "
        "'failed', 'abandoned')",
        name="state",
    ),
    # An unfinished delivery always has a time for its next step, so that none is forgotten.
    CheckConstraint("due_at IS NOT NULL OR state NOT IN ('built', 'rendered', 'submitted', 'unknown')", name="due"),
    Index(
        "ux_deliveries_once",
        "ledger",
        "destination",
        "period",
        "number",
        "part",
        unique=True,
        postgresql_where=text("state <> 'abandoned'"),
    ),
    Index("ix_deliveries_due", "ledger", "channel", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_deliveries_export_id", "ledger", "export_id"),
    Index(
        "ix_deliveries_waiting",
        "ledger",
        "created_at",
        postgresql_where=text("state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])"),
    ),
    Index("ix_deliveries_changed_at", "ledger", "changed_at"),
    comment="The outbox: every document or file on its way into a general ledger, and what became of it.",
    info={UNSEALED: ("payload",)},
)

delivery_steps = Table(
    "delivery_steps",
    metadata,
    ledger_column(),
    Column("delivery_id", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    moment_column("at"),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("by", Text, nullable=False),
    Column("exchanges", Text, comment="what was called and answered, in JSON, no secrets"),
    seal_column(),
    Column("erp_id", Text, comment="the target's own id, if the step brought one"),
    comment="What became of a delivery, step by step. Never changed.",
)

customer_attributes = Table(
    "customer_attributes",
    metadata,
    ledger_column(),
    Column("customer", Text, primary_key=True),
    Column("attributes", JSONB, nullable=False, comment="texts by name; an empty one is none"),
    moment_column("changed_at"),
    Column("changed_by", Text, nullable=False),
    seal_column(),
    comment="What a company says of its customers, for its journals. Not part of the log; can be erased.",
)

erasures = Table(
    "erasures",
    metadata,
    ledger_column(),
    Column("customer", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), primary_key=True),
    Column("erased_by", Text, nullable=False),
    seal_column(),
    comment="That a customer's attributes were erased, when and by whom; never which they were.",
)
