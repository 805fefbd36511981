"""Laws of periods and of dates: months, days in a time zone, durations, and the accounting date of a fact."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from subledger.accounting_dates import accounting_date, effective_date, effective_date_of, last_usable_day
from subledger.errors import InvalidValue
from subledger.periods import Period, duration, end_of_day, time_zone

BERLIN, APIA = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia")
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)


def test_a_month_has_its_days_and_its_neighbours() -> None:
    period = Period.parse("2026-02")
    assert (period.year, period.month, str(period)) == (2026, 2, "2026-02")
    assert (period.first_day, period.last_day) == (date(2026, 2, 1), date(2026, 2, 28))
    assert (str(period.previous), str(period.next)) == ("2026-01", "2026-03")
    assert (str(Period(2026, 12).next), str(Period(2026, 1).previous)) == ("2027-01", "2025-12")
    assert (str(Period(2026, 11).next), str(Period(2026, 12).previous)) == ("2026-12", "2026-11")
    assert (Period(2024, 2).last_day, Period(2026, 12).last_day) == (date(2024, 2, 29), date(2026, 12, 31))
    assert Period.of(date(2026, 12, 31)) == Period(2026, 12) > Period(2026, 3) > Period(2025, 12)
    assert period.end(BERLIN) == datetime(2026, 2, 28, 23, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "1899-12", "9000-01", "2026-02 ", "2" * 50, ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    for field in ({}, {"field": "data.period"}):
        with pytest.raises(InvalidValue) as caught:
            Period.parse(text, **field)
        name = field.get("field", "period")
        assert (caught.value.field, caught.value.expected) == (name, "YYYY-MM, such as 2026-01")
        assert (str(caught.value), caught.value.found) == (f"{name} is not a month", text[:40])


def test_the_first_and_the_last_month_of_all() -> None:
    assert (Period.parse("1900-01"), Period.parse("8999-12")) == (Period(1900, 1), Period(8999, 12))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("5s", 5), ("90m", 5_400), ("36h", 129_600), ("31d", 2_678_400), ("2678400s", 2_678_400)],
)  # fmt: skip
def test_a_duration_is_a_number_of_seconds_minutes_hours_or_days(text: str, seconds: int) -> None:
    assert duration(text, field="f") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["32d", "2678401s", "745h", "5", "5w", "-5s", "1.5h", "12345678s", "", "9" * 50])
def test_what_is_no_duration_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        duration(text, field="f")
    assert str(caught.value) == "f is not a duration of at most 31 days"
    assert (caught.value.field, caught.value.found) == ("f", text[:40])
    assert caught.value.expected == "a whole number and s, m, h or d, such as 1d, 36h or 0s"


def test_a_day_ends_at_the_midnight_of_the_time_zone() -> None:
    assert end_of_day(date(2026, 3, 28), BERLIN) == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert end_of_day(date(2026, 3, 29), BERLIN) == datetime(2026, 3, 29, 22, tzinfo=UTC), "clocks went forward"
    assert end_of_day(date(2026, 12, 31), ZoneInfo("UTC")) == datetime(2027, 1, 1, tzinfo=UTC)
    assert end_of_day(date(2026, 3, 28), BERLIN).tzinfo is UTC


def test_a_time_zone_is_one_of_the_iana_database() -> None:
    assert time_zone("Europe/Berlin") == BERLIN
    for name in ("Europe/Nowhere", "../etc/passwd", ""):
        with pytest.raises(InvalidValue) as caught:
            time_zone(name)
        assert (caught.value.field, caught.value.found) == ("timezone", name)
        assert str(caught.value) == f"{name!r} is not a time zone of the IANA database"
        assert caught.value.expected == "a name such as UTC or Europe/Berlin"


# --- dates ------------------------------------------------------------------------------------------------------------


def test_the_effective_date_is_the_day_in_the_time_zone_of_the_ledger() -> None:
    late = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    assert effective_date(late, ZoneInfo("UTC")) == date(2026, 3, 31)
    assert effective_date(late, BERLIN) == date(2026, 4, 1)
    elsewhere = datetime(2026, 4, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert effective_date(elsewhere, ZoneInfo("UTC")) == date(2026, 3, 31)
    assert effective_date(elsewhere, APIA) == date(2026, 4, 1)


def test_an_expiry_is_of_the_last_day_on_which_the_credits_could_be_used() -> None:
    utc = ZoneInfo("UTC")
    assert last_usable_day(MIDNIGHT, utc) == date(2026, 3, 31)
    assert last_usable_day(MIDNIGHT + timedelta(microseconds=1), utc) == date(2026, 4, 1)
    assert last_usable_day(MIDNIGHT, BERLIN) == date(2026, 4, 1)
    for rules, day in ((1, date(2026, 4, 1)), (2, date(2026, 3, 31)), (3, date(2026, 3, 31))):
        assert effective_date_of("credits.expired", MIDNIGHT, utc, rules) == day
        assert effective_date_of("credits.consumed", MIDNIGHT, utc, rules) == date(2026, 4, 1)


def test_the_date_of_the_books_is_the_latest_of_all_that_it_depends_on() -> None:
    march, april, may = date(2026, 3, 31), date(2026, 4, 1), date(2026, 5, 1)
    assert accounting_date(march, None) == march
    assert accounting_date(march, march) == april, "the first open day"
    assert accounting_date(april, march) == april
    assert accounting_date(march, date(2026, 2, 28)) == march
    assert accounting_date(march, None, None, may, april) == may
    assert accounting_date(march, march, march) == april
    assert accounting_date(may, march, april, None) == may
