"""Purchases and grants: the events that open a block.

Owns: these decisions, and the payment of unbilled overage from a new block. Does not own: a block that a transfer makes
(cancellations), the price of a draw (blocks). Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from subledger.blocks import PAID, PROMOTIONAL, ZERO, Block
from subledger.deciding.context import (
    Context,
    Dates,
    decision,
    minor,
    new_block_id,
    not_too_many,
    same_currency,
    starts_before_it_expires,
)
from subledger.events.data import CreditsGranted, CreditsPurchased
from subledger.events.envelope import Event
from subledger.own_dimensions import NO_DIMENSIONS, text_of
from subledger.wallet import Decision, Movement, Wallet


def purchase(wallet: Wallet, event: Event[CreditsPurchased], context: Context, dates: Dates) -> Decision:
    """Opens a block at its price. The block first pays for unbilled overage."""
    data = event.data
    starts_before_it_expires(data, event.occurred_at)
    new_block_id(wallet, context, data.block_id)
    _in_the_pools_currency(data, context)
    on = dates.on()
    price = minor(data.price, data.currency, "price")
    tax = minor(data.tax, data.currency, "tax")
    credits = data.credits + (data.bonus_credits or ZERO)
    not_too_many(credits, "data.bonus_credits")
    opened = Movement(
        kind="purchase",
        block_id=data.block_id,
        credits=credits,
        amount_minor=price,
        accounting_date=on,
        refundable=data.refundable,
    )
    movements = [opened]
    if tax:
        movements.append(Movement(kind="purchase_tax", block_id=data.block_id, amount_minor=tax, accounting_date=on))
    block = Block(
        block_id=data.block_id,
        credit_kind=PAID,
        unit=data.unit,
        credits=credits,
        price_minor=price,
        currency=data.currency,
        starts_at=data.starts_at or event.occurred_at,
        scope=None if data.scope is None else tuple(data.scope),
        opened_at_position=0,
        losses_from=on,
        dimensions=text_of(data.dimensions),
    )
    return decision(context, movements + _backfill(wallet, block, dates))


def _in_the_pools_currency(data: CreditsPurchased, context: Context) -> None:
    pool = context.books.pools.by_name.get(data.pool) if data.pool is not None else None
    if pool is not None:
        same_currency(data.currency, pool.currency, f"pool {data.pool}")


def _backfill(wallet: Wallet, block: Block, dates: Dates) -> list[Movement]:
    """Pays unbilled overage from a new block, oldest first, at the overage's own price."""
    movements: list[Movement] = []
    for overage in wallet.overages.for_backfill():
        if not block.remaining:
            break
        if not (
            overage.open > 0
            and overage.unit == block.unit
            and overage.currency == block.currency
            and (block.scope is None or overage.product in block.scope)
        ):
            continue
        credits = min(block.remaining, overage.open)
        owed, basis = overage.settle_amount(credits), block.amount_for(credits)
        paid = Movement(
            kind="overage_backfilled",
            block_id=block.block_id,
            overage_position=overage.position,
            product=overage.product,
            accounting_date=dates.on(block.losses_from, overage.accounting_date),
            credits=credits,
            amount_minor=owed,
            dimensions=(overage.dimensions or NO_DIMENSIONS) if overage.dimensions != block.dimensions else None,
        )
        movements.append(paid)
        if basis != owed:
            movements.append(
                msgspec.structs.replace(paid, kind="backfill_difference", credits=ZERO, amount_minor=basis - owed)
            )
        block = msgspec.structs.replace(block, used=block.used + credits, drawn_minor=block.drawn_minor + basis)
    return movements


_GRANTED: Final = {PROMOTIONAL: "promotional_grant", "goodwill": "goodwill", "allocation": "allocation"}
"""The kind of a grant, by its reason."""


def grant(wallet: Wallet, event: Event[CreditsGranted], context: Context, dates: Dates) -> Decision:
    """Opens a block without payment: of no value if it is promotional, else at the value that the event states."""
    data = event.data
    starts_before_it_expires(data, event.occurred_at)
    new_block_id(wallet, context, data.block_id)
    value = 0 if data.value is None or data.currency is None else minor(data.value, data.currency, "value")
    granted = Movement(
        kind=_GRANTED[data.reason],
        block_id=data.block_id,
        credits=data.credits,
        amount_minor=value,
        accounting_date=dates.on(),
    )
    return decision(context, [granted])
