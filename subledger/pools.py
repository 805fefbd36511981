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
from subledger.cohort_days import Day, Days
from subledger.cohorts import WHOLE, Grouping
from subledger.money import round_half_up


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A breakage pool. ``grouping`` is set by its first estimate; until then each month of issue is a cohort.

    ``estimates`` are the rates of cohorts that begin from now on, each from a day on, and ``replaced`` the one that the
    latest took the place of on its day; ``versions`` is the number of its estimates so far.
    """

    pool: str
    currency: str
    grouping: Grouping | None = None
    estimates: tuple[tuple[date, Estimate], ...] = ()
    replaced: Estimate | None = None
    versions: int = 0

    def with_estimate(self, on: date, estimate: Estimate) -> Pool:
        """The pool with a rate from a day on; of two of the same day the later recorded one holds."""
        others = [each for each in self.estimates if each[0] != on]
        replaced = next((each for day, each in self.estimates if day == on), None)
        estimates = tuple(sorted([*others, (on, estimate)], key=lambda each: each[0]))
        return replace(self, estimates=estimates, replaced=replaced)

    def without_estimate(self, version: int) -> Pool:
        """The pool without its latest rate, if that is the one of this version: with the one that it replaced."""
        if all(estimate.version != version for _, estimate in self.estimates):
            return self
        estimates = tuple(
            (on, estimate if estimate.version != version else self.replaced)
            for on, estimate in self.estimates
            if estimate.version != version or self.replaced is not None
        )
        return replace(self, estimates=estimates, replaced=None)


class Cohort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A cohort of a pool after some position; amounts in minor units of ``currency``.

    ``issued_minor`` (F) is net of voids, refunds, transfers out, chargebacks and write-offs;
    ``redeemed_minor`` (R) to date, backfill included; ``expired_minor`` (A) expired and was retained;
    ``recognised_minor`` (T) has been posted as breakage so far. ``credits`` remain in its blocks.

    ``days`` are what changed on each day that is remembered. ``start_estimate`` and ``start_anchor`` were in force
    before them; what is recorded for an earlier day is of ``forgotten_through``. Days before ``posted_through`` keep
    the breakage that was posted before there were cohorts, within its bounds.

    ``was_estimated_last``: nothing has been recorded of its blocks since its latest estimate, which ``replaced``
    another one of the same day.
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
    days: Days = ()
    start_estimate: Estimate | None = None
    start_anchor: Anchor | None = None
    forgotten_through: date | None = None
    posted_through: date | None = None
    was_estimated_last: bool = False
    replaced: Estimate | None = None

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
    def has_begun(self) -> bool:
        """True if anything was issued that was not undone or cancelled: without that, it is as if it were not there."""
        return bool(self.credits) or self.has_ended

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
        return max(self.expired_minor, self._line().at(self._start())) if self.credits else self.expired_minor

    def due_functional(self) -> int:
        """T in the functional currency: at the cohort's average rate of the day, and what expired where T is A."""
        return self._functional_of(self.due_minor())

    def due(self) -> tuple[int, int]:
        """T in both currencies."""
        due = self.due_minor()
        return due, self._functional_of(due)

    def within_bounds(self) -> tuple[int, int]:
        """The breakage that was posted, but not below A and not above F − R − S, in both currencies."""
        posted, functional = self.recognised_minor, self.recognised_functional
        due = max(min(posted, self._line().room()), self.expired_minor) if self.credits else self.expired_minor
        if due == posted:
            return due, functional
        if due == self.expired_minor:
            return due, self.expired_functional
        return due, round_half_up(functional * due, posted) if posted > 0 else self._functional_of(due)

    def most_recognised(self) -> int:
        """The most that may be recognised to date: F − R − S, and no more than has expired once no credits are left."""
        return max(self._line().room(), self.expired_minor) if self.credits else self.expired_minor

    # --- anchors ------------------------------------------------------------------------------------------------------

    def anchored(self) -> Cohort:
        """The cohort with a new anchor where it stands, before what is issued or escheated changes."""
        line = self._line()
        return self._with_anchor(
            line.at(self._anchor.recognised_minor),
            line.at(self._start()),
            proportional=line.unlimited(self._anchor.recognised_minor),
        )

    def estimated(self, estimate: Estimate) -> Cohort:
        """The cohort with a new estimate: T = min(E × R / (F − E − S), F − R − S), from there on a new line."""
        cohort = replace(self, estimate=estimate)
        line = cohort._line()
        proportional = line.in_proportion(self.redeemed_minor)
        recognised = min(proportional, line.room())
        return cohort._with_anchor(recognised, recognised, proportional=proportional)

    def posted_anchor(self) -> Anchor:
        """An anchor at what has been posted."""
        has_expired = self.recognised_minor == self.expired_minor
        return Anchor(
            redeemed_minor=self.redeemed_minor,
            recognised_minor=0 if has_expired else self.recognised_minor,
            recognised_functional=0 if has_expired else self.recognised_functional,
            with_expired_minor=max(self.recognised_minor, self.expired_minor),
            with_expired_functional=self.recognised_functional,
            expired_minor=self.expired_minor,
        )

    def limited(self) -> Cohort:
        """The cohort of which purchases that pay for earlier overage recognise no more than in proportion to that.

        A line that starts low rises fast, towards what is expected of all that is issued: no purchase earns that.
        """
        anchor, line = self._anchor, self._line()
        backfilled = self.redeemed_minor - anchor.redeemed_minor
        most = line.in_proportion(backfilled) if backfilled > 0 else 0
        earned, due = line.at(anchor.recognised_minor), line.at(self._start())
        most_earned, most_due = anchor.recognised_minor + most, self._start() + most
        if backfilled <= 0 or (earned <= most_earned and due <= most_due):
            return self
        return self._with_anchor(
            min(earned, most_earned), min(due, most_due), proportional=line.in_proportion(self.redeemed_minor)
        )

    def _with_anchor(self, recognised: int, due: int, *, proportional: int) -> Cohort:
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
        )
        return replace(self, anchor=anchor)

    # --- changes ------------------------------------------------------------------------------------------------------

    def plus(self, day: Day, sign: int = 1) -> Cohort:
        """The cohort with the sums of a day added, or taken off; its line stays."""
        return replace(
            self,
            issued_minor=self.issued_minor + sign * day.issued_minor,
            issued_functional=self.issued_functional + sign * day.issued_functional,
            redeemed_minor=self.redeemed_minor + sign * day.redeemed_minor,
            expired_minor=self.expired_minor + sign * day.expired_minor,
            expired_functional=self.expired_functional + sign * day.expired_functional,
            escheated_minor=self.escheated_minor + sign * day.escheated_minor,
            credits=self.credits + sign * day.credits,
            recognised_minor=self.recognised_minor + sign * day.recognised_minor,
            recognised_functional=self.recognised_functional + sign * day.recognised_functional,
        )

    def opened(self, figures: Day, sign: int = 1) -> Cohort:
        """The cohort with what there was of it at a cut-over: its line goes on from there, as if that was posted.

        The figures are of no day, as its breakage of every day follows from them. ``sign`` -1: without them again.
        """
        cohort = self.plus(figures, sign)
        anchor = cohort.posted_anchor()
        start = None if anchor == ORIGIN else anchor
        return replace(cohort, days=(), anchor=start, start_anchor=start, start_estimate=cohort.estimate)

    @property
    def is_untouched(self) -> bool:
        """True if nothing has been recorded of its blocks besides their openings; estimates do not count."""
        moved = any(day._replace(estimate=None, anchor=None) != Day(day.on) for day in self.days)
        return not moved and self.forgotten_through is None and self.posted_through is None

    @property
    def is_as_opened(self) -> bool:
        """True if it was not estimated either since the last opening."""
        return self.is_untouched and all(day.estimate is None for day in self.days)

    def has_sums_of(self, other: Cohort) -> bool:
        """True if all its figures are those of another one."""
        return all(getattr(self, name) == getattr(other, name) for name in _SUMS)

    def with_sums_of(self, other: Cohort) -> Cohort:
        """The cohort with all figures of another one added."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _SUMS})

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


_SUMS: Final = tuple(sorted({*Day._fields} & {*Cohort.__struct_fields__} - {"estimate", "anchor"}))
