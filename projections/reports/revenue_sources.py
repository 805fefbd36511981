"""Sources of a period's revenue: the opening liability, or sales of the period (ASC 606-10-50-8(b)).

A block's revenue is taken first from its carrying amount at the opening, then from later additions (a repricing): first
in, first out. A block that was transferred to another customer counts together with the original block, as one family.
Negative revenue takes back revenue of earlier periods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import msgspec
from sqlalchemy import text

from projections.forecast.holdings import Holding, month_number
from projections.report import Column, Table
from projections.reports.waterfall import RECOGNITION, bridge_item
from subledger.kinds import BLOCK, KINDS, POOL, Result
from subledger.money import round_half_up
from subledger.store.reading.views import View

FROM_CONTRACT: Final = "opening contract liability"
FROM_REFUND: Final = "opening refund liability"
FROM_PERIOD: Final = "sold or granted in the period"
TAKEN_BACK: Final = "revenue of earlier periods taken back"
BEYOND: Final = "usage beyond the credits"
ESTIMATED: Final = "breakage estimated for pools, less what expired"
SOURCES: Final = (FROM_CONTRACT, FROM_REFUND, FROM_PERIOD, TAKEN_BACK, BEYOND, ESTIMATED)

RECOGNISED: Final = """
-- The revenue of a period, by block and kind.
SELECT block_id, policy, kind, currency, sum(amount_minor)::bigint AS amount_minor,
       sum(functional_minor)::bigint AS functional_minor
FROM entries
WHERE ledger = :ledger AND position <= :position AND accounting_date BETWEEN :from_date AND :as_of
  AND kind = ANY(:kinds)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
HANDED_ON: Final = """
-- Blocks opened by a transfer, each with the block it came from, in order of time.
SELECT taken.block_id AS block_id, given.block_id AS from_block
FROM entries given JOIN entries taken
  ON taken.ledger = given.ledger AND taken.position = given.position AND taken.kind = 'transfer_in'
WHERE given.ledger = :ledger AND given.kind = 'transfer_out' AND given.position <= :position
ORDER BY given.position
"""

SourceLine = tuple[str, str]
"""The source of revenue, or the item of the bridge to the accounts; and the currency."""
RevenueFigures = dict[SourceLine, list[int]]
"""Amounts in minor units: in the currency, and in the functional currency."""


class Family(msgspec.Struct):
    """A block and the blocks to which it was transferred: carrying amount at the opening, and revenue since then."""

    currency: str
    is_refundable: bool = False
    existed: bool = False
    opening: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    recognised: list[int] = msgspec.field(default_factory=lambda: [0, 0])


def sources(end: View, from_date: date | None, blocks: Sequence[Holding]) -> tuple[RevenueFigures, RevenueFigures]:
    """Returns the period's revenue by source, and the bridge from it to the accounts."""
    rules = end.rules
    roots = _roots(end)
    families = _families(blocks, roots, from_date)
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
            else:
                _add(found, (ESTIMATED if whose == POOL else BEYOND, row.currency), amounts, sign)
        item = bridge_item(row.kind, rules[row.policy])
        if item is not None:
            _add(bridge, (item[0], row.currency), amounts, item[1])
    for family in families.values():
        _split(found, family)
    return found, bridge


def _add(figures: RevenueFigures, line: SourceLine, amounts: Iterable[int], sign: int = 1) -> None:
    before = figures.setdefault(line, [0, 0])
    figures[line] = [each + sign * amount for each, amount in zip(before, amounts, strict=True)]


def _roots(end: View) -> dict[str, str]:
    """Returns, for blocks opened by a transfer, the block that was originally bought or granted."""
    roots: dict[str, str] = {}
    for row in end.connection.execute(text(HANDED_ON), {"ledger": end.ledger, "position": end.position}):
        roots[row.block_id] = roots.get(row.from_block, row.from_block)
    return roots


def _families(blocks: Iterable[Holding], roots: dict[str, str], from_date: date | None) -> dict[str, Family]:
    before = -1 if from_date is None else month_number(from_date) - 1
    families: dict[str, Family] = {}
    for holding in blocks:
        block_id = holding.block.block_id
        family = families.setdefault(roots.get(block_id, block_id), Family(currency=holding.block.currency))
        family.is_refundable |= holding.block.refundable
        at = holding.month_index(before)
        if at >= 0:
            family.existed = True
            family.opening = [family.opening[0] + holding.value[at], family.opening[1] + holding.functional[at]]
    return families


def _split(found: RevenueFigures, family: Family) -> None:
    """Adds a family's revenue: first from its opening, then from additions. Negative revenue belongs to earlier
    periods.
    """
    amount = family.recognised[0]
    if not family.existed:
        _add(found, (FROM_PERIOD, family.currency), family.recognised)
    elif amount < 0:
        _add(found, (TAKEN_BACK, family.currency), family.recognised)
    else:
        source = (FROM_REFUND if family.is_refundable else FROM_CONTRACT, family.currency)
        out = min(amount, family.opening[0])
        functional = family.recognised[1] if out == amount else round_half_up(family.recognised[1] * out, amount)
        _add(found, source, (out, functional))
        _add(found, (FROM_PERIOD, family.currency), (amount - out, family.recognised[1] - functional))


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
