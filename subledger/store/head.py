"""A ledger's row: its head and its settings. Locking it is the right to write.

Owns: locking, reading and saving that row. Does not own: what happens while it is locked (recorder, batch).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from subledger import merkle
from subledger.errors import UnknownLedger
from subledger.ledger import LedgerState
from subledger.own_event_data import Approvals
from subledger.store.database import WriteConnection

NO_HASH: Final = bytes(32)

LOCK_LEDGER: Final = """
-- The right to write: one writer a ledger. recorded_at is taken after the lock, so it never runs backwards.
SELECT entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping, closed_through, open_cut,
       approvals, position, batch_hash, frontier, rebuilds, wallets_through,
       greatest(clock_timestamp(), recorded_at + interval '1 microsecond',
                answered_through + interval '1 microsecond')
FROM ledgers WHERE ledger = %s FOR UPDATE
"""
SAVE_HEAD: Final = """
UPDATE ledgers SET entity = %s, functional_currency = %s, timezone = %s, on_shortfall = %s, late_usage = %s,
       policy = %s, mapping = %s, closed_through = %s, open_cut = %s, approvals = %s, position = %s, recorded_at = %s,
       batch_hash = %s, frontier = %s, wallets_through = %s
WHERE ledger = %s
"""
NEW_LEDGER: Final = """
INSERT INTO ledgers (ledger, entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping,
                     open_cut, approvals, position, recorded_at, batch_hash, frontier, rebuilds, wallets_through)
VALUES (%s, '', '', 'UTC', 'reject', 'new', 0, 0, 1, '{}', 0, NULL, %s, '', 0, 0)
ON CONFLICT (ledger) DO NOTHING RETURNING ledger
"""


class Head(msgspec.Struct, kw_only=True):
    """The locked ledger, advancing through a batch. Every wallet's row knows all events through ``wallets_through``."""

    state: LedgerState
    position: int
    wallets_through: int
    batch_hash: bytes
    rebuilds: int
    frontier: merkle.Frontier
    recorded_at: datetime


def head_of(ledger: str, row: Any) -> Head:
    """The head from a row of ``LOCK_LEDGER``. Raises UnknownLedger where there is none."""
    if row is None:
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    names = (
        "entity", "functional_currency", "timezone", "on_shortfall", "late_usage", "policy", "mapping",
        "closed_through", "open_cut",
    )  # fmt: skip
    approvals = Approvals.model_validate_json(row[9])
    position, batch_hash, frontier, rebuilds, wallets_through, recorded_at = row[10:]
    return Head(
        state=LedgerState(ledger=ledger, approvals=approvals, **dict(zip(names, row[:9], strict=True))),
        position=position,
        wallets_through=wallets_through,
        batch_hash=bytes(batch_hash),
        frontier=merkle.Frontier.from_bytes(position, bytes(frontier)),
        recorded_at=recorded_at,
        rebuilds=rebuilds,
    )


def create(connection: WriteConnection, ledger: str) -> bool:
    """A row for a new ledger. False where there is one."""
    return connection.execute(NEW_LEDGER, (ledger, NO_HASH)).fetchone() is not None


def save(connection: WriteConnection, head: Head) -> None:
    state = head.state
    connection.execute(
        SAVE_HEAD,
        (
            state.entity, state.functional_currency, state.timezone, state.on_shortfall, state.late_usage,
            state.policy, state.mapping, state.closed_through, state.open_cut,
            state.stored("approvals"), head.position, head.recorded_at,
            head.batch_hash, head.frontier.to_bytes(), head.wallets_through, state.ledger,
        ),
    )  # fmt: skip
