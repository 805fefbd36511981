"""The line that recognised breakage follows: from an anchor to the expected breakage, as credits are redeemed.

The figures of a cohort: F issued, R redeemed, A expired, E expected breakage, S expected escheat, T recognised. An
anchor is a point (R0, T0). Above R0 the line leads to E. Below R0, after reversals, it leads back to the origin. Owns:
estimates, and this arithmetic. Does not own: when an anchor is set, and a cohort's figures (pools).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from subledger.money import round_half_up


class Expected(NamedTuple):
    """Expected breakage (E) and escheat (S) in minor units, exact: two numerators of one positive denominator."""

    breakage: int
    escheat: int
    per: int


NOTHING_EXPECTED: Final = Expected(0, 0, 1)


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The expected breakage and escheat of a cohort over its life: amounts in minor units, or rates of what is issued.

    Amounts were estimated when ``issued_minor`` was issued, and are scaled in proportion to the issued amount.
    ``version`` counts the estimates of the pool from 1.
    """

    version: int
    breakage_minor: int | None = None
    breakage_rate: Decimal | None = None
    escheat_minor: int | None = None
    escheat_rate: Decimal | None = None
    issued_minor: int = 0

    def of(self, issued: int) -> Expected:
        """Expected breakage and escheat when ``issued`` is issued."""
        breakage, of_breakage = self._scaled(self.breakage_minor, self.breakage_rate, issued)
        escheat, of_escheat = self._scaled(self.escheat_minor, self.escheat_rate, issued)
        return Expected(breakage * of_escheat, escheat * of_breakage, of_breakage * of_escheat)

    def _scaled(self, amount: int | None, rate: Decimal | None, issued: int) -> tuple[int, int]:
        """A numerator and a denominator."""
        if rate is not None:
            numerator, denominator = rate.as_integer_ratio()
            return numerator * issued, denominator
        return (amount * issued, self.issued_minor) if amount and self.issued_minor else (0, 1)


class Anchor(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The point from which recognised breakage follows a line: R0 is ``redeemed_minor``.

    T0 has two values: ``recognised_minor`` ignores expiries, ``with_expired_minor`` includes them. ``expired_minor`` is
    A at the anchor. Reinstatements since then lower T0 from the second value, at most to the first.
    ``proportional_minor`` is set if T0 was limited by the amount that could still break: it is the amount in proportion
    to R0. Reversals below R0 follow the line from it.
    """

    redeemed_minor: int = 0
    recognised_minor: int = 0
    recognised_functional: int = 0
    with_expired_minor: int = 0
    with_expired_functional: int = 0
    expired_minor: int = 0
    proportional_minor: int = 0

    def start(self, expired: int) -> tuple[int, int]:
        """T0 in both currencies; ``expired`` is the amount that is expired now."""
        least, least_functional = self.recognised_minor, self.recognised_functional
        most, most_functional = self.with_expired_minor, self.with_expired_functional
        start = max(least, most - max(0, self.expired_minor - expired)) if expired else least
        if start in (least, most):
            return start, least_functional if start == least else most_functional
        gone = round_half_up((most - start) * (most_functional - least_functional), most - least)
        return start, most_functional - gone


ORIGIN: Final = Anchor()


class Line(NamedTuple):
    """The line from an anchor for what is issued and expected now."""

    anchor: Anchor
    issued: int
    redeemed: int
    expected: Expected

    def room(self) -> int:
        """F − R − S, rounded down, and not negative: the most that can break."""
        _, escheat, per = self.expected
        return max(0, self.issued - self.redeemed + -escheat // per)

    def at(self, start: int) -> int:
        """The line from T0 = ``start`` at what is redeemed now, not above F − R − S."""
        reversed_since = self.anchor.redeemed_minor - self.redeemed
        if reversed_since > 0:
            # If T0 was limited by the amount that could break, T rises by at most the reversed amount.
            return min(self._towards_origin(start), start + reversed_since, self.room())
        on_line = self._towards_expected(start)
        return min(start if on_line is None else on_line, self.room())

    def unlimited(self, start: int) -> int:
        """As ``at``, but not limited to F − R − S. If the line is flat, at least the amount in proportion to R."""
        if self.redeemed < self.anchor.redeemed_minor:
            return self._towards_origin(start)
        on_line = self._towards_expected(start)
        return max(start, self.in_proportion(self.redeemed)) if on_line is None else on_line

    def in_proportion(self, redeemed: int) -> int:
        """E × R / (F − E − S), half up; nothing if the divisor is not positive."""
        breakage, escheat, per = self.expected
        to_be_redeemed = self.issued * per - breakage - escheat
        return round_half_up(breakage * redeemed, to_be_redeemed) if to_be_redeemed > 0 else 0

    def _towards_expected(self, start: int) -> int | None:
        """T0 + (E − T0) × (R − R0) / (F − S − E − R0), half up; None if E ≤ T0 or the divisor is not positive."""
        breakage, escheat, per = self.expected
        to_be_recognised = breakage - start * per
        to_be_redeemed = (self.issued - self.anchor.redeemed_minor) * per - escheat - breakage
        if to_be_recognised <= 0 or to_be_redeemed <= 0:
            return None
        redeemed = self.redeemed - self.anchor.redeemed_minor
        return round_half_up(start * to_be_redeemed + to_be_recognised * redeemed, to_be_redeemed)

    def _towards_origin(self, start: int) -> int:
        """T0 × R / R0, half up."""
        anchor = self.anchor
        return round_half_up(max(anchor.proportional_minor, start) * self.redeemed, anchor.redeemed_minor)
