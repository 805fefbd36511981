"""Refused events, kept until they are corrected, retried or dismissed.

They are written before whoever sent them is answered, in a transaction of their own without the ledger's lock: what is
recorded beside them is in the log by then, and is a duplicate if everything is sent again. The same content refused
again is the same row. A row is open until an event of its source and id is recorded after it, which is looked up and
stored nowhere: ``retried`` where that has the same content, ``corrected`` where it has another; or until somebody
dismisses it. Refused once more after that it is open again: whoever dismissed it has not seen this.

Owns: the table ``rejected_events``. Does not own: what is read of a refused event (rejections), who may dismiss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

import msgspec
import orjson
import sqlalchemy as sa

from subledger.errors import RejectionSettled, UnknownRejection
from subledger.money import Money
from subledger.rejections import Rejection
from subledger.store import tallies
from subledger.store.database import Database, WriteConnection

OPEN, RETRIED, CORRECTED, DISMISSED = "open", "retried", "corrected", "dismissed"
STATES: Final = (OPEN, RETRIED, CORRECTED, DISMISSED)

KEPT_A_DAY: Final = 100_000
"""New rejections of a ledger in a day (UTC) that are kept one by one; what is more is counted, by code."""
TEXT_A_DAY: Final = 256 * 1024 * 1024
"""Bytes of text of new rejections of a ledger in a day that are kept; beyond it a row has the hash and the length."""
BEYOND: Final = "counted"
"""The way of rows that only count."""
_COUNTED_EVERY: Final = 1_000
_ROWS: Final = 1_000
_BYTES: Final = 8 * 1024 * 1024

HEAD: Final = "SELECT position, clock_timestamp() FROM ledgers WHERE ledger = %s"
NEW: Final = """
-- How many rejections of a ledger are new since a moment, so many at most, and of how many bytes.
SELECT count(*), coalesce(sum(new.bytes), 0)::bigint
FROM (SELECT octet_length(sent) AS bytes FROM rejected_events WHERE ledger = %s AND first_at >= %s LIMIT %s) AS new
"""
KNOWN: Final = """
-- Which of some rejections are kept already.
SELECT rejection_id FROM rejected_events WHERE ledger = %s AND rejection_id = ANY(%s)
"""
KEEP: Final = """
-- New rejections, and those that were refused once more.
INSERT INTO rejected_events (ledger, rejection_id, content_hash, sent, sent_bytes, source, event_id, type, customer,
    occurred_at, data_hash, amount_minor, currency, credits, unit, sender, way, first_at, code, problem, position,
    last_at, attempts)
SELECT %s, * FROM unnest(%s::text[], %s::bytea[], %s::bytea[], %s::bigint[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::timestamptz[], %s::bytea[], %s::bigint[], %s::text[], %s::numeric[], %s::text[], %s::text[],
    %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[], %s::bigint[])
ON CONFLICT (ledger, rejection_id) DO UPDATE
SET attempts = rejected_events.attempts + excluded.attempts, code = excluded.code, problem = excluded.problem,
    position = greatest(rejected_events.position, excluded.position),
    last_at = greatest(rejected_events.last_at, excluded.last_at)
RETURNING rejection_id, attempts
"""
DISMISS: Final = """
UPDATE rejected_events SET dismissed_at = %s, dismissed_by = %s, dismissed_reason = %s
WHERE ledger = %s AND rejection_id = %s AND (dismissed_at IS NULL OR last_at > dismissed_at)
"""
_FOUND: Final = """
-- Rejections beside the event of their key that was recorded after they were refused last, if there is one.
SELECT r.rejection_id, r.content_hash, r.sent, r.sent_bytes, r.source, r.event_id, r.type, r.customer, r.occurred_at,
       r.data_hash, r.amount_minor, r.currency, r.credits, r.unit, r.sender, r.way, r.first_at, r.code, r.problem,
       r.position, r.last_at, r.attempts, r.dismissed_at, r.dismissed_by, r.dismissed_reason,
       e.position AS recorded_position,
       CASE WHEN e.position IS NULL
                 THEN CASE WHEN r.dismissed_at IS NULL OR r.last_at > r.dismissed_at THEN 'open' ELSE 'dismissed' END
            WHEN e.type = r.type AND e.customer IS NOT DISTINCT FROM r.customer AND e.occurred_at = r.occurred_at
                 AND sha256(convert_to(e.data, 'UTF8')) = r.data_hash THEN 'retried'
            ELSE 'corrected' END AS state
FROM rejected_events r
LEFT JOIN events e ON e.ledger = %(ledger)s AND e.source = r.source AND e.event_id = r.event_id
     AND e.position > r.position
WHERE r.ledger = %(ledger)s"""
FIND_ONE: Final = _FOUND + " AND r.rejection_id = %(id)s"
_CHOSEN: Final = f"""
  AND (%(code)s::text IS NULL OR r.code = %(code)s) AND (%(customer)s::text IS NULL OR r.customer = %(customer)s)
  AND (%(source)s::text IS NULL OR r.source = %(source)s)
  AND (%(event_id)s::text IS NULL OR r.event_id = %(event_id)s)
  AND (%(state)s::text IS DISTINCT FROM '{OPEN}'
       OR (r.dismissed_at IS NULL OR r.last_at > r.dismissed_at) AND e.position IS NULL)
  AND (%(since)s::timestamptz IS NULL OR coalesce(r.occurred_at, r.first_at) >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR coalesce(r.occurred_at, r.first_at) < %(until)s)"""
PAGE: Final = f"""
-- A page of rejections, those refused first first.
SELECT * FROM ({_FOUND} {_CHOSEN}
  AND (r.first_at, r.rejection_id) > (%(at)s::timestamptz, %(id)s::text)) AS found
WHERE %(state)s::text IS NULL OR found.state = %(state)s
ORDER BY found.first_at, found.rejection_id LIMIT %(limit)s
"""
_USED_UP: Final = """
           CASE WHEN (found.problem::json -> 'reasons') IS NOT NULL AND NOT EXISTS (
               SELECT FROM json_array_elements(found.problem::json -> 'reasons') AS reason
               WHERE (reason ->> 'reason') IS DISTINCT FROM 'used_up') THEN 1 ELSE 0 END"""
COUNT: Final = f"""
-- Rejections by code, unit and currency: how many, how often refused, since when, of how much.
SELECT found.code, found.unit, found.currency,
       sum(CASE WHEN found.sent IS NULL THEN found.attempts ELSE 1 END)::bigint, sum(found.attempts)::bigint,
       min(found.first_at), max(found.last_at), sum(found.credits), sum(found.amount_minor)::bigint,
       sum(CASE WHEN found.sent IS NULL THEN found.attempts ELSE 0 END)::bigint,
       sum(CASE WHEN found.code = 'insufficient_credits' AND found.sent IS NOT NULL THEN {_USED_UP} ELSE 0 END)::bigint
FROM ({_FOUND} {_CHOSEN} AND (%(first_before)s::timestamptz IS NULL OR r.first_at < %(first_before)s)) AS found
WHERE %(state)s::text IS NULL OR found.state = %(state)s
GROUP BY found.code, found.unit, found.currency ORDER BY found.code, found.unit, found.currency
"""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was just refused: what was sent, why, and the ledger's position then; None: where it is now."""

    rejection: Rejection
    code: str
    problem: Mapping[str, Any]
    position: int | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A rejection as it is kept, and what has become of it."""

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
        """All that was sent is there."""
        return self.sent is not None and len(self.sent) == self.sent_bytes


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of rejections; None: any. ``since`` (inclusive) and ``until`` (exclusive) are compared with the event's
    time or, if it cannot be read, with the time of the first refusal; ``first_before`` always with the latter.
    """

    state: str | None = None
    code: str | None = None
    customer: str | None = None
    source: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    first_before: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Rejections of one code: how many, how often they were refused, since when, and of how much.

    ``beyond`` of them were counted and not kept one by one: of these nobody knows the amounts. ``used_up`` are usage
    for which there were no credits left, and no other reason.
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


def span(first: date | None, last: date | None, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """The moments from the beginning of a day through the end of another, in a ledger's time zone."""
    after = None if last is None else last + timedelta(days=1)
    since, until = (
        None if day is None else datetime.combine(day, time(), zone).astimezone(UTC) for day in (first, after)
    )
    return since, until


# --- writing --------------------------------------------------------------------------------------------------------


class Keeper:
    """Keeps rejections in one database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new: dict[str, _New] = {}

    def keep(self, ledger: str, refused: Sequence[Refusal], *, sender: str, way: str) -> set[str]:
        """Keeps what was refused; durable on return. Returns the ids of those that are kept one by one.

        Nothing is kept for a ledger that does not exist. Raises DatabaseUnavailable; then nothing was kept.
        """
        if not refused:
            return set()
        with self._database.write() as connection:
            found = connection.execute(HEAD, (ledger,)).fetchone()
            if found is None:
                return set()
            position, now = found[0], found[1].astimezone(UTC)
            rows = _rows(refused, position, sender, way)
            new = self._new_today(connection, ledger, now)
            if new.rows + len(rows) > KEPT_A_DAY:
                rows = _within_bounds(connection, ledger, rows, KEPT_A_DAY - new.rows, now)
            text = _bound_text(rows, TEXT_A_DAY - new.bytes)
            added = sum(_insert(connection, ledger, chunk, now) for chunk in _chunks(sorted(rows.values(), key=_id)))
            if added:
                tallies.count(connection, ledger, "rejected_events", added)
        new.rows += added
        new.bytes += text
        new.uncounted += added
        return {row.refused.rejection.rejection_id for row in rows.values() if row.way != BEYOND}

    def _new_today(self, connection: WriteConnection, ledger: str, now: datetime) -> _New:
        """Number of new rejections today. Counted anew now and then, as other processes store some too; counting each
        time would cost more than storing one."""
        known = self._new.get(ledger)
        if known is None or known.day != now.date() or known.uncounted >= _COUNTED_EVERY:
            since = now.replace(hour=0, minute=0, second=0, microsecond=0)
            [(rows, size)] = connection.execute(NEW, (ledger, since, KEPT_A_DAY)).fetchall()
            known = self._new[ledger] = _New(day=now.date(), rows=rows, bytes=size)
        return known


class _New(msgspec.Struct, kw_only=True):
    """The rejections of a day, and how many of them were added since they were counted in the database."""

    day: date
    rows: int
    bytes: int
    uncounted: int = 0


class _Row(msgspec.Struct, kw_only=True):
    refused: Refusal
    rejection_id: str
    position: int
    sender: str
    way: str
    attempts: int = 1


def _id(row: _Row) -> str:
    return row.rejection_id  # in one order, so that two who keep the same ones wait for each other once


def _rows(refused: Sequence[Refusal], position: int, sender: str, way: str) -> dict[str, _Row]:
    """One row a content, as refused last."""
    rows: dict[str, _Row] = {}
    for each in refused:
        rejection_id = each.rejection.rejection_id
        before = rows.get(rejection_id)
        rows[rejection_id] = _Row(
            refused=each, rejection_id=rejection_id, sender=sender, way=way,
            position=position if each.position is None else each.position,
            attempts=1 if before is None else before.attempts + 1,
        )  # fmt: skip
    return rows


def _within_bounds(
    connection: WriteConnection, ledger: str, rows: dict[str, _Row], room: int, now: datetime
) -> dict[str, _Row]:
    """Rejections that are known already, and new ones while there is room; the rest become counts by code and day."""
    known = {name for (name,) in connection.execute(KNOWN, (ledger, list(rows)))}
    kept: dict[str, _Row] = {}
    for name, row in rows.items():
        if name in known or room > 0:
            room -= name not in known
            kept[name] = row
            continue
        counting = _counting(row, now)
        before = kept.get(counting.rejection_id)
        if before is not None:
            before.attempts += counting.attempts
        else:
            kept[counting.rejection_id] = counting
    return kept


def _bound_text(rows: Mapping[str, _Row], room: int) -> int:
    """Leaves out the text of what there is no room for. Returns how many bytes are left; some may be kept already."""
    size = 0
    for row in rows.values():
        text = len(row.refused.rejection.sent)
        if size + text > room:
            bare = msgspec.structs.replace(row.refused.rejection, sent=b"")
            row.refused = msgspec.structs.replace(row.refused, rejection=bare)
        else:
            size += text
    return size


def _counting(row: _Row, now: datetime) -> _Row:
    day, code = now.date().isoformat(), row.refused.code
    content_hash = hashlib.sha256(f"counted\x00{day}\x00{code}".encode()).digest()
    problem = {
        **row.refused.problem,
        "counted": f"More than {KEPT_A_DAY} events were refused on {day}: this row counts those with the code {code} "
        "that are not stored one by one. Send them again from their source.",
    }
    rejection = Rejection(content_hash=content_hash, sent=b"", sent_bytes=0)
    refused = Refusal(rejection=rejection, code=code, problem=problem)
    return _Row(
        refused=refused, rejection_id=rejection.rejection_id, position=row.position, sender=row.sender, way=BEYOND,
        attempts=row.attempts,
    )  # fmt: skip


def _chunks(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """So many rows, and about so many bytes, a statement."""
    chunk: list[_Row] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) >= _ROWS or size >= _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row.refused.rejection.sent)
    if chunk:
        yield chunk


def _insert(connection: WriteConnection, ledger: str, rows: Sequence[_Row], now: datetime) -> int:
    """Returns how many of the rows are new."""
    values = [
        (
            row.rejection_id, r.content_hash, None if row.way == BEYOND else r.sent, r.sent_bytes, r.source,
            r.event_id, r.type, r.customer, r.occurred_at, r.data_hash, r.money and r.money.amount_minor,
            r.money and r.money.currency, r.credits, r.unit, row.sender, row.way, now, row.refused.code,
            _kept_text(row.refused.problem), row.position, now, row.attempts,
        )
        for row in rows
        for r in (row.refused.rejection,)
    ]  # fmt: skip
    written = connection.execute(KEEP, (ledger, *(list(column) for column in zip(*values, strict=True))))
    attempts = {row.rejection_id: row.attempts for row in rows}
    # What was there before has had an attempt more, at least.
    return sum(attempts[rejection_id] == found for rejection_id, found in written)


def _kept_text(problem: Mapping[str, Any]) -> str:
    with suppress(TypeError):  # half a surrogate pair, which an error may quote
        return orjson.dumps(problem, default=str).decode()
    return json.dumps(problem, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()


def dismiss(database: Database, ledger: str, rejection_id: str, *, by: str, reason: str) -> Kept:
    """Settles a rejection that will never be recorded. Raises UnknownRejection, RejectionSettled."""
    with database.write() as connection:
        found = _one(connection, ledger, rejection_id)
        if found.state != OPEN:
            raise RejectionSettled(
                f"rejection {rejection_id} is no longer open: it was {_settled(found)}",
                field="rejection", expected="a rejection that is open", found=found.state,
            )  # fmt: skip
        now = connection.execute("SELECT clock_timestamp()").fetchall()[0][0]
        if not connection.execute(DISMISS, (now, by, reason, ledger, rejection_id)).rowcount:
            raise RejectionSettled(
                f"rejection {rejection_id} was dismissed meanwhile", field="rejection",
                expected="a rejection that is open", found=DISMISSED,
            )  # fmt: skip
        return _one(connection, ledger, rejection_id)


def _settled(found: Kept) -> str:
    if found.state == DISMISSED:
        return f"dismissed by {found.dismissed_by}: {found.dismissed_reason}"
    return f"{found.state}, and is recorded at position {found.recorded_position}"


# --- reading --------------------------------------------------------------------------------------------------------


def _one(connection: sa.Connection | WriteConnection, ledger: str, rejection_id: str) -> Kept:
    found = _asked(connection, FIND_ONE, {"ledger": ledger, "id": rejection_id})
    if not found:
        raise UnknownRejection(
            f"ledger {ledger} has no rejection {rejection_id[:60]}", field="rejection", found=rejection_id[:60],
            expected="an id that the list of rejections shows",
        )  # fmt: skip
    return Kept(**dict(zip(Kept.__struct_fields__, found[0], strict=True)))


def rejection(connection: sa.Connection, ledger: str, rejection_id: str) -> Kept:
    """One rejection. Raises UnknownRejection."""
    return _one(connection, ledger, rejection_id)


def rejections_page(
    connection: sa.Connection, ledger: str, chosen: Chosen, *, after: tuple[datetime, str], limit: int
) -> list[Kept]:
    """Rejections, those refused first first, after a (moment, id)."""
    parameters = {**chosen.parameters, "ledger": ledger, "at": after[0], "id": after[1], "limit": limit}
    found = _asked(connection, PAGE, parameters)
    return [Kept(**dict(zip(Kept.__struct_fields__, row, strict=True))) for row in found]


def counts(connection: sa.Connection, ledger: str, chosen: Chosen) -> list[Count]:
    """Number of rejections by code."""
    by_code: dict[str, list[Any]] = {}
    for row in _asked(connection, COUNT, {**chosen.parameters, "ledger": ledger}):
        by_code.setdefault(row[0], []).append(row)
    return [_count(code, rows) for code, rows in by_code.items()]


def _count(code: str, rows: Sequence[Any]) -> Count:
    credits: dict[str, Decimal] = {}
    amounts: dict[str, int] = {}
    for _, unit, currency, _, _, _, _, more_credits, more_minor, _, _ in rows:
        if unit is not None:
            credits[unit] = credits.get(unit, Decimal(0)) + more_credits
        if currency is not None:
            amounts[currency] = amounts.get(currency, 0) + more_minor
    return Count(
        code=code, rejections=sum(row[3] for row in rows), attempts=sum(row[4] for row in rows),
        beyond=sum(row[9] for row in rows), used_up=sum(row[10] for row in rows),
        first_at=min(row[5] for row in rows), last_at=max(row[6] for row in rows),
        credits=credits, amounts_minor=amounts,
    )  # fmt: skip


def _asked(connection: sa.Connection | WriteConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(connection, sa.Connection):
        return connection.exec_driver_sql(query, dict(parameters)).all()
    return connection.execute(query, parameters).fetchall()


START: Final = (datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=1), "")
"""Before every rejection, for the first page."""
