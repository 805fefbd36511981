"""Documents that later events refer to: payments, invoices, disputes, reservations; overages and reversed usage;
standings.

Owns: these values. Does not own: their changes (evolving, books).
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from subledger.availability import Portion
from subledger.blocks import NO_PORTION, ZERO
from subledger.kinds import BLOCK_ROLES
from subledger.money import share
from subledger.written_off import WrittenOff


class Overage(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"accounting_date": "booked_on"}
):
    """Usage beyond the credits, recorded at ``position``. ``settled`` credits are invoiced or paid by a purchase.

    ``dimensions`` are the company's own dimensions of the usage.
    """

    position: int
    unit: str
    product: str | None = None
    price: Decimal
    currency: str
    credits: Decimal
    amount_minor: int
    accounting_date: date
    backfill: bool = False
    restored: Decimal = ZERO
    restored_minor: int = 0
    settled: Decimal = ZERO
    settled_minor: int = 0
    settled_by: tuple[str, ...] = ()
    dimensions: str = ""

    @property
    def open(self) -> Decimal:
        """Credits that are neither restored nor settled."""
        return self.credits - self.restored - self.settled

    @property
    def open_minor(self) -> int:
        """The unbilled part of its price."""
        return self.amount_minor - self.restored_minor - self.settled_minor

    def settle_amount(self, credits: Decimal) -> int:
        """The share of the unbilled price of ``credits`` of the overage; the last credit takes all of it."""
        if credits == self.open:
            return self.open_minor
        target = share(self.amount_minor, self.settled + credits, self.credits)
        return min(max(target - self.settled_minor, 0), self.open_minor)


class ReversedUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of the usage at ``position`` that has been reversed so far, by block ("" for overage)."""

    position: int
    restored: dict[str, Portion]

    def of(self, block_id: str | None) -> Portion:
        """The credits and value that were restored to a block, or of overage (None)."""
        return self.restored.get(block_id or "", NO_PORTION)


_PART: Final = {"block_id": "block", "invoice_id": "invoice", "amount_minor": "amount"}
"""Names of the fields of a part, and of a refund, in stored data."""


class DocumentPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_PART):
    """A part of a payment or of a dispute: the block or the invoice that it is for, or an invoice kept elsewhere.

    ``given_back``: disputed money that had been paid back or remitted to a state before the dispute.
    """

    block_id: str | None = None
    invoice_id: str | None = None
    amount_minor: int
    elsewhere: bool = False
    given_back: bool = False

    @property
    def is_unapplied(self) -> bool:
        """True for the unapplied part of a payment."""
        return self.block_id is None and self.invoice_id is None and not self.elsewhere and not self.given_back


class RefundOwed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_PART):
    """An amount of a block or an invoice that is owed back to the customer; ``disputes``: the disputes that hold it."""

    block_id: str | None = None
    invoice_id: str | None = None
    currency: str
    amount_minor: int
    disputes: int = 0

    def is_of(self, block_id: str | None, invoice_id: str | None, currency: str) -> bool:
        return (self.block_id, self.invoice_id, self.currency) == (block_id, invoice_id, currency)


RefundsOwed = tuple[RefundOwed, ...]
"""The refunds that are owed and not paid, by block or invoice; the oldest comes first."""


def refunds_after(
    owed: RefundsOwed, amount: int, *, block_id: str | None, invoice_id: str | None, currency: str
) -> RefundsOwed:
    """The refunds owed after an amount came to be owed (positive) or was paid (negative).

    A payment first pays the refund of its own block or invoice, then the oldest refunds, and last the refunds that a
    dispute holds. Refunds that were recorded before they were divided by block and invoice name neither.
    """
    if amount > 0:
        for index, refund in enumerate(owed):
            if refund.is_of(block_id, invoice_id, currency):
                grown = replace(refund, amount_minor=refund.amount_minor + amount)
                return (*owed[:index], grown, *owed[index + 1 :])
        new = RefundOwed(block_id=block_id, invoice_id=invoice_id, currency=currency, amount_minor=amount)
        return (*owed, new)
    paid, left = -amount, list(owed)
    own = sorted(
        range(len(left)),
        key=lambda index: (not left[index].is_of(block_id, invoice_id, currency), left[index].disputes > 0),
    )
    for index in own:
        if left[index].currency == currency:
            part = min(paid, left[index].amount_minor)
            left[index] = replace(left[index], amount_minor=left[index].amount_minor - part)
            paid -= part
    return tuple(refund for refund in left if refund.amount_minor)


class Payment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="payment"):
    """A payment that has an id: the parts that were applied, and the open (unapplied) amount.

    - ``disputed``: the parts that are in dispute or were lost in one. An amount that was won back is a negative part.
    - ``returned``: the applied parts that were paid back.
    - ``elsewhere_minor``: the part for invoices that are kept elsewhere, less the amount of it that was paid back.
    - ``paid_back_minor``: the amount that was paid back of its unapplied part and of the part for such invoices.
    - ``undone``: the payment does not count any more, and its id may be recorded again.
    """

    payment_id: str
    currency: str
    processor: str | None = None
    applied: tuple[DocumentPart, ...] = ()
    disputed: tuple[DocumentPart, ...] = ()
    returned: tuple[DocumentPart, ...] = ()
    open_minor: int = 0
    elsewhere_minor: int = 0
    paid_back_minor: int = 0
    received_on: date = date.min
    undone: bool = False

    document_kind: ClassVar[str] = "payment"

    @property
    def document_id(self) -> str:
        return self.payment_id

    @property
    def unapplied_minor(self) -> int:
        """The open amount that is not in dispute."""
        return self.open_minor + self.applied_to(None, None)

    def applied_to(self, block_id: str | None, invoice_id: str | None) -> int:
        """The amount applied to a block or an invoice, less the part of it that was paid back or disputed."""
        signed = ((1, self.applied), (-1, self.returned), (-1, self.disputed))
        return sum(
            sign * part.amount_minor
            for sign, parts in signed
            for part in parts
            if (part.block_id, part.invoice_id) == (block_id, invoice_id) and not part.elsewhere and not part.given_back
        )

    def chargeable_of(self, block_id: str | None, invoice_id: str | None) -> int:
        """The amount applied to a block or an invoice and not disputed, whether it was paid back or not."""
        return sum(
            sign * part.amount_minor
            for sign, parts in ((1, self.applied), (-1, self.disputed))
            for part in parts
            if (part.block_id, part.invoice_id) == (block_id, invoice_id)
        )

    @property
    def chargeable_paid_back_minor(self) -> int:
        """The amount paid back of its unapplied part and for invoices kept elsewhere, less its disputed part."""
        again = (
            part for part in self.disputed if part.given_back and part.block_id is None and part.invoice_id is None
        )
        return self.paid_back_minor - sum(part.amount_minor for part in again)

    @property
    def elsewhere_free_minor(self) -> int:
        """The part for invoices that are kept elsewhere, less the amount of it that was paid back or disputed."""
        return self.elsewhere_minor - sum(part.amount_minor for part in self.disputed if part.elsewhere)


class Invoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="invoice"):
    """An invoice of overage: the billed amount, its tax, the amount conceded by memos, the open receivable.

    - ``tax_taken_minor``: the tax that memos and disputes took back.
    - ``disputed_minor``: the amount in open disputes.
    - ``written_off``: the amounts that were written off, and the part of them that was collected later.
    - ``invoiced_on``: the first day on which it is in the books.
    - ``undone``: the invoice does not count any more.
    """

    invoice_id: str
    currency: str
    billed_minor: int = 0
    tax_minor: int = 0
    conceded_minor: int = 0
    tax_taken_minor: int = 0
    disputed_minor: int = 0
    receivable_minor: int = 0
    invoiced_on: date = date.min
    due_at: datetime | None = None
    written_off: WrittenOff | None = None
    undone: bool = False

    document_kind: ClassVar[str] = "invoice"

    @property
    def recoverable_minor(self) -> int:
        """The written-off amount that can be collected."""
        return 0 if self.written_off is None else self.written_off.recoverable_minor(self.unused_written_off_minor)

    @property
    def unused_written_off_minor(self) -> int:
        """Always 0: an invoice of overage has no unused value."""
        return 0

    @property
    def received_minor(self) -> int:
        """The part of its amount and tax that was paid, and was not conceded or charged back later."""
        claim = self.billed_minor + self.tax_minor - self.conceded_minor - self.tax_taken_minor
        return max(claim - max(self.receivable_minor, 0), 0)

    def receivable_days(self) -> tuple[tuple[date, int], ...]:
        """The open receivable with the day from which it is owed."""
        return ((self.invoiced_on, self.receivable_minor),) if self.receivable_minor > 0 else ()

    @property
    def document_id(self) -> str:
        return self.invoice_id


class Dispute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="dispute"):
    """A dispute with its parts, opened on ``opened_on``; ``decided`` is ``won`` or ``lost`` after the decision.

    - ``called_back``: the transferred credits that it froze, with the block and the customer that had them.
    - ``frozen``: the credits that it froze, by block.
    - ``holds``: the numbers of the parts whose refunds were owed when it opened.
    - ``from_bank``: a bank took the money back, not a processor.
    - ``undone``: the dispute does not count any more.
    """

    dispute_id: str
    currency: str
    processor: str | None = None
    payment_id: str | None = None
    parts: tuple[DocumentPart, ...]
    decided: str | None = None
    opened_on: date = date.min
    called_back: tuple[tuple[str, str, Decimal], ...] = ()
    frozen: tuple[tuple[str, Decimal], ...] = ()
    holds: tuple[int, ...] = ()
    from_bank: bool = False
    undone: bool = False

    document_kind: ClassVar[str] = "dispute"

    @property
    def amount_minor(self) -> int:
        return sum(part.amount_minor for part in self.parts)

    @property
    def document_id(self) -> str:
        return self.dispute_id


class Reservation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="reservation"):
    """Credits of a unit that are held from ``reserved_at`` until before ``expires_at`` for usage that names them.

    It holds credits of the blocks that usage of ``product`` would draw on. It moves no money. ``ended_by`` is the usage
    that settled the reservation, or the event that released it.
    """

    reservation_id: str
    credits: Decimal
    unit: str
    product: str | None = None
    reserved_at: datetime
    expires_at: datetime
    ended_by: str | None = None

    document_kind: ClassVar[str] = "reservation"
    undone: ClassVar[bool] = False
    """Always False: a reservation is not undone but released."""

    @property
    def document_id(self) -> str:
        return self.reservation_id

    def holds_at(self, moment: datetime) -> bool:
        """True if it holds credits against other usage at a moment."""
        return self.reserved_at <= moment < self.expires_at


BillingDocument = Payment | Invoice | Dispute | Reservation
AnyDocument = TypeVar("AnyDocument", bound=BillingDocument)


# --- standings ----------------------------------------------------------------------------------------------


class Standing(NamedTuple):
    """A balance of a role in a currency, debits positive: in minor units of it, and of the functional currency."""

    amount_minor: int
    functional_minor: int


NO_STANDING: Final = Standing(0, 0)

Standings = dict[str, Standing]
"""By ``standing_name``."""


def subaccount_of(role: str, subaccount: str | None) -> str:
    """The block or processor by which the role's standings are divided; empty if there is no such division."""
    return subaccount or "" if role in BLOCK_ROLES else ""


def standing_name(role: str, currency: str, subaccount: str | None = None) -> str:
    """The name of a standing: its role, its currency, and the block or processor that it belongs to, if any."""
    return f"{role} {currency} {subaccount_of(role, subaccount)}"


def moved(standings: Standings, name: str, amount: int, functional: int) -> Standings:
    """The standings after one of them moved; a standing of zero in both currencies is dropped."""
    before = standings.get(name, NO_STANDING)
    after = Standing(before.amount_minor + amount, before.functional_minor + functional)
    if after == NO_STANDING:
        return {other: standing for other, standing in standings.items() if other != name}
    return {**standings, name: after}
