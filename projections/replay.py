"""Replaying a log: the pure folds over the stored decisions, and the rows that every derived table should hold.

Nothing is decided again. The log is streamed, so that its length costs no memory; what it leaves behind (wallets,
blocks, documents, totals) is held. Owns: the fold in memory. Does not own: comparing (integrity), replacing (rebuild).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.trial_balance import DayKey, DayTotals
from subledger import merkle, references
from subledger.blocks import Block
from subledger.books import Books, evolve_books
from subledger.documents import Correction, Document, Overage
from subledger.events import Event, canonical, stored_event
from subledger.evolving import evolve
from subledger.journal import Dimensions, Entry
from subledger.ledger import LedgerState, evolve_ledger
from subledger.own_event_data import MappingAdopted, PolicyAdopted
from subledger.periods import effective_date
from subledger.posting import post
from subledger.references import DocumentKey
from subledger.store.approvals import APPROVED
from subledger.store.rows import decode_decision, encode_state, rows_of_books
from subledger.wallet import Approval, Decision, Wallet

EVENTS: Final = """
-- The events of a ledger after a position, in order, whether or not a batch holds them.
SELECT position, source, event_id, type, customer, occurred_at, data, attributes, decision, leaf
FROM events WHERE ledger = :ledger AND position > :after ORDER BY position
"""
ENTRIES: Final = """
-- The entries of a ledger in order, whether or not there is an event behind them.
SELECT position, number, policy, kind, customer, block_id, unit, credits, amount_minor, currency, functional_minor,
       accounting_date, effective_date, cut, dimension_set
FROM entries WHERE ledger = :ledger ORDER BY position, number
"""
BATCHES: Final = """
-- The batches of a ledger that end after a position, in order.
SELECT first_position, last_position, recorded_at, root, previous_hash, hash
FROM batches WHERE ledger = :ledger AND last_position > :after ORDER BY last_position
"""

# A server-side cursor, so that memory stays bounded; an option of the statement, for a connection would keep it.
STREAMED: Final = {"yield_per": 2_000}

# What a row of a derived table is, without the ledger: its key and its other values.
Key = tuple[Any, ...]
Rows = dict[Key, tuple[Any, ...]]


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """A table that follows from the log: its key (after the ledger) and its other columns."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.values

    @property
    def query(self) -> str:
        """A ledger's rows, key first."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE ledger = :ledger"


DERIVED: Final[tuple[Derived, ...]] = (
    Derived(
        name="posting_policies", key=("policy",), values=("name", "version", "content_hash", "position")
    ),
    Derived(name="posting_rules", key=("policy", "kind", "pair"), values=("debit", "credit")),
    Derived(name="account_mappings", key=("mapping",), values=("content_hash", "rows", "position")),
    Derived(
        name="dimension_sets", key=("dimension_set",), values=("product", "credit_kind", "pool", "processor")
    ),
    Derived(name="wallets", key=("customer",), values=("position", "state")),
    Derived(
        name="blocks",
        key=("block_id",),
        values=("customer", "invoice_id", "opened_at_position", "expires_at", "is_open", "state"),
    ),
    Derived(name="documents", key=("kind", "document_id"), values=("customer", "state")),
    Derived(
        name="ledger_days",
        key=(
            "accounting_date", "recorded_date", "cut", "currency", "policy", "kind", "dimension_set", "unit",
        ),
        values=(
            "written_minor", "mirrored_minor", "functional_written_minor", "functional_mirrored_minor",
            "credits", "entries",
        ),
    ),
    Derived(name="merkle_nodes", key=("level", "index"), values=("hash",)),
)  # fmt: skip


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the log as stored: its data is text that has not been read. ``entries`` are rows."""

    position: int
    event: Event
    decision_text: str
    leaf: bytes
    entries: tuple[Any, ...] = ()


def read_events(connection: sa.Connection, ledger: str, after: int = 0) -> Iterator[Logged]:
    """The events after a position, in order, without their entries."""
    rows = connection.execute(sa.text(EVENTS), {"ledger": ledger, "after": after}, execution_options=STREAMED)
    for row in rows:
        yield Logged(
            position=row.position,
            event=Event(
                source=row.source, event_id=row.event_id, type=row.type, customer=row.customer,
                occurred_at=row.occurred_at, data=None, data_text=row.data, attributes_text=row.attributes,
            ),
            decision_text=row.decision,
            leaf=bytes(row.leaf),
        )  # fmt: skip


def read_log(connection: sa.Connection, ledger: str, stray: Callable[[int], None]) -> Iterator[Logged]:
    """The whole log, each event with its entries. ``stray`` is told a position that has entries and no event."""
    rows = connection.execute(sa.text(ENTRIES), {"ledger": ledger}, execution_options=STREAMED)
    groups = groupby(rows, key=lambda row: row.position)
    position, group = next(groups, (None, iter(())))
    for logged in read_events(connection, ledger):
        own: tuple[Any, ...] = ()
        while position is not None and position <= logged.position:
            if position == logged.position:
                own = tuple(group)
            else:
                stray(position)
            position, group = next(groups, (None, iter(())))
        yield msgspec.structs.replace(logged, entries=own)
    while position is not None:
        stray(position)
        position, group = next(groups, (None, iter(())))


def read_batches(connection: sa.Connection, ledger: str, after: int = 0) -> Iterator[Any]:
    """The batches that end after a position, in order."""
    parameters = {"ledger": ledger, "after": after}
    yield from connection.execute(sa.text(BATCHES), parameters, execution_options=STREAMED)


def stored_entry(row: Any, dimensions: Dimensions) -> Entry:
    """A row of ``entries`` as an entry, given what its dimension set stands for."""
    return Entry(
        number=row.number, policy=row.policy, kind=row.kind, customer=row.customer, block_id=row.block_id,
        unit=row.unit, credits=row.credits, amount_minor=row.amount_minor, currency=row.currency,
        functional_minor=row.functional_minor, accounting_date=row.accounting_date,
        effective_date=row.effective_date, cut=row.cut, dimensions=dimensions,
    )  # fmt: skip


class Replayer:
    """A ledger after the events taken so far, as the recorder would have left it, however it had batched them.

    ``allowed`` holds what a second person allowed, by the id of the approval, as its row must say it.
    """

    def __init__(self, ledger: str) -> None:
        self.state = LedgerState(ledger=ledger)
        self.position = 0
        self.frontier = merkle.Frontier()
        self.dimensions: list[Dimensions] = []
        self.blocks: dict[str, tuple[str, Block]] = {}
        self.wallets: dict[str, Wallet] = {}
        self._positions: dict[str, int] = {}
        self._overages: dict[int, tuple[str, Overage]] = {}
        self._corrections: dict[int, tuple[str, Correction]] = {}
        self.documents: dict[DocumentKey, tuple[str, Document]] = {}
        self.books = Books()
        self.allowed: dict[str, tuple[Any, ...]] = {}
        self._numbers: dict[Dimensions, int] = {}
        self.days: dict[DayKey, list[int | Decimal]] = {}
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._new_days = DayTotals()
        self._changed: dict[str, dict[Key, Any]] = {derived.name: {} for derived in DERIVED}

    def take(self, logged: Logged, recorded_at: datetime) -> tuple[Event, tuple[Entry, ...]]:
        """Folds one event in. Returns it, read, and the entries that follow from its decision.

        Raises whatever a changed log may lead to; the replayer is of no use after that.
        """
        event, decision = _read(logged.event), decode_decision(logged.decision_text)
        before = self.state
        home = before.functional_currency
        wallets = {}
        for customer in references.customers_of(event, decision):
            wallet = self._recalled(self.wallets.get(customer, Wallet(customer=customer)), event, decision)
            wallets[customer] = evolve(wallet, event, decision, position=logged.position, functional_currency=home)
        entries = post(event, decision, before=before, wallets=wallets)
        for customer, wallet in wallets.items():
            self._keep(customer, wallet, logged.position)
        self._keep_books(event, decision)
        self.state = evolve_ledger(before, event)
        self._adopt(event, logged.position)
        if decision.approval is not None:
            self.allowed[decision.approval.approval_id] = _approved(logged.event, decision.approval, recorded_at)
        for entry in entries:
            self._number(entry.dimensions)
        self._new_days.add(entries, recorded_at.astimezone(UTC).date(), self._numbers)
        for level, index, digest in self.frontier.append(logged.leaf):
            self._changed["merkle_nodes"][(level, index)] = (digest,)
        self.position = logged.position
        return event, entries

    # --- the fold ---------------------------------------------------------------------------------------------

    def _recalled(self, wallet: Wallet, event: Event, decision: Decision) -> Wallet:
        """The wallet with what is finished and named by the decision brought back; what is open it holds."""
        named = {m.block: self.blocks[m.block] for m in decision.movements if m.block in self.blocks}
        blocks = tuple(block for owner, block in named.values() if owner == wallet.customer and not block.left)
        overages = {m.overage: self._overages[m.overage][1] for m in decision.movements if m.overage in self._overages}
        correction = self._corrections.get(decision.original) if decision.original is not None else None
        keys = {
            *references.references_of((event,)).documents,
            *(("invoice", m.invoice) for m in decision.movements if m.invoice),
        }
        named_documents = [self.documents[key][1] for key in keys if key in self.documents]
        keys |= references.behind(named_documents)[1]  # the payment of a dispute
        held = [self.documents[key] for key in keys if key in self.documents]
        documents = tuple(document for owner, document in held if owner == wallet.customer)
        if not (blocks or overages or correction or documents):
            return wallet
        corrections = () if correction is None else (correction[1],)
        return wallet.recall(blocks, tuple(overages.values()), corrections, documents)

    def _keep(self, customer: str, wallet: Wallet, position: int) -> None:
        for block in wallet.blocks:
            held = self.blocks.get(block.block_id)
            if held is None or held[1] is not block:
                self.blocks[block.block_id] = (customer, block)
                self._changed["blocks"][(block.block_id,)] = None
        for overage in wallet.overages:
            if not overage.open:
                self._overages[overage.position] = (customer, overage)
                self._changed["documents"][("overage", str(overage.position))] = (customer, overage)
        for correction in wallet.corrections:
            self._corrections[correction.position] = (customer, correction)
            self._changed["documents"][("correction", str(correction.position))] = (customer, correction)
        for document in wallet.documents:
            key = (document.document_kind, document.document_id)
            if key not in self.documents or self.documents[key][1] is not document:
                self.documents[key] = (customer, document)
                self._changed["documents"][key] = (customer, document)
        self.wallets[customer] = wallet.without_finished()
        self._positions[customer] = position
        self._changed["wallets"][(customer,)] = None

    def _keep_books(self, event: Event, decision: Decision) -> None:
        effective = effective_date(event.occurred_at, self.state.zone)
        home = self.state.functional_currency
        before, self.books = (
            self.books,
            evolve_books(self.books, event, decision, effective=effective, functional_currency=home),
        )
        for kind, document_id, customer, state in rows_of_books(before, self.books):
            self._changed["documents"][(kind, document_id)] = (customer, state)

    def _adopt(self, event: Event, position: int) -> None:
        data = event.data
        if isinstance(data, PolicyAdopted):
            policy = (data.name, data.version, data.content_hash, position)
            self._changed["posting_policies"][(data.policy,)] = policy
            for kind, rule in data.rules.items():
                for pair, (debit, credit) in enumerate(rule, start=1):
                    self._changed["posting_rules"][(data.policy, kind, pair)] = (debit, credit)
        elif isinstance(data, MappingAdopted):
            mapping = (data.content_hash, canonical(data.rows), position)
            self._changed["account_mappings"][(data.mapping,)] = mapping

    def _number(self, dimensions: Dimensions) -> None:
        if dimensions not in self._numbers:
            self.dimensions.append(dimensions)
            self._numbers[dimensions] = len(self.dimensions)
            self._changed["dimension_sets"][(len(self.dimensions),)] = (
                dimensions.product, dimensions.credit_kind, dimensions.pool, dimensions.processor,
            )  # fmt: skip

    # --- the rows that the tables should hold -----------------------------------------------------------------

    def changed_rows(self) -> dict[str, Rows]:
        """Per derived table, the rows that became new or other since this was last asked; at first, all of them."""
        changed: dict[str, Rows] = {**self._changed}
        changed["wallets"] = {
            (customer,): (self._positions[customer], encode_state(self.wallets[customer]))
            for (customer,) in changed["wallets"]
        }
        changed["blocks"] = {(block_id,): _block_row(*self.blocks[block_id]) for (block_id,) in changed["blocks"]}
        changed["documents"] = {
            key: (customer, document if isinstance(document, str) else encode_state(document))
            for key, (customer, document) in changed["documents"].items()
        }
        changed["ledger_days"] = {key: tuple(total) for key, total in self._added_days()}
        self._forget_changes()
        return changed

    def _added_days(self) -> Iterable[tuple[DayKey, list[int | Decimal]]]:
        for key, total in self._new_days.totals.items():
            held = self.days.get(key)
            self.days[key] = total if held is None else [a + b for a, b in zip(held, total, strict=True)]
            yield key, self.days[key]


def _approved(event: Event, approval: Approval, recorded_at: datetime) -> tuple[Any, ...]:
    return (
        event.source, event.event_id, event.type, event.customer, event.occurred_at, event.data_text,
        event.attributes_text, approval.maker, APPROVED, approval.checker, recorded_at,
    )  # fmt: skip


def _read(stored: Event) -> Event:
    return stored_event(
        source=stored.source,
        event_id=stored.event_id,
        type=stored.type,
        customer=stored.customer,
        occurred_at=stored.occurred_at,
        data_text=stored.data_text,
        attributes_text=stored.attributes_text,
    )


def _block_row(customer: str, block: Block) -> tuple[Any, ...]:
    # The figures of an open block are in its wallet alone, so that a draw updates one row.
    state = None if block.left else encode_state(block)
    return (customer, block.invoice_id, block.opened_at_position, block.due_at, bool(block.left), state)
