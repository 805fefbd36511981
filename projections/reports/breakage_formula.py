"""Breakage by the proportional method, computed a second time from the log, event by event, beside the posted amounts.

Owns: the formula (ASC 606-10-55-48, IFRS 15 B46) by which the report of pools checks the entries. It shares no
arithmetic with ``subledger.pools``, which decided the entries: if one of the two is wrong, the report does not tie.
Does not own: the estimates as recorded (``breakage_estimates``), the cohort of a movement (deciding), the report
(``breakage_pools``).

Of a cohort F is issued and not cancelled, R redeemed, A expired, E expected breakage, S expected escheat, T recognised.
An event that changes F, or what has escheated, leaves T, and an estimate sets it to min(E × R / (F − E − S), F − R −
S). From there, (R0, T0), T = T0 + (E − T0) × (R − R0) / (F − S − E − R0), where E > T0 and the divisor is positive; not
below A and not above F − R − S; and A once no block of the cohort has credits. T follows the order of recording: an
event posts the change of T on its own accounting date. What was recorded before there were cohorts was decided by
another formula, and is taken as posted; the line of its pool goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import ReportRequest
from projections.reports.breakage_estimates import CohortKey, CohortNames, EstimateVersion
from subledger.blocks import ZERO
from subledger.kinds import GAINS, KINDS
from subledger.store.reading.views import View

ESTIMATE: Final = "breakage_estimate"
DEDUCTIONS: Final = ("voided", "refunded", "transferred", "charged_back", "written_off")
"""The columns of a block that reduce the issued amount."""
EARLIER, LATER = "earlier", "later"
"""Values used instead of a month: before the requested range, and after the view."""

STEPS: Final = """
-- The figures of every cohort after the last event of each month of the books, before and after each event that changes
-- what is issued or escheated, and before and after each estimate.
WITH moved AS (
    SELECT d.pool, c.cohort, n.position,
           max(n.accounting_date) FILTER (WHERE n.kind = 'breakage_estimate') AS posted_on,
           max(n.accounting_date) AS moved_on, NULL::int AS version,
           sum(n.amount_minor) FILTER (WHERE n.kind = 'breakage_estimate') AS posted_minor,
           sum(n.functional_minor) FILTER (WHERE n.kind = 'breakage_estimate') AS posted_functional,
           sum(k.issued * n.amount_minor) AS issued, sum(k.issued * n.functional_minor) AS issued_functional,
           sum(k.redeemed * n.amount_minor) AS redeemed,
           sum(k.expired * n.amount_minor) AS expired, sum(k.expired * n.functional_minor) AS expired_functional,
           sum(k.escheated * n.amount_minor) AS escheated, sum(k.held * n.credits) AS credits
    FROM unnest(CAST(:kinds AS text[]), CAST(:issued AS int[]), CAST(:redeemed AS int[]), CAST(:expired AS int[]),
                CAST(:escheated AS int[]), CAST(:held AS int[]))
         AS k (kind, issued, redeemed, expired, escheated, held)
    JOIN entries n ON n.kind = k.kind
    JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
    JOIN unnest(CAST(:of_pools AS text[]), CAST(:issued_in AS text[]), CAST(:cohorts AS text[]))
         AS c (pool, issued_in, cohort) ON c.pool = d.pool AND c.issued_in = d.cohort
    WHERE n.ledger = :ledger AND n.position <= :position AND d.pool <> ''
    GROUP BY d.pool, c.cohort, n.position
    UNION ALL
    SELECT e.pool, e.cohort, e.position, NULL, e.booked_on, e.version, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM unnest(CAST(:estimated AS text[]), CAST(:estimated_cohorts AS text[]), CAST(:positions AS bigint[]),
                CAST(:booked AS date[]), CAST(:versions AS int[])) AS e (pool, cohort, position, booked_on, version)
), per_event AS (
    SELECT pool, cohort, position, max(version) AS version, coalesce(max(posted_on), max(moved_on)) AS booked_on,
           coalesce(sum(posted_minor), 0) AS posted_minor, coalesce(sum(posted_functional), 0) AS posted_functional,
           sum(issued) AS issued, sum(issued_functional) AS issued_functional, sum(redeemed) AS redeemed,
           sum(expired) AS expired, sum(expired_functional) AS expired_functional, sum(escheated) AS escheated,
           sum(credits) AS credits, sum(issued) <> 0 OR sum(escheated) <> 0 AS turns
    FROM moved GROUP BY pool, cohort, position
), in_months AS (
    SELECT *, CASE WHEN booked_on > :as_of THEN 'later' WHEN booked_on < :from_date THEN 'earlier'
                   ELSE to_char(booked_on, 'YYYY-MM') END AS month
    FROM per_event
), standing AS (
    SELECT pool, cohort, position, version, month, turns, posted_minor, posted_functional,
           sum(posted_minor) OVER so_far AS all_posted, sum(posted_functional) OVER so_far AS all_posted_functional,
           sum(issued) OVER so_far AS issued, sum(issued_functional) OVER so_far AS issued_functional,
           sum(redeemed) OVER so_far AS redeemed, sum(expired) OVER so_far AS expired,
           sum(expired_functional) OVER so_far AS expired_functional, sum(escheated) OVER so_far AS escheated,
           sum(credits) OVER so_far AS credits, lead(month) OVER so_far AS next_month,
           lead(version) OVER so_far AS next_version, lead(turns) OVER so_far AS next_turns,
           lead(position) OVER so_far >= :new_rules AND position < :new_rules AS is_last_before
    FROM in_months WINDOW so_far AS (PARTITION BY pool, cohort ORDER BY position)
)
SELECT * FROM standing
WHERE month IS DISTINCT FROM next_month OR version IS NOT NULL OR next_version IS NOT NULL OR is_last_before
   OR position >= :new_rules AND turns OR next_turns AND position >= :new_rules
ORDER BY pool, cohort, position
"""


class CohortFigures(msgspec.Struct, kw_only=True):
    """The variables of the formula, in minor units; ``issued`` is F, net of cancellations."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    credits: Decimal = ZERO
    issued_functional: int = 0
    expired_functional: int = 0

    def expected(self, estimate: EstimateVersion | None, issued_then: int) -> tuple[Fraction, Fraction]:
        """Returns E and S for the amount issued now: estimated amounts are scaled from the amount issued then."""

        def at(amount: int | None, rate: Decimal | None) -> Fraction:
            if rate is not None:
                return Fraction(rate) * self.issued
            return Fraction((amount or 0) * self.issued, issued_then) if issued_then else Fraction(0)

        if estimate is None:
            return Fraction(0), Fraction(self.escheated)
        escheat = max(at(estimate.escheat_minor, estimate.escheat_rate), Fraction(self.escheated))
        return at(estimate.breakage_minor, estimate.breakage_rate), escheat


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The formula before and after some events of a cohort in one month; ``version`` if the event is its estimate.

    ``before`` and ``due`` are T before and after the events; ``posted`` is the amount that the last event posted. Each
    is in the pool's currency and in the functional currency. ``issued`` is F after them.
    """

    key: CohortKey
    month: str
    version: int | None
    issued: int
    before: tuple[int, int]
    due: tuple[int, int]
    posted: tuple[int, int]


class _Point(msgspec.Struct, frozen=True):
    """The start of a line: the figures there, and T without regard to what had expired, in both currencies."""

    figures: CohortFigures
    recognised: tuple[int, int]


NOWHERE: Final = _Point(CohortFigures(), (0, 0))


class Line:
    """The recognised breakage of one cohort, event by event."""

    def __init__(self) -> None:
        self.estimate: EstimateVersion | None = None
        self.issued_then = 0
        self._figures = CohortFigures()
        self._starts: list[_Point] = [NOWHERE]

    def as_posted(self, figures: CohortFigures, recognised: tuple[int, int]) -> tuple[int, int]:
        """T after events of before there were cohorts: what they posted."""
        self._figures = figures
        self._starts = [_Point(figures, (0, 0) if recognised[0] == figures.expired else recognised)]
        return recognised

    def go_on(self, figures: CohortFigures, *, turns: bool) -> tuple[int, int]:
        """Returns T after an event; ``turns`` if it changes what is issued or escheated."""
        if turns:
            self._starts = [*self._starts[-2:], self._here()]
        self._figures = figures
        if turns and len(self._starts) == 3 and _same(figures, self._starts[-2].figures):
            self._starts = self._starts[:1]  # it takes back the event before it
        return self.recognised()

    def estimated(self, estimate: EstimateVersion) -> tuple[int, int]:
        """Returns T after an estimate that may be for this cohort.

        A rate of all is not for a cohort that has ended, and an amount of the only one for none that begins later.
        """
        figures = self._figures
        begun = any((figures.issued, figures.redeemed, figures.expired, figures.escheated))
        if (begun and not figures.credits and estimate.is_for_all) or (not begun and estimate.is_for_the_only_one):
            return self.recognised()
        here = self._here()
        to_functional = self._in_functional
        breakage, escheat = figures.expected(estimate, figures.issued)
        recognised = min(here.recognised[0], _room(figures, escheat))
        if figures.issued > breakage + escheat:
            share = breakage * figures.redeemed / (figures.issued - breakage - escheat)
            recognised = min(floor(share + Fraction(1, 2)), _room(figures, escheat))
        self._starts = [_Point(figures, (recognised, to_functional(recognised)))]
        self.estimate, self.issued_then = estimate, figures.issued
        return self.recognised()

    def recognised(self) -> tuple[int, int]:
        """Returns T: not below what has expired, and that once no credits are left."""
        figures = self._figures
        on_line = self._on_line()
        if not figures.credits or on_line <= figures.expired:
            return figures.expired, figures.expired_functional
        return on_line, self._in_functional(on_line)

    def _here(self) -> _Point:
        on_line = self._on_line()
        return _Point(self._figures, (on_line, self._in_functional(on_line)))

    def _start(self) -> tuple[int, int]:
        """T0: what had expired at the start counts as far as it is still expired."""
        start, now = self._starts[-1], self._figures
        then = (start.figures.expired, start.figures.expired_functional)
        floor_then = then if then[0] <= now.expired else (now.expired, now.expired_functional)
        return start.recognised if start.recognised[0] >= floor_then[0] else floor_then

    def _on_line(self) -> int:
        figures, start, at_start = self._figures, self._starts[-1].figures, self._start()[0]
        breakage, escheat = figures.expected(self.estimate, self.issued_then)
        to_be_redeemed = figures.issued - escheat - breakage - start.redeemed
        on_line = at_start
        if breakage > at_start and to_be_redeemed > 0:
            rise = (breakage - at_start) * (figures.redeemed - start.redeemed) / to_be_redeemed
            on_line = floor(at_start + rise + Fraction(1, 2))
        return min(on_line, _room(figures, escheat))

    def _in_functional(self, amount: int) -> int:
        """Returns T in the functional currency: beyond T0 at the cohort's average rate, below it a share of T0."""
        start, functional = self._start()
        figures = self._figures
        if amount < start and start > 0:
            return _nearest(functional * amount, start)
        if amount > start and figures.issued:
            return functional + _nearest((amount - start) * figures.issued_functional, figures.issued)
        return functional


def _room(figures: CohortFigures, escheat: Fraction) -> int:
    return floor(figures.issued - figures.redeemed - escheat)


def _same(figures: CohortFigures, others: CohortFigures) -> bool:
    return (figures.issued, figures.escheated, figures.redeemed, figures.expired) == (
        others.issued, others.escheated, others.redeemed, others.expired,
    )  # fmt: skip


def _nearest(numerator: int, denominator: int) -> int:
    """Rounds half away from zero."""
    nearest = floor(Fraction(abs(numerator), denominator) + Fraction(1, 2))
    return nearest if numerator >= 0 else -nearest


# --- from the log ---------------------------------------------------------------------------------------------------


def steps_of(
    end: View, request: ReportRequest, estimates: Sequence[EstimateVersion], names: CohortNames, new_rules: int
) -> list[Step]:
    """Returns T by the formula through every cohort's events.

    ``new_rules`` is the position from which events were decided cohort by cohort.
    """
    parameters = _step_parameters(end, request, estimates, names) | {"new_rules": new_rules}
    rows = end.connection.execute(text(STEPS), parameters).all()
    versions = {(estimate.pool, estimate.version): estimate for estimate in estimates}
    return [
        step
        for key, of_cohort in groupby(rows, key=lambda row: (row.pool, row.cohort))
        for step in _along(Line(), key, of_cohort, versions, new_rules)
    ]


def _along(
    line: Line, key: CohortKey, rows: Iterator[Any], versions: Mapping[tuple[str, int], EstimateVersion], new_rules: int
) -> Iterator[Step]:
    before = (0, 0)
    for row in rows:
        figures, version = _figures(row), row.version
        if row.position < new_rules:
            now = line.as_posted(figures, (int(row.all_posted), int(row.all_posted_functional)))
            if version is not None:
                line.estimate, line.issued_then = versions[key[0], version], figures.issued
        else:
            now = line.go_on(figures, turns=row.turns)
            if version is not None:
                now = line.estimated(versions[key[0], version])
                version = version if line.estimate is versions[key[0], version] else None
        posted = (int(row.posted_minor), int(row.posted_functional))
        month, issued = row.month, figures.issued
        yield Step(key=key, month=month, version=version, issued=issued, before=before, due=now, posted=posted)
        before = now


def _step_parameters(
    end: View, request: ReportRequest, estimates: Sequence[EstimateVersion], names: CohortNames
) -> dict[str, Any]:
    estimated = [(estimate, cohort) for estimate in estimates for cohort in names.of_estimate(estimate)]
    return {
        "ledger": end.ledger,
        "position": end.position,
        "as_of": end.as_of,
        "from_date": request.from_date or date.min,
        **FACTORS,
        **names.parameters,
        "estimated": [estimate.pool for estimate, _ in estimated],
        "estimated_cohorts": [cohort for _, cohort in estimated],
        "positions": [estimate.position for estimate, _ in estimated],
        "booked": [estimate.booked_on for estimate, _ in estimated],
        "versions": [estimate.version for estimate, _ in estimated],
    }


def _factors() -> dict[str, list[Any]]:
    """The factor (-1, 0, 1) with which an entry of each kind counts in each figure."""
    kinds = [kind for kind in KINDS if kind.column is not None or kind.name == ESTIMATE]

    def signs(*columns: str, gains: int = -1) -> list[int]:
        return [kind.sign * gains if kind.column in columns else 0 for kind in kinds]

    return {
        "kinds": [kind.name for kind in kinds],
        "issued": signs(*GAINS, *DEDUCTIONS, gains=1),
        "redeemed": signs("consumed"),
        "expired": signs("expired"),
        "escheated": signs("escheated"),
        "held": [kind.sign for kind in kinds],
    }


FACTORS: Final = _factors()


def _figures(row: Any) -> CohortFigures:
    return CohortFigures(
        issued=int(row.issued),
        redeemed=int(row.redeemed),
        expired=int(row.expired),
        escheated=int(row.escheated),
        credits=Decimal(row.credits),
        issued_functional=int(row.issued_functional),
        expired_functional=int(row.expired_functional),
    )
