"""Breakage by the proportional method, computed a second time from the log, event by event, beside the posted amounts.

Owns: the formula (ASC 606-10-55-48, IFRS 15 B46) by which the report of pools checks the entries, and the estimates as
recorded. It shares no arithmetic with ``subledger.pools``, which decided the entries: if one of the two is wrong, the
report does not tie. Does not own: the pool of a movement (deciding), the report (``breakage_pools``).

With F issued and not cancelled, R redeemed, A expired, E expected breakage and S expected escheat, the breakage
recognised to date is T = max(A, min(E × R / (F − E − S), F − R − S)); 0 before the first redemption or expiry, A once
no block of the pool has credits. T follows the order of recording: an event posts the change of T on its own accounting
date. So the figures as of a day give T by the formula only if no event was recorded later with an earlier date. This
module computes the amount posted through that day event by event, which is right in every case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import ReportRequest
from subledger.accounting_dates import accounting_date, effective_date
from subledger.blocks import ZERO
from subledger.events.data import BreakageEstimated
from subledger.kinds import GAINS, KINDS
from subledger.money import round_half_up, to_minor
from subledger.periods import Period
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_decision

ESTIMATE: Final = "breakage_estimate"
DEDUCTIONS: Final = ("voided", "refunded", "transferred", "charged_back", "written_off")
"""The columns of a block that reduce the issued amount."""
EARLIER, LATER = "earlier", "later"
"""Values used instead of a month: before the requested range, and after the view."""

STEPS: Final = """
-- The figures of every pool after the last event of each month of the books, and before and after each estimate.
WITH moved AS (
    SELECT d.pool, n.position, max(n.accounting_date) FILTER (WHERE n.kind = 'breakage_estimate') AS posted_on,
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
    WHERE n.ledger = :ledger AND n.position <= :position AND d.pool <> ''
    GROUP BY d.pool, n.position
    UNION ALL
    SELECT e.pool, e.position, NULL, e.booked_on, e.version, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM unnest(CAST(:pools AS text[]), CAST(:positions AS bigint[]), CAST(:booked AS date[]),
                CAST(:versions AS int[])) AS e (pool, position, booked_on, version)
), per_event AS (
    SELECT pool, position, max(version) AS version, coalesce(max(posted_on), max(moved_on)) AS booked_on,
           coalesce(sum(posted_minor), 0) AS posted_minor, coalesce(sum(posted_functional), 0) AS posted_functional,
           sum(issued) AS issued, sum(issued_functional) AS issued_functional, sum(redeemed) AS redeemed,
           sum(expired) AS expired, sum(expired_functional) AS expired_functional, sum(escheated) AS escheated,
           sum(credits) AS credits
    FROM moved GROUP BY pool, position
), in_months AS (
    SELECT *, CASE WHEN booked_on > :as_of THEN 'later' WHEN booked_on < :from_date THEN 'earlier'
                   ELSE to_char(booked_on, 'YYYY-MM') END AS month
    FROM per_event
), standing AS (
    SELECT pool, position, version, booked_on, month, posted_minor, posted_functional,
           sum(issued) OVER so_far AS issued, sum(issued_functional) OVER so_far AS issued_functional,
           sum(redeemed) OVER so_far AS redeemed, sum(expired) OVER so_far AS expired,
           sum(expired_functional) OVER so_far AS expired_functional, sum(escheated) OVER so_far AS escheated,
           sum(credits) OVER so_far AS credits,
           lead(month) OVER so_far AS next_month, lead(version) OVER so_far AS next_version
    FROM in_months WINDOW so_far AS (PARTITION BY pool ORDER BY position)
)
SELECT * FROM standing
WHERE month IS DISTINCT FROM next_month OR version IS NOT NULL OR next_version IS NOT NULL
ORDER BY pool, position
"""
LOGGED: Final = """
-- Every estimate, and the closing and reopening of periods, in order.
SELECT position, type, occurred_at, data, decision FROM events
WHERE ledger = :ledger AND position <= :position
  AND type IN ('breakage.estimated', 'period.closed', 'period.reopened')
ORDER BY position
"""


class EstimateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a pool's estimate as recorded, with its maker and checker if a second person approved it."""

    pool: str
    currency: str
    version: int
    position: int
    booked_on: date
    breakage_minor: int | None
    breakage_rate: Decimal | None
    escheat_minor: int | None
    escheat_rate: Decimal | None
    evidence: str
    maker: str | None
    checker: str | None


class PoolFigures(msgspec.Struct, kw_only=True):
    """The variables of the formula, in minor units; ``issued`` is F, net of cancellations."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    credits: Decimal = ZERO
    issued_functional: int = 0
    expired_functional: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The formula before and after some events of a pool in one month; ``version`` if the event is an estimate.

    ``before`` and ``due`` are T before and after the events; ``posted`` is the amount that the last event posted. Each
    is in the pool's currency and in the functional currency.
    """

    pool: str
    month: str
    version: int | None
    before: tuple[int, int]
    due: tuple[int, int]
    posted: tuple[int, int]


# --- the formula ----------------------------------------------------------------------------------------------------


def expected(estimate: EstimateVersion | None, issued_then: int, figures: PoolFigures) -> tuple[Fraction, Fraction]:
    """Returns E and S for the amount issued now: estimated amounts are scaled from the amount issued at that time."""

    def at(amount: int | None, rate: Decimal | None) -> Fraction:
        if rate is not None:
            return Fraction(rate) * figures.issued
        return Fraction((amount or 0) * figures.issued, issued_then) if issued_then else Fraction(0)

    if estimate is None:
        return Fraction(0), Fraction(figures.escheated)
    escheat = max(at(estimate.escheat_minor, estimate.escheat_rate), Fraction(figures.escheated))
    breakage = at(estimate.breakage_minor, estimate.breakage_rate)
    return (breakage if breakage + escheat < figures.issued else Fraction(0)), escheat


def due(estimate: EstimateVersion | None, issued_then: int, figures: PoolFigures) -> tuple[int, int]:
    """Returns T by the formula: in the pool's currency, and in the functional currency at the pool's average rate."""
    breakage, escheat = expected(estimate, issued_then, figures)
    redeemed, expired = figures.redeemed, figures.expired
    if not figures.credits or not breakage or not (redeemed or expired):
        return expired, figures.expired_functional
    share = breakage * redeemed / (figures.issued - breakage - escheat)
    most = floor(figures.issued - redeemed - escheat)
    recognised = max(expired, min(round_half_up(share.numerator, share.denominator), most))
    if recognised == expired:
        return expired, figures.expired_functional
    return recognised, round_half_up(recognised * figures.issued_functional, figures.issued)


# --- from the log ---------------------------------------------------------------------------------------------------


def recorded_estimates(end: View) -> list[EstimateVersion]:
    """Returns every version of every pool's estimate, in order; each is booked on the first open day."""
    found: list[EstimateVersion] = []
    versions: dict[str, int] = {}
    closed_through: date | None = None
    for row in end.connection.execute(text(LOGGED), {"ledger": end.ledger, "position": end.position}):
        if row.type != "breakage.estimated":
            period = Period.parse(msgspec.json.decode(row.data)["period"])
            closed = row.type == "period.closed"
            closed_through = period.last_day if closed else period.first_day - timedelta(days=1)
            continue
        data = BreakageEstimated.model_validate_json(row.data)
        approval = decode_decision(row.decision).approval
        versions[data.pool] = versions.get(data.pool, 0) + 1
        found.append(
            EstimateVersion(
                pool=data.pool,
                currency=data.currency,
                version=versions[data.pool],
                position=row.position,
                booked_on=accounting_date(effective_date(row.occurred_at, end.zone), closed_through),
                breakage_minor=_minor(data.expected_breakage, data.currency),
                breakage_rate=data.expected_breakage_rate,
                escheat_minor=_minor(data.expected_escheat, data.currency),
                escheat_rate=data.expected_escheat_rate,
                evidence=data.evidence,
                maker=None if approval is None else approval.maker,
                checker=None if approval is None else approval.checker,
            )
        )
    return found


def _minor(amount: Decimal | None, currency: str) -> int | None:
    return None if amount is None else to_minor(amount, currency, field="amount")


def steps_of(
    end: View, request: ReportRequest, estimates: Sequence[EstimateVersion]
) -> tuple[list[Step], dict[tuple[str, int], int]]:
    """Returns T by the formula through every pool's events, and the amount issued at each version of its estimate."""
    rows = end.connection.execute(text(STEPS), _step_parameters(end, request, estimates)).all()
    versions = {(estimate.pool, estimate.version): estimate for estimate in estimates}
    steps: list[Step] = []
    issued_at: dict[tuple[str, int], int] = {}
    for pool, of_pool in groupby(rows, key=lambda row: row.pool):
        estimate, before = None, (0, 0)
        for row in of_pool:
            if row.version is not None:
                estimate = versions[pool, row.version]
                issued_at[pool, row.version] = int(row.issued)
            issued_then = 0 if estimate is None else issued_at[pool, estimate.version]
            now = due(estimate, issued_then, _figures(row))
            posted = (int(row.posted_minor), int(row.posted_functional))
            steps.append(Step(pool=pool, month=row.month, version=row.version, before=before, due=now, posted=posted))
            before = now
    return steps, issued_at


def _step_parameters(end: View, request: ReportRequest, estimates: Sequence[EstimateVersion]) -> dict[str, Any]:
    kinds = [kind for kind in KINDS if kind.column is not None or kind.name == ESTIMATE]

    def signs(*columns: str, gains: int = -1) -> list[int]:
        """Returns the factor (-1, 0, 1) with which an entry of each kind counts in a figure that sums some columns."""
        return [kind.sign * gains if kind.column in columns else 0 for kind in kinds]

    return {
        "ledger": end.ledger,
        "position": end.position,
        "as_of": end.as_of,
        "from_date": request.from_date or date.min,
        "kinds": [kind.name for kind in kinds],
        "issued": signs(*GAINS, *DEDUCTIONS, gains=1),
        "redeemed": signs("consumed"),
        "expired": signs("expired"),
        "escheated": signs("escheated"),
        "held": [kind.sign for kind in kinds],
        "pools": [estimate.pool for estimate in estimates],
        "positions": [estimate.position for estimate in estimates],
        "booked": [estimate.booked_on for estimate in estimates],
        "versions": [estimate.version for estimate in estimates],
    }


def _figures(row: Any) -> PoolFigures:
    return PoolFigures(
        issued=int(row.issued),
        redeemed=int(row.redeemed),
        expired=int(row.expired),
        escheated=int(row.escheated),
        credits=Decimal(row.credits),
        issued_functional=int(row.issued_functional),
        expired_functional=int(row.expired_functional),
    )
