"""Reads of a ledger in several currencies: every amount with its functional amount, and exchange gains.

The euro is at 1.10 when ann buys for 100.00 EUR (and 20.00 EUR tax), and bob buys refundable credits for 10.00 EUR. It
is at 1.20 when January ends, and at 1.25 when ann pays. Another customer has dollars.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.service import Subledger
from projections.close.close import close_period
from projections.reads.blocks import customer_blocks
from subledger.periods import Period
from tests.building import cloud_event, purchase, rate
from tests.conftest import NewLedger


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    ledger = new_ledger(policy="contract_liability")
    outcomes = service.record(
        ledger,
        [
            rate("2026-01-01", "1.10", rate_source="ecb"),
            purchase(
                "E", "100", "ann", "2026-01-15T10:00:00Z", price="100.00", currency="EUR", tax="20.00", pool="gifts"
            ),
            purchase(
                "R",
                "10",
                "bob",
                "2026-01-15T10:00:00Z",
                price="10.00",
                currency="EUR",
                refundable=True,
                escheat_class="US-DE",
            ),
            purchase("D", "10", "cid", "2026-01-15T10:00:00Z", price="50.00"),
            cloud_event("use", "credits.consumed", "ann", "2026-01-20T10:00:00Z", credits="25"),
            rate("2026-01-31", "1.20", rate_source="ecb"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 6
    close_period(service.recorder, ledger, Period(2026, 1))
    outcomes = service.record(
        ledger,
        [
            rate("2026-02-10", "1.25", rate_source="ecb"),
            cloud_event(
                "pay", "payment.received", "ann", "2026-02-11T10:00:00Z", amount="120.00", currency="EUR", block_id="E"
            ),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 2
    return ledger


def _accounts(items: list[dict[str, Any]], *names: str) -> str:
    return "\n".join("  ".join(item[name] for name in names) for item in items)


def _balances(document: dict[str, Any]) -> str:
    """Returns account, currency, balance and functional balance of each row."""
    return "\n".join(
        f"{item['account']}  {item['balance']} {item['currency']}  {item['functional']['balance']}"
        for item in document["accounts"]
    )


def test_a_customers_balances_stand_beside_their_functional_amounts(client: TestClient, ledger: str) -> None:
    url = f"/v1/ledgers/{ledger}/customers"
    ann = client.get(f"{url}/ann/balances", params={"as_of": "2026-01-31"}).json()
    # The receivable, and so the gain, are at 1.20. The liability stays at 1.10. The tax is carried for the whole
    # ledger.
    assert _balances(ann) == (
        "accounts_receivable  120.00 EUR  144.00\n"
        "prepaid_liability  75.00 EUR  82.50\n"
        "tax_payable  20.00 EUR  22.00\n"
        "usage_revenue  25.00 EUR  27.50\n"
        "fx_gain_loss  0.00 EUR  -12.00"
    )
    assert ann["accounts"][-1]["functional"] == {
        "currency": "USD",
        "debit": "0.00",
        "credit": "12.00",
        "balance": "-12.00",
    }
    bob = client.get(f"{url}/bob/balances", params={"as_of": "2026-01-31"}).json()
    # Both sides are money, so both are remeasured, and there is no net gain. Debit and credit are not netted.
    assert _balances(bob) == (
        "accounts_receivable  10.00 EUR  12.00\nprepaid_liability  10.00 EUR  12.00\nfx_gain_loss  0.00 EUR  0.00"
    )
    assert (bob["accounts"][2]["functional"]["debit"], bob["accounts"][2]["functional"]["credit"]) == ("1.00", "1.00")
    february = client.get(f"{url}/ann/balances", params={"as_of": "2026-02-28"}).json()
    # It is paid at 1.25, and relieved at its carrying rate of 1.20.
    assert _balances(february).splitlines()[:2] == ["cash  120.00 EUR  150.00", "accounts_receivable  0.00 EUR  0.00"]
    assert february["accounts"][-1]["functional"]["balance"] == "-18.00"


def test_a_trial_balance_also_balances_in_the_functional_currency(client: TestClient, ledger: str) -> None:
    url = f"/v1/ledgers/{ledger}/trial-balance"
    found = client.get(url, params={"as_of": "2026-01-31"}).json()
    assert [(total["currency"], total["debit"]) for total in found["totals"]] == [("EUR", "155.00"), ("USD", "50.00")]
    functional = found["functional"]
    assert _accounts(functional["accounts"], "account", "debit", "credit", "balance") == (
        "accounts_receivable  206.00  0.00  206.00\n"
        "prepaid_liability  27.50  172.00  144.50\n"
        "tax_payable  0.00  24.00  24.00\n"
        "usage_revenue  0.00  27.50  27.50\n"
        "fx_gain_loss  3.00  13.00  -10.00"
    )
    assert (functional["currency"], functional["debit"], functional["credit"]) == ("USD", "236.50", "236.50")
    before = client.get(url, params={"as_of": "2026-01-14"}).json()
    assert before["functional"] == {"currency": "USD", "accounts": [], "debit": "0.00", "credit": "0.00"}
    # As known before the close, nothing was remeasured.
    use = client.get(f"/v1/ledgers/{ledger}/events", params={"type": "credits.consumed"}).json()["items"][0]
    then = client.get(url, params={"as_of": "2026-01-31", "known_at": use["recorded_at"]}).json()
    assert then["functional"]["accounts"][0] == {
        "account": "accounts_receivable",
        "debit": "193.00",
        "credit": "0.00",
        "balance": "193.00",
    }


def test_a_ledger_in_one_currency_has_the_same_functional_amounts(client: TestClient, ledger: str) -> None:
    found = client.get(f"/v1/ledgers/{ledger}/customers/cid/balances").json()
    for item in found["accounts"]:
        assert item["functional"] == {name: item[name] for name in ("currency", "debit", "credit", "balance")}


def test_journal_lines_and_histories_tell_the_functional_amount_and_the_pool(client: TestClient, ledger: str) -> None:
    url = f"/v1/ledgers/{ledger}"
    lines = client.get(f"{url}/journal-lines", params={"account": "prepaid_liability", "customer": "ann"}).json()
    assert [(item["credit"], item["functional"], item["pool"]) for item in lines["items"]] == [
        ("100.00", {"currency": "USD", "debit": "0.00", "credit": "110.00"}, "gifts"),
        ("0.00", {"currency": "USD", "debit": "27.50", "credit": "0.00"}, "gifts"),
    ]
    [gain] = client.get(
        f"{url}/journal-lines", params={"account": "fx_gain_loss", "customer": "ann", "to": "2026-01-31"}
    ).json()["items"]
    assert (gain["kind"], gain["side"], gain["debit"], gain["credit"], gain["currency"]) == (
        "fx_remeasurement_accounts_receivable",
        "credit",
        "0.00",
        "0.00",
        "EUR",
    )
    assert (gain["functional"]["credit"], gain["pool"]) == ("12.00", "gifts")
    history = client.get(f"{url}/blocks/E/history").json()["items"]
    [entry, *_] = history[0]["entries"]
    assert (entry["kind"], entry["amount"]["amount"], entry["pool"]) == ("purchase", "100.00", "gifts")
    assert entry["functional"] == {"amount": "110.00", "currency": "USD"}
    assert [line["functional"]["amount"] for line in entry["lines"]] == ["110.00", "110.00"]


def test_a_block_tells_its_terms_its_rate_and_its_functional_carrying_amount(client: TestClient, ledger: str) -> None:
    names = ("refundable", "pool", "escheat_class", "rate", "carrying_amount", "functional")
    url = f"/v1/ledgers/{ledger}/blocks"

    def terms(block: str, as_of: str) -> tuple[Any, ...]:
        found = client.get(f"{url}/{block}", params={"as_of": as_of}).json()
        return tuple(found[name] for name in names)

    def carried(amount: str) -> dict[str, str]:
        return {"currency": "USD", "carrying_amount": amount}

    assert terms("E", "2026-01-15") == (False, "gifts", None, "1.1", "100.00", carried("110.00"))
    assert terms("E", "2026-01-31") == (False, "gifts", None, "1.1", "75.00", carried("82.50"))
    assert terms("R", "2026-01-30") == (True, None, "US-DE", "1.1", "10.00", carried("11.00"))
    assert terms("R", "2026-01-31") == (True, None, "US-DE", "1.1", "10.00", carried("12.00")), "remeasured"
    assert terms("D", "2026-01-31") == (False, None, None, None, "50.00", carried("50.00"))


def test_what_a_block_carries_is_what_the_writer_remembers(client: TestClient, service: Subledger, ledger: str) -> None:
    with service.view(ledger) as view:
        found, _ = customer_blocks(view)
        entries = view.connection.execute(
            text("SELECT sum(functional_minor) FROM entries WHERE ledger = :ledger AND kind LIKE 'fx_%prepaid%'"),
            {"ledger": ledger},
        ).scalar_one()
    assert entries == -100
    for each in found:
        held = each.block.carrying_functional if each.block.rate is not None else each.block.carrying_minor
        assert each.carrying_functional == held, each.block.block_id


def test_an_exports_lines_and_the_entries_behind_them_tell_their_functional_amounts(
    client: TestClient, ledger: str
) -> None:
    url = f"/v1/ledgers/{ledger}/exports"
    made = client.post(url, json={"period": "2026-01", "format": "csv"}).json()
    lines = client.get(f"{url}/{made['id']}").json()["lines"]
    [ledgers, gains] = [line for line in lines if line["role"] == "fx_gain_loss" and line["side"] == "credit"]
    assert (gains["credit"], gains["currency"], gains["pool"], ledgers["pool"]) == ("0.00", "EUR", "gifts", None)
    assert gains["functional"] == {"currency": "USD", "debit": "0.00", "credit": "12.00"}
    assert [line["pool"] for line in lines if line["role"] == "usage_revenue"] == ["gifts"]
    behind = client.get(f"{url}/{made['id']}/lines/{gains['line']}/entries").json()["items"]
    assert {item["amount"] for item in behind} == {"0.00"}
    assert sum(Decimal(item["functional"]["amount"]) for item in behind) == Decimal("12.00")


def test_a_month_closes_with_a_rate_of_its_last_week_or_of_the_days_that_the_ledger_allows(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(timezone="Europe/Sofia")
    bought = purchase("E", "10", "ann", "2026-01-05T10:00:00Z", price="10.00", currency="EUR")
    assert all(outcome.error is None for outcome in service.record(ledger, [rate("2026-01-02", "1.10"), bought]))
    url = f"/v1/ledgers/{ledger}"
    refused = client.post(f"{url}/periods/2026-01/close")
    assert refused.status_code == 422
    assert (
        refused.json().items()
        >= {
            "code": "exchange_rate_stale",
            "retryable": True,
            "field": "data.currency",
            "expected": "an exchange_rate.set of base EUR from 2026-01-24 to 2026-01-31",
            "found": "2026-01-02",
            "detail": "the exchange rate from EUR to USD on 2026-01-31 is that of 2026-01-02, 29 days before; ledger "
            f"{ledger} closes a month with rates of at most 7 days",
        }.items()
    )
    for days, status in ((-1, 422), (367, 422), (28, 200)):
        assert client.patch(url, json={"rate_max_age_days": days}).status_code == status
    assert client.get(url).json()["rate_max_age_days"] == 28
    assert client.post(f"{url}/periods/2026-01/close").status_code == 422
    assert client.patch(url, json={"rate_max_age_days": 29}).status_code == 200
    assert client.post(f"{url}/periods/2026-01/close").status_code == 200


def test_a_currency_is_taken_for_the_days_on_which_it_was_one(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(timezone="Europe/Sofia")
    lev = {"currency": "BGN", "price": "10.00", "tax": "2.00"}
    events = [
        rate("2025-12-01", "0.59", base="BGN"),
        purchase("B", "10", "ann", "2025-12-31T21:59:59Z", **lev),
        # In Sofia it is 2026, and the euro is the currency.
        purchase("C", "10", "ann", "2025-12-31T22:00:00Z", **lev),
        purchase("D", "10", "ann", "2023-01-01T10:00:00Z", currency="HRK", price="1.00"),
        cloud_event("p", "payment.received", "ann", "2026-01-05T10:00:00Z", amount="1.00", currency="BGN"),
        # Amounts owed in this currency end in it.
        cloud_event("v", "purchase.voided", "ann", "2026-01-05T10:00:00Z", block_id="B", reason="r"),
    ]
    errors = [outcome.error for outcome in service.record(ledger, events)]
    assert [error and (error.code, error.field) for error in errors] == [
        None,
        None,
        *[("unknown_currency", "data.currency")] * 3,
        None,
    ]
    assert errors[2] is not None
    assert (errors[2].expected, errors[2].found) == ("EUR, or an event of 2025-12-31 or before", "BGN")
    balances = client.get(f"/v1/ledgers/{ledger}/trial-balance").json()
    assert {item["balance"] for item in balances["accounts"] if item["currency"] == "BGN"} == {"0.00"}
    refused = client.post("/v1/ledgers", json={"ledger": f"{ledger}-lev", "currency": "BGN"})
    assert (refused.status_code, refused.json()["code"], refused.json()["expected"]) == (422, "unknown_currency", "EUR")
