"""Laws of the forecast: what is expected adds up, never leaves what can be, and follows from the figures alone."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.forecast.backtest import HORIZON, LEVEL, MEASURES, Actuals, Bands, Trial, run_rate, spread, stretches
from projections.forecast.habits import UNTESTED_K, Habits, Observation, Purse, credibility_k
from projections.forecast.holdings import NEVER, month_number
from projections.forecast.runoff import AHEAD, Lot, Lots, Outlook, currency_of, months_after, outlooks, run_off
from subledger.money import nano

DAY = date(2026, 3, 31)
LAST = month_number(DAY)
UNIT = ("credit", (), True)


def lot(credits: str, value: int, last_day: date = NEVER, **terms: object) -> Lot:
    return Lot(
        credits=nano(Decimal(credits)),
        value=value,
        functional=value * 2,
        currency="USD",
        starts_on=date(2025, 1, 1),
        last_day=last_day,
        **terms,
    )


def month(number: int, used: int, held: int) -> Observation:
    """A month so many before the last, in whole credits."""
    return Observation(LAST - number, UNIT, nano(Decimal(used)), nano(Decimal(min(used, held))), nano(Decimal(held)))


CREDITS = st.integers(1, 10**12).map(lambda n: str(Decimal(n).scaleb(-6)))
DAYS = st.none() | st.integers(-40, 1000)
LOTS = st.builds(
    lambda credits, value, days, frozen, escheats, starts: Lot(
        credits=nano(Decimal(credits)),
        value=value,
        functional=value * 3 // 2,
        currency="USD",
        starts_on=DAY + timedelta(days=starts),
        last_day=NEVER if days is None else DAY + timedelta(days=days),
        is_frozen=frozen,
        escheats=escheats,
        is_promotional=value == 0,
    ),
    CREDITS,
    st.integers(0, 10**7),
    DAYS,
    st.sampled_from((False,) * 7 + (True,)),
    st.sampled_from((False, False, True)),
    st.integers(-300, 90),
)
MONTHS = st.lists(st.builds(month, st.integers(0, 14), st.integers(0, 500), st.integers(1, 500)), max_size=6)


@st.composite
def books(draw: st.DrawFn) -> tuple[Lots, dict[Purse, list[Observation]]]:
    purses: list[Purse] = [(f"c{number}", "credit", ()) for number in range(draw(st.integers(1, 4)))]
    lots = {purse: draw(st.lists(LOTS, min_size=1, max_size=4)) for purse in purses}
    return lots, {purse: draw(MONTHS) for purse in purses if draw(st.booleans())}


def expect(lots: Lots, observed: dict[Purse, list[Observation]], months: int = 12) -> Outlook:
    return outlooks(lots, Habits(observed, LAST), DAY, months, by=currency_of, steps=3_000)["USD"]


@given(books(), st.integers(1, 40))
def test_what_is_expected_and_what_is_left_later_is_the_liability(
    both: tuple[Lots, dict[Purse, list[Observation]]], months: int
) -> None:
    lots, observed = both
    outlook = expect(lots, observed, months)
    every = [each for own in lots.values() for each in own]
    assert outlook.opening == sum(each.value for each in every)
    assert outlook.opening_functional == sum(each.functional for each in every)
    assert outlook.remaining(months) >= 0
    assert sum(each.functional for each in outlook.months) <= outlook.opening_functional
    for each, usable, expiring in zip(outlook.months, outlook.usable, outlook.expiring, strict=True):
        assert min(each.consumed, each.expired, each.escheated, each.consumed_functional, each.expired_functional) >= 0
        assert each.consumed <= usable
        assert each.expired <= expiring
    if any(each.is_frozen or each.last_day == NEVER for each in every):
        return
    if max(each.last_day for each in every) <= date(2026 + (months + 2) // 12, (months + 2) % 12 + 1, 28):
        assert outlook.remaining(months) == 0, "everything has been used or has lapsed by the last expiry"


@given(books())
def test_a_longer_look_ahead_says_the_same_of_the_months_nearby(
    both: tuple[Lots, dict[Purse, list[Observation]]],
) -> None:
    assert expect(*both, 3).months == expect(*both, AHEAD).months[:3]


@given(books(), st.randoms(use_true_random=False))
def test_the_same_figures_give_the_same_forecast_in_any_order(
    both: tuple[Lots, dict[Purse, list[Observation]]], chance: random.Random
) -> None:
    lots, observed = both
    purses = list(lots)
    chance.shuffle(purses)
    assert expect({purse: lots[purse] for purse in purses}, observed) == expect(lots, observed)


@given(st.lists(CREDITS, min_size=2, max_size=5), MONTHS)
def test_a_block_is_drawn_only_when_those_before_it_are_empty(credits: list[str], months: list[Observation]) -> None:
    """In each single future; what is expected is their average."""
    purse: Purse = ("c", "credit", ())
    lots = [lot(each, 100) for each in credits]
    habits = Habits({purse: months}, LAST)
    ran_off = run_off(purse, lots, habits, UNIT, months_after(DAY, 12), 1)
    for number in range(12):
        drawn = [sum(of_lot[: number + 1]) for of_lot, _ in ran_off]
        for at, each in enumerate(drawn[1:], start=1):
            assert not each or all(drawn[before] == lots[before].credits for before in range(at))


def test_without_any_past_nothing_is_used_and_blocks_lapse_by_the_calendar() -> None:
    lots: Lots = {
        ("ann", "credit", ()): [lot("10", 1000, date(2026, 4, 30)), lot("10", 700, date(2026, 7, 1)), lot("1", 50)],
        ("bob", "credit", ()): [lot("3", 90, date(2026, 3, 1)), lot("5", 40, date(2026, 5, 5), escheats=True)],
        ("cid", "credit", ()): [lot("3", 8, date(2026, 4, 2), is_frozen=True)],
    }
    outlook = expect(lots, {}, 4)
    assert [each.consumed for each in outlook.months] == [0, 0, 0, 0]
    assert [each.expired for each in outlook.months] == [1090, 0, 0, 700]
    assert [each.escheated for each in outlook.months] == [0, 40, 0, 0]
    assert outlook.remaining(4) == 58, "what never expires, and what is disputed"


def test_a_customer_goes_on_at_its_own_pace_and_a_new_one_at_its_cohorts() -> None:
    """Of 1,200 credits ann used 30 a month, bob 120; who came yesterday is taken for one of them."""
    ann: Purse = ("ann", "credit", ())
    bob: Purse = ("bob", "credit", ())
    observed = {ann: [month(n, 30, 1200 + 30 * n) for n in range(12)], bob: [month(n, 120, 1200) for n in range(12)]}

    def used(purse: Purse, months: int = 3) -> int:
        return sum(each.consumed for each in expect({purse: [lot("1200", 120_000)]}, observed, months).months)

    assert used(ann) == pytest.approx(9_000, rel=0.05)
    assert used(bob) == pytest.approx(36_000, rel=0.05)
    assert 9_000 < used(("new", "credit", ())) < 36_000
    assert used(bob, 24) == 120_000, "no more than the block carries"


def test_credits_that_expire_soon_are_used_for_the_days_they_live() -> None:
    """All of it is used in every month; a block that lives for half of April is used half the time."""
    purse: Purse = ("ann", "credit", ())
    observed = {purse: [month(n, 100, 100) for n in range(12)], ("bob", "credit", ()): [month(0, 100, 100)]}
    outlook = expect({purse: [lot("100", 10_000, date(2026, 4, 16))]}, observed, 2)
    assert outlook.months[0].consumed + outlook.months[0].expired == 10_000
    assert outlook.months[0].consumed == pytest.approx(5_000, rel=0.3)


# --- credibility ----------------------------------------------------------------------------------------------------


def test_credibility_by_hand() -> None:
    """Shares 0.2 0.4 and 0.6 0.8: noise 0.02 within each; between (0.3, 0.7) 2 × 2 × 0.04 = 0.16.

    signal = (0.16 − 1 × 0.02) / (4 − 8 / 4) = 0.07; k = 0.02 / 0.07; two months are believed to 2 / (2 + k) = 0.875.
    """
    purses = [[month(1, 20, 100), month(0, 40, 100)], [month(1, 60, 100), month(0, 80, 100)]]
    assert credibility_k(purses) == pytest.approx(0.02 / 0.07)
    habits = Habits({("a", "credit", ()): purses[0], ("b", "credit", ()): purses[1]}, LAST)
    assert habits.credibility(("a", "credit", ()), UNIT) == pytest.approx(0.875)
    assert habits.credibility(("nobody", "credit", ()), UNIT) == 0


def test_who_does_not_differ_from_the_cohort_is_taken_for_one_of_it() -> None:
    alike = [[month(1, 20, 100), month(0, 80, 100)], [month(1, 80, 100), month(0, 20, 100)]]
    assert credibility_k(alike) == float("inf")
    steady = [[month(1, 20, 100), month(0, 20, 100)], [month(1, 70, 100), month(0, 70, 100)]]
    assert credibility_k(steady) == 0
    assert credibility_k(steady[:1]) == UNTESTED_K


# --- bands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "expected"), [(3, None), (4, 4), (5, 5), (8, 8), (9, 8), (14, 12), (19, 16)])
def test_the_band_holds_four_of_five_errors_and_one_more(errors: int, expected: int | None) -> None:
    """Of 1, 2, … n the ⌈0.8 (n + 1)⌉-th; a further one lies within it with at least that probability."""
    found = spread([Fraction(error) for error in range(errors, 0, -1)])
    assert found == expected
    assert found is None or found >= LEVEL * (errors + 1)


AMOUNTS = st.builds(Actuals, consumed=st.integers(0, 4000), expired=st.integers(0, 4000))


@given(books(), st.lists(st.lists(AMOUNTS, min_size=1, max_size=HORIZON), max_size=8))
def test_what_is_expected_lies_within_its_band_and_the_band_within_what_can_be(
    both: tuple[Lots, dict[Purse, list[Observation]]], actuals: list[list[Actuals]]
) -> None:
    outlook = expect(*both, 6)
    tried = [
        Trial(month=LAST - 9 + at, currency="USD", outlook=expect(*both, HORIZON), actuals=each, run_rate=[])
        for at, each in enumerate(actuals)
    ]
    bands = Bands(tried, LAST)
    for measure in MEASURES:
        for stretch in (*stretches(HORIZON), slice(4, 5)):
            low, high = bands.band(outlook, "USD", measure, stretch)
            months = outlook.months[stretch]
            expected = sum(each.consumed if measure == "consumption" else each.expired for each in months)
            assert 0 <= low <= expected <= high <= max(outlook.opening, 0)


def test_a_band_knows_only_what_had_happened_by_then() -> None:
    """Four trials in a row were wrong: the one that begins before they ended has no band yet."""
    lots: Lots = {("ann", "credit", ()): [lot("100", 10_000)]}
    outlook = expect(lots, {}, HORIZON)
    tried = [
        Trial(month=LAST - 6 + at, currency="USD", outlook=outlook, actuals=[Actuals(consumed=1000)], run_rate=[])
        for at in range(4)
    ]
    assert Bands(tried, LAST - 3).band(outlook, "USD", "consumption", slice(0, 1)) == (0, 10_000)
    assert Bands(tried, LAST - 2).band(outlook, "USD", "consumption", slice(0, 1)) == (0, 1000)


# --- benchmarks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pace", "consumed", "expired"),
    [(0, [0, 0, 0], [60, 0, 40]), (50, [50, 50, 0], [10, 0, 0]), (1000, [110, 0, 0], [0, 0, 0])],
)
def test_the_run_rate_takes_what_expires_first_and_the_rest_expires(
    pace: int, consumed: list[int], expired: list[int]
) -> None:
    lots: Lots = {
        ("ann", "credit", ()): [lot("6", 60, date(2026, 4, 15)), lot("1", 10)],
        ("bob", "credit", ()): [lot("4", 40, date(2026, 6, 1))],
    }
    found = run_rate(lots, "USD", pace, DAY, 3)
    assert [each.consumed for each in found] == consumed
    assert [each.expired for each in found] == expired
