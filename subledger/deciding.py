"""Deciding: what an event does, given the customer's wallet and the ledger as they stand.

Owns: every rule of ACCOUNTING that needs judgement: draws, shortfall, dates, what a void takes first. Pure: the
result depends on the arguments alone. What is decided is stored with the event and never decided again.

Refusals come in this order: references, currency, credits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec

from subledger import errors
from subledger.blocks import PAID, PROMOTIONAL, ZERO, Block
from subledger.events import Event, format_time
from subledger.ledger import LedgerState
from subledger.money import MAX_MINOR, format_credits, round_half_up, share
from subledger.periods import accounting_date, effective_date
from subledger.wallet import Decision, Movement, Wallet, price_overage


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded event that another one refers to."""

    position: int
    event: Event
    decision: Decision


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision may depend on besides the wallet.

    ``owners`` tells the customer of every block id the event names, as far as it is in the ledger.
    """

    state: LedgerState
    owners: dict[str, str] = {}
    original: Original | None = None


class _Dates(msgspec.Struct, frozen=True):
    """Accounting dates for one event: its effective date, moved to the first open day and past what it follows."""

    effective: date
    closed_through: date | None

    def on(self, *others: date | None) -> date:
        return accounting_date(self.effective, self.closed_through, *others)


def decide(wallet: Wallet, event: Event, context: Context) -> Decision:
    """What to record for ``event``. Raises Refused, and then nothing has happened."""
    state = context.state
    dates = _Dates(effective_date(event.occurred_at, state.zone), state.closed_through)
    return _DECIDE[event.type](wallet, event, context, dates)


def _decision(context: Context, movements: list[Movement], original: int | None = None) -> Decision:
    return Decision(policy=context.state.policy, movements=tuple(movements), original=original)


def _own_block(wallet: Wallet, block_id: str, context: Context) -> Block:
    """The block an event names. Raises UnknownBlock, BlockOfAnotherCustomer."""
    owner = context.owners.get(block_id)
    if owner is None:
        raise errors.UnknownBlock(
            f"no credit block {block_id}", field="data.block_id", expected="a recorded block", found=block_id
        )
    if owner != wallet.customer:
        raise errors.BlockOfAnotherCustomer(
            f"block {block_id} belongs to another customer than {wallet.customer}",
            field="data.block_id",
            expected=f"a block of {wallet.customer}",
            found=block_id,
        )
    block = wallet.block(block_id)
    if block is None:
        raise errors.IntegrityFault(f"block {block_id} has an owner but no state", block_id=block_id)
    return block


def _functional(context: Context, currency: str) -> None:
    if currency != context.state.functional_currency:
        raise errors.ExchangeRateMissing(
            f"no exchange rate from {currency} to {context.state.functional_currency} is known",
            field="data.currency",
            expected=context.state.functional_currency,
            found=currency,
        )


def _new_id(context: Context, block_id: str) -> None:
    owner = context.owners.get(block_id)
    if owner is not None:
        raise errors.BlockExists(
            f"a credit block {block_id} is already in the ledger",
            field="data.block_id",
            expected="a new block id",
            found=block_id,
        )


# --- purchases and grants -----------------------------------------------------------------------------------


def _starts_before_it_expires(event: Event) -> None:
    data = event.data
    starts_at = data.starts_at or event.occurred_at
    if data.expires_at is not None and data.expires_at <= starts_at:
        raise errors.InvalidValue(
            "data.expires_at is not after the block's start",
            field="data.expires_at",
            expected=f"later than {format_time(starts_at)}",
            found=format_time(data.expires_at),
        )


def _purchase(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    data = event.data
    _starts_before_it_expires(event)
    _new_id(context, data.block_id)
    _functional(context, data.currency)
    on = dates.on()
    price = data.minor("price", data.currency)
    tax = data.minor("tax", data.currency) if data.tax is not None else 0
    credits = data.credits + (data.bonus_credits or ZERO)
    movements = [Movement(kind="purchase", block=data.block_id, credits=credits, amount=price, on=on)]
    if tax:
        movements.append(Movement(kind="purchase_tax", block=data.block_id, amount=tax, on=on))
    block = Block(
        block_id=data.block_id, credit_kind=PAID, unit=data.unit, credits=credits, price_minor=price,
        currency=data.currency, starts_at=data.starts_at or event.occurred_at,
        scope=None if data.scope is None else tuple(data.scope), opened_at_position=0, gained_on=on,
    )  # fmt: skip
    return _decision(context, movements + _backfill(wallet, block, dates))


def _backfill(wallet: Wallet, block: Block, dates: _Dates) -> list[Movement]:
    """A new block pays first what is still unbilled of earlier usage, oldest first, at the overage's own price."""
    movements: list[Movement] = []
    for overage in wallet.overages:
        if not (
            overage.backfill
            and overage.open > 0
            and overage.unit == block.unit
            and overage.currency == block.currency
            and (block.scope is None or overage.product in block.scope)
            and block.left > 0
        ):
            continue
        credits = min(block.left, overage.open)
        owed, basis = overage.settle_amount(credits), block.amount_for(credits)
        on = dates.on(block.gained_on, overage.booked_on)
        place = {"block": block.block_id, "overage": overage.position, "product": overage.product, "on": on}
        movements.append(Movement(kind="overage_backfilled", credits=credits, amount=owed, **place))  # type: ignore[arg-type]
        if basis != owed:
            movements.append(Movement(kind="backfill_difference", amount=basis - owed, **place))  # type: ignore[arg-type]
        block = msgspec.structs.replace(block, used=block.used + credits, drawn_minor=block.drawn_minor + basis)
    return movements


def _grant(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:  # noqa: ARG001 - one shape for all
    data = event.data
    _starts_before_it_expires(event)
    _new_id(context, data.block_id)
    value = 0
    if data.reason != PROMOTIONAL:
        _functional(context, data.currency)
        value = data.minor("value", data.currency)
    kind = "promotional_grant" if data.reason == PROMOTIONAL else data.reason
    return _decision(
        context,
        [Movement(kind=kind, block=data.block_id, credits=data.credits, amount=value, on=dates.on())],
    )


# --- usage --------------------------------------------------------------------------------------------------


def _consume(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    data = event.data
    blocks = (_own_block(wallet, data.block_id, context),) if data.block_id is not None else wallet.blocks
    need: Decimal = data.credits
    movements: list[Movement] = []
    for block in blocks:
        if not block.admits(unit=data.unit, product=data.product, at=event.occurred_at):
            continue
        credits = min(block.left, need)
        movements.append(
            Movement(
                kind="consumption",
                block=block.block_id,
                credits=credits,
                amount=block.amount_for(credits),
                on=dates.on(block.gained_on),
            )
        )
        need -= credits
        if not need:
            return _decision(context, movements)
    movements.append(_overage(wallet, event, context, dates, need))
    return _decision(context, movements)


def _overage(wallet: Wallet, event: Event, context: Context, dates: _Dates, missing: Decimal) -> Movement:
    """What the credits do not cover: refused or priced, as the event or else the ledger says."""
    data = event.data
    setting = data.on_shortfall or context.state.on_shortfall
    if setting == "reject":
        available = data.credits - missing
        raise errors.InsufficientCredits(
            f"{format_credits(data.credits)} {data.unit} asked, {format_credits(available)} available",
            field="data.credits",
            expected=f"at most {format_credits(available)}",
            found=format_credits(data.credits),
            available=format_credits(available),
            missing=format_credits(missing),
        )
    if data.overage_price is None:
        raise errors.OveragePriceMissing(
            f"{format_credits(missing)} {data.unit} exceed the credits, and the event names no price for them",
            field="data.overage_price",
            expected="the price of one credit",
            missing=format_credits(missing),
        )
    _functional(context, data.currency)
    amount, _ = price_overage(wallet, missing, data.overage_price, data.currency)
    if amount > MAX_MINOR:
        raise errors.InvalidValue(
            "the overage is too large an amount", field="data.overage_price", expected="a smaller price"
        )
    return Movement(kind="overage", credits=missing, amount=amount, on=dates.on(), backfill=setting == "backfill")


def _reverse(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
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
    correction = wallet.correction(original.position)
    draws = original.decision.movements
    remaining = sum((d.credits - correction.of(d.block)[0] for d in draws), ZERO)
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
        restored, restored_minor = correction.of(draw.block)
        credits = min(draw.credits - restored, wanted)
        if credits <= 0:
            continue
        wanted -= credits
        given_back = share(draw.amount, restored + credits, draw.credits) - restored_minor
        mirror = _mirror_overage if draw.kind == "overage" else _mirror_draw
        movements += mirror(wallet, draw, credits, given_back, original, event, context, dates)
    return _decision(context, movements, original=original.position)


def _mirror_overage(
    wallet: Wallet, draw: Movement, credits: Decimal, given_back: int, original: Original, _event: Event,
    context: Context, dates: _Dates,
) -> list[Movement]:  # fmt: skip
    overage = wallet.overage(original.position)
    if overage is None:
        raise errors.IntegrityFault(f"the overage of position {original.position} has no state")
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
            amount=-amount,
            on=dates.on(draw.on),
            overage=original.position,
            product=original.event.data.product,
            policy=_other(original.decision.policy, context.state.policy),
        )
    ]


def _mirror_draw(
    wallet: Wallet, draw: Movement, credits: Decimal, given_back: int, original: Original, event: Event,
    context: Context, dates: _Dates,
) -> list[Movement]:  # fmt: skip
    block = wallet.block(draw.block or "")
    if block is None:
        raise errors.IntegrityFault(f"block {draw.block} was drawn and has no state")
    on = dates.on(block.gained_on, draw.on)
    movements = [
        Movement(
            kind="consumption",
            block=draw.block,
            credits=-credits,
            amount=-given_back,
            on=on,
            product=original.event.data.product,
            policy=_other(original.decision.policy, context.state.policy),
        )
    ]
    passed = block.expires_at is not None and block.expires_at <= event.occurred_at
    if block.expired or passed:  # it expired meanwhile: what comes back is breakage at once
        movements.append(Movement(kind="breakage", block=draw.block, credits=credits, amount=given_back, on=on))
    return movements


def _other(policy: int, current: int) -> int | None:
    return policy if policy != current else None


# --- the end of a block -------------------------------------------------------------------------------------


def _expire(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    block = _own_block(wallet, event.data.block_id, context)
    if block.expires_at != event.occurred_at:
        expires = "never" if block.expires_at is None else format_time(block.expires_at)
        raise errors.NotYetExpired(
            f"block {block.block_id} expires {expires}",
            field="time",
            expected=expires,
            found=format_time(event.occurred_at),
        )
    _has_credits_left(block)
    return _decision(
        context,
        [
            Movement(
                kind="breakage",
                block=block.block_id,
                credits=block.left,
                amount=block.carrying_minor,
                on=dates.on(block.gained_on),
            )
        ],
    )


def _has_credits_left(block: Block) -> None:
    if not block.left:
        raise errors.NoCreditsLeft(
            f"block {block.block_id} has no credits left",
            field="data.block_id",
            expected="a block with credits left",
            found=block.block_id,
        )


def _void(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    """What is left is cancelled with its tax pro rata; the open receivable is taken first, the rest is owed back."""
    block = _own_block(wallet, event.data.block_id, context)
    if block.credit_kind not in (PAID, PROMOTIONAL):
        raise errors.NotAPurchase(
            f"block {block.block_id} was granted for {block.credit_kind}, not bought",
            field="data.block_id",
            expected="a bought block",
            found=block.credit_kind,
        )
    _has_credits_left(block)
    on = dates.on(block.gained_on)
    value = block.carrying_minor
    # Cumulative like every division: usage taken back later comes to a cancelled block and is cancelled in turn.
    cancelled = block.voided_minor + value
    tax = round_half_up(block.tax_minor * cancelled, block.price_minor) - block.tax_reversed_minor if value else 0
    unpaid = min(value, block.receivable_minor)
    tax_unpaid = min(tax, block.receivable_minor - unpaid)
    movements: list[Movement] = []
    credits = block.left
    for kind, amount in (("void_unpaid", unpaid), ("void_paid", value - unpaid)):
        if amount or (kind == "void_unpaid" and not value):
            movements.append(Movement(kind=kind, block=block.block_id, credits=credits, amount=amount, on=on))
            credits = ZERO  # the credits go once, with the first of the two
    for kind, amount in (("tax_reversed_unpaid", tax_unpaid), ("tax_reversed_paid", tax - tax_unpaid)):
        if amount:
            movements.append(Movement(kind=kind, block=block.block_id, amount=amount, on=on))
    return _decision(context, movements)


def _change_expiry(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    block = _own_block(wallet, event.data.block_id, context)
    expires_at = event.data.expires_at
    if expires_at is not None and expires_at <= block.starts_at:
        raise errors.InvalidValue(
            "data.expires_at is not after the block's start",
            field="data.expires_at",
            expected=f"later than {format_time(block.starts_at)}",
            found=format_time(expires_at),
        )
    on = dates.on(block.gained_on)
    movements = [Movement(kind="expiry_changed", block=block.block_id, on=on)]
    if block.broken and (expires_at is None or expires_at > event.occurred_at):
        movements.append(
            Movement(
                kind="reinstatement",
                block=block.block_id,
                credits=block.broken,
                amount=block.broken_minor,
                on=dates.on(block.gained_on, block.broken_on),
            )
        )
    return _decision(context, movements)


# --- money --------------------------------------------------------------------------------------------------


def _payment(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:
    """A payment relieves the receivable of its block, or of its invoice's blocks in order; the rest is unapplied."""
    data = event.data
    blocks: tuple[Block, ...] = ()
    if data.block_id is not None:
        blocks = (_own_block(wallet, data.block_id, context),)
        if data.invoice_id is not None and blocks[0].invoice_id != data.invoice_id:
            raise errors.UnknownInvoice(
                f"block {data.block_id} is not on invoice {data.invoice_id}",
                field="data.invoice_id",
                expected=str(blocks[0].invoice_id),
                found=data.invoice_id,
            )
    elif data.invoice_id is not None:
        blocks = tuple(
            sorted(
                (block for block in wallet.blocks if block.invoice_id == data.invoice_id),
                key=lambda block: block.opened_at_position,
            )
        )
        if not blocks:
            raise errors.UnknownInvoice(
                f"no credit block of {wallet.customer} was bought on invoice {data.invoice_id}",
                field="data.invoice_id",
                expected="the invoice of a purchase",
                found=data.invoice_id,
            )
    if blocks and blocks[0].currency != data.currency:
        raise errors.WrongCurrency(
            f"the receivable is in {blocks[0].currency}",
            field="data.currency",
            expected=blocks[0].currency,
            found=data.currency,
        )
    _functional(context, data.currency)
    way = "processor" if data.processor is not None else "cash"
    left = data.minor("amount", data.currency)
    movements: list[Movement] = []
    for block in blocks:
        amount = min(left, block.receivable_minor)
        if amount > 0:
            movements.append(
                Movement(kind=f"payment_{way}", block=block.block_id, amount=amount, on=dates.on(block.gained_on))
            )
            left -= amount
    if left:
        movements.append(Movement(kind=f"unapplied_{way}", amount=left, on=dates.on()))
    fee = data.minor("fee", data.currency) if data.fee is not None else 0
    if fee:
        movements.append(Movement(kind="processing_fee", amount=fee, on=dates.on()))
    return _decision(context, movements)


def _nothing(wallet: Wallet, event: Event, context: Context, dates: _Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """Events of the ledger itself move no credits and no money."""
    return _decision(context, [])


_Decide = Callable[[Wallet, Event, Context, _Dates], Decision]
_DECIDE: Final[dict[str, _Decide]] = {
    "credits.purchased": _purchase,
    "credits.granted": _grant,
    "credits.consumed": _consume,
    "credits.expired": _expire,
    "consumption.reversed": _reverse,
    "purchase.voided": _void,
    "block.expiry_changed": _change_expiry,
    "payment.received": _payment,
    "ledger.configured": _nothing,
    "policy.adopted": _nothing,
    "mapping.adopted": _nothing,
    "period.closed": _nothing,
    "period.reopened": _nothing,
    "period.cut": _nothing,
}


def blocks_named(event: Event) -> tuple[str, ...]:
    """The block ids an event names itself, for the writer to look up."""
    data: Any = event.data
    block_id = getattr(data, "block_id", None)
    return (block_id,) if block_id is not None else ()
