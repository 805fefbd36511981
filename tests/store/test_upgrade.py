"""From an older version's database to this one's: the log is what counts, everything else is made anew."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command

from api.service import Subledger
from projections import integrity
from projections.exports.exporting import export
from projections.replay.rebuild import rebuild
from projections.replay.upgrade import upgrade
from subledger.errors import DocumentExists
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.migrate import _config, revision
from subledger.store.rejected.keeper import Bounds
from subledger.store.writing import loading
from tests.building import cloud_event, grant

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


def test_rejections_whose_text_was_added_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    full, roomy = (Subledger(database, rejections=Bounds(text_bytes=size)) for size in (1, 10_000))
    full.create_ledger("acme", LedgerSettings(currency="USD"))
    usage = [cloud_event(f"u{n}", "credits.consumed", "ann", NOON, credits="1") for n in range(2)]
    full.record("acme", usage)
    roomy.record("acme", usage[:1])
    assert integrity.verify(database, "acme").differences == []
    database.close()
    command.downgrade(_config(fresh_database_url), "0031")
    with psycopg.connect(fresh_database_url) as connection:
        whole = "SELECT seal = row_seal(to_jsonb(r) - 'seal'), octet_length(sent) > 0 FROM rejected_events r ORDER BY 2"
        assert connection.execute(whole).fetchall() == [(True, False), (True, True)]
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        assert Subledger(database).record("acme", usage)[1].rejection_id is not None
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


def test_requests_with_an_effect_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    approvals = Approvals.model_validate({"grant_credits_above": "1"})
    service.create_ledger("acme", LedgerSettings(currency="USD", approvals=approvals))
    first, second = service.record("acme", [grant("one"), grant("two")], by="ann")
    service.decide_approval("acme", first.approval_id or "", by="bob", allow=True)
    with psycopg.connect(fresh_database_url) as connection, pytest.raises(psycopg.Error, match="approvals"):
        connection.execute("UPDATE approvals SET effect = '{}' WHERE state = 'waiting'")
    database.close()
    command.downgrade(_config(fresh_database_url), "0032")
    with psycopg.connect(fresh_database_url) as connection:
        whole = "SELECT seal = row_seal(to_jsonb(a) - 'seal') FROM approvals a"
        assert connection.execute(whole).fetchall() == [(True,), (True,)]
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        outcome = Subledger(database).decide_approval("acme", second.approval_id or "", by="bob", allow=True)
        assert outcome.error is None, "requested by a version that did not measure effects"
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


def test_a_ledger_that_has_a_payout_twice_already_is_migrated_and_verifies_clean(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version did not look whether a payout was recorded under another event id; what is recorded stays."""
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    block = {"block_id": "B", "credits": "10", "price": "100.00", "currency": "USD", "invoice_id": "I"}
    paid = {"payment_id": "P", "amount": "100.00", "currency": "USD", "invoice_id": "I", "processor": "stripe"}

    def payout(event_id: str) -> object:
        settled = {"payout_id": "PO", "processor": "stripe", "amount": "40.00", "currency": "USD"}
        return cloud_event(event_id, "payout.settled", None, NOON, **settled)

    service.record("acme", [cloud_event("buy", "credits.purchased", "ann", NOON, **block)])
    service.record("acme", [cloud_event("pay", "payment.received", "ann", NOON, **paid)])
    with monkeypatch.context() as older:
        older.setattr(loading, "find_first", lambda *_: {})
        for event_id in ("po-1", "po-2"):
            assert [outcome.status for outcome in service.record("acme", [payout(event_id)])] == ["recorded"]
    database.close()
    command.downgrade(_config(fresh_database_url), "0020")
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    try:
        assert integrity.verify(database, "acme").differences == []
        counts = rebuild(database, "acme")
        assert not any(counts.removed.values())
        assert not any(counts.written.values())
        assert integrity.verify(database, "acme").differences == []
        [outcome] = service.record("acme", [payout("po-3")])
        assert isinstance(outcome.error, DocumentExists)
        assert "po-1" in outcome.error.message, "the first one is named"
    finally:
        database.close()


def test_the_id_that_a_target_answered_is_in_the_steps_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade(fresh_database_url)
    database = Database(fresh_database_url)
    Subledger(database).create_ledger("acme", LedgerSettings(currency="USD"))
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute(
            "INSERT INTO deliveries (ledger, delivery_id, channel, destination, export_id, period, number, part, name,"
            " reference, state, attempts, looks, steps, erp_id, created_at, changed_at)"
            " VALUES ('acme', 'd', 'c', 'n', 'e', '2026-01', 1, 0, 'n', 'r', 'posted', 0, 0, 2, '7', now(), now())"
        )
        connection.execute(
            "INSERT INTO delivery_steps (ledger, delivery_id, step, at, state, by, erp_id)"
            " VALUES ('acme', 'd', 1, now(), 'accepted', 'worker', '7'),"
            " ('acme', 'd', 2, now(), 'posted', 'worker', NULL)"
        )
    database.close()
    command.downgrade(_config(fresh_database_url), "0036")
    whole = "SELECT seal = row_seal(to_jsonb(s) - 'seal') FROM delivery_steps s"
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute(whole).fetchall() == [(True,), (True,)]
    upgrade(fresh_database_url)
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute(whole).fetchall() == [(True,), (True,)]
        found = connection.execute("SELECT step, erp_id FROM delivery_steps ORDER BY step").fetchall()
        assert found == [(1, None), (2, "7")]
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("UPDATE delivery_steps SET erp_id = '8'")
