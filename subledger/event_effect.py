"""The effect of an event, as measured for the approval by a second person.

Owns: the value. Does not own: measuring it (deciding/event_effects), the limits (deciding/second_person).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Final

import msgspec

from subledger.blocks import ZERO
from subledger.money import format_credits

_EXACT: Final = Context(prec=100)
"""For sums: adding and subtracting the same amount gives exactly zero."""


class EventEffect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The effect of an event on what customers have and owe. Amounts are in the functional currency, never negative.

    - ``credits_given``: credits that a customer gains without payment.
    - ``value_given``: value that a customer gains without payment: credits, money, or a debt that is given up.
    - ``money_back``: money that the company owes back after the event.
    - ``revenue_advanced``: revenue that is recognised, now or later, before its credits are used or could expire by the
      old terms.
    - ``written_off``: receivables that are given up.
    - ``cancels``: credits, price or term of a sale are taken back.
    - ``changed_settings``: the ledger's settings that change, each with both values.
    """

    credits_given: Decimal = ZERO
    value_given: Decimal = ZERO
    money_back: Decimal = ZERO
    revenue_advanced: Decimal = ZERO
    written_off: Decimal = ZERO
    cancels: bool = False
    changed_settings: tuple[str, ...] = ()

    def __add__(self, other: EventEffect) -> EventEffect:
        return self._combined(other, _EXACT.add)

    def __sub__(self, other: EventEffect) -> EventEffect:
        return self._combined(other, _EXACT.subtract)

    def _combined(self, other: EventEffect, by: Callable[[Decimal, Decimal], Decimal]) -> EventEffect:
        return EventEffect(
            credits_given=by(self.credits_given, other.credits_given),
            value_given=by(self.value_given, other.value_given),
            money_back=by(self.money_back, other.money_back),
            revenue_advanced=by(self.revenue_advanced, other.revenue_advanced),
            written_off=by(self.written_off, other.written_off),
        )

    @property
    def text(self) -> str:
        """The effect in words, such as ``credits given 5000, value given 50``; the currency is the ledger's."""
        measures = [(name.replace("_", " "), getattr(self, name)) for name in MEASURES]
        parts = [f"{name} {format_credits(measure)}" for name, measure in measures if measure]
        parts += ["cancels a sale or a part of it"] if self.cancels else []
        return ", ".join((*parts, *self.changed_settings)) or "none that is measured"

    def exceeds(self, shown: EventEffect) -> bool:
        """True if the effect is greater than the shown one in any measure, cancels and the shown one does not, or
        changes other settings.
        """
        return (
            any(getattr(self, name) > getattr(shown, name) for name in MEASURES)
            or (self.cancels and not shown.cancels)
            or self.changed_settings != shown.changed_settings
        )


MEASURES: Final = ("credits_given", "value_given", "money_back", "revenue_advanced", "written_off")
"""The measures of an effect, in the order in which they are shown. Only they are summed over several events."""

NO_EFFECT: Final = EventEffect()
