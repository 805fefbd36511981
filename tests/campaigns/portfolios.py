"""Portfolios of customers whose behaviour is known, as months of credit blocks, for trials of the forecast.

Owns: the behaviour of the customers, and the draw of their usage on blocks (soonest expiry first). Amounts are minor
units; one credit costs 1.00. This module does not use the forecast. The same seed makes the same portfolio. One
portfolio has the invoices of a real shop, by the rules of ``tests/examples/retail_by_hand.py``.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from projections.forecast.holdings import NEVER, Holding, Moved, month_number, month_of
from projections.forecast.monthly import Monthly
from subledger.blocks import Block

FIRST: Final = month_number(date(2022, 1, 1))
NANO_A_MINOR: Final = 10**7
"""One credit costs 1.00."""


@dataclass
class Bought:
    """A block of a synthetic customer: its remaining credits, and its movements by month."""

    name: str
    customer: str
    opened: date
    expires: date
    amount: int
    left: int
    moved: dict[int, Moved] = field(default_factory=dict)

    def of(self, day: date) -> Moved:
        return self.moved.setdefault(month_number(day), Moved())


def _order(block: Bought) -> tuple[date, str]:
    return block.expires, block.name


@dataclass
class Draw:
    block: Bought
    amount: int


class Books:
    """The blocks of a portfolio, as its customers buy and use them."""

    def __init__(self) -> None:
        self.blocks: list[Bought] = []
        self._open: dict[str, list[Bought]] = {}

    def balance(self, customer: str, day: date) -> int:
        self._expire(customer, day)
        return sum(each.left for each in self._open.get(customer, ()))

    def buy(self, customer: str, day: date, amount: int, life: int) -> None:
        """Opens a block; ``life`` is in days."""
        name = f"{len(self.blocks):06d}"
        bought = Bought(name, customer, day, day + timedelta(days=life), amount, amount)
        _add(bought.of(day), amount, gained=True)
        self.blocks.append(bought)
        own = self._open.setdefault(customer, [])
        own.append(bought)
        own.sort(key=_order)

    def use(self, customer: str, day: date, amount: int) -> list[Draw]:
        """Draws the amount, as far as there are credits. The rest is not part of the portfolio."""
        self._expire(customer, day)
        drawn = []
        for block in self._open.get(customer, ()):
            part = min(block.left, amount)
            if part > 0:
                block.left -= part
                amount -= part
                _add(block.of(day), -part, used=True)
                drawn.append(Draw(block, part))
        return drawn

    def give_back(self, block: Bought, day: date, amount: int) -> None:
        """Reverses usage of a block. If the block has expired, the amount expires at once."""
        _add(block.of(day), amount, used=True)
        if block.expires <= day:
            _add(block.of(day), -amount)
            return
        block.left += amount
        own = self._open.setdefault(block.customer, [])
        if block not in own:
            own.append(block)
            own.sort(key=_order)

    def void(self, customer: str, day: date, amount: int) -> bool:
        """Voids the newest unused block of an amount. Returns False if there is none."""
        self._expire(customer, day)
        untouched = [each for each in self._open.get(customer, ()) if each.left == each.amount == amount]
        if not untouched:
            return False
        newest = max(untouched, key=lambda each: each.name)
        moved = newest.of(day)
        moved.credits -= amount * NANO_A_MINOR
        moved.value -= amount
        moved.functional = moved.value
        newest.left = 0
        return True

    def expire_all(self, day: date) -> None:
        for customer in self._open:
            self._expire(customer, day)

    def _expire(self, customer: str, day: date) -> None:
        own = self._open.get(customer, [])
        for block in own:
            if block.expires <= day and block.left:
                _add(block.of(block.expires), -block.left)
                block.left = 0
        self._open[customer] = [each for each in own if each.left]

    def holdings(self, last_day: date) -> list[Holding]:
        self.expire_all(last_day)
        return [_holding(each, at) for at, each in enumerate(self.blocks)]


def _add(moved: Moved, amount: int, *, gained: bool = False, used: bool = False) -> None:
    moved.credits += amount * NANO_A_MINOR
    moved.value += amount
    moved.functional = moved.value
    if gained:
        moved.gained += amount * NANO_A_MINOR
    elif used:
        moved.used -= amount * NANO_A_MINOR
        moved.consumed -= amount
    else:
        moved.expired -= amount


def _holding(bought: Bought, at: int) -> Holding:
    block = Block(
        block_id=bought.name,
        credit_kind="paid",
        unit="credit",
        credits=Decimal(bought.amount) / 100,
        price_minor=bought.amount,
        currency="USD",
        starts_at=_moment(bought.opened),
        expires_at=_moment(bought.expires),
        opened_at_position=at + 1,
        opened_on=bought.opened,
        losses_from=bought.opened,
    )
    months = sorted(bought.moved)
    return Holding(
        block=block,
        customer=bought.customer,
        starts_on=bought.opened,
        months=months,
        moved=[bought.moved[month] for month in months],
        expiries=[(date.min, bought.expires - timedelta(days=1) if bought.expires.year < 9000 else NEVER)],
    )


def _moment(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def monthly_of(holdings: list[Holding]) -> Monthly:
    """Returns the sums by month of holdings with all their movements."""
    found = Monthly({}, {}, {})
    for holding in holdings:
        for month, moved in zip(holding.months, holding.moved, strict=True):
            currency, unit = (holding.block.currency, month), (holding.block.unit, month)
            found.consumed[currency] = found.consumed.get(currency, 0) + moved.consumed
            found.used[unit] = found.used.get(unit, 0) + moved.used
            if moved.gained:
                found.purchased[currency] = found.purchased.get(currency, 0) + holding.block.price_minor
    return found


# --- behaviour ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Customer:
    """A customer: its mean usage a month, its first and last month, and the size of its top-ups in months of usage."""

    name: str
    rate: float
    first: int
    end: int
    months_a_purchase: float


Factor = Callable[[int], float]
"""Function from a month (counted from 0) to its usage, as a multiple of the customers' mean."""


def _customers(
    chance: random.Random, number: int, months: int, *, growth: float = 0.0, churn: float = 0.0
) -> Iterator[Customer]:
    """Yields customers. Some are there from the first month, others join by growth. Each leaves with a monthly
    probability.
    """
    joined = 0.0
    at = 0
    for month in range(months):
        joined += number if month == 0 else number * growth * (1 + growth) ** (month - 1)
        while at < round(joined):
            end = month
            while end < months and chance.random() >= churn:
                end += 1
            yield Customer(
                name=f"c{at:04d}",
                rate=math.exp(chance.gauss(math.log(12_000), 0.8)),
                first=month,
                end=end if churn else months,
                months_a_purchase=chance.choice((1, 1, 2, 3, 6)),
            )
            at += 1


def _live(books: Books, customer: Customer, month: int, factor: float, chance: random.Random, life: int) -> None:
    """Uses a month's credits in four parts. Before a part, buys credits if too few remain."""
    first = month_of(FIRST + month).first_day
    whole = customer.rate * factor * chance.gammavariate(12, 1 / 12)
    for week in range(4):
        day = first + timedelta(days=7 * week + chance.randrange(7))
        part = max(1, round(whole / 4 * chance.uniform(0.5, 1.5)))
        if books.balance(customer.name, day) < part:
            size = max(part, round(customer.rate * factor * customer.months_a_purchase))
            books.buy(customer.name, day, size, life)
        books.use(customer.name, day, part)


def _portfolio(
    seed: int, number: int, months: int, factor: Factor, *, growth: float = 0.0, churn: float = 0.0, life: int = 365
) -> list[Holding]:
    chance = random.Random(seed)
    customers = list(_customers(chance, number, months, growth=growth, churn=churn))
    books = Books()
    for month in range(months):
        for customer in customers:
            if customer.first <= month < customer.end:
                _live(books, customer, month, factor(month), chance, life)
    return books.holdings(month_of(FIRST + months - 1).last_day)


def topping_up(seed: int, months: int) -> list[Holding]:
    """Eight customers; each buys a month's credits on the same day of every month, and uses them within a month."""
    chance, books = random.Random(seed), Books()
    rates = [round(math.exp(chance.gauss(math.log(20_000), 0.6))) for _ in range(8)]
    for month in range(months):
        first = month_of(FIRST + month).first_day
        for at, rate in enumerate(rates):
            customer = f"c{at}"
            for day in range(28):
                if day == 3 * at % 28:
                    books.buy(customer, first + timedelta(days=day), rate, 365)
                if day % 3 == 0:
                    books.use(customer, first + timedelta(days=day), round(rate / 10 * chance.uniform(0.8, 1.15)))
    return books.holdings(month_of(FIRST + months - 1).last_day)


def saving_up(seed: int, months: int) -> list[Holding]:
    """Eight customers; each buys 100 on the first of every month, and uses about 80 of it: balances grow."""
    chance, books = random.Random(seed), Books()
    rates = [round(math.exp(chance.gauss(math.log(20_000), 0.6))) for _ in range(8)]
    for month in range(months):
        first = month_of(FIRST + month).first_day
        for at, rate in enumerate(rates):
            books.buy(f"c{at}", first, rate, 365)
            for day in range(1, 28, 3):
                books.use(f"c{at}", first + timedelta(days=day), round(0.8 * rate / 9 * chance.uniform(0.8, 1.2)))
    return books.holdings(month_of(FIRST + months - 1).last_day)


def steady(seed: int, months: int) -> list[Holding]:
    return _portfolio(seed, 60, months, lambda _: 1.0)


def seasonal(seed: int, months: int) -> list[Holding]:
    return _portfolio(seed, 60, months, lambda month: 1 + 0.4 * math.sin(2 * math.pi * month / 12))


def ramping(seed: int, months: int) -> list[Holding]:
    """Two percent more usage a month of each customer, and two percent more customers."""
    return _portfolio(seed, 40, months, lambda month: 1.02**month, growth=0.02)


def churning(seed: int, months: int) -> list[Holding]:
    """Of a hundred customers five leave each month, and no new ones come. Their remaining credits expire after half a
    year.
    """
    return _portfolio(seed, 400, months, lambda _: 1.0, churn=0.05, life=182)


def replacing(seed: int, months: int) -> list[Holding]:
    """Five of a hundred customers leave a month, and six come."""
    return _portfolio(seed, 60, months, lambda _: 1.0, churn=0.05, growth=0.06, life=182)


def yearly(seed: int, months: int) -> list[Holding]:
    """Packages for a year, of 60 customers. They buy the next one after a year, or when the package is used up."""
    chance, books = random.Random(seed), Books()
    customers = list(_customers(chance, 60, 1))
    due = {each.name: chance.randrange(12) for each in customers}
    for month in range(months):
        first = month_of(FIRST + month).first_day
        for each in customers:
            if month >= due[each.name]:
                books.buy(each.name, first, round(each.rate * 13), 365)
                due[each.name] = month + 12
            for week in range(4):
                day = first + timedelta(days=7 * week + chance.randrange(7))
                books.use(each.name, day, max(1, round(each.rate / 4 * chance.uniform(0.4, 1.6))))
    return books.holdings(month_of(FIRST + months - 1).last_day)


PORTFOLIOS: Final = {
    "topping up": topping_up,
    "saving up": saving_up,
    "steady": steady,
    "seasonal": seasonal,
    "ramping": ramping,
    "churning": churning,
    "replacing": replacing,
    "yearly": yearly,
}


# --- the real shop --------------------------------------------------------------------------------------------------


def shop(path: Path) -> list[Holding]:
    """A year of a real shop's invoices (Online Retail), by the rules of the retail demo, as months of blocks."""
    books, draws = Books(), dict[str, list[list[Draw]]]()
    with gzip.open(path, "rt", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["first_at"])
    day = date.min
    for row in rows:
        whole, _, fraction = row["amount_gbp"].lstrip("-").partition(".")
        if row["kind"] == "adjustment" or not row["customer_id"] or fraction[2:].strip("0"):
            continue
        pence, day = int(whole) * 100 + int(fraction[:2]), datetime.fromisoformat(row["first_at"]).date()
        if not pence:
            continue
        own = draws.setdefault(row["customer_id"], [])
        if row["kind"] == "sale":
            drawn = books.use(row["customer_id"], day, pence)
            if drawn:
                own.append(drawn)
            books.buy(row["customer_id"], day, pence, 90)
        elif not books.void(row["customer_id"], day, pence):
            _take_back(books, own, day, pence)
    return books.holdings(day)


def _take_back(books: Books, own: list[list[Draw]], day: date, pence: int) -> None:
    for one in reversed(own):
        while pence and one:
            draw = one.pop()
            part = min(draw.amount, pence)
            pence -= part
            books.give_back(draw.block, day, part)
            if draw.amount > part:
                one.append(Draw(draw.block, draw.amount - part))
