"""Events that need a second person: if a person decides, the one who asks is not the one who allows.

Owns: which events those are, by the ledger's settings and the effect of an event. Does not own: measuring the effect
(event_effects), requests that wait, and earlier effects (store), who somebody is (api).
Preparer and approver differ on estimates, voids, write-offs, large grants, changed expiries, reopening and the settings
of the second person themselves, where the ledger asks for it (COSO principle 10, segregation of duties). Limits look at
the effect, not at the type: an event that gives, pays back or cancels the same under another name needs the same.
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
"""The beginning of a changed setting that is one of the second person's own."""

LIMITS: Final = (
    ("grant_credits_above", "credits_given", GRANT),
    ("grant_value_above", "value_given", GRANT),
    ("money_back_above", "money_back", MONEY_BACK),
    ("revenue_advanced_above", "revenue_advanced", REVENUE_ADVANCED),
)
"""Each limit of ``Approvals`` with the measure of an effect that it holds for, and the reason of what is above it."""


def needs_second_person(event: Event, state: LedgerState, effect: EventEffect, *before: EventEffect) -> str | None:
    """Returns the reason why a second person has to allow an event, or None if nobody has to.

    ``effect`` is the event's, ``before`` for each of its customers the sum of those within the time that counts.
    """
    settings, data = state.approvals, event.data
    if effect is NO_EFFECT and type(data) is CreditsConsumed:
        return None  # asking each class below would cost more than deciding it
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
    """The reason of the first limit that an effect is above, together with what any of its customers had before."""
    sums = [effect + earlier for earlier in before] or [effect]
    for name, measure, reason in LIMITS:
        limit = getattr(settings, name)
        if limit is None or getattr(effect, measure) <= 0:
            continue
        if any(getattr(together, measure) > limit for together in sums):
            return reason
    return None


def _has_value_in_another_currency(data: CreditsGranted, state: LedgerState) -> bool:
    """True for a grant whose value can be compared with the limit only by a rate, which one person can set."""
    limit = state.approvals.grant_value_above
    return limit is not None and data.value is not None and data.currency != state.functional_currency


def check_as_shown(event: Event, effect: EventEffect, shown: EventEffect | None) -> None:
    """Checks that an event has no greater effect than the person who allows it was shown. Raises EffectChanged.

    Of an estimate the person allows the rate or the amount that it states. What it recognises at once grows with every
    redemption, so in a pool that is in use it is always greater than what was shown.
    """
    if shown is not None and not isinstance(event.data, BreakageEstimated) and effect.exceeds(shown):
        raise EffectChanged(
            "the effect of the event is greater now than when it was requested, or another: the books or the settings "
            "have changed; refuse the request, and send the event again under another id",
            expected=shown.text,
            found=effect.text,
        )


def may_have_effect(event: Event, state: LedgerState) -> bool:
    """True unless an event is usage at a price: of nearly every event nothing is measured."""
    data = event.data
    return type(data) is not CreditsConsumed or gives_service_away(data, state)


def may_ask(state: LedgerState) -> bool:
    """True if the ledger asks for a second person at all."""
    return state.approvals != _NOTHING
