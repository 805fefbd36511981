"""Months that may close and reopen: a month closes only after its end, and in order.

Does not own: what a close does (projections/close), the arithmetic of months (periods).
"""

from __future__ import annotations

import math
from datetime import date, datetime

from subledger.errors import PeriodNotClosed, PeriodNotOver, PeriodOutOfOrder
from subledger.events.envelope import format_time
from subledger.ledger import LedgerState
from subledger.periods import Period


def is_closed(state: LedgerState, period: Period) -> bool:
    """True if nothing can be posted into the period any more."""
    return state.closed_through is not None and period.last_day <= state.closed_through


def check_may_close(state: LedgerState, period: Period, first_entry_on: date | None, moment: datetime) -> None:
    """Checks that a month is over, and is the next one: after the last closed month, or the first with entries.

    ``moment`` is the time of the database's clock. Raises PeriodNotOver, and PeriodOutOfOrder naming the next month.
    """
    now, end = state.now(moment), period.end(state.zone)
    if now < end:
        raise PeriodNotOver(
            f"{period} is not over: it ends at {format_time(end)} (midnight in {state.timezone}), and it is now "
            f"{format_time(now)}; close it after its end",
            field="period",
            expected=f"a month that has ended, {Period.of(state.today(moment)).previous} or earlier",
            found=str(period),
            now=format_time(now),
            ends=format_time(end),
            retry_after_s=math.ceil((end - now).total_seconds()),
        )
    if state.closed_through is not None:
        following = Period.of(state.closed_through).next
        if period != following:
            raise PeriodOutOfOrder(
                f"{period} cannot be closed now: {following} is next",
                field="period",
                expected=str(following),
                found=str(period),
            )
    elif first_entry_on is not None and Period.of(first_entry_on) < period:
        first = Period.of(first_entry_on)
        raise PeriodOutOfOrder(
            f"{period} cannot be closed before {first}, the first month with entries",
            field="period",
            expected=str(first),
            found=str(period),
        )


def check_may_reopen(state: LedgerState, period: Period) -> None:
    """Checks that a period is closed. Later closed periods reopen with it. Raises PeriodNotClosed."""
    if not is_closed(state, period):
        raise PeriodNotClosed(f"{period} is not closed", field="period", expected="a closed period", found=str(period))
