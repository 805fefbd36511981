"""Does the chain of batches hold, from the first to the ledger's head?

The leaves are taken one by one as they are stored; each batch must have the root over those so far, and the hash of
the batch before it. Owns: the chain and the head. Does not own: whether a leaf is that of its event (log).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from projections.integrity.derived import plain
from projections.integrity.findings import Findings
from projections.replay import Replayer
from subledger import merkle
from subledger.encoding import batch_hash
from subledger.ledger import LedgerState

SETTINGS: Final = tuple(name for name in LedgerState.__struct_fields__ if name != "ledger")

HEAD: Final = f"""
-- The ledger's row as it is: unlike a reader's head it is there even where the log behind it is not.
SELECT position, recorded_at, batch_hash, frontier, {", ".join(SETTINGS)} FROM ledgers WHERE ledger = :ledger
"""


def read_head(connection: sa.Connection, ledger: str) -> Any | None:
    """The ledger's row, None where there is none."""
    return connection.execute(sa.text(HEAD), {"ledger": ledger}).one_or_none()


class Chain:
    """The tree and the chain as far as they have been followed."""

    def __init__(self, ledger: str, findings: Findings) -> None:
        self._ledger = ledger
        self._findings = findings
        self._frontier = merkle.Frontier()
        self._chained = 0
        self._hash = bytes(32)
        self._moment: datetime | None = None

    def leaf(self, leaf: bytes) -> None:
        """The next event's leaf as it is stored, so that one changed event is one difference and not every root after
        it."""
        self._frontier.append(leaf)

    def batch(self, batch: Any) -> None:
        """One link of the chain, when the events it holds have gone by."""
        last = batch.last_position

        def wrong(message: str, expected: object = None, found: object = None) -> None:
            self._findings.differ("chain", message, position=last, expected=expected, found=found)

        if batch.first_position != self._chained + 1:
            wrong("a batch does not follow the one before it", self._chained + 1, batch.first_position)
        if self._moment is not None and batch.recorded_at <= self._moment:
            wrong("recorded_at does not increase", f"after {self._moment}", batch.recorded_at)
        root, stored_root = self._frontier.root(), bytes(batch.root)
        whole = self._frontier.size == last
        if whole and root != stored_root:
            wrong(f"the root of the batch that ends at position {last} is another", root, stored_root)
        if self._hash != bytes(batch.previous_hash):
            wrong(
                f"the previous_hash of the batch that ends at position {last} is another",
                self._hash, batch.previous_hash,
            )  # fmt: skip
        # With either root: a changed root is one difference, not two, and so is a changed leaf.
        digests = [
            batch_hash(self._ledger, batch.first_position, last, batch.recorded_at, r, bytes(batch.previous_hash))
            for r in (root, stored_root)
        ]
        digests.append(batch_hash(self._ledger, batch.first_position, last, batch.recorded_at, root, self._hash))
        if bytes(batch.hash) not in digests:
            wrong(f"the hash of the batch that ends at position {last} is another", digests[0], batch.hash)
        self._chained, self._hash, self._moment = last, bytes(batch.hash), batch.recorded_at

    def head(self, head: Any, last: int, replay: Replayer | None) -> None:
        """The ledger's row against the end of its log; its settings where the log could be replayed."""
        expected: dict[str, Any] = {
            "position": last, "recorded_at": self._moment, "batch_hash": self._hash,
            "frontier": self._frontier.to_bytes(),
        }  # fmt: skip
        if replay is not None:
            expected |= {name: replay.state.stored(name) for name in SETTINGS}
        for name, value in expected.items():
            found = plain(getattr(head, name))
            if found != value:
                self._findings.differ(
                    "head" if name not in SETTINGS else "ledgers",
                    f"{name} of the ledger is not what its log makes it",
                    position=head.position, subject=name, expected=value, found=found,
                )  # fmt: skip
