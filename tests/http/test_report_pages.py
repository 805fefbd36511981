"""Reports as pages to print: every figure of the report is on the page, aligned to the right, and every table fits the
paper.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
import pytest
from fastapi.testclient import TestClient

from api import terminal
from api.service import Subledger
from api.shapes import report_pages, report_tables
from api.shapes.reports import REPORTS, ReportQuery, answer
from projections.report import Column, Report, ReportRequest, Table, Tie
from tests.building import at_noon, recorded
from tests.conftest import NewLedger

ACROSS = "@page { size: A4 landscape; }"


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger with a pool, a receivable in another currency, overage, and an id with an underscore."""
    made = new_ledger(on_shortfall="overage")

    usd = {"currency": "USD"}
    events = [
        at_noon("r", "exchange_rate.set", None, "01-01", base="EUR", quote="USD", rate="1.2", rate_source="ecb"),
        at_noon(
            "1",
            "credits.purchased",
            "ann",
            "01-01",
            block_id="blk_1",
            credits="1234567",
            price="12345.67",
            pool="year",
            **usd,
        ),
        at_noon(
            "2", "breakage.estimated", None, "01-02", pool="year", expected_breakage_rate="0.1", evidence="<e>", **usd
        ),
        at_noon("3", "credits.purchased", "bob", "01-03", block_id="B", credits="10", price="10.00", currency="EUR"),
        at_noon("4", "credits.consumed", "ann", "02-01", credits="1000000"),
        at_noon(
            "5", "breakage.estimated", None, "03-02", pool="year", expected_breakage_rate="0.05", evidence="f", **usd
        ),
        at_noon(
            "sorry",
            "credits.granted",
            "bob",
            "02-02",
            block_id="G",
            credits="5",
            reason="goodwill",
            value="5.00",
            **usd,
        ),
        at_noon("bought", "credits.purchased", "dora", "02-03", block_id="D", credits="5", price="7.00", **usd),
        at_noon("void", "purchase.voided", "dora", "02-04", block_id="D", reason="r"),
        at_noon("6", "credits.consumed", "carl", "03-03", credits="7", overage_price="1.00", **usd),
    ]
    recorded(service, made, *events)
    return made


def _page(client: TestClient, ledger: str, name: str, **asked: str) -> str:
    answer = client.get(f"/v1/ledgers/{ledger}/reports/{name}", params={"to": "2026-03", "format": "html", **asked})
    assert answer.status_code == 200
    return answer.text


def _plain(page: str) -> str:
    return page.replace("<wbr>", "")


@pytest.mark.parametrize("name", ["receivables", "pools", "rollforward", "waterfall", "clearing"])
def test_every_figure_of_a_report_is_on_its_page_in_a_cell_of_figures(
    client: TestClient, ledger: str, name: str
) -> None:
    document = client.get(f"/v1/ledgers/{ledger}/reports/{name}", params={"to": "2026-03"}).json()
    page = _plain(_page(client, ledger, name))
    cells = set(re.findall(r'<td class="figure[^"]*">([^<]*)</td>', page))
    amounts = [
        value
        for rows in (rows for rows in document.values() if isinstance(rows, list))
        for row in rows
        if isinstance(row, dict)
        for value in row.values()
        if isinstance(value, str) and re.fullmatch(r"-?\d+\.\d\d", value)
    ]
    assert len(amounts) > 10
    assert {f"{Decimal(amount):,}" for amount in amounts} <= cells


def test_a_wide_table_of_few_rows_is_turned(client: TestClient, ledger: str) -> None:
    page = _plain(_page(client, ledger, "pools"))
    turned = page[page.index('<section class="turned">') :]
    assert "<tr><td>net issued</td>" in turned.partition("</section>")[0]
    assert "12,345.67" in turned
    assert "<td>&lt;e&gt;</td>" in page
    assert ACROSS not in page


def test_a_wide_table_of_many_rows_lies_across_with_its_functional_amounts_below(
    client: TestClient, ledger: str
) -> None:
    page = _page(client, ledger, "rollforward")
    upper, _, lower = page.partition("<h2>In USD</h2>")
    assert ">voided</th>" in upper
    assert ">closing, USD</th>" not in upper
    assert '<th class="figure">closing</th>' in lower.partition("</thead>")[0]
    assert ">functional currency</th>" not in page
    nothing = _page(client, ledger, "rollforward", customer="carl")
    assert "There is nothing to show." in nothing
    assert ACROSS not in nothing


def test_a_table_that_stays_wide_turns_the_paper(service: Subledger, ledger: str) -> None:
    columns = tuple(Column(f"c{number}", "integer") for number in range(report_pages.TOO_WIDE + 1))
    rows = ((1,) * len(columns),) * (terminal.FEW_ROWS + 1)
    for shown, across in ((columns, True), (columns[1:], False)):
        table = Table(name="t", columns=shown, rows=tuple(row[: len(shown)] for row in rows))
        with service.view(ledger) as view:
            page = report_pages.page(Report(name="made up", title="T", tables=(table,)), view, ReportRequest())
        assert (ACROSS in page) is across


def test_ages_and_what_a_currency_is_worth_are_headed_as_people_say_it(client: TestClient, ledger: str) -> None:
    page = _page(client, ledger, "receivables")
    for head in ("current", "over 90 days", "61-90 days", "balance, USD"):
        assert f">{head}</th>" in page
    assert "<dt>From</dt>" not in page
    assert "<dt>From</dt>" in _page(client, ledger, "pools")


def test_a_name_may_be_parted_at_its_underscores_and_a_day_nowhere(client: TestClient, ledger: str) -> None:
    page = _page(client, ledger, "receivables")
    assert "accounts_<wbr>receivable" in page
    assert "blk_<wbr>1" in page
    assert '<td class="day">2026-01-01</td>' in page


def test_a_tie_that_does_not_hold_stands_out(service: Subledger, ledger: str) -> None:
    table = Table(name="t", columns=(Column("currency"), Column("amount", "money")), rows=(("USD", -123456),))
    ties = [
        Tie(what=what, currency="USD", report_minor=report, trial_balance_minor=100)
        for what, report in (("wrong", 99), ("right", 100))
    ]
    report = Report(name="made up", title="Made up", tables=(table,), ties=tuple(ties))
    with service.view(ledger) as view:
        page = report_pages.page(report, view, ReportRequest())
    assert '<tr class="differs"><td>wrong</td>' in page
    assert "<tr><td>right</td>" in page
    assert '<td class="figure">-1,234.56</td>' in page


def test_headings_say_what_columns_hold() -> None:
    names = ("days_0_30", "days_over_90", "net_functional", "block_id")
    assert [report_tables.heading(name, "EUR") for name in names] == [
        "0-30 days",
        "over 90 days",
        "net, EUR",
        "block id",
    ]


@pytest.mark.parametrize("name", REPORTS)
def test_no_table_of_any_report_hides_all_its_amounts(service: Subledger, ledger: str, name: str) -> None:
    """In a ledger of one currency and in one of several, in the terminal and on the page."""
    customer = "ann" if REPORTS[name].needs else None
    with answer(service, ledger, name, ReportQuery(customer=customer, to="2026-03")) as (report, view, _):
        home = view.functional_currency
        for table in report.tables:
            figures = {at for at, column in enumerate(table.columns) if column.holds in ("money", "functional")}
            at_home = [at for at, column in enumerate(table.columns) if column.name == "currency"]
            ours = [row for row in table.rows if all(row[at] == home for at in at_home)]
            for rows in (table.rows, ours):
                if not any(row[at] for row in rows for at in figures):
                    continue
                shown = set(report_tables.informative_columns(msgspec.structs.replace(table, rows=tuple(rows)), home))
                assert shown & figures, f"{report.name}, {table.name}: no amounts"
