"""How long does an event take into the general ledger?

Events go there in journals, and most companies make one a month. Measured from each event, such a month would be late
by a month and nothing could be done about it; measured from the file, a file that nobody made would never be late. So
a journal is measured from its last event, the close or the cut that ended it (from then on the general ledger could
have had it), to the posting of its last document. What rings is what can be acted on: the oldest journal that is not
in the books now, made or not. What those of the window have taken stands beside it.

Owns: this monitor. Does not own: when a journal ends (summary), what posted means (delivery/states).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from projections.journals.delivery.channels import list_channels
from projections.journals.summary import entries_waiting
from projections.monitors.monitor import SHOWN, Looking, Monitor
from subledger.events import format_time
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
SELECT DISTINCT d.destination, d.period, d.number, j.to_cut
FROM deliveries d JOIN journals j ON j.ledger = d.ledger AND j.period = d.period AND j.number = d.number
WHERE d.ledger = %(ledger)s AND d.state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])
"""
POSTED: Final = """
-- Journals of which something changed since a moment, with when the last of it was posted.
SELECT d.destination, d.period, d.number, j.to_cut, max(s.at)
FROM deliveries d
JOIN journals j ON j.ledger = d.ledger AND j.period = d.period AND j.number = d.number
CROSS JOIN LATERAL (SELECT min(at) AS at FROM delivery_steps
                    WHERE ledger = %(ledger)s AND delivery_id = d.delivery_id AND state = 'posted') AS s
WHERE d.ledger = %(ledger)s AND d.changed_at >= %(since)s AND d.state IN ('posted', 'reconciled')
GROUP BY d.destination, d.period, d.number, j.to_cut
HAVING max(s.at) >= %(since)s
"""

_ENDS_AT_MOST: Final = 2_000
"""Some years of a cut a day. A journal that ended before them is as old as the oldest of them at least."""
_MONTHS_BACK: Final = 3
"""Months closed last that are asked for entries which no journal holds."""


class _End(msgspec.Struct, frozen=True):
    """What ended a cut of a period, and when."""

    cut: int
    period: str
    closed: bool
    at: datetime


def event_to_general_ledger(looking: Looking) -> Monitor:
    """The age, from its last event, of the oldest journal that is not in the books of a general ledger. 0: all are."""
    ends = _ends(looking)
    waiting = sorted(_on_their_way(looking, ends) + _not_made(looking, ends), key=lambda item: item[0])
    oldest_s = max((looking.now - waiting[0][0]).total_seconds(), 0.0) if waiting else 0.0
    return looking.counted(
        "event_to_general_ledger", "Is the oldest event that was handed over in the general ledger's books?",
        round(oldest_s, 3), "seconds", allowed=looking.settings.event_to_general_ledger_s,
        evidence={
            "journals": len(waiting), "oldest": [
                {**what, "last_event_at": format_time(at)} for at, what in waiting[:SHOWN]
            ], "posted": _posted(looking, ends), "days": looking.settings.window_days,
        },
        next="deliveries list" if not waiting or "destination" in waiting[0][1]
        else f"deliver {waiting[0][1]['period']}",
    )  # fmt: skip


def _ends(looking: Looking) -> list[_End]:
    """Newest first."""
    found = looking.rows(ENDS, limit=_ENDS_AT_MOST)
    return [
        _End(looking.state.open_cut - 1 - back, msgspec.json.decode(data)["period"], type == "period.closed", at)
        for back, (type, data, at) in enumerate(found)
    ]


def _ended_at(ends: Sequence[_End], period: str, to_cut: int) -> datetime | None:
    """When a journal's entries were all there: a later cut, of another month, added nothing to it."""
    own = next((end.at for end in ends if end.period == period and end.cut <= to_cut), None)
    return own or (ends[-1].at if ends else None)


_Waiting = tuple[datetime, dict[str, Any]]


def _on_their_way(looking: Looking, ends: Sequence[_End]) -> list[_Waiting]:
    return [
        (at, {"destination": destination, "period": period, "number": number})
        for destination, period, number, to_cut in looking.rows(ON_THEIR_WAY)
        if (at := _ended_at(ends, period, to_cut)) is not None
    ]


def _not_made(looking: Looking, ends: Sequence[_End]) -> list[_Waiting]:
    """Closed months with entries that no journal holds, where the ledger has a channel that they should go to."""
    if not list_channels(looking.connection, looking.ledger):
        return []
    through = looking.state.closed_through
    latest: dict[str, datetime] = {}
    for end in ends:
        if end.closed and len(latest) < _MONTHS_BACK:
            latest.setdefault(end.period, end.at)
    return [
        (at, {"period": period})
        for period, at in latest.items()
        if through is not None and Period.parse(period).last_day <= through
        and entries_waiting(looking.connection, looking.ledger, Period.parse(period))
    ]  # fmt: skip


def _posted(looking: Looking, ends: Sequence[_End]) -> dict[str, Any]:
    """How long the journals of the window took that are in the books: how many, the longest, and 95 of a hundred."""
    took = sorted(
        max((at - ended_at).total_seconds(), 0.0)
        for _, period, _, to_cut, at in looking.rows(POSTED, since=looking.window_start)
        if (ended_at := _ended_at(ends, period, to_cut)) is not None
    )
    if not took:
        return {"journals": 0, "max_s": None, "p95_s": None}
    nearest = took[math.ceil(0.95 * len(took)) - 1]
    return {"journals": len(took), "max_s": round(took[-1], 3), "p95_s": round(nearest, 3)}
