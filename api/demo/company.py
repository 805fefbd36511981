"""A year of a small company, made from a seed: the same seed gives the same events.

Twenty-four customers of a metered API buy credit blocks of several kinds. They use them in bursts of calls that cost
less than a cent, reverse some usage, pay, cancel, and let some credits expire. Some facts arrive after their month has
been closed. The rarer events of a year are in ``incidents``, one customer per story. All names and figures are
invented.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from api.demo.incidents import incidents
from subledger.periods import Period

YEAR: Final = 2025
CUSTOMERS: Final = 24
PRODUCTS: Final = ("search", "speech", "vision")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that customers buy: credits, price, and days until expiry."""

    name: str
    credits: int
    price: str
    tax: str | None
    days: int | None


PLANS: Final = (
    Plan(name="starter", credits=10_000, price="49.00", tax="9.80", days=90),
    Plan(name="growth", credits=100_000, price="399.00", tax="79.80", days=180),
    Plan(name="scale", credits=1_000_000, price="2999.99", tax=None, days=365),
    Plan(name="evergreen", credits=50_000, price="249.00", tax="49.80", days=None),
)


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The events recorded in a month, in this order: events on time, then late events of the month before."""

    period: Period
    events: list[dict[str, Any]]
    late: list[dict[str, Any]]


def year(seed: int = 7) -> Iterator[Month]:
    """Yields the twelve months, as CloudEvents."""
    company = _Company(random.Random(seed))
    for month in range(1, 13):
        period = Period(YEAR, month)
        yield company.month(period)


class _Company:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._blocks: list[tuple[str, str, Plan]] = []
        self._late: list[dict[str, Any]] = []
        self._count = 0

    def month(self, period: Period) -> Month:
        late, self._late = self._late, []
        events: list[dict[str, Any]] = []
        for number in range(1, CUSTOMERS + 1):
            events += self._customer(f"customer-{number:02d}", number, period)
        events += incidents(period)
        events.sort(key=lambda event: (event["time"], event["id"]))
        again = self._chance.sample(events, len(events) // 50)  # a billing system sends some events twice
        return Month(period=period, events=events + again, late=late)

    def _customer(self, customer: str, number: int, period: Period) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if (period.month - number) % 4 == 0 or period.month == 1:
            events += self._purchase(customer, number, period)
        if number % 6 == 0 and period.month in (2, 8):
            events.append(
                self._event(
                    customer,
                    "credits.granted",
                    self._moment(period, 2),
                    block_id=f"welcome-{customer}-{period}",
                    credits="2500",
                    reason="promotional",
                    priority=10,
                    expires_at=_text(self._moment(period, 2) + timedelta(days=45)),
                )
            )
        if number == 5 and period.month == 6:
            events.append(
                self._event(
                    customer,
                    "credits.granted",
                    self._moment(period, 3),
                    block_id=f"sorry-{customer}",
                    credits="1000",
                    reason="goodwill",
                    value="5.00",
                    currency="USD",
                )
            )
        events += self._usage(customer, number, period)
        if number % 7 == 3 and period.month == 9:
            events += self._void(customer, period)
        if number == 11 and period.month == 4:
            events += self._extend(customer, period)
        return [event for event in events if not self._arrives_late(event, period)]

    def _purchase(self, customer: str, number: int, period: Period) -> list[dict[str, Any]]:
        plan = PLANS[(number + period.month) % len(PLANS)]
        moment = self._moment(period, 1)
        block_id = f"block-{customer}-{period}"
        self._blocks.append((customer, block_id, plan))
        terms: dict[str, Any] = {
            "block_id": block_id,
            "credits": str(plan.credits),
            "price": plan.price,
            "currency": "USD",
            "invoice_id": f"inv-{customer}-{period}",
        }
        if plan.tax is not None:
            terms["tax"] = plan.tax
        if plan.days is not None:
            terms["expires_at"] = _text(moment + timedelta(days=plan.days))
        if number % 5 == 0:
            terms["bonus_credits"] = str(plan.credits // 10)
        if number % 8 == 1:
            terms["scope"] = ["search", "speech"]
        bought = self._event(customer, "credits.purchased", moment, **terms)
        if number % 9 == 4:  # this customer pays late, or not at all
            return [bought]
        cents = _cents(plan.price) + _cents(plan.tax or "0.00")
        payment: dict[str, Any] = {
            "amount": f"{cents // 100}.{cents % 100:02d}",
            "currency": "USD",
            "invoice_id": terms["invoice_id"],
        }
        if number % 2:
            fee = cents * 29 // 1000 + 30
            payment |= {"processor": "cards", "fee": f"{fee // 100}.{fee % 100:02d}"}
        return [bought, self._event(customer, "payment.received", moment + timedelta(hours=30), **payment)]

    def _usage(self, customer: str, number: int, period: Period) -> list[dict[str, Any]]:
        """Returns usage in bursts: a few sessions a month, each of many calls that cost less than a cent."""
        chance, events = self._chance, []
        for _ in range(chance.randint(1, 3)):
            start = self._moment(period, chance.randint(4, 26))
            for call in range(chance.randint(4, 9)):
                credits = chance.choice(("0.25", "3.5", "12", str(chance.randint(40, 900) * self._appetite(customer))))
                data: dict[str, Any] = {"credits": credits, "product": chance.choice(PRODUCTS)}
                if number % 4 == 0:
                    data |= {"on_shortfall": "backfill", "overage_price": "0.0051", "currency": "USD"}
                elif number % 4 == 2:
                    data |= {"on_shortfall": "overage", "overage_price": "0.006", "currency": "USD"}
                used = self._event(customer, "credits.consumed", start + timedelta(seconds=7 * call), **data)
                events.append(used)
                if chance.random() < 0.02:
                    events.append(
                        self._event(
                            customer,
                            "consumption.reversed",
                            start + timedelta(hours=5),
                            event_id=used["id"],
                            reason="the call failed",
                        )
                    )
        return events

    def _appetite(self, customer: str) -> int:
        """Returns the size of this customer's calls as a multiple of a starter's, by the last plan bought."""
        credits = [plan.credits for owner, _, plan in self._blocks if owner == customer]
        return max(1, credits[-1] // 12_000) if credits else 1

    def _void(self, customer: str, period: Period) -> list[dict[str, Any]]:
        own = [block_id for owner, block_id, _ in self._blocks if owner == customer]
        moment = self._moment(period, 27)
        return [self._event(customer, "purchase.voided", moment, block_id=own[-1], reason="cancelled")] if own else []

    def _extend(self, customer: str, period: Period) -> list[dict[str, Any]]:
        own = [block_id for owner, block_id, plan in self._blocks if owner == customer and plan.days is not None]
        if not own:
            return []
        moment = self._moment(period, 20)
        return [
            self._event(
                customer,
                "block.expiry_changed",
                moment,
                block_id=own[0],
                reason="agreed with the customer",
                expires_at=_text(moment + timedelta(days=120)),
            )
        ]

    def _arrives_late(self, event: dict[str, Any], period: Period) -> bool:
        """True for some usage of the last days of a month, which arrives after the month has been closed."""
        late = event["type"] == "credits.consumed" and event["time"][8:10] >= "25" and self._chance.random() < 0.2
        if late and period.month < 12:
            self._late.append(event)
        return late

    def _moment(self, period: Period, day: int) -> datetime:
        start = datetime(period.year, period.month, day, tzinfo=UTC)
        return start + timedelta(seconds=self._chance.randrange(20 * 3600))

    def _event(self, customer: str, type: str, moment: datetime, /, **data: Any) -> dict[str, Any]:
        self._count += 1
        return {
            "specversion": "1.0",
            "id": f"{type.replace('.', '-')}-{self._count}",
            "source": "demo-billing",
            "type": type,
            "subject": customer,
            "time": _text(moment),
            "data": data,
        }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cents(amount: str) -> int:
    units, _, fraction = amount.partition(".")
    return int(units) * 100 + int(fraction)
