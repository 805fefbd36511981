"""Reports over HTTP: figures that an accountant can check. The ledger of the example is in ``reported.py``."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from tests.building import at_noon, cloud_event, rate
from tests.conftest import NewLedger
from tests.http.reported import POLICIES, get_march
from tests.reading import columns_of, lines_of


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_month_closes_with_the_next_opens_with(client: TestClient, ledgers: dict[str, str], policy: str) -> None:
    found = get_march(client, ledgers[policy], "rollforward")
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
    by_customer = get_march(client, ledger, "rollforward", by="customer", **march)
    assert columns_of(by_customer["items"], "customer", *columns) == lines_of("""
        ann  60.00  0.00  0.00  10.00  50.00  0.00
        bob  20.00  0.00  2.00  20.00   0.00  2.00
    """)
    by_kind = get_march(client, ledger, "rollforward", by="credit_kind", **march)
    assert columns_of(by_kind["items"], "credit_kind", *columns) == lines_of("""
        goodwill   0.00  0.00  2.00   0.00   0.00  2.00
        paid      80.00  0.00  0.00  30.00  50.00  0.00
    """)
    assert [row["credit_kind"] for row in by_kind["credits"]] == ["goodwill", "paid", "promotional"]
    by_product = get_march(client, ledger, "rollforward", by="product", **march)
    assert columns_of(by_product["items"], "product", *columns) == lines_of("""
        -     80.00  0.00  2.00   0.00  50.00  2.00
        api       -  0.00  0.00  20.00   0.00     -
        chat      -  0.00  0.00  10.00   0.00     -
    """)
    ann = get_march(client, ledger, "rollforward", customer="ann", **march)
    assert columns_of(ann["items"], *columns) == "60.00  0.00  0.00  10.00  50.00  0.00"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_trial_balance_has_totals_and_what_is_presented_net(
    client: TestClient, ledgers: dict[str, str], policy: str
) -> None:
    found = get_march(client, ledgers[policy], "trial-balance")
    [total] = found["totals"]
    assert (total["currency"], total["debit"]) == ("USD", total["credit"])
    assert (total["debit_functional"], total["credit_functional"]) == (total["debit"], total["credit"])
    columns = ("line", "account", "less", "balance", "deducted", "netted", "presented")
    net = "deposits and clearing, net  customer_deposits  credits_clearing  2.00  2.00  0.00  0.00"
    assert columns_of(found["presentation"], *columns).splitlines() == [
        "contract and refund liability  prepaid_liability  breakage_recognized  2.00  0.00  0.00  2.00",
        *([] if policy == "contract_liability" else [net]),
        "receivables  accounts_receivable  -  0.00  0.00  0.00  0.00",
    ]
    assert "report performance shows both" in found["notes"][0]
    assert found["timezone"] == "UTC"


def test_the_summary_has_totals_by_month(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_march(client, ledgers["contract_liability"], "summary")
    columns = ("period", "currency", "debit", "credit")
    assert columns_of(found["totals"], *columns) == lines_of("""
        2026-01  USD  110.00  110.00
        2026-02  USD  173.00  173.00
        2026-03  USD  113.00  113.00
    """)


@pytest.mark.parametrize("by", ["credit_kind", "customer", "product"])
def test_a_grouped_roll_forward_has_the_totals_of_the_ungrouped_one(
    client: TestClient, ledgers: dict[str, str], by: str
) -> None:
    ledger = ledgers["customer_deposits"]
    whole, grouped = get_march(client, ledger, "rollforward"), get_march(client, ledger, "rollforward", by=by)
    assert (grouped["totals"], grouped["total_credits"]) == (whole["items"], whole["credits"])
    assert "totals" not in whole


def test_a_statement_has_totals_by_unit_and_currency(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_march(client, ledgers["customer_deposits"], "statement", customer="bob", **{"from": "2026-03"})
    columns = ("unit", "currency", "opening_credits", "added_credits", "used_credits", "closing_credits")
    values = ("opening_value", "added_value", "used_value", "closing_value")
    assert columns_of(found["totals"], *columns, *values) == lines_of("""
        credit  USD  150  10  150  10  20.00  2.00  20.00  2.00
    """)
    assert {row["date_reason"] for row in (*found["movements"], *found["overage"])} == {"own_day"}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_waterfall_leads_from_the_month_of_sale_to_the_months_of_revenue(
    client: TestClient, ledgers: dict[str, str], policy: str
) -> None:
    found = get_march(client, ledgers[policy], "waterfall")
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
    found = get_march(client, ledgers["customer_deposits"], "waterfall", **{"from": "2026-03"}, customer="ann")
    assert columns_of(found["items"], "cohort", "recognised_in", "usage", "breakage") == lines_of("""
        2026-01  earlier  40.00   0.00
        2026-01  2026-03  10.00  50.00
    """)


def test_what_is_not_zero_is_listed_with_its_age_and_its_reason(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_march(client, ledgers["customer_deposits"], "clearing")
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
    found = get_march(client, ledgers["contract_liability"], "clearing")
    assert [row["account"] for row in found["items"]] == [
        "processor_clearing",
        "unbilled_receivable",
        "customer_balance",
    ]
    [block] = found["blocks"]
    assert (block["prepaid_liability"], block["customer_deposits"], block["difference"]) == ("2.00", "0.00", "0.00")


def test_what_was_released_to_the_erp_is_told_from_what_clears(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_march(client, ledgers["customer_deposits_arm"], "clearing")
    [released] = [row for row in found["items"] if row["account"] == "deferred_revenue"]
    assert (released["amount"], released["reason"]) == ("124.00", "released to the ERP's revenue module")


def test_a_statement_opens_moves_and_closes_block_by_block(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_march(client, ledgers["customer_deposits"], "statement", **{"from": "2026-03-01"}, customer="bob")
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
    """Of 100.00, 20.00 are used, 15.00 refunded and 5.00 retained, 40.00 transferred, 20.00 charged back; then 10.00
    are used.

    The chargeback is of 35.00. It includes the 15.00 that were owed back, which are then no longer payable.
    """
    ledger = new_ledger()

    outcomes = service.record(
        ledger,
        [
            at_noon(
                "1", "credits.purchased", "ann", "01-10", block_id="A", credits="100", price="100.00", currency="USD"
            ),
            at_noon(
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
            at_noon("3", "credits.consumed", "ann", "01-20", credits="20"),
            at_noon(
                "4", "credits.refunded", "ann", "02-01", block_id="A", credits="20", amount="15.00", currency="USD"
            ),
            at_noon(
                "5",
                "credits.transferred",
                "ann",
                "02-02",
                block_id="A",
                to_customer="bob",
                new_block_id="B",
                credits="40",
            ),
            at_noon(
                "6", "dispute.opened", "ann", "02-03", dispute_id="D", payment_id="P", amount="35.00", currency="USD"
            ),
            at_noon("7", "dispute.lost", "ann", "03-01", dispute_id="D"),
            at_noon("8", "credits.consumed", "bob", "03-02", credits="10"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 8
    rolled = get_march(client, ledger, "rollforward")
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
    fell = get_march(client, ledger, "waterfall")
    assert columns_of(fell["items"], "cohort", "recognised_in", "usage", "other") == lines_of("""
        2026-01  2026-01  20.00  0.00
        2026-01  2026-02   0.00  5.00
        2026-01  2026-03  10.00  0.00
    """)
    columns = ("cohort", "sold", "transferred", "recognised", "refunded", "charged_back", "deferred")
    assert columns_of(fell["cohorts"], *columns) == "2026-01  100.00  0.00  35.00  15.00  20.00  30.00"
    february = get_march(client, ledger, "clearing", to="2026-02")
    assert columns_of(february["items"][:3], "account", "customer", "amount", "reason") == (
        "processor_clearing  -  65.00  payout not recorded\n"
        "disputes_receivable  ann  35.00  dispute not decided\n"
        "refunds_payable  ann  15.00  refund not paid"
    )
    bob = get_march(client, ledger, "statement", customer="bob")
    assert columns_of(bob["movements"], "what", "credits", "value") == (
        "taken over from another customer  40  40.00\nused  -10  -10.00"
    )


def test_an_expiry_that_is_taken_back_reduces_the_expired_of_its_month(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """Of 100.00, 20.00 are used and 80.00 expire in February. In March the expiry is removed: 80.00 are owed again."""
    ledger = new_ledger()

    outcomes = service.record(
        ledger,
        [
            at_noon(
                "1",
                "credits.purchased",
                "ann",
                "01-10",
                block_id="A",
                credits="100",
                price="100.00",
                currency="USD",
                expires_at="2026-02-15T00:00:00Z",
            ),
            at_noon("2", "credits.consumed", "ann", "01-20", credits="20"),
            cloud_event("3", "credits.expired", "ann", "2026-02-15T00:00:00Z", block_id="A"),
            at_noon("4", "block.expiry_changed", "ann", "03-05", block_id="A", expires_at=None, reason="goodwill"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4
    rolled = get_march(client, ledger, "rollforward")
    columns = ("opening", "purchased", "consumed", "expired", "closing")
    assert columns_of(rolled["items"], "period", *columns) == lines_of("""
        2026-01   0.00  100.00  20.00    0.00  80.00
        2026-02  80.00    0.00   0.00   80.00   0.00
        2026-03   0.00    0.00   0.00  -80.00  80.00
    """)
    assert columns_of(rolled["items"], "expired_functional", "closing_functional") == lines_of("""
          0.00  80.00
         80.00   0.00
        -80.00  80.00
    """)
    assert columns_of(rolled["credits"], *columns) == lines_of("""
         0  100  20    0  80
        80    0   0   80   0
         0    0   0  -80  80
    """)
    assert [tie["difference"] for tie in rolled["ties"]] == ["0.00"] * 2


def test_a_sale_in_another_currency_is_rolled_at_the_rate_of_its_day(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """1,000.00 EUR at 1.20 is 1,200.00 USD. 40 % of it is used when the euro is at 1.10, which is still 480.00 USD."""
    ledger = new_ledger()

    outcomes = service.record(
        ledger,
        [
            rate("2026-01-10", "1.20", event_id="r1"),
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
            rate("2026-02-10", "1.10", event_id="r2"),
            cloud_event("u", "credits.consumed", "ann", "2026-02-10T12:00:00Z", credits="400"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4
    rolled = get_march(client, ledger, "rollforward", to="2026-02")
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
    [fell] = get_march(client, ledger, "waterfall", to="2026-02")["items"]
    assert (fell["recognised"], fell["currency"], fell["recognised_functional"]) == ("400.00", "EUR", "480.00")
