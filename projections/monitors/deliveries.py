"""Monitors: deliveries that arrived, exports without acceptance, dead letters.

Owns: these three monitors, and the counting of deliveries. Does not own: the states of a delivery (delivery/states).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Final

from projections.delivery.channels import list_channels
from projections.delivery.states import DELIVERED, State
from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from projections.monitors.settings import MonitorSettings
from subledger.events.envelope import format_time

SHIPPED: Final = MonitorSettings()
_LOST: Final = (State.REJECTED, State.FAILED)
_NOT_ACCEPTED: Final = (State.BUILT, State.RENDERED, State.SUBMITTED, State.UNKNOWN, *_LOST)

# The condition is written like that of the partial index, so that the planner uses the index.
_WAITING: Final = "state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])"

DECIDED: Final = """
-- Deliveries whose state changed last after a moment, by state.
SELECT state, count(*) FROM deliveries WHERE ledger = %(ledger)s AND changed_at >= %(since)s GROUP BY state
"""
IN_STATES: Final = f"""
-- Deliveries in some states that are older than a moment: their number, that of their exports, and the oldest ones.
SELECT count(*) OVER (), dense_rank() OVER (ORDER BY export_id) + dense_rank() OVER (ORDER BY export_id DESC) - 1,
       delivery_id, destination, export_id, state, created_at, reason
FROM deliveries
WHERE ledger = %(ledger)s AND {_WAITING} AND state = ANY(%(states)s) AND created_at < %(before)s
ORDER BY created_at, delivery_id LIMIT %(limit)s
"""
NEVER_HANDED_ON: Final = """
-- Exports in a channel's format, of journals after the first that it delivered, that were never put into an outbox.
-- A format without documents is a file of the journal's lines.
SELECT e.created_at, e.export_id, e.period
FROM (SELECT period, number FROM deliveries
      WHERE ledger = %(ledger)s AND destination = %(destination)s AND state <> 'abandoned'
      ORDER BY period, number LIMIT 1) AS first
JOIN journal_exports e ON e.ledger = %(ledger)s AND (e.period, e.number) > (first.period, first.number)
JOIN journals j ON j.ledger = e.ledger AND j.period = e.period AND j.number = e.number
WHERE e.format = %(format)s AND NOT e.detail AND e.created_at < %(before)s
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.ledger = %(ledger)s AND d.export_id = e.export_id)
  AND NOT EXISTS (SELECT FROM deliveries d
                  WHERE d.ledger = %(ledger)s AND d.destination = %(destination)s AND d.period = e.period
                    AND d.number = e.number AND d.state <> 'abandoned')
  AND CASE WHEN e.postings IS NULL THEN j.lines <> '[]' ELSE e.postings::json -> 'documents' -> 0 IS NOT NULL END
ORDER BY e.created_at, e.export_id LIMIT %(limit)s
"""
BY_STATE: Final = f"""
-- Deliveries by destination and state: all that are not posted, and the posted or cancelled ones of the window.
SELECT destination, state, count(*) FROM deliveries
WHERE ledger = %(ledger)s AND {_WAITING} GROUP BY destination, state
UNION ALL
SELECT destination, state, count(*) FROM deliveries
WHERE ledger = %(ledger)s AND NOT {_WAITING} AND changed_at >= %(since)s GROUP BY destination, state
"""


def delivery_success(context: MonitorContext) -> Monitor:
    """The share of arrived deliveries among those decided in the window, by their present state.

    A delivery that was rejected, sent again and accepted counts as arrived. A delivery that a person cancelled does not
    count. Without decided deliveries there is no figure, and the monitor does not ring.
    """
    counts = {State(state): count for state, count in context.rows(DECIDED, since=context.window_start)}
    arrived = sum(counts.get(state, 0) for state in DELIVERED)
    lost = sum(counts.get(state, 0) for state in _LOST)
    least = context.settings.delivery_success_percent
    share = None if not arrived + lost else 100.0 * arrived / (arrived + lost)
    return Monitor(
        name="delivery_success",
        question="Do deliveries arrive in the general ledger?",
        value=None if share is None else round(share, 2),
        unit="percent",
        threshold=least,
        at_least=True,
        rings=least is not None and share is not None and share < least,
        evidence={"arrived": arrived, "rejected_or_failed": lost, "days": context.settings.window_days},
        next=context.command("deliveries list --state rejected --state failed") if lost else None,
    )


def exports_not_accepted(context: MonitorContext) -> Monitor:
    """Exports older than the threshold that the general ledger has not accepted, and exports without a delivery.

    The exports with a delivery are dead letters, or on their way. Exports without a delivery count if they have a
    channel's format, and belong to journals after the first one that went to the channel's destination: a company that
    delivered one month delivers the next one too. Empty exports have nothing to deliver, and do not count.
    """
    after_s = context.settings.not_accepted_after_s
    before = context.before(SHIPPED.not_accepted_after_s or 0 if after_s is None else after_s)
    found = _in_states(context, _NOT_ACCEPTED, before)
    forgotten = _never_handed_on(context, before)
    count = (found[0][1] if found else 0) + len(forgotten)
    return context.counted(
        "exports_not_accepted",
        "Has the general ledger accepted what was exported?",
        count,
        "exports",
        allowed=None if after_s is None else 0,
        evidence={
            "older_than_s": after_s,
            "deliveries": found[0][0] if found else 0,
            "oldest": _shown(found),
            "in_no_outbox": [export_id for _, export_id, _ in forgotten[:SHOWN]],
        },
        next=f"deliver {forgotten[0][2]}" if forgotten and not found else "deliveries list",
    )


def dead_letters(context: MonitorContext) -> Monitor:
    """Deliveries that were rejected or failed, and wait for a person."""
    found = _in_states(context, _LOST, context.now)
    return context.counted(
        "dead_letters",
        "How many deliveries wait for a person?",
        found[0][0] if found else 0,
        "deliveries",
        allowed=context.settings.dead_letters,
        evidence={"oldest": _shown(found)},
        next="deliveries list --state rejected --state failed",
    )


def deliveries_by_state(context: MonitorContext) -> dict[tuple[str, str], int]:
    """The number of deliveries by destination and state. Posted and cancelled deliveries count only if they are in the
    window.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for destination, state, count in context.rows(BY_STATE, since=context.window_start):
        counts[destination, state] += count
    return dict(counts)


def _in_states(context: MonitorContext, states: tuple[State, ...], before: datetime) -> list[Any]:
    found: list[Any] = context.rows(IN_STATES, states=[str(state) for state in states], before=before, limit=SHOWN)
    return found


def _shown(found: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "delivery": delivery,
            "destination": destination,
            "export": export,
            "state": state,
            "created_at": format_time(created_at),
            "reason": reason,
        }
        for _, _, delivery, destination, export, state, created_at, reason in found
    ]


def _never_handed_on(context: MonitorContext, before: datetime) -> list[tuple[datetime, str, str]]:
    """The time, id and period of exports without a delivery, over all channels, in order of time."""
    found: set[tuple[datetime, str, str]] = set()
    for channel in list_channels(context.connection, context.ledger):
        parameters = {
            "destination": channel.destination,
            "format": channel.format.name,
            "before": before,
            "limit": 1_000,
        }
        found.update((at, export_id, period) for at, export_id, period in context.rows(NEVER_HANDED_ON, **parameters))
    return sorted(found)
