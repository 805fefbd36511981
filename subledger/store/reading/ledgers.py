"""Ledgers of a database: their heads and settings.

The *head* of a ledger is its last position, and the moment and hash of its last batch.

Owns: the queries that read heads without a lock. Does not own: the lock of a ledger, and the query that reads the head
under this lock (``writing/head.py``).
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
    """A ledger as one database snapshot shows it: settings, last position, and the moment of the last batch."""

    state: LedgerState
    position: int
    recorded_at: datetime


class LedgerHead(Head, frozen=True, kw_only=True):
    """A head that also has the root of the ledger's hash tree and the hash of the last batch."""

    root: bytes
    batch_hash: bytes


HEADS: Final = f"""
-- Ledgers with their settings, their heads and the name of their posting policy.
SELECT l.ledger, l.{", l.".join(SETTINGS)},
       l.position, l.recorded_at, b.root, l.batch_hash, p.name AS policy_name
FROM ledgers l
JOIN batches b ON b.ledger = l.ledger AND b.last_position = l.position
LEFT JOIN posting_policies p ON p.ledger = l.ledger AND p.policy = l.policy
"""
EXISTS: Final = """
-- Returns one row if the ledger exists.
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
    """Returns the head of a ledger.

    Raises UnknownLedger if the ledger does not exist. Raises IntegrityFault if no batch ends at the ledger's last
    position.
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
    """Returns at most ``limit`` ledgers whose ids follow ``after``, in order of id.

    Each ledger has the name of its posting policy. The name is None if the table of policies is damaged and lacks the
    policy.
    """
    query = text(HEADS + " WHERE l.ledger > :after ORDER BY l.ledger LIMIT :limit")
    return [(_head(row), row.policy_name) for row in connection.execute(query, {"after": after, "limit": limit})]


LEDGERS_OF: Final = """
-- The ledgers of an entity. Sandboxes are left out.
SELECT ledger FROM ledgers WHERE entity = :entity AND NOT sandbox ORDER BY ledger
"""
LEDGERS_OF_THEN: Final = """
-- The ledgers that had this entity in their last settings recorded by known_at. Sandboxes are left out. The second
-- condition on the type follows from the first. With it the planner uses ix_events_type, which does not contain usage.
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
    """Returns the ids of an entity's ledgers, in order. Sandboxes are left out.

    The entity of a ledger is read from the settings recorded by ``known_at``. If ``known_at`` is None, the current
    settings decide. Raises UnknownEntity if the entity has no ledger.
    """
    query = text(LEDGERS_OF if known_at is None else LEDGERS_OF_THEN)
    parameters = {"entity": entity} | ({} if known_at is None else {"known_at": known_at})
    found = list(connection.execute(query, parameters).scalars())
    if not found:
        raise UnknownEntity(f"no ledger is of entity {entity}", field="entity", found=entity)
    return found


def policy_name(connection: Connection, ledger: str, policy: int) -> str:
    """Returns the name of a posting policy by its number. Raises IntegrityFault if the policy has no row."""
    query = text("SELECT name FROM posting_policies WHERE ledger = :ledger AND policy = :policy")
    name: str | None = connection.execute(query, {"ledger": ledger, "policy": policy}).scalar_one_or_none()
    return named(ledger, policy, name)


def named(ledger: str, policy: int, name: str | None) -> str:
    """Returns ``name``, the name of a posting policy. Raises IntegrityFault if it is None: the policy has no row."""
    if name is None:
        raise missing_policy(ledger, policy)
    return name
