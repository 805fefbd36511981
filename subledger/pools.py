"""Breakage pools: how much of a pool's expected breakage may be recognised, in proportion to what is redeemed.

The proportional method of ASC 606-10-55-48 and IFRS 15 B46, at the pool's level. Owns: a pool's figures and their
arithmetic. Does not own: which movement belongs to which pool (deciding).
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor

import msgspec
from msgspec.structs import replace

from subledger.blocks import ZERO
from subledger.kinds import GAINS, Kind
from subledger.money import round_half_up


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The expected breakage and escheat of a pool over its life: amounts in minor units, or rates of the issued amount.

    Amounts were estimated when ``issued_minor`` was issued, and are scaled with it. Versions count from 1.
    """

    version: int
    breakage_minor: int | None = None
    breakage_rate: Decimal | None = None
    escheat_minor: int | None = None
    escheat_rate: Decimal | None = None
    issued_minor: int = 0

    def of(self, issued: int) -> tuple[Fraction, Fraction]:
        """Expected breakage and escheat when ``issued`` is issued."""
        return (
            self._scaled(self.breakage_minor, self.breakage_rate, issued),
            self._scaled(self.escheat_minor, self.escheat_rate, issued),
        )

    def _scaled(self, amount: int | None, rate: Decimal | None, issued: int) -> Fraction:
        if rate is not None:
            return Fraction(rate) * issued
        return Fraction(amount * issued, self.issued_minor) if amount and self.issued_minor else Fraction(0)


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A breakage pool after some position; amounts in minor units of ``currency``.

    ``issued_minor`` (F) is net of voids, refunds, transfers out, chargebacks and write-offs;
    ``redeemed_minor`` (R) to date, backfill included; ``expired_minor`` (A) expired and was retained;
    ``recognised_minor`` (T) has been posted as breakage so far. ``credits`` remain in its blocks.
    """

    pool: str
    currency: str
    estimate: Estimate | None = None
    issued_minor: int = 0
    redeemed_minor: int = 0
    expired_minor: int = 0
    escheated_minor: int = 0
    recognised_minor: int = 0
    credits: Decimal = ZERO
    issued_functional: int = 0
    expired_functional: int = 0
    recognised_functional: int = 0

    def expected(self) -> tuple[Fraction, Fraction]:
        """E and S at what is issued now. Breakage that has no room left counts as 0; S is at least what escheated."""
        breakage, escheat = (Fraction(0), Fraction(0)) if self.estimate is None else self.estimate.of(self.issued_minor)
        escheat = max(escheat, Fraction(self.escheated_minor))
        return (breakage if breakage + escheat < self.issued_minor else Fraction(0)), escheat

    def due_minor(self) -> int:
        """T, the breakage to be recognised to date: max(A, min(E × R / (F − E − S), F − R − S)).

        0 while nothing is redeemed or expired; A once no block of the pool has credits.
        """
        if not self.credits:
            return self.expired_minor
        if not self.redeemed_minor and not self.expired_minor:
            return 0
        breakage, escheat = self.expected()
        if not breakage:
            return self.expired_minor
        proportional = breakage * self.redeemed_minor / (self.issued_minor - breakage - escheat)
        rounded = round_half_up(proportional.numerator, proportional.denominator)
        return max(self.expired_minor, min(rounded, floor(self.issued_minor - self.redeemed_minor - escheat)))

    def due_functional(self) -> int:
        """T in the functional currency: at the pool's average rate, and exactly what expired once T is A."""
        due = self.due_minor()
        if due == self.expired_minor:
            return self.expired_functional
        return round_half_up(due * self.issued_functional, self.issued_minor)

    def moved(self, kind: Kind, *, amount: int, functional: int, credits: Decimal) -> Pool:
        """The pool after a movement on one of its blocks, or of its breakage."""
        if kind.name == "breakage_estimate":
            return replace(
                self,
                recognised_minor=self.recognised_minor + amount,
                recognised_functional=self.recognised_functional + functional,
            )
        pool = replace(self, credits=self.credits + kind.sign * credits)
        match kind.column:
            case "consumed":
                return replace(pool, redeemed_minor=pool.redeemed_minor + amount)
            case "expired":
                return replace(
                    pool,
                    expired_minor=pool.expired_minor + amount,
                    expired_functional=pool.expired_functional + functional,
                )
            case "escheated":
                return replace(pool, escheated_minor=pool.escheated_minor + amount)
            case None:
                return pool
            case column:
                sign = 1 if column in GAINS else -1
                return replace(
                    pool,
                    issued_minor=pool.issued_minor + sign * amount,
                    issued_functional=pool.issued_functional + sign * functional,
                )
