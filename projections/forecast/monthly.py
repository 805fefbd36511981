"""The consumption and the purchases of a whole ledger by month, and their forecast.

The part of the expected total that does not come from the open blocks comes from credits that are not bought yet.

Owns: the sums by month, the expected total. Does not own: the method (``series``), the part of the open blocks
(``runoff``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

import msgspec

from projections.forecast.holdings import month_number, month_of
from projections.forecast.series import Season, expected, season_of
from projections.report_inputs import totals
from subledger.kinds import KINDS
from subledger.money import nano
from subledger.store.reading.views import View

CONSUMED: Final = frozenset(kind.name for kind in KINDS if kind.column == "consumed")
BOUGHT: Final = frozenset(kind.name for kind in KINDS if kind.column in ("purchased", "granted", "repriced"))

Sums = dict[tuple[str, int], int]
"""By currency (or unit) and month."""


class Monthly(msgspec.Struct, frozen=True):
    """Consumption and purchases in minor units by currency and month, usage in billionths of credits by unit and month.

    Purchases are the value that purchases, grants and repricings add to blocks.
    """

    consumed: Sums
    purchased: Sums
    used: Sums

    def currencies(self, month: int) -> set[str]:
        """Returns the currencies in which anything was used through the end of a month."""
        return {currency for (currency, number), amount in self.consumed.items() if number <= month and amount}

    def pace(self, currency: str, month: int, months: int) -> int:
        """Returns the average consumption of the last months, or of all months if the ledger has fewer."""
        last = _series(self.consumed, currency, month)[-months:]
        return max(0, sum(last) // len(last)) if last else 0

    def consumption(self, currency: str, month: int, months: int) -> list[int]:
        """Returns the consumption expected in the months after a month, in minor units."""
        return _expected(self.consumed, currency, month, months)

    def purchases(self, currency: str, month: int, months: int) -> list[int]:
        """Returns the expected value of the purchases in the months after a month, in minor units."""
        return _expected(self.purchased, currency, month, months)

    def seasons(self, month: int) -> dict[str, Season]:
        """Returns the season of each unit's usage as known at the end of a month."""
        units = sorted({unit for unit, _ in self.used})
        return {unit: season_of(_series(self.used, unit, month), month + 1) for unit in units}


def monthly(view: View) -> Monthly:
    """Returns the sums of a view by month, from its day totals."""
    found = Monthly({}, {}, {})
    for total in totals(view):
        if total.month is None:  # no entry is before the first day of all
            continue
        month = month_number(total.month.first_day)
        if total.kind in CONSUMED:
            _add(found.consumed, (total.currency, month), total.amount_minor)
            _add(found.used, (total.unit, month), nano(Decimal(total.credits)))
        elif total.kind in BOUGHT:
            _add(found.purchased, (total.currency, month), total.amount_minor)
    return found


def _add(sums: Sums, key: tuple[str, int], amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount


def _series(sums: Mapping[tuple[str, int], int], key: str, month: int) -> list[int]:
    """Returns the sums from the first month through ``month``, never below zero."""
    first = min((number for name, number in sums if name == key), default=month + 1)
    return [max(0, sums.get((key, number), 0)) for number in range(first, month + 1)]


def _expected(sums: Sums, key: str, month: int, months: int) -> list[int]:
    return [round(amount) for amount in expected(_series(sums, key, month), month + 1, months)]


def rest_of_month(amount_minor: int, day: date) -> int:
    """Returns the part of a month's amount that falls on the days after a day of it; rounded down."""
    last = month_of(month_number(day)).last_day
    return amount_minor * (last.day - day.day) // last.day
