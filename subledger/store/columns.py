"""The columns of the log: events, entries and batches, each described once.

A row is a class, and a column is a field of it, in the order of the table. The field's type gives the types in Python
and PostgreSQL, and decides if the column may be NULL. The field's name is the column's name, unless ``Named`` gives
another one. Everything else follows from these classes: the tables (``tables/log.py``), and from them the array
parameters of a batch (``writing/append_batch.py``), the binary COPY (``writing/log.py``) and the streams of a replay
(``projections/replay/log_stream.py``).

Owns: names, order and types of the columns; conversions between rows and events or entries. Does not own: the hashed
bytes (``subledger/encoding.py``), indexes, and the migrations, which are released and never change.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple

from subledger.errors import present
from subledger.events.envelope import Event, stored_event
from subledger.kinds import Dimensions, Entry


class Stored(msgspec.Struct, frozen=True):
    """The PostgreSQL type of a column, by its name in ``pg_type``."""

    type: str


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """Other facts of a column: its name if it differs from the field's; if the table allows NULL although the field
    does not; its comment.
    """

    column: str
    nullable: bool = False
    comment: str | None = None


Text = Annotated[str, Stored("text")]
Smallint = Annotated[int, Stored("int2")]
Integer = Annotated[int, Stored("int4")]
Bigint = Annotated[int, Stored("int8")]
Quantity = Annotated[Decimal, Stored("numeric")]
Day = Annotated[date, Stored("date")]
Moment = Annotated[datetime, Stored("timestamptz")]
Hash = Annotated[bytes, Stored("bytea")]


class BatchRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``batches``: a commit, with its link in the hash chain."""

    last_position: Bigint
    first_position: Bigint
    recorded_at: Moment
    root: Hash
    previous_hash: Hash
    hash: Hash


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``events``, with its texts not decoded. If a decision follows from its entries, the reader completes
    it.
    """

    position: Bigint
    source: Text
    event_id: Text
    type: Text
    customer: Text | None
    occurred_at: Moment
    data_text: Annotated[Text, Named(column="data", comment="as received, in canonical JSON")]
    attributes_text: Annotated[
        Text | None, Named(column="attributes", comment="other CloudEvents attributes as received, in canonical JSON")
    ]
    decision_text: Annotated[
        Text,
        Named(
            column="decision",
            nullable=True,
            comment="what was decided, in canonical JSON; never recomputed. NULL where its entries say all of it: see "
            "the view recorded_events",
        ),
    ]
    leaf: Hash

    def read(self) -> Event:
        """Returns the event with its data decoded."""
        return stored_event(
            source=self.source,
            event_id=self.event_id,
            type=self.type,
            customer=self.customer,
            occurred_at=self.occurred_at,
            data_text=self.data_text,
            attributes_text=self.attributes_text,
        )

    def event(self, data: Any = None) -> Event:
        """Returns the event with the given data. None is enough for its hash, which uses the stored texts."""
        return Event(
            source=self.source,
            event_id=self.event_id,
            type=self.type,
            customer=self.customer,
            occurred_at=self.occurred_at,
            data=data,
            data_text=self.data_text,
            attributes_text=self.attributes_text,
        )


class EntryRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``entries``: the position, the fields of an entry, and the number of its dimensions."""

    position: Bigint
    number: Smallint
    policy: Smallint
    kind: Text
    customer: Text | None
    block_id: Text | None
    unit: Text | None
    credits: Quantity
    amount_minor: Bigint
    currency: Text
    functional_minor: Bigint
    accounting_date: Day
    effective_date: Day
    cut: Integer
    dimension_set: Integer


Row = tuple[Any, ...]
"""The values of a row in the order of its columns, for COPY and for arrays."""


def event_row(position: int, event: Event, decision_text: str | None, leaf: bytes) -> Row:
    """Returns the row of an event. ``decision_text`` is None if the decision follows from the entries."""
    return (
        position,
        event.source,
        event.event_id,
        event.type,
        event.customer,
        event.occurred_at,
        event.data_text,
        event.attributes_text,
        decision_text,
        leaf,
    )


def entry_row(position: int, entry: Entry, dimension_set: int) -> Row:
    """Returns the row of an entry. Its columns are the entry's fields in the same order: a test compares the two."""
    return (position, *astuple(entry)[:-1], dimension_set)


def stored_entry(row: EntryRow, dimensions: Dimensions) -> Entry:
    """Returns the entry of a row, given the dimensions of its dimension set.

    The fields are written out for speed: a verification calls this for every entry, and a dictionary would take seven
    times as long.
    """
    return Entry(
        number=row.number,
        policy=row.policy,
        kind=row.kind,
        customer=row.customer,
        block_id=row.block_id,
        unit=row.unit,
        credits=row.credits,
        amount_minor=row.amount_minor,
        currency=row.currency,
        functional_minor=row.functional_minor,
        accounting_date=row.accounting_date,
        effective_date=row.effective_date,
        cut=row.cut,
        dimensions=dimensions,
    )


# --- the descriptions ---------------------------------------------------------------------------------------------


class LogColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the log, and the attribute of a row that has its value."""

    name: str
    type: str
    attribute: str
    nullable: bool
    comment: str | None


class LogTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the log. It has its columns after the ledger, and names the columns that form the key together with
    the ledger.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[LogColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of a whole row, beginning with the ledger's."""
        return ("text", *(column.type for column in self.columns))

    @property
    def copy(self) -> str:
        """The statement that copies whole rows into the table, beginning with the ledger's name."""
        return f"COPY {self.name} (ledger, {', '.join(self.names)}) FROM STDIN (FORMAT BINARY)"

    def selected(self, alias: str, **instead: str) -> str:
        """Returns SQL: the columns of a row called ``alias``, in the order of its fields. ``instead``: other
        expressions for some of them.
        """
        return ", ".join(instead.get(name, f"{alias}.{name}") for name in self.names)


def _annotations(hint: Any) -> Iterator[Any]:
    """Yields the annotations of a field's type, from the outside in. If the field may be None, the type None is among
    them.
    """
    if get_origin(hint) is Annotated:
        inner, *annotations = get_args(hint)
        yield from annotations
        yield from _annotations(inner)
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _annotations(part)
    elif hint is types.NoneType:
        yield hint


def _column(attribute: str, hint: Any) -> LogColumn:
    annotations = list(_annotations(hint))
    stored = present(
        next((annotation for annotation in annotations if isinstance(annotation, Stored)), None),
        f"{attribute} has no stored type",
    )
    named = next((annotation for annotation in annotations if isinstance(annotation, Named)), Named(column=attribute))
    return LogColumn(
        name=named.column,
        type=stored.type,
        attribute=attribute,
        nullable=named.nullable or types.NoneType in annotations,
        comment=named.comment,
    )


def _table(name: str, row: type[msgspec.Struct], *key: str) -> LogTable:
    hints = get_type_hints(row, include_extras=True)
    return LogTable(name=name, key=key, columns=tuple(_column(field, hints[field]) for field in row.__struct_fields__))


BATCHES: Final = _table("batches", BatchRow, "last_position")
EVENTS: Final = _table("events", EventRow, "position")
ENTRIES: Final = _table("entries", EntryRow, "position", "number")
LOG: Final = (BATCHES, EVENTS, ENTRIES)
