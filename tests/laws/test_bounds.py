"""Absurdly large amounts are refused with a code, and other events beside them are recorded: nothing overflows."""

from __future__ import annotations

from typing import Any

from api.service import Subledger
from projections import integrity
from tests.building import cloud_event
from tests.conftest import NewLedger

NINES = "9999999999999.99"
MANY = "1000000000000000"


def send(service: Subledger, ledger: str, type: str, customer: str | None = "ann", **data: Any) -> str | None:
    """Sends an event. Returns the code of its refusal; None if it was recorded."""
    send.count = getattr(send, "count", 0) + 1
    event = cloud_event(f"e{send.count}", type, customer, "2026-01-10T12:00:00Z", **data)
    neighbour = cloud_event(
        f"n{send.count}",
        "credits.granted",
        "bob",
        "2026-01-10T12:00:00Z",
        block_id=f"n{send.count}",
        credits="1",
        reason="promotional",
    )
    outcome, other = service.record(ledger, [event, neighbour])
    assert other.status == "recorded", "one bad event never spoils its batch"
    return None if outcome.error is None else outcome.error.code


def test_an_amount_too_large_in_the_functional_currency_is_refused(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    rate = {"base": "EUR", "quote": "USD", "rate_source": "ecb"}
    assert send(service, ledger, "exchange_rate.set", None, rate="999999999999999999999999999999", **rate) is None
    block = {"credits": "1", "currency": "EUR"}
    assert send(service, ledger, "credits.purchased", block_id="a", price="100.00", **block) == "invalid_value"
    assert send(service, ledger, "exchange_rate.set", None, rate="1000000", **rate) is None
    assert send(service, ledger, "credits.purchased", block_id="a", price=NINES, **block) == "invalid_value"
    assert send(service, ledger, "credits.purchased", block_id="a", price="100.00", **block) is None
    assert integrity.verify(service.database, ledger).differences == []


def test_a_block_never_has_more_credits_than_are_kept_exactly(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    data = {"price": "1.00", "currency": "USD"}
    over = {"credits": MANY, "bonus_credits": "0.000000001"}
    assert send(service, ledger, "credits.purchased", block_id="a", **over, **data) == "invalid_value"
    assert send(service, ledger, "credits.purchased", block_id="a", credits="100", **data) is None
    reprice = {"block_id": "a", "reason": "r"}
    huge = "999999999999999999999999999999.999999999"
    assert send(service, ledger, "block.repriced", add_credits=huge, **reprice) == "invalid_value"
    assert send(service, ledger, "block.repriced", add_credits=f"-{huge}", **reprice) == "invalid_value"
    assert send(service, ledger, "block.repriced", add_credits=MANY, **reprice) == "invalid_value"
    assert send(service, ledger, "block.repriced", add_credits="999999999999900", **reprice) is None


def test_a_position_that_comes_and_goes_within_a_batch_leaves_the_rows_of_one_that_did_not(
    service: Subledger, new_ledger: NewLedger
) -> None:
    rate = {"base": "EUR", "quote": "USD", "rate": "1.2", "rate_source": "ecb"}
    block = {"block_id": "a", "credits": "10", "price": "10.00", "tax": "1.00", "currency": "EUR"}
    events = [
        cloud_event("r", "exchange_rate.set", None, "2026-01-09T12:00:00Z", **rate),
        cloud_event("p", "credits.purchased", "ann", "2026-01-10T12:00:00Z", **block),
        cloud_event("v", "purchase.voided", "ann", "2026-01-11T12:00:00Z", block_id="a", reason="cancelled"),
    ]
    together, apart = new_ledger(), new_ledger()
    service.record(together, events)
    for event in events:
        service.record(apart, [event])
    for ledger in (together, apart):
        assert integrity.verify(service.database, ledger).differences == []


def test_no_time_zone_takes_a_moment_out_of_the_years_that_are_taken(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(timezone="Pacific/Kiritimati")
    for moment in ("1900-01-01T00:00:00+14:00", "8999-12-31T23:59:59Z"):
        event = cloud_event(
            moment, "credits.granted", "ann", moment, block_id=moment, credits="1", reason="promotional"
        )
        assert service.record(ledger, [event])[0].error is not None


def test_a_block_never_has_a_larger_price_than_is_taken(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    purchase = {"block_id": "a", "credits": "1", "price": NINES, "currency": "USD"}
    assert send(service, ledger, "credits.purchased", **purchase) is None
    assert send(service, ledger, "block.repriced", block_id="a", add_price="0.02", reason="r") == "invalid_value"
    assert send(service, ledger, "block.repriced", block_id="a", add_price="0.01", reason="r") is None
