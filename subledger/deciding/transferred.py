"""Transferred credits: the purchase stays with the bought block and its payer.

A transfer moves only credits and their value. An event that ends unused value first gives it back to the bought block,
and is then decided there. So receivable, tax, received amounts and documents are in one place, and a transfer changes
no total.

Owns: the bought block of a transferred block, the sums of its purchase over all transfers, giving credits back to it.
Does not own: the transfer itself (cancellations). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from subledger import errors
from subledger.availability import Portion, plus
from subledger.blocks import NO_PORTION, ZERO, Block
from subledger.deciding.context import Context, Dates, any_wallet, is_no_undone_block, is_not_disputed, own_block
from subledger.events.envelope import Event
from subledger.evolving import block_after
from subledger.money import SMALLEST_CREDITS, credits_share
from subledger.wallet import Movement, Wallet


class Bought(msgspec.Struct, frozen=True, kw_only=True):
    """A bought block, and its payer, who owes and is owed for it; None if the payer is the event's customer."""

    block: Block
    payer: str | None

    def of_payer(self, movements: Iterable[Movement]) -> list[Movement]:
        """The movements of the bought block, with the payer as customer."""
        return [replace(movement, customer=self.payer) for movement in movements]


def bought(block: Block, wallet: Wallet, context: Context) -> Bought:
    """The bought block of a block of the event's customer; the block itself if it was not transferred."""
    if block.origin is None:
        return Bought(block=block, payer=None)
    payer = block.payer or wallet.customer
    origin = any_wallet(payer, wallet, context).state_of_block(block.origin)
    return Bought(block=origin, payer=None if payer == wallet.customer else payer)


def bought_block(wallet: Wallet, block_id: str, context: Context) -> Block:
    """The bought block of the block that an event about money names. The event's customer must be its payer.

    Raises UnknownBlock, BlockOfAnotherCustomer.
    """
    owner = context.owners.get(block_id)
    held = None if owner is None else any_wallet(owner, wallet, context).block(block_id)
    if held is None or held.origin is None:
        return own_block(wallet, block_id, context)
    is_no_undone_block(held)
    if held.payer != wallet.customer:
        raise errors.BlockOfAnotherCustomer(
            f"block {block_id} was bought by another customer than {wallet.customer}",
            field="data.block_id",
            expected=f"a block that {wallet.customer} bought",
            found=block_id,
        )
    return wallet.state_of_block(held.origin)


def is_not_of_a_dispute(of: Bought, amount: int, wallet: Wallet, context: Context) -> None:
    """Raises BlockDisputed if open disputes have already withdrawn an amount that would be given back.

    Usage that is reversed during a dispute can leave more free credits than free value.
    """
    block = of.block
    if not block.disputes:
        return
    payer = wallet if of.payer is None else context.wallet_of(of.payer)
    owed = payer.refund_held(block.block_id, None) + max(block.unclaimed_minor, 0)
    disputed = max(block.disputed_minor - owed, 0)
    if amount > max(block.claim_minor - disputed, 0):
        is_not_disputed(block)


def handed_back(
    of: Bought, block: Block, holder: str | None, part: tuple[Decimal, int, int | None], on: date, event: Event
) -> tuple[list[Movement], Bought]:
    """Gives credits of a transferred block back to the bought block. Returns the movements, and the bought block after
    them.

    ``part``: credits, amount, and the functional amount (None if it is the block's share). ``holder``: None for the
    event's customer. Nothing moves if the block is the bought block.
    """
    if of.block.block_id == block.block_id:
        return [], of
    credits, amount, functional = part
    if block.rate is not None and functional is None:
        functional = block.functional_part(credits, amount)
    given = Movement(
        kind="transfer_out",
        block_id=block.block_id,
        credits=credits,
        amount_minor=amount,
        functional_minor=functional,
        accounting_date=on,
        customer=holder,
    )
    taken = replace(
        given,
        block_id=of.block.block_id,
        credits=-credits,
        amount_minor=-amount,
        functional_minor=None if functional is None else -functional,
        customer=of.payer,
    )
    return [given, taken], replace(of, block=block_after(of.block, event, taken))


# --- all that came out of a purchase ------------------------------------------------------------------------


def with_transferred(block: Block, wallet: Wallet, context: Context) -> Block:
    """The bought block of a block, as it would be without transfers: with the draws and breakage of all its parts.

    Only its sums are meaningful, not its days.
    """
    whole = bought(block, wallet, context).block
    for held, _ in held_of(whole, wallet, context):
        whole = replace(
            whole,
            used=whole.used + held.used,
            drawn_minor=whole.drawn_minor + held.drawn_minor,
            redemption_tax_minor=whole.redemption_tax_minor + held.redemption_tax_minor,
            disposed=_disposed(whole, held),
        )
    return whole


def _disposed(whole: Block, held: Block) -> dict[str, Portion]:
    """The losses of a bought block and of a block with its credits, without the transfer between the two."""
    disposed = dict(whole.disposed)
    for column, part in held.disposed.items():
        disposed[column] = plus(disposed.get(column, NO_PORTION), part)
    credits, amount, functional = disposed["transferred"]
    disposed["transferred"] = Portion(
        credits - held.credits, amount - held.price_minor, functional - held.price_functional
    )
    return disposed


def held_of(block: Block, wallet: Wallet, context: Context) -> Iterator[tuple[Block, str | None]]:
    """The blocks to which credits of a bought block were transferred, with their holders (None: the event's own)."""
    for block_id, holder in block.handed:
        held = any_wallet(holder, wallet, context).state_of_block(block_id)
        yield held, None if holder == wallet.customer else holder


def recalled(
    block: Block,
    credits: Decimal,
    amount: int,
    wallet: Wallet,
    context: Context,
    event: Event,
    dates: Dates,
    after: date | None = None,
) -> tuple[list[Movement], Block]:
    """Gives credits back to a bought block of the event's customer that has too few: oldest transfers first.

    ``credits``, ``amount``: the needs of the bought block. Returns the movements, and the bought block after them.
    """
    movements: list[Movement] = []
    of = Bought(block=block, payer=None)
    for held, holder in held_of(block, wallet, context):
        lacking, value = credits - of.block.remaining, amount - of.block.carrying_minor
        if not held.remaining or (lacking <= 0 and value <= 0):
            continue
        part, worth = held.remaining, held.carrying_minor
        if lacking < part and value < worth:
            for_value = credits_share(part, value, worth) if value > 0 else ZERO
            part = min(max(lacking, for_value, SMALLEST_CREDITS), part - SMALLEST_CREDITS)
            worth = max(held.value_of(part), value) if part > 0 else 0
        if part <= 0:
            part, worth = held.remaining, held.carrying_minor
        on = dates.of_loss(held, part, worth, after)
        back, of = handed_back(of, held, holder, (part, worth, None), on, event)
        movements += back
    return movements, of.block


def handed_again(
    block: Block, parts: Iterable[tuple[str, str, Decimal]], wallet: Wallet, event: Event, on: date
) -> list[Movement]:
    """Returns credits that a dispute had called back to their holders, at most the credits of the bought block."""
    movements: list[Movement] = []
    for block_id, holder, credits in parts:
        part = min(credits, block.remaining)
        if part <= 0:
            continue
        amount = block.value_of(part)
        functional = None if block.rate is None else block.functional_part(part, amount)
        out = Movement(
            kind="transfer_out",
            block_id=block.block_id,
            credits=part,
            amount_minor=amount,
            functional_minor=functional,
            accounting_date=on,
        )
        back = replace(
            out,
            block_id=block_id,
            credits=-part,
            amount_minor=-amount,
            functional_minor=None if functional is None else -functional,
            customer=None if holder == wallet.customer else holder,
        )
        movements += [out, back]
        block = block_after(block, event, out)
    return movements
