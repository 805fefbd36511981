"""Replaying a log: the pure folds over the stored decisions, and the rows that every derived table should hold.

Nothing is decided again. ``Replayer`` folds one share of the customers, ``LedgerReplayer`` what belongs to the ledger
as a whole; together they leave what the recorder left, however it had batched the events. Owns: the folds in memory.
Does not own: reading the log (log_stream), comparing (integrity), replacing (rebuild).

Memory: the wallets, blocks and documents of the share, and totals by day; never anything an event long. Plain draws
are added up per block and folded into its wallet as one: draws on a block add up, whatever their number.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.log_stream import TRANSFER, WHOLE, Logged, Members, Share
from projections.trial_balance import DayKey
from subledger import references
from subledger.blocks import ZERO, Block
from subledger.books import Books, evolve_books
from subledger.documents import Correction, Dispute, Document, Invoice, Overage, Payment
from subledger.events import Event, canonical, stored_event
from subledger.evolving import evolve
from subledger.journal import Dimensions, Entry
from subledger.ledger import LedgerState, evolve_ledger
from subledger.own_event_data import RESERVED_TYPES, MappingAdopted, PolicyAdopted
from subledger.periods import effective_date
from subledger.pools import Pool
from subledger.posting import post
from subledger.references import DocumentKey
from subledger.store.approvals import APPROVED
from subledger.store.rows import (
    decode_block,
    decode_decision,
    decode_document,
    decode_wallet,
    encode_state,
    rows_of_books,
)
from subledger.wallet import Approval, Decision, Movement, Wallet

USAGE: Final = "credits.consumed"
_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)

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

    def rows_of(self, which: str) -> str:
        """A ledger's rows that meet a condition, key first."""
        columns = ", ".join(f'"{name}"' for name in self.columns)
        return f"SELECT {columns} FROM {self.name} WHERE ledger = %(ledger)s AND {which}"


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


DERIVED_BY_NAME: Final = {derived.name: derived for derived in DERIVED}

Amounts = list[int | Decimal]
"""Written, mirrored, both in the functional currency, credits, entries: as the columns of ``ledger_days``."""

TotalKey = tuple[date, date, int, str, int, str, Dimensions, str]
"""accounting_date, recorded_date, cut, currency, policy, kind, dimensions, unit."""


Moment = Callable[[int], datetime]
"""When a position was recorded."""


class _UsageData(msgspec.Struct, frozen=True, gc=False):
    """What of the data of usage follows a draw into its entries."""

    product: str | None = None


_usage_data = msgspec.json.Decoder(_UsageData).decode


class _Drawn(msgspec.Struct, gc=False):
    """What plain draws have taken of a block since its wallet was last folded, and what of it never changes."""

    customer: str
    block_id: str
    unit: str
    credit_kind: str
    position: int = 0
    credits: Decimal = ZERO
    amount: int = 0
    functional: int = 0


def is_plain_draw(decision: Decision) -> bool:
    """Whether usage drew on open blocks and did nothing else: then its movements only add to what they have used."""
    if (
        not decision.movements
        or decision.original is not None
        or decision.taken_over is not None
        or decision.approval is not None
    ):
        return False
    for m in decision.movements:
        if (
            m.kind != "consumption" or m.block is None or m.credits <= 0 or m.amount < 0 or m.customer is not None
            or m.invoice is not None
        ):  # fmt: skip
            return False
    return True


class Totals:
    """Sums of entries by kind, dimensions and day, and where each combination of dimensions was used first."""

    def __init__(self) -> None:
        self.days: dict[TotalKey, Amounts] = {}
        self.first_use: dict[Dimensions, tuple[int, int]] = {}
        self._drawn: dict[tuple[Any, ...], Amounts] = {}

    def add(self, entry: Entry, recorded_on: date, position: int) -> None:
        """Takes one entry of a position."""
        key = (
            entry.accounting_date, recorded_on, entry.cut, entry.currency, entry.policy, entry.kind,
            entry.dimensions, entry.unit or "",
        )  # fmt: skip
        total = self.days.get(key)
        if total is None:
            total = self._new(key, (position, entry.number))
        mirrored = entry.amount_minor < 0 or (entry.amount_minor == 0 and entry.functional_minor < 0)
        total[mirrored] += abs(entry.amount_minor)
        total[2 + mirrored] += abs(entry.functional_minor)
        total[4] += entry.credits
        total[5] += 1

    def draw(self, movement: Movement, drawn: _Drawn, place: tuple[Any, ...], number: int) -> Amounts:
        """The total that a plain draw belongs to. ``place``: recorded_on, cut, functional currency, policy, product,
        position."""
        recorded_on, cut, home, policy, product, position = place
        policy = movement.policy or policy
        product = movement.product or product or ""
        quick = (
            movement.on, recorded_on, cut, movement.currency, policy, product, drawn.credit_kind, movement.pool,
            movement.processor, drawn.unit,
        )  # fmt: skip
        total = self._drawn.get(quick)
        if total is None:
            dimensions = Dimensions(product, drawn.credit_kind, movement.pool or "", movement.processor or "")
            currency = movement.currency or home
            key = (movement.on, recorded_on, cut, currency, policy, movement.kind, dimensions, drawn.unit)
            total = self.days.get(key)
            if total is None:
                total = self._new(key, (position, number))
            self._drawn[quick] = total
        return total

    def _new(self, key: TotalKey, place: tuple[int, int]) -> Amounts:
        dimensions = key[6]
        first = self.first_use.get(dimensions)
        if first is None or place < first:
            self.first_use[dimensions] = place
        total: Amounts = [0, 0, 0, 0, ZERO, 0]
        self.days[key] = total
        return total

    def forget_places(self) -> None:
        """Forgets where draws were added last: nothing but a quicker way to the same totals."""
        self._drawn.clear()

    def merge(self, other: Totals) -> None:
        """Adds the totals of another share."""
        for key, amounts in other.days.items():
            held = self.days.get(key)
            self.days[key] = list(amounts) if held is None else [a + b for a, b in zip(held, amounts, strict=True)]
        for dimensions, place in other.first_use.items():
            self.first_use[dimensions] = min(place, self.first_use.get(dimensions, place))
        self.forget_places()

    def numbered(self) -> list[Dimensions]:
        """The dimensions in the order of their first use; their number is their place, from 1."""
        return sorted(self.first_use, key=self.first_use.__getitem__)

    def by_number(self) -> dict[DayKey, Amounts]:
        """The totals as ``ledger_days`` has them."""
        numbers = {dimensions: number for number, dimensions in enumerate(self.numbered(), start=1)}
        return {(*key[:6], numbers[key[6]], key[7]): amounts for key, amounts in self.days.items()}


class Replayer:
    """A share of a ledger's customers after the events taken so far.

    ``allowed`` holds what a second person allowed, by the id of the approval, as its row must say it. Of customers
    with events after ``lagging_after`` the wallet is kept as it was where its row is true: ``rows_at`` says where.
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
        self.corrections: dict[int, tuple[str, Correction]] = {}
        self.documents: dict[DocumentKey, tuple[str, Document]] = {}
        self.allowed: dict[str, tuple[Any, ...]] = {}
        self.earlier: dict[str, tuple[int, Wallet]] = {}
        self._rows_at: Mapping[str, int] = {}
        self._late_comers: set[str] = set()
        self.last_own: Event | None = None
        self._members = members
        self._lagging_after = lagging_after
        # One look-up a draw: each is likely to miss the processor's caches, and that is what a replay waits for.
        self._drawn: dict[str, _Drawn] = {}
        self._drawing: dict[str, list[_Drawn]] = {}

    def go_on(self, connection: sa.Connection, lagging_after: int | None, rows_at: Mapping[str, int]) -> None:
        """Goes on over another connection, where it was saved. That was at ``lagging_after`` at the latest."""
        self._lagging_after, self._rows_at = lagging_after, rows_at
        if self._members is not None:
            self._members.ask(connection)

    def is_mine(self, customer: str | None) -> bool:
        """Whether a customer, or what no customer owns (None), belongs to this share."""
        return self._members is None or customer in self._members

    def bring_back(
        self, wallets: Iterable[tuple[str, int, str]], blocks: Iterable[tuple[str, str, str]],
        documents: Iterable[tuple[str, str, str, str]],
    ) -> None:  # fmt: skip
        """Takes over rows as another replay has left them. Blocks are finished ones: their id, customer and state."""
        for customer, position, text in wallets:
            wallet = self.wallets[customer] = decode_wallet(text)
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

    def take(self, logged: Logged, recorded_on: date, moment: Moment) -> tuple[Event, tuple[Entry, ...]] | None:
        """Folds one event in. Returns it, read, and the entries that follow from its decision.

        None where it is of another share and only touches this one. ``moment`` tells when a position was recorded.
        Raises whatever a changed log may lead to; the replayer is of no use after that.
        """
        decision = decode_decision(logged.decision_text)
        drawn = self._draw(logged, decision, recorded_on)
        if drawn is not None:
            event = _event(logged, drawn)
            assert logged.customer is not None
            wallets = {logged.customer: self.wallets[logged.customer]}
            return event, post(event, decision, before=self.state, wallets=wallets)
        return self._take(logged, decision, recorded_on, moment)

    def fold(self, logged: Logged, recorded_on: date, moment: Moment) -> None:
        """The same without the entries of a plain draw, which only its totals need."""
        decision = decode_decision(logged.decision_text)
        if self._draw(logged, decision, recorded_on) is None:
            self._take(logged, decision, recorded_on, moment)

    def _draw(self, logged: Logged, decision: Decision, recorded_on: date) -> _UsageData | None:
        """Adds up a plain draw on blocks at hand; None where it is none, and nothing was done."""
        if logged.type != USAGE or not is_plain_draw(decision):
            return None
        customer = logged.customer
        if self._lagging_after is not None and logged.position > self._lagging_after and customer is not None:
            self._remember_earlier(customer)
        found = []
        for movement in decision.movements:
            drawn = self._drawn.get(movement.block)  # type: ignore[arg-type]
            if drawn is None or drawn.customer != customer:
                drawn = self._begin_drawing(customer, movement.block)
                if drawn is None:
                    return None
            found.append(drawn)
        data = _usage_data(logged.data_text)
        state, position = self.state, logged.position
        place = (recorded_on, state.open_cut, state.functional_currency, decision.policy, data.product, position)
        for number, (movement, drawn) in enumerate(zip(decision.movements, found, strict=True), start=1):
            amount = movement.amount
            drawn.position = position
            drawn.credits += movement.credits
            drawn.amount += amount
            total = self.totals.draw(movement, drawn, place, number)
            functional = movement.functional
            if functional is None:
                total[0] += amount
                total[2] += amount
            else:
                drawn.functional += functional
                mirrored = amount == 0 and functional < 0
                total[mirrored] += amount
                total[2 + mirrored] += abs(functional)
            total[4] += movement.credits
            total[5] += 1
        self.position = position
        self.events += 1
        return data

    def _begin_drawing(self, customer: str | None, block_id: str | None) -> _Drawn | None:
        wallet = self.wallets.get(customer) if customer is not None else None
        block = wallet.block(block_id) if wallet is not None and block_id is not None else None
        if block is None or customer is None:
            return None
        drawn = _Drawn(customer=customer, block_id=block.block_id, unit=block.unit, credit_kind=block.credit_kind)
        self._drawn[block.block_id] = drawn
        self._drawing.setdefault(customer, []).append(drawn)
        return drawn

    def _settle(self, customer: str) -> None:
        """Folds what was added up into the customer's wallet, as one draw a block."""
        held = self._drawing.pop(customer, None)
        if held is None:
            return
        for drawn in held:
            self._drawn.pop(drawn.block_id, None)
        # None has a position where the decision went on to a block that is not at hand, and was taken otherwise.
        position = max(self.positions[customer], *(drawn.position for drawn in held))
        day = date.min  # no figure of a draw depends on its date
        decision = Decision(
            policy=0,
            movements=tuple(
                Movement(kind="consumption", on=day, amount=d.amount, credits=d.credits, block=d.block_id,
                         functional=d.functional)
                for d in held if d.credits
            ),
        )  # fmt: skip
        wallet = evolve(
            self.wallets[customer], _draws_of(customer), decision, position=position,
            functional_currency=self.state.functional_currency,
        )  # fmt: skip
        self._keep(customer, wallet, position)

    def settle_all(self) -> None:
        """Folds in what is still only added up: before wallets and blocks are looked at."""
        for customer in list(self._drawing):
            self._settle(customer)
        self.totals.forget_places()

    def _take(
        self, logged: Logged, decision: Decision, recorded_on: date, moment: Moment
    ) -> tuple[Event, tuple[Entry, ...]] | None:
        event = _read(logged)
        before, position = self.state, logged.position
        home = before.functional_currency
        mine = self._members is None or event.customer in self._members
        if event.type in RESERVED_TYPES:
            self.state = evolve_ledger(before, event)
            self.last_own = event
        wallets = {}
        for customer in references.customers_of(event, decision):
            wallet = Wallet(customer=customer)
            if self._members is None or customer in self._members:
                self._settle(customer)
                if self._lagging_after is not None and position > self._lagging_after:
                    self._remember_earlier(customer)
                wallet = self._recalled(self.wallets.get(customer, wallet), event, decision)
            elif not mine or event.type != TRANSFER:
                continue  # of another share: it takes no part in this one
            # The other side of a transfer is made from nothing, only so that its entries can be posted.
            wallets[customer] = evolve(wallet, event, decision, position=position, functional_currency=home)
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
        """Before another event of a customer, later than what every row knows: is the row true as of now?"""
        if customer not in self.wallets:
            self._late_comers.add(customer)
            return
        last = max((drawn.position for drawn in self._drawing.get(customer, ())), default=0)
        last = max(last, self.positions[customer])
        if self._rows_at.get(customer) == last:
            self._settle(customer)
            self.earlier[customer] = (last, self.wallets[customer])

    def _recalled(self, wallet: Wallet, event: Event, decision: Decision) -> Wallet:
        """The wallet with what is finished and named by the decision brought back; what is open it holds."""
        named = {m.block: self.blocks[m.block] for m in decision.movements if m.block in self.blocks}
        blocks = tuple(block for owner, block in named.values() if owner == wallet.customer and not block.left)
        overages = {m.overage: self.overages[m.overage][1] for m in decision.movements if m.overage in self.overages}
        correction = self.corrections.get(decision.original) if decision.original is not None else None
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
        for overage in wallet.overages:
            if not overage.open:
                self.overages[overage.position] = (customer, overage)
        for correction in wallet.corrections:
            self.corrections[correction.position] = (customer, correction)
        for document in wallet.documents:
            key = (document.document_kind, document.document_id)
            if key not in self.documents or self.documents[key][1] is not document:
                self.documents[key] = (customer, document)
        self.wallets[customer] = wallet.without_finished()
        self.positions[customer] = position

    # --- the rows that the tables should hold -----------------------------------------------------------------

    def as_it_was(self, customer: str, position: int) -> Wallet | None:
        """A customer's wallet at an earlier position than its last, where a row may be true at that."""
        at, wallet = self.earlier.get(customer, (0, None))
        return wallet if at == position else None

    def may_lack(self, customer: str) -> bool:
        """Whether a customer's wallet need not have a row: its first event is later than what has been written."""
        return customer in self._late_comers

    def keys(self, table: str) -> Iterator[Key]:
        """The keys of the rows of ``wallets``, ``blocks`` or ``documents`` that this share should have."""
        if table == "wallets":
            yield from ((customer,) for customer in self.wallets)
        elif table == "blocks":
            yield from ((block_id,) for block_id in self.blocks)
        else:
            yield from (("overage", str(position)) for position in self.overages)
            yield from (("correction", str(position)) for position in self.corrections)
            yield from self.documents

    def row(self, table: str, key: Key) -> tuple[Any, ...]:
        """The other values of one of those rows, encoded when it is asked for."""
        if table == "wallets":
            return (self.positions[key[0]], encode_state(self.wallets[key[0]]))
        if table == "blocks":
            return _block_row(*self.blocks[key[0]])
        kind, name = key
        owner, document = (
            self.overages[int(name)] if kind == "overage"
            else self.corrections[int(name)] if kind == "correction" else self.documents[key]
        )  # fmt: skip
        return (owner, encode_state(document))


_KEPT_AS_TEXT: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    type.__name__: msgspec.json.Decoder(type)
    for type in (Wallet, Block, Overage, Correction, Payment, Invoice, Dispute, Pool)
}


def _from_text(name: str, text: str) -> Any:
    return _KEPT_AS_TEXT[name].decode(text)


def _as_text(value: msgspec.Struct) -> tuple[Any, ...]:
    """How these values go to another process, or to a file: as the text that is stored.

    A field that was never set is left out of that text, and msgspec knows it by its default's identity, which a pickle
    does not keep: a wallet that had been pickled field by field would be encoded otherwise than it was.
    """
    return _from_text, (value.__class__.__name__, encode_state(value))


for _type in (Wallet, Block, Overage, Correction, Payment, Invoice, Dispute, Pool):
    copyreg.pickle(_type, _as_text)

OF_CUSTOMERS: Final = ("wallets", "blocks", "documents")
"""The tables whose rows belong to customers, share by share."""


class LedgerReplayer:
    """What belongs to the ledger as a whole after the events taken so far: its books, its settings.

    Needs the events that no customer has, and those whose movements name a pool or a currency; the others change
    nothing here.
    """

    def __init__(self, ledger: str) -> None:
        self.state = LedgerState(ledger=ledger)
        self.position = 0
        self.books = Books()
        self.rows: dict[str, Rows] = {
            name: {} for name in ("posting_policies", "posting_rules", "account_mappings", "documents")
        }

    def take(self, logged: Logged) -> Event:
        """Folds one event in, and returns it, read."""
        event, decision = _read(logged), decode_decision(logged.decision_text)
        effective = effective_date(event.occurred_at, self.state.zone)
        home = self.state.functional_currency
        before = self.books
        self.books = evolve_books(before, event, decision, effective=effective, functional_currency=home)
        for kind, document_id, customer, state in rows_of_books(before, self.books):
            self.rows["documents"][(kind, document_id)] = (customer, state)
        self.state = evolve_ledger(self.state, event)
        self._adopt(event, logged.position)
        self.position = logged.position
        return event

    def _adopt(self, event: Event, position: int) -> None:
        data = event.data
        if isinstance(data, PolicyAdopted):
            self.rows["posting_policies"][(data.policy,)] = (data.name, data.version, data.content_hash, position)
            for kind, rule in data.rules.items():
                for pair, (debit, credit) in enumerate(rule, start=1):
                    self.rows["posting_rules"][(data.policy, kind, pair)] = (debit, credit)
        elif isinstance(data, MappingAdopted):
            self.rows["account_mappings"][(data.mapping,)] = (data.content_hash, canonical(data.rows), position)


def rows_of_totals(totals: Totals) -> dict[str, Rows]:
    """The rows of day totals and of dimension sets."""
    return {
        "dimension_sets": {
            (number,): (d.product, d.credit_kind, d.pool, d.processor)
            for number, d in enumerate(totals.numbered(), start=1)
        },
        "ledger_days": {key: tuple(amounts) for key, amounts in totals.by_number().items()},
    }


def _approved(logged: Logged, approval: Approval, recorded_at: datetime) -> tuple[Any, ...]:
    return (
        logged.source, logged.event_id, logged.type, logged.customer, logged.occurred_at, logged.data_text,
        logged.attributes_text, approval.maker, APPROVED, approval.checker, recorded_at,
    )  # fmt: skip


def _read(logged: Logged) -> Event:
    return stored_event(
        source=logged.source, event_id=logged.event_id, type=logged.type, customer=logged.customer,
        occurred_at=logged.occurred_at, data_text=logged.data_text, attributes_text=logged.attributes_text,
    )  # fmt: skip


def _event(logged: Logged, data: _UsageData) -> Event:
    return Event(
        source=logged.source, event_id=logged.event_id, type=logged.type, customer=logged.customer,
        occurred_at=logged.occurred_at, data=data, data_text=logged.data_text,
        attributes_text=logged.attributes_text,
    )  # fmt: skip


def as_stored(logged: Logged) -> Event:
    """An event whose data has not been read, for its hash alone."""
    return Event(
        source=logged.source, event_id=logged.event_id, type=logged.type, customer=logged.customer,
        occurred_at=logged.occurred_at, data=None, data_text=logged.data_text,
        attributes_text=logged.attributes_text,
    )  # fmt: skip


def _draws_of(customer: str) -> Event:
    """The usage that stands for many."""
    return Event(source="", event_id="", type=USAGE, customer=customer, occurred_at=_ANY_TIME, data=None, data_text="")


def _block_row(customer: str, block: Block) -> tuple[Any, ...]:
    # The figures of an open block are in its wallet alone, so that a draw updates one row.
    state = None if block.left else encode_state(block)
    return (customer, block.invoice_id, block.opened_at_position, block.due_at, bool(block.left), state)
