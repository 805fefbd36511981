"""The disputable amount of a payment or of a block.

A bank can take back a whole payment, even if it was partly refunded. According to Stripe, a payment can be disputed in
full although a part was refunded, and a dispute of a refunded bank debit can pay the customer twice. So the disputable
amount is all money of the payment, less earlier disputes. Money that was paid back to the customer or remitted to a
state before is disputed last, as ``given_back``. No credits and no debts correspond to it.

Owns: these parts and their order. Does not own: the decisions about disputes (disputes). Pure.
"""

from __future__ import annotations

from datetime import date

from subledger import errors
from subledger.billing_documents import DocumentPart, Invoice, Payment
from subledger.blocks import Block
from subledger.deciding.context import Context, own_document, was_bought
from subledger.deciding.transferred import bought_block
from subledger.events.data import DisputeOpened
from subledger.wallet import Wallet

Disputable = tuple[tuple[DocumentPart, ...], str, str | None, date]
"""The parts that can be disputed, in order; the currency; the processor; the day of the payment or the block."""


def disputable(wallet: Wallet, data: DisputeOpened, context: Context) -> Disputable:
    """The disputable parts of the payment or the block that a dispute names.

    Raises UnknownPayment, UnknownBlock, BlockOfAnotherCustomer, NotAPurchase, MissingField.
    """
    if data.payment_id is not None:
        return _of_payment(wallet, own_document(wallet, Payment, data.payment_id, context))
    block_id = errors.present(data.block_id, "a dispute of nothing is refused when the event is read")
    block = bought_block(wallet, block_id, context)
    was_bought(block)
    processor = _processor_of(block, data)
    chargeable = block.chargeable_through(processor)
    amount = _with_company(wallet, block.block_id, None, processor, chargeable)
    parts = (
        DocumentPart(block_id=block.block_id, amount_minor=amount),
        DocumentPart(block_id=block.block_id, amount_minor=chargeable - amount, given_back=True),
    )
    return parts, block.currency, processor, block.opened_on


def _of_payment(wallet: Wallet, payment: Payment) -> Disputable:
    """The parts of a payment: the unapplied part, the applied parts, the part for invoices kept elsewhere.

    The amounts of them that had been given back come last.
    """
    unapplied = max(min(payment.unapplied_minor, wallet.free_balance(payment.currency)), 0)
    parts, gone = [DocumentPart(amount_minor=unapplied)], []
    for block_id, invoice_id in dict.fromkeys((part.block_id, part.invoice_id) for part in payment.applied):
        chargeable = payment.chargeable_of(block_id, invoice_id)
        if block_id is not None and payment.processor is not None:
            # Disputes of the block took their amounts from any payments through this processor.
            chargeable = min(chargeable, wallet.state_of_block(block_id).chargeable_through(payment.processor))
        most = min(chargeable, payment.applied_to(block_id, invoice_id))
        amount = _with_company(wallet, block_id, invoice_id, payment.processor, most)
        parts.append(DocumentPart(block_id=block_id, invoice_id=invoice_id, amount_minor=amount))
        back = max(chargeable - amount, 0)
        gone.append(DocumentPart(block_id=block_id, invoice_id=invoice_id, amount_minor=back, given_back=True))
    parts.append(DocumentPart(amount_minor=max(payment.elsewhere_free_minor, 0), elsewhere=True))
    back = payment.chargeable_paid_back_minor + max(payment.unapplied_minor, 0) - unapplied
    gone.append(DocumentPart(amount_minor=max(back, 0), given_back=True))
    return (*parts, *gone), payment.currency, payment.processor, payment.received_on


def _with_company(
    wallet: Wallet, block_id: str | None, invoice_id: str | None, processor: str | None, most: int
) -> int:
    """The part of a payment for a block or an invoice that the company still has, outside open disputes.

    It includes refunds owed and unclaimed property, because this money is not paid out yet.
    """
    of: Block | Invoice
    if block_id is None:
        of = wallet.state_of_document(Invoice, invoice_id or "")
        with_company = of.received_minor
    else:
        of = wallet.state_of_block(block_id)
        with_company = of.received_minor + max(of.unclaimed_minor, 0)
        if processor is not None:
            most = min(most, of.processors.get(processor, 0))
    with_company += wallet.refund_owed(block_id, invoice_id) - of.disputed_minor
    return max(min(most, with_company), 0)


def _processor_of(block: Block, data: DisputeOpened) -> str | None:
    """The processor of the money that a dispute of a block concerns: the one that the event names, or the only one.

    Raises MissingField if there are several.
    """
    if data.processor is not None:
        return data.processor
    paid = [name for name, amount in block.chargeable if amount]
    if len(paid) > 1:
        raise errors.MissingField(
            f"block {block.block_id} was paid through {' and '.join(sorted(paid))}",
            field="data.processor",
            expected="the processor that withdrew the money, or the payment that is disputed",
        )
    return paid[0] if paid else block.processor
