"""Events that need a second person: if a person decides, the one who asks is not the one who allows.

Owns: which events those are, by the ledger's settings, and the gift in an event. Does not own: requests that wait, and
earlier gifts (store), who somebody is (api).
Preparer and approver differ on estimates, voids, write-offs, large grants, changed expiries and reopening, where the
ledger asks for it (COSO principle 10, segregation of duties). An event that does the same under another name needs the
same: a purchase or a repricing that gives credits away is a grant; a refund, a memo and a repricing downwards take back
what was sold, as a void does.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final

import msgspec

from subledger.errors import IntegrityFault
from subledger.events.data import (
    BlockExpiryChanged,
    BlockRepriced,
    BreakageEstimated,
    CreditMemoIssued,
    CreditsConsumed,
    CreditsGranted,
    CreditsPurchased,
    CreditsRefunded,
    PurchaseVoided,
    ReceivableWrittenOff,
)
from subledger.events.envelope import Event
from subledger.events.fields import EventData
from subledger.events.own_data import Approvals, PeriodReopened
from subledger.kinds import KINDS
from subledger.ledger import LedgerState
from subledger.money import exponent
from subledger.wallet import Decision, Wallet

BREAKAGE_ESTIMATE, WRITE_OFF, VOID = "breakage_estimate", "write_off", "void"
GRANT, REOPENING, EXPIRY_CHANGE = "grant", "reopening", "expiry_change"

GIVING_TYPES: Final = ("block.repriced", "credits.granted", "credits.purchased")
"""Events that can give credits away."""
PRICED_KINDS: Final = tuple(kind.name for kind in KINDS if kind.column in ("purchased", "granted", "repriced"))
"""Entry kinds with the price of what such an event sells, or the value of what it grants."""
_NOTHING: Final = Decimal(0)
_EXACT: Final = Context(prec=100)
"""For sums: what is added and taken away again leaves nothing."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A gift: credits that nothing is paid for, and value in the functional currency."""

    credits: Decimal = _NOTHING
    value: Decimal = _NOTHING

    def __add__(self, other: Given) -> Given:
        return Given(credits=_EXACT.add(self.credits, other.credits), value=_EXACT.add(self.value, other.value))

    def __sub__(self, other: Given) -> Given:
        return Given(
            credits=_EXACT.subtract(self.credits, other.credits), value=_EXACT.subtract(self.value, other.value)
        )


def needs_second_person(
    event: Event, state: LedgerState, *, given: Given | None = None, before: Given | None = None
) -> str | None:
    """Returns the reason why a second person has to allow an event, or None if nobody has to.

    ``given`` is the gift in the event, ``before`` the sum of its customer's gifts within the time that counts.
    """
    settings, data = state.approvals, event.data
    if type(data) is CreditsConsumed:
        return None  # usage never needs one; asking each class below would cost more than deciding it
    match data:
        case BreakageEstimated() if settings.breakage_estimates:
            return BREAKAGE_ESTIMATE
        case ReceivableWrittenOff() if settings.write_offs:
            return WRITE_OFF
        case PurchaseVoided() | CreditsRefunded() | CreditMemoIssued() if settings.voids:
            return VOID
        case PeriodReopened() if settings.reopening:
            return REOPENING
        case BlockExpiryChanged() if settings.expiry_changes:
            return EXPIRY_CHANGE
        case CreditsGranted() if _has_value_in_another_currency(data, state):
            return GRANT
        case CreditsGranted() | CreditsPurchased() | BlockRepriced() if _is_large(given, before, state):
            return GRANT
        case BlockRepriced() if settings.voids and ((data.add_price or 0) < 0 or (data.add_credits or 0) < 0):
            return VOID
    return None


def given_by(event: Event, decision: Decision, wallet: Wallet, state: LedgerState) -> Given | None:
    """Measures the gift in an event as it was decided; None if its type gives none, or the ledger asks for nobody."""
    if event.type not in GIVING_TYPES or not may_ask(state):
        return None
    priced = (
        m.amount_minor if m.functional_minor is None else m.functional_minor
        for m in decision.movements
        if m.kind in PRICED_KINDS
    )
    unit = ""
    match event.data:
        case CreditsGranted() | CreditsPurchased() as opened:
            unit = opened.unit
        case BlockRepriced() as repriced:
            block = wallet.block(repriced.block_id)
            unit = "" if block is None else block.unit
    return measured(event.data, unit, priced, state)


def measured(data: EventData, unit: str, priced_minor: Iterable[int], state: LedgerState) -> Given:
    """Measures the gift in the data of a giving event.

    ``priced_minor`` are the functional amounts of its entries of the priced kinds: the price, or a grant's value.
    Value is what the credits are sold for by the ledger's price of one (``credit_prices``) less what is paid for them;
    of a grant, what it says itself if that is more. Without a price of the unit, only grants have a value.
    """
    priced = Decimal(sum(priced_minor)).scaleb(-exponent(state.functional_currency))
    price = state.approvals.credit_prices.get(unit)
    free = _NOTHING
    match data:
        case CreditsGranted():
            return Given(credits=data.credits, value=max(priced, data.credits * (price or 0)))
        case CreditsPurchased():
            sold, free = data.credits, data.bonus_credits or _NOTHING
        case BlockRepriced():
            sold = data.add_credits or _NOTHING
        case _:
            raise IntegrityFault(f"{type(data).__name__} gives no credits away, so it has no gift to measure")
    value = _NOTHING if price is None else max((sold + free) * price - priced, _NOTHING)
    if _is_nominal(priced, state.functional_currency):
        free += sold
    return Given(credits=max(free, _NOTHING), value=value)


def _is_nominal(price: Decimal, currency: str) -> bool:
    """True for a price that is none in substance: below a hundred minor units (1.00 USD, 100 JPY).

    In the functional currency: a hundred minor units of a weak currency are less than a cent.
    """
    return price < Decimal(100).scaleb(-exponent(currency))


def _is_large(given: Given | None, before: Given | None, state: LedgerState) -> bool:
    """True if what is given is above a limit, together with what was given before."""
    if given is None:
        return False
    settings, together = state.approvals, given + (before or Given())
    many = settings.grant_credits_above is not None and together.credits > settings.grant_credits_above
    dear = settings.grant_value_above is not None and together.value > settings.grant_value_above
    return (many and given.credits > 0) or (dear and given.value > 0)


def _has_value_in_another_currency(data: CreditsGranted, state: LedgerState) -> bool:
    """True for a grant whose value cannot be compared with the limit."""
    limit = state.approvals.grant_value_above
    return limit is not None and data.value is not None and data.currency != state.functional_currency


def may_ask(state: LedgerState) -> bool:
    """True if the ledger asks for a second person at all."""
    return state.approvals != Approvals()
