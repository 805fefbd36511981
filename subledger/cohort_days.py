"""Days of a cohort: the sums of its figures by accounting day, with the estimate and the anchor of each day.

A view of a day has the entries dated through that day, independent of the order of recording. Recognised breakage must
be a function of the days, so a cohort stores the changes of each day. Owns: these sums, and how many days are stored.
Does not own: the arithmetic of a cohort (pools), the changes by a movement and the breakage due by day (breakage_days).
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from subledger.availability import REMEMBERED
from subledger.blocks import ZERO
from subledger.breakage_line import Anchor, Estimate

MAY_BE_REOPENED: Final = timedelta(days=62)
"""Days of closed months are stored this long: the last two months may be reopened."""


class Day(NamedTuple):
    """Changes of a cohort on an accounting day, in minor units; ``recognised_minor`` is the posted breakage.

    ``backfilled_minor`` is the part of ``redeemed_minor`` with which purchases paid for earlier overage. ``estimate``
    is in force from the beginning of the day. ``anchor`` is the one in force at its end, if the day set one.
    """

    on: date
    issued_minor: int = 0
    issued_functional: int = 0
    redeemed_minor: int = 0
    backfilled_minor: int = 0
    expired_minor: int = 0
    expired_functional: int = 0
    escheated_minor: int = 0
    credits: Decimal = ZERO
    recognised_minor: int = 0
    recognised_functional: int = 0
    estimate: Estimate | None = None
    anchor: Anchor | None = None

    @property
    def turns(self) -> bool:
        """True if the day changes the issued or escheated amount. Then the line gets an anchor before the day's
        redemptions.

        The changes of the day are added up. So a transfer, which takes out and adds the same, leaves the line.
        """
        return bool(self.issued_minor or self.escheated_minor or self.backfilled_minor)

    def plus(self, other: Day) -> Day:
        """This day with the changes of another one. If both have an estimate, that of the other one is in force."""
        return Day(
            self.on,
            self.issued_minor + other.issued_minor,
            self.issued_functional + other.issued_functional,
            self.redeemed_minor + other.redeemed_minor,
            self.backfilled_minor + other.backfilled_minor,
            self.expired_minor + other.expired_minor,
            self.expired_functional + other.expired_functional,
            self.escheated_minor + other.escheated_minor,
            self.credits + other.credits,
            self.recognised_minor + other.recognised_minor,
            self.recognised_functional + other.recognised_functional,
            other.estimate or self.estimate,
            self.anchor,
        )


Days = tuple[Day, ...]
"""Days of a cohort in order, at most one of each date."""


def place_of(days: Days, on: date) -> tuple[int, bool]:
    """The index of a day among the days, and True if it is present. If it is not, the index at which to insert it."""
    number = len(days)
    while number and days[number - 1].on > on:
        number -= 1
    return (number - 1, True) if number and days[number - 1].on == on else (number, False)


def with_change(days: Days, change: Day) -> tuple[Days, int]:
    """The days with one more change, and the number of its day."""
    number, is_there = place_of(days, change.on)
    if is_there:
        return (*days[:number], days[number].plus(change), *days[number + 1 :]), number
    return (*days[:number], change, *days[number:]), number


def forgotten(days: Days, closed_through: date | None) -> int:
    """The number of days that are not stored any more: days of months closed long ago, and days long before the last
    one.
    """
    if not days:
        return 0
    until = days[-1].on - REMEMBERED
    if closed_through is not None:
        until = max(until, closed_through - MAY_BE_REOPENED)
    number = 0
    while number < len(days) and days[number].on <= until:
        number += 1
    return number
