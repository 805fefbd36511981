"""Changes of a block besides usage and expiry: void, refund, transfer, repricing, unclaimed property.

Owns: these decisions. Does not own: payments, invoices and memos (payments), write-offs and disputes (disputes), expiry
(expiry). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from subledger import errors
from subledger.blocks import NO_PORTION, PROMOTIONAL, ZERO, Block
from subledger.cohorts import WHOLE
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    credits_of,
    decision,
    is_live,
    minor,
    new_block_id,
    not_too_many,
    own_block,
    same_currency,
    tax_of,
    was_bought,
)
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
from subledger.money import MAX_MINOR, format_credits, format_minor
from subledger.wallet import Decision, Movement, Wallet


def void(wallet: Wallet, event: Event[PurchaseVoided], context: Context, dates: Dates) -> Decision:
    """Cancels the remaining credits with their tax pro rata: from the open receivable first, the rest is owed back."""
    block = own_block(wallet, event.data.block_id, context)
    was_bought(block)
    is_live(block, event)
    value = block.carrying_minor
    on = dates.of_loss(block, block.remaining, value)
    # Of a block that was repriced to nothing, the tax goes with its credits.
    tax = tax_of(block, value) if block.taxed_minor else block.tax_remaining_minor
    unpaid = min(value, block.receivable_minor)
    tax_unpaid = min(tax, block.receivable_minor - unpaid)
    movements: list[Movement] = []
    credits = block.remaining
    for kind, amount in (("void_unpaid", unpaid), ("void_paid", value - unpaid)):
        if amount or (kind == "void_unpaid" and not value):
            movements.append(
                Movement(kind=kind, block_id=block.block_id, credits=credits, amount_minor=amount, accounting_date=on)
            )
            credits = ZERO  # the credits go once, with the first of the two
    return decision(context, movements + tax_back(block, tax_unpaid, tax - tax_unpaid, dates))


def tax_back(block: Block, unpaid: int, paid: int, dates: Dates) -> list[Movement]:
    """Reverses tax: a part from the receivable, a part that is owed back."""
    on = dates.on(block.opened_on)
    return [
        Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=on, currency=block.currency)
        for kind, amount in (("tax_reversed_unpaid", unpaid), ("tax_reversed_paid", paid))
        if amount
    ]


def refund(wallet: Wallet, event: Event[CreditsRefunded], context: Context, dates: Dates) -> Decision:
    """Takes unused credits back; owes ``amount`` of their value to the customer, with its tax, and retains the rest."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    was_bought(block)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    wanted = None if data.amount is None else minor(data.amount, block.currency, "amount")
    # Amounts come before credits: first more than all that is left is refused, then more than the credits taken back.
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
    on = dates.of_loss(block, credits, value)
    movements = []
    for kind, part in (("refund", amount), ("refund_retained", value - amount)):
        if part or (kind == "refund" and not value):
            movements.append(
                Movement(kind=kind, block_id=block.block_id, credits=credits, amount_minor=part, accounting_date=on)
            )
            credits = ZERO  # the credits go once, with the first of the two
    return decision(context, movements + tax_back(block, 0, tax_of(block, amount), dates))


def reprice(wallet: Wallet, event: Event[BlockRepriced], context: Context, dates: Dates) -> Decision:
    """Adds credits or price to the remaining credits: a new segment, prospective (ASC 606-10-25-13(a))."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    if data.add_price and block.credit_kind == PROMOTIONAL:
        raise errors.NotAPurchase(
            f"block {block.block_id} is promotional and has no price",
            field="data.add_price",
            expected="no price",
            found=f"{data.add_price:f}",
        )
    credits = data.add_credits or ZERO
    amount = minor(data.add_price, block.currency, "add_price")
    # A price is lowered at most by the part that is neither recognised nor paid: more is a refund or a memo.
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
    not_too_many(block.credits + credits, "data.add_credits")
    is_live(block, event)
    if block.remaining + credits <= 0:
        raise errors.InsufficientCredits(
            f"block {block.block_id} has {format_credits(block.remaining)} credits left",
            field="data.add_credits",
            expected=f"more than -{format_credits(block.remaining)}",
            found=format_credits(credits),
            available=format_credits(block.remaining),
        )
    movement = Movement(
        kind="repricing",
        block_id=block.block_id,
        credits=credits,
        amount_minor=amount,
        accounting_date=dates.of_loss(block, -credits, -amount),
    )
    return decision(context, [movement])


def transfer(wallet: Wallet, event: Event[CreditsTransferred], context: Context, dates: Dates) -> Decision:
    """Moves credits to another customer at the same basis; the new block inherits every other term."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    new_block_id(context, data.new_block_id, "new_block_id")
    is_live(block, event)
    credits = credits_of(block, data.credits)
    amount = block.value_of(credits)
    on = dates.of_loss(block, credits, amount)
    out = Movement(
        kind="transfer_out", block_id=block.block_id, credits=credits, amount_minor=amount, accounting_date=on
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
    # The basis in the functional currency is measured with the movements; evolving then gives it to the new block.
    return decision(context, [out, taken], new_block=new_block(block, data.new_block_id, credits, amount, on))


def new_block(block: Block, block_id: str, credits: Decimal, amount: int, on: date) -> Block:
    """The block that a transfer makes: the old one's terms, its own figures, no receivable."""
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
        pool=block.pool,
        cohort=block.cohort,
        escheat_class=block.escheat_class,
        opened_at_position=0,
        losses_from=on,
    )


# --- unclaimed property -------------------------------------------------------------------------------------


def escheat(wallet: Wallet, event: Event[CreditsEscheated], context: Context, dates: Dates) -> Decision:
    """Gives the remainder to a state, before its expiry; never revenue (ASC 606-10-55-48, last sentence)."""
    block = own_block(wallet, event.data.block_id, context)
    is_live(block, event)
    movement = Movement(
        kind="escheat",
        block_id=block.block_id,
        credits=block.remaining,
        amount_minor=block.carrying_minor,
        accounting_date=dates.of_loss(block, block.remaining, block.carrying_minor),
    )
    return decision(context, [movement])


def reclaim_escheat(wallet: Wallet, event: Event[EscheatReclaimed], context: Context, dates: Dates) -> Decision:
    """Owes an escheated amount to the customer who claims it back."""
    return _from_escheat("escheat_reclaimed", wallet, event.data, context, dates)


def remit_escheat(wallet: Wallet, event: Event[EscheatRemitted], context: Context, dates: Dates) -> Decision:
    """Pays an escheated amount to the state."""
    return _from_escheat("escheat_remitted", wallet, event.data, context, dates)


def _from_escheat(
    kind: str, wallet: Wallet, data: EscheatReclaimed | EscheatRemitted, context: Context, dates: Dates
) -> Decision:
    """A movement of an escheated amount that is still unclaimed. Raises WrongCurrency, ExceedsValue."""
    block = own_block(wallet, data.block_id, context)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    amount = minor(data.amount, block.currency, "amount")
    unclaimed = block.disposed.get("escheated", NO_PORTION).amount_minor - block.claimed_minor
    at_most(
        amount,
        unclaimed,
        block.currency,
        errors.ExceedsValue,
        f"the amount exceeds the unclaimed property of block {block.block_id}",
    )
    on = dates.on(block.last_breakage_date)
    return decision(context, [Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=on)])
