"""Monitor: the end of the log, and the result of the last verification.

It is fast enough to run every minute, and proves nothing. It checks the end of the log:

- the head equals the last batch;
- the last batches have correct hashes and the correct order;
- the tree of the head has the correct root;
- no event of the last positions is missing, and no entry is after the head;
- the totals of the last day equal its entries, if these are few enough.

A verification (``subledger verify``) checks the hash of every event, every entry, every derived row and all invariants.
This monitor rings if the last verification found differences. If the settings require it, it also rings when the last
clean verification is too old.

Owns: this monitor, and the table ``verifications``. Does not own: any check of a verification (integrity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from projections.integrity import VerificationReport
from projections.monitors.monitor import Monitor, MonitorContext
from subledger.encoding import batch_hash
from subledger.errors import DatabaseUnavailable, IntegrityFault
from subledger.events.envelope import format_time
from subledger.merkle import Frontier
from subledger.store.columns import BATCHES, BatchRow
from subledger.store.database import ON_A_STANDBY, Database
from subledger.store.reading.recorded_days import first_of
from subledger.store.writing.head import NO_HASH

_BATCHES: Final = 100
_POSITIONS: Final = 10_000
_OF_A_DAY: Final = 20_000
"""Maximum number of positions of a day for which its entries are added up. A day with more is not compared."""
_SHOWN: Final = 20

HEAD: Final = "SELECT position, recorded_at, batch_hash, frontier FROM ledgers WHERE ledger = %(ledger)s"
LAST_BATCHES: Final = f"""
-- The end of the chain, newest first.
SELECT {BATCHES.selected("b")} FROM batches b
WHERE b.ledger = %(ledger)s ORDER BY b.last_position DESC LIMIT %(limit)s
"""
LAST_POSITIONS: Final = """
-- The number of events after a position, the last of them, and the last position with an entry.
SELECT count(*), coalesce(max(position), 0),
       coalesce((SELECT position FROM entries WHERE ledger = %(ledger)s ORDER BY position DESC LIMIT 1), 0)
FROM events WHERE ledger = %(ledger)s AND position > %(after)s
"""
DAY_BEGINS: Final = f"""
-- The first position recorded on the day, in UTC, of the last one.
SELECT {first_of("day", ledger="%(ledger)s")}, day
FROM (VALUES ((%(last)s::timestamptz AT TIME ZONE 'UTC')::date)) AS last (day)
"""
DAY: Final = """
-- Totals of the entries recorded on a day that differ from the sums of these entries.
WITH logged AS (
    SELECT accounting_date, cut, currency, policy, kind, sum(amount_minor) AS amount,
           sum(functional_minor) AS functional, sum(credits) AS credits, count(*) AS entries
    FROM entries WHERE ledger = %(ledger)s AND position >= %(first)s GROUP BY 1, 2, 3, 4, 5
), held AS (
    SELECT accounting_date, cut, currency, policy, kind, sum(written_minor - mirrored_minor) AS amount,
           sum(functional_written_minor - functional_mirrored_minor) AS functional, sum(credits) AS credits,
           sum(entries) AS entries
    FROM ledger_days WHERE ledger = %(ledger)s AND recorded_date = %(day)s GROUP BY 1, 2, 3, 4, 5
)
SELECT accounting_date, currency, kind, h.entries, h.amount, l.entries, l.amount
FROM logged l FULL JOIN held h USING (accounting_date, cut, currency, policy, kind)
WHERE (l.amount, l.functional, l.credits, l.entries) IS DISTINCT FROM (h.amount, h.functional, h.credits, h.entries)
ORDER BY accounting_date, currency, kind LIMIT %(limit)s
"""
FIND_VERIFIED: Final = """
SELECT verified_at, position, since, differences, clean_at FROM verifications WHERE ledger = %(ledger)s
"""
KEEP_VERIFIED: Final = """
INSERT INTO verifications (ledger, verified_at, position, since, differences, clean_at)
VALUES (%(ledger)s, %(at)s, %(position)s, %(since)s, %(differences)s, %(clean_at)s)
ON CONFLICT (ledger) DO UPDATE
SET verified_at = excluded.verified_at, position = excluded.position, since = excluded.since,
    differences = excluded.differences, clean_at = coalesce(excluded.clean_at, verifications.clean_at)
WHERE verifications.verified_at <= excluded.verified_at
"""


def keep_verified(database: Database, verified: VerificationReport, *, at: datetime) -> None:
    """Stores the result of a verification for the monitor. ``at`` is the time at which the verification began.

    The stored result proves nothing, because anybody who can change the database can change it. On a standby it is not
    stored.
    """
    differences = len(verified.differences)
    parameters = {
        "ledger": verified.ledger,
        "at": at,
        "position": verified.events,
        "since": verified.since,
        "differences": differences,
        "clean_at": None if differences else at,
    }
    with suppress(DatabaseUnavailable, *ON_A_STANDBY), database.write() as connection:
        connection.execute(KEEP_VERIFIED, parameters)


def mismatch(context: MonitorContext) -> Monitor:
    """Faults at the end of the log, and faults that the last verification found. It has no threshold."""
    [(position, recorded_at, head_hash, frontier)] = context.rows(HEAD)
    batches = [BatchRow(*row) for row in context.rows(LAST_BATCHES, limit=_BATCHES + 1)]
    found = [
        *_head(batches, (position, recorded_at, bytes(head_hash)), bytes(frontier)),
        *_chain(context.ledger, batches),
        *_positions(context, position),
    ]
    day, compared = _day(context, position, recorded_at)
    verification, warnings = _verification(context)
    faults = [*found, *day, *warnings]
    return Monitor(
        name="mismatch",
        question="Do log, chain and totals hold together?",
        value=len(faults),
        unit="faults",
        threshold=0,
        rings=bool(faults),
        evidence={
            "faults": faults[:_SHOWN],
            "batches_checked": min(len(batches), _BATCHES),
            "totals_checked": compared,
            "verification": verification,
        },
        next=context.command("verify") if faults else None,
    )


def _head(batches: Sequence[BatchRow], head: tuple[int, datetime | None, bytes], frontier: bytes) -> Iterator[str]:
    last = batches[0] if batches else None
    logged = (0, None, NO_HASH) if last is None else (last.last_position, last.recorded_at, bytes(last.hash))
    for name, found, expected in zip(("position", "recorded_at", "batch_hash"), head, logged, strict=True):
        if found != expected:
            yield f"{name} of the ledger is {_text(found)}, the last batch says {_text(expected)}"
    if last is not None and _root(head[0], frontier) != bytes(last.root):
        yield "the hash tree of the ledger's head differs from that of the last batch"


def _root(position: int, frontier: bytes) -> bytes | None:
    try:
        return Frontier.from_bytes(position, frontier).root()
    except (IntegrityFault, IndexError):  # a changed value that is not a tree
        return None


def _chain(ledger: str, batches: Sequence[BatchRow]) -> Iterator[str]:
    for place, batch in enumerate(batches[:_BATCHES]):
        last, previous = batch.last_position, bytes(batch.previous_hash)
        digest = batch_hash(ledger, batch.first_position, last, batch.recorded_at, bytes(batch.root), previous)
        if bytes(batch.hash) != digest:
            yield f"the hash of the batch that ends at position {last} is not that of its content"
        if place + 1 < len(batches):
            before = batches[place + 1]
            follows = batch.first_position == before.last_position + 1 and before.recorded_at < batch.recorded_at
            follows = follows and previous == bytes(before.hash)
        elif len(batches) <= _BATCHES:
            follows = batch.first_position == 1 and previous == NO_HASH
        else:
            return
        if not follows:
            yield f"the batch that ends at position {last} does not follow the one before it"


def _positions(context: MonitorContext, position: int) -> Iterator[str]:
    after = max(position - _POSITIONS, 0)
    [(count, last, last_entry)] = context.rows(LAST_POSITIONS, after=after)
    if (count, last) != (position - after, position):
        yield f"there are {count} events from position {after + 1} to {position}, the last at {last}"
    if last_entry > position:
        yield f"there are entries at position {last_entry}, beyond the head at {position}"


def _day(context: MonitorContext, position: int, recorded_at: datetime | None) -> tuple[list[str], str | None]:
    """The faults in the totals of the last day; and the day, None if it was not compared."""
    if recorded_at is None:
        return [], None
    [(first, day)] = context.rows(DAY_BEGINS, last=recorded_at)
    if first is None or position - first >= _OF_A_DAY:
        return [], None
    found = context.rows(DAY, first=first, day=day, limit=_SHOWN)
    faults = [
        f"the totals of {kind} in {currency} on {on}, recorded on {day}, are {held} entries of {held_amount},"
        f" the log has {logged} of {logged_amount}"
        for on, currency, kind, held, held_amount, logged, logged_amount in found
    ]
    return faults, str(day)


def _verification(context: MonitorContext) -> tuple[dict[str, Any] | None, list[str]]:
    """The stored result of the last verification, and its faults."""
    stored = context.rows(FIND_VERIFIED)
    within_s = context.settings.verified_within_s
    if not stored:
        return None, [] if within_s is None else ["the ledger was never verified"]
    verified_at, position, since, differences, clean_at = stored[0]
    faults = []
    if differences:
        faults.append(f"the verification of {format_time(verified_at)} found {differences} differences")
    if within_s is not None and (clean_at is None or clean_at < context.before(within_s)):
        when = "never" if clean_at is None else format_time(clean_at)
        faults.append(f"the last clean verification: {when}")
    result = {
        "verified_at": format_time(verified_at),
        "position": position,
        "not_read_again": since,
        "differences": differences,
        "clean_at": clean_at and format_time(clean_at),
    }
    return result, faults


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
