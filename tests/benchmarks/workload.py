"""The events of the measurements: usage spread evenly over customers, and a company's year with all kinds of events.

Ids have no order, like those of metering systems, so consecutive events are far apart in an index.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

Document = dict[str, Any]
"""A CloudEvent as decoded JSON."""

# An odd multiplier visits all residues once, in steps that fill the range evenly (2^48 divided by the golden ratio).
_JUMP: Final = 0x9E3779B97F4B
_IDS: Final = 2**48

PRODUCTS: Final = ("api", "storage", "compute", "search")


def event_id(prefix: str, number: int) -> str:
    return f"{prefix}-{number * _JUMP % _IDS:012x}"


def cloud_event(id: str, type: str, customer: str, time: str, data: Document) -> Document:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "bench",
        "type": type,
        "subject": customer,
        "time": time,
        "data": data,
    }


def purchases(first: int, last: int) -> list[Document]:
    """Returns the purchase of one large block for each of some customers."""
    return [
        cloud_event(
            event_id("buy", n),
            "credits.purchased",
            f"customer-{n}",
            "2026-01-01T00:00:00Z",
            {"block_id": f"block-{n}", "credits": "1000000", "price": "5000.00", "currency": "USD"},
        )
        for n in range(first, last)
    ]


def usage(first: int, last: int, customers: int) -> list[Document]:
    """Returns usage of one customer after another. A customer is used again only after all others."""
    start = datetime(2026, 1, 2, tzinfo=UTC)
    return [
        cloud_event(
            event_id("use", n),
            "credits.consumed",
            f"customer-{n * 7919 % customers}",
            (start + timedelta(seconds=n)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            {"credits": "12.5", "product": PRODUCTS[n % 4]},
        )
        for n in range(first, last)
    ]


# --- a company's year ---------------------------------------------------------------------------------------------

YEAR: Final = 2025
DAYS: Final = 365
HOT: Final = "customer-hot"
HOT_SHARE: Final = 0.1


def customers_of(events: int) -> int:
    """Returns the number of customers: each has about nine hundred events, and ten million events have 10,000
    customers.
    """
    return max(3, min(10_000, events // 1_000))


class CompanyYear:
    """Usage of a year by customers who buy when they run out, with payments, late facts, reversals and refunds.

    It tracks the remaining credits of each customer, so that no usage is refused for lack of credits. Amounts of
    credits are in tenths. One in ten events is of the same customer. The same size gives the same events.
    """

    def __init__(self, events: int) -> None:
        self._random = random.Random(20_250_101)
        self._customers = customers_of(events)
        self._left: dict[str, list[list[Any]]] = {}  # customer → [expiry or None, block, tenths], soonest expiry first
        self._last_usage: dict[str, str] = {}
        self._made = 0
        self._blocks = 0

    def slice(self, day: date, part: int, parts: int, count: int) -> list[Document]:
        """Returns about ``count`` events of one part of a day; one or two more if the last one needs a purchase of
        credits before it.
        """
        start = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=part / parts)
        width_s = 86_400 / parts
        documents: list[Document] = []
        while len(documents) < count:
            time = start + timedelta(seconds=int(self._random.random() * width_s))
            chance = self._random.random()
            customer = HOT if chance < HOT_SHARE else f"customer-{int(self._random.random() * self._customers)}"
            documents += self._of_customer(customer, day, time, self._random.random())
        return documents

    def _of_customer(self, customer: str, day: date, time: datetime, chance: float) -> Iterator[Document]:
        if chance < 0.01 and customer in self._last_usage:
            yield self._event(
                "rev",
                "consumption.reversed",
                customer,
                time,
                {"event_id": self._last_usage.pop(customer), "reason": "metered twice"},
            )
            return
        blocks = self._usable(customer, day)
        if chance < 0.013 and blocks and blocks[-1][2] > 100:
            blocks[-1][2] -= 100
            yield self._event("ref", "credits.refunded", customer, time, {"block_id": blocks[-1][1], "credits": "10"})
            return
        tenths = 1 + int(self._random.random() * 200)
        if sum(block[2] for block in blocks) < tenths:
            yield from self._purchase(customer, blocks, day, time)
        if chance > 0.995:
            time -= timedelta(days=1 + int(self._random.random() * 4))
        used = self._event(
            "use",
            "credits.consumed",
            customer,
            time,
            {"credits": f"{tenths // 10}.{tenths % 10}", "product": PRODUCTS[tenths % 4]},
        )
        self._last_usage[customer] = used["id"]
        _draw(blocks, tenths)
        yield used

    def _usable(self, customer: str, day: date) -> list[list[Any]]:
        held = self._left.setdefault(customer, [])
        held[:] = [block for block in held if block[2] and (block[0] is None or block[0] > day)]
        return held

    def _purchase(self, customer: str, blocks: list[list[Any]], day: date, time: datetime) -> Iterator[Document]:
        self._blocks += 1
        block_id, size = f"block-{self._blocks}", 200_000 if customer == HOT else 1_000
        expiry = None if self._random.random() < 0.1 else day + timedelta(days=20 + int(self._random.random() * 70))
        price = f"{size // 10}.00"
        data = {"block_id": block_id, "credits": str(size), "price": price, "currency": "USD"}
        data["starts_at"] = _rfc3339(time - timedelta(days=5))
        if expiry is not None:
            data["expires_at"] = f"{expiry}T00:00:00Z"
        blocks.append([expiry, block_id, size * 10])
        blocks.sort(key=lambda block: (block[0] is None, block[0] or day))
        yield self._event("buy", "credits.purchased", customer, time, data)
        yield self._event(
            "pay", "payment.received", customer, time, {"amount": price, "currency": "USD", "block_id": block_id}
        )

    def _event(self, prefix: str, type: str, customer: str, time: datetime, data: Document) -> Document:
        self._made += 1
        return cloud_event(event_id(prefix, self._made), type, customer, _rfc3339(time), data)


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _draw(blocks: list[list[Any]], tenths: int) -> None:
    for block in blocks:
        taken = min(block[2], tenths)
        block[2] -= taken
        tenths -= taken
