"""Tables that follow from the log: heads and settings of ledgers, the writer's memory, totals, hashes of the tree.

A rebuild makes their rows again from the events. Owns: the declarations. Does not own: the rows (``writing/rows.py``,
projections).
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
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)

from subledger.store.tables.metadata import FROZEN_AT_ONCE, ledger_column, metadata, moment_column

LAPSED: Final = """NOT is_open AND expires_at IS NOT NULL AND state LIKE '%"expired":true%'"""
"""The condition of blocks that expired and have left their wallet. The index and its statement share it."""

POOLED: Final = """NOT is_open AND expires_at IS NOT NULL AND state LIKE '%"pool":"%'"""
"""Finished blocks of breakage pools. The index and the statement that reads it share the condition."""

ledgers = Table(
    "ledgers",
    metadata,
    ledger_column(),
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
    Column("rate_max_age_days", SmallInteger, nullable=False, comment="how old a rate may be where a month closes"),
    Column("sandbox", Boolean, nullable=False, comment="has a clock of its own, and delivers nothing"),
    Column("accounting_rules", SmallInteger, nullable=False, comment="version of the rules that decide its events"),
    Column("dimensions", Text, nullable=False, comment="names of the company's own dimensions, as JSON"),
    Column("clock", DateTime(timezone=True), comment="the now of a sandbox; NULL: that of the database"),
    Column("open_cut", Integer, nullable=False),
    Column("position", BigInteger, nullable=False, comment="of the last event; 0 before the first"),
    moment_column("recorded_at", nullable=True),
    Column("batch_hash", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False, comment="complete subtrees of the Merkle tree, largest first"),
    moment_column("answered_through", nullable=True),
    Column("replacements", Integer, nullable=False, comment="how often its derived rows were replaced"),
    Column("wallets_through", BigInteger, nullable=False, comment="every wallet's row knows all events through this"),
    CheckConstraint("position >= 0 AND open_cut >= 1", name="counts_up"),
    CheckConstraint("wallets_through BETWEEN 0 AND position", name="wallets_through"),
    CheckConstraint("on_shortfall IN ('reject', 'overage', 'backfill')", name="shortfall"),
    comment="One row per ledger: its head and its settings. Locking it is the right to write.",
)

dimension_sets = Table(
    "dimension_sets",
    metadata,
    ledger_column(),
    Column("dimension_set", Integer, primary_key=True, autoincrement=False),
    Column("product", Text, nullable=False),
    Column("credit_kind", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("processor", Text, nullable=False),
    Column("cohort", Text, nullable=False, comment="the month of issue of a pooled block"),
    Column("refundable", Text, nullable=False, comment="true: of a refundable block"),
    Column("own", Text, nullable=False, comment="the company's own dimensions of the block, as JSON"),
    Column("usage", Text, nullable=False, comment="those of the usage, if they are others"),
    # The texts of own dimensions together are longer than a key of an index can be.
    Index(
        "ux_dimension_sets_values",
        *("ledger", "product", "credit_kind", "pool", "processor", "cohort", "refundable"),
        text("md5((own || chr(31)) || usage)"),
        unique=True,
    ),
    comment="The combinations of dimensions that entries carry, numbered in the order of their first use.",
)

posting_policies = Table(
    "posting_policies",
    metadata,
    ledger_column(),
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
    ledger_column(),
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
    ledger_column(),
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
    ledger_column(),
    Column("customer", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, comment="of the last event it includes"),
    Column("state", Text, nullable=False),
    comment="One row per customer: open blocks and overages. Rebuildable.",
)

wallet_parts = Table(
    "wallet_parts",
    metadata,
    ledger_column(),
    Column("customer", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="block or overage"),
    Column("part_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    comment="Open blocks and overages of wallets that have more than 64 of them, a row each. Rebuildable.",
)

blocks = Table(
    "blocks",
    metadata,
    ledger_column(),
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
    Index("ix_blocks_pooled", "ledger", "expires_at", postgresql_where=text(POOLED)),
    comment="One row per credit block: to find it by. Rebuildable.",
)

documents = Table(
    "documents",
    metadata,
    ledger_column(),
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
    ledger_column(),
    Column("accounting_date", Date, primary_key=True),
    Column("recorded_date", Date, primary_key=True, comment="of recorded_at, in UTC"),
    Column("cut", Integer, primary_key=True, autoincrement=False),
    Column("currency", Text, primary_key=True),
    Column("policy", SmallInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("dimension_set", Integer, primary_key=True, autoincrement=False),
    Column("unit", Text, primary_key=True),
    Column("written_minor", Numeric, nullable=False, comment="sum of the entries written as they are"),
    Column("mirrored_minor", Numeric, nullable=False, comment="sum of the entries written as the mirror, positive"),
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
    ledger_column(),
    Column("customer", Text, primary_key=True, comment="empty for the ledger as a whole"),
    comment="Who has entries in another currency than the functional one, and is remeasured at a close. Rebuildable.",
)

snapshots = Table(
    "snapshots",
    metadata,
    ledger_column(),
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
    ledger_column(),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    comment="Roots of complete subtrees of 256, 65,536 … events, so that a proof rehashes little. Rebuildable.",
    postgresql_with=FROZEN_AT_ONCE,
)
