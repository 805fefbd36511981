"""Reasons of accounting dates: why an entry is in the books on its day, and not on the day of its event.

The date was decided when the event was recorded, and is stored. The reason follows from other stored facts: both dates
of the entry, the months that were closed when its event was recorded, its kind and its sign.

Owns: the reasons, and their SQL, so that lists and sums name the same reason. Does not own: the rule of the dates
(subledger/accounting_dates), the history of a month (close/period_history).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from subledger.kinds import KINDS, Effect, Kind
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows


class DateReason(StrEnum):
    """The reason of an accounting date."""

    OWN_DAY = "own_day"
    """The effective date of its event."""
    MONTH_CLOSED = "month_closed"
    """The first open day, because the month of the effective date was closed when the event was recorded."""
    MIRRORS = "mirrors"
    """The day of the entry that it mirrors, because a mirror is not dated before its entry."""
    BLOCK_GAINED_LATER = "block_gained_later"
    """The first day on which its block had the credits or the value."""
    CAUSE_IS_LATER = "cause_is_later"
    """The day of its cause, such as the invoice that is paid, or the end of a block's credits."""


class DatedBecause(msgspec.Struct, frozen=True, kw_only=True):
    """The reason of an entry's date. ``closed_through`` is the last closed day, if the reason is a closed month."""

    reason: DateReason
    closed_through: date | None


Reasons = dict[tuple[int, int], DatedBecause]
"""Position and number of an entry → the reason of its date."""

REASON_IN_WORDS: Final = {
    DateReason.OWN_DAY: "the day of the event",
    DateReason.MONTH_CLOSED: "the months through {closed_through} were closed",
    DateReason.MIRRORS: "it mirrors an entry of this day",
    DateReason.BLOCK_GAINED_LATER: "the block did not have the credits or the value before",
    DateReason.CAUSE_IS_LATER: "it follows from something of this day",
}
"""The reasons for people."""
_ENDS: Final = ("expired", "escheated")
"""Columns of kinds that take the remainder of a block. Their date depends on the end of the block, not on a gain."""

CLOSES: Final = """
-- Closes and reopenings of months through a position. The condition on credits.consumed follows from the one before it;
-- it lets the planner use ix_events_type, which leaves usage out.
SELECT e.position, e.type, e.data::jsonb ->> 'period' FROM events e
WHERE e.ledger = %(ledger)s AND e.type IN ('period.closed', 'period.reopened') AND e.type <> 'credits.consumed'
  AND e.position <= %(position)s
ORDER BY e.position
"""

CLOSED_THROUGH: Final = """
    (CAST(:closed AS date[]))[width_bucket(n.position - 1, CAST(:closed_at AS bigint[]))]
"""
"""SQL: the last closed day when the event of the entry ``n`` was recorded; NULL for none."""

REASON: Final = f"""
    CASE WHEN n.accounting_date <= n.effective_date THEN '{DateReason.OWN_DAY}'
         WHEN n.accounting_date = {CLOSED_THROUGH} + 1 THEN '{DateReason.MONTH_CLOSED}'
         WHEN n.kind = ANY(:mirror_kinds) OR (
              (n.amount_minor < 0 OR (n.amount_minor = 0 AND (n.functional_minor < 0 OR n.credits < 0)))
              AND NOT n.kind = ANY(:signed_kinds)) THEN '{DateReason.MIRRORS}'
         WHEN n.kind = ANY(:block_kinds) THEN '{DateReason.BLOCK_GAINED_LATER}'
         ELSE '{DateReason.CAUSE_IS_LATER}' END
"""
"""SQL: the reason of the accounting date of the entry ``n``. Its parameters are ``parameters_of``."""

REASONS: Final = f"""
-- The reasons of the dates of the entries of some events.
SELECT n.position, n.number, {REASON} AS reason, {CLOSED_THROUGH} AS closed_through FROM entries n
WHERE n.ledger = :ledger AND n.position = ANY(:positions)
"""


def reasons_of(connection: Connection, ledger: str, positions: Sequence[int]) -> Reasons:
    """Returns the reasons of the dates of all entries of some events."""
    if not positions:
        return {}
    parameters = parameters_of(connection, ledger, through=max(positions))
    found = connection.execute(text(REASONS), {"ledger": ledger, "positions": list(positions), **parameters})
    return {(row.position, row.number): dated_because(row.reason, row.closed_through) for row in found}


def dated_because(reason: str, closed_through: date | None) -> DatedBecause:
    """Returns a reason as the SQL above selects it."""
    is_closed = reason == DateReason.MONTH_CLOSED
    return DatedBecause(reason=DateReason(reason), closed_through=closed_through if is_closed else None)


def _mirrors(kind: Kind) -> bool:
    """True for a kind that mirrors entries of another kind: breakage, or a dispute opened."""
    return kind.effect is Effect.WINS_DISPUTE or (kind.column in _ENDS and kind.sign > 0)


def parameters_of(connection: AnyConnection, ledger: str, *, through: int) -> dict[str, Any]:
    """Returns the parameters of the SQL above, for entries through a position."""
    closed_at, closed = [], []
    for position, type, name in rows(connection, CLOSES, {"ledger": ledger, "position": through}):
        period = Period.parse(name)
        closed_at.append(position)
        closed.append(period.last_day if type == "period.closed" else period.first_day - timedelta(days=1))
    return {
        "closed_at": closed_at,
        "closed": closed,
        "signed_kinds": [kind.name for kind in KINDS if kind.is_exchange or kind.signed],
        "mirror_kinds": [kind.name for kind in KINDS if _mirrors(kind)],
        "block_kinds": [k.name for k in KINDS if k.column is not None and not (k.column in _ENDS and k.sign < 0)],
    }
