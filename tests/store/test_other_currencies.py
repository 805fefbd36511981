"""A close remeasures the customers with other currencies, finds them in a table, and reads no other customers."""

from __future__ import annotations

import psycopg
import pytest

from api.service import Subledger
from projections.close.close import close_period
from projections.replay.rebuild import rebuild
from subledger.periods import Period
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger
from tests.store.tampering import differences

JANUARY = Period(2026, 1)


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Two customers in the functional currency, two in another one, and a payout of the ledger itself."""
    ledger = new_ledger(rate_max_age_days=31)
    rate = {"base": "EUR", "quote": "USD", "rate_source": "ECB"}
    events = [cloud_event("r1", "exchange_rate.set", None, "2026-01-01T00:00:00Z", rate="1.2", **rate)]
    for customer, currency in (("a", "USD"), ("b", "EUR"), ("c", "USD"), ("d", "EUR")):
        data = {"block_id": f"block-{customer}", "credits": "10", "price": "10.00", "currency": currency}
        events.append(cloud_event(f"buy-{customer}", "credits.purchased", customer, "2026-01-05T00:00:00Z", **data))
    paid = {"amount": "10.00", "currency": "EUR", "block_id": "block-b", "processor": "cards"}
    events += [
        cloud_event("pay", "payment.received", "b", "2026-01-06T00:00:00Z", **paid),
        cloud_event("r2", "exchange_rate.set", None, "2026-01-20T00:00:00Z", rate="1.1", **rate),
    ]
    recorded(service, ledger, *events)
    return ledger


def kept(service: Subledger, ledger: str) -> list[str]:
    with service.database.write() as connection:
        query = "SELECT customer FROM other_currencies WHERE ledger = %s ORDER BY customer"
        return [customer for (customer,) in connection.execute(query, (ledger,))]


def test_whoever_has_an_entry_in_another_currency_is_remeasured_and_nobody_else(
    service: Subledger, ledger: str
) -> None:
    assert kept(service, ledger) == ["b", "d"]
    close_period(service.recorder, ledger, JANUARY)
    assert kept(service, ledger) == ["", "b", "d"], "what the processor holds is the ledger's own"
    with service.database.write() as connection:
        query = "SELECT DISTINCT coalesce(customer, '') FROM events WHERE ledger = %s AND type = 'balances.remeasured'"
        assert sorted(customer for (customer,) in connection.execute(query, (ledger,))) == ["", "d"]
    assert differences(service, ledger) == []


@pytest.mark.parametrize(
    ("tamper", "subject"),
    [
        ("DELETE FROM other_currencies WHERE ledger = %s AND customer = 'd'", "d"),
        ("INSERT INTO other_currencies (ledger, customer) VALUES (%s, 'a')", "a"),
        ("UPDATE other_currencies SET customer = 'e' WHERE ledger = %s AND customer = 'b'", "b"),
    ],
)
def test_who_has_other_currencies_is_verified_and_rebuilt(
    service: Subledger, owner_url: str, ledger: str, tamper: str, subject: str
) -> None:
    with psycopg.connect(owner_url) as connection:
        connection.execute(tamper.encode(), (ledger,))
    found = differences(service, ledger)
    assert {difference.check for difference in found} == {"other_currencies"}
    assert subject in {difference.subject for difference in found}
    counts = rebuild(service.database, ledger)
    assert counts.removed["other_currencies"] + counts.written["other_currencies"] > 0
    assert kept(service, ledger) == ["b", "d"]
    assert differences(service, ledger) == []
