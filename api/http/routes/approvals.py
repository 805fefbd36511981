"""Routes of events that wait for a second person, and of the decision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Makers, Service, needs
from api.http.routes.guarded import Router
from api.service import Subledger
from api.shapes import answers
from api.shapes import approvals as approval_answers
from subledger.events.envelope import format_time
from subledger.events.fields import parse_time
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import approvals_page, read_request

router = Router(prefix="/v1/ledgers/{ledger}/approvals", tags=["approvals"])

ApprovalId = Annotated[str, Path(description="The request", examples=["apr-0123456789abcdef0123"])]
_START = datetime(1, 1, 1, tzinfo=UTC)


class Note(BaseModel):
    """A note of the second person."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: str | None = Field(default=None, max_length=2000)


@router.get("", dependencies=[needs(Access.READER)])
def page(
    service: Service,
    ledger: LedgerId,
    state: Annotated[
        Literal["waiting", "approved", "refused", "recorded"] | None,
        Query(description="Only requests in this state; default all"),
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """The requests, oldest first."""
    after = answers.decode_cursor(cursor, (str, str))
    start = (_START, "") if after is None else (parse_time(after[0], field="cursor"), str(after[1]))
    with service.database.read() as connection:
        currency = ledger_head(connection, ledger).state.functional_currency
        found = approvals_page(connection, ledger, state=state, after=start, limit=limit)
    following = [format_time(found[-1].requested_at), found[-1].approval_id] if len(found) == limit else None
    return answers.page([approval_answers.approval(request, currency) for request in found], following)


@router.get("/{approval}", dependencies=[needs(Access.READER)])
def show(service: Service, ledger: LedgerId, approval: ApprovalId) -> dict[str, Any]:
    """A request, with the customer, block, amount, reason and effect of its event."""
    return _one(service, ledger, approval)


@router.post("/{approval}/approve", dependencies=[needs(Access.CONTROLLER)])
def approve(service: Service, ledger: LedgerId, approval: ApprovalId, caller: Caller, makers: Makers) -> dict[str, Any]:
    """Approves a request. Its event is recorded now, with the names of the requester and the approver.

    The answer has the approved customer, block, amount, reason and effect. If the effect is now greater than in the
    list, nothing is recorded (`effect_changed`).

    These persons cannot approve: the requester, a person with a key that the requester created, and the creator of the
    requester's key. If the books do not allow the event any more, the answer has the reason, and the request still
    waits.
    """
    outcome = service.decide_approval(ledger, approval, by=caller, allow=True, made_by=makers)
    if outcome.error is not None:
        raise outcome.error
    return {**answers.outcome(outcome), **_one(service, ledger, approval)}


@router.post("/{approval}/refuse", dependencies=[needs(Access.CONTROLLER)])
def refuse(
    service: Service,
    ledger: LedgerId,
    approval: ApprovalId,
    caller: Caller,
    makers: Makers,
    body: Annotated[Note | None, Body(examples=[{"note": "the evidence is of another product"}])] = None,
) -> dict[str, Any]:
    """Refuses a waiting event. It is never recorded, and its event id cannot be used again."""
    note = None if body is None else body.note
    outcome = service.decide_approval(ledger, approval, by=caller, allow=False, note=note, made_by=makers)
    return {"id": outcome.event_id, **_one(service, ledger, approval)}


def _one(service: Subledger, ledger: str, approval: str) -> dict[str, Any]:
    with service.database.read() as connection:
        currency = ledger_head(connection, ledger).state.functional_currency
        return approval_answers.approval(read_request(connection, ledger, approval), currency)
