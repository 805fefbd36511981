"""The receivables that an event about money concerns, and the parts of them that an amount settles.

A payment first pays the open receivables. A larger payment recovers their write-offs: the debt is owed again, with its
tax, and paid at once (ASC 326-20-35-8: a recovery is recorded when it is received). Payment of an open receivable was
expected, so it is no recovery.

Owns: receivables of blocks and invoices, the order in which they are settled, recoveries. Does not own: payments and
memos (payments), write-offs (write_offs). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

import msgspec

from subledger import errors
from subledger.billing_documents import Invoice
from subledger.blocks import Block
from subledger.deciding.context import Context, Dates
from subledger.deciding.transferred import bought_block
from subledger.errors import present
from subledger.events.data import CreditMemoIssued, PaymentApplied, PaymentReceived, ReceivableWrittenOff
from subledger.kinds import RECOVERIES
from subledger.wallet import Movement, Wallet

_INVOICE: Final = "the invoice of a purchase or of overage"
_PAID_INVOICE: Final = f"{_INVOICE} that is recorded; or no invoice: the money is unapplied until payment.applied"


class Receivable(msgspec.Struct, frozen=True, kw_only=True):
    """A receivable that can be paid: of a block, or of an invoice of overage."""

    of: Block | Invoice

    @property
    def block(self) -> Block | None:
        return self.of if isinstance(self.of, Block) else None

    @property
    def invoice(self) -> Invoice | None:
        return self.of if isinstance(self.of, Invoice) else None

    @property
    def open_minor(self) -> int:
        return max(self.of.receivable_minor, 0)

    @property
    def currency(self) -> str:
        return self.of.currency

    @property
    def began_on(self) -> date:
        """The day on which the receivable began."""
        return self.of.opened_on if isinstance(self.of, Block) else self.of.invoiced_on

    def owed_from(self, amount: int) -> date:
        """The day from which an amount of it is owed."""
        return self.of.owed_from(amount) if isinstance(self.of, Block) else self.of.invoiced_on

    def movement(self, kind: str, amount: int, on: date, *, processor: str | None = None) -> Movement:
        """A movement of the receivable."""
        block, invoice = self.block, self.invoice
        return Movement(
            kind=kind,
            amount_minor=amount,
            accounting_date=on,
            block_id=None if block is None else block.block_id,
            invoice_id=None if invoice is None else invoice.invoice_id,
            currency=self.currency,
            processor=processor,
        )


def receivables_of(
    wallet: Wallet, data: PaymentReceived | PaymentApplied | CreditMemoIssued | ReceivableWrittenOff, context: Context
) -> tuple[Receivable, ...]:
    """The receivables that an event's ``block_id`` or ``invoice_id`` names, oldest first; none if it names neither.

    Raises UnknownBlock, BlockOfAnotherCustomer, UnknownInvoice.
    """
    if data.block_id is not None:
        block = bought_block(wallet, data.block_id, context)
        if data.invoice_id is not None and block.invoice_id != data.invoice_id:
            raise errors.UnknownInvoice(
                f"block {data.block_id} is not on invoice {data.invoice_id}",
                field="data.invoice_id",
                expected=str(block.invoice_id),
                found=data.invoice_id,
            )
        return (Receivable(of=block),)
    if data.invoice_id is None:
        return ()
    blocks = sorted(wallet.blocks.on_invoice(data.invoice_id), key=lambda block: block.opened_at_position)
    found = tuple(Receivable(of=block) for block in blocks)
    invoice = wallet.document(Invoice, data.invoice_id)
    if invoice is not None:
        found += (Receivable(of=invoice),)
    if not found:
        raise errors.UnknownInvoice(
            f"customer {wallet.customer} has no invoice {data.invoice_id}",
            field="data.invoice_id",
            expected=_PAID_INVOICE if isinstance(data, PaymentReceived) else _INVOICE,
            found=data.invoice_id,
        )
    return found


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an amount that settles a receivable: the paid open amount, and the recovered write-off."""

    receivable: Receivable
    paid_minor: int
    recovered_minor: int

    def recovery(self, dates: Dates, *others: date) -> list[Movement]:
        """The movements by which the recovered amount is owed again: used value, then its tax.

        They are not earlier than the write-off.
        """
        of = self.receivable.of
        if not self.recovered_minor or of.written_off is None:
            return []
        parts = of.written_off.divided(self.recovered_minor, of.unused_written_off_minor)
        on = dates.on(of.written_off.on, *others)
        return [self.receivable.movement(RECOVERIES[part], amount, on) for part, amount in parts.items() if amount]

    def days(self) -> list[tuple[date, int]]:
        """The parts of the amount with the day from which each is owed, in order of day."""
        parts, amount = [], self.paid_minor
        for on, owed in self.receivable.of.receivable_days():
            part = min(amount, owed)
            if part > 0:
                parts.append((on, part))
                amount -= part
        if self.recovered_minor:
            written_off = present(self.receivable.of.written_off, "nothing is recovered of what was not written off")
            parts.append((written_off.on, self.recovered_minor))
        return parts


def settled_by(amount: int, receivables: Sequence[Receivable]) -> list[Settled]:
    """The receivables that an amount settles: first the open amounts in order, then the write-offs in order."""
    paid, recovered = [], []
    for receivable in receivables:
        paid.append(min(amount, receivable.open_minor))
        amount -= paid[-1]
    for receivable in receivables:
        recovered.append(min(amount, receivable.of.recoverable_minor))
        amount -= recovered[-1]
    return [
        Settled(receivable=receivable, paid_minor=part, recovered_minor=back)
        for receivable, part, back in zip(receivables, paid, recovered, strict=True)
        if part or back
    ]
