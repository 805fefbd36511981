"""The revenue waterfall: sales by month, and the months in which they became revenue.

A block belongs to the month in which it was bought or granted. A block that was opened by a transfer belongs to the
month of the original block. Two rows have no month of sale:

- ``overage``: usage beyond the credits, which is revenue before a block pays for it. If a later block pays (backfill),
  the amount moves from this row to the row of the block.
- ``pool``: breakage estimated for a pool. When a pooled block expires, its remainder moves from this row to the row of
  the block.

So each row shows when a sale was earned, and the rows of a month add up to the revenue of that month.

Owns: the month of sale of a block, and the part of an entry that is recognition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import by_currency, control_balances, functional_balances, ties_of, totals
from subledger.kinds import BLOCK, KIND_BY_NAME, KINDS, OPENINGS, OVERAGE, POOL, Result, Rules, effect
from subledger.store.database import driver, without_nested_loops
from subledger.store.reading.views import View

EARLIER: Final = "earlier"

RECOGNITION: Final = {kind.name: kind.recognised for kind in KINDS if kind.recognised}
"""Row, column and sign of recognition, per entry kind."""

OPENED_AHEAD: Final = next(kind.name for kind in KINDS if kind.opens_ahead)

CONCESSIONS: Final = tuple(kind.name for kind in KINDS if kind.result is Result.CONCESSION)
"""Kinds that reduce revenue without taking back a sale; under customer_deposits_arm they debit deferred_revenue."""

REVENUE: Final = ("usage_revenue", "overage_revenue", "breakage_revenue")
SOLD: Final = {
    "purchased": "sold", "granted": "granted", "repriced": "repriced", "transferred_in": "transferred",
    "opened": "opened", "transferred": "transferred", "voided": "voided", "refunded": "refunded",
    "charged_back": "charged_back", "written_off": "written_off", "escheated": "escheated",
}  # fmt: skip
"""The column of a cohort for each column of a block; recognition has its own column."""
TAXED: Final = "taxed"
"""The column of a cohort for tax that was due at redemption: consumed, and not revenue."""
ADDED: Final = ("sold", "granted", "repriced", "transferred", "opened")
CANCELLED: Final = ("voided", "refunded", "charged_back", "written_off", "escheated", TAXED)

FLOWS: Final = """
-- Entries by the month of sale of their block and by accounting month. A transferred block has the month of the
-- original sale.
WITH RECURSIVE openings AS MATERIALIZED (
    SELECT position, kind, block_id, accounting_date FROM entries
    WHERE ledger = :ledger AND position <= :position AND accounting_date <= :as_of AND kind = ANY(:openings)
      AND credits > 0  -- not what undoes an opening later
), sales (block_id, cohort) AS (
    SELECT block_id, date_trunc('month', accounting_date)::date FROM openings WHERE kind NOT LIKE 'transfer%'
    UNION
    SELECT taken.block_id, s.cohort
    FROM sales s
    JOIN openings given ON given.kind = 'transfer_out' AND given.block_id = s.block_id
    JOIN openings taken ON taken.kind = 'transfer_in' AND taken.position = given.position
)
SELECT s.cohort,
       CASE WHEN n.accounting_date >= :from_date THEN date_trunc('month', n.accounting_date)::date END AS month,
       n.policy, n.kind, n.currency, sum(n.amount_minor) AS amount_minor, sum(n.functional_minor) AS functional_minor
FROM entries n LEFT JOIN sales s ON s.block_id = n.block_id
WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date <= :as_of AND n.kind = ANY(:kinds) {customer}
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one kind, in one accounting month, for blocks sold in one month. Months are text (2026-01)."""

    cohort: str
    month: str
    policy: int
    kind: str
    currency: str
    amount_minor: int
    functional_minor: int


class Recognised(msgspec.Struct):
    """Recognised amounts in minor units; ``functional`` is the sum of the three in functional currency."""

    usage: int = 0
    breakage: int = 0
    other: int = 0
    functional: int = 0

    @property
    def total(self) -> int:
        return self.usage + self.breakage + self.other


def waterfall(view: View, request: ReportRequest) -> Report:
    """Returns the waterfall through the end of the range; recognition before the range is one column, ``earlier``.

    Raises UnknownCustomer.
    """
    end = closing(view, request)
    books = control_balances(end, request.customer)
    flows = list(_flows(end, request))
    rules = view.rules
    recognised = _recognised(flows)
    cohorts = _cohorts(flows, recognised)
    bridge = _bridge(flows, rules)
    functional = view.functional_currency
    return Report(
        name="waterfall",
        title="Revenue waterfall",
        tables=(_waterfall_table(recognised, functional), _cohort_table(cohorts), bridge_table(bridge)),
        ties=(*_ties(recognised, cohorts, bridge, books), *_functional_ties(end, request, flows, rules)),
        notes=(
            "cohort is the month of the sale or grant; a transferred block belongs to the month of the block it came "
            "from. overage is usage beyond the credits until a block pays for it; pool is breakage estimated before "
            "blocks expire. Both move to the month of a block when the block pays for them or expires.",
        ),
    )


def _flows(end: View, request: ReportRequest) -> Iterator[Flow]:
    kinds = {kind.name for kind in KINDS if kind.column is not None} | {*RECOGNITION, *CONCESSIONS, OPENED_AHEAD}
    parameters: dict[str, Any] = {
        "ledger": end.ledger,
        "position": end.position,
        "as_of": end.as_of,
        "from_date": request.from_date or date.min,
        "openings": [*OPENINGS, "transfer_out"],
        "kinds": sorted(kinds),
    }
    if request.customer is not None:
        parameters["customer"] = request.customer
    query = text(FLOWS.format(customer="" if request.customer is None else "AND n.customer = :customer"))
    with without_nested_loops(driver(end.connection)):
        rows = end.connection.execute(query, parameters).all()
    for row in rows:
        yield Flow(
            cohort=_month(row.cohort) or "",
            month=_month(row.month) or EARLIER,
            policy=row.policy,
            kind=row.kind,
            currency=row.currency,
            amount_minor=int(row.amount_minor),
            functional_minor=int(row.functional_minor),
        )


def _month(day: date | None) -> str | None:
    return None if day is None else f"{day.year:04d}-{day.month:02d}"


def _row_of(flow: Flow, whose: str) -> str:
    return flow.cohort if whose == BLOCK else whose


def _order(cohort: str) -> tuple[bool, str]:
    """Returns the sort key of a row: months of sale in order of time, then the rows without one."""
    return not _is_month(cohort), cohort


# --- recognised -----------------------------------------------------------------------------------------------------

CohortMonth = tuple[str, str, str]
"""Cohort, month of recognition, currency."""


def _recognised(flows: Iterable[Flow]) -> dict[CohortMonth, Recognised]:
    cells: dict[CohortMonth, Recognised] = {}
    for flow in flows:
        for whose, column, sign in RECOGNITION.get(flow.kind, ()):
            cell = cells.setdefault((_row_of(flow, whose), flow.month, flow.currency), Recognised())
            setattr(cell, column, getattr(cell, column) + sign * flow.amount_minor)
            cell.functional += sign * flow.functional_minor
    return cells


def _waterfall_table(cells: dict[CohortMonth, Recognised], functional: str) -> Table:
    columns = (
        Column("cohort"),
        Column("recognised_in"),
        Column("currency"),
        Column("usage", "money"),
        Column("breakage", "money"),
        Column("other", "money"),
        Column("recognised", "money"),
        Column("functional_currency"),
        Column("recognised_functional", "functional"),
    )
    rows = tuple(
        (*at, cell.usage, cell.breakage, cell.other, cell.total, functional, cell.functional)
        for at, cell in sorted(cells.items(), key=_by_cohort_and_month)
        if cell.usage or cell.breakage or cell.other or cell.functional
    )
    return Table(name="waterfall", columns=columns, rows=rows)


def _by_cohort_and_month(item: tuple[CohortMonth, Recognised]) -> tuple[Any, ...]:
    (cohort, month, currency), _ = item
    return _order(cohort), month != EARLIER, month, currency


# --- cohorts --------------------------------------------------------------------------------------------------------

Cohorts = dict[tuple[str, str], dict[str, int]]
"""Cohort and currency → amounts by column."""


def _cohorts(flows: Iterable[Flow], recognised: dict[CohortMonth, Recognised]) -> Cohorts:
    cohorts: Cohorts = {}
    for flow in flows:
        kind = KIND_BY_NAME[flow.kind]
        column = SOLD.get(kind.column or "", TAXED if kind.redeems_tax else None)
        if flow.kind == OPENED_AHEAD:  # it was recognised before, so it is not revenue of a month
            figures = cohorts.setdefault((POOL, flow.currency), {})
            figures["opened"] = figures.get("opened", 0) - flow.amount_minor
        if column is not None and flow.kind not in RECOGNITION:
            figures = cohorts.setdefault((flow.cohort, flow.currency), {})
            # A reduction is positive in its own column. A transfer adds to the cohort that receives and reduces the
            # other.
            sign = kind.sign if column in ADDED else -kind.sign
            figures[column] = figures.get(column, 0) + sign * flow.amount_minor
    for (cohort, _, currency), cell in recognised.items():
        figures = cohorts.setdefault((cohort, currency), {})
        figures["recognised"] = figures.get("recognised", 0) + cell.total
    return {key: figures for key, figures in cohorts.items() if any(figures.values())}


def _deferred(figures: dict[str, int]) -> int:
    gained = sum(figures.get(column, 0) for column in ADDED)
    return gained - sum(figures.get(column, 0) for column in ("recognised", *CANCELLED))


def _cohort_table(cohorts: Cohorts) -> Table:
    names = (*ADDED, "recognised", *CANCELLED)
    columns = (
        Column("cohort"),
        Column("currency"),
        *(Column(name, "money") for name in names),
        Column("deferred", "money"),
    )
    rows = tuple(
        (cohort, currency, *(figures.get(name, 0) for name in names), None if cohort == OVERAGE else _deferred(figures))
        for (cohort, currency), figures in sorted(cohorts.items(), key=lambda item: (_order(item[0][0]), item[0][1]))
    )
    return Table(name="cohorts", columns=columns, rows=rows)


# --- ties -----------------------------------------------------------------------------------------------------------

IN_REVENUE: Final = "recognised in the revenue accounts"
RELEASED: Final = "released to the ERP's revenue module"
CONCEDED: Final = "less price concessions"
ALLOCATED: Final = "less shares of other plans' prices"

Bridge = dict[tuple[str, str], int]
"""Currency and item → amount: the bridge from recognition to the accounts."""


def _bridge(flows: Iterable[Flow], rules: dict[int, Rules]) -> Bridge:
    """Returns recognition by its account under the policy: revenue, or deferred_revenue for the ERP to release."""
    bridge: Bridge = {}
    for flow in flows:
        item = bridge_item(flow.kind, rules[flow.policy])
        if item is not None:
            name, sign = item
            bridge[flow.currency, name] = bridge.get((flow.currency, name), 0) + sign * flow.amount_minor
    return bridge


def bridge_item(kind: str, rules: Rules) -> tuple[str, int] | None:
    """Returns the item of the bridge for an entry kind, with its sign; None if it is not part of the bridge."""
    sign = sum(sign for _, _, sign in RECOGNITION.get(kind, ()))
    if sign:
        revenue = any(effect(account, kind, rules) for account in REVENUE)
        return (IN_REVENUE if revenue else RELEASED), sign
    taken = effect("deferred_revenue", kind, rules)  # the void of a grant has the opposite sign
    if taken:
        match KIND_BY_NAME[kind].result:
            case Result.SHARE:
                return ALLOCATED, -taken
            case Result.CONCESSION:
                return CONCEDED, -taken
    return None


def bridge_table(bridge: Bridge) -> Table:
    """Returns the bridge, item by item."""
    order = (IN_REVENUE, RELEASED, CONCEDED, ALLOCATED)
    rows = tuple(
        (item, currency, bridge[currency, item])
        for currency in sorted({currency for currency, _ in bridge})
        for item in order
        if (currency, item) in bridge
    )
    return Table(name="bridge", columns=(Column("item"), Column("currency"), Column("amount", "money")), rows=rows)


def _ties(
    cells: dict[CohortMonth, Recognised], cohorts: Cohorts, bridge: Bridge, books: dict[tuple[str, str], int]
) -> tuple[Tie, ...]:
    released = by_currency((currency, amount) for (currency, item), amount in bridge.items() if item == RELEASED)
    moved_out = by_currency((currency, amount) for (currency, item), amount in bridge.items() if item != IN_REVENUE)
    recognised = by_currency(
        [*((currency, cell.total) for (_, _, currency), cell in cells.items()), *_negated(released)]
    )
    revenue = by_currency((currency, amount) for (account, currency), amount in books.items() if account in REVENUE)
    deferred = by_currency((currency, _deferred(f)) for (cohort, currency), f in cohorts.items() if _is_month(cohort))
    pooled = by_currency((currency, -_deferred(f)) for (cohort, currency), f in cohorts.items() if cohort == POOL)
    in_revenue = {("revenue", currency): amount for currency, amount in revenue.items()}
    ties = (
        *ties_of("recognised, less released = usage, overage and breakage revenue", recognised, "revenue", in_revenue),
        *ties_of("released, less concessions and shares = deferred_revenue", moved_out, "deferred_revenue", books),
        *ties_of("still deferred = prepaid_liability", deferred, "prepaid_liability", books),
        *ties_of("estimated for blocks not expired = breakage_recognized", pooled, "breakage_recognized", books),
    )
    return tuple(tie for tie in ties if tie.report_minor or tie.trial_balance_minor)


def _functional_ties(
    end: View, request: ReportRequest, flows: Iterable[Flow], rules: dict[int, Rules]
) -> Iterator[Tie]:
    """Yields ties of recognition in other currencies, in the functional currency, limited to the revenue accounts."""
    functional_currency = end.functional_currency
    found: dict[str, int] = {}
    for flow in flows:
        item = bridge_item(flow.kind, rules[flow.policy])
        if item is not None and item[0] == IN_REVENUE and flow.currency != functional_currency:
            found[flow.currency] = found.get(flow.currency, 0) + item[1] * flow.functional_minor
    if not found:
        return
    made_of = totals(end, customer=request.customer)
    books = functional_balances(end, made_of, REVENUE)
    for currency, functional in sorted(found.items()):
        yield Tie(
            what=f"recognised in {currency} = revenue accounts, in {functional_currency}",
            currency=functional_currency,
            report_minor=functional,
            trial_balance_minor=sum(books.get((account, currency), 0) for account in REVENUE),
        )


def _is_month(cohort: str) -> bool:
    return cohort not in (OVERAGE, POOL)


def _negated(amounts: dict[str, int]) -> Iterator[tuple[str, int]]:
    return ((currency, -amount) for currency, amount in amounts.items())
