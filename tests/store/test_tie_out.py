"""Tie-out: every difference between a general ledger and the exported journals is found, named, and measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from api.service import Subledger
from projections.close.close import close_period
from projections.delivery.tie_out import TieOut, read_trial_balance, theirs_of, tie_out
from projections.exports import exporting
from projections.journals.drill_down import entries_behind_line
from projections.journals.stored_journals import journal_of, journals_of
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.periods import Period
from tests.building import cloud_event

NewLedger = Callable[..., str]
MONTHS = [Period.parse(f"2026-0{month}") for month in (1, 2, 3)]
Row = dict[str, str]


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Three months in two currencies, closed and exported."""
    ledger = new_ledger(policy="contract_liability", rate_max_age_days=90)
    events = [
        cloud_event(
            "rate",
            "exchange_rate.set",
            None,
            "2026-01-01T00:00:00Z",
            base="EUR",
            quote="USD",
            rate="1.1237",
            rate_source="x",
        )
    ]
    for number, month in enumerate(MONTHS):
        for customer, currency in (("c1", "USD"), ("c2", "EUR")):
            events.append(
                cloud_event(
                    f"buy-{number}-{customer}",
                    "credits.purchased",
                    customer,
                    f"{month}-03T00:00:00Z",
                    block_id=f"b-{number}-{customer}",
                    credits="1000",
                    price="99.99",
                    currency=currency,
                    expires_at=f"{month}-25T00:00:00Z",
                )
            )
            events.append(
                cloud_event(
                    f"use-{number}-{customer}",
                    "credits.consumed",
                    customer,
                    f"{month}-09T00:00:00Z",
                    credits=f"{100 + number}",
                    product="api",
                )
            )
    service.record(ledger, events)
    for month in MONTHS:
        close_period(service.recorder, ledger, month)
        exporting.export(service.recorder, service.database, ledger, month, "csv")
    return ledger


def booked(service: Subledger, ledger: str) -> list[Row]:
    """Returns the trial balance of a general ledger that has posted every journal once."""
    sums: dict[tuple[str, Period], list[int]] = {}
    with service.database.read() as connection:
        for journal in journals_of(connection, ledger):
            for line in journal.lines:
                total = sums.setdefault((line.account.number, journal.period), [0, 0])
                total[line.side is Side.CREDIT] += line.functional_minor
    return [
        {"account": account, "period": str(period), "debit": f"{d / 100:.2f}", "credit": f"{c / 100:.2f}"}
        for (account, period), (d, c) in sums.items()
    ]


def compared(service: Subledger, ledger: str, rows: list[Row], *accounts: str) -> TieOut:
    with service.database.read() as connection:
        return tie_out(connection, ledger, theirs_of(rows, "USD"), accounts=accounts)


def test_books_that_posted_everything_once_tie(service: Subledger, ledger: str) -> None:
    rows = booked(service, ledger)
    found = compared(service, ledger, rows)
    assert found.tied
    assert found.compared >= 9
    assert "1100" in found.not_ours, "others post to receivables too"
    assert compared(service, ledger, rows, *{row["account"] for row in rows}).tied


def test_a_comparison_of_nothing_ties_nothing(service: Subledger, ledger: str, new_ledger: NewLedger) -> None:
    for found in (compared(service, ledger, []), compared(service, new_ledger(), booked(service, ledger))):
        assert (found.compared, found.tied, found.months_proved) == (0, False, ())
    with service.database.read() as connection:
        assert not tie_out(connection, ledger, read_trial_balance("account,period,debit,credit\n", "USD")).tied


def test_a_month_is_proved_by_all_its_accounts_and_whatever_another_months_say(service: Subledger, ledger: str) -> None:
    rows = booked(service, ledger)
    assert compared(service, ledger, rows).months_proved == tuple(MONTHS)
    of_one = compared(service, ledger, rows, "2150")
    assert (of_one.tied, of_one.months_proved) == (True, ())
    next(row for row in rows if row["account"] == "4000" and row["period"] == "2026-02")["credit"] = "0.00"
    assert compared(service, ledger, rows).months_proved == (MONTHS[0], MONTHS[2])


def test_balances_are_compared_as_of_each_months_end(service: Subledger, ledger: str) -> None:
    running: dict[str, float] = {}
    rows = []
    for month in MONTHS:
        for row in booked(service, ledger):
            if row["period"] == str(month):
                running[row["account"]] = running.get(row["account"], 0) + float(row["debit"]) - float(row["credit"])
        rows += [{"account": a, "period": str(month), "balance": f"{b:.2f}"} for a, b in running.items()]
    assert compared(service, ledger, rows).tied
    rows[-1]["balance"] = f"{float(rows[-1]['balance']) + 0.01:.2f}"
    [difference] = compared(service, ledger, rows, rows[-1]["account"]).differences
    assert (difference.measure, difference.difference, difference.period) == ("balance", 1, MONTHS[-1])


def test_a_changed_a_missing_and_a_doubled_row_are_each_found(service: Subledger, ledger: str) -> None:
    for times, more in ((1, 1), (0, 0), (2, 0)):
        rows = booked(service, ledger)
        row = next(r for r in rows if r["account"] == "2150" and r["period"] == "2026-02")
        debit = round(float(row["debit"]) * 100)
        row["debit"] = f"{(times * debit + more) / 100:.2f}"
        [found] = compared(service, ledger, rows).differences
        assert (found.account, found.period) == ("2150", MONTHS[1])
        assert found.difference == (times - 1) * debit + more


def test_an_account_that_the_general_ledger_lacks_is_a_difference(service: Subledger, ledger: str) -> None:
    rows = [row for row in booked(service, ledger) if not (row["account"] == "4100" and row["period"] == "2026-03")]
    [found] = compared(service, ledger, rows).differences
    assert (found.account, found.theirs) == ("4100", None)


def test_what_is_behind_a_difference_leads_to_its_entries(service: Subledger, ledger: str) -> None:
    rows = booked(service, ledger)
    next(r for r in rows if r["account"] == "4000" and r["period"] == "2026-01")["credit"] = "0.00"
    [found] = compared(service, ledger, rows).differences
    with service.database.read() as connection:
        [share] = found.behind
        journal = journal_of(connection, ledger, MONTHS[0], share.number)
        amounts = [
            entry.functional_minor
            for line in share.lines
            for entry in entries_behind_line(connection, journal, line, limit=1000)
        ]
    assert sum(amounts) == share.credit_minor == found.difference == -found.ours


def test_what_no_journal_holds_yet_is_said(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(policy="contract_liability", rate_max_age_days=90)
    buy = cloud_event(
        "buy", "credits.purchased", "c", "2026-01-03T00:00:00Z", block_id="b", credits="1", price="1.00", currency="USD"
    )
    service.record(ledger, [buy])
    found = compared(service, ledger, [{"account": "2150", "period": "2026-01", "debit": "0", "credit": "1.00"}])
    assert (found.tied, found.not_handed_over) == (False, (MONTHS[0],))


def test_a_file_is_read_with_other_columns_between_and_in_any_order(service: Subledger, ledger: str) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["Credit", "Account", "Name", "Period", "Debit"])
    writer.writeheader()
    rows = booked(service, ledger)
    writer.writerows({**{k.capitalize(): v for k, v in row.items()}, "Name": "x, y"} for row in rows)
    assert read_trial_balance("\ufeff" + file.getvalue(), "USD") == theirs_of(rows, "USD")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("account,debit,credit\n", "period"),
        ("account,period\n2150,2026-01\n", "balance"),
        ("account,period,debit,credit\n2150,2026-13,1,0\n", "period"),
        ("account,period,debit,credit\n2150,2026-01,1.001,0\n", "debit"),
        ("account,period,debit,credit\n2150,2026-01,1e3,0\n", "debit"),
        ("account,period,debit,credit\n,2026-01,1,0\n", "account"),
        ("account,period,balance\n2150,2026-01,1\n2150,2026-01,1\n", "account"),
        ('account,period,balance\n2150,"2026-01,1\n', "line 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_place(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_trial_balance(text, "USD")
    assert caught.value.field == field
    assert "line" in caught.value.message or field == "account"


def test_an_account_that_no_journal_names_cannot_be_asked_for(service: Subledger, ledger: str) -> None:
    with pytest.raises(InvalidInput):
        compared(service, ledger, [], "9999")
