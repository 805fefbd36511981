"""The deferred-revenue forecast: expected use of the open credit blocks by month, with the errors of past forecasts.

Owns: the report. Does not own: the method: usage learnt from the past (``habits``), the simulation (``runoff``), the
errors (``backtest``). Only open blocks are forecast: no future sales, refunds or repricings.

If ``to`` is before ``as_of``, the forecast is made as of ``to``, from the facts of that time, and compared with the
books through ``as_of``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

from projections.forecast.backtest import (
    BREAKAGE,
    CONSUMPTION,
    FORECAST,
    HORIZON,
    MEASURES,
    NOTHING_USED,
    RUN_RATE,
    TRIALS,
    Actuals,
    Bands,
    Compared,
    accuracy_table,
    actuals_of,
    backtest_tables,
    pace,
    run_rate,
    trials,
    usage,
)
from projections.forecast.habits import WINDOW, Habits, observe
from projections.forecast.holdings import Holding, holdings, month_number, month_of
from projections.forecast.runoff import Lots, Outlook, currency_of, lots_on, outlooks
from projections.report import Column, Report, ReportRequest, Table, Tie, closing, stated
from projections.report_inputs import control_balances, functional_balances, functional_ties_of, ties_of, totals
from subledger.store.reading.views import View

LIABILITY: Final = "prepaid_liability"
MONTHS: Final = 12
LATER: Final = "later"

NOTES: Final = (
    "Expected: the average of many possible futures of each customer's blocks. What is used in a month is, as often as "
    "the customer's own past is to be believed (credibility, Bühlmann and Straub 1970), what the customer used in one "
    "of its own months, else the share of its credits that somebody of its cohort (same unit and scope) used in a "
    "month; it is drawn in draw order, and what is left of a block lapses at its expiry. Of the last twelve months.",
    "later is the amount remaining after the last month: used or expired afterwards, or never. Credits that expire "
    "into escheat are no breakage; disputed blocks are frozen and remain in later.",
    "low and high contain four of five outcomes, by the errors of earlier forecasts in this ledger. With fewer than "
    "four trials they are the full possible range; beyond three months, the widest band of the trials.",
    "backtest: forecasts as of earlier month-ends, each from the months before it alone (in the books as known now), "
    "beside the actual use of the blocks open then. run_rate: consumption as in the last three months, the rest "
    "expires; nothing_used: everything expires. wape is Σ |error| / Σ |actual|, bias Σ error / Σ |actual|.",
    "A statistical estimate, not advice. Pooled breakage is estimated in the books by its own rule.",
)


def forecast(view: View, request: ReportRequest) -> Report:
    """Returns the forecast for blocks open at the end of ``to`` (default: ``as_of``), for ``months`` (default 12)."""
    end = closing(view, request)
    months = request.months or MONTHS
    found = history(end)
    last = last_whole_month(end.as_of)
    observed = observe(found, last)
    lots = lots_on(found, end.as_of)
    expected = outlooks(lots, Habits(observed, last), end.as_of, months, by=currency_of)
    tried = trials(found, last, observed)
    bands = Bands(tried, last)
    functional = end.functional_currency
    periods = periods_after(end.as_of, months)
    tables = [_forecast_table(expected, bands, periods, functional), *backtest_tables(tried)]
    ties = list(_ties(end, expected))
    if end.as_of < view.as_of:
        since = holdings(view, since=end.as_of + timedelta(days=1))
        paces = {currency: pace(usage(found), currency, last, _first(found, last)) for currency in expected}
        tables += _compared_tables(expected, bands, periods, since, lots, paces, (end.as_of, view.as_of))
        ties += _ties_since(view, expected, since, end.as_of)
    title = "Deferred-revenue forecast" + (f" made as of {end.as_of}" if end.as_of < view.as_of else "")
    return Report(name="forecast", title=title, tables=tuple(tables), ties=tuple(ties), notes=NOTES)


def history(view: View) -> list[Holding]:
    """Returns the blocks of a view, by month as far back as trials and habits need."""
    month = month_number(view.as_of) - TRIALS - WINDOW - HORIZON
    return holdings(view, since=month_of(month).first_day)


def last_whole_month(day: date) -> int:
    """Returns the last month that has ended by a day."""
    number = month_number(day)
    return number if month_of(number).last_day == day else number - 1


def periods_after(day: date, months: int) -> list[int]:
    """Returns the months after a day; the first is the rest of the day's month if that has not ended."""
    first = last_whole_month(day) + 1
    return list(range(first, first + months))


def _first(found: Sequence[Holding], last: int) -> int:
    return min((holding.months[0] for holding in found), default=last)


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


def _forecast_table(expected: dict[str, Outlook], bands: Bands, periods: list[int], functional: str) -> Table:
    rows: list[tuple[Any, ...]] = []
    for currency, outlook in expected.items():
        if outlook.opening or outlook.opening_functional:
            rows += _rows(currency, outlook, bands, periods, functional)
    return Table(name="forecast", columns=_COLUMNS, rows=tuple(rows))


def _rows(
    currency: str, outlook: Outlook, bands: Bands, periods: list[int], functional: str
) -> Iterator[tuple[Any, ...]]:
    closing, closing_functional = outlook.opening, outlook.opening_functional
    for at, (number, month) in enumerate(zip(periods, outlook.months, strict=True)):
        opening, closing = closing, closing - month.total
        closing_functional -= month.functional
        used = bands.band(outlook, currency, CONSUMPTION, slice(at, at + 1))
        lapsed = bands.band(outlook, currency, BREAKAGE, slice(at, at + 1))
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


# --- comparison with actual amounts ---------------------------------------------------------------------------------


COMPARED: Final = (
    Column("period"),
    Column("currency"),
    Column("what"),
    stated("forecast"),
    stated("low"),
    stated("high"),
    stated("actual"),
    stated("error"),
    Column("within", "integer"),
    stated("run_rate"),
    stated("nothing_used"),
)


def _compared_tables(
    expected: dict[str, Outlook],
    bands: Bands,
    periods: list[int],
    since: list[Holding],
    lots: Lots,
    paces: dict[str, int],
    days: tuple[date, date],
) -> Iterator[Table]:
    """Returns a forecast beside the actual amounts, for each month that has ended."""
    made_on, today = days
    ended = max(0, min(len(periods), last_whole_month(today) - periods[0] + 1))
    actuals = actuals_of(since, month_number(made_on + timedelta(days=1)) - 1, ended)
    rows, compared = [], list[Compared]()
    for currency, outlook in expected.items():
        naive = run_rate(lots, currency, paces[currency], made_on, ended)
        for at, actual in enumerate(actuals.get(currency, [Actuals()] * ended)):
            for measure in MEASURES:
                low, high = bands.band(outlook, currency, measure, slice(at, at + 1))
                of_month = outlook.months[at]
                forecasts = {
                    FORECAST: of_month.consumed if measure == CONSUMPTION else of_month.expired,
                    RUN_RATE: naive[at].of(measure),
                    NOTHING_USED: 0 if measure == CONSUMPTION else outlook.expiring[at],
                }
                found = actual.of(measure)
                compared.append((currency, ended, measure, forecasts, found, int(low <= found <= high)))
                rows.append(
                    (
                        str(month_of(periods[at])),
                        currency,
                        measure,
                        forecasts[FORECAST],
                        low,
                        high,
                        found,
                        forecasts[FORECAST] - found,
                        compared[-1][-1],
                        forecasts[RUN_RATE],
                        forecasts[NOTHING_USED],
                    )
                )
    yield Table(name="compared", columns=COMPARED, rows=tuple(rows))
    yield accuracy_table("compared_accuracy", compared)


# --- ties -----------------------------------------------------------------------------------------------------------


def _ties(end: View, expected: dict[str, Outlook]) -> Iterator[Tie]:
    sums = {
        currency: sum(month.total for month in outlook.months) + outlook.remaining(len(outlook.months))
        for currency, outlook in expected.items()
        if outlook.opening
    }
    yield from ties_of("expected, later included = prepaid_liability", sums, LIABILITY, control_balances(end))
    functional_currency = end.functional_currency
    books = functional_balances(end, totals(end), (LIABILITY,))
    yield from functional_ties_of(
        f"expected of {{currency}}, later included = prepaid_liability, in {functional_currency}",
        {currency: outlook.opening_functional for currency, outlook in expected.items()},
        LIABILITY,
        books,
        functional_currency,
        sorted({*sums, *(currency for _, currency in books)} - {functional_currency}),
    )


def _ties_since(view: View, expected: dict[str, Outlook], since: list[Holding], made_on: date) -> Iterator[Tie]:
    """Yields the liability at the time of the forecast, less its use since, plus additions, beside the books."""
    before = month_number(made_on + timedelta(days=1)) - 1
    months = month_number(view.as_of) - before
    sums = {currency: outlook.opening for currency, outlook in expected.items()}
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
