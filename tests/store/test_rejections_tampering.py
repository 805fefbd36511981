"""Nobody can rewrite a rejection or remove a dismissal, and changes that bypass the triggers are found."""

from __future__ import annotations

import psycopg
import pytest

from api.service import Subledger
from subledger.store.tables import APP_ROLE, metadata
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.store.tampering import differences, tamper

TAMPERING = [
    "UPDATE rejected_events SET sent = 'other' WHERE ledger = %s",
    "UPDATE rejected_events SET sent_bytes = 1, sent = 'x', attempts = attempts + 1, last_at = '2199-01-01',"
    " text_at = '2199-01-01' WHERE ledger = %s",
    "UPDATE rejected_events SET text_at = last_at WHERE ledger = %s",
    "UPDATE rejected_events SET customer = NULL WHERE ledger = %s",
    "UPDATE rejected_events SET credits = 7 WHERE ledger = %s",
    "UPDATE rejected_events SET sender = 'bob' WHERE ledger = %s",
    "UPDATE rejected_events SET first_at = now() WHERE ledger = %s",
    "UPDATE rejected_events SET attempts = attempts - 1 WHERE ledger = %s",
    "UPDATE rejected_events SET code = 'fine' WHERE ledger = %s",
    "UPDATE rejected_events SET position = position + 1 WHERE ledger = %s",
    "UPDATE rejected_events SET dismissed_at = NULL, dismissed_by = NULL, dismissed_reason = NULL WHERE ledger = %s",
    "UPDATE rejected_events SET dismissed_by = 'bob' WHERE ledger = %s",
    "UPDATE rejected_events SET reopened_at = dismissed_at WHERE ledger = %s",
    "DELETE FROM rejected_events WHERE ledger = %s",
    "UPDATE rejection_steps SET done_by = 'bob' WHERE ledger = %s",
    "DELETE FROM rejection_steps WHERE ledger = %s",
]


@pytest.mark.parametrize("statement", TAMPERING)
@pytest.mark.parametrize("role", [APP_ROLE, "none"])
def test_nobody_rewrites_a_rejection_or_takes_a_dismissal_back(
    statement: str, role: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    outcomes = service.record(ledger, [usage("u1"), usage("u1")])
    service.rejected.dismiss(ledger, outcomes[0].rejection_id or "", "a test", by="ann")
    with psycopg.connect(owner_url) as connection:
        connection.execute(f"SET ROLE {role}")  # type: ignore[call-overload]  # one of two constants
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)):
            connection.execute(statement, (ledger,))  # type: ignore[call-overload]  # one of the constants above


def test_rejections_are_never_truncated(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("TRUNCATE rejected_events")


COLUMNS = sorted(column.name for column in metadata.tables["rejected_events"].columns if column.name != "ledger")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_column_past_the_triggers_is_found(
    column: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), purchase("b", "much")])
    assert differences(service, ledger) == []
    kind = str(metadata.tables["rejected_events"].columns[column].type)
    other = {
        "TEXT": "'other'",
        "BYTEA": "'\\x00'",
        "NUMERIC": "99",
        "BIGINT": "99",
        "TIMESTAMP WITH TIME ZONE": "'2020-01-01'",
        "BLOB": "'\\x00'",
        "DATETIME": "'2020-01-01'",
    }[kind]
    together = {
        "amount_minor": ", currency = 'USD'",
        "currency": ", amount_minor = 1",
        "unit": ", credits = 1",
        "reopened_at": ", dismissed_at = '2019-01-01', dismissed_by = 'a', dismissed_reason = 'b'",
        "dismissed_at": ", dismissed_by = 'a', dismissed_reason = 'b'",
        "dismissed_by": ", dismissed_at = now(), dismissed_reason = 'b'",
        "dismissed_reason": ", dismissed_at = now(), dismissed_by = 'a'",
    }.get(column, "")
    where = f"ledger = '{ledger}' AND event_id = 'u1'"
    tamper(owner_url, "rejected_events", f"UPDATE rejected_events SET {column} = {other}{together} WHERE {where}")
    found = {found.check for found in differences(service, ledger)}
    assert found - {"rejection_steps"} == {"rejected_events"}, "a dismissal without its step is one more"


def test_a_rejection_that_is_taken_away_past_the_triggers_is_missed(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), usage("u2"), usage("u1")])
    service.record(ledger, [usage("u1"), usage("u3")])
    assert differences(service, ledger) == []
    tamper(owner_url, "rejected_events", f"DELETE FROM rejected_events WHERE ledger = '{ledger}' AND event_id = 'u1'")
    [found] = differences(service, ledger)
    assert (found.check, found.expected, found.found) == ("rejected_events", "3", "2")


AGAIN = "attempts = attempts + 1, last_at = clock_timestamp()"


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        # With the application's own rights: a reopening without a name, a note of an event that does not exist.
        ("UPDATE rejected_events SET reopened_at = now() WHERE ledger = %s", "rejection_steps"),
        ("UPDATE rejected_events SET settled_position = 99 WHERE ledger = %s", "rejected_events"),
        # A rejection with a later position would never be found recorded. One with a later time would be open after
        # each dismissal.
        (f"UPDATE rejected_events SET position = 99, {AGAIN} WHERE ledger = %s", "rejected_events"),
        (f"UPDATE rejected_events SET {AGAIN} + interval '25 hours' WHERE ledger = %s", "rejected_events"),
        ("INSERT INTO rejection_steps SELECT %s, 'rej-none', now(), 'reopened', 'bob', 'x'", "rejection_steps"),
    ],
)
def test_what_the_application_may_write_and_did_not_is_found(
    statement: str, check: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    [outcome] = service.record(ledger, [usage("u1")])
    service.rejected.dismiss(ledger, outcome.rejection_id or "", "a test", by="ann")
    assert differences(service, ledger) == []
    with psycopg.connect(owner_url) as connection:
        connection.execute(f"SET ROLE {APP_ROLE}")
        connection.execute(statement, (ledger,))  # type: ignore[call-overload]  # one of the constants above
    assert check in {found.check for found in differences(service, ledger)}
