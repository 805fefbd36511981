"""Breakage pools: how much of a cohort's expected breakage may be recognised, in proportion to what is redeemed.

The proportional method of ASC 606-10-55-48 and IFRS 15 B46, cohort by cohort. Recognised breakage follows a straight
line from the last anchor to the expected breakage, so that it moves only for a reason that earns it: redemption moves
along the line, an estimate is a cumulative catch-up, and a purchase recognises nothing. Owns: a cohort's figures and
their arithmetic. Does not own: which movement belongs to which cohort (books), the names of cohorts (cohorts).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from subledger.blocks import ZERO
from subledger.cohorts import WHOLE, Grouping
from subledger.kinds import Kind
from subledger.money import round_half_up


class Expected(NamedTuple):
    """Expected breakage (E) and escheat (S) in minor units, exact: two numerators of one positive denominator."""

    breakage: int
    escheat: int
    per: int


NOTHING_EXPECTED: Final = Expected(0, 0, 1)


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The expected breakage and escheat of a cohort over its life: amounts in minor units, or rates of what is issued.

    Amounts were estimated when ``issued_minor`` was issued, and are scaled with it. ``version`` counts the estimates of
    the pool from 1.
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


class Anchor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The point from which recognised breakage follows a line: R0 redeemed, T0 recognised.

    T0 is ``recognised_minor``, or what had expired then if that was more: ``expired_minor``, of which only what is
    still expired counts. ``issued_minor`` and ``escheated_minor`` are those of before the event that set the anchor,
    and ``previous`` is the anchor before it: if the event is taken back right away, the line is again what it was.
    """

    redeemed_minor: int = 0
    recognised_minor: int = 0
    recognised_functional: int = 0
    expired_minor: int = 0
    expired_functional: int = 0
    issued_minor: int = 0
    escheated_minor: int = 0
    previous: Anchor | None = None


ORIGIN: Final = Anchor()


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A breakage pool. ``grouping`` is set by its first estimate; until then each month of issue is a cohort.

    ``estimate`` is the rate of cohorts that begin from now on; ``versions`` is the number of its estimates so far.
    """

    pool: str
    currency: str
    grouping: Grouping | None = None
    estimate: Estimate | None = None
    versions: int = 0


class Cohort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A cohort of a pool after some position; amounts in minor units of ``currency``.

    ``issued_minor`` (F) is net of voids, refunds, transfers out, chargebacks and write-offs;
    ``redeemed_minor`` (R) to date, backfill included; ``expired_minor`` (A) expired and was retained;
    ``recognised_minor`` (T) has been posted as breakage so far. ``credits`` remain in its blocks.
    """

    pool: str
    cohort: str = WHOLE
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
    anchor: Anchor | None = None

    @property
    def name(self) -> str:
        """The cohort in words."""
        return f"cohort {self.cohort} of pool {self.pool}" if self.cohort else f"pool {self.pool}"

    @property
    def has_ended(self) -> bool:
        """True if credits were issued and none are left."""
        return not self.credits and any(
            (self.issued_minor, self.redeemed_minor, self.expired_minor, self.escheated_minor)
        )

    def expected(self) -> Expected:
        """E and S at what is issued now; S is at least what has escheated."""
        estimated = NOTHING_EXPECTED if self.estimate is None else self.estimate.of(self.issued_minor)
        escheated = self.escheated_minor * estimated.per
        return estimated if estimated.escheat >= escheated else estimated._replace(escheat=escheated)

    @property
    def expected_breakage_minor(self) -> int:
        """E, rounded half up."""
        breakage, _, per = self.expected()
        return round_half_up(breakage, per)

    def due_minor(self) -> int:
        """T, the breakage to be recognised to date: the line, not below A and not above F − R − S.

        It is A, exactly, once no block of the cohort has credits.
        """
        if not self.credits:
            return self.expired_minor
        return max(self.expired_minor, self._on_line())

    def due_functional(self) -> int:
        """T in the functional currency: at the cohort's average rate of the day, and what expired where T is A."""
        due = self.due_minor()
        return self.expired_functional if due == self.expired_minor else self._functional(due)

    def anchored(self) -> Cohort:
        """The cohort with a new anchor where it stands, before an event that changes what is issued or escheated."""
        recognised = self._on_line()
        anchor = Anchor(
            redeemed_minor=self.redeemed_minor,
            recognised_minor=recognised,
            recognised_functional=self._functional(recognised),
            expired_minor=self.expired_minor,
            expired_functional=self.expired_functional,
            issued_minor=self.issued_minor,
            escheated_minor=self.escheated_minor,
            previous=self._anchor,
        )
        return replace(self, anchor=anchor)

    def estimated(self, estimate: Estimate) -> Cohort:
        """The cohort with a new estimate: T = min(E × R / (F − E − S), F − R − S), from there on a new line.

        Nothing changes but the line if the estimate leaves nothing to be redeemed: no more is recognised.
        """
        cohort = replace(self, estimate=estimate)
        expected = cohort.expected()
        to_be_redeemed = cohort.issued_minor * expected.per - expected.breakage - expected.escheat
        recognised = self._on_line()
        if to_be_redeemed > 0:
            recognised = round_half_up(expected.breakage * cohort.redeemed_minor, to_be_redeemed)
        recognised = min(recognised, cohort._room(expected))
        anchor = Anchor(
            redeemed_minor=cohort.redeemed_minor,
            recognised_minor=recognised,
            recognised_functional=self._functional(recognised),
            expired_minor=cohort.expired_minor,
            expired_functional=cohort.expired_functional,
        )
        return replace(cohort, anchor=anchor)

    def as_posted(self) -> Cohort:
        """The cohort with a new anchor at what has been posted: events recorded before there were lines end so."""
        has_expired = self.recognised_minor == self.expired_minor
        anchor = Anchor(
            redeemed_minor=self.redeemed_minor,
            recognised_minor=0 if has_expired else self.recognised_minor,
            recognised_functional=0 if has_expired else self.recognised_functional,
            expired_minor=self.expired_minor,
            expired_functional=self.expired_functional,
        )
        return replace(self, anchor=anchor)

    def settled(self) -> Cohort:
        """The cohort after the movements of an event that set an anchor: if it took the last such event back, with the
        line of before that one. An anchor knows the one before it, and no more."""
        last = self._anchor.previous
        if last is None or last.previous is None:
            return self
        since = (self.redeemed_minor, self.expired_minor, self.issued_minor, self.escheated_minor)
        if since == (last.redeemed_minor, last.expired_minor, last.issued_minor, last.escheated_minor):
            return replace(self, anchor=None if last.previous == ORIGIN else last.previous)
        return replace(self, anchor=replace(self._anchor, previous=replace(last, previous=None)))

    def moved(self, kind: Kind, *, amount: int, functional: int, credits: Decimal) -> Cohort:
        """The cohort after a movement on one of its blocks, or of its breakage."""
        if kind.name == "breakage_estimate":
            return replace(
                self,
                recognised_minor=self.recognised_minor + amount,
                recognised_functional=self.recognised_functional + functional,
            )
        cohort = replace(self, credits=self.credits + kind.sign * credits)
        match kind.column:
            case "consumed":
                return replace(cohort, redeemed_minor=cohort.redeemed_minor + amount)
            case "expired":
                sign = -kind.sign
                return replace(
                    cohort,
                    expired_minor=cohort.expired_minor + sign * amount,
                    expired_functional=cohort.expired_functional + sign * functional,
                )
            case "escheated":
                return replace(cohort, escheated_minor=cohort.escheated_minor + amount)
            case None:
                return cohort
        return replace(
            cohort,
            issued_minor=cohort.issued_minor + kind.sign * amount,
            issued_functional=cohort.issued_functional + kind.sign * functional,
        )

    def with_figures_of(self, other: Cohort) -> Cohort:
        """The cohort with the figures of another one added, neither of which has an estimate yet."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _FIGURES}, anchor=None)

    @property
    def _anchor(self) -> Anchor:
        return self.anchor or ORIGIN

    def _on_line(self) -> int:
        """The line at what is redeemed now, not above F − R − S."""
        expected = self.expected()
        return min(self._line(expected), self._room(expected))

    def _line(self, expected: Expected) -> int:
        """T0 + (E − T0) × (R − R0) / (F − S − E − R0), half up; T0 if E ≤ T0 or the denominator is not positive."""
        start, (breakage, escheat, per) = self._start()[0], expected
        to_be_recognised = breakage - start * per
        to_be_redeemed = (self.issued_minor - self._anchor.redeemed_minor) * per - escheat - breakage
        if to_be_recognised <= 0 or to_be_redeemed <= 0:
            return start
        redeemed = self.redeemed_minor - self._anchor.redeemed_minor
        return round_half_up(start * to_be_redeemed + to_be_recognised * redeemed, to_be_redeemed)

    def _start(self) -> tuple[int, int]:
        """T0 in both currencies."""
        anchor = self._anchor
        if anchor.recognised_minor >= min(anchor.expired_minor, self.expired_minor):
            return anchor.recognised_minor, anchor.recognised_functional
        if anchor.expired_minor <= self.expired_minor:
            return anchor.expired_minor, anchor.expired_functional
        return self.expired_minor, self.expired_functional

    def _room(self, expected: Expected) -> int:
        """F − R − S, rounded down: no more than that can break."""
        return self.issued_minor - self.redeemed_minor + -expected.escheat // expected.per

    def _functional(self, amount: int) -> int:
        """An amount of recognised breakage in the functional currency: more than T0 at the average rate, less in
        proportion to T0."""
        start, functional = self._start()
        if amount < start:
            return round_half_up(functional * amount, start) if start > 0 else functional
        if amount == start or not self.issued_minor:
            return functional
        return functional + round_half_up((amount - start) * self.issued_functional, self.issued_minor)


_FIGURES: Final = tuple(
    name for name in Cohort.__struct_fields__ if name.endswith(("_minor", "_functional", "credits"))
)


def changes_line(kind: Kind) -> bool:
    """True if movements of this kind change what is issued or escheated, and so need a new anchor."""
    return kind.column not in (None, "consumed", "expired")
