"""The forecast is not worse than the run rate on any portfolio, except for the listed cases."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import pytest

from projections.forecast import backtest
from projections.forecast.backtest import FORECAST, RUN_RATE, trials
from projections.forecast.prospects import BREAKAGE, CONSUMPTION, TOTAL
from tests.campaigns.forecast_trials import AHEAD, INVOICES, OLD, SEEDS, YOUNG, Result, retail, synthetic
from tests.campaigns.portfolios import FIRST, PORTFOLIOS, monthly_of, steady
from tests.conftest import data_file

pytestmark = pytest.mark.campaign

EVEN: Final = Fraction(5, 1000)
"""Methods are equally good if their errors differ by less than this."""
WORSE: Final = {
    # A season cannot be known from less than two years. Half a year ahead, the mean of the past months is the best
    # guess.
    ("seasonal", YOUNG, TOTAL, 6): Fraction(3, 100),
    # Sales of the shop rise from month to month, and its customers come rarely.
    ("retail", 12, CONSUMPTION, 1): Fraction(2, 100),
}
"""The cases in which the run rate is better: portfolio, measure and months ahead, and the highest difference."""
BETTER: Final = {
    ("seasonal", OLD, TOTAL): Fraction(1, 3),
    ("ramping", OLD, TOTAL): Fraction(8, 10),
    ("churning", OLD, TOTAL): Fraction(7, 10),
    ("churning", OLD, CONSUMPTION): Fraction(1, 3),
    ("churning", OLD, BREAKAGE): Fraction(1, 3),
    ("yearly", OLD, CONSUMPTION): Fraction(1, 2),
}
"""The highest errors in cases in which the run rate is far off, as a share of the errors of the run rate."""
STEADY: Final = ("topping up", "saving up", "steady", "yearly")


def compared(results: list[Result]) -> None:
    for each in results:
        said, naive = each.wape[FORECAST], each.wape[RUN_RATE]
        if said is None or naive is None:
            continue
        key = (each.portfolio, each.history, each.measure, each.ahead)
        assert said <= naive + WORSE.get(key, EVEN), (key, float(said), float(naive))
        if key[:3] in BETTER:
            assert said <= naive * BETTER[key[:3]], (key, float(said), float(naive))


@pytest.mark.parametrize("name", PORTFOLIOS)
def test_the_forecast_is_no_worse_than_the_run_rate(name: str) -> None:
    results = [each for history in (YOUNG, OLD) for each in synthetic(name, history, SEEDS)]
    assert {(each.history, each.ahead) for each in results} == {(at, ahead) for at in (YOUNG, OLD) for ahead in AHEAD}
    compared(results)
    if name in STEADY:
        for each in results:
            if each.history == OLD and each.measure != BREAKAGE:
                assert each.bias is not None
                assert abs(each.bias) <= Fraction(2, 100), each


def test_the_forecast_of_a_real_shop_is_no_worse_than_the_run_rate() -> None:
    compared(retail(data_file(INVOICES)))


def test_of_many_customers_trials_are_of_every_nth_whose_share_of_all_consumption_limits_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixty customers with about the same usage: trials of twenty forecast their blocks, and all consumption."""
    holdings = steady(seed=7, months=16)
    last = FIRST + 15
    of_all = trials(holdings, monthly_of(holdings), last)
    monkeypatch.setattr(backtest, "MOST_TRIED", 20)
    assert len({each.customer for each in backtest.sample(holdings)}) == 20
    of_some = trials(holdings, monthly_of(holdings), last)
    whole = slice(0, 1)
    for one, other in zip(of_some, of_all, strict=True):
        assert one.actual(TOTAL, whole) == other.actual(TOTAL, whole)
        assert one.by("run_rate", TOTAL, whole) == other.by("run_rate", TOTAL, whole)
        assert 0 < one.prospect.outlook.opening < other.prospect.outlook.opening
        assert one.forecast(TOTAL, whole) == pytest.approx(other.forecast(TOTAL, whole), rel=0.2)
        assert one.forecast("consumption", whole) == pytest.approx(one.actual("consumption", whole), rel=0.6)
