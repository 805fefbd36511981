"""Measuring the effect of an event of any type from its decision.

The movements of a decision show the gains and payments of each customer, and the entry kind classifies a movement. So
later event types are measured without a change here, and a gift counts as a gift in any event. Usage is measured only
if it is beyond the credits and has no price. Other usage pays for a service with credits.

Owns: the measures. Does not own: the gains and payments of a customer (gains), the effects that need a second person
(second_person). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Final

import msgspec

from subledger.accounting_dates import accounting_date
from subledger.blocks import ZERO, Block
from subledger.books import Books
from subledger.deciding.gains import Gains, carrying, effect_of_usage, functional_amount, major
from subledger.event_effect import EventEffect
from subledger.events.data import (
    BlockRepriced,
    BreakageEstimated,
    ConsumptionReversed,
    CreditsConsumed,
    CreditsExpired,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    EventReversed,
)
from subledger.events.envelope import Event
from subledger.events.own_data import CreditsSwept, LedgerConfigured
from subledger.kinds import KIND_BY_NAME, Effect, Kind, Result
from subledger.ledger import LedgerState
from subledger.money import exponent, plain
from subledger.pooling import estimated_cohorts, with_estimate, without_estimate
from subledger.pools import Cohort
from subledger.wallet import Decision, Movement, Wallet

_PAID_OUT: Final = frozenset({"cash", "processor_clearing"})
"""Roles of money at banks and processors."""
_SALES: Final = frozenset({"purchased", "granted", "repriced"})
_TAKEN_BACK: Final = frozenset({"voided", "refunded"})
"""Columns of a block: sales and gifts; and the part of them that is taken back."""
_BY_USE: Final = (None, "consumed", "expired", "transferred")
"""Columns that change without a cancelled sale or a given-up debt."""
_CONCEDING: Final = (Effect.CONCEDES, Effect.REVERSES_TAX, Effect.TAKES_TAX)
_REFUNDS, _STATES = "refunds_payable", "unclaimed_property"
_BY_THE_TERMS: Final = (CreditsExpired, CreditsSwept)
"""Events by which credits go to a state because they have expired: by their terms, not by a person's decision.
"""


_DISPUTES: Final = (DisputeOpened, DisputeWon, DisputeLost)
"""Events that call transferred credits back and return them, which gives nothing to anybody."""


class _Measures(msgspec.Struct):
    """The measures of an event that are sums of its movements, in minor units of the functional currency."""

    refunds: int = 0
    to_states: int = 0
    paid_to_states: int = 0
    advanced: int = 0
    written_off: int = 0
    cancels: bool = False

    def add(self, event: Event, movement: Movement, kind: Kind) -> None:
        """Adds a movement."""
        functional = functional_amount(movement)
        if _advances(event, kind):
            self.advanced += functional
        if kind.credit_role == "refunds_payable":
            self.refunds += functional
        elif kind.debit_role == "refunds_payable" and kind.credit_role not in _PAID_OUT:
            self.refunds -= functional
        if kind.credit_role == "unclaimed_property" and not isinstance(event.data, _BY_THE_TERMS):
            self.to_states += functional
            self.cancels = self.cancels or movement.credits > 0
        elif kind.debit_role == "unclaimed_property" and kind.credit_role in _PAID_OUT:
            self.paid_to_states += functional
        if kind.effect is Effect.PAYS_ELSEWHERE and functional < 0:
            self.refunds -= functional
        if kind.gives_up and kind.credit_role == "accounts_receivable":
            self.written_off += functional
        self.cancels = self.cancels or _cancels(movement, kind)

    def add_mirror(self, decision: Decision, movement: Movement, kind: Kind) -> None:
        """Adds a movement that undoes another one. Gifts, payments and cancellations count in both directions."""
        functional = functional_amount(movement)
        self.refunds += functional * ((kind.credit_role == _REFUNDS) - (kind.debit_role == _REFUNDS))
        self.to_states += functional * ((kind.credit_role == _STATES) - (kind.debit_role == _STATES))
        if kind.result is Result.REVENUE and (kind.name != "breakage_estimate" or decision.restored_estimate):
            self.advanced += functional if kind.sign <= 0 else -functional
        self.cancels = self.cancels or kind.column not in _BY_USE or kind.effect in _CONCEDING


def effect_of(
    event: Event,
    decision: Decision,
    *,
    before: Mapping[str, Wallet],
    after: Mapping[str, Wallet],
    books: Books,
    state: LedgerState,
    now: datetime,
) -> EventEffect:
    """Measures the effect of an event.

    ``before``, ``after``: the wallets of its customers before and after it. ``books``: the books before it. ``now``:
    the moment of recording.
    """
    if isinstance(event.data, CreditsConsumed):
        return effect_of_usage(event.data, decision.movements, state)
    if isinstance(event.data, LedgerConfigured):
        return EventEffect(changed_settings=_changed_settings(state, event.data))
    gained = {customer: Gains() for customer in after}
    sums = _Measures()
    for movement in decision.movements:
        kind = KIND_BY_NAME[movement.kind]
        if kind.is_exchange:
            continue
        customer = movement.customer or event.customer
        if customer is not None and not _leaves_gains(event, kind):
            gained[customer].add(movement, kind, before[customer], after[customer], state)
        if isinstance(event.data, EventReversed):
            sums.add_mirror(decision, movement, kind)
        else:
            sums.add(event, movement, kind)
    changes = [change for change in _moved_expiries(event, decision, before, after, state, now) if change is not None]
    scale = exponent(state.functional_currency)
    credits = sum((mine.free_credits(event, state) for mine in gained.values()), ZERO)
    if isinstance(event.data, EventReversed):
        sums.to_states = abs(sums.to_states)
        credits = sum((max(sum(mine.credits.values(), ZERO), ZERO) for mine in gained.values()), ZERO)
    value = sum((mine.free_value(event, state) for mine in gained.values()), ZERO)
    advanced = max(sums.advanced, _expected_breakage_added(event, decision, books, state), 0)
    back = max(sums.refunds, 0) + max(sums.to_states, 0) + sums.paid_to_states
    owed_back = sums.refunds > 0 or sums.to_states > 0
    return EventEffect(
        credits_given=_stored(credits + sum((change.credits for change in changes), ZERO)),
        value_given=_stored(value + sum((change.value for change in changes), ZERO)),
        money_back=_stored(major(back, scale)),
        revenue_advanced=_stored(major(advanced, scale) + sum((change.advanced for change in changes), ZERO)),
        written_off=_stored(major(max(sums.written_off, 0), scale)),
        cancels=sums.cancels or owed_back or any(change.shortens for change in changes),
    )


def _leaves_gains(event: Event, kind: Kind) -> bool:
    """True for transferred credits that a dispute calls back, and for reversed usage whose credits go to a state.

    The state holds these credits for the customer, so they still count as given.
    """
    if isinstance(event.data, ConsumptionReversed):
        return kind.credit_role == _STATES
    return kind.column == "transferred" and isinstance(event.data, _DISPUTES)


def _expected_breakage_added(event: Event, decision: Decision, books: Books, state: LedgerState) -> int:
    """The breakage that an estimate, or undoing one, adds to the lifetime breakage of its cohorts; functional.

    The catch-up alone would be zero as long as nothing is redeemed. Then the estimate would advance revenue with each
    later redemption, without being measured.
    """
    data, pools, restored = event.data, books.pools, decision.restored_estimate
    if isinstance(data, BreakageEstimated):
        on = accounting_date(state.effective_date_of(event), state.closed_through)
        pools = with_estimate(pools, data, decision.grouping, on)
        pool, names = data.pool, estimated_cohorts(pools, data)
    elif restored is not None:
        pools, pool = without_estimate(pools, restored), restored.pool
        names = tuple(sorted(pools.cohorts.get(pool, {})))
    else:
        return 0
    before = books.pools.cohorts.get(pool, {})
    added = Fraction(0)
    for name in names:
        new, old = pools.cohort((pool, name)), before.get(name)
        if not new.issued_minor:
            continue
        more = _expected_breakage(new) - (Fraction(0) if old is None else _expected_breakage(old))
        added += more * new.issued_functional / new.issued_minor if new.issued_functional else more
    return ceil(added)


def _expected_breakage(cohort: Cohort) -> Fraction:
    expected = cohort.expected()
    return Fraction(expected.breakage, expected.per)


def _stored(measure: Decimal) -> Decimal:
    """A measure as it is stored: in plain digits. Zero is the object ZERO, which the encoding omits."""
    return plain(measure) if measure else ZERO


def _changed_settings(state: LedgerState, data: LedgerConfigured) -> tuple[str, ...]:
    """The settings that change, such as ``approvals.voids: true to false``."""
    others = ("entity", "on_shortfall", "late_usage", "future_tolerance", "rate_max_age_days", "dimensions")
    old: dict[str, object] = {name: getattr(state, name) for name in others}
    new: dict[str, object] = {name: getattr(data, name) for name in others}
    new["dimensions"] = state.dimensions_with(data.dimensions)
    for settings, approvals in ((old, state.approvals), (new, data.approvals)):
        settings |= {f"approvals.{name}": value for name, value in approvals.model_dump(mode="json").items()}
    return tuple(f"{name}: {_word(old[name])} to {_word(new[name])}" for name in new if new[name] != old[name])


def _word(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={price}" for name, price in sorted(value.items())) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def _advances(event: Event, kind: Kind) -> bool:
    """True for revenue without usage: the retained part of a refund, and the catch-up of a new estimate.

    Also True for the price that a repricing of an earlier day adds to credits that are already used.
    """
    if isinstance(event.data, BlockRepriced):
        return kind.column == "consumed"
    if kind.name == "breakage_estimate":
        return isinstance(event.data, BreakageEstimated)
    return kind.column == "refunded" and bool(kind.recognised)


def _cancels(movement: Movement, kind: Kind) -> bool:
    """True if a movement takes back a sale or a part of its price. Write-offs and disputes do not count here."""
    if kind.column in _SALES:
        return movement.amount_minor < 0 or movement.credits < 0
    if movement.amount_minor < 0 or movement.credits < 0 or kind.gives_up:
        return False
    return kind.column in _TAKEN_BACK or kind.effect in (Effect.CONCEDES, Effect.REVERSES_TAX)


# --- expiries -------------------------------------------------------------------------------------------------


class _MovedExpiry(msgspec.Struct, frozen=True):
    """The effect of a changed expiry: restored credits, or revenue that is recognised earlier."""

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
    """The effect of a moved expiry. Reversed breakage is not included, because it is counted as a movement."""
    if old is None or new is None or old.expires_at == new.expires_at:
        return None
    scale = exponent(state.functional_currency)
    if new.expires_at is not None and (old.expires_at is None or new.expires_at < old.expires_at):
        to_a_state = new.escheat_class is not None or "escheated" in new.disposed
        value = ZERO if to_a_state else major(carrying(new, state), scale)
        return _MovedExpiry(advanced=value, shortens=new.remaining > 0)
    if old.expires_at is not None and old.expires_at <= now:  # expired, but the expiry is not recorded yet
        return _MovedExpiry(credits=old.remaining, value=major(carrying(old, state), scale))
    return None
