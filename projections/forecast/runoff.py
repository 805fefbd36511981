"""How open credit blocks may run off: many possible futures of each purse, each of them a future that could be.

Owns: the simulation. A future goes month by month. What is used in a month is, as often as the purse's credibility
says, what the purse used in one of its own months, and else the share that somebody of its cohort used in one of
theirs (``habits``); on a day of the month by chance. It is drawn from the blocks in draw order, from those that have
begun and not expired on that day, until they are empty; at the month's end lapses what expired in it. So no block
yields more than it holds, and the average over the futures is what is expected. Monthly totals are drawn whole from
the past, so that customers who come rarely and use everything are not mistaken for ones who use a little every month.

Pure, and the same on every machine: the random numbers of a purse follow from its name. Credits and money are
integers throughout; a block's money follows its credits by cumulative rounding, so that the parts are its value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, Final, TypeVar

import msgspec

from projections.forecast.habits import Cohort, Habits, Purse, purse_of
from projections.forecast.holdings import Holding, month_number, month_of
from subledger.blocks import draw_order
from subledger.money import round_half_up

STEPS: Final = 360_000
"""How many months of purses a run-off may go through, about: with few purses more futures are made of each."""
FEWEST, MOST = 4, 80
AHEAD: Final = 24
"""Futures go on for so many months at least, so that a longer look ahead says the same of the months nearby."""


class Lot(msgspec.Struct, frozen=True, kw_only=True):
    """What a block still holds: credits in billionths, money in minor units. Days; ``expires_on`` is exclusive."""

    credits: int
    value: int
    functional: int
    currency: str
    starts_on: date
    expires_on: date
    is_frozen: bool = False
    escheats: bool = False
    is_promotional: bool = False
    is_refundable: bool = False
    is_pooled: bool = False


class Amounts(msgspec.Struct):
    """What becomes of a liability, in minor units of its currency, and of the functional one."""

    consumed: int = 0
    expired: int = 0
    escheated: int = 0
    consumed_functional: int = 0
    expired_functional: int = 0
    escheated_functional: int = 0

    @property
    def total(self) -> int:
        return self.consumed + self.expired + self.escheated

    @property
    def functional(self) -> int:
        return self.consumed_functional + self.expired_functional + self.escheated_functional


class Outlook(msgspec.Struct, kw_only=True):
    """What is expected of a liability in one currency: the months in order, then what is left after them.

    ``expiring`` is what becomes breakage in each month if nothing is used at all, ``usable`` what could be used in it
    if nothing was before; ``paths`` how many futures were made.
    """

    opening: int
    opening_functional: int
    months: list[Amounts]
    expiring: list[int]
    usable: list[int]
    paths: int

    def remaining(self, months: int) -> int:
        """What is expected to be left after the first months."""
        return self.opening - sum(month.total for month in self.months[:months])


Lots = dict[Purse, list[Lot]]


def lots_on(holdings: Iterable[Holding], day: date) -> Lots:
    """What every purse held at the end of a day, by the terms of that day, its blocks in draw order. The day is
    that of the view, or the last of a month."""
    month = month_number(day)
    found: dict[Purse, list[tuple[Any, Lot]]] = {}
    for holding in holdings:
        at = holding.place(month)
        if at < 0 or not (holding.credits[at] or holding.value[at] or holding.functional[at]):
            continue
        expires_on = holding.expires_on(day)
        lot = Lot(
            credits=holding.credits[at],
            value=holding.value[at],
            functional=holding.functional[at],
            currency=holding.block.currency,
            starts_on=holding.starts_on,
            expires_on=expires_on,
            is_frozen=holding.disputed[at] > 0,
            escheats=holding.escheats,
            is_promotional=holding.is_promotional,
            is_refundable=holding.block.refundable,
            is_pooled=holding.block.pool is not None,
        )
        _, priority, _, *rest = draw_order(holding.block)
        found.setdefault(purse_of(holding), []).append(((priority, expires_on, *rest), lot))
    return {purse: [lot for _, lot in sorted(lots, key=lambda each: each[0])] for purse, lots in sorted(found.items())}


Calendar = list[tuple[int, int, int]]
"""Per month the ordinal of the day before it, its days, and how many of them have passed."""


def currency_of(lot: Lot) -> str:
    return lot.currency


def months_after(day: date, months: int) -> Calendar:
    """The months after a day; where it is not the last of its month, the first is the rest of that month."""
    number = month_number(day) + (month_of(month_number(day)).last_day == day)
    found = []
    for each in range(number, number + months):
        period = month_of(each)
        before = period.first_day.toordinal() - 1
        found.append((before, period.last_day.toordinal() - before, max(day.toordinal() - before, 0)))
    return found


Key = TypeVar("Key", bound=Any)


def outlooks(
    lots: Lots,
    habits: Habits,
    day: date,
    months: int,
    *,
    by: Callable[[Lot], Key],
    steps: int = STEPS,
    ahead: int = AHEAD,
) -> dict[Key, Outlook]:
    """What is expected in the months after a day, told apart by a property of the lots, in its order."""
    calendar = months_after(day, max(months, ahead))
    paths = max(FEWEST, min(MOST, steps // (max(1, len(lots)) * max(12, months // 2))))
    found: dict[Key, Outlook] = {}
    for purse, own in lots.items():
        cohort: Cohort = (purse[1], purse[2], any(not lot.is_promotional for lot in own))
        ran_off = run_off(purse, own, habits, cohort, calendar, paths)
        for lot, (drawn, lapsed) in zip(own, ran_off, strict=True):
            outlook = found.get(by(lot))
            if outlook is None:
                outlook = found[by(lot)] = _nothing(months, paths)
            _add(outlook, lot, drawn, lapsed, paths)
            _bound(outlook, lot, calendar)
    return dict(sorted(found.items()))


def _nothing(months: int, paths: int) -> Outlook:
    return Outlook(
        opening=0, opening_functional=0, months=[Amounts() for _ in range(months)], expiring=[0] * months,
        usable=[0] * months, paths=paths,
    )  # fmt: skip


def run_off(
    purse: Purse,
    lots: Sequence[Lot],
    habits: Habits,
    cohort: Cohort,
    calendar: list[tuple[int, int, int]],
    paths: int,
) -> list[tuple[list[int], list[int]]]:
    """Per lot the credits drawn and lapsed in each month, summed over the futures."""
    chance = random.Random("/".join((purse[0], purse[1], *purse[2]))).random
    own, lent, credibility = habits.own(purse), habits.lent(cohort), habits.credibility(purse, cohort)
    drawn = [[0] * len(calendar) for _ in lots]
    lapsed = [[0] * len(calendar) for _ in lots]
    terms = [
        (at, drawn[at], lapsed[at], lot.starts_on.toordinal(), lot.expires_on.toordinal())
        for at, lot in enumerate(lots)
        if lot.credits > 0 and not lot.is_frozen
    ]
    whole = [lot.credits for lot in lots]
    for path in range(paths):
        left, running = whole.copy(), terms
        for month, (before, days, passed) in enumerate(calendar):
            if not running:
                break
            # The first month's habits are spread evenly over the futures: less noise for the same work.
            pick = (path + chance()) / paths if month == 0 else chance()
            if pick < credibility:
                wanted = own[int(pick / credibility * len(own))]
            elif lent is not None:
                used, held = lent.pick((pick - credibility) / (1 - credibility))
                wanted = sum([left[each[0]] for each in running]) * used // held if used else 0
            else:
                wanted = 0
            of_month = 1 + int(chance() * days)
            today, last = before + of_month, before + days
            if of_month <= passed:
                wanted = 0
            for at, drawn_here, lapsed_here, starts, expires in running:
                if wanted and starts <= today < expires:
                    taken = min(wanted, left[at])
                    left[at] -= taken
                    wanted -= taken
                    drawn_here[month] += taken
                if expires <= last:
                    lapsed_here[month] += left[at]
                    left[at] = 0
            running = [each for each in running if left[each[0]]]
    return list(zip(drawn, lapsed, strict=True))


def _add(outlook: Outlook, lot: Lot, drawn: list[int], lapsed: list[int], paths: int) -> None:
    """Adds a lot's money: cumulative rounding over its months, usage before expiry."""
    outlook.opening += lot.value
    outlook.opening_functional += lot.functional
    whole, gone, told, told_functional = lot.credits * paths, 0, 0, 0
    if whole <= 0:
        return
    for amounts, used, unused in zip(outlook.months, drawn, lapsed, strict=False):
        for column, credits in (("consumed", used), ("escheated" if lot.escheats else "expired", unused)):
            if credits:
                gone += credits
                value = round_half_up(lot.value * gone, whole)
                functional = round_half_up(lot.functional * gone, whole)
                setattr(amounts, column, getattr(amounts, column) + value - told)
                column = f"{column}_functional"
                setattr(amounts, column, getattr(amounts, column) + functional - told_functional)
                told, told_functional = value, functional


def _bound(outlook: Outlook, lot: Lot, calendar: Calendar) -> None:
    """What can be used of a lot in each month at most, and in which it lapses."""
    if lot.is_frozen:
        return
    expires = lot.expires_on.toordinal()
    today = calendar[0][0] + calendar[0][2]
    for month, (before, days, _) in enumerate(calendar[: len(outlook.months)]):
        if expires > today + 1:
            outlook.usable[month] += lot.value
        if expires <= before + days:
            outlook.expiring[month] += 0 if lot.escheats else lot.value
            return
