"""The tables of the log, append-only: batches, events, entries.

Their columns are those of ``subledger/store/columns.py``. Owns: their keys, indexes, checks and storage, and the
conditions that indexes and statements share. Does not own: the rows (``writing/log.py``).
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
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
from sqlalchemy.types import TypeEngine

from subledger.store.columns import BATCHES, ENTRIES, EVENTS, LogTable
from subledger.store.tables.metadata import FROZEN_AT_ONCE, ledger_column, metadata

WRITTEN: Final = "(e.amount_minor > 0 OR e.amount_minor = 0 AND e.functional_minor > 0)"

MIRRORED: Final = "(e.amount_minor < 0 OR e.amount_minor = 0 AND e.functional_minor < 0)"
"""Conditions on an entry ``e``: one for entries with their own sides, one for entries with swapped sides
(``kinds.is_mirrored``).
"""

DOCUMENT_ID: Final = """
CASE type
    WHEN 'payment.received'::text THEN data::jsonb ->> 'payment_id'::text
    WHEN 'dispute.opened'::text THEN data::jsonb ->> 'dispute_id'::text
    WHEN 'overage.billed'::text THEN data::jsonb ->> 'invoice_id'::text
    WHEN 'payout.settled'::text THEN data::jsonb ->> 'payout_id'::text
    WHEN 'payment.refunded'::text THEN data::jsonb ->> 'refund_id'::text
    WHEN 'processor.adjusted'::text THEN data::jsonb ->> 'adjustment_id'::text
    WHEN 'credits.reserved'::text THEN data::jsonb ->> 'reservation_id'::text
    ELSE NULL::text
END"""
"""The id of the document that an event records, in the form in which PostgreSQL writes the expression: a test compares
the two.
"""

DOCUMENT_TYPES: Final = (
    "type IN ('payment.received', 'dispute.opened', 'overage.billed', 'payout.settled', 'payment.refunded', "
    "'processor.adjusted', 'credits.reserved')"
)

NOT_DUE_UNTIL: Final = (
    "\nCASE\n    WHEN (data::jsonb ->> 'cancellable'::text) = 'true'::text "
    "OR (data::jsonb ->> 'refundable'::text) = 'true'::text THEN '9999-12-31'::text\n"
    "    ELSE \"left\"(data::jsonb ->> 'due_at'::text, 10)\nEND"
)
"""The day, as text of the event, before which the price of a purchase may be conditional; NULL if it was due at once.
"""

NOT_DUE: Final = f"type = 'credits.purchased' AND ({NOT_DUE_UNTIL}) IS NOT NULL"

UNDONE_POSITION: Final = "decision::jsonb ->> 'original'::text"
UNDOES: Final = "type = 'event.reversed'"
"""The undone position of an event, and the condition on events that undo another one."""

NO_USAGE: Final = "type <> 'credits.consumed'"
"""The events whose effect may need a second person. An index and the statement that uses it must have this condition
letter by letter. Usage is only in the indexes of its key and its position.
"""

_TYPES: Final[dict[str, type[TypeEngine[Any]]]] = {
    "text": Text, "int2": SmallInteger, "int4": Integer, "int8": BigInteger, "numeric": Numeric, "date": Date,
    "bytea": LargeBinary,
}  # fmt: skip


def _type(name: str) -> TypeEngine[Any]:
    return DateTime(timezone=True) if name == "timestamptz" else _TYPES[name]()


def _columns(table: LogTable) -> list[Column[Any]]:
    return [
        ledger_column(),
        *(
            Column(
                column.name,
                _type(column.type),
                nullable=column.nullable,
                comment=column.comment,
                primary_key=column.name in table.key,
                autoincrement=False,
            )
            for column in table.columns
        ),
    ]


batches = Table(
    BATCHES.name,
    metadata,
    *_columns(BATCHES),
    CheckConstraint("first_position BETWEEN 1 AND last_position", name="in_order"),
    Index("ux_batches_recorded_at", "ledger", "recorded_at", unique=True),
    comment="One row per commit: the hash chain.",
    postgresql_with=FROZEN_AT_ONCE,
)

events = Table(
    EVENTS.name,
    metadata,
    *_columns(EVENTS),
    Index("ux_events_key", "ledger", "source", "event_id", unique=True),
    Index("ix_events_type", "ledger", "type", "position", postgresql_where=text(NO_USAGE)),
    Index("ix_events_customer", "ledger", "customer", "position", postgresql_where=text(NO_USAGE)),
    Index("ix_events_not_due", "ledger", text(f"({NOT_DUE_UNTIL})"), postgresql_where=text(NOT_DUE)),
    Index("ix_events_document", "ledger", "type", text(f"({DOCUMENT_ID})"), postgresql_where=text(DOCUMENT_TYPES)),
    Index("ix_events_undone", "ledger", text(f"({UNDONE_POSITION})"), postgresql_where=text(UNDOES)),
    comment="The log. Append-only.",
    postgresql_with=FROZEN_AT_ONCE,
)

entries = Table(
    ENTRIES.name,
    metadata,
    *_columns(ENTRIES),
    CheckConstraint("accounting_date >= effective_date", name="dates"),
    CheckConstraint("credits = 0 OR unit IS NOT NULL", name="unit"),
    Index("ix_entries_customer", "ledger", "customer", "position"),
    comment="Journal entries: a kind and an amount. Append-only; part of the log.",
    postgresql_with=FROZEN_AT_ONCE,
)
