"""The rows to which events refer: recorded events, wallets, blocks, documents. Each kind of reference has one query.

Every query looks up its ids one by one in an index, independent of the size of the log and of the planner's statistics.
This must be fast, because a batch waits for these queries while it has the ledger's lock.

Owns: the queries, and reading their rows. Does not own: the references of an event (events/references), the use of the
rows in a batch (loading), writing rows (rows).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import starmap
from typing import Any, Final

import msgspec
import psycopg

from subledger.billing_documents import BillingDocument, Overage, ReversedUsage
from subledger.blocks import Block
from subledger.deciding.context import First, Original
from subledger.deciding.shortfalls import MOST_NAMED
from subledger.events.references import DOCUMENTS, DocumentKey, OnceKey, References, once_key_of
from subledger.store.columns import EVENTS, EventRow
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_sql
from subledger.store.tables import DOCUMENT_ID, DOCUMENT_TYPES, LAPSED, UNDOES, UNDONE_POSITION
from subledger.store.writing.arrays import TextArray
from subledger.store.writing.rows import decode_block, decode_decision, decode_document, decode_wallet, parts_sql
from subledger.wallet import Wallet

EventKey = tuple[str, str]
"""The source and the id of an event."""

FIND_EVENTS: Final = f"""
-- The events recorded under these ids of a source: duplicates, and events that are reversed or undone. Each needs one
-- look into the index; LIMIT prevents the planner from reading the whole log instead.
SELECT {EVENTS.selected("e", decision=decision_sql("%s"))}
FROM unnest(%b::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE ledger = %s AND source = %s AND event_id = wanted.event_id LIMIT 1
) e
"""
FIND_WALLETS: Final = f"""
-- The wallets of these customers, each with the position of the last event in its rows.
SELECT w.customer, w.position, w.state, {parts_sql("%s")}
FROM wallets w WHERE w.ledger = %s AND w.customer = ANY(%b)
"""
FIND_BLOCKS: Final = """
-- The blocks of these ids: their customers, and the state of finished ones.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND block_id = ANY(%s)
"""
FIND_INVOICED_BLOCKS: Final = """
-- The blocks bought on these invoices.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND invoice_id = ANY(%s)
"""
FIND_EXPIRED_BLOCKS: Final = """
-- Finished blocks of these customers that expired after a moment. Late usage may have happened before their expiry.
SELECT block_id, customer, is_open, state FROM blocks
WHERE ledger = %s AND customer = ANY(%s) AND NOT is_open AND expires_at > %s
"""
FIND_LAPSED: Final = f"""
-- The last expired blocks of these customers, a few of each: they are the reason for missing credits. Condition and
-- order are those of the index ix_blocks_lapsed, so no others are read, however many blocks have finished.
SELECT wanted.customer, b.state FROM unnest(%b::text[]) AS wanted (customer)
CROSS JOIN LATERAL (
    SELECT state FROM blocks
    WHERE ledger = %s AND customer = wanted.customer AND {LAPSED.replace("%", "%%")}
    ORDER BY expires_at DESC, block_id LIMIT %s
) b
"""
FIND_DOCUMENTS: Final = """
-- Documents of these kinds and ids: finished overages, corrections of usage, payments, invoices, disputes.
SELECT d.kind, d.document_id, d.customer, d.state FROM unnest(%b::text[], %b::text[]) AS wanted (kind, document_id)
JOIN documents d ON d.ledger = %s AND d.kind = wanted.kind AND d.document_id = wanted.document_id
"""
FIND_KNOWN_INVOICES: Final = """
-- The invoices, of the given ones, that a block or a bill has.
SELECT invoice_id FROM blocks WHERE ledger = %s AND invoice_id = ANY(%b)
UNION
SELECT document_id FROM documents WHERE ledger = %s AND kind = 'invoice' AND document_id = ANY(%b)
"""
FIND_FIRST: Final = f"""
-- The events that recorded documents of these types and ids, the first one last. The condition and the expression are
-- those of the index ix_events_document, an index of the log, so no other memory of recorded documents is needed.
-- OFFSET 0 limits the planner to one look into the index for each document, whatever its statistics are. An undone
-- event has recorded nothing.
SELECT wanted.type, e.processor, wanted.document_id, e.position, e.source, e.event_id
FROM unnest(%b::text[], %b::text[]) AS wanted (type, document_id)
CROSS JOIN LATERAL (
    SELECT data::jsonb ->> 'processor' AS processor, position, source, event_id FROM events
    WHERE ledger = %s AND type = wanted.type AND {DOCUMENT_TYPES} AND ({DOCUMENT_ID}) = wanted.document_id OFFSET 0
) e
WHERE NOT EXISTS (
    SELECT FROM events WHERE ledger = %s AND {UNDOES} AND ({UNDONE_POSITION}) = e.position::text
)
ORDER BY e.position DESC
"""


class FoundEvent(EventRow, frozen=True, gc=False):
    """An event of the log with its complete decision. Most are duplicates, of which only the texts are compared."""

    @property
    def key(self) -> EventKey:
        return self.source, self.event_id

    def original(self) -> Original:
        """Decodes the event and its decision, for an event that refers to this one."""
        return Original(position=self.position, event=self.read(), decision=decode_decision(self.decision_text))


class FoundBlock(msgspec.Struct, frozen=True, gc=False):
    """The customer of a block. If the block is finished, also its state; the state of an open block is in the
    wallet.
    """

    block_id: str
    customer: str
    finished: Block | None


class FoundDocument(msgspec.Struct, frozen=True, gc=False):
    """A document with its customer."""

    key: DocumentKey
    customer: str
    document: BillingDocument | Overage | ReversedUsage


FindingEvents = list[psycopg.Cursor[tuple[Any, ...]]]
"""Queries that have been sent. In a pipeline they may not be answered yet."""


def find_recorded(connection: WriteConnection, ledger: str, wanted: References) -> FindingEvents:
    """Sends the queries for events under the keys of a batch, and for those that it reverses or undoes: one query for
    each source.
    """
    by_source: dict[str, list[str]] = {}
    for source, event_id in wanted.keys | wanted.reversed | wanted.undone:
        by_source.setdefault(source, []).append(event_id)
    return [
        connection.execute(FIND_EVENTS, (ledger, TextArray(ids), ledger, source)) for source, ids in by_source.items()
    ]


def read_recorded(finding: FindingEvents) -> dict[EventKey, FoundEvent]:
    """Reads the answers to ``find_recorded``."""
    return {event.key: event for cursor in finding for event in starmap(FoundEvent, cursor)}


def find_wallets(connection: WriteConnection, ledger: str, customers: Collection[str]) -> list[tuple[str, int, Wallet]]:
    """Finds the wallets of customers, each with the position of the last event in its row."""
    rows = connection.execute(FIND_WALLETS, (ledger, ledger, ledger, TextArray(customers)))
    return [(customer, position, decode_wallet(state, *parts)) for customer, position, state, *parts in rows]


def find_blocks(connection: WriteConnection, ledger: str, block_ids: Collection[str]) -> list[FoundBlock]:
    """Finds blocks by their ids."""
    return _blocks(connection.execute(FIND_BLOCKS, (ledger, list(block_ids)))) if block_ids else []


def find_invoiced_blocks(connection: WriteConnection, ledger: str, invoices: Collection[str]) -> list[FoundBlock]:
    """Finds the blocks that were bought on some invoices."""
    return _blocks(connection.execute(FIND_INVOICED_BLOCKS, (ledger, list(invoices)))) if invoices else []


def find_expired_blocks(
    connection: WriteConnection, ledger: str, customers: Collection[str], after: datetime
) -> list[FoundBlock]:
    """Finds finished blocks of some customers that expired after a moment."""
    return _blocks(connection.execute(FIND_EXPIRED_BLOCKS, (ledger, list(customers), after)))


def _blocks(rows: Iterable[tuple[Any, ...]]) -> list[FoundBlock]:
    return [
        FoundBlock(block_id, customer, None if is_open else decode_block(state))
        for block_id, customer, is_open, state in rows
    ]


def find_documents(connection: WriteConnection, ledger: str, keys: Collection[DocumentKey]) -> list[FoundDocument]:
    """Finds documents by their kinds and ids."""
    if not keys:
        return []
    kinds, ids = [kind for kind, _ in keys], [document_id for _, document_id in keys]
    return [
        FoundDocument((kind, document_id), customer, decode_document(kind, state))
        for kind, document_id, customer, state in connection.execute(FIND_DOCUMENTS, (kinds, ids, ledger))
    ]


def find_known_invoices(connection: WriteConnection, ledger: str, invoices: Collection[str]) -> set[str]:
    """Finds the invoices, of the given ones, that a block or a bill has."""
    if not invoices:
        return set()
    texts = TextArray(invoices)
    return {invoice for (invoice,) in connection.execute(FIND_KNOWN_INVOICES, (ledger, texts, ledger, texts))}


def find_first(connection: WriteConnection, ledger: str, keys: Collection[OnceKey]) -> dict[OnceKey, First]:
    """Finds the events in the log that recorded some documents first."""
    if not keys:
        return {}
    types = {kind: type for type, (kind, _) in DOCUMENTS.items()}
    kinds = {type: kind for kind, type in types.items()}
    wanted = [(types[kind], document_id) for kind, _, document_id in keys]
    rows = connection.execute(
        FIND_FIRST, (TextArray([type for type, _ in wanted]), TextArray([name for _, name in wanted]), ledger, ledger)
    )
    found: dict[OnceKey, First] = {}
    for type, processor, document_id, *first in rows:  # the first event comes last, so it stays in the result
        found[once_key_of(kinds[type], processor, document_id)] = First(*first)
    return {key: first for key, first in found.items() if key in keys}


def find_lapsed(connection: WriteConnection, ledger: str, customers: Collection[str]) -> dict[str, list[Block]]:
    """Finds a few blocks of each customer: the last ones that expired and have left the wallet."""
    found: dict[str, list[Block]] = {}
    for customer, state in connection.execute(FIND_LAPSED, (TextArray(customers), ledger, MOST_NAMED)):
        found.setdefault(customer, []).append(decode_block(state))
    return found
