"""Laws of the forecast of a monthly series: its season, and the mean of methods weighted by their past errors."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.forecast.holdings import month_number
from projections.forecast.series import METHODS, NO_SEASON, damped_trend, expected, half_years, mean_of_last, season_of

JANUARY = month_number(date(2026, 1, 1))
SERIES = st.lists(st.floats(0, 1e12), max_size=50)
SHAPE = (1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.8, 1.0, 1.2)


@given(SERIES, st.integers(JANUARY, JANUARY + 11), st.integers(1, 30))
def test_what_is_expected_is_never_negative_and_nothing_comes_from_nothing(
    past: list[float], month: int, months: int
) -> None:
    found = expected(past, month, months)
    assert len(found) == months
    assert min(found) >= 0
    if not any(past):
        assert found == [0.0] * months


@given(SERIES, st.integers(1, 20), st.integers(0, 20))
def test_a_longer_look_ahead_says_the_same_of_the_months_nearby(past: list[float], months: int, more: int) -> None:
    assert expected(past, JANUARY, months + more)[:months] == expected(past, JANUARY, months)


@pytest.mark.parametrize("months", [1, 2, 3, 4, 12, 40])
def test_the_same_every_month_goes_on(months: int) -> None:
    assert expected([70.0] * months, JANUARY, 6) == pytest.approx([70.0] * 6)


def test_a_first_month_that_is_not_whole_does_not_count() -> None:
    assert expected([7.0, 70.0, 70.0, 70.0], JANUARY, 2) == pytest.approx([70.0, 70.0])


def test_a_line_goes_on_for_half_a_year() -> None:
    past = [100.0 + 10 * at for at in range(24)]
    assert half_years(past, 8) == pytest.approx([340, 350, 360, 370, 380, 390, 390, 390])
    assert expected(past, JANUARY, 3) == pytest.approx([340, 350, 360], rel=0.01)


def test_the_methods_by_hand() -> None:
    assert mean_of_last(3)([9.0, 1.0, 2.0, 6.0], 2) == [3.0, 3.0]
    assert half_years([3.0, 6.0], 2) == [4.5, 4.5], "too short for halves: the mean"
    assert damped_trend([100.0, 120.0], 2) == pytest.approx([110 + 0.9 * 2, 110 + 0.9 * 2 + 0.81 * 2])
    assert all(method([0.0, 50.0, 10.0], 5)[4] >= 0 for method in METHODS)


@pytest.mark.parametrize("next_month", [JANUARY, JANUARY + 4])
def test_a_season_of_two_years_is_found_and_goes_on(next_month: int) -> None:
    past = [1000 * SHAPE[(next_month - 24 + at) % 12] for at in range(24)]
    assert season_of(past, next_month) == pytest.approx(SHAPE)
    assert expected(past, next_month, 12) == pytest.approx([1000 * SHAPE[(next_month + at) % 12] for at in range(12)])


def test_a_season_on_a_line_is_found_beside_it() -> None:
    past = [(1000 + 10 * at) * SHAPE[at % 12] for at in range(36)]
    assert season_of(past, JANUARY) == pytest.approx(SHAPE, rel=0.02)


def test_years_that_do_not_agree_have_no_season_and_one_year_is_not_enough() -> None:
    turned = [2 - each for each in SHAPE]
    assert season_of([*SHAPE, *turned], JANUARY) == NO_SEASON
    assert season_of([*SHAPE] * 2, JANUARY) != NO_SEASON
    assert season_of(([*SHAPE] * 2)[1:], JANUARY) == NO_SEASON
    assert season_of([0.0] * 12 + [*SHAPE], JANUARY) == NO_SEASON, "a year of nothing"


@given(st.lists(st.floats(0.5, 1e9), min_size=24, max_size=40))
def test_a_season_is_twelve_positive_numbers_whose_mean_is_one(past: list[float]) -> None:
    season = season_of(past, JANUARY)
    assert min(season) > 0
    assert sum(season) == pytest.approx(12)
