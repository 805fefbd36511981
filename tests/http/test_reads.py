"""Reads over HTTP: a purchase becomes a liability and then revenue; a past answer never changes."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from api.service import Subledger
from tests.building import cloud_event, payment, recorded
from tests.conftest import NewLedger


def _ledger(client: TestClient, new_ledger: NewLedger, **settings: Any) -> str:
    ledger = new_ledger(**settings)
    client.post(
        f"/v1/ledgers/{ledger}/events",
        json=[
            cloud_event(
                "buy",
                "credits.purchased",
                "c/1",
                "2026-01-15T10:00:00Z",
                block_id="b/1",
                credits="1000",
                price="100.00",
                tax="19.00",
                currency="USD",
                invoice_id="i1",
                expires_at="2026-06-30T00:00:00Z",
            ),
            cloud_event("use", "credits.consumed", "c/1", "2026-02-10T10:00:00Z", credits="250", product="api"),
            cloud_event(
                "pay",
                "payment.received",
                "c/1",
                "2026-02-11T10:00:00Z",
                amount="119.00",
                currency="USD",
                invoice_id="i1",
            ),
        ],
    )
    return ledger


def _balance(document: dict[str, Any], account: str) -> str:
    return next((item["balance"] for item in document["accounts"] if item["account"] == account), "0.00")


def test_a_purchase_becomes_a_liability_and_then_revenue(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = _ledger(client, new_ledger)
    url = f"/v1/ledgers/{ledger}/customers/c%2F1/balances"
    january = client.get(url, params={"as_of": "2026-01-31"}).json()
    assert _balance(january, "prepaid_liability") == "100.00"
    assert _balance(january, "usage_revenue") == "0.00"
    assert _balance(january, "accounts_receivable") == "119.00"
    february = client.get(url, params={"as_of": "2026-02-28"}).json()
    assert _balance(february, "prepaid_liability") == "75.00"
    assert _balance(february, "usage_revenue") == "25.00"
    assert _balance(february, "accounts_receivable") == "0.00"
    assert february["credits"] == [
        {
            "unit": "credit",
            "purchased": "1000",
            "granted": "0",
            "consumed": "250",
            "expired": "0",
            "voided": "0",
            "refunded": "0",
            "transferred": "0",
            "other": "0",
            "remaining": "750",
        }
    ]


def test_an_answer_once_given_never_changes(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = _ledger(client, new_ledger)
    url = f"/v1/ledgers/{ledger}/trial-balance"
    before = client.get(url, params={"as_of": "2026-02-28"}).json()
    late = cloud_event("late", "credits.consumed", "c/1", "2026-02-12T10:00:00Z", credits="100")
    assert client.post(f"/v1/ledgers/{ledger}/events", json=late).status_code == 200
    known = {"as_of": "2026-02-28", "known_at": before["known_at"]}
    assert client.get(url, params=known).json() == before
    assert client.get(url, params={"as_of": "2026-02-28"}).json() != before


def test_the_future_cannot_be_known(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{new_ledger()}/trial-balance"
    answer = client.get(url, params={"known_at": "2999-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["code"]) == (422, "known_at_in_future")
    assert client.get(url, params={"known_at": "2026-01-01T00:00:00"}).json()["code"] == "naive_time"


def test_a_trial_balance_debits_what_it_credits(client: TestClient, new_ledger: NewLedger) -> None:
    for policy in ("contract_liability", "customer_deposits", "customer_deposits_arm"):
        totals = client.get(f"/v1/ledgers/{_ledger(client, new_ledger, policy=policy)}/trial-balance").json()["totals"]
        assert totals[0]["debit"] == totals[0]["credit"] != "0.00"


def test_a_block_shows_its_figures_at_any_date(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = _ledger(client, new_ledger)
    url = f"/v1/ledgers/{ledger}/blocks/b%2F1"
    january = client.get(url, params={"as_of": "2026-01-31"}).json()
    assert (january["status"], january["remaining"], january["carrying_amount"]) == ("active", "1000", "100.00")
    assert january["price"] == "100.00"
    february = client.get(url, params={"as_of": "2026-02-28"}).json()
    assert (february["used"], february["drawn"], february["remaining"]) == ("250", "25.00", "750")
    assert client.get(url, params={"as_of": "2026-01-14"}).json()["code"] == "unknown_block"
    assert client.get(url).json()["status"] == "expired", "its expiry has passed, swept or not"
    history = client.get(f"{url}/history").json()["items"]
    assert [item["id"] for item in history] == ["buy", "use", "pay"]
    listed = client.get(f"/v1/ledgers/{ledger}/customers/c%2F1/blocks").json()["items"]
    assert [item["block_id"] for item in listed] == ["b/1"]


def test_journal_lines_are_filtered_and_balance(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = _ledger(client, new_ledger, policy="contract_liability")
    url = f"/v1/ledgers/{ledger}/journal-lines"
    every = client.get(url).json()["items"]
    assert sum(float(line["debit"]) for line in every) == sum(float(line["credit"]) for line in every) == 263.0
    liability = client.get(url, params={"account": "prepaid_liability", "from": "2026-02-01"}).json()["items"]
    assert [(line["side"], line["debit"]) for line in liability] == [("debit", "25.00")]
    assert client.get(url, params={"account": "nonsense"}).json()["code"] == "invalid_value"


def test_a_ledger_is_created_once(client: TestClient) -> None:
    body = {"ledger": "made-over-http", "currency": "JPY", "timezone": "Asia/Tokyo"}
    first, again = client.post("/v1/ledgers", json=body), client.post("/v1/ledgers", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    other = client.post("/v1/ledgers", json={**body, "currency": "USD"})
    assert (other.status_code, other.json()["code"]) == (409, "ledger_exists")
    assert client.post("/v1/ledgers", json={"ledger": "x y", "currency": "USD"}).json()["field"] == "ledger"
    assert "made-over-http" in [item["ledger"] for item in client.get("/v1/ledgers?limit=1000").json()["items"]]


def test_the_integrity_report_of_a_sound_ledger_is_clean(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = _ledger(client, new_ledger)
    report = client.get(f"/v1/ledgers/{ledger}/reports/integrity").json()
    assert (report["clean"], report["differences"], report["events"]) == (True, [], 6)
    assert client.get("/v1/ledgers/nowhere/reports/integrity").status_code == 404


def test_exports_are_listed_of_one_month_alone_as_the_command_does(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    url = f"/v1/ledgers/{ledger}"
    bought = {"block_id": "b", "credits": "10", "price": "10.00", "currency": "USD"}
    event = cloud_event("buy", "credits.purchased", "ann", "2026-01-05T00:00:00Z", **bought)
    assert client.post(f"{url}/events", json=event).status_code == 200
    for period in ("2026-01", "2026-02"):
        made = client.post(f"{url}/exports", json={"period": period, "format": "csv"})
        assert made.status_code == 201, made.text
    for period in ("2026-01", "2026-02"):
        found = client.get(f"{url}/exports", params={"period": period}).json()["items"]
        assert [item["period"] for item in found] == [period]
    assert len(client.get(f"{url}/exports").json()["items"]) == 2
    wrong = client.get(f"{url}/exports", params={"period": "January"})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["field"]) == (422, "invalid_value", "period")


def test_blocks_and_balances_of_an_unknown_customer_have_one_answer(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """A customer exists from its first event, with or without blocks."""
    ledger = new_ledger()
    recorded(service, ledger, payment("p", "5.00", "payer", "2026-01-01T00:00:00Z"))
    answers = {
        (customer, read): client.get(f"/v1/ledgers/{ledger}/customers/{customer}/{read}")
        for customer in ("payer", "nobody")
        for read in ("blocks", "balances")
    }
    assert answers["payer", "blocks"].json()["items"] == []
    assert {customer: answers[customer, read].status_code for customer, read in answers} == {
        "payer": 200,
        "nobody": 404,
    }
    for read in ("blocks", "balances"):
        problem = answers["nobody", read].json()
        assert (problem["code"], problem["field"], problem["found"]) == ("unknown_customer", "customer", "nobody")
