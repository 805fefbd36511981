"""A mapping by ``refundable``: amounts that are owed back in money have another account than the contract liability."""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import partial

import pytest

from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping, parse_mapping
from projections.account_mapping.rows import csv_text
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.formats import neutral
from projections.integrity import verify
from projections.journals.drill_down import entries_behind_line
from projections.journals.journal import Journal
from subledger.accounts import Side
from subledger.periods import Period
from tests.building import cloud_event, payment, purchase, rate, recorded, usage
from tests.conftest import NewLedger
from tests.reading import csv_rows, journals_made, report_of, table_of

LIABILITY = ("prepaid_liability", "customer_deposits", "credits_clearing")
CHART = AccountMapping.from_rows(
    (
        *default_mapping().rows,
        {"role": "prepaid_liability", "refundable": "true", "account": "2350", "name": "Refund liability"},
        {"role": "usage_revenue", "refundable": "false", "account": "4050", "name": "Usage, not refundable"},
    )
)
MONTHS = (Period(2026, 1), Period(2026, 2), Period(2026, 3))


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Two blocks of each sort, one of them in euros. The refundable ones are partly used, transferred and refunded. All
    blocks end.
    """
    ledger = new_ledger(policy="contract_liability")
    adopt_mapping(service.recorder, ledger, CHART)
    buy = partial(purchase, credits="100", price="100.00", time="2026-01-10")
    use = partial(usage, time="2026-02-10")
    recorded(
        service,
        ledger,
        rate("2026-01-01", "1.20"),
        buy("plain"),
        buy("owed", customer="bob", refundable=True, tax="10.00"),
        buy("euro", customer="cid", refundable=True, currency="EUR"),
        payment("p", "110.00", "bob", "2026-01-11", block_id="owed"),
        rate("2026-01-31", "1.15"),
    )
    close_period(service.recorder, ledger, MONTHS[0])
    hand = {"block_id": "owed", "credits": "40", "to_customer": "dan", "new_block_id": "given"}
    recorded(
        service,
        ledger,
        use("u1", "100", customer="ann"),
        use("u2", "50", customer="bob"),
        cloud_event("t", "credits.transferred", "bob", "2026-02-12T00:00:00Z", **hand),
        use("u3", "40", customer="dan", time="2026-02-13"),
        use("u4", "100", customer="cid", product="api"),
        cloud_event("back", "credits.refunded", "bob", "2026-02-20T00:00:00Z", block_id="owed"),
        rate("2026-02-28", "1.10"),
        rate("2026-03-31", "1.10"),
    )
    for month in MONTHS[1:]:
        close_period(service.recorder, ledger, month)
    return ledger


def balances(journals: tuple[Journal, ...], *, functional: bool = False) -> dict[str, int]:
    """Returns the balance of each GL account over journals, debits positive."""
    found: Counter[str] = Counter()
    for line in (line for journal in journals for line in journal.lines):
        amount = line.functional_minor if functional else line.amount_minor
        found[line.account.number] += amount if line.side is Side.DEBIT else -amount
    return dict(found)


def test_the_liability_of_refundable_blocks_has_its_own_account_and_returns_to_zero(
    service: Subledger, ledger: str
) -> None:
    journals = journals_made(service, ledger, *MONTHS)
    january = [journal for journal in journals if journal.period == MONTHS[0]]
    assert balances(tuple(january))["2350"] == -200_00
    assert balances(tuple(january), functional=True)["2350"] == -215_00, "the euros at the rate of the month's end"
    number = CHART.resolve("prepaid_liability", "", "paid", "USD").number
    assert balances(tuple(january))[number] == -100_00
    for functional in (False, True):
        over_all = balances(journals, functional=functional)
        assert (over_all["2350"], over_all[number]) == (0, 0)
    over_all = balances(journals, functional=True)
    assert over_all["4050"] == -100_00
    assert verify(service.database, ledger).differences == []


def test_the_lines_and_files_of_a_journal_say_which_is_which_and_lead_to_their_entries(
    service: Subledger, ledger: str
) -> None:
    [journal] = [journal for journal in journals_made(service, ledger, *MONTHS) if journal.period == MONTHS[0]]
    with service.database.read() as connection:
        for line in journal.lines:
            behind = entries_behind_line(connection, journal, line.number)
            assert sum(entry.amount_minor for entry in behind) == line.amount_minor
            assert sum(entry.functional_minor for entry in behind) == line.functional_minor
            assert {entry.block_id in ("owed", "euro") for entry in behind} == {line.refundable == "true"}
    rows = csv_rows(neutral.csv_text(journal).encode())
    assert {row["refundable"] for row in rows if row["account"] == "2350"} == {"true"}
    assert {row["refundable"] for row in rows if row["role"] == "prepaid_liability"} == {"true", ""}


def test_reports_can_be_grouped_by_it(service: Subledger, ledger: str) -> None:
    report = report_of(service, ledger, "rollforward", by="refundable", as_of=date(2026, 1, 31))
    rows = table_of(report, "rollforward")
    assert {(row["refundable"], row["currency"], row["closing"]) for row in rows} == {
        ("", "USD", 100_00),
        ("true", "USD", 100_00),
        ("true", "EUR", 100_00),
    }
    summary = table_of(report_of(service, ledger, "summary", as_of=date(2026, 1, 31)), "summary")
    assert {row["gl_account"] for row in summary if row["refundable"] and row["account"] in LIABILITY} == {"2350"}


def test_a_chart_with_it_is_written_and_read_as_the_same_rows() -> None:
    assert parse_mapping(csv_text(CHART.rows)) == CHART
    assert "refundable" not in csv_text(default_mapping().rows)
