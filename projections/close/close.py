"""Closing a period, reopening one, and the cuts that say to which journal an entry belongs.

Closing first records what expired by the period's end. Then, in one commit, it records what has become due since and
what is owed and held in other currencies at the rates of the period's end, then the ``period.closed`` event, and
proves the invariants of the books through the period's last day.

Owns: the order of these steps. Does not own: what is proved (proofs), which date a late fact gets (periods), the
journals (summary), the list of periods (period_history).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from projections.close.proofs import prove
from projections.journals.unmapped import check_mapped
from subledger.deciding.currencies import remeasure
from subledger.errors import IntegrityFault, InvalidValue
from subledger.events.envelope import Event, own_event
from subledger.ledger import LedgerState, check_may_close, check_may_reopen, is_closed
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import rows
from subledger.store.writing.batch import RECORDED, Outcome
from subledger.store.writing.recorder import MICROSECOND, OWN_SOURCE, Recorder, due_expiries, ledger_now, now_of
from subledger.store.writing.rows import load_books
from subledger.store.writing.standing import refundable_blocks, standing_at

# Far above what can become due between the sweep and the lock that follows it.
_LATE_EXPIRIES: Final = 1_000_000


class ClosedPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A period that was closed: at which position, which cut that ended, how many expiries it recorded."""

    ledger: str
    period: Period
    position: int
    cut: int
    expired: int


class ReopenedPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A period that is open again, and with it every later one; or that waits for a second person, and is not yet."""

    ledger: str
    period: Period
    position: int | None
    approval_id: str | None = None


FIRST_ENTRY_ON: Final = """
-- The first day that has entries.
SELECT min(accounting_date) FROM ledger_days WHERE ledger = %(ledger)s
"""


def close_period(recorder: Recorder, ledger: str, period: Period, *, by: str | None = None) -> ClosedPeriod:
    """Closes a month: nothing is posted into it any more, and the open cut ends. ``by`` is who closes it.

    Raises PeriodNotOver, PeriodOutOfOrder naming the month that is next (also where this one is closed), UnmappedRole
    where something that moved has no GL account, IntegrityFault where an invariant does not hold; then the period is as
    it was.
    """
    # Asked before the sweep too: a month whose turn has not come must not expire anything.
    zone = _state_that_may_close(recorder, ledger, period).zone
    swept = recorder.sweep(ledger, period.end(zone))
    ended: list[int] = []

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        _check_may_close(connection, state, period)
        ended.append(state.open_cut)
        return [
            *due_expiries(connection, state, position, period.end(state.zone), _LATE_EXPIRIES),
            *remeasurements(connection, state, position, period),
            _period_event("period.closed", position, period, at=period.end(state.zone) - MICROSECOND, by=by),
        ]

    def check(connection: WriteConnection, state: LedgerState) -> None:
        if not is_closed(state, period):
            raise IntegrityFault(f"{period} was not closed", ledger=ledger, period=str(period))
        if due_expiries(connection, state, 0, period.end(state.zone), 1):
            raise IntegrityFault(f"an expiry of {period} was refused", ledger=ledger, period=str(period))
        prove(connection, ledger, state.functional_currency, period.last_day)
        check_mapped(connection, state, period)

    outcomes = recorder.transact(ledger, plan, check)
    late = sum(outcome.status == RECORDED and (outcome.event_id or "").startswith("expiry/") for outcome in outcomes)
    return ClosedPeriod(ledger=ledger, period=period, position=_position(outcomes), cut=ended[-1], expired=swept + late)


def remeasurements(connection: WriteConnection, state: LedgerState, position: int, period: Period) -> list[Event]:
    """One event a customer who owes or is owed something in another currency, and one of the ledger itself.

    Not entries of ``period.closed``: so each is in its customer's history, and none grows with the ledger.
    Raises ExchangeRateMissing.
    """
    home, on = state.functional_currency, period.last_day
    books = load_books(connection, state.ledger)
    standing = standing_at(connection, state.ledger, on, home)
    refundable = refundable_blocks(connection, state.ledger, standing)
    events = []
    for customer, positions in sorted(standing.items(), key=lambda item: item[0] or ""):
        monetary = {key: p for key, p in positions.items() if key[0] != "prepaid_liability" or key[2] in refundable}
        if remeasure(monetary, lambda _: (0, 0), books, on=on, following=on, functional_currency=home):
            events.append(
                own_event(
                    source=OWN_SOURCE,
                    event_id=f"balances.remeasured/{period}/{position}/{customer or ''}",
                    type="balances.remeasured",
                    customer=customer,
                    occurred_at=period.end(state.zone) - MICROSECOND,
                    data={"period": str(period)},
                )
            )
    return events


def _state_that_may_close(recorder: Recorder, ledger: str, period: Period) -> LedgerState:
    states: list[LedgerState] = []

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        _check_may_close(connection, state, period)
        states.append(state)
        return []

    recorder.transact(ledger, plan)
    return states[-1]


def _check_may_close(connection: WriteConnection, state: LedgerState, period: Period) -> None:
    (first,) = rows(connection, FIRST_ENTRY_ON, {"ledger": state.ledger})[0]
    check_may_close(state, period, first, now_of(connection))


def reopen_period(
    recorder: Recorder, ledger: str, period: Period, reason: str, *, by: str | None = None
) -> ReopenedPeriod:
    """Opens a closed month again, and every later one; or asks for a second person where the ledger does.

    Raises PeriodNotClosed, InvalidValue for an empty reason.
    """
    check_reason(reason, "reopening a period")

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        check_may_reopen(state, period)
        at = ledger_now(connection, state)
        return [_period_event("period.reopened", position, period, at=at, reason=reason, by=by)]

    outcomes = recorder.transact(ledger, plan, by=by or NOBODY)
    waiting = outcomes[-1].approval_id
    position = _position(outcomes) if waiting is None else None
    return ReopenedPeriod(ledger=ledger, period=period, position=position, approval_id=waiting)


def check_reason(reason: str, doing: str) -> None:
    """Raises InvalidValue where there is none."""
    if not 1 <= len(reason.strip()) <= 2000 or "\x00" in reason:
        raise InvalidValue(
            f"{doing} needs a reason", field="reason", expected="1 to 2000 characters", found=reason[:60]
        )  # fmt: skip


def cut_event(
    connection: WriteConnection, state: LedgerState, position: int, period: Period, *, by: str | None = None
) -> Event:
    """The event that ends the open cut of the locked ledger."""
    return _period_event("period.cut", position, period, at=ledger_now(connection, state), by=by)


def _period_event(type: str, position: int, period: Period, *, at: datetime, **data: str | None) -> Event:
    # Under the lock nobody else is at this position, so the id is unique however often a month is reopened.
    return own_event(
        source=OWN_SOURCE,
        event_id=f"{type}/{period}/{position}",
        type=type,
        customer=None,
        occurred_at=at,
        data={"period": str(period), **{name: value for name, value in data.items() if value is not None}},
    )


def _position(outcomes: list[Outcome]) -> int:
    """The position of the last event, which is the period's own."""
    last = outcomes[-1]
    if last.error is not None:
        raise last.error
    if last.position is None:
        raise IntegrityFault(f"{last.event_id} has no position")
    return last.position
