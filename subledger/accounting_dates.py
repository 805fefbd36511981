"""The dates that the books give to a fact: its effective date, and the accounting date of each entry.

Does not own: on which earlier dates an entry depends (the decisions), which months are closed (closing).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_ONE_DAY = timedelta(days=1)


def effective_date(occurred_at: datetime, timezone: ZoneInfo) -> date:
    """The day of occurred_at in the ledger's time zone."""
    if timezone.key == "UTC" and occurred_at.tzinfo is UTC:
        return occurred_at.date()
    return occurred_at.astimezone(timezone).date()


def accounting_date(effective: date, closed_through: date | None, *others: date | None) -> date:
    """The date of the books: the latest of the effective date, the first open day, and what an entry depends on.

    ``others``: the latest accounting date at which an affected block gained credits or money, and the accounting
    date of the entry being reversed. With them every point-in-time view shows a block's gains before its draws, so
    a carrying amount is never negative and a block without credits has no value, in any view.
    """
    # Only ever later, never earlier: an entry dated into a closed month would change figures that are published, and a
    # draw dated before the purchase that it draws on would show a negative block to whoever asks for the day between.
    latest = effective
    if closed_through is not None and closed_through >= latest:
        latest = closed_through + _ONE_DAY
    for other in others:
        if other is not None and other > latest:
            latest = other
    return latest
