"""The days of every cohort from the log: the breakage by the formula, compared with the posted breakage.

T is computed in the order of the days, not of recording. Owns: these days, and the effect of an estimate. Does not own:
the formula (``breakage_formula``), the cohort of a movement (deciding), the report (``breakage_pools``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import ReportRequest
from projections.reports.breakage_estimates import CohortKey, CohortNames, EstimateVersion
from projections.reports.breakage_formula import CohortFigures, Line
from projections.reports.breakage_openings import OPENED_BLOCK, OpenedCohort, together
from subledger.kinds import GAINS, KINDS
from subledger.store.reading.views import View

ESTIMATE: Final = "breakage_estimate"
DEDUCTIONS: Final = ("voided", "refunded", "transferred", "charged_back", "written_off")
"""The columns of a block that reduce the issued amount."""
EARLIER: Final = "earlier"
"""Value used instead of a month before the requested range."""

Openings = Mapping[CohortKey, Sequence[OpenedCohort]]

MOVED: Final = """
-- The figures of every cohort that its entries change.
WITH moved AS (
    SELECT d.pool, c.cohort, n.kind, n.position, n.accounting_date, n.kind = 'breakage_estimate' AS is_posted,
           n.amount_minor, n.functional_minor, n.credits, k.issued, k.redeemed, k.backfilled, k.expired, k.escheated,
           k.held
    FROM unnest(CAST(:kinds AS text[]), CAST(:issued AS int[]), CAST(:redeemed AS int[]), CAST(:backfilled AS int[]),
                CAST(:expired AS int[]), CAST(:escheated AS int[]), CAST(:held AS int[]))
         AS k (kind, issued, redeemed, backfilled, expired, escheated, held)
    JOIN entries n ON n.kind = k.kind
    JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
    JOIN unnest(CAST(:of_pools AS text[]), CAST(:issued_in AS text[]), CAST(:cohorts AS text[]))
         AS c (pool, issued_in, cohort) ON c.pool = d.pool AND c.issued_in = d.cohort
    WHERE n.ledger = :ledger AND n.position <= :position AND d.pool <> ''
)"""

DAYS: Final = (
    MOVED
    + """
-- The changes of every cohort by day, without what was opened at a cut-over; of before there were cohorts apart.
SELECT pool, cohort, accounting_date, position < :new_rules AS is_old,
       coalesce(sum(amount_minor) FILTER (WHERE is_posted), 0) AS posted_minor,
       coalesce(sum(functional_minor) FILTER (WHERE is_posted), 0) AS posted_functional,
       sum(issued * amount_minor) AS issued, sum(issued * functional_minor) AS issued_functional,
       sum(redeemed * amount_minor) AS redeemed, sum(backfilled * amount_minor) AS backfilled,
       sum(expired * amount_minor) AS expired, sum(expired * functional_minor) AS expired_functional,
       sum(escheated * amount_minor) AS escheated, sum(held * credits) AS credits
FROM moved WHERE kind <> :opening GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
)
EFFECTS: Final = (
    MOVED
    + """, per_event AS (
    SELECT pool, cohort, position, NULL::int AS version, sum(issued * amount_minor) AS issued, 1 AS entries,
           coalesce(sum(amount_minor) FILTER (WHERE is_posted AND accounting_date <= :as_of), 0) AS posted,
           coalesce(sum(functional_minor) FILTER (WHERE is_posted AND accounting_date <= :as_of), 0) AS functional
    FROM moved GROUP BY 1, 2, 3
    UNION ALL
    SELECT pool, cohort, position, NULL, issued, 1, CASE WHEN booked_on <= :as_of THEN posted ELSE 0 END,
           CASE WHEN booked_on <= :as_of THEN functional ELSE 0 END
    FROM unnest(CAST(:opened_pools AS text[]), CAST(:opened_cohorts AS text[]), CAST(:opened_at AS bigint[]),
                CAST(:opened_on AS date[]), CAST(:opened_issued AS bigint[]), CAST(:opened_posted AS bigint[]),
                CAST(:opened_functional AS bigint[]))
         AS opened (pool, cohort, position, booked_on, issued, posted, functional)
    UNION ALL
    SELECT *, 0, 0, 0, 0
    FROM unnest(CAST(:estimated AS text[]), CAST(:estimated_cohorts AS text[]), CAST(:positions AS bigint[]),
                CAST(:versions AS int[]))
), at_positions AS (
    SELECT pool, cohort, position, max(version) AS version, sum(issued) AS issued, sum(entries) AS entries,
           sum(posted) AS posted, sum(functional) AS functional
    FROM per_event GROUP BY 1, 2, 3
), standing AS (
    -- An estimate issues nothing, so what is issued after it was issued before.
    SELECT pool, cohort, position, version, posted, functional, sum(issued) OVER so_far AS issued,
           sum(entries) OVER so_far - entries > 0 AS has_begun, sum(posted) OVER so_far AS recognised
    FROM at_positions WINDOW so_far AS (PARTITION BY pool, cohort ORDER BY position)
)
SELECT * FROM standing WHERE version IS NOT NULL ORDER BY pool, cohort, position
"""
)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate of a cohort, and the breakage that it posted, in both currencies, within the view.

    ``issued`` is F when the estimate was recorded. ``before`` and ``after`` are the breakage posted before and after
    it.
    """

    key: CohortKey
    estimate: EstimateVersion
    issued: int
    before: int
    posted: tuple[int, int]
    after: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Breakage of a cohort that is missing on a day according to the formula, in both currencies."""

    key: CohortKey
    month: str
    missing: tuple[int, int]


def effects_of(end: View, estimates: Sequence[EstimateVersion], names: CohortNames, openings: Openings) -> list[Effect]:
    """Returns the estimates of every cohort, without those that do not fit it, and without amounts recorded before it
    began.
    """
    versions = {(estimate.pool, estimate.version): estimate for estimate in estimates}
    parameters = _parameters(end, names) | _estimated(estimates, names) | _opened(openings)
    rows = end.connection.execute(text(EFFECTS), parameters)
    return [
        Effect(
            key=(row.pool, row.cohort),
            estimate=made,
            issued=int(row.issued),
            before=int(row.recognised - row.posted),
            posted=(int(row.posted), int(row.functional)),
            after=int(row.recognised),
        )
        for row in rows
        for made in (versions[row.pool, row.version],)
        if row.cohort not in made.kept and (row.has_begun or not made.is_for_the_only_one)
    ]


def steps_of(
    end: View, request: ReportRequest, effects: Sequence[Effect], names: CohortNames, openings: Openings
) -> list[Step]:
    """Returns by cohort and day of the view the breakage that is missing by the formula."""
    parameters = _parameters(end, names) | {"new_rules": names.new_rules, "opening": OPENED_BLOCK}
    rows = end.connection.execute(text(DAYS), parameters).all()
    of_cohorts = {key: list(group) for key, group in groupby(rows, key=lambda row: (row.pool, row.cohort))}
    found = []
    for key in sorted({*of_cohorts, *openings}):
        made = [effect for effect in effects if effect.key == key]
        for day, missing in _along(of_cohorts.get(key, []), made, names.new_rules, end.as_of, openings.get(key, [])):
            month = EARLIER if day < (request.from_date or date.min) else f"{day:%Y-%m}"
            found.append(Step(key=key, month=month, missing=missing))
    return found


def _along(
    rows: Sequence[Any], effects: Sequence[Effect], new_rules: int, as_of: date, opened: Sequence[OpenedCohort]
) -> Iterator[tuple[date, tuple[int, int]]]:
    """Yields the missing breakage by day. Days from before cohorts existed keep the posted amount.

    Openings at a cut-over belong to no day: the line starts there, under the estimate that was in force.
    """
    line, old = Line(), [row for row in rows if row.is_old]
    kept_until = max((row.accounting_date for row in old), default=date.min)
    before = [effect for effect in effects if effect.estimate.position < new_rules]
    if before and not old:
        line.take_over(before[-1].estimate, before[-1].issued)
    all_posted, opened = (0, 0), [opening for opening in opened if opening.stands]
    if opened:
        figures, all_posted = together(opened)
        line.opened(figures, all_posted)
        known = [effect for effect in effects if effect.estimate.position < opened[-1].position]
        effects = [effect for effect in effects if effect not in known]
        if known:
            last = max(known, key=lambda effect: (effect.estimate.booked_on, effect.estimate.version))
            line.take_over(last.estimate, last.issued)
    estimated = {effect.estimate.booked_on: effect for effect in effects if effect.estimate.position >= new_rules}
    changes: dict[date, CohortFigures] = {}
    posted: dict[date, tuple[int, int]] = {}
    for row in rows:
        day = row.accounting_date
        changes[day] = changes.get(day, CohortFigures()).plus(_figures(row))
        posted[day] = _plus(posted.get(day, (0, 0)), (int(row.posted_minor), int(row.posted_functional)))
    missed = (0, 0)
    for day in sorted(each for each in {*changes, *estimated} if each <= as_of):
        all_posted = _plus(all_posted, posted.get(day, (0, 0)))
        change = changes.get(day, CohortFigures())
        if day < kept_until:
            due = line.keeps(change, all_posted)
        elif old and day == kept_until:
            if before:
                line.take_over(before[-1].estimate, before[-1].issued)
            line.as_posted(*_sums(old))
            due = line.follow_posted(change)
        else:
            made = estimated.get(day)
            if made is not None:
                line.estimated(made.estimate, made.issued)
            due = line.follow(change)
        missing = (due[0] - all_posted[0], due[1] - all_posted[1])
        yield day, (missing[0] - missed[0], missing[1] - missed[1])
        missed = missing


def _sums(rows: Sequence[Any]) -> tuple[CohortFigures, tuple[int, int]]:
    """Returns the sums of the figures of some rows, and the breakage that they posted."""
    figures, posted = CohortFigures(), (0, 0)
    for row in rows:
        figures = figures.plus(_figures(row))
        posted = _plus(posted, (int(row.posted_minor), int(row.posted_functional)))
    return figures, posted


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _parameters(end: View, names: CohortNames) -> dict[str, Any]:
    return {"ledger": end.ledger, "position": end.position, "as_of": end.as_of, **FACTORS, **names.parameters}


def _estimated(estimates: Sequence[EstimateVersion], names: CohortNames) -> dict[str, Any]:
    estimated = [(estimate, cohort) for estimate in estimates for cohort in names.of_estimate(estimate)]
    return {
        "estimated": [estimate.pool for estimate, _ in estimated],
        "estimated_cohorts": [cohort for _, cohort in estimated],
        "positions": [estimate.position for estimate, _ in estimated],
        "versions": [estimate.version for estimate, _ in estimated],
    }


def _opened(openings: Openings) -> dict[str, Any]:
    """Returns the openings of cohorts other than those of their blocks, which are entries."""
    opened = [each for of_cohort in openings.values() for each in of_cohort if not each.is_block]
    return {
        "opened_pools": [each.key[0] for each in opened],
        "opened_cohorts": [each.key[1] for each in opened],
        "opened_at": [each.position for each in opened],
        "opened_on": [each.on for each in opened],
        "opened_issued": [each.figures.issued for each in opened],
        "opened_posted": [each.recognised[0] for each in opened],
        "opened_functional": [each.recognised[1] for each in opened],
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
        "backfilled": [int(kind.backfills) for kind in kinds],
        "expired": signs("expired"),
        "escheated": signs("escheated"),
        "held": [kind.sign for kind in kinds],
    }


FACTORS: Final = _factors()


def _figures(row: Any) -> CohortFigures:
    return CohortFigures(
        issued=int(row.issued),
        redeemed=int(row.redeemed),
        backfilled=int(row.backfilled),
        expired=int(row.expired),
        escheated=int(row.escheated),
        credits=Decimal(row.credits),
        issued_functional=int(row.issued_functional),
        expired_functional=int(row.expired_functional),
    )
