"""Stored refused events, and their state.

A row has one of these states:
- ``open``: the initial state; again after another refusal or a reopening;
- ``retried``: an event with its source, id and content was recorded after it;
- ``corrected``: an event with its source and id, but other content, was recorded after it;
- ``dismissed``: a person dismissed it.

The log decides if an event was recorded. ``settled_position`` only notes that such an event was found. Two indexes use
this note to find the open rows without reading the others: ix_rejected_events_open for all of them, and
ix_rejected_events_open_by_code for the first ones of each code.

Owns: reading the tables ``rejected_events`` and ``rejection_steps``. Does not own: writing them (keeper,
dismissals).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.errors import UnknownRejection
from subledger.money import Money
from subledger.store.database import WriteConnection
from subledger.store.tables import REJECTION_KIND

OPEN, RETRIED, CORRECTED, DISMISSED = "open", "retried", "corrected", "dismissed"
STATES: Final = (OPEN, RETRIED, CORRECTED, DISMISSED)
ALL: Final = "all"
"""The word for all states together, over HTTP and on the command line."""

BEYOND: Final = "counted"
"""The value of ``way`` in rows that only count refusals."""
COUNTED_AT_MOST: Final = 200_000
"""The most rejections that are read for a count, beginning with the oldest."""

NOT_DISMISSED: Final = "(r.dismissed_at IS NULL OR greatest(r.last_at, r.reopened_at) > r.dismissed_at)"
UNSETTLED: Final = f"{NOT_DISMISSED} AND coalesce(r.settled_position, 0) <= r.position"
"""The condition of the index ix_rejected_events_open."""
RECORDED_SINCE: Final = "e.source = r.source AND e.event_id = r.event_id AND e.position > r.position"

_KEPT: Final = f"""
-- Rejections beside the event with their key that was recorded after their last refusal, if there is one.
SELECT r.rejection_id, r.content_hash, r.sent, r.sent_bytes, r.source, r.event_id, r.type, r.customer, r.occurred_at,
       r.data_hash, r.amount_minor, r.currency, r.credits, r.unit, r.sender, r.way, r.first_at, r.code, r.problem,
       r.position, r.last_at, r.attempts, r.dismissed_at, r.dismissed_by, r.dismissed_reason,
       e.position AS recorded_position,
       CASE WHEN e.position IS NULL
                 THEN CASE WHEN {NOT_DISMISSED} THEN 'open' ELSE 'dismissed' END
            WHEN e.type = r.type AND e.customer IS NOT DISTINCT FROM r.customer AND e.occurred_at = r.occurred_at
                 AND sha256(convert_to(e.data, 'UTF8')) = r.data_hash THEN 'retried'
            ELSE 'corrected' END AS state"""
_EVENT: Final = f"LEFT JOIN events e ON e.ledger = %(ledger)s AND {RECORDED_SINCE}"
_FOUND: Final = f"{_KEPT}\nFROM rejected_events r {_EVENT}\nWHERE r.ledger = %(ledger)s"
FIND_ONE: Final = _FOUND + " AND r.rejection_id = %(id)s"
_CHOSEN: Final = """
  AND (%(code)s::text IS NULL OR r.code = %(code)s) AND (%(customer)s::text IS NULL OR r.customer = %(customer)s)
  AND (%(source)s::text IS NULL OR r.source = %(source)s)
  AND (%(event_id)s::text IS NULL OR r.event_id = %(event_id)s)
  AND (%(sender)s::text IS NULL OR r.sender = %(sender)s) AND (%(way)s::text IS NULL OR r.way = %(way)s)
  AND (%(since)s::timestamptz IS NULL OR coalesce(r.occurred_at, r.first_at) >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR coalesce(r.occurred_at, r.first_at) < %(until)s)
  AND (%(first_before)s::timestamptz IS NULL OR r.first_at < %(first_before)s)"""


def _chosen_of(state: str | None) -> str:
    """Returns the conditions of a filter. For open rejections, the index has those that are neither dismissed nor noted
    as recorded.
    """
    return f"{_CHOSEN} AND {UNSETTLED}" if state == OPEN else _CHOSEN


def _page(state: str | None) -> str:
    return f"""
-- A page of rejections, in the order of their first refusal.
SELECT * FROM ({_FOUND} {_chosen_of(state)}
  AND (r.first_at, r.rejection_id) > (%(at)s::timestamptz, %(id)s::text)) AS found
WHERE %(state)s::text IS NULL OR found.state = %(state)s
ORDER BY found.first_at, found.rejection_id LIMIT %(limit)s
"""


OLDEST_OF_EACH_CODE: Final = f"""
WITH RECURSIVE kinds (of_code, kind) AS (
    (SELECT r.code, {REJECTION_KIND} FROM rejected_events r
     WHERE r.ledger = %(ledger)s AND {UNSETTLED} ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT following.code, following.kind FROM kinds CROSS JOIN LATERAL (
        SELECT r.code, {REJECTION_KIND} AS kind FROM rejected_events r
        WHERE r.ledger = %(ledger)s AND {UNSETTLED} AND (r.code, {REJECTION_KIND}) > (kinds.of_code, kinds.kind)
        ORDER BY 1, 2 LIMIT 1) AS following
), oldest AS (
    SELECT r.* FROM kinds CROSS JOIN LATERAL (
        SELECT r.* FROM rejected_events r
        WHERE r.ledger = %(ledger)s AND {UNSETTLED} AND r.code = kinds.of_code AND {REJECTION_KIND} = kinds.kind
          AND (%(first_before)s::timestamptz IS NULL OR r.first_at < %(first_before)s)
        ORDER BY r.first_at, r.rejection_id LIMIT %(most)s) AS r
)"""
"""The unsettled rejections of each code and kind. A limit for each of them ensures that one kind cannot hide
another.
"""


def _counted(found: str) -> str:
    return f"""
SELECT found.state, count(*), found.code, found.unit, found.currency,
       sum(CASE WHEN found.sent IS NULL THEN found.attempts ELSE 1 END)::bigint, sum(found.attempts)::bigint,
       min(found.first_at), max(found.last_at), sum(found.credits), sum(found.amount_minor)::bigint,
       sum(CASE WHEN found.kind = 'counted' THEN found.attempts ELSE 0 END)::bigint,
       count(*) FILTER (WHERE found.kind = 'used_up'), found.kind
FROM ({found}) AS found
GROUP BY found.state, found.code, found.kind, found.unit, found.currency
ORDER BY found.code, found.unit, found.currency, found.state, found.kind
"""


def _count_by_code(state: str | None) -> str:
    oldest = f"{_FOUND_KIND} {_chosen_of(state)} ORDER BY r.first_at, r.rejection_id LIMIT %(most)s"
    return f"""
-- Rejections by state, code, kind, unit and currency: how many, how often refused, since when, of how much. So many are
-- read at most, those refused first first.{_counted(oldest)}"""


_FOUND_KIND: Final = f"{_KEPT}, {REJECTION_KIND} AS kind\nFROM rejected_events r {_EVENT}\nWHERE r.ledger = %(ledger)s"
COUNT_OLDEST: Final = f"""
-- The unsettled rejections of each code and kind with the earliest first refusal, counted like all others.
{OLDEST_OF_EACH_CODE}{_counted(f"{_KEPT}, {REJECTION_KIND} AS kind FROM oldest r {_EVENT}")}"""


def _select(state: str | None) -> str:
    return f"""
-- The open ones among some rejections, without their texts. Those that were refused together are in the order of their
-- time.
SELECT found.rejection_id, found.last_at, found.credits, found.unit, found.amount_minor, found.currency,
       found.sent IS NOT NULL AND octet_length(found.sent) = found.sent_bytes, found.sent_bytes
FROM ({_FOUND} {_chosen_of(state)}) AS found
WHERE found.state = %(state)s ORDER BY found.first_at, found.occurred_at, found.rejection_id LIMIT %(limit)s
"""


TEXTS: Final = f"""
SELECT r.rejection_id, r.sent FROM rejected_events r
WHERE r.ledger = %(ledger)s AND r.rejection_id = ANY(%(ids)s) AND {NOT_DISMISSED}
"""
STEPS: Final = """
SELECT done_at, action, done_by, reason FROM rejection_steps WHERE ledger = %(ledger)s AND rejection_id = %(id)s
ORDER BY done_at
"""
_PAGES: Final = {state: _page(state) for state in (*STATES, None)}
_COUNTS: Final = {state: _count_by_code(state) for state in (*STATES, None)}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A rejection as stored, and its state."""

    rejection_id: str
    content_hash: bytes
    sent: bytes | None
    sent_bytes: int
    source: str | None
    event_id: str | None
    type: str | None
    customer: str | None
    occurred_at: datetime | None
    data_hash: bytes | None
    amount_minor: int | None
    currency: str | None
    credits: Decimal | None
    unit: str | None
    sender: str
    way: str
    first_at: datetime
    code: str
    problem: str
    position: int
    last_at: datetime
    attempts: int
    dismissed_at: datetime | None
    dismissed_by: str | None
    dismissed_reason: str | None
    recorded_position: int | None
    state: str

    @property
    def money(self) -> Money | None:
        if self.amount_minor is None or self.currency is None:
            return None
        return Money(amount_minor=self.amount_minor, currency=self.currency)

    @property
    def whole(self) -> bool:
        """True if the stored text is complete."""
        return self.sent is not None and len(self.sent) == self.sent_bytes


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of rejections; None: any.

    ``since`` (inclusive) and ``until`` (exclusive) are compared with the event's time or, if it cannot be read, with
    the time of the first refusal. ``first_before`` is always compared with the time of the first refusal.
    """

    state: str | None = None
    code: str | None = None
    customer: str | None = None
    source: str | None = None
    event_id: str | None = None
    sender: str | None = None
    way: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    first_before: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Rejections of one code: their number, refusals, first and last time, and amounts.

    ``beyond``: those that were only counted, so their amounts are unknown. ``used_up``: refusals of usage for the only
    reason that all credits are used up.
    """

    code: str
    rejections: int
    attempts: int
    beyond: int
    used_up: int
    first_at: datetime
    last_at: datetime
    credits: Mapping[str, Decimal]
    amounts_minor: Mapping[str, int]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Rejections by code. ``complete``: False if there are more rejections, of any code, than the limit of a count.

    ``found_recorded``: in a count of open rejections, the number whose events are in the log, although
    ``settled_position`` does not note it yet. They are not counted as open.
    """

    by_code: tuple[Count, ...] = ()
    complete: bool = True
    found_recorded: int = 0


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """An open rejection without its text, in its state after the last refusal."""

    rejection_id: str
    last_at: datetime
    credits: Decimal | None
    unit: str | None
    amount_minor: int | None
    currency: str | None
    whole: bool
    sent_bytes: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A dismissal or a reopening."""

    done_at: datetime
    action: str
    done_by: str
    reason: str


def span(first: date | None, last: date | None, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """Returns the moments from the beginning of a day through the end of another, in a ledger's time zone."""
    after = None if last is None else last + timedelta(days=1)
    since, until = (
        None if day is None else datetime.combine(day, time(), zone).astimezone(UTC) for day in (first, after)
    )
    return since, until


def rejection(connection: sa.Connection | WriteConnection, ledger: str, rejection_id: str) -> Kept:
    """Returns one rejection. Raises UnknownRejection."""
    found = _rows(connection, FIND_ONE, {"ledger": ledger, "id": rejection_id})
    if not found:
        raise UnknownRejection(
            f"ledger {ledger} has no rejection {rejection_id[:60]}",
            field="rejection",
            found=rejection_id[:60],
            expected="an id that the list of rejections shows",
        )
    return Kept(**dict(zip(Kept.__struct_fields__, found[0], strict=True)))


def rejections_page(
    connection: sa.Connection, ledger: str, chosen: Chosen, *, after: tuple[datetime, str], limit: int
) -> list[Kept]:
    """Returns rejections after a (moment, id), the oldest first."""
    parameters = {**chosen.parameters, "ledger": ledger, "at": after[0], "id": after[1], "limit": limit}
    found = _rows(connection, _PAGES[chosen.state], parameters)
    return [Kept(**dict(zip(Kept.__struct_fields__, row, strict=True))) for row in found]


def counts(connection: sa.Connection, ledger: str, chosen: Chosen, *, most: int = COUNTED_AT_MOST) -> Counts:
    """Counts the rejections that match a filter, by code.

    It reads at most ``most`` rejections that match all conditions except the state, the oldest first. Of these it
    counts those in the requested state.
    """
    found = _rows(connection, _COUNTS[chosen.state], {**chosen.parameters, "ledger": ledger, "most": most})
    return _summed(found, chosen.state, complete=sum(row[1] for row in found) < most)


def open_counts(connection: sa.Connection, ledger: str, *, most: int, first_before: datetime | None = None) -> Counts:
    """Counts open rejections by code. It reads at most ``most`` of each code and kind, the oldest first. So many
    rejections of one kind do not hide those of another.

    The kinds are: only counted; usage for which all credits are used up; all others.
    """
    found = _rows(connection, COUNT_OLDEST, {"ledger": ledger, "most": most, "first_before": first_before})
    read: Counter[tuple[str, str]] = Counter()
    for row in found:
        read[row[2], row[-1]] += row[1]
    return _summed(found, OPEN, complete=all(rows < most for rows in read.values()))


def _summed(found: Sequence[Sequence[Any]], wanted: str | None, *, complete: bool) -> Counts:
    by_code: dict[str, list[Any]] = {}
    found_recorded = 0
    for state, rows, *row, _ in found:
        if wanted in (None, state):
            by_code.setdefault(row[0], []).append(row)
        elif wanted == OPEN:
            found_recorded += rows
    return Counts(
        by_code=tuple(_count(code, rows) for code, rows in by_code.items()),
        complete=complete,
        found_recorded=found_recorded,
    )


def open_rejections(connection: sa.Connection, ledger: str, chosen: Chosen, *, limit: int) -> list[Open]:
    """Returns the open rejections that match a filter, the oldest first; the state in the filter is not used."""
    parameters = {**chosen.parameters, "state": OPEN, "ledger": ledger, "limit": limit}
    found = _rows(connection, _select(OPEN), parameters)
    return [Open(**dict(zip(Open.__struct_fields__, row, strict=True))) for row in found]


def texts(connection: sa.Connection, ledger: str, rejection_ids: Sequence[str]) -> dict[str, bytes]:
    """Returns the texts of rejections that are not dismissed, by id."""
    found = _rows(connection, TEXTS, {"ledger": ledger, "ids": list(rejection_ids)})
    return {name: bytes(sent) for name, sent in found}


def steps(connection: sa.Connection, ledger: str, rejection_id: str) -> list[Step]:
    """Returns the dismissals and reopenings of a rejection, oldest first."""
    found = _rows(connection, STEPS, {"ledger": ledger, "id": rejection_id})
    return [Step(**dict(zip(Step.__struct_fields__, row, strict=True))) for row in found]


def _count(code: str, rows: Sequence[Any]) -> Count:
    credits: dict[str, Decimal] = {}
    amounts: dict[str, int] = {}
    for _, unit, currency, _, _, _, _, more_credits, more_minor, _, _ in rows:
        if unit is not None:
            credits[unit] = credits.get(unit, Decimal(0)) + more_credits
        if currency is not None:
            amounts[currency] = amounts.get(currency, 0) + more_minor
    return Count(
        code=code,
        rejections=sum(row[3] for row in rows),
        attempts=sum(row[4] for row in rows),
        beyond=sum(row[9] for row in rows),
        used_up=sum(row[10] for row in rows),
        first_at=min(row[5] for row in rows),
        last_at=max(row[6] for row in rows),
        credits=credits,
        amounts_minor=amounts,
    )


def _rows(connection: sa.Connection | WriteConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(connection, sa.Connection):
        return connection.exec_driver_sql(query, dict(parameters)).all()
    return connection.execute(query, parameters).fetchall()


START: Final = (datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=1), "")
"""A key before every rejection, for the first page."""
