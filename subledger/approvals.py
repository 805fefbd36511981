"""What needs a second person: where a person decides, the one who asks is not the one who allows.

Owns: which events those are, by the ledger's settings. Does not own: what waits (store), who somebody is (api).
Preparer and approver differ on estimates, voids, write-offs, large grants and reopening, where the ledger asks for it
(COSO principle 10, segregation of duties).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from subledger.event_data import CreditsGranted
from subledger.events import Event
from subledger.ledger import LedgerState

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
        case "purchase.voided" if asked.voids:
            return VOID
        case "period.reopened" if asked.reopening:
            return REOPENING
        case "credits.granted" if _is_large(data, state):
            return GRANT
        case "block.repriced" if not data.add_price and _are_many(data.add_credits, state):
            return GRANT  # credits added for nothing
    return None


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
