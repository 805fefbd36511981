"""What happens to money: payments, payouts, refunds paid, billed overage, credit memos, write-offs, disputes.

Owns: these decisions. Does not own: what becomes of credits by themselves (deciding, ending). Pure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from subledger import errors
from subledger.blocks import ZERO, Block
from subledger.context import (
    Context,
    Dates,
    at_most,
    decision,
    new_document_id,
    own_block,
    own_document,
    same_currency,
)  # fmt: skip
from subledger.documents import Applied, Dispute, Invoice, Overage, Payment
from subledger.events import Event
from subledger.money import CREDIT_PLACES, format_minor, round_half_up
from subledger.wallet import Decision, Movement, Wallet

_NANO = Decimal(1).scaleb(-CREDIT_PLACES)


class _Receivable(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be paid: a block, or an invoice of overage."""

    block: Block | None = None
    invoice: Invoice | None = None

    @property
    def open_minor(self) -> int:
        if self.block is not None:
            return max(self.block.receivable_minor, 0)
        return self.invoice.receivable_minor if self.invoice is not None else 0

    @property
    def currency(self) -> str:
        return self.block.currency if self.block is not None else self.invoice.currency  # type: ignore[union-attr]

    def movement(self, kind: str, amount: int, dates: Dates, **others: Any) -> Movement:
        """A movement on it."""
        block = self.block
        return Movement(
            kind=kind,
            amount=amount,
            on=dates.on(None if block is None else block.gained_on),
            block=None if block is None else block.block_id,
            invoice=None if self.invoice is None else self.invoice.invoice_id,
            currency=self.currency,
            **others,
        )


def _receivables(wallet: Wallet, data: Any, context: Context) -> tuple[_Receivable, ...]:
    """What an event's ``block_id`` or ``invoice_id`` names, oldest first; nothing where it names neither.

    Raises UnknownBlock, BlockOfAnotherCustomer, UnknownInvoice.
    """
    if data.block_id is not None:
        block = own_block(wallet, data.block_id, context)
        if data.invoice_id is not None and block.invoice_id != data.invoice_id:
            raise errors.UnknownInvoice(
                f"block {data.block_id} is not on invoice {data.invoice_id}",
                field="data.invoice_id",
                expected=str(block.invoice_id),
                found=data.invoice_id,
            )
        return (_Receivable(block=block),)
    if data.invoice_id is None:
        return ()
    blocks = sorted(
        (block for block in wallet.blocks if block.invoice_id == data.invoice_id),
        key=lambda block: block.opened_at_position,
    )
    found = tuple(_Receivable(block=block) for block in blocks)
    invoice = wallet.document("invoice", data.invoice_id)
    if invoice is not None:
        found += (_Receivable(invoice=invoice),)
    if not found:
        raise errors.UnknownInvoice(
            f"nothing of {wallet.customer} was invoiced on {data.invoice_id}",
            field="data.invoice_id",
            expected="the invoice of a purchase or of overage",
            found=data.invoice_id,
        )
    return found


# --- payments -----------------------------------------------------------------------------------------------


def receive(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """A payment relieves the receivable of its block, or of its invoice in order; the rest is unapplied."""
    data = event.data
    receivables = _receivables(wallet, data, context)
    if data.payment_id is not None:
        new_document_id("payment", data.payment_id, context)
    for receivable in receivables:
        same_currency(data.currency, receivable.currency, "the receivable")
    way = "processor" if data.processor is not None else "cash"
    left = data.minor("amount", data.currency)
    movements: list[Movement] = []
    for receivable in receivables:
        amount = min(left, receivable.open_minor)
        if amount > 0:
            movements.append(receivable.movement(f"payment_{way}", amount, dates, processor=data.processor))
            left -= amount
    if left:
        movements.append(_money(f"unapplied_{way}", left, data, dates))
    fee = data.minor("fee", data.currency) if data.fee is not None else 0
    if fee:
        movements.append(_money("processing_fee", fee, data, dates))
    return decision(context, movements)


def _money(kind: str, amount: int, data: Any, dates: Dates, **others: Any) -> Movement:
    """A movement of money in the event's own currency, of no block."""
    others.setdefault("processor", getattr(data, "processor", None))
    return Movement(kind=kind, amount=amount, on=dates.on(), currency=data.currency, **others)


def apply(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """What a payment left unapplied is applied to a block or an invoice."""
    data = event.data
    payment: Payment = own_document(wallet, "payment", data.payment_id, context)
    receivables = _receivables(wallet, data, context)
    for currency, what in ((payment.currency, "the payment"), (receivables[0].currency, "the receivable")):
        same_currency(data.currency, currency, what)
    amount = data.minor("amount", data.currency)
    unapplied = min(payment.open_minor, -wallet.position("customer_balance", data.currency)[0])
    at_most(amount, unapplied, data.currency, errors.ExceedsPayment, "what the payment has left unapplied")
    owed = sum(receivable.open_minor for receivable in receivables)
    at_most(amount, owed, data.currency, errors.ExceedsReceivable, "what is still to be paid")
    movements = []
    for receivable in receivables:
        part = min(amount, receivable.open_minor)
        if part > 0:
            movements.append(receivable.movement("payment_applied", part, dates))
            amount -= part
    return decision(context, movements)


def pay_back(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Money is paid back: first what is owed as a refund, then what a payment left unapplied."""
    data = event.data
    payment: Payment | None = None
    if data.payment_id is not None:
        payment = own_document(wallet, "payment", data.payment_id, context)
        same_currency(data.currency, payment.currency, "the payment")
    if data.block_id is not None:
        same_currency(data.currency, own_block(wallet, data.block_id, context).currency, f"block {data.block_id}")
    amount = data.minor("amount", data.currency)
    owed = max(-wallet.position("refunds_payable", data.currency)[0], 0)
    unapplied = max(-wallet.position("customer_balance", data.currency)[0], 0)
    if payment is not None:
        unapplied = min(unapplied, payment.open_minor)
    at_most(amount, owed + unapplied, data.currency, errors.NothingOwed, "what is owed to the customer")
    processor = data.processor if data.processor is not None or payment is None else payment.processor
    from_balance = max(amount - owed, 0)
    movements = []
    if from_balance:
        movements.append(_money("balance_refunded", from_balance, data, dates, processor=None))
    way = "processor" if processor is not None else "cash"
    movements.append(_money(f"refund_paid_{way}", amount, data, dates, processor=processor, block=data.block_id))
    return decision(context, movements)


def pay_out(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """A processor paid what it held into the bank."""
    data = event.data
    return decision(context, [_money("payout", data.minor("amount", data.currency), data, dates)])


# --- overage and concessions --------------------------------------------------------------------------------


def bill_overage(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Unbilled overage is invoiced, oldest first; a part of one takes its credits pro rata."""
    data = event.data
    new_document_id("invoice", data.invoice_id, context)
    amount = data.minor("amount", data.currency)
    open_overages = [o for o in wallet.overages if o.open and o.currency == data.currency]
    unbilled = sum(overage.open_minor for overage in open_overages)
    at_most(amount, unbilled, data.currency, errors.ExceedsOverage, "what is unbilled")
    movements: list[Movement] = []
    for overage in open_overages:
        if not amount:
            break
        part = min(amount, overage.open_minor)
        movements.append(_billed(overage, part, data, dates))
        amount -= part
    tax = data.minor("tax", data.currency) if data.tax is not None else 0
    if tax:
        movements.append(_money("overage_tax", tax, data, dates, invoice=data.invoice_id))
    return decision(context, movements)


def _billed(overage: Overage, amount: int, data: Any, dates: Dates) -> Movement:
    credits = overage.open
    if amount < overage.open_minor:
        credits = min((credits * amount / overage.open_minor).quantize(_NANO), overage.open - _NANO)
        credits = max(credits, ZERO)
    return Movement(
        kind="overage_billed", amount=amount, credits=credits, on=dates.on(overage.booked_on),
        overage=overage.position, product=overage.product, invoice=data.invoice_id, currency=data.currency,
    )  # fmt: skip


def issue_memo(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """A price concession on consumed value: from the open receivable first, the rest is owed back."""
    data = event.data
    receivables = _receivables(wallet, data, context)
    for receivable in receivables:
        same_currency(data.currency, receivable.currency, "what was consumed")
    amount = data.minor("amount", data.currency)
    tax = data.minor("tax", data.currency) if data.tax is not None else 0
    if not receivables:
        movements = [_money("memo_paid", amount, data, dates)]
        return decision(context, movements + ([_money("tax_reversed_paid", tax, data, dates)] if tax else []))
    consumed = [_consumed(receivable) for receivable in receivables]
    at_most(amount, sum(c for c, _ in consumed), data.currency, errors.ExceedsValue, "what was consumed of it")
    at_most(tax, sum(t for _, t in consumed), data.currency, errors.ExceedsValue, "the tax of it")
    movements = []
    for receivable, (value, value_tax) in zip(receivables, consumed, strict=True):
        part, part_tax = min(amount, value), min(tax, value_tax)
        unpaid = min(part, receivable.open_minor)
        tax_unpaid = min(part_tax, receivable.open_minor - unpaid)
        for kind, piece in (
            ("memo_unpaid", unpaid), ("memo_paid", part - unpaid),
            ("tax_reversed_unpaid", tax_unpaid), ("tax_reversed_paid", part_tax - tax_unpaid),
        ):  # fmt: skip
            if piece:
                movements.append(receivable.movement(kind, piece, dates))
        amount, tax = amount - part, tax - part_tax
    return decision(context, movements)


def _consumed(receivable: _Receivable) -> tuple[int, int]:
    """What was consumed and not conceded yet, and the tax that can be taken back with it."""
    block, invoice = receivable.block, receivable.invoice
    if block is not None:
        tax = block.tax_minor - block.tax_reversed_minor - block.tax_taken_minor
        return max(block.drawn_minor - block.conceded_minor, 0), max(tax, 0)
    assert invoice is not None
    return invoice.billed_minor - invoice.conceded_minor, invoice.tax_minor


# --- write-offs and disputes --------------------------------------------------------------------------------


def write_off(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """A receivable is given up: its tax pro rata, then unused value (its credits are cancelled), then used value."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    amount = block.receivable_minor if data.amount is None else data.minor("amount", block.currency)
    what = f"what is still to be paid for {block.block_id}"
    at_most(amount, block.receivable_minor, block.currency, errors.ExceedsReceivable, what)
    if amount <= 0:
        raise errors.ExceedsReceivable(
            f"nothing is still to be paid for {block.block_id}", field="data.block_id", expected="an open receivable",
            found=format_minor(block.receivable_minor, block.currency),
        )  # fmt: skip
    tax_kind = "write_off_tax" if data.tax_relief else "write_off_tax_borne"
    return decision(context, _given_up(block, amount, ("write_off_unused", "write_off_used", tax_kind), dates))


def _given_up(block: Block, amount: int, kinds: tuple[str, str, str], dates: Dates, **others: Any) -> list[Movement]:
    """An amount of a block's price and tax that will not be had: its tax pro rata, then unused, then used value."""
    left_tax = block.tax_minor - block.tax_reversed_minor - block.tax_taken_minor
    total = block.taxed_minor + block.tax_minor
    tax = min(round_half_up(amount * block.tax_minor, total), left_tax, amount) if total else 0
    unused = min(amount - tax, block.carrying_minor)
    credits = ZERO
    if unused:
        whole = unused == block.carrying_minor
        credits = block.left if whole else (block.left * unused / block.carrying_minor).quantize(_NANO)
        credits = min(credits, block.left if whole else block.left - _NANO)
    on = dates.on(block.gained_on)
    parts = ((kinds[0], unused, credits), (kinds[1], amount - tax - unused, ZERO), (kinds[2], tax, ZERO))
    return [
        Movement(kind=kind, block=block.block_id, amount=part, credits=gone, on=on, currency=block.currency, **others)
        for kind, part, gone in parts
        if part
    ]


def open_dispute(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """The processor withdraws what is disputed; the blocks behind it are frozen until the dispute ends."""
    data = event.data
    parts, currency, processor = _disputable(wallet, data, context)
    new_document_id("dispute", data.dispute_id, context)
    same_currency(data.currency, currency, "what is disputed")
    total = sum(part.amount for part in parts)
    amount = total if data.amount is None else data.minor("amount", currency)
    at_most(amount, total, currency, errors.ExceedsPayment, "what can be disputed")
    if amount <= 0:
        raise errors.ExceedsPayment(
            "nothing can be disputed", field="data.amount", expected="more than 0", found=format_minor(0, currency)
        )
    movements = []
    for part in parts:
        piece = min(amount, part.amount)
        if piece:
            movements.append(_disputed("dispute_opened", part, piece, wallet, currency, processor, dates))
            amount -= piece
    return decision(context, movements + _dispute_fee(data, currency, processor, dates))


def _disputable(wallet: Wallet, data: Any, context: Context) -> tuple[tuple[Applied, ...], str, str | None]:
    """What a dispute's payment was applied to, or its block; the currency; the processor."""
    if data.payment_id is not None:
        payment: Payment = own_document(wallet, "payment", data.payment_id, context)
        return payment.applied, payment.currency, payment.processor
    block = own_block(wallet, data.block_id, context)
    return (Applied(block=block.block_id, amount=block.price_minor + block.tax_minor),), block.currency, None


def _disputed(
    kind: str, part: Applied, amount: int, wallet: Wallet, currency: str, processor: str | None, dates: Dates
) -> Movement:
    block = wallet.block(part.block) if part.block is not None else None
    return Movement(
        kind=kind, amount=amount, on=dates.on(None if block is None else block.gained_on), block=part.block,
        invoice=part.invoice, currency=currency, processor=processor,
    )  # fmt: skip


def _dispute_fee(data: Any, currency: str, processor: str | None, dates: Dates) -> list[Movement]:
    fee = data.minor("fee", currency) if data.fee is not None else 0
    return [Movement(kind="dispute_fee", amount=fee, on=dates.on(), currency=currency, processor=processor)] * bool(fee)


def win_dispute(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """The money comes back, the fee does not. A block whose expiry has passed meanwhile is due at the next sweep."""
    dispute = _open_dispute(wallet, event, context)
    movements = [
        _disputed("dispute_won", part, part.amount, wallet, dispute.currency, dispute.processor, dates)
        for part in dispute.parts
    ]
    return decision(context, movements + _dispute_fee(event.data, dispute.currency, dispute.processor, dates))


def lose_dispute(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """What is lost: tax pro rata, then unused value, then used value. What is not lost comes back."""
    data = event.data
    dispute = _open_dispute(wallet, event, context)
    lost = sum(part.amount for part in dispute.parts)
    if data.amount is not None:
        amount = data.minor("amount", dispute.currency)
        at_most(amount, lost, dispute.currency, errors.ExceedsPayment, "what is disputed")
        lost = amount
    movements: list[Movement] = []
    for part in dispute.parts:
        piece = min(lost, part.amount)
        movements += _lost(part, piece, wallet, dispute, dates) if piece else []
        if part.amount > piece:
            rest = part.amount - piece
            movements.append(_disputed("dispute_won", part, rest, wallet, dispute.currency, dispute.processor, dates))
        lost -= piece
    return decision(context, movements + _dispute_fee(data, dispute.currency, dispute.processor, dates))


def _open_dispute(wallet: Wallet, event: Event, context: Context) -> Dispute:
    data = event.data
    dispute: Dispute = own_document(wallet, "dispute", data.dispute_id, context)
    if dispute.decided is not None:
        raise errors.DisputeDecided(
            f"dispute {data.dispute_id} was {dispute.decided}",
            field="data.dispute_id",
            expected="an open dispute",
            found=data.dispute_id,
        )
    same_currency(data.currency, dispute.currency, "what is disputed")
    return dispute


def _lost(part: Applied, amount: int, wallet: Wallet, dispute: Dispute, dates: Dates) -> list[Movement]:
    kinds = ("dispute_lost_unused", "dispute_lost_used", "dispute_lost_tax")
    block = wallet.block(part.block) if part.block is not None else None
    if block is not None:
        return _given_up(block, amount, kinds, dates)
    invoice: Invoice | None = wallet.document("invoice", part.invoice or "")
    tax = 0
    if invoice is not None:
        tax = round_half_up(amount * invoice.tax_minor, invoice.billed_minor + invoice.tax_minor)
    return [
        Movement(kind=kind, amount=piece, on=dates.on(), currency=dispute.currency, invoice=part.invoice)
        for kind, piece in ((kinds[1], amount - tax), (kinds[2], tax))
        if piece
    ]
