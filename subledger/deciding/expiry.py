"""Expiry: the entries for a block's remainder at its expiry, and for a moved expiry.

Owns: these decisions, and the kind of a remainder's entry. Does not own: the recording of due expiries
(``store/writing/expiry_sweep``), late usage (usage), estimates of breakage (estimates). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from subledger import errors
from subledger.blocks import ZERO, Block
from subledger.deciding.context import Context, Dates, decision, has_credits_left, is_not_conceded, own_block
from subledger.deciding.transferred import bought, handed_back, with_transferred
from subledger.events.data import BlockExpiryChanged, CreditsExpired
from subledger.events.envelope import Event, format_time
from subledger.money import round_half_up
from subledger.wallet import Decision, Movement, Wallet


def expire(wallet: Wallet, event: Event[CreditsExpired], context: Context, dates: Dates) -> Decision:
    """Ends a block at its expiry: the rest of its value is breakage, or goes to a state."""
    block = own_block(wallet, event.data.block_id, context)
    if block.expiry_due_at != event.occurred_at:
        raise _not_at(block, event)
    has_credits_left(block)
    credits = block.available  # credits that a dispute freezes expire after the dispute
    value = block.value_of(credits)
    on = dates.of_loss(block, credits, value, block.breakable_from)
    return decision(context, lapsed(block, (credits, value, None), on, wallet, event, context))


def _not_at(block: Block, event: Event[CreditsExpired]) -> errors.NotYetExpired:
    """The refusal of an expiry at another moment than its own."""
    if block.expires_at is None:
        sentence, expected = f"block {block.block_id} never expires", "a block that expires"
    elif block.expiry_due_at is None:
        sentence = f"a dispute freezes the remaining credits of block {block.block_id}: they expire after its end"
        expected = "no open dispute"
    else:
        expected = format_time(block.expiry_due_at)
        sentence = f"block {block.block_id} expires at {expected}, and its expiry is of exactly that time"
    return errors.NotYetExpired(sentence, field="time", expected=expected, found=format_time(event.occurred_at))


def lapsed(
    block: Block, part: tuple[Decimal, int, int | None], on: date, wallet: Wallet, event: Event, context: Context
) -> list[Movement]:
    """The entries for credits of a block that expire: breakage, or escheat to a state.

    ``part``: the credits, their amount, and the functional amount if it is not the block's share.
    """
    kind = breakage_kind(block)
    if kind == "escheat":
        return of_a_state(block, part, on, wallet, event, context)
    credits, amount, functional = part
    lost = Movement(
        kind=kind,
        block_id=block.block_id,
        credits=credits,
        amount_minor=amount,
        accounting_date=on,
        functional_minor=functional,
    )
    return [lost]


def of_a_state(
    block: Block, part: tuple[Decimal, int, int | None], on: date, wallet: Wallet, event: Event, context: Context
) -> list[Movement]:
    """The entries for a block's remainder that goes to a state, as the payer's. Transferred credits first go back.

    They are not dated before the day from which the cancelled part of the receivable is owed.
    """
    purchase = bought(block, wallet, context)
    on = max(on, purchase.block.owed_from(_cancelled(purchase.block, part[1])))
    movements, of = handed_back(purchase, block, None, part, on, event)
    return movements + of.of_payer(escheated(of.block, *part[:2], on, part[2]))


def escheated(block: Block, credits: Decimal, amount: int, on: date, functional: int | None = None) -> list[Movement]:
    """The entries for credits whose value goes to a state: at most the value that was received.

    The open receivable is cancelled first, as value and tax in proportion. The tax of the paid part stays payable.
    """
    cancelled = _cancelled(block, amount)
    value = round_half_up(amount * cancelled, amount + block.tax_in(amount)) if cancelled else 0
    unpaid = None if functional is None else round_half_up(functional * value, amount) if amount else 0
    rest = None if functional is None else functional - (unpaid or 0)
    parts = (
        ("void_unpaid", value, ZERO, unpaid),
        ("tax_reversed_unpaid", cancelled - value, ZERO, None),
        ("escheat", amount - value, credits, rest),
    )
    return [
        Movement(
            kind=kind,
            block_id=block.block_id,
            amount_minor=part,
            credits=gone,
            accounting_date=on,
            currency=block.currency,
            functional_minor=of_part,
        )
        for kind, part, gone, of_part in parts
        if part or gone
    ]


def _cancelled(block: Block, amount: int) -> int:
    """The part of the open receivable that is cancelled with an amount and its tax."""
    return min(max(block.receivable_minor, 0), amount + block.tax_in(amount))


def breakage_kind(block: Block) -> str:
    """The kind of the entry that takes a block's remainder at its expiry: escheat, pooled or plain breakage.

    If a part of a block has escheated, the rest escheats too, even if its purchase named no class.
    """
    if block.escheat_class is not None or "escheated" in block.disposed:
        return "escheat"
    return "pooled_breakage" if block.pool is not None else "breakage"


def change_expiry(wallet: Wallet, event: Event[BlockExpiryChanged], context: Context, dates: Dates) -> Decision:
    """Moves an expiry. Credits that had expired come back, unless the new expiry has passed too."""
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
        is_not_conceded(with_transferred(block, wallet, context), block.expired_minor, "data.block_id", block.block_id)
        pooled = block.pool is not None
        sign = -1 if pooled else 1  # pooled breakage is mirrored; breakage revenue has its own kind for this
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
