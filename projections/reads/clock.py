"""A ledger's clock: the real one, or the one that a sandbox ledger has for trials of month ends.

This clock decides which times are in the future, today's date, the end of a month, and due expiries. ``recorded_at``
always has the time of the database, and answers *as known at* a moment use ``recorded_at``.

Owns: reading the clock. Does not own: setting it (configuring/clock), the rules that use it (ledger, recorder, views).
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec

from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The now and the today of a ledger. The clock of a ``sandbox`` can be set."""

    ledger: str
    sandbox: bool
    now: datetime
    today: date
    timezone: str


def clock_of(database: Database, ledger: str) -> Clock:
    """The clock of a ledger. Raises UnknownLedger."""
    with database.read() as connection:
        state = ledger_head(connection, ledger).state
    moment = datetime.now(UTC)
    return Clock(
        ledger=ledger, sandbox=state.sandbox, now=state.now(moment), today=state.today(moment), timezone=state.timezone
    )
