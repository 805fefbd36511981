"""Payments and billing documents: payments, refunds paid, billed overage, credit memos.

Owns: these decisions. Does not own: the receivables that a payment settles (receivables), payouts and fees of
processors (processors), disputes and write-offs (disputes), refunds and voids of credits (cancellations). Pure.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import msgspec

from subledger import errors
from subledger.billing_documents import Overage, Payment, RefundOwed, RefundsOwed
from subledger.blocks import ZERO, Block
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    decision,
    is_new_document,
    is_not_disputed,
    minor,
    own_document,
    same_currency,
    was_bought,
)
from subledger.deciding.processors import exchanged, refund_fee
from subledger.deciding.receivables import Receivable, receivables_of, settled_by
from subledger.deciding.transferred import bought_block, with_transferred
from subledger.events.data import CreditMemoIssued, OverageBilled, PaymentApplied, PaymentReceived, PaymentRefunded
from subledger.events.envelope import Event
from subledger.money import SMALLEST_CREDITS, credits_share, round_half_up
from subledger.wallet import Decision, Movement, Wallet

_RECEIVED: Final = {True: ("payment_processor", "unapplied_processor"), False: ("payment_cash", "unapplied_cash")}
"""The kinds of received money, applied and unapplied: through a processor (True), or into the bank."""
PAID_ELSEWHERE: Final = {True: "paid_elsewhere_processor", False: "paid_elsewhere_cash"}
"""The kind of money for invoices that are kept elsewhere: through a processor (True), or into the bank."""
_REFUNDED: Final = {True: "refund_paid_processor", False: "refund_paid_cash"}
"""The kind of a paid refund: through a processor (True), or from the bank."""


# --- payments -----------------------------------------------------------------------------------------------


def receive(wallet: Wallet, event: Event[PaymentReceived], context: Context, dates: Dates) -> Decision:
    """Pays the receivable of a block, or those of an invoice in order; the rest of the payment is unapplied.

    Money is in the books on the day it arrives. A part that pays a receivable of a later day is unapplied until that
    day. A part that exceeds the open receivables recovers their write-offs. The part for invoices that are kept
    elsewhere settles nothing here.
    """
    data = event.data
    receivables = receivables_of(wallet, data, context)
    is_new_document(event, context)
    # Money in another currency than its invoice is booked in the invoice's currency, and then exchanged.
    currency = data.settles_currency or data.currency
    for receivable in receivables:
        same_currency(currency, receivable.currency, "the receivable")
    paid, unapplied = _RECEIVED[data.processor is not None]
    arrived = minor(data.amount, data.currency, "amount")
    remaining = settled = arrived if currency == data.currency else minor(data.settles_amount, currency, "amount")
    received_on = dates.on()
    movements: list[Movement] = []
    later: list[Movement] = []
    elsewhere = minor(data.elsewhere, currency, "elsewhere")
    if elsewhere:
        kind = PAID_ELSEWHERE[data.processor is not None]
        movements.append(_money(kind, elsewhere, currency, dates.on(), processor=data.processor))
        remaining -= elsewhere
    for settled_part in settled_by(remaining, receivables):
        movements += settled_part.recovery(dates)
        for on, part in settled_part.days():
            if on <= received_on:
                movements.append(settled_part.receivable.movement(paid, part, received_on, processor=data.processor))
            else:
                later.append(settled_part.receivable.movement("payment_applied", part, on))
            remaining -= part
    waits = remaining + sum(movement.amount_minor for movement in later)
    if waits:
        movements.append(_money(unapplied, waits, currency, received_on, processor=data.processor))
    movements += later
    if currency != data.currency:
        movements.append(exchanged(-settled, currency, dates, processor=data.processor))
        movements.append(exchanged(arrived, data.currency, dates, processor=data.processor))
    fee = minor(data.fee, data.currency, "fee")
    if fee:
        movements.append(_money("processing_fee", fee, data.currency, received_on, processor=data.processor))
    return decision(context, movements)


def _money(
    kind: str,
    amount: int,
    currency: str,
    on: date,
    *,
    processor: str | None = None,
    invoice_id: str | None = None,
    of: RefundOwed | None = None,
) -> Movement:
    """A movement of money on a day; ``of``: the refund that it pays, if any."""
    return Movement(
        kind=kind,
        amount_minor=amount,
        accounting_date=on,
        currency=currency,
        processor=processor,
        block_id=None if of is None else of.block_id,
        invoice_id=invoice_id if of is None else of.invoice_id,
    )


def apply(wallet: Wallet, event: Event[PaymentApplied], context: Context, dates: Dates) -> Decision:
    """Applies an unapplied part of a payment to a block or an invoice."""
    data = event.data
    payment = own_document(wallet, Payment, data.payment_id, context)
    receivables = receivables_of(wallet, data, context)
    same_currency(data.currency, payment.currency, "the payment")
    for receivable in receivables:
        same_currency(data.currency, receivable.currency, "the receivable")
    amount = minor(data.amount, data.currency, "amount")
    unapplied = min(payment.unapplied_minor, wallet.free_balance(data.currency))
    at_most(
        amount, unapplied, data.currency, errors.ExceedsPayment, "the amount exceeds the unapplied part of the payment"
    )
    owed = sum(receivable.open_minor + receivable.of.recoverable_minor for receivable in receivables)
    at_most(amount, owed, data.currency, errors.ExceedsReceivable, "the amount exceeds the open receivable")
    movements: list[Movement] = []
    applied: list[Movement] = []
    sum_applied = 0
    for settled in settled_by(amount, receivables):
        movements += settled.recovery(dates, payment.received_on)
        for on, part in settled.days():
            sum_applied += part
            on = wallet.owed_from("customer_balance", data.currency, sum_applied, dates.on(on, payment.received_on))
            applied.append(settled.receivable.movement("payment_applied", part, on))
    return decision(context, movements + applied)


def pay_back(wallet: Wallet, event: Event[PaymentRefunded], context: Context, dates: Dates) -> Decision:
    """Pays money back: refunds owed first, then unapplied payments, then what was paid for invoices kept elsewhere.

    A refund that names a payment or a block pays only the refunds owed for this payment or block, at most the received
    amount. It is not dated before the day from which the amount is owed, or on which it was received. Money for
    invoices kept elsewhere is paid back only if the event names the payment. If the event states ``elsewhere``, it pays
    back this amount.
    """
    data = event.data
    payment: Payment | None = None
    if data.payment_id is not None:
        payment = own_document(wallet, Payment, data.payment_id, context)
    block = bought_block(wallet, data.block_id, context) if data.block_id is not None else None
    is_new_document(event, context)
    if payment is not None:
        same_currency(data.currency, payment.currency, "the payment")
    if block is not None:
        same_currency(data.currency, block.currency, f"block {block.block_id}")
    amount = minor(data.amount, data.currency, "amount")
    owed = _owed(wallet, payment, block, data.currency)
    unapplied = 0 if block is not None else wallet.free_balance(data.currency)  # unapplied money belongs to no block
    if payment is not None:
        unapplied = min(unapplied, payment.unapplied_minor)
    total = sum(refund.amount_minor for refund in owed)
    free = 0 if payment is None else max(payment.elsewhere_free_minor, 0)
    implied = free if block is None else 0
    elsewhere = minor(data.elsewhere, data.currency, "elsewhere")
    at_most(
        elsewhere,
        free,
        data.currency,
        errors.ExceedsPayment,
        "the amount exceeds what the payment brought in for invoices that are kept elsewhere",
        "elsewhere",
    )
    if data.elsewhere is None:
        elsewhere = min(max(amount - total - unapplied, 0), implied)
    amount -= elsewhere
    at_most(
        amount,
        total + unapplied,
        data.currency,
        errors.NothingOwed,
        "the refund exceeds the amount owed to the customer",
    )
    processor = data.processor if data.processor is not None or payment is None else payment.processor
    kind = _REFUNDED[processor is not None]
    paid: list[Movement] = []
    owed_on = wallet.owed_from("refunds_payable", data.currency, min(amount, total), dates.on())
    for refund in owed if payment is not None or block is not None else _together(owed):
        part = min(amount, refund.amount_minor)
        if part:
            paid.append(_money(kind, part, data.currency, owed_on, processor=processor, of=refund))
            amount -= part
    movements = paid
    if amount:
        received_on = wallet.owed_from("customer_balance", data.currency, amount, dates.on())
        movements.append(_money("balance_refunded", amount, data.currency, received_on))
        movements.append(_money(kind, amount, data.currency, received_on, processor=processor))
    if elsewhere:
        kind = PAID_ELSEWHERE[processor is not None]
        movements.append(_money(kind, -elsewhere, data.currency, dates.on(), processor=processor))
    movements += refund_fee(data, processor, dates)
    return decision(context, movements)


def _owed(wallet: Wallet, payment: Payment | None, block: Block | None, currency: str) -> RefundsOwed:
    """The refunds owed in a currency, of the named payment and block if any; without those that a dispute holds."""
    found = []
    for refund in wallet.refunds_owed:
        if refund.currency != currency or refund.disputes or (block is not None and refund.block_id != block.block_id):
            continue
        amount = refund.amount_minor
        if payment is not None:
            amount = min(amount, payment.applied_to(refund.block_id, refund.invoice_id))
        if amount > 0:
            found.append(msgspec.structs.replace(refund, amount_minor=amount))
    return tuple(found)


def _together(owed: RefundsOwed) -> RefundsOwed:
    """Combines refunds into one amount of no block. The event names none of them, so it pays the oldest ones."""
    total = sum(refund.amount_minor for refund in owed)
    return (RefundOwed(currency=owed[0].currency, amount_minor=total),) if total else ()


# --- overage and concessions --------------------------------------------------------------------------------


def bill_overage(wallet: Wallet, event: Event[OverageBilled], context: Context, dates: Dates) -> Decision:
    """Invoices unbilled overage, oldest first. A part of an overage takes its credits pro rata."""
    data = event.data
    is_new_document(event, context)
    amount = minor(data.amount, data.currency, "amount")
    movements: list[Movement] = []
    unbilled = 0
    for overage in wallet.overages:
        if not (overage.open and overage.currency == data.currency):
            continue
        if amount <= unbilled:
            break
        movements.append(_billed(overage, min(amount - unbilled, overage.open_minor), data, dates))
        unbilled += overage.open_minor
    at_most(amount, unbilled, data.currency, errors.ExceedsOverage, "the amount exceeds the unbilled overage")
    tax = minor(data.tax, data.currency, "tax")
    if tax:
        movements.append(_money("overage_tax", tax, data.currency, dates.on(), invoice_id=data.invoice_id))
    return decision(context, movements)


def _billed(overage: Overage, amount: int, data: OverageBilled, dates: Dates) -> Movement:
    credits = overage.open
    if amount < overage.open_minor:
        credits = max(min(credits_share(credits, amount, overage.open_minor), overage.open - SMALLEST_CREDITS), ZERO)
    return Movement(
        kind="overage_billed",
        amount_minor=amount,
        credits=credits,
        accounting_date=dates.on(overage.accounting_date),
        overage_position=overage.position,
        product=overage.product,
        dimensions=overage.dimensions or None,
        invoice_id=data.invoice_id,
        currency=data.currency,
    )


def issue_memo(wallet: Wallet, event: Event[CreditMemoIssued], context: Context, dates: Dates) -> Decision:
    """Concedes a part of the price of consumed value: from the open receivable first, the rest is owed back."""
    data = event.data
    receivables = receivables_of(wallet, data, context)
    if not receivables:
        raise errors.MissingField(
            "a credit memo names the block or the invoice that it concedes on",
            field="data.block_id",
            expected="block_id or invoice_id",
        )
    for receivable in receivables:
        if receivable.block is not None:
            was_bought(receivable.block)
        same_currency(data.currency, receivable.currency, "the consumed value")
    amount = minor(data.amount, data.currency, "amount")
    tax = minor(data.tax, data.currency, "tax")
    consumed = [_consumed(receivable, wallet, context) for receivable in receivables]
    at_most(amount, sum(consumed), data.currency, errors.ExceedsValue, "the credit memo exceeds the consumed value")
    parts, remaining = [], amount
    for receivable, value in zip(receivables, consumed, strict=True):
        part = min(remaining, value)
        parts.append((receivable, part, _tax_in(receivable, part, wallet, context)))
        remaining -= part
    at_most(
        tax,
        sum(part_tax for _, _, part_tax in parts),
        data.currency,
        errors.ExceedsValue,
        "the tax exceeds the tax of the conceded value",
        "tax",
    )
    for receivable in receivables:
        is_not_disputed(receivable.of)
    movements = []
    for receivable, part, most in parts:
        part_tax = min(tax, most)
        unpaid = min(part, receivable.open_minor)
        tax_unpaid = min(part_tax, receivable.open_minor - unpaid)
        began_on, owed_on = dates.on(receivable.began_on), dates.on(receivable.owed_from(unpaid + tax_unpaid))
        for kind, piece, on in (
            ("memo_unpaid", unpaid, owed_on),
            ("memo_paid", part - unpaid, began_on),
            ("tax_reversed_unpaid", tax_unpaid, owed_on),
            ("tax_reversed_paid", part_tax - tax_unpaid, began_on),
        ):
            if piece:
                movements.append(receivable.movement(kind, piece, on))
        tax -= part_tax
    return decision(context, movements)


def _consumed(receivable: Receivable, wallet: Wallet, context: Context) -> int:
    """The consumed value that was not conceded, lost or written off."""
    of = receivable.of
    if isinstance(of, Block):
        return with_transferred(of, wallet, context).concedable_minor
    return of.billed_minor - of.conceded_minor


def _tax_in(receivable: Receivable, value: int, wallet: Wallet, context: Context) -> int:
    """The tax that can be taken back with a part of the value: in proportion, and at most the remaining tax."""
    of = receivable.of
    if isinstance(of, Block):
        return with_transferred(of, wallet, context).concedable_tax_in(value)
    tax = round_half_up(of.tax_minor * value, of.billed_minor) if of.billed_minor else 0
    return min(tax, of.tax_minor - of.tax_taken_minor)
