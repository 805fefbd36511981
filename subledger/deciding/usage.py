"""Usage: how it draws a customer's blocks down, what it does without credits, and how it is taken back.

Owns: these decisions. Does not own: what a draw of one block moves (blocks), what is decided besides (deciding). Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from subledger import errors
from subledger.blocks import ZERO, Block, Portion
from subledger.deciding.context import Context, Dates, Original, breakage_kind, decision, own_block
from subledger.deciding.shortfalls import insufficient
from subledger.events.envelope import Event
from subledger.kinds import USAGE_KINDS
from subledger.money import MAX_MINOR, format_credits, share
from subledger.wallet import Decision, Movement, Wallet, price_overage


def consume(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    data = event.data
    blocks = (own_block(wallet, data.block_id, context),) if data.block_id is not None else wallet.blocks
    late = context.state.late_usage == "reclassify"
    need: Decimal = data.credits
    movements: list[Movement] = []
    for block in blocks:
        if not block.admits(unit=data.unit, product=data.product, at=event.occurred_at):
            continue
        left = block.remaining
        credits = min(left + block.expired_credits if late else left, need)
        if not credits:
            continue
        on = dates.on(block.last_gain_date)
        if credits > left:
            # What expired before this usage was known, but after it happened, was no breakage.
            on = dates.on(block.last_gain_date, block.last_breakage_date)
            movements.append(_unbroken(block, credits - left, on))
            block = _with_back(block, movements[-1])
        movements.append(
            Movement(
                kind="consumption",
                block_id=block.block_id,
                credits=credits,
                amount_minor=block.amount_for(credits),
                accounting_date=on,
            )
        )
        need -= credits
        if not need:
            return decision(context, movements)
    movements.append(_overage(wallet, event, context, dates, need))
    return decision(context, movements)


def _unbroken(block: Block, credits: Decimal, on: date) -> Movement:
    """A part of a block's breakage taken back."""
    plain = block.rate is None or block.refundable  # what is remeasured has no functional amounts of its own
    functional = None if plain else -block.expired_functional_for(credits)
    kind = "breakage" if block.pool is None else "pooled_breakage"
    return Movement(
        kind=kind,
        block_id=block.block_id,
        credits=-credits,
        amount_minor=-block.expired_amount_for(credits),
        accounting_date=on,
        functional_minor=functional,
    )


def _with_back(block: Block, movement: Movement) -> Block:
    expired = block.disposed["expired"]
    back = Portion(
        credits=expired.credits + movement.credits, amount_minor=expired.amount_minor + movement.amount_minor,
        functional_minor=expired.functional_minor,
    )  # fmt: skip
    return msgspec.structs.replace(block, disposed={**block.disposed, "expired": back})


def _overage(wallet: Wallet, event: Event, context: Context, dates: Dates, missing: Decimal) -> Movement:
    """What the credits do not cover: refused or priced, as the event or else the ledger says."""
    data = event.data
    setting = data.on_shortfall or context.state.on_shortfall
    if setting == "reject":
        raise insufficient(event, missing)  # the reasons take a look at each open block: they are found after the lock
    if data.overage_price is None:
        raise errors.OveragePriceMissing(
            f"{format_credits(missing)} {data.unit} exceed the credits, and the event names no price for them",
            field="data.overage_price",
            expected="the price of one credit",
            missing=format_credits(missing),
        )
    amount, _ = price_overage(wallet, missing, data.overage_price, data.currency)
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
        currency=data.currency,
    )


def reverse(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    """Usage taken back: what was drawn last is restored first, at the money that was stored, cumulatively."""
    data = event.data
    original = context.original
    if original is None:
        raise errors.UnknownOriginal(
            f"no event {data.event_id} from {data.event_source or event.source} is recorded",
            field="data.event_id",
            expected="a recorded credits.consumed",
            found=data.event_id,
        )
    if original.event.type != "credits.consumed" or original.event.customer != wallet.customer:
        raise errors.NotReversible(
            f"{data.event_id} is {original.event.type} of {original.event.customer}",
            field="data.event_id",
            expected=f"a credits.consumed of {wallet.customer}",
            found=original.event.type,
        )
    already = wallet.reversed_usage(original.position)
    draws = [m for m in original.decision.movements if m.kind in USAGE_KINDS]
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
    for draw in reversed(draws):
        restored, restored_minor, restored_functional = already.of(draw.block_id)
        credits = min(draw.credits - restored, wanted)
        if credits <= 0:
            continue
        wanted -= credits
        given_back = share(draw.amount_minor, restored + credits, draw.credits) - restored_minor
        mirror = _mirror_overage if draw.kind == "overage" else _mirror_draw
        mirrored = mirror(wallet, draw, credits, given_back, original, event, context, dates)
        if draw.functional_minor is not None:
            back = share(draw.functional_minor, restored + credits, draw.credits) - restored_functional
            mirrored[0] = msgspec.structs.replace(mirrored[0], functional_minor=-back)
        movements += mirrored
    return decision(context, movements, original_position=original.position)


def _mirror_overage(
    wallet: Wallet, draw: Movement, credits: Decimal, given_back: int, original: Original, _event: Event,
    context: Context, dates: Dates,
) -> list[Movement]:  # fmt: skip
    overage = wallet.state_of_overage(original.position)
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
    return [
        Movement(
            kind="overage",
            credits=-credits,
            amount_minor=-amount,
            accounting_date=dates.on(draw.accounting_date),
            overage_position=original.position,
            product=original.event.data.product,
            policy=_other(original.decision.policy, context.state.policy),
            currency=overage.currency,
        )
    ]


def _mirror_draw(
    wallet: Wallet, draw: Movement, credits: Decimal, given_back: int, original: Original, event: Event,
    context: Context, dates: Dates,
) -> list[Movement]:  # fmt: skip
    block = wallet.state_of_block(draw.block_id or "")
    on = dates.on(block.last_gain_date, draw.accounting_date)
    movements = [
        Movement(
            kind="consumption",
            block_id=draw.block_id,
            credits=-credits,
            amount_minor=-given_back,
            accounting_date=on,
            product=original.event.data.product,
            policy=_other(original.decision.policy, context.state.policy),
        )
    ]
    passed = block.expires_at is not None and block.expires_at <= event.occurred_at
    if (block.expired or passed) and not block.disputes:  # it expired meanwhile: what comes back is breakage at once
        movements.append(
            Movement(
                kind=breakage_kind(block),
                block_id=draw.block_id,
                credits=credits,
                amount_minor=given_back,
                accounting_date=on,
            )
        )
    return movements


def _other(policy: int, current: int) -> int | None:
    return policy if policy != current else None
