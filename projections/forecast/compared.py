"""Comparison of an earlier forecast with the actual amounts: each month that has ended, and the errors of each method.

Owns: the tables. Does not own: the forecast, which is made as of the earlier day from the facts of that time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from projections.forecast.accuracy import BESIDE_ACTUAL, Compared, accuracy_table
from projections.forecast.backtest import FORECAST, LAST_MONTH, NOTHING_USED, RUN_RATE, Actuals, actuals_of
from projections.forecast.bands import Band, Bands, within
from projections.forecast.holdings import Holding, last_whole_month, month_number, month_of
from projections.forecast.prospects import BREAKAGE, MEASURES, Prospect
from projections.report import Column, Table

COMPARED: Final = (Column("period"), Column("currency"), Column("what"), *BESIDE_ACTUAL)


def compared_tables(
    expected: dict[str, Prospect],
    bands: Bands,
    periods: list[int],
    since: list[Holding],
    naive: dict[str, list[list[Actuals]]],
    days: tuple[date, date],
) -> Iterator[Table]:
    """Yields a table of the forecast and the actual amounts of each month that has ended, and a table of the errors.

    ``since`` has the blocks of the later view, by month from the day after the forecast on. ``naive`` has the run rate
    and the last month per currency. ``days`` are the day of the forecast and the day of the later view.
    """
    made_on, today = days
    ended = max(0, min(len(periods), last_whole_month(today) - periods[0] + 1))
    before = month_number(made_on + timedelta(days=1)) - 1
    actuals, used = actuals_of(since, before, ended), _used_since(since, before)
    rows, compared = [], list[Compared]()
    for currency, prospect in expected.items():
        for at, actual in enumerate(actuals.get(currency, [Actuals() for _ in range(ended)])):
            actual.total_consumed = used.get((currency, before + 1 + at), 0)
            for measure in MEASURES:
                months = slice(at, at + 1)
                band, found = bands.band(prospect, currency, measure, months), actual.of(measure)
                amounts = {
                    FORECAST: prospect.expected(measure, months),
                    RUN_RATE: naive[currency][0][at].of(measure),
                    LAST_MONTH: naive[currency][1][at].of(measure),
                    NOTHING_USED: prospect.outlook.expiring[at] if measure == BREAKAGE else 0,
                }
                case = Compared(currency, ended, measure, amounts, found, within(band, found))
                compared.append(case)
                rows.append(_row(str(month_of(periods[at])), band, case))
    yield Table(name="compared", columns=COMPARED, rows=tuple(rows))
    yield accuracy_table("compared_accuracy", compared)


def _row(period: str, band: Band, case: Compared) -> tuple[object, ...]:
    return (
        period,
        case.currency,
        case.measure,
        case.expected[FORECAST],
        *band,
        case.actual,
        case.expected[FORECAST] - case.actual,
        case.is_within,
        case.expected[RUN_RATE],
        case.expected[LAST_MONTH],
        case.expected[NOTHING_USED],
    )


def _used_since(since: Sequence[Holding], before: int) -> dict[tuple[str, int], int]:
    """Returns the consumption of all blocks after a month, by currency and month."""
    found: dict[tuple[str, int], int] = {}
    for holding in since:
        for month, moved in zip(holding.months, holding.moved, strict=True):
            if month > before and moved.consumed:
                key = (holding.block.currency, month)
                found[key] = found.get(key, 0) + moved.consumed
    return found
