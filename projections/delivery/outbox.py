"""Commands on the outbox: adding deliveries, claiming one, and moving it, with a step for each move.

A worker claims a delivery for some time, and may move it only under its own claim. So two workers never work on the
same delivery, and a worker that died loses it. Each move writes a step, with the calls and their answers, in the same
commit.

Owns: writing the tables ``deliveries`` and ``delivery_steps``. Does not own: reading them (deliveries), the way of a
delivery (sending).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from projections.delivery.channels import Channel
from projections.delivery.deliveries import COLUMNS, Delivery, delivery_of, list_deliveries
from projections.delivery.states import State, check_step
from projections.exports.exporting import export
from projections.exports.exports import Export, document_set_of
from subledger.errors import DeliveredOtherwise, IntegrityFault, present
from subledger.external.calls import Exchange
from subledger.periods import Period
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tallies import count_one
from subledger.store.writing.recorder import Recorder


class ClaimLost(Exception):
    """Another worker has claimed the delivery meanwhile. Its look-up will find the result of this worker's calls."""


HOLD_JOURNAL: Final = """
-- Makes two callers that add the journal in two formats come one after the other.
SELECT 1 FROM journals WHERE ledger = %(ledger)s AND period = %(period)s AND number = %(number)s FOR UPDATE
"""
OTHERWISE: Final = """
-- Deliveries of the same journal to the same general ledger that belong to another export or another channel.
SELECT delivery_id, export_id FROM deliveries
WHERE ledger = %(ledger)s AND destination = %(destination)s AND period = %(period)s AND number = %(number)s
  AND (export_id <> %(export_id)s OR channel <> %(channel)s) AND state <> 'abandoned'
LIMIT 1
"""
STILL_ARRIVING: Final = """
-- The moment until which a submission of the journal may still arrive, if its delivery was taken out meanwhile.
SELECT max(submitted_at) + make_interval(secs => %(settle_s)s) FROM deliveries
WHERE ledger = %(ledger)s AND destination = %(destination)s AND period = %(period)s AND number = %(number)s
  AND state = 'abandoned'
"""
ADD_DELIVERY: Final = """
INSERT INTO deliveries (ledger, delivery_id, channel, destination, export_id, period, number, part, name, reference,
                        state, attempts, looks, steps, due_at, created_at, changed_at)
VALUES (%(ledger)s, %(delivery_id)s, %(channel)s, %(destination)s, %(export_id)s, %(period)s, %(number)s, %(part)s,
        %(name)s, %(reference)s, 'built', 0, 0, 1, greatest(now(), %(not_before)s::timestamptz), now(), now())
ON CONFLICT DO NOTHING
RETURNING delivery_id
"""
ADD_STEP: Final = """
INSERT INTO delivery_steps (ledger, delivery_id, step, at, state, reason, by, exchanges, erp_id)
VALUES (%(ledger)s, %(delivery_id)s, %(step)s, now(), %(state)s, %(reason)s, %(by)s, %(exchanges)s, %(erp_id)s)
"""
DUE: Final = """
-- The first delivery of a channel that was due by a moment and that no worker has claimed.
SELECT delivery_id FROM deliveries
WHERE ledger = %(ledger)s AND channel = %(channel)s AND destination = %(destination)s AND due_at <= %(due_by)s
  AND (claimed_until IS NULL OR claimed_until <= now())
ORDER BY due_at, period, number, part LIMIT 1 FOR UPDATE SKIP LOCKED
"""
CLAIM: Final = f"""
UPDATE deliveries SET claim = %(claim)s, claimed_until = now() + make_interval(secs => %(lease_s)s)
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s
RETURNING {COLUMNS}, now()
"""
NEXT_DUE: Final = """
-- The next time at which a delivery of a channel is due and not claimed, and the seconds until then.
SELECT min(greatest(due_at, coalesce(claimed_until, due_at))),
       extract(epoch FROM min(greatest(due_at, coalesce(claimed_until, due_at))) - now()) FROM deliveries
WHERE ledger = %(ledger)s AND channel = %(channel)s AND destination = %(destination)s AND due_at IS NOT NULL
"""
MOVE: Final = f"""
-- Changes a delivery for the worker that has claimed it. Seconds are from now; NULL for none.
UPDATE deliveries
SET state = %(state)s, attempts = %(attempts)s, looks = %(looks)s, steps = steps + 1, reason = %(reason)s,
    due_at = now() + make_interval(secs => %(wait_s)s), erp_id = coalesce(%(erp_id)s, erp_id),
    claim = CASE WHEN %(keep)s THEN claim END, claimed_until = CASE WHEN %(keep)s THEN claimed_until END,
    payload = coalesce(%(payload)s, payload), payload_hash = coalesce(%(payload_hash)s, payload_hash),
    submitted_at = greatest(submitted_at, now() + make_interval(secs => %(submitted_s)s)),
    changed_at = greatest(changed_at, now() + make_interval(secs => %(changed_s)s))
WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s AND claim = %(claim)s
RETURNING {COLUMNS}
"""
COUNT_STEP: Final = f"""
UPDATE deliveries SET steps = steps + 1 WHERE ledger = %(ledger)s AND delivery_id = %(delivery_id)s
RETURNING {COLUMNS}
"""

WORKER: Final = "worker"


def add_period(recorder: Recorder, database: Database, channel: Channel, period: Period, *, by: str) -> list[Delivery]:
    """Exports a period for a channel, and puts all its journals into the outbox.

    If it is called again, only events that were recorded since are added. Raises UnmappedRole, DeliveredOtherwise, and
    the errors of an export.
    """
    exports = export(recorder, database, channel.ledger, period, channel.format.name, by=by)
    return [delivery for exported in exports for delivery in add(database, channel, exported, by=by)]


def add(database: Database, channel: Channel, exported: Export, *, by: str) -> list[Delivery]:
    """Puts an export into the outbox of a channel; a second call adds nothing. Returns its deliveries; none if the
    export is empty.

    Raises DeliveredOtherwise if the journal is on its way to this general ledger in another export.
    """
    parameters = {
        "ledger": channel.ledger,
        "channel": channel.name,
        "destination": channel.destination,
        "export_id": exported.export_id,
        "period": str(exported.period),
        "number": exported.number,
    }
    with database.write() as connection:
        # This check is first, because it locks the journal's row until the commit. Two calls that add the journal in
        # two formats, or by two channels, come one after the other, and the second is refused.
        check_delivered_one_way(connection, parameters)
        not_before = connection.execute(
            STILL_ARRIVING, {**parameters, "settle_s": channel.settings.settle_s}
        ).fetchone()
        parts = _parts(connection, channel, exported)
        for part, name, reference in parts:
            delivery = {**parameters, "delivery_id": f"{channel.name}-{name}", "part": part, "name": name}
            added = connection.execute(
                ADD_DELIVERY, {**delivery, "reference": reference, "not_before": not_before and not_before[0]}
            ).fetchone()
            if added is not None:
                step = {"step": 1, "state": State.BUILT, "reason": None, "by": by, "exchanges": None, "erp_id": None}
                connection.execute(ADD_STEP, {**delivery, **step})
                count_one(connection, channel.ledger, "deliveries")
        # The ids of deliveries are made of names of documents. If two names collided, both documents would be one
        # delivery, and one of them would never be sent.
        found = list_deliveries(connection, channel.ledger, channel=channel.name, export_id=exported.export_id)
        if len(found) != len(parts):
            raise IntegrityFault(
                f"{exported.export_id} has {len(parts)} documents, and {len(found)} of them would be delivered",
                expected=str(len(parts)),
                found=str(len(found)),
            )
        return found


def check_delivered_one_way(connection: WriteConnection, parameters: Mapping[str, Any]) -> None:
    """Locks the journal. Checks that no other format and no other channel brings it to the same general ledger.

    Raises DeliveredOtherwise.
    """
    connection.execute(HOLD_JOURNAL, parameters)
    other = connection.execute(OTHERWISE, parameters).fetchone()
    if other is not None:
        journal = f"journal {parameters['period']} no. {parameters['number']}"
        raise DeliveredOtherwise(
            f"{journal} is on its way to {parameters['destination']} already: {other[0]}",
            expected=other[1],
            found=parameters["export_id"],
            delivery=other[0],
        )


def _parts(connection: AnyConnection, channel: Channel, export: Export) -> list[tuple[int, str, str]]:
    """Returns the parts that are delivered one by one: part, name and reference."""
    posted = document_set_of(connection, export)
    if posted is not None and not posted.documents:
        return []
    if channel.connector.by_document and posted is not None:
        places = enumerate(posted.documents, start=1)
        return [(part, document.name, document.reference) for part, document in places]
    return [(0, export.export_id, export.filename)]


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed delivery, its claim, and the time by the database's clock, which is the only clock that counts."""

    delivery: Delivery
    claim: str
    now: datetime


def claim(database: Database, channel: Channel, *, due_by: datetime, lease_s: float) -> Claimed | None:
    """Claims a delivery that was due by a moment; None if there is none.

    Only deliveries for the channel's current destination are claimed. Others stay as they are.
    """
    token = secrets.token_hex(8)
    parameters = {
        "ledger": channel.ledger,
        "channel": channel.name,
        "destination": channel.destination,
        "claim": token,
        "due_by": due_by,
        "lease_s": lease_s,
    }
    with database.write() as connection:
        due = connection.execute(DUE, parameters).fetchone()
        if due is None:
            return None
        found = connection.execute(CLAIM, {**parameters, "delivery_id": due[0]}).fetchone()
    found = present(found, f"delivery {due[0]} is locked and cannot be claimed")
    return Claimed(delivery=delivery_of(found[:-1]), claim=token, now=found[-1])


def next_due(connection: AnyConnection, channel: Channel) -> tuple[datetime, float] | None:
    """Returns the next time at which a delivery of a channel is due, and the seconds until then; None if none will be
    due.
    """
    parameters = {"ledger": channel.ledger, "channel": channel.name, "destination": channel.destination}
    [(due, wait_s)] = rows(connection, NEXT_DUE, parameters)
    return None if due is None else (due, float(wait_s))


def move(
    database: Database,
    delivery: Delivery,
    claim_token: str,
    state: State,
    *,
    wait_s: float | None,
    reason: str | None = None,
    exchanges: Sequence[Exchange] = (),
    erp_id: str | None = None,
    payload: bytes | None = None,
    payload_hash: str | None = None,
    attempts: int | None = None,
    keep: bool = False,
    by: str = WORKER,
) -> Delivery:
    """Moves a claimed delivery to a state, with a step.

    ``wait_s``: seconds until it is due again; None for never. ``keep``: keeps the claim for this worker's next step.
    The delivery is due at once then, so that another worker continues if this one dies.

    Raises ClaimLost.
    """
    check_step(delivery.state, state)
    # While a claim is kept the delivery is due at once. No other worker takes it before the claim ends. If this worker
    # dies, the next one takes it up after that end; otherwise nobody ever would.
    wait_s = 0.0 if keep else wait_s
    key = {"ledger": delivery.ledger, "delivery_id": delivery.delivery_id}
    with database.write() as connection:
        found = connection.execute(
            MOVE,
            {
                **key,
                "claim": claim_token,
                "state": state,
                "wait_s": wait_s,
                "reason": reason,
                "keep": keep,
                "attempts": delivery.attempts if attempts is None else attempts,
                "erp_id": erp_id,
                "looks": delivery.looks + 1 if state is delivery.state else 0,
                "submitted_s": 0.0 if state is State.SUBMITTED else None,
                "changed_s": None if state is delivery.state else 0.0,
                "payload": payload,
                "payload_hash": payload_hash,
            },
        ).fetchone()
        # MOVE changes the row only under its own claim. If it returns no row, another worker has claimed the delivery
        # meanwhile. The state of that worker stands. This worker's calls are added as a step, because the target has
        # seen them.
        late = found is None
        if found is None:
            counted = connection.execute(COUNT_STEP, key).fetchone()
            found = present(counted, f"delivery {delivery.delivery_id} is gone; deliveries are never deleted")
            reason = "called by a worker that had lost it to another by then"
        moved = delivery_of(found)
        exchanges_text = msgspec.json.encode(list(exchanges)).decode() if exchanges else None
        step = {"step": moved.steps, "state": moved.state, "reason": reason, "by": by, "exchanges": exchanges_text}
        connection.execute(ADD_STEP, {**key, **step, "erp_id": None if late else erp_id})
    if late:
        raise ClaimLost(delivery.delivery_id)
    return moved
