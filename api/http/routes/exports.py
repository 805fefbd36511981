"""Journal exports: making them, their files, and the entries behind their lines."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from api.access import Access
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Service, needs
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import exports as export_answers
from projections.exports import exporting, exports
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/exports", tags=["exports"])

ExportId = Annotated[str, Path(description="The export", examples=["acme-2026-01-1-csv"], pattern=r"^[^\x00]+$")]


class NewExport(BaseModel):
    """A period to export, in a format."""

    model_config = ConfigDict(extra="forbid", strict=True)

    period: str
    format: str
    detail: bool = False


@router.post("", status_code=201, dependencies=[needs(Access.CONTROLLER)])
def create(
    service: Service,
    ledger: LedgerId,
    caller: Caller,
    body: Annotated[NewExport, Body(examples=[{"period": "2026-01", "format": "csv"}])],
) -> dict[str, Any]:
    """Exports all journals of a period in the format. The answer shows the newest one.

    A repeated call returns the same bytes. If entries were recorded into the period since then, there is one more
    journal, an adjustment. While the period is open its journals are `interim`. A month that has not begun is refused
    as `in_the_future`.
    """
    period = Period.parse(body.period)
    made = exporting.export(
        service.recorder, service.database, ledger, period, body.format, detail=body.detail, by=caller
    )
    return {
        **export_answers.export(made[-1]),
        "journals": [export_answers.export(export) for export in made],
        **export_answers.standing(exports.month_state(service.database, ledger, period)),
    }


@router.get("", dependencies=[needs(Access.READER)])
def every(
    service: Service,
    ledger: LedgerId,
    period: Annotated[str | None, Query(description="Only this month", examples=["2026-01"])] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Exports in order of id."""
    month = None if period is None else Period.parse(period)
    after = (answers.decode_cursor(cursor, (str,)) or [""])[0]
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = exports.list_exports(connection, ledger, period=month, after=after, limit=limit)
    items = [export_answers.export(export) for export in found]
    return answers.page(items, [items[-1]["id"]] if len(items) == limit else None)


@router.get("/{export_id}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId, export_id: ExportId) -> dict[str, Any]:
    """An export, with its lines. In a general ledger's format it also has its documents, and the settings of the
    export.
    """
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return export_answers.export_with_lines(connection, exports.get_export(connection, ledger, export_id))


@router.get("/{export_id}/file", dependencies=[needs(Access.READER)], response_class=StreamingResponse)
def file(service: Service, ledger: LedgerId, export_id: ExportId) -> StreamingResponse:
    """The file, with the bytes that were handed over."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        export = exports.get_export(connection, ledger, export_id)
    return StreamingResponse(
        exports.content_of(service.database, export),
        media_type=export.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{export.filename}"',
            "ETag": f'"{export.content_hash}"',
        },
    )


@router.get("/{export_id}/lines/{line}/entries", dependencies=[needs(Access.READER)])
def entries(
    service: Service,
    ledger: LedgerId,
    export_id: ExportId,
    line: Annotated[int, Path(ge=1, le=2**31 - 1)],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """The entries behind a line, with their events."""
    values = answers.decode_cursor(cursor, (int, int)) or [0, 0]
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
        export = exports.get_export(connection, ledger, export_id)
        found = exports.entries_of_line(connection, export, line, after=(values[0], values[1]), limit=limit)
    items = [export_answers.entry_behind(entry, functional_currency) for entry in found]
    following = [items[-1]["position"], items[-1]["entry"]] if len(items) == limit else None
    return answers.page(items, following)
