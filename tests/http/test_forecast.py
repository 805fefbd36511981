"""The forecast and the disclosures over HTTP, on a ledger that an accountant can follow by hand.

In USD; everything happens at noon:

    2025-12-10  ann buys A: 100 credits for 100.00, until 2026-02-10
    2025-12-20  bob buys R: 100 credits for 50.00, refundable, without expiry, and pays on the next day
    2026-01-05  ann uses 30                            A → 30.00
    2026-01-10  bob uses 20                            R → 10.00
    2026-01-15  cid buys C: 400 credits for 400.00, until 2029-01-15
    2026-01-20  cid uses 40                            C → 40.00
    2026-01-25  dee uses 10 without credits, at 0.50   5.00 beyond
    2026-02-10  A expires                              70 credits, 70.00
    2026-02-20  5 of cid's 40 are taken back           C → −5.00
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from subledger.posting import SHIPPED_POLICIES
from subledger.store.writing.expiry_sweep import sweep
from tests.building import at_noon, cloud_event, payment, purchase, recorded, usage
from tests.conftest import FAR, NewLedger
from tests.reading import columns_of, get_report, lines_of

USD = {"currency": "USD"}


EVENTS = [
    purchase("A", "100", "ann", "2025-12-10T12:00:00Z", price="100.00", expires_at="2026-02-10T00:00:00Z"),
    purchase("R", "100", "bob", "2025-12-20T12:00:00Z", price="50.00", refundable=True),
    payment("p", "50.00", "bob", "2025-12-21T12:00:00Z", block_id="R"),
    usage("u1", "30", "ann", "2026-01-05T12:00:00Z"),
    usage("u2", "20", "bob", "2026-01-10T12:00:00Z"),
    purchase("C", "400", "cid", "2026-01-15T12:00:00Z", price="400.00", expires_at="2029-01-15T00:00:00Z"),
    usage("u3", "40", "cid", "2026-01-20T12:00:00Z"),
    usage("u4", "10", "dee", "2026-01-25T12:00:00Z", on_shortfall="overage", overage_price="0.50", **USD),
    at_noon("back", "consumption.reversed", "cid", "2026-02-20", event_id="u3", credits="5", reason="outage"),
]


def _recorded(service: Subledger, ledger: str, events: list[dict[str, Any]], swept: str = "2026-03-01") -> str:
    recorded(service, ledger, *events)
    sweep(service.recorder, ledger, datetime.fromisoformat(f"{swept}T00:00:00Z"))
    return ledger


@pytest.fixture(scope="module")
def ledgers(service: Subledger, new_ledger: NewLedger) -> dict[str, str]:
    """The example under each policy."""
    return {policy: _recorded(service, new_ledger(policy=policy), EVENTS) for policy in SHIPPED_POLICIES}


# --- performance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SHIPPED_POLICIES)
def test_revenue_out_of_the_opening_liability(client: TestClient, ledgers: dict[str, str], policy: str) -> None:
    january = get_report(client, ledgers[policy], "performance", **{"from": "2026-01"}, to="2026-01")
    assert columns_of(january["items"], "item", "opening", "closing") == lines_of("""
        contract liability  100.00  430.00
        refund liability  50.00  40.00
        accounts_receivable  100.00  500.00
        unbilled_receivable  0.00  5.00
    """)
    assert columns_of(january["revenue"], "source", "recognised") == lines_of("""
        opening contract liability  30.00
        opening refund liability  10.00
        sold or granted in the period  40.00
        usage beyond the credits  5.00
    """)
    february = get_report(client, ledgers[policy], "performance", **{"from": "2026-02"}, to="2026-02")
    assert columns_of(february["items"][:2], "item", "opening", "closing") == lines_of("""
        contract liability  430.00  365.00
        refund liability  40.00  40.00
    """)
    assert columns_of(february["revenue"], "source", "recognised") == lines_of("""
        opening contract liability  70.00
        revenue of earlier periods taken back  -5.00
    """)
    where = "released to the ERP's revenue module" if policy.endswith("_arm") else "recognised in the revenue accounts"
    assert columns_of(january["bridge"], "item", "amount") == f"{where}  85.00"


def test_what_remains_is_told_by_when_it_is_expected_and_by_when_it_must_be_at_the_latest(
    client: TestClient, ledgers: dict[str, str]
) -> None:
    found = get_report(client, ledgers["customer_deposits"], "performance", to="2026-02")
    bands = {row["band"]: row for row in found["remaining"]}
    assert list(bands) == ["within 12 months", "13 to 24 months", "later"]
    assert sum(Decimal(row["remaining"]) for row in bands.values()) == Decimal("365.00")
    assert [row["at_the_latest"] for row in bands.values()] == ["0.00", "0.00", "365.00"]
    contract, refund = found["items"][:2]
    assert contract["current"] == bands["within 12 months"]["remaining"]
    assert Decimal(contract["current"]) + Decimal(contract["non_current"]) == Decimal("365.00")
    assert (refund["current"], refund["non_current"]) == ("40.00", "0.00")


def test_a_blocks_revenue_comes_out_of_its_opening_first_whoever_holds_it(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """A's opening carrying amount is 100.00. A repricing adds 100 credits for 50.00. 160 of 200 are used: 100.00 of the
    revenue comes from the opening, and 20.00 does not. B's opening carrying amount is 80.00. It is transferred in
    January, and usage by its new owner comes from the opening too.
    """
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "100", "ann", "2025-12-10T12:00:00Z", price="100.00"),
            purchase("B", "80", "bob", "2025-12-10T12:00:00Z", price="80.00"),
            at_noon(
                "more",
                "block.repriced",
                "ann",
                "2026-01-02",
                block_id="A",
                add_credits="100",
                add_price="50.00",
                reason="top-up",
            ),
            at_noon(
                "on", "credits.transferred", "bob", "2026-01-03", block_id="B", to_customer="cid", new_block_id="B2"
            ),
            usage("u1", "160", "ann", "2026-01-05T12:00:00Z"),
            usage("u2", "60", "cid", "2026-01-06T12:00:00Z"),
        ],
    )
    found = get_report(client, ledger, "performance", **{"from": "2026-01"}, to="2026-01")
    assert columns_of(found["revenue"], "source", "recognised") == lines_of("""
        opening contract liability  160.00
        sold or granted in the period  20.00
    """)
    assert columns_of(found["items"][:1], "opening", "closing") == "180.00  50.00"


def test_breakage_recognised_before_expiry_is_no_part_of_what_remains(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """A pool of 1,000.00 with 10 % expected breakage, of which 450 are used: 50.00 of the 100.00 are recognised; 500.00
    remain.
    """
    estimate = cloud_event(
        "e",
        "breakage.estimated",
        None,
        "2026-01-01T12:00:00Z",
        pool="gifts",
        expected_breakage_rate="0.10",
        evidence="three years",
        **USD,
    )
    ledger = _recorded(
        service,
        new_ledger(),
        [
            estimate,
            purchase(
                "G",
                "1000",
                "ann",
                "2026-01-02T12:00:00Z",
                price="1000.00",
                pool="gifts",
                expires_at="2026-12-31T00:00:00Z",
            ),
            usage("u", "450", "ann", "2026-01-20T12:00:00Z"),
        ],
    )
    found = get_report(client, ledger, "performance", **{"from": "2026-01"}, to="2026-01")
    assert columns_of(found["remaining"], "band", "liability", "breakage_recognised", "remaining", "at_the_latest") == (
        "within 12 months  550.00  50.00  500.00  550.00"
    )
    assert columns_of(found["revenue"], "source", "recognised") == lines_of("""
        sold or granted in the period  500.00
    """)


def test_breakage_recognised_for_a_pool_is_revenue_out_of_its_opening_liability(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """The opening is 1,000.00, the closing 800.00, and nothing was sold. So all of the 200.00 came from the opening."""
    pooled = {"pool": "gifts", "expires_at": "2026-06-01T00:00:00Z"}
    data = {"pool": "gifts", "expected_breakage_rate": "0.10", "evidence": "three years", **USD}
    ledger = _recorded(
        service,
        new_ledger(sandbox=True, clock=FAR),
        [
            cloud_event("e", "breakage.estimated", None, "2026-01-01T12:00:00Z", **data),
            purchase("G", "1000", "ann", "2026-01-02T12:00:00Z", price="1000.00", **pooled),
            usage("u1", "180", "ann", "2026-02-20T12:00:00Z"),
            purchase("H", "1000", "ann", "2026-03-02T12:00:00Z", price="1000.00", **pooled),
            usage("u2", "720", "ann", "2026-03-20T12:00:00Z"),
            usage("u3", "180", "ann", "2026-04-20T12:00:00Z"),
        ],
    )

    def revenue(month: str) -> tuple[str, str]:
        found = get_report(client, ledger, "performance", **{"from": month}, to=month)
        assert all(tie["report"] == tie["trial_balance"] for tie in found["ties"]), found["ties"]
        return columns_of(found["items"][:1], "opening", "closing"), columns_of(
            found["revenue"], "source", "recognised"
        )

    assert revenue("2026-02") == ("1000.00  800.00", "opening contract liability  200.00")
    # G is used except for the last 100, all of which are recognised: 720.00 and 80.00. H is not used.
    assert revenue("2026-03") == ("800.00  1000.00", "opening contract liability  800.00")
    # 100 of G come first, because its breakage of 100.00 did not expire. Then 80 of H: 80 × 100 / 900 = 8.89.
    assert revenue("2026-04") == ("1000.00  911.11", "opening contract liability  88.89")
    sweep(service.recorder, ledger, datetime.fromisoformat("2026-06-01T00:00:01Z"))
    assert revenue("2026-05")[0] == "911.11  0.00"
    assert revenue("2026-05")[1] == "opening contract liability  911.11"


def test_a_band_ends_with_the_last_day_of_its_last_month_and_a_disputed_block_is_in_none(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "10", "ann", "2026-01-10T12:00:00Z", price="10.00", expires_at="2027-02-28T00:00:00Z"),
            purchase("B", "20", "ann", "2026-01-10T12:00:00Z", price="20.00", expires_at="2027-03-01T00:00:00Z"),
            purchase("C", "40", "ann", "2026-01-10T12:00:00Z", price="40.00", expires_at="2028-03-01T00:00:00Z"),
            purchase("D", "80", "ann", "2026-01-10T12:00:00Z", price="80.00", expires_at="2026-06-01T00:00:00Z"),
            at_noon(
                "pay",
                "payment.received",
                "ann",
                "2026-01-11",
                amount="80.00",
                block_id="D",
                payment_id="P",
                processor="cards",
                **USD,
            ),
            at_noon("d", "dispute.opened", "ann", "2026-02-20", dispute_id="D", payment_id="P"),
        ],
    )
    found = get_report(client, ledger, "performance", to="2026-02")
    assert columns_of(found["remaining"], "band", "remaining", "at_the_latest") == lines_of("""
        within 12 months  30.00  30.00
        13 to 24 months  40.00  40.00
        later  80.00  80.00
    """)


# --- forecast -------------------------------------------------------------------------------------------------------


def test_a_forecast_ends_with_what_is_left_later(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_report(client, ledgers["customer_deposits"], "forecast", to="2026-02", months=3)
    assert [row["period"] for row in found["items"]] == ["2026-03", "2026-04", "2026-05", "later"]
    assert found["items"][0]["opening"] == "405.00"
    assert sum(Decimal(row["expected"]) for row in found["items"]) == Decimal("405.00")
    *months, later = found["items"]
    for row, following in zip(months, found["items"][1:], strict=True):
        assert row["closing"] == following["opening"]
        assert Decimal(row["consumption_low"]) <= Decimal(row["consumption"]) <= Decimal(row["consumption_high"])
        assert (row["breakage"], row["breakage_high"]) == ("0.00", "0.00"), "nothing expires before 2029"
    assert (later["closing"], later["consumption"]) == ("0.00", None)
    assert len(get_report(client, ledgers["customer_deposits"], "forecast", to="2026-02")["items"]) == 13


def test_a_month_in_progress_is_forecast_to_its_end(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_report(client, ledgers["customer_deposits"], "forecast", to="2026-02-08", months=1)
    month, _ = found["items"]
    assert (month["period"], month["opening"]) == ("2026-02", "470.00")
    assert Decimal(month["breakage_high"]) == Decimal("70.00"), "the next day is the last of A"
    assert Decimal("69.00") < Decimal(month["breakage"]) <= Decimal("70.00"), "one day of use is left"


def test_what_was_never_used_and_never_expires_stays_later_and_the_rest_lapses(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "100", "ann", "2025-06-10T12:00:00Z", price="100.00"),
            purchase("B", "80", "bob", "2025-06-10T12:00:00Z", price="80.00", expires_at="2026-04-10T00:00:00Z"),
            purchase(
                "S",
                "70",
                "cid",
                "2025-06-10T12:00:00Z",
                price="70.00",
                expires_at="2026-05-10T00:00:00Z",
                escheat_class="US-DE",
            ),
            at_noon("gift", "credits.granted", "ann", "2025-06-11", block_id="P", credits="50", reason="promotional"),
        ],
    )
    found = get_report(client, ledger, "forecast", to="2026-02", months=4)
    assert columns_of(found["items"], "period", "consumption", "breakage", "escheat", "closing") == lines_of("""
        2026-03  0.00  0.00  0.00  250.00
        2026-04  0.00  80.00  0.00  170.00
        2026-05  0.00  0.00  70.00  100.00
        2026-06  0.00  0.00  0.00  100.00
        later  -  -  -  0.00
    """)
    assert found["items"][-1]["expected"] == "100.00"
    assert {(row["what"], row["method"], row["wape"]) for row in found["accuracy"]} >= {
        ("consumption", "forecast", None),
        ("breakage", "forecast", None),
    }, "nothing happened, nothing was forecast"
    assert all(row["forecast"] == row["actual"] == "0.00" for row in found["backtest"] if row["what"] == "consumption")


def test_a_ledger_where_everything_has_expired_has_nothing_to_forecast(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "100", "ann", "2025-12-10T12:00:00Z", price="100.00", expires_at="2026-02-10T00:00:00Z"),
            at_noon("gift", "credits.granted", "ann", "2025-06-11", block_id="P", credits="50", reason="promotional"),
        ],
    )
    found = get_report(client, ledger, "forecast", to="2026-02")
    assert found["items"] == []
    assert {row["what"]: row["actual"] for row in found["backtest"] if row["made_on"] == "2026-01-31"} == {
        "consumption": "0.00",
        "breakage": "100.00",
        "total_consumption": "0.00",
    }


def test_what_is_used_of_open_blocks_and_of_credits_yet_to_be_bought_is_told_apart(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """Ann buys 100 on the first of every month, and uses 100 in the month. In December she bought 130, so 30 remain."""
    events = []
    for number in range(1, 13):
        day = f"2025-{number:02}-01"
        credits = "130" if number == 12 else "100"
        events.append(at_noon(f"b{number}", "credits.purchased", "ann", day, block_id=f"B{number:02}", credits=credits,
                              price=f"{credits}.00", **USD))  # fmt: skip
        events.append(at_noon(f"u{number}", "credits.consumed", "ann", f"2025-{number:02}-20", credits="100"))
    ledger = _recorded(service, new_ledger(), events)
    found = get_report(client, ledger, "forecast", to="2025-12", months=2)
    columns = ("period", "from_open_blocks", "from_purchases", "consumption", "run_rate")
    assert columns_of(found["consumption"], *columns) == lines_of("""
        2026-01  30.00  70.00  100.00  100.00
        2026-02  0.00  100.00  100.00  100.00
    """)
    assert [row["consumption"] for row in found["items"]] == ["30.00", "0.00", None]
    assert all(100 <= Decimal(row["purchases"]) <= 130 for row in found["consumption"])
    assert [(row["consumption_low"], row["consumption_high"]) for row in found["consumption"]] == [("100.00",) * 2] * 2
    total = [row for row in found["accuracy"] if row["what"] == "total_consumption" and row["method"] == "forecast"]
    assert [(row["months"], row["wape"]) for row in total] == [(1, "0"), (3, "0"), (6, "0")]


def test_a_disputed_block_is_neither_used_nor_expires_in_the_forecast(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "100", "ann", "2026-01-10T12:00:00Z", price="100.00", expires_at="2026-04-10T00:00:00Z"),
            at_noon(
                "pay",
                "payment.received",
                "ann",
                "2026-01-11",
                amount="100.00",
                block_id="A",
                payment_id="P",
                processor="cards",
                **USD,
            ),
            usage("u", "30", "ann", "2026-02-05T12:00:00Z"),
            at_noon("d", "dispute.opened", "ann", "2026-02-20", dispute_id="D", payment_id="P"),
        ],
    )
    found = get_report(client, ledger, "forecast", to="2026-02", months=3)
    assert [row["expected"] for row in found["items"]] == ["0.00", "0.00", "0.00", "70.00"]


def test_an_extension_of_a_block_is_known_from_its_day_on(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """As of February the block expires in March. Its extension in March is not part of that forecast."""
    ledger = _recorded(
        service,
        new_ledger(),
        [
            purchase("A", "100", "ann", "2026-01-10T12:00:00Z", price="100.00", expires_at="2026-03-20T00:00:00Z"),
            at_noon(
                "x",
                "block.expiry_changed",
                "ann",
                "2026-03-10",
                block_id="A",
                expires_at="2026-09-01T00:00:00Z",
                reason="goodwill",
            ),
        ],
    )
    then = get_report(client, ledger, "forecast", to="2026-02", as_of="2026-03-31", months=2)
    assert [row["breakage"] for row in then["items"][:2]] == ["100.00", "0.00"]
    assert columns_of(then["compared"], "period", "what", "forecast", "actual", "error") == lines_of("""
        2026-03  consumption  0.00  0.00  0.00
        2026-03  breakage  100.00  0.00  100.00
        2026-03  total_consumption  0.00  0.00  0.00
    """)
    now = get_report(client, ledger, "forecast", to="2026-03", months=6)
    assert [row["breakage"] for row in now["items"][:6]] == ["0.00"] * 4 + ["100.00", "0.00"]


def test_a_forecast_is_beside_what_happened_and_all_of_it_ties(client: TestClient, ledgers: dict[str, str]) -> None:
    found = get_report(client, ledgers["customer_deposits"], "forecast", to="2025-12", as_of="2026-02-28", months=6)
    assert found["title"].endswith("made as of 2025-12-31")
    assert columns_of(found["compared"], "period", "what", "actual") == lines_of("""
        2026-01  consumption  40.00
        2026-01  breakage  0.00
        2026-01  total_consumption  80.00
        2026-02  consumption  0.00
        2026-02  breakage  70.00
        2026-02  total_consumption  -5.00
    """)
    assert {tie["what"]: tie["trial_balance"] for tie in found["ties"]} == {
        "expected, later included = prepaid_liability": "150.00",
        "open then, less what became of it, and gained since = prepaid_liability": "405.00",
    }


def test_each_currency_has_its_own_rows_and_its_functional_figures(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """1,000.00 EUR at 1.20 until April are not used: 1,200.00 USD of breakage."""
    rate = cloud_event(
        "r", "exchange_rate.set", None, "2026-01-10T06:00:00Z", base="EUR", quote="USD", rate="1.20", rate_source="ecb"
    )
    bought = at_noon(
        "buy",
        "credits.purchased",
        "ann",
        "2026-01-10",
        block_id="E",
        credits="1000",
        price="1000.00",
        currency="EUR",
        expires_at="2026-04-10T00:00:00Z",
    )
    ledger = _recorded(
        service, new_ledger(), [rate, bought, purchase("U", "10", "bob", "2026-01-11T12:00:00Z", price="10.00")]
    )
    found = get_report(client, ledger, "forecast", to="2026-02", months=2)
    assert columns_of(
        found["items"], "period", "currency", "breakage", "breakage_functional", "closing_functional"
    ) == (
        lines_of("""
            2026-03  EUR  0.00  0.00  1200.00
            2026-04  EUR  1000.00  1200.00  0.00
            later  EUR  -  -  0.00
            2026-03  USD  0.00  0.00  10.00
            2026-04  USD  0.00  0.00  10.00
            later  USD  -  -  0.00
        """)
    )
    remaining = get_report(client, ledger, "performance", to="2026-02")["remaining"]
    columns = ("currency", "band", "remaining", "remaining_functional", "at_the_latest")
    assert columns_of(remaining, *columns) == lines_of("""
        EUR  within 12 months  1000.00  1200.00  1000.00
        USD  later  10.00  10.00  10.00
    """)
