"""Settlement of rejections: dismissals, reopenings, and the note that an event was recorded since.

Each dismissal and each reopening is a row of ``rejection_steps``, which never changes. A rejection also has its last
dismissal in its own row. Rows are locked in the order of their ids, as in the keeper, so that the two never deadlock.

Owns: these changes of ``rejected_events``, the table ``rejection_steps``. Does not own: the right to dismiss (api).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from subledger.errors import RejectionSettled
from subledger.periods import MICROSECOND
from subledger.store import tallies
from subledger.store.database import Database, WriteConnection
from subledger.store.rejected.rejections import (
    DISMISSED,
    OLDEST_OF_EACH_CODE,
    OPEN,
    RECORDED_SINCE,
    UNSETTLED,
    Kept,
    Open,
    rejection,
)

AT_ONCE: Final = 1_000
"""The most rejections that one transaction dismisses."""
SETTLED_AT_ONCE: Final = 10_000
"""The most rejections of each code that are looked up in the log at once."""
_NEVER: Final = datetime(1, 1, 2, tzinfo=UTC)

LOCK: Final = """
-- Locks rejections. Returns the database's clock, and the last moment in each of the rows.
SELECT clock_timestamp(), greatest(last_at, dismissed_at, reopened_at) FROM rejected_events
WHERE ledger = %s AND rejection_id = ANY(%s) ORDER BY rejection_id FOR UPDATE
"""
DISMISS: Final = f"""
-- Dismisses rejections that are open and were not refused again since they were shown.
UPDATE rejected_events r SET dismissed_at = %(now)s, dismissed_by = %(by)s, dismissed_reason = %(reason)s
FROM unnest(%(ids)s::text[], %(moments)s::timestamptz[]) AS seen (id, at)
WHERE r.ledger = %(ledger)s AND r.rejection_id = seen.id AND r.last_at = seen.at AND {UNSETTLED}
  AND NOT EXISTS (SELECT FROM events e WHERE e.ledger = %(ledger)s AND {RECORDED_SINCE})
RETURNING r.rejection_id
"""
REOPEN: Final = """
-- Takes back the dismissal of a rejection.
UPDATE rejected_events SET reopened_at = %(now)s
WHERE ledger = %(ledger)s AND rejection_id = %(id)s AND greatest(last_at, reopened_at) <= dismissed_at
"""
STEP: Final = """
INSERT INTO rejection_steps (ledger, rejection_id, done_at, action, done_by, reason)
SELECT %s, step.id, %s, %s, %s, %s FROM unnest(%s::text[]) AS step (id)
"""
SETTLE: Final = f"""
-- Notes which of the first unsettled rejections, of each code, were recorded since. Locked rows are left for the next
-- time.
{OLDEST_OF_EACH_CODE}, found AS (
    SELECT r.rejection_id, e.position FROM rejected_events r
    JOIN events e ON e.ledger = %(ledger)s AND {RECORDED_SINCE}
    WHERE r.ledger = %(ledger)s AND r.rejection_id IN (SELECT rejection_id FROM oldest)
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE rejected_events r SET settled_position = found.position FROM found
WHERE r.ledger = %(ledger)s AND r.rejection_id = found.rejection_id
"""


def dismiss(database: Database, ledger: str, rejection_id: str, *, by: str, reason: str) -> Kept:
    """Dismisses a rejection, which will never be recorded. Raises UnknownRejection, RejectionSettled."""
    with database.write() as connection:
        found = rejection(connection, ledger, rejection_id)
        if found.state != OPEN:
            raise _settled(found)
        if not _dismiss(connection, ledger, [(found.rejection_id, found.last_at)], by, reason):
            raise RejectionSettled(
                f"rejection {rejection_id} was dismissed, recorded or refused again meanwhile; look at it again",
                field="rejection",
                expected="a rejection that is open",
                found=DISMISSED,
            )
        return rejection(connection, ledger, rejection_id)


def dismiss_seen(database: Database, ledger: str, seen: Sequence[Open], *, by: str, reason: str) -> set[str]:
    """Dismisses rejections that were shown, in groups. Returns the ids of those that were still open.

    A rejection that was refused again meanwhile stays open, because nobody has seen that refusal.
    """
    done: set[str] = set()
    for start in range(0, len(seen), AT_ONCE):
        pairs = [(each.rejection_id, each.last_at) for each in seen[start : start + AT_ONCE]]
        with database.write() as connection:
            done |= _dismiss(connection, ledger, pairs, by, reason)
    return done


def reopen(database: Database, ledger: str, rejection_id: str, *, by: str, reason: str) -> Kept:
    """Reopens a dismissed rejection. Raises UnknownRejection, RejectionSettled."""
    with database.write() as connection:
        now = _lock(connection, ledger, [rejection_id])
        found = rejection(connection, ledger, rejection_id)
        values = {"ledger": ledger, "id": rejection_id, "now": now}
        if found.state != DISMISSED or not connection.execute(REOPEN, values).rowcount:
            raise RejectionSettled(
                f"rejection {rejection_id} is {found.state}, so no dismissal can be taken back",
                field="rejection",
                expected="a rejection that is dismissed",
                found=found.state,
            )
        _step(connection, ledger, [rejection_id], now, "reopened", by, reason)
        return rejection(connection, ledger, rejection_id)


def check_retriable(found: Kept) -> None:
    """Raises RejectionSettled for a dismissed rejection: its dismissal says that it will never be recorded."""
    if found.state == DISMISSED:
        raise _settled(found)


def settle(database: Database, ledger: str) -> None:
    """Notes the rejections whose events were recorded later, so that reads of open rejections skip them."""
    with database.write() as connection:
        connection.execute(SETTLE, {"ledger": ledger, "most": SETTLED_AT_ONCE, "first_before": None})


def _lock(connection: WriteConnection, ledger: str, rejection_ids: Sequence[str]) -> datetime:
    """Locks rejections. Returns now, or a moment after their last change if the clock is behind it."""
    # Each act gets a later moment than the previous one, even if the server's clock was set back, because these moments
    # decide the state of a rejection.
    rows = connection.execute(LOCK, (ledger, list(rejection_ids))).fetchall()
    return max((max(now, last + MICROSECOND) for now, last in rows), default=_NEVER)


def _dismiss(
    connection: WriteConnection, ledger: str, seen: Sequence[tuple[str, datetime]], by: str, reason: str
) -> set[str]:
    # The moments are those that the person saw. Under the lock, DISMISS skips a row with a later refusal.
    ids, moments = [name for name, _ in seen], [at for _, at in seen]
    now = _lock(connection, ledger, ids)
    values = {"ledger": ledger, "ids": ids, "moments": moments, "by": by, "reason": reason, "now": now}
    done = [name for (name,) in connection.execute(DISMISS, values)]
    if done:
        _step(connection, ledger, done, now, "dismissed", by, reason)
    return set(done)


def _step(
    connection: WriteConnection, ledger: str, rejection_ids: list[str], now: datetime, action: str, by: str, reason: str
) -> None:
    connection.execute(STEP, (ledger, now, action, by, reason, rejection_ids))
    tallies.count(connection, ledger, "rejection_steps", len(rejection_ids))


def _settled(found: Kept) -> RejectionSettled:
    was = f"{found.state}, and is recorded at position {found.recorded_position}"
    advice = ""
    if found.state == DISMISSED:
        was = f"dismissed by {found.dismissed_by}: {found.dismissed_reason}"
        advice = "; reopen it first if it is to be recorded after all"
    return RejectionSettled(
        f"rejection {found.rejection_id} is no longer open: it was {was}{advice}",
        field="rejection",
        expected="a rejection that is open",
        found=found.state,
    )
