"""What becomes of a block besides being used or expiring: void, refund, transfer, repricing, extension, escheat.

Owns: these decisions. Does not own: payments (settling), write-offs and disputes (disputing). Pure, like deciding.
"""

from __future__ import annotations

from decimal import Decimal

from subledger import errors
from subledger.blocks import NO_PORTION, PROMOTIONAL, ZERO, Block
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    credits_of,
    decision,
    is_live,
    new_block_id,
    not_too_many,
    own_block,
    same_currency,
    tax_of,
    was_bought,
)
from subledger.events.envelope import Event, format_time
from subledger.money import MAX_MINOR, format_credits, format_minor
from subledger.wallet import Decision, Movement, Wallet


def void(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """What is left is cancelled with its tax pro rata; the open receivable is taken first, the rest is owed back."""
    block = own_block(wallet, event.data.block_id, context)
    was_bought(block)
    is_live(block, event)
    on = dates.on(block.last_gain_date)
    value = block.carrying_minor
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
    """Tax that is taken back, from the receivable and to be owed back."""
    on = dates.on(block.last_gain_date)
    return [
        Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=on, currency=block.currency)
        for kind, amount in (("tax_reversed_unpaid", unpaid), ("tax_reversed_paid", paid))
        if amount
    ]


def refund(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Unused credits are taken back; of their value ``amount`` is owed to the customer, with its tax; the rest kept."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    was_bought(block)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    wanted: int | None = None if data.amount is None else data.minor("amount", block.currency)
    # Amounts come before credits: first more than all that is left is refused, then more than the credits taken back.
    at_most(wanted or 0, block.carrying_minor, block.currency, errors.ExceedsValue, f"what {block.block_id} carries")
    is_live(block, event)
    credits = credits_of(block, data.credits)
    value = block.value_of(credits)
    amount = value if wanted is None else wanted
    at_most(amount, value, block.currency, errors.ExceedsValue, f"what these credits of {block.block_id} carry")
    on = dates.on(block.last_gain_date)
    movements = []
    for kind, part in (("refund", amount), ("refund_retained", value - amount)):
        if part or (kind == "refund" and not value):
            movements.append(
                Movement(kind=kind, block_id=block.block_id, credits=credits, amount_minor=part, accounting_date=on)
            )
            credits = ZERO  # the credits go once, with the first of the two
    return decision(context, movements + tax_back(block, 0, tax_of(block, amount), dates))


def change_expiry(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """An expiry is moved; what had expired by the old one comes back if it does not by the new one."""
    block = own_block(wallet, event.data.block_id, context)
    expires_at = event.data.expires_at
    if expires_at is not None and expires_at <= block.starts_at:
        raise errors.InvalidValue(
            "data.expires_at is not after the block's start",
            field="data.expires_at",
            expected=f"later than {format_time(block.starts_at)}",
            found=format_time(expires_at),
        )
    movements = [
        Movement(kind="expiry_changed", block_id=block.block_id, accounting_date=dates.on(block.last_gain_date))
    ]
    if block.expired_credits and (expires_at is None or expires_at > event.occurred_at):
        pooled = block.pool is not None
        sign = -1 if pooled else 1  # a pool's breakage is mirrored; revenue has a kind of its own for it
        movements.append(
            Movement(
                kind="pooled_breakage" if pooled else "reinstatement",
                block_id=block.block_id,
                credits=sign * block.expired_credits,
                amount_minor=sign * block.expired_minor,
                accounting_date=dates.on(block.last_gain_date, block.last_breakage_date),
            )
        )
    return decision(context, movements)


def reprice(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Credits or price are added to what is left: a new segment, prospective (ASC 606-10-25-13(a))."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    if data.add_price and block.credit_kind == PROMOTIONAL:
        raise errors.NotAPurchase(
            f"block {block.block_id} is promotional and has no price",
            field="data.add_price",
            expected="no price",
            found=f"{data.add_price:f}",
        )
    credits: Decimal = data.add_credits or ZERO
    amount = data.minor("add_price", block.currency) if data.add_price is not None else 0
    # A lower price can only be had from what is neither recognised nor paid: the rest is a refund or a memo.
    limit = min(block.carrying_minor, block.receivable_minor)
    at_most(
        -amount, limit, block.currency, errors.ExceedsReceivable, "what is neither recognised nor paid", "add_price"
    )
    if block.price_minor + amount > MAX_MINOR:
        raise errors.InvalidValue(
            f"block {block.block_id} would have too large a price", field="data.add_price",
            expected=f"together at most {format_minor(MAX_MINOR, block.currency)}",
            found=format_minor(amount, block.currency),
        )  # fmt: skip
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
        accounting_date=dates.on(block.last_gain_date),
    )
    return decision(context, [movement])


def transfer(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Credits go to another customer at the same basis; the new block inherits every other term."""
    data = event.data
    block = own_block(wallet, data.block_id, context)
    new_block_id(context, data.new_block_id, "new_block_id")
    is_live(block, event)
    credits = credits_of(block, data.credits)
    amount = block.value_of(credits)
    on = dates.on(block.last_gain_date)
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
        currency=block.currency,
        customer=data.to_customer,
    )
    # What a basis is worth in the functional currency is measured with the movements, then put into the new block.
    return decision(context, [out, taken], new_block=new_block(block, data.new_block_id, credits, amount, dates))


def new_block(block: Block, block_id: str, credits: Decimal, amount: int, dates: Dates) -> Block:
    """The block that a transfer makes: the old one's terms, its own figures, nothing to be paid."""
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
        escheat_class=block.escheat_class,
        opened_at_position=0,
        last_gain_date=dates.on(block.last_gain_date),
    )


# --- unclaimed property -------------------------------------------------------------------------------------


def escheat(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """What is left goes to a state, before its expiry; never revenue (ASC 606-10-55-48, last sentence)."""
    block = own_block(wallet, event.data.block_id, context)
    is_live(block, event)
    movement = Movement(
        kind="escheat",
        block_id=block.block_id,
        credits=block.remaining,
        amount_minor=block.carrying_minor,
        accounting_date=dates.on(block.last_gain_date),
    )
    return decision(context, [movement])


def reclaim_escheat(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """A customer claims an escheated amount back: it is owed to the customer."""
    return _from_escheat("escheat_reclaimed", wallet, event, context, dates)


def remit_escheat(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """An escheated amount is paid to the state."""
    return _from_escheat("escheat_remitted", wallet, event, context, dates)


def _from_escheat(kind: str, wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    data = event.data
    block = own_block(wallet, data.block_id, context)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    amount = data.minor("amount", block.currency)
    held = block.disposed.get("escheated", NO_PORTION)[1] - block.claimed_minor
    at_most(amount, held, block.currency, errors.ExceedsValue, f"what is held as unclaimed of {block.block_id}")
    on = dates.on(block.last_gain_date, block.last_breakage_date)
    return decision(context, [Movement(kind=kind, block_id=block.block_id, amount_minor=amount, accounting_date=on)])
