"""Receivables ageing: amounts owed by customers with their age; unbilled, disputed, and paid but unapplied amounts.

Owns: the list of receivable accounts, the grouping of their items, and the ageing. An item is the open amount of one
credit block, of one invoice of overage, or of a customer's overage without an invoice. Its age is that of its oldest
open part. A payment, cancellation or write-off clears the oldest part of its own item first. Overage is cleared usage
by usage, as recorded. Ages count from effective dates, the days on which the customer became liable, because late
recording does not make a debt younger. The log has no due dates.

Under the deposit policies, revenue from consumption and breakage passes through accounts_receivable within one entry.
This is no receivable: such entries have no net effect on the account and are not read. Does not own: the allowance for
credit losses, which is in the general ledger (ASC 326-20); the other clearing accounts (``clearing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import (
    Balances,
    arrays,
    control_balances,
    functional_balances,
    functional_ties_of,
    ties_of,
    totals,
)
from projections.reports.clearing import open_lots
from subledger.kinds import effect
from subledger.money import round_half_up
from subledger.store.database import driver, without_nested_loops
from subledger.store.reading.views import View

RECEIVABLES: Final = ("accounts_receivable", "unbilled_receivable", "disputes_receivable")
UNAPPLIED: Final = "customer_balance"
BY_DOCUMENT, BY_USAGE, BY_CUSTOMER = "document", "usage", "customer"
GROUPED_BY: Final = {
    "accounts_receivable": BY_DOCUMENT, "unbilled_receivable": BY_USAGE, "disputes_receivable": BY_DOCUMENT,
    UNAPPLIED: BY_CUSTOMER,
}  # fmt: skip

BUCKETS: Final = (
    ("current", 0), ("days_1_30", 30), ("days_31_60", 60), ("days_61_90", 90), ("days_over_90", None),
)  # fmt: skip
"""The ageing columns of open amounts, each with its highest age in days (inclusive)."""

MOVED: Final = """
-- The movements of each open item of each receivable, by day, debits positive; settled items are left out.
WITH moving AS MATERIALIZED (
    SELECT r.account, r.grouped_by, n.position, n.number, n.customer, n.currency, n.block_id, n.effective_date,
           r.sign * n.amount_minor AS amount_minor, r.sign * n.functional_minor AS functional_minor,
           r.grouped_by = 'usage' AND NOT (n.kind = 'overage' AND n.amount_minor > 0)
               OR r.grouped_by = 'document' AND n.block_id IS NULL AS is_said_elsewhere
    FROM unnest(CAST(:accounts AS text[]), CAST(:policies AS smallint[]), CAST(:kinds AS text[]),
                CAST(:grouped_by AS text[]), CAST(:signs AS int[])) AS r (account, policy, kind, grouped_by, sign)
    JOIN entries n ON n.policy = r.policy AND n.kind = r.kind
    WHERE n.ledger = :ledger AND n.position <= :position AND n.accounting_date <= :as_of
      AND (n.amount_minor <> 0 OR n.functional_minor <> 0) {customer}
), said AS MATERIALIZED (
    -- Only the decision names the invoice or the usage. Each is read once, as one event may bill thousands of usages.
    SELECT p.position, m.number, m.movement ->> 'invoice' AS invoice_id, (m.movement ->> 'overage')::bigint AS used_at
    FROM (SELECT DISTINCT position FROM moving WHERE is_said_elsewhere) p
    CROSS JOIN LATERAL (SELECT decision FROM events WHERE ledger = :ledger AND position = p.position LIMIT 1) e
    CROSS JOIN LATERAL jsonb_array_elements(e.decision::jsonb -> 'movements') WITH ORDINALITY AS m (movement, number)
), moved AS (
    SELECT n.account, n.customer, n.currency, n.effective_date,
           CASE WHEN n.grouped_by = 'document' THEN n.block_id END AS block_id,
           CASE WHEN n.grouped_by = 'document' AND n.block_id IS NULL THEN s.invoice_id END AS invoice_id,
           CASE WHEN n.grouped_by = 'usage' AND n.amount_minor <> 0
                THEN coalesce(s.used_at, n.position) END AS used_at,
           sum(n.amount_minor) AS amount_minor, sum(n.functional_minor) AS functional_minor
    FROM moving n LEFT JOIN said s ON s.position = n.position AND s.number = n.number AND n.is_said_elsewhere
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), of_items AS (
    SELECT *, sum(amount_minor) OVER item AS balance_minor, sum(functional_minor) OVER item AS carried_minor
    FROM moved WHERE used_at IS NULL
    WINDOW item AS (PARTITION BY account, customer, currency, block_id, invoice_id)
), of_usage AS (
    SELECT account, customer, currency, min(effective_date) AS effective_date, sum(amount_minor) AS amount_minor,
           sum(functional_minor) AS functional_minor
    FROM moved WHERE used_at IS NOT NULL GROUP BY account, customer, currency, used_at
)
SELECT account, customer, currency, block_id, invoice_id, effective_date, amount_minor, functional_minor
FROM of_items WHERE balance_minor <> 0 OR carried_minor <> 0
UNION ALL
SELECT account, customer, currency, NULL, NULL, effective_date, sum(amount_minor), sum(functional_minor)
FROM of_usage WHERE amount_minor <> 0 OR functional_minor <> 0
GROUP BY account, customer, currency, effective_date
ORDER BY account, customer, currency, block_id, invoice_id, effective_date
"""
INVOICES: Final = """
-- The invoices of blocks.
SELECT block_id, invoice_id FROM blocks
WHERE ledger = :ledger AND block_id = ANY(:blocks) AND invoice_id IS NOT NULL
"""

OpenParts = tuple[tuple[date, int], ...]
"""Open parts as (effective date, minor units), oldest first; negative ones are owed to the customer."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that a customer owes: its open parts, and its carrying amount in the functional currency."""

    account: str
    customer: str
    currency: str
    block_id: str | None = None
    invoice_id: str | None = None
    lots: OpenParts = ()
    functional_minor: int = 0

    @property
    def balance_minor(self) -> int:
        return sum(amount for _, amount in self.lots)


def receivables(view: View, request: ReportRequest) -> Report:
    """Returns every receivable at the end of the view, of the ledger or of one customer. Raises UnknownCustomer."""
    end = closing(view, request)
    books = control_balances(end, request.customer)
    items = _items(end, request.customer)
    owed = [item for item in items if item.account != UNAPPLIED]
    functional_currency = end.functional_currency
    customers = _customers(items)
    return Report(
        name="receivables",
        title="Receivables by age",
        tables=(
            _ageing_table(owed, end.as_of, functional_currency),
            _items_table(owed, end.as_of, functional_currency),
            _customers_table(customers, functional_currency),
            _totals_table(owed, end.as_of, functional_currency),
        ),
        ties=(*_ties(customers, books), *_functional_ties(end, request, customers)),
        notes=(
            "Ages count from the effective date, on which the customer became liable. A payment or cancellation clears "
            "the oldest part of its own block or invoice first. Credit balances are owed to the customer; they are not "
            "netted against receivables. Functional amounts are the carrying amounts in the books.",
        ),
    )


# --- items ----------------------------------------------------------------------------------------------------------


def _items(end: View, customer: str | None) -> list[Item]:
    rules = end.rules
    moving = [
        (account, policy, kind, grouped_by, sign)
        for account, grouped_by in GROUPED_BY.items()
        for policy, of_policy in rules.items()
        for kind in of_policy
        if (sign := effect(account, kind, of_policy))
    ]
    parameters = arrays(("accounts", "policies", "kinds", "grouped_by", "signs"), moving)
    parameters |= {"ledger": end.ledger, "position": end.position, "as_of": end.as_of}
    parameters |= {} if customer is None else {"customer": customer}
    query = text(MOVED.format(customer="" if customer is None else "AND n.customer = :customer"))
    with without_nested_loops(driver(end.connection)):
        rows = end.connection.execute(query, parameters).all()
    items = [item for _, of_position in groupby(rows, key=_position) for item in _items_of(list(of_position))]
    return _with_invoices(end, items)


def _position(row: Any) -> tuple[Any, ...]:
    """Returns the key of a carrying amount: the block's for its receivable; for invoices, one key for all of a
    customer.
    """
    return row.account, row.customer, row.currency, row.block_id


def _items_of(rows: Sequence[Any]) -> Iterator[Item]:
    """Yields the items that share one functional carrying amount.

    Each item has the functional amount of its own entries. The rest is allocated in proportion to the amounts, because
    a remeasurement covers all invoices of a customer together. The last item gets the rounding difference.
    """
    first = rows[0]
    found: dict[str | None, tuple[list[tuple[date, int]], int]] = {}
    for invoice_id, of_item in groupby(rows, key=lambda row: row.invoice_id):
        moved = list(of_item)
        lots = open_lots((row.effective_date, int(row.amount_minor)) for row in moved)
        found[invoice_id] = (lots, sum(int(row.functional_minor) for row in moved))
    if not any(lots for lots, _ in found.values()):
        found = {None: ([], sum(carried for _, carried in found.values()))}
    still_open = {invoice_id: parts for invoice_id, parts in found.items() if parts[0] or len(found) == 1}
    rest = sum(carried for _, carried in found.values()) - sum(carried for _, carried in still_open.values())
    weights = [sum(abs(amount) for _, amount in lots) for lots, _ in still_open.values()]
    for (invoice_id, (lots, carried)), more in zip(still_open.items(), _shared(rest, weights), strict=True):
        if lots or carried + more:
            yield Item(
                account=first.account,
                customer=first.customer,
                currency=first.currency,
                block_id=first.block_id,
                invoice_id=invoice_id,
                lots=tuple(sorted(lots)),
                functional_minor=carried + more,
            )


def _shared(amount: int, weights: Sequence[int]) -> Iterator[int]:
    """Divides an amount in proportion to weights, with cumulative rounding: the parts add up to the amount."""
    whole, so_far, given = sum(weights), 0, 0
    for weight in weights:
        so_far += weight
        due = round_half_up(amount * so_far, whole) if whole else amount
        yield due - given
        given = due


def _with_invoices(end: View, items: Sequence[Item]) -> list[Item]:
    """Returns the items, those of blocks with their invoices."""
    blocks = sorted({item.block_id for item in items if item.block_id is not None})
    rows = end.connection.execute(text(INVOICES), {"ledger": end.ledger, "blocks": blocks}).all()
    invoices = {row.block_id: row.invoice_id for row in rows}
    found = [
        item if item.block_id is None else msgspec.structs.replace(item, invoice_id=invoices.get(item.block_id))
        for item in items
    ]
    return sorted(found, key=_order)


def _order(item: Item) -> tuple[Any, ...]:
    account = list(GROUPED_BY).index(item.account)
    return item.customer, item.currency, account, item.lots[:1], item.block_id or "", item.invoice_id or ""


# --- tables ---------------------------------------------------------------------------------------------------------

_AGED: Final = (
    *(Column(name, "money") for name, _ in BUCKETS), Column("credit_balances", "money"), Column("oldest_on", "date"),
    Column("oldest_days", "integer"), Column("functional_currency"), Column("balance_functional", "functional"),
)  # fmt: skip


def _aged(items: Iterable[Item], as_of: date, functional_currency: str) -> tuple[Any, ...]:
    """Returns the sums of items: the values of the columns of _AGED after the balance."""
    items = list(items)
    lots = [lot for item in items for lot in item.lots]
    buckets = [0] * len(BUCKETS)
    for since, amount in lots:
        if amount > 0:
            age = (as_of - since).days
            buckets[next(at for at, (_, last) in enumerate(BUCKETS) if last is None or age <= last)] += amount
    oldest = min((since for since, amount in lots if amount > 0), default=None)
    return (
        sum(amount for _, amount in lots),
        *buckets,
        sum(amount for _, amount in lots if amount < 0),
        oldest,
        None if oldest is None else (as_of - oldest).days,
        functional_currency,
        sum(item.functional_minor for item in items),
    )


def _ageing_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
    """Returns the ageing per customer, currency and account."""
    rows = tuple(
        (customer, account, currency, *_aged(of_line, as_of, functional_currency))
        for (customer, currency, account), of_line in groupby(owed, lambda i: (i.customer, i.currency, i.account))
    )
    columns = (Column("customer"), Column("account"), Column("currency"), Column("balance", "money"), *_AGED)
    return Table(name="ageing", columns=columns, rows=rows)


def _items_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
    """Returns the ageing per block or invoice; a customer's overage without an invoice is one item."""
    rows = tuple(
        (
            item.customer,
            item.account,
            item.block_id,
            item.invoice_id,
            item.currency,
            *_aged([item], as_of, functional_currency),
        )
        for item in owed
    )
    columns = (
        Column("customer"),
        Column("account"),
        Column("block_id"),
        Column("invoice_id"),
        Column("currency"),
        Column("balance", "money"),
        *_AGED,
    )
    return Table(name="open_items", columns=columns, rows=rows)


def _totals_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
    """Returns the ageing per account and currency, over all customers."""
    accounts = list(GROUPED_BY)
    lines = sorted({(accounts.index(item.account), item.currency) for item in owed})
    rows = tuple(
        (
            accounts[at],
            currency,
            *_aged(
                (i for i in owed if (i.account, i.currency) == (accounts[at], currency)), as_of, functional_currency
            ),
        )
        for at, currency in lines
    )
    columns = (Column("account"), Column("currency"), Column("balance", "money"), *_AGED)
    return Table(name="totals", columns=columns, rows=rows)


Customers = dict[tuple[str, str], dict[str, tuple[int, int]]]
"""Customer and currency → account → balance (debits positive), in the currency and in the functional one."""


def _customers(items: Iterable[Item]) -> Customers:
    found: Customers = {}
    for item in items:
        accounts = found.setdefault((item.customer, item.currency), {})
        amount, functional = accounts.get(item.account, (0, 0))
        accounts[item.account] = (amount + item.balance_minor, functional + item.functional_minor)
    return found


def _customers_table(customers: Customers, functional_currency: str) -> Table:
    """Returns per customer and currency the balance of each account, the unapplied payments, and the net amount."""
    columns = (
        Column("customer"),
        Column("currency"),
        *(Column(account, "money") for account in RECEIVABLES),
        Column("unapplied_payments", "money"),
        Column("net", "money"),
        Column("functional_currency"),
        Column("receivables_functional", "functional"),
        Column("unapplied_functional", "functional"),
        Column("net_functional", "functional"),
    )
    rows = []
    for (customer, currency), accounts in customers.items():
        owed = [accounts.get(account, (0, 0)) for account in RECEIVABLES]
        unapplied = accounts.get(UNAPPLIED, (0, 0))
        carried = sum(functional for _, functional in owed)
        rows.append(
            (
                customer,
                currency,
                *(amount for amount, _ in owed),
                -unapplied[0],
                sum(amount for amount, _ in owed) + unapplied[0],
                functional_currency,
                carried,
                -unapplied[1],
                carried + unapplied[1],
            )
        )
    return Table(name="customers", columns=columns, rows=tuple(rows))


# --- ties -----------------------------------------------------------------------------------------------------------


def _sums(customers: Customers, account: str, measure: int) -> dict[str, int]:
    """Returns an account's balance per currency, on its normal side: in the currency (0) or the functional one (1)."""
    sums: dict[str, int] = {}
    for (_, currency), accounts in customers.items():
        if account in accounts:
            balance = accounts[account][measure] * (-1 if account == UNAPPLIED else 1)
            sums[currency] = sums.get(currency, 0) + balance
    return sums


def _ties(customers: Customers, books: Balances) -> Iterator[Tie]:
    for account in GROUPED_BY:
        yield from ties_of(f"customers' items = {account}", _sums(customers, account, 0), account, books)


def _functional_ties(end: View, request: ReportRequest, customers: Customers) -> Iterator[Tie]:
    """Yields receivables in other currencies, at their functional carrying amounts."""
    functional_currency = end.functional_currency
    found = totals(end, customer=request.customer)
    foreign = sorted({total.currency for total in found} - {functional_currency})
    books = functional_balances(end, found, GROUPED_BY) if foreign else {}
    for account in GROUPED_BY:
        carried = _sums(customers, account, 1)
        what = f"customers' items in {{currency}} = {account}, in {functional_currency}"
        for tie in functional_ties_of(what, carried, account, books, functional_currency, foreign):
            if tie.report_minor or tie.trial_balance_minor:
                yield tie
