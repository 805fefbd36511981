"""Breakage by the proportional method (ASC 606-10-55-48, IFRS 15 B46), computed a second time.

The report of pools compares the posted breakage with this formula. ``subledger.pools`` decided the posted amounts. The
two modules share no arithmetic. So if one of them is wrong, the report does not tie.

Figures of a cohort, in minor units:

- F: the issued amount, less cancellations.
- R: the redeemed amount.
- A: the expired amount.
- E: the expected breakage.
- S: the expected escheat.
- T: the recognised breakage.

A *line* gives T as a function of R. It starts at the point (R0, T0):

- If E > T0 and F − S − E − R0 > 0: T = T0 + (E − T0) × (R − R0) / (F − S − E − R0).
- Otherwise T stays at T0.
- If reversals reduce R below R0: T = U × R / R0, in which U is T0 without the limit F − R − S. Here T is at most
  T0 + R0 − R.

T is at most F − R − S, and at least A. If no block of the cohort has credits, T equals A.

T is computed for one accounting date after another, whatever the order of recording. The steps of each day are:

1. An estimate sets T to min(E × R / (F − E − S), F − R − S). A new line starts here.
2. F or the escheated amount changes. T does not change. A new line starts here.
3. Backfill redeems credits: a purchase pays for earlier overage. A new line starts before this step. This step raises T
   by at most the proportional part E × r / (F − E − S), in which r is the backfilled amount. If this limit applies,
   another line starts after this step. A reversal of backfill also starts a new line, but has no such limit.
4. Other usage redeems credits, and credits expire. T follows the line.

Earlier versions had no cohorts, and decided breakage by another formula. For events of that time, T is the posted
breakage. The line continues from the posted amount.

Owns: the formula. Does not own: the figures of a cohort by day (``breakage_steps``), the recorded estimates
(``breakage_estimates``), the report (``breakage_pools``).
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor

import msgspec

from projections.reports.breakage_estimates import EstimateVersion
from subledger.blocks import ZERO


class CohortFigures(msgspec.Struct, kw_only=True):
    """The figures of a cohort, or their changes on a day.

    Amounts are in minor units. ``issued`` is F, ``redeemed`` is R, and ``expired`` is A. ``backfilled`` is the part of
    R that is backfill. ``credits`` are the remaining credits.
    """

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    credits: Decimal = ZERO
    issued_functional: int = 0
    expired_functional: int = 0
    backfilled: int = 0

    def plus(self, other: CohortFigures) -> CohortFigures:
        """Returns the sum of two sets of figures."""
        fields = self.__struct_fields__
        return CohortFigures(**{name: getattr(self, name) + getattr(other, name) for name in fields})

    def negative(self) -> CohortFigures:
        """Returns the figures with the opposite sign."""
        return CohortFigures(**{name: -getattr(self, name) for name in self.__struct_fields__})

    def expected(self, estimate: EstimateVersion | None, issued_then: int) -> tuple[Fraction, Fraction]:
        """Returns E and S.

        A rate of the estimate is multiplied by F. An amount of the estimate is multiplied by F / ``issued_then``, in
        which ``issued_then`` is F at the time of the estimate. S is at least the escheated amount. Without an estimate
        E is zero.
        """

        def at(amount: int | None, rate: Decimal | None) -> Fraction:
            if rate is not None:
                return Fraction(rate) * self.issued
            return Fraction((amount or 0) * self.issued, issued_then) if issued_then else Fraction(0)

        if estimate is None:
            return Fraction(0), Fraction(self.escheated)
        escheat = max(at(estimate.escheat_minor, estimate.escheat_rate), Fraction(self.escheated))
        return at(estimate.breakage_minor, estimate.breakage_rate), escheat


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a line.

    - ``figures``: the figures of the cohort at the start.
    - ``earned``: T0 without the limit A, in both currencies.
    - ``due``: T0 with the limit A, in both currencies.
    - ``unlimited``: T0 without the limit F − R − S.
    """

    figures: CohortFigures = msgspec.field(default_factory=CohortFigures)
    earned: tuple[int, int] = (0, 0)
    due: tuple[int, int] = (0, 0)
    unlimited: int = 0


class Line:
    """The recognised breakage of one cohort, day by day."""

    def __init__(self) -> None:
        self.estimate: EstimateVersion | None = None
        self.issued_then = 0
        self._figures = CohortFigures()
        self._point = _Point()

    def take_over(self, estimate: EstimateVersion, issued_then: int) -> None:
        """Sets an estimate that starts no line. ``issued_then``: F when the estimate was recorded.

        Call it for an estimate that was recorded before cohorts existed, or before the opening of a cut-over.
        """
        self.estimate, self.issued_then = estimate, issued_then

    def as_posted(self, figures: CohortFigures, recognised: tuple[int, int]) -> None:
        """Starts a line at the breakage posted before cohorts existed. ``figures`` are the cohort's figures then."""
        earned = (0, 0) if recognised[0] == figures.expired else recognised
        self._point = _Point(figures=figures, earned=earned, due=recognised)

    def opened(self, figures: CohortFigures, recognised: tuple[int, int]) -> None:
        """Starts a line at the figures and the recognised breakage that a cut-over opened."""
        self._figures = figures
        self.as_posted(figures, recognised)

    def keeps(self, change: CohortFigures, posted: tuple[int, int]) -> tuple[int, int]:
        """Returns T at the end of a day before cohorts existed.

        T is ``posted``, the breakage posted so far: at most F − R − S, and at least A. Without credits it is A.
        """
        self._figures = self._figures.plus(change)
        figures = self._figures
        most = max(floor(figures.issued - figures.redeemed - self._expected()[1]), 0)
        due = max(min(posted[0], most), figures.expired) if figures.credits else figures.expired
        if due == posted[0]:
            return posted
        if due == figures.expired or posted[0] <= 0:
            return due, figures.expired_functional
        return due, _nearest(posted[1] * due, posted[0])

    def follow(self, change: CohortFigures) -> tuple[int, int]:
        """Returns T at the end of a day. Call ``estimated`` before, if the day has an estimate."""
        if change.issued or change.escheated or change.backfilled:
            self._point = self._here()
        before = self._figures
        if change.backfilled > 0:
            issues = (change.issued, change.issued_functional, change.escheated)
            self._figures = before.plus(
                CohortFigures(
                    issued=issues[0], issued_functional=issues[1], escheated=issues[2], redeemed=change.backfilled
                )
            )
            self._limit()
        self._figures = before.plus(change)
        return self.recognised()

    def follow_posted(self, change: CohortFigures) -> tuple[int, int]:
        """Returns T at the end of the last day before cohorts existed. Call ``as_posted`` before."""
        self._figures = self._figures.plus(change)
        return self.recognised()

    def estimated(self, estimate: EstimateVersion, issued_then: int) -> None:
        """Sets T by an estimate, and starts a line. Call it before ``follow`` of the estimate's day.

        ``issued_then``: F when the estimate was recorded.
        """
        self.estimate, self.issued_then = estimate, issued_then
        figures = self._figures
        unlimited = self._in_proportion(figures.redeemed)
        recognised = min(unlimited, _room(figures, self._expected()[1]))
        self._point = self._point_at((recognised, recognised), unlimited)

    def recognised(self) -> tuple[int, int]:
        """Returns T in both currencies. T is at least A. Without credits it is A."""
        figures = self._figures
        on_line = self._on_line(self._start()[0])
        if not figures.credits or on_line <= figures.expired:
            return figures.expired, figures.expired_functional
        return on_line, self._in_functional(on_line, self._start())

    def _here(self) -> _Point:
        """Returns the start of a line at the current R and T."""
        earned = self._point.earned[0]
        amounts = (self._on_line(earned), self._on_line(self._start()[0]))
        return self._point_at(amounts, self._unlimited(earned))

    def _point_at(self, amounts: tuple[int, int], unlimited: int) -> _Point:
        """Returns the start of a line at the current R. ``amounts``: ``earned`` and ``due``, as in ``_Point``."""
        figures, (earned, due) = self._figures, amounts
        in_functional = figures.expired_functional
        if due > figures.expired:
            in_functional = self._in_functional(due, self._start())
        return _Point(
            figures=figures,
            earned=(earned, self._in_functional(earned, self._point.earned)),
            due=(max(due, figures.expired), in_functional),
            unlimited=unlimited,
        )

    def _limit(self) -> None:
        """Limits the rise of T by backfill to its proportional part. Starts a line if the limit applies."""
        start, figures = self._point, self._figures
        redeemed = figures.redeemed - start.figures.redeemed
        if redeemed <= 0:
            return
        step = self._in_proportion(redeemed)
        earned, due = self._on_line(start.earned[0]), self._on_line(self._start()[0])
        limited = (min(earned, start.earned[0] + step), min(due, self._start()[0] + step))
        if limited != (earned, due):
            self._point = self._point_at(limited, self._in_proportion(figures.redeemed))

    def _start(self) -> tuple[int, int]:
        """Returns T0 in both currencies. Credits that had expired at the start and were reinstated do not count."""
        start, expired = self._point, self._figures.expired
        amount = start.due[0] - max(start.figures.expired - expired, 0)
        if not expired or amount <= start.earned[0]:
            return start.earned
        if amount == start.due[0]:
            return start.due
        of_expired = (start.due[0] - start.earned[0], start.due[1] - start.earned[1])
        return amount, start.due[1] - _nearest((start.due[0] - amount) * of_expired[1], of_expired[0])

    def _expected(self) -> tuple[Fraction, Fraction]:
        return self._figures.expected(self.estimate, self.issued_then)

    def _in_proportion(self, redeemed: int) -> int:
        """Returns E × R / (F − E − S)."""
        breakage, escheat = self._expected()
        to_be_redeemed = self._figures.issued - breakage - escheat
        return floor(breakage * redeemed / to_be_redeemed + Fraction(1, 2)) if to_be_redeemed > 0 else 0

    def _ahead(self, start: int) -> int | None:
        """Returns T on the line, in which ``start`` is T0. Returns None if the line does not rise."""
        figures, at = self._figures, self._point.figures.redeemed
        breakage, escheat = self._expected()
        to_be_redeemed = figures.issued - escheat - breakage - at
        if breakage <= start or to_be_redeemed <= 0:
            return None
        return floor(start + (breakage - start) * (figures.redeemed - at) / to_be_redeemed + Fraction(1, 2))

    def _unlimited(self, start: int) -> int:
        """Returns T on the line without the limit F − R − S.

        - On a rising line: T of the line.
        - On a line that does not rise: the proportional amount, or ``start`` if this is more.
        - Below R0: the unlimited amount at R0, in proportion to R.
        """
        figures, point = self._figures, self._point
        if figures.redeemed < point.figures.redeemed:
            return _nearest(max(point.unlimited, start) * figures.redeemed, point.figures.redeemed)
        ahead = self._ahead(start)
        return max(start, self._in_proportion(figures.redeemed)) if ahead is None else ahead

    def _on_line(self, start: int) -> int:
        room = _room(self._figures, self._expected()[1])
        reversed_since = self._point.figures.redeemed - self._figures.redeemed
        if reversed_since > 0:
            return min(self._unlimited(start), start + reversed_since, room)
        ahead = self._ahead(start)
        return min(start if ahead is None else ahead, room)

    def _in_functional(self, amount: int, start: tuple[int, int]) -> int:
        """Returns ``amount`` in the functional currency. ``start`` is T0 in both currencies.

        - Above T0: the functional T0, and the difference at the cohort's average rate.
        - Below T0: the functional T0 in proportion.
        """
        figures, (at_start, functional) = self._figures, start
        if amount < at_start and at_start > 0:
            return _nearest(functional * amount, at_start)
        if amount > at_start and figures.issued:
            return functional + _nearest((amount - at_start) * figures.issued_functional, figures.issued)
        return functional


def _room(figures: CohortFigures, escheat: Fraction) -> int:
    return max(floor(figures.issued - figures.redeemed - escheat), 0)


def _nearest(numerator: int, denominator: int) -> int:
    """Rounds half away from zero."""
    nearest = floor(Fraction(abs(numerator), denominator) + Fraction(1, 2))
    return nearest if numerator >= 0 else -nearest
