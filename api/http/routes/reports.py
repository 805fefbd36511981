"""Reports over HTTP: the list of reports, and each report as JSON, CSV or a page to print."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from api.access import Access
from api.http.routes.dependencies import AsOf, KnownAt, LedgerId, Service, check_day, needs
from api.http.routes.guarded import Router
from api.shapes import change_report, report_pages, reports
from subledger.errors import InvalidValue
from subledger.events.fields import MAX_ID
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/reports", tags=["reports"], dependencies=[needs(Access.READER)])

Name = Annotated[
    str,
    Path(
        description="One of the reports that /reports lists",
        examples=list(reports.REPORTS),
        json_schema_extra={"x-reports": list(reports.REPORTS)},
    ),
]

EXAMPLE: dict[str, Any] = {
    "ledger": "acme", "report": "rollforward", "title": "Liability roll-forward", "as_of": "2026-01-31",
    "known_at": "2026-02-03T09:00:00Z", "position": 7, "from": "2026-01-01", "to": "2026-01-31", "customer": None,
    "by": None, "functional_currency": "USD",
    "items": [
        {"period": "2026-01", "currency": "USD", "opening": "0.00", "purchased": "100.00", "granted": "0.00",
         "consumed": "40.00", "expired": "0.00", "closing": "60.00"}
    ],
    "ties": [
        {"what": "closing = prepaid_liability", "currency": "USD", "report": "60.00", "trial_balance": "60.00",
         "difference": "0.00"}
    ],
    "ties_out": True,
    "notes": [],
}  # fmt: skip
# A page shows ids, which may contain text of customers. They are escaped. Without escaping, this still stops scripts.
NOTHING_RUNS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report, compared with the trial balance",
        "content": {
            "application/json": {"example": EXAMPLE},
            "text/csv": {"example": "period,currency,opening,purchased,closing\n2026-01,USD,0.00,100.00,100.00\n"},
            "text/html": {"example": "<!doctype html>…"},
        },
    }
}


@router.get("")
def every(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """The reports with their parameters, and the formats. The integrity report has its own route."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    return {"items": [*(reports.listing(name) for name in reports.REPORTS), change_report.LISTING], "next": None}


@router.get("/{name}", responses=RESPONSES, response_class=JSONResponse)
def one(
    service: Service,
    ledger: LedgerId,
    name: Name,
    known_at: KnownAt,
    as_of: AsOf = None,
    from_: Annotated[
        str | None, Query(alias="from", description="First accounting date, or its month", examples=["2026-01"])
    ] = None,
    to: Annotated[
        str | None, Query(description="Last accounting date or month, inclusive; default as_of", examples=["2026-03"])
    ] = None,
    customer: Annotated[
        str | None,
        Query(description="Only this customer's", max_length=MAX_ID, pattern=r"^[^\x00]+$", examples=["cust-42"]),
    ] = None,
    by: Annotated[
        str | None,
        Query(
            description="Property by which rows are grouped, or an own dimension of the ledger: dimension.NAME",
            examples=["credit_kind"],
        ),
    ] = None,
    months: Annotated[int | None, Query(ge=1, le=600, description="The horizon of a forecast, in months")] = None,
    format: Annotated[str, Query(description="json, csv, or html to print", examples=list(reports.FORMATS))] = "json",
    table: Annotated[str | None, Query(description="The table of the CSV; default the first")] = None,
) -> Response:
    """A report from one snapshot of the books, with the figures that tie it to the trial balance."""
    query = reports.ReportQuery(
        from_=from_, to=to, as_of=check_day(as_of, "as_of"), known_at=known_at, customer=customer, by=by, months=months
    )
    reports.offered(name)
    check_format(format, table, reports.FORMATS)
    with reports.answer(service, ledger, name, query) as (report, view, request):
        functional = view.functional_currency
        if format == "csv":
            chosen = reports.table_of(report, table)
            filename = f"{ledger}-{name}{'' if table is None else '-' + chosen.name}.csv"
            return StreamingResponse(
                reports.csv_lines(chosen, functional),
                media_type="text/csv",
                headers={
                    "Content-Disposition": f'attachment; filename="{filename}"',
                    **({"X-Due-Expiries": str(view.due.count)} if view.due is not None and view.due.count else {}),
                },
            )
        if format == "html":
            return HTMLResponse(report_pages.page(report, view, request), headers=NOTHING_RUNS)
        return JSONResponse(reports.as_json(report, view, request))


def check_format(format: str, table: str | None, offered: tuple[str, ...]) -> None:
    """Checks the format and the table of a report. Raises InvalidValue."""
    if format not in offered:
        raise InvalidValue("no such format", field="format", expected=", ".join(offered), found=format[:80])
    if table is not None and format != "csv":
        raise InvalidValue(
            "table goes with CSV; JSON has every table", field="table", expected="format=csv", found=table[:80]
        )
