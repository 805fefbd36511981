"""Proofs that an event is in the tree of a ledger's log.

Owns: the choice of the stored hashes. Does not own: the tree (merkle).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from subledger import merkle
from subledger.errors import IntegrityFault
from subledger.store.reading.pages import event_at


def inclusion(connection: Connection, ledger: str, position: int, size: int, root: bytes) -> tuple[bytes, list[bytes]]:
    """Returns the leaf of an event, and the path that proves that the tree of ``size`` events with this root has it.

    Raises UnknownPosition; IntegrityFault if the stored hashes do not lead to the root.
    """
    event_at(connection, ledger, position)
    subtree = _subtree(connection, ledger)
    leaf, path = subtree(0, position - 1), merkle.inclusion_proof(position - 1, size, subtree)
    if merkle.root_from_inclusion(leaf, position - 1, size, path) != root:
        raise _unproved(f"position {position} of ledger {ledger} cannot be shown in its tree of {size} events")
    return leaf, path


def consistency(connection: Connection, ledger: str, old: int, new: int) -> tuple[bytes, bytes, list[bytes]]:
    """Returns the roots over the first ``old`` and ``new`` events, and the path that proves that the second extends the
    first.

    Both sizes are within the log, ``old`` not above ``new``. Raises IntegrityFault if the stored hashes do not
    prove it.
    """
    subtree = _subtree(connection, ledger)
    first, second = (merkle.range_root(0, size, subtree) for size in (old, new))
    path = merkle.consistency_proof(old, new, subtree)
    if not merkle.is_consistent(old, first, new, second, path):
        raise _unproved(f"the first {old} events of ledger {ledger} cannot be shown to begin its first {new}")
    return first, second, path


def _unproved(message: str) -> IntegrityFault:
    return IntegrityFault(f"{message}: its stored hashes contradict each other; run subledger verify")


def _subtree(connection: Connection, ledger: str) -> merkle.SubtreeHash:
    """Returns the function of hashes of complete subtrees. Stored hashes are looked up, others are made from the stored
    level below.
    """

    def children(level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            query = sa.text(
                "SELECT leaf FROM events WHERE ledger = :ledger AND position > :first "
                "AND position <= :first + :count ORDER BY position"
            )
        else:
            query = sa.text(
                "SELECT hash FROM merkle_nodes WHERE ledger = :ledger AND level = :level AND index >= :first "
                "AND index < :first + :count ORDER BY index"
            )
        parameters = {"ledger": ledger, "level": level, "first": first, "count": count}
        return [bytes(value) for value in connection.execute(query, parameters).scalars()]

    def subtree(level: int, index: int) -> bytes:
        stored_level = level - level % merkle.TILE_LEVELS
        count = 1 << (level - stored_level)
        hashes = children(stored_level, index * count, count)
        while len(hashes) > 1:
            hashes = [merkle.node_hash(*hashes[i : i + 2]) for i in range(0, len(hashes), 2)]
        return hashes[0]

    return subtree
