"""Billing documents that later events refer to: payments, invoices, disputes; overages and reversed usage; standings.

Owns: these values. Does not own: their changes (evolving, books).
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple, TypeVar

import msgspec

from subledger.availability import Portion
from subledger.blocks import NO_PORTION, ZERO
from subledger.kinds import BLOCK_ROLES
from subledger.money import share


class Overage(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"accounting_date": "booked_on"}
):
    """Usage beyond the credits, recorded at ``position``. ``settled`` credits are invoiced or paid by a purchase."""

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


class DocumentPart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={"block_id": "block", "invoice_id": "invoice", "amount_minor": "amount"},
):
    """A part of a payment or of a dispute: the block or the invoice that it is for."""

    block_id: str | None = None
    invoice_id: str | None = None
    amount_minor: int


class Payment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="payment"):
    """A payment that has an id: the parts that were applied, and the open (unapplied) amount.

    ``disputed`` are the parts that are in dispute or were lost in one; an amount that was won back is a negative part.
    It was received on ``received_on``.
    """

    payment_id: str
    currency: str
    processor: str | None = None
    applied: tuple[DocumentPart, ...] = ()
    disputed: tuple[DocumentPart, ...] = ()
    open_minor: int = 0
    received_on: date = date.min

    document_kind: ClassVar[str] = "payment"

    @property
    def document_id(self) -> str:
        return self.payment_id


class Invoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="invoice"):
    """An invoice of overage: the billed amount, its tax, the amount conceded by memos, the open receivable.

    ``tax_taken_minor`` is the tax that memos and disputes took back; ``disputed_minor`` the amount that is in dispute
    or was lost in one. It is in the books from ``invoiced_on``.
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

    document_kind: ClassVar[str] = "invoice"

    def receivable_days(self) -> tuple[tuple[date, int], ...]:
        """The open receivable with the day from which it is owed."""
        return ((self.invoiced_on, self.receivable_minor),) if self.receivable_minor > 0 else ()

    @property
    def document_id(self) -> str:
        return self.invoice_id


class Dispute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="dispute"):
    """A dispute with its parts, opened on ``opened_on``; ``decided`` is ``won`` or ``lost`` once it is."""

    dispute_id: str
    currency: str
    processor: str | None = None
    payment_id: str | None = None
    parts: tuple[DocumentPart, ...]
    decided: str | None = None
    opened_on: date = date.min

    document_kind: ClassVar[str] = "dispute"

    @property
    def amount_minor(self) -> int:
        return sum(part.amount_minor for part in self.parts)

    @property
    def document_id(self) -> str:
        return self.dispute_id


BillingDocument = Payment | Invoice | Dispute
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
    """The block (or processor) by which a role's standings are divided; empty if they are of the customer or ledger."""
    return subaccount or "" if role in BLOCK_ROLES else ""


def standing_name(role: str, currency: str, subaccount: str | None = None) -> str:
    """The name of a standing: its role, its currency, and the block (or processor) by which the role is divided."""
    return f"{role} {currency} {subaccount_of(role, subaccount)}"


def moved(standings: Standings, name: str, amount: int, functional: int) -> Standings:
    """The standings after one of them moved; a standing of zero in both currencies is dropped."""
    before = standings.get(name, NO_STANDING)
    after = Standing(before.amount_minor + amount, before.functional_minor + functional)
    if after == NO_STANDING:
        return {other: standing for other, standing in standings.items() if other != name}
    return {**standings, name: after}
