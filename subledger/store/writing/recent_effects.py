"""Recent effects: the effects of a customer's events in the period to which a ledger's limits apply.

The effects of a customer's events are read from the log once, and later batches add their own. So they are not read
again for every event of a busy customer. They are part of the writer's memory, and dropped with it.

Owns: reading effects from the log, their sums. Does not own: the effect of an event (deciding/event_effects), the
limits (deciding/second_person).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec

from subledger.errors import present
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.own_data import Approvals
from subledger.kinds import KINDS
from subledger.ledger import LedgerState
from subledger.periods import duration
from subledger.store.database import WriteConnection
from subledger.store.tables import NO_USAGE
from subledger.store.writing.arrays import TextArray

MAX_CUSTOMERS: Final = 50_000
"""The most customers whose effects are remembered, besides those of the current batch."""
_effect: Final = msgspec.json.Decoder(EventEffect).decode

_GIVING: Final = ", ".join(
    f"'{kind.name}'" for kind in KINDS if kind.column == "transferred_in" or (kind.is_usage and kind.column is None)
)
"""Kinds of the entries by which a customer gains credits of another, or uses credits that it does not have."""

FIND_FIRST_SINCE: Final = """
-- The first position that was recorded after a moment.
SELECT first_position FROM batches WHERE ledger = %s AND recorded_at > %s ORDER BY recorded_at LIMIT 1
"""
FIND_EFFECTS: Final = f"""
-- The effects of these customers' events from a position on, without those that a second person allowed. They are the
-- effects of the customer's own events other than usage, and of events by which the customer gained credits of somebody
-- else or used credits without having them. The first condition is that of the index ix_events_customer. OFFSET 0
-- limits the planner to one look into an index for each customer, so the time does not grow with the ledger.
SELECT e.position, wanted.customer, e.effect
FROM unnest(%b::text[]) AS wanted (customer)
CROSS JOIN LATERAL (
    (SELECT position, decision::jsonb ->> 'effect' AS effect FROM events
     WHERE ledger = %s AND customer = wanted.customer AND {NO_USAGE} AND position >= %s
         AND decision::jsonb ->> 'effect' IS NOT NULL AND decision::jsonb -> 'approval' IS NULL
     OFFSET 0)
    UNION ALL
    (SELECT v.position, v.decision::jsonb ->> 'effect' AS effect
     FROM (SELECT DISTINCT position FROM entries
           WHERE ledger = %s AND customer = wanted.customer AND position >= %s AND kind IN ({_GIVING})
           OFFSET 0) n
     JOIN events v ON v.ledger = %s AND v.position = n.position
     WHERE (NOT v.{NO_USAGE} OR v.customer IS DISTINCT FROM wanted.customer)
         AND v.decision::jsonb ->> 'effect' IS NOT NULL AND v.decision::jsonb -> 'approval' IS NULL)
) e
ORDER BY e.position
"""


class _Window:
    """The effects of one customer's events, each with its position, oldest first; and their sum."""

    def __init__(self) -> None:
        self._effects: deque[tuple[int, EventEffect]] = deque()
        self.total = NO_EFFECT

    def add(self, position: int, effect: EventEffect) -> None:
        self._effects.append((position, effect))
        self.total += effect

    def drop_before(self, position: int | None) -> None:
        while self._effects and (position is None or self._effects[0][0] < position):
            self.total -= self._effects.popleft()[1]


class RecentEffects:
    """The effects of the events of those customers of one ledger that were loaded."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._settings = Approvals()  # the length of the period is in these settings

    def load(self, connection: WriteConnection, state: LedgerState, customers: Collection[str], at: datetime) -> None:
        """Reads the effects of these customers' events in the ledger's period before ``at``, without those that a
        second person allowed.

        The period uses the time of recording, because an event can be dated back. It ends now, not at midnight;
        otherwise two grants around midnight, each within the limit, would both pass. It includes the events of all
        senders, because one person may have the keys of several programs.
        """
        settings = state.approvals
        if settings != self._settings:
            self._windows.clear()
            self._settings = settings
        if not customers or not settings.limits_within_time:
            return
        within = present(settings.grants_within, "limits within a time have a time")
        since = at - duration(within, field="approvals.grants_within")
        row = connection.execute(FIND_FIRST_SINCE, (state.ledger, since)).fetchone()
        first: int | None = None if row is None else row[0]
        missing = [customer for customer in customers if customer not in self._windows]
        while len(self._windows) > MAX_CUSTOMERS:
            self._windows.popitem(last=False)
        for customer in customers:
            self._windows.setdefault(customer, _Window()).drop_before(first)
            self._windows.move_to_end(customer)
        if first is not None and missing:
            rows = connection.execute(FIND_EFFECTS, (TextArray(missing), *(state.ledger, first) * 2, state.ledger))
            for position, customer, effect in rows:
                self._windows[customer].add(position, _effect(effect))

    def of(self, customer: str | None) -> EventEffect:
        """Returns the sum of the effects of a customer's events that were loaded."""
        window = self._windows.get(customer or "")
        return NO_EFFECT if window is None else window.total

    def counts(self, customer: str | None) -> bool:
        """Returns True if a customer's effects were loaded. Then new effects must be added."""
        return (customer or "") in self._windows

    def add(self, customer: str | None, position: int, effect: EventEffect) -> None:
        """Adds the effect of an event that was recorded at a position without a second person."""
        window = self._windows.get(customer or "")
        if window is not None:
            window.add(position, effect)
