"""What needs a second person: where a person decides, the one who asks is not the one who allows.

Owns: which events those are, by the ledger's settings. Does not own: what waits (store), who somebody is (api).
Preparer and approver differ on estimates, voids, write-offs, large grants and reopening, where the ledger asks for it
(COSO principle 10, segregation of duties). An event that does the same under another name needs the same: a purchase or
a repricing that gives credits away is a grant; a refund, a memo and a repricing downwards take back what was sold, as a
void does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from subledger.event_data import BlockRepriced, CreditsGranted, CreditsPurchased
from subledger.events import Event
from subledger.ledger import LedgerState
from subledger.money import exponent

BREAKAGE_ESTIMATE, WRITE_OFF, VOID = "breakage_estimate", "write_off", "void"
GRANT, REOPENING = "grant", "reopening"


def needs_second_person(event: Event, state: LedgerState) -> str | None:
    """What about an event a second person has to allow, or None where nothing."""
    asked, data = state.approvals, event.data
    match event.type:
        case "breakage.estimated" if asked.breakage_estimates:
            return BREAKAGE_ESTIMATE
        case "receivable.written_off" if asked.write_offs:
            return WRITE_OFF
        case "purchase.voided" | "credits.refunded" | "credit_memo.issued" if asked.voids:
            return VOID
        case "period.reopened" if asked.reopening:
            return REOPENING
        case "credits.granted" if _is_large(data, state):
            return GRANT
        case "credits.purchased" if _are_many(_given_in(data), state):
            return GRANT
        case "block.repriced" if _are_many(_given_by(data, state), state):
            return GRANT
        case "block.repriced" if asked.voids and ((data.add_price or 0) < 0 or (data.add_credits or 0) < 0):
            return VOID
    return None


def _given_in(data: Any) -> Decimal:
    """The credits of a purchase that nothing is paid for: its bonus, and all of them if the price is nominal."""
    assert isinstance(data, CreditsPurchased)
    bonus = data.bonus_credits or Decimal(0)
    return bonus + (data.credits if _is_nominal(data.price, data.currency) else Decimal(0))


def _given_by(data: Any, state: LedgerState) -> Decimal:
    """The credits that a repricing adds for nothing. Its price is in the block's currency, which it does not name: what
    is nominal goes by the ledger's."""
    assert isinstance(data, BlockRepriced)
    free = _is_nominal(data.add_price or Decimal(0), state.functional_currency)
    return (data.add_credits or Decimal(0)) if free else Decimal(0)


def _is_nominal(price: Decimal, currency: str) -> bool:
    """True for a price that is none in substance: below a hundred minor units (1.00 USD, 100 JPY)."""
    return price < Decimal(100).scaleb(-exponent(currency))


def _are_many(credits: Decimal | None, state: LedgerState) -> bool:
    limit = state.approvals.grant_credits_above
    return limit is not None and credits is not None and credits > limit


def _is_large(data: Any, state: LedgerState) -> bool:
    """Whether a grant is above a limit. A value in another currency than the limit's is, whatever it is."""
    assert isinstance(data, CreditsGranted)
    value = state.approvals.grant_value_above
    if _are_many(data.credits, state):
        return True
    if value is None or data.value is None:
        return False
    return data.currency != state.functional_currency or data.value > value


def may_ask(state: LedgerState) -> bool:
    """Whether the ledger asks for a second person at all."""
    return state.approvals != type(state.approvals)()
