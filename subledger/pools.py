"""Breakage pools: how much of a cohort's expected breakage may be recognised, in proportion to what is redeemed.

The proportional method of ASC 606-10-55-48 and IFRS 15 B46, cohort by cohort. Recognised breakage follows a straight
line from the last anchor to the expected breakage, so that it moves only for a reason that earns it: redemption moves
along the line, an estimate is a cumulative catch-up, and a purchase recognises nothing. Owns: a cohort's figures, and
when its line gets a new anchor. Does not own: the line (breakage_line), which movement belongs to which cohort and when
its breakage is dated (pooling), the names of cohorts (cohorts).
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from subledger.blocks import ZERO
from subledger.breakage_line import NOTHING_EXPECTED, ORIGIN, Anchor, Estimate, Expected, Line
from subledger.cohorts import WHOLE, Grouping
from subledger.kinds import Kind
from subledger.money import round_half_up


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

    ``moved_on`` is the latest accounting date of a movement of F, of R or of what escheated, ``expired_on`` that of a
    movement of A. ``forced_on`` is the day from which expiries force more breakage than the line.
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
    moved_on: date | None = None
    expired_on: date | None = None
    forced_on: date | None = None

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

    @property
    def was_estimated_last(self) -> bool:
        """True if nothing has been issued, redeemed, expired or cancelled since its latest estimate."""
        anchor = self._anchor
        now = (self.redeemed_minor, self.expired_minor)
        return (
            self.estimate is not None
            and anchor.previous is None
            and now == (anchor.redeemed_minor, anchor.expired_minor)
        )

    # --- what is due --------------------------------------------------------------------------------------------------

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

    def misfit(self) -> Literal["too_high", "too_low"] | None:
        """The way in which its estimate contradicts what is issued, has escheated or expired; None if it does not."""
        breakage, escheat, per = self.expected()
        if breakage + escheat >= self.issued_minor * per:
            return "too_high"
        return "too_low" if breakage < self.expired_minor * per else None

    def due_minor(self) -> int:
        """T, the breakage to be recognised to date: the line, not below A and not above F − R − S.

        It is A, exactly, once no block of the cohort has credits.
        """
        return self.line_or_expired_minor() if self.credits else self.expired_minor

    def due_functional(self) -> int:
        """T in the functional currency: at the cohort's average rate of the day, and what expired where T is A."""
        return self._functional_of(self.due_minor())

    def due(self) -> tuple[int, int]:
        """T in both currencies."""
        due = self.due_minor()
        return due, self._functional_of(due)

    def line_or_expired_minor(self) -> int:
        """T of a cohort that has credits."""
        return max(self.expired_minor, self._line().at(self._start()))

    def line_or_expired(self) -> tuple[int, int]:
        """The same in both currencies."""
        due = self.line_or_expired_minor()
        return due, self._functional_of(due)

    def on_line(self) -> tuple[int, int]:
        """The breakage that redemption has earned, without regard to what has expired, in both currencies.

        It is not more than T; expiries force the rest.
        """
        earned = self._line().at(self._anchor.recognised_minor)
        return earned, self._functional(earned, 0)

    # --- anchors ------------------------------------------------------------------------------------------------------

    def anchored(self) -> Cohort:
        """The cohort with a new anchor where it stands, before an event that changes what is issued or escheated."""
        line = self._line()
        return self._with_anchor(
            line.at(self._anchor.recognised_minor),
            line.at(self._start()),
            proportional=line.unlimited(self._anchor.recognised_minor),
            previous=self._anchor,
        )

    def estimated(self, estimate: Estimate) -> Cohort:
        """The cohort with a new estimate: T = min(E × R / (F − E − S), F − R − S), from there on a new line."""
        cohort = replace(self, estimate=estimate)
        line = cohort._line()
        proportional = line.in_proportion(self.redeemed_minor)
        recognised = min(proportional, line.room())
        return cohort._with_anchor(recognised, recognised, proportional=proportional, previous=None)

    def as_posted(self) -> Cohort:
        """The cohort with a new anchor at what has been posted: events recorded before there were lines end so."""
        has_expired = self.recognised_minor == self.expired_minor
        anchor = Anchor(
            redeemed_minor=self.redeemed_minor,
            recognised_minor=0 if has_expired else self.recognised_minor,
            recognised_functional=0 if has_expired else self.recognised_functional,
            with_expired_minor=max(self.recognised_minor, self.expired_minor),
            with_expired_functional=self.recognised_functional,
            expired_minor=self.expired_minor,
        )
        return replace(self, anchor=anchor)

    def settled(self) -> Cohort:
        """The cohort after the movements of an event that set an anchor.

        If it took the last such event back, the line is that of before. An anchor knows the one before it, and no more.
        """
        last = self._anchor.previous
        if last is None or last.previous is None:
            return self._limited()
        before = (
            last.redeemed_minor - last.backfilled_minor, last.expired_minor, last.escheated_minor, last.issued_minor,
            last.issued_functional,
        )  # fmt: skip
        now = (
            self.redeemed_minor, self.expired_minor, self.escheated_minor, self.issued_minor, self.issued_functional,
        )  # fmt: skip
        if now == before:
            return replace(self, anchor=None if last.previous == ORIGIN else last.previous)
        return replace(self, anchor=replace(self._anchor, previous=replace(last, previous=None)))._limited()

    def _limited(self) -> Cohort:
        """The cohort of which a purchase that pays for earlier overage recognises no more than in proportion to that.

        A line that starts low rises fast, towards what is expected of all that is issued: no purchase earns that.
        """
        anchor, line = self._anchor, self._line()
        backfilled = self.redeemed_minor - anchor.redeemed_minor
        most = line.in_proportion(backfilled) if backfilled > 0 else 0
        earned, due = line.at(anchor.recognised_minor), line.at(self._start())
        most_earned, most_due = anchor.recognised_minor + most, self._start() + most
        if backfilled <= 0 or (earned <= most_earned and due <= most_due):
            return self
        cohort = self._with_anchor(
            min(earned, most_earned),
            min(due, most_due),
            proportional=line.in_proportion(self.redeemed_minor),
            previous=anchor.previous,
        )
        before = replace(
            cohort._anchor,
            backfilled_minor=backfilled,
            issued_minor=anchor.issued_minor,
            issued_functional=anchor.issued_functional,
            escheated_minor=anchor.escheated_minor,
        )
        return replace(cohort, anchor=before)

    def _with_anchor(self, recognised: int, due: int, *, proportional: int, previous: Anchor | None) -> Cohort:
        """The cohort with an anchor at what is redeemed now; it is T0 without and with regard to what has expired."""
        with_expired = max(due, self.expired_minor)
        anchor = Anchor(
            redeemed_minor=self.redeemed_minor,
            recognised_minor=recognised,
            recognised_functional=self._functional(recognised, 0),
            with_expired_minor=with_expired,
            with_expired_functional=self._functional_of(with_expired),
            expired_minor=self.expired_minor,
            proportional_minor=proportional if proportional > recognised else 0,
            issued_minor=self.issued_minor if previous is not None else 0,
            issued_functional=self.issued_functional if previous is not None else 0,
            escheated_minor=self.escheated_minor if previous is not None else 0,
            previous=previous,
        )
        return replace(self, anchor=anchor)

    # --- movements ----------------------------------------------------------------------------------------------------

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
        figures = {name: getattr(self, name) + getattr(other, name) for name in _FIGURES}
        days = {name: _later(getattr(self, name), getattr(other, name)) for name in _DAYS}
        first = min((day for day in (self.forced_on, other.forced_on) if day is not None), default=None)
        return replace(self, **figures, **days, forced_on=first, anchor=None)

    @property
    def _anchor(self) -> Anchor:
        return self.anchor or ORIGIN

    def _line(self) -> Line:
        return Line(self._anchor, self.issued_minor, self.redeemed_minor, self.expected())

    def _start(self) -> int:
        """T0 with what is still expired of what had expired."""
        return self._anchor.start(self.expired_minor)[0]

    def _functional_of(self, due: int) -> int:
        """T in the functional currency."""
        return self.expired_functional if due == self.expired_minor else self._functional(due, self.expired_minor)

    def _functional(self, amount: int, expired: int) -> int:
        """An amount of recognised breakage in the functional currency: more than T0 at the average rate, less in
        proportion to T0."""
        start, functional = self._anchor.start(expired)
        if amount < start:
            return round_half_up(functional * amount, start) if start > 0 else functional
        if amount == start or not self.issued_minor:
            return functional
        return functional + round_half_up((amount - start) * self.issued_functional, self.issued_minor)


_FIGURES: Final = tuple(
    name for name in Cohort.__struct_fields__ if name.endswith(("_minor", "_functional", "credits"))
)

_DAYS: Final = ("moved_on", "expired_on")


def _later(day: date | None, other: date | None) -> date | None:
    return max((each for each in (day, other) if each is not None), default=None)


def changes_line(kind: Kind) -> bool:
    """True if movements of this kind change what is issued or escheated, and so need a new anchor."""
    return kind.column not in (None, "consumed", "expired")
