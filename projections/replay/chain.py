"""Check of the chain of batches, from the first to the ledger's head.

The stored leaves are read one by one. Each batch must have the root over all leaves so far, and the hash of the
previous batch. Owns: the chain and the head. Does not own: the leaf of an event (share, folding).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from projections.replay.comparing import compare_table, plain
from projections.replay.derived_tables import DERIVED_BY_NAME, Key
from projections.replay.findings import Findings
from projections.replay.log_stream import EVERYTHING, read_batches, read_leaves
from projections.replay.resumable import Part, load
from projections.replay.workers import Advance, no_progress
from subledger import merkle
from subledger.encoding import batch_hash
from subledger.ledger import SETTINGS, LedgerState
from subledger.store.columns import BatchRow

HEAD: Final = f"""
-- The ledger's row. Unlike a reader's head it is found even if the log behind it is missing.
SELECT position, recorded_at, batch_hash, frontier, {", ".join(SETTINGS)} FROM ledgers WHERE ledger = :ledger
"""


def read_head(connection: sa.Connection, ledger: str) -> Any | None:
    """Returns the ledger's row, None without one."""
    return connection.execute(sa.text(HEAD), {"ledger": ledger}).one_or_none()


class Chain:
    """The tree and the chain, followed through a position. ``whole``: no event and no batch is missing.

    Memory: one hash per 256 events, to be compared with ``merkle_nodes``.
    """

    def __init__(self, ledger: str) -> None:
        self.findings = Findings()
        self.whole = True
        self.position = 0
        self.moment: datetime | None = None
        self.hash = bytes(32)
        self.nodes: dict[Key, tuple[bytes]] = {}
        self.frontier = merkle.Frontier()
        self._ledger = ledger
        self._chained = 0

    def follow(self, connection: sa.Connection, through: int, advance: Advance) -> None:
        """Continues through a position, leaf by leaf; checks each batch after its last event."""
        batches = read_batches(connection, self._ledger, self._chained, through)
        batch = next(batches, None)
        for chunk in read_leaves(connection, self._ledger, self.position, through):
            for position, leaf in chunk:
                if position != self.position + 1:
                    self._missing(self.position + 1, position - 1, position)
                while batch is not None and batch.last_position < position:
                    self._batch(batch)
                    batch = next(batches, None)
                if batch is None or batch.first_position > position:
                    self.whole = False
                    self.findings.differ("chain", f"no batch holds position {position}", position=position)
                for level, index, digest in self.frontier.append(leaf):
                    self.nodes[level, index] = (digest,)
                self.position = position
                if batch is not None and position == batch.last_position:
                    self._batch(batch)
                    batch = next(batches, None)
            advance(len(chunk))
        while batch is not None:
            self._missing(max(self.position + 1, batch.first_position), batch.last_position, None)
            self._batch(batch)
            batch = next(batches, None)

    def _missing(self, first: int, last: int, found: int | None) -> None:
        self.whole = False
        remark = "" if found is not None else ": their batch exists"
        self.findings.differ(
            "log",
            f"the events from position {first} to {last} are missing{remark}",
            position=first,
            expected=first,
            found=found,
        )

    def _batch(self, batch: BatchRow) -> None:
        last = batch.last_position

        def wrong(message: str, expected: object = None, found: object = None) -> None:
            self.findings.differ("chain", message, position=last, expected=expected, found=found)

        if batch.first_position != self._chained + 1:
            wrong("a batch does not follow the one before it", self._chained + 1, batch.first_position)
        if self.moment is not None and batch.recorded_at <= self.moment:
            wrong("recorded_at does not increase", f"after {self.moment}", batch.recorded_at)
        root = self.frontier.root()
        if self.frontier.size == last and root != batch.root:
            wrong(f"the root of the batch that ends at position {last} differs from its events", root, batch.root)
        if self.hash != batch.previous_hash:
            wrong(
                f"the previous_hash of the batch that ends at position {last} differs from the batch before",
                self.hash,
                batch.previous_hash,
            )
        # The hash may be that of either root, so that a changed root or a changed leaf is reported once, not twice.
        digests = [
            batch_hash(self._ledger, batch.first_position, last, batch.recorded_at, r, previous)
            for r, previous in ((root, batch.previous_hash), (batch.root, batch.previous_hash), (root, self.hash))
        ]
        if batch.hash not in digests:
            wrong(
                f"the hash of the batch that ends at position {last} is not that of its content", digests[0], batch.hash
            )
        self._chained, self.hash, self.moment = last, batch.hash, batch.recorded_at

    # --- at the head ------------------------------------------------------------------------------------------

    def compare_nodes(self, connection: sa.Connection) -> Findings:
        """Compares the stored nodes of the tree with the tree over the leaves."""
        findings = Findings()
        compare_table(connection, self._ledger, DERIVED_BY_NAME["merkle_nodes"], self.nodes, findings)
        return findings

    def head(self, head: Any, state: LedgerState | None, findings: Findings) -> None:
        """Compares the ledger's row with the end of its log, and its settings if the log could be replayed."""
        expected: dict[str, Any] = {
            "position": self.position,
            "recorded_at": self.moment,
            "batch_hash": self.hash,
            "frontier": self.frontier.to_bytes(),
        }
        if state is not None:
            expected |= {name: state.stored(name) for name in SETTINGS}
        for name, value in expected.items():
            found = plain(getattr(head, name))
            if found != value:
                findings.differ(
                    "head" if name not in SETTINGS else "ledgers",
                    f"{name} of the ledger differs from its log",
                    position=head.position,
                    subject=name,
                    expected=value,
                    found=found,
                )


def follow_chain(connection: sa.Connection, _advance: Advance, ledger: str, part: Part | None) -> Chain:
    """Follows the chain to its end, from the saved progress: the job of one worker. Each run reports all faults."""
    chain = load(part, Chain) or Chain(ledger)
    chain.follow(connection, EVERYTHING, no_progress)
    if part is not None and not chain.findings:
        part.save(chain)
    return chain
