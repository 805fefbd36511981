"""Events whose ids and names have the maximum length, in characters of four bytes, are stored, closed and read."""

from __future__ import annotations

import random
from typing import Any

from api.service import Subledger
from projections import integrity
from projections.close.close import close_period
from projections.exports.exporting import export
from projections.reads.snapshots import add_snapshots
from subledger.events.fields import MAX_ID, MAX_NAME
from subledger.periods import Period
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger

RANDOM = random.Random(1)


def wide(length: int) -> str:
    """Returns characters of four bytes that cannot be compressed, so that a key of an index has its maximum length."""
    return "".join(chr(RANDOM.randrange(0x1F300, 0x1F6FF)) for _ in range(length))


def test_the_longest_ids_and_names_fit_every_key(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    customer, block, source = wide(MAX_ID), wide(MAX_ID), wide(MAX_ID)
    names = {name: wide(MAX_NAME) for name in ("product", "pool", "processor", "unit")}

    def event(type: str, day: int, /, **data: Any) -> dict[str, Any]:
        of = "-" if type == "breakage.estimated" else customer
        return cloud_event(wide(MAX_ID), type, of, f"2026-01-{day:02}T12:00:00Z", source=source, **data)

    events = [
        event("breakage.estimated", 1, pool=names["pool"], expected_breakage_rate="0.1", currency="USD", evidence="e"),
        event(
            "credits.purchased",
            2,
            block_id=block,
            credits="10",
            unit=names["unit"],
            price="10.00",
            currency="USD",
            pool=names["pool"],
            scope=[names["product"]],
            invoice_id=wide(MAX_ID),
            order_id=wide(MAX_ID),
        ),
        event("credits.consumed", 3, credits="1", unit=names["unit"], product=names["product"]),
        event(
            "payment.received",
            4,
            amount="10.00",
            currency="USD",
            block_id=block,
            payment_id=wide(MAX_ID),
            processor=names["processor"],
            fee="1.00",
        ),
        event("dispute.opened", 5, dispute_id=wide(MAX_ID), block_id=block),
        event("credits.purchased", 6, block_id=wide(MAX_ID), credits="1", price="1.00", currency="USD"),
        event("credits.consumed", 7, credits="1"),
    ]
    recorded(service, ledger, *events)
    assert [outcome.status for outcome in service.record(ledger, events)] == ["duplicate"] * len(events)
    add_snapshots(service.database, ledger, customer)
    assert service.customer_balances(ledger, customer)[1].accounts
    close_period(service.recorder, ledger, Period(2026, 1))
    assert export(service.recorder, service.database, ledger, Period(2026, 1), "csv")
    assert integrity.verify(service.database, ledger).differences == []
