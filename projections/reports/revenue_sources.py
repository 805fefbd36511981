"""Sources of a period's revenue: the opening liability, or sales of the period (ASC 606-10-50-8(b)).

- A *family* is a block and the blocks into which its credits were transferred.
- The revenue of a family comes first from the family's carrying amount at the opening. The rest comes from later
  additions, such as a repricing: first in, first out.
- Breakage that is recognised for a pool before expiry is revenue of a cohort. This revenue comes first from the opening
  amount of the cohort: the carrying amount of its blocks, less the breakage that was recognised earlier. The rest comes
  from the sales of the period.
- Negative revenue takes back revenue of earlier periods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final

import msgspec
from sqlalchemy import text

from projections.forecast.holdings import Holding, month_number
from projections.report import Column, Table
from projections.report_inputs import totals
from projections.reports.breakage_estimates import SEPARATOR, CohortKey, CohortNames, recorded_estimates
from projections.reports.waterfall import RECOGNITION, bridge_item
from subledger.cohorts import WHOLE
from subledger.kinds import BLOCK, KINDS, POOL, Result, effect
from subledger.money import round_half_up
from subledger.store.reading.views import View

FROM_CONTRACT: Final = "opening contract liability"
FROM_REFUND: Final = "opening refund liability"
FROM_PERIOD: Final = "sold or granted in the period"
TAKEN_BACK: Final = "revenue of earlier periods taken back"
BEYOND: Final = "usage beyond the credits"
SOURCES: Final = (FROM_CONTRACT, FROM_REFUND, FROM_PERIOD, TAKEN_BACK, BEYOND)
RECOGNISED_AHEAD: Final = "breakage_recognized"

RECOGNISED: Final = """
-- The revenue of a period, by block, kind and month of issue in a pool.
SELECT n.block_id, n.policy, n.kind, n.currency, d.pool, d.cohort, sum(n.amount_minor)::bigint AS amount_minor,
       sum(n.functional_minor)::bigint AS functional_minor
FROM entries n JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date BETWEEN :from_date AND :as_of
  AND n.kind = ANY(:kinds)
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""
HANDED_ON: Final = """
-- Blocks that a transfer opened, each with the block from which its credits came, in order of recording.
SELECT taken.block_id AS block_id, given.block_id AS from_block
FROM entries given JOIN entries taken
  ON taken.ledger = given.ledger AND taken.position = given.position AND taken.kind = 'transfer_in'
WHERE given.ledger = :ledger AND given.kind = 'transfer_out' AND given.position <= :position
ORDER BY given.position
"""

SourceLine = tuple[str, str]
"""First the source of revenue, or the item of the bridge to the accounts. Then the currency."""
RevenueFigures = dict[SourceLine, list[int]]
"""Two amounts in minor units by source or item: in the currency of the line, and in the functional currency."""


class Family(msgspec.Struct):
    """A family: its carrying amount at the opening, and its revenue of the period, each in both currencies."""

    currency: str
    cohort: CohortKey | None = None
    is_refundable: bool = False
    existed: bool = False
    opening: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    recognised: list[int] = msgspec.field(default_factory=lambda: [0, 0])


class CohortRevenue(msgspec.Struct):
    """A cohort of a pool.

    - ``opening``: the carrying amount of the cohort's blocks at the opening, less the breakage recognised until then.
    - ``counted``: the part of ``opening`` that is already revenue of the blocks.
    - ``ahead``: the breakage that the cohort recognised before expiry in the period, less the expired amount.
    """

    currency: str
    existed: bool = False
    opening: int = 0
    counted: int = 0
    ahead: list[int] = msgspec.field(default_factory=lambda: [0, 0])


def sources(end: View, from_date: date | None, blocks: Sequence[Holding]) -> tuple[RevenueFigures, RevenueFigures]:
    """Returns the period's revenue by source, and the bridge from this revenue to the accounts."""
    rules = end.rules
    roots = _roots(end)
    estimates = recorded_estimates(end)
    names = CohortNames(end, estimates)
    families = _families(blocks, roots, from_date, names)
    cohorts = _cohorts(end, from_date, names, families.values())
    found: RevenueFigures = {}
    bridge: RevenueFigures = {}
    parameters = {
        "ledger": end.ledger,
        "position": end.position,
        "from_date": from_date or date.min,
        "as_of": end.as_of,
        "kinds": [kind.name for kind in KINDS if kind.recognised or kind.result in (Result.CONCESSION, Result.SHARE)],
    }
    for row in end.connection.execute(text(RECOGNISED), parameters):
        amounts = (row.amount_minor, row.functional_minor)
        for whose, _, sign in RECOGNITION.get(row.kind, ()):
            if whose == BLOCK:
                root = roots.get(row.block_id, row.block_id)
                family = families.setdefault(root, Family(currency=row.currency))
                family.recognised = [r + sign * a for r, a in zip(family.recognised, amounts, strict=True)]
            elif whose == POOL:
                key = names.key(row.pool, row.cohort)
                cohort = cohorts.setdefault(key, CohortRevenue(currency=row.currency))
                cohort.ahead = [a + sign * amount for a, amount in zip(cohort.ahead, amounts, strict=True)]
            else:
                _add(found, (BEYOND, row.currency), amounts, sign)
        item = bridge_item(row.kind, rules[row.policy])
        if item is not None:
            _add(bridge, (item[0], row.currency), amounts, item[1])
    for family in families.values():
        counted = _split(found, family)
        if family.cohort in cohorts:
            cohorts[family.cohort].counted += counted
    for _, cohort in sorted(cohorts.items()):
        _split_ahead(found, cohort)
    return found, bridge


def _add(figures: RevenueFigures, line: SourceLine, amounts: Iterable[int], sign: int = 1) -> None:
    before = figures.setdefault(line, [0, 0])
    figures[line] = [each + sign * amount for each, amount in zip(before, amounts, strict=True)]


def _roots(end: View) -> dict[str, str]:
    """Maps each block that a transfer opened to the block that was originally bought or granted."""
    roots: dict[str, str] = {}
    for row in end.connection.execute(text(HANDED_ON), {"ledger": end.ledger, "position": end.position}):
        roots[row.block_id] = roots.get(row.from_block, row.from_block)
    return roots


def _families(
    blocks: Iterable[Holding], roots: dict[str, str], from_date: date | None, names: CohortNames
) -> dict[str, Family]:
    before = -1 if from_date is None else month_number(from_date) - 1
    families: dict[str, Family] = {}
    for holding in blocks:
        block_id = holding.block.block_id
        family = families.setdefault(roots.get(block_id, block_id), Family(currency=holding.block.currency))
        family.is_refundable |= holding.block.refundable
        if holding.block.pool is not None:
            family.cohort = names.key(holding.block.pool, holding.block.cohort or WHOLE)
        at = holding.month_index(before)
        if at >= 0:
            family.existed = True
            family.opening = [family.opening[0] + holding.value[at], family.opening[1] + holding.functional[at]]
    return families


def _cohorts(
    end: View, from_date: date | None, names: CohortNames, families: Iterable[Family]
) -> dict[CohortKey, CohortRevenue]:
    """Returns the cohorts of all pools with their opening amounts. Breakage recognised until then is deducted."""
    cohorts: dict[CohortKey, CohortRevenue] = {}
    for family in families:
        if family.cohort is not None:
            cohort = cohorts.setdefault(family.cohort, CohortRevenue(currency=family.currency))
            cohort.existed |= family.existed
            cohort.opening += family.opening[0]
    if from_date is None:
        return cohorts
    rules = end.rules
    start = msgspec.structs.replace(end, as_of=from_date - timedelta(days=1))
    for total in totals(start, by="cohort"):
        pool, _, issued = total.key.partition(SEPARATOR)
        if pool:
            cohort = cohorts.setdefault(names.key(pool, issued), CohortRevenue(currency=total.currency))
            cohort.opening -= effect(RECOGNISED_AHEAD, total.kind, rules[total.policy]) * total.amount_minor
    return cohorts


def _split_ahead(found: RevenueFigures, cohort: CohortRevenue) -> None:
    """Adds the breakage that a cohort recognised before expiry: first from its opening, then from sales of the period.

    The blocks' revenue from the opening contains the expired amounts in full. So these amounts are deducted here.
    """
    amount, functional = cohort.ahead
    if not cohort.existed:
        _add(found, (FROM_PERIOD, cohort.currency), cohort.ahead)
        return
    opening = max(min(amount, cohort.opening - cohort.counted), -cohort.counted)
    own = functional
    if opening != amount:
        own = round_half_up(functional * opening * (1 if amount > 0 else -1), abs(amount)) if amount else 0
    _add(found, (FROM_CONTRACT, cohort.currency), (opening, own))
    rest = FROM_PERIOD if amount >= opening else TAKEN_BACK
    _add(found, (rest, cohort.currency), (amount - opening, functional - own))


def _split(found: RevenueFigures, family: Family) -> int:
    """Adds a family's revenue: first from its opening, then from additions. Returns the part from the opening.

    Negative revenue of a family that existed at the opening takes back revenue of earlier periods.
    """
    amount = family.recognised[0]
    if not family.existed:
        _add(found, (FROM_PERIOD, family.currency), family.recognised)
        return 0
    if amount < 0:
        _add(found, (TAKEN_BACK, family.currency), family.recognised)
        return 0
    source = (FROM_REFUND if family.is_refundable else FROM_CONTRACT, family.currency)
    out = min(amount, family.opening[0])
    functional = family.recognised[1] if out == amount else round_half_up(family.recognised[1] * out, amount)
    _add(found, source, (out, functional))
    _add(found, (FROM_PERIOD, family.currency), (amount - out, family.recognised[1] - functional))
    return out


def sources_table(found: RevenueFigures, functional_currency: str) -> Table:
    """Returns the revenue by source."""
    columns = (
        Column("source"),
        Column("currency"),
        Column("recognised", "money"),
        Column("functional_currency"),
        Column("recognised_functional", "functional"),
    )
    rows = tuple(
        (source, currency, found[source, currency][0], functional_currency, found[source, currency][1])
        for currency in sorted({currency for _, currency in found})
        for source in SOURCES
        if any(found.get((source, currency), ())) or (source == FROM_CONTRACT and (source, currency) in found)
    )
    return Table(name="revenue", columns=columns, rows=rows)
