"""Calendar months as accounting periods, days in a time zone, and durations.

Does not own: the dates of a fact in the books (accounting_dates), the months that may close (closing).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from subledger.errors import InvalidValue

_PERIOD = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
_ONE_DAY = timedelta(days=1)
MICROSECOND: Final = timedelta(microseconds=1)
"""The smallest difference of two times."""
_DURATION = re.compile(r"([0-9]{1,7})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_TOLERANCE_DAYS = 31


class Period(msgspec.Struct, frozen=True, order=True, gc=False):
    """A calendar month of the books. Periods are ordered by time."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str, *, field: str = "period") -> Period:
        """``2026-01``. Raises InvalidValue."""
        match = _PERIOD.fullmatch(text)
        if not match or not 1900 <= int(match[1]) <= 8999:
            raise InvalidValue(
                f"{field} is not a month", field=field, expected="YYYY-MM, such as 2026-01", found=text[:40]
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, day: date) -> Period:
        """The period that a day lies in."""
        return cls(day.year, day.month)

    @property
    def first_day(self) -> date:
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        return self.next.first_day - _ONE_DAY

    @property
    def next(self) -> Period:
        return Period(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def previous(self) -> Period:
        return Period(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def end(self, timezone: ZoneInfo) -> datetime:
        """The first moment after the period, in the ledger's time zone."""
        return end_of_day(self.last_day, timezone)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@lru_cache(maxsize=128)
def time_zone(name: str) -> ZoneInfo:
    """The IANA time zone of this name. Raises InvalidValue."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidValue(
            f"{name!r} is not a time zone of the IANA database",
            field="timezone",
            expected="a name such as UTC or Europe/Berlin",
            found=name,
        ) from None


def duration(text: str, *, field: str) -> timedelta:
    """``90m``, ``36h``, ``1d``: a number of seconds, minutes, hours or days, 31 days at most. Raises InvalidValue."""
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else None
    if seconds is None or seconds > LONGEST_TOLERANCE_DAYS * _SECONDS["d"]:
        raise InvalidValue(
            f"{field} is not a duration of at most {LONGEST_TOLERANCE_DAYS} days",
            field=field,
            expected="a whole number and s, m, h or d, such as 1d, 36h or 0s",
            found=text[:40],
        )
    return timedelta(seconds=seconds)


def end_of_day(day: date, timezone: ZoneInfo) -> datetime:
    """The first moment after a day, in the ledger's time zone."""
    following = day + _ONE_DAY
    return datetime(following.year, following.month, following.day, tzinfo=timezone).astimezone(UTC)
