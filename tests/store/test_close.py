"""Closing and reopening: the order of periods, and the proofs before the commit."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from api.service import Subledger
from projections.close import close as closing
from projections.close.close import close_period, reopen_period
from projections.close.period_history import closing_of, history_of, periods
from projections.exports.exporting import export
from projections.exports.exports import content_of
from subledger.errors import IntegrityFault, InvalidValue, PeriodNotClosed, PeriodOutOfOrder, UnknownLedger
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import rate, recorded
from tests.conftest import NewLedger
from tests.store.closed_months import APRIL, FEBRUARY, JANUARY, MARCH, a_quarter, buy, journals, query, state, use
from tests.store.tampering import LEDGER, differences

# --- the order of periods -------------------------------------------------------------------------------------


def test_periods_close_in_order_and_the_refusal_names_the_month_that_is_next(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1", expires_at="2026-02-10T00:00:00Z"))
    with pytest.raises(PeriodOutOfOrder) as caught:
        close_period(service.recorder, ledger, FEBRUARY)
    assert caught.value.expected == "2026-01"
    with database.read() as connection:  # a month that is not next records no expiries
        assert [(p.period, p.entries) for p in periods(connection, ledger)] == [(JANUARY, 1)]
    close_period(service.recorder, ledger, JANUARY)
    for wrong in (JANUARY, MARCH):
        with pytest.raises(PeriodOutOfOrder) as caught:
            close_period(service.recorder, ledger, wrong)
        assert caught.value.expected == "2026-02"
    closed = close_period(service.recorder, ledger, FEBRUARY)
    assert (closed.period, closed.cut, closed.expired) == (FEBRUARY, 2, 1)
    assert state(database, ledger) == (date(2026, 2, 28), 3)


def test_an_unknown_ledger_has_no_periods(service: Subledger, database: Database) -> None:
    with pytest.raises(UnknownLedger):
        close_period(service.recorder, "no-such-ledger", JANUARY)
    with pytest.raises(UnknownLedger):
        journals(service, "no-such-ledger", JANUARY)
    with database.read() as connection, pytest.raises(UnknownLedger):
        periods(connection, "no-such-ledger")


def test_closing_expires_what_ended_in_the_period_where_the_ledger_lives(
    service: Subledger, database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(timezone="America/New_York")
    recorded(
        service, ledger, buy("in", expires_at="2026-02-01T05:00:00Z"), buy("after", expires_at="2026-02-01T05:00:01Z")
    )
    assert close_period(service.recorder, ledger, JANUARY).expired == 1
    found = query(
        database,
        "SELECT e.block_id, e.accounting_date::text, v.occurred_at, e.cut "
        "FROM entries e JOIN events v USING (ledger, position) WHERE e.ledger = %(ledger)s AND e.kind = 'breakage'",
        ledger,
    )
    assert found == [("in", "2026-01-31", datetime(2026, 2, 1, 5, tzinfo=UTC), 1)]
    event = query(
        database,
        "SELECT source, event_id, occurred_at, data FROM events WHERE ledger = %(ledger)s AND type = 'period.closed'",
        ledger,
    )[0]
    assert event[0] == "subledger"
    assert re.fullmatch(r"period\.closed/2026-01/\d+", event[1])
    assert event[2] == datetime(2026, 2, 1, 4, 59, 59, 999_999, tzinfo=UTC)
    assert event[3] == '{"period":"2026-01"}'


def test_a_late_fact_keeps_its_effective_date_and_gets_the_first_open_day(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    close_period(service.recorder, ledger, JANUARY)
    recorded(service, ledger, use("late", "10", time="2026-01-20T00:00:00Z"))
    assert query(
        database,
        "SELECT effective_date::text, accounting_date::text, cut FROM entries "
        "WHERE ledger = %(ledger)s AND kind = 'consumption'",
        ledger,
    ) == [("2026-01-20", "2026-02-01", 2)]


def test_reopening_a_period_reopens_the_later_ones_and_each_closes_again(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    for period in (JANUARY, FEBRUARY, MARCH):
        close_period(service.recorder, ledger, period)
    with pytest.raises(PeriodNotClosed):
        reopen_period(service.recorder, ledger, APRIL, "a correction")
    with pytest.raises(InvalidValue):
        reopen_period(service.recorder, ledger, FEBRUARY, "  ")
    reopen_period(service.recorder, ledger, FEBRUARY, "a correction")
    with database.read() as connection:
        assert [(str(p.period), p.state, p.reason) for p in periods(connection, ledger)] == [
            ("2026-01", "closed", None),
            ("2026-02", "open", "a correction"),
            ("2026-03", "open", "a correction"),
        ]
    recorded(service, ledger, use("late", "10", time="2026-02-20T00:00:00Z"))
    with database.read() as connection:
        assert [(str(p.period), p.state) for p in periods(connection, ledger)] == [
            ("2026-01", "closed"),
            ("2026-02", "open"),
            ("2026-03", "open"),
        ]
    with pytest.raises(PeriodOutOfOrder):
        close_period(service.recorder, ledger, MARCH)
    close_period(service.recorder, ledger, FEBRUARY)
    close_period(service.recorder, ledger, MARCH)
    assert state(database, ledger)[0] == date(2026, 3, 31)
    assert query(
        database, "SELECT data FROM events WHERE ledger = %(ledger)s AND type = 'period.reopened'", ledger
    ) == [('{"period":"2026-02","reason":"a correction"}',)]


@pytest.mark.parametrize("policy", ["contract_liability", "customer_deposits", "customer_deposits_arm"])
def test_a_quarter_closes_under_every_policy(
    service: Subledger, database: Database, new_ledger: NewLedger, policy: str
) -> None:
    ledger = new_ledger(policy=policy)
    a_quarter(service, ledger)
    accounts = {
        line.role for period in (JANUARY, FEBRUARY) for j in journals(service, ledger, period) for line in j.lines
    }
    assert ("customer_deposits" in accounts) == (policy != "contract_liability")
    assert ("usage_revenue" in accounts) == (policy != "customer_deposits_arm")
    assert state(database, ledger)[0] == date(2026, 3, 31)


# --- the proofs before the commit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        ("UPDATE ledger_days SET mirrored_minor = 1 WHERE ledger = %s AND kind = 'purchase'", "in the same currency"),
        ("DELETE FROM ledger_days WHERE ledger = %s AND kind = 'purchase'", "prepaid_liability -1000"),
        ("DELETE FROM posting_rules WHERE ledger = %s AND kind = 'consumption'", "has no rule"),
        (
            "UPDATE posting_rules SET credit = 'suspense' WHERE ledger = %s AND kind = 'consumption' AND pair = 1",
            "trial balance",
        ),
        ("DELETE FROM posting_rules WHERE ledger = %s AND kind = 'consumption' AND pair = 2", "deposits 10000"),
        ("DELETE FROM posting_rules WHERE ledger = %s AND kind = 'purchase' AND pair = 2", "prepaid_liability -1000"),
    ],
)  # fmt: skip
def test_books_that_do_not_hold_are_not_closed(
    service: Subledger, database: Database, owner_url: str, ledger: str, tamper: str, says: str
) -> None:
    recorded(service, ledger, buy("b1"), use("u1", "100", time="2026-01-11T00:00:00Z"))
    with psycopg.connect(owner_url) as connection:
        connection.execute(tamper.encode(), (ledger,))
    with pytest.raises(IntegrityFault, match=says):
        close_period(service.recorder, ledger, JANUARY)
    assert state(database, ledger) == (None, 1)


OF_A_DECISION = (
    "ledger", "position", "number", "policy", "kind", "block_id", "credits", "amount_minor", "accounting_date",
)  # fmt: skip


def test_a_month_is_closed_and_handed_over_without_reading_one_of_its_entries(own: tuple[Subledger, str]) -> None:
    """So the time does not depend on the number of entries. Only detail exports must read them."""
    service, url = own
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("REVOKE SELECT ON entries, journal_lines FROM subledger_app")
        # These are in the query for duplicates, from which a month cannot be summed.
        superuser.execute(f"GRANT SELECT ({', '.join(OF_A_DECISION)}) ON entries TO subledger_app")
        close_period(service.recorder, LEDGER, FEBRUARY)
        [handed_over] = export(service.recorder, service.database, LEDGER, FEBRUARY, "csv")
        assert b"".join(content_of(service.database, handed_over)).count(b"\n") > 3
        with pytest.raises(DBAPIError, match="permission denied"):
            export(service.recorder, service.database, LEDGER, FEBRUARY, "beancount", detail=True)
        superuser.execute("GRANT SELECT ON entries, journal_lines TO subledger_app")
    assert export(service.recorder, service.database, LEDGER, FEBRUARY, "beancount", detail=True)
    assert differences(service) == []


def test_an_expiry_that_is_refused_keeps_the_period_open(
    service: Subledger, database: Database, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(service, ledger, buy("b1", expires_at="2026-01-20T00:00:00Z"))
    monkeypatch.setattr(closing, "sweep", lambda *_: 0)
    with pytest.raises(IntegrityFault, match="an expiry of 2026-01 is still due"):
        close_period(service.recorder, ledger, JANUARY)
    assert state(database, ledger) == (None, 1)


def test_a_month_keeps_the_name_of_who_reopened_it_when_an_earlier_one_is_reopened_later(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    for month in (1, 2, 3):
        close_period(service.recorder, ledger, Period(2026, month), by="clara")
    reopen_period(service.recorder, ledger, Period(2026, 3), "late usage", by="ann")
    reopen_period(service.recorder, ledger, Period(2026, 1), "a missing invoice", by="bob")
    with service.database.read() as connection:
        found = {month: closing_of(acts) for month, acts in history_of(connection, ledger).items()}
        reopened = {str(month): (last["reopened_by"], last["reason"]) for month, last in found.items()}
    assert reopened == {
        "2026-01": ("bob", "a missing invoice"),
        "2026-02": ("bob", "a missing invoice"),
        "2026-03": ("ann", "late usage"),
    }


def test_credits_that_expire_between_the_sweep_and_the_close_are_not_remeasured(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the sweep of the close, a writer records a purchase of credits that have already expired."""
    ledger = new_ledger()
    recorded(service, ledger, rate("2026-01-01", "1.10"), rate("2026-01-31", "1.30"))
    swept, late = closing.sweep, iter([True])

    def sweep_and_be_late(*given: Any) -> int:
        found = swept(*given)
        if next(late, False):
            recorded(service, ledger, buy("b1", currency="EUR", refundable=True, expires_at="2026-01-20T00:00:00Z"))
        return found

    monkeypatch.setattr(closing, "sweep", sweep_and_be_late)
    assert close_period(service.recorder, ledger, JANUARY).expired == 1
    assert differences(service, ledger) == []
