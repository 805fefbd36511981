"""The wallet: one customer's credits, as decisions read them; movements and decisions.

Owns: the open blocks and overages of a customer, movements and decisions as values, the price of overage. Does not
own: the decision about an event (deciding), the ledger's own books (books), the change of a wallet (evolving).

A block without credits is *finished*, and so is an overage that is billed or restored in full. It leaves the wallet and
is stored with the ledger's finished blocks and documents. It is recalled when a later event refers to it. Payments,
invoices and disputes are always recalled.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from subledger.balance_days import DayAmounts, first_day_with
from subledger.billing_documents import (
    NO_STANDING,
    AnyDocument,
    BillingDocument,
    Overage,
    RefundsOwed,
    Reservation,
    ReversedUsage,
    Standing,
    Standings,
    standing_name,
)
from subledger.blocks import ZERO, Block
from subledger.cohorts import Grouping
from subledger.errors import IntegrityFault
from subledger.event_effect import EventEffect
from subledger.money import MAX_MINOR, exponent, nano, round_half_up
from subledger.ordered import Ordered
from subledger.pools import Cohort
from subledger.restored import Restored, RestoredEstimate, RestoredRate
from subledger.wallet_parts import Blocks, Documents, Overages, ReversedUsages

_Part = TypeVar("_Part")
_CARRY_SCALE = 10**21  # nine places of credits and twelve of a unit price


_MOVEMENT_STORED_AS: Final = {
    "accounting_date": "on", "amount_minor": "amount", "functional_minor": "functional", "block_id": "block",
    "invoice_id": "invoice", "overage_position": "overage",
}  # fmt: skip
"""Names of a movement's fields in stored data, if they differ: stored bytes never change."""


class Movement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_MOVEMENT_STORED_AS):
    """One step of a decision: an entry kind with an amount and credits, on an accounting date.

    - ``credits``, ``amount_minor``: negative if the entry is written as the mirror.
    - ``customer``: set if it is not the event's.
    - ``currency``: set if it is not the functional one. Then ``functional_minor`` is the amount in the functional
      currency.
    - ``overage_position``: the position of the usage that made the overage.
    - ``invoice_id``: the invoice whose receivable moves.
    - ``backfill``: the next purchase pays this overage first. It is stored because the ledger's setting may change
      later.
    - ``policy``: set if it is not the decision's. A reversal mirrors the entries of the usage under the policy of that
      day.
    - ``cohort``: the month of issue of a pooled block, or the cohort whose breakage is estimated. Empty if the pool is
      one cohort by itself; None if the movement is older than cohorts.
    - ``segments_back``: the draw has not the block's current price, but that of this many segments before.
    - ``used_at``: the moment of the reversed usage, if it begins a new segment of its block. The credits and value of
      the block are priced together from there on.
    - ``refundable``: the opening of a refundable block, whose entries have this as a dimension.
    - ``dimensions``: all own dimensions of the usage that the entry recognises, or of overage. None: those of the
      block, overlaid with those that the event states.
    - ``elsewhere``: disputed money for invoices kept elsewhere.
    - ``given_back``: disputed money that had been paid back or remitted to a state before.
    - ``frozen``: the credits of its block that a dispute freezes. None if the movement is older than this field.
    """

    kind: str
    accounting_date: date
    amount_minor: int = 0
    credits: Decimal = ZERO
    block_id: str | None = None
    overage_position: int | None = None
    backfill: bool = False
    product: str | None = None
    policy: int | None = None
    customer: str | None = None
    currency: str | None = None
    functional_minor: int | None = None
    pool: str | None = None
    cohort: str | None = None
    processor: str | None = None
    invoice_id: str | None = None
    segments_back: int = 0
    used_at: datetime | None = None
    refundable: bool = False
    dimensions: str | None = None
    elsewhere: bool = False
    given_back: bool = False
    frozen: Decimal | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The two persons of an event that needs two: ``maker`` requested it, ``checker`` approved it."""

    approval_id: str
    maker: str
    checker: str


class Decision(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={"original_position": "original", "new_block": "taken_over"},
):
    """The decision about an event, made when it was recorded; stored with it and never computed again.

    - ``original_position``: the position of the event that is reversed or undone.
    - ``rate``: the exchange rate that was used.
    - ``new_block``: the block that a transfer makes for its new customer.
    - ``grouping``: the division of an estimate's pool into cohorts. None if the decision is older than cohorts.
    - ``kept_estimates``: the cohorts that keep their estimate, because an estimate of all cohorts does not fit them.
    - ``effect``: the effect for the approval by a second person. Nothing in the books depends on it. Absent if there is
      none, if the ledger required no second person, and in events that are older than this field.
    - ``restored``: the parts that an undone event had changed, by customer, with their values after the undoing.
    - ``restored_rate``, ``restored_estimate``, ``restored_cohort``: the same for the ledger's own books.
    - ``found_cohort``: the cohort before an opening balance, if undoing the opening needs it.
    """

    policy: int
    movements: tuple[Movement, ...] = ()
    original_position: int | None = None
    rate: Decimal | None = None
    new_block: Block | None = None
    grouping: Grouping | None = None
    kept_estimates: tuple[str, ...] = ()
    approval: Approval | None = None
    effect: EventEffect | None = None
    restored: tuple[Restored, ...] = ()
    restored_rate: RestoredRate | None = None
    restored_estimate: RestoredEstimate | None = None
    found_cohort: Cohort | None = None
    restored_cohort: Cohort | None = None


class Wallet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One customer's blocks in draw order, overages in order of position, and the documents recalled for an event.

    - ``carry``: by currency, the fraction of a minor unit of overage that is priced but not posted yet.
    - ``standings``: the amounts owed to the customer; in another currency also the amounts owed by the customer.
    - ``refunds_owed``: the refunds among them, by block and invoice.
    - ``balance_held``: by currency, the unapplied amounts that open disputes hold.
    - ``balance_days``: the amounts owed to the customer by day.
    - ``reservations``: those that were not settled or released, in the order in which they were recorded.
    """

    customer: str
    blocks: Blocks = Blocks()
    overages: Overages = Overages()
    reversed_usages: ReversedUsages = ReversedUsages()
    documents: Documents = Documents()
    carry: dict[str, Decimal] = {}
    standings: Standings = {}
    refunds_owed: RefundsOwed = ()
    balance_held: dict[str, int] = {}
    balance_days: dict[str, DayAmounts] = {}
    reservations: tuple[Reservation, ...] = ()

    def block(self, block_id: str) -> Block | None:
        """The block of this id, or None if the wallet does not have it."""
        return self.blocks.get(block_id)

    def state_of_block(self, block_id: str) -> Block:
        """The block of this id, which is recorded. Raises IntegrityFault if it was not loaded."""
        block = self.block(block_id)
        if block is None:
            raise IntegrityFault(f"block {block_id} of customer {self.customer} has no state", block_id=block_id)
        return block

    def overage(self, position: int) -> Overage | None:
        """The overage of the usage at a position, or None if the wallet does not have it."""
        return self.overages.get(position)

    def state_of_overage(self, position: int) -> Overage:
        """The overage of a position, which is recorded. Raises IntegrityFault if it was not loaded."""
        overage = self.overage(position)
        if overage is None:
            raise IntegrityFault(f"the overage of position {position} has no state", position=position)
        return overage

    def reversed_usage(self, position: int) -> ReversedUsage:
        """The part of the usage at a position that has been reversed so far."""
        return self.reversed_usages.get(position) or ReversedUsage(position=position, restored={})

    def document(self, type: type[AnyDocument], document_id: str) -> AnyDocument | None:
        """The payment, invoice or dispute of this id, or None if the wallet does not have it or it was undone."""
        found = self.documents.get((type.document_kind, document_id))
        return found if isinstance(found, type) and not found.undone else None

    def state_of_document(self, type: type[AnyDocument], document_id: str) -> AnyDocument:
        """A payment, invoice or dispute that is recorded. Raises IntegrityFault if it was not loaded."""
        document = self.document(type, document_id)
        if document is None:
            raise IntegrityFault(f"{type.document_kind} {document_id} of customer {self.customer} has no state")
        return document

    def standing(self, role: str, currency: str, block_id: str | None = None) -> Standing:
        """The standing of a role in a currency, debits positive."""
        return self.standings.get(standing_name(role, currency, block_id), NO_STANDING)

    def with_block(self, changed: Block) -> Wallet:
        """The wallet with one block replaced or added, still in draw order."""
        return replace(self, blocks=self.blocks.with_value(changed))

    def with_document(self, changed: BillingDocument) -> Wallet:
        """The wallet with one document replaced or added."""
        return replace(self, documents=self.documents.with_value(changed))

    def owed_from(self, role: str, currency: str, amount: int, on: date) -> date:
        """The first day from ``on`` from which an amount of a balance is owed to the customer in every view."""
        name = standing_name(role, currency)
        balance = -self.standing(role, currency).amount_minor
        return first_day_with(self.balance_days.get(name, ()), on=on, balance=balance, amount=amount)

    def with_restored(self, restored: Restored) -> Wallet:
        """The wallet with the parts that an undone event had changed, restored."""
        wallet = self
        for block in restored.blocks:
            wallet = wallet.with_block(block)
        for overage in restored.overages:
            wallet = replace(wallet, overages=wallet.overages.with_value(overage))
        for document in restored.documents:
            wallet = wallet.with_document(document)
        if restored.refunds_owed is not None:
            wallet = replace(wallet, refunds_owed=restored.refunds_owed)
        if restored.balance_held is not None:
            wallet = replace(wallet, balance_held=restored.balance_held)
        if restored.balance_days:
            days = {**wallet.balance_days, **restored.balance_days}
            wallet = replace(wallet, balance_days={name: days[name] for name in sorted(days) if days[name]})
        return wallet

    def free_balance(self, currency: str) -> int:
        """The unapplied amount of a currency that no open dispute holds."""
        return max(-self.standing("customer_balance", currency)[0] - self.balance_held.get(currency, 0), 0)

    def refund_held(self, block_id: str | None, invoice_id: str | None) -> int:
        """The amount of a block or an invoice that is owed back, and that open disputes hold."""
        return sum(
            r.amount_minor
            for r in self.refunds_owed
            if (r.block_id, r.invoice_id) == (block_id, invoice_id) and r.disputes
        )

    def refund_owed(self, block_id: str | None, invoice_id: str | None) -> int:
        """The amount of a block or an invoice that is owed back and not paid."""
        return sum(r.amount_minor for r in self.refunds_owed if (r.block_id, r.invoice_id) == (block_id, invoice_id))

    def recall(
        self,
        blocks: Iterable[Block] = (),
        overages: Iterable[Overage] = (),
        reversed_usages: Iterable[ReversedUsage] = (),
        documents: Iterable[BillingDocument] = (),
    ) -> Wallet:
        """The wallet with finished blocks and documents added. Parts that it already has do not change."""
        return replace(
            self,
            blocks=self.blocks.with_missing(blocks),
            overages=self.overages.with_missing(overages),
            reversed_usages=self.reversed_usages.with_missing(reversed_usages),
            documents=self.documents.with_missing(documents),
        )

    def without_finished(self, since: Wallet | None = None) -> Wallet:
        """The wallet as it is stored: only open blocks and overages.

        ``since``: an earlier version without finished parts. If it is given, only the changes since are checked.
        """
        blocks, overages = self.blocks, self.overages
        known = Wallet(customer=self.customer) if since is None else since
        ended = [block.block_id for block in _changed(blocks, known.blocks) if not block.remaining]
        closed = [overage.position for overage in _changed(overages, known.overages) if not overage.open]
        if not (ended or closed or self.reversed_usages or self.documents):
            return self
        return replace(
            self,
            blocks=blocks.without(ended),
            overages=overages.without(closed),
            reversed_usages=ReversedUsages(),
            documents=Documents(),
        )


_FEW: Final = 8
"""Up to this number of parts, checking all is faster than a comparison."""


def _changed(parts: Ordered[_Part], since: Ordered[_Part]) -> Iterable[_Part]:
    """The parts of a wallet that have changed since an earlier version; all parts if they are few."""
    if parts is since:
        return ()
    return parts if len(parts) <= _FEW else [now for _, now in parts.changes_since(since) if now is not None]


def price_overage(wallet: Wallet, credits: Decimal, price: Decimal, currency: str) -> tuple[int, Decimal]:
    """The amount to post for overage, and the fraction of a minor unit that is carried to the customer's next overage.

    The rounding is cumulative: a thousand overages of a tenth of a cent post a dollar, not nothing.
    """
    exact = _exact_minor(credits, price, currency) + _carry(wallet, currency)
    amount = min(max(round_half_up(exact, _CARRY_SCALE), 0), 10 * MAX_MINOR)
    return amount, _as_carry(exact - amount * _CARRY_SCALE)


def carry_after_restoring(wallet: Wallet, credits: Decimal, price: Decimal, currency: str, given_back: int) -> Decimal:
    """The fraction that is carried after a reversal of overage that gave back ``given_back`` minor units."""
    exact = _carry(wallet, currency) - _exact_minor(credits, price, currency)
    return _as_carry(exact + given_back * _CARRY_SCALE)


def _exact_minor(credits: Decimal, price: Decimal, currency: str) -> int:
    minor_units: int = 10 ** exponent(currency)
    return nano(credits) * int(price.scaleb(12)) * minor_units


def _carry(wallet: Wallet, currency: str) -> int:
    return int(wallet.carry.get(currency, ZERO).scaleb(21))


def _as_carry(scaled: int) -> Decimal:
    return Decimal(scaled).scaleb(-21)
