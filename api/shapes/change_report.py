"""The report of changes between two moments: its two points in time, its pages, its JSON and CSV.

Owns: the choice of the two points in time, the cursor, the list of parameters. Does not own: the figures
(``projections.reports.changes``), tables for people (``report_tables``), the printable page (``report_pages``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Final

import msgspec

from api.service import Subledger
from api.shapes import answers, reports
from api.shapes.answers import JsonObject
from projections.close.period_history import periods_behind
from projections.report import Report, Table
from projections.reports.changed_lines import Key, Lines, lines
from projections.reports.changes import ChangesRequest, Earlier, changes, sums_of
from subledger.accounts import ROLE_BY_NAME
from subledger.errors import InvalidCursor, InvalidInput, InvalidValue, KnownAtInFuture, MissingField
from subledger.events.envelope import format_time
from subledger.events.fields import parse_time
from subledger.store.reading.views import View

NAME: Final = "changes"
LINES: Final = "lines"
CSV_PAGE: Final = 1000
"""Number of entries that are read at once for CSV. CSV lists all entries."""
LISTING: Final[JsonObject] = {
    "report": NAME,
    "description": "Changes: the difference of two trial balances of the same day, as known at two moments, by event.",
    "takes": ["from", "to", "customer", "account", "as_of", "from_known_at", "to_known_at"],
    "needs": ["from_known_at"],
    "by": [],
    "formats": list(reports.FORMATS),
}


class ChangesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters as received. ``from_`` and ``to`` are days or months as text; ``to_known_at`` defaults to now."""

    from_known_at: datetime | None
    to_known_at: datetime | None = None
    as_of: date | None = None
    from_: str | None = None
    to: str | None = None
    customer: str | None = None
    account: str | None = None
    cursor: str | None = None


class ChangesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The later point in time, the earlier one, and the report of both. Pages after the first have no report."""

    view: View
    request: ChangesRequest
    earlier: Earlier
    to_known_at: datetime
    page_after: Key
    report: Report | None

    def lines(self, limit: int) -> Lines:
        """Returns the page of lines that the cursor begins."""
        return lines(self.view, self.request, self.earlier.position, after=self.page_after, limit=limit)

    def with_lines(self, limit: int) -> Report:
        """Returns the report with its first lines as a table, and a note if there are more."""
        found, first = self.lines(limit), self.report
        if first is None:
            raise InvalidInput("this answer is a later page", field="cursor", expected="no cursor")
        notes = first.notes
        if found.following is not None:
            notes += (f"Lines of the first {limit} entries. CSV has all lines, JSON has them in pages.",)
        return msgspec.structs.replace(first, tables=(*first.tables[:2], found.table, *first.tables[2:]), notes=notes)

    def as_json(self, limit: int) -> JsonObject:
        """Returns a page of lines as ``items``; the first page has the accounts, the sums by event type, the ties."""
        found, functional = self.lines(limit), self.view.functional_currency
        cursor = None if found.following is None else [*found.following, format_time(self.to_known_at)]
        document: JsonObject = {
            "ledger": self.view.ledger,
            "report": NAME,
            "title": f"Changes between {format_time(self.earlier.known_at)} and {format_time(self.to_known_at)}",
            "as_of": self.view.as_of.isoformat(),
            "from_known_at": format_time(self.earlier.known_at),
            "from_position": self.earlier.position,
            "to_known_at": format_time(self.to_known_at),
            "to_position": self.view.position,
            **answers.due(self.view.due),
            "timezone": self.view.zone.key,
            "from": None if self.request.from_date is None else self.request.from_date.isoformat(),
            "to": (self.request.to_date or self.view.as_of).isoformat(),
            "customer": self.request.customer,
            "account": self.request.account,
            "functional_currency": functional,
        }
        if self.report is not None:
            tables = reports.tables_as_json(self.report, functional)
            document |= {"accounts": tables.pop("items"), **tables}
            document |= {"ties_out": self.report.ties_out, "notes": list(self.report.notes)}
        items = reports.objects(found.table, functional)
        return {**document, **answers.page(items, cursor)}


@contextmanager
def answer(service: Subledger, ledger: str, query: ChangesQuery) -> Iterator[ChangesAnswer]:
    """Yields the two points in time with their report.

    Raises UnknownLedger, UnknownCustomer, KnownAtInFuture, InvalidCursor; InvalidInput for a wrong parameter.
    """
    first, last, page_after = _moments(query)
    request = _request(query)
    earlier, as_of = _earlier(service, ledger, request, first, query.as_of)
    # The two snapshots are read one after the other, because the balances as known at the first moment never change.
    with _naming("to_known_at"), service.view(ledger, as_of=as_of, known_at=last, customer=request.customer) as view:
        # Without `to_known_at` the books are those of the last event, which may be before `from_known_at`.
        later = msgspec.structs.replace(view, known_at=max(view.known_at, first))
        report = None
        if page_after == (0, 0):
            made = changes(later, request, earlier)
            report = msgspec.structs.replace(made, tables=(*made.tables, periods_behind(view, request)))
        yield ChangesAnswer(
            view=later,
            request=request,
            earlier=earlier,
            to_known_at=later.known_at,
            page_after=page_after,
            report=report,
        )


def _earlier(
    service: Subledger, ledger: str, request: ChangesRequest, known_at: datetime, as_of: date | None
) -> tuple[Earlier, date]:
    """Returns the earlier point in time with its balances, and the day of both."""
    with (
        _naming("from_known_at"),
        service.view(ledger, as_of=as_of or request.to_date, known_at=known_at, customer=request.customer) as view,
    ):
        reports.check_range(request, view)
        sums = sums_of(view, request, may_be_unknown=True)
        return Earlier(known_at=known_at, position=view.position, sums=sums), view.as_of


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Adds the name of the parameter to the error of a moment in the future."""
    try:
        yield
    except KnownAtInFuture as error:
        raise KnownAtInFuture(str(error), field=field, expected=error.expected, found=error.found) from None


def _moments(query: ChangesQuery) -> tuple[datetime, datetime | None, Key]:
    """Returns the two moments, and the entry after which the page begins. A cursor contains the later moment."""
    first, last = query.from_known_at, query.to_known_at
    if first is None:
        raise MissingField("report changes needs the parameter from_known_at", field="from_known_at", expected="a time")
    page_after = (0, 0)
    if query.cursor is not None:
        position, number, text = answers.decode_cursor(query.cursor, (int, int, str)) or (0, 0, "")
        page_after = (position, number)
        try:
            pinned = parse_time(text, field="cursor")
        except InvalidInput:
            pinned = None
        if pinned is None or last not in (None, pinned):
            raise InvalidCursor("the cursor was not made by this list", field="cursor", found=query.cursor[:80])
        last = pinned
    if last is not None and first > last:
        raise InvalidValue(
            f"`from_known_at` ({format_time(first)}) is after `to_known_at` ({format_time(last)})",
            field="from_known_at",
            expected=f"{format_time(last)} or before",
            found=format_time(first),
        )
    return first, last, page_after


def _request(query: ChangesQuery) -> ChangesRequest:
    if query.account is not None and query.account not in ROLE_BY_NAME:
        raise InvalidValue(
            f"no account {query.account[:80]}",
            field="account",
            expected=", ".join(ROLE_BY_NAME),
            found=query.account[:80],
        )
    return ChangesRequest(
        from_date=reports.read_day(query.from_, "from", last=False),
        to_date=reports.read_day(query.to, "to", last=True),
        customer=query.customer,
        account=query.account,
    )


# --- CSV ------------------------------------------------------------------------------------------------------------


def csv_lines(service: Subledger, ledger: str, query: ChangesQuery, table: str | None) -> Iterator[str]:
    """Returns a table as CSV. It has all lines, which are read page by page while they are sent.

    Every possible refusal comes before the first line. Raises the errors of ``answer``.
    """
    with answer(service, ledger, query) as found:
        if table not in (None, LINES):
            return iter(list(reports.csv_lines(_table(found, table), found.view.functional_currency)))
        pinned = msgspec.structs.replace(query, to_known_at=found.to_known_at, as_of=found.view.as_of)
        page = found.lines(CSV_PAGE)
    return _all_lines(service, ledger, pinned, found, page)


def _all_lines(
    service: Subledger, ledger: str, query: ChangesQuery, found: ChangesAnswer, page: Lines
) -> Iterator[str]:
    functional = found.view.functional_currency
    yield from reports.csv_lines(page.table, functional)
    while page.following is not None:
        # Each page is read in its own snapshot. The entries between two positions are the same in every snapshot.
        with service.view(ledger, as_of=query.as_of, known_at=query.to_known_at) as view:
            page = lines(view, found.request, found.earlier.position, after=page.following, limit=CSV_PAGE)
        yield from reports.csv_rows(page.table, functional)


def _table(found: ChangesAnswer, name: str | None) -> Table:
    if found.report is None:
        raise InvalidInput("CSV has no pages", field="cursor", expected="no cursor with format=csv")
    names = [LINES, *(table.name for table in found.report.tables)]
    if name not in names:
        raise InvalidValue(
            f"report {NAME} has no table {str(name)[:80]}",
            field="table",
            expected=", ".join(names),
            found=str(name)[:80],
        )
    return reports.table_of(found.report, name)
