"""Cuts, and the journals that follow from them: each entry is in exactly one."""

from __future__ import annotations

from datetime import date

import msgspec
import psycopg
import pytest

from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close.close import close_period, reopen_period
from projections.close.period_history import periods
from projections.configuring.account_mappings import adopt_mapping
from projections.journals.drill_down import entries_behind_line
from projections.journals.journal import Journal, check_balanced
from projections.journals.making import ensure_journals
from projections.journals.stored_journals import journal_of, journals_of
from subledger.accounts import ROLES, Side
from subledger.errors import IntegrityFault, UnknownExport, UnmappedRole
from subledger.periods import Period
from subledger.store.database import Database
from tests.building import cloud_event, recorded
from tests.charts import adopt_unchecked
from tests.store.closed_months import FEBRUARY, JANUARY, MARCH, a_quarter, buy, journals, query, state, sums, use
from tests.store.tampering import past_triggers
from tests.together import together


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
    assert journals(service, ledger, JANUARY) == (first,)  # nothing new, so no cut
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


def test_every_entry_is_in_one_journal_and_the_journals_are_the_trial_balance(
    service: Subledger, database: Database, ledger: str
) -> None:
    a_quarter(service, ledger)
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
    a_quarter(service, ledger)
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
    together(lambda recorder: results.append(ensure_journals(recorder, database, ledger, JANUARY)), others * 3)
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
    recorded(service, ledger, use("u1", "1", time="2026-01-11T00:00:00Z"))  # the writer continues


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


def test_a_journal_out_of_balance_is_refused(service: Subledger, ledger: str) -> None:
    recorded(service, ledger, buy("b1"))
    (journal,) = journals(service, ledger, JANUARY)
    *lines, last = journal.lines
    check_balanced([*lines, last])
    with pytest.raises(IntegrityFault, match=r"out of balance by 10000 minor units of USD \(10000 functional\)"):
        check_balanced(lines)
    one_more = msgspec.structs.replace(last, amount_minor=last.amount_minor + 1)
    with pytest.raises(IntegrityFault, match=r"out of balance by -1 minor units of USD \(0 functional\)"):
        check_balanced([*lines, one_more])


def test_a_journal_out_of_balance_in_the_functional_currency_alone_is_refused(service: Subledger, ledger: str) -> None:
    recorded(service, ledger, buy("b1"))
    (journal,) = journals(service, ledger, JANUARY)
    *lines, last = journal.lines
    one_less = msgspec.structs.replace(last, functional_minor=last.functional_minor - 1)
    with pytest.raises(IntegrityFault, match=r"out of balance by 0 minor units of USD \(1 functional\)"):
        check_balanced([*lines, one_less])


def test_a_journal_that_was_changed_is_refused(
    service: Subledger, database: Database, ledger: str, owner_url: str
) -> None:
    recorded(service, ledger, buy("b1"))
    journals(service, ledger, JANUARY)
    with past_triggers(owner_url, "journals") as connection:
        connection.execute("UPDATE journals SET lines = replace(lines, '10000', '10001') WHERE ledger = %s", (ledger,))
    with database.read() as connection, pytest.raises(IntegrityFault, match="was changed after it was made"):
        journals_of(connection, ledger, JANUARY)


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
