"""Disputes: payments that a customer takes back, and what is lost with them.

Owns: these decisions, and how a loss is divided into tax, unused and used value. Does not own: payments (payments),
write-offs (write_offs). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from subledger import errors
from subledger.billing_documents import Dispute, DocumentPart, Invoice, Payment
from subledger.blocks import ZERO, Block
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    decision,
    is_new_document,
    minor,
    own_document,
    same_currency,
    was_bought,
)
from subledger.deciding.transferred import bought_block, handed_again, held_of, recalled, with_transferred
from subledger.events.data import DisputeLost, DisputeOpened, DisputeWon
from subledger.events.envelope import Event
from subledger.evolving import block_after
from subledger.money import SMALLEST_CREDITS, credits_share, format_minor, round_half_up
from subledger.wallet import Decision, Movement, Wallet


def given_up(
    block: Block,
    amount: int,
    kinds: tuple[str, str, str],
    wallet: Wallet,
    event: Event,
    context: Context,
    dates: Dates,
    after: date | None = None,
) -> list[Movement]:
    """The loss of an amount of a block's price and tax: its tax pro rata, then unused value, then used value.

    Unused value that was transferred comes back first. ``after`` is the date of the dispute that is lost.
    """
    # Never less tax than leaves the rest within value: memos may have conceded value without its tax.
    least = amount - (block.claim_minor - block.tax_remaining_minor)
    tax = max(min(max(_tax_given_up(block, amount), least), block.tax_remaining_minor, amount), 0)
    whole = with_transferred(block, wallet, context)
    unused = min(amount - tax, whole.carrying_minor)
    credits, back = ZERO, list[Movement]()
    if unused:
        all_of_it = unused == whole.carrying_minor
        credits = whole.remaining if all_of_it else credits_share(whole.remaining, unused, whole.carrying_minor)
        back, block = recalled(block, credits, unused, wallet, context, event, dates, after)
        all_of_it = unused == block.carrying_minor and (all_of_it or not block.handed)
        credits = block.remaining if all_of_it else min(credits, block.remaining - SMALLEST_CREDITS)
    began = block.owed_from(amount) if after is None else block.opened_on  # a write-off takes it off the receivable
    fact, loss = dates.on(began, after), dates.of_loss(block, credits, unused, began, after)
    used = amount - tax - unused
    parts = ((kinds[0], unused, credits, loss), (kinds[1], used, ZERO, fact), (kinds[2], tax, ZERO, fact))
    return back + [
        Movement(
            kind=kind,
            block_id=block.block_id,
            amount_minor=part,
            credits=gone,
            accounting_date=on,
            currency=block.currency,
            # Transferred credits may go back to their holders after this, in proportion to what then remains.
            functional_minor=block.functional_part(gone, part) if gone and block.rate is not None else None,
        )
        for kind, part, gone, on in parts
        if part
    ]


def _tax_given_up(block: Block, amount: int) -> int:
    """The tax in an amount of price and tax: cumulative, so that pieces take what the whole would."""
    total = block.taxed_minor + block.tax_minor
    before, after = min(block.given_up_minor, total), min(block.given_up_minor + amount, total)
    if not total:
        return 0
    return round_half_up(after * block.tax_minor, total) - round_half_up(before * block.tax_minor, total)


def open_dispute(wallet: Wallet, event: Event[DisputeOpened], context: Context, dates: Dates) -> Decision:
    """Withdraws the disputed money; the blocks that it paid for are frozen until the dispute ends."""
    data = event.data
    parts, currency, processor = _disputable(wallet, data, context)
    is_new_document(event, context)
    same_currency(data.currency, currency, "the disputed amount")
    total = sum(part.amount_minor for part in parts)
    amount = total if data.amount is None else minor(data.amount, currency, "amount")
    at_most(amount, total, currency, errors.ExceedsPayment, "the dispute exceeds the amount that can be disputed")
    if amount <= 0:
        raise errors.ExceedsPayment(
            "no amount is left that can be disputed",
            field="data.amount",
            expected="more than 0",
            found=format_minor(0, currency),
        )
    movements = []
    for part in parts:
        piece = min(amount, part.amount_minor)
        if piece:
            kind = "dispute_opened_cash" if processor is None else "dispute_opened"
            movements.append(_disputed(kind, part, piece, currency, processor, dates.on()))
            movements += _called_back(part, piece, wallet, event, context, dates)
            amount -= piece
    return decision(context, movements + _dispute_fee(data.fee, currency, processor, dates))


def _disputable(
    wallet: Wallet, data: DisputeOpened, context: Context
) -> tuple[tuple[DocumentPart, ...], str, str | None]:
    """The disputable amounts of a payment, or of a block; the currency; the processor.

    A payment is disputed up to what it brought in and was not paid back: first its unapplied part, then what it was
    applied to, then what it brought in for invoices that are kept elsewhere. A block is disputed up to what was paid
    for it through a processor.
    """
    if data.payment_id is not None:
        payment = own_document(wallet, Payment, data.payment_id, context)
        unapplied = max(min(payment.unapplied_minor, wallet.free_balance(payment.currency)), 0)
        parts = [DocumentPart(amount_minor=unapplied)]
        for block_id, invoice_id in dict.fromkeys((part.block_id, part.invoice_id) for part in payment.applied):
            amount = min(payment.applied_to(block_id, invoice_id), _received(wallet, block_id, invoice_id))
            parts.append(DocumentPart(block_id=block_id, invoice_id=invoice_id, amount_minor=max(amount, 0)))
        parts.append(DocumentPart(amount_minor=max(payment.elsewhere_free_minor, 0), elsewhere=True))
        return tuple(parts), payment.currency, payment.processor
    block_id = errors.present(data.block_id, "a dispute of nothing is refused when the event is read")
    block = bought_block(wallet, block_id, context)
    was_bought(block)
    processor = _processor_of(block, data)
    amount = min(_received(wallet, block.block_id, None), block.processors.get(processor or "", 0))
    return (DocumentPart(block_id=block.block_id, amount_minor=max(amount, 0)),), block.currency, processor


def _processor_of(block: Block, data: DisputeOpened) -> str | None:
    """The processor whose money a dispute of a block is about: the one that the event names, or the only one.

    Raises MissingField if there are several.
    """
    if data.processor is not None:
        return data.processor
    paid = [name for name, amount in block.processors.items() if amount]
    if len(paid) > 1:
        raise errors.MissingField(
            f"block {block.block_id} was paid through {' and '.join(sorted(paid))}",
            field="data.processor",
            expected="the processor that withdrew the money, or the payment that is disputed",
        )
    return paid[0] if paid else block.processor


def _received(wallet: Wallet, block_id: str | None, invoice_id: str | None) -> int:
    """The amount received for a block or an invoice and not paid back, less what is in open disputes."""
    of: Block | Invoice
    of = wallet.state_of_document(Invoice, invoice_id or "") if block_id is None else wallet.state_of_block(block_id)
    return of.received_minor + wallet.refund_owed(block_id, invoice_id) - of.disputed_minor


def _disputed(kind: str, part: DocumentPart, amount: int, currency: str, processor: str | None, on: date) -> Movement:
    return Movement(
        kind=kind,
        amount_minor=amount,
        accounting_date=on,
        block_id=part.block_id,
        invoice_id=part.invoice_id,
        currency=currency,
        processor=processor,
        elsewhere=part.elsewhere,
    )


def _dispute_fee(amount: Decimal | None, currency: str, processor: str | None, dates: Dates) -> list[Movement]:
    """The fee of the processor, or of the bank, if the event names one."""
    fee = minor(amount, currency, "fee")
    if not fee:
        return []
    kind = "dispute_fee_cash" if processor is None else "dispute_fee"
    return [Movement(kind=kind, amount_minor=fee, accounting_date=dates.on(), currency=currency, processor=processor)]


def win_dispute(wallet: Wallet, event: Event[DisputeWon], context: Context, dates: Dates) -> Decision:
    """Takes the money back, without the fee; if an ``amount`` is won, the rest is lost.

    A block whose expiry has passed meanwhile is due at the next sweep.
    """
    dispute = _open_dispute(wallet, event.data, context)
    lost = dispute.amount_minor - _decided_amount(event.data, dispute)
    return _end_dispute(dispute, wallet, event, context, dates, lost=lost)


def lose_dispute(wallet: Wallet, event: Event[DisputeLost], context: Context, dates: Dates) -> Decision:
    """Loses a dispute: tax pro rata, then unused value, then used value. The part that is not lost comes back."""
    dispute = _open_dispute(wallet, event.data, context)
    return _end_dispute(dispute, wallet, event, context, dates, lost=_decided_amount(event.data, dispute))


def _decided_amount(data: DisputeWon | DisputeLost, dispute: Dispute) -> int:
    """The amount that is won, or lost: the one that the event names, else all of it. Raises ExceedsPayment."""
    total = dispute.amount_minor
    if data.amount is None:
        return total
    amount = minor(data.amount, dispute.currency, "amount")
    at_most(amount, total, dispute.currency, errors.ExceedsPayment, "the amount exceeds the disputed amount")
    return amount


def _end_dispute(
    dispute: Dispute,
    wallet: Wallet,
    event: Event[DisputeWon] | Event[DisputeLost],
    context: Context,
    dates: Dates,
    *,
    lost: int,
) -> Decision:
    data = event.data
    movements: list[Movement] = []
    on = dates.on(dispute.opened_on)  # what comes back mirrors what was withdrawn
    for part in dispute.parts:
        piece = min(lost, part.amount_minor)
        movements += _lost(part, piece, dispute, wallet, event, context, dates) if piece else []
        if part.amount_minor > piece:
            rest = part.amount_minor - piece
            kind = "dispute_won_cash" if dispute.from_bank else "dispute_won"
            movements.append(_disputed(kind, part, rest, dispute.currency, dispute.processor, on))
        lost -= piece
    movements += _called_back_no_longer(dispute, movements, wallet, event, context, dates)
    return decision(context, movements + _dispute_fee(data.fee, dispute.currency, dispute.processor, dates))


def _called_back_no_longer(
    dispute: Dispute, ended: list[Movement], wallet: Wallet, event: Event, context: Context, dates: Dates
) -> list[Movement]:
    """Transferred credits that the dispute called back go to their holders again, as far as they were not lost."""
    movements: list[Movement] = []
    for block_id in dict.fromkeys(part.block_id for part in dispute.parts if part.block_id is not None):
        block = wallet.state_of_block(block_id)
        for movement in ended:
            if movement.block_id == block_id:
                block = block_after(block, event, movement)
        back = [part for part in dispute.called_back if part[0] in {name for name, _ in block.handed}]
        if back:
            names = {part[0] for part in back}
            began = (held.opened_on for held, _ in held_of(block, wallet, context) if held.block_id in names)
            on = block.loss_day(dates.on(dispute.opened_on, *began), block.remaining, block.carrying_minor)
            movements += handed_again(block, back, wallet, event, on)
    return movements


def _called_back(
    part: DocumentPart, amount: int, wallet: Wallet, event: Event, context: Context, dates: Dates
) -> list[Movement]:
    """Calls transferred credits back that a dispute freezes, as far as the bought block does not have them itself."""
    if part.block_id is None:
        return []
    block = wallet.state_of_block(part.block_id)
    whole, claim = with_transferred(block, wallet, context), block.claim_minor
    disputed = amount - wallet.refund_owed(part.block_id, None)
    if not block.handed or disputed <= 0 or not claim:
        return []
    if disputed >= claim:
        return recalled(block, whole.remaining, whole.carrying_minor, wallet, context, event, dates)[0]
    return recalled(block, credits_share(whole.remaining, disputed, claim), 0, wallet, context, event, dates)[0]


def _open_dispute(wallet: Wallet, data: DisputeWon | DisputeLost, context: Context) -> Dispute:
    """The dispute that an event ends. Raises UnknownDispute, DisputeDecided, WrongCurrency."""
    dispute = own_document(wallet, Dispute, data.dispute_id, context)
    if dispute.decided is not None:
        raise errors.DisputeDecided(
            f"dispute {data.dispute_id} was {dispute.decided}",
            field="data.dispute_id",
            expected="an open dispute",
            found=data.dispute_id,
        )
    for field, named, of in (
        ("payment_id", data.payment_id, {dispute.payment_id}),
        ("block_id", data.block_id, _blocks_of(dispute, wallet)),
    ):
        if named is not None and named not in of:
            raise errors.UnknownDispute(
                f"dispute {data.dispute_id} is not about {field} {named}",
                field=f"data.{field}",
                expected="what was disputed, or nothing",
                found=named,
            )
    same_currency(data.currency, dispute.currency, "the disputed amount")
    return dispute


def _blocks_of(dispute: Dispute, wallet: Wallet) -> set[str]:
    """The ids of the blocks that a dispute is about, with those to which their credits were transferred."""
    blocks = [wallet.state_of_block(part.block_id) for part in dispute.parts if part.block_id is not None]
    return {block.block_id for block in blocks} | {block_id for block in blocks for block_id, _ in block.handed}


def _lost(
    part: DocumentPart, amount: int, dispute: Dispute, wallet: Wallet, event: Event, context: Context, dates: Dates
) -> list[Movement]:
    """The loss of a part of a dispute: a refund that is owed of it first, as that needs no paying any more."""
    on = dates.on(dispute.opened_on)
    if part.elsewhere:
        return [_loss("dispute_lost_elsewhere", amount, part, dispute, on)]
    if part.is_unapplied:
        received_on = wallet.owed_from("customer_balance", dispute.currency, amount, on)
        return [_loss("dispute_lost_balance", amount, part, dispute, received_on)]
    refund = min(amount, wallet.refund_held(part.block_id, part.invoice_id))
    # Of all its parts: one refund must not be taken for another.
    refunds = sum(wallet.refund_held(each.block_id, each.invoice_id) for each in dispute.parts)
    owed_on = wallet.owed_from("refunds_payable", dispute.currency, refunds, on)
    movements = [_loss("dispute_lost_refund", refund, part, dispute, owed_on)] if refund else []
    amount -= refund
    if part.block_id is not None:
        kinds = ("dispute_lost_unused", "dispute_lost_used", "dispute_lost_tax")
        block = wallet.state_of_block(part.block_id)
        return movements + given_up(block, amount, kinds, wallet, event, context, dates, dispute.opened_on)
    invoice = wallet.state_of_document(Invoice, part.invoice_id or "")
    tax = tax_in_loss(invoice, amount)
    on = dates.on(dispute.opened_on, invoice.invoiced_on)
    pieces = (("dispute_lost_used", amount - tax), ("dispute_lost_tax", tax))
    return movements + [_loss(kind, piece, part, dispute, on) for kind, piece in pieces if piece]


def tax_in_loss(invoice: Invoice, amount: int) -> int:
    """The tax in an amount of an invoice of overage that is lost: in proportion, and no more than is left.

    Nor so little that more revenue would be conceded than was billed.
    """
    tax = round_half_up(amount * invoice.tax_minor, invoice.billed_minor + invoice.tax_minor)
    tax = max(tax, amount - (invoice.billed_minor - invoice.conceded_minor))
    return min(tax, invoice.tax_minor - invoice.tax_taken_minor)


def _loss(kind: str, amount: int, part: DocumentPart, dispute: Dispute, on: date) -> Movement:
    return _disputed(kind, part, amount, dispute.currency, None, on)
