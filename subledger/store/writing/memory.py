"""The writer's memory: wallets, and everything an event may refer to, loaded before a batch and kept after it.

Owns: what is at hand, and when it is written back. Does not own: what changes it (evolving), its rows (rows).
A cache: it is trusted only while the ledger's head is exactly what this writer left, and dropped on any failure.

**Written behind.** Usage changes a wallet's figures and nothing else, and updating its row is what usage costs most. So
in big batches the rows of wallets that were only drawn on are left for later: the ledger's ``wallets_through`` says up
to where every row knows everything, and a row knows all of its customer's events through its own position. A writer
that was not the last one adds the usage after that (``behind``) before it decides anything. Everything but usage writes
its wallets at once, and so does a batch of few events, or a writer that was not the last one; so a lag is there only
while much comes in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import psycopg

from subledger.billing_documents import BillingDocument, Overage, ReversedUsage, Standing
from subledger.blocks import Block
from subledger.books import Books
from subledger.deciding.context import Context, First, Original
from subledger.deciding.currencies import StandingKey
from subledger.deciding.new_ids import acting_invoices
from subledger.deciding.second_person import GIVING_TYPES, may_ask
from subledger.deciding.shortfalls import MOST_NAMED
from subledger.errors import present
from subledger.events import references
from subledger.events.envelope import Event, stored_event
from subledger.events.references import DOCUMENTS, DocumentKey, OnceKey, References, once_key, once_key_of
from subledger.kinds import LEDGER_ROLES, Dimensions
from subledger.ledger import LedgerState
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_whole
from subledger.store.tables import DOCUMENT_ID, DOCUMENT_TYPES, LAPSED
from subledger.store.writing.append import Parameters
from subledger.store.writing.approvals import Asked, find_asked, has_waiting
from subledger.store.writing.arrays import TextArray
from subledger.store.writing.given import Gifts
from subledger.store.writing.head import Head
from subledger.store.writing.log import RecordedEvent
from subledger.store.writing.rows import (
    decode_block,
    decode_decision,
    decode_document,
    decode_wallet,
    load_books,
    parameters_of,
    rows_of_books,
    rows_of_change,
)
from subledger.store.writing.standing import standing_at
from subledger.store.writing.write_behind import Held, follow, usage_behind
from subledger.wallet import Wallet

MAX_WALLETS: Final = 50_000
MAX_BEHIND: Final = 50_000
"""So many events at most are recorded before every wallet's row knows them."""
MAX_BEHIND_ONE: Final = 256
"""So many events of one customer, so that no row of a customer in constant use falls far behind."""
_ONCE_BY_THE_LOG: Final = frozenset({"payout.settled", "payment.refunded"})
"""Payments, invoices and disputes are documents that are loaded in any case."""
ALL_AT_ONCE: Final = 500
"""Up to so many events a batch leaves no row behind."""

FIND_EVENTS = f"""
-- The events recorded under these ids of a source, for duplicates and for what a reversal refers to. One look into the
-- index for each: LIMIT keeps the planner from reading the whole log instead.
SELECT e.source, e.event_id, e.position, e.type, e.customer, e.occurred_at, e.data, e.attributes,
       {decision_whole("%s")}
FROM unnest(%b::text[]) AS wanted (event_id)
CROSS JOIN LATERAL (
    SELECT source, event_id, position, type, customer, occurred_at, data, attributes, decision FROM events
    WHERE ledger = %s AND source = %s AND event_id = wanted.event_id LIMIT 1
) e
"""
FIND_BLOCKS = """
-- The blocks of these ids: whose they are, and the state of finished ones.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND block_id = ANY(%s)
"""
FIND_INVOICES = """
-- The blocks bought on these invoices.
SELECT block_id, customer, is_open, state FROM blocks WHERE ledger = %s AND invoice_id = ANY(%s)
"""
FIND_KNOWN_INVOICES = """
-- Which of these invoices have a block or a bill.
SELECT invoice_id FROM blocks WHERE ledger = %s AND invoice_id = ANY(%b)
UNION
SELECT document_id FROM documents WHERE ledger = %s AND kind = 'invoice' AND document_id = ANY(%b)
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
FIND_FIRST = f"""
-- The events that recorded documents of these types and ids, the first one last. The condition and the expression are
-- those of the index ix_events_document, which is a part of the log: what is recorded once needs no other memory.
-- OFFSET 0 keeps the planner to one look into the index for each, whatever it believes of the log.
SELECT wanted.type, e.processor, wanted.document_id, e.position, e.source, e.event_id
FROM unnest(%b::text[], %b::text[]) AS wanted (type, document_id)
CROSS JOIN LATERAL (
    SELECT data::jsonb ->> 'processor' AS processor, position, source, event_id FROM events
    WHERE ledger = %s AND type = wanted.type AND {DOCUMENT_TYPES} AND ({DOCUMENT_ID}) = wanted.document_id OFFSET 0
) e
ORDER BY e.position DESC
"""
FIND_LAPSED = f"""
-- The blocks of these customers that expired last, a few of each: why there are no credits. Condition and order are
-- those of the index ix_blocks_lapsed, so no others are read, however many have finished.
SELECT wanted.customer, b.state FROM unnest(%b::text[]) AS wanted (customer)
CROSS JOIN LATERAL (
    SELECT state FROM blocks
    WHERE ledger = %s AND customer = wanted.customer AND {LAPSED.replace("%", "%%")}
    ORDER BY expires_at DESC, block_id LIMIT %s
) b
"""
FIND_DIMENSION_SETS = """
SELECT dimension_set, product, credit_kind, pool, processor FROM dimension_sets WHERE ledger = %s
"""
FIND_WALLETS = "SELECT customer, position, state FROM wallets WHERE ledger = %s AND customer = ANY(%b)"


class Recorded(msgspec.Struct, frozen=True, gc=False):
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


class LedgerMemory:
    """What the writer remembers of one ledger between batches, and the references of the batch at hand."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.head: Head | None = None  # that it is true at
        self._alone = False
        self._wallets: OrderedDict[str, Wallet] = OrderedDict()
        self._behind: dict[str, tuple[int, int]] = {}  # customer to its last event, and how many its row has not
        self._written_through = 0
        self.dimension_sets: dict[Dimensions, int] = {}
        self.gifts = Gifts()
        self._has_requests = False
        self._books: Books | None = None
        self._forget_batch()

    def _forget_batch(self) -> None:
        self.recorded: dict[tuple[str, str], Recorded | Original | RecordedEvent] = {}
        self.owners: dict[str, str] = {}
        self._document_owners: dict[DocumentKey, str | None] = {}
        self.asked: dict[tuple[str, str], Asked | Event] = {}
        self._first: dict[OnceKey, First] = {}
        self._known: set[DocumentKey] = set()
        self._standing: dict[str | None, dict[StandingKey, Standing]] = {}
        self._of_usage: Context | None = None
        self._before: dict[str, Wallet] = {}
        self._books_before: Books | None = None
        self._changed: dict[str, int] = {}  # customer to the position of the last event
        self._at_once: set[str] = set()
        self._recalled: set[str] = set()
        self._finished: set[str] = set()
        self._events_of: dict[str, int] = {}

    # --- loading ------------------------------------------------------------------------------------------

    def load(
        self, connection: WriteConnection, head: Head, events: Sequence[Event], wanted: References,
        recorded: Iterable[tuple[Any, ...]],
    ) -> None:  # fmt: skip
        """Brings to hand everything that deciding these events may need. Where all of it is here, asks nothing.

        ``recorded`` is what ``find_recorded`` has found.
        """
        self._forget_batch()
        state = head.state
        for source, event_id, *rest in recorded:
            self.recorded[(source, event_id)] = Recorded(*rest)
        if self._books is None:
            self._begin(connection, head)
        self._has_requests = self._has_requests or may_ask(state)
        if self._has_requests:
            self.asked.update(find_asked(connection, self.ledger, wanted.keys))
        givers = set()
        if may_ask(state):
            new = (event for event in events if event.type in GIVING_TYPES and event.key not in self.recorded)
            givers = {event.customer for event in new if event.customer is not None}
        # Also if the ledger asks for nobody: gifts are not counted meanwhile, and what is remembered is dropped.
        self.gifts.load(connection, state, givers, head.recorded_at)
        once = {once_key(event.type, event.data) for event in events if event.type in _ONCE_BY_THE_LOG}
        self._first.update(find_first(connection, self.ledger, {key for key in once if key is not None}))
        self._known = {(kind, document_id) for kind, _, document_id in self._first}
        acting = acting_invoices(events)
        if acting:
            texts = TextArray(acting)
            invoices = connection.execute(FIND_KNOWN_INVOICES, (self.ledger, texts, self.ledger, texts))
            self._known |= {("invoice", invoice_id) for (invoice_id,) in invoices}
        documents, blocks = set(wanted.documents), set(wanted.blocks)
        for key in wanted.reversed:
            found = self.recorded.get(key)
            if isinstance(found, Recorded) and found.type == "credits.consumed":
                original = found.original(key)
                self.recorded[key] = original
                documents |= {("overage", str(original.position)), ("correction", str(original.position))}
                blocks |= {m.block_id for m in original.decision.movements if m.block_id is not None}
        self._load_standing(connection, state, events)
        for held in self._standing.values():
            blocks |= {place for role, _, place in held if place and role not in LEDGER_ROLES}
        self._load_wallets(connection, wanted.customers)
        papers = self._find_documents(connection, documents)
        behind, more = references.behind(
            document for _, document in papers if not isinstance(document, Overage | ReversedUsage)
        )
        papers += self._find_documents(connection, more - documents)
        rows = self._find_blocks(connection, state, events, blocks | behind, wanted.invoices)
        self._recall(rows, papers)

    def _begin(self, connection: WriteConnection, head: Head) -> None:
        """What is loaded once: the ledger's own books, its dimensions, and the wallets whose rows are behind."""
        self._books = load_books(connection, self.ledger)
        self.dimension_sets = load_dimension_sets(connection, self.ledger)
        # Settings that ask for nobody may be newer than requests. A writer that asks for somebody is told of its own.
        self._has_requests = has_waiting(connection, self.ledger)
        self._written_through = head.wallets_through
        if head.wallets_through == head.position:
            return
        usage = usage_behind(connection, self.ledger)
        held = {
            customer: Held(wallet=decode_wallet(state), position=position)
            for customer, position, state in self._rows_of_wallets(connection, {row[3] for row in usage})
        }
        follow(held, usage, head.state.functional_currency)
        for customer, of in held.items():
            self._wallets[customer] = of.wallet
            if of.later:
                self._behind[customer] = (of.position, of.later)

    def _load_wallets(self, connection: WriteConnection, customers: set[str]) -> None:
        wallets = self._wallets
        missing = {customer for customer in customers if customer not in wallets}
        if missing:
            for customer, _, state in self._rows_of_wallets(connection, missing):
                wallets[customer] = decode_wallet(state)
        for customer in customers:
            if customer in wallets:
                wallets.move_to_end(customer)

    def _rows_of_wallets(self, connection: WriteConnection, customers: set[str]) -> Iterable[tuple[Any, ...]]:
        return connection.execute(FIND_WALLETS, (self.ledger, TextArray(customers)))

    def _load_standing(self, connection: WriteConnection, state: LedgerState, events: Sequence[Event]) -> None:
        for period in {e.data.period for e in events if e.type == "balances.remeasured"}:
            self._standing = standing_at(
                connection, self.ledger, Period.parse(period).last_day, state.functional_currency
            )

    def _find_documents(
        self, connection: WriteConnection, keys: set[DocumentKey]
    ) -> list[tuple[str, BillingDocument | Overage | ReversedUsage]]:
        """Documents with their customers."""
        if not keys:
            return []
        found: list[tuple[str, BillingDocument | Overage | ReversedUsage]] = []
        kinds, ids = [kind for kind, _ in keys], [document_id for _, document_id in keys]
        for kind, document_id, customer, state in connection.execute(FIND_DOCUMENTS, (kinds, ids, self.ledger)):
            found.append((customer, decode_document(kind, state)))
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
        self, rows: list[tuple[Any, ...]], documents: list[tuple[str, BillingDocument | Overage | ReversedUsage]]
    ) -> None:
        finished: dict[str, list[Block]] = {}
        for block_id, customer, is_open, state in rows:
            self.owners[block_id] = customer
            if not is_open:
                finished.setdefault(customer, []).append(decode_block(state))
        papers: dict[str, list[Any]] = {}
        for customer, document in documents:
            papers.setdefault(customer, []).append(document)
        for customer in {*finished, *papers}:
            if customer in self._wallets:
                own = papers.get(customer, [])
                self._wallets[customer] = self._wallets[customer].recall(
                    tuple({block.block_id: block for block in finished.get(customer, ())}.values()),
                    tuple(document for document in own if isinstance(document, Overage)),
                    tuple(document for document in own if isinstance(document, ReversedUsage)),
                    tuple(document for document in own if not isinstance(document, Overage | ReversedUsage)),
                )
                # What was only recalled must leave again at the end of the batch, changed or not. And the row must
                # know of it: usage that came after the row can be added only to what the row has.
                self._before.setdefault(customer, self._wallets[customer])
                self._recalled.add(customer)

    # --- during a batch -----------------------------------------------------------------------------------

    @property
    def books(self) -> Books:
        return self._books or Books()

    def wallet(self, customer: str | None) -> Wallet:
        if customer is None:
            return Wallet(customer="")
        return self._wallets.get(customer) or Wallet(customer=customer)

    def knows(self, customer: str) -> bool:
        """True if the ledger has an event of this customer."""
        return customer in self._wallets

    def knows_id(self, kind: str, text: str) -> bool:
        """True if a customer, a block or a document that the batch names has this id already."""
        if kind == "customer":
            return self.knows(text)
        if kind == "block":
            return text in self.owners
        return (kind, text) in self._document_owners or (kind, text) in self._known

    def context(self, state: LedgerState, event: Event) -> Context:
        """What deciding an event may depend on besides its customer's wallet."""
        if event.type == "credits.consumed" and not self._standing:
            # The same for one usage after the other: what it holds of others it refers to.
            if self._of_usage is None or self._of_usage.state is not state or self._of_usage.books is not self._books:
                self._of_usage = Context(
                    state=state, owners=self.owners, document_owners=self._document_owners, books=self.books
                )
            return self._of_usage
        original = None
        if event.type == "consumption.reversed":
            original = self._original((event.data.event_source or event.source, event.data.event_id))
        return Context(
            state=state,
            owners=self.owners,
            document_owners=self._document_owners,
            first=self._first,
            original=original,
            books=self.books,
            standing=self._standing.get(event.customer, {}) if self._standing else {},
        )

    def _original(self, key: tuple[str, str]) -> Original | None:
        found = self.recorded.get(key)
        if isinstance(found, RecordedEvent):
            return Original(position=found.position, event=found.event, decision=found.decision)
        return found.original(key) if isinstance(found, Recorded) else found

    def remember(self, recorded: RecordedEvent, wallets: Mapping[str, Wallet], books: Books) -> None:
        """Takes in one recorded event, so that the next one of the batch sees it."""
        event, position = recorded.event, recorded.position
        self.recorded[(event.source, event.event_id)] = recorded
        if books is not self._books:
            if self._books_before is None:
                self._books_before = self.books
            self._books = books
        usage = event.type == "credits.consumed"
        for customer, wallet in wallets.items():
            held = self._wallets.get(customer)
            if customer not in self._before:
                self._before[customer] = held or Wallet(customer=customer)
            if not usage or held is None or customer in self._recalled:
                self._at_once.add(customer)
            self._changed[customer] = position
            self._events_of[customer] = self._events_of.get(customer, 0) + 1
            self._wallets[customer] = wallet
            for document in wallet.documents:
                self._document_owners[(document.document_kind, document.document_id)] = customer
        if usage:
            return
        once = once_key(event.type, event.data)
        if once is not None:
            self._first[once] = First(position, event.source, event.event_id)
        if event.type in ("credits.purchased", "credits.granted"):
            self.owners[event.data.block_id] = event.customer or ""
        elif event.type == "credits.transferred":
            self.owners[event.data.new_block_id] = event.data.to_customer

    # --- saving -------------------------------------------------------------------------------------------

    def save(self, position: int, events: int) -> Parameters:
        """What this batch changed, but for the wallets left behind, as parameters of the batch.

        ``events`` are in the batch, the last of them at ``position``.
        """
        self._count_behind()
        changes = []
        for customer in self._changed:
            wallet = self._wallets[customer]
            finished = wallet.has_finished
            if finished or customer in self._at_once:
                changes.append(rows_of_change(self._before[customer], wallet))
            if finished:
                self._finished.add(customer)
        books = rows_of_books(self._books_before, self.books) if self._books_before is not None else []
        lag = position - self._written_through
        if events <= ALL_AT_ONCE or lag > MAX_BEHIND or len(self._wallets) > MAX_WALLETS or self.head is None:
            self._written_through, writing = position, set(self._behind)
        else:
            writing = {customer for customer, (_, later) in self._behind.items() if later > MAX_BEHIND_ONE}
            writing |= self._at_once
        wallets = [(self._behind.pop(customer)[0], self._wallets[customer].without_finished()) for customer in writing]
        return {"new_wallets_through": self._written_through, **parameters_of(wallets, changes, books)}

    def _count_behind(self) -> None:
        for customer, last in self._changed.items():
            self._behind[customer] = (last, self._behind.get(customer, (0, 0))[1] + self._events_of[customer])

    def settle(self, head: Head) -> None:
        """After the commit: finished things leave, and the memory is true at this head."""
        for customer in self._finished | self._recalled:
            self._wallets[customer] = self._wallets[customer].without_finished()
        # One whose row is behind stays, or it would be loaded again as its row has it: the next batch that records
        # anything writes them all.
        while len(self._wallets) > MAX_WALLETS and not self._behind:
            self._wallets.popitem(last=False)
        self.head = head
        self._forget_batch()

    # --- without the lock -----------------------------------------------------------------------------------

    def is_still_true(self, head: Head) -> bool:
        """Returns True if the ledger is as this writer left it. A writer that finds it so is likely to be alone."""
        self._alone = self.head is not None and self.head.place == head.place
        return self._alone

    def has_all_of(self, events: Sequence[Event], wanted: References) -> bool:
        """Returns True if these events can be decided on what is at hand: usage of known customers, by a writer alone.

        Earlier records of them are not known here: the log's unique key finds those.
        """
        head = self.head
        return (
            head is not None
            and self._alone
            and self._written_through == head.position  # so that taking back has no rows to think of
            and not may_ask(head.state)
            and head.state.late_usage != "reclassify"
            and all(event.type == "credits.consumed" for event in events)
            and not (wanted.blocks or wanted.documents or wanted.invoices or wanted.reversed)
            and all(customer in self._wallets for customer in wanted.customers)
        )

    def begin(self, wanted: References) -> Head:
        """Begins a batch on what is at hand, and returns the head that it is decided on."""
        head = present(self.head, "a batch cannot begin on a memory that holds no ledger")
        self._forget_batch()
        for customer in wanted.customers:
            self._wallets.move_to_end(customer)
        return head.ahead()

    def take_back(self) -> None:
        """Undoes a batch that was begun so, and not written."""
        head = present(self.head, "a memory that holds no ledger has no batch to take back")
        self._wallets.update(self._before)
        if self._books_before is not None:
            self._books = self._books_before
        self._behind.clear()
        self._written_through = head.position
        self._forget_batch()


def find_recorded(
    connection: WriteConnection, ledger: str, wanted: References
) -> list[psycopg.Cursor[tuple[Any, ...]]]:
    """Asks what is recorded under the keys of events, and of usage they take back: one query a source."""
    by_source: dict[str, list[str]] = {}
    for source, event_id in wanted.keys | wanted.reversed:
        by_source.setdefault(source, []).append(event_id)
    return [
        connection.execute(FIND_EVENTS, (ledger, TextArray(ids), ledger, source)) for source, ids in by_source.items()
    ]


def find_first(connection: WriteConnection, ledger: str, keys: set[OnceKey]) -> dict[OnceKey, First]:
    """Finds the events that recorded these documents first, as far as they are in the log."""
    if not keys:
        return {}
    types = {kind: type for type, (kind, _) in DOCUMENTS.items()}
    kinds = {type: kind for kind, type in types.items()}
    wanted = [(types[kind], document_id) for kind, _, document_id in keys]
    rows = connection.execute(
        FIND_FIRST, (TextArray([type for type, _ in wanted]), TextArray([name for _, name in wanted]), ledger)
    )
    found: dict[OnceKey, First] = {}
    for type, processor, document_id, *first in rows:  # the first one last
        kind = kinds[type]
        found[once_key_of(kind, processor, document_id)] = First(*first)
    return {key: first for key, first in found.items() if key in keys}


def find_lapsed(connection: WriteConnection, ledger: str, customers: set[str]) -> dict[str, list[Block]]:
    """A few blocks of each customer that expired last and have left the wallet."""
    found: dict[str, list[Block]] = {}
    for customer, state in connection.execute(FIND_LAPSED, (TextArray(customers), ledger, MOST_NAMED)):
        found.setdefault(customer, []).append(decode_block(state))
    return found


def load_dimension_sets(connection: WriteConnection, ledger: str) -> dict[Dimensions, int]:
    """The numbers of a ledger's dimension sets."""
    return {dimensions: number for number, dimensions in numbered_dimensions(connection, ledger).items()}


def numbered_dimensions(connection: WriteConnection, ledger: str) -> dict[int, Dimensions]:
    """What the numbers of a ledger's dimension sets stand for."""
    return {number: Dimensions(*values) for number, *values in connection.execute(FIND_DIMENSION_SETS, (ledger,))}
