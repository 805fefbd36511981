"""Closing, reopening, cuts, and the journals that follow from them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close import close as closing
from projections.close.close import close_period, reopen_period
from projections.close.period_history import closing_of, history_of, periods
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.exports.exports import content_of, get_export, journal_behind, list_exports
from projections.journals.drill_down import entries_behind_line
from projections.journals.journal import Journal, check_balanced
from projections.journals.making import ensure_journals
from projections.journals.stored_journals import journal_of, journals_of
from subledger.accounts import ROLES, Side
from subledger.errors import (
    IntegrityFault,
    InvalidValue,
    NotSupportedYet,
    PeriodNotClosed,
    PeriodOutOfOrder,
    UnknownExport,
    UnknownFormat,
    UnknownLedger,
    UnmappedRole,
)
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import cloud_event, purchase, recorded, usage
from tests.charts import adopt_unchecked
from tests.conftest import NewLedger
from tests.store.tampering import LEDGER, differences, past_triggers

JANUARY, FEBRUARY, MARCH, APRIL = (Period(2026, month) for month in (1, 2, 3, 4))


@pytest.fixture
def ledger(new_ledger: NewLedger) -> str:
    return new_ledger()


buy = partial(purchase, customer="cust-1", time="2026-01-10", credits="1000", price="100.00")


use = partial(usage, customer="cust-1")


def journals(service: Subledger, ledger: str, period: Period) -> tuple[Journal, ...]:
    return ensure_journals(service.recorder, service.database, ledger, period)


def sums(*several: Journal) -> dict[tuple[str, str], int]:
    """Role and side → minor units, over some journals."""
    total: Counter[tuple[str, str]] = Counter()
    for journal in several:
        for line in journal.lines:
            total[line.role, line.side.value] += line.amount_minor
    return dict(total)


def query(database: Database, sql: str, ledger: str) -> list[tuple[Any, ...]]:
    with database.write() as connection:
        return connection.execute(sql, {"ledger": ledger}).fetchall()


def state(database: Database, ledger: str) -> tuple[date | None, int]:
    return query(database, "SELECT closed_through, open_cut FROM ledgers WHERE ledger = %(ledger)s", ledger)[0]


# --- the order of periods -------------------------------------------------------------------------------------


def test_periods_close_in_order_and_the_refusal_names_the_month_that_is_next(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1", expires_at="2026-02-10T00:00:00Z"))
    with pytest.raises(PeriodOutOfOrder) as caught:
        close_period(service.recorder, ledger, FEBRUARY)
    assert caught.value.expected == "2026-01"
    with database.read() as connection:  # a month whose turn has not come expires nothing
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
        service,
        ledger,
        buy("in", expires_at="2026-02-01T04:59:59Z"),
        buy("at-the-end", expires_at="2026-02-01T05:00:00Z"),
    )
    assert close_period(service.recorder, ledger, JANUARY).expired == 1
    found = query(
        database,
        "SELECT e.block_id, e.accounting_date::text, v.occurred_at, e.cut "
        "FROM entries e JOIN events v USING (ledger, position) WHERE e.ledger = %(ledger)s AND e.kind = 'breakage'",
        ledger,
    )
    assert found == [("in", "2026-01-31", datetime(2026, 2, 1, 4, 59, 59, tzinfo=UTC), 1)]
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


# --- journals -------------------------------------------------------------------------------------------------


def test_a_closed_period_has_one_journal_and_asking_again_makes_none(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"), use("u1", "250", time="2026-01-11T00:00:00Z"))
    close_period(service.recorder, ledger, JANUARY)
    (journal,) = journals(service, ledger, JANUARY)
    assert (journal.number, journal.from_cut, journal.to_cut, journal.mapping) == (1, 0, 1, 1)
    assert [(x.number, x.role, x.side.value, x.amount_minor, x.account.number) for x in journal.lines] == [
        (1, "accounts_receivable", "debit", 12500, "1100"),
        (2, "accounts_receivable", "credit", 2500, "1100"),
        (3, "credits_clearing", "debit", 10000, "1300"),
        (4, "credits_clearing", "credit", 2500, "1300"),
        (5, "deferred_revenue", "debit", 10000, "2100"),
        (6, "deferred_revenue", "credit", 10000, "2100"),
        (7, "prepaid_liability", "debit", 2500, "2150"),
        (8, "prepaid_liability", "credit", 10000, "2150"),
        (9, "customer_deposits", "debit", 2500, "2000"),
        (10, "customer_deposits", "credit", 10000, "2000"),
        (11, "usage_revenue", "credit", 2500, "4000"),
    ]
    assert journals(service, ledger, JANUARY) == (journal,)
    assert state(database, ledger)[1] == 2


def test_a_journal_of_an_open_period_takes_a_cut_and_the_rest_is_its_adjustment(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    (first,) = journals(service, ledger, JANUARY)
    assert (first.from_cut, first.to_cut, state(database, ledger)[1]) == (0, 1, 2)
    assert journals(service, ledger, JANUARY) == (first,)  # nothing new: no cut
    assert state(database, ledger)[1] == 2
    recorded(
        service, ledger, use("u1", "100", time="2026-01-20T00:00:00Z"), use("u2", "50", time="2026-02-02T00:00:00Z")
    )
    close_period(service.recorder, ledger, JANUARY)
    again, adjustment = journals(service, ledger, JANUARY)
    assert again == first
    assert (adjustment.number, adjustment.from_cut, adjustment.to_cut) == (2, 1, 2)
    assert sums(adjustment)["usage_revenue", "credit"] == 1000
    assert adjustment.posting_date == date(2026, 1, 31)
    reopen_period(service.recorder, ledger, JANUARY, "one more")
    recorded(service, ledger, use("u3", "1", time="2026-01-30T00:00:00Z"))
    close_period(service.recorder, ledger, JANUARY)
    assert [(j.number, j.from_cut, j.to_cut) for j in journals(service, ledger, JANUARY)] == [
        (1, 0, 1),
        (2, 1, 2),
        (3, 2, 3),
    ]


def test_a_month_without_entries_has_one_empty_journal_and_cuts_nothing(
    service: Subledger, database: Database, ledger: str
) -> None:
    for _ in range(2):
        (journal,) = journals(service, ledger, JANUARY)
        assert (journal.lines, journal.from_cut, journal.to_cut) == ((), 0, 0)
    assert state(database, ledger)[1] == 1
    recorded(service, ledger, buy("b1"))
    assert [len(j.lines) for j in journals(service, ledger, JANUARY)] == [0, 6]
    close_period(service.recorder, ledger, JANUARY)
    close_period(service.recorder, ledger, FEBRUARY)
    assert [len(j.lines) for j in journals(service, ledger, FEBRUARY)] == [0]


def test_mirrored_entries_are_not_netted(service: Subledger, ledger: str) -> None:
    recorded(
        service,
        ledger,
        buy("b1"),
        use("u1", "100", time="2026-01-11T00:00:00Z"),
        cloud_event("r1", "consumption.reversed", "cust-1", "2026-01-12T00:00:00Z")
        | {"data": {"event_id": "u1", "credits": "40", "reason": "counted twice"}},
    )
    (journal,) = journals(service, ledger, JANUARY)
    assert sums(journal)["usage_revenue", "credit"] == 1000
    assert sums(journal)["usage_revenue", "debit"] == 400


def _a_quarter(service: Subledger, ledger: str) -> None:
    """Three months with late facts, a reopening and interim exports."""
    recorded(
        service,
        ledger,
        buy("b1", expires_at="2026-02-15T00:00:00Z", tax="7.00"),
        buy("b2", time="2026-01-11T00:00:00Z", price="33.33", customer="cust-2"),
        cloud_event(
            "g1", "credits.granted", "cust-2", "2026-01-12T00:00:00Z", block_id="g1", credits="5", reason="promotional"
        ),
        cloud_event(
            "p1",
            "payment.received",
            "cust-1",
            "2026-01-20T00:00:00Z",
            amount="107.00",
            currency="USD",
            block_id="b1",
            processor="stripe",
            fee="3.40",
        ),
        use("u1", "333", time="2026-01-21T00:00:00Z"),
        use("u2", "7", time="2026-01-22T00:00:00Z", customer="cust-2", product="api"),
    )
    journals(service, ledger, JANUARY)
    recorded(service, ledger, use("u3", "1", time="2026-01-23T00:00:00Z"), use("u4", "2", time="2026-02-01T00:00:00Z"))
    close_period(service.recorder, ledger, JANUARY)
    journals(service, ledger, JANUARY)
    recorded(
        service,
        ledger,
        use("u5", "3", time="2026-01-30T00:00:00Z"),
        cloud_event("v1", "purchase.voided", "cust-2", "2026-02-20T00:00:00Z", block_id="b2", reason="returned"),
    )
    close_period(service.recorder, ledger, FEBRUARY)
    reopen_period(service.recorder, ledger, JANUARY, "late invoice")
    recorded(service, ledger, buy("b3", time="2026-01-31T00:00:00Z", price="9.99", customer="cust-3"))
    for period in (JANUARY, FEBRUARY, MARCH):
        close_period(service.recorder, ledger, period)


def test_every_entry_is_in_one_journal_and_the_journals_are_the_trial_balance(
    service: Subledger, database: Database, ledger: str
) -> None:
    _a_quarter(service, ledger)
    every = [journal for period in (JANUARY, FEBRUARY, MARCH) for journal in journals(service, ledger, period)]
    assert [(str(j.period), j.number) for j in every] == [
        ("2026-01", 1),
        ("2026-01", 2),
        ("2026-01", 3),
        ("2026-02", 1),
        ("2026-03", 1),
    ]
    lines = query(
        database,
        "SELECT account, side, sum(amount_minor)::bigint FROM journal_lines WHERE ledger = %(ledger)s GROUP BY 1, 2",
        ledger,
    )
    assert sums(*every) == {(account, side): amount for account, side, amount in lines}
    entries = query(
        database, "SELECT position, number, accounting_date, cut FROM entries WHERE ledger = %(ledger)s", ledger
    )
    for _, _, on, cut in entries:
        assert sum(j.period == Period.of(on) and j.from_cut < cut <= j.to_cut for j in every) == 1
    with database.read() as connection:
        assert journals_of(connection, ledger) == tuple(every)
        assert [(str(p.period), p.state, p.journals) for p in periods(connection, ledger)] == [
            ("2026-01", "closed", 3),
            ("2026-02", "closed", 1),
            ("2026-03", "closed", 1),
        ]
        assert sum(p.entries for p in periods(connection, ledger)) == len(entries)


def test_the_entries_behind_a_line_add_up_to_it(service: Subledger, database: Database, ledger: str) -> None:
    _a_quarter(service, ledger)
    for period in (JANUARY, FEBRUARY, MARCH):
        for journal in journals(service, ledger, period):
            for line in journal.lines:
                with database.read() as connection:
                    found = entries_behind_line(connection, journal, line.number, limit=1000)
                    paged, after = [], None
                    while page := entries_behind_line(connection, journal, line.number, after=after, limit=2):
                        paged += page
                        after = (page[-1].position, page[-1].number)
                assert paged == found
                assert sum(entry.amount_minor for entry in found) == line.amount_minor
                assert sum(entry.functional_minor for entry in found) == line.functional_minor
                assert 0 < len(found) <= line.entries
    january = journals(service, ledger, JANUARY)[0]
    number = next(line.number for line in january.lines if line.role == "tax_payable")
    with database.read() as connection:
        (entry,) = entries_behind_line(connection, january, number)
        assert (entry.event_id, entry.source, entry.event_type) == ("buy-b1", "billing", "credits.purchased")
        assert (entry.customer, entry.block_id, entry.kind, entry.amount_minor) == ("cust-1", "b1", "purchase_tax", 700)
        for absent in (0, len(january.lines) + 1):
            with pytest.raises(UnknownExport):
                entries_behind_line(connection, january, absent)
        with pytest.raises(UnknownExport):
            journal_of(connection, ledger, JANUARY, 9)


def test_two_callers_at_once_make_one_journal(service: Subledger, database: Database, ledger: str) -> None:
    recorded(service, ledger, buy("b1"))
    others = [Subledger(database).recorder, service.recorder]
    results: list[tuple[Journal, ...]] = []
    threads = [
        threading.Thread(target=lambda r=recorder: results.append(ensure_journals(r, database, ledger, JANUARY)))
        for recorder in others * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 1
    assert state(database, ledger)[1] == 2


def test_a_role_without_an_account_stops_the_journal_and_cuts_nothing(
    service: Subledger, database: Database, ledger: str
) -> None:
    of_euros = AccountMapping.from_rows({**row, "currency": "EUR"} for row in default_mapping().rows)
    adopt_unchecked(service.recorder, ledger, of_euros)
    recorded(service, ledger, buy("b1"))
    with pytest.raises(UnmappedRole):
        journals(service, ledger, JANUARY)
    with database.read() as connection:
        assert journals_of(connection, ledger, JANUARY) == ()
    assert state(database, ledger)[1] == 1
    recorded(service, ledger, use("u1", "1", time="2026-01-11T00:00:00Z"))  # the writer goes on


def test_a_journal_keeps_the_accounts_it_was_made_with(service: Subledger, ledger: str) -> None:
    recorded(service, ledger, buy("b1"))
    before = journals(service, ledger, JANUARY)
    credited = {line.role for line in before[0].lines if line.side is Side.CREDIT}
    adopt_mapping(
        service.recorder,
        ledger,
        AccountMapping.from_rows(
            {"role": role.name, "account": "9999" if role.name in credited else "9998"} for role in ROLES
        ),
    )
    recorded(service, ledger, use("u1", "100", time="2026-01-11T00:00:00Z"))
    first, second = journals(service, ledger, JANUARY)
    assert (first,) == before
    assert {line.account.number for line in second.lines} == {"9999", "9998"}
    assert second.mapping == 2


@pytest.mark.parametrize("policy", ["contract_liability", "customer_deposits", "customer_deposits_arm"])
def test_a_quarter_closes_under_every_policy(
    service: Subledger, database: Database, new_ledger: NewLedger, policy: str
) -> None:
    ledger = new_ledger(policy=policy)
    _a_quarter(service, ledger)
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
    """So it takes no longer, however many there are. What is spelled out entry by entry has to read them."""
    service, url = own
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("REVOKE SELECT ON entries, journal_lines FROM subledger_app")
        # These are named in the question for duplicates; a month cannot be summed of them.
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
    monkeypatch.setattr(closing, "_LATE_EXPIRIES", 0)
    monkeypatch.setattr(closing, "sweep", lambda *_: 0)
    with pytest.raises(IntegrityFault, match="an expiry of 2026-01"):
        close_period(service.recorder, ledger, JANUARY)
    assert state(database, ledger) == (None, 1)


def test_a_journal_that_was_changed_is_refused(
    service: Subledger, database: Database, ledger: str, owner_url: str
) -> None:
    recorded(service, ledger, buy("b1"))
    (journal,) = journals(service, ledger, JANUARY)
    with pytest.raises(IntegrityFault, match="out of balance by 10000 minor units of USD"):
        check_balanced(journal.lines[:-1])
    with past_triggers(owner_url, "journals") as connection:
        connection.execute("UPDATE journals SET lines = replace(lines, '10000', '10001') WHERE ledger = %s", (ledger,))
    with database.read() as connection, pytest.raises(IntegrityFault, match="is not what it was"):
        journals_of(connection, ledger, JANUARY)


# --- exports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "detail"),
    [("csv", False), ("json", False), ("beancount", False), ("hledger", False), ("beancount", True), ("hledger", True)],
)
def test_asking_again_gives_the_same_export_and_the_same_bytes(
    service: Subledger, database: Database, ledger: str, format: str, detail: bool
) -> None:
    _a_quarter(service, ledger)
    first = export(service.recorder, database, ledger, JANUARY, format, detail=detail)
    contents = [b"".join(content_of(database, one)) for one in first]
    recorded(
        service, ledger, use("u9", "3", time="2026-01-31T00:00:00Z", customer="cust-3")
    )  # goes into April: no change to January
    again = export(service.recorder, database, ledger, JANUARY, format, detail=detail)
    assert again == first
    assert [b"".join(content_of(database, one)) for one in again] == contents
    assert [hashlib.sha256(content).hexdigest() for content in contents] == [one.content_hash for one in first]
    extension = {"csv": "csv", "json": "json", "beancount": "beancount", "hledger": "journal"}[format]
    suffix = "-detail" if detail else ""
    assert [one.export_id for one in first] == [f"{ledger}-2026-01-{n}-{format}{suffix}" for n in (1, 2, 3)]
    assert [one.filename for one in first] == [f"{one.export_id}.{extension}" for one in first]
    with database.read() as connection:
        assert get_export(connection, ledger, first[1].export_id) == first[1]
        assert list_exports(connection, ledger, period=JANUARY) == list(first)
        assert list_exports(connection, ledger, after=first[0].export_id, limit=1) == [first[1]]
        assert list_exports(connection, ledger, period=MARCH) == []
        assert journal_behind(connection, first[2]).number == 3
    kept = query(database, "SELECT content IS NULL FROM journal_exports WHERE ledger = %(ledger)s", ledger)
    assert kept == [(detail,)] * 3


def test_an_unknown_format_or_a_detail_that_it_has_not_is_told_before_anything_is_cut(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    with pytest.raises(UnknownFormat):
        export(service.recorder, database, ledger, JANUARY, "pdf")
    with pytest.raises(NotSupportedYet):
        export(service.recorder, database, ledger, JANUARY, "csv", detail=True)
    assert state(database, ledger)[1] == 1
    with database.read() as connection, pytest.raises(UnknownExport):
        get_export(connection, ledger, "nothing")


@pytest.mark.parametrize("detail", [False, True])
def test_an_export_that_is_not_what_was_handed_over_is_refused(
    service: Subledger, database: Database, ledger: str, owner_url: str, detail: bool
) -> None:
    recorded(service, ledger, buy("b1"))
    (one,) = export(service.recorder, database, ledger, JANUARY, "hledger", detail=detail)
    changed = "content_hash = 'x'" if detail else "content = content || '\\x20'"
    with past_triggers(owner_url, "journal_exports") as connection:
        connection.execute(f"UPDATE journal_exports SET {changed} WHERE ledger = %s", (ledger,))
    with database.read() as connection:
        one = get_export(connection, ledger, one.export_id)
    with pytest.raises(IntegrityFault, match="is not the file that was handed over"):
        list(content_of(database, one))


def test_the_database_keeps_a_second_journal_of_the_same_number_out(
    service: Subledger, database: Database, ledger: str
) -> None:
    recorded(service, ledger, buy("b1"))
    journals(service, ledger, JANUARY)
    with pytest.raises(psycopg.errors.UniqueViolation), database.write() as connection:
        connection.execute(
            "INSERT INTO journals SELECT ledger, period, number, 7, 8, mapping, lines, content_hash FROM journals "
            "WHERE ledger = %s",
            (ledger,),
        )


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
