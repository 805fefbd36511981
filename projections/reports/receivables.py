"""Receivables ageing: the amounts that customers owe, with their age, and the payments that are not applied.

An *item* is the open amount of one credit block, of one invoice of overage, or of a customer's overage without an
invoice. The age of an item is the age of its oldest open part:

- With a due date, an amount ages from the due date, or from its effective date if that is later. For example, an
  amount that a repricing adds after the due date ages from the day of the repricing.
- With a due date, an amount that a cut-over opened always ages from the due date.
- Without a due date, an amount ages from its effective date. On this day the customer became liable. So late recording
  does not make a debt younger.

A payment, cancellation or write-off of an item clears the oldest part of this item first. Unbilled overage is cleared
usage by usage, as the decisions state.

Under the deposit policies, revenue from consumption and breakage passes through accounts_receivable within one entry.
Such an entry has no net effect on the account. So the report does not read it.

Owns: the items and their ages. Does not own:

- the allowance for credit losses, which is in the general ledger (ASC 326-20);
- the other clearing accounts (``clearing``);
- the purchases that are shown net of their liability (``shown_net``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import Report, ReportRequest, Tie, closing
from projections.report_inputs import (
    Balances,
    arrays,
    by_currency,
    control_balances,
    functional_balances,
    functional_ties_of,
    ties_of,
    totals,
)
from projections.reports.clearing import open_lots
from projections.reports.receivable_tables import (
    GROUPED_BY,
    UNAPPLIED,
    Customers,
    Item,
    ageing_table,
    by_customer,
    customers_table,
    functional_table,
    items_table,
    shared,
    totals_table,
)
from projections.reports.shown_net import RECEIVABLE, ShownNet, due_on, shown_net, shown_net_table
from subledger.kinds import effect
from subledger.store.database import driver, without_nested_loops
from subledger.store.reading.views import View

MOVED: Final = """
-- The movements of open items, by account, item and day. Debits are positive.
WITH moving AS MATERIALIZED (
    SELECT r.account, r.grouped_by, n.position, n.number, n.customer, n.currency, n.block_id, n.effective_date,
           n.kind = 'opening_accounts_receivable' AS is_opened,
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
                THEN coalesce(s.used_at, n.position) END AS used_at, n.is_opened,
           sum(n.amount_minor) AS amount_minor, sum(n.functional_minor) AS functional_minor
    FROM moving n LEFT JOIN said s ON s.position = n.position AND s.number = n.number AND n.is_said_elsewhere
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), of_items AS (
    SELECT *, sum(amount_minor) OVER item AS balance_minor, sum(functional_minor) OVER item AS carried_minor
    FROM moved WHERE used_at IS NULL
    WINDOW item AS (PARTITION BY account, customer, currency, block_id, invoice_id)
), of_usage AS (
    SELECT account, customer, currency, min(effective_date) AS effective_date, sum(amount_minor) AS amount_minor,
           sum(functional_minor) AS functional_minor
    FROM moved WHERE used_at IS NOT NULL GROUP BY account, customer, currency, used_at
)
SELECT account, customer, currency, block_id, invoice_id, effective_date, is_opened, amount_minor, functional_minor
FROM of_items WHERE balance_minor <> 0 OR carried_minor <> 0
UNION ALL
SELECT account, customer, currency, NULL, NULL, effective_date, false, sum(amount_minor), sum(functional_minor)
FROM of_usage WHERE amount_minor <> 0 OR functional_minor <> 0
GROUP BY account, customer, currency, effective_date
ORDER BY account, customer, currency, block_id, invoice_id, effective_date
"""
BLOCKS: Final = """
-- The invoices and due dates of blocks.
SELECT b.block_id, b.invoice_id, e.data::jsonb ->> 'due_at' AS due_at
FROM blocks b JOIN events e ON e.ledger = b.ledger AND e.position = b.opened_at_position
WHERE b.ledger = :ledger AND b.block_id = ANY(:blocks)
"""
INVOICES: Final = """
-- The due dates of invoices of overage.
SELECT document_id AS invoice_id, state::jsonb ->> 'due_at' AS due_at FROM documents
WHERE ledger = :ledger AND kind = 'invoice' AND document_id = ANY(:invoices)
"""

DueDates = Mapping[tuple[str | None, str | None], date | None]
"""The due dates of blocks by (block id, None), and of invoices of overage by (None, invoice id). None: no due date."""


def receivables(view: View, request: ReportRequest) -> Report:
    """Returns the receivables of the ledger, or of one customer, at the end of the view. Raises UnknownCustomer."""
    end = closing(view, request)
    books = control_balances(end, request.customer)
    purchases = shown_net(end, request.customer)
    items = _items(end, request.customer, purchases)
    owed = [item for item in items if item.account != UNAPPLIED]
    functional_currency = end.functional_currency
    customers = by_customer(items)
    return Report(
        name="receivables",
        title="Receivables by age",
        tables=(
            ageing_table(owed, end.as_of, functional_currency),
            items_table(owed, end.as_of, functional_currency),
            customers_table(customers, functional_currency),
            totals_table(owed, end.as_of, functional_currency),
            functional_table(owed, end.as_of),
            shown_net_table(purchases, functional_currency),
        ),
        ties=(*_ties(customers, books), *_functional_ties(end, request, customers), *_netted_ties(owed, purchases)),
        notes=(
            "Ages count from the due date; without one, from the effective date, on which the customer became liable. "
            "current is not past due. A payment or cancellation clears the oldest part of its own block or invoice "
            "first. Credit balances are owed to the customer; they are not netted against receivables. Functional "
            "amounts are the carrying amounts in the books.",
            "netted: the right to the price is not unconditional yet, as it is not due, or the purchase is cancellable "
            "or refundable and not paid. The balance sheet shows neither this receivable nor its liability "
            "(606-10-45-4, Example 38). The entries stay, so balances and ages are gross.",
        ),
    )


# --- items ----------------------------------------------------------------------------------------------------------


def _items(end: View, customer: str | None, purchases: Sequence[ShownNet]) -> list[Item]:
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
    invoices, due = _terms(end, rows)
    netted = {of.block_id: (of.netted_minor, of.netted_functional) for of in purchases}
    items = [item for _, of_position in groupby(rows, key=_position) for item in _items_of(list(of_position), due)]
    return sorted(
        (
            item
            if item.block_id is None
            else msgspec.structs.replace(
                item,
                invoice_id=invoices.get(item.block_id),
                netted=netted.get(item.block_id, (0, 0)) if item.account == RECEIVABLE else (0, 0),
            )
            for item in items
        ),
        key=_order,
    )


def _terms(end: View, rows: Sequence[Any]) -> tuple[dict[str, str | None], DueDates]:
    """Returns the invoices of the blocks, and the due dates of blocks and of invoices of overage."""
    blocks = sorted({row.block_id for row in rows if row.block_id is not None})
    found = end.connection.execute(text(BLOCKS), {"ledger": end.ledger, "blocks": blocks}).all()
    due: dict[tuple[str | None, str | None], date | None] = {
        (row.block_id, None): due_on(end, row.due_at) for row in found
    }
    invoices = sorted({row.invoice_id for row in rows if row.invoice_id is not None})
    for row in end.connection.execute(text(INVOICES), {"ledger": end.ledger, "invoices": invoices}):
        due[None, row.invoice_id] = due_on(end, row.due_at)
    return {row.block_id: row.invoice_id for row in found}, due


def _position(row: Any) -> tuple[Any, ...]:
    """Returns the key of a functional carrying amount. Each block has its own key. All invoices of a customer share one
    key.
    """
    return row.account, row.customer, row.currency, row.block_id


def _items_of(rows: Sequence[Any], due: DueDates) -> Iterator[Item]:
    """Yields the items that share one functional carrying amount.

    The functional amount of an open item has two parts: the amount of the item's own entries, and a share of the amount
    that belongs to no open item. This amount exists because a remeasurement covers all invoices of a customer together.
    The shares are in proportion to the open amounts. The last item gets the rounding difference.
    """
    first = rows[0]
    found: dict[str | None, tuple[list[tuple[date, int]], int]] = {}
    for invoice_id, of_item in groupby(rows, key=lambda row: row.invoice_id):
        moved = list(of_item)
        due_date = due.get((first.block_id, invoice_id)) if first.account == RECEIVABLE else None
        lots = open_lots(sorted(_flow(row, due_date) for row in moved))
        found[invoice_id] = (lots, sum(int(row.functional_minor) for row in moved))
    if not any(lots for lots, _ in found.values()):
        found = {None: ([], sum(carried for _, carried in found.values()))}
    still_open = {invoice_id: parts for invoice_id, parts in found.items() if parts[0] or len(found) == 1}
    rest = sum(carried for _, carried in found.values()) - sum(carried for _, carried in still_open.values())
    weights = [sum(abs(amount) for _, amount in lots) for lots, _ in still_open.values()]
    for (invoice_id, (lots, carried)), more in zip(still_open.items(), shared(rest, weights), strict=True):
        if lots or carried + more:
            yield Item(
                account=first.account,
                customer=first.customer,
                currency=first.currency,
                block_id=first.block_id,
                invoice_id=invoice_id,
                due_on=due.get((first.block_id, invoice_id)) if first.account == RECEIVABLE else None,
                lots=tuple(sorted(lots)),
                functional_minor=carried + more,
            )


def _flow(row: Any, due_date: date | None) -> tuple[date, int]:
    """Returns an amount with the day from which it ages.

    - A debit with a due date: the later one of due date and effective date.
    - A debit with a due date that a cut-over opened: the due date.
    - Any other amount: the effective date.
    """
    amount = int(row.amount_minor)
    if due_date is None or amount <= 0:
        return row.effective_date, amount
    return (due_date if row.is_opened else max(due_date, row.effective_date)), amount


def _order(item: Item) -> tuple[Any, ...]:
    account = list(GROUPED_BY).index(item.account)
    return item.customer, item.currency, account, item.lots[:1], item.block_id or "", item.invoice_id or ""


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


def _netted_ties(owed: Sequence[Item], purchases: Sequence[ShownNet]) -> Iterator[Tie]:
    """Yields ties of the receivables of purchases that are shown net with their open items."""
    blocks = {purchase.block_id for purchase in purchases}
    items = by_currency(
        (item.currency, item.balance_minor) for item in owed if item.account == RECEIVABLE and item.block_id in blocks
    )
    for currency, amount in by_currency((of.currency, of.receivable_minor) for of in purchases).items():
        yield Tie(
            what="receivable of purchases shown net = their open items",
            currency=currency,
            report_minor=amount,
            trial_balance_minor=items.get(currency, 0),
        )


def _functional_ties(end: View, request: ReportRequest, customers: Customers) -> Iterator[Tie]:
    """Yields ties of receivables in other currencies, at their functional carrying amounts."""
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
