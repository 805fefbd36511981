"""The deferred-revenue forecast: expected use of the open credit blocks by month, with the errors of past forecasts.

The first table is only about open blocks. The table ``consumption`` also includes the expected use of credits that are
not bought yet. Refunds and repricings are not forecast.

If ``to`` is before ``as_of``, the forecast is made as of ``to``, from the facts of that time, and compared with the
books through ``as_of``.

Owns: the report. Does not own: the steps of the method: usage learnt from the past (``habits``), the simulation
(``runoff``), the ledger's sums (``monthly``), both together (``prospects``), the errors (``backtest``, ``bands``), the
comparison with later books (``compared``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

from projections.forecast.accuracy import backtest_tables
from projections.forecast.backtest import TRIALS, actuals_of, run_rate, trials
from projections.forecast.bands import Bands
from projections.forecast.compared import compared_tables
from projections.forecast.habits import WINDOW, Habits, observe
from projections.forecast.holdings import Holding, holdings, last_whole_month, month_number, month_of
from projections.forecast.monthly import monthly
from projections.forecast.prospects import BREAKAGE, CONSUMPTION, TOTAL, Prospect, prospects
from projections.forecast.runoff import lots_on
from projections.report import Column, Report, ReportRequest, Table, Tie, closing, stated
from projections.report_inputs import control_balances, functional_balances, functional_ties_of, ties_of, totals
from subledger.store.reading.views import View

LIABILITY: Final = "prepaid_liability"
MONTHS: Final = 12
LATER: Final = "later"

NOTES: Final = (
    "Expected: the average of many possible futures of each customer's blocks. What is used in a month is, as often as "
    "the customer's own past is to be believed (credibility, Bühlmann 1967), what the customer used in one of its own "
    "months, else the share of its credits that somebody of its cohort (same unit and scope) used in a month; times "
    "the season, and times what customers use who have been silent as long. It is drawn in draw order, and what is "
    "left of a block lapses at its expiry. Of the last twelve months.",
    "later is the amount remaining after the last month: used or expired afterwards, or never. Credits that expire "
    "into escheat are no breakage; disputed blocks are frozen and remain in later.",
    "consumption: what is expected to be used in all, from the months of the whole ledger (a mean of simple methods, "
    "weighted by their errors in this ledger's past). from_open_blocks is the consumption of the first table, "
    "from_purchases the rest, of credits yet to be bought; purchases is the value expected to be bought. What such "
    "credits lose by expiry is not forecast.",
    "low and high contain four of five outcomes, by the errors of earlier forecasts in this ledger. With fewer than "
    "four trials they are the full possible range, and empty for all consumption; beyond six months, the widest band "
    "of the trials.",
    "backtest: forecasts as of earlier month-ends, each from the months before it alone (in the books as known now), "
    "beside the actual use of the blocks open then (consumption, breakage) and of all blocks (total_consumption). "
    "run_rate: consumption as in the last three months, last_month: as in the last, the rest expires; nothing_used: "
    "everything expires. wape is Σ |error| / Σ |actual|, bias Σ error / Σ |actual|.",
    "A statistical estimate, not advice. Pooled breakage is estimated in the books by its own rule.",
)


def forecast(view: View, request: ReportRequest) -> Report:
    """Returns the forecast as of the end of ``to`` (default: ``as_of``) for the next ``months`` (default: 12)."""
    end = closing(view, request)
    months = request.months or MONTHS
    found, sums = history(end), monthly(end)
    last = last_whole_month(end.as_of)
    observed = observe(found, last)
    lots = lots_on(found, end.as_of)
    expected = prospects(lots, Habits(observed, last, sums.seasons(last)), sums, end.as_of, months)
    tried = trials(found, sums, last, observed)
    bands = Bands(tried, last)
    periods = periods_after(end.as_of, months)
    tables = [
        _forecast_table(expected, bands, periods, end.functional_currency),
        _consumption_table(expected, bands, periods),
        *backtest_tables(tried),
    ]
    ties = list(_ties(end, expected))
    if end.as_of < view.as_of:
        since = holdings(view, since=end.as_of + timedelta(days=1))
        naive = {
            currency: [run_rate(lots, currency, pace, end.as_of, months) for pace in prospect.paces]
            for currency, prospect in expected.items()
        }
        tables += compared_tables(expected, bands, periods, since, naive, (end.as_of, view.as_of))
        ties += _ties_since(view, expected, since, end)
    title = "Deferred-revenue forecast" + (f" made as of {end.as_of}" if end.as_of < view.as_of else "")
    return Report(name="forecast", title=title, tables=tuple(tables), ties=tuple(ties), notes=NOTES)


def history(view: View) -> list[Holding]:
    """Returns the blocks of a view by month, as far back as trials and habits need them."""
    month = month_number(view.as_of) - TRIALS - WINDOW - 2
    return holdings(view, since=month_of(month).first_day)


def periods_after(day: date, months: int) -> list[int]:
    """Returns the months after a day. If the day's month has not ended, the first is the rest of that month."""
    first = last_whole_month(day) + 1
    return list(range(first, first + months))


# --- the forecast ---------------------------------------------------------------------------------------------------

_COLUMNS: Final = (
    Column("period"), Column("currency"), Column("opening", "money"), stated("consumption"),
    stated("consumption_low"), stated("consumption_high"), stated("breakage"),
    stated("breakage_low"), stated("breakage_high"), stated("escheat"),
    stated("expected"), Column("closing", "money"), Column("functional_currency"),
    Column("consumption_functional", "functional"), Column("breakage_functional", "functional"),
    Column("escheat_functional", "functional"), Column("expected_functional", "functional"),
    Column("closing_functional", "functional"),
)  # fmt: skip


def _forecast_table(expected: dict[str, Prospect], bands: Bands, periods: list[int], functional: str) -> Table:
    rows: list[tuple[Any, ...]] = []
    for currency, prospect in expected.items():
        if prospect.outlook.opening or prospect.outlook.opening_functional:
            rows += _rows(currency, prospect, bands, periods, functional)
    return Table(name="forecast", columns=_COLUMNS, rows=tuple(rows))


def _rows(
    currency: str, prospect: Prospect, bands: Bands, periods: list[int], functional: str
) -> Iterator[tuple[Any, ...]]:
    outlook = prospect.outlook
    closing, closing_functional = outlook.opening, outlook.opening_functional
    for at, (number, month) in enumerate(zip(periods, outlook.months, strict=True)):
        opening, closing = closing, closing - month.total
        closing_functional -= month.functional
        used = bands.band(prospect, currency, CONSUMPTION, slice(at, at + 1))
        lapsed = bands.band(prospect, currency, BREAKAGE, slice(at, at + 1))
        yield (
            str(month_of(number)),
            currency,
            opening,
            month.consumed,
            *used,
            month.expired,
            *lapsed,
            month.escheated,
            month.total,
            closing,
            functional,
            month.consumed_functional,
            month.expired_functional,
            month.escheated_functional,
            month.functional,
            closing_functional,
        )
    yield (LATER, currency, closing, *[None] * 7, closing, 0, functional, None, None, None, closing_functional, 0)


_CONSUMPTION_COLUMNS: Final = (
    Column("period"),
    Column("currency"),
    stated("from_open_blocks"),
    stated("from_purchases"),
    stated("consumption"),
    stated("consumption_low"),
    stated("consumption_high"),
    stated("run_rate"),
    stated("purchases"),
)


def _consumption_table(expected: dict[str, Prospect], bands: Bands, periods: list[int]) -> Table:
    """Returns all expected consumption: of the open blocks, and of credits that are not bought yet."""
    rows: list[tuple[Any, ...]] = []
    for currency, prospect in expected.items():
        for at, (number, month) in enumerate(zip(periods, prospect.outlook.months, strict=True)):
            total = prospect.total[at]
            rows.append(
                (
                    str(month_of(number)),
                    currency,
                    month.consumed,
                    total - month.consumed,
                    total,
                    *bands.band(prospect, currency, TOTAL, slice(at, at + 1)),
                    prospect.paces[0],
                    prospect.purchases[at],
                )
            )
    return Table(name="consumption", columns=_CONSUMPTION_COLUMNS, rows=tuple(rows))


# --- ties -----------------------------------------------------------------------------------------------------------


def _ties(end: View, expected: dict[str, Prospect]) -> Iterator[Tie]:
    opened = {currency: prospect.outlook for currency, prospect in expected.items()}
    sums = {
        currency: sum(month.total for month in outlook.months) + outlook.remaining(len(outlook.months))
        for currency, outlook in opened.items()
        if outlook.opening
    }
    yield from ties_of("expected, later included = prepaid_liability", sums, LIABILITY, control_balances(end))
    functional_currency = end.functional_currency
    books = functional_balances(end, totals(end), (LIABILITY,))
    yield from functional_ties_of(
        f"expected of {{currency}}, later included = prepaid_liability, in {functional_currency}",
        {currency: outlook.opening_functional for currency, outlook in opened.items()},
        LIABILITY,
        books,
        functional_currency,
        sorted({*sums, *(currency for _, currency in books)} - {functional_currency}),
    )


def _ties_since(view: View, expected: dict[str, Prospect], since: list[Holding], end: View) -> Iterator[Tie]:
    """Yields ties of the later books with the liability at the time of the forecast, less its use since then, plus
    additions.
    """
    before = month_number(end.as_of + timedelta(days=1)) - 1
    months = month_number(view.as_of) - before
    sums = {currency: prospect.outlook.opening for currency, prospect in expected.items()}
    for currency, actuals in actuals_of(since, before, months).items():
        disposed = sum(month.consumed + month.expired + month.escheated + month.other for month in actuals)
        sums[currency] = sums.get(currency, 0) - disposed
    for holding in since:
        at = holding.month_index(before)
        if at < 0 or not (holding.credits[at] or holding.value[at]):
            currency = holding.block.currency
            sums[currency] = sums.get(currency, 0) + holding.value[-1]
    title = "open then, less what became of it, and gained since = prepaid_liability"
    yield from ties_of(title, sums, LIABILITY, control_balances(view))
