"""Breakage by the proportional method, computed a second time, beside the posted amounts.

The report of pools checks the entries by this formula (ASC 606-10-55-48, IFRS 15 B46). It shares no arithmetic with
``subledger.pools``, which decided the entries. So if one of the two is wrong, the report does not tie.

Figures of a cohort: F issued and not cancelled, R redeemed, A expired, E expected breakage, S expected escheat, T
recognised breakage. T is computed day by day, in the order of the days, not of recording. On each day, in this order:

1. An estimate sets T to min(E × R / (F − E − S), F − R − S).
2. A change of F, or of the escheated amount, does not change T.
3. Credits are redeemed, first those that purchases pay for at once. Then credits expire.

Steps 1 and 2 begin a new line at (R0, T0). On the line, T = T0 + (E − T0) × (R − R0) / (F − S − E − R0), if E > T0 and
the divisor is positive. T is never below A or above F − R − S. It equals A when no block of the cohort has credits. If
reversals take R below R0, the line leads back to the origin.

Events from before cohorts existed were decided by another formula, and count as posted. The line of their pool
continues from there.

Owns: the formula. Does not own: the days of a cohort from the log (``breakage_steps``), the estimates as recorded
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
    """The variables of the formula, in minor units; ``issued`` is F, net of cancellations."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    credits: Decimal = ZERO
    issued_functional: int = 0
    expired_functional: int = 0
    backfilled: int = 0

    def plus(self, other: CohortFigures) -> CohortFigures:
        """Returns the sum of two sets of figures. ``backfilled`` is the part of R that purchases pay for at once."""
        fields = self.__struct_fields__
        return CohortFigures(**{name: getattr(self, name) + getattr(other, name) for name in fields})

    def negative(self) -> CohortFigures:
        """Returns the figures with the opposite sign."""
        return CohortFigures(**{name: -getattr(self, name) for name in self.__struct_fields__})

    def expected(self, estimate: EstimateVersion | None, issued_then: int) -> tuple[Fraction, Fraction]:
        """Returns E and S for the amount issued now. Estimated amounts are scaled from ``issued_then``."""

        def at(amount: int | None, rate: Decimal | None) -> Fraction:
            if rate is not None:
                return Fraction(rate) * self.issued
            return Fraction((amount or 0) * self.issued, issued_then) if issued_then else Fraction(0)

        if estimate is None:
            return Fraction(0), Fraction(self.escheated)
        escheat = max(at(estimate.escheat_minor, estimate.escheat_rate), Fraction(self.escheated))
        return at(estimate.breakage_minor, estimate.breakage_rate), escheat


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a line, and the figures there.

    ``earned`` is T without regard to expired credits, and ``due`` is T, each in both currencies. ``unlimited`` is the
    amount that would be earned without a limit on breakage.
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
        """Takes an estimate from before cohorts existed, which set T by another formula."""
        self.estimate, self.issued_then = estimate, issued_then

    def as_posted(self, figures: CohortFigures, recognised: tuple[int, int]) -> None:
        """Starts the line at the amount that was posted before cohorts existed. ``figures`` are the figures at that
        time.
        """
        earned = (0, 0) if recognised[0] == figures.expired else recognised
        self._point = _Point(figures=figures, earned=earned, due=recognised)

    def opened(self, figures: CohortFigures, recognised: tuple[int, int]) -> None:
        """Starts the line at the figures of a cut-over from another system."""
        self._figures = figures
        self.as_posted(figures, recognised)

    def keeps(self, change: CohortFigures, posted: tuple[int, int]) -> tuple[int, int]:
        """Returns T after a day from before cohorts existed: the posted amount, within its bounds."""
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
        """Returns T after the changes of a day, after its estimate."""
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
        """Returns T after the last day from before cohorts existed. The line continues from the posted amount."""
        self._figures = self._figures.plus(change)
        return self.recognised()

    def estimated(self, estimate: EstimateVersion, issued_then: int) -> None:
        """Sets T by an estimate at the beginning of its day. ``issued_then``: F when the estimate was recorded."""
        self.estimate, self.issued_then = estimate, issued_then
        figures = self._figures
        unlimited = self._in_proportion(figures.redeemed)
        recognised = min(unlimited, _room(figures, self._expected()[1]))
        self._point = self._point_at((recognised, recognised), unlimited)

    def recognised(self) -> tuple[int, int]:
        """Returns T: at least the expired amount, and equal to it when no credits remain."""
        figures = self._figures
        on_line = self._on_line(self._start()[0])
        if not figures.credits or on_line <= figures.expired:
            return figures.expired, figures.expired_functional
        return on_line, self._in_functional(on_line, self._start())

    def _here(self) -> _Point:
        """Returns the start of a new line at the current figures of the cohort."""
        earned = self._point.earned[0]
        amounts = (self._on_line(earned), self._on_line(self._start()[0]))
        return self._point_at(amounts, self._unlimited(earned))

    def _point_at(self, amounts: tuple[int, int], unlimited: int) -> _Point:
        """Returns the start of a line at the current R. ``amounts``: T without and with regard to expired credits."""
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
        """Limits the breakage of a purchase that pays for earlier overage to its proportion, and begins a new line
        there.
        """
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
        """Returns T0. Credits that had expired at the start count only if they are still expired."""
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
        """Returns T on the line from ``start`` to E; None if the line does not rise."""
        figures, at = self._figures, self._point.figures.redeemed
        breakage, escheat = self._expected()
        to_be_redeemed = figures.issued - escheat - breakage - at
        if breakage <= start or to_be_redeemed <= 0:
            return None
        return floor(start + (breakage - start) * (figures.redeemed - at) / to_be_redeemed + Fraction(1, 2))

    def _unlimited(self, start: int) -> int:
        """Returns T on the line without a limit on breakage: on a flat line the proportional amount, below R0 a share
        of it.
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
        """Returns T in the functional currency: the part above T0 at the cohort's average rate; below T0, a share of
        T0.
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
