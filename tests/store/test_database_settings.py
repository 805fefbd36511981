"""Correct books verify clean, whatever settings a database has for its sessions."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from api.service import Subledger
from projections import integrity
from projections.exports.exporting import export
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.checkpoints import Signed, keep_signed
from subledger.store.database import SESSION, Database
from subledger.store.migrate import is_current
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import decidable
from tests.building import cloud_event
from tests.scratch_database import scratch_database

OTHERS = {
    "timezone": "Asia/Kolkata", "datestyle": "German, DMY", "intervalstyle": "sql_standard", "bytea_output": "escape",
    "extra_float_digits": "-10", "client_encoding": "LATIN1", "standard_conforming_strings": "off",
    "quote_all_identifiers": "on", "search_path": "pg_catalog",
}  # fmt: skip
NOON = "2026-01-15T12:00:00Z"


@pytest.fixture(scope="module")
def books(server_url: str) -> Iterator[tuple[str, str]]:
    """The owner's URL of a database with a ledger, an export and a waiting approval; and the id of the ledger."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        service.create_ledger("acme", LedgerSettings(currency="USD", approvals=Approvals(voids=True)))
        block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"}
        void = cloud_event("void", "purchase.voided", "ann é", NOON, block_id="B", reason="r")
        service.record("acme", [cloud_event("buy", "credits.purchased", "ann é", NOON, **block)])
        [outcome] = service.record("acme", [void], by="ann")
        assert outcome.approval_id is not None
        export(service.recorder, database, "acme", Period.parse("2026-01"), "csv", by="ann")
        with database.read() as reading:
            head = ledger_head(reading, "acme")
        with database.write() as connection:  # a sealed row with bytes
            keep_signed(connection, "acme", Signed(size=head.position, root=head.root, note="note"))
        database.close()
        yield url, outcome.approval_id


def test_every_setting_of_ours_has_another_value_here() -> None:
    assert set(OTHERS) == set(SESSION)


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_setting_of_the_database_is_makes_no_difference(books: tuple[str, str], name: str) -> None:
    url, approval_id = books
    where = sql.Identifier(url.rpartition("/")[2].partition("?")[0])
    with psycopg.connect(url, autocommit=True) as owner:
        change = sql.SQL("ALTER DATABASE {} SET {} = {}")
        owner.execute(change.format(where, sql.Identifier(name), sql.Literal(OTHERS[name])))
    database = Database(url)
    try:
        assert is_current(url)
        assert integrity.verify(database, "acme").differences == []
        with database.write() as connection:
            event, _ = decidable(connection, "acme", approval_id, "bob", allow=True)
        assert event.event_id == "void"
    finally:
        database.close()
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(where))
