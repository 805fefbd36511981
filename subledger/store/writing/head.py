"""A ledger's row: its head and its settings. The process that has locked this row may write.

Owns: locking, reading and saving that row. Does not own: the work under the lock (recorder, batch).
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from subledger import merkle
from subledger.errors import UnknownLedger
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.store.database import WriteConnection

NO_HASH: Final = bytes(32)

LOCK_LEDGER: Final = f"""
-- Takes the right to write: a ledger has one writer at a time. recorded_at is read after the lock, so it never goes
-- backwards.
SELECT {", ".join(SETTINGS)},
       position, batch_hash, frontier, replacements, wallets_through,
       greatest(clock_timestamp(), recorded_at + interval '1 microsecond',
                answered_through + interval '1 microsecond')
FROM ledgers WHERE ledger = %s FOR UPDATE
"""
SAVE_SETTINGS: Final = f"""
UPDATE ledgers SET {", ".join(f"{name} = %s" for name in SETTINGS)}
WHERE ledger = %s
"""
NEW_LEDGER: Final = """
INSERT INTO ledgers (ledger, entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping,
                     open_cut, approvals, future_tolerance, rate_max_age_days, sandbox, accounting_rules,
                     dimensions, position, recorded_at, batch_hash, frontier, replacements, wallets_through)
VALUES (%s, '', '', 'UTC', 'reject', 'new', 0, 0, 1, '{}', '1d', 7, false, 1, '[]', 0, NULL, %s, '', 0, 0)
ON CONFLICT (ledger) DO NOTHING RETURNING ledger
"""


HeadKey = tuple[int, bytes, int]
"""Position, batch hash and replacements of a head. The position alone is not enough. After a restore the same position
may have other content, with another hash. A rebuild, which counts as a replacement, writes other rows for the same
content.
"""


class Head(msgspec.Struct, kw_only=True):
    """A ledger's head, advancing through a batch. Every wallet's row contains all events through ``wallets_through``.

    ``recorded_at`` is the moment of the batch. ``clock`` is a time of the database's clock. This process received it
    when its monotonic clock showed ``clock_read_at_s``.
    """

    state: LedgerState
    position: int
    wallets_through: int
    batch_hash: bytes
    replacements: int
    frontier: merkle.Frontier
    recorded_at: datetime
    clock: datetime
    clock_read_at_s: float

    @property
    def key(self) -> HeadKey:
        """The identity of the content of the ledger and its rows."""
        return self.position, self.batch_hash, self.replacements

    def for_next_batch(self) -> Head:
        """Returns a copy for a batch without the lock, with this process's estimate of the database's clock.

        The estimate is not later than the database's clock, because the transmission time is not added, unless a clock
        was set or runs wrong. The database checks the time, and refuses a batch from the future or from long ago.
        """
        now = self.clock + timedelta(seconds=time.monotonic() - self.clock_read_at_s)
        moment = max(now, self.recorded_at + timedelta(microseconds=1))
        return msgspec.structs.replace(self, recorded_at=moment, frontier=self.frontier.copy())

    def with_clock(self, clock: datetime) -> Head:
        """Returns the same head, with a time of the database's clock that has just arrived."""
        return msgspec.structs.replace(self, clock=clock, clock_read_at_s=time.monotonic())


def head_of(ledger: str, row: Any) -> Head:
    """Returns the head from a row of ``LOCK_LEDGER``. Raises UnknownLedger if there is no row."""
    if row is None:
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    *settings, position, batch_hash, frontier, replacements, wallets_through, recorded_at = row
    return Head(
        state=state_of(ledger, *settings),
        position=position,
        wallets_through=wallets_through,
        batch_hash=bytes(batch_hash),
        frontier=merkle.Frontier.from_bytes(position, bytes(frontier)),
        recorded_at=recorded_at,
        clock=recorded_at,
        replacements=replacements,
        clock_read_at_s=time.monotonic(),
    )


def create(connection: WriteConnection, ledger: str) -> bool:
    """Inserts the row of a new ledger. Returns False if the ledger exists."""
    return connection.execute(NEW_LEDGER, (ledger, NO_HASH)).fetchone() is not None


def save_settings(connection: WriteConnection, state: LedgerState) -> None:
    """Saves the settings, which only the ledger's own events change. The rest of the row is written by each batch."""
    connection.execute(SAVE_SETTINGS, (*(state.stored(name) for name in SETTINGS), state.ledger))
