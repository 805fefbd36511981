"""Recording events, and reading the log."""

from __future__ import annotations

import base64
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from api.access import Access
from api.bounded_json import Bound, read_json
from api.checkpoint import checkpoint_of, consistency, earlier_checkpoint
from api.http.bodies import Bodies
from api.http.routes.dependencies import MAX_LEDGER_ID, Cursor, LedgerId, Limit, Service, Text, caller_of, needs
from api.http.routes.guarded import GuardedRoute, Handler, Router, takes_body
from api.limits import MAX_EVENTS, MAX_EVENTS_BODY, MAX_VALUES_OF_ROWS
from api.service import Subledger, read_inputs
from api.shapes import answers
from api.shapes import events as event_answers
from projections.reads.date_reasons import reasons_of
from subledger.errors import EventConflict, InvalidInput, InvalidJson, InvalidValue, TooLarge
from subledger.events.data import EVENT_TYPES
from subledger.events.own_data import RESERVED_TYPES
from subledger.store.reading.in_force import rules_of
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import event_at, events_page
from subledger.store.reading.proofs import inclusion
from subledger.store.writing.batch import REJECTED, WAITING, Input, Outcome
from subledger.text.json_text import loads_each, texts_of
from subledger.text.visible_text import visible
from subledger.text.wording import did_you_mean

_EVENTS = Bound(MAX_EVENTS_BODY, "send several", values=MAX_VALUES_OF_ROWS)

router = Router(prefix="/v1/ledgers/{ledger}", tags=["events"])

WAY = "http"
_MEDIA_TYPES = ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json")

_PURCHASE = {
    "specversion": "1.0",
    "id": "inv-1001/line-3",
    "source": "billing",
    "type": "credits.purchased",
    "subject": "cust-42",
    "time": "2026-01-15T10:00:00Z",
    "data": {
        "block_id": "blk-7",
        "credits": "1000",
        "unit": "credit",
        "price": "100.00",
        "currency": "USD",
        "expires_at": "2027-01-15T00:00:00Z",
    },
}
_USAGE = {
    "specversion": "1.0",
    "id": "use-1",
    "source": "metering",
    "type": "credits.consumed",
    "subject": "cust-42",
    "time": "2026-01-20T10:00:00Z",
    "data": {"credits": "250", "product": "api"},
}


def _request_body() -> dict[str, Any]:
    one = {"$ref": "#/components/schemas/Event"}  # api.shapes.event_types describes this schema
    many = {"type": "array", "items": one, "maxItems": MAX_EVENTS}
    examples = {"purchase": {"value": _PURCHASE}, "usage": {"value": _USAGE}}
    batch = {"batch": {"value": [_PURCHASE, _USAGE]}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [one, many]}, "examples": {**examples, **batch}},
            "application/cloudevents+json": {"schema": one, "examples": examples},
            "application/cloudevents-batch+json": {"schema": many, "examples": batch},
        },
    }


@takes_body(_EVENTS, _MEDIA_TYPES)
async def record(request: Request, ledger: LedgerId) -> Response:
    """Records one CloudEvent or a list of them. The answer has one result for each, in order.

    `source` + `id` is the idempotency key, so sending again is safe. Recorded events are durable before the answer, and
    every later read includes them. Events of concurrent calls are committed together. If too many events wait, the
    answer is 429 or 503 with `Retry-After`, and nothing of the call is recorded.
    """
    if len(ledger) > MAX_LEDGER_ID:
        raise InvalidValue("no ledger has this id", field="ledger", expected=f"at most {MAX_LEDGER_ID} characters")
    service: Subledger = request.app.state.service
    bodies: Bodies = request.app.state.bodies
    text, caller = await request.body(), caller_of(request)
    try:
        single, inputs = await bodies.decode(text, _read)
    except InvalidJson as error:
        keep_unread = partial(service.rejected.keep_unread, ledger, error, text, sender=caller, way=WAY)
        await service.rejected.in_turn(keep_unread)
        raise
    except TooLarge as error:
        await _count_unread(request, error)
        raise
    if not inputs:
        await run_in_threadpool(_must_exist, service, ledger)
    outcomes = await service.gatherer.hand_in(ledger, inputs, by=caller)
    if any(outcome.status == REJECTED for outcome in outcomes):  # they are stored before the answer
        keep = partial(_store_rejected, service, ledger, outcomes, text, caller, single=single)
        outcomes = await service.rejected.in_turn(keep)
    answer = {"results": [answers.outcome(outcome) for outcome in outcomes]}
    return Response(orjson.dumps(answer), _status(outcomes, single), media_type="application/json")


async def _count_unread(request: Request, error: InvalidInput) -> None:
    service: Subledger = request.app.state.service
    ledger, sender = request.path_params["ledger"], caller_of(request)
    await service.rejected.in_turn(partial(service.rejected.count_unread, ledger, error, sender=sender))


class _DirectRoute(GuardedRoute):
    """A route whose endpoint takes the request object, with its body read.

    FastAPI needs more time to resolve parameters and dependencies than the ledger needs to record an event. The
    signature is only for the OpenAPI document.
    """

    async def not_taken_in(self, request: Request, error: InvalidInput) -> None:
        await _count_unread(request, error)

    def answering(self) -> Handler:
        async def handle(request: Request) -> Response:
            response: Response = await self.endpoint(request, request.path_params["ledger"])
            return response

        return handle


def recording_route() -> APIRoute:
    """The route of ``record``. It is the first route of the application, because it is called most."""
    return _DirectRoute(
        "/v1/ledgers/{ledger}/events",
        record,
        methods=["POST"],
        dependencies=[needs(Access.WRITER)],
        tags=["events"],
        response_model=None,
        openapi_extra={"requestBody": _request_body()},
        responses={
            202: {"description": "The one event waits for a second person: see /approvals"},
            207: {"description": "Some events are rejected or wait, the others are recorded"},
            409: {"description": "The one event conflicts: same key, other content"},
            413: {"description": "More bytes or events than a request may have"},
            422: {"description": "The one event is rejected"},
            429: {"description": "Too much waits for this ledger; nothing of the call was recorded, see Retry-After"},
            503: {"description": "The database does not answer, or the server is stopping; see Retry-After"},
        },
    )


def _read(text: bytes) -> tuple[bool, list[Input]]:
    """Reads a body. Returns its events, with True before them if it is a single event."""
    body = read_json(text, _EVENTS, loads_each)
    if not isinstance(body, list):
        return True, read_inputs([body])
    if len(body) > MAX_EVENTS:
        raise TooLarge(
            f"a request has at most {MAX_EVENTS} events; send several",
            field="body",
            expected=f"at most {MAX_EVENTS} events",
            found=str(len(body)),
        )
    return False, read_inputs(body)


def _store_rejected(
    service: Subledger, ledger: str, outcomes: list[Outcome], text: bytes, caller: str, *, single: bool
) -> list[Outcome]:
    """Stores the rejected events, each with its text from the body. Returns the outcomes."""
    texts = [text.strip()] if single else texts_of(text)
    return service.rejected.keep(ledger, outcomes, texts.__getitem__, sender=caller, way=WAY)


def _must_exist(service: Subledger, ledger: str) -> None:
    with service.database.read() as connection:
        ledger_head(connection, ledger)


def _status(outcomes: list[Outcome], single: bool) -> int:
    rejected = [outcome for outcome in outcomes if outcome.status == REJECTED]
    waiting = any(outcome.status == WAITING for outcome in outcomes)
    if not rejected:
        return 200 if not waiting else 202 if single else 207
    if single:
        return 409 if isinstance(rejected[0].error, EventConflict) else 422
    return 207


EVERY_TYPE = (*EVENT_TYPES, *RESERVED_TYPES)
"""Values of ``type``: the event types of the contract, and those that only the ledger itself records."""
Position = Annotated[int, Path(ge=1, le=2**62)]


@router.get("/events", dependencies=[needs(Access.READER)])
def page(
    service: Service,
    ledger: LedgerId,
    customer: Text = None,
    block: Text = None,
    type: Text = None,
    after: Annotated[int | None, Query(ge=0, le=2**62, description="events after this position")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Recorded events in full, oldest first."""
    if type is not None and type not in EVERY_TYPE:
        raise InvalidValue(
            f"{visible(type)} is not an event type{did_you_mean(type, EVERY_TYPE)}",
            field="type",
            expected=", ".join(EVERY_TYPE),
            found=visible(type),
        )
    start = (answers.decode_cursor(cursor, (int,)) or [after or 0])[0]
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
        rules = rules_of(service.database, connection, ledger)
        found = events_page(connection, ledger, customer=customer, block=block, type=type, after=start, limit=limit)
        reasons = reasons_of(connection, ledger, [stored.row.position for stored in found])
    items = [event_answers.event(stored, rules, functional_currency, reasons) for stored in found]
    return answers.page(items, [items[-1]["position"]] if len(items) == limit else None)


@router.get("/events/{position}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId, position: Position) -> dict[str, Any]:
    """One recorded event: as received, its decision, its entries, its leaf hash."""
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
        rules = rules_of(service.database, connection, ledger)
        found = event_at(connection, ledger, position)
        reasons = reasons_of(connection, ledger, [position])
    return event_answers.event(found, rules, functional_currency, reasons)


@router.get("/events/{position}/proof", dependencies=[needs(Access.READER)])
def proof(service: Service, ledger: LedgerId, position: Position) -> dict[str, Any]:
    """The path from an event's leaf to the root of the ledger's Merkle tree (RFC 6962)."""
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        leaf, path = inclusion(connection, ledger, position, head.position, head.root)
    return {
        "ledger": ledger,
        "position": position,
        "leaf_index": position - 1,
        "tree_size": head.position,
        "leaf": leaf.hex(),
        "path": [sibling.hex() for sibling in path],
        "root": head.root.hex(),
    }


@router.get(
    "/checkpoint",
    dependencies=[needs(Access.READER)],
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": "subledger/acme\n12\n…base64 root…\n\n— subledger …\n"}}}},
)
def checkpoint(
    service: Service,
    ledger: LedgerId,
    size: Annotated[int | None, Query(ge=1, le=2**62, description="The size at which it was signed")] = None,
) -> Response:
    """A signed tree head as a C2SP checkpoint: origin, size, root, signature. By default it is for the whole log."""
    database = service.database
    signed = checkpoint_of(database, ledger) if size is None else earlier_checkpoint(database, ledger, size)
    public = signed.public_key
    headers = {} if public is None else {"X-Public-Key": base64.b64encode(public).decode()}
    return PlainTextResponse(signed.text, headers=headers)


@router.get("/consistency", dependencies=[needs(Access.READER)])
def consistency_proof(
    service: Service,
    ledger: LedgerId,
    from_: Annotated[int, Query(alias="from", ge=1, le=2**62, description="The size of the earlier tree")],
    to: Annotated[
        int | None, Query(ge=1, le=2**62, description="The size of the later tree; default the whole log")
    ] = None,
) -> dict[str, Any]:
    """The consistency proof between two sizes of the log (RFC 6962, 2.1.2).

    It proves that the events of an earlier checkpoint are unchanged, and that later events were only added.
    """
    return consistency(service.database, ledger, from_, to)
