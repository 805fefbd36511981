"""Disputes: payments that a customer takes back, and the losses from them.

Owns: these decisions, the credits that a dispute freezes, the division of a loss into tax, unused and used value. Does
not own: the disputable amount (disputable), payments (payments), write-offs (write_offs). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from subledger import errors
from subledger.billing_documents import Dispute, DocumentPart, Invoice
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
)
from subledger.deciding.disputable import disputable
from subledger.deciding.transferred import handed_again, held_of, recalled, with_transferred
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
    # The tax is at least so high that the rest is within the value. Memos may have conceded value without its tax.
    least = amount - (block.claim_minor - block.tax_remaining_minor)
    tax = max(min(max(_tax_given_up(block, amount), least), block.tax_remaining_minor, amount), 0)
    whole = with_transferred(block, wallet, context)
    unused = min(amount - tax, whole.carrying_minor)
    credits, back = ZERO, list[Movement]()
    if unused:
        all_of_it = unused == whole.carrying_minor
        credits = whole.remaining if all_of_it else credits_share(whole.remaining, unused, whole.carrying_minor)
        back, block = recalled(block, credits, unused, wallet, context, event, dates, after)
        its_value = unused == block.carrying_minor
        all_of_it = its_value and (all_of_it or not block.handed)
        most = block.remaining if its_value else block.remaining - SMALLEST_CREDITS
        credits = block.remaining if all_of_it else min(credits, most)
    began = block.owed_from(amount) if after is None else block.opened_on  # a write-off reduces it
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
            # Measured now, because transferred credits may go back to their holders after this.
            functional_minor=block.functional_part(gone, part) if gone and block.rate is not None else None,
        )
        for kind, part, gone, on in parts
        if part
    ]


def _tax_given_up(block: Block, amount: int) -> int:
    """The tax in an amount of price and tax: cumulative, so that several pieces have the same tax as the whole."""
    total = block.taxed_minor + block.tax_minor
    before, after = min(block.given_up_minor, total), min(block.given_up_minor + amount, total)
    if not total:
        return 0
    return round_half_up(after * block.tax_minor, total) - round_half_up(before * block.tax_minor, total)


def open_dispute(wallet: Wallet, event: Event[DisputeOpened], context: Context, dates: Dates) -> Decision:
    """Withdraws the disputed money. The blocks that it paid for are frozen until the dispute ends."""
    data = event.data
    parts, currency, processor, began_on = disputable(wallet, data, context)
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
    on = dates.on(began_on)
    movements = []
    for part in parts:
        piece = min(amount, part.amount_minor)
        if piece:
            kind = "dispute_opened_cash" if processor is None else "dispute_opened"
            back, frozen = _frozen(part, piece, wallet, event, context, dates)
            movements.append(replace(_disputed(kind, part, piece, currency, processor, on), frozen=frozen))
            movements += back
            amount -= piece
    return decision(context, movements + _dispute_fee(data.fee, currency, processor, on))


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
        given_back=part.given_back,
    )


def _dispute_fee(amount: Decimal | None, currency: str, processor: str | None, on: date) -> list[Movement]:
    """The fee of the processor, or of the bank, if the event names one."""
    fee = minor(amount, currency, "fee")
    if not fee:
        return []
    kind = "dispute_fee_cash" if processor is None else "dispute_fee"
    return [Movement(kind=kind, amount_minor=fee, accounting_date=on, currency=currency, processor=processor)]


def win_dispute(wallet: Wallet, event: Event[DisputeWon], context: Context, dates: Dates) -> Decision:
    """Returns the disputed money, without the fee. If an ``amount`` is won, the rest is lost.

    A block whose expiry has passed during the dispute expires at the next sweep.
    """
    dispute = _open_dispute(wallet, event.data, context)
    lost = dispute.amount_minor - _decided_amount(event.data, dispute)
    return _end_dispute(dispute, wallet, event, context, dates, lost=lost)


def lose_dispute(wallet: Wallet, event: Event[DisputeLost], context: Context, dates: Dates) -> Decision:
    """Loses a dispute: tax pro rata, then unused value, then used value. The other part of the money comes back."""
    dispute = _open_dispute(wallet, event.data, context)
    return _end_dispute(dispute, wallet, event, context, dates, lost=_decided_amount(event.data, dispute))


def _decided_amount(data: DisputeWon | DisputeLost, dispute: Dispute) -> int:
    """The won or lost amount: the one that the event names, else the whole dispute. Raises ExceedsPayment."""
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
    on = dates.on(dispute.opened_on)  # the returned money mirrors the withdrawal
    for part in dispute.parts:
        piece = min(lost, part.amount_minor)
        movements += _lost(part, piece, dispute, wallet, event, context, dates) if piece else []
        if part.amount_minor > piece:
            rest = part.amount_minor - piece
            kind = "dispute_won_cash" if dispute.from_bank else "dispute_won"
            movements.append(_disputed(kind, part, rest, dispute.currency, dispute.processor, on))
        lost -= piece
    movements += _called_back_no_longer(dispute, movements, wallet, event, context, dates)
    return decision(context, movements + _dispute_fee(data.fee, dispute.currency, dispute.processor, dates.on()))


def _called_back_no_longer(
    dispute: Dispute, ended: list[Movement], wallet: Wallet, event: Event, context: Context, dates: Dates
) -> list[Movement]:
    """Returns transferred credits that the dispute called back to their holders, except those that were lost."""
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


def _frozen(
    part: DocumentPart, amount: int, wallet: Wallet, event: Event, context: Context, dates: Dates
) -> tuple[list[Movement], Decimal | None]:
    """Returns the movements that call transferred credits back, and the credits of a block that a dispute freezes.

    The frozen credits are the disputed share of the claim, of all remaining credits of the purchase. A refund that is
    owed and unclaimed property have no credits, so they freeze none. Transferred credits are called back only if the
    bought block has too few credits that no other dispute freezes.
    """
    if part.block_id is None or part.given_back:
        return [], None
    block = wallet.state_of_block(part.block_id)
    whole, claim = with_transferred(block, wallet, context), block.claim_minor
    disputed = max(amount - wallet.refund_owed(part.block_id, None) - max(block.unclaimed_minor, 0), 0)
    if disputed >= claim:  # credits that come back meanwhile are frozen too
        back = recalled(block, whole.remaining, whole.carrying_minor, wallet, context, event, dates)[0] if claim else []
        return back, block.credits
    credits = credits_share(whole.remaining, disputed, claim)
    if not block.handed or not credits:
        return [], credits or ZERO
    wanted = credits + (block.frozen if block.disputes else ZERO)
    back, block = recalled(block, wanted, 0, wallet, context, event, dates)
    return back, credits


def _open_dispute(wallet: Wallet, data: DisputeWon | DisputeLost, context: Context) -> Dispute:
    """The dispute that an event ends. Raises UnknownDispute, DisputeDecided, WrongCurrency."""
    dispute = own_document(wallet, Dispute, data.dispute_id, context)
    if dispute.decided is not None:
        raise errors.DisputeDecided(
            f"dispute {data.dispute_id} was {dispute.decided}; if this is wrong, first undo the event with "
            "event.reversed",
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
    """The ids of the disputed blocks, and of the blocks to which their credits were transferred."""
    blocks = [wallet.state_of_block(part.block_id) for part in dispute.parts if part.block_id is not None]
    return {block.block_id for block in blocks} | {block_id for block in blocks for block_id, _ in block.handed}


def _lost(
    part: DocumentPart, amount: int, dispute: Dispute, wallet: Wallet, event: Event, context: Context, dates: Dates
) -> list[Movement]:
    """The loss of a part of a dispute: first a refund that is owed of it, then unclaimed property.

    These need not be paid any more, to the customer or to a state. A part that had been given back before is lost as
    ``dispute_lost_twice``.
    """
    on = dates.on(dispute.opened_on)
    if part.given_back:
        return [_loss("dispute_lost_twice", amount, part, dispute, on)]
    if part.elsewhere:
        return [_loss("dispute_lost_elsewhere", amount, part, dispute, on)]
    if part.is_unapplied:
        received_on = wallet.owed_from("customer_balance", dispute.currency, amount, on)
        return [_loss("dispute_lost_balance", amount, part, dispute, received_on)]
    refund = min(amount, wallet.refund_held(part.block_id, part.invoice_id))
    # The refunds of all its parts together, so that no refund is counted for another part.
    refunds = sum(wallet.refund_held(each.block_id, each.invoice_id) for each in dispute.parts)
    owed_on = wallet.owed_from("refunds_payable", dispute.currency, refunds, on)
    movements = [_loss("dispute_lost_refund", refund, part, dispute, owed_on)] if refund else []
    amount -= refund
    if part.block_id is not None:
        kinds = ("dispute_lost_unused", "dispute_lost_used", "dispute_lost_tax")
        block = wallet.state_of_block(part.block_id)
        unclaimed = min(amount, max(block.unclaimed_minor, 0))
        if unclaimed:
            escheated_on = dates.on(dispute.opened_on, block.last_breakage_date or block.opened_on)
            movements.append(_loss("dispute_lost_unclaimed", unclaimed, part, dispute, escheated_on))
            amount -= unclaimed
        return movements + given_up(block, amount, kinds, wallet, event, context, dates, dispute.opened_on)
    invoice = wallet.state_of_document(Invoice, part.invoice_id or "")
    tax = tax_in_loss(invoice, amount)
    on = dates.on(dispute.opened_on, invoice.invoiced_on)
    pieces = (("dispute_lost_used", amount - tax), ("dispute_lost_tax", tax))
    return movements + [_loss(kind, piece, part, dispute, on) for kind, piece in pieces if piece]


def tax_in_loss(invoice: Invoice, amount: int) -> int:
    """The tax in a lost amount of an invoice of overage: in proportion, and at most the remaining tax.

    It is high enough that the conceded revenue does not exceed the billed revenue.
    """
    tax = round_half_up(amount * invoice.tax_minor, invoice.billed_minor + invoice.tax_minor)
    tax = max(tax, amount - (invoice.billed_minor - invoice.conceded_minor))
    return min(tax, invoice.tax_minor - invoice.tax_taken_minor)


def _loss(kind: str, amount: int, part: DocumentPart, dispute: Dispute, on: date) -> Movement:
    return _disputed(kind, part, amount, dispute.currency, None, on)
