"""What customers were given away within the time that a ledger's limits hold for.

Owns: the look into the log. Does not own: what an event gives away, and how much is too much (approvals).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

import orjson

from subledger.approvals import GIVING_TYPES, PRICED_KINDS, Given, measured
from subledger.event_data import EVENT_TYPES
from subledger.ledger import LedgerState
from subledger.periods import duration
from subledger.store.arrays import TextArray
from subledger.store.database import WriteConnection

FIND_GIVEN: Final = """
-- What these customers were given or sold since a moment without a second person: the data, the unit, and the price or
-- the value as it was posted.
SELECT e.customer, e.type, e.data, max(n.unit), coalesce(sum(n.functional_minor), 0)::bigint
FROM events e
LEFT JOIN entries n ON n.ledger = e.ledger AND n.position = e.position AND n.kind = ANY(%b)
WHERE e.ledger = %s AND e.type = ANY(%b) AND e.customer = ANY(%b)
    AND e.position >= (SELECT min(first_position) FROM batches WHERE ledger = %s AND recorded_at > %s)
    AND e.decision::jsonb -> 'approval' IS NULL
GROUP BY e.position, e.customer, e.type, e.data
"""


def find_given(
    connection: WriteConnection, state: LedgerState, customers: Collection[str], at: datetime
) -> dict[str, Given]:
    """What each customer was given away within the ledger's time before ``at``, but for what a second person allowed.

    The time is that of recording: an event can be dated back. It rolls, as a day's end would let through, at midnight,
    two grants that are each within the limit. It counts whoever asked, as one person may have several programs' keys.
    """
    within = state.approvals.grants_within
    if within is None or not customers:
        return {}
    since = at - duration(within, field="approvals.grants_within")
    ledger, found = state.ledger, dict[str, Given]()
    rows = connection.execute(
        FIND_GIVEN,
        (TextArray(PRICED_KINDS), ledger, TextArray(GIVING_TYPES), TextArray(customers), ledger, since),
    )
    for customer, type, data_text, unit, priced_minor in rows:
        data = EVENT_TYPES[type].model_validate(orjson.loads(data_text))
        found[customer] = found.get(customer, Given()) + measured(data, unit or "", [priced_minor], state)
    return found
