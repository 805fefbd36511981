"""What happens to money: payments, payouts, refunds paid, billed overage, credit memos.

Owns: these decisions. Does not own: what is not had after all (disputing), what becomes of credits by themselves
(deciding, ending). Pure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from subledger import errors
from subledger.billing_documents import Invoice, Overage, Payment
from subledger.blocks import ZERO, Block
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    decision,
    is_new_document,
    own_block,
    own_document,
    same_currency,
)
from subledger.events.envelope import Event
from subledger.money import CREDIT_PLACES, credits_share
from subledger.wallet import Decision, Movement, Wallet

_NANO = Decimal(1).scaleb(-CREDIT_PLACES)


class _Receivable(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be paid: a block, or an invoice of overage."""

    paper: Block | Invoice

    @property
    def block(self) -> Block | None:
        return self.paper if isinstance(self.paper, Block) else None

    @property
    def invoice(self) -> Invoice | None:
        return self.paper if isinstance(self.paper, Invoice) else None

    @property
    def open_minor(self) -> int:
        return max(self.paper.receivable_minor, 0)

    @property
    def currency(self) -> str:
        return self.paper.currency

    def movement(self, kind: str, amount: int, dates: Dates, **others: Any) -> Movement:
        """A movement on it."""
        block = self.block
        return Movement(
            kind=kind,
            amount_minor=amount,
            accounting_date=dates.on(None if block is None else block.last_gain_date),
            block_id=None if block is None else block.block_id,
            invoice_id=None if self.invoice is None else self.invoice.invoice_id,
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
        return (_Receivable(paper=block),)
    if data.invoice_id is None:
        return ()
    blocks = sorted(
        (block for block in wallet.blocks if block.invoice_id == data.invoice_id),
        key=lambda block: block.opened_at_position,
    )
    found = tuple(_Receivable(paper=block) for block in blocks)
    invoice = wallet.document(Invoice, data.invoice_id)
    if invoice is not None:
        found += (_Receivable(paper=invoice),)
    if not found:
        raise errors.UnknownInvoice(
            f"nothing of {wallet.customer} was invoiced on {data.invoice_id}",
            field="data.invoice_id",
            expected="the invoice of a purchase or of overage",
            found=data.invoice_id,
        )
    return found


_RECEIVED: Final = {True: ("payment_processor", "unapplied_processor"), False: ("payment_cash", "unapplied_cash")}
"""The kinds of money that is received, applied and not: through a processor, or into the bank."""
_REFUNDED: Final = {True: "refund_paid_processor", False: "refund_paid_cash"}
"""The kind of a refund that is paid: through a processor, or from the bank."""


# --- payments -----------------------------------------------------------------------------------------------


def receive(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """A payment relieves the receivable of its block, or of its invoice in order; the rest is unapplied."""
    data = event.data
    receivables = _receivables(wallet, data, context)
    is_new_document(event, context)
    for receivable in receivables:
        same_currency(data.currency, receivable.currency, "the receivable")
    paid, unapplied = _RECEIVED[data.processor is not None]
    left = data.minor("amount", data.currency)
    movements: list[Movement] = []
    for receivable in receivables:
        amount = min(left, receivable.open_minor)
        if amount > 0:
            movements.append(receivable.movement(paid, amount, dates, processor=data.processor))
            left -= amount
    if left:
        movements.append(_money(unapplied, left, data, dates))
    fee = data.minor("fee", data.currency) if data.fee is not None else 0
    if fee:
        movements.append(_money("processing_fee", fee, data, dates))
    return decision(context, movements)


def _money(kind: str, amount: int, data: Any, dates: Dates, **others: Any) -> Movement:
    """A movement of money in the event's own currency, of no block."""
    others.setdefault("processor", getattr(data, "processor", None))
    return Movement(kind=kind, amount_minor=amount, accounting_date=dates.on(), currency=data.currency, **others)


def apply(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """What a payment left unapplied is applied to a block or an invoice."""
    data = event.data
    payment = own_document(wallet, Payment, data.payment_id, context)
    receivables = _receivables(wallet, data, context)
    same_currency(data.currency, payment.currency, "the payment")
    for receivable in receivables:
        same_currency(data.currency, receivable.currency, "the receivable")
    amount = data.minor("amount", data.currency)
    unapplied = min(payment.open_minor, -wallet.standing("customer_balance", data.currency)[0])
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
        payment = own_document(wallet, Payment, data.payment_id, context)
    block = own_block(wallet, data.block_id, context) if data.block_id is not None else None
    is_new_document(event, context)
    if payment is not None:
        same_currency(data.currency, payment.currency, "the payment")
    if block is not None:
        same_currency(data.currency, block.currency, f"block {block.block_id}")
    amount = data.minor("amount", data.currency)
    owed = max(-wallet.standing("refunds_payable", data.currency)[0], 0)
    unapplied = max(-wallet.standing("customer_balance", data.currency)[0], 0)
    if payment is not None:
        unapplied = min(unapplied, payment.open_minor)
    at_most(amount, owed + unapplied, data.currency, errors.NothingOwed, "what is owed to the customer")
    processor = data.processor if data.processor is not None or payment is None else payment.processor
    from_balance = max(amount - owed, 0)
    movements = []
    if from_balance:
        movements.append(_money("balance_refunded", from_balance, data, dates, processor=None))
    kind = _REFUNDED[processor is not None]
    movements.append(_money(kind, amount, data, dates, processor=processor, block_id=data.block_id))
    return decision(context, movements)


def pay_out(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """A processor paid what it held into the bank."""
    data = event.data
    is_new_document(event, context)
    return decision(context, [_money("payout", data.minor("amount", data.currency), data, dates)])


# --- overage and concessions --------------------------------------------------------------------------------


def bill_overage(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Unbilled overage is invoiced, oldest first; a part of one takes its credits pro rata."""
    data = event.data
    is_new_document(event, context)
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
        movements.append(_money("overage_tax", tax, data, dates, invoice_id=data.invoice_id))
    return decision(context, movements)


def _billed(overage: Overage, amount: int, data: Any, dates: Dates) -> Movement:
    credits = overage.open
    if amount < overage.open_minor:
        credits = max(min(credits_share(credits, amount, overage.open_minor), overage.open - _NANO), ZERO)
    return Movement(
        kind="overage_billed", amount_minor=amount, credits=credits, accounting_date=dates.on(overage.accounting_date),
        overage_position=overage.position, product=overage.product, invoice_id=data.invoice_id, currency=data.currency,
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
    at_most(tax, sum(t for _, t in consumed), data.currency, errors.ExceedsValue, "the tax of it", "tax")
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
    paper = receivable.paper
    if isinstance(paper, Block):
        return max(paper.drawn_minor - paper.conceded_minor, 0), max(paper.tax_remaining_minor, 0)
    return paper.billed_minor - paper.conceded_minor, paper.tax_minor - paper.tax_taken_minor
