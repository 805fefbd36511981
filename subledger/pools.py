"""Breakage pools: the part of a cohort's expected breakage that is recognised, in proportion to the redeemed amount.

The proportional method of ASC 606-10-55-48 and IFRS 15 B46, cohort by cohort. Recognised breakage follows a straight
line from the last anchor to the expected breakage. Redemption moves along the line, an estimate is a cumulative
catch-up, and a purchase recognises nothing.

Owns: a cohort's figures, and the new anchors of its line. Does not own: the line (breakage_line), the cohort of a
movement (pooling), the dates of breakage (breakage_days), the names of cohorts (cohorts).
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

    - ``estimates``: the rates for new cohorts, each with its first day.
    - ``replaced``: the rate that the latest one replaced on the same day.
    - ``versions``: the number of its estimates so far.
    """

    pool: str
    currency: str
    grouping: Grouping | None = None
    estimates: tuple[tuple[date, Estimate], ...] = ()
    replaced: Estimate | None = None
    versions: int = 0

    def with_estimate(self, on: date, estimate: Estimate) -> Pool:
        """The pool with a rate from a day on. Of two rates of the same day, the one that was recorded later applies."""
        others = [each for each in self.estimates if each[0] != on]
        replaced = next((each for day, each in self.estimates if day == on), None)
        estimates = tuple(sorted([*others, (on, estimate)], key=lambda each: each[0]))
        return replace(self, estimates=estimates, replaced=replaced)

    def without_estimate(self, version: int) -> Pool:
        """The pool without the latest rate, if it has this version. The rate that it replaced applies again."""
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

    - ``issued_minor`` (F): net of voids, refunds, transfers out, chargebacks and write-offs.
    - ``redeemed_minor`` (R): redeemed to date, backfill included.
    - ``expired_minor`` (A): expired and retained.
    - ``recognised_minor`` (T): posted as breakage so far.
    - ``credits``: the remaining credits of its blocks.
    - ``days``: the changes of each day that is still stored.
    - ``start_estimate``, ``start_anchor``: those in force before these days.
    - ``forgotten_through``: the last day that is not stored any more. Changes of earlier days are added to this day.
    - ``posted_through``: up to this day the breakage stays as it was posted before cohorts existed, within its bounds.
    - ``was_estimated_last``: nothing was recorded of its blocks after its latest estimate.
    - ``replaced``: the estimate that the latest one replaced on the same day.
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
        """True if anything was issued that was not undone or cancelled. Otherwise the cohort counts as not existing."""
        return bool(self.credits) or self.has_ended

    # --- what is due --------------------------------------------------------------------------------------------------

    def expected(self) -> Expected:
        """E and S for the amount issued now. S is at least the escheated amount."""
        estimated = NOTHING_EXPECTED if self.estimate is None else self.estimate.of(self.issued_minor)
        escheated = self.escheated_minor * estimated.per
        return estimated if estimated.escheat >= escheated else estimated._replace(escheat=escheated)

    @property
    def expected_breakage_minor(self) -> int:
        """E, rounded half up."""
        breakage, _, per = self.expected()
        return round_half_up(breakage, per)

    def misfit(self) -> Literal["too_high", "too_low"] | None:
        """The way in which its estimate contradicts the issued, escheated or expired amounts; None if it does not."""
        breakage, escheat, per = self.expected()
        if breakage + escheat >= self.issued_minor * per:
            return "too_high"
        return "too_low" if breakage < self.expired_minor * per else None

    def due_minor(self) -> int:
        """T, the breakage to be recognised to date: the line, not below A and not above F − R − S.

        It is exactly A if no block of the cohort has credits.
        """
        return max(self.expired_minor, self._line().at(self._start())) if self.credits else self.expired_minor

    def due_functional(self) -> int:
        """T in the functional currency: at the cohort's average rate of the day; the expired amount if T = A."""
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
        """The most that may be recognised to date: F − R − S; A if no credits are left."""
        return max(self._line().room(), self.expired_minor) if self.credits else self.expired_minor

    # --- anchors ------------------------------------------------------------------------------------------------------

    def anchored(self) -> Cohort:
        """The cohort with a new anchor at its present figures, before its issued or escheated amount changes."""
        line = self._line()
        return self._with_anchor(
            line.at(self._anchor.recognised_minor),
            line.at(self._start()),
            proportional=line.unlimited(self._anchor.recognised_minor),
        )

    def estimated(self, estimate: Estimate) -> Cohort:
        """The cohort with a new estimate and a new line from T = min(E × R / (F − E − S), F − R − S)."""
        cohort = replace(self, estimate=estimate)
        line = cohort._line()
        proportional = line.in_proportion(self.redeemed_minor)
        recognised = min(proportional, line.room())
        return cohort._with_anchor(recognised, recognised, proportional=proportional)

    def posted_anchor(self) -> Anchor:
        """An anchor at the posted breakage."""
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
        """The cohort with the breakage of purchases limited: in proportion to the earlier overage that they pay for.

        A line that starts low rises fast towards the expected breakage of all issued credits. A purchase does not earn
        this.
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
        """The cohort with an anchor at R. ``recognised`` is T0 without expiries, ``due`` with expiries."""
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
        """The cohort with its figures of a cut-over. Its line continues from them, as if they had been posted.

        The figures belong to no day, because the breakage of every day follows from them. ``sign`` -1 removes them.
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
        """True if it is untouched, and not estimated since the last opening."""
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
        """T0 for the part of the expired amount that is still expired."""
        return self._anchor.start(self.expired_minor)[0]

    def _functional_of(self, due: int) -> int:
        """T in the functional currency."""
        return self.expired_functional if due == self.expired_minor else self._functional(due, self.expired_minor)

    def _functional(self, amount: int, expired: int) -> int:
        """An amount of recognised breakage in the functional currency. Above T0 the average rate applies, below T0 the
        proportion to T0.
        """
        start, functional = self._anchor.start(expired)
        if amount < start:
            return round_half_up(functional * amount, start) if start > 0 else functional
        if amount == start or not self.issued_minor:
            return functional
        return functional + round_half_up((amount - start) * self.issued_functional, self.issued_minor)


_SUMS: Final = tuple(sorted({*Day._fields} & {*Cohort.__struct_fields__} - {"estimate", "anchor"}))
