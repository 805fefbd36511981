"""The receivables report over HTTP: the amounts that customers owe, and their age.

Disputed, unbilled and unapplied amounts are shown apart. The ledger of the example has these events in USD, each at
noon, in the order of recording:

    2026-01-01  ann buys block A: 100 credits for 100.00, tax 10.00, on invoice inv-1
    2026-01-31  ann pays 50.00 for A                               she owes 60.00 since January 1
                January is closed
    2026-01-20  dora buys block D for 40.00                        recorded after the close: booked on February 1
    2026-02-15  A is repriced: its price rises by 20.00            ann owes 80.00
    2026-03-01  bob buys block B for 30.00
    2026-03-02  bob pays 30.00 for B through the processor cards
    2026-03-09  ann uses 30 credits of A
    2026-03-10  carl, who has no credits, uses 10 at 1.00 each     his overage is 10.00
    2026-03-12  4.00 of carl's overage is billed on invoice v1     6.00 of his overage is unbilled
    2026-03-11  carl pays 4.00 for v1                              dated before the invoice, recorded after it
    2026-03-15  ann pays 7.00                                      the payment is not applied
    2026-03-20  bob disputes his payment
    2026-03-31  carl uses 5 credits more                           11.00 of his overage is unbilled
"""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from projections.close.close import close_period
from subledger.periods import Period
from tests.building import at_noon, rate, recorded
from tests.conftest import NewLedger
from tests.http.reported import POLICIES, get_march
from tests.reading import columns_of, lines_of

AGED = ("current", "days_1_30", "days_31_60", "days_61_90", "days_over_90", "credit_balances")


@pytest.fixture(scope="module", params=POLICIES)
def ledger(request: pytest.FixtureRequest, service: Subledger, new_ledger: NewLedger) -> str:
    made = new_ledger(policy=request.param, on_shortfall="overage")
    usd = {"currency": "USD"}
    january = [
        at_noon(
            "1",
            "credits.purchased",
            "ann",
            "01-01",
            block_id="A",
            credits="100",
            price="100.00",
            tax="10.00",
            invoice_id="inv-1",
            **usd,
        ),
        at_noon("2", "payment.received", "ann", "01-31", block_id="A", amount="50.00", **usd),
    ]
    rest = [
        at_noon("3", "credits.purchased", "dora", "01-20", block_id="D", credits="40", price="40.00", **usd),
        at_noon("4", "block.repriced", "ann", "02-15", block_id="A", add_price="20.00", add_tax="0", reason="r"),
        at_noon("5", "credits.purchased", "bob", "03-01", block_id="B", credits="30", price="30.00", **usd),
        at_noon(
            "6",
            "payment.received",
            "bob",
            "03-02",
            block_id="B",
            amount="30.00",
            payment_id="p1",
            processor="cards",
            **usd,
        ),
        at_noon("7", "credits.consumed", "ann", "03-09", credits="30"),
        at_noon("8", "credits.consumed", "carl", "03-10", credits="10", overage_price="1.00", **usd),
        at_noon("9", "overage.billed", "carl", "03-12", invoice_id="v1", amount="4.00", **usd),
        at_noon("10", "payment.received", "carl", "03-11", invoice_id="v1", amount="4.00", **usd),
        at_noon("11", "payment.received", "ann", "03-15", amount="7.00", **usd),
        at_noon("12", "dispute.opened", "bob", "03-20", dispute_id="d1", payment_id="p1"),
        at_noon("13", "credits.consumed", "carl", "03-31", credits="5", overage_price="1.00", **usd),
    ]
    recorded(service, made, *january)
    close_period(service.recorder, made, Period(2026, 1))
    recorded(service, made, *rest)
    return made


def test_what_is_owed_is_as_old_as_its_oldest_open_part(client: TestClient, ledger: str) -> None:
    found = get_march(client, ledger, "receivables")
    columns = ("customer", "account", "balance", *AGED, "oldest_on", "oldest_days")
    assert columns_of(found["items"], *columns) == lines_of("""
        ann   accounts_receivable  80.00  0.00  0.00   20.00  60.00  0.00  0.00  2026-01-01  89
        bob   disputes_receivable  30.00  0.00  30.00   0.00   0.00  0.00  0.00  2026-03-20  11
        carl  unbilled_receivable  11.00  5.00  6.00    0.00   0.00  0.00  0.00  2026-03-10  21
        dora  accounts_receivable  40.00  0.00  0.00    0.00  40.00  0.00  0.00  2026-01-20  70
    """)
    later = get_march(client, ledger, "receivables", to="2026-04-02", customer="ann")
    assert columns_of(later["items"], "balance", *AGED) == "80.00  0.00  0.00  20.00  0.00  60.00  0.00"


def test_each_item_has_its_block_and_its_invoice(client: TestClient, ledger: str) -> None:
    found = get_march(client, ledger, "receivables")
    columns = ("customer", "account", "block_id", "invoice_id", "balance", "oldest_days")
    assert columns_of(found["open_items"], *columns) == lines_of("""
        ann   accounts_receivable  A  inv-1  80.00  89
        bob   disputes_receivable  B  -      30.00  11
        carl  unbilled_receivable  -  -      11.00  21
        dora  accounts_receivable  D  -      40.00  70
    """)
    early = get_march(client, ledger, "receivables", to="2026-03-11", customer="carl")
    assert columns_of(early["open_items"], *columns) == lines_of("""
        carl  unbilled_receivable  -  -   10.00  1
    """)


def test_a_payment_before_its_invoice_is_unapplied_until_then(client: TestClient, ledger: str) -> None:
    """On March 11 the payment is in the books, but the invoice is not. Carl owes 10.00, and 4.00 is unapplied."""
    found = get_march(client, ledger, "receivables", to="2026-03-11")
    carl = [row for row in found["items"] if row["customer"] == "carl"]
    columns = ("account", "balance", "days_1_30", "credit_balances", "oldest_days")
    assert columns_of(carl, *columns) == lines_of("""
        unbilled_receivable  10.00  10.00   0.00  1
    """)
    [row] = [row for row in found["customers"] if row["customer"] == "carl"]
    assert (row["accounts_receivable"], row["unapplied_payments"], row["net"]) == ("0.00", "4.00", "6.00")
    columns = ("account", "balance", "days_31_60", "days_61_90", "credit_balances")
    assert columns_of(found["totals"], *columns) == lines_of("""
        accounts_receivable  120.00  40.00  60.00   0.00
        unbilled_receivable   10.00   0.00   0.00   0.00
    """)


def test_unapplied_payments_stand_beside_what_is_owed(client: TestClient, ledger: str) -> None:
    found = get_march(client, ledger, "receivables")
    columns = (
        "customer",
        "accounts_receivable",
        "unbilled_receivable",
        "disputes_receivable",
        "unapplied_payments",
        "net",
    )
    assert columns_of(found["customers"], *columns) == lines_of("""
        ann   80.00   0.00   0.00  7.00  73.00
        bob    0.00   0.00  30.00  0.00  30.00
        carl   0.00  11.00   0.00  0.00  11.00
        dora  40.00   0.00   0.00  0.00  40.00
    """)
    ties = {tie["what"].rpartition(" = ")[2]: tie["trial_balance"] for tie in found["ties"]}
    assert ties == {
        "accounts_receivable": "120.00",
        "unbilled_receivable": "11.00",
        "disputes_receivable": "30.00",
        "customer_balance": "7.00",
    }


def test_revenue_that_passes_through_the_receivable_is_nobodys_debt(client: TestClient, ledger: str) -> None:
    """Under the deposit policies, the revenue of Ann's 30 credits passes through accounts_receivable.

    Ann's debt does not change.
    """
    before = get_march(client, ledger, "receivables", to="2026-03-08", customer="ann")
    after = get_march(client, ledger, "receivables", to="2026-03-09", customer="ann")
    assert [row["balance"] for row in before["items"]] == [row["balance"] for row in after["items"]] == ["80.00"]


def test_a_receivable_in_another_currency_stands_at_what_the_books_carry(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """All amounts are in EUR and recorded at the rate 1.20. January closes at the rate 1.10.

    Ann owes 100.00 for her block. Bob owes 30.00 and 10.00 on two invoices, and 10.00 of his overage is unbilled.
    """
    ledger = new_ledger(on_shortfall="overage")

    euro = {"currency": "EUR"}
    events = [
        rate("2026-01-01", "1.20", event_id="r1"),
        at_noon("1", "credits.purchased", "ann", "01-02", block_id="A", credits="100", price="100.00", **euro),
        at_noon("2", "credits.consumed", "bob", "01-03", credits="50", overage_price="1.00", **euro),
        at_noon("3", "overage.billed", "bob", "01-04", invoice_id="v1", amount="30.00", **euro),
        at_noon("4", "overage.billed", "bob", "01-05", invoice_id="v2", amount="10.00", **euro),
        rate("2026-01-31", "1.10", event_id="r2"),
    ]
    recorded(service, ledger, *events)
    close_period(service.recorder, ledger, Period(2026, 1))
    found = get_march(client, ledger, "receivables", to="2026-01")
    columns = ("customer", "block_id", "invoice_id", "balance", "balance_functional")
    assert columns_of(found["open_items"], *columns) == lines_of("""
        ann  A  -   100.00  110.00
        bob  -  v1   30.00   33.00
        bob  -  v2   10.00   11.00
        bob  -  -    10.00   11.00
    """)
    ties = {(tie["what"], tie["currency"]): tie["report"] for tie in found["ties"]}
    assert ties["customers' items in EUR = accounts_receivable, in USD", "USD"] == "154.00"
    assert ties["customers' items in EUR = unbilled_receivable, in USD", "USD"] == "11.00"


@pytest.fixture(scope="module")
def terms(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger in the time zone of New York. There 2026-03-02T04:00Z is on March 1.

    - ann bought 100 credits and used 30 of them. She owes 110.00, due on March 1.
    - bob bought credits for 50.00, due on February 15, and may cancel the purchase. He paid 20.00.
    - cid bought credits for EUR 80.00, due on April 10. The exchange rate is 1.50.
    - dee bought refundable credits for 40.00. She has not paid, and the purchase has no due date.
    - eve has overage of 4.00 on an invoice, due on March 30.
    """
    made, usd = new_ledger(timezone="America/New_York", on_shortfall="overage"), {"currency": "USD"}
    recorded(
        service,
        made,
        rate("2026-02-01", "1.50"),
        at_noon("1", "credits.purchased", "ann", "02-01", block_id="A", credits="100", price="100.00", tax="10.00",
                invoice_id="inv-1", due_at="2026-03-02T04:00:00Z", **usd),
        at_noon("2", "credits.consumed", "ann", "02-10", credits="30"),
        at_noon("3", "credits.purchased", "bob", "02-01", block_id="B", credits="50", price="50.00", cancellable=True,
                due_at="2026-02-15T12:00:00Z", **usd),
        at_noon("4", "payment.received", "bob", "02-20", block_id="B", amount="20.00", **usd),
        at_noon("5", "credits.purchased", "cid", "03-01", block_id="C", credits="80", price="80.00", currency="EUR",
                due_at="2026-04-10T12:00:00Z"),
        at_noon("6", "credits.purchased", "dee", "03-01", block_id="D", credits="40", price="40.00", refundable=True,
                **usd),
        at_noon("7", "credits.consumed", "eve", "03-10", credits="4", overage_price="1.00", **usd),
        at_noon("8", "overage.billed", "eve", "03-15", invoice_id="v1", amount="4.00", due_at="2026-03-30T12:00:00Z",
                **usd),
    )  # fmt: skip
    return made


def test_a_debt_is_as_old_as_its_due_date_in_the_ledgers_zone(client: TestClient, terms: str) -> None:
    found = get_march(client, terms, "receivables")
    columns = ("customer", "block_id", "invoice_id", "due_on", "balance", "current", "days_1_30", "days_31_60",
               "oldest_days", "netted", "netted_functional")  # fmt: skip
    assert columns_of(found["open_items"], *columns) == lines_of("""
        ann  A  inv-1  2026-03-01  110.00   0.00  110.00   0.00  30   0.00    0.00
        bob  B  -      2026-02-15   30.00   0.00    0.00  30.00  44  30.00   30.00
        cid  C  -      2026-04-10   80.00  80.00    0.00   0.00   -  80.00  120.00
        dee  D  -      -            40.00   0.00   40.00   0.00  30  40.00   40.00
        eve  -  v1     2026-03-30    4.00   0.00    4.00   0.00   1   0.00    0.00
    """)
    columns = ("account", "balance", "current", "days_1_30", "days_31_60")
    assert columns_of(found["functional"], *columns) == "accounts_receivable  304.00  120.00  154.00  30.00"
    before = get_march(client, terms, "receivables", to="2026-02-28", customer="ann")
    assert columns_of(before["open_items"], "current", "netted") == "110.00  70.00"


def test_purchases_that_are_shown_net_are_listed_with_their_reason(client: TestClient, terms: str) -> None:
    found = get_march(client, terms, "receivables")
    columns = ("customer", "block_id", "due_on", "reason", "currency", "receivable", "liability", "netted")
    assert columns_of(found["shown_net"], *columns) == lines_of("""
        bob  B  2026-02-15  cancellable  USD  30.00  50.00  30.00
        cid  C  2026-04-10  not due      EUR  80.00  80.00  80.00
        dee  D  -           refundable   USD  40.00  40.00  40.00
    """)
    assert [row["customer"] for row in get_march(client, terms, "receivables", customer="bob")["shown_net"]] == ["bob"]


def test_the_balance_sheet_and_the_notes_show_neither_side(client: TestClient, terms: str) -> None:
    found = get_march(client, terms, "trial-balance")
    columns = ("line", "currency", "balance", "netted", "presented", "netted_functional", "presented_functional")
    shown = [row for row in found["presentation"] if not row["line"].startswith("deposits")]
    assert columns_of(shown, *columns) == lines_of("""
        contract and refund liability  EUR   80.00  80.00    0.00  120.00    0.00
        contract and refund liability  USD  160.00  70.00   90.00   70.00   90.00
        receivables                    EUR   80.00  80.00    0.00  120.00    0.00
        receivables                    USD  184.00  70.00  114.00   70.00  114.00
    """)
    found = get_march(client, terms, "performance", **{"from": "2026-03"})
    columns = ("item", "currency", "opening", "closing")
    assert columns_of(found["items"], *columns) == lines_of("""
        contract liability   EUR   0.00    0.00
        not_unconditional    EUR   0.00   80.00
        contract liability   USD  20.00   90.00
        accounts_receivable  USD  40.00  114.00
        not_unconditional    USD  100.00  70.00
    """)
    columns = ("band", "currency", "liability", "cancellable", "remaining")
    assert columns_of(found["remaining"], *columns) == lines_of("""
        later  EUR   80.00   0.00  80.00
        later  USD  120.00  30.00  90.00
    """)


def test_a_block_has_its_terms(client: TestClient, terms: str) -> None:
    [block] = client.get(f"/v1/ledgers/{terms}/customers/bob/blocks").json()["items"]
    assert (block["due_at"], block["cancellable"]) == ("2026-02-15T12:00:00Z", True)
    [block] = client.get(f"/v1/ledgers/{terms}/customers/dee/blocks").json()["items"]
    assert (block["due_at"], block["cancellable"]) == (None, False)
