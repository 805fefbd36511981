"""Purchases that are shown net: a part of the receivable and the same part of the liability are not presented.

A receivable is an unconditional right to consideration: only the passage of time is required before payment is due
(ASC 606-10-45-4). For three kinds of purchases the right is not unconditional yet. These purchases are shown net,
invoiced or not:

- Not due: the purchase has a due date, and this date is not reached (606-10-55-285).
- Cancellable: the right is conditional until the price is paid (Example 38, Case A, 606-10-55-283). So a cancellable
  purchase is shown net also after ``due_at``.
- Refundable: the customer can give unpaid credits back. A refund liability needs consideration that was received
  (606-10-32-10).

The receivable for used credits is presented, because the entity has performed for these credits. The entries do not
change.

Owns: the purchases that are shown net, and the amount of each. Does not own: the open receivables and their age
(``receivables``), the lines of the balance sheet (``presentation``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.report import Column, Table
from projections.report_inputs import arrays, totals
from projections.reports.breakage_estimates import SEPARATOR, CohortKey, CohortNames, recorded_estimates
from subledger.accounting_dates import effective_date
from subledger.cohorts import WHOLE
from subledger.events.fields import parse_time
from subledger.kinds import effect
from subledger.money import round_half_up
from subledger.store.reading.views import View
from subledger.store.tables import NOT_DUE, NOT_DUE_UNTIL

RECEIVABLE, LIABILITY, RECOGNISED_AHEAD = "accounts_receivable", "prepaid_liability", "breakage_recognized"
NOT_YET_DUE, CANCELLABLE, REFUNDABLE = REASONS = ("not due", "cancellable", "refundable")

BOUGHT: Final = f"""
-- The purchases that may have a conditional price on a day.
SELECT position, customer, data FROM events
WHERE ledger = :ledger AND {NOT_DUE} AND position <= :position
  AND ({NOT_DUE_UNTIL}) >= :day {{of_customer}}
ORDER BY position
"""
HANDED: Final = """
-- The blocks into which credits of some purchases were transferred, with their customers.
SELECT DISTINCT n.block_id AS bought, e.data
FROM entries n JOIN events e ON e.ledger = n.ledger AND e.position = n.position
WHERE n.ledger = :ledger AND n.customer = ANY(:customers) AND n.block_id = ANY(:blocks) AND n.kind = 'transfer_out'
  AND e.type = 'credits.transferred' AND n.position <= :position
"""
BALANCES: Final = """
-- The receivables and the liabilities of some blocks.
SELECT n.block_id, n.currency, min(d.pool) AS pool, min(d.cohort) AS cohort,
       sum(r.owed * n.amount_minor) AS owed_minor, sum(r.owed * n.functional_minor) AS owed_functional,
       sum(r.liability * n.amount_minor) AS liability_minor,
       sum(r.liability * n.functional_minor) AS liability_functional
FROM unnest(CAST(:policies AS smallint[]), CAST(:kinds AS text[]), CAST(:owed AS int[]), CAST(:liability AS int[]))
     AS r (policy, kind, owed, liability)
JOIN entries n ON n.policy = r.policy AND n.kind = r.kind
JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
WHERE n.ledger = :ledger AND n.customer = ANY(:customers) AND n.block_id = ANY(:blocks)
  AND n.position <= :position AND n.accounting_date <= :as_of
GROUP BY n.block_id, n.currency
"""


class ShownNet(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase that is shown net, with the reason.

    - The receivable is the amount that ``customer`` owes, with tax.
    - The liability is that of the block, and of the blocks into which its credits were transferred. The breakage that
      was recognised for these blocks is deducted.
    - The netted amount is the smaller of both. A void of all unused credits would reduce the receivable by it.

    Amounts are in minor units: of ``currency``, or of the functional currency.
    """

    customer: str
    block_id: str
    invoice_id: str | None
    currency: str
    due_on: date | None
    reason: str
    receivable_minor: int
    liability_minor: int
    receivable_functional: int
    liability_functional: int

    @property
    def netted_minor(self) -> int:
        return max(min(self.receivable_minor, self.liability_minor), 0)

    @property
    def netted_functional(self) -> int:
        """The netted amount in the functional currency: the smaller of the netted parts of receivable and liability.

        The difference between these parts is an exchange difference. It stays on the balance sheet.
        """
        netted = self.netted_minor
        if not netted:
            return 0
        owed = round_half_up(self.receivable_functional * netted, self.receivable_minor)
        return max(min(owed, round_half_up(self.liability_functional * netted, self.liability_minor)), 0)


def due_on(view: View, due_at: str | None) -> date | None:
    """Returns the day of ``due_at`` in the ledger's time zone."""
    return None if due_at is None else effective_date(parse_time(due_at), view.zone)


def shown_net(end: View, customer: str | None = None) -> list[ShownNet]:
    """Returns the purchases that are shown net at the end of a view, in the order of their recording."""
    bought = {data["block_id"]: (payer, data) for payer, data in _bought(end, customer)}
    if not bought:
        return []
    bought_as = {block_id: block_id for block_id in bought}
    customers = {payer for payer, _ in bought.values()}
    for row in end.connection.execute(text(HANDED), _parameters(end, customers, bought_as)):
        transfer = msgspec.json.decode(row.data)
        bought_as[transfer["new_block_id"]] = row.bought
        customers.add(transfer["to_customer"])
    found: dict[tuple[str, str], list[int]] = {}
    for block_id, currency, *figures in _figures(end, customers, bought_as):
        key = (bought_as[block_id], currency)
        found[key] = [sum(pair) for pair in zip(found.get(key, [0] * len(figures)), figures, strict=True)]
    purchases = []
    for block_id, (payer, data) in bought.items():
        owed, liability, owed_functional, liability_functional = found.get((block_id, data["currency"]), [0] * 4)
        purchases.append(
            ShownNet(
                customer=payer,
                block_id=block_id,
                invoice_id=data.get("invoice_id"),
                currency=data["currency"],
                due_on=due_on(end, data.get("due_at")),
                reason=_reason(data),
                receivable_minor=owed,
                liability_minor=liability,
                receivable_functional=owed_functional,
                liability_functional=liability_functional,
            )
        )
    return [purchase for purchase in purchases if purchase.netted_minor]


def _bought(end: View, customer: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the payer and the data of each purchase whose price is conditional at the end of the view."""
    # The event writes its day in any time zone, so it may be up to two days from the ledger's.
    day = (end.as_of - timedelta(days=2)).isoformat() if end.as_of > date(1, 1, 3) else ""
    parameters = {"ledger": end.ledger, "position": end.position, "day": day}
    parameters |= {} if customer is None else {"customer": customer}
    query = BOUGHT.format(of_customer="" if customer is None else "AND customer = :customer")
    for row in end.connection.execute(text(query), parameters):
        data = msgspec.json.decode(row.data)
        day_due = due_on(end, data.get("due_at"))
        if _reason(data) != NOT_YET_DUE or (day_due is not None and day_due > end.as_of):
            yield row.customer, data


def _reason(data: dict[str, Any]) -> str:
    if data.get("refundable"):
        return REFUNDABLE
    return CANCELLABLE if data.get("cancellable") else NOT_YET_DUE


def _parameters(end: View, customers: Iterable[str], blocks: Iterable[str]) -> dict[str, Any]:
    return {
        "ledger": end.ledger,
        "position": end.position,
        "as_of": end.as_of,
        "customers": sorted(customers),
        "blocks": sorted(blocks),
    }


def _figures(end: View, customers: Iterable[str], blocks: Iterable[str]) -> Iterator[tuple[Any, ...]]:
    """Yields for each block: id, currency, receivable, liability, functional receivable, functional liability.

    The breakage that was recognised for the block is deducted from the liability.
    """
    moving = [
        (policy, kind, effect(RECEIVABLE, kind, rules), -effect(LIABILITY, kind, rules))
        for policy, rules in end.rules.items()
        for kind in rules
        if effect(RECEIVABLE, kind, rules) or effect(LIABILITY, kind, rules)
    ]
    parameters = _parameters(end, customers, blocks) | arrays(("policies", "kinds", "owed", "liability"), moving)
    rows = end.connection.execute(text(BALANCES), parameters).all()
    names = CohortNames(end, recorded_estimates(end)) if any(row.pool is not None for row in rows) else None
    ahead = {} if names is None else _recognised_ahead(end, names)
    for row in rows:
        liability = [int(row.liability_minor), int(row.liability_functional)]
        if names is not None and row.pool is not None:
            of_cohort = ahead.get((names.key(row.pool, row.cohort or WHOLE), row.currency), [0] * 4)
            for at, (recognised, carried) in enumerate((of_cohort[:2], of_cohort[2:])):
                liability[at] -= round_half_up(recognised * liability[at], carried) if carried else 0
        yield row.block_id, row.currency, int(row.owed_minor), liability[0], int(row.owed_functional), liability[1]


def _recognised_ahead(end: View, names: CohortNames) -> dict[tuple[CohortKey, str], list[int]]:
    """Returns four amounts by cohort and currency: the breakage recognised before expiry, the liability, and then both
    in the functional currency.
    """
    found: dict[tuple[CohortKey, str], list[int]] = {}
    for total in totals(end, by="cohort"):
        pool, _, issued = total.key.partition(SEPARATOR)
        rules = end.rules[total.policy]
        ahead, liability = effect(RECOGNISED_AHEAD, total.kind, rules), -effect(LIABILITY, total.kind, rules)
        figures = found.setdefault((names.key(pool, issued), total.currency), [0] * 4)
        amounts = (ahead * total.amount_minor, liability * total.amount_minor)
        functional = (ahead * total.functional_minor, liability * total.functional_minor)
        for at, amount in enumerate((*amounts, *functional)):
            figures[at] += amount
    return found


Netted = dict[str, tuple[int, int]]
"""Netted amounts by currency: in minor units of the currency, and of the functional currency."""


def netted_by_currency(purchases: Iterable[ShownNet]) -> Netted:
    """Returns the sums of the netted amounts by currency."""
    found: Netted = {}
    for purchase in purchases:
        amount, functional = found.get(purchase.currency, (0, 0))
        found[purchase.currency] = (amount + purchase.netted_minor, functional + purchase.netted_functional)
    return found


def shown_net_table(purchases: Sequence[ShownNet], functional_currency: str) -> Table:
    """Returns a row for each purchase: the receivable, the liability, and the part of both that is not presented."""
    columns = (
        Column("customer"),
        Column("block_id"),
        Column("invoice_id"),
        Column("due_on", "date"),
        Column("reason"),
        Column("currency"),
        Column("receivable", "money"),
        Column("liability", "money"),
        Column("netted", "money"),
        Column("functional_currency"),
        Column("netted_functional", "functional"),
    )
    rows = tuple(
        (
            purchase.customer,
            purchase.block_id,
            purchase.invoice_id,
            purchase.due_on,
            purchase.reason,
            purchase.currency,
            purchase.receivable_minor,
            purchase.liability_minor,
            purchase.netted_minor,
            functional_currency,
            purchase.netted_functional,
        )
        for purchase in purchases
    )
    return Table(name="shown_net", columns=columns, rows=rows, lists_items=True)
