"""Reading deliveries, with every step of each.

Owns: reading the tables ``deliveries`` and ``delivery_steps``. Does not own: writing them (outbox).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from projections.delivery.states import State
from subledger.errors import UnknownDelivery
from subledger.external.calls import Exchange
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a journal, or its file (``part`` 0), on its way into a general ledger.

    ``attempts``: submissions that certainly failed. ``looks``: look-ups since the state last changed. ``due_at``: the
    time of the next step; None if no step follows until a person requests one. ``erp_id``: the target's id for it.
    """

    ledger: str
    delivery_id: str
    channel: str
    destination: str
    export_id: str
    period: Period
    number: int
    part: int
    name: str
    reference: str
    state: State
    attempts: int
    looks: int
    steps: int
    due_at: datetime | None
    erp_id: str | None
    reason: str | None
    payload_hash: str | None
    created_at: datetime
    submitted_at: datetime | None
    changed_at: datetime


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Step of a delivery: its new state, the time, the person, the reason, and the calls that were made."""

    step: int
    at: datetime
    state: State
    by: str
    reason: str | None
    exchanges: tuple[Exchange, ...] = ()


COLUMNS: Final = ", ".join(Delivery.__struct_fields__)
FIND_DELIVERY: Final = f"SELECT {COLUMNS} FROM deliveries WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s"
LIST_DELIVERIES: Final = f"""
-- Deliveries of a ledger after one of them, in order of id: all, or of a channel, a period, an export, in some states.
SELECT {COLUMNS} FROM deliveries
WHERE ledger = %(ledger)s AND delivery_id > %(after)s
  AND (%(channel)s::text IS NULL OR channel = %(channel)s) AND (%(period)s::text IS NULL OR period = %(period)s)
  AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
  AND (%(export_id)s::text IS NULL OR export_id = %(export_id)s)
ORDER BY delivery_id LIMIT %(limit)s
"""
REJECTIONS: Final = """
SELECT count(*) FROM delivery_steps
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s AND state = 'rejected'
"""
PAYLOAD: Final = "SELECT payload FROM deliveries WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s"
STEPS: Final = """
SELECT step, at, state, by, reason, exchanges FROM delivery_steps
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s ORDER BY step
"""
_exchanges: Final = msgspec.json.Decoder(tuple[Exchange, ...])


def get_delivery(connection: AnyConnection, ledger: str, delivery_id: str) -> Delivery:
    """Returns a delivery. Raises UnknownDelivery."""
    found = rows(connection, FIND_DELIVERY, {"ledger": ledger, "delivery_id": delivery_id})
    if not found:
        raise UnknownDelivery(
            f"ledger {ledger} has no delivery {delivery_id[:300]}", field="delivery_id", found=delivery_id[:300]
        )
    return delivery_of(found[0])


def list_deliveries(
    connection: AnyConnection,
    ledger: str,
    *,
    channel: str | None = None,
    period: Period | None = None,
    export_id: str | None = None,
    states: Sequence[State] | None = None,
    after: str = "",
    limit: int = 1_000_000,
) -> list[Delivery]:
    """Returns deliveries of a ledger, in order of id, after a given one."""
    parameters = {
        "ledger": ledger,
        "channel": channel,
        "period": None if period is None else str(period),
        "after": after,
        "export_id": export_id,
        "states": None if states is None else [str(state) for state in states],
        "limit": limit,
    }
    return [delivery_of(row) for row in rows(connection, LIST_DELIVERIES, parameters)]


def payload_of(connection: AnyConnection, delivery: Delivery) -> bytes | None:
    """The payload of a document; None for the export's file."""
    found = rows(connection, PAYLOAD, {"ledger": delivery.ledger, "delivery_id": delivery.delivery_id})
    return None if found[0][0] is None else bytes(found[0][0])


def rejections_of(connection: AnyConnection, delivery: Delivery) -> int:
    """Number of rejections of a delivery."""
    found = rows(connection, REJECTIONS, {"ledger": delivery.ledger, "delivery_id": delivery.delivery_id})
    return int(found[0][0])


def steps_of(connection: AnyConnection, delivery: Delivery) -> list[Step]:
    """Returns all steps of a delivery, oldest first."""
    found = rows(connection, STEPS, {"ledger": delivery.ledger, "delivery_id": delivery.delivery_id})
    return [
        Step(
            step=step,
            at=at,
            state=State(state),
            by=by,
            reason=reason,
            exchanges=_exchanges.decode(exchanges) if exchanges else (),
        )
        for step, at, state, by, reason, exchanges in found
    ]


def payload_hash(payload: bytes) -> str:
    """SHA-256 of the bytes that are sent."""
    return hashlib.sha256(payload).hexdigest()


def settled_at(delivery: Delivery, settle_s: float) -> datetime:
    """Returns the moment from which a look-up that finds nothing is proof."""
    return (delivery.submitted_at or delivery.created_at) + timedelta(seconds=settle_s)


def delivery_of(row: Any) -> Delivery:
    """Reads a row with the columns ``COLUMNS``."""
    fields = dict(zip(Delivery.__struct_fields__, row, strict=True))
    fields["state"], fields["period"] = State(fields["state"]), Period.parse(fields["period"])
    return Delivery(**fields)
