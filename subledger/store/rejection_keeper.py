"""Keeping refused events: before whoever sent them is answered, each content once, within the bounds of a day.

They are written in a transaction of their own without the ledger's lock: what is recorded beside them is in the log by
then, and is a duplicate if everything is sent again. The same content refused again is the same row.

Owns: rows that are added to the table ``rejected_events``. Does not own: their settlement (dismissals), reading them
(rejections), what is read of a refused event (subledger.rejections).
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

from subledger.rejections import Rejection
from subledger.store import tallies
from subledger.store.database import Database, WriteConnection
from subledger.store.rejections import BEYOND

KEPT_A_DAY: Final = 100_000
"""New rejections of a ledger in a day (UTC) that are kept one by one; what is more is counted, by code."""
TEXT_A_DAY: Final = 256 * 1024 * 1024
"""Bytes of text of new rejections of a ledger in a day that are kept; beyond it a row has the hash and the length."""
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


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was just refused: what was sent, why, and the ledger's position then; None: where it is now."""

    rejection: Rejection
    code: str
    problem: Mapping[str, Any]
    position: int | None = None


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

    def count(self, ledger: str, code: str, problem: Mapping[str, Any], *, sender: str) -> None:
        """Counts a call that was refused before its events were read, in a row for its day, code and sender.

        Nothing is kept for a ledger that does not exist. Raises DatabaseUnavailable; then nothing was kept.
        """
        with self._database.write() as connection:
            found = connection.execute(HEAD, (ledger,)).fetchone()
            if found is None:
                return
            position, now = found[0], found[1].astimezone(UTC)
            day = now.date().isoformat()
            content_hash = hashlib.sha256(f"unread\x00{day}\x00{code}\x00{sender}".encode()).digest()
            said = {
                **problem,
                "counted": f"Calls of {sender} on {day} that were refused with the code {code} before their events "
                "were read. Correct the sender, and send the events again from their source.",
            }
            rejection = Rejection(content_hash=content_hash, sent=b"", sent_bytes=0)
            row = _Row(
                refused=Refusal(rejection=rejection, code=code, problem=said), rejection_id=rejection.rejection_id,
                position=position, sender=sender, way=BEYOND,
            )  # fmt: skip
            if _insert(connection, ledger, [row], now):
                tallies.count(connection, ledger, "rejected_events", 1)

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
