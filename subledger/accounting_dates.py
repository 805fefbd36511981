"""The dates that the books give to a fact: its effective date, and the accounting date of each entry.

Does not own: the dates of other facts that an entry depends on (the decisions), closed months (closing).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from subledger.periods import MICROSECOND

_ONE_DAY = timedelta(days=1)


def effective_date(occurred_at: datetime, timezone: ZoneInfo) -> date:
    """The day of occurred_at in the ledger's time zone."""
    if timezone.key == "UTC" and occurred_at.tzinfo is UTC:
        return occurred_at.date()
    return occurred_at.astimezone(timezone).date()


def last_usable_day(expires_at: datetime, timezone: ZoneInfo) -> date:
    """The last day on which credits that expire at a moment can be used: expiry is exclusive."""
    return effective_date(expires_at - MICROSECOND, timezone)


def effective_date_of(type: str, occurred_at: datetime, timezone: ZoneInfo, accounting_rules: int) -> date:
    """The effective date of an event: its day, or of an expiry the last day on which the credits could be used.

    ``accounting_rules``: the version under which the event was recorded. Under version 1 the effective date of an
    expiry is its own day. The entries store this date, so it never changes.
    """
    is_expiry = type == "credits.expired" and accounting_rules >= 2
    return (last_usable_day if is_expiry else effective_date)(occurred_at, timezone)


def accounting_date(effective: date, closed_through: date | None, *others: date | None) -> date:
    """The accounting date: the latest of the effective date, the first open day, and the dates in ``others``.

    ``others``: the accounting dates of the entries that this entry mirrors or depends on. ``availability`` finds the
    first day on which a block has the credits and value that an entry takes.
    """
    # The date moves later, never earlier: an entry in a closed month would change published figures.
    latest = effective
    if closed_through is not None and closed_through >= latest:
        latest = closed_through + _ONE_DAY
    for other in others:
        if other is not None and other > latest:
            latest = other
    return latest
