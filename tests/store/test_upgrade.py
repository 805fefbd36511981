"""From an older version's database to this one's: the log is what counts, everything else is made anew."""

from __future__ import annotations

import psycopg
from alembic import command

from api.service import LedgerSettings, Subledger
from api.settings import upgrade
from projections import integrity
from projections.journals.exports import export
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.migrate import _config, revision
from tests.conftest import cloud_event

NOON = "2026-01-15T12:00:00Z"


def test_what_an_older_version_derived_is_made_anew_from_the_log(fresh_database_url: str) -> None:
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    Subledger(database).create_ledger("acme", LedgerSettings(currency="USD"))
    block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"}
    Subledger(database).record("acme", [cloud_event("buy", "credits.purchased", "ann", NOON, **block)])
    database.close()
    command.downgrade(_config(fresh_database_url), "0001")
    assert revision(fresh_database_url) == "0001"
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute('UPDATE wallets SET state = \'{"form": "of an older version"}\'')
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        use = cloud_event("use", "credits.consumed", "ann", NOON, credits="4")
        [outcome] = Subledger(database).record("acme", [use])
        assert outcome.error is None
    finally:
        database.close()


def test_exports_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"}
    service.record("acme", [cloud_event("buy", "credits.purchased", "ann", NOON, **block)])
    export(service.recorder, database, "acme", Period.parse("2026-01"), "csv", by="ann")
    database.close()
    command.downgrade(_config(fresh_database_url), "0021")
    with psycopg.connect(fresh_database_url) as connection:
        whole = "SELECT seal = row_seal(to_jsonb(e) - ARRAY['seal', 'content', 'postings']) FROM journal_exports e"
        assert connection.execute(whole).fetchall() == [(True,)]
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()
