"""Cohorts of breakage pools in a view: balances, and the expired amount of finished blocks.

A *finished* block has no credits in the view.

Owns: the type of the balances, and the table of finished blocks. Does not own: the report of pools
(``breakage_pools``).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec
from sqlalchemy import text

from projections.report import Column, Table
from projections.reports.breakage_estimates import CohortKey, CohortNames, EstimateVersion
from projections.reports.breakage_formula import CohortFigures
from projections.reports.breakage_steps import FACTORS
from subledger.money import round_half_up
from subledger.store.reading.views import View

FINISHED: Final = """
-- The finished blocks of each cohort: their number, their issued amount and their expired amount.
SELECT pool, cohort, count(*) AS blocks, sum(issued)::bigint AS issued, sum(expired)::bigint AS expired
FROM (
    SELECT c.pool, c.cohort, n.block_id, sum(k.issued * n.amount_minor) AS issued,
           sum(k.expired * n.amount_minor) AS expired, sum(k.held * n.credits) AS credits
    FROM unnest(CAST(:kinds AS text[]), CAST(:issued AS int[]), CAST(:expired AS int[]), CAST(:held AS int[]))
         AS k (kind, issued, expired, held)
    JOIN entries n ON n.kind = k.kind
    JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
    JOIN unnest(CAST(:of_pools AS text[]), CAST(:issued_in AS text[]), CAST(:cohorts AS text[]))
         AS c (pool, issued_in, cohort) ON c.pool = d.pool AND c.issued_in = d.cohort
    WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date <= :as_of AND n.block_id IS NOT NULL
    GROUP BY 1, 2, 3
) AS of_block
WHERE credits = 0 GROUP BY 1, 2
"""


class CohortBalances(msgspec.Struct, kw_only=True):
    """A cohort in a view: the columns of the report, the figures of the formula, and balances in both currencies."""

    currency: str
    columns: dict[str, int] = {}
    figures: CohortFigures = msgspec.field(default_factory=CohortFigures)
    recognised: tuple[int, int] = (0, 0)
    liability: tuple[int, int] = (0, 0)
    breakage_recognized: tuple[int, int] = (0, 0)


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate in force of a cohort. ``issued_then`` is the cohort's issued amount at the time of the estimate."""

    estimate: EstimateVersion
    issued_then: int


def finished_table(
    end: View, names: CohortNames, cohorts: Mapping[CohortKey, CohortBalances], in_force: Mapping[CohortKey, InForce]
) -> Table:
    """Returns a table of the finished blocks by cohort. It compares their expired amount with the breakage that the
    estimate in force expects of them.
    """
    columns = (
        Column("pool"),
        Column("cohort"),
        Column("currency"),
        Column("finished_blocks", "integer"),
        Column("issued", "money"),
        Column("expected_breakage", "money"),
        Column("expired", "money"),
        Column("difference", "money"),
        Column("expected_rate", "ratio"),
        Column("expired_rate", "ratio"),
    )
    factors = {name: FACTORS[name] for name in ("kinds", "issued", "expired", "held")}
    parameters = {"ledger": end.ledger, "position": end.position, "as_of": end.as_of}
    rows = []
    for row in end.connection.execute(text(FINISHED), parameters | factors | names.parameters) if cohorts else ():
        key = (row.pool, row.cohort)
        found, made = cohorts[key], in_force.get(key)
        whole, expected = found.figures.issued, None
        if made is not None and whole:
            breakage = found.figures.expected(made.estimate, made.issued_then)[0] / whole * row.issued
            expected = round_half_up(breakage.numerator, breakage.denominator)
        rows.append(
            (
                row.pool,
                row.cohort or None,
                found.currency,
                row.blocks,
                row.issued,
                expected,
                row.expired,
                None if expected is None else row.expired - expected,
                None if expected is None or not row.issued else Fraction(expected, row.issued),
                Fraction(row.expired, row.issued) if row.issued else None,
            )
        )
    rows.sort(key=lambda row: (row[0], row[1] or ""))
    return Table(name="finished", columns=columns, rows=tuple(rows), lists_items=True)
