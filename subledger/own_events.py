"""The events that a ledger records about itself: settings, policy, account mapping, clock, periods.

Owns: the id and the data of each. Does not own: the form of the data (events/own_data), the rules that allow an event
(ledger, ledger_settings, projections/close), the recording.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from subledger.errors import InvalidValue
from subledger.events.envelope import OWN_SOURCE, Event, canonical, format_time, own_event
from subledger.events.own_data import FUTURE_TOLERANCE, RATE_MAX_AGE_DAYS, Approvals
from subledger.ledger import LedgerState
from subledger.periods import MICROSECOND, Period
from subledger.posting import Policy

MappingRows = Sequence[dict[str, str]]
"""The rows of an account mapping in their canonical order."""


def ledger_configured(
    state: LedgerState, *, number: int, at: datetime, by: str | None, replaces: Approvals | None = None
) -> Event:
    """The settings of ``state``, in force from this event on. ``number`` is the planned position of the event.

    Settings at their default are omitted, so that the events of older ledgers keep their bytes. ``replaces``: the
    current approval settings, if the event waits for a second person. Then several changes may be planned for one
    position. So the id contains a digest of the settings: the same change has the same id, and different changes have
    different ids.
    """
    data = {
        "entity": state.entity,
        "functional_currency": state.functional_currency,
        "timezone": state.timezone,
        "on_shortfall": state.on_shortfall,
        "late_usage": state.late_usage,
        **({"approvals": state.approvals.document} if state.approvals != Approvals() else {}),
        **({"future_tolerance": state.future_tolerance} if state.future_tolerance != FUTURE_TOLERANCE else {}),
        **({"rate_max_age_days": age} if (age := state.rate_max_age_days) != RATE_MAX_AGE_DAYS else {}),
        **({"sandbox": True} if state.sandbox else {}),
        **({"accounting_rules": state.accounting_rules} if state.accounting_rules != 1 else {}),
        **({"dimensions": list(state.dimensions)} if state.dimensions else {}),
    }
    if replaces is None or replaces == state.approvals:
        return _event("ledger.configured", number, at, data, by=by)
    digest = hashlib.sha256(canonical(data).encode()).hexdigest()[:12]
    return _event("ledger.configured", f"{number}/{digest}", at, data, by=by)


def policy_adopted(policy: Policy, *, number: int, at: datetime, by: str | None) -> Event:
    """The adoption of a posting policy, with the rules that it states itself. Its number counts from 1."""
    data: dict[str, Any] = {
        "policy": number,
        "name": policy.name,
        "version": policy.version,
        "content_hash": policy.content_hash,
        "rules": policy.rules_document,
    }
    if policy.description:
        data["description"] = policy.description
    return _event("policy.adopted", number, at, data, by=by)


def mapping_adopted(
    rows: MappingRows, content_hash: str, *, number: int, at: datetime, by: str | None, valid_from: Period | None = None
) -> Event:
    """The adoption of an account mapping, with all its rows. Its number counts from 1.

    With ``valid_from`` the mapping applies only to the journals of that month and of later months.
    """
    data = {"mapping": number, "content_hash": content_hash, "rows": list(rows)}
    first = None if valid_from is None else str(valid_from)
    return _event("mapping.adopted", number, at, data, valid_from=first, by=by)


def clock_set(clock: datetime, *, number: int, by: str | None) -> Event:
    """The new time of a sandbox's clock. The event happens at that time."""
    return _event("clock.set", number, clock, {"clock": format_time(clock)}, by=by)


def period_closed(state: LedgerState, position: int, period: Period, *, by: str | None) -> Event:
    """The close of a period, dated to its last microsecond."""
    return _period_event("period.closed", position, period, at=_last_moment(state, period), by=by)


def period_reopened(position: int, period: Period, *, at: datetime, reason: str, by: str | None) -> Event:
    """The reopening of a closed period, and of every later one."""
    return _period_event("period.reopened", position, period, at=at, reason=reason, by=by)


def period_cut(position: int, period: Period, *, at: datetime, by: str | None) -> Event:
    """The end of the open cut, for a journal of a period that is open."""
    return _period_event("period.cut", position, period, at=at, by=by)


def balances_remeasured(state: LedgerState, position: int, period: Period, customer: str | None) -> Event:
    """The remeasurement of one customer's balances at the rates of a period's end; None: of the ledger's own."""
    return own_event(
        source=OWN_SOURCE,
        event_id=f"balances.remeasured/{period}/{position}/{customer or ''}",
        type="balances.remeasured",
        customer=customer,
        occurred_at=_last_moment(state, period),
        data={"period": str(period)},
    )


def check_reason(reason: str, action: str) -> None:
    """Raises InvalidValue if the reason for an action, such as ``reopening a period``, is empty or too long."""
    if not 1 <= len(reason.strip()) <= 2000 or "\x00" in reason:
        raise InvalidValue(
            f"{action} needs a reason", field="reason", expected="1 to 2000 characters", found=reason[:60]
        )


def _last_moment(state: LedgerState, period: Period) -> datetime:
    return period.end(state.zone) - MICROSECOND


def _event(type: str, number: int | str, at: datetime, data: dict[str, Any], **optional: str | None) -> Event:
    given = {name: value for name, value in optional.items() if value is not None}
    return own_event(
        source=OWN_SOURCE, event_id=f"{type}/{number}", type=type, customer=None, occurred_at=at, data=data | given
    )


def _period_event(type: str, position: int, period: Period, *, at: datetime, **optional: str | None) -> Event:
    # Under the ledger's lock no other event can get this position. So the id is unique, even if a month is closed and
    # reopened many times.
    given = {name: value for name, value in optional.items() if value is not None}
    return own_event(
        source=OWN_SOURCE,
        event_id=f"{type}/{period}/{position}",
        type=type,
        customer=None,
        occurred_at=at,
        data={"period": str(period)} | given,
    )
