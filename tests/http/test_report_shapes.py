"""Reports over HTTP and the command line: JSON, CSV and pages have one content; invalid questions are refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from api.shapes import reports
from projections.report import Column, Report, ReportRequest, Table, Tie
from subledger.store.reading.views import View
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.http.reported import get_march

# --- shapes ---------------------------------------------------------------------------------------------------------


def test_the_reports_are_listed_and_each_can_be_had(client: TestClient, ledgers: dict[str, str]) -> None:
    ledger = ledgers["customer_deposits"]
    items = client.get(f"/v1/ledgers/{ledger}/reports").json()["items"]
    assert [item["report"] for item in items] == [*reports.REPORTS, "changes"]
    needed = {"customer": "ann", "from_known_at": "2026-01-01T00:00:00Z"}
    for item in items:
        asked = {name: needed[name] for name in item["needs"]}
        for format, media in (("json", "application/json"), ("csv", "text/csv"), ("html", "text/html")):
            answer = client.get(f"/v1/ledgers/{ledger}/reports/{item['report']}", params={**asked, "format": format})
            assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, media)
        for by in item["by"]:
            answer = client.get(f"/v1/ledgers/{ledger}/reports/{item['report']}", params={**asked, "by": by})
            assert answer.status_code == 200, answer.text
    assert client.get("/v1/ledgers/nowhere/reports").status_code == 404


def test_csv_says_what_json_says(client: TestClient, ledgers: dict[str, str]) -> None:
    ledger = ledgers["customer_deposits"]
    for name, others, asked in (
        ("rollforward", ("credits",), {}),
        ("waterfall", ("cohorts", "bridge"), {}),
        ("clearing", ("accounts", "blocks"), {}),
        ("receivables", ("open_items", "customers", "totals"), {}),
        ("pools", ("estimates", "rollforward", "liability"), {}),
        ("statement", ("movements", "overage", "due"), {"customer": "bob"}),
        ("forecast", ("backtest", "accuracy"), {}),
        ("forecast", ("compared", "compared_accuracy"), {"to": "2026-02", "as_of": "2026-03-31"}),
        ("performance", ("remaining", "revenue", "bridge"), {"from": "2026-03"}),
    ):
        document = get_march(client, ledger, name, **asked)
        for table in (None, *others):
            parameters = {"to": "2026-03", "format": "csv", **asked, **({"table": table} if table else {})}
            text = client.get(f"/v1/ledgers/{ledger}/reports/{name}", params=parameters).text
            rows = list(csv.DictReader(io.StringIO(text)))
            expected = document["items" if table is None else table]
            assert rows == [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected]


def test_a_page_holds_what_was_sent_as_text(client: TestClient, service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    customer, block = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
    bought = cloud_event(
        "<b>",
        "credits.purchased",
        customer,
        "2026-01-10T12:00:00Z",
        block_id=block,
        credits="1234567.5",
        price="1234.50",
        currency="USD",
    )
    assert service.record(ledger, [bought])[0].error is None
    for name in ("statement", "rollforward"):
        answer = client.get(f"/v1/ledgers/{ledger}/reports/{name}", params={"customer": customer, "format": "html"})
        assert answer.status_code == 200
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert "<b>" not in answer.text
        assert "1,234.50" in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_currency_has_its_own_decimals(client: TestClient, service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(currency="JPY")
    bought = cloud_event(
        "b", "credits.purchased", "c", "2026-01-10T12:00:00Z", block_id="B", credits="3", price="1000", currency="JPY"
    )
    service.record(ledger, [bought])
    [row] = get_march(client, ledger, "rollforward", **{"from": "2026-01"}, to="2026-01")["items"]
    assert (row["purchased"], row["currency"], row["closing_functional"]) == ("1000", "JPY", "1000")


def test_an_empty_ledger_has_empty_reports(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for name in ("rollforward", "waterfall", "clearing", "receivables", "pools", "forecast", "performance"):
        document = get_march(client, ledger, name)
        assert (document["items"], document["ties"]) == ([], [])


# --- questions refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ("nonsense", 404, "unknown_report", "name"),
        ("rollforward?by=colour", 422, "invalid_value", "by"),
        ("pools?customer=ann", 422, "invalid_value", "customer"),
        ("receivables?from=2026-01", 422, "invalid_value", "from"),
        ("receivables?customer=nobody", 404, "unknown_customer", "customer"),
        ("clearing?by=customer", 422, "invalid_value", "by"),
        ("clearing?customer=ann", 422, "invalid_value", "customer"),
        ("forecast?from=2026-03", 422, "invalid_value", "from"),
        ("forecast?customer=ann", 422, "invalid_value", "customer"),
        ("performance?months=3", 422, "invalid_value", "months"),
        ("rollforward?months=3", 422, "invalid_value", "months"),
        ("rollforward?months=0", 422, "invalid_value", "months"),
        ("rollforward?months=many", 422, "invalid_value", "months"),
        ("rollforward?from=2026-03&to=2026-02", 422, "invalid_value", "from"),
        ("rollforward?from=2999-01", 422, "invalid_value", "from"),
        ("rollforward?from=March", 422, "invalid_value", "from"),
        ("rollforward?from=2026-13", 422, "invalid_value", "from"),
        ("rollforward?to=2026-02-30", 422, "invalid_value", "to"),
        ("rollforward?to=20260228", 422, "invalid_value", "to"),
        ("rollforward?to=0001-01-01", 422, "invalid_value", "to"),
        ("rollforward?to=2026-03&as_of=2026-02-28", 422, "invalid_value", "to"),
        ("rollforward?as_of=yesterday", 422, "invalid_value", "as_of"),
        ("rollforward?known_at=2999-01-01T00:00:00Z", 422, "known_at_in_future", "known_at"),
        ("rollforward?format=xml", 422, "invalid_value", "format"),
        ("rollforward?format=csv&table=nonsense", 422, "invalid_value", "table"),
        ("rollforward?table=credits", 422, "invalid_value", "table"),
        ("rollforward?customer=nobody", 404, "unknown_customer", "customer"),
        ("statement", 422, "missing_field", "customer"),
        ("statement?customer=nobody", 404, "unknown_customer", "customer"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_by_name(
    client: TestClient, ledgers: dict[str, str], asked: str, status: int, code: str, field: str
) -> None:
    answer = client.get(f"/v1/ledgers/{ledgers['customer_deposits']}/reports/{asked}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.get("expected") or problem.get("found")


def test_a_reader_key_is_enough_and_none_is_too_little(client: TestClient, ledgers: dict[str, str]) -> None:
    ledger = ledgers["customer_deposits"]
    answer = client.get(f"/v1/ledgers/{ledger}/reports/clearing", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_says_what_http_says(
    command: Any, client: TestClient, ledgers: dict[str, str], tmp_path: Path
) -> None:
    ledger = ledgers["customer_deposits"]
    result = command("rollforward", "--ledger", ledger, "--to", "2026-03", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["items"] == get_march(client, ledger, "rollforward")["items"]
    lines = command("rollforward", "--ledger", ledger, "--to", "2026-03", "--csv", "--table", "credits").stdout
    assert lines.splitlines()[1].startswith("2026-01,credit,0,1000,")
    file = tmp_path / "statement.html"
    assert command("statement", "--ledger", ledger, "--customer", "bob", "--out", str(file)).exit_code == 0
    assert file.read_text("utf-8").startswith("<!doctype html>")
    listed = json.loads(command("--list", "--json").stdout)["items"]
    assert [item["report"] for item in listed] == [*reports.REPORTS, "changes"]


def test_the_command_line_refuses_what_it_cannot_answer(command: Any, ledgers: dict[str, str], tmp_path: Path) -> None:
    ledger = ledgers["customer_deposits"]
    for arguments in (
        (),
        ("rollforward",),
        ("nonsense", "--ledger", ledger),
        ("rollforward", "--ledger", ledger, "--json", "--csv"),
        ("rollforward", "--ledger", ledger, "--out", str(tmp_path / "report.xyz")),
        ("rollforward", "--ledger", ledger, "--table", "credits"),
        ("statement", "--ledger", ledger),
    ):
        assert command(*arguments).exception is not None


def test_a_report_that_does_not_tie_ends_with_1(
    command: Any, client: TestClient, ledgers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(view: View, asked: ReportRequest) -> Report:
        table = Table(name="wrong", columns=(Column("currency"), Column("amount", "money")), rows=(("USD", 1),))
        tie = Tie(what="one cent", currency="USD", report_minor=1, trial_balance_minor=0)
        return Report(name="wrong", title="Wrong", tables=(table,), ties=(tie,))

    monkeypatch.setitem(reports.REPORTS, "wrong", reports.Offered(make=wrong, description="A cent too much."))
    ledger = ledgers["customer_deposits"]
    assert command("wrong", "--ledger", ledger).exit_code == 1
    document = client.get(f"/v1/ledgers/{ledger}/reports/wrong").json()
    assert (document["ties_out"], document["ties"][0]["difference"]) == (False, "0.01")


def test_no_cell_of_a_csv_is_run_by_a_spreadsheet() -> None:
    columns = (Column("block_id"), Column("currency"), Column("amount", "money"))
    table = Table(name="t", columns=columns, rows=(('=HYPERLINK("http://x")', "USD", -125), ("-", "USD", 5)))
    assert list(csv.reader(reports.csv_lines(table, "USD")))[1:] == [
        ['\'=HYPERLINK("http://x")', "USD", "-1.25"],
        ["'-", "USD", "0.05"],
    ]
