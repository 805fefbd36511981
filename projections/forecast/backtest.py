"""Back-test: forecasts of past months compared with the actual amounts, and the bands that follow from their errors.

Owns: the trials, the bands, the benchmarks. A *trial* is a forecast as of the end of an earlier month. It uses only the
months through that day and the terms of that day, in the books as known now (a fact recorded late counts on its own
date). It is compared with the actual use of the blocks that were open on that day; later purchases are not part of it.

A band is the expected amount plus and minus the error that four of five earlier trials did not exceed, as a share of
the amount expected to remain (so its nominal coverage is 80 %). The share is the ⌈0.8 × (n + 1)⌉-th smallest of n
earlier errors: split conformal prediction, V. Vovk et al., "Algorithmic Learning in a Random World" (2005); for
forecasts of several steps K. Stankevičiūtė et al., "Conformal time-series forecasting" (NeurIPS 2021). With fewer than
four trials a band is the full range of possible amounts. It never exceeds that range.

Pure: functions of figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from fractions import Fraction
from typing import Final

import msgspec

from projections.forecast.habits import Habits, Observation, Purse, observe
from projections.forecast.holdings import Holding, month_number, month_of
from projections.forecast.runoff import Lot, Lots, Outlook, currency_of, lots_on, outlooks
from projections.report import Column, Table, stated

HORIZON: Final = 3
"""The number of months that trials look ahead."""
TRIALS: Final = 12
"""The number of earlier month-ends at which forecasts are tried."""
STEPS: Final = 180_000
"""The maximum work of a trial (see ``runoff.STEPS``)."""
LEVEL: Final = Fraction(4, 5)
CONSUMPTION, BREAKAGE = "consumption", "breakage"
MEASURES: Final = (CONSUMPTION, BREAKAGE)
FORECAST, RUN_RATE, NOTHING_USED = "forecast", "run_rate", "nothing_used"
METHODS: Final = (FORECAST, RUN_RATE, NOTHING_USED)


class Actuals(msgspec.Struct):
    """The actual use of some blocks' liability in a month, in minor units.

    ``other`` is the amount that left in another way (voided, refunded, transferred), less additions.
    """

    consumed: int = 0
    expired: int = 0
    escheated: int = 0
    other: int = 0

    def of(self, measure: str) -> int:
        return self.consumed if measure == CONSUMPTION else self.expired


class Trial(msgspec.Struct, kw_only=True):
    """A forecast as of a month's end, its benchmarks, and the actual amounts, for at most HORIZON months."""

    month: int
    currency: str
    outlook: Outlook
    actuals: list[Actuals]
    run_rate: list[Actuals]

    def forecast(self, measure: str, months: slice) -> int:
        return _expected(self.outlook, measure, months)

    def actual(self, measure: str, months: slice) -> int:
        return sum(month.of(measure) for month in self.actuals[months])

    def by(self, method: str, measure: str, months: slice) -> int:
        """Returns a method's expected amount for some months, in minor units."""
        if method == FORECAST:
            return self.forecast(measure, months)
        if method == RUN_RATE:
            return sum(month.of(measure) for month in self.run_rate[months])
        return 0 if measure == CONSUMPTION else sum(self.outlook.expiring[months])

    def error(self, measure: str, months: slice) -> Fraction | None:
        """Returns the forecast's error as a share of the amount expected to remain when the months began."""
        left = self.outlook.remaining(months.start)
        return Fraction(abs(self.forecast(measure, months) - self.actual(measure, months)), left) if left > 0 else None


def _expected(outlook: Outlook, measure: str, months: slice) -> int:
    return sum(month.consumed if measure == CONSUMPTION else month.expired for month in outlook.months[months])


# --- trials ---------------------------------------------------------------------------------------------------------


def trials(
    holdings: Sequence[Holding], last: int, observed: dict[Purse, list[Observation]] | None = None
) -> list[Trial]:
    """Returns the trials through a whole month, in order of time and currency.

    ``observed`` is ``observe(holdings, last)``. Trials begin with the first month that has observations.
    """
    first = min((holding.months[0] for holding in holdings), default=last)
    observed = observe(holdings, last) if observed is None else observed
    learnt = min((each.month for months in observed.values() for each in months), default=last)
    used = usage(holdings)
    found = []
    for month in range(max(learnt, last - TRIALS), last):
        day = month_of(month).last_day
        lots = lots_on(holdings, day)
        actuals = actuals_of(holdings, month, min(HORIZON, last - month))
        expected = outlooks(lots, Habits(observed, month), day, HORIZON, by=currency_of, steps=STEPS, ahead=HORIZON)
        for currency, outlook in expected.items():
            if outlook.opening:
                trial = Trial(
                    month=month,
                    currency=currency,
                    outlook=outlook,
                    actuals=actuals.get(currency, [Actuals() for _ in range(min(HORIZON, last - month))]),
                    run_rate=run_rate(lots, currency, pace(used, currency, month, first), day, HORIZON),
                )
                found.append(trial)
    return found


def actuals_of(holdings: Iterable[Holding], month: int, months: int) -> dict[str, list[Actuals]]:
    """Returns the actual use, in the months after one, of the blocks open at its end, per currency."""
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


def usage(holdings: Iterable[Holding]) -> dict[tuple[str, int], int]:
    """Returns the consumption of all blocks, by currency and month, in minor units."""
    found: dict[tuple[str, int], int] = {}
    for holding in holdings:
        for month, moved in zip(holding.months, holding.moved, strict=True):
            if moved.consumed:
                key = (holding.block.currency, month)
                found[key] = found.get(key, 0) + moved.consumed
    return found


def pace(used: dict[tuple[str, int], int], currency: str, month: int, first: int) -> int:
    """Returns the average consumption of the last three months (or of fewer, if there are fewer)."""
    months = range(max(first, month - 2), month + 1)
    return max(0, sum(used.get((currency, each), 0) for each in months) // max(1, len(months)))


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
        month_actuals, remaining, last = Actuals(), pace_minor, month_of(month).last_day
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


# --- bands ----------------------------------------------------------------------------------------------------------


class Bands:
    """The errors of the trials whose outcome was known at the end of a month."""

    def __init__(self, tried: Iterable[Trial], known: int) -> None:
        self._errors: dict[tuple[str, str, int, int], list[Fraction]] = {}
        for trial in tried:
            for months in stretches(min(len(trial.actuals), known - trial.month)):
                for measure in MEASURES:
                    error = trial.error(measure, months)
                    if error is not None:
                        key = (trial.currency, measure, months.start, months.stop)
                        self._errors.setdefault(key, []).append(error)

    def spread(self, currency: str, measure: str, months: slice) -> Fraction | None:
        """Returns the error that LEVEL of all forecasts do not exceed; None with too few trials."""
        return spread(self._errors.get((currency, measure, months.start, months.stop), []))

    def band(self, outlook: Outlook, currency: str, measure: str, months: slice) -> tuple[int, int]:
        """Returns low and high of the expected amount. Beyond the tried months, the widest of their bands is used."""
        expected, most = _expected(outlook, measure, months), _most(outlook, measure, months)
        tried = [months] if months.stop <= HORIZON else [slice(at, at + 1) for at in range(HORIZON)]
        spreads = [self.spread(currency, measure, each) for each in tried]
        widest = max((each for each in spreads if each is not None), default=None)
        if widest is None or (months.stop <= HORIZON and spreads[0] is None):
            return 0, most
        off = math.ceil(widest * max(outlook.remaining(months.start), 0))
        return max(expected - off, 0), max(expected, min(expected + off, most))


def spread(errors: Sequence[Fraction]) -> Fraction | None:
    """Returns the ⌈LEVEL × (n + 1)⌉-th smallest of n errors, None if n is too small."""
    rank = math.ceil(LEVEL * (len(errors) + 1))
    return sorted(errors)[rank - 1] if rank <= len(errors) else None


def _most(outlook: Outlook, measure: str, months: slice) -> int:
    if measure == CONSUMPTION:
        return max(outlook.usable[months], default=0)
    return sum(outlook.expiring[months])


def stretches(months: int) -> Iterator[slice]:
    """Yields each of some months, and the whole horizon if they cover it."""
    for month in range(min(months, HORIZON)):
        yield slice(month, month + 1)
    if months >= HORIZON > 1:
        yield slice(0, HORIZON)


# --- tables ---------------------------------------------------------------------------------------------------------

Compared = tuple[str, int, str, dict[str, int], int, int | None]
"""Currency, months, measure, forecast by method, actual amount, 1 if it was within the band (None: no band)."""


_TRIAL_COLUMNS: Final = (
    Column("made_on", "date"),
    Column("months", "integer"),
    Column("currency"),
    Column("what"),
    stated("opening"),
    stated("forecast"),
    stated("low"),
    stated("high"),
    stated("actual"),
    stated("error"),
    Column("within", "integer"),
    stated("run_rate"),
    stated("nothing_used"),
)


def backtest_tables(tried: Sequence[Trial]) -> tuple[Table, Table]:
    """Returns every trial of one month and of HORIZON, and the errors of each method over all of them."""
    rows, compared = [], list[Compared]()
    for trial in tried:
        bands = Bands(tried, trial.month)
        for months in (slice(0, 1), slice(0, HORIZON)):
            if months.stop > len(trial.actuals):
                continue
            for measure in MEASURES:
                low, high = None, None
                if bands.spread(trial.currency, measure, months) is not None:
                    low, high = bands.band(trial.outlook, trial.currency, measure, months)
                forecasts = {method: trial.by(method, measure, months) for method in METHODS}
                actual = trial.actual(measure, months)
                in_band = None if low is None or high is None else int(low <= actual <= high)
                compared.append((trial.currency, months.stop, measure, forecasts, actual, in_band))
                rows.append(
                    (
                        month_of(trial.month).last_day,
                        months.stop,
                        trial.currency,
                        measure,
                        trial.outlook.opening,
                        forecasts[FORECAST],
                        low,
                        high,
                        actual,
                        forecasts[FORECAST] - actual,
                        in_band,
                        forecasts[RUN_RATE],
                        forecasts[NOTHING_USED],
                    )
                )
    return Table(name="backtest", columns=_TRIAL_COLUMNS, rows=tuple(rows)), accuracy_table("accuracy", compared)


def accuracy_table(name: str, compared: Iterable[Compared]) -> Table:
    """Returns the methods' errors per currency, months and measure.

    WAPE = Σ |forecast − actual| / Σ |actual|; bias = Σ (forecast − actual) / Σ |actual|; within = the share of actual
    amounts within their band.
    """
    grouped: dict[tuple[str, int, str], list[Compared]] = {}
    for each in compared:
        grouped.setdefault(each[:3], []).append(each)
    rows = []
    for (currency, months, measure), cases in sorted(grouped.items(), key=lambda item: _order(item[0])):
        scale = sum(abs(actual) for *_, actual, _ in cases)
        in_bands = [in_band for *_, in_band in cases if in_band is not None]
        for method in METHODS:
            errors = [said[method] - actual for _, _, _, said, actual, _ in cases]
            covered = Fraction(sum(in_bands), len(in_bands)) if in_bands and method == FORECAST else None
            rows.append(
                (
                    currency,
                    months,
                    measure,
                    method,
                    len(cases),
                    Fraction(sum(map(abs, errors)), scale) if scale else None,
                    Fraction(sum(errors), scale) if scale else None,
                    covered,
                )
            )
    columns = (
        Column("currency"),
        Column("months", "integer"),
        Column("what"),
        Column("method"),
        Column("cases", "integer"),
        Column("wape", "ratio"),
        Column("bias", "ratio"),
        Column("within", "ratio"),
    )
    return Table(name=name, columns=columns, rows=tuple(rows))


def _order(key: tuple[str, int, str]) -> tuple[str, int, int]:
    return key[0], key[1], MEASURES.index(key[2])
