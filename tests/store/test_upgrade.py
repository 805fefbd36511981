"""From an older version's database to this version: the log is kept, and everything else is made again from it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import psycopg
import pytest
from alembic import command

from api.http.problems import status_of
from api.service import Subledger, recorder_of, upgrade_database
from projections import integrity
from projections.configuring.upgrade import adopt_accounting_rules, is_upgraded
from projections.exports.exporting import export
from projections.replay.rebuild import rebuild
from subledger.errors import DocumentExists, EffectChanged, IntegrityFault, SchemaOutOfDate
from subledger.events.envelope import Event
from subledger.events.own_data import Approvals
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.ledger_settings import LedgerSettings
from subledger.own_events import ledger_configured
from subledger.periods import Period
from subledger.store.database import Database, WriteConnection
from subledger.store.migrate import _config, migrate, revision
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.rejected.keeper import Bounds
from subledger.store.writing import loading
from subledger.store.writing.recorder import raise_first
from tests.building import cloud_event, grant
from tests.store.version_1 import EVENTS, load_version_1

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
    """An older version did not check if a payout was recorded under another event id. Recorded events stay."""
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


def test_the_id_that_a_target_answered_is_in_the_steps_after_a_downgrade_too(fresh_database_url: str) -> None:
    migrate(fresh_database_url)
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
    command.downgrade(_config(fresh_database_url), "0040")
    whole = "SELECT seal = row_seal(to_jsonb(s) - 'seal') FROM delivery_steps s"
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute(whole).fetchall() == [(True,), (True,)]
    migrate(fresh_database_url)
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute(whole).fetchall() == [(True,), (True,)]
        found = connection.execute("SELECT step, erp_id FROM delivery_steps ORDER BY step").fetchall()
        assert found == [(1, None), (2, "7")]
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("UPDATE delivery_steps SET erp_id = '8'")


# --- the accounting rules -----------------------------------------------------------------------------------------

BUY_MORE = {"block_id": "N", "credits": "10", "price": "5.00", "currency": "USD"}


def rules_of(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT ledger, accounting_rules FROM ledgers ORDER BY ledger").fetchall())


def adoptions(url: str) -> list[tuple[str, int]]:
    """Returns the positions at which ledgers adopted version 2, by ledger."""
    adopting = "SELECT ledger, position FROM events WHERE (data::jsonb ->> 'accounting_rules')::int = 2 ORDER BY 1, 2"
    with psycopg.connect(url) as connection:
        return connection.execute(adopting).fetchall()


def test_an_upgraded_ledger_says_in_its_log_from_where_the_new_accounting_rules_hold(fresh_database_url: str) -> None:
    load_version_1(fresh_database_url)
    migrate(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    try:
        bought = cloud_event("more", "credits.purchased", "ann", NOON, **BUY_MORE)
        with pytest.raises(SchemaOutOfDate, match="subledger init") as caught:
            service.record("acme", [bought])
        assert (caught.value.retryable, status_of(caught.value)) == (True, 503)
        assert adoptions(fresh_database_url) == []
        assert not is_upgraded(fresh_database_url)
        shown: list[tuple[str, int, int]] = []
        upgrade_database(fresh_database_url, progress=lambda *of: shown.append(of))
        upgrade_database(fresh_database_url)
        assert is_upgraded(fresh_database_url)
        assert adoptions(fresh_database_url) == [("acme", EVENTS + 1)]
        assert shown[-1] == ("acme", EVENTS, EVENTS)
        assert service.record("acme", [bought])[0].error is None
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()


def test_rules_are_adopted_only_at_the_position_that_was_rebuilt(fresh_database_url: str) -> None:
    load_version_1(fresh_database_url)
    migrate(fresh_database_url)
    database = Database(fresh_database_url)
    try:
        recorder = recorder_of(database)
        assert not adopt_accounting_rules(recorder, "acme", rebuilt=EVENTS - 1)
        assert rules_of(fresh_database_url) == {"acme": 1}
        counts = rebuild(database, "acme")
        assert counts.position == EVENTS
        assert adopt_accounting_rules(recorder, "acme", rebuilt=counts.position)
        assert adopt_accounting_rules(recorder, "acme", rebuilt=counts.position), "they are in force already"
        assert adoptions(fresh_database_url) == [("acme", EVENTS + 1)]
    finally:
        database.close()


def test_a_program_of_the_version_before_cannot_write_after_the_migration(fresh_database_url: str) -> None:
    """Its lock reads a column, and its batch has a parameter, whose names have changed."""
    upgrade_database(fresh_database_url)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedColumn, match="rebuilds"):
            connection.execute("SELECT position, batch_hash, frontier, rebuilds FROM ledgers FOR UPDATE")
        with pytest.raises(psycopg.errors.UndefinedFunction):
            connection.execute("SELECT append_batch(of_ledger => 'acme', at_once => true, at_rebuilds => 0)")


def test_one_damaged_ledger_does_not_stop_the_upgrade_of_the_others(fresh_database_url: str) -> None:
    load_version_1(fresh_database_url)
    migrate(fresh_database_url)
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for table in ("ledgers", "posting_policies", "batches", "events", "entries"):
            connection.execute(
                f'INSERT INTO {table} SELECT (jsonb_populate_record(t, \'{{"ledger": "aaa"}}\')).* FROM {table} t'
            )
    with pytest.raises(IntegrityFault, match="not aaa: "):
        upgrade_database(fresh_database_url)
    assert rules_of(fresh_database_url) == {"aaa": 1, "acme": 2}
    assert not is_upgraded(fresh_database_url)


def test_settings_that_were_requested_before_an_upgrade_are_refused(fresh_database_url: str) -> None:
    upgrade_database(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    try:
        service.create_ledger("acme", LedgerSettings(currency="USD"))

        def plan(_connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
            before = msgspec.structs.replace(state, entity="new", accounting_rules=1)
            return [ledger_configured(before, number=position + 1, at=datetime.now(UTC), by="ann")]

        with pytest.raises(EffectChanged, match="requested under version 1"):
            raise_first(service.recorder.transact("acme", plan))
        with database.read() as connection:
            [(head, _)] = ledger_heads(connection, after="", limit=9)
        assert (head.state.entity, head.state.accounting_rules) == ("acme", ACCOUNTING_RULES)
        assert integrity.verify(database, "acme").differences == []
    finally:
        database.close()
