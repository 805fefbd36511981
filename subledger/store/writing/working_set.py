"""The working set of a batch: the rows to which its events refer, and its changes so far.

Each batch has a new working set, on top of the writer's memory. It reads from the memory, and has all changes of the
batch until the commit. So a batch that is rolled back leaves no trace: its working set is dropped.

Owns: the data and the changes of a batch, and the choice of its rows. Does not own: filling it (loading), changing
wallets (evolving), the encoding of rows (rows), the memory afterwards (memory).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from subledger.billing_documents import Dispute, Invoice, Overage, Payment, ReversedUsage, Standing
from subledger.books import Books
from subledger.deciding.context import Around, Context, First, Original
from subledger.deciding.currencies import StandingKey
from subledger.errors import present
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.data import (
    ConsumptionReversed,
    CreditsGranted,
    CreditsPurchased,
    CreditsTransferred,
    EventReversed,
)
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.events.own_data import PeriodClosed, PeriodReopened
from subledger.events.references import DocumentKey, OnceKey, once_key
from subledger.kinds import Dimensions
from subledger.ledger import LedgerState
from subledger.store.writing.append_batch import Parameters
from subledger.store.writing.approvals import ApprovalRequest
from subledger.store.writing.log import RecordedEvent
from subledger.store.writing.memory import Changes, LedgerMemory
from subledger.store.writing.referenced_rows import EventKey, FoundBlock, FoundDocument, FoundEvent
from subledger.store.writing.rows import Rows, WalletRow, parameters_of, rows_of_books, rows_of_change
from subledger.store.writing.undoing import Undoing
from subledger.store.writing.write_behind import Unwritten, is_far_behind, writes_every_row
from subledger.wallet import Wallet


class CustomerInBatch(msgspec.Struct, kw_only=True, gc=False):
    """A customer's wallet before and during a batch; ``row_is_due``: the row must be written with the batch."""

    before: Wallet
    """The wallet before the batch, with the finished blocks and documents that the batch recalled: their rows are
    compared with it.
    """
    wallet: Wallet
    is_new: bool = False
    row_is_due: bool = False
    """If False, the row may be written later, because only usage has changed the wallet."""
    events: int = 0
    last_position: int = 0


class WorkingSet:
    """Reads and changes of one batch. Until the commit, only this object has them."""

    def __init__(self, memory: LedgerMemory, recorded: Mapping[EventKey, FoundEvent]) -> None:
        memory.begin()
        self._memory = memory
        self.books = memory.books
        self.dimension_sets: dict[Dimensions, int] = memory.dimension_sets
        # The rows to which its events refer, as far as they were found, and those that the batch itself adds.
        self.recorded: dict[EventKey, FoundEvent | RecordedEvent] = dict(recorded)
        self.originals: dict[EventKey, Original] = {}
        self.undoing: Undoing | None = None
        self.requests: dict[EventKey, ApprovalRequest | Event] = {}
        self.first: dict[OnceKey, First] = {}
        self.known_documents: set[DocumentKey] = set()
        self.standings: dict[str | None, dict[StandingKey, Standing]] = {}
        self._block_owners: dict[str, str] = {}
        self._document_owners: dict[DocumentKey, str | None] = {}
        self._last_changed_by: dict[DocumentKey, str] = {}
        # The changes of the batch.
        self._customers: dict[str, CustomerInBatch] = {}
        self._effects: list[tuple[str | None, int, EventEffect]] = []
        self._effect_of: dict[str | None, EventEffect] = {}
        self._changes: Changes | None = None
        self._moves_closed_months = False
        self._usage_context: Context | None = None

    # --- loading --------------------------------------------------------------------------------------------

    def add_references(self, blocks: Iterable[FoundBlock], documents: Iterable[FoundDocument]) -> None:
        """Adds the blocks and documents that were found, and brings finished ones back into their wallets."""
        finished: dict[str, dict[str, FoundBlock]] = {}
        for found in blocks:
            self._block_owners[found.block_id] = found.customer
            if found.finished is not None:
                finished.setdefault(found.customer, {})[found.block_id] = found
        theirs: dict[str, list[FoundDocument]] = {}
        for document in documents:
            if not (isinstance(document.document, Payment | Invoice | Dispute) and document.document.undone):
                self._document_owners[document.key] = document.customer
            theirs.setdefault(document.customer, []).append(document)
        for customer in {*finished, *theirs}:
            if self.knows(customer):
                recalled = [found.finished for found in finished.get(customer, {}).values() if found.finished]
                own = [found.document for found in theirs.get(customer, ())]
                wallet = self.wallet(customer).recall(
                    recalled,
                    (document for document in own if isinstance(document, Overage)),
                    (document for document in own if isinstance(document, ReversedUsage)),
                    (document for document in own if not isinstance(document, Overage | ReversedUsage)),
                )
                # If the batch changes this wallet its row is due, also after usage. A writer that takes over adds usage
                # to the row, and the earlier row does not have the recalled blocks and documents.
                self._customers[customer] = CustomerInBatch(before=wallet, wallet=wallet, row_is_due=True)

    # --- reads of decisions ---------------------------------------------------------------------------------

    def wallet(self, customer: str | None) -> Wallet:
        """Returns the wallet of a customer after the batch so far; an empty one for a new customer."""
        if customer is None:
            return Wallet(customer="")
        changed = self._customers.get(customer)
        if changed is not None:
            return changed.wallet
        return self._memory.wallets.get(customer) or Wallet(customer=customer)

    def knows(self, customer: str) -> bool:
        """Returns True if the ledger has an event of this customer."""
        return customer in self._customers or customer in self._memory.wallets

    def knows_id(self, kind: str, text: str) -> bool:
        """Returns True if a customer, block or document that the batch names already has this id."""
        if kind == "customer":
            return self.knows(text)
        if kind == "block":
            return text in self._block_owners
        return (kind, text) in self._document_owners or (kind, text) in self.known_documents

    def effect_before(self, customer: str | None) -> EventEffect:
        """Returns the sum of a loaded customer's recent effects, including those of the batch."""
        earlier, added = self._memory.effects.of(customer), self._effect_of.get(customer)
        return earlier if added is None else earlier + added

    def context(self, state: LedgerState, event: Event) -> Context:
        """Returns the facts that a decision may depend on besides the customer's wallet."""
        if event.type == "credits.consumed" and not self.standings:
            return self._context_of_usage(state)
        original = None
        data = event.data
        if isinstance(data, ConsumptionReversed | EventReversed):
            original = self._original((data.event_source or event.source, data.event_id))
        if isinstance(data, EventReversed) and original is not None and self.undoing is not None:
            original = self.undoing.original(original.position, original.event, original.decision)
        return Context(
            state=state,
            owners=self._block_owners,
            document_owners=self._document_owners,
            first=self.first,
            original=original,
            books=self.books,
            standings=self.standings.get(event.customer, {}) if self.standings else {},
            wallet_of=self.wallet,
        )

    def _context_of_usage(self, state: LedgerState) -> Context:
        """Returns the same context for every usage event: it refers to dictionaries that grow with the batch."""
        context = self._usage_context
        if context is None or context.state is not state or context.books is not self.books:
            context = self._usage_context = Context(
                state=state,
                owners=self._block_owners,
                document_owners=self._document_owners,
                books=self.books,
                wallet_of=self.wallet,
            )
        return context

    def _original(self, key: EventKey) -> Original | None:
        found = self.recorded.get(key)
        if isinstance(found, RecordedEvent):
            return Original(position=found.position, event=found.event, decision=found.decision)
        if found is None:
            return None
        return self.originals.get(key) or found.original()

    # --- changes by recorded events -------------------------------------------------------------------------

    def add_effect(self, customer: str | None, position: int, effect: EventEffect) -> None:
        """Adds the effect of an event that is recorded at a position without a second person."""
        if self._memory.effects.counts(customer):
            self._effects.append((customer, position, effect))
            self._effect_of[customer] = self._effect_of.get(customer, NO_EFFECT) + effect

    def add(self, recorded: RecordedEvent, wallets: Mapping[str, Wallet], books: Books) -> None:
        """Adds one recorded event with the wallets and books after it, for the next events of the batch."""
        event, position = recorded.event, recorded.position
        self.recorded[(event.source, event.event_id)] = recorded
        self.books = books
        usage = event.type == "credits.consumed"
        self._moves_closed_months |= isinstance(event.data, PeriodClosed | PeriodReopened)
        if self.undoing is not None:
            around = {customer: Around(self.wallet(customer), wallet) for customer, wallet in wallets.items()}
            self.undoing.add(recorded, around)
        for customer, wallet in wallets.items():
            changed = self._customers.get(customer)
            if changed is None:
                changed = self._customers[customer] = self._unchanged(customer)
            for _, document in wallet.documents.changes_since(changed.wallet.documents):
                if document is not None:
                    key = (document.document_kind, document.document_id)
                    self._last_changed_by[key] = customer
                    self._document_owners[key] = customer
                    if document.undone:
                        del self._document_owners[key]
            changed.wallet = wallet
            changed.row_is_due |= not usage or _moves_an_expiry(recorded, wallet)
            changed.events += 1
            changed.last_position = position
        if usage:
            return
        once = once_key(event.type, event.data)
        if once is not None:
            self.first[once] = First(position, event.source, event.event_id)
        data = event.data
        if isinstance(data, EventReversed):
            self._forget_document((data.event_source or event.source, data.event_id))
        if isinstance(data, CreditsPurchased | CreditsGranted):
            self._block_owners[data.block_id] = event.customer or ""
        elif isinstance(data, BalanceOpened) and data.role == "prepaid_liability":
            self._block_owners[data.block_id or ""] = event.customer or ""
        elif isinstance(data, CreditsTransferred):
            self._block_owners[data.new_block_id] = data.to_customer

    def _forget_document(self, undone: EventKey) -> None:
        """Removes the document of an undone event from the recorded ones. It may be recorded again."""
        original = present(self._original(undone), "an event was undone that is not recorded")
        once = once_key(original.event.type, original.event.data)
        if once is not None and once in self.first and self.first[once].position == original.position:
            del self.first[once]
            self.known_documents.discard((once[0], once[2]))

    def _unchanged(self, customer: str) -> CustomerInBatch:
        known = self._memory.wallets.get(customer)
        wallet = known or Wallet(customer=customer)
        # A new customer has no row to which a later writer could add usage.
        return CustomerInBatch(before=wallet, wallet=wallet, is_new=known is None, row_is_due=known is None)

    # --- rows -----------------------------------------------------------------------------------------------

    def rows(self, position: int, events: int) -> Parameters:
        """Returns the rows that the batch changed, without those to be written later, as parameters of the batch.

        ``events`` is the number of events in the batch, ``position`` the position of the last one.
        """
        memory, changes, wallets, unwritten = self._memory, [], {}, dict[str, Unwritten]()
        for customer, changed in self._customers.items():
            if not changed.events:
                continue  # recalled for an event that did not change it
            wallet = wallets[customer] = changed.wallet.without_finished(memory.wallets.get(customer))
            if wallet is not changed.wallet or changed.row_is_due:
                changes.append(self._rows_of_change(customer, changed))
            earlier = memory.unwritten.get(customer)
            known = memory.wallets.get(customer) or Wallet(customer=customer)
            unwritten[customer] = Unwritten(
                changed.events + (0 if earlier is None else earlier.events),
                changed.last_position,
                known if earlier is None else earlier.row,
            )
        if self._writes_every_row(position, events):
            through, due = position, {**memory.unwritten, **unwritten}
        else:
            through, due = memory.wallets_through, {c: u for c, u in unwritten.items() if self._row_is_due(c, u)}
        self._changes = Changes(
            books=self.books,
            wallets_through=through,
            wallets=wallets,
            unwritten={customer: of for customer, of in unwritten.items() if customer not in due},
            effects=self._effects,
        )
        written = [
            WalletRow(of.last_position, wallets.get(customer) or memory.wallets[customer], of.row)
            for customer, of in due.items()
        ]
        books = [] if self.books is memory.books else rows_of_books(memory.books, self.books)
        return {"new_wallets_through": through, **parameters_of(written, changes, books)}

    def _rows_of_change(self, customer: str, changed: CustomerInBatch) -> Rows:
        """The rows of a customer's blocks and documents.

        A document has one row. An undone payment may be recorded again in the same batch, for another customer.
        """
        rows = rows_of_change(changed.before, changed.wallet)
        own = [row for row in rows.documents if self._last_changed_by.get((row[0], row[1]), customer) == customer]
        return rows if len(own) == len(rows.documents) else msgspec.structs.replace(rows, documents=tuple(own))

    def _writes_every_row(self, position: int, events: int) -> bool:
        memory = self._memory
        return (
            writes_every_row(events=events, behind=position - memory.wallets_through)
            or memory.has_too_many_wallets(sum(changed.is_new for changed in self._customers.values()))
            # Another writer was active, and may be again. It would have to read the usage and add it.
            or memory.head is None
            # Later, missing usage is added under the closed months of the head, which must not have changed.
            or self._moves_closed_months
        )

    def _row_is_due(self, customer: str, unwritten: Unwritten) -> bool:
        return self._customers[customer].row_is_due or is_far_behind(unwritten)

    @property
    def changes(self) -> Changes:
        """Returns the changes of the batch, for the memory. Raises IntegrityFault if events have no rows."""
        if not any(changed.events for changed in self._customers.values()) and self._changes is None:
            return Changes(books=self.books, wallets_through=self._memory.wallets_through)
        return present(self._changes, "a batch recorded events and made no rows of what they changed")


def _moves_an_expiry(recorded: RecordedEvent, wallet: Wallet) -> bool:
    """True if usage took the last credits of a block that no dispute freezes: the others expire after the dispute.

    The sweep finds due expiries in the rows of blocks, so this row must not be written later.
    """
    for movement in recorded.decision.movements:
        block = None if movement.block_id is None else wallet.block(movement.block_id)
        if block is not None and block.disputes and block.expiry_due_at is None:
            return True
    return False
