"""Which ledgers there are: their heads and settings as a snapshot has them, their policies and the rules of these.

Owns: reading them. Does not own: the right to write, and the head that goes with it (head).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from subledger.errors import UnknownEntity, UnknownLedger
from subledger.journal import Rules
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.posting import rules_from
from subledger.store.database import Database


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger as it stands in a snapshot: its settings, its last position and moment."""

    state: LedgerState
    position: int
    recorded_at: datetime


class LedgerHead(Head, frozen=True, kw_only=True):
    """With the root of its tree and the hash of its last batch."""

    root: bytes
    batch_hash: bytes


HEADS: Final = f"""
-- Ledgers with their settings and their heads.
SELECT l.ledger, l.{", l.".join(SETTINGS)},
       l.position, l.recorded_at, b.root, l.batch_hash, p.name AS policy_name
FROM ledgers l
JOIN batches b ON b.ledger = l.ledger AND b.last_position = l.position
JOIN posting_policies p ON p.ledger = l.ledger AND p.policy = l.policy
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
    """Raises UnknownLedger."""
    row = connection.execute(text(HEADS + " WHERE l.ledger = :ledger"), {"ledger": ledger}).one_or_none()
    if row is None:
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    return _head(row)


def ledger_heads(connection: Connection, *, after: str, limit: int) -> list[tuple[LedgerHead, str]]:
    """Ledgers in order of id, each with the name of its posting policy."""
    query = text(HEADS + " WHERE l.ledger > :after ORDER BY l.ledger LIMIT :limit")
    return [(_head(row), row.policy_name) for row in connection.execute(query, {"after": after, "limit": limit})]


def ledgers_of(connection: Connection, entity: str) -> list[str]:
    """The ledgers of an entity, in order of id, but for sandboxes. Raises UnknownEntity where there is none."""
    query = text("SELECT ledger FROM ledgers WHERE entity = :entity AND NOT sandbox ORDER BY ledger")
    found = list(connection.execute(query, {"entity": entity}).scalars())
    if not found:
        raise UnknownEntity(f"no ledger is of entity {entity}", field="entity", found=entity)
    return found


def policy_name(connection: Connection, ledger: str, policy: int) -> str:
    query = text("SELECT name FROM posting_policies WHERE ledger = :ledger AND policy = :policy")
    name: str = connection.execute(query, {"ledger": ledger, "policy": policy}).scalar_one()
    return name


def rules_of(database: Database, connection: Connection, ledger: str) -> dict[int, Rules]:
    """The posting rules of every policy the ledger has adopted. A policy's rules never change, so they are kept."""
    held = database.rules.get(ledger)
    current = connection.execute(
        text("SELECT policy FROM ledgers WHERE ledger = :ledger"), {"ledger": ledger}
    ).scalar_one()
    if held is None or current not in held:
        query = text(
            "SELECT e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position"
            " WHERE p.ledger = :ledger ORDER BY p.policy"
        )
        held = {}
        for adopted in connection.execute(query, {"ledger": ledger}).scalars():
            data = msgspec.json.decode(adopted)
            held[data["policy"]] = rules_from(data["rules"])
        database.rules[ledger] = held
    return held
