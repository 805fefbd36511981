"""The writer's memory: wallets, and everything an event may refer to, loaded before a batch and kept after it.

Owns: loading and saving of wallets, finished blocks and documents. Does not own: what changes them (wallet).
Long, because what is loaded, changed and saved for an event must be seen together.
A cache: it is trusted only while the ledger's head is exactly what this writer left, and dropped on any failure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from subledger import references
from subledger.approvals import may_ask
from subledger.blocks import Block
from subledger.books import Books, Rates
from subledger.context import Context, Original
from subledger.currencies import StandingKey
from subledger.documents import Correction, Dispute, Document, Invoice, Overage, Payment, Position
from subledger.events import Event, stored_event
from subledger.journal import LEDGER_ROLES, Dimensions
from subledger.ledger import LedgerState
from subledger.periods import Period
from subledger.pools import Pool
from subledger.references import DocumentKey
from subledger.store.approvals import Asked, find_asked
from subledger.store.database import WriteConnection
from subledger.store.standing import standing_at
from subledger.wallet import Decision, Wallet

MAX_WALLETS: Final = 50_000

_wallet = msgspec.json.Decoder(Wallet)
_block = msgspec.json.Decoder(Block)
_overage = msgspec.json.Decoder(Overage)
_correction = msgspec.json.Decoder(Correction)
_documents: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "payment": msgspec.json.Decoder(Payment),
    "invoice": msgspec.json.Decoder(Invoice),
    "dispute": msgspec.json.Decoder(Dispute),
}
_pool = msgspec.json.Decoder(Pool)
_rates = msgspec.json.Decoder(Rates)
_position = msgspec.json.Decoder(Position)
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
-- Documents of these kinds and ids: finished overages, corrections of usage, payments, invoices, disputes.
SELECT d.kind, d.document_id, d.customer, d.state FROM unnest(%b::text[], %b::text[]) AS wanted (kind, document_id)
JOIN documents d ON d.ledger = %s AND d.kind = wanted.kind AND d.document_id = wanted.document_id
"""
FIND_EXPIRED = """
-- Finished blocks of these customers that expired after a moment: late usage may have happened before.
SELECT block_id, customer, is_open, state FROM blocks
WHERE ledger = %s AND customer = ANY(%s) AND NOT is_open AND expires_at > %s
"""
FIND_BOOKS = """
-- What belongs to the ledger as a whole.
SELECT kind, document_id, state FROM documents WHERE ledger = %s AND kind IN ('pool', 'rates', 'positions')
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


def encode_state(value: msgspec.Struct | Position) -> str:
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


DocumentRow = tuple[str, str, str | None, str]
"""Kind, id, customer (None: of the ledger as a whole), state."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What a changed wallet means for the tables: the wallet as kept, its position, blocks and documents to write."""

    position: int
    wallet: Wallet
    blocks: tuple[tuple[str, Block], ...]
    documents: tuple[DocumentRow, ...]


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
        if known is None or not (block.left and known.left) or known.due_at != block.due_at:
            blocks.append((after.customer, block))
    documents: list[DocumentRow] = []
    if after.overages is not before.overages:
        old_overages = {overage.position: overage for overage in before.overages}
        documents += [
            ("overage", str(overage.position), after.customer, encode_state(overage))
            for overage in after.overages
            if not overage.open and old_overages.get(overage.position) is not overage
        ]
    if after.corrections is not before.corrections:
        old_corrections = {correction.position: correction for correction in before.corrections}
        documents += [
            ("correction", str(correction.position), after.customer, encode_state(correction))
            for correction in after.corrections
            if old_corrections.get(correction.position) is not correction
        ]
    if after.documents is not before.documents:
        old_documents = {(d.document_kind, d.document_id): d for d in before.documents}
        documents += [
            (document.document_kind, document.document_id, after.customer, encode_state(document))
            for document in after.documents
            if old_documents.get((document.document_kind, document.document_id)) is not document
        ]
    return Rows(
        position=position,
        wallet=after.without_finished(),
        blocks=tuple(blocks),
        documents=tuple(documents),
    )


def rows_of_books(before: Books, after: Books) -> list[DocumentRow]:
    """The rows that differ after a ledger's own books went from ``before`` to ``after``."""
    rows: list[DocumentRow] = []
    if after.rates is not before.rates:
        rows += [("rates", c, None, encode_state(r)) for c, r in after.rates.items() if before.rates.get(c) is not r]
    if after.pools is not before.pools:
        rows += [("pool", n, None, encode_state(p)) for n, p in after.pools.items() if before.pools.get(n) is not p]
    if after.positions is not before.positions:
        rows += [
            ("positions", key, None, encode_state(position))
            for key, position in sorted(after.positions.items())
            if before.positions.get(key) != position
        ]
    return rows


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
        self._books: Books | None = None
        self._forget_batch()

    def _forget_batch(self) -> None:
        self.recorded: dict[tuple[str, str], Recorded | Original] = {}
        self.owners: dict[str, str] = {}
        self._document_owners: dict[DocumentKey, str | None] = {}
        self.asked: dict[tuple[str, str], Asked | Event] = {}
        self._standing: dict[str | None, dict[StandingKey, Position]] = {}
        self._before: dict[str, Wallet] = {}
        self._books_before: Books | None = None
        self._positions: dict[str, int] = {}

    # --- loading ------------------------------------------------------------------------------------------

    def load(self, connection: WriteConnection, state: LedgerState, events: Sequence[Event]) -> None:
        """Brings to hand everything that deciding these events may need, in a handful of queries."""
        self._forget_batch()
        if self._books is None:
            self._books = load_books(connection, self.ledger)
        keys = {event.key for event in events}
        usage = {
            (event.data.event_source or event.source, event.data.event_id)
            for event in events
            if event.type == "consumption.reversed"
        }
        self._load_recorded(connection, keys | usage)
        if may_ask(state):
            self.asked.update(find_asked(connection, self.ledger, keys))
        block_ids = {block_id for event in events for block_id in references.blocks(event)}
        wanted: set[DocumentKey] = {key for event in events for key in references.documents(event)}
        for key in usage:
            found = self.recorded.get(key)
            if isinstance(found, Recorded) and found.type == "credits.consumed":
                original = found.original(key)
                self.recorded[key] = original
                wanted |= {("overage", str(original.position)), ("correction", str(original.position))}
                block_ids |= {m.block for m in original.decision.movements if m.block is not None}
        self._load_standing(connection, state, events)
        for held in self._standing.values():
            block_ids |= {place for role, _, place in held if place and role not in LEDGER_ROLES}
        invoices = {name for event in events if (name := references.invoice(event)) is not None}
        self._load_wallets(connection, {customer for event in events for customer in references.customers(event)})
        documents = self._find_documents(connection, wanted)
        behind, more = references.behind(
            document for _, document in documents if not isinstance(document, Overage | Correction)
        )
        documents += self._find_documents(connection, more - wanted)
        rows = self._find_blocks(connection, state, events, block_ids | behind, invoices)
        self._recall(rows, documents)

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

    def _load_standing(self, connection: WriteConnection, state: LedgerState, events: Sequence[Event]) -> None:
        for period in {e.data.period for e in events if e.type == "balances.remeasured"}:
            self._standing = standing_at(
                connection, self.ledger, Period.parse(period).last_day, state.functional_currency
            )

    def _find_documents(
        self, connection: WriteConnection, keys: set[DocumentKey]
    ) -> list[tuple[str, Document | Overage | Correction]]:
        """Documents with their customers."""
        if not keys:
            return []
        found: list[tuple[str, Document | Overage | Correction]] = []
        kinds, ids = [kind for kind, _ in keys], [document_id for _, document_id in keys]
        for kind, document_id, customer, state in connection.execute(FIND_DOCUMENTS, (kinds, ids, self.ledger)):
            decoder = _overage if kind == "overage" else _correction if kind == "correction" else _documents[kind]
            found.append((customer, decoder.decode(state)))
            self._document_owners[(kind, document_id)] = customer
        return found

    def _find_blocks(
        self, connection: WriteConnection, state: LedgerState, events: Sequence[Event], block_ids: set[str],
        invoices: set[str],
    ) -> list[tuple[Any, ...]]:  # fmt: skip
        rows: list[tuple[Any, ...]] = []
        if block_ids:
            rows += connection.execute(FIND_BLOCKS, (self.ledger, list(block_ids)))
        if invoices:
            rows += connection.execute(FIND_INVOICES, (self.ledger, list(invoices)))
        usage = [event for event in events if event.type == "credits.consumed"]
        if usage and state.late_usage == "reclassify":
            users = list({event.customer for event in usage})
            first = min(event.occurred_at for event in usage)
            rows += connection.execute(FIND_EXPIRED, (self.ledger, users, first))
        return rows

    def _recall(
        self, rows: list[tuple[Any, ...]], documents: list[tuple[str, Document | Overage | Correction]]
    ) -> None:
        finished: dict[str, list[Block]] = {}
        for block_id, customer, is_open, state in rows:
            self.owners[block_id] = customer
            if not is_open:
                finished.setdefault(customer, []).append(_block.decode(state))
        papers: dict[str, list[Any]] = {}
        for customer, document in documents:
            papers.setdefault(customer, []).append(document)
        for customer in {*finished, *papers}:
            if customer in self._wallets:
                own = papers.get(customer, [])
                self._wallets[customer] = self._wallets[customer].recall(
                    tuple({block.block_id: block for block in finished.get(customer, ())}.values()),
                    tuple(document for document in own if isinstance(document, Overage)),
                    tuple(document for document in own if isinstance(document, Correction)),
                    tuple(document for document in own if not isinstance(document, Overage | Correction)),
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

    @property
    def books(self) -> Books:
        return self._books or Books()

    def wallet(self, customer: str | None) -> Wallet:
        if customer is None:
            return Wallet(customer="")
        return self._wallets.get(customer) or Wallet(customer=customer)

    def context(self, state: LedgerState, event: Event) -> Context:
        """What deciding an event may depend on besides its customer's wallet."""
        original = None
        if event.type == "consumption.reversed":
            original = self._original((event.data.event_source or event.source, event.data.event_id))
        return Context(
            state=state,
            owners=self.owners,
            document_owners=self._document_owners,
            original=original,
            books=self.books,
            standing=self._standing.get(event.customer, {}),
        )

    def _original(self, key: tuple[str, str]) -> Original | None:
        found = self.recorded.get(key)
        return found.original(key) if isinstance(found, Recorded) else found

    def remember(
        self, event: Event, decision: Decision, position: int, wallets: Mapping[str, Wallet], books: Books
    ) -> None:
        """Takes in one recorded event, so that the next one of the batch sees it."""
        self.recorded[event.key] = Original(position=position, event=event, decision=decision)
        if self._books_before is None:
            self._books_before = self.books
        self._books = books
        for customer, wallet in wallets.items():
            self._before.setdefault(customer, self.wallet(customer))
            self._positions[customer] = position
            self._wallets[customer] = wallet
            for document in wallet.documents:
                self._document_owners[(document.document_kind, document.document_id)] = customer
        if event.type in ("credits.purchased", "credits.granted"):
            self.owners[event.data.block_id] = event.customer or ""
        elif event.type == "credits.transferred":
            self.owners[event.data.new_block_id] = event.data.to_customer

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
            rows_of_books(self._books_before or self.books, self.books),
        )

    def settle(self, true_at: TrueAt) -> None:
        """After the commit: finished things leave, and the memory is true at this head."""
        for customer in self._before:
            self._wallets[customer] = self._wallets[customer].without_finished()
        while len(self._wallets) > MAX_WALLETS:
            self._wallets.popitem(last=False)
        self.true_at = true_at
        self._forget_batch()


def load_books(connection: WriteConnection, ledger: str) -> Books:
    """What belongs to the ledger as a whole, as it stands."""
    rates, pools, positions = {}, {}, {}
    for kind, document_id, state in connection.execute(FIND_BOOKS, (ledger,)):
        if kind == "rates":
            rates[document_id] = _rates.decode(state)
        elif kind == "pool":
            pools[document_id] = _pool.decode(state)
        else:
            positions[document_id] = _position.decode(state)
    return Books(rates=rates, pools=pools, positions=positions)


def save_rows(
    connection: WriteConnection, ledger: str, changes: Iterable[Rows], of_books: Sequence[DocumentRow] = ()
) -> None:
    """Writes wallets, blocks and documents, one statement a table."""
    changes = list(changes)
    wallets = [(change.position, change.wallet) for change in changes]
    blocks = [row for change in changes for row in change.blocks]
    documents = [row for change in changes for row in change.documents] + list(of_books)
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
                [block.due_at for _, block in blocks],
                [bool(block.left) for _, block in blocks],
                [None if block.left else encode_state(block) for _, block in blocks],
            ),
        )
    if documents:
        columns = [list(column) for column in zip(*documents, strict=True)]
        connection.execute(SAVE_DOCUMENTS, (ledger, *columns))
