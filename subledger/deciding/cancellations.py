"""Changes of a block besides usage and expiry: void, refund, transfer, repricing, unclaimed property.

Owns: these decisions. Does not own: payments, invoices and memos (payments), write-offs and disputes (disputes), expiry
(expiry). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from itertools import accumulate
from typing import Final

from msgspec.structs import replace

from subledger import errors
from subledger.blocks import PAID, PROMOTIONAL, ZERO, Block
from subledger.cohorts import WHOLE
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    credits_of,
    decision,
    is_live,
    is_not_conceded,
    is_not_disputed,
    minor,
    new_block_id,
    not_too_many,
    own_block,
    same_currency,
    tax_of,
    was_bought,
)
from subledger.deciding.currencies import convert, rate_on
from subledger.deciding.expiry import of_a_state
from subledger.deciding.repricing import corrected_down, corrected_draws
from subledger.deciding.transferred import bought, bought_block, handed_back, is_not_of_a_dispute, with_transferred
from subledger.events.data import (
    BlockRepriced,
    CreditsEscheated,
    CreditsRefunded,
    CreditsTransferred,
    EscheatReclaimed,
    EscheatRemitted,
    PurchaseVoided,
)
from subledger.events.envelope import Event
from subledger.evolving import block_after
from subledger.kinds import KIND_BY_NAME
from subledger.money import MAX_MINOR, format_credits, format_minor, round_half_up
from subledger.wallet import Decision, Movement, Wallet

_GRANT_VOIDED: Final = {"goodwill": "goodwill_voided", "allocation": "allocation_voided"}
"""The kind by which the value of a grant is taken back. It was not paid, so nothing is owed back."""


def void(wallet: Wallet, event: Event[PurchaseVoided], context: Context, dates: Dates) -> Decision:
    """Cancels remaining credits with their tax pro rata: from the open receivable first, the rest is owed back."""
    block = own_block(wallet, event.data.block_id, context)
    is_live(block, event)
    credits = credits_of(block, event.data.credits)
    value = block.value_of(credits)
    on = dates.of_loss(block, credits, value, _owed_from(bought(block, wallet, context).block, value))
    granted = _GRANT_VOIDED.get(block.credit_kind)
    if granted is not None:
        taken = Movement(kind=granted, block_id=block.block_id, amount_minor=value, credits=credits, accounting_date=on)
        return decision(context, [taken])
    purchase = bought(block, wallet, context)
    movements, of = handed_back(purchase, block, None, (credits, value, None), on, event)
    block = of.block
    # A block that was repriced to zero has no price, so its tax goes with its last credits.
    whole = credits == block.remaining and not block.taxed_minor
    tax = block.tax_remaining_minor if whole else tax_of(block, value)
    is_not_of_a_dispute(purchase, value + tax, wallet, context)
    back = _given_back(block, value, tax, ("void_unpaid", "void_paid"), on, dates.on(block.opened_on))
    return decision(context, movements + of.of_payer(with_credits(back, block, credits, on, "void_unpaid")))


def _given_back(block: Block, value: int, tax: int, kinds: tuple[str, str], on: date, tax_on: date) -> list[Movement]:
    """Cancels value and its tax: first the unpaid part of the block, value before tax; the rest is owed back.

    ``kinds``: the kinds of the unpaid and of the paid value. Only received money can be owed back.
    """
    unpaid = min(value, max(block.receivable_minor, 0))
    tax_unpaid = min(tax, max(block.receivable_minor, 0) - unpaid)
    parts = (
        (kinds[0], unpaid, on),
        (kinds[1], value - unpaid, on),
        ("tax_reversed_unpaid", tax_unpaid, max(tax_on, _owed_from(block, unpaid + tax_unpaid))),
        ("tax_reversed_paid", tax - tax_unpaid, tax_on),
    )
    return [
        Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=day, currency=block.currency)
        for kind, amount, day in parts
        if amount
    ]


def _owed_from(block: Block, amount: int) -> date:
    """The day from which the part of the open receivable that an amount cancels is owed."""
    unpaid = min(amount, max(block.receivable_minor, 0))
    return block.owed_from(unpaid) if unpaid > 0 else block.opened_on


def with_credits(movements: list[Movement], block: Block, credits: Decimal, on: date, kind: str) -> list[Movement]:
    """Adds the credits to the first movement that takes value of a block. Without such a movement, adds one of
    ``kind``.

    One movement for the credits is enough, because every view of a day has all of these movements or none.
    """
    taken = [index for index, movement in enumerate(movements) if KIND_BY_NAME[movement.kind].column is not None]
    if not taken:
        return [Movement(kind=kind, block_id=block.block_id, credits=credits, accounting_date=on), *movements]
    taking = list(movements)
    taking[taken[0]] = replace(movements[taken[0]], credits=credits)
    if block.rate is not None and len(taken) > 1:
        # Parts that are rounded one by one could exceed the block's value. So their sum is that of one movement.
        amounts = [movements[index].amount_minor for index in taken]
        so_far = 0
        for index, amount in zip(taken, accumulate(amounts), strict=True):
            functional = block.functional_part(credits, amount)
            taking[index] = replace(taking[index], functional_minor=functional - so_far)
            so_far = functional
    return taking


def refund(wallet: Wallet, event: Event[CreditsRefunded], context: Context, dates: Dates) -> Decision:
    """Takes back unused credits and refunds ``amount`` of their value with its tax; the rest is retained.

    The unpaid part is cancelled first; the rest is owed back to the customer.
    """
    data = event.data
    block = own_block(wallet, data.block_id, context)
    was_bought(block)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    wanted = None if data.amount is None else minor(data.amount, block.currency, "amount")
    # Order of refusals: first an amount above the block's whole value, then an amount above that of the credits.
    at_most(
        wanted or 0,
        block.carrying_minor,
        block.currency,
        errors.ExceedsValue,
        f"the refund exceeds the carrying amount of block {block.block_id}",
    )
    is_live(block, event)
    credits = credits_of(block, data.credits)
    value = block.value_of(credits)
    amount = value if wanted is None else wanted
    at_most(
        amount,
        value,
        block.currency,
        errors.ExceedsValue,
        f"the refund exceeds the carrying amount of these credits of block {block.block_id}",
    )
    of = bought(block, wallet, context)
    on = dates.of_loss(block, credits, value, _owed_from(of.block, amount))
    is_not_of_a_dispute(of, amount + tax_of(of.block, amount), wallet, context)
    if block.origin is None:
        return decision(context, _refunded(block, credits, amount, value - amount, on, dates))
    # The retained value is revenue of the holder's block. The refunded value belongs to the bought block.
    kept: list[Movement] = []
    if value > amount:
        kept = [_retained(block, value - amount, ZERO if amount else credits, on)]
        block = block_after(block, event, kept[0])
        if not amount:
            return decision(context, kept)
    movements, of = handed_back(of, block, None, (credits, amount, None), on, event)
    return decision(context, kept + movements + of.of_payer(_refunded(of.block, credits, amount, 0, on, dates)))


def _retained(block: Block, amount: int, credits: Decimal, on: date) -> Movement:
    """The retained value of refunded credits."""
    return Movement(
        kind="refund_retained",
        block_id=block.block_id,
        amount_minor=amount,
        credits=credits,
        accounting_date=on,
        functional_minor=None if block.rate is None else block.functional_part(credits, amount),
        currency=block.currency,
    )


def _refunded(block: Block, credits: Decimal, amount: int, kept: int, on: date, dates: Dates) -> list[Movement]:
    """The refund of credits of a bought block, with the tax of the amount; ``kept``: the retained value."""
    back = _given_back(block, amount, tax_of(block, amount), ("refund_unpaid", "refund"), on, dates.on(block.opened_on))
    taken = [movement for movement in back if KIND_BY_NAME[movement.kind].column is not None]
    taxes = [movement for movement in back if movement not in taken]
    if kept:
        taken.append(Movement(kind="refund_retained", block_id=block.block_id, amount_minor=kept, accounting_date=on))
    return with_credits(taken, block, credits, on, "refund") + taxes


def reprice(wallet: Wallet, event: Event[BlockRepriced], context: Context, dates: Dates) -> Decision:
    """Adds credits or price to the remaining credits: a new segment, prospective (ASC 606-10-25-13(a))."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    if block.origin is not None:
        raise errors.NotAPurchase(
            f"block {block.block_id} was transferred, and its price is that of block {block.origin}",
            field="data.block_id",
            expected="a bought block; credits are added to a transferred one by another purchase",
            found=block.block_id,
        )
    if data.add_price and block.credit_kind == PROMOTIONAL:
        raise errors.NotAPurchase(
            f"block {block.block_id} is promotional and has no price",
            field="data.add_price",
            expected="no price",
            found=f"{data.add_price:f}",
        )
    if data.add_tax and block.credit_kind != PAID:
        raise errors.NotAPurchase(
            f"block {block.block_id} was not bought and has no tax",
            field="data.add_tax",
            expected="no tax",
            found=f"{data.add_tax:f}",
        )
    credits = data.add_credits or ZERO
    amount = minor(data.add_price, block.currency, "add_price")
    # A price is lowered at most by the part that is neither recognised nor paid. A larger reduction is a refund or a
    # memo.
    limit = min(block.carrying_minor, block.receivable_minor)
    at_most(
        -amount,
        limit,
        block.currency,
        errors.ExceedsReceivable,
        "the price is lowered by more than the part that is neither recognised nor paid",
        "add_price",
    )
    if block.price_minor + amount > MAX_MINOR:
        raise errors.InvalidValue(
            f"block {block.block_id} would have too large a price",
            field="data.add_price",
            expected=f"together at most {format_minor(MAX_MINOR, block.currency)}",
            found=format_minor(amount, block.currency),
        )
    tax = _tax_repriced(block, data, amount)
    not_too_many(block.credits + credits, "data.add_credits")
    is_live(block, event)
    is_not_disputed(block)
    if block.remaining + credits <= 0:
        raise errors.InsufficientCredits(
            f"block {block.block_id} has {format_credits(block.remaining)} credits left",
            field="data.add_credits",
            expected=f"more than -{format_credits(block.remaining)}",
            found=format_credits(credits),
            available=format_credits(block.remaining),
        )
    movements = []
    if credits or amount:
        movements.append(
            Movement(
                kind="repricing",
                block_id=block.block_id,
                credits=credits,
                amount_minor=amount,
                accounting_date=dates.of_loss(block, -credits, -amount, _owed_from(block, -amount)),
            )
        )
        worth = replace(movements[0], functional_minor=_worth(block, amount, event, context))
        corrections = corrected_draws(block, [worth], event, dates)
        whole = with_transferred(block, wallet, context)
        is_not_conceded(whole, corrected_down(corrections), "data.block_id", block.block_id)
        movements += corrections
    if tax:
        on = dates.on(_owed_from(block, -amount - tax) if tax < 0 else block.opened_on)
        movements.append(Movement(kind="purchase_tax", block_id=block.block_id, amount_minor=tax, accounting_date=on))
    return decision(context, movements)


def _worth(block: Block, amount: int, event: Event[BlockRepriced], context: Context) -> int | None:
    """A change of price in the functional currency: an increase at the rate of its day, a reduction at the block's
    rate.
    """
    if block.rate is None or not amount:
        return None
    if amount < 0:
        return -block.functional_part(ZERO, -amount)
    home = context.state.functional_currency
    rate = rate_on(context.books, block.currency, context.state.effective_date_of(event), home)
    return convert(amount, rate, block.currency, home)


def _tax_repriced(block: Block, data: BlockRepriced, amount: int) -> int:
    """The tax of an added or a lowered price: as stated, else pro rata, half up.

    Raises ExceedsValue, ExceedsReceivable.
    """
    if data.add_tax is not None:
        tax = minor(data.add_tax, block.currency, "add_tax")
    else:
        tax = round_half_up(block.tax_minor * amount, block.taxed_minor) if block.taxed_minor else 0
        tax = max(tax, -block.tax_remaining_minor)
    remaining, unpaid = block.tax_remaining_minor, block.receivable_minor
    sentence = f"the tax of block {block.block_id} is lowered by more than remains of it"
    at_most(-tax, max(remaining, 0), block.currency, errors.ExceedsValue, sentence, "add_tax")
    sentence = "price and tax are lowered by more than the part that is not paid"
    at_most(-amount - tax, max(unpaid, 0), block.currency, errors.ExceedsReceivable, sentence, "add_price")
    return tax


def transfer(wallet: Wallet, event: Event[CreditsTransferred], context: Context, dates: Dates) -> Decision:
    """Moves credits to another customer at the same carrying amount. The new block inherits every other term.

    Credits that were transferred before go back to the bought block first, because it lists all its transfers.
    """
    data = event.data
    block = own_block(wallet, data.block_id, context)
    new_block_id(wallet, context, data.new_block_id, "new_block_id")
    is_live(block, event)
    credits = credits_of(block, data.credits)
    purchase = bought(block, wallet, context)
    if purchase.block.is_frozen_whole:
        is_not_disputed(purchase.block)
    amount = block.value_of(credits)
    on = dates.of_loss(block, credits, amount)
    movements, of = handed_back(purchase, block, None, (credits, amount, None), on, event)
    out = Movement(
        kind="transfer_out",
        block_id=of.block.block_id,
        credits=credits,
        amount_minor=amount,
        accounting_date=on,
        customer=of.payer,
        # The returned value goes out again, with the same functional amount.
        functional_minor=movements[0].functional_minor if movements else None,
    )
    taken = Movement(
        kind="transfer_in",
        block_id=data.new_block_id,
        credits=credits,
        amount_minor=amount,
        accounting_date=on,
        pool=block.pool,
        cohort=None if block.pool is None else block.cohort or WHOLE,
        currency=block.currency,
        customer=data.to_customer,
    )
    # The functional value is measured with the movements. Evolving then sets it in the new block.
    new = new_block(block, data.new_block_id, credits, amount, on)
    if block.credit_kind == PAID:
        payer = of.payer or wallet.customer
        taxed = amount if of.block.tax_minor else 0  # its usage has no tax if the sale had
        new = replace(new, origin=of.block.block_id, payer=payer, taxed_minor=taxed)
    return decision(context, [*movements, out, taken], new_block=new)


def new_block(block: Block, block_id: str, credits: Decimal, amount: int, on: date) -> Block:
    """The block that a transfer makes: the terms of the old block, its own figures, no receivable."""
    return Block(
        block_id=block_id,
        credit_kind=block.credit_kind,
        unit=block.unit,
        credits=credits,
        price_minor=amount,
        currency=block.currency,
        rate=block.rate,
        starts_at=block.starts_at,
        expires_at=block.expires_at,
        priority=block.priority,
        scope=block.scope,
        refundable=block.refundable,
        refundable_apart=block.refundable_apart,
        pool=block.pool,
        cohort=block.cohort,
        escheat_class=block.escheat_class,
        opened_at_position=0,
        losses_from=on,
        breakable_from=block.breakable_from,
        dimensions=block.dimensions,
    )


# --- unclaimed property -------------------------------------------------------------------------------------


def escheat(wallet: Wallet, event: Event[CreditsEscheated], context: Context, dates: Dates) -> Decision:
    """Gives the remainder to a state, before its expiry; never revenue (ASC 606-10-55-48, last sentence)."""
    block = own_block(wallet, event.data.block_id, context)
    was_bought(block)
    is_live(block, event)
    is_not_disputed(block)
    is_not_disputed(bought(block, wallet, context).block)
    on = dates.of_loss(block, block.remaining, block.carrying_minor)
    of_state = of_a_state(block, (block.remaining, block.carrying_minor, None), on, wallet, event, context)
    return decision(context, of_state)


def reclaim_escheat(wallet: Wallet, event: Event[EscheatReclaimed], context: Context, dates: Dates) -> Decision:
    """Owes an escheated amount to the customer who claims it back."""
    return _from_escheat("escheat_reclaimed", wallet, event.data, context, dates)


def remit_escheat(wallet: Wallet, event: Event[EscheatRemitted], context: Context, dates: Dates) -> Decision:
    """Pays an escheated amount to the state."""
    return _from_escheat("escheat_remitted", wallet, event.data, context, dates)


def _from_escheat(
    kind: str, wallet: Wallet, data: EscheatReclaimed | EscheatRemitted, context: Context, dates: Dates
) -> Decision:
    """A movement of an escheated amount that is still unclaimed. Raises WrongCurrency, ExceedsValue, BlockDisputed."""
    block = bought_block(wallet, data.block_id, context)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    amount = minor(data.amount, block.currency, "amount")
    at_most(
        amount,
        block.unclaimed_minor,
        block.currency,
        errors.ExceedsValue,
        f"the amount exceeds the unclaimed property of block {block.block_id}",
    )
    is_not_disputed(block)
    on = dates.on(block.last_breakage_date)
    return decision(context, [Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=on)])
