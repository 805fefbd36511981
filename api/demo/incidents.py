"""Rarer events of the demo's year, as a script by day.

They are other currencies, gift cards in a breakage pool, refunds, disputes, transfers, write-offs, and unclaimed
property.

Each story belongs to one customer, so it can be read from beginning to end with ``subledger history`` and
``subledger report statement``. All names and figures are invented.
"""

from __future__ import annotations

from typing import Any, Final

from subledger.periods import Period

CARDS: Final = "cards"
_RATES: Final = (  # rates on the first day of the month; they are invented
    ("1.04", "0.0064"), ("1.05", "0.0065"), ("1.04", "0.0066"), ("1.08", "0.0067"), ("1.13", "0.0070"),
    ("1.14", "0.0069"), ("1.17", "0.0068"), ("1.15", "0.0067"), ("1.17", "0.0068"), ("1.18", "0.0067"),
    ("1.16", "0.0065"), ("1.15", "0.0064"),
)  # fmt: skip

Story = tuple[str, str, str | None, dict[str, Any]]
"""Day (month-day), type, customer, data."""


def _buys(day: str, customer: str, block: str, credits: str, price: str, currency: str = "USD", **terms: Any) -> Story:
    data = {"block_id": block, "credits": credits, "price": price, "currency": currency, "invoice_id": f"inv-{block}"}
    return day, "credits.purchased", customer, data | terms


def _uses(customer: str, credits: str, *months: int, **others: Any) -> list[Story]:
    return [(f"{month:02d}-15", "credits.consumed", customer, {"credits": credits, **others}) for month in months]


def _pays(day: str, customer: str, amount: str, currency: str = "USD", **others: Any) -> Story:
    return day, "payment.received", customer, {"amount": amount, "currency": currency, **others}


def _script() -> list[Story]:
    """Returns every story, in order. The function is long because it is a list of stories."""
    usd: dict[str, Any] = {"currency": "USD"}
    stories: list[Story] = [
        # A customer in euros pays a month later at another rate. Another one has a refundable balance in yen.
        _buys("01-10", "atelier-paris", "blk-paris", "12000", "1200.00", "EUR", tax="240.00"),
        _pays("02-14", "atelier-paris", "1440.00", "EUR", block_id="blk-paris"),
        *_uses("atelier-paris", "1100", *range(1, 12)),
        _buys("03-05", "kiosk-tokyo", "blk-tokyo", "500", "60000", "JPY", refundable=True),
        _pays("03-05", "kiosk-tokyo", "60000", "JPY", block_id="blk-tokyo"),
        *_uses("kiosk-tokyo", "40", 3, 4, 5, 6, 7, 8),
        ("10-03", "credits.refunded", "kiosk-tokyo", {"block_id": "blk-tokyo", "reason": "closed the shop"}),
        ("10-20", "payment.refunded", "kiosk-tokyo", {"amount": "31200", "currency": "JPY", "block_id": "blk-tokyo"}),
        # Some credits of each gift card are never used. This breakage is revenue in proportion to the redeemed credits.
        (
            "01-02",
            "breakage.estimated",
            None,
            {
                "pool": "gift-2025",
                "expected_breakage_rate": "0.12",
                "evidence": "gift cards sold in 2022 to 2024",
                **usd,
            },
        ),
        (
            "07-02",
            "breakage.estimated",
            None,
            {"pool": "gift-2025", "expected_breakage_rate": "0.09", "evidence": "redemptions of the first half", **usd},
        ),
    ]
    for number in range(1, 6):
        customer = f"gift-holder-{number}"
        terms = {"pool": "gift-2025", "expires_at": "2025-12-20T00:00:00Z"}
        stories.append(_buys("01-20", customer, f"gift-{number}", "100", "100.00", **terms))
        stories.append(_pays("01-20", customer, "100.00", block_id=f"gift-{number}", processor=CARDS, fee="3.20"))
        stories += _uses(customer, str(6 + number), *range(2, 11))
    stories += [
        # A dispute over a half-used block is lost two months later. Another dispute is won.
        _buys("02-03", "bistro", "blk-bistro", "1000", "100.00", tax="10.00"),
        _pays("02-03", "bistro", "110.00", payment_id="pay-bistro", processor=CARDS, block_id="blk-bistro"),
        *_uses("bistro", "600", 3),
        (
            "04-08",
            "dispute.opened",
            "bistro",
            {"dispute_id": "dp-bistro", "payment_id": "pay-bistro", "fee": "15.00", **usd},
        ),
        ("06-11", "dispute.lost", "bistro", {"dispute_id": "dp-bistro"}),
        _buys("02-04", "forum", "blk-forum", "800", "80.00", expires_at="2025-05-01T00:00:00Z"),
        _pays("02-04", "forum", "80.00", payment_id="pay-forum", processor=CARDS, block_id="blk-forum"),
        ("04-09", "dispute.opened", "forum", {"dispute_id": "dp-forum", "block_id": "blk-forum"}),
        ("06-12", "dispute.won", "forum", {"dispute_id": "dp-forum"}),
        # A refund of which a fee is retained.
        _buys("03-01", "harbor", "blk-harbor", "2000", "200.00", tax="40.00"),
        _pays("03-02", "harbor", "240.00", block_id="blk-harbor"),
        *_uses("harbor", "500", 3, 4),
        ("05-06", "credits.refunded", "harbor", {"block_id": "blk-harbor", "amount": "90.00", **usd}),
        ("05-20", "payment.refunded", "harbor", {"amount": "108.00", "block_id": "blk-harbor", **usd}),
        # Credits are transferred, then topped up at another price.
        _buys("01-15", "island", "blk-island", "1000", "150.00"),
        _pays("01-15", "island", "150.00", block_id="blk-island"),
        (
            "03-10",
            "credits.transferred",
            "island",
            {"block_id": "blk-island", "to_customer": "jetty", "new_block_id": "blk-jetty", "credits": "400"},
        ),
        (
            "07-07",
            "block.repriced",
            "jetty",
            {"block_id": "blk-jetty", "add_credits": "200", "add_price": "20.00", "reason": "new price list"},
        ),
        *_uses("island", "70", *range(2, 10)),
        *_uses("jetty", "55", *range(4, 12)),
        # A price concession; the rest of the invoice is never paid.
        _buys("04-01", "kiln", "blk-kiln", "1000", "100.00", tax="20.00"),
        *_uses("kiln", "150", 4, 5, 6, 7),
        (
            "08-05",
            "credit_memo.issued",
            "kiln",
            {"block_id": "blk-kiln", "amount": "10.00", "tax": "2.00", "reason": "an outage in June", **usd},
        ),
        ("10-28", "receivable.written_off", "kiln", {"block_id": "blk-kiln", "reason": "insolvent"}),
        # Overage, invoiced each month.
        *_uses("lumen", "100", *range(1, 13), on_shortfall="overage", overage_price="0.05", currency="USD"),
    ]
    for month in range(2, 13):
        bill = {"invoice_id": f"inv-lumen-{month:02d}", "amount": "5.00", "tax": "1.00", **usd}
        stories.append((f"{month:02d}-02", "overage.billed", "lumen", bill))
        stories.append(_pays(f"{month:02d}-12", "lumen", "6.00", invoice_id=f"inv-lumen-{month:02d}"))
        payout = {"amount": "250.00", "processor": CARDS, "payout_id": f"po-{month:02d}", **usd}
        stories.append((f"{month:02d}-28", "payout.settled", None, payout))
    stories += [
        # A remainder that goes to the state.
        _buys(
            "01-25", "meadow", "blk-meadow", "300", "30.00", escheat_class="US-DE", expires_at="2025-09-01T00:00:00Z"
        ),
        _pays("01-25", "meadow", "30.00", block_id="blk-meadow"),
        *_uses("meadow", "100", 2),
        ("11-06", "escheat.reclaimed", "meadow", {"block_id": "blk-meadow", "amount": "5.00", **usd}),
        ("12-17", "escheat.remitted", "meadow", {"block_id": "blk-meadow", "amount": "15.00", **usd}),
        # A payment is too high, is applied to the next invoice, and the rest is paid back.
        _buys("05-02", "north", "blk-north-1", "500", "50.00"),
        _pays("05-03", "north", "90.00", payment_id="pay-north", block_id="blk-north-1"),
        _buys("06-02", "north", "blk-north-2", "250", "25.00"),
        (
            "06-03",
            "payment.applied",
            "north",
            {"payment_id": "pay-north", "block_id": "blk-north-2", "amount": "25.00", **usd},
        ),
        ("06-20", "payment.refunded", "north", {"payment_id": "pay-north", "amount": "15.00", **usd}),
        *_uses("north", "90", 5, 6, 7, 8, 9),
        # An allocation: a share of another plan's price.
        (
            "02-20",
            "credits.granted",
            "orbit",
            {"block_id": "blk-orbit", "credits": "120", "reason": "allocation", "value": "12.00", **usd},
        ),
        *_uses("orbit", "12", *range(3, 12)),
    ]
    for month, (euro, yen) in enumerate(_RATES, start=1):
        for base, rate in (("EUR", euro), ("JPY", yen)):
            data = {"base": base, "quote": "USD", "rate": rate, "rate_source": "demo"}
            # Set again for the month's end: a month is not closed with a rate that is older than a week.
            stories += [(f"{month:02d}-{day}", "exchange_rate.set", None, data) for day in ("01", "28")]
    return stories


def incidents(period: Period) -> list[dict[str, Any]]:
    """Returns the events of the script in a month, as CloudEvents, in order of time."""
    events = []
    for number, (day, type, customer, data) in enumerate(_script()):
        if int(day[:2]) != period.month:
            continue
        hour = 0 if type == "exchange_rate.set" else 12
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{type.replace('.', '-')}-s{number}",
            "source": "demo-billing",
            "type": type,
            "time": f"{period.year}-{day}T{hour:02d}:00:00Z",
            "data": data,
        }
        if customer is not None:
            event["subject"] = customer
        events.append(event)
    return sorted(events, key=lambda event: (event["time"], event["id"]))
