"""The log cannot be changed. A change that bypasses the triggers is found, with its place."""

from __future__ import annotations

import psycopg
import pytest

from api.service import Subledger
from projections.integrity import verify
from subledger.store.tables import APP_ROLE, APPEND_ONLY
from tests.conftest import NewLedger
from tests.store.tampering import LEDGER, differences, history, tamper


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET ledger = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("who", ["application", "owner", "owner as replica"])
def test_the_log_refuses_every_change(
    owner_url: str, new_ledger: NewLedger, service: Subledger, table: str, statement: str, who: str
) -> None:
    service.record(new_ledger(), history(1, 10))
    with psycopg.connect(owner_url) as connection:
        if who == "application":
            connection.execute(f"SET ROLE {APP_ROLE}")
        if who == "owner as replica":
            connection.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(statement.format(table))
    assert refused.value.sqlstate == ("42501" if who == "application" else "23001")


COPIED_ENTRY = (
    "INSERT INTO entries SELECT ledger, {position}, {number}, policy, kind, customer, block_id, unit, credits,"
    " amount_minor, currency, functional_minor, accounting_date, effective_date, cut, dimension_set FROM entries"
)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("events", """UPDATE events SET data = replace(data, '"b5"', '"b6"') WHERE position = 9"""),
        ("events", """UPDATE events SET data = replace(data, '.37"', '.38"') WHERE position = 9"""),
        ("events", "UPDATE events SET data = '{}' WHERE position = 9"),
        ("events", "UPDATE events SET occurred_at = occurred_at + interval '1 microsecond' WHERE position = 9"),
        ("events", "UPDATE events SET customer = 'c9' WHERE position = 9"),
        ("events", "UPDATE events SET source = 'x' WHERE position = 9"),
        ("events", "UPDATE events SET event_id = 'x' WHERE position = 9"),
        ("events", "UPDATE events SET type = 'credits.granted' WHERE position = 9"),
        ("events", "UPDATE events SET attributes = '{}' WHERE position = 9"),
        ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9"),
        ("events", "UPDATE events SET leaf = sha256('x') WHERE position = 9"),
        ("entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET functional_minor = functional_minor + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET credits = credits + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET unit = 'x' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET kind = 'goodwill' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET policy = 2 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET accounting_date = accounting_date + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET effective_date = effective_date - 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET block_id = 'b6' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET currency = 'EUR' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET cut = cut + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET dimension_set = dimension_set + 1 WHERE position = 9 AND number = 1"),
        ("entries", "DELETE FROM entries WHERE position = 9 AND number = 2"),
        ("entries", f"{COPIED_ENTRY.format(position=9, number=9)} WHERE position = 9 AND number = 1"),
        ("events", "DELETE FROM events WHERE position = 9"),
    ],
)
def test_a_change_behind_the_triggers_back_is_found_with_its_position(
    own: tuple[Subledger, str], table: str, statement: str
) -> None:
    service, url = own
    assert differences(service) == []
    tamper(url, table, statement)
    found = differences(service)
    assert found[0].check == "log"
    assert found[0].position == 9


def test_a_changed_amount_says_which_entry_and_what_it_was(own: tuple[Subledger, str]) -> None:
    service, url = own
    tamper(url, "entries", "UPDATE entries SET amount_minor = 1234567 WHERE position = 9 AND number = 1")
    [wrong] = [difference for difference in differences(service) if difference.check == "entries"]
    assert (wrong.position, wrong.subject, wrong.found) == (9, "1.amount_minor", "1234567")
    assert wrong.expected is not None
    assert wrong.expected.endswith("37")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hash", "sha256('x')"),
        ("previous_hash", "sha256('x')"),
        ("root", "sha256('x')"),
        ("recorded_at", "recorded_at + interval '1 microsecond'"),
        ("recorded_at", "recorded_at + interval '1 year'"),
    ],
)
def test_a_changed_batch_is_found(own: tuple[Subledger, str], column: str, value: str) -> None:
    service, url = own
    tamper(url, "batches", f"UPDATE batches SET {column} = {value} WHERE first_position = 1")
    found = differences(service)
    assert [d.check for d in found if d.position == 3] == ["chain"]
    assert found[0].position == 3


def test_a_batch_that_is_gone_or_reaches_elsewhere_is_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    tamper(url, "batches", "UPDATE batches SET first_position = 5 WHERE first_position = 4")
    [first, *_] = differences(service)
    assert (first.check, first.position) == ("chain", 4)
    tamper(url, "batches", "DELETE FROM batches WHERE first_position = 1")
    assert [(d.check, d.position) for d in differences(service)][:3] == [("chain", 1), ("chain", 2), ("chain", 3)]


def test_a_log_cut_off_at_its_end_is_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    position = verify(service.database, LEDGER).events
    tamper(url, "entries", f"DELETE FROM entries WHERE position > {position - 9}")
    tamper(url, "events", f"DELETE FROM events WHERE position > {position - 9}")
    [first, *_] = differences(service)
    assert (first.check, first.position) == ("log", position - 8)
    tamper(url, "batches", f"DELETE FROM batches WHERE last_position > {position - 9}")
    assert ("head", "position") in [(d.check, d.subject) for d in differences(service)]


def test_events_and_entries_that_nothing_vouches_for_are_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    tamper(url, "entries", f"{COPIED_ENTRY.format(position=5000, number=1)} WHERE position = 9 AND number = 1")
    assert ("log", 5000) in [(d.check, d.position) for d in differences(service)]
    tamper(
        url,
        "events",
        (
            "INSERT INTO events SELECT ledger, 5000, source, 'x', type, customer, occurred_at, data, attributes,"
            " decision, leaf FROM events WHERE position = 9"
        ),
    )
    assert ("chain", 5000) in [(d.check, d.position) for d in differences(service)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("position", "position - 1"),
        ("recorded_at", "recorded_at + interval '1 day'"),
        ("batch_hash", "sha256('x')"),
        ("frontier", "sha256('x') || substr(frontier, 33)"),
    ],
)
def test_a_changed_head_is_found(own: tuple[Subledger, str], column: str, value: str) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE ledgers DROP CONSTRAINT ck_ledgers_wallets_through")
        connection.execute(f"UPDATE ledgers SET {column} = {value}")
    assert [(d.check, d.subject) for d in differences(service)] == [("head", column)]
