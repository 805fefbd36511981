"""Replay of a log: the pure fold over the stored decisions of customers, and the expected rows of their tables.

Nothing is decided again. ``Replayer`` folds one share of the customers, and ``LedgerReplayer`` the data of the ledger
as a whole. Together they produce the same rows as the recorder. Owns: the fold in memory. Does not own: reading the log
(log_stream), comparing (integrity), replacing (rebuild).

Memory: the wallets, blocks and documents of the share, and totals by day; nothing that grows with the number of events.
Plain draws are summed per block and folded into its wallet as one draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from projections.replay.derived_tables import Key
from projections.replay.log_stream import WHOLE, Members, Share
from projections.replay.plain_draws import (
    MOST_RUNS,
    USAGE,
    Drawn,
    UsageData,
    draws_of,
    is_plain_draw,
    usage_data,
    usage_of,
)
from projections.replay.totals import Totals
from subledger.billing_documents import BillingDocument, Overage, ReversedUsage
from subledger.blocks import Block
from subledger.errors import present
from subledger.events import references
from subledger.events.envelope import Event
from subledger.events.own_data import RESERVED_TYPES
from subledger.events.references import DocumentKey
from subledger.evolving import evolve
from subledger.kinds import Entry, is_mirrored
from subledger.ledger import LedgerState, evolve_ledger
from subledger.own_dimensions import text_of
from subledger.posting import post
from subledger.store.columns import EventRow
from subledger.store.writing.approvals import APPROVED
from subledger.store.writing.rows import (
    decode_block,
    decode_decision,
    decode_document,
    decode_wallet,
    encode_state,
    has_rows,
)
from subledger.wallet import Approval, Decision, Wallet
from subledger.wallet_parts import Blocks, Overages

Moment = Callable[[int], datetime]
"""Returns the time at which a position was recorded."""


class Replayer:
    """A share of a ledger's customers after the events taken so far.

    ``allowed``: the expected rows of approvals, by id, of events that a second person approved. If a customer has
    events after ``lagging_after``, its wallet is also stored as of the position of its row (``rows_at``).
    """

    def __init__(self, ledger: str, members: Members | None = None, *, lagging_after: int | None = None) -> None:
        self.state = LedgerState(ledger=ledger)
        self.position = 0
        self.events = 0
        self.share: Share = WHOLE if members is None else members.share
        self.totals = Totals()
        self.blocks: dict[str, tuple[str, Block]] = {}
        self.wallets: dict[str, Wallet] = {}
        self.positions: dict[str, int] = {}
        self.overages: dict[int, tuple[str, Overage]] = {}
        self.corrections: dict[int, tuple[str, ReversedUsage]] = {}
        self.documents: dict[DocumentKey, tuple[str, BillingDocument]] = {}
        self.allowed: dict[str, tuple[Any, ...]] = {}
        self.earlier: dict[str, tuple[int, Wallet]] = {}
        self._rows_at: Mapping[str, int] = {}
        self._late_comers: set[str] = set()
        self.last_own: Event | None = None
        self._members = members
        self._lagging_after = lagging_after
        # There is one look-up per draw, because each look-up is likely to miss the processor's caches. This limits the
        # speed of a replay.
        self._drawn: dict[str | None, Drawn] = {}
        self._drawing: dict[str, list[Drawn]] = {}

    def go_on(self, connection: sa.Connection, lagging_after: int | None, rows_at: Mapping[str, int]) -> None:
        """Continues a saved replay over another connection. The replay was saved at a position not after
        ``lagging_after``.
        """
        self._lagging_after, self._rows_at = lagging_after, rows_at
        if self._members is not None:
            self._members.ask(connection)

    def is_mine(self, customer: str | None) -> bool:
        """True if a customer, or the data without a customer (None), belongs to this share."""
        return self._members is None or customer in self._members

    def bring_back(
        self,
        wallets: Iterable[tuple[str, int, str, list[str], list[str]]],
        blocks: Iterable[tuple[str, str, str]],
        documents: Iterable[tuple[str, str, str, str]],
    ) -> None:
        """Takes over the rows of another replay: wallets with the states of their parts that have rows, and finished
        blocks with their id, customer and state.
        """
        for customer, position, text, *parts in wallets:
            wallet = self.wallets[customer] = decode_wallet(text, *parts)
            self.positions[customer] = position
            self.blocks.update((block.block_id, (customer, block)) for block in wallet.blocks)
        for block_id, customer, text in blocks:
            self.blocks[block_id] = (customer, decode_block(text))
        for kind, name, customer, text in documents:
            document: Any = decode_document(kind, text)
            if kind == "overage":
                self.overages[int(name)] = (customer, document)
            elif kind == "correction":
                self.corrections[int(name)] = (customer, document)
            else:
                self.documents[kind, name] = (customer, document)

    # --- one event --------------------------------------------------------------------------------------------

    def take(self, logged: EventRow, recorded_on: date, moment: Moment) -> tuple[Event, tuple[Entry, ...]] | None:
        """Folds in one event. Returns the parsed event, and the entries that follow from its decision.

        Returns None if the event belongs to another share and only touches this one. ``moment`` returns the time at
        which a position was recorded. A changed log can raise any exception; the replayer is unusable after that.
        """
        decision = decode_decision(logged.decision_text)
        drawn = self._draw(logged, decision, recorded_on)
        if drawn is not None:
            event = logged.event(usage_of(drawn))
            customer = present(logged.customer, "usage has no customer")
            wallets = {customer: self.wallets[customer]}
            return event, post(event, decision, before=self.state, wallets=wallets)
        return self._take(logged, decision, recorded_on, moment)

    def fold(self, logged: EventRow, recorded_on: date, moment: Moment) -> None:
        """Folds in one event like ``take``, but does not make the entries of a plain draw."""
        decision = decode_decision(logged.decision_text)
        if self._draw(logged, decision, recorded_on) is None:
            self._take(logged, decision, recorded_on, moment)

    def _draw(self, logged: EventRow, decision: Decision, recorded_on: date) -> UsageData | None:
        """Adds a plain draw to the sums of open blocks. If it is not a plain draw, nothing changes, and the result is
        None.
        """
        if logged.type != USAGE or not is_plain_draw(decision):
            return None
        customer = logged.customer
        if self._lagging_after is not None and logged.position > self._lagging_after and customer is not None:
            self._remember_earlier(customer)
        found = []
        for movement in decision.movements:
            drawn = self._drawn.get(movement.block_id)
            if drawn is None or drawn.customer != customer:
                drawn = self._begin_drawing(customer, movement.block_id)
                if drawn is None:
                    return None
            found.append(drawn)
        data = usage_data(logged.data_text)
        state, position = self.state, logged.position
        usage = (data.product, text_of(data.dimensions))
        place = (recorded_on, state.open_cut, state.functional_currency, decision.policy, *usage, position)
        is_long = False
        for number, (movement, drawn) in enumerate(zip(decision.movements, found, strict=True), start=1):
            amount = movement.amount_minor
            drawn.position = position
            if movement.accounting_date != drawn.on:
                drawn.begin(movement.accounting_date)
                is_long |= len(drawn.earlier) >= MOST_RUNS
            drawn.credits += movement.credits
            drawn.amount += amount
            total = self.totals.draw(movement, drawn, place, number)
            functional = movement.functional_minor
            if functional is None:
                total[0] += amount
                total[2] += amount
            else:
                drawn.functional += functional
                mirrored = is_mirrored(amount, functional)
                total[mirrored] += amount
                total[2 + mirrored] += abs(functional)
            total[4] += movement.credits
            total[5] += 1
        self.position = position
        self.events += 1
        if is_long:
            self._settle(present(customer, "usage has no customer"))
        return data

    def _begin_drawing(self, customer: str | None, block_id: str | None) -> Drawn | None:
        wallet = self.wallets.get(customer) if customer is not None else None
        block = wallet.block(block_id) if wallet is not None and block_id is not None else None
        if block is None or customer is None:
            return None
        drawn = Drawn(
            customer=customer,
            block_id=block.block_id,
            unit=block.unit,
            credit_kind=block.credit_kind,
            refundable=block.refundable_dimension,
            own=block.dimensions,
        )
        self._drawn[block.block_id] = drawn
        self._drawing.setdefault(customer, []).append(drawn)
        return drawn

    def _settle(self, customer: str) -> None:
        """Folds the sums of plain draws into the customer's wallet, as one draw per block and run of one date."""
        draws = self._drawing.pop(customer, None)
        if draws is None:
            return
        for drawn in draws:
            self._drawn.pop(drawn.block_id, None)
        # A draw without sums has position 0: its decision also drew on a block that is not open, and was folded in
        # another way.
        position = max(self.positions[customer], *(drawn.position for drawn in draws))
        movements = tuple(movement for d in draws for movement in (*d.earlier, *d.sums()))
        decision = Decision(policy=0, movements=movements)
        wallet = evolve(
            self.wallets[customer],
            draws_of(customer),
            decision,
            position=position,
            functional_currency=self.state.functional_currency,
            closed_through=self.state.closed_through,
        )
        self._keep(customer, wallet, position)

    def settle_all(self) -> None:
        """Folds in all sums of plain draws; call it before wallets and blocks are read."""
        for customer in list(self._drawing):
            self._settle(customer)
        self.totals.clear_cache()

    def _take(
        self, logged: EventRow, decision: Decision, recorded_on: date, moment: Moment
    ) -> tuple[Event, tuple[Entry, ...]] | None:
        event = logged.read()
        before, position = self.state, logged.position
        functional_currency = before.functional_currency
        mine = self._members is None or event.customer in self._members
        if event.type in RESERVED_TYPES:
            after = evolve_ledger(before, event)
            if after.closed_through != before.closed_through:
                for customer in list(self._drawing):
                    self._settle(customer)  # the stored data of a draw depend on the months closed before it
            self.state = after
            self.last_own = event
        wallets = {}
        for customer in references.customers_of(event, decision):
            wallet = Wallet(customer=customer)
            if self._members is None or customer in self._members:
                self._settle(customer)
                if self._lagging_after is not None and position > self._lagging_after:
                    self._remember_earlier(customer)
                wallet = self._recalled(self.wallets.get(customer, wallet), event, decision)
            else:
                continue  # of another share
            wallets[customer] = evolve(
                wallet,
                event,
                decision,
                position=position,
                functional_currency=functional_currency,
                closed_through=before.closed_through,
            )
        entries = post(event, decision, before=before, wallets=wallets) if mine else ()
        for customer, wallet in wallets.items():
            if self._members is None or customer in self._members:
                self._keep(customer, wallet, position)
        self.position = position
        if not mine:
            return None
        self.events += 1
        if decision.approval is not None:
            self.allowed[decision.approval.approval_id] = _approved(logged, decision.approval, moment(position))
        for entry in entries:
            self.totals.add(entry, recorded_on, position)
        return event, entries

    # --- the fold ---------------------------------------------------------------------------------------------

    def _remember_earlier(self, customer: str) -> None:
        """Stores a customer's wallet before its next event after ``lagging_after``, if its row belongs to this
        position.
        """
        if customer not in self.wallets:
            self._late_comers.add(customer)
            return
        last = max((drawn.position for drawn in self._drawing.get(customer, ())), default=0)
        last = max(last, self.positions[customer])
        if self._rows_at.get(customer) == last:
            self._settle(customer)
            self.earlier[customer] = (last, self.wallets[customer])

    def _recalled(self, wallet: Wallet, event: Event, decision: Decision) -> Wallet:
        """Returns the wallet with the finished blocks and documents that the decision names, in addition to the open
        ones.
        """
        named = {m.block_id: self.blocks[m.block_id] for m in decision.movements if m.block_id in self.blocks}
        blocks = tuple(block for owner, block in named.values() if owner == wallet.customer and not block.remaining)
        overages = {
            m.overage_position: self.overages[m.overage_position][1]
            for m in decision.movements
            if m.overage_position in self.overages
        }
        correction = (
            self.corrections.get(decision.original_position) if decision.original_position is not None else None
        )
        keys = {
            *references.references_of((event,)).documents,
            *(("invoice", m.invoice_id) for m in decision.movements if m.invoice_id),
        }
        named_documents = [self.documents[key][1] for key in keys if key in self.documents]
        keys |= references.documents_referenced_by(named_documents)[1]  # the payment of a dispute
        owned = [self.documents[key] for key in keys if key in self.documents]
        documents = tuple(document for owner, document in owned if owner == wallet.customer)
        if not (blocks or overages or correction or documents):
            return wallet
        corrections = () if correction is None else (correction[1],)
        return wallet.recall(blocks, tuple(overages.values()), corrections, documents)

    def _keep(self, customer: str, wallet: Wallet, position: int) -> None:
        before = self.wallets.get(customer)
        if before is None:
            before = Wallet(customer=customer)
        for _, block in wallet.blocks.changes_since(before.blocks):
            if block is not None:
                self.blocks[block.block_id] = (customer, block)
        for _, overage in wallet.overages.changes_since(before.overages):
            if overage is not None and not overage.open:
                self.overages[overage.position] = (customer, overage)
        for correction in wallet.reversed_usages:
            self.corrections[correction.position] = (customer, correction)
        for document in wallet.documents:
            self.documents[document.document_kind, document.document_id] = (customer, document)
        self.wallets[customer] = wallet.without_finished(before)
        self.positions[customer] = position

    # --- expected rows of the tables --------------------------------------------------------------------------

    def as_it_was(self, customer: str, position: int) -> Wallet | None:
        """Returns a customer's wallet at an earlier position, if its row may belong to that position."""
        at, wallet = self.earlier.get(customer, (0, None))
        return wallet if at == position else None

    def may_lack(self, customer: str) -> bool:
        """True if a customer's wallet may have no row yet, because its first event is after the rows written so far."""
        return customer in self._late_comers

    def _wallet_of_rows(self, customer: str) -> Wallet:
        """Returns the wallet that a customer's rows must have: as of the position of its row of ``wallets``."""
        return self.as_it_was(customer, self._rows_at.get(customer, 0)) or self.wallets[customer]

    def _part_names(self, customer: str) -> Iterator[tuple[str, str]]:
        """Yields kind and id of the parts of a wallet that have rows of their own."""
        if self.may_lack(customer) and customer not in self._rows_at:
            return
        wallet = self._wallet_of_rows(customer)
        if has_rows(wallet.blocks):
            yield from ((Blocks.kind, block.block_id) for block in wallet.blocks)
        if has_rows(wallet.overages):
            yield from ((Overages.kind, str(overage.position)) for overage in wallet.overages)

    def keys(self, table: str) -> Iterator[Key]:
        """Yields the keys of the expected rows of one of ``OF_CUSTOMERS`` in this share."""
        if table == "wallets":
            yield from ((customer,) for customer in self.wallets)
        elif table == "wallet_parts":
            for customer in self.wallets:
                yield from ((customer, kind, name) for kind, name in self._part_names(customer))
        elif table == "blocks":
            yield from ((block_id,) for block_id in self.blocks)
        else:
            yield from (("overage", str(position)) for position in self.overages)
            yield from (("correction", str(position)) for position in self.corrections)
            yield from self.documents

    def row(self, table: str, key: Key) -> tuple[Any, ...]:
        """Returns the other values of one expected row, encoded on demand."""
        if table == "wallets":
            return (self.positions[key[0]], encode_state(self.wallets[key[0]]))
        if table == "wallet_parts":
            customer, kind, name = key
            wallet = self._wallet_of_rows(customer)
            return (
                encode_state(wallet.state_of_block(name) if kind == "block" else wallet.state_of_overage(int(name))),
            )
        if table == "blocks":
            return _block_row(*self.blocks[key[0]])
        kind, name = key
        owner, document = (
            self.overages[int(name)]
            if kind == "overage"
            else self.corrections[int(name)]
            if kind == "correction"
            else self.documents[key]
        )
        return (owner, encode_state(document))


def _approved(logged: EventRow, approval: Approval, recorded_at: datetime) -> tuple[Any, ...]:
    return (
        logged.source,
        logged.event_id,
        logged.type,
        logged.customer,
        logged.occurred_at,
        logged.data_text,
        logged.attributes_text,
        approval.maker,
        APPROVED,
        approval.checker,
        recorded_at,
    )


def _block_row(customer: str, block: Block) -> tuple[Any, ...]:
    # The figures of an open block are in its wallet alone, so that a draw updates one row.
    state = None if block.remaining else encode_state(block)
    return (customer, block.invoice_id, block.opened_at_position, block.expiry_due_at, bool(block.remaining), state)
