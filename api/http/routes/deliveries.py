"""Routes of delivery: channels to general ledgers, and the deliveries on their way."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.http.routes.dependencies import Caller, ChannelName, Cursor, LedgerId, Limit, Service, needs
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import deliveries as delivery_answers
from projections.delivery import by_hand, channels, deliveries
from projections.delivery.states import State
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}", tags=["delivery"])

DeliveryId = Annotated[
    str, Path(description="The delivery", examples=["netsuite-acme-2026-01-1"], pattern=r"^[^\x00]+$")
]
_EXAMPLE = {
    "connector": "netsuite", "url": "https://1234567.suitetalk.api.netsuite.com", "client_id": "…",
    "certificate_id": "…", "private_key": "env:NETSUITE_KEY",
}  # fmt: skip


class NewDeliveries(BaseModel):
    """A period to deliver, through one channel or all of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    period: str
    channel: str | None = Field(default=None, pattern=r"^[^\x00]+$")


class Because(BaseModel):
    """The reason, which is stored with the step."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")


@router.get("/channels", dependencies=[needs(Access.READER)])
def every_channel(
    service: Service,
    ledger: LedgerId,
    dropped: Annotated[bool, Query(description="Only dropped channels, with the user who dropped each")] = False,
) -> dict[str, Any]:
    """The channels of a ledger. Credentials are shown by name, never by value."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        if dropped:
            dropped_ones = channels.dropped_channels(connection, ledger)
            return answers.page([delivery_answers.dropped_channel(channel) for channel in dropped_ones], None)
        found = channels.list_channels(connection, ledger)
    return answers.page([delivery_answers.channel(channel) for channel in found], None)


@router.get("/channels/{channel}", dependencies=[needs(Access.READER)])
def one_channel(service: Service, ledger: LedgerId, channel: ChannelName) -> dict[str, Any]:
    """One channel."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return delivery_answers.channel(channels.get_channel(connection, ledger, channel))


@router.put("/channels/{channel}", dependencies=[needs(Access.ADMIN)])
def set_channel(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    channel: ChannelName,
    body: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])],
) -> dict[str, Any]:
    """Creates or changes a channel. A credential is a name (`env:NAME`, `file:/path`) on the machine of the worker."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    return delivery_answers.channel(channels.set_channel(service.database, ledger, channel, body, by=caller))


@router.delete("/channels/{channel}", status_code=204, dependencies=[needs(Access.ADMIN)])
def drop_channel(service: Service, caller: Caller, ledger: LedgerId, channel: ChannelName) -> None:
    """Drops a channel that has delivered nothing. The list with `dropped` shows who dropped it."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    channels.drop_channel(service.database, ledger, channel, by=caller)


@router.post("/deliveries", status_code=202, dependencies=[needs(Access.CONTROLLER)])
def deliver(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    body: Annotated[NewDeliveries, Body(examples=[{"period": "2026-01"}])],
) -> dict[str, Any]:
    """Exports a period and queues its journals; a worker delivers them. A repeated call adds only new journals."""
    found = service.deliver(ledger, Period.parse(body.period), channel=body.channel, by=caller)
    return answers.page([delivery_answers.delivery(delivery) for delivery in found], None)


@router.get("/deliveries", dependencies=[needs(Access.READER)])
def every(
    service: Service,
    ledger: LedgerId,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[list[State] | None, Query(description="Only in one of these states")] = None,
    channel: Annotated[str | None, Query(max_length=60, pattern=r"^[^\x00]+$")] = None,
    period: str | None = None,
) -> dict[str, Any]:
    """Deliveries in order of id."""
    after = (answers.decode_cursor(cursor, (str,)) or [""])[0]
    month = None if period is None else Period.parse(period)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = deliveries.list_deliveries(
            connection, ledger, channel=channel, period=month, states=state, after=after, limit=limit
        )
    items = [delivery_answers.delivery(delivery) for delivery in found]
    return answers.page(items, [items[-1]["id"]] if len(items) == limit else None)


@router.get("/deliveries/{delivery_id}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId, delivery_id: DeliveryId) -> dict[str, Any]:
    """A delivery with its steps, and with every call and its answer."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = deliveries.get_delivery(connection, ledger, delivery_id)
        steps = [delivery_answers.step(step) for step in deliveries.steps_of(connection, found)]
    return {**delivery_answers.delivery(found), "steps": steps}


@router.post("/deliveries/{delivery_id}/retry", status_code=202, dependencies=[needs(Access.CONTROLLER)])
def retry(service: Service, caller: Caller, ledger: LedgerId, delivery_id: DeliveryId, body: Because) -> dict[str, Any]:
    """Retries a dead letter. It is looked up before it is sent."""
    found = by_hand.retry(service.database, ledger, delivery_id, by=caller, reason=body.reason)
    service.wake(found)
    return delivery_answers.delivery(found)


@router.post("/deliveries/{delivery_id}/abandon", dependencies=[needs(Access.CONTROLLER)])
def abandon(
    service: Service, caller: Caller, ledger: LedgerId, delivery_id: DeliveryId, body: Because
) -> dict[str, Any]:
    """Takes a delivery out: nothing more is done for it, and its journal may go another way."""
    found = by_hand.abandon(service.database, ledger, delivery_id, by=caller, reason=body.reason)
    return delivery_answers.delivery(found)
