"""Approval requests: one person makes a request, another person approves or refuses it.

Owns: the table ``approvals``, which is not part of the log. An approved request is recorded as an event, with both
names in its decision. A waiting or refused request has no effect on the books.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.errors import ApprovalDecided, IntegrityFault, PersonRequired, SamePerson, UnknownApproval
from subledger.event_effect import EventEffect
from subledger.events.envelope import Event, stored_event
from subledger.persons import is_somebody, same_person
from subledger.store.database import WriteConnection
from subledger.store.tallies import count_one
from subledger.wallet import Approval

WAITING, APPROVED, REFUSED, RECORDED = "waiting", "approved", "refused", "recorded"
"""``recorded``: the event was recorded without a second person, because the ledger no longer required one."""

MakersFor = Callable[[WriteConnection, str, datetime], Sequence[str]]
"""Returns all persons who could act under a name at a moment: the creators of a key of that name, and the creators of
their keys.
"""


def no_makers(connection: WriteConnection, name: str, at: datetime) -> Sequence[str]:  # noqa: ARG001 - a MakersFor
    """Returns no makers, for callers without keys."""
    return ()


_COLUMNS: Final = """approval_id, reason, source, event_id, type, customer, occurred_at, data, attributes, maker,
       requested_at, state, checker, decided_at, note, effect"""
FIND_REQUESTS: Final = f"""
-- The requests for these events.
SELECT {_COLUMNS} FROM unnest(%b::text[], %b::text[]) AS wanted (wanted_source, wanted_id)
JOIN approvals a ON a.ledger = %s AND a.source = wanted_source AND a.event_id = wanted_id
"""
HAS_WAITING: Final = "SELECT EXISTS (SELECT FROM approvals WHERE ledger = %s AND state = 'waiting')"
FIND_ONE: Final = f"""
-- One request, and True if its row is unchanged since it was written.
SELECT {_COLUMNS}, seal = row_seal(to_jsonb(a) - 'seal') FROM approvals a WHERE ledger = %s AND approval_id = %s
"""
ADD: Final = """
INSERT INTO approvals (ledger, approval_id, reason, source, event_id, type, customer, occurred_at, data, attributes,
                       maker, requested_at, effect, state)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'waiting')
"""
DECIDE: Final = """
-- Stores a decision, which is final. An approved request becomes an event.
UPDATE approvals SET state = %s, checker = %s, decided_at = %s, note = %s
WHERE ledger = %s AND approval_id = %s AND state = 'waiting'
"""
READ_ONE: Final = f"SELECT {_COLUMNS} FROM approvals WHERE ledger = :ledger AND approval_id = :id"
PAGE: Final = f"""
-- Requests, in order of their moment and id.
SELECT {_COLUMNS} FROM approvals
WHERE ledger = :ledger AND (CAST(:state AS text) IS NULL OR state = :state) AND (requested_at, approval_id) > (:at, :id)
ORDER BY requested_at, approval_id LIMIT :limit
"""


_effect: Final = msgspec.json.Decoder(EventEffect).decode


class ApprovalRequest(msgspec.Struct, frozen=True):
    """A request for the approval of a second person, with the effect of its event at the time of the request.

    ``effect_text`` is absent from requests of versions that did not measure effects.
    """

    approval_id: str
    reason: str
    source: str
    event_id: str
    type: str
    customer: str | None
    occurred_at: datetime
    data_text: str
    attributes_text: str | None
    maker: str
    requested_at: datetime
    state: str
    checker: str | None
    decided_at: datetime | None
    note: str | None
    effect_text: str | None

    @property
    def effect(self) -> EventEffect | None:
        return None if self.effect_text is None else _effect(self.effect_text)

    @property
    def event(self) -> Event:
        return stored_event(
            source=self.source,
            event_id=self.event_id,
            type=self.type,
            customer=self.customer,
            occurred_at=self.occurred_at,
            data_text=self.data_text,
            attributes_text=self.attributes_text,
        )


def approval_id_of(event: Event) -> str:
    """Returns the id of the request for an event. The same event always has the same id."""
    return "apr-" + hashlib.sha256(f"{event.source}\x00{event.event_id}".encode()).hexdigest()[:20]


def find_requests(
    connection: WriteConnection, ledger: str, keys: set[tuple[str, str]]
) -> dict[tuple[str, str], ApprovalRequest]:
    """Finds the requests under some keys of events."""
    sources, ids = [source for source, _ in keys], [event_id for _, event_id in keys]
    rows = [ApprovalRequest(*row) for row in connection.execute(FIND_REQUESTS, (sources, ids, ledger))]
    return {(request.source, request.event_id): request for request in rows}


def has_waiting(connection: WriteConnection, ledger: str) -> bool:
    """Returns True if a request of the ledger waits."""
    row = connection.execute(HAS_WAITING, (ledger,)).fetchone()
    return row is not None and bool(row[0])


def ask(
    connection: WriteConnection, ledger: str, event: Event, reason: str, effect: EventEffect, maker: str, at: datetime
) -> None:
    """Stores an event that waits for approval."""
    connection.execute(
        ADD,
        (
            ledger,
            approval_id_of(event),
            reason,
            event.source,
            event.event_id,
            event.type,
            event.customer,
            event.occurred_at,
            event.data_text,
            event.attributes_text,
            maker,
            at,
            msgspec.json.encode(effect, order="sorted").decode(),
        ),
    )
    count_one(connection, ledger, "approvals")


def decidable(
    connection: WriteConnection,
    ledger: str,
    approval_id: str,
    checker: str,
    *,
    allow: bool,
    made_by: Sequence[str] = (),
    makers_for: MakersFor = no_makers,
) -> tuple[ApprovalRequest, Approval]:
    """Returns a waiting request, and its approval with both names.

    ``made_by``: the makers of the checker's key. Each of them may be the caller. ``makers_for`` finds the makers of the
    keys with which the request could have been made. Each of them may be the requester. A request without a requester's
    name can only be refused, because the approver may have made it. Raises UnknownApproval, ApprovalDecided,
    PersonRequired, SamePerson.
    """
    row = connection.execute(FIND_ONE, (ledger, approval_id)).fetchone()
    if row is None:
        raise _unknown(approval_id)
    *columns, is_sealed = row
    if not is_sealed:
        raise IntegrityFault(
            f"the row of request {approval_id} was changed after it was requested, so it can be neither approved nor "
            "refused; run `subledger verify`, and send the event again under another id",
            approval=approval_id,
        )
    request = ApprovalRequest(*columns)
    if request.state != WAITING:
        raise decided(approval_id, request.state, f"by {request.checker}" if request.checker else request.note or "")
    require_name(checker)
    if not is_somebody(request.maker):
        if allow:
            raise SamePerson(
                f"{approval_id} was requested without a name, so that nobody can be the second person; refuse it, and "
                "send the event again under another id and with a name",
                field="by",
                expected="a request by a named person",
                found=request.maker,
            )
    elif same_person(request.maker, checker):
        raise SamePerson(
            f"{checker} made request {approval_id}; another person must decide about it",
            field="by",
            expected=f"somebody other than {request.maker}",
            found=checker,
        )
    elif any(is_somebody(name) and same_person(request.maker, name) for name in made_by):
        raise SamePerson(
            f"{request.maker} made request {approval_id} and created the key of {checker}, directly or through another "
            f"key; another person must decide, with a key that {request.maker} did not create",
            field="by",
            expected=f"a key that {request.maker} did not make",
            found=checker,
        )
    elif any(
        same_person(name, checker)
        for name in makers_for(connection, request.maker, request.requested_at)
        if is_somebody(name)
    ):
        raise SamePerson(
            f"{checker} created the key of {request.maker}, who made request {approval_id}, directly or through another"
            " key; another person must decide",
            field="by",
            expected=f"somebody who made no key of {request.maker}",
            found=checker,
        )
    return request, Approval(approval_id=approval_id, maker=request.maker, checker=checker)


def decided(approval_id: str, state: str, how: str) -> ApprovalDecided:
    """Returns the error for a request that no longer waits, with its state and the way in which it was settled."""
    return ApprovalDecided(
        f"{approval_id} was {state} {how}", field="approval", expected="something that waits", found=state
    )


def require_name(by: str) -> None:
    """Raises PersonRequired for a call without a person's name."""
    if not is_somebody(by):
        raise PersonRequired(
            "a second person is required, so the requester and the second person both need a name: call with a key "
            "(`subledger keys create --name NAME`), or use --by on the command line",
            field="by",
            expected="a person's name",
            found=by,
        )


def settle(
    connection: WriteConnection, ledger: str, approval: Approval, state: str, at: datetime, note: str | None = None
) -> None:
    """Stores the outcome of a request."""
    connection.execute(DECIDE, (state, approval.checker, at, note, ledger, approval.approval_id))


def settle_recorded(connection: WriteConnection, ledger: str, event: Event, position: int, at: datetime) -> str:
    """Settles the request for an event that is recorded without a second person. Returns the way of settling, in
    words.
    """
    how = f"at position {position} without a second person, as the ledger asked for none any more"
    connection.execute(DECIDE, (RECORDED, None, at, how, ledger, approval_id_of(event)))
    return how


def read_request(connection: sa.Connection, ledger: str, approval_id: str) -> ApprovalRequest:
    """Returns one request. Raises UnknownApproval."""
    row = connection.execute(sa.text(READ_ONE), {"ledger": ledger, "id": approval_id}).one_or_none()
    if row is None:
        raise _unknown(approval_id)
    return ApprovalRequest(*row)


def _unknown(approval_id: str) -> UnknownApproval:
    return UnknownApproval(f"there is no request {approval_id}", field="approval", found=approval_id)


def approvals_page(
    connection: sa.Connection, ledger: str, *, state: str | None, after: tuple[datetime, str], limit: int
) -> Sequence[ApprovalRequest]:
    """Returns requests after a (moment, id), oldest first."""
    parameters: dict[str, Any] = {"ledger": ledger, "state": state, "at": after[0], "id": after[1], "limit": limit}
    return [ApprovalRequest(*row) for row in connection.execute(sa.text(PAGE), parameters)]
