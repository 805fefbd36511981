"""The clearing report: accounts that should return to zero but are not at zero, with the age and the reason.

Owns: the list of clearing accounts, the grouping of their items, and the ageing: first in, first cleared, so the open
balance consists of the newest amounts. Does not own: accounts_receivable, which has its own report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import arrays, control_balances, ties_of
from subledger.accounts import ROLE_BY_NAME
from subledger.kinds import KIND_BY_NAME, Result, Rules, effect
from subledger.store.reading.views import View

BY_BLOCK, BY_CUSTOMER, BY_PROCESSOR, BY_NOTHING = "block", "customer", "processor", "nothing"

ALLOCATION: Final = "allocation"
ALLOCATED: Final = "share of another plan's price, which whoever sold the plan defers"
NO_CREDITS: Final = "no credits are left: should be zero"
UNEQUAL: Final = "liability, deposits and clearing should be equal"
OPEN_CREDITS: Final = "open credits"
LIABILITY, DEPOSITS, CREDITS = "prepaid_liability", "customer_deposits", "credits_clearing"
OF_A_BLOCK: Final = (LIABILITY, DEPOSITS, CREDITS)


class Clearing(msgspec.Struct, frozen=True, kw_only=True):
    """A clearing account: the property by which its items are grouped, and the meaning of a balance on each side."""

    grouped_by: str
    reason: str
    reversed: str


CLEARING: Final[dict[str, Clearing]] = {
    "processor_clearing": Clearing(
        grouped_by=BY_PROCESSOR,
        reason="payout not recorded",
        reversed="paid out or withdrawn more than is recorded as taken in",
    ),
    "disputes_receivable": Clearing(
        grouped_by=BY_CUSTOMER, reason="dispute not decided", reversed="more came back than was disputed"
    ),
    "unbilled_receivable": Clearing(
        grouped_by=BY_CUSTOMER, reason="overage not invoiced", reversed="more overage invoiced than used"
    ),
    "refunds_payable": Clearing(
        grouped_by=BY_CUSTOMER, reason="refund not paid", reversed="paid back more than was owed"
    ),
    "customer_balance": Clearing(
        grouped_by=BY_CUSTOMER, reason="payment not applied", reversed="applied or paid back more than was received"
    ),
    "unclaimed_property": Clearing(
        grouped_by=BY_CUSTOMER, reason="escheated, not remitted", reversed="remitted more than was escheated"
    ),
    "billed_elsewhere": Clearing(
        grouped_by=BY_CUSTOMER,
        reason="paid for invoices that are kept elsewhere",
        reversed="paid back or charged back more than came in for them",
    ),
    "opening_balances": Clearing(
        grouped_by=BY_NOTHING,
        reason="receivables taken over; cleared by the general ledger's own opening balances",
        reversed="liabilities taken over; cleared by the general ledger's own opening balances",
    ),
    "transfer_clearing": Clearing(
        grouped_by=BY_NOTHING,
        reason="credits given that nobody has taken over",
        reversed="credits taken over that nobody has given",
    ),
    "deferred_revenue": Clearing(
        grouped_by=BY_NOTHING,
        reason="released to the ERP's revenue module",
        reversed="concessions, more than what was released",
    ),
    "credits_clearing": Clearing(
        grouped_by=BY_BLOCK, reason=OPEN_CREDITS, reversed="more credits cleared than were outstanding"
    ),
    "customer_deposits": Clearing(
        grouped_by=BY_BLOCK, reason=OPEN_CREDITS, reversed="more deposits applied than were held"
    ),
}
"""Clearing accounts in the order of the report. Amounts are on the normal side. ``reversed`` explains negative amounts.
"""

OPEN: Final = """
-- The movements of each open item of each clearing account, by day, on the account's normal side.
WITH moved AS (
    SELECT r.account, r.item_group, n.currency, n.accounting_date,
           CASE WHEN r.grouped_by IN ('block', 'customer') THEN n.customer END AS customer,
           CASE WHEN r.grouped_by = 'block' THEN n.block_id END AS block_id,
           CASE WHEN r.grouped_by = 'processor' THEN d.processor END AS processor,
           sum(r.sign * n.amount_minor) AS amount_minor
    FROM unnest(CAST(:accounts AS text[]), CAST(:policies AS smallint[]), CAST(:kinds AS text[]),
                CAST(:grouped_by AS text[]), CAST(:item_groups AS text[]), CAST(:signs AS int[]))
         AS r (account, policy, kind, grouped_by, item_group, sign)
    JOIN entries n ON n.policy = r.policy AND n.kind = r.kind
    JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
    WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date <= :as_of AND n.amount_minor <> 0
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), balances AS (
    SELECT *, sum(amount_minor) OVER (PARTITION BY account, item_group, currency, customer, block_id, processor)
              AS balance_minor
    FROM moved
)
SELECT * FROM balances WHERE balance_minor <> 0
ORDER BY account, item_group, currency, customer, block_id, processor, accounting_date
"""
BLOCKS: Final = """
-- Every block that has remaining credits with a value, or a balance on one of its three accounts.
SELECT n.customer, n.block_id, n.currency, sum(r.sign * n.credits) AS credits,
       sum(r.liability * n.amount_minor) AS liability_minor, sum(r.deposits * n.amount_minor) AS deposits_minor,
       sum(r.clearing * n.amount_minor) AS clearing_minor
FROM unnest(CAST(:policies AS smallint[]), CAST(:kinds AS text[]), CAST(:signs AS int[]), CAST(:liability AS int[]),
            CAST(:deposits AS int[]), CAST(:clearing AS int[])) AS r (policy, kind, sign, liability, deposits, clearing)
JOIN entries n ON n.policy = r.policy AND n.kind = r.kind
WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date <= :as_of AND n.block_id IS NOT NULL
GROUP BY n.customer, n.block_id, n.currency
HAVING sum(r.liability * n.amount_minor) <> 0 OR sum(r.deposits * n.amount_minor) <> 0
    OR sum(r.clearing * n.amount_minor) <> 0
ORDER BY n.customer, n.block_id, n.currency
"""
BUCKETS: Final = (("days_0_30", 30), ("days_31_60", 60), ("days_61_90", 90), ("days_over_90", None))
"""The ageing columns, each with its highest age in days (inclusive)."""


OpenItem = tuple[Any, ...]
"""One open item: the values of the columns of the first table."""


def clearing(view: View, request: ReportRequest) -> Report:
    """Returns every open item of the clearing accounts at the end of the view, with its age, and the open blocks."""
    end = closing(view, request)
    rules = view.rules
    blocks = _blocks(end, rules)
    credits = {row.block_id: Decimal(row.credits) for row in blocks}
    rows = _item_rows(_open(end, rules), credits, end.as_of)
    books = control_balances(end)
    return Report(
        name="clearing",
        title="Clearing accounts: open items, with age and reason",
        tables=(_items_table(rows), _accounts_table(rows), _blocks_table(blocks, rules)),
        ties=_ties(rows, blocks, books),
        notes=(
            "Amounts are on the account's normal side. The oldest amount is cleared first, so the age is the age of "
            "the oldest amount that is still open.",
        ),
    )


def _normal(account: str, kind: str, rules: Rules) -> int:
    """Returns the factor with which an entry of a kind changes an account, on its normal side."""
    return ROLE_BY_NAME[account].on_normal_side(effect(account, kind, rules))


# --- open items -----------------------------------------------------------------------------------------------------


def _open(end: View, rules: dict[int, Rules]) -> Sequence[Any]:
    moving = [
        (account, policy, kind, clears.grouped_by, _item_group(account, kind), sign)
        for account, clears in CLEARING.items()
        for policy, of_policy in rules.items()
        for kind in of_policy
        if (sign := _normal(account, kind, of_policy))
    ]
    parameters = arrays(("accounts", "policies", "kinds", "grouped_by", "item_groups", "signs"), moving)
    parameters |= {"ledger": end.ledger, "position": end.position, "as_of": end.as_of}
    rows: Sequence[Any] = end.connection.execute(text(OPEN), parameters).all()
    return rows


def _item_group(account: str, kind: str) -> str:
    """Returns the group of an entry within its account. For example, allocations and ERP releases share
    deferred_revenue.
    """
    return ALLOCATION if account == "deferred_revenue" and KIND_BY_NAME[kind].result is Result.SHARE else ""


def _item_rows(moved: Iterable[Any], credits: dict[str, Decimal], as_of: date) -> list[OpenItem]:
    rows = []
    for _, of_item in groupby(moved, key=_item):
        days = list(of_item)
        lots = open_lots((row.accounting_date, int(row.amount_minor)) for row in days)
        ages = [((as_of - day).days, lot) for day, lot in lots]
        first, amount = days[0], sum(lot for _, lot in lots)
        rows.append(
            (
                first.account,
                first.customer,
                first.block_id,
                first.processor,
                first.currency,
                amount,
                lots[0][0],
                ages[0][0],
                *_buckets(ages),
                _reason(first, amount, credits),
            )
        )
    order = list(CLEARING)
    return sorted(rows, key=lambda row: (order.index(row[0]), row[4], *(part or "" for part in row[1:4])))


def _item(row: Any) -> tuple[Any, ...]:
    return row.account, row.item_group, row.currency, row.customer, row.block_id, row.processor


def open_lots(flows: Iterable[tuple[date, int]]) -> list[tuple[date, int]]:
    """Returns the open parts of signed amounts, oldest first: each amount clears the oldest ones of the other sign.

    ``flows`` are (date, amount) in the order of their dates.
    """
    lots: deque[tuple[date, int]] = deque()
    for day, amount in flows:
        while lots and amount and (lots[0][1] > 0) != (amount > 0):
            since, lot = lots.popleft()
            cleared = min(abs(lot), abs(amount)) * (1 if lot > 0 else -1)
            amount += cleared
            if lot != cleared:
                lots.appendleft((since, lot - cleared))
        if amount:
            lots.append((day, amount))
    return list(lots)


def _buckets(ages: list[tuple[int, int]]) -> tuple[int, ...]:
    sums = [0] * len(BUCKETS)
    for age, amount in ages:
        bucket = next(at for at, (_, last) in enumerate(BUCKETS) if last is None or age <= last)
        sums[bucket] += amount
    return tuple(sums)


def _reason(item: Any, amount: int, credits: dict[str, Decimal]) -> str:
    clears = CLEARING[item.account]
    if item.item_group == ALLOCATION:
        return ALLOCATED
    if amount < 0:
        return clears.reversed
    if clears.grouped_by == BY_BLOCK and not credits.get(item.block_id):
        return NO_CREDITS
    return clears.reason


def _items_table(rows: Sequence[OpenItem]) -> Table:
    columns = (
        Column("account"),
        Column("customer"),
        Column("block_id"),
        Column("processor"),
        Column("currency"),
        Column("amount", "money"),
        Column("open_since", "date"),
        Column("age_days", "integer"),
        *(Column(name, "money") for name, _ in BUCKETS),
        Column("reason"),
    )
    return Table(name="items", columns=columns, rows=tuple(rows), lists_items=True)


def _accounts_table(rows: Sequence[OpenItem]) -> Table:
    """Returns per account and currency the sum of the items, and the age of the oldest."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        account, currency, amount, age = row[0], row[4], row[5], row[7]
        found = sums.setdefault((account, currency), [0, 0, 0, *([0] * len(BUCKETS))])
        found[0] += 1
        found[1] += amount
        found[2] = max(found[2], age)
        for at in range(len(BUCKETS)):
            found[3 + at] += row[8 + at]
    columns = (
        Column("account"),
        Column("currency"),
        Column("items", "integer"),
        Column("amount", "money"),
        Column("oldest_days", "integer", "max"),
        *(Column(name, "money") for name, _ in BUCKETS),
    )
    return Table(name="accounts", columns=columns, rows=tuple((*key, *found) for key, found in sums.items()))


# --- blocks ---------------------------------------------------------------------------------------------------------


def _blocks(end: View, rules: dict[int, Rules]) -> Sequence[Any]:
    moving = [
        (policy, kind, KIND_BY_NAME[kind].sign, *(_normal(account, kind, of_policy) for account in OF_A_BLOCK))
        for policy, of_policy in rules.items()
        for kind in of_policy
        if KIND_BY_NAME[kind].column is not None
    ]
    names = ("policies", "kinds", "signs", "liability", "deposits", "clearing")
    parameters = {"ledger": end.ledger, "position": end.position, "as_of": end.as_of, **arrays(names, moving)}
    rows: Sequence[Any] = end.connection.execute(text(BLOCKS), parameters).all()
    return rows


def _blocks_table(blocks: Sequence[Any], rules: dict[int, Rules]) -> Table:
    """Returns the open blocks with their three accounts; contract_liability uses only the liability."""
    has_deposits = any(effect(DEPOSITS, "purchase", of_policy) for of_policy in rules.values())
    columns = (
        Column("customer"),
        Column("block_id"),
        Column("currency"),
        Column("credits", "credits"),
        *(Column(account, "money") for account in OF_A_BLOCK),
        Column("difference", "money"),
        Column("reason"),
    )
    rows = tuple(_block_row(row, has_deposits) for row in blocks)
    return Table(name="blocks", columns=columns, rows=rows, lists_items=True)


def _block_row(row: Any, has_deposits: bool) -> OpenItem:
    balances = (int(row.liability_minor), int(row.deposits_minor), int(row.clearing_minor))
    compared = balances if has_deposits else balances[:1]
    difference = max(compared) - min(compared)
    reason = OPEN_CREDITS if row.credits > 0 else NO_CREDITS
    return (
        row.customer,
        row.block_id,
        row.currency,
        Decimal(row.credits),
        *balances,
        difference,
        UNEQUAL if difference else reason,
    )


def _ties(rows: Sequence[OpenItem], blocks: Sequence[Any], books: dict[tuple[str, str], int]) -> tuple[Tie, ...]:
    sums: dict[str, dict[str, int]] = {account: {} for account in (*CLEARING, LIABILITY)}
    for row in rows:
        of_account = sums[row[0]]
        of_account[row[4]] = of_account.get(row[4], 0) + row[5]
    for block in blocks:
        sums[LIABILITY][block.currency] = sums[LIABILITY].get(block.currency, 0) + int(block.liability_minor)
    return tuple(
        tie for account, found in sums.items() for tie in ties_of(f"open items = {account}", found, account, books)
    )
