"""Balances owed to a customer by day: the first day on which an amount can be taken off them.

A view of a day has the entries dated through that day. The date on which money is paid back or applied may be earlier
than the date from which it is owed. So a wallet stores, by day, the amounts that were added to the balance and taken
off it.

Owns: these amounts, and how long they are stored. Does not own: the balances (wallet), the other facts on which a date
depends (deciding). Pure.
"""

from __future__ import annotations

from datetime import date
from typing import Final

DayAmounts = tuple[tuple[date, int], ...]
"""Amounts added to a balance (positive) or taken off it, in order of day, one a day."""

OWED_ROLES: Final = ("customer_balance", "refunds_payable")
"""The balances that are remembered by day. Receivables are remembered by block and by invoice instead."""


def with_amount(days: DayAmounts, on: date, amount: int, *, balance: int, closed_through: date | None) -> DayAmounts:
    """The amounts by day with one more; ``balance`` is the amount owed after it.

    If the balance is zero, no days are stored, because no earlier view can have it below zero. Days of closed months
    are combined into one: the last of them that added an amount. Before that day less may have been owed.
    """
    if not balance:
        return ()
    same = sum(moved for day, moved in days if day == on)
    days = tuple(sorted([*(of_day for of_day in days if of_day[0] != on), (on, same + amount)]))
    days = tuple(of_day for of_day in days if of_day[1])
    closed = [of_day for of_day in days if closed_through is not None and of_day[0] <= closed_through]
    gains = [day for day, moved in closed if moved > 0]
    if len(closed) < 2 or not gains:
        return days
    together = sum(moved for _, moved in closed)
    return (*(((gains[-1], together),) if together else ()), *days[len(closed) :])


def first_day_with(days: DayAmounts, *, on: date, balance: int, amount: int) -> date:
    """The first day from ``on`` on which, and after which, ``amount`` is owed; ``balance`` is owed after all days."""
    for day, moved in reversed(days):
        if day <= on:
            break
        balance -= moved
        if balance < amount:
            return day
    return on
