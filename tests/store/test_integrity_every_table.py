"""Every column of every table: a verification finds a change of it, or the reason why it cannot is listed here.

``test_integrity_any_column`` tests the log and its derived tables. This module tests all other tables: exports,
decisions of persons, deliveries, settings, signatures, and tables that are added later. The owner of the database
changes one value, deletes one row, or adds a copy of a row, with the triggers off, and then restores it. A table
without a row in this ledger gets an invented one. A table or a column that cannot be verified must be listed below,
with a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from api.service import Subledger
from projections.account_mapping.customer_attributes import change_attributes
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.reads.snapshots import add_snapshots
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.tables import APPEND_ONLY, COUNTED, metadata, sealed_tables
from tests.building import cloud_event
from tests.scratch_database import scratch_database
from tests.store.tampering import LEDGER, differences
from tests.store.test_integrity_any_column import COLUMNS as OF_THE_LOG
from tests.store.test_integrity_any_column import DERIVED_TABLES, NOT_DERIVED
from tests.store.test_mapping_by_customers import only

JANUARY = Period(2026, 1)
TRIED_WITH_THE_LOG = {*APPEND_ONLY, *DERIVED_TABLES, "ledgers"}
TABLES = [name for name in metadata.tables if name not in TRIED_WITH_THE_LOG]

NOT_FOUND: dict[tuple[str, str], str] = {
    ("ledgers", "answered_through"): "a promise to readers: no event says what was asked",
    ("ledgers", "replacements"): "how often rows were replaced: only writers compare it with what they remember",
    ("ledgers", "wallets_through"): "a lower one is true as well; above what the wallets know, their rows are found",
}
"""Columns in which no verification can find a change, with the reason."""
GONE_UNSEEN = {
    "cleared_blocks": "a cache: the next look begins anew",
    "customer_attributes": "can be erased at any time; a journal keeps what it went by",
    "delivery_channels": "one with deliveries is named by them; the application cannot delete one",
    "export_targets": "settings, as if they had never been set; an export keeps its own",
    "monitor_notices": "old ones are taken away as they are sent",
    "monitor_settings": "settings, as if they had never been set",
    "monitor_states": "what was told last: it is told again",
    "verifications": "for monitors, and proves nothing: it rings where none is there",
}
"""Tables whose rows may be missing without a finding. Of snapshots, all rows of the last position may be missing."""
MADE_UP: dict[str, dict[str, Any]] = {
    "approvals": {"state": "waiting", "checker": None, "decided_at": None},
    "deliveries": {
        "delivery_id": "d", "state": "built", "steps": 1, "period": "2026-01", "number": 1, "part": 1,
        "export_id": f"{LEDGER}-2026-01-1-csv", "payload": b"sent", "payload_hash": hashlib.sha256(b"sent").hexdigest(),
    },
    "delivery_steps": {"delivery_id": "d", "step": 1, "state": "built"},
    "checkpoints": {"size": 0, "root": b""},
    "rejected_events": {"settled_position": None, "reopened_at": None},
    "rejection_steps": {"action": "dismissed"},
}  # fmt: skip
VALUES: dict[str, Any] = {
    "TEXT": "x", "BIGINT": 1, "INTEGER": 1, "SMALLINT": 1, "NUMERIC": 1, "DATE": "2026-01-01", "BOOLEAN": False,
    "DATETIME": "2026-01-01T00:00:00Z", "BLOB": b"\x01", "JSONB": "{}",
}  # fmt: skip


@pytest.fixture(scope="module")
def everything(server_url: str) -> Iterator[tuple[Subledger, psycopg.Connection[Any]]]:
    """A ledger with a row in every table, and its owner, whose triggers and constraints are off."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        service.create_ledger(LEDGER, LedgerSettings(currency="USD", policy="contract_liability"))
        _history(service)
        with psycopg.connect(url, autocommit=True) as owner:
            for table in metadata.tables.values():
                for constraint in table.constraints:
                    if isinstance(constraint, sa.CheckConstraint):
                        owner.execute(f"ALTER TABLE {table.name} DROP CONSTRAINT {constraint.name}".encode())
            for name in TABLES:
                _make_up(owner, name)
            _sign(owner)
            for name in metadata.tables:
                owner.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER".encode())
            assert differences(service) == []
            yield service, owner
        database.close()


def _history(service: Subledger) -> None:
    """Records a history with a journal by customers in two formats, another currency, and snapshots."""
    service.record(
        LEDGER,
        [
            cloud_event(
                "rate",
                "exchange_rate.set",
                None,
                "2026-01-01T00:00:00Z",
                base="EUR",
                quote="USD",
                rate="1.1",
                rate_source="ECB",
            ),
            cloud_event(
                "buy",
                "credits.purchased",
                "c1",
                "2026-01-05T00:00:00Z",
                block_id="b",
                credits="400",
                price="40.00",
                currency="USD",
            ),
            cloud_event(
                "other",
                "credits.purchased",
                "c2",
                "2026-01-05T00:00:00Z",
                block_id="e",
                credits="4",
                price="4.00",
                currency="EUR",
            ),
            *(cloud_event(f"u{n}", "credits.consumed", "c1", "2026-01-06T00:00:00Z", credits="1") for n in range(140)),
        ],
    )
    change_attributes(service.database, LEDGER, "c1", {"segment": "smb"}, by="crm")
    rule = {"role": "usage_revenue", "account": "4000"}
    adopt_mapping(service.recorder, LEDGER, only(rule, {**rule, "customer.segment": "smb", "account": "4010"}))
    for format in ("csv", "netsuite-json"):
        export(service.recorder, service.database, LEDGER, JANUARY, format)
    assert add_snapshots(service.database, LEDGER, "c1")


def _make_up(owner: psycopg.Connection[Any], name: str) -> None:
    """Adds a row to a table without rows, through its triggers. If the rows of the table are counted, it is counted."""
    table = metadata.tables[name]
    if owner.execute(f"SELECT 1 FROM {name} LIMIT 1".encode()).fetchone():
        return
    assert name in sealed_tables(), f"nothing proves the rows of {name}: seal them (migrations/sealing.py)"
    row = {column.name: VALUES[str(column.type)] for column in table.columns if column.name != "seal"}
    row |= {"ledger": LEDGER} if "ledger" in row else {}
    row |= MADE_UP.get(name, {})
    columns = sql.SQL(", ").join(map(sql.Identifier, row))
    places = sql.SQL(", ").join(map(sql.Placeholder, row))
    owner.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(name), columns, places), row)
    if name in COUNTED:
        owner.execute(
            "INSERT INTO tallies VALUES (%s, %s, 1)"
            " ON CONFLICT (ledger, relation) DO UPDATE SET rows = tallies.rows + 1",
            (LEDGER, name),
        )


def _sign(owner: psycopg.Connection[Any]) -> None:
    """Makes the invented checkpoint sign the log's head."""
    owner.execute("ALTER TABLE checkpoints DISABLE TRIGGER append_only")
    owner.execute(
        "UPDATE checkpoints c SET size = b.last_position, root = b.root FROM batches b"
        " WHERE b.last_position = (SELECT max(last_position) FROM batches)"
    )


def _another(table: str, column: str) -> str:
    """Returns an expression for another value of a column's type, also if the value is NULL."""
    match str(metadata.tables[table].columns[column].type):
        case "TEXT":
            return f"coalesce(\"{column}\", '') || 'x'"
        case "BIGINT" | "INTEGER" | "SMALLINT" | "NUMERIC":
            return f'coalesce("{column}", 0) + 1000'
        case "DATE":
            return f"coalesce(\"{column}\", '2026-01-01') + 1"
        case "DATETIME":
            return f"coalesce(\"{column}\", '2026-01-01') + interval '1 microsecond'"
        case "BOOLEAN":
            return f'NOT "{column}"'
        case "BLOB":
            return f"coalesce(\"{column}\", '') || '\\x00'::bytea"
        case "JSONB":
            return f'"{column}" || \'{{"other": "x"}}\''
    raise AssertionError(f"{table}.{column} has a type of which no other value is known")


@contextmanager
def kept(owner: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Restores the rows of the table at the end."""
    owner.execute(f"CREATE TEMP TABLE as_it_was AS TABLE {table}".encode())
    try:
        yield
    finally:
        owner.execute(f"DELETE FROM {table}".encode())
        owner.execute(f"INSERT INTO {table} TABLE as_it_was".encode())
        owner.execute("DROP TABLE as_it_was")


ONE = "ctid = (SELECT min(ctid::text)::tid FROM {table})"


@pytest.mark.campaign
@pytest.mark.parametrize("table", TABLES)
def test_another_value_in_any_column_of_any_table_is_found(
    everything: tuple[Subledger, psycopg.Connection[Any]], table: str
) -> None:
    service, owner = everything
    for column in metadata.tables[table].columns:
        if column.name == "ledger" and table != "api_keys":
            continue  # moves the row to another ledger, which is the deletion tested below
        change = f'UPDATE {table} SET "{column.name}" = {_another(table, column.name)} WHERE {ONE.format(table=table)}'
        with kept(owner, table):
            assert owner.execute(change.encode()).rowcount == 1
            found = {difference.check for difference in differences(service)}
        assert bool(found) != ((table, column.name) in NOT_FOUND), f"{table}.{column.name} is to be stated"
    assert differences(service) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_gone_is_missed(everything: tuple[Subledger, psycopg.Connection[Any]], table: str) -> None:
    service, owner = everything
    with kept(owner, table):
        assert owner.execute(f"DELETE FROM {table} WHERE {ONE.format(table=table)}".encode()).rowcount == 1
        found = differences(service)
    assert bool(found) != (table in GONE_UNSEEN), f"a row of {table} that is gone is to be stated"


@pytest.mark.parametrize("table", sorted(sealed_tables()))
def test_a_row_that_was_put_there_a_second_time_is_found(
    everything: tuple[Subledger, psycopg.Connection[Any]], table: str
) -> None:
    """The copy has another key, but the seal and all other values of the first row."""
    service, owner = everything
    key = [column.name for column in metadata.tables[table].primary_key]
    changed = next((name for name in key if name != "ledger"), None)
    if changed is None:
        pytest.skip("a ledger has one row")
    columns = [column.name for column in metadata.tables[table].columns]
    listed = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(_another(table, name) if name == changed else f'"{name}"' for name in columns)
    for index in metadata.tables[table].indexes:
        if index.unique:
            owner.execute(f"DROP INDEX IF EXISTS {index.name}".encode())
    with kept(owner, table):
        owner.execute(
            f"INSERT INTO {table} ({listed}) SELECT {values} FROM {table} WHERE {ONE.format(table=table)}".encode()
        )
        assert differences(service)


def test_every_column_is_stated() -> None:
    tried = {(table, column.name) for table in TABLES for column in metadata.tables[table].columns}
    with_the_log = {*OF_THE_LOG, *NOT_DERIVED}
    every = {(name, column.name) for name, table in metadata.tables.items() for column in table.columns}
    missing = {(table, column) for table, column in every - tried - with_the_log if column != "ledger"}
    assert missing == set(), "columns of which nothing says whether a change is found"
    assert set(NOT_FOUND) >= NOT_DERIVED
    assert set(GONE_UNSEEN) <= set(TABLES)
