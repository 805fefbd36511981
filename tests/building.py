"""The vocabulary of the tests: events as a billing system sends them, and recording them.

Every builder has defaults for what a test does not speak of, so that a call shows what matters to its test. A module
whose tests share other terms says them once: ``buy = partial(purchase, customer="c1", price="10.00")``. The laws of the
pure core have builders of their own, over these events: ``tests/laws/case.py``.

A time is a text, or a datetime; a day alone is its first moment in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api.service import Subledger
from subledger.events.envelope import format_time
from subledger.persons import NOBODY
from subledger.store.writing.batch import Outcome

BOUGHT = "2026-01-10T10:00:00Z"
USED = "2026-01-20T10:00:00Z"

Document = dict[str, Any]


def cloud_event(
    event_id: str, type: str, customer: str | None, time: str, /, *, source: str = "billing", **data: Any
) -> Document:
    """A CloudEvent as a billing system would send it."""
    envelope: Document = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": type,
        "time": time,
        "data": data,
    }
    if customer is not None:
        envelope["subject"] = customer
    return envelope


def noon(day: str) -> str:
    """Noon of a day, in UTC: ``noon("2026-01-05")``."""
    return f"{day}T12:00:00Z"


def at_noon(event_id: str, type: str, customer: str | None, day: str, /, **data: Any) -> Document:
    """A CloudEvent at noon of a day, in UTC; a day without a year, such as ``01-05``, is of 2026."""
    return cloud_event(event_id, type, customer, noon(day if len(day) > len("01-05") else f"2026-{day}"), **data)


def _time(time: str | datetime) -> str:
    if isinstance(time, datetime):
        return format_time(time)
    return time if "T" in time else f"{time}T00:00:00Z"


def _data(**data: Any) -> Document:
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in data.items()}


def purchase(
    block: str = "b",
    credits: Any = "10",
    customer: str = "ann",
    time: str | datetime = BOUGHT,
    *,
    event_id: str | None = None,
    price: Any = "5.00",
    currency: str = "USD",
    **data: Any,
) -> Document:
    """``credits.purchased``: a block is bought. The event is ``buy-{block}`` unless it is given an id."""
    data = {"block_id": block, "credits": credits, "price": price, "currency": currency, **data}
    return cloud_event(event_id or f"buy-{block}", "credits.purchased", customer, _time(time), **_data(**data))


def grant(
    block: str,
    credits: str = "5",
    customer: str = "ann",
    time: str | datetime = BOUGHT,
    *,
    reason: str = "promotional",
    **data: Any,
) -> Document:
    """``credits.granted``: a block is given; the event has the block's id."""
    data = {"block_id": block, "credits": credits, "reason": reason, **data}
    return cloud_event(block, "credits.granted", customer, _time(time), **_data(**data))


def usage(
    event_id: str, credits: Any = "1", customer: str = "ann", time: str | datetime = USED, **data: Any
) -> Document:
    """``credits.consumed``."""
    return cloud_event(event_id, "credits.consumed", customer, _time(time), credits=credits, **data)


def reversal(
    event_id: str, usage_id: str, customer: str = "ann", time: str | datetime = USED, *, reason: str = "r", **data: Any
) -> Document:
    """``consumption.reversed``: usage is taken back, whole unless ``credits`` says how much."""
    return cloud_event(
        event_id, "consumption.reversed", customer, _time(time), event_id=usage_id, reason=reason, **data
    )


def payment(
    event_id: str,
    amount: str = "1.00",
    customer: str = "ann",
    time: str | datetime = USED,
    *,
    currency: str = "USD",
    **data: Any,
) -> Document:
    """``payment.received``."""
    return cloud_event(event_id, "payment.received", customer, _time(time), amount=amount, currency=currency, **data)


def rate(
    day: str, rate: str, *, base: str = "EUR", quote: str = "USD", rate_source: str = "ECB", event_id: str | None = None
) -> Document:
    """``exchange_rate.set``: from this day on; the event is ``rate-{day}-{base}`` unless it is given an id."""
    return cloud_event(
        event_id or f"rate-{day}-{base}",
        "exchange_rate.set",
        None,
        _time(day),
        base=base,
        quote=quote,
        rate=rate,
        rate_source=rate_source,
    )


def recorded(service: Subledger, ledger: str, *events: Document, by: str = NOBODY) -> list[Outcome]:
    """Records these events as one batch; each of them must be recorded, none refused and none a duplicate."""
    outcomes = service.record(ledger, list(events), by=by)
    others = [(outcome.event_id, outcome.status, outcome.error) for outcome in outcomes if outcome.status != "recorded"]
    assert not others, others
    assert len(outcomes) == len(events)
    return outcomes
