"""Reports over several ledgers, over HTTP. The key must be for every ledger."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from api.access import Access
from api.http.routes.dependencies import AsOf, KnownAt, Service, Text, check_day, needs_everywhere
from api.http.routes.guarded import Router
from api.http.routes.reports import check_format
from api.shapes import joint_reports, reports

router = Router(prefix="/v1/reports", tags=["reports"], dependencies=[needs_everywhere(Access.READER)])

Name = Annotated[str, Path(description="One of the reports that /v1/reports lists", examples=list(joint_reports.JOINT))]

EXAMPLE: dict[str, Any] = {
    "report": "trial-balance", "title": "Trial balance", "entity": "US01", "as_of": "2026-01-31", "from": None,
    "to": "2026-01-31", "by": None,
    "ledgers": [
        {"ledger": "acme-1", "entity": "US01", "functional_currency": "USD", "known_at": "2026-02-03T09:00:00Z",
         "position": 7, "ties_out": True},
        {"ledger": "acme-2", "entity": "US01", "functional_currency": "USD", "known_at": "2026-02-03T09:00:01Z",
         "position": 12, "ties_out": True},
    ],
    "currencies": [
        {"functional_currency": "USD", "ledgers": ["acme-1", "acme-2"],
         "items": [{"account": "prepaid_liability", "currency": "USD", "debit": "25.00", "credit": "100.00",
                    "balance": "75.00"}],
         "ties": []}
    ],
    "ties_out": True,
    "notes": [],
}  # fmt: skip


@router.get("")
def every() -> dict[str, Any]:
    """The reports that exist for several ledgers."""
    return {"items": [joint_reports.listing(name) for name in joint_reports.JOINT], "next": None}


@router.get(
    "/{name}",
    response_class=JSONResponse,
    responses={
        200: {
            "description": "The ledgers with their positions, and a report per functional currency",
            "content": {"application/json": {"example": EXAMPLE}, "text/csv": {"example": "functional_currency,…\n"}},
        }
    },
)
def one(
    service: Service,
    name: Name,
    known_at: KnownAt,
    as_of: AsOf = None,
    entity: Annotated[
        str | None,
        Query(description="Every ledger of this entity", max_length=200, pattern=r"^[^\x00]+$", examples=["US01"]),
    ] = None,
    ledger: Annotated[
        list[Annotated[str, Query(max_length=64, pattern=r"^[^\x00]+$")]] | None,
        Query(description="Or these ledgers, each given once", max_length=1000, examples=[["acme-1", "acme-2"]]),
    ] = None,
    from_: Annotated[str | None, Query(alias="from", description="First accounting date, or its month")] = None,
    to: Annotated[str | None, Query(description="Last accounting date or month, inclusive; default as_of")] = None,
    by: Annotated[
        str | None,
        Query(
            description="Property by which rows are grouped, or an own dimension of the ledger: dimension.NAME",
            examples=["credit_kind"],
        ),
    ] = None,
    format: Annotated[str, Query(description="json or csv", examples=list(joint_reports.FORMATS))] = "json",
    table: Text = None,
) -> Response:
    """The sum of a report over ledgers, each read in its own snapshot. Different functional currencies are never
    added.
    """
    query = reports.ReportQuery(from_=from_, to=to, as_of=check_day(as_of, "as_of"), known_at=known_at, by=by)
    reports.offered(name)
    check_format(format, table, joint_reports.FORMATS)
    chosen = joint_reports.Chosen(entity=entity, ledgers=tuple(ledger or ()))
    found = joint_reports.answer(service, name, query, chosen)
    if format == "csv":
        return StreamingResponse(
            iter(list(joint_reports.csv_lines(found, table))),
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )
    return JSONResponse(joint_reports.as_json(found))
