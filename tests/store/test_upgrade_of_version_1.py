"""A ledger that was recorded under version 1 of the accounting rules, upgraded: its decisions and hashes stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.service import Subledger, upgrade_database
from projections import integrity
from projections.replay.rebuild import rebuild
from subledger.ledger import ACCOUNTING_RULES
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_heads
from tests.building import cloud_event
from tests.reading import get_report
from tests.store.version_1 import EVENTS, load_version_1


@pytest.fixture
def version_1_url(fresh_database_url: str) -> str:
    load_version_1(fresh_database_url)
    return fresh_database_url


@pytest.fixture
def upgraded(version_1_url: str) -> Iterator[Subledger]:
    upgrade_database(version_1_url)
    database = Database(version_1_url)
    yield Subledger(database)
    database.close()


def logged(url: str) -> list[tuple[object, ...]]:
    """Returns the log with every stored decision and hash."""
    read = """
        SELECT e.leaf, to_jsonb(e)::text,
               (SELECT jsonb_agg(to_jsonb(n) - 'cohort' ORDER BY n.number)::text
                FROM entries n WHERE n.position = e.position)
        FROM events e WHERE position <= %s ORDER BY position
    """
    with psycopg.connect(url) as connection:
        return connection.execute(read, (EVENTS,)).fetchall()


def effective_dates(service: Subledger) -> list[tuple[str, date, date]]:
    with service.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT e.type, n.accounting_date, n.effective_date FROM events e JOIN entries n USING (ledger, position)"
            " WHERE e.type = 'credits.expired' ORDER BY position, number"
        )
        return [tuple(row) for row in rows]


def test_an_upgrade_changes_no_decision_and_no_hash_and_the_ledger_verifies_clean(version_1_url: str) -> None:
    before = logged(version_1_url)
    assert len(before) == EVENTS
    upgrade_database(version_1_url)
    assert logged(version_1_url) == before
    database = Database(version_1_url)
    try:
        assert integrity.verify(database, "acme").differences == []
        with database.read() as connection:
            [(head, _)] = ledger_heads(connection, after="", limit=9)
        assert (head.state.accounting_rules, head.position) == (ACCOUNTING_RULES, EVENTS + 1)
        counts = rebuild(database, "acme")
        assert not any((*counts.removed.values(), *counts.written.values()))
    finally:
        database.close()


def test_an_expiry_of_before_keeps_its_day_and_one_of_afterwards_is_of_the_last_usable_day(upgraded: Subledger) -> None:
    was = effective_dates(upgraded)
    assert was[0][1:] == (date(2026, 2, 1), date(2026, 2, 1))
    block = {"block_id": "N", "credits": "5", "price": "5.00", "currency": "USD", "expires_at": "2026-07-01T00:00:00Z"}
    bought = cloud_event("buy-new", "credits.purchased", "ann", "2026-06-01T12:00:00Z", **block)
    assert upgraded.record("acme", [bought])[0].error is None
    assert upgraded.expire("acme", date(2026, 7, 1)) == 1
    assert effective_dates(upgraded) == [*was, ("credits.expired", date(2026, 6, 30), date(2026, 6, 30))]
    assert integrity.verify(upgraded.database, "acme").differences == []


def test_an_upgraded_ledger_goes_on_where_it_was(upgraded: Subledger) -> None:
    late = cloud_event("late-2", "credits.consumed", "ann", "2026-01-25T12:00:00Z", credits="1", block_id="A")
    [outcome] = upgraded.record("acme", [late])
    assert outcome.error is None
    with upgraded.database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT kind, accounting_date, credits, amount_minor FROM entries WHERE position = "
            f"{outcome.position} ORDER BY number"
        )
        assert [tuple(row) for row in found] == [
            ("breakage", date(2026, 2, 1), -1, -33),
            ("consumption", date(2026, 1, 25), 1, 33),
        ]
    assert integrity.verify(upgraded.database, "acme").differences == []


def test_a_pool_of_before_cohorts_is_one_by_itself_in_every_view_and_its_line_goes_on(upgraded: Subledger) -> None:
    """Earlier postings stay unchanged. A purchase in a month before the first cohort opens no cohort."""
    pooled = {"pool": "prepaid", "currency": "USD", "credits": "100", "price": "100.00"}
    events = [
        cloud_event("b-1", "credits.purchased", "bob", "2026-06-01T12:00:00Z", block_id="N", **pooled),
        cloud_event("b-2", "credits.purchased", "cy", "2025-12-20T12:00:00Z", block_id="E", **pooled),
        cloud_event("b-3", "credits.consumed", "bob", "2026-06-10T12:00:00Z", credits="40", block_id="N"),
    ]
    assert [outcome.error for outcome in upgraded.record("acme", events)] == [None] * 3
    app = create_app(upgraded, open_on_loopback=True)
    client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
    for month in ("2025-12", "2026-02", "2026-04", "2026-06"):
        report = get_report(client, "acme", "pools", to=month)
        [pool] = report["items"]
        assert pool["cohort"] is None
        assert pool["due_by_formula"] == pool["recognised"], month
        assert all(tie["report"] == tie["trial_balance"] for tie in report["ties"])
    assert integrity.verify(upgraded.database, "acme").differences == []


def test_events_from_before_are_undone_last_first_or_name_what_stands_in_the_way(upgraded: Subledger) -> None:
    with upgraded.database.read() as connection:
        [(ledger,)] = connection.exec_driver_sql("SELECT ledger FROM ledgers").all()
        sent = connection.exec_driver_sql(
            "SELECT source, event_id, customer FROM events WHERE source <> 'subledger' ORDER BY position DESC"
        ).all()
    codes = []
    for number, (source, event_id, customer) in enumerate(sent):
        data = {"event_id": event_id, "event_source": source, "reason": "r"}
        undoing = cloud_event(f"undo-{number}", "event.reversed", customer, "2026-06-01T12:00:00Z", **data)
        [outcome] = upgraded.record(ledger, [undoing])
        codes.append(None if outcome.error is None else outcome.error.code)
    assert None in codes
    assert {code for code in codes if code is not None} <= {"changed_since", "not_reversible"}
    assert integrity.verify(upgraded.database, ledger).differences == []
