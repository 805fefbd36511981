"""The dates that the books give to a fact: its effective date, and the accounting date of each entry.

Does not own: on which earlier dates an entry depends (the decisions), which months are closed (closing).
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

    ``accounting_rules``: the version under which the event was recorded. Of version 1 an expiry has its own day: the
    date is stored in the entries, so it never changes.
    """
    is_expiry = type == "credits.expired" and accounting_rules >= 2
    return (last_usable_day if is_expiry else effective_date)(occurred_at, timezone)


def accounting_date(effective: date, closed_through: date | None, *others: date | None) -> date:
    """The date of the books: the latest of the effective date, the first open day, and what an entry depends on.

    ``others``: the accounting dates of what the entry mirrors or depends on. The first day on which a block has what an
    entry takes of it is found by ``availability``.
    """
    # Only ever later, never earlier: an entry dated into a closed month would change figures that are published.
    latest = effective
    if closed_through is not None and closed_through >= latest:
        latest = closed_through + _ONE_DAY
    for other in others:
        if other is not None and other > latest:
            latest = other
    return latest
