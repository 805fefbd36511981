"""Rejected events: reading them with their reasons, recording them again, and dismissing them."""

from __future__ import annotations

from datetime import date, tzinfo
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.http.problems import problem_of
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Service, Text, check_day, needs
from api.http.routes.guarded import Router
from api.rejecting import MAX_DISMISSED, MAX_REASON, MAX_RETRIED
from api.service import Subledger
from api.shapes import answers
from api.shapes import rejected as rejected_answers
from projections.reads.rejected import summary as summary_of
from projections.reads.rejected import sums
from subledger.errors import EventConflict
from subledger.events.envelope import format_time
from subledger.events.fields import parse_time
from subledger.store.reading.ledgers import ledger_head
from subledger.store.rejected import rejections

router = Router(prefix="/v1/ledgers/{ledger}/rejected", tags=["rejected events"])

RejectionId = Annotated[str, Path(description="A rejection", examples=["rej-0123456789abcdef0123"], max_length=60)]
State = Annotated[
    Literal["open", "retried", "corrected", "dismissed", "all"],
    Query(
        description="Only these, or all. open: neither recorded nor dismissed; retried: recorded since with the same "
        "content; corrected: recorded since under the same source and id with another"
    ),
]


class Dismissal(BaseModel):
    """The reason for dismissing a rejected event, or for reopening it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=MAX_REASON)


_AS_SEEN = "as the summary of the same choice says, with state=open; if it is another number, nothing is done"


class Dismissals(Dismissal):
    """The reason for dismissing the chosen events, and their number."""

    rejections: int = Field(ge=0, le=MAX_DISMISSED, description=_AS_SEEN)


class Retries(BaseModel):
    """The number of chosen events."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rejections: int = Field(ge=0, le=MAX_RETRIED, description=_AS_SEEN)


async def _of(
    code: Annotated[Text, Query(description="Only with this reason", examples=["insufficient_credits"])] = None,
    customer: Text = None,
    source: Text = None,
    id: Text = None,
    sender: Text = None,
    way: Annotated[Text, Query(description="Only those received through: http, file:NAME, stdin, retry")] = None,
    from_: Annotated[
        date | None,
        Query(alias="from", description="Of events from this day on; undated ones by the time they were received"),
    ] = None,
    to: Annotated[date | None, Query(description="Through this day")] = None,
) -> dict[str, Any]:
    return {
        "code": code,
        "customer": customer,
        "source": source,
        "event_id": id,
        "sender": sender,
        "way": way,
        "first": check_day(from_, "from"),
        "last": check_day(to, "to"),
    }


OpenChoice = Annotated[dict[str, Any], Depends(_of)]
"""A choice of open rejections."""


async def _chosen(choice: OpenChoice, state: State = "all") -> dict[str, Any]:
    return {**choice, "state": None if state == rejections.ALL else state}


Choice = Annotated[dict[str, Any], Depends(_chosen)]


@router.get("", dependencies=[needs(Access.READER)])
def page(
    service: Service, ledger: LedgerId, choice: Choice, limit: Limit = 100, cursor: Cursor = None
) -> dict[str, Any]:
    """Rejected events, in the order of their first refusal.

    The same content that is refused again is the same rejection, with one more attempt.
    """
    after = answers.decode_cursor(cursor, (str, str))
    start = rejections.START if after is None else (parse_time(after[0], field="cursor"), str(after[1]))
    with service.database.read() as connection:
        chosen = _on(ledger_head(connection, ledger).state.zone, choice)
        found = rejections.rejections_page(connection, ledger, chosen, after=start, limit=limit)
    following = [format_time(found[-1].first_at), found[-1].rejection_id] if len(found) == limit else None
    return answers.page([rejected_answers.rejection(rejection) for rejection in found], following)


@router.get("/summary", dependencies=[needs(Access.READER)])
def summary(service: Service, ledger: LedgerId, choice: Choice) -> dict[str, Any]:
    """Number of rejected events by code, with the sums of their credits and money."""
    with service.database.read() as connection:
        chosen = _on(ledger_head(connection, ledger).state.zone, choice)
        counts = rejections.counts(connection, ledger, chosen)
    return {"ledger": ledger, "state": chosen.state or rejections.ALL, **summary_of(counts)}


@router.get("/{rejection}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId, rejection: RejectionId) -> dict[str, Any]:
    """One rejected event: its text, the reason of its refusal, and its state."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        history = rejections.steps(connection, ledger, rejection)
        return rejected_answers.whole_rejection(rejections.rejection(connection, ledger, rejection), history)


_CHANGED: dict[int | str, dict[str, Any]] = {409: {"description": "Another number of open rejected events is chosen"}}


@router.post("/retry", dependencies=[needs(Access.WRITER)], responses=_CHANGED)
def retry_many(
    service: Service, ledger: LedgerId, choice: OpenChoice, caller: Caller, body: Annotated[Retries, Body()]
) -> dict[str, Any]:
    """Records the chosen open rejected events again, as stored, oldest first.

    Nothing is done if their number is not the one in the call. Events that are refused again stay open. Events that are
    not stored in full are left out: send them again from their source.

    The events are recorded in groups. An error after the first group ends the call. The answer then has the results of
    the recorded groups, the number of the other events (`not_done`), and the error (`error`). The other events stay
    open. 429 and 503 mean that no event was recorded.
    """
    seen = service.rejected.open_ones(
        ledger, _on(_zone(service, ledger), choice), limit=MAX_RETRIED, expected=body.rejections
    )
    found = service.rejected.retry_seen(ledger, seen, by=caller)
    not_whole = len(seen) - len(found.answers) - found.not_done
    return rejected_answers.retried(found, not_whole=not_whole, problem=problem_of)


@router.post("/dismiss", dependencies=[needs(Access.CONTROLLER)], responses=_CHANGED)
def dismiss_many(
    service: Service,
    ledger: LedgerId,
    choice: OpenChoice,
    caller: Caller,
    body: Annotated[Dismissals, Body(examples=[{"reason": "a test of the meter, never delivered", "rejections": 12}])],
) -> dict[str, Any]:
    """Dismisses the chosen open rejected events, with a reason. They will not be recorded.

    Nothing is done if their number is not the one in the call. An event that is recorded or refused again meanwhile is
    not dismissed.
    """
    seen = service.rejected.open_ones(
        ledger, _on(_zone(service, ledger), choice), limit=MAX_DISMISSED, expected=body.rejections
    )
    dismissed = service.rejected.dismiss_seen(ledger, seen, body.reason, by=caller)
    return {"dismissed": len(dismissed), **sums([each for each in seen if each.rejection_id in dismissed])}


@router.post(
    "/{rejection}/retry",
    dependencies=[needs(Access.WRITER)],
    responses={
        200: {"description": "Recorded, or a duplicate"},
        202: {"description": "It waits for a second person: see /approvals"},
        409: {"description": "Its source and id are recorded with another content"},
        422: {"description": "Rejected once more, with why; or not kept whole"},
    },
)
def retry(service: Service, ledger: LedgerId, rejection: RejectionId, caller: Caller) -> JSONResponse:
    """Records a rejected event again, as stored. Send a corrected event like any other event, with its source and
    id.
    """
    outcome = service.rejected.retry(ledger, rejection, by=caller)
    status = 202 if outcome.status == "waiting" else 200
    if outcome.error is not None:
        status = 409 if isinstance(outcome.error, EventConflict) else 422
    return JSONResponse({"rejection_id": rejection, **answers.outcome(outcome)}, status)


@router.post("/{rejection}/dismiss", dependencies=[needs(Access.CONTROLLER)])
def dismiss(
    service: Service,
    ledger: LedgerId,
    rejection: RejectionId,
    caller: Caller,
    body: Annotated[Dismissal, Body(examples=[{"reason": "a test of the meter, never delivered"}])],
) -> dict[str, Any]:
    """Dismisses a rejected event, with a reason. It will not be recorded, and stays in the list."""
    return rejected_answers.rejection(service.rejected.dismiss(ledger, rejection, body.reason, by=caller))


@router.post("/{rejection}/reopen", dependencies=[needs(Access.CONTROLLER)])
def reopen(
    service: Service,
    ledger: LedgerId,
    rejection: RejectionId,
    caller: Caller,
    body: Annotated[Dismissal, Body(examples=[{"reason": "it was no test after all"}])],
) -> dict[str, Any]:
    """Reopens a dismissed event, so that it can be retried."""
    return rejected_answers.rejection(service.rejected.reopen(ledger, rejection, body.reason, by=caller))


def _zone(service: Subledger, ledger: str) -> tzinfo:
    with service.database.read() as connection:
        return ledger_head(connection, ledger).state.zone


def _on(zone: tzinfo, choice: dict[str, Any]) -> rejections.Chosen:
    since, until = rejections.span(choice["first"], choice["last"], zone)
    conditions = {name: value for name, value in choice.items() if name not in ("first", "last")}
    return rejections.Chosen(**conditions, since=since, until=until)
