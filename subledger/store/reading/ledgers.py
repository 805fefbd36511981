"""Ledgers of a database: their heads and settings in a snapshot.

Owns: reading them. Does not own: the lock of a ledger, and reading its head under the lock (``writing/head.py``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from subledger.errors import IntegrityFault, UnknownEntity, UnknownLedger
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.store.reading.in_force import missing_policy


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger in a snapshot: its settings, its last position and the moment of its last batch."""

    state: LedgerState
    position: int
    recorded_at: datetime


class LedgerHead(Head, frozen=True, kw_only=True):
    """A head with the root of the ledger's tree and the hash of its last batch."""

    root: bytes
    batch_hash: bytes


HEADS: Final = f"""
-- Ledgers with their settings and their heads.
SELECT l.ledger, l.{", l.".join(SETTINGS)},
       l.position, l.recorded_at, b.root, l.batch_hash, p.name AS policy_name
FROM ledgers l
JOIN batches b ON b.ledger = l.ledger AND b.last_position = l.position
LEFT JOIN posting_policies p ON p.ledger = l.ledger AND p.policy = l.policy
"""
EXISTS: Final = """
-- Returns one row if there is a ledger.
SELECT 1 FROM ledgers WHERE ledger = :ledger
"""


def _head(row: Any) -> LedgerHead:
    return LedgerHead(
        state=state_of(row.ledger, *(getattr(row, name) for name in SETTINGS)),
        position=row.position,
        recorded_at=row.recorded_at,
        root=bytes(row.root),
        batch_hash=bytes(row.batch_hash),
    )


def ledger_head(connection: Connection, ledger: str) -> LedgerHead:
    """Returns the head of a ledger. Raises UnknownLedger. Raises IntegrityFault if its log lacks the batch of its last
    event.
    """
    row = connection.execute(text(HEADS + " WHERE l.ledger = :ledger"), {"ledger": ledger}).one_or_none()
    if row is None:
        if connection.execute(text(EXISTS), {"ledger": ledger}).one_or_none() is not None:
            raise IntegrityFault(
                f"the log of ledger {ledger} has no batch that ends at the ledger's last position: rows of the log are "
                "missing; restore them from a backup",
                ledger=ledger,
            )
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    return _head(row)


def ledger_heads(connection: Connection, *, after: str, limit: int) -> list[tuple[LedgerHead, str | None]]:
    """Returns ledgers in order of id, each with the name of its posting policy; None if a damaged table lacks its
    row.
    """
    query = text(HEADS + " WHERE l.ledger > :after ORDER BY l.ledger LIMIT :limit")
    return [(_head(row), row.policy_name) for row in connection.execute(query, {"after": after, "limit": limit})]


LEDGERS_OF: Final = """
-- The ledgers of an entity without sandboxes.
SELECT ledger FROM ledgers WHERE entity = :entity AND NOT sandbox ORDER BY ledger
"""
LEDGERS_OF_THEN: Final = """
-- The ledgers of an entity as known at a moment, without sandboxes: by the last settings recorded by then. The
-- second condition on the type follows from the first; it lets the planner use ix_events_type, which leaves usage out.
SELECT l.ledger FROM ledgers l
CROSS JOIN LATERAL (
    SELECT last_position FROM batches WHERE ledger = l.ledger AND recorded_at <= :known_at
    ORDER BY recorded_at DESC LIMIT 1
) k
CROSS JOIN LATERAL (
    SELECT data FROM events
    WHERE ledger = l.ledger AND position <= k.last_position
      AND type = 'ledger.configured' AND type <> 'credits.consumed'
    ORDER BY position DESC LIMIT 1
) e
WHERE NOT l.sandbox AND e.data::jsonb ->> 'entity' = :entity ORDER BY l.ledger
"""


def ledgers_of(connection: Connection, entity: str, *, known_at: datetime | None = None) -> list[str]:
    """Returns the ledgers of an entity without sandboxes, in order of id; as known at a moment, or now.

    Raises UnknownEntity if there is none.
    """
    query = text(LEDGERS_OF if known_at is None else LEDGERS_OF_THEN)
    parameters = {"entity": entity} | ({} if known_at is None else {"known_at": known_at})
    found = list(connection.execute(query, parameters).scalars())
    if not found:
        raise UnknownEntity(f"no ledger is of entity {entity}", field="entity", found=entity)
    return found


def policy_name(connection: Connection, ledger: str, policy: int) -> str:
    """Returns the name of an adopted policy. Raises IntegrityFault if it has no row."""
    query = text("SELECT name FROM posting_policies WHERE ledger = :ledger AND policy = :policy")
    name: str | None = connection.execute(query, {"ledger": ledger, "policy": policy}).scalar_one_or_none()
    return named(ledger, policy, name)


def named(ledger: str, policy: int, name: str | None) -> str:
    """Returns the name of a ledger's current policy. Raises IntegrityFault if the name was not found."""
    if name is None:
        raise missing_policy(ledger, policy)
    return name
