"""Storage of refused events, before their sender is answered. Each content is stored once, within limits for a day.

Rejections are written in their own transaction, without the ledger's lock. At that time the recorded events of the same
call are in the log, and are duplicates if the call is sent again. If the same content is refused again, its row is
updated and takes no more space. If its text did not fit within the limits before, and does now, the text is added.

Owns: adding rows to the table ``rejected_events``. Does not own: their settlement (dismissals), reading them
(rejections), the fields read from a refused event (subledger.events.rejections).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import orjson

from subledger.events.rejections import Rejection
from subledger.store import tallies
from subledger.store.database import Database, WriteConnection
from subledger.store.rejected.rejections import BEYOND
from subledger.text.visible_text import visible

_ROWS: Final = 1_000
_BYTES: Final = 8 * 1024 * 1024


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the rejections that a ledger stores of one day (UTC).

    - ``rows``: the number of new rejections that are stored one by one. Further ones are only counted, by code.
    - ``text_bytes``: the total length of their texts, and of texts added to earlier rejections. Beyond it a row has
      only the hash and the length of its text.
    - ``counted_every``: after this number of new rows, or a sixteenth of the bytes, the rows in the database are
      counted again, because other processes add rows too. So each process may exceed a limit by the rows between two
      counts, and by one call.
    """

    rows: int = 100_000
    text_bytes: int = 256 * 1024 * 1024
    counted_every: int = 1_000


AS_SHIPPED: Final = Bounds()
_SIXTEENTH: Final = 16

HEAD: Final = "SELECT position, clock_timestamp() FROM ledgers WHERE ledger = %s"
NEW: Final = """
-- The number of new rejections of a ledger since a moment, up to a limit; the number of earlier ones whose text was
-- added since; and the bytes of all these texts.
WITH new AS (
    SELECT octet_length(sent) AS bytes FROM rejected_events WHERE ledger = %(ledger)s AND first_at >= %(since)s
    LIMIT %(most)s
), added AS (
    SELECT octet_length(sent) AS bytes FROM rejected_events
    WHERE ledger = %(ledger)s AND text_at >= %(since)s AND first_at < %(since)s LIMIT %(most)s
)
SELECT (SELECT count(*) FROM new), (SELECT count(*) FROM added),
       (SELECT coalesce(sum(bytes), 0)::bigint FROM (SELECT bytes FROM new UNION ALL SELECT bytes FROM added) AS texts)
"""
KNOWN: Final = """
-- Those of some rejections that are stored already, with the bytes of their text, and True if the text is complete.
SELECT rejection_id, coalesce(octet_length(sent), 0), octet_length(sent) IS NOT DISTINCT FROM sent_bytes
FROM rejected_events WHERE ledger = %s AND rejection_id = ANY(%s)
"""
KEEP: Final = """
-- Inserts new rejections, and counts repeated refusals.
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
ADD_TEXT: Final = """
-- Adds texts to rejections without a complete text. A text has the same content, but its bytes may differ.
UPDATE rejected_events r SET sent = new.sent, sent_bytes = new.sent_bytes, text_at = r.last_at
FROM unnest(%s::text[], %s::bytea[], %s::bigint[]) AS new (id, sent, sent_bytes)
WHERE r.ledger = %s AND r.rejection_id = new.id AND octet_length(r.sent) < r.sent_bytes
  AND (octet_length(new.sent) > octet_length(r.sent) OR octet_length(new.sent) = new.sent_bytes)
RETURNING r.rejection_id
"""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was just refused: its bytes, the reason, and the position of the ledger (None: the current one)."""

    rejection: Rejection
    code: str
    problem: Mapping[str, Any]
    position: int | None = None


class Keeper:
    """Stores rejections in one database. Safe to share between threads."""

    def __init__(self, database: Database, bounds: Bounds = AS_SHIPPED) -> None:
        self._database = database
        self._bounds = bounds
        self._new: dict[str, _New] = {}

    def keep(self, ledger: str, refused: Sequence[Refusal], *, sender: str, way: str) -> set[str]:
        """Stores refused events; durable on return. Returns the ids of those that are stored one by one.

        Nothing is stored for a ledger that does not exist. Raises DatabaseUnavailable; then nothing was stored.

        """
        if not refused:
            return set()
        sender, way = visible(sender), visible(way)
        with self._database.write() as connection:
            found = connection.execute(HEAD, (ledger,)).fetchone()
            if found is None:
                return set()
            position, now = found[0], found[1].astimezone(UTC)
            rows = _rows(refused, position, sender, way)
            known = {
                name: _Known(text=text, whole=whole)
                for name, text, whole in connection.execute(KNOWN, (ledger, list(rows)))
            }
            new = self._new_today(connection, ledger, now)
            if new.rows + len(rows) > self._bounds.rows:
                rows = _within_bounds(rows, known, self._bounds, new.rows, now)
            _bound_text(rows, known, self._bounds.text_bytes - new.bytes, may_add=new.added < self._bounds.rows)
            written = _Written()
            for chunk in _chunks(sorted(rows.values(), key=_id)):
                _insert(connection, ledger, chunk, known, now, written)
            if written.rows:
                tallies.count(connection, ledger, "rejected_events", written.rows)
        new.count(written)
        return {row.refused.rejection.rejection_id for row in rows.values() if row.way != BEYOND}

    def count(self, ledger: str, code: str, problem: Mapping[str, Any], *, sender: str) -> None:
        """Counts a call that was refused before its events were read, in a row for its day, code and sender.

        Nothing is stored for a ledger that does not exist. Raises DatabaseUnavailable; then nothing was stored.
        """
        sender = visible(sender)
        with self._database.write() as connection:
            found = connection.execute(HEAD, (ledger,)).fetchone()
            if found is None:
                return
            position, now = found[0], found[1].astimezone(UTC)
            day = now.date().isoformat()
            content_hash = hashlib.sha256(f"unread\x00{day}\x00{code}\x00{sender}".encode()).digest()
            problem_text = {
                **problem,
                "counted": f"Calls of {sender} on {day} that were refused with the code {code} before their events "
                "were read. Correct the sender, and send the events again from their source.",
            }
            rejection = Rejection(content_hash=content_hash, sent=b"", sent_bytes=0)
            row = _Row(
                refused=Refusal(rejection=rejection, code=code, problem=problem_text),
                rejection_id=rejection.rejection_id,
                position=position,
                sender=sender,
                way=BEYOND,
            )
            written = _Written()
            _insert(connection, ledger, [row], {}, now, written)
            if written.rows:
                tallies.count(connection, ledger, "rejected_events", written.rows)

    def _new_today(self, connection: WriteConnection, ledger: str, now: datetime) -> _New:
        """Returns the number of new rejections today. It is counted again from time to time, because other processes
        store some too. Counting each time would cost more than storing a rejection."""
        known, bounds = self._new.get(ledger), self._bounds
        if (
            known is None
            or known.day != now.date()
            or known.uncounted.rows >= bounds.counted_every
            or known.uncounted.bytes * _SIXTEENTH >= bounds.text_bytes
        ):
            since = now.replace(hour=0, minute=0, second=0, microsecond=0)
            values = {"ledger": ledger, "since": since, "most": bounds.rows}
            [(rows, added, size)] = connection.execute(NEW, values).fetchall()
            known = self._new[ledger] = _New(day=now.date(), rows=rows, added=added, bytes=size)
        return known


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """A rejection that is stored already: the bytes of its text, and True if they are the whole text."""

    text: int
    whole: bool


class _Written(msgspec.Struct, kw_only=True):
    """The numbers of new rows and of rows that got their text, and the bytes of the added texts."""

    rows: int = 0
    added: int = 0
    bytes: int = 0


class _New(msgspec.Struct, kw_only=True):
    """The rejections of a day, and the number added since they were counted in the database."""

    day: date
    rows: int
    added: int
    bytes: int
    uncounted: _Written = msgspec.field(default_factory=_Written)

    def count(self, written: _Written) -> None:
        for counted in (self, self.uncounted):
            counted.rows += written.rows
            counted.added += written.added
            counted.bytes += written.bytes


class _Row(msgspec.Struct, kw_only=True):
    refused: Refusal
    rejection_id: str
    position: int
    sender: str
    way: str
    attempts: int = 1


def _id(row: _Row) -> str:
    return row.rejection_id  # One order prevents a deadlock of two processes with the same rows.


def _rows(refused: Sequence[Refusal], position: int, sender: str, way: str) -> dict[str, _Row]:
    """One row for each content, with its last refusal."""
    rows: dict[str, _Row] = {}
    for each in refused:
        rejection_id = each.rejection.rejection_id
        before = rows.get(rejection_id)
        rows[rejection_id] = _Row(
            refused=each,
            rejection_id=rejection_id,
            sender=sender,
            way=way,
            position=position if each.position is None else each.position,
            attempts=1 if before is None else before.attempts + 1,
        )
    return rows


def _within_bounds(
    rows: dict[str, _Row], known: Mapping[str, _Known], bounds: Bounds, new: int, now: datetime
) -> dict[str, _Row]:
    """Returns known rejections, and new ones while there is room. The others become counts by code and day."""
    room = bounds.rows - new
    accepted: dict[str, _Row] = {}
    for name, row in rows.items():
        if name in known or room > 0:
            room -= name not in known
            accepted[name] = row
            continue
        counting = _counting(row, bounds, now)
        before = accepted.get(counting.rejection_id)
        if before is not None:
            before.attempts += counting.attempts
        else:
            accepted[counting.rejection_id] = counting
    return accepted


def _bound_text(rows: Mapping[str, _Row], known: Mapping[str, _Known], room: int, *, may_add: bool) -> None:
    """Leaves out the texts for which there is no room, and those that are stored already."""
    for name, row in rows.items():
        rejection = row.refused.rejection
        before, text = known.get(name), len(rejection.sent)
        growth = text - (0 if before is None else before.text)
        wanted = before is None or (may_add and not before.whole and (growth > 0 or rejection.whole))
        if wanted and growth <= room:
            room -= growth
        else:
            bare = msgspec.structs.replace(rejection, sent=b"")
            row.refused = msgspec.structs.replace(row.refused, rejection=bare)


def _counting(row: _Row, bounds: Bounds, now: datetime) -> _Row:
    day, code = now.date().isoformat(), row.refused.code
    content_hash = hashlib.sha256(f"counted\x00{day}\x00{code}".encode()).digest()
    problem = {
        **row.refused.problem,
        "counted": f"More than {bounds.rows} events were refused on {day}: this row counts those with the code {code} "
        "that are not stored one by one. Send them again from their source.",
    }
    rejection = Rejection(content_hash=content_hash, sent=b"", sent_bytes=0)
    refused = Refusal(rejection=rejection, code=code, problem=problem)
    return _Row(
        refused=refused,
        rejection_id=rejection.rejection_id,
        position=row.position,
        sender=row.sender,
        way=BEYOND,
        attempts=row.attempts,
    )


def _chunks(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Splits rows into statements, each with a limited number of rows and about a limited number of bytes."""
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


def _insert(
    connection: WriteConnection,
    ledger: str,
    rows: Sequence[_Row],
    known: Mapping[str, _Known],
    now: datetime,
    written: _Written,
) -> None:
    """Inserts rows, or counts their attempts. Adds to ``written``."""
    values = [
        (
            row.rejection_id,
            r.content_hash,
            _new_text(row, known),
            r.sent_bytes,
            r.source,
            r.event_id,
            r.type,
            r.customer,
            r.occurred_at,
            r.data_hash,
            r.money and r.money.amount_minor,
            r.money and r.money.currency,
            r.credits,
            r.unit,
            row.sender,
            row.way,
            now,
            row.refused.code,
            _kept_text(row.refused.problem),
            row.position,
            now,
            row.attempts,
        )
        for row in rows
        for r in (row.refused.rejection,)
    ]
    stored = connection.execute(KEEP, (ledger, *(list(column) for column in zip(*values, strict=True)))).fetchall()
    sent = {row.rejection_id: row for row in rows}
    # A row that existed before has at least one more attempt than this call sent.
    new = [name for name, attempts in stored if attempts == sent[name].attempts]
    written.rows += len(new)
    written.bytes += sum(len(sent[name].refused.rejection.sent) for name in new)
    texts = [row.refused.rejection for row in rows if row.rejection_id in known and row.refused.rejection.sent]
    if texts:
        added = connection.execute(
            ADD_TEXT, ([r.rejection_id for r in texts], [r.sent for r in texts], [r.sent_bytes for r in texts], ledger)
        ).fetchall()
        written.added += len(added)
        written.bytes += sum(len(sent[name].refused.rejection.sent) - known[name].text for (name,) in added)


def _new_text(row: _Row, known: Mapping[str, _Known]) -> bytes | None:
    """Returns the text of a new row. A known row already has its text, or gets it from ADD_TEXT."""
    if row.way == BEYOND:
        return None
    return b"" if row.rejection_id in known else row.refused.rejection.sent


def _kept_text(problem: Mapping[str, Any]) -> str:
    with suppress(TypeError):  # an error may quote half a surrogate pair
        return orjson.dumps(problem, default=str).decode()
    return json.dumps(problem, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()
