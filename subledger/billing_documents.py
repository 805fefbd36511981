"""What later events refer to: overages, corrections, payments, invoices, disputes; and what stands in currencies.

Owns: these values. Does not own: what changes them (wallet, books).
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple, TypeVar

import msgspec

from subledger.blocks import NO_PORTION, ZERO, Portion
from subledger.kinds import BLOCK_ROLES
from subledger.money import share


class Overage(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"accounting_date": "booked_on"}
):
    """Usage beyond the credits, recorded at ``position``. ``settled`` has been invoiced, or paid by later purchases."""

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
        return self.credits - self.restored - self.settled

    @property
    def open_minor(self) -> int:
        return self.amount_minor - self.restored_minor - self.settled_minor

    def settle_amount(self, credits: Decimal) -> int:
        """The part of the overage's price that ``credits`` of it carry; the last credit takes what is left."""
        if credits == self.open:
            return self.open_minor
        target = share(self.amount_minor, self.settled + credits, self.credits)
        return min(max(target - self.settled_minor, 0), self.open_minor)


class ReversedUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What has been reversed so far of the usage at ``position``: per block ("" for overage) credits and money."""

    position: int
    restored: dict[str, Portion]

    def of(self, block_id: str | None) -> Portion:
        return self.restored.get(block_id or "", NO_PORTION)


class DocumentPart(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False,
    rename={"block_id": "block", "invoice_id": "invoice", "amount_minor": "amount"},
):  # fmt: skip
    """A part of a payment or of a dispute: the block or the invoice that it is for."""

    block_id: str | None = None
    invoice_id: str | None = None
    amount_minor: int


class Payment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="payment"):
    """A payment that has an id: what it was applied to, and what of it is open (unapplied).

    ``disputed`` are the parts in dispute or lost in one; what was won back stands there as a negative amount.
    """

    payment_id: str
    currency: str
    processor: str | None = None
    applied: tuple[DocumentPart, ...] = ()
    disputed: tuple[DocumentPart, ...] = ()
    open_minor: int = 0

    document_kind: ClassVar[str] = "payment"

    @property
    def document_id(self) -> str:
        return self.payment_id


class Invoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="invoice"):
    """An invoice of overage: what was billed, its tax, what was conceded by memo, what is still to be paid.

    ``tax_taken_minor`` is the tax taken back by memos and disputes, ``disputed_minor`` what is or was lost in dispute.
    """

    invoice_id: str
    currency: str
    billed_minor: int = 0
    tax_minor: int = 0
    conceded_minor: int = 0
    tax_taken_minor: int = 0
    disputed_minor: int = 0
    receivable_minor: int = 0

    document_kind: ClassVar[str] = "invoice"

    @property
    def document_id(self) -> str:
        return self.invoice_id


class Dispute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="dispute"):
    """A dispute with its parts; ``decided`` is ``won`` or ``lost`` once it is."""

    dispute_id: str
    currency: str
    processor: str | None = None
    payment_id: str | None = None
    parts: tuple[DocumentPart, ...]
    decided: str | None = None

    document_kind: ClassVar[str] = "dispute"

    @property
    def amount_minor(self) -> int:
        return sum(part.amount_minor for part in self.parts)

    @property
    def document_id(self) -> str:
        return self.dispute_id


BillingDocument = Payment | Invoice | Dispute
AnyDocument = TypeVar("AnyDocument", bound=BillingDocument)


# --- what stands in a currency ------------------------------------------------------------------------------


class Standing(NamedTuple):
    """A balance of a role in a currency, debits positive: in minor units of it, and of the functional currency."""

    amount_minor: int
    functional_minor: int


NO_STANDING: Final = Standing(0, 0)

Standings = dict[str, Standing]


def subaccount_of(role: str, place: str | None) -> str:
    """The block (or processor) that a role is kept apart by; empty where it is kept for the customer or the ledger."""
    return place or "" if role in BLOCK_ROLES else ""


def standing_name(role: str, currency: str, place: str | None = None) -> str:
    """The name of a position: its role, its currency, and the block (or processor) it is kept apart by."""
    return f"{role} {currency} {subaccount_of(role, place)}"


def moved(standings: Standings, key: str, amount: int, functional: int) -> Standings:
    """Standings after one of them moved; one at zero in both currencies is gone."""
    before = standings.get(key, NO_STANDING)
    after = Standing(before.amount_minor + amount, before.functional_minor + functional)
    if after == NO_STANDING:
        return {other: value for other, value in standings.items() if other != key}
    return {**standings, key: after}
