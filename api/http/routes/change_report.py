"""The report of changes between two moments, over HTTP: JSON in pages, CSV of all lines, or a page to print."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from api.access import Access
from api.http.routes.dependencies import AsOf, Cursor, LedgerId, Limit, Service, Text, check_day, needs
from api.http.routes.guarded import Router
from api.http.routes.reports import NOTHING_RUNS, check_format
from api.shapes import change_report, report_pages, reports
from subledger.errors import MissingField
from subledger.events.fields import parse_time

router = Router(prefix="/v1/ledgers/{ledger}/reports", tags=["reports"], dependencies=[needs(Access.READER)])

EXAMPLE: dict[str, Any] = {
    "ledger": "acme", "report": "changes", "title": "Changes between 2026-02-03T09:00:00Z and 2026-02-20T09:00:00Z",
    "as_of": "2026-01-31", "from_known_at": "2026-02-03T09:00:00Z", "from_position": 7,
    "to_known_at": "2026-02-20T09:00:00Z", "to_position": 9, "from": None, "to": "2026-01-31", "customer": None,
    "account": "usage_revenue", "functional_currency": "USD",
    "accounts": [
        {"account": "usage_revenue", "currency": "USD", "before": "25.00", "debit": "0.00", "credit": "5.00",
         "change": "5.00", "after": "30.00"}
    ],
    "event_types": [
        {"event_type": "credits.consumed", "date_reason": "own_day", "account": "usage_revenue", "entries": 1,
         "currency": "USD", "debit": "0.00", "credit": "5.00", "change": "5.00"}
    ],
    "ties": [
        {"what": "changes of usage_revenue = after − before", "currency": "USD", "report": "5.00",
         "trial_balance": "5.00", "difference": "0.00"}
    ],
    "ties_out": True, "notes": [],
    "items": [
        {"position": 9, "event_type": "credits.consumed", "event_id": "use-7", "source": "metering",
         "recorded_at": "2026-02-10T08:00:00Z", "who": None, "customer": "cust-42", "block_id": "blk-7",
         "kind": "consumption", "effective_date": "2026-01-30", "accounting_date": "2026-01-30",
         "date_reason": "own_day", "closed_through": None, "account": "usage_revenue", "currency": "USD",
         "debit": "0.00", "credit": "5.00", "change": "5.00"}
    ],
    "next": None,
}  # fmt: skip
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The difference of two trial balances, and the lines that make it",
        "content": {
            "application/json": {"example": EXAMPLE},
            "text/csv": {"example": "position,event_type,event_id,source,recorded_at,…\n"},
            "text/html": {"example": "<!doctype html>…"},
        },
    }
}


def _moment(text: str | None, field: str) -> datetime | None:
    # In a query a plus sign means a space. But people write the offset of a time with a plus sign, as in 10:00+01:00.
    return None if text is None else parse_time(text.replace(" ", "+"), field=field)


async def _from_known_at(
    from_known_at: Annotated[
        str | None, Query(description="The earlier moment; required", examples=["2026-02-03T09:00:00Z"])
    ] = None,
) -> datetime:
    moment = _moment(from_known_at, "from_known_at")
    if moment is None:
        raise MissingField(
            "from_known_at is missing: it is the earlier of the two moments",
            field="from_known_at",
            expected="a time, such as 2026-02-03T09:00:00Z",
        )
    return moment


async def _to_known_at(
    to_known_at: Annotated[
        str | None, Query(description="The later moment; default now", examples=["2026-02-20T09:00:00Z"])
    ] = None,
) -> datetime | None:
    return _moment(to_known_at, "to_known_at")


@router.get("/changes", responses=RESPONSES, response_class=JSONResponse)
def changes(
    service: Service,
    ledger: LedgerId,
    from_known_at: Annotated[datetime, Depends(_from_known_at)],
    to_known_at: Annotated[datetime | None, Depends(_to_known_at)],
    as_of: AsOf = None,
    from_: Annotated[
        str | None, Query(alias="from", description="First accounting date, or its month", examples=["2026-01"])
    ] = None,
    to: Annotated[
        str | None, Query(description="Last accounting date or month, inclusive; default as_of", examples=["2026-01"])
    ] = None,
    customer: Text = None,
    account: Annotated[
        str | None, Query(description="Only this account's", max_length=64, examples=["usage_revenue"])
    ] = None,
    format: Annotated[str, Query(description="json, csv, or html to print", examples=list(reports.FORMATS))] = "json",
    table: Annotated[str | None, Query(description="The table of the CSV; default the lines")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The difference between the books of a day as known at one moment and as known at a later one, by event.

    The first page has each account before and after, and the sums by event type. `items` are the lines recorded in
    between, in pages of `limit` entries; `next` is the cursor of the next page. CSV has all lines.
    """
    query = change_report.ChangesQuery(
        from_known_at=from_known_at,
        to_known_at=to_known_at,
        as_of=check_day(as_of, "as_of"),
        from_=from_,
        to=to,
        customer=customer,
        account=account,
        cursor=cursor,
    )
    check_format(format, table, reports.FORMATS)
    if format == "csv":
        filename = f"{ledger}-{change_report.NAME}-{table or change_report.LINES}.csv"
        return StreamingResponse(
            change_report.csv_lines(service, ledger, query, table),
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{filename}"'},
        )
    with change_report.answer(service, ledger, query) as found:
        if format == "html":
            report = found.with_lines(limit)
            return HTMLResponse(report_pages.page(report, found.view, found.request), headers=NOTHING_RUNS)
        return JSONResponse(found.as_json(limit))
