"""Signed tree heads. A size has one signed root, which never changes.

Owns: the table ``checkpoints``. Does not own: signing, and the copy outside the database (api.checkpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from subledger.store.database import WriteConnection
from subledger.store.tallies import count_one

FIND: Final = "SELECT size, root, note, public_key FROM checkpoints WHERE ledger = :ledger AND size = :size"
LATEST: Final = """
SELECT size, root, note, public_key FROM checkpoints WHERE ledger = :ledger ORDER BY size DESC LIMIT 1
"""
KEEP: Final = """
INSERT INTO checkpoints (ledger, size, root, note, public_key, signed_at) VALUES (%s, %s, %s, %s, %s, now())
ON CONFLICT (ledger, size) DO NOTHING RETURNING size
"""
ROOTS: Final = """
-- The root of a ledger's log for each of some sizes at which a batch ends.
SELECT last_position, root FROM batches WHERE ledger = :ledger AND last_position = ANY(:sizes)
"""
UNLIKE: Final = """
-- Signed tree heads that the log contradicts: another root at their size, or no batch that ends there.
SELECT c.size, c.root, b.root AS found FROM checkpoints c
LEFT JOIN batches b ON b.ledger = c.ledger AND b.last_position = c.size
WHERE c.ledger = :ledger AND b.root IS DISTINCT FROM c.root ORDER BY c.size
"""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A signed tree head: the number of events, their root, and the note that was handed out.

    ``public_key`` verifies the note. It is None if the note was signed before keys were stored beside notes.
    """

    size: int
    root: bytes
    note: str
    public_key: bytes | None = None


def signed_at_size(connection: sa.Connection, ledger: str, size: int) -> Signed | None:
    """Returns the signed tree head of this size; None if there is none."""
    return _one(connection, FIND, ledger, size)


def last_signed(connection: sa.Connection, ledger: str) -> Signed | None:
    """Returns the signed tree head of the largest size; None if there is none."""
    return _one(connection, LATEST, ledger, 0)


def _one(connection: sa.Connection, query: str, ledger: str, size: int) -> Signed | None:
    row = connection.execute(sa.text(query), {"ledger": ledger, "size": size}).one_or_none()
    if row is None:
        return None
    key = None if row.public_key is None else bytes(row.public_key)
    return Signed(size=row.size, root=bytes(row.root), note=row.note, public_key=key)


def keep_signed(connection: WriteConnection, ledger: str, signed: Signed) -> None:
    """Stores a tree head; does nothing if it is stored already."""
    # The first note of a size stays. A second one must not replace it, because an auditor may already have the first.
    row = (ledger, signed.size, signed.root, signed.note, signed.public_key)
    if connection.execute(KEEP, row).fetchone() is not None:
        count_one(connection, ledger, "checkpoints")


def roots_at(connection: sa.Connection, ledger: str, sizes: Sequence[int]) -> dict[int, bytes]:
    """Returns the root of the log for each of these sizes at which a batch ends."""
    rows = connection.execute(sa.text(ROOTS), {"ledger": ledger, "sizes": list(sizes)})
    return {row.last_position: bytes(row.root) for row in rows}
