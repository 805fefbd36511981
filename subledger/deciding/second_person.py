"""Events that need a second person: the requester and the approver are two persons.

A ledger can require this for estimates, voids, write-offs, large grants, changed expiries, reopening, and these
settings themselves (COSO principle 10, segregation of duties). Limits apply to the effect of an event, not to its type:
two events with the same effect need the same approval.

Owns: the choice of these events, by the ledger's settings and the effect of an event. Does not own: measuring the
effect (event_effects), waiting requests and earlier effects (store), the identity of persons (api).
"""

from __future__ import annotations

from typing import Final

from subledger.deciding.gains import gives_service_away
from subledger.errors import EffectChanged
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.data import BlockExpiryChanged, BreakageEstimated, CreditsConsumed, CreditsGranted
from subledger.events.envelope import Event
from subledger.events.own_data import Approvals, PeriodReopened
from subledger.ledger import LedgerState

BREAKAGE_ESTIMATE, WRITE_OFF, VOID = "breakage_estimate", "write_off", "void"
GRANT, REOPENING, EXPIRY_CHANGE = "grant", "reopening", "expiry_change"
MONEY_BACK, REVENUE_ADVANCED, SETTINGS = "money_back", "revenue_advanced", "settings"

_NOTHING: Final = Approvals()
SECOND_PERSON: Final = "approvals."
"""The beginning of the names of the approval settings."""

LIMITS: Final = (
    ("grant_credits_above", "credits_given", GRANT),
    ("grant_value_above", "value_given", GRANT),
    ("money_back_above", "money_back", MONEY_BACK),
    ("revenue_advanced_above", "revenue_advanced", REVENUE_ADVANCED),
)
"""Each limit of ``Approvals``, with the measure that it limits, and the reason of an event above it."""


def needs_second_person(event: Event, state: LedgerState, effect: EventEffect, *before: EventEffect) -> str | None:
    """Returns the reason why an event needs a second person, or None if it does not.

    ``effect``: the event's own effect. ``before``: for each of its customers, the sum of the earlier effects that
    count.
    """
    settings, data = state.approvals, event.data
    if effect is NO_EFFECT and type(data) is CreditsConsumed:
        return None  # a check of each class below would cost more than the decision
    if may_ask(state) and any(line.startswith(SECOND_PERSON) for line in effect.changed_settings):
        return SETTINGS
    if settings.breakage_estimates and isinstance(data, BreakageEstimated):
        return BREAKAGE_ESTIMATE
    if settings.reopening and isinstance(data, PeriodReopened):
        return REOPENING
    if settings.write_offs and effect.written_off:
        return WRITE_OFF
    if settings.expiry_changes and isinstance(data, BlockExpiryChanged):
        return EXPIRY_CHANGE
    if isinstance(data, CreditsGranted) and _has_value_in_another_currency(data, state):
        return GRANT
    return _above_a_limit(effect, before, settings) or (VOID if settings.voids and effect.cancels else None)


def _above_a_limit(effect: EventEffect, before: tuple[EventEffect, ...], settings: Approvals) -> str | None:
    """The reason of the first limit that the effect exceeds, together with the earlier effects of a customer."""
    sums = [effect + earlier for earlier in before] or [effect]
    for name, measure, reason in LIMITS:
        limit = getattr(settings, name)
        if limit is None or getattr(effect, measure) <= 0:
            continue
        if any(getattr(together, measure) > limit for together in sums):
            return reason
    return None


def _has_value_in_another_currency(data: CreditsGranted, state: LedgerState) -> bool:
    """True for a grant in another currency: its value depends on an exchange rate, which one person can set."""
    limit = state.approvals.grant_value_above
    return limit is not None and data.value is not None and data.currency != state.functional_currency


def check_as_shown(event: Event, effect: EventEffect, shown: EventEffect | None) -> None:
    """Checks that the effect of an event is not above the one that the approver saw. Raises EffectChanged.

    Exception: for an estimate, the approver approves its rate or amount. The breakage that it recognises at once grows
    with every redemption, so in an active pool it always exceeds the shown one.
    """
    if shown is not None and not isinstance(event.data, BreakageEstimated) and effect.exceeds(shown):
        raise EffectChanged(
            "the effect of the event is greater now than when it was requested, or another: the books or the settings "
            "have changed; refuse the request, and send the event again under another id",
            expected=shown.text,
            found=effect.text,
        )


def may_have_effect(event: Event, state: LedgerState) -> bool:
    """False for usage with a price, which has no effect. So most events need not be measured."""
    data = event.data
    return type(data) is not CreditsConsumed or gives_service_away(data, state)


def may_ask(state: LedgerState) -> bool:
    """True if the ledger requires a second person for any event."""
    return state.approvals != _NOTHING
