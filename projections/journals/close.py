"""Closing a period, reopening one, and the cuts that say to which journal an entry belongs.

Closing first records what expired by the period's end. Then, in one commit, it records what has become due since and
what is owed and held in other currencies at the rates of the period's end, then the ``period.closed`` event, and
proves the invariants of the books through the period's last day.

Owns: the order of these steps and the proofs. Does not own: which date a late fact gets (periods), the journals
(summary).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from projections.journals.mapping import CLOCK
from projections.journals.rows import AnyConnection, rows
from subledger.accounts import ROLE_BY_NAME
from subledger.currencies import remeasure
from subledger.errors import IntegrityFault, InvalidValue
from subledger.events import Event, own_event
from subledger.journal import KINDS
from subledger.ledger import LedgerState, check_may_close, check_may_reopen, is_closed
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.memory import load_books
from subledger.store.reader import ledger_head
from subledger.store.recorder import NOBODY, OWN_SOURCE, RECORDED, Outcome, Recorder, due_expiries
from subledger.store.standing import refundable_blocks, standing_at

# Far above what can become due between the sweep and the lock that follows it.
_LATE_EXPIRIES: Final = 1_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


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


class PeriodState(msgspec.Struct, frozen=True, kw_only=True):
    """One month of a ledger: ``open`` or ``closed``, its entries, the journals handed over."""

    period: Period
    state: str
    entries: int
    journals: int


FIRST_ENTRY_ON: Final = """
-- The first day that has entries.
SELECT min(accounting_date) FROM ledger_days WHERE ledger = %(ledger)s
"""


def close_period(recorder: Recorder, ledger: str, period: Period) -> ClosedPeriod:
    """Closes a month: nothing is posted into it any more, and the open cut ends.

    Raises PeriodOutOfOrder naming the month that is next (also where this one is closed), IntegrityFault where an
    invariant does not hold; then the period is as it was.
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
            *_remeasurements(connection, state, position, period),
            _period_event("period.closed", position, period, at=period.end(state.zone) - _MICROSECOND),
        ]

    def check(connection: WriteConnection, state: LedgerState) -> None:
        if not is_closed(state, period):
            raise IntegrityFault(f"{period} was not closed", ledger=ledger, period=str(period))
        if due_expiries(connection, state, 0, period.end(state.zone), 1):
            raise IntegrityFault(f"an expiry of {period} was refused", ledger=ledger, period=str(period))
        prove(connection, ledger, period.last_day)

    outcomes = recorder.transact(ledger, plan, check)
    late = sum(outcome.status == RECORDED and (outcome.event_id or "").startswith("expiry/") for outcome in outcomes)
    return ClosedPeriod(ledger=ledger, period=period, position=_position(outcomes), cut=ended[-1], expired=swept + late)


def _remeasurements(connection: WriteConnection, state: LedgerState, position: int, period: Period) -> list[Event]:
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
                    occurred_at=period.end(state.zone) - _MICROSECOND,
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
    check_may_close(state, period, first)


def reopen_period(recorder: Recorder, ledger: str, period: Period, reason: str, *, by: str = NOBODY) -> ReopenedPeriod:
    """Opens a closed month again, and every later one; or asks for a second person where the ledger does.

    Raises PeriodNotClosed, InvalidValue for an empty reason.
    """
    if not 1 <= len(reason.strip()) <= 2000 or "\x00" in reason:
        raise InvalidValue(
            "reopening a period needs a reason", field="reason", expected="1 to 2000 characters", found=reason[:60]
        )

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        check_may_reopen(state, period)
        return [_period_event("period.reopened", position, period, at=_now(connection), reason=reason)]

    outcomes = recorder.transact(ledger, plan, by=by)
    waiting = outcomes[-1].approval_id
    position = _position(outcomes) if waiting is None else None
    return ReopenedPeriod(ledger=ledger, period=period, position=position, approval_id=waiting)


def take_cut(recorder: Recorder, ledger: str, period: Period) -> int:
    """Ends the open cut, for an export of a period that is still open. Returns the cut that ended."""
    ended: list[int] = []

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        ended.append(state.open_cut)
        return [cut_event(connection, position, period)]

    _position(recorder.transact(ledger, plan))
    return ended[-1]


def cut_event(connection: WriteConnection, position: int, period: Period) -> Event:
    """The event that ends the open cut of the locked ledger."""
    return _period_event("period.cut", position, period, at=_now(connection))


def _period_event(type: str, position: int, period: Period, *, at: datetime, **data: str) -> Event:
    # Under the lock nobody else is at this position, so the id is unique however often a month is reopened.
    return own_event(
        source=OWN_SOURCE,
        event_id=f"{type}/{period}/{position}",
        type=type,
        customer=None,
        occurred_at=at,
        data={"period": str(period), **data},
    )


def _now(connection: WriteConnection) -> datetime:
    moment: datetime = rows(connection, CLOCK, {})[0][0]
    return moment


def _position(outcomes: list[Outcome]) -> int:
    """The position of the last event, which is the period's own."""
    last = outcomes[-1]
    if last.error is not None:
        raise last.error
    if last.position is None:
        raise IntegrityFault(f"{last.event_id} has no position")
    return last.position


# --- proofs ---------------------------------------------------------------------------------------------------

TOTALS_WITHOUT_RULE: Final = """
-- Kinds in the day totals that their policy has no rule for; kinds that move nothing have none.
SELECT d.policy, d.kind FROM ledger_days d
WHERE d.ledger = %(ledger)s AND d.accounting_date <= %(through)s
  AND (d.written_minor <> 0 OR d.mirrored_minor <> 0
       OR d.functional_written_minor <> 0 OR d.functional_mirrored_minor <> 0)
  AND NOT EXISTS (SELECT FROM posting_rules r
                  WHERE r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind)
LIMIT 1
"""
TOTALS_AGAINST_ENTRIES: Final = """
-- Where the day totals do not say what the entries say, by kind and currency.
SELECT policy, kind, currency FROM (
    SELECT policy, kind, currency, written_minor AS written, mirrored_minor AS mirrored,
           functional_written_minor - functional_mirrored_minor AS functional, credits, entries
    FROM ledger_days WHERE ledger = %(ledger)s AND accounting_date <= %(through)s
    UNION ALL
    SELECT policy, kind, currency, -sum(greatest(amount_minor, 0)), -sum(greatest(-amount_minor, 0)),
           -sum(functional_minor), -sum(credits), -count(*)
    FROM entries WHERE ledger = %(ledger)s AND accounting_date <= %(through)s
    GROUP BY policy, kind, currency
) AS both_sides
GROUP BY policy, kind, currency
HAVING sum(written) <> 0 OR sum(mirrored) <> 0 OR sum(functional) <> 0 OR sum(credits) <> 0 OR sum(entries) <> 0
ORDER BY policy, kind, currency LIMIT 1
"""
TRIAL_BALANCE: Final = """
-- Debits and credits over the accounts of the chart, by currency. A rule that names another account unbalances them.
SELECT d.currency,
       sum((d.written_minor + d.mirrored_minor) * (r.debit = ANY(%(roles)s))::int) AS debit,
       sum((d.written_minor + d.mirrored_minor) * (r.credit = ANY(%(roles)s))::int) AS credit
FROM ledger_days d
JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
WHERE d.ledger = %(ledger)s AND d.accounting_date <= %(through)s
GROUP BY d.currency
"""
BLOCK_FAULTS: Final = """
-- Blocks whose liability is negative, is not what their deposit and clearing are, or is left without credits.
WITH effects AS (
    SELECT k.kind, p.policy, k.sign,
           coalesce(sum((r.credit = 'prepaid_liability')::int - (r.debit = 'prepaid_liability')::int), 0) AS liability,
           coalesce(sum((r.credit = 'customer_deposits')::int - (r.debit = 'customer_deposits')::int), 0) AS deposits,
           coalesce(sum((r.debit = 'credits_clearing')::int - (r.credit = 'credits_clearing')::int), 0) AS clearing
    FROM unnest(%(kinds)s::text[], %(signs)s::int[]) AS k (kind, sign)
    CROSS JOIN posting_policies p
    LEFT JOIN posting_rules r ON r.ledger = p.ledger AND r.policy = p.policy AND r.kind = k.kind
    WHERE p.ledger = %(ledger)s
    GROUP BY k.kind, p.policy, k.sign
), blocks AS (
    SELECT e.block_id, sum(e.credits * f.sign) AS left_credits, sum(e.amount_minor * f.liability) AS liability,
           sum(e.amount_minor * f.deposits) AS deposits, sum(e.amount_minor * f.clearing) AS clearing
    FROM entries e
    JOIN effects f ON f.policy = e.policy AND f.kind = e.kind
    WHERE e.ledger = %(ledger)s AND e.accounting_date <= %(through)s AND e.block_id IS NOT NULL
    GROUP BY e.block_id
)
SELECT block_id, left_credits, liability, deposits, clearing FROM blocks
WHERE liability < 0 OR left_credits < 0 OR (left_credits = 0 AND liability <> 0)
   OR (%(deposits)s AND (liability <> deposits OR liability <> clearing))
ORDER BY block_id LIMIT 1
"""
DEPOSIT_POLICIES: Final = """
-- Whether every policy of the ledger is one of customer deposits.
SELECT coalesce(bool_and(EXISTS (SELECT FROM posting_rules r WHERE r.ledger = p.ledger AND r.policy = p.policy
                                 AND 'customer_deposits' IN (r.debit, r.credit))), false)
FROM posting_policies p WHERE p.ledger = %(ledger)s
"""


def prove(connection: AnyConnection, ledger: str, through: date) -> None:
    """The invariants of the books through a day. Raises IntegrityFault naming the first that does not hold.

    Totals tell what the entries tell; the trial balance balances; a block's liability is never negative, is zero
    where no credits are left, and under the deposit policies equals its deposit and its clearing (so their sums,
    the control balances, are equal too).
    """
    where: dict[str, Any] = {"ledger": ledger, "through": through}
    for policy, kind in rows(connection, TOTALS_WITHOUT_RULE, where):
        raise _broken(f"policy {policy} has no rule for {kind}", where)
    for policy, kind, currency in rows(connection, TOTALS_AGAINST_ENTRIES, where):
        raise _broken(f"the day totals of {kind} ({currency}, policy {policy}) are not its entries", where)
    for currency, debit, credit in rows(connection, TRIAL_BALANCE, {**where, "roles": list(ROLE_BY_NAME)}):
        if debit != credit:
            raise _broken(f"the trial balance in {currency} debits {debit} and credits {credit}", where)
    (deposits,) = rows(connection, DEPOSIT_POLICIES, where)[0]
    kinds = {"kinds": [kind.name for kind in KINDS], "signs": [kind.sign for kind in KINDS]}
    for block_id, left, liability, deposit, clearing in rows(
        connection, BLOCK_FAULTS, {**where, **kinds, "deposits": deposits}
    ):
        raise _broken(
            f"block {block_id}: {left} credits left, liability {liability}, deposits {deposit}, clearing {clearing}",
            where,
        )


def _broken(message: str, where: Mapping[str, Any]) -> IntegrityFault:
    return IntegrityFault(
        f"ledger {where['ledger']} through {where['through']}: {message}",
        ledger=where["ledger"],
        through=str(where["through"]),
    )


# --- the list of periods --------------------------------------------------------------------------------------

MONTHS_WITH_ENTRIES: Final = """
-- Entries by month of their accounting date.
SELECT to_char(accounting_date, 'YYYY-MM') AS period, sum(entries)::bigint AS entries
FROM ledger_days WHERE ledger = %(ledger)s GROUP BY 1
"""
MONTHS_WITH_JOURNALS: Final = """
-- Journals by period.
SELECT period, count(*) FROM journals WHERE ledger = %(ledger)s GROUP BY period
"""


def periods(connection: Connection, ledger: str) -> list[PeriodState]:
    """Every month from the first with entries to the last with entries, or closed. Raises UnknownLedger."""
    state = ledger_head(connection, ledger).state
    where = {"ledger": ledger}
    entries = {Period.parse(name): count for name, count in rows(connection, MONTHS_WITH_ENTRIES, where)}
    journals = {Period.parse(name): count for name, count in rows(connection, MONTHS_WITH_JOURNALS, where)}
    known = [*entries, *journals]
    if state.closed_through is not None:
        known.append(Period.of(state.closed_through))
    result: list[PeriodState] = []
    period = min(known, default=None)
    while period is not None and period <= max(known):
        result.append(
            PeriodState(
                period=period,
                state="closed" if is_closed(state, period) else "open",
                entries=entries.get(period, 0),
                journals=journals.get(period, 0),
            )
        )
        period = period.next
    return result
