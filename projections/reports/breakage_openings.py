"""Cohorts of breakage pools as they were opened at a cut-over: the figures at which their line begins in this ledger.

Owns: these figures, from the log. Does not own: the formula that continues from them (``breakage_formula``), the later
days (``breakage_steps``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from functools import reduce
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import text

from projections.reports.breakage_estimates import CohortKey, CohortNames, EstimateVersion
from projections.reports.breakage_formula import CohortFigures
from subledger.events.opened import BalanceOpened
from subledger.kinds import KINDS
from subledger.money import round_half_up
from subledger.store.reading.views import View

OPENED_BLOCK: Final = next(kind.name for kind in KINDS if kind.opens_balance and kind.opens_block)
OPENED_AHEAD: Final = next(kind.name for kind in KINDS if kind.opens_ahead)

OPENED: Final = """
-- The openings of pooled blocks, and of the breakage of cohorts that was recognised ahead, as recorded; and the undoing
-- of such openings, with the position of the opening.
SELECT n.position, n.kind, n.accounting_date, n.amount_minor, n.functional_minor, n.credits, d.pool, d.cohort, e.data,
       CASE WHEN e.type = 'event.reversed' THEN (e.decision::jsonb ->> 'original')::bigint END AS undone
FROM entries n
JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
JOIN events e ON e.ledger = n.ledger AND e.position = n.position
WHERE n.ledger = :ledger AND n.position <= :position AND n.kind = ANY(:kinds) AND d.pool <> ''
ORDER BY n.position
"""


class OpenedCohort(msgspec.Struct, frozen=True, kw_only=True):
    """An opening of one of a cohort's blocks, or of its breakage; ``recognised`` is T, in both currencies.

    The undoing of an opening has its figures with the opposite sign. Then ``stands`` is False for both.
    """

    key: CohortKey
    position: int
    on: date
    is_block: bool
    figures: CohortFigures
    recognised: tuple[int, int] = (0, 0)
    stands: bool = True


def opened_cohorts(
    end: View, names: CohortNames, estimates: Sequence[EstimateVersion]
) -> dict[CohortKey, list[OpenedCohort]]:
    """Returns every opening of each cohort that is known at the view, in order, whatever its date."""
    parameters = {"ledger": end.ledger, "position": end.position, "kinds": [OPENED_BLOCK, OPENED_AHEAD]}
    grouped_at = {estimate.pool: estimate.position for estimate in reversed(estimates)}
    carried: dict[CohortKey, tuple[int, int]] = {}
    found: dict[int, OpenedCohort] = {}
    for row in end.connection.execute(text(OPENED), parameters):
        amounts = (int(row.amount_minor), int(row.functional_minor))
        opening = None if row.undone is None else found[row.undone]
        if row.kind == OPENED_BLOCK:
            month = (row.pool, row.cohort)
            carried[month] = _plus(carried.get(month, (0, 0)), amounts)
        if opening is not None:
            found[row.undone] = replace(opening, stands=False)
            found[row.position] = _undoing(opening, row)
        elif row.kind == OPENED_BLOCK:
            figures = CohortFigures(issued=amounts[0], issued_functional=amounts[1], credits=Decimal(row.credits))
            found[row.position] = _opening(row, names, figures)
        else:
            is_grouped = row.position > grouped_at.get(row.pool, row.position)
            months = [amount for month, amount in carried.items() if _is_of(month, row, names, is_grouped=is_grouped)]
            figures = _before(BalanceOpened.model_validate_json(row.data), reduce(_plus, months, (0, 0)))
            recognised = _plus(amounts, (figures.expired, figures.expired_functional))
            found[row.position] = replace(_opening(row, names, figures), recognised=recognised)
    of_cohorts: dict[CohortKey, list[OpenedCohort]] = {}
    for opened in found.values():
        of_cohorts.setdefault(opened.key, []).append(opened)
    return of_cohorts


def _opening(row: Any, names: CohortNames, figures: CohortFigures) -> OpenedCohort:
    return OpenedCohort(
        key=names.key(row.pool, row.cohort),
        position=row.position,
        on=row.accounting_date,
        is_block=row.kind == OPENED_BLOCK,
        figures=figures,
    )


def _undoing(opening: OpenedCohort, row: Any) -> OpenedCohort:
    """Returns the undoing of an opening."""
    recognised = (-opening.recognised[0], -opening.recognised[1])
    figures = opening.figures.negative()
    return replace(
        opening, position=row.position, on=row.accounting_date, figures=figures, recognised=recognised, stands=False
    )


def _is_of(month: CohortKey, row: Any, names: CohortNames, *, is_grouped: bool) -> bool:
    """True if a month of issue is of the cohort of a row. Before a pool's first estimate each month is a cohort."""
    return month == (row.pool, row.cohort) or (is_grouped and names.key(*month) == names.key(row.pool, row.cohort))


def _before(data: BalanceOpened, carried: tuple[int, int]) -> CohortFigures:
    """Returns the amounts redeemed, expired and escheated before, at the rate of the cohort's open blocks."""
    redeemed, expired, escheated = (data.minor(name) for name in ("redeemed", "expired", "escheated"))
    issued, functional = carried

    def at_that_rate(amount: int) -> int:
        return round_half_up(amount * functional, issued) if issued else amount

    return CohortFigures(
        issued=redeemed + expired + escheated,
        issued_functional=at_that_rate(redeemed + expired + escheated),
        redeemed=redeemed,
        expired=expired,
        expired_functional=at_that_rate(expired),
        escheated=escheated,
    )


def together(openings: Iterable[OpenedCohort]) -> tuple[CohortFigures, tuple[int, int]]:
    """Returns the sums of the figures of some openings of a cohort, and T."""
    figures, recognised = CohortFigures(), (0, 0)
    for opened in openings:
        figures, recognised = figures.plus(opened.figures), _plus(recognised, opened.recognised)
    return figures, recognised


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
