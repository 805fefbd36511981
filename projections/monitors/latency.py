"""Monitor: the time from an event to the general ledger.

Events reach the general ledger in journals, and most companies make one journal a month. The time is measured from the
last event of a journal, which is the close or the cut that ended it, to the posting of its last document. From that
event on the journal could be in the general ledger. The time of a correction begins when the correction is made.

Two other measures would be useless. From each event, every month would be a month late. From the file, a month without
a file would never be late.

The monitor rings for the oldest journal that is not posted in the general ledger of each channel, even if the journal
was not made or not delivered yet. The evidence has the times of the journals that were posted in the window.

Owns: this monitor. Does not own: the end of a journal (journals), the states of a delivery (delivery/states).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from projections.delivery.channels import list_channels
from projections.journals.waiting import entries_waiting
from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from subledger.events.envelope import format_time
from subledger.periods import Period

ENDS: Final = """
-- The events that ended a cut, newest first, with their recorded_at. The newest one ended the cut before the open one.
SELECT e.type, e.data, b.recorded_at FROM (
    SELECT position, type, data FROM events
    WHERE ledger = %(ledger)s AND type IN ('period.closed', 'period.cut') AND type <> 'credits.consumed'
    ORDER BY position DESC LIMIT %(limit)s
) AS e CROSS JOIN LATERAL (
    SELECT recorded_at FROM batches WHERE ledger = %(ledger)s AND last_position >= e.position
    ORDER BY last_position LIMIT 1
) AS b ORDER BY e.position DESC
"""
ON_THEIR_WAY: Final = """
-- Journals with a delivery that is not posted yet.
SELECT DISTINCT d.destination, d.period, d.number, j.to_cut, j.made_at
FROM deliveries d JOIN journals j ON j.ledger = d.ledger AND j.period = d.period AND j.number = d.number
WHERE d.ledger = %(ledger)s AND d.state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])
"""
NOT_HANDED_ON: Final = """
-- Journals of closed months, not empty, without a delivery to a channel's destination, not even a cancelled one: those
-- after the first one that was delivered there, or, if none was, those of the months closed last.
WITH first AS (
    SELECT period, number FROM deliveries
    WHERE ledger = %(ledger)s AND destination = %(destination)s AND state <> 'abandoned'
    ORDER BY period, number LIMIT 1
)
SELECT j.period, j.number, j.to_cut, j.made_at FROM journals j
WHERE j.ledger = %(ledger)s AND j.period <= %(through)s AND j.lines <> '[]'
  AND ((j.period, j.number) > (SELECT period, number FROM first)
       OR j.period = ANY(%(latest)s::text[]) AND NOT EXISTS (SELECT FROM first))
  AND NOT EXISTS (SELECT FROM deliveries d
                  WHERE d.ledger = %(ledger)s AND d.destination = %(destination)s AND d.period = j.period
                    AND d.number = j.number)
  AND NOT EXISTS (SELECT FROM journal_exports e
                  WHERE e.ledger = %(ledger)s AND e.period = j.period AND e.number = j.number
                    AND e.format = %(format)s AND NOT e.detail AND e.postings IS NOT NULL
                    AND e.postings::json -> 'documents' -> 0 IS NULL)
ORDER BY j.period, j.number LIMIT %(limit)s
"""
POSTED: Final = """
-- Journals with a delivery that changed since a moment, and the time at which the last of their deliveries was posted.
SELECT d.destination, d.period, d.number, j.to_cut, j.made_at, max(s.at)
FROM deliveries d
JOIN journals j ON j.ledger = d.ledger AND j.period = d.period AND j.number = d.number
CROSS JOIN LATERAL (SELECT min(at) AS at FROM delivery_steps
                    WHERE ledger = %(ledger)s AND delivery_id = d.delivery_id AND state = 'posted') AS s
WHERE d.ledger = %(ledger)s AND d.changed_at >= %(since)s AND d.state IN ('posted', 'reconciled')
GROUP BY d.destination, d.period, d.number, j.to_cut, j.made_at
HAVING max(s.at) >= %(since)s
"""

_ENDS_AT_MOST: Final = 2_000
"""Several years with a cut each day. A journal that ended earlier counts as old as the oldest of these cuts."""
_MONTHS_BACK: Final = 3
"""Number of the months closed last that are searched: for entries without a journal, and before a first delivery also
for journals.
"""
_JOURNALS_AT_MOST: Final = 1_000


class _End(msgspec.Struct, frozen=True):
    """The end of a cut: the period of its event, and its time."""

    cut: int
    period: str
    closed: bool
    at: datetime


def event_to_general_ledger(context: MonitorContext) -> Monitor:
    """The age of the oldest journal that is not posted in a general ledger, from its last event on; 0 if all are
    posted.
    """
    ends = _ends(context)
    not_delivered = _not_made(context, ends) + _not_handed_on(context, ends)
    waiting = sorted(_on_their_way(context, ends) + not_delivered, key=lambda item: item[0])
    oldest_s = max((context.now - waiting[0][0]).total_seconds(), 0.0) if waiting else 0.0
    return context.counted(
        "event_to_general_ledger",
        "Is the oldest event that was handed over in the general ledger's books?",
        round(oldest_s, 3),
        "seconds",
        allowed=context.settings.event_to_general_ledger_s,
        evidence={
            "journals": len(waiting),
            "oldest": [{**details, "last_event_at": format_time(at)} for at, details in waiting[:SHOWN]],
            "posted": _posted(context, ends),
            "days": context.settings.window_days,
        },
        next=_next(waiting[0][1]) if waiting else "deliveries list",
    )


def _next(details: dict[str, Any]) -> str:
    if "destination" in details:
        return "deliveries list"
    return f"deliver {details['period']}" + (f" --channel {details['channel']}" if "channel" in details else "")


def _ends(context: MonitorContext) -> list[_End]:
    """The ends of cuts, newest first."""
    found = context.rows(ENDS, limit=_ENDS_AT_MOST)
    return [
        _End(context.state.open_cut - 1 - back, msgspec.json.decode(data)["period"], type == "period.closed", at)
        for back, (type, data, at) in enumerate(found)
    ]


def _ended_at(ends: Sequence[_End], period: str, to_cut: int, made_at: datetime | None) -> datetime | None:
    """The time at which a journal ended: the last cut of its own month, because a cut of another month added no entry
    to it. For a correction, the time at which it was made.
    """
    if made_at is not None:
        return made_at
    own = next((end.at for end in ends if end.period == period and end.cut <= to_cut), None)
    return own or (ends[-1].at if ends else None)


_Waiting = tuple[datetime, dict[str, Any]]


def _on_their_way(context: MonitorContext, ends: Sequence[_End]) -> list[_Waiting]:
    return [
        (at, {"destination": destination, "period": period, "number": number})
        for destination, period, number, to_cut, made_at in context.rows(ON_THEIR_WAY)
        if (at := _ended_at(ends, period, to_cut, made_at)) is not None
    ]


def _not_made(context: MonitorContext, ends: Sequence[_End]) -> list[_Waiting]:
    """Closed months with entries that are in no journal, if the ledger has a channel."""
    if not list_channels(context.connection, context.ledger):
        return []
    return [
        (at, {"period": period})
        for period, at in _closed_last(context, ends).items()
        if entries_waiting(context.connection, context.ledger, Period.parse(period))
    ]


def _not_handed_on(context: MonitorContext, ends: Sequence[_End]) -> list[_Waiting]:
    """Journals of closed months that were exported to a file, and have no delivery to a channel's destination."""
    through = context.state.closed_through
    if through is None:
        return []
    parameters = {
        "through": str(Period.of(through)),
        "latest": list(_closed_last(context, ends)),
        "limit": _JOURNALS_AT_MOST,
    }
    by_destination = {channel.destination: channel for channel in list_channels(context.connection, context.ledger)}
    return [
        (at, {"channel": channel.name, "period": period, "number": number})
        for channel in by_destination.values()
        for period, number, to_cut, made_at in context.rows(
            NOT_HANDED_ON, destination=channel.destination, format=channel.format.name, **parameters
        )
        if (at := _closed_at(ends, period, to_cut, made_at)) is not None
    ]


def _closed_last(context: MonitorContext, ends: Sequence[_End]) -> dict[str, datetime]:
    """The months closed last that are still closed, with the time of their close."""
    through = context.state.closed_through
    latest: dict[str, datetime] = {}
    for end in ends:
        if end.closed and len(latest) < _MONTHS_BACK:
            latest.setdefault(end.period, end.at)
    return {
        period: at for period, at in latest.items() if through is not None and Period.parse(period).last_day <= through
    }


def _closed_at(ends: Sequence[_End], period: str, to_cut: int, made_at: datetime | None) -> datetime | None:
    """The end of a journal, but not before the close of its month: a cut in the middle of a month may wait for it."""
    ended_at = _ended_at(ends, period, to_cut, made_at)
    closes = [end.at for end in ends if end.period == period and end.closed and end.cut >= to_cut]
    return ended_at if ended_at is None or not closes else max(ended_at, closes[-1])


def _posted(context: MonitorContext, ends: Sequence[_End]) -> dict[str, Any]:
    """The times of the journals posted in the window: their number, the longest, the 95th percentile."""
    took = sorted(
        max((at - ended_at).total_seconds(), 0.0)
        for _, period, _, to_cut, made_at, at in context.rows(POSTED, since=context.window_start)
        if (ended_at := _ended_at(ends, period, to_cut, made_at)) is not None
    )
    if not took:
        return {"journals": 0, "max_s": None, "p95_s": None}
    nearest = took[math.ceil(0.95 * len(took)) - 1]
    return {"journals": len(took), "max_s": round(took[-1], 3), "p95_s": round(nearest, 3)}
