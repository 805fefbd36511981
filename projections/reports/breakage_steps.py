"""The events of every cohort from the log, with the breakage that the formula makes due beside what they posted.

T follows the order of recording. An event posts its change of T on the days of what causes it; the formula checks the
amounts, and what is missing is of the month in which the event posted last. Owns: these steps. Does not own: the
formula (``breakage_formula``), the cohort of a movement (deciding), the report (``breakage_pools``).
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


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The formula before and after some events of a cohort in one month; ``version`` if the event is its estimate.

    ``before`` and ``due`` are T before and after the events; ``posted`` is the amount that the last event posted, and
    ``missing`` what all of them should have posted more. Each is in the pool's currency and in the functional currency.
    ``issued`` is F after them.
    """

    key: CohortKey
    month: str
    version: int | None
    issued: int
    before: tuple[int, int]
    due: tuple[int, int]
    posted: tuple[int, int]
    missing: tuple[int, int]


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
    before, missed = (0, 0), (0, 0)
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
        missing = (now[0] - int(row.all_posted), now[1] - int(row.all_posted_functional))
        yield Step(
            key=key,
            month=row.month,
            version=version,
            issued=figures.issued,
            before=before,
            due=now,
            posted=posted,
            missing=(missing[0] - missed[0], missing[1] - missed[1]),
        )
        before, missed = now, missing


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
