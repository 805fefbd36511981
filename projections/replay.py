"""Replaying a log: the pure folds over the stored decisions, and the rows that every derived table should hold.

Nothing is decided again. Owns: the fold in memory. Does not own: comparing (integrity), replacing (rebuild).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.trial_balance import DayTotals
from subledger import merkle
from subledger.blocks import Block
from subledger.events import Event, stored_event
from subledger.journal import Dimensions, Entry
from subledger.ledger import LedgerState, evolve_ledger
from subledger.posting import post
from subledger.store.memory import decode_decision, encode_state
from subledger.wallet import Correction, Decision, Overage, Wallet, evolve

LOG: Final = """
-- The whole log in order, up to a position, with the batch of each event.
SELECT e.position, b.last_position AS batch, e.source, e.event_id, e.type, e.customer, e.occurred_at, e.data,
       e.attributes, e.decision, e.leaf
FROM batches b JOIN events e ON e.ledger = b.ledger AND e.position BETWEEN b.first_position AND b.last_position
WHERE b.ledger = :ledger AND b.last_position > :after ORDER BY e.position
"""
LOG_ENTRIES: Final = """
-- Every entry in order, with its dimensions.
SELECT n.*, d.product, d.credit_kind, d.pool, d.processor
FROM entries n LEFT JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
WHERE n.ledger = :ledger AND n.position > :after ORDER BY n.position, n.number
"""


# A server-side cursor, so that memory stays bounded; an option of the statement, for a connection would keep it.
STREAMED: Final = {"yield_per": 2_000}


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the log with its stored entries, as stored: its data is text that has not been read yet."""

    position: int
    batch: int
    event: Event
    decision_text: str
    leaf: bytes
    entries: tuple[Entry, ...]
    dimension_sets: tuple[int, ...]


def read_log(connection: sa.Connection, ledger: str, after: int = 0) -> Iterator[Logged]:
    """The log in order, streamed: bounded memory however long it is."""
    parameters = {"ledger": ledger, "after": after}
    entries = groupby(
        connection.execute(sa.text(LOG_ENTRIES), parameters, execution_options=STREAMED), key=lambda row: row.position
    )
    position, group = next(entries, (None, iter(())))
    for row in connection.execute(sa.text(LOG), parameters, execution_options=STREAMED):
        own: list[Any] = []
        while position is not None and position <= row.position:
            if position == row.position:
                own = list(group)
            position, group = next(entries, (None, iter(())))
        yield Logged(
            position=row.position,
            batch=row.batch,
            event=Event(
                source=row.source, event_id=row.event_id, type=row.type, customer=row.customer,
                occurred_at=row.occurred_at, data=None, data_text=row.data, attributes_text=row.attributes,
            ),
            decision_text=row.decision,
            leaf=bytes(row.leaf),
            entries=tuple(_entry(entry) for entry in own),
            dimension_sets=tuple(entry.dimension_set for entry in own),
        )  # fmt: skip


def _entry(row: Any) -> Entry:
    return Entry(
        number=row.number, policy=row.policy, kind=row.kind, customer=row.customer, block_id=row.block_id,
        unit=row.unit, credits=row.credits, amount_minor=row.amount_minor, currency=row.currency,
        functional_minor=row.functional_minor, accounting_date=row.accounting_date,
        effective_date=row.effective_date, cut=row.cut,
        dimensions=Dimensions(row.product or "", row.credit_kind or "", row.pool or "", row.processor or ""),
    )  # fmt: skip


class Replayer:
    """The state of a ledger after the events taken so far, as the recorder would have it."""

    def __init__(self, ledger: str) -> None:
        self.state = LedgerState(ledger=ledger)
        self.wallets: dict[str, Wallet] = {}
        self.positions: dict[str, int] = {}
        self.finished: dict[str, tuple[str, Block]] = {}
        self.opened: dict[str, tuple[str, Block]] = {}
        self.overages: dict[int, tuple[str, Overage]] = {}
        self.corrections: dict[int, tuple[str, Correction]] = {}
        self.dimension_sets: dict[Dimensions, int] = {}
        self.days = DayTotals()
        self.frontier = merkle.Frontier()
        self.nodes: list[tuple[int, int, bytes]] = []

    def take(self, logged: Logged, recorded_at: datetime) -> tuple[Event, tuple[Entry, ...]]:
        """Folds one event in. Returns it, read, and the entries that follow from its decision."""
        stored, decision = logged.event, decode_decision(logged.decision_text)
        event = stored_event(
            source=stored.source,
            event_id=stored.event_id,
            type=stored.type,
            customer=stored.customer,
            occurred_at=stored.occurred_at,
            data_text=stored.data_text,
            attributes_text=stored.attributes_text,
        )
        before = self.state
        wallet = Wallet(customer=event.customer or "")
        if event.customer is not None:
            wallet = self._recalled(self.wallets.get(event.customer, wallet), decision)
        after = evolve(
            wallet, event, decision, position=logged.position, functional_currency=before.functional_currency
        )
        entries = post(event, decision, before=before, wallet=after)
        if event.customer is not None:
            self._keep(event.customer, after, logged.position)
        self.state = evolve_ledger(before, event)
        for entry in entries:
            self.dimension_sets.setdefault(entry.dimensions, len(self.dimension_sets) + 1)
        self.days.add(entries, recorded_at, self.dimension_sets)
        return event, entries

    def _recalled(self, wallet: Wallet, decision: Decision) -> Wallet:
        blocks = tuple(
            self.finished[m.block][1] for m in decision.movements if m.block is not None and m.block in self.finished
        )
        overages = tuple(
            self.overages[m.overage][1]
            for m in decision.movements
            if m.overage is not None and m.overage in self.overages
        )
        correction = self.corrections.get(decision.original) if decision.original is not None else None
        if not (blocks or overages or correction):
            return wallet
        unique = {block.block_id: block for block in blocks}
        return wallet.recall(
            tuple(unique.values()),
            tuple({o.position: o for o in overages}.values()),
            (correction[1],) if correction else (),
        )

    def _keep(self, customer: str, wallet: Wallet, position: int) -> None:
        for block in wallet.blocks:
            if block.left:
                self.finished.pop(block.block_id, None)
                self.opened[block.block_id] = (customer, block)
            else:
                self.opened.pop(block.block_id, None)
                self.finished[block.block_id] = (customer, block)
        for overage in wallet.overages:
            if not overage.open:
                self.overages[overage.position] = (customer, overage)
        for correction in wallet.corrections:
            self.corrections[correction.position] = (customer, correction)
        self.wallets[customer] = wallet.without_finished()
        self.positions[customer] = position

    # --- the rows that the tables should hold ----------------------------------------------------------------

    def tables(self) -> dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]:
        """Per derived table: key (without the ledger) → the other columns."""
        blocks = {
            (block_id,): (
                customer, block.invoice_id, block.opened_at_position, block.expires_at, bool(block.left),
                None if block.left else encode_state(block),
            )
            for held in (self.opened, self.finished)
            for block_id, (customer, block) in held.items()
        }  # fmt: skip
        documents = {
            ("overage", str(position)): (customer, encode_state(overage))
            for position, (customer, overage) in self.overages.items()
        } | {
            ("correction", str(position)): (customer, encode_state(correction))
            for position, (customer, correction) in self.corrections.items()
        }
        return {
            "wallets": {
                (customer,): (self.positions[customer], encode_state(wallet))
                for customer, wallet in self.wallets.items()
            },
            "blocks": blocks,
            "documents": documents,
            "dimension_sets": {
                (number,): (d.product, d.credit_kind, d.pool, d.processor) for d, number in self.dimension_sets.items()
            },
            "ledger_days": {key: tuple(total) for key, total in self.days.totals.items()},
            "merkle_nodes": {(level, index): (digest,) for level, index, digest in self.nodes},
        }
