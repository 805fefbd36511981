"""Deciding: what an event does, given the customer's wallet and the ledger as they stand.

Owns: ``decide``, what each event type may post, and what purchases, grants and expiry do. Usage is in ``drawing``, what
else becomes of a block in ``ending``, what happens to money in ``settling`` and ``disputing``. Pure: the result depends
on the arguments alone. What is decided is stored with the event and never decided again.

Refusals come in the order of ``errors``: references, currency, amounts, credits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

import msgspec

from subledger import errors
from subledger.billing_documents import Standing
from subledger.blocks import PAID, PROMOTIONAL, ZERO, Block
from subledger.books import Books, apply_to_books, next_estimate, with_estimate
from subledger.deciding import cancellations as ending
from subledger.deciding import disputes as disputing
from subledger.deciding import payments as settling
from subledger.deciding import usage as drawing
from subledger.deciding.context import (
    Context,
    Dates,
    breakage_kind,
    decision,
    has_credits_left,
    new_block_id,
    not_too_many,
    own_block,
    same_currency,
    starts_before_it_expires,
)
from subledger.deciding.currencies import StandingKey, measure, remeasure
from subledger.events.envelope import Event, format_time
from subledger.kinds import LEDGER_ROLES, REMEASUREMENTS, SETTLEMENTS
from subledger.money import MAX_MINOR
from subledger.wallet import Decision, Movement, Wallet

_BOUND: Final = 10 * MAX_MINOR


def decide(wallet: Wallet, event: Event, context: Context) -> Decision:
    """Decides what to record for ``event``. Pure: an error leaves everything as it was.

    Raises Refused; InvalidInput for a value that only the books show to be outside what is allowed: too many decimals
    for the block's currency, an expiry before its start, an amount beyond all business in the functional currency;
    IntegrityFault if the books contradict themselves.
    """
    state = context.state
    dates = Dates.of(event, state)
    draft = _DECIDE[event.type](wallet, event, context, dates)
    movements, changed, foreign, pooled = [], False, False, event.type == "breakage.estimated"
    for drafted in draft.movements:
        movement = _complete(drafted, wallet, event, context)
        changed = changed or movement is not drafted
        foreign = foreign or movement.currency is not None
        pooled = pooled or movement.pool is not None
        movements.append(movement)
    if changed:
        draft = msgspec.structs.replace(draft, movements=tuple(movements))
    if foreign:
        draft = measure(
            wallet, context.books, event, draft,
            effective=dates.effective, functional_currency=state.functional_currency,
        )  # fmt: skip
    _within_bounds(draft)
    return _with_pools(draft, event, context, dates) if pooled else draft


def _within_bounds(draft: Decision) -> None:
    """Raises InvalidValue if an amount, in either currency, is beyond all business: sums of it might not be kept."""
    for movement in draft.movements:
        if not -_BOUND <= movement.amount_minor <= _BOUND or abs(movement.functional_minor or 0) > _BOUND:
            raise errors.InvalidValue(
                f"{movement.kind} would be too large an amount",
                field="data" if movement.functional_minor is None else "data.currency",
                expected=f"at most {_BOUND} minor units, in the functional currency too",
                found=str(movement.functional_minor or movement.amount_minor),
            )


def _complete(movement: Movement, wallet: Wallet, event: Event, context: Context) -> Movement:
    """A movement with the pool of its block, and its currency where that is not the functional one."""
    currency, pool, data = movement.currency, movement.pool, event.data
    if movement.block_id is not None:
        block = wallet.block(movement.block_id)
        if block is not None:
            currency, pool = block.currency, block.pool
        elif movement.pool is None and movement.customer is None:
            currency, pool = data.currency, getattr(data, "pool", None)  # a new block
    if currency == context.state.functional_currency:
        currency = None
    if currency == movement.currency and pool == movement.pool:
        return movement
    return msgspec.structs.replace(movement, pool=pool, currency=currency)


def _with_pools(draft: Decision, event: Event, context: Context, dates: Dates) -> Decision:
    """A decision with what its movements make due of the breakage of their pools."""
    books, home = context.books, context.state.functional_currency
    touched = {m.pool: m.accounting_date for m in draft.movements if m.pool is not None}
    if event.type == "breakage.estimated":
        touched[event.data.pool] = dates.on()
        books = _estimated(books, event)
    for movement in draft.movements:
        if movement.pool is not None:
            touched[movement.pool] = max(touched[movement.pool], movement.accounting_date)
            books = apply_to_books(books, movement, home)
    estimates = []
    for name, on in touched.items():
        pool = books.pools[name]
        amount = pool.due_minor() - pool.recognised_minor
        foreign = pool.currency != home
        functional = pool.due_functional() - pool.recognised_functional if foreign else None
        # An average rate that moves may turn the functional side: an entry has one direction, so it takes two.
        turned = functional is not None and amount * functional < 0
        parts = ((amount, 0), (0, functional)) if turned else ((amount, functional),)
        estimates += [
            Movement(
                kind="breakage_estimate",
                accounting_date=on,
                amount_minor=part,
                pool=name,
                functional_minor=part_functional,
                currency=pool.currency if foreign else None,
            )
            for part, part_functional in parts
            if part or part_functional
        ]
    return msgspec.structs.replace(draft, movements=draft.movements + tuple(estimates))


def _estimated(books: Books, event: Event) -> Books:
    """The books with a pool's new estimate. Raises WrongCurrency, EstimateTooHigh."""
    data = event.data
    held = books.pools.get(data.pool)
    if held is not None:
        same_currency(data.currency, held.currency, f"pool {data.pool}")
    pool = with_estimate(held, data)
    rates = [rate for rate in (data.expected_breakage_rate, data.expected_escheat_rate) if rate is not None]
    breakage, escheat = next_estimate(pool, data).of(pool.issued_minor)
    amounts = data.expected_breakage is not None or data.expected_escheat is not None
    escheat = max(escheat, Fraction(pool.escheated_minor))
    if sum(rates) >= 1 or (amounts and breakage + escheat >= pool.issued_minor):
        raise errors.EstimateTooHigh(
            f"the expected breakage and escheat leave nothing of pool {data.pool} to be redeemed",
            field="data.expected_breakage" if data.expected_breakage is not None else "data.expected_breakage_rate",
            expected="together less than what is issued",
            found=str(data.expected_breakage or data.expected_breakage_rate),
        )
    return msgspec.structs.replace(books, pools={**books.pools, data.pool: pool})


# --- purchases and grants -----------------------------------------------------------------------------------


def _purchase(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
    data = event.data
    starts_before_it_expires(event)
    new_block_id(context, data.block_id)
    _in_the_pools_currency(data, context)
    on = dates.on()
    price = data.minor("price", data.currency)
    tax = data.minor("tax", data.currency) if data.tax is not None else 0
    credits = data.credits + (data.bonus_credits or ZERO)
    not_too_many(credits, "data.bonus_credits")
    movements = [
        Movement(kind="purchase", block_id=data.block_id, credits=credits, amount_minor=price, accounting_date=on)
    ]
    if tax:
        movements.append(Movement(kind="purchase_tax", block_id=data.block_id, amount_minor=tax, accounting_date=on))
    block = Block(
        block_id=data.block_id, credit_kind=PAID, unit=data.unit, credits=credits, price_minor=price,
        currency=data.currency, starts_at=data.starts_at or event.occurred_at,
        scope=None if data.scope is None else tuple(data.scope), opened_at_position=0, last_gain_date=on,
    )  # fmt: skip
    return decision(context, movements + _backfill(wallet, block, dates))


def _in_the_pools_currency(data: Any, context: Context) -> None:
    pool = context.books.pools.get(data.pool) if data.pool is not None else None
    if pool is not None:
        same_currency(data.currency, pool.currency, f"pool {data.pool}")


def _backfill(wallet: Wallet, block: Block, dates: Dates) -> list[Movement]:
    """A new block pays first what is still unbilled of earlier usage, oldest first, at the overage's own price."""
    movements: list[Movement] = []
    for overage in wallet.overages:
        if not (
            overage.backfill
            and overage.open > 0
            and overage.unit == block.unit
            and overage.currency == block.currency
            and (block.scope is None or overage.product in block.scope)
            and block.remaining > 0
        ):
            continue
        credits = min(block.remaining, overage.open)
        owed, basis = overage.settle_amount(credits), block.amount_for(credits)
        on = dates.on(block.last_gain_date, overage.accounting_date)
        place: dict[str, Any] = {
            "block_id": block.block_id, "overage_position": overage.position, "product": overage.product,
            "accounting_date": on,
        }  # fmt: skip
        movements.append(Movement(kind="overage_backfilled", credits=credits, amount_minor=owed, **place))
        if basis != owed:
            movements.append(Movement(kind="backfill_difference", amount_minor=basis - owed, **place))
        block = msgspec.structs.replace(block, used=block.used + credits, drawn_minor=block.drawn_minor + basis)
    return movements


_GRANTED: Final = {PROMOTIONAL: "promotional_grant", "goodwill": "goodwill", "allocation": "allocation"}
"""The kind of a grant, by its reason."""


def _grant(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    data = event.data
    starts_before_it_expires(event)
    new_block_id(context, data.block_id)
    value = 0
    if data.reason != PROMOTIONAL:
        value = data.minor("value", data.currency)
    kind = _GRANTED[data.reason]
    return decision(
        context,
        [
            Movement(
                kind=kind, block_id=data.block_id, credits=data.credits, amount_minor=value, accounting_date=dates.on()
            )
        ],
    )


# --- expiry -------------------------------------------------------------------------------------------------


def _expire(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:
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
    return decision(
        context,
        [
            Movement(
                kind=breakage_kind(block),
                block_id=block.block_id,
                credits=block.remaining,
                amount_minor=block.carrying_minor,
                accounting_date=dates.on(block.last_gain_date),
            )
        ],
    )


# --- the ledger itself --------------------------------------------------------------------------------------


def _set_rate(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    home = context.state.functional_currency
    if event.data.quote != home:
        raise errors.WrongCurrency(
            f"rates are quoted in {home}", field="data.quote", expected=home, found=event.data.quote
        )
    return decision(context, [])


def _remeasure(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """What stands in other currencies at a period's end, of one customer or of the ledger itself."""

    def now(key: StandingKey) -> Standing:
        role, currency, place = key
        if role in LEDGER_ROLES:
            return context.books.standing(role, currency, place)
        block = wallet.block(place)
        if role == "prepaid_liability" and block is not None:
            return Standing(-block.carrying_minor, -block.carrying_functional)
        return wallet.standing(role, currency, place)

    standing = {key: position for key, position in context.standing.items() if _is_monetary(key, wallet)}
    movements = remeasure(
        standing, now, context.books, on=dates.on(), following=dates.on(dates.effective + timedelta(days=1)),
        functional_currency=context.state.functional_currency,
    )  # fmt: skip
    return decision(context, movements)


def _is_monetary(key: StandingKey, wallet: Wallet) -> bool:
    """Whether a position is money owed or held; a liability only where its block is refundable."""
    block = wallet.block(key[2])
    return key[0] != "prepaid_liability" or (block is not None and block.refundable)


def _nothing(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """Events of the ledger itself move no credits and no money."""
    return decision(context, [])


_Decide = Callable[[Wallet, Event, Context, Dates], Decision]
_DECIDE: Final[dict[str, _Decide]] = {
    "credits.purchased": _purchase,
    "credits.granted": _grant,
    "credits.consumed": drawing.consume,
    "credits.expired": _expire,
    "consumption.reversed": drawing.reverse,
    "purchase.voided": ending.void,
    "credits.refunded": ending.refund,
    "block.expiry_changed": ending.change_expiry,
    "block.repriced": ending.reprice,
    "credits.transferred": ending.transfer,
    "credits.escheated": ending.escheat,
    "escheat.reclaimed": ending.reclaim_escheat,
    "escheat.remitted": ending.remit_escheat,
    "payment.received": settling.receive,
    "payment.applied": settling.apply,
    "payment.refunded": settling.pay_back,
    "payout.settled": settling.pay_out,
    "overage.billed": settling.bill_overage,
    "credit_memo.issued": settling.issue_memo,
    "receivable.written_off": disputing.write_off,
    "dispute.opened": disputing.open_dispute,
    "dispute.won": disputing.win_dispute,
    "dispute.lost": disputing.lose_dispute,
    "exchange_rate.set": _set_rate,
    "breakage.estimated": _nothing,
    "balances.remeasured": _remeasure,
    "ledger.configured": _nothing,
    "clock.set": _nothing,
    "policy.adopted": _nothing,
    "mapping.adopted": _nothing,
    "period.closed": _nothing,
    "period.reopened": _nothing,
    "period.cut": _nothing,
}

POSTS: Final[dict[str, tuple[str, ...]]] = {
    "credits.purchased": ("purchase", "purchase_tax", "overage_backfilled", "backfill_difference"),
    "credits.granted": ("promotional_grant", "goodwill", "allocation"),
    "credits.consumed": ("breakage", "pooled_breakage", "consumption", "overage"),
    "credits.expired": ("breakage", "pooled_breakage", "escheat"),
    "consumption.reversed": ("overage", "consumption", "breakage", "pooled_breakage", "escheat"),
    "purchase.voided": ("void_unpaid", "void_paid", "tax_reversed_unpaid", "tax_reversed_paid"),
    "credits.refunded": ("refund", "refund_retained", "tax_reversed_paid"),
    "block.expiry_changed": ("expiry_changed", "reinstatement", "pooled_breakage"),
    "block.repriced": ("repricing",),
    "credits.transferred": ("transfer_out", "transfer_in"),
    "payment.received": (
        "payment_processor", "payment_cash", "unapplied_processor", "unapplied_cash", "processing_fee",
    ),
    "payment.applied": ("payment_applied",),
    "payment.refunded": ("balance_refunded", "refund_paid_processor", "refund_paid_cash"),
    "payout.settled": ("payout",),
    "overage.billed": ("overage_billed", "overage_tax"),
    "credit_memo.issued": ("memo_unpaid", "memo_paid", "tax_reversed_unpaid", "tax_reversed_paid"),
    "receivable.written_off": ("write_off_unused", "write_off_used", "write_off_tax", "write_off_tax_borne"),
    "dispute.opened": ("dispute_opened", "dispute_fee"),
    "dispute.won": (
        "dispute_lost_unused", "dispute_lost_used", "dispute_lost_tax", "dispute_won", "dispute_fee",
    ),
    "dispute.lost": (
        "dispute_lost_unused", "dispute_lost_used", "dispute_lost_tax", "dispute_won", "dispute_fee",
    ),
    "credits.escheated": ("escheat",),
    "escheat.reclaimed": ("escheat_reclaimed",),
    "escheat.remitted": ("escheat_remitted",),
    "breakage.estimated": (),
    "exchange_rate.set": (),
    "balances.remeasured": (*REMEASUREMENTS, *SETTLEMENTS),
}  # fmt: skip
"""The entry kinds that each event may post, in order. Any event may be followed by what its movements make due:
``fx_settlement_…`` of money in another currency, ``breakage_estimate`` of a pool. Other events post nothing."""
