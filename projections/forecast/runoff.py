"""Run-off of open credit blocks: a simulation of many possible futures of each purse.

Owns: the simulation. A future is simulated month by month. The usage of a month is chosen in one of two ways
(``habits``). With a probability equal to the credibility of the purse, it is the usage of one past month of this purse.
Otherwise it is the share of the opening balance that some purse of the cohort used in one past month. The usage is
multiplied by the season, and by the pace of customers who have been silent for the same time. This pace falls from
month to month if customers leave. The usage happens on a random day of the month. It draws in draw order on the blocks
that have started and not expired on that day, until they are empty. At the end of the month, the blocks that expired in
this month lapse. So no block yields more than its balance, and the average over the futures is the expected amount.
Past months are used as a whole. So the simulation distinguishes a customer who comes rarely and uses everything from a
customer who uses a little every month.

Pure, and the same on every machine: the random numbers of a purse follow from its name. Credits and money are integers
throughout. A block's money follows its credits by cumulative rounding, so the parts add up to its value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

import msgspec

from projections.forecast.habits import Cohort, Habits, Purse, purse_of
from projections.forecast.holdings import Holding, month_number, month_of
from subledger.draw_order import draw_order
from subledger.money import round_half_up

STEPS: Final = 360_000
"""The approximate sum of the months of all simulations. If there are few purses, each gets more futures."""
FEWEST, MOST = 1, 80
AHEAD: Final = 24
"""The minimum number of simulated months, so that a longer horizon gives the same amounts for the first months."""


class Lot(msgspec.Struct, frozen=True, kw_only=True):
    """The remaining credits of a block in billionths, and its money in minor units. ``last_day`` is the last day on
    which the credits can be used, and the day of their breakage.
    """

    credits: int
    value: int
    functional: int
    currency: str
    starts_on: date
    last_day: date
    is_frozen: bool = False
    escheats: bool = False
    is_promotional: bool = False
    is_refundable: bool = False
    is_pooled: bool = False


class RunOffAmounts(msgspec.Struct):
    """The use of a liability, in minor units of its currency and of the functional currency."""

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
    """The expected use of a liability in one currency: the months in order, then the amount remaining after them.

    ``expiring`` is the breakage of each month if nothing is used. ``usable`` is the amount that could be used in a
    month if nothing was used before. ``paths`` is the number of futures.
    """

    opening: int
    opening_functional: int
    months: list[RunOffAmounts]
    expiring: list[int]
    usable: list[int]
    paths: int

    def remaining(self, months: int) -> int:
        """Returns the amount expected to remain after the first months."""
        return self.opening - sum(month.total for month in self.months[:months])


Lots = dict[Purse, list[Lot]]


def lots_on(holdings: Iterable[Holding], day: date) -> Lots:
    """Returns the lots of every purse at the end of a day, by the terms of that day, in draw order.

    The day must be the day of the view, or the last day of a month.
    """
    month = month_number(day)
    found: dict[Purse, list[tuple[Any, Lot]]] = {}
    for holding in holdings:
        at = holding.month_index(month)
        if at < 0 or not (holding.credits[at] or holding.value[at] or holding.functional[at]):
            continue
        last_day = holding.last_day(day)
        lot = Lot(
            credits=holding.credits[at],
            value=holding.value[at],
            functional=holding.functional[at],
            currency=holding.block.currency,
            starts_on=holding.starts_on,
            last_day=last_day,
            is_frozen=holding.disputed[at] > 0,
            escheats=holding.escheats,
            is_promotional=holding.is_promotional,
            is_refundable=holding.block.refundable,
            is_pooled=holding.block.pool is not None,
        )
        _, priority, _, *rest = draw_order(holding.block)
        found.setdefault(purse_of(holding), []).append(((priority, last_day, *rest), lot))
    return {purse: [lot for _, lot in sorted(lots, key=lambda each: each[0])] for purse, lots in sorted(found.items())}


Calendar = list[tuple[int, int, int]]
"""Per month: the ordinal of the day before it, its number of days, and the number of days that have passed."""


def currency_of(lot: Lot) -> str:
    return lot.currency


def months_after(day: date, months: int) -> Calendar:
    """Returns the months after a day. The first is the rest of the day's month, if days of it remain."""
    number = month_number(day) + (month_of(month_number(day)).last_day == day)
    found = []
    for each in range(number, number + months):
        period = month_of(each)
        before = period.first_day.toordinal() - 1
        found.append((before, period.last_day.toordinal() - before, max(day.toordinal() - before, 0)))
    return found


Group = TypeVar("Group", bound=Any)


def outlooks(
    lots: Lots,
    habits: Habits,
    day: date,
    months: int,
    *,
    by: Callable[[Lot], Group],
    steps: int = STEPS,
    ahead: int = AHEAD,
    factors: Mapping[str, Sequence[float]] | None = None,
) -> dict[Group, Outlook]:
    """Returns the expected use in the months after a day, grouped and sorted by a property of the lots.

    ``factors`` multiply the usage of the first months, by the currency of a purse's first lot.
    """
    calendar = months_after(day, max(months, ahead))
    paths = max(FEWEST, min(MOST, steps // (max(1, len(lots)) * max(12, months // 2))))
    found: dict[Group, Outlook] = {}
    for purse, own in lots.items():
        cohort: Cohort = (purse[1], purse[2], any(not lot.is_promotional for lot in own))
        of_currency = (factors or {}).get(own[0].currency, ())
        ran_off = run_off(purse, own, habits, cohort, calendar, paths, of_currency)
        for lot, (drawn, lapsed) in zip(own, ran_off, strict=True):
            outlook = found.get(by(lot))
            if outlook is None:
                outlook = found[by(lot)] = nothing(months, paths)
            _add(outlook, lot, drawn, lapsed, paths)
            _bound(outlook, lot, calendar)
    return dict(sorted(found.items()))


def nothing(months: int, paths: int) -> Outlook:
    """Returns the outlook of an empty set of lots."""
    return Outlook(
        opening=0,
        opening_functional=0,
        months=[RunOffAmounts() for _ in range(months)],
        expiring=[0] * months,
        usable=[0] * months,
        paths=paths,
    )


def run_off(
    purse: Purse,
    lots: Sequence[Lot],
    habits: Habits,
    cohort: Cohort,
    calendar: list[tuple[int, int, int]],
    paths: int,
    factors: Sequence[float] = (),
) -> list[tuple[list[int], list[int]]]:
    """Returns per lot the credits drawn and lapsed in each month, summed over the futures.

    A share from the cohort is applied to the purse's credits at the beginning, also in later months. Otherwise the
    usage would fall with the remaining credits.
    """
    chance = random.Random("/".join((purse[0], purse[1], *purse[2]))).random
    own, cohort_months, credibility = habits.own(purse), habits.cohort_months(cohort), habits.credibility(purse, cohort)
    season = habits.season(purse[1])
    paces = [
        pace * season[date.fromordinal(before + 1).month - 1]
        for (before, *_), pace in zip(calendar, habits.paces(purse, cohort), strict=False)
    ]
    paces[: len(factors)] = [each * factor for each, factor in zip(paces, factors, strict=False)]
    drawn = [[0] * len(calendar) for _ in lots]
    lapsed = [[0] * len(calendar) for _ in lots]
    terms = [
        (at, drawn[at], lapsed[at], lot.starts_on.toordinal(), lot.last_day.toordinal())
        for at, lot in enumerate(lots)
        if lot.credits > 0 and not lot.is_frozen
    ]
    credits = [lot.credits for lot in lots]
    whole = sum(credits[each[0]] for each in terms)
    for path in range(paths):
        remaining, running = credits.copy(), terms
        for month, (before, days, passed) in enumerate(calendar):
            if not running:
                break
            # Stratified sampling in the first month gives less noise for the same work.
            pick = (path + chance()) / paths if month == 0 else chance()
            if own is not None and pick < credibility:
                demand = int(own.pick(pick / credibility) * paces[month])
            elif cohort_months is not None:
                used, opening = cohort_months.pick((pick - credibility) / (1 - credibility))
                demand = int(whole * used * paces[month] / opening) if used else 0
            else:
                demand = 0
            of_month = 1 + int(chance() * days)
            today, last = before + of_month, before + days
            if of_month <= passed:
                demand = 0
            for at, drawn_here, lapsed_here, starts, until in running:
                if demand and starts <= today <= until:
                    drawn_now = min(demand, remaining[at])
                    remaining[at] -= drawn_now
                    demand -= drawn_now
                    drawn_here[month] += drawn_now
                if until <= last:
                    lapsed_here[month] += remaining[at]
                    remaining[at] = 0
            running = [each for each in running if remaining[each[0]]]
    return list(zip(drawn, lapsed, strict=True))


def _add(outlook: Outlook, lot: Lot, drawn: list[int], lapsed: list[int], paths: int) -> None:
    """Adds a lot's money by cumulative rounding over its months. In each month usage comes before expiry."""
    outlook.opening += lot.value
    outlook.opening_functional += lot.functional
    whole, disposed, assigned, assigned_functional = lot.credits * paths, 0, 0, 0
    if whole <= 0:
        return
    for amounts, used, unused in zip(outlook.months, drawn, lapsed, strict=False):
        for column, credits in (("consumed", used), ("escheated" if lot.escheats else "expired", unused)):
            if credits:
                disposed += credits
                value = round_half_up(lot.value * disposed, whole)
                functional = round_half_up(lot.functional * disposed, whole)
                setattr(amounts, column, getattr(amounts, column) + value - assigned)
                column = f"{column}_functional"
                setattr(amounts, column, getattr(amounts, column) + functional - assigned_functional)
                assigned, assigned_functional = value, functional


def _bound(outlook: Outlook, lot: Lot, calendar: Calendar) -> None:
    """Adds the maximum use of a lot to each month, and its whole amount to the month in which it lapses."""
    if lot.is_frozen:
        return
    until = lot.last_day.toordinal()
    today = calendar[0][0] + calendar[0][2]
    for month, (before, days, _) in enumerate(calendar[: len(outlook.months)]):
        if until > today:
            outlook.usable[month] += lot.value
        if until <= before + days:
            outlook.expiring[month] += 0 if lot.escheats else lot.value
            return
