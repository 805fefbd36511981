"""Periods, their closes and their reopenings as JSON."""

from __future__ import annotations

from api.shapes.answers import JsonObject
from projections.close.close import ClosedPeriod, ReopenedPeriod
from projections.close.period_history import Act, PeriodState
from subledger.events.envelope import format_time


def reopened_period(reopened: ReopenedPeriod) -> JsonObject:
    answer: JsonObject = {"ledger": reopened.ledger, "period": str(reopened.period)}
    if reopened.position is None:
        return {**answer, "state": "waiting", "approval_id": reopened.approval_id}
    return {**answer, "state": "open", "position": reopened.position}


def period(state: PeriodState) -> JsonObject:
    return {
        "period": str(state.period),
        "state": state.state,
        "entries": state.entries,
        "journals": state.journals,
        "closed_by": state.closed_by,
        "closed_at": None if state.closed_at is None else format_time(state.closed_at),
        "reopened_by": state.reopened_by,
        "reopened_at": None if state.reopened_at is None else format_time(state.reopened_at),
        "reason": state.reason,
        "history": [period_act(act) for act in state.history],
    }


def period_act(act: Act) -> JsonObject:
    """Returns an act on a period (close, reopen, …), with its user and its reason."""
    return {
        "what": act.what,
        "by": act.by,
        "at": format_time(act.at),
        "reason": act.reason,
        "subject": act.subject,
        "position": act.position,
    }


def closed_period(closed: ClosedPeriod) -> JsonObject:
    return {
        "ledger": closed.ledger,
        "period": str(closed.period),
        "state": "closed",
        "expired": closed.expired,
        "cut": closed.cut,
        "position": closed.position,
    }
