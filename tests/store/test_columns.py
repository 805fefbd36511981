"""The described columns of the log equal those of the database, and rows are read back as the same events."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest

from subledger.events.envelope import Event
from subledger.kinds import Dimensions, Entry
from subledger.store.columns import LOG, EntryRow, EventRow, LogTable, entry_row, event_row, stored_entry

IN_THE_DATABASE = """
SELECT a.attname, t.typname, NOT a.attnotnull, col_description(a.attrelid, a.attnum)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
KEY = """
SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY k.place
"""


@pytest.mark.parametrize("table", LOG, ids=lambda table: table.name)
def test_the_columns_in_code_are_those_of_the_migrated_database(owner_url: str, table: LogTable) -> None:
    with psycopg.connect(owner_url) as connection:
        found = connection.execute(IN_THE_DATABASE, (table.name,)).fetchall()
        key = [name for (name,) in connection.execute(KEY, (table.name,))]
    described = [(column.name, column.type, column.nullable, column.comment) for column in table.columns]
    assert sorted(found) == sorted([("ledger", "text", False, None), *described])
    assert key == ["ledger", *table.key]


ENTRY = Entry(
    number=1,
    policy=2,
    kind="consumption",
    customer="c",
    block_id="b",
    unit="credit",
    credits=Decimal("1.5"),
    amount_minor=300,
    currency="USD",
    functional_minor=310,
    accounting_date=date(2026, 1, 3),
    effective_date=date(2026, 1, 2),
    cut=4,
    dimensions=Dimensions(product="p"),
)


def test_a_row_of_entries_is_the_entry_with_its_position_and_the_number_of_its_dimensions() -> None:
    *fields, dimensions = Entry.__struct_fields__
    assert EntryRow.__struct_fields__ == ("position", *fields, "dimension_set")
    assert dimensions == "dimensions"
    row = EntryRow(*entry_row(7, ENTRY, 9))
    assert (row.position, row.dimension_set) == (7, 9)
    assert stored_entry(row, ENTRY.dimensions) == ENTRY
    values = [getattr(ENTRY, name) for name in fields]
    assert len(set(map(repr, values))) == len(values), "fields that are mixed up are seen"


def test_a_row_of_events_has_what_the_event_has() -> None:
    event = Event(
        source="s",
        event_id="e",
        type="t",
        customer="c",
        occurred_at=datetime(2026, 1, 2, tzinfo=UTC),
        data=None,
        data_text="{}",
        attributes_text='{"a":1}',
    )
    row = EventRow(*event_row(7, event, None, b"leaf"))
    assert (row.position, row.decision_text, row.leaf) == (7, None, b"leaf")
    shared = set(EventRow.__struct_fields__) & set(Event.__struct_fields__)
    assert set(EventRow.__struct_fields__) - shared == {"position", "decision_text", "leaf"}
    assert {name: getattr(row, name) for name in shared} == {name: getattr(event, name) for name in shared}
