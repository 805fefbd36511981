"""Tables of the back-test: every trial, and the errors of the forecast beside those of simpler methods.

Owns: the tables. Does not own: the trials (``backtest``), the bands (``bands``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from projections.forecast.backtest import CUMULATED, FORECAST, LAST_MONTH, METHODS, NOTHING_USED, RUN_RATE, Trial
from projections.forecast.bands import Band, Bands, within
from projections.forecast.holdings import month_of
from projections.forecast.prospects import MEASURES
from projections.report import Column, Table, stated


class Compared(NamedTuple):
    """The amount that each method expected, and the actual amount; ``is_within`` is None without a band."""

    currency: str
    months: int
    measure: str
    expected: dict[str, int]
    actual: int
    is_within: int | None


BESIDE_ACTUAL: Final = (
    stated("forecast"),
    stated("low"),
    stated("high"),
    stated("actual"),
    stated("error"),
    Column("within", "integer"),
    stated("run_rate"),
    stated("last_month"),
    stated("nothing_used"),
)
"""Columns for the actual amount, the forecast, and the forecasts of simpler methods."""
_TRIAL_COLUMNS: Final = (
    Column("made_on", "date"),
    Column("months", "integer"),
    Column("currency"),
    Column("what"),
    stated("opening"),
    *BESIDE_ACTUAL,
)


def backtest_tables(tried: Sequence[Trial]) -> tuple[Table, Table]:
    """Returns a table of all trials (single months and the tried sums), and a table of the errors of each method."""
    rows, compared = [], list[Compared]()
    for trial in tried:
        bands = Bands(tried, trial.month)
        for months in (slice(0, number) for number in (1, *CUMULATED) if number <= len(trial.actuals)):
            for measure in MEASURES:
                band: Band = (None, None)
                if bands.spread(trial.currency, measure, months) is not None:
                    band = bands.band(trial.prospect, trial.currency, measure, months)
                expected = {method: trial.by(method, measure, months) for method in METHODS}
                actual = trial.actual(measure, months)
                is_within = within(band, actual)
                compared.append(Compared(trial.currency, months.stop, measure, expected, actual, is_within))
                rows.append(
                    (
                        month_of(trial.month).last_day,
                        months.stop,
                        trial.currency,
                        measure,
                        trial.prospect.outlook.opening,
                        expected[FORECAST],
                        *band,
                        actual,
                        expected[FORECAST] - actual,
                        is_within,
                        expected[RUN_RATE],
                        expected[LAST_MONTH],
                        expected[NOTHING_USED],
                    )
                )
    return Table(name="backtest", columns=_TRIAL_COLUMNS, rows=tuple(rows)), accuracy_table("accuracy", compared)


def accuracy_table(name: str, compared: Iterable[Compared]) -> Table:
    """Returns the errors of each method by currency, months and measure.

    WAPE = Σ |forecast − actual| / Σ |actual|; bias = Σ (forecast − actual) / Σ |actual|; within = the share of actual
    amounts within their band.
    """
    grouped: dict[tuple[str, int, str], list[Compared]] = {}
    for each in compared:
        grouped.setdefault((each.currency, each.months, each.measure), []).append(each)
    rows = []
    for (currency, months, measure), cases in sorted(grouped.items(), key=lambda item: _order(item[0])):
        bands = [case.is_within for case in cases if case.is_within is not None]
        for method in METHODS:
            covered = Fraction(sum(bands), len(bands)) if bands and method == FORECAST else None
            rows.append((currency, months, measure, method, len(cases), *errors(cases, method), covered))
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


def errors(cases: Sequence[Compared], method: str) -> tuple[Fraction | None, Fraction | None]:
    """Returns a method's WAPE and bias; None if all actual amounts are 0."""
    scale = sum(abs(case.actual) for case in cases)
    off = [case.expected[method] - case.actual for case in cases]
    return (Fraction(sum(map(abs, off)), scale), Fraction(sum(off), scale)) if scale else (None, None)


def _order(key: tuple[str, int, str]) -> tuple[str, int, int]:
    return key[0], key[1], MEASURES.index(key[2])
