"""Laws of the forecast: expected amounts add up, are always possible, and follow only from the figures."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.forecast.backtest import Actuals, Trial, run_rate
from projections.forecast.bands import LEVEL, Bands, spread, stretches
from projections.forecast.credibility import BETTER, SILENT, UNTESTED, Case, Fit, fit
from projections.forecast.habits import Habits, Observation, Purse, leaving, own_months, silent_months
from projections.forecast.holdings import NEVER, month_number
from projections.forecast.monthly import Monthly
from projections.forecast.prospects import HORIZON, MEASURES, TOTAL, Prospect, prospects
from projections.forecast.runoff import AHEAD, Lot, Lots, Outlook, currency_of, months_after, outlooks, run_off
from projections.forecast.series import NO_SEASON
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
    """Returns an observation, ``number`` months before the last one, in whole credits."""
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
    """This holds in each single future. The expected amount is their average."""
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
    """Of 1,200 credits ann uses 30 a month, and bob 120. A customer who came yesterday is treated like one of them."""
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
    """All credits are used in every month. A block that expires in the middle of April is used for half of it."""
    purse: Purse = ("ann", "credit", ())
    observed = {purse: [month(n, 100, 100) for n in range(12)], ("bob", "credit", ()): [month(0, 100, 100)]}
    outlook = expect({purse: [lot("100", 10_000, date(2026, 4, 16))]}, observed, 2)
    assert outlook.months[0].consumed + outlook.months[0].expired == 10_000
    assert outlook.months[0].consumed == pytest.approx(5_000, rel=0.3)


# --- credibility ----------------------------------------------------------------------------------------------------


def case(own: float, cohort: float, drawn: int, *, months: int = 3, silent: int = 0) -> Case:
    return Case(months, silent, own, cohort, drawn, opening=1000)


def test_own_months_are_believed_if_they_forecast_best_and_the_cohort_if_it_does() -> None:
    """All drew 100. First the own months predict 100, and the share of a grown balance 300; then vice versa."""
    assert fit([case(100, 300, 100) for _ in range(20)]) == Fit(0.0, (1.0,) * (SILENT + 1))
    found = fit([case(300, 100, 100) for _ in range(20)])
    assert found.k == float("inf")
    assert found.paces[0] == pytest.approx(1.0)


def test_a_larger_k_is_taken_only_if_it_is_better_by_a_tenth() -> None:
    """The errors are ±20 for own months, and ±19.5 for the cohort. In squares this is not better by a tenth."""
    cases = [case(120, 119.5, 100), case(80, 80.5, 100)]
    assert 20**2 * BETTER < 19.5**2
    assert fit(cases).k == 0.0


def test_customers_silent_for_months_are_paced_by_what_such_customers_used() -> None:
    """A hundred customers with usage last month use as before. Of a hundred silent for a month, one does: (100 + 5 ×
    100) / 10,500.
    """
    active = [case(100, 100, 100) for _ in range(100)]
    silent = [case(100, 100, 100 if at == 0 else 0, silent=1) for at in range(100)]
    paces = fit([*active, *silent]).paces
    assert paces[0] == pytest.approx(1.0)
    assert paces[1] == pytest.approx((100 + 500) / (10_000 + 500))
    assert paces[2:] == (1.0, 1.0, 1.0), "nobody was silent for longer"


def test_customers_who_leave_for_good_are_expected_to_use_less_and_less() -> None:
    """Of 80 months with usage and three later months, 20 were followed by three silent ones; 20 are added."""
    gone = [[month(3, 5, 90), month(2, 0, 85), month(1, 0, 85), month(0, 0, 85)] for _ in range(20)]
    here = [[month(at, 5, 90) for at in (3, 2, 1, 0)] for _ in range(60)]
    assert leaving([*gone, *here]) == pytest.approx(20 / (80 + 20))
    assert leaving([[month(1, 5, 90), month(0, 0, 85)]]) == 0, "too short to tell"
    silent = [case(100, 100, 0, silent=3) for _ in range(95)]
    active = [case(100, 100, 100) for _ in range(100)]
    assert fit([*active, *silent], 0.2).stay == pytest.approx(1 - 0.2 * (1 - 500 / 10_000)), (
        "five of a hundred are added"
    )
    back = [case(100, 100, 100, silent=3) for _ in range(95)]
    assert fit([*active, *back], 0.2).stay == pytest.approx(1.0), "who comes back has not left"


def test_without_cases_credibility_is_untested() -> None:
    assert fit([]) == UNTESTED
    purse: Purse = ("ann", "credit", ())
    habits = Habits({purse: [month(n, 10, 20) for n in range(6)]}, LAST)
    assert habits.credibility(purse, UNIT) == pytest.approx(6 / (6 + UNTESTED.k)), "a cohort of one"
    assert habits.credibility(("nobody", "credit", ()), UNIT) == 0
    assert list(islice(habits.paces(("nobody", "credit", ()), UNIT), 3)) == [1, 1, 1]


def test_recent_months_count_more_and_a_season_is_taken_out_and_put_in() -> None:
    months = [month(4, 100, 500), month(0, 400, 500)]
    assert own_months(months, LAST, NO_SEASON).mean(1.0, 10**18) == pytest.approx(
        (100 * 500 + 400 * 1000) / 1500 * 1e9
    ), "half as much after four months"
    doubled = tuple(2.0 if number % 12 == LAST % 12 else 0.9 for number in range(12))
    assert own_months(months[1:], LAST, doubled).mean(1.0, 10**18) == pytest.approx(200e9)
    assert own_months(months[1:], LAST, doubled).mean(0.5, 10**18) == pytest.approx(100e9)
    assert own_months(months, LAST, NO_SEASON).mean(1.0, 50) == 50, "no more than there is"


def test_silent_months_are_the_last_without_usage() -> None:
    assert silent_months([]) == 0
    assert silent_months([month(2, 0, 9), month(1, 5, 9), month(0, 0, 9)]) == 1
    assert silent_months([month(n, 0, 9) for n in range(9, -1, -1)]) == SILENT


def test_who_buys_more_than_it_uses_is_not_expected_to_use_more_as_its_balance_grows() -> None:
    """Eight customers use 80 of the 100 that they buy each month. Their shares fall, but the usage stays the same."""
    purses: list[Purse] = [(f"c{at}", "credit", ()) for at in range(8)]
    observed = {purse: [month(n, 80, 20 * (13 - n)) for n in range(11, -1, -1)] for purse in purses}
    lots: Lots = {purse: [lot("280", 28_000)] for purse in purses}
    outlook = expect(lots, observed, 3)
    assert [each.consumed for each in outlook.months] == pytest.approx([8 * 8_000] * 3, rel=0.02)


# --- all consumption ------------------------------------------------------------------------------------------------


def sums_of(consumed: list[int], purchased: list[int] | None = None) -> Monthly:
    first = LAST + 1 - len(consumed)
    return Monthly(
        {("USD", first + at): amount for at, amount in enumerate(consumed)},
        {("USD", first + at): amount for at, amount in enumerate(purchased or consumed)},
        {("credit", first + at): amount * 10**7 for at, amount in enumerate(consumed)},
    )


SUMS = st.lists(st.integers(-(10**4), 10**8), max_size=40).map(sums_of)


@given(books(), SUMS, st.integers(1, 30), st.sampled_from((DAY, date(2026, 4, 1), date(2026, 4, 29))))
def test_open_blocks_and_purchases_are_all_consumption_and_neither_is_negative(
    both: tuple[Lots, dict[Purse, list[Observation]]], sums: Monthly, months: int, day: date
) -> None:
    lots, observed = both
    found = prospects(lots, Habits(observed, LAST, sums.seasons(LAST)), sums, day, months, steps=3_000)["USD"]
    assert len(found.total) == len(found.purchases) == len(found.outlook.months) == months
    for total, purchases, of_lots in zip(found.total, found.purchases, found.outlook.months, strict=True):
        assert total >= of_lots.consumed >= 0 <= purchases
    assert found.outlook.opening == sum(each.value for own in lots.values() for each in own)
    assert found.outlook.remaining(months) >= 0
    if not any(sums.consumed.values()):
        assert sum(found.total) == sum(each.consumed for each in found.outlook.months), "nothing is invented"


def test_open_blocks_are_not_expected_to_yield_more_than_all_consumption() -> None:
    """Ann's own months predict 100 a month, and the ledger's last year 40. Her usage is reduced to 40."""
    purse: Purse = ("ann", "credit", ())
    observed = {purse: [month(n, 100, 5000) for n in range(11, -1, -1)], ("bob", "credit", ()): [month(0, 100, 5000)]}
    lots: Lots = {purse: [lot("5000", 500_000)]}
    sums = sums_of([4_000] * 24)
    found = prospects(lots, Habits(observed, LAST), sums, DAY, 3)["USD"]
    assert found.total == pytest.approx([4_000] * 3, rel=0.02)
    assert [each.consumed for each in found.outlook.months] == pytest.approx([4_000] * 3, rel=0.02)


def test_what_the_open_blocks_do_not_yield_comes_from_purchases() -> None:
    """The ledger uses 100.00 a month. The open block has 30.00 and then nothing. So 70.00, then 100.00, come from
    purchases.
    """
    purse: Purse = ("ann", "credit", ())
    observed = {purse: [month(n, 100, 100) for n in range(11, -1, -1)], ("bob", "credit", ()): [month(0, 100, 100)]}
    found = prospects({purse: [lot("30", 3_000)]}, Habits(observed, LAST), sums_of([10_000] * 12), DAY, 2)["USD"]
    assert [each.consumed for each in found.outlook.months] == [3_000, 0]
    assert found.total == found.purchases == [10_000, 10_000]
    assert found.paces == (10_000, 10_000)


def test_the_rest_of_a_month_is_expected_by_its_days() -> None:
    found = prospects({}, Habits({}, LAST), sums_of([30_000] * 12), date(2026, 4, 10), 2)["USD"]
    assert found.total == found.purchases == [20_000, 30_000], "20 of 30 days are left"


# --- bands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "expected"), [(3, None), (4, 4), (5, 5), (8, 8), (9, 8), (14, 12), (19, 16)])
def test_the_band_holds_four_of_five_errors_and_one_more(errors: int, expected: int | None) -> None:
    """The ⌈0.8 (n + 1)⌉-th of 1, 2, … n. The next error is within it with at least this probability."""
    found = spread([Fraction(error) for error in range(errors, 0, -1)])
    assert found == expected
    assert found is None or found >= LEVEL * (errors + 1)


AMOUNTS = st.builds(
    Actuals, consumed=st.integers(0, 4000), expired=st.integers(0, 4000), total_consumed=st.integers(0, 9000)
)


def prospect_of(outlook: Outlook, total: int = 1000) -> Prospect:
    months = len(outlook.months)
    return Prospect(outlook=outlook, total=[total] * months, purchases=[0] * months)


def trial(month: int, prospect: Prospect, actuals: list[Actuals]) -> Trial:
    return Trial(month=month, currency="USD", prospect=prospect, actuals=actuals, run_rate=[], last_month=[])


@given(books(), st.lists(st.lists(AMOUNTS, min_size=1, max_size=HORIZON), max_size=8))
def test_what_is_expected_lies_within_its_band_and_the_band_within_what_can_be(
    both: tuple[Lots, dict[Purse, list[Observation]]], actuals: list[list[Actuals]]
) -> None:
    outlook = expect(*both, 6)
    of_trials = prospect_of(expect(*both, HORIZON))
    tried = [trial(LAST - 9 + at, of_trials, each) for at, each in enumerate(actuals)]
    prospect = prospect_of(outlook)
    bands = Bands(tried, LAST)
    for measure in MEASURES:
        for stretch in (*stretches(HORIZON), slice(4, 5)):
            low, high = bands.band(prospect, "USD", measure, stretch)
            if measure == TOTAL and low is None:
                assert high is None
                continue
            assert low is not None
            assert high is not None
            assert 0 <= low <= prospect.expected(measure, stretch) <= high
            assert measure == TOTAL or high <= max(outlook.opening, 0)


def test_a_band_knows_only_what_had_happened_by_then() -> None:
    """Four trials in a row were wrong. A trial that begins before they ended has no band yet."""
    lots: Lots = {("ann", "credit", ()): [lot("100", 10_000)]}
    prospect = prospect_of(expect(lots, {}, HORIZON))
    tried = [trial(LAST - 6 + at, prospect, [Actuals(consumed=1000, total_consumed=500)]) for at in range(4)]
    month_ahead = slice(0, 1)
    assert Bands(tried, LAST - 3).band(prospect, "USD", "consumption", month_ahead) == (0, 10_000)
    assert Bands(tried, LAST - 2).band(prospect, "USD", "consumption", month_ahead) == (0, 1000)
    assert Bands(tried, LAST - 3).band(prospect, "USD", TOTAL, month_ahead) == (None, None)
    assert Bands(tried, LAST - 2).band(prospect, "USD", TOTAL, month_ahead) == (500, 1500), "half, up and down"


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
