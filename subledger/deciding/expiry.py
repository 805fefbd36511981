"""Expiry: what becomes of a block's remainder when it expires, and what comes back when its expiry is moved.

Owns: these decisions, and the kind of a remainder's entry. Does not own: when expiries are recorded (the sweep,
``store/writing/expiry_sweep``), usage of before an expiry that is known only after it (usage), estimates of breakage
(estimates). Pure.
"""

from __future__ import annotations

from subledger import errors
from subledger.blocks import Block
from subledger.deciding.context import Context, Dates, decision, has_credits_left, own_block
from subledger.events.data import BlockExpiryChanged, CreditsExpired
from subledger.events.envelope import Event, format_time
from subledger.wallet import Decision, Movement, Wallet


def expire(wallet: Wallet, event: Event[CreditsExpired], context: Context, dates: Dates) -> Decision:
    """Ends a block at its expiry: the rest of its value is breakage, or goes to a state."""
    block = own_block(wallet, event.data.block_id, context)
    if block.due_at != event.occurred_at:
        expires = "not now" if block.due_at is None else format_time(block.due_at)
        raise errors.NotYetExpired(
            f"block {block.block_id} expires {expires}",
            field="time",
            expected=expires,
            found=format_time(event.occurred_at),
        )
    has_credits_left(block)
    breakage = Movement(
        kind=breakage_kind(block),
        block_id=block.block_id,
        credits=block.remaining,
        amount_minor=block.carrying_minor,
        accounting_date=dates.of_loss(block, block.remaining, block.carrying_minor, block.breakable_from),
    )
    return decision(context, [breakage])


def breakage_kind(block: Block) -> str:
    """The kind of the entry that takes a block's remainder at its expiry: escheat, pooled or plain breakage.

    A block of which something has escheated is a state's, whether or not its purchase named a class.
    """
    if block.escheat_class is not None or "escheated" in block.disposed:
        return "escheat"
    return "pooled_breakage" if block.pool is not None else "breakage"


def change_expiry(wallet: Wallet, event: Event[BlockExpiryChanged], context: Context, dates: Dates) -> Decision:
    """Moves an expiry; what had expired by the old one comes back unless it has expired by the new one too."""
    block = own_block(wallet, event.data.block_id, context)
    expires_at = event.data.expires_at
    if expires_at is not None and expires_at <= block.starts_at:
        raise errors.InvalidValue(
            "data.expires_at is not after the block's start",
            field="data.expires_at",
            expected=f"later than {format_time(block.starts_at)}",
            found=format_time(expires_at),
        )
    changed_on = dates.on(block.opened_on)
    movements = [Movement(kind="expiry_changed", block_id=block.block_id, accounting_date=changed_on)]
    if block.expired_credits and (expires_at is None or expires_at > event.occurred_at):
        pooled = block.pool is not None
        sign = -1 if pooled else 1  # a pool's breakage is mirrored; revenue has a kind of its own for it
        movements.append(
            Movement(
                kind="pooled_breakage" if pooled else "reinstatement",
                block_id=block.block_id,
                credits=sign * block.expired_credits,
                amount_minor=sign * block.expired_minor,
                accounting_date=dates.on(block.last_breakage_date),
            )
        )
    return decision(context, movements)
