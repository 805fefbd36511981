"""Back-test: forecasts of past months, compared with the actual amounts.

A *trial* is a forecast as of the end of an earlier month. It uses only the months through that day and the terms of
that day, in the books as known now (a fact recorded late counts on its own date). Two comparisons follow. The forecast
for the blocks that were open on that day is compared with their actual consumption and breakage. The forecast of the
total consumption is compared with the consumption of all blocks, including later purchases.

Owns: the trials, the actual amounts, the benchmarks.

Pure: functions of figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from fractions import Fraction
from typing import Final

import msgspec

from projections.forecast.habits import Habits, Observation, Purse, observe
from projections.forecast.holdings import Holding, month_number, month_of
from projections.forecast.monthly import Monthly, rest_of_month
from projections.forecast.prospects import BREAKAGE, CONSUMPTION, HORIZON, TOTAL, WHOLE, Prospect, prospects
from projections.forecast.runoff import Lot, Lots, lots_on

CUMULATED: Final = (3, HORIZON)
"""The numbers of months whose sums are tried, in addition to each single month."""
TRIALS: Final = 12
"""The number of earlier month-ends at which forecasts are tried."""
MOST_TRIED: Final = 5_000
"""The number of customers above which trials use a sample of the customers."""
STEPS: Final = 180_000
"""The maximum work of a trial (see ``runoff.STEPS``)."""
FORECAST, RUN_RATE, LAST_MONTH, NOTHING_USED = "forecast", "run_rate", "last_month", "nothing_used"
METHODS: Final = (FORECAST, RUN_RATE, LAST_MONTH, NOTHING_USED)


class Actuals(msgspec.Struct):
    """The actual use of the liability of some blocks in a month, in minor units, and the consumption of all blocks.

    ``other`` is the amount of other reductions (voided, refunded, transferred), less additions.
    """

    consumed: int = 0
    expired: int = 0
    escheated: int = 0
    other: int = 0
    total_consumed: int = 0

    def of(self, measure: str) -> int:
        if measure == TOTAL:
            return self.total_consumed
        return self.consumed if measure == CONSUMPTION else self.expired


class Trial(msgspec.Struct, kw_only=True):
    """A forecast as of a month's end, its benchmarks, and the actual amounts, for at most HORIZON months."""

    month: int
    currency: str
    prospect: Prospect
    actuals: list[Actuals]
    run_rate: list[Actuals]
    last_month: list[Actuals]

    def forecast(self, measure: str, months: slice) -> int:
        return self.prospect.expected(measure, months)

    def actual(self, measure: str, months: slice) -> int:
        return sum(month.of(measure) for month in self.actuals[months])

    def by(self, method: str, measure: str, months: slice) -> int:
        """Returns a method's expected amount for some months, in minor units."""
        if method == FORECAST:
            return self.forecast(measure, months)
        if method in (RUN_RATE, LAST_MONTH):
            naive = self.run_rate if method == RUN_RATE else self.last_month
            return sum(month.of(measure) for month in naive[months])
        return sum(self.prospect.outlook.expiring[months]) if measure == BREAKAGE else 0

    def error(self, measure: str, months: slice) -> Fraction | None:
        """Returns the forecast's error as a share of the amount exposed to it."""
        exposed = self.prospect.exposed(measure, months)
        off = abs(self.forecast(measure, months) - self.actual(measure, months))
        return Fraction(off, exposed) if exposed > 0 else None


# --- trials ---------------------------------------------------------------------------------------------------------


def trials(
    holdings: Sequence[Holding], sums: Monthly, last: int, observed: dict[Purse, list[Observation]] | None = None
) -> list[Trial]:
    """Returns the trials through a whole month, in order of time and currency.

    ``observed`` is ``observe(holdings, last)``. Trials begin with the first month that has observations. In a large
    ledger they use only every n-th customer, so the amounts of open blocks contain only these customers.
    """
    tried = sample(holdings)
    share = _share(tried, holdings)
    if observed is None or len(tried) < len(holdings):
        observed = observe(tried, last)
    learnt = min((each.month for months in observed.values() for each in months), default=last)
    found = []
    for month in range(max(learnt, last - TRIALS), last):
        day, ahead = month_of(month).last_day, min(HORIZON, last - month)
        lots, habits = lots_on(tried, day), Habits(observed, month, sums.seasons(month))
        actuals = actuals_of(tried, month, ahead)
        expected = prospects(lots, habits, sums, day, ahead, steps=STEPS, ahead=ahead, share=share)
        for currency, prospect in expected.items():
            if prospect.outlook.opening or any(prospect.total):
                of_currency = actuals.get(currency, [Actuals() for _ in range(ahead)])
                for at, each in enumerate(of_currency):
                    each.total_consumed = sums.consumed.get((currency, month + at + 1), 0)
                rates = [_run_rate(lots, currency, pace, share, day, ahead) for pace in prospect.paces]
                found.append(
                    Trial(
                        month=month,
                        currency=currency,
                        prospect=prospect,
                        actuals=of_currency,
                        run_rate=rates[0],
                        last_month=rates[1],
                    )
                )
    return found


def sample(holdings: Sequence[Holding]) -> Sequence[Holding]:
    """Returns all holdings, or those of every n-th customer if there are more than MOST_TRIED customers."""
    customers = sorted({holding.customer for holding in holdings})
    step = -(-len(customers) // MOST_TRIED)
    if step <= 1:
        return holdings
    chosen = set(customers[::step])
    return [holding for holding in holdings if holding.customer in chosen]


def _share(some: Sequence[Holding], every: Sequence[Holding]) -> Fraction:
    """Returns the share of some blocks in the consumption of all blocks; 1 if none of them was used."""
    if len(some) == len(every):
        return WHOLE
    used, of_all = (sum(sum(month.consumed for month in each.moved) for each in blocks) for blocks in (some, every))
    return Fraction(used, of_all) if 0 < used < of_all else WHOLE


def _run_rate(lots: Lots, currency: str, pace_minor: int, share: Fraction, day: date, months: int) -> list[Actuals]:
    """Returns the run rate of some lots, which have a ``share`` of the consumption. Its total is the run rate of all
    lots.
    """
    found = run_rate(lots, currency, int(pace_minor * share), day, months)
    for month in found:
        month.total_consumed = pace_minor
    return found


def actuals_of(holdings: Iterable[Holding], month: int, months: int) -> dict[str, list[Actuals]]:
    """Returns the actual use of the blocks open at the end of a month, in the months after it, per currency."""
    found: dict[str, list[Actuals]] = {}
    for holding in holdings:
        at = holding.month_index(month)
        if at < 0 or not (holding.credits[at] or holding.value[at]):
            continue
        for number, moved in zip(holding.months[at + 1 :], holding.moved[at + 1 :], strict=True):
            if number > month + months:
                break
            of_currency = found.setdefault(holding.block.currency, [Actuals() for _ in range(months)])
            actuals = of_currency[number - month - 1]
            actuals.consumed += moved.consumed
            actuals.expired += moved.expired
            actuals.escheated += moved.escheated
            actuals.other -= moved.value + moved.consumed + moved.expired + moved.escheated
    return found


def run_rate(lots: Lots, currency: str, pace_minor: int, day: date, months: int) -> list[Actuals]:
    """Returns the naive benchmark: constant consumption, drawn from the lots that expire first; the rest expires.

    The expiry of a month comes after its usage. Lots without expiry are used last.
    """
    counted = [lot for own in lots.values() for lot in own if _counts(lot, currency)]
    counted.sort(key=lambda lot: lot.last_day)
    values = [lot.value for lot in counted]
    number = month_number(day) + (month_of(month_number(day)).last_day == day)
    found = []
    for month in range(number, number + months):
        remaining = rest_of_month(pace_minor, day) if month == month_number(day) else pace_minor
        month_actuals, last = Actuals(total_consumed=remaining), month_of(month).last_day
        for at, lot in enumerate(counted):
            drawn = min(remaining, values[at])
            remaining -= drawn
            month_actuals.consumed += drawn
            values[at] -= drawn
            if lot.last_day <= last:
                month_actuals.expired += values[at]
                values[at] = 0
        found.append(month_actuals)
    return found


def _counts(lot: Lot, currency: str) -> bool:
    return lot.currency == currency and lot.value > 0 and not lot.is_frozen and not lot.escheats
