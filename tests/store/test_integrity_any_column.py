"""A change of any column of any row of the log or its derived tables is found, and its place is named.

The ledger is a walk through every event type under changing policies, in three currencies. The rows are drawn at random
from a seed. A superuser changes one value, bypassing the triggers, and restores it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.integrity import Difference
from projections.replay.derived_tables import DERIVED
from subledger.ledger import LedgerState
from subledger.store.database import Database
from subledger.store.tables import APPEND_ONLY, metadata
from tests.laws.walks import long_walk
from tests.scratch_database import scratch_database
from tests.store.tampering import LEDGER, differences
from tests.store.walked import record_walk

Superuser = psycopg.Connection[tuple[Any, ...]]

ROWS = 2
DERIVED_TABLES = tuple(derived.name for derived in DERIVED)
# Columns that no event determines: the promise to readers, the count of rebuilds, and the position through which
# wallets are written (a lower number is also correct).
NOT_DERIVED = {("ledgers", "answered_through"), ("ledgers", "replacements"), ("ledgers", "wallets_through")}
COLUMNS = [
    (table, column.name)
    for table in (*APPEND_ONLY, *DERIVED_TABLES, "ledgers")
    for column in metadata.tables[table].columns
    if column.name != "ledger" and (table, column.name) not in NOT_DERIVED
]


# These would refuse the change, so verify could not find it.
CONSTRAINTS = (
    ("entries", "ck_entries_dates"), ("entries", "ck_entries_unit"), ("batches", "ck_batches_in_order"),
    ("ledgers", "ck_ledgers_shortfall"), ("ledgers", "ck_ledgers_wallets_through"),
)  # fmt: skip


@pytest.fixture(scope="module")
def walked(server_url: str) -> Iterator[tuple[Subledger, Superuser]]:
    """The ledger in its own database, and a superuser whose triggers do not fire."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        record_walk(service, LEDGER, long_walk(3, 400))
        # 256 more events, so that there is a node of the tree.
        rates = [_rate(number) for number in range(256)]
        service.record(LEDGER, rates)
        assert differences(service) == []
        with psycopg.connect(url, autocommit=True) as superuser:
            for table in APPEND_ONLY:
                superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for table, constraint in CONSTRAINTS:
                superuser.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
            yield service, superuser
        database.close()


def _rate(number: int) -> dict[str, Any]:
    data = {"base": "CHF", "quote": "USD", "rate": f"1.{number + 100}", "rate_source": "ECB"}
    return {
        "specversion": "1.0",
        "id": f"chf-{number}",
        "source": "rates",
        "type": "exchange_rate.set",
        "time": "2026-01-01T00:00:00Z",
        "data": data,
    }


def _another(table: str, column: str) -> str:
    """Returns an expression for another value of a column's type."""
    kind = str(metadata.tables[table].columns[column].type)
    match kind:
        case "TEXT":
            return f"coalesce({column}, '') || 'x'"
        case "BIGINT" | "INTEGER" | "SMALLINT" | "NUMERIC":
            return f'"{column}" + 1'
        case "DATE":
            return f"coalesce({column}, '2026-01-01') + 1"
        case "DATETIME":
            return f"coalesce({column}, '2026-01-01') + interval '1 microsecond'"
        case "BOOLEAN":
            return f"NOT {column}"
        case "BLOB":
            return f"set_byte({column}, 0, 255 - get_byte({column}, 0))"
    raise AssertionError(f"{table}.{column} is {kind}")


@pytest.mark.campaign
@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[f"{table}.{column}" for table, column in COLUMNS])
def test_another_value_in_any_column_is_found_and_its_place_named(
    walked: tuple[Subledger, Superuser], table: str, column: str
) -> None:
    service, superuser = walked
    keys = [key.name for key in metadata.tables[table].primary_key]
    listed = ", ".join(f'"{key}"' for key in keys)
    rows = superuser.execute(f"SELECT {listed} FROM {table} ORDER BY {listed}").fetchall()
    for row in random.Random(f"{table}.{column}").sample(rows, min(ROWS, len(rows))):
        place = dict(zip(keys, row, strict=True))
        with _changed(superuser, table, column, place):
            found = differences(service)
        assert any(_names(difference, table, column, place) for difference in found), (place, found)
    assert differences(service) == []


@contextmanager
def _changed(superuser: Superuser, table: str, column: str, place: dict[str, Any]) -> Iterator[None]:
    """Sets another value until the end of the context. A number in a key becomes much larger than the others."""
    where = " AND ".join(f'"{key}" = %({key})s' for key in place)
    far = column in place and isinstance(place[column], int)
    value = f'"{column}" + 1000' if far else _another(table, column)
    superuser.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE {where}", place)
    [(changed,)] = superuser.execute(
        f'UPDATE {table} SET "{column}" = {value} WHERE {where} RETURNING ctid', place
    ).fetchall()
    try:
        yield
    finally:
        superuser.execute(f"DELETE FROM {table} WHERE ctid = %s::tid", (changed,))
        superuser.execute(f"INSERT INTO {table} SELECT * FROM kept")
        superuser.execute("DROP TABLE kept")


def _names(difference: Difference, table: str, column: str, place: dict[str, Any]) -> bool:
    """True if a difference names the place of the change: the position in the log, the row of a table."""
    if table in ("events", "entries"):
        return difference.position == place["position"]
    if table == "batches":
        return difference.check in ("chain", "log")
    if table == "ledgers":
        return difference.subject == column and difference.check in ("head", "ledgers")
    key = next(derived.key for derived in DERIVED if derived.name == table)
    return difference.check == table and difference.subject == ", ".join(str(place[name]) for name in key)


def test_every_column_is_tried_that_follows_from_the_log() -> None:
    for derived in DERIVED:
        assert {"ledger", *derived.columns} == {column.name for column in metadata.tables[derived.name].columns}
    settings = set(LedgerState.__struct_fields__)
    head = {"position", "recorded_at", "batch_hash", "frontier"}
    assert {column for table, column in COLUMNS if table == "ledgers"} == (settings - {"ledger"}) | head
