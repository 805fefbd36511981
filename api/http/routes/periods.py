"""Periods: their states, closing, reopening; and the account mapping of their journals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.bounded_json import Bound
from api.http import media_types
from api.http.routes.dependencies import Caller, LedgerId, Service, needs
from api.http.routes.guarded import Router, takes_body
from api.limits import MAX_MAPPING_BODY
from api.service import Subledger
from api.shapes import answers
from api.shapes import exports as export_answers
from api.shapes import periods as period_answers
from projections.account_mapping import mapping
from projections.account_mapping.rows import csv_text
from projections.close import close, period_history
from projections.configuring import account_mappings
from projections.delivery import checklist as checking
from projections.exports import exports
from projections.journals import reversing
from projections.journals.stored_journals import journals_of
from subledger.errors import InvalidMapping
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}", tags=["periods"])

PeriodId = Annotated[str, Path(description="A month", examples=["2026-01"])]


class Reopening(BaseModel):
    """Reason for reopening a period or reversing a journal."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=2000)


@router.get("/periods", dependencies=[needs(Access.READER)])
def periods(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """Every month with entries, in order, with its state and its `history`: each act, its user and its reason.

    `what` is closed, reopened, cut (an export of the open month), exported or reversed (a journal of it).
    """
    with service.database.read() as connection:
        return answers.page(
            [period_answers.period(state) for state in period_history.periods(connection, ledger)], None
        )


@router.get("/periods/{period}/checklist", dependencies=[needs(Access.READER)])
def checklist(service: Service, ledger: LedgerId, period: PeriodId) -> dict[str, Any]:
    """The steps to a closed and delivered month, in order, each with its state and its evidence.

    `blocked` prevents the close; `open` is to be done; `attention` does not prevent it. The call changes nothing.
    """
    found = checking.checklist(service.database, ledger, Period.parse(period), now=datetime.now(UTC))
    return export_answers.checklist(found)


@router.post("/periods/{period}/close", dependencies=[needs(Access.CONTROLLER)])
def close_period(service: Service, ledger: LedgerId, period: PeriodId, caller: Caller) -> dict[str, Any]:
    """Closes a month: records its expiries, proves the invariants, ends the cut. Months are closed in order."""
    closed = close.close_period(service.recorder, ledger, Period.parse(period), by=caller)
    return period_answers.closed_period(closed)


@router.post(
    "/periods/{period}/reopen",
    dependencies=[needs(Access.CONTROLLER)],
    responses={202: {"description": "It waits for a second person: see /approvals"}},
)
def reopen_period(
    service: Service,
    ledger: LedgerId,
    period: PeriodId,
    caller: Caller,
    response: Response,
    body: Annotated[Reopening, Body(examples=[{"reason": "an invoice of January was missing"}])],
) -> dict[str, Any]:
    """Reopens a closed month and every later one. Later entries are in an adjustment journal."""
    reopened = close.reopen_period(service.recorder, ledger, Period.parse(period), body.reason, by=caller)
    if reopened.position is None:
        response.status_code = 202
    return period_answers.reopened_period(reopened)


@router.get("/periods/{period}/journals", dependencies=[needs(Access.READER)])
def journals(service: Service, ledger: LedgerId, period: PeriodId) -> dict[str, Any]:
    """The journals of a month in order of number, with their reversals and re-issues."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = journals_of(connection, ledger, Period.parse(period))
        handed_over = exports.handed_over(connection, ledger, Period.parse(period))
    return answers.page([export_answers.journal(each, found, handed_over) for each in found], None)


@router.post("/periods/{period}/journals/{number}/reverse", status_code=201, dependencies=[needs(Access.CONTROLLER)])
def reverse_journal(
    service: Service,
    ledger: LedgerId,
    period: PeriodId,
    number: Annotated[int, Path(ge=1, le=2**31 - 1, description="The journal's number", examples=[1])],
    caller: Caller,
    body: Annotated[Reopening, Body(examples=[{"reason": "deposits were mapped to revenue"}])],
) -> dict[str, Any]:
    """Reverses a journal with wrong accounts, and re-issues its entries under the current mapping.

    This makes two journals, which the next export of the month contains. The books do not change.
    """
    made = reversing.reverse_journal(service.recorder, ledger, Period.parse(period), number, body.reason, by=caller)
    with service.database.read() as connection:
        handed_over = exports.handed_over(connection, ledger, made.journal.period)
    return export_answers.reversed_journal(made, handed_over)


MonthFrom = Annotated[str | None, Query(description="The month of the journals", examples=["2026-03"])]


@router.get("/mapping", dependencies=[needs(Access.READER)])
def current_mapping(service: Service, ledger: LedgerId, period: MonthFrom = None) -> dict[str, Any]:
    """The account mapping of the next journal of a month; without a month, the last adopted one."""
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        if period is None:
            number, found = head.state.mapping, mapping.mapping_of(connection, ledger, head.state.mapping)
        else:
            number, found = mapping.mapping_for(connection, ledger, Period.parse(period))
        return answers.mapping(ledger, mapping.adoption_of(connection, ledger, number), found)


@router.put(
    "/mapping",
    dependencies=[needs(Access.CONTROLLER)],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": csv_text(mapping.default_mapping().rows)}
            },
        }
    },
)
@takes_body(Bound(MAX_MAPPING_BODY, "a mapping is one file"), media_types.ANY)
async def adopt_mapping(
    request: Request, service: Service, ledger: LedgerId, caller: Caller, valid_from: MonthFrom = None
) -> dict[str, Any]:
    """Adopts an account mapping, a CSV file, for all journals from now on. Adopting the same mapping again changes
    nothing.

    With `valid_from` it applies to the journals of that month and later ones.
    """
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidMapping("the mapping is not UTF-8", expected="CSV in UTF-8") from None
    return await run_in_threadpool(_adopt, service, ledger, text, valid_from, caller)


def _adopt(service: Subledger, ledger: str, text: str, valid_from: str | None, by: str) -> dict[str, Any]:
    first = None if valid_from is None else Period.parse(valid_from, field="valid_from")
    adopted = account_mappings.adopt_mapping(
        service.recorder, ledger, mapping.parse_mapping(text), valid_from=first, by=by
    )
    return {**current_mapping(service, ledger), "adopted": adopted}
