"""The writer's memory: wallets, and everything an event may refer to, loaded before a batch and kept after it.

Owns: loading and saving of wallets, finished blocks and documents. Does not own: what changes them (wallet).
A cache: it is trusted only while the ledger's head is exactly what this writer left, and dropped on any failure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from subledger.blocks import Block
from subledger.deciding import Original, blocks_named
from subledger.events import Event, stored_event
from subledger.journal import Dimensions
from subledger.store.database import WriteConnection
from subledger.wallet import Correction, Decision, Overage, Wallet

MAX_WALLETS: Final = 50_000

_wallet = msgspec.json.Decoder(Wallet)
_block = msgspec.json.Decoder(Block)
_overage = msgspec.json.Decoder(Overage)
_correction = msgspec.json.Decoder(Correction)
_decision = msgspec.json.Decoder(Decision)
_encoder = msgspec.json.Encoder(order="sorted")

# Arrays go in binary (%b): as text every quote in a wallet's JSON would be escaped, a third of a batch's time.
FIND_EVENTS = """
-- The events recorded under these keys, for duplicates and for what a reversal refers to.
SELECT e.source, e.event_id, e.position, e.type, e.customer, e.occurred_at, e.data, e.attributes, e.decision
FROM unnest(%b::text[], %b::text[]) AS wanted (source, event_id)
JOIN events e ON e.ledger = %s AND e.source = wanted.source AND e.event_id = wanted.event_id
"""
FIND_BLOCKS = """
-- The blocks of these ids: whose they are, and the state of finished ones.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND block_id = ANY(%s)
"""
FIND_INVOICES = """
-- The blocks bought on these invoices.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND invoice_id = ANY(%s)
"""
FIND_DOCUMENTS = """
-- Finished overages and corrections of these usages.
SELECT kind, customer, state FROM documents WHERE ledger = %s AND document_id = ANY(%s)
"""
FIND_WALLETS = "SELECT customer, state FROM wallets WHERE ledger = %s AND customer = ANY(%s)"
SAVE_WALLETS = """
INSERT INTO wallets (ledger, customer, position, state)
SELECT %s, * FROM unnest(%b::text[], %b::bigint[], %b::text[])
ON CONFLICT (ledger, customer) DO UPDATE SET position = excluded.position, state = excluded.state
"""
SAVE_BLOCKS = """
INSERT INTO blocks (ledger, block_id, customer, invoice_id, opened_at_position, expires_at, is_open, state)
SELECT %s, * FROM unnest(
    %b::text[], %b::text[], %b::text[], %b::bigint[], %b::timestamptz[], %b::boolean[], %b::text[])
ON CONFLICT (ledger, block_id) DO UPDATE
SET expires_at = excluded.expires_at, is_open = excluded.is_open, state = excluded.state
"""
SAVE_DOCUMENTS = """
INSERT INTO documents (ledger, kind, document_id, customer, state)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[])
ON CONFLICT (ledger, kind, document_id) DO UPDATE SET state = excluded.state
"""


def encode_state(value: msgspec.Struct) -> str:
    """A wallet, block or document as it is stored: the same value gives the same text."""
    return _encoder.encode(value).decode()


def decode_decision(text: str) -> Decision:
    return _decision.decode(text)


def decode_block(text: str) -> Block:
    return _block.decode(text)


def decode_wallet(text: str) -> Wallet:
    return _wallet.decode(text)


class Recorded(msgspec.Struct, frozen=True):
    """What is recorded under a key."""

    position: int
    type: str
    customer: str | None
    occurred_at: Any
    data_text: str
    attributes_text: str | None
    decision_text: str

    def original(self, key: tuple[str, str]) -> Original:
        return Original(
            position=self.position,
            event=stored_event(
                source=key[0],
                event_id=key[1],
                type=self.type,
                customer=self.customer,
                occurred_at=self.occurred_at,
                data_text=self.data_text,
                attributes_text=self.attributes_text,
            ),
            decision=decode_decision(self.decision_text),
        )


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What a changed wallet means for the tables: the wallet as kept, its position, blocks and documents to write."""

    position: int
    wallet: Wallet
    blocks: tuple[tuple[str, Block], ...]
    documents: tuple[tuple[str, str, str, str], ...]


def rows_of_change(before: Wallet, after: Wallet, position: int) -> Rows:
    """The rows that differ after a wallet went from ``before`` to ``after``.

    ``position`` is that of the customer's last event. An open block is written when it opens, reopens or gets
    another expiry; a finished one when it changed. What an open block has used is in its wallet alone, so that the
    rows are the same however the events were batched.
    """
    old = {block.block_id: block for block in before.blocks}
    blocks = []
    for block in after.blocks:
        known = old.get(block.block_id)
        if known is block:
            continue
        if known is None or not (block.left and known.left) or known.expires_at != block.expires_at:
            blocks.append((after.customer, block))
    old_overages = {overage.position: overage for overage in before.overages}
    documents = [
        ("overage", str(overage.position), after.customer, encode_state(overage))
        for overage in after.overages
        if not overage.open and old_overages.get(overage.position) is not overage
    ]
    old_corrections = {correction.position: correction for correction in before.corrections}
    documents += [
        ("correction", str(correction.position), after.customer, encode_state(correction))
        for correction in after.corrections
        if old_corrections.get(correction.position) is not correction
    ]
    return Rows(
        position=position,
        wallet=after.without_finished(),
        blocks=tuple(blocks),
        documents=tuple(documents),
    )


TrueAt = tuple[int, bytes, int]
"""Position, batch hash and rebuilds of a head: after a restore a position may hold other content, and after a rebuild
the same content other rows."""


class LedgerMemory:
    """What the writer remembers of one ledger between batches, and the references of the batch at hand."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.true_at: TrueAt | None = None
        self._wallets: OrderedDict[str, Wallet] = OrderedDict()
        self.dimension_sets: dict[Dimensions, int] | None = None
        self._forget_batch()

    def _forget_batch(self) -> None:
        self.recorded: dict[tuple[str, str], Recorded | Original] = {}
        self.owners: dict[str, str] = {}
        self._before: dict[str, Wallet] = {}
        self._positions: dict[str, int] = {}

    # --- loading ------------------------------------------------------------------------------------------

    def load(self, connection: WriteConnection, events: Sequence[Event]) -> None:
        """Brings to hand everything that deciding these events may need, in a handful of queries."""
        self._forget_batch()
        keys = {event.key for event in events}
        references = {
            (event.data.event_source or event.source, event.data.event_id)
            for event in events
            if event.type == "consumption.reversed"
        }
        self._load_recorded(connection, keys | references)
        block_ids = {block_id for event in events for block_id in blocks_named(event)}
        positions: set[int] = set()
        for key in references:
            found = self.recorded.get(key)
            if isinstance(found, Recorded) and found.type == "credits.consumed":
                original = found.original(key)
                self.recorded[key] = original
                positions.add(original.position)
                block_ids |= {m.block for m in original.decision.movements if m.block is not None}
        invoices = {e.data.invoice_id for e in events if e.type == "payment.received"} - {None}
        self._load_wallets(connection, {event.customer for event in events if event.customer is not None})
        self._recall(connection, block_ids, invoices, positions)

    def _load_recorded(self, connection: WriteConnection, keys: set[tuple[str, str]]) -> None:
        sources, ids = [source for source, _ in keys], [event_id for _, event_id in keys]
        for source, event_id, *rest in connection.execute(FIND_EVENTS, (sources, ids, self.ledger)):
            self.recorded[(source, event_id)] = Recorded(*rest)

    def _load_wallets(self, connection: WriteConnection, customers: set[str]) -> None:
        missing = [customer for customer in customers if customer not in self._wallets]
        if missing:
            for customer, state in connection.execute(FIND_WALLETS, (self.ledger, missing)):
                self._wallets[customer] = _wallet.decode(state)
        for customer in customers:
            if customer in self._wallets:
                self._wallets.move_to_end(customer)

    def _recall(
        self, connection: WriteConnection, block_ids: set[str], invoices: set[str], positions: set[int]
    ) -> None:
        rows: list[tuple[Any, ...]] = []
        if block_ids:
            rows += connection.execute(FIND_BLOCKS, (self.ledger, list(block_ids)))
        if invoices:
            rows += connection.execute(FIND_INVOICES, (self.ledger, list(invoices)))
        finished: dict[str, list[Block]] = {}
        for block_id, customer, is_open, state in rows:
            self.owners[block_id] = customer
            if not is_open:
                finished.setdefault(customer, []).append(_block.decode(state))
        overages: dict[str, list[Overage]] = {}
        corrections: dict[str, list[Correction]] = {}
        if positions:
            ids = [str(position) for position in positions]
            for kind, customer, state in connection.execute(FIND_DOCUMENTS, (self.ledger, ids)):
                if kind == "overage":
                    overages.setdefault(customer, []).append(_overage.decode(state))
                else:
                    corrections.setdefault(customer, []).append(_correction.decode(state))
        for customer in {*finished, *overages, *corrections}:
            if customer in self._wallets:
                self._wallets[customer] = self._wallets[customer].recall(
                    tuple({block.block_id: block for block in finished.get(customer, ())}.values()),
                    tuple(overages.get(customer, ())),
                    tuple(corrections.get(customer, ())),
                )
                # What was only recalled must leave again at the end of the batch, changed or not.
                self._before.setdefault(customer, self._wallets[customer])

    def load_dimension_sets(self, connection: WriteConnection) -> dict[Dimensions, int]:
        """The numbers of the dimension sets; the caller adds new ones, in order."""
        if self.dimension_sets is None:
            self.dimension_sets = {
                Dimensions(product, credit_kind, pool, processor): number
                for number, product, credit_kind, pool, processor in connection.execute(
                    "SELECT dimension_set, product, credit_kind, pool, processor FROM dimension_sets WHERE ledger = %s",
                    (self.ledger,),
                )
            }
        return self.dimension_sets

    # --- during a batch -----------------------------------------------------------------------------------

    def wallet(self, customer: str | None) -> Wallet:
        if customer is None:
            return Wallet(customer="")
        return self._wallets.get(customer) or Wallet(customer=customer)

    def original(self, key: tuple[str, str]) -> Original | None:
        found = self.recorded.get(key)
        return found.original(key) if isinstance(found, Recorded) else found

    def remember(self, event: Event, decision: Decision, position: int, wallet: Wallet) -> None:
        """Takes in one recorded event, so that the next one of the batch sees it."""
        self.recorded[event.key] = Original(position=position, event=event, decision=decision)
        if event.customer is None:
            return
        self._before.setdefault(event.customer, self.wallet(event.customer))
        self._positions[event.customer] = position
        self._wallets[event.customer] = wallet
        if event.type in ("credits.purchased", "credits.granted"):
            self.owners[event.data.block_id] = event.customer

    # --- saving -------------------------------------------------------------------------------------------

    def save(self, connection: WriteConnection) -> None:
        """Writes what this batch changed."""
        save_rows(
            connection,
            self.ledger,
            [
                rows_of_change(self._before[customer], self._wallets[customer], position)
                for customer, position in self._positions.items()
            ],
        )

    def settle(self, true_at: TrueAt) -> None:
        """After the commit: finished things leave, and the memory is true at this head."""
        for customer in self._before:
            self._wallets[customer] = self._wallets[customer].without_finished()
        while len(self._wallets) > MAX_WALLETS:
            self._wallets.popitem(last=False)
        self.true_at = true_at
        self._forget_batch()


def save_rows(connection: WriteConnection, ledger: str, changes: Iterable[Rows]) -> None:
    """Writes wallets, blocks and documents, one statement a table."""
    changes = list(changes)
    wallets = [(change.position, change.wallet) for change in changes]
    blocks = [row for change in changes for row in change.blocks]
    documents = [row for change in changes for row in change.documents]
    if wallets:
        connection.execute(
            SAVE_WALLETS,
            (
                ledger,
                [wallet.customer for _, wallet in wallets],
                [position for position, _ in wallets],
                [encode_state(wallet) for _, wallet in wallets],
            ),
        )
    if blocks:
        connection.execute(
            SAVE_BLOCKS,
            (
                ledger,
                [block.block_id for _, block in blocks],
                [customer for customer, _ in blocks],
                [block.invoice_id for _, block in blocks],
                [block.opened_at_position for _, block in blocks],
                [block.expires_at for _, block in blocks],
                [bool(block.left) for _, block in blocks],
                [None if block.left else encode_state(block) for _, block in blocks],
            ),
        )
    if documents:
        columns = [list(column) for column in zip(*documents, strict=True)]
        connection.execute(SAVE_DOCUMENTS, (ledger, *columns))
