"""The tables of the receivables report: open items by age, per customer, per item, per account.

Owns: an open item, and the ageing. Does not own: the list of items, and their ties (``receivables``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Any, Final

import msgspec

from projections.report import Column, Table
from subledger.money import round_half_up

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

OpenParts = tuple[tuple[date, int], ...]
"""Open parts as (day from which they age, minor units), oldest first. Negative parts are owed to the customer."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that a customer owes: its open parts, and its carrying amount in the functional currency.

    ``netted`` is the part that is shown net of the liability of its purchase, in both currencies.
    """

    account: str
    customer: str
    currency: str
    block_id: str | None = None
    invoice_id: str | None = None
    due_on: date | None = None
    lots: OpenParts = ()
    functional_minor: int = 0
    netted: tuple[int, int] = (0, 0)

    @property
    def balance_minor(self) -> int:
        return sum(amount for _, amount in self.lots)


_AGED: Final = (
    *(Column(name, "money") for name, _ in BUCKETS), Column("credit_balances", "money"), Column("oldest_on", "date"),
    Column("oldest_days", "integer"), Column("functional_currency"), Column("balance_functional", "functional"),
    Column("netted", "money"), Column("netted_functional", "functional"),
)  # fmt: skip


def _aged(items: Iterable[Item], as_of: date, functional_currency: str) -> tuple[Any, ...]:
    """Returns the sums of items: the values of the columns of _AGED after the balance."""
    items = list(items)
    lots = [lot for item in items for lot in item.lots]
    buckets = [0] * len(BUCKETS)
    for since, amount in lots:
        if amount > 0:
            buckets[_bucket(since, as_of)] += amount
    oldest = min((since for since, amount in lots if amount > 0), default=None)
    return (
        sum(amount for _, amount in lots),
        *buckets,
        sum(amount for _, amount in lots if amount < 0),
        oldest,
        None if oldest is None else max((as_of - oldest).days, 0),
        functional_currency,
        sum(item.functional_minor for item in items),
        sum(item.netted[0] for item in items),
        sum(item.netted[1] for item in items),
    )


def _bucket(since: date, as_of: date) -> int:
    age = (as_of - since).days
    return next(at for at, (_, last) in enumerate(BUCKETS) if last is None or age <= last)


def ageing_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
    """Returns the ageing per customer, currency and account."""
    rows = tuple(
        (customer, account, currency, *_aged(of_line, as_of, functional_currency))
        for (customer, currency, account), of_line in groupby(owed, lambda i: (i.customer, i.currency, i.account))
    )
    columns = (Column("customer"), Column("account"), Column("currency"), Column("balance", "money"), *_AGED)
    return Table(name="ageing", columns=columns, rows=rows)


def items_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
    """Returns the ageing per block or invoice; a customer's overage without an invoice is one item."""
    rows = tuple(
        (
            item.customer,
            item.account,
            item.block_id,
            item.invoice_id,
            item.due_on,
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
        Column("due_on", "date"),
        Column("currency"),
        Column("balance", "money"),
        *_AGED,
    )
    return Table(name="open_items", columns=columns, rows=rows)


def totals_table(owed: Sequence[Item], as_of: date, functional_currency: str) -> Table:
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


def functional_table(owed: Sequence[Item], as_of: date) -> Table:
    """Returns the ageing per account over all currencies, in the functional one.

    The carrying amount of an item is divided over its open parts in proportion. Without open parts it is ``unaged``.
    """
    sums: dict[str, list[int]] = {}
    for item in owed:
        buckets = sums.setdefault(item.account, [0] * (len(BUCKETS) + 2))
        weights = [abs(amount) for _, amount in item.lots]
        if not weights:
            buckets[-1] += item.functional_minor
            continue
        for (since, amount), part in zip(item.lots, shared(item.functional_minor, weights), strict=True):
            buckets[_bucket(since, as_of) if amount > 0 else len(BUCKETS)] += part
    columns = (
        Column("account"), Column("balance", "functional"), *(Column(name, "functional") for name, _ in BUCKETS),
        Column("credit_balances", "functional"), Column("unaged", "functional"),
    )  # fmt: skip
    rows = tuple((account, sum(sums[account]), *sums[account]) for account in GROUPED_BY if account in sums)
    return Table(name="functional", columns=columns, rows=rows)


Customers = dict[tuple[str, str], dict[str, tuple[int, int]]]
"""Customer and currency → account → balance (debits positive), in the currency and in the functional one."""


def by_customer(items: Iterable[Item]) -> Customers:
    found: Customers = {}
    for item in items:
        accounts = found.setdefault((item.customer, item.currency), {})
        amount, functional = accounts.get(item.account, (0, 0))
        accounts[item.account] = (amount + item.balance_minor, functional + item.functional_minor)
    return found


def customers_table(customers: Customers, functional_currency: str) -> Table:
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


def shared(amount: int, weights: Sequence[int]) -> Iterator[int]:
    """Divides an amount in proportion to weights, with cumulative rounding: the parts add up to the amount."""
    whole, so_far, given = sum(weights), 0, 0
    for weight in weights:
        so_far += weight
        due = round_half_up(amount * so_far, whole) if whole else amount
        yield due - given
        given = due
