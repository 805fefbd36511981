"""Measuring the effect of an event from what was decided about it, whatever its type.

The movements of a decision say what each customer gains and pays; entry kinds say what a movement is. So an event type
that is added later is measured without a line here, and a gift is a gift under any name. Nothing is measured of usage:
it takes credits for a service.

Owns: the measures. Does not own: which effects need a second person (second_person). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

import msgspec

from subledger.blocks import ZERO, Block
from subledger.event_effect import EventEffect
from subledger.events.data import BreakageEstimated, CreditsPurchased
from subledger.events.envelope import Event
from subledger.events.own_data import LedgerConfigured
from subledger.kinds import KIND_BY_NAME, Effect, Kind
from subledger.ledger import LedgerState
from subledger.money import exponent, plain
from subledger.wallet import Decision, Movement, Wallet

_OWED: Final = frozenset({"accounts_receivable", "unbilled_receivable", "refunds_payable", "customer_balance"})
"""Roles of what a customer owes, or is owed. Taxes, money at banks and processors, and a state's property are not."""
_MONEY: Final = frozenset({"cash", "processor_clearing"})
_NOMINAL_MINOR: Final = 100
"""A price below this is none in substance: 1.00 USD, 100 JPY. In the functional currency: a hundred minor units of a
weak currency are less than a cent."""
_SALES: Final = frozenset({"purchased", "granted", "repriced"})
_TAKEN_BACK: Final = frozenset({"voided", "refunded"})
"""Columns of a block: what was sold or given, and what of it is taken back."""
_PRECISE: Final = Context(prec=60, rounding=ROUND_DOWN)


class _Gained(msgspec.Struct):
    """The gains of one customer by an event: credits by unit, their value, and what the customer pays for them.

    ``repaid`` are credits of a new block that paid for earlier usage at once: they were gained too.
    """

    credits: dict[str, Decimal] = {}
    repaid: Decimal = ZERO
    value_minor: int = 0
    price_minor: int = 0
    paid_minor: int = 0
    lowered: Decimal = ZERO


def effect_of(
    event: Event,
    decision: Decision,
    *,
    before: Mapping[str, Wallet],
    after: Mapping[str, Wallet],
    state: LedgerState,
    now: datetime,
) -> EventEffect:
    """Measures the effect of an event that is not usage.

    ``before`` and ``after`` are the wallets of its customers before and after it; ``now`` is the moment of recording.
    """
    if isinstance(event.data, LedgerConfigured):
        return EventEffect(changed_settings=_changed_settings(state, event.data))
    gained = {customer: _Gained() for customer in after}
    refunds = advanced = written_off = 0
    cancels = False
    for movement in decision.movements:
        kind = KIND_BY_NAME[movement.kind]
        if kind.is_exchange:
            continue
        functional = _functional(movement)
        customer = movement.customer or event.customer
        if customer is not None:
            _add(gained[customer], movement, kind, before[customer], after[customer], state)
        if _advances(event, kind):
            advanced += functional
        if kind.credit_role == "refunds_payable":
            refunds += functional
        elif kind.debit_role == "refunds_payable" and kind.credit_role not in _MONEY:
            refunds -= functional
        if kind.gives_up and kind.credit_role == "accounts_receivable":
            written_off += functional
        cancels = cancels or _cancels(movement, kind)
    changes = [change for change in _moved_expiries(event, decision, before, after, state, now) if change is not None]
    scale = exponent(state.functional_currency)
    credits = value = ZERO
    for mine in gained.values():
        credits += _free_credits(mine, event)
        value += _free_value(mine, state, scale)
    return EventEffect(
        credits_given=_stored(credits + sum((change.credits for change in changes), ZERO)),
        value_given=_stored(value + sum((change.value for change in changes), ZERO)),
        money_back=_stored(_major(max(refunds, 0), scale)),
        revenue_advanced=_stored(_major(max(advanced, 0), scale) + sum((change.advanced for change in changes), ZERO)),
        written_off=_stored(_major(max(written_off, 0), scale)),
        cancels=cancels or refunds > 0 or any(change.shortens for change in changes),
    )


def _stored(measure: Decimal) -> Decimal:
    """A measure as it is stored: in plain digits, and nothing is ZERO itself, which is left out."""
    return plain(measure) if measure else ZERO


def _changed_settings(state: LedgerState, data: LedgerConfigured) -> tuple[str, ...]:
    """The settings that change, such as ``approvals.voids: true to false``."""
    others = ("entity", "on_shortfall", "late_usage", "future_tolerance", "rate_max_age_days")
    old: dict[str, object] = {name: getattr(state, name) for name in others}
    new: dict[str, object] = {name: getattr(data, name) for name in others}
    for settings, approvals in ((old, state.approvals), (new, data.approvals)):
        settings |= {f"approvals.{name}": value for name, value in approvals.model_dump(mode="json").items()}
    return tuple(f"{name}: {_word(old[name])} to {_word(new[name])}" for name in new if new[name] != old[name])


def _word(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={price}" for name, price in sorted(value.items())) or "none"
    return "none" if value is None else str(value).lower()


def _functional(movement: Movement) -> int:
    """The functional amount. One that is too small for a minor unit counts as one: many of them are no way round."""
    amount, functional = movement.amount_minor, movement.functional_minor
    if functional is None:
        return amount
    return functional or (amount > 0) - (amount < 0)


def _major(minor: int, scale: int) -> Decimal:
    return Decimal(minor).scaleb(-scale)


def _add(mine: _Gained, movement: Movement, kind: Kind, before: Wallet, after: Wallet, state: LedgerState) -> None:
    """Adds a movement to the gains of its customer."""
    functional = _functional(movement)
    owed = 0
    if kind.debit_role is None or kind.credit_role is None:  # else money only changes its place
        owed = functional * ((kind.debit_role in _OWED) - (kind.credit_role in _OWED))
    mine.paid_minor += owed
    if kind.column is None or movement.block_id is None:
        return
    block = after.block(movement.block_id) or before.state_of_block(movement.block_id)
    mine.credits[block.unit] = mine.credits.get(block.unit, ZERO) + kind.sign * movement.credits
    mine.value_minor += kind.sign * functional
    if kind.column == "consumed":
        mine.repaid += max(movement.credits, ZERO)
    else:
        mine.price_minor += owed
    if kind.column == "repriced" and movement.amount_minor < 0 and (old := before.block(movement.block_id)):
        # The price that credits which are taken off had themselves is no gift.
        off = _PRECISE.multiply(Decimal(_carrying(old, state)), max(-movement.credits, ZERO))
        mine.lowered += -functional - (_PRECISE.divide(off, old.remaining) if old.remaining else off)


def _free_credits(mine: _Gained, event: Event) -> Decimal:
    """Credits that nothing is paid for: all of them at a nominal price, else the bonus of a purchase."""
    credits = sum(mine.credits.values(), mine.repaid)
    if mine.price_minor < _NOMINAL_MINOR:
        return max(credits, ZERO)
    bonus = event.data.bonus_credits if isinstance(event.data, CreditsPurchased) else None
    return bonus or ZERO


def _free_value(mine: _Gained, state: LedgerState, scale: int) -> Decimal:
    """Value that is not paid for: by the prices of credits (``credit_prices``), or by the books if that is more."""
    paid = _major(mine.paid_minor, scale)
    prices = state.approvals.credit_prices
    values = [ZERO, _major(mine.value_minor, scale) - paid, mine.lowered.scaleb(-scale)]
    gained = [(prices[unit], credits) for unit, credits in mine.credits.items() if credits > 0 and unit in prices]
    if gained:
        values.append(sum((price * credits for price, credits in gained), ZERO) - paid)
    return max(values)


def _advances(event: Event, kind: Kind) -> bool:
    """True for revenue without usage: what is kept of a refund, and what a new estimate recognises at once."""
    if kind.name == "breakage_estimate":
        return isinstance(event.data, BreakageEstimated)
    return kind.column == "refunded" and bool(kind.recognised)


def _cancels(movement: Movement, kind: Kind) -> bool:
    """True if a movement takes back a sale, or a part of its price; write-offs and disputes are of their own sort."""
    if kind.column in _SALES:
        return movement.amount_minor < 0 or movement.credits < 0
    if movement.amount_minor < 0 or movement.credits < 0 or kind.gives_up:
        return False
    return kind.column in _TAKEN_BACK or kind.effect in (Effect.CONCEDES, Effect.REVERSES_TAX)


# --- expiries -------------------------------------------------------------------------------------------------


class _MovedExpiry(msgspec.Struct, frozen=True):
    """A changed expiry: what it gives back that had expired, or the revenue that it brings forward."""

    credits: Decimal = ZERO
    value: Decimal = ZERO
    advanced: Decimal = ZERO
    shortens: bool = False


def _moved_expiries(
    event: Event,
    decision: Decision,
    before: Mapping[str, Wallet],
    after: Mapping[str, Wallet],
    state: LedgerState,
    now: datetime,
) -> list[_MovedExpiry | None]:
    named = {movement.block_id: movement.customer or event.customer or "" for movement in decision.movements}
    return [
        _moved_expiry(before[customer].block(block_id), after[customer].block(block_id), state, now)
        for block_id, customer in named.items()
        if block_id is not None and customer in after
    ]


def _moved_expiry(old: Block | None, new: Block | None, state: LedgerState, now: datetime) -> _MovedExpiry | None:
    """The effect of a moved expiry, besides breakage that is taken back: that is a movement, and counted there."""
    if old is None or new is None or old.expires_at == new.expires_at:
        return None
    scale = exponent(state.functional_currency)
    if new.expires_at is not None and (old.expires_at is None or new.expires_at < old.expires_at):
        to_a_state = new.escheat_class is not None or "escheated" in new.disposed
        value = ZERO if to_a_state else _major(_carrying(new, state), scale)
        return _MovedExpiry(advanced=value, shortens=new.remaining > 0)
    if old.expires_at is not None and old.expires_at <= now:  # it has expired, and that is not recorded yet
        return _MovedExpiry(credits=old.remaining, value=_major(_carrying(old, state), scale))
    return None


def _carrying(block: Block, state: LedgerState) -> int:
    return block.carrying_minor if block.currency == state.functional_currency else block.carrying_functional
