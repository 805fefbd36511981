"""Expectations of a ledger: the use of its open blocks, all of its consumption, and its purchases.

All consumption is the consumption of the open blocks plus that of credits that are not bought yet. If the forecast for
the open blocks exceeds the forecast of all consumption, the usage of their customers is reduced in proportion. Credits
that are then not used remain or lapse. So the two parts add up, and neither is negative.

Owns: the combination of both forecasts. Does not own: the run-off of the open blocks (``runoff``), the forecast of the
ledger's sums (``monthly``).

Pure: functions of figures.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import Final

import msgspec

from projections.forecast.habits import Habits
from projections.forecast.holdings import last_whole_month, month_number
from projections.forecast.monthly import Monthly, rest_of_month
from projections.forecast.runoff import AHEAD, STEPS, Group, Lot, Lots, Outlook, currency_of, nothing, outlooks

HORIZON: Final = 6
"""The number of months ahead for which forecasts are tried. In these months all consumption limits the consumption of
open blocks.
"""
RUN_RATE_MONTHS: Final = 3
WHOLE: Final = Fraction(1)
CONSUMPTION, BREAKAGE, TOTAL = "consumption", "breakage", "total_consumption"
MEASURES: Final = (CONSUMPTION, BREAKAGE, TOTAL)


class Prospect(msgspec.Struct, kw_only=True):
    """Expectations in one currency: of the open blocks, and of all consumption and purchases, month by month.

    ``total`` is all consumption: of the open blocks, and of credits that are not bought yet. It is never less than the
    consumption of the open blocks. ``paces`` has two monthly amounts of past consumption: the run rate, and the last
    month.
    """

    outlook: Outlook
    total: list[int]
    purchases: list[int]
    paces: tuple[int, int] = (0, 0)

    def expected(self, measure: str, months: slice) -> int:
        """Returns the expected amount of some months, in minor units."""
        if measure == TOTAL:
            return sum(self.total[months])
        amounts = self.outlook.months[months]
        return sum(each.consumed if measure == CONSUMPTION else each.expired for each in amounts)

    def exposed(self, measure: str, months: slice) -> int:
        """Returns the amount by which errors are divided: the amount that remains when the months begin, or the
        expected total.
        """
        return self.expected(TOTAL, months) if measure == TOTAL else self.outlook.remaining(months.start)


def prospects(
    lots: Lots,
    habits: Habits,
    sums: Monthly,
    day: date,
    months: int,
    *,
    steps: int = STEPS,
    ahead: int = AHEAD,
    share: Fraction = WHOLE,
) -> dict[str, Prospect]:
    """Returns the expectations for the months after a day, per currency of the lots and of past consumption.

    ``share`` is the share of the lots in the ledger's consumption, if they are not all lots.
    """
    last = last_whole_month(day)
    expected = limited_outlooks(lots, habits, sums, day, months, by=currency_of, steps=steps, ahead=ahead, share=share)
    found = {}
    for currency in sorted({*expected, *sums.currencies(last)}):
        outlook = expected.get(currency) or nothing(months, 0)
        consumption = _consumption(sums, currency, day, months)
        purchases = sums.purchases(currency, last, months)
        found[currency] = Prospect(
            outlook=outlook,
            total=[
                max(total, int(each.consumed / share)) for total, each in zip(consumption, outlook.months, strict=True)
            ],
            purchases=_first_reduced(purchases, day),
            paces=(sums.pace(currency, last, RUN_RATE_MONTHS), sums.pace(currency, last, 1)),
        )
    return found


def limited_outlooks(
    lots: Lots,
    habits: Habits,
    sums: Monthly,
    day: date,
    months: int,
    *,
    by: Callable[[Lot], Group],
    steps: int = STEPS,
    ahead: int = AHEAD,
    share: Fraction = WHOLE,
) -> dict[Group, Outlook]:
    """Returns the outlooks of lots (``runoff.outlooks``), limited by the expected consumption of the whole ledger."""
    first = min(months, HORIZON)
    unlimited = outlooks(lots, habits, day, first, by=currency_of, steps=steps, ahead=min(ahead, HORIZON))
    factors = {}
    for currency, outlook in unlimited.items():
        limits = _consumption(sums, currency, day, first)
        of_currency = [
            min(1.0, float(limit * share / each.consumed)) if each.consumed else 1.0
            for limit, each in zip(limits, outlook.months, strict=True)
        ]
        if min(of_currency) < 1.0:
            factors[currency] = of_currency
    return outlooks(lots, habits, day, months, by=by, steps=steps, ahead=ahead, factors=factors)


def _consumption(sums: Monthly, currency: str, day: date, months: int) -> list[int]:
    return _first_reduced(sums.consumption(currency, last_whole_month(day), months), day)


def _first_reduced(amounts: list[int], day: date) -> list[int]:
    """Reduces the amount of the first month to its rest, if it has begun."""
    is_whole = last_whole_month(day) == month_number(day)
    return amounts if is_whole else [rest_of_month(amounts[0], day), *amounts[1:]]
