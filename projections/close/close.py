"""Commands: closing a period, and reopening one.

A close first records the expiries due by the period's end. Then it makes one commit. The commit records the
remeasurement of money in other currencies at the rates of the period's end, and the ``period.closed`` event. Before the
commit, the invariants of the books are proved through the period's last day. If expiries have become due since the
first step, both steps are done again.

Owns: the order of these steps. Does not own: the proofs (proofs), the remeasurement (remeasuring), the accounting date
of a late fact (periods), the journals (journals), the history of periods (period_history).
"""

from __future__ import annotations

from typing import Final

import msgspec

from projections.close.period_history import first_entry_on
from projections.close.proofs import prove
from projections.close.remeasuring import remeasurements
from projections.journals.unmapped import check_mapped
from subledger.closing import check_may_close, check_may_reopen, is_closed
from subledger.errors import IntegrityFault
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import check_reason, period_closed, period_reopened
from subledger.periods import Period
from subledger.persons import NOBODY
from subledger.store.database import WriteConnection
from subledger.store.writing.batch import Outcome
from subledger.store.writing.expiry_sweep import expiries_to_record, sweep
from subledger.store.writing.recorder import Recorder, ledger_now, now_of

_ATTEMPTS: Final = 100
"""Sweeps of one close: every further one follows a purchase that was recorded late since the sweep before."""


class ClosedPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A closed period: the position of its event, the cut that it ended, the number of expiries that it recorded."""

    ledger: str
    period: Period
    position: int
    cut: int
    expired: int


class ReopenedPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A reopened period; every later period is reopened too. If ``approval_id`` is set, the request waits for a second
    person instead.
    """

    ledger: str
    period: Period
    position: int | None
    approval_id: str | None = None


def close_period(recorder: Recorder, ledger: str, period: Period, *, by: str | None = None) -> ClosedPeriod:
    """Closes a month: no entry is posted into it any more, and the open cut ends. ``by`` is the person who closes it.

    Raises PeriodNotOver; PeriodOutOfOrder naming the next month to close, also if this one is already closed;
    UnmappedRole if a role with movements has no GL account; IntegrityFault if an invariant does not hold;
    UnknownLedger. After an error the period is still open.
    """
    # This is checked before the sweep too, because a command that is refused must not record the month's expiries.
    zone = _state_that_may_close(recorder, ledger, period).zone
    # The sweep commits in batches, and other writers record between them. Inside the close's transaction, the expiries
    # of a month would hold the ledger's lock until all are recorded.
    swept = 0
    for _ in range(_ATTEMPTS):
        swept += sweep(recorder, ledger, period.end(zone))
        try:
            outcomes, cut = _close(recorder, ledger, period, by)
        except _ExpiriesDueError:
            continue
        return ClosedPeriod(ledger=ledger, period=period, position=_position(outcomes), cut=cut, expired=swept)
    raise IntegrityFault(f"an expiry of {period} is still due after {_ATTEMPTS} sweeps", ledger=ledger)


class _ExpiriesDueError(Exception):
    """Expiries of the month have become due since the sweep."""


def _close(recorder: Recorder, ledger: str, period: Period, by: str | None) -> tuple[list[Outcome], int]:
    """Records the remeasurements and the close, and ends the cut. Raises _ExpiriesDueError and records nothing."""
    # The recorder may plan twice, so the cuts are in a list, and the last one counts.
    ended: list[int] = []

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        _check_may_close(connection, state, period)
        ended.append(state.open_cut)
        # Expiries change the balances that are remeasured, and these are read before the batch is decided.
        if expiries_to_record(connection, state, position, period.end(state.zone), 1):
            raise _ExpiriesDueError
        # The order matters: no entry of the month may follow the event that closes it.
        return [*remeasurements(connection, state, position, period), period_closed(state, position, period, by=by)]

    def check(connection: WriteConnection, state: LedgerState) -> None:
        # This is after the rows are written and before the commit. An error here rolls back the whole close, so a month
        # is never closed with invariants that do not hold. The first check is needed because an event of the plan can
        # be refused without an error.
        if not is_closed(state, period):
            raise IntegrityFault(f"{period} was not closed", ledger=ledger, period=str(period))
        prove(connection, ledger, state.functional_currency, period.last_day)
        check_mapped(connection, state, period)

    return recorder.transact(ledger, plan, check), ended[-1]


def _state_that_may_close(recorder: Recorder, ledger: str, period: Period) -> LedgerState:
    states: list[LedgerState] = []

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        _check_may_close(connection, state, period)
        states.append(state)
        return []

    recorder.transact(ledger, plan)
    return states[-1]


def _check_may_close(connection: WriteConnection, state: LedgerState, period: Period) -> None:
    check_may_close(state, period, first_entry_on(connection, state.ledger), now_of(connection))


def reopen_period(
    recorder: Recorder, ledger: str, period: Period, reason: str, *, by: str | None = None
) -> ReopenedPeriod:
    """Reopens a closed month and every later one. If the ledger's settings require a second person, requests it
    instead.

    Raises PeriodNotClosed, InvalidValue if the reason is empty, UnknownLedger.
    """
    check_reason(reason, "reopening a period")

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        check_may_reopen(state, period)
        return [period_reopened(position, period, at=ledger_now(connection, state), reason=reason, by=by)]

    outcomes = recorder.transact(ledger, plan, by=by or NOBODY)
    waiting = outcomes[-1].approval_id
    position = _position(outcomes) if waiting is None else None
    return ReopenedPeriod(ledger=ledger, period=period, position=position, approval_id=waiting)


def _position(outcomes: list[Outcome]) -> int:
    """Returns the position of the last event, which is the close or the reopening itself."""
    last = outcomes[-1]
    if last.error is not None:
        raise last.error
    if last.position is None:
        raise IntegrityFault(f"{last.event_id} has no position")
    return last.position
