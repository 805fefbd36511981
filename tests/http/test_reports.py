"""Reports from the outside: figures an accountant can check, JSON and CSV that say the same, questions refused.

The ledger of the example, in USD; everything happens at noon:

    2026-01-10  ann buys B1: 1000 credits for 100.00, tax 10.00, until 2026-03-15
    2026-02-01  ann uses 400 of api                    B1 → 40.00
    2026-02-05  ann pays 110.00 through cards, which keep 3.00
    2026-02-10  bob buys B2: 100 credits for 20.00
    2026-02-11  bob is granted P1: 50 promotional credits
    2026-03-02  ann uses 100 of chat                   B1 → 10.00
    2026-03-15  B1 expires                             500 credits, 50.00
    2026-03-20  bob pays 25.00 for B2                  20.00 applied, 5.00 not
    2026-03-25  bob uses 170 of api                    P1 50 for nothing, B2 100 → 20.00, 20 beyond at 0.30 → 6.00
    2026-03-28  bob is granted G1: 10 credits worth 2.00, as goodwill
"""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from api.shapes import reports
from projections.report import Column, Report, ReportRequest, Table, Tie
from subledger.store.reading.views import View
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.reading import columns_of, get_report, lines_of

POLICIES = ("contract_liability", "customer_deposits", "customer_deposits_arm")


def _events() -> list[dict[str, Any]]:
    def event(name: str, type: str, customer: str, day: str, /, **data: Any) -> dict[str, Any]:
        return cloud_event(name, type, customer, f"{day}T12:00:00Z", **data)

    usd = {"currency": "USD"}
    return [
        event(
            "buy-1",
            "credits.purchased",
            "ann",
            "2026-01-10",
            block_id="B1",
            credits="1000",
            price="100.00",
            tax="10.00",
            expires_at="2026-03-15T00:00:00Z",
            **usd,
        ),
        event("use-1", "credits.consumed", "ann", "2026-02-01", credits="400", product="api"),
        event(
            "pay-1",
            "payment.received",
            "ann",
            "2026-02-05",
            amount="110.00",
            block_id="B1",
            processor="cards",
            fee="3.00",
            **usd,
        ),
        event("buy-2", "credits.purchased", "bob", "2026-02-10", block_id="B2", credits="100", price="20.00", **usd),
        event("gift", "credits.granted", "bob", "2026-02-11", block_id="P1", credits="50", reason="promotional"),
        event("use-2", "credits.consumed", "ann", "2026-03-02", credits="100", product="chat"),
        event("pay-2", "payment.received", "bob", "2026-03-20", amount="25.00", block_id="B2", **usd),
        event(
            "use-3",
            "credits.consumed",
            "bob",
            "2026-03-25",
            credits="170",
            product="api",
            overage_price="0.30",
            on_shortfall="overage",
            **usd,
        ),
        event(
            "sorry",
            "credits.granted",
            "bob",
            "2026-03-28",
            block_id="G1",
            credits="10",
            reason="goodwill",
            value="2.00",
            **usd,
        ),
    ]


@pytest.fixture(scope="module")
def ledgers(service: Subledger, new_ledger: NewLedger) -> dict[str, str]:
    """The example under each policy."""
    made = {policy: new_ledger(policy=policy) for policy in POLICIES}
    for ledger in made.values():
        outcomes = service.record(ledger, _events())
        assert [outcome.error for outcome in outcomes] == [None] * 9
        assert sweep(service.recorder, ledger, _moment("2026-03-15T00:00:01Z")) == 1
    return made


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_get = partial(get_report, to="2026-03")


# --- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_month_closes_with_the_next_opens_with(client: TestClient, ledgers: dict[str, str], policy: str) -> None:
    found = _get(client, ledgers[policy], "rollforward")
    columns = ("period", "currency", "opening", "purchased", "granted", "consumed", "expired", "closing")
    assert columns_of(found["items"], *columns) == lines_of("""
        2026-01  USD    0.00  100.00  0.00   0.00   0.00  100.00
        2026-02  USD  100.00   20.00  0.00  40.00   0.00   80.00
        2026-03  USD   80.00    0.00  2.00  30.00  50.00    2.00
    """)
    assert columns_of(found["credits"], "period", "unit", *columns[2:]) == lines_of("""
        2026-01  credit     0  1000   0    0    0  1000
        2026-02  credit  1000   100  50  400    0   750
        2026-03  credit   750     0  10  250  500    10
    """)
    last = found["items"][-1]
    assert (last["functional_currency"], last["closing_functional"], last["fx_functional"]) == ("USD", "2.00", "0.00")
    assert [(tie["trial_balance"], tie["difference"]) for tie in found["ties"]] == [("2.00", "0.00")] * 2


def test_a_roll_forward_is_told_apart(client: TestClient, ledgers: dict[str, str]) -> None:
    ledger = ledgers["customer_deposits"]
    columns = ("opening", "purchased", "granted", "consumed", "expired", "closing")
    march = {"from": "2026-03", "to": "2026-03-31"}
    by_customer = _get(client, ledger, "rollforward", by="customer", **march)
    assert columns_of(by_customer["items"], "customer", *columns) == lines_of("""
        ann  60.00  0.00  0.00  10.00  50.00  0.00
        bob  20.00  0.00  2.00  20.00   0.00  2.00
    """)
    by_kind = _get(client, ledger, "rollforward", by="credit_kind", **march)
    assert columns_of(by_kind["items"], "credit_kind", *columns) == lines_of("""
        goodwill   0.00  0.00  2.00   0.00   0.00  2.00
        paid      80.00  0.00  0.00  30.00  50.00  0.00
    """)
    assert [row["credit_kind"] for row in by_kind["credits"]] == ["goodwill", "paid", "promotional"]
    by_product = _get(client, ledger, "rollforward", by="product", **march)
    assert columns_of(by_product["items"], "product", *columns) == lines_of("""
        -     80.00  0.00  2.00   0.00  50.00  2.00
        api       -  0.00  0.00  20.00   0.00     -
        chat      -  0.00  0.00  10.00   0.00     -
    """)
    ann = _get(client, ledger, "rollforward", customer="ann", **march)
    assert columns_of(ann["items"], *columns) == "60.00  0.00  0.00  10.00  50.00  0.00"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_waterfall_leads_from_the_month_of_sale_to_the_months_of_revenue(
    client: TestClient, ledgers: dict[str, str], policy: str
) -> None:
    found = _get(client, ledgers[policy], "waterfall")
    columns = ("cohort", "recognised_in", "currency", "usage", "breakage", "other", "recognised")
    assert columns_of(found["items"], *columns) == lines_of("""
        2026-01  2026-02  USD  40.00   0.00  0.00  40.00
        2026-01  2026-03  USD  10.00  50.00  0.00  60.00
        2026-02  2026-03  USD  20.00   0.00  0.00  20.00
        overage  2026-03  USD   0.00   0.00  6.00   6.00
    """)
    assert columns_of(found["cohorts"], "cohort", "sold", "granted", "recognised", "deferred") == lines_of("""
        2026-01  100.00  0.00  100.00  0.00
        2026-02   20.00  0.00   20.00  0.00
        2026-03    0.00  2.00    0.00  2.00
        overage    0.00  0.00    6.00     -
    """)
    released = policy == "customer_deposits_arm"
    expected = (
        {"recognised in the revenue accounts": "126.00"}
        if not released
        else {"released to the ERP's revenue module": "126.00", "less price concessions": "-2.00"}
    )
    assert {row["item"]: row["amount"] for row in found["bridge"]} == expected
    books = [tie["trial_balance"] for tie in found["ties"]]
    assert books == (["124.00", "2.00"] if released else ["126.00", "2.00"])


def test_what_was_recognised_before_the_range_is_earlier(client: TestClient, ledgers: dict[str, str]) -> None:
    found = _get(client, ledgers["customer_deposits"], "waterfall", **{"from": "2026-03"}, customer="ann")
    assert columns_of(found["items"], "cohort", "recognised_in", "usage", "breakage") == lines_of("""
        2026-01  earlier  40.00   0.00
        2026-01  2026-03  10.00  50.00
    """)


def test_what_is_not_zero_is_listed_with_its_age_and_its_reason(client: TestClient, ledgers: dict[str, str]) -> None:
    found = _get(client, ledgers["customer_deposits"], "clearing")
    columns = (
        "account",
        "customer",
        "block_id",
        "processor",
        "amount",
        "open_since",
        "age_days",
        "days_0_30",
        "days_31_60",
    )
    assert columns_of(found["items"], *columns) == lines_of("""
        processor_clearing   -    -   cards  107.00  2026-02-05  54  0.00  107.00
        unbilled_receivable  bob  -   -        6.00  2026-03-25   6  6.00    0.00
        customer_balance     bob  -   -        5.00  2026-03-20  11  5.00    0.00
        credits_clearing     bob  G1  -        2.00  2026-03-28   3  2.00    0.00
        customer_deposits    bob  G1  -        2.00  2026-03-28   3  2.00    0.00
    """)
    assert [row["reason"] for row in found["items"]] == [
        "payout not recorded",
        "overage not invoiced",
        "payment not applied",
        "open credits",
        "open credits",
    ]
    columns = ("block_id", "credits", "prepaid_liability", "customer_deposits", "credits_clearing", "difference")
    assert columns_of(found["blocks"], *columns) == "G1  10  2.00  2.00  2.00  0.00"
    tied = {tie["what"]: tie["trial_balance"] for tie in found["ties"]}
    assert tied["open items = processor_clearing"] == "107.00"
    assert tied["open items = prepaid_liability"] == "2.00"


def test_without_deposits_a_block_has_its_liability_alone(client: TestClient, ledgers: dict[str, str]) -> None:
    found = _get(client, ledgers["contract_liability"], "clearing")
    assert [row["account"] for row in found["items"]] == [
        "processor_clearing",
        "unbilled_receivable",
        "customer_balance",
    ]
    [block] = found["blocks"]
    assert (block["prepaid_liability"], block["customer_deposits"], block["difference"]) == ("2.00", "0.00", "0.00")


def test_what_was_released_to_the_erp_is_told_from_what_clears(client: TestClient, ledgers: dict[str, str]) -> None:
    found = _get(client, ledgers["customer_deposits_arm"], "clearing")
    [released] = [row for row in found["items"] if row["account"] == "deferred_revenue"]
    assert (released["amount"], released["reason"]) == ("124.00", "released to the ERP's revenue module")


def test_a_statement_opens_moves_and_closes_block_by_block(client: TestClient, ledgers: dict[str, str]) -> None:
    found = _get(client, ledgers["customer_deposits"], "statement", **{"from": "2026-03-01"}, customer="bob")
    columns = (
        "block_id",
        "opening_credits",
        "added_credits",
        "used_credits",
        "closing_credits",
        "opening_value",
        "used_value",
        "closing_value",
    )
    assert columns_of(found["items"], *columns) == lines_of("""
        B2  100   0  100   0  20.00  20.00  0.00
        G1    0  10    0  10   0.00   0.00  2.00
        P1   50   0   50   0   0.00   0.00  0.00
    """)
    columns = ("date", "block_id", "what", "product", "credits", "value", "event_id")
    assert (
        columns_of(found["movements"], *columns)
        == lines_of("""
        2026-03-25  P1  used                 api   -50    0.00  use-3
        2026-03-25  B2  used                 api  -100  -20.00  use-3
    """)
        + "\n2026-03-28  G1  granted as goodwill  -  10  2.00  sorry"
    )
    [overage] = found["overage"]
    assert (overage["credits"], overage["amount"], overage["event_id"]) == ("20", "6.00", "use-3")
    assert columns_of(found["due"], "what", "amount") == (
        "used beyond the credits, to be invoiced  6.00\npaid, not used for an invoice  5.00"
    )
    assert [(tie["report"], tie["trial_balance"]) for tie in found["ties"]] == [("2.00", "2.00"), ("20.00", "20.00")]


def test_a_sale_that_is_refunded_handed_on_and_charged_back(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """Of 100.00: 20.00 used, 15.00 paid back and 5.00 kept, 40.00 handed on, 20.00 charged back; then 10.00 used."""
    ledger = new_ledger()

    def event(name: str, type: str, customer: str, day: str, /, **data: Any) -> dict[str, Any]:
        return cloud_event(name, type, customer, f"2026-{day}T12:00:00Z", **data)

    outcomes = service.record(
        ledger,
        [
            event(
                "1", "credits.purchased", "ann", "01-10", block_id="A", credits="100", price="100.00", currency="USD"
            ),
            event(
                "2",
                "payment.received",
                "ann",
                "01-11",
                amount="100.00",
                currency="USD",
                block_id="A",
                payment_id="P",
                processor="cards",
            ),
            event("3", "credits.consumed", "ann", "01-20", credits="20"),
            event("4", "credits.refunded", "ann", "02-01", block_id="A", credits="20", amount="15.00", currency="USD"),
            event(
                "5",
                "credits.transferred",
                "ann",
                "02-02",
                block_id="A",
                to_customer="bob",
                new_block_id="B",
                credits="40",
            ),
            event(
                "6", "dispute.opened", "ann", "02-03", dispute_id="D", payment_id="P", amount="20.00", currency="USD"
            ),
            event("7", "dispute.lost", "ann", "03-01", dispute_id="D"),
            event("8", "credits.consumed", "bob", "03-02", credits="10"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 8
    rolled = _get(client, ledger, "rollforward")
    columns = (
        "period",
        "opening",
        "purchased",
        "transferred_in",
        "consumed",
        "refunded",
        "transferred",
        "charged_back",
        "closing",
    )
    assert columns_of(rolled["items"], *columns) == lines_of("""
        2026-01    0.00  100.00   0.00  20.00   0.00   0.00   0.00  80.00
        2026-02   80.00    0.00  40.00   0.00  20.00  40.00   0.00  60.00
        2026-03   60.00    0.00   0.00  10.00   0.00   0.00  20.00  30.00
    """)
    fell = _get(client, ledger, "waterfall")
    assert columns_of(fell["items"], "cohort", "recognised_in", "usage", "other") == lines_of("""
        2026-01  2026-01  20.00  0.00
        2026-01  2026-02   0.00  5.00
        2026-01  2026-03  10.00  0.00
    """)
    columns = ("cohort", "sold", "transferred", "recognised", "refunded", "charged_back", "deferred")
    assert columns_of(fell["cohorts"], *columns) == "2026-01  100.00  0.00  35.00  15.00  20.00  30.00"
    february = _get(client, ledger, "clearing", to="2026-02")
    assert columns_of(february["items"][:3], "account", "customer", "amount", "reason") == (
        "processor_clearing  -  80.00  payout not recorded\n"
        "disputes_receivable  ann  20.00  dispute not decided\n"
        "refunds_payable  ann  15.00  refund not paid"
    )
    bob = _get(client, ledger, "statement", customer="bob")
    assert columns_of(bob["movements"], "what", "credits", "value") == (
        "taken over from another customer  40  40.00\nused  -10  -10.00"
    )


def test_a_sale_in_another_currency_is_rolled_at_the_rate_of_its_day(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """1,000.00 EUR at 1.20 is 1,200.00 USD; 40 % of it is used when the euro is at 1.10: 480.00 USD all the same."""
    ledger = new_ledger()

    def rate(name: str, day: str, rate: str) -> dict[str, Any]:
        return cloud_event(
            name,
            "exchange_rate.set",
            None,
            f"2026-{day}T06:00:00Z",
            base="EUR",
            quote="USD",
            rate=rate,
            rate_source="ecb",
        )

    outcomes = service.record(
        ledger,
        [
            rate("r1", "01-10", "1.20"),
            cloud_event(
                "b",
                "credits.purchased",
                "ann",
                "2026-01-10T12:00:00Z",
                block_id="B",
                credits="1000",
                price="1000.00",
                currency="EUR",
            ),
            rate("r2", "02-10", "1.10"),
            cloud_event("u", "credits.consumed", "ann", "2026-02-10T12:00:00Z", credits="400"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4
    rolled = _get(client, ledger, "rollforward", to="2026-02")
    columns = (
        "currency",
        "opening",
        "consumed",
        "closing",
        "functional_currency",
        "opening_functional",
        "consumed_functional",
        "fx_functional",
        "closing_functional",
    )
    assert columns_of(rolled["items"][1:], *columns) == lines_of("""
        EUR  1000.00  400.00  600.00  USD  1200.00  480.00  0.00  720.00
    """)
    assert [(tie["currency"], tie["trial_balance"]) for tie in rolled["ties"]] == [("EUR", "600.00"), ("USD", "720.00")]
    [fell] = _get(client, ledger, "waterfall", to="2026-02")["items"]
    assert (fell["recognised"], fell["currency"], fell["recognised_functional"]) == ("400.00", "EUR", "480.00")


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_the_reports_are_listed_and_each_can_be_had(client: TestClient, ledgers: dict[str, str]) -> None:
    ledger = ledgers["customer_deposits"]
    items = client.get(f"/v1/ledgers/{ledger}/reports").json()["items"]
    assert [item["report"] for item in items] == list(reports.REPORTS)
    for item in items:
        asked = {"customer": "ann"} if "customer" in item["needs"] else {}
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
        document = _get(client, ledger, name, **asked)
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
    [row] = _get(client, ledger, "rollforward", **{"from": "2026-01"}, to="2026-01")["items"]
    assert (row["purchased"], row["currency"], row["closing_functional"]) == ("1000", "JPY", "1000")


def test_an_empty_ledger_has_empty_reports(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for name in ("rollforward", "waterfall", "clearing", "receivables", "pools", "forecast", "performance"):
        document = _get(client, ledger, name)
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
    assert document["items"] == _get(client, ledger, "rollforward")["items"]
    lines = command("rollforward", "--ledger", ledger, "--to", "2026-03", "--csv", "--table", "credits").stdout
    assert lines.splitlines()[1].startswith("2026-01,credit,0,1000,")
    file = tmp_path / "statement.html"
    assert command("statement", "--ledger", ledger, "--customer", "bob", "--out", str(file)).exit_code == 0
    assert file.read_text("utf-8").startswith("<!doctype html>")
    listed = json.loads(command("--list", "--json").stdout)["items"]
    assert [item["report"] for item in listed] == list(reports.REPORTS)


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
