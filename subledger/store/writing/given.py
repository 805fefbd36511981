"""Recent gifts to customers: those within the period of time for which a ledger's limits hold.

The gifts to a customer are read from the log once, and later batches add theirs: a customer that buys all day long is
not read again with every purchase. They are a part of the writer's memory, and dropped with it.

Owns: reading gifts from the log, their sums. Does not own: the gift in an event, the limits (deciding/second_person).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from datetime import datetime
from typing import Final

import orjson

from subledger.deciding.second_person import PRICED_KINDS, Given, measured
from subledger.errors import present
from subledger.events.data import EVENT_TYPES
from subledger.events.own_data import Approvals
from subledger.ledger import LedgerState
from subledger.periods import duration
from subledger.store.database import WriteConnection
from subledger.store.tables import GIVING
from subledger.store.writing.arrays import TextArray

MAX_CUSTOMERS: Final = 50_000
"""Customers whose gifts are remembered, at most, besides those of the batch at hand."""
_NOTHING: Final = Given()

FIND_FIRST_SINCE: Final = """
-- The first position that was recorded after a moment.
SELECT first_position FROM batches WHERE ledger = %s AND recorded_at > %s ORDER BY recorded_at LIMIT 1
"""
FIND_GIVEN: Final = f"""
-- Events from a position on that may have given something to these customers without a second person: the data, the
-- unit, and the price or the value as it was posted. The condition is that of the index ix_events_giving, and OFFSET 0
-- keeps the planner to one look into it for each customer: nothing of others is read, however much the ledger has.
SELECT e.position, wanted.customer, e.type, e.data, n.unit, n.functional_minor
FROM unnest(%b::text[]) AS wanted (customer)
CROSS JOIN LATERAL (
    SELECT position, type, data FROM events
    WHERE ledger = %s AND customer = wanted.customer AND {GIVING} AND position >= %s
        AND decision::jsonb -> 'approval' IS NULL
    OFFSET 0
) e
CROSS JOIN LATERAL (
    SELECT max(unit) AS unit, coalesce(sum(functional_minor), 0)::bigint AS functional_minor FROM entries
    WHERE ledger = %s AND position = e.position AND kind = ANY(%b)
) n
ORDER BY e.position
"""


class _Window:
    """The gifts to one customer, each with its position, oldest first; and their sum."""

    def __init__(self) -> None:
        self._gifts: deque[tuple[int, Given]] = deque()
        self.total = _NOTHING

    def add(self, position: int, given: Given) -> None:
        if given != _NOTHING:
            self._gifts.append((position, given))
            self.total += given

    def drop_before(self, position: int | None) -> None:
        while self._gifts and (position is None or self._gifts[0][0] < position):
            self.total -= self._gifts.popleft()[1]


class Gifts:
    """The gifts to the customers of one ledger, as far as they were read."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._settings = Approvals()  # by which the gifts were measured: others measure them otherwise

    def load(self, connection: WriteConnection, state: LedgerState, customers: Collection[str], at: datetime) -> None:
        """Reads the gifts to these customers in the ledger's period before ``at``, without those that a second person
        allowed.

        The period goes by the time of recording, as an event can be dated back. It ends now, not at midnight: around
        midnight two grants that are each within the limit would pass together. It counts gifts of all senders, as one
        person may have the keys of several programs.
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
            self._read(connection, state, missing, first)

    def _read(self, connection: WriteConnection, state: LedgerState, customers: Collection[str], first: int) -> None:
        ledger = state.ledger
        rows = connection.execute(FIND_GIVEN, (TextArray(customers), ledger, first, ledger, TextArray(PRICED_KINDS)))
        for position, customer, type, data_text, unit, priced_minor in rows:
            data = EVENT_TYPES[type].model_validate(orjson.loads(data_text))
            self._windows[customer].add(position, measured(data, unit or "", [priced_minor], state))

    def of(self, customer: str | None) -> Given:
        """Returns the sum of the gifts to a customer that was loaded."""
        window = self._windows.get(customer or "")
        return _NOTHING if window is None else window.total

    def counts(self, customer: str | None) -> bool:
        """Returns True if the gifts to a customer were loaded, and so more of them are to be added."""
        return (customer or "") in self._windows

    def add(self, customer: str | None, position: int, given: Given) -> None:
        """Adds the gift in an event that was recorded at a position without a second person."""
        window = self._windows.get(customer or "")
        if window is not None:
            window.add(position, given)
