"""How long does an event take into the general ledger?

Events go there in journals, and most companies make one a month. Measured from each event, such a month would be late
by a month and nothing could be done about it; measured from the file, a file that nobody made would never be late. So
a journal is measured from its last event, the close or the cut that ended it (from then on the general ledger could
have had it; a correction, from when it was made), to the posting of its last document. What rings is what can be acted
on: the oldest journal that is not in the books of each channel's general ledger now, made or not, delivered or not.
What those of the window have taken stands beside it.

Owns: this monitor. Does not own: when a journal ends (summary), what posted means (delivery/states).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from projections.delivery.channels import list_channels
from projections.journals.making import entries_waiting
from projections.monitors.monitor import SHOWN, Looking, Monitor
from subledger.events.envelope import format_time
from subledger.periods import Period

ENDS: Final = """
-- The events that ended a cut, newest first, with the moment of their recording. The newest ended the one before the
-- open cut.
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
-- Journals of which something is not in the books of a general ledger yet.
SELECT DISTINCT d.destination, d.period, d.number, j.to_cut, j.made_at
FROM deliveries d JOIN journals j ON j.ledger = d.ledger AND j.period = d.period AND j.number = d.number
WHERE d.ledger = %(ledger)s AND d.state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])
"""
NOT_HANDED_ON: Final = """
-- Journals of closed months with something in them that a channel's general ledger has no delivery of, not even one
-- that a person took out: those after the first that went there, and where none did, those of the months closed last.
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
-- Journals of which something changed since a moment, with when the last of it was posted.
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
"""Some years of a cut a day. A journal that ended before them is as old as the oldest of them at least."""
_MONTHS_BACK: Final = 3
"""Months closed last that are asked for entries which no journal holds, and, before a first delivery, for journals."""
_JOURNALS_AT_MOST: Final = 1_000


class _End(msgspec.Struct, frozen=True):
    """What ended a cut of a period, and when."""

    cut: int
    period: str
    closed: bool
    at: datetime


def event_to_general_ledger(looking: Looking) -> Monitor:
    """The age, from its last event, of the oldest journal that is not in the books of a general ledger. 0: all are."""
    ends = _ends(looking)
    not_delivered = _not_made(looking, ends) + _not_handed_on(looking, ends)
    waiting = sorted(_on_their_way(looking, ends) + not_delivered, key=lambda item: item[0])
    oldest_s = max((looking.now - waiting[0][0]).total_seconds(), 0.0) if waiting else 0.0
    return looking.counted(
        "event_to_general_ledger", "Is the oldest event that was handed over in the general ledger's books?",
        round(oldest_s, 3), "seconds", allowed=looking.settings.event_to_general_ledger_s,
        evidence={
            "journals": len(waiting), "oldest": [
                {**what, "last_event_at": format_time(at)} for at, what in waiting[:SHOWN]
            ], "posted": _posted(looking, ends), "days": looking.settings.window_days,
        },
        next=_next(waiting[0][1]) if waiting else "deliveries list",
    )  # fmt: skip


def _next(what: dict[str, Any]) -> str:
    if "destination" in what:
        return "deliveries list"
    return f"deliver {what['period']}" + (f" --channel {what['channel']}" if "channel" in what else "")


def _ends(looking: Looking) -> list[_End]:
    """Newest first."""
    found = looking.rows(ENDS, limit=_ENDS_AT_MOST)
    return [
        _End(looking.state.open_cut - 1 - back, msgspec.json.decode(data)["period"], type == "period.closed", at)
        for back, (type, data, at) in enumerate(found)
    ]


def _ended_at(ends: Sequence[_End], period: str, to_cut: int, made_at: datetime | None) -> datetime | None:
    """When a journal's entries were all there: a later cut, of another month, added nothing to it. A correction's were
    when it was made.
    """
    if made_at is not None:
        return made_at
    own = next((end.at for end in ends if end.period == period and end.cut <= to_cut), None)
    return own or (ends[-1].at if ends else None)


_Waiting = tuple[datetime, dict[str, Any]]


def _on_their_way(looking: Looking, ends: Sequence[_End]) -> list[_Waiting]:
    return [
        (at, {"destination": destination, "period": period, "number": number})
        for destination, period, number, to_cut, made_at in looking.rows(ON_THEIR_WAY)
        if (at := _ended_at(ends, period, to_cut, made_at)) is not None
    ]


def _not_made(looking: Looking, ends: Sequence[_End]) -> list[_Waiting]:
    """Closed months with entries that no journal holds, where the ledger has a channel that they should go to."""
    if not list_channels(looking.connection, looking.ledger):
        return []
    return [
        (at, {"period": period})
        for period, at in _closed_last(looking, ends).items()
        if entries_waiting(looking.connection, looking.ledger, Period.parse(period))
    ]


def _not_handed_on(looking: Looking, ends: Sequence[_End]) -> list[_Waiting]:
    """Journals of closed months that never went to a channel's general ledger, though somebody made them: as a file."""
    through = looking.state.closed_through
    if through is None:
        return []
    where = {
        "through": str(Period.of(through)), "latest": list(_closed_last(looking, ends)), "limit": _JOURNALS_AT_MOST
    }  # fmt: skip
    by_destination = {channel.destination: channel for channel in list_channels(looking.connection, looking.ledger)}
    return [
        (at, {"channel": channel.name, "period": period, "number": number})
        for channel in by_destination.values()
        for period, number, to_cut, made_at in looking.rows(
            NOT_HANDED_ON, destination=channel.destination, format=channel.format.name, **where
        )
        if (at := _closed_at(ends, period, to_cut, made_at)) is not None
    ]  # fmt: skip


def _closed_last(looking: Looking, ends: Sequence[_End]) -> dict[str, datetime]:
    """The months closed last that are closed still, with when they were."""
    through = looking.state.closed_through
    latest: dict[str, datetime] = {}
    for end in ends:
        if end.closed and len(latest) < _MONTHS_BACK:
            latest.setdefault(end.period, end.at)
    return {
        period: at for period, at in latest.items() if through is not None and Period.parse(period).last_day <= through
    }


def _closed_at(ends: Sequence[_End], period: str, to_cut: int, made_at: datetime | None) -> datetime | None:
    """When a journal ended, and not before its month did: what was cut for a look in its midst need not go at once."""
    ended_at = _ended_at(ends, period, to_cut, made_at)
    closes = [end.at for end in ends if end.period == period and end.closed and end.cut >= to_cut]
    return ended_at if ended_at is None or not closes else max(ended_at, closes[-1])


def _posted(looking: Looking, ends: Sequence[_End]) -> dict[str, Any]:
    """How long the journals of the window took that are in the books: how many, the longest, and 95 of a hundred."""
    took = sorted(
        max((at - ended_at).total_seconds(), 0.0)
        for _, period, _, to_cut, made_at, at in looking.rows(POSTED, since=looking.window_start)
        if (ended_at := _ended_at(ends, period, to_cut, made_at)) is not None
    )
    if not took:
        return {"journals": 0, "max_s": None, "p95_s": None}
    nearest = took[math.ceil(0.95 * len(took)) - 1]
    return {"journals": len(took), "max_s": round(took[-1], 3), "p95_s": round(nearest, 3)}
