"""From an older version's database to this one's: the log is what counts, everything else is made anew."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command

from api.service import Subledger, upgrade_database
from projections import integrity
from projections.exports.exporting import export
from projections.replay.rebuild import rebuild
from subledger.errors import DocumentExists, SchemaOutOfDate
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
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    Subledger(database).create_ledger("acme", LedgerSettings(currency="USD"))
    block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"}
    Subledger(database).record("acme", [cloud_event("buy", "credits.purchased", "ann", NOON, **block)])
    database.close()
    command.downgrade(_config(fresh_database_url), "0001")
    assert revision(fresh_database_url) == "0001"
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute('UPDATE wallets SET state = \'{"form": "of an older version"}\'')
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        use = cloud_event("use", "credits.consumed", "ann", NOON, credits="4")
        [outcome] = Subledger(database).record("acme", [use])
        assert outcome.error is None
    finally:
        database.close()


def test_exports_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
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
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


@pytest.mark.parametrize("months", [("2026-01", "2026-02"), ()])
def test_pools_of_two_months_keep_their_cohorts_after_a_downgrade(fresh_database_url: str, months: tuple[str]) -> None:
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    Subledger(database).create_ledger("acme", LedgerSettings(currency="USD"))
    bought = {"credits": "10", "price": "5.00", "currency": "USD"}
    for month in months:
        block = {"block_id": month, "pool": "p", **bought}
        Subledger(database).record(
            "acme", [cloud_event(month, "credits.purchased", "ann", f"{month}-15T12:00:00Z", **block)]
        )
    database.close()
    command.downgrade(_config(fresh_database_url), "0034")
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        data = {"pool": "p", "expected_breakage_rate": "0.1", "currency": "USD", "evidence": "r"}
        made = cloud_event("e", "breakage.estimated", None, "2026-03-01T12:00:00Z", **data)
        block = {"block_id": "B", "pool": "p", **bought}
        later = cloud_event("b", "credits.purchased", "ann", "2026-03-02T12:00:00Z", **block)
        assert [outcome.error for outcome in Subledger(database).record("acme", [made, later])] == [None, None]
        with psycopg.connect(fresh_database_url) as connection:
            found = connection.execute("SELECT cohort FROM dimension_sets WHERE pool = 'p' ORDER BY 1").fetchall()
        assert {cohort for (cohort,) in found} == {*months, "2026-03"}
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


def test_rejections_whose_text_was_added_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
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
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        assert Subledger(database).record("acme", usage)[1].rejection_id is not None
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


def test_requests_with_an_effect_are_sealed_as_they_are_after_a_downgrade_too(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
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
    upgrade_database(fresh_database_url)
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
    upgrade_database(fresh_database_url)
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
    upgrade_database(fresh_database_url)
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


def test_an_upgraded_ledger_says_in_its_log_from_where_the_new_accounting_rules_hold(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    block = {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"}
    service.record("acme", [cloud_event("buy", "credits.purchased", "ann", NOON, **block)])
    with psycopg.connect(fresh_database_url) as connection:  # as a version before this one would have left it
        connection.execute("UPDATE ledgers SET accounting_rules = 1, rebuilds = rebuilds + 1")
    use = cloud_event("use", "credits.consumed", "ann", NOON, credits="4")
    with pytest.raises(SchemaOutOfDate, match="subledger init"):
        service.record("acme", [use])
    upgrade_database(fresh_database_url)
    upgrade_database(fresh_database_url)
    assert service.record("acme", [use])[0].error is None
    database.close()
