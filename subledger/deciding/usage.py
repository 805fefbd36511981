"""Usage: draws on a customer's blocks, overage, and the reversal of usage.

Owns: these decisions. Does not own: the price of a draw (blocks), the reasons of a shortfall (shortfalls). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

import msgspec

from subledger import errors
from subledger.accounting_dates import last_usable_day
from subledger.availability import Portion, negative
from subledger.billing_documents import Overage
from subledger.blocks import ZERO, Block
from subledger.deciding.context import Context, Dates, decision, is_not_conceded, own_block
from subledger.deciding.expiry import lapsed
from subledger.deciding.redemption_tax import mirrored_tax, taxes_by_block, with_redemption_tax
from subledger.deciding.repricing import corrected_down, corrected_draws, draw_before, in_segment
from subledger.deciding.reservations import settlement
from subledger.deciding.shortfalls import insufficient
from subledger.deciding.transferred import with_transferred
from subledger.events.data import ConsumptionReversed, CreditsConsumed
from subledger.events.envelope import Event
from subledger.evolving import block_after
from subledger.kinds import USAGE_KINDS
from subledger.money import MAX_MINOR, format_credits, share
from subledger.own_dimensions import over, text_of
from subledger.reserved import drawable, held_at
from subledger.segments import segments_back
from subledger.wallet import Decision, Movement, Wallet, price_overage


def consume(wallet: Wallet, event: Event[CreditsConsumed], context: Context, dates: Dates) -> Decision:
    """Draws on blocks in draw order. Credits that the blocks do not have are overage."""
    data = event.data
    if data.block_id is not None:
        blocks: Iterable[Block] = (own_block(wallet, data.block_id, context),)
    else:
        blocks = wallet.blocks.admitting(data.unit, data.product, event.occurred_at)
    late = context.state.late_usage == "reclassify"
    named, reservations = data.reservation_id, wallet.reservations
    settled = None if named is None else settlement(wallet, event, named, context, dates)
    free = held_at(wallet.blocks, reservations, event.occurred_at, late=late).free_for(named) if reservations else None
    needed = data.credits
    movements: list[Movement] = []
    corrected: list[Movement] = []
    for block in blocks:
        if not block.admits(unit=data.unit, product=data.product, at=event.occurred_at):
            continue
        credits = min(drawable(block, event.occurred_at, late=late), needed)
        if free:
            credits = min(credits, free.get(block.block_id, credits))
        if not credits:
            continue
        back = segments_back(block, event.occurred_at) if block.segment is not None else 0
        if back and (found := draw_before(block, back, credits, event, dates)) is not None:
            before, draw = found
            corrected += before
            movements.append(draw)
            needed -= credits
            if not needed:
                break
            continue
        if late and block.lapses:
            unbroken = _breakage_taken_back(block, credits, event, dates)
            movements += unbroken
            for movement in unbroken:
                block = block_after(block, event, movement)
        on, amount, functional = block.draw_on(dates.on(), credits)
        movements.append(
            Movement(
                kind="consumption",
                block_id=block.block_id,
                credits=credits,
                amount_minor=amount,
                accounting_date=on,
                functional_minor=functional,
            )
        )
        needed -= credits
        if not needed:
            break
    if needed == data.credits:  # refuse for lack of credits first, before the tax is compared with a value of zero
        movements.append(_overage(wallet, event, context, dates, needed))
        needed = ZERO
    movements = corrected + with_redemption_tax(movements, wallet, event, context)
    if needed:
        movements.append(_overage(wallet, event, context, dates, needed))
    if settled:
        movements += settled
    return decision(context, movements)


def _breakage_taken_back(block: Block, needed: Decimal, event: Event, dates: Dates) -> list[Movement]:
    """Mirrors breakage of credits that late usage draws: they were used before they expired.

    First the breakage of credits that the block lacks now. Then the breakage of credits that a moved expiry brought
    back on a later day, if the block lacks credits between the two days. This part is treated as never brought back.
    """
    movements: list[Movement] = []

    def moves(kind: str, part: Portion, on: date) -> None:
        nonlocal block
        movements.append(
            Movement(
                kind=kind,
                block_id=block.block_id,
                credits=part.credits,
                amount_minor=part.amount_minor,
                accounting_date=on,
                functional_minor=None if block.rate is None else part.functional_minor,
            )
        )
        block = block_after(block, event, movements[-1])

    breakage = "breakage" if block.pool is None else "pooled_breakage"
    # A lost dispute may leave fewer credits than other disputes freeze. No breakage is reversed for those.
    lacking = needed - block.available
    for lapse in block.lapses:
        if lapse.back_on is None and lacking > 0:
            part = block.lapsed_part(lapse, min(lapse.credits, lacking))
            moves(breakage, negative(part), dates.on(lapse.on))
            lacking -= part.credits
    for lapse in block.lapses:
        if lapse.back_on is None or not dates.effective <= lapse.on < lapse.back_on or lapse.back_on <= dates.on():
            continue
        lacking = needed - block.credits_between(dates.on(lapse.on), lapse.back_on)
        if lacking > 0:
            part = block.lapsed_part(lapse, min(lapse.credits, lacking, block.remaining))
            if block.pool is None:
                moves("reinstatement", negative(part), lapse.back_on)
            else:
                moves(breakage, part, lapse.back_on)
            moves(breakage, negative(part), dates.on(lapse.on))
    return movements


def _overage(
    wallet: Wallet, event: Event[CreditsConsumed], context: Context, dates: Dates, missing: Decimal
) -> Movement:
    """Prices the usage beyond the credits, or refuses it: by ``on_shortfall`` of the event, or else of the ledger.

    Raises InsufficientCredits, OveragePriceMissing.
    """
    data = event.data
    setting = data.on_shortfall or context.state.on_shortfall
    if setting == "reject":
        raise insufficient(event, missing)  # the reasons need every open block: computed after the lock
    if data.overage_price is None:
        raise errors.OveragePriceMissing(
            f"{format_credits(missing)} {data.unit} exceed the credits, and the event names no price for them",
            field="data.overage_price",
            expected="the price of one credit",
            missing=format_credits(missing),
        )
    currency = errors.present(data.currency, "an overage price without its currency is refused when the event is read")
    amount, _ = price_overage(wallet, missing, data.overage_price, currency)
    if amount > MAX_MINOR:
        raise errors.InvalidValue(
            "the overage is too large an amount", field="data.overage_price", expected="a smaller price"
        )
    return Movement(
        kind="overage",
        credits=missing,
        amount_minor=amount,
        accounting_date=dates.on(),
        backfill=setting == "backfill",
        currency=currency,
    )


def reverse(wallet: Wallet, event: Event[ConsumptionReversed], context: Context, dates: Dates) -> Decision:
    """Reverses usage, or a part of it: the last draw first, with the stored amounts, cumulatively.

    Raises UnknownOriginal, NotReversible, ReversalExceedsOriginal, OverageSettled.
    """
    data = event.data
    original = context.original
    if original is None:
        raise errors.UnknownOriginal(
            f"no event {data.event_id} from {data.event_source or event.source} is recorded",
            field="data.event_id",
            expected="a recorded credits.consumed",
            found=data.event_id,
        )
    usage = original.event.data
    if not isinstance(usage, CreditsConsumed) or original.event.customer != wallet.customer:
        raise errors.NotReversible(
            f"{data.event_id} is {original.event.type} of {original.event.customer}",
            field="data.event_id",
            expected=f"a credits.consumed of {wallet.customer}",
            found=original.event.type,
        )
    already = wallet.reversed_usage(original.position)
    # Corrections of other usage that this usage had caused are not mirrored. New corrections follow if they are needed.
    draws = [m for m in original.decision.movements if m.kind in USAGE_KINDS and m.credits]
    remaining = sum((d.credits - already.of(d.block_id).credits for d in draws), ZERO)
    wanted = data.credits if data.credits is not None else remaining
    if wanted > remaining or not remaining:
        raise errors.ReversalExceedsOriginal(
            f"{format_credits(remaining)} of {data.event_id} are left to reverse",
            field="data.credits",
            expected=f"at most {format_credits(remaining)}",
            found=format_credits(wanted),
            remaining=format_credits(remaining),
        )
    movements: list[Movement] = []
    taxes = taxes_by_block(original.decision)
    restored_value: dict[str, int] = {}
    restored_tax: dict[str, int] = {}
    for draw in reversed(draws):
        restored, restored_minor, restored_functional = already.of(draw.block_id)
        credits = min(draw.credits - restored, wanted)
        if credits <= 0:
            continue
        wanted -= credits
        given_back = share(draw.amount_minor, restored + credits, draw.credits) - restored_minor
        functional = None
        if draw.functional_minor is not None:
            functional = restored_functional - share(draw.functional_minor, restored + credits, draw.credits)
        policy = original.decision.policy
        mirrored = Movement(
            kind=draw.kind,
            credits=-credits,
            amount_minor=-given_back,
            functional_minor=functional,
            accounting_date=dates.on(draw.accounting_date),
            product=usage.product,
            dimensions=_dimensions_of(draw, usage, wallet),
            policy=policy if policy != context.state.policy else None,
        )
        if draw.kind == "overage":
            movements.append(_of_overage(mirrored, wallet.state_of_overage(original.position)))
        else:
            block = wallet.state_of_block(draw.block_id or "")
            mirrored = in_segment(mirrored, block, original.event.occurred_at, event.occurred_at)
            taxed = mirrored_tax(taxes.get(draw.block_id, []), draw, mirrored, restored)
            of_block = _of_block(mirrored, taxed, block, wallet, event, context, dates)
            tax = -sum(movement.amount_minor for movement in taxed)
            whole = with_transferred(block, wallet, context)
            name = whole.block_id
            restored_value[name] = restored_value.get(name, 0) + given_back + tax + corrected_down(of_block)
            restored_tax[name] = restored_tax.get(name, 0) + tax
            is_not_conceded(whole, restored_value[name], "data.event_id", data.event_id, tax=restored_tax[name])
            movements += of_block
    return decision(context, movements, original_position=original.position)


def _dimensions_of(draw: Movement, usage: CreditsConsumed, wallet: Wallet) -> str | None:
    """The company's own dimensions of the revenue of a draw; None if they are those of its block."""
    stated = text_of(usage.dimensions)
    if not stated:
        return None
    return over("" if draw.block_id is None else wallet.state_of_block(draw.block_id).dimensions, stated)


def _of_overage(mirrored: Movement, overage: Overage) -> Movement:
    """The mirror of unbilled overage. Raises OverageSettled."""
    credits, given_back = -mirrored.credits, -mirrored.amount_minor
    if credits > overage.open:
        raise errors.OverageSettled(
            f"only {format_credits(overage.open)} of the overage are unbilled; the rest was paid for by "
            f"{', '.join(overage.settled_by)}",
            field="data.credits",
            expected=f"at most {format_credits(overage.open)} of overage",
            found=format_credits(credits),
            settled_by=list(overage.settled_by),
        )
    amount = overage.open_minor if credits == overage.open else min(given_back, overage.open_minor)
    return msgspec.structs.replace(
        mirrored, amount_minor=-amount, overage_position=overage.position, currency=overage.currency
    )


def _of_block(
    mirrored: Movement,
    taxed: list[Movement],
    block: Block,
    wallet: Wallet,
    event: Event[ConsumptionReversed],
    context: Context,
    dates: Dates,
) -> list[Movement]:
    """The mirror of a draw. If the block has expired since then, the restored credits are breakage.

    The breakage is not dated before the expiry, although usage may be reversed as of an earlier day.
    """
    movements = [msgspec.structs.replace(mirrored, block_id=block.block_id), *taxed]
    movements += corrected_draws(block, movements, event, dates)
    passed = block.expires_at is not None and block.expires_at <= event.occurred_at
    if (block.expired or passed) and not block.disputes:
        restored = block
        for movement in movements:
            restored = block_after(restored, event, movement)
        credits, amount = -mirrored.credits, -sum(movement.amount_minor for movement in movements)
        last_day = None if block.expires_at is None else last_usable_day(block.expires_at, context.state.zone)
        floor = (last_day, block.breakable_from, mirrored.accounting_date)
        functional = None if block.rate is None else -sum(m.functional_minor or 0 for m in movements)
        on = dates.of_loss(restored, credits, amount, *floor)
        movements += lapsed(restored, (credits, amount, functional), on, wallet, event, context)
    return movements
