"""Writing the log: events and entries by COPY, the Merkle tree, the batch chain.

Owns: the rows of the log. Does not own: what goes into them (recorder).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from subledger import merkle
from subledger.encoding import batch_hash, encode
from subledger.events import Event
from subledger.journal import Dimensions, Entry
from subledger.ledger import LedgerState
from subledger.store.database import WriteConnection
from subledger.wallet import Decision

_encoder = msgspec.json.Encoder(order="sorted")


def decision_text(decision: Decision) -> str:
    """A decision as it is stored and hashed: canonical JSON."""
    return _encoder.encode(decision).decode()


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event with its place in the log, what was decided, and its entries."""

    position: int
    event: Event
    decision: Decision
    entries: tuple[Entry, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit records. ``dimension_sets`` numbers the dimensions of its entries."""

    ledger: str
    recorded_at: datetime
    events: tuple[RecordedEvent, ...]
    before: LedgerState
    after: LedgerState
    dimension_sets: dict[Dimensions, int]

    @property
    def first_position(self) -> int:
        return self.events[0].position

    @property
    def last_position(self) -> int:
        return self.events[-1].position


_EVENT_TYPES: Final = (
    "text", "int8", "text", "text", "text", "text", "timestamptz", "text", "text", "text", "bytea",
)  # fmt: skip
COPY_EVENTS: Final = """
COPY events (ledger, position, source, event_id, type, customer, occurred_at, data, attributes, decision, leaf)
FROM STDIN (FORMAT BINARY)
"""
_ENTRY_TYPES: Final = (
    "text", "int8", "int2", "int2", "text", "text", "text", "text", "numeric", "int8", "text", "int8", "date", "date",
    "int4", "int4",
)  # fmt: skip
COPY_ENTRIES: Final = """
COPY entries (ledger, position, number, policy, kind, customer, block_id, unit, credits, amount_minor, currency,
              functional_minor, accounting_date, effective_date, cut, dimension_set)
FROM STDIN (FORMAT BINARY)
"""
ADD_BATCH: Final = """
INSERT INTO batches (ledger, last_position, first_position, recorded_at, root, previous_hash, hash)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
ADD_NODES: Final = """
INSERT INTO merkle_nodes (ledger, level, index, hash)
SELECT %s, * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[])
"""
ADD_DIMENSION_SETS: Final = """
INSERT INTO dimension_sets (ledger, dimension_set, product, credit_kind, pool, processor)
SELECT %s, * FROM unnest(%b::int[], %b::text[], %b::text[], %b::text[], %b::text[])
"""


def number_dimensions(
    connection: WriteConnection, ledger: str, known: dict[Dimensions, int], events: Sequence[RecordedEvent]
) -> None:
    """Numbers dimension sets that are new, in the order of their first use."""
    new: dict[Dimensions, int] = {}
    for recorded in events:
        for entry in recorded.entries:
            if entry.dimensions not in known and entry.dimensions not in new:
                new[entry.dimensions] = len(known) + len(new) + 1
    if new:
        connection.execute(
            ADD_DIMENSION_SETS,
            (
                ledger,
                list(new.values()),
                [d.product for d in new],
                [d.credit_kind for d in new],
                [d.pool for d in new],
                [d.processor for d in new],
            ),
        )
        known.update(new)


def append(connection: WriteConnection, batch: Batch, frontier: merkle.Frontier, previous_hash: bytes) -> bytes:
    """Writes a batch to the log and grows the tree. Returns the batch's hash."""
    texts = [decision_text(recorded.decision) for recorded in batch.events]
    leaves = [
        merkle.leaf_hash(encode(batch.ledger, r.position, r.event, text, r.entries))
        for r, text in zip(batch.events, texts, strict=True)
    ]
    with connection.cursor() as cursor:
        with cursor.copy(COPY_EVENTS) as copy:
            copy.set_types(_EVENT_TYPES)
            for r, text, leaf in zip(batch.events, texts, leaves, strict=True):
                e = r.event
                copy.write_row(
                    (
                        batch.ledger, r.position, e.source, e.event_id, e.type, e.customer, e.occurred_at,
                        e.data_text, e.attributes_text, text, leaf,
                    )
                )  # fmt: skip
        with cursor.copy(COPY_ENTRIES) as copy:
            copy.set_types(_ENTRY_TYPES)
            for r in batch.events:
                for n in r.entries:
                    copy.write_row(
                        (
                            batch.ledger, r.position, n.number, n.policy, n.kind, n.customer, n.block_id, n.unit,
                            n.credits, n.amount_minor, n.currency, n.functional_minor, n.accounting_date,
                            n.effective_date, n.cut, batch.dimension_sets[n.dimensions],
                        )
                    )  # fmt: skip
        nodes = [node for leaf in leaves for node in frontier.append(leaf)]
        if nodes:
            cursor.execute(
                ADD_NODES, (batch.ledger, [n[0] for n in nodes], [n[1] for n in nodes], [n[2] for n in nodes])
            )
        root = frontier.root()
        digest = batch_hash(
            batch.ledger, batch.first_position, batch.last_position, batch.recorded_at, root, previous_hash
        )
        cursor.execute(
            ADD_BATCH,
            (
                batch.ledger, batch.last_position, batch.first_position, batch.recorded_at, root, previous_hash,
                digest,
            ),
        )  # fmt: skip
    return digest
