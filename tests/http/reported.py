"""The example of the reports: its events, and its reports through March.

The ledger of the example, in USD; everything happens at noon:

    2026-01-10  ann buys B1: 1000 credits for 100.00, tax 10.00, until 2026-03-15
    2026-02-01  ann uses 400 of api                    B1 → 40.00
    2026-02-05  ann pays 110.00 through cards, which keep 3.00
    2026-02-10  bob buys B2: 100 credits for 20.00
    2026-02-11  bob is granted P1: 50 promotional credits
    2026-03-02  ann uses 100 of chat                   B1 → 10.00
    2026-03-15  B1 expires                             500 credits, 50.00
    2026-03-20  bob pays 25.00 for B2                  20.00 applied, 5.00 unapplied
    2026-03-25  bob uses 170 of api                    P1 50 for nothing, B2 100 → 20.00, 20 beyond at 0.30 → 6.00
    2026-03-28  bob is granted G1: 10 credits worth 2.00, as goodwill
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from tests.building import at_noon
from tests.reading import get_report

POLICIES = ("contract_liability", "customer_deposits", "customer_deposits_arm")


def events_of_the_example() -> list[dict[str, Any]]:
    usd = {"currency": "USD"}
    return [
        at_noon(
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
        at_noon("use-1", "credits.consumed", "ann", "2026-02-01", credits="400", product="api"),
        at_noon(
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
        at_noon("buy-2", "credits.purchased", "bob", "2026-02-10", block_id="B2", credits="100", price="20.00", **usd),
        at_noon("gift", "credits.granted", "bob", "2026-02-11", block_id="P1", credits="50", reason="promotional"),
        at_noon("use-2", "credits.consumed", "ann", "2026-03-02", credits="100", product="chat"),
        at_noon("pay-2", "payment.received", "bob", "2026-03-20", amount="25.00", block_id="B2", **usd),
        at_noon(
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
        at_noon(
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


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


get_march = partial(get_report, to="2026-03")
