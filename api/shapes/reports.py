"""Registry of reports with their parameters, and reports as JSON and CSV.

Owns: the registry, so that HTTP and the command line offer the same reports and refuse the same parameters. Does not
own: the figures (``projections``), tables for people (``report_tables``), the printable page (``report_pages``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from api.service import Subledger
from api.shapes import answers
from api.shapes.answers import JsonObject
from projections.close.period_history import periods_behind
from projections.forecast import forecast
from projections.report import Column, MakeReport, Report, ReportRequest, Table, Tie
from projections.report_inputs import DIMENSION
from projections.reports import accounts as account_reports
from projections.reports import breakage_pools, clearing, performance, receivables, rollforward, statement, waterfall
from subledger.errors import InvalidValue, MissingField, UnknownReport
from subledger.money import format_credits, format_minor
from subledger.periods import Period
from subledger.store.reading.views import View
from subledger.text.visible_text import spreadsheet_text


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A report of the registry.

    ``takes`` are its parameters (of PARAMETERS) in addition to the view. ``needs`` are the required ones. ``by`` are
    the properties by which its rows can be grouped. If there are any, rows can also be grouped by own dimensions
    (``dimension.NAME``).
    """

    make: MakeReport
    description: str
    takes: tuple[str, ...] = ("from", "to")
    needs: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


PARAMETERS: Final = ("from", "to", "customer", "by", "months")

REPORTS: Final[dict[str, Offered]] = {
    "trial-balance": Offered(
        make=account_reports.trial_balance,
        description="Trial balance: debits, credits and balance of every account.",
        takes=("to", "by"),
        by=account_reports.TOLD_APART_BY,
    ),
    "summary": Offered(
        make=account_reports.summary,
        description="Summary: debits and credits of each month, by account and dimensions, as in the journals.",
        takes=("from", "to"),
    ),
    "rollforward": Offered(
        make=rollforward.rollforward,
        description="Liability roll-forward: opening, additions, reductions, closing by month, in value and credits.",
        takes=("from", "to", "customer", "by"),
        by=rollforward.TOLD_APART_BY,
    ),
    "waterfall": Offered(
        make=waterfall.waterfall,
        description="Revenue waterfall: sales by month, the months in which they became revenue, and the remainder.",
        takes=("from", "to", "customer"),
    ),
    "clearing": Offered(
        make=clearing.clearing,
        description="Clearing accounts: every open item, with its age and its reason.",
        takes=("to",),
    ),
    "receivables": Offered(
        make=receivables.receivables,
        description="Receivables by age: amounts owed by each customer, and payments not applied.",
        takes=("to", "customer"),
    ),
    "pools": Offered(
        make=breakage_pools.breakage_pools,
        description="Breakage pools by cohort: issued, redeemed, recognised; finished blocks; every estimate.",
        takes=("from", "to"),
    ),
    "statement": Offered(
        make=statement.statement,
        description="A customer's credit blocks: opening, every movement, closing; overage; amounts due. Printable.",
        takes=("from", "to", "customer"),
        needs=("customer",),
    ),
    "forecast": Offered(
        make=forecast.forecast,
        description="Deferred-revenue forecast: expected use of open blocks and of purchases; its back-test.",
        takes=("to", "months"),
    ),
    "performance": Offered(
        make=performance.performance,
        description="Contract balances, current and remaining by time band; revenue out of the opening (606-10-50).",
    ),
}


def offered(name: str) -> Offered:
    """Returns a report of the registry. Raises UnknownReport."""
    if name not in REPORTS:
        raise UnknownReport(f"there is no report {name}", field="name", expected=", ".join(REPORTS), found=name[:80])
    return REPORTS[name]


# --- parameters -----------------------------------------------------------------------------------------------------


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a report as received: ``from_`` and ``to`` are days or months (``2026-03``) as text."""

    from_: str | None = None
    to: str | None = None
    as_of: date | None = None
    known_at: datetime | None = None
    customer: str | None = None
    by: str | None = None
    months: int | None = None


@contextmanager
def answer(
    service: Subledger, ledger: str, name: str, query: ReportQuery
) -> Iterator[tuple[Report, View, ReportRequest]]:
    """Yields a report with the periods it covers, its view, and the request.

    ``as_of`` defaults to ``to``. Raises UnknownReport, UnknownLedger, UnknownCustomer; InvalidInput for a wrong
    parameter.
    """
    report = offered(name)
    request = read_query(name, report, query)
    as_of = query.as_of or request.to_date
    with service.view(ledger, as_of=as_of, known_at=query.known_at, customer=request.customer) as view:
        check_range(request, view)
        check_dimension(request, view)
        made = report.make(view, request)
        yield msgspec.structs.replace(made, tables=(*made.tables, periods_behind(view, request))), view, request


def read_query(name: str, report: Offered, query: ReportQuery) -> ReportRequest:
    """Reads the parameters of a report. Raises InvalidValue or MissingField, with the parameter as field."""
    given = {"from": query.from_, "to": query.to, "customer": query.customer, "by": query.by, "months": query.months}
    for parameter in PARAMETERS:
        if given[parameter] is not None and parameter not in report.takes:
            raise InvalidValue(
                f"report {name} has no parameter {parameter}",
                field=parameter,
                expected="nothing, or one of " + ", ".join((*report.takes, "as_of", "known_at")),
                found=str(given[parameter])[:80],
            )
        if given[parameter] is None and parameter in report.needs:
            raise MissingField(f"report {name} needs the parameter {parameter}", field=parameter, expected=parameter)
    by = None if query.by == "none" else query.by
    if by is not None and by not in report.by and not (report.by and by.startswith(DIMENSION)):
        known = (*report.by, f"{DIMENSION}NAME") if report.by else ()
        raise InvalidValue(
            f"report {name} cannot be grouped by {by[:80]}; it can be grouped by: {', '.join(known) or 'nothing'}",
            field="by",
            expected=", ".join(("none", *known)),
            found=by[:80],
        )
    return ReportRequest(
        from_date=read_day(query.from_, "from", last=False),
        to_date=read_day(query.to, "to", last=True),
        customer=query.customer,
        by=by,
        months=query.months,
    )


def read_day(text: str | None, field: str, *, last: bool) -> date | None:
    """Returns a day; of a month, its first or last day. Raises InvalidValue."""
    if text is None:
        return None
    with suppress(InvalidValue):
        period = Period.parse(text, field=field)
        return period.last_day if last else period.first_day
    with suppress(ValueError):
        day = date.fromisoformat(text)
        if text == day.isoformat() and 1900 <= day.year <= 8999:
            return day
    raise InvalidValue(
        f"`{field}` is neither a day nor a month", field=field, expected="YYYY-MM-DD or YYYY-MM", found=text[:40]
    )


def check_dimension(request: ReportRequest, view: View) -> None:
    """Checks that a ledger has the own dimension by which a report is grouped. Raises InvalidValue."""
    by = request.by or ""
    names = view.settings.dimensions
    if by.startswith(DIMENSION) and by.removeprefix(DIMENSION) not in names:
        raise InvalidValue(
            f"ledger {view.ledger} has no dimension {by.removeprefix(DIMENSION)[:80]}",
            field="by",
            expected=", ".join(f"{DIMENSION}{name}" for name in names) or "none: the ledger has no own dimensions",
            found=by[:80],
        )


def check_range(request: ReportRequest, view: View) -> None:
    """Checks that the range ends by ``as_of`` and does not begin after its end. Raises InvalidValue."""
    end = request.to_date or view.as_of
    if request.to_date is not None and request.to_date > view.as_of:
        raise InvalidValue(
            f"`to` ({request.to_date}) is after `as_of` ({view.as_of})",
            field="to",
            expected=f"{view.as_of} or before, or a later `as_of`",
            found=request.to_date.isoformat(),
        )
    if request.from_date is not None and request.from_date > end:
        raise InvalidValue(
            f"`from` ({request.from_date}) is after the end of the report ({end})",
            field="from",
            expected=f"{end} or before",
            found=request.from_date.isoformat(),
        )


# --- JSON and CSV ---------------------------------------------------------------------------------------------------


def listing(name: str) -> JsonObject:
    """Returns the description and the parameters of a report."""
    report = REPORTS[name]
    return {
        "report": name,
        "description": report.description,
        "takes": [*report.takes, "as_of", "known_at"],
        "needs": list(report.needs),
        "by": list(report.by),
        "formats": list(FORMATS),
    }


def as_json(report: Report, view: View, request: ReportRequest) -> JsonObject:
    """Returns a report as JSON: the rows of its first table as ``items``, the other tables under their names."""
    functional = view.functional_currency
    return {
        "ledger": view.ledger,
        "report": report.name,
        "title": report.title,
        **answers.moment(view),
        "timezone": view.zone.key,
        "from": None if request.from_date is None else request.from_date.isoformat(),
        "to": (request.to_date or view.as_of).isoformat(),
        "customer": request.customer,
        "by": request.by,
        "functional_currency": functional,
        **tables_as_json(report, functional),
        "ties_out": report.ties_out,
        "notes": list(report.notes),
    }


def tables_as_json(report: Report, functional: str) -> JsonObject:
    """Returns the rows of the first table as ``items``, the other tables under their names, and the ties."""
    first, *others = report.tables
    return {
        "items": objects(first, functional),
        **{table.name: objects(table, functional) for table in others},
        "ties": [tie_as_json(tie) for tie in report.ties],
    }


def tie_as_json(tie: Tie) -> JsonObject:
    return {
        "what": tie.what,
        "currency": tie.currency,
        "report": format_minor(tie.report_minor, tie.currency),
        "trial_balance": format_minor(tie.trial_balance_minor, tie.currency),
        "difference": format_minor(tie.report_minor - tie.trial_balance_minor, tie.currency),
    }


def objects(table: Table, functional: str) -> list[JsonObject]:
    """Returns the rows of a table as JSON objects."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, cells, strict=True)) for cells in cells_of(table, functional)]


def cells_of(table: Table, functional: str) -> Iterator[list[Any]]:
    """Yields rows with the cells of JSON and CSV: text, an integer, or None."""
    currency_at = next((at for at, column in enumerate(table.columns) if column.name == "currency"), None)
    for row in table.rows:
        currency = functional if currency_at is None else row[currency_at]
        yield [_cell(column, value, currency, functional) for column, value in zip(table.columns, row, strict=True)]


def _cell(column: Column, value: Any, currency: str, functional: str) -> Any:
    if value is None:
        return None
    match column.holds:
        case "money":
            return format_minor(value, currency)
        case "functional":
            return format_minor(value, functional)
        case "credits":
            return format_credits(Decimal(value))
        case "ratio":
            return format_credits(_decimal(value))
        case "date":
            return value.isoformat()
        case "integer":
            return int(value)
        case _:
            return str(value)


def _decimal(ratio: Fraction | Decimal) -> Decimal:
    """Rounds a ratio to six places, half to even: ratios are shown, never posted."""
    exact = Fraction(ratio)
    return Decimal(round(exact * 10**6)).scaleb(-6)


def table_of(report: Report, name: str | None) -> Table:
    """Returns the table with a name, or the first table. Raises InvalidValue."""
    if name is None:
        return report.tables[0]
    for table in report.tables:
        if table.name == name:
            return table
    raise InvalidValue(
        f"report {report.name} has no table {name}",
        field="table",
        expected=", ".join(table.name for table in report.tables),
        found=name[:80],
    )


def csv_lines(table: Table, functional: str) -> Iterator[str]:
    """Yields a table as CSV (RFC 4180), column names first; None is an empty cell."""
    yield _csv_line([spreadsheet_text(column.name) for column in table.columns])
    yield from csv_rows(table, functional)


def csv_rows(table: Table, functional: str) -> Iterator[str]:
    """Yields the rows of a table as CSV, without the column names."""
    for cells in cells_of(table, functional):
        yield _csv_line([_harmless(cell, column) for cell, column in zip(cells, table.columns, strict=True)])


def _harmless(cell: Any, column: Column) -> Any:
    """Returns a cell that no spreadsheet executes as a formula (CWE-1236); figures may begin with a minus."""
    if cell is None:
        return ""
    return spreadsheet_text(str(cell)) if column.holds == "text" else cell


def _csv_line(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


FORMATS: Final = ("json", "csv", "html")
