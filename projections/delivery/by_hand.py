"""Acts of a person on deliveries: retrying a dead letter, taking one out, tying out a month.

Each act is a step of the delivery, with its user and reason. Owns: the acts that each state allows. Does not own: the
outbox.
"""

from __future__ import annotations

from typing import Final

from projections.delivery.deliveries import COLUMNS, Delivery, delivery_of, get_delivery, list_deliveries
from projections.delivery.outbox import ADD_STEP, check_delivered_one_way
from projections.delivery.states import DEAD, WORKED_ON, State, check_step
from projections.delivery.tie_out import TieOut
from subledger.errors import DeliveryInHand, present
from subledger.store.database import Database, WriteConnection

ASKED_FOR: Final = "asked for"
"""The reason of a retry for which none is given."""

TAKE: Final = f"""
-- Locks a delivery for an act of a person, unless a worker has claimed it.
SELECT {COLUMNS} FROM deliveries
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s
  AND (claimed_until IS NULL OR claimed_until <= now()) FOR UPDATE
"""
DECIDE: Final = f"""
UPDATE deliveries
SET state = %(state)s, reason = %(reason)s, steps = steps + 1, attempts = 0, looks = 0, changed_at = now(),
    due_at = now() + make_interval(secs => %(due_s)s), claim = NULL, claimed_until = NULL
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s
RETURNING {COLUMNS}
"""


def retry(database: Database, ledger: str, delivery_id: str, *, by: str, reason: str = ASKED_FOR) -> Delivery:
    """Retries a dead letter. Raises UnknownDelivery, DeliveryInHand, DeliveredOtherwise.

    If the target may have it, it is looked up before it is sent.
    """
    with database.write() as connection:
        delivery = _taken(connection, ledger, delivery_id)
        if delivery.state not in DEAD:
            raise DeliveryInHand(
                f"delivery {delivery_id} is {delivery.state}: only a dead letter can be retried",
                field="state",
                expected=", ".join(sorted(DEAD)),
                found=delivery.state,
            )
        state = State.BUILT if delivery.payload_hash is None else State.RENDERED
        if delivery.state is State.ABANDONED and delivery.submitted_at is not None:
            state = State.UNKNOWN  # The target may have it: it may have been on its way when a person took it out.
        # Since a person took it out, its journal may have gone to the same general ledger another way. Two deliveries
        # of one journal would be posted twice.
        if delivery.state is State.ABANDONED:
            parameters = {
                name: getattr(delivery, name) for name in ("ledger", "destination", "number", "export_id", "channel")
            }
            check_delivered_one_way(connection, {**parameters, "period": str(delivery.period)})
        return _decided(connection, delivery, state, reason, by)


def abandon(database: Database, ledger: str, delivery_id: str, *, by: str, reason: str) -> Delivery:
    """Takes a delivery out: nothing more is done for it, and its journal may go another way.

    A posted delivery can be taken out too, for example if it went to a sandbox. Raises UnknownDelivery, DeliveryInHand.
    """
    with database.write() as connection:
        delivery = _taken(connection, ledger, delivery_id)
        # A submitted delivery is not taken out: nobody knows yet if the target has it, and its journal could be sent a
        # second time, another way.
        if delivery.state in (State.SUBMITTED, State.RECONCILED, State.ABANDONED):
            raise DeliveryInHand(
                f"delivery {delivery_id} is {delivery.state}",
                field="state",
                found=delivery.state,
                expected="one that is not on its way just now, and not reconciled",
            )
        return _decided(connection, delivery, State.ABANDONED, reason, by)


def reconcile(database: Database, ledger: str, found: TieOut, destination: str, *, by: str) -> list[Delivery]:
    """Marks the posted deliveries of a month as reconciled if the tie-out proves the month.

    Each month is proved by itself: differences in another month do not count. Only a comparison of all accounts proves.
    """
    reason = "a tie-out of its month found no difference"
    with database.write() as connection:
        return [
            _decided(connection, delivery, State.RECONCILED, reason, by)
            for period in found.months_proved
            for delivery in list_deliveries(connection, ledger, period=period, states=(State.POSTED,))
            if delivery.destination == destination
        ]


def _taken(connection: WriteConnection, ledger: str, delivery_id: str) -> Delivery:
    key = {"ledger": ledger, "delivery_id": delivery_id}
    get_delivery(connection, ledger, delivery_id)  # raises UnknownDelivery: TAKE cannot tell it from a claimed one
    found = connection.execute(TAKE, key).fetchone()
    if found is None:
        raise DeliveryInHand(f"a worker is processing delivery {delivery_id}; try again in a minute")
    return delivery_of(found)


def _decided(connection: WriteConnection, delivery: Delivery, state: State, reason: str, by: str) -> Delivery:
    check_step(delivery.state, state)
    parameters = {"ledger": delivery.ledger, "delivery_id": delivery.delivery_id, "state": state, "reason": reason}
    found = connection.execute(DECIDE, {**parameters, "due_s": 0.0 if state in WORKED_ON else None}).fetchone()
    moved = delivery_of(present(found, f"delivery {delivery.delivery_id} is locked and cannot be changed"))
    connection.execute(ADD_STEP, {**parameters, "step": moved.steps, "by": by, "exchanges": None, "erp_id": None})
    return moved
