"""Input of reports: entries summed by month and kind, and the balances to which reports tie.

Does not own: the reports, or their shape (report).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads import balances
from projections.report import Tie
from subledger.accounts import ROLE_BY_NAME
from subledger.kinds import effect
from subledger.periods import Period
from subledger.store.reading.recorded_days import recorded_before
from subledger.store.reading.views import View


class EntryTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the entries of one kind, currency and unit in a month, with the sign of the entries.

    ``month`` is None for all entries before the range. ``key`` is the value by which totals are grouped. It is empty if
    totals are not grouped, or if the entries have no such value. ``unit`` is empty if no credits move.
    """

    month: Period | None
    key: str
    policy: int
    kind: str
    currency: str
    unit: str
    amount_minor: int
    functional_minor: int
    credits: Decimal


DIMENSION: Final = "dimension."
"""Prefix of the properties that are the company's own dimensions."""

KEYS: Final = {
    None: "''",
    "product": "d.product",
    "credit_kind": "d.credit_kind",
    "refundable": "d.refundable",
    "pool": "d.pool",
    "cohort": "d.pool || chr(31) || d.cohort",
    "customer": "coalesce(t.customer, '')",
}
"""The properties by which totals can be grouped, each with its SQL expression. Own dimensions can be used in addition.
"""


def key_of(by: str | None) -> str:
    """The SQL expression of a property by which totals of blocks are grouped. An own dimension is the dimension of the
    block.
    """
    if by is not None and by.startswith(DIMENSION):
        return "coalesce(nullif(d.own, '')::jsonb ->> :dimension, '')"
    return KEYS[by]


_FROM_DAYS: Final = """
    SELECT accounting_date, policy, kind, currency, unit, dimension_set, NULL AS customer, credits,
           written_minor - mirrored_minor AS amount_minor,
           functional_written_minor - functional_mirrored_minor AS functional_minor
    FROM ledger_days WHERE ledger = :ledger AND accounting_date <= :as_of AND recorded_date < :day
    UNION ALL
    SELECT accounting_date, policy, kind, currency, coalesce(unit, ''), dimension_set, NULL, credits,
           amount_minor, functional_minor
    FROM entries
    WHERE ledger = :ledger AND accounting_date <= :as_of AND position BETWEEN :first AND :position
"""
# An entry of a block without a customer (a remeasurement of the ledger as a whole) counts for the block's owner.
_FROM_ENTRIES: Final = """
    SELECT accounting_date, policy, kind, currency, coalesce(unit, '') AS unit, dimension_set, customer, credits,
           amount_minor, functional_minor
    FROM entries
    WHERE ledger = :ledger AND accounting_date <= :as_of AND position <= :position AND {owned}
    UNION ALL
    SELECT n.accounting_date, n.policy, n.kind, n.currency, coalesce(n.unit, ''), n.dimension_set, b.customer,
           n.credits, n.amount_minor, n.functional_minor
    FROM entries n LEFT JOIN blocks b ON b.ledger = n.ledger AND b.block_id = n.block_id
    WHERE n.ledger = :ledger AND n.accounting_date <= :as_of AND n.position <= :position AND n.customer IS NULL
      AND {of_owner}
"""
TOTALS: Final = """
-- Entries summed by month and kind; everything before a day counts as one month.
SELECT CASE WHEN t.accounting_date >= :from_date THEN date_trunc('month', t.accounting_date)::date END AS month,
       {key} AS key, t.policy, t.kind, t.currency, t.unit, sum(t.amount_minor) AS amount_minor,
       sum(t.functional_minor) AS functional_minor, sum(t.credits) AS credits
FROM ({source}) t JOIN dimension_sets d ON d.ledger = :ledger AND d.dimension_set = t.dimension_set
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""


def totals(
    view: View, *, from_date: date | None = None, by: str | None = None, customer: str | None = None
) -> list[EntryTotal]:
    """Returns the entries of the view summed by month, from ``from_date`` on (default: from the beginning).

    The sums are read from the day totals of all recorded days except the last one, and from the entries of the last
    day, because ``known_at`` may exclude a part of that day. If a customer is given, or totals are grouped by customer,
    all sums are read from the entries.
    """
    parameters: dict[str, Any] = {
        "ledger": view.ledger,
        "as_of": view.as_of,
        "position": view.position,
        "from_date": from_date or date.min,
    }
    if customer is not None or by == "customer":
        owned, of_owner = ("customer = :customer", "b.customer = :customer") if customer else ("customer <> ''", "true")
        source = _FROM_ENTRIES.format(owned=owned, of_owner=of_owner)
        parameters |= {"customer": customer} if customer else {}
    else:
        source = _FROM_DAYS
        day, first = recorded_before(view)
        parameters |= {"day": day, "first": first}
    if by is not None:
        parameters["dimension"] = by.removeprefix(DIMENSION)
    rows = view.connection.execute(text(TOTALS.format(key=key_of(by), source=source)), parameters)
    return [
        EntryTotal(
            month=None if row.month is None else Period.of(row.month),
            key=row.key,
            policy=row.policy,
            kind=row.kind,
            currency=row.currency,
            unit=row.unit,
            amount_minor=int(row.amount_minor),
            functional_minor=int(row.functional_minor),
            credits=Decimal(row.credits),
        )
        for row in rows
    ]


def by_currency(amounts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The sums of amounts in minor units by their currency."""
    sums: dict[str, int] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, 0) + amount
    return sums


def arrays(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Returns rows as parameters of a statement, one array per column; empty arrays without rows."""
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


Balances = dict[tuple[str, str], int]
"""Account and currency → balance in minor units, on the account's normal side."""


def control_balances(view: View, customer: str | None = None) -> Balances:
    """Returns the balances to which reports tie: the ledger's or a customer's. Raises UnknownCustomer."""
    accounts = balances.trial_balance(view) if customer is None else balances.customer_balances(view, customer).accounts
    return {(account.account, account.currency): account.balance_minor for account in accounts}


def functional_balances(view: View, made_of: Iterable[EntryTotal], accounts: Iterable[str]) -> Balances:
    """Returns the balances of accounts by currency of the entries, in functional minor units, by the posting rules."""
    rules = view.rules
    found: Balances = {}
    for total in made_of:
        for account in accounts:
            moves = ROLE_BY_NAME[account].on_normal_side(effect(account, total.kind, rules[total.policy]))
            if moves:
                key = (account, total.currency)
                found[key] = found.get(key, 0) + moves * total.functional_minor
    return found


def functional_ties_of(
    what: str,
    report: dict[str, int],
    account: str,
    books: Balances,
    functional_currency: str,
    currencies: Iterable[str],
) -> tuple[Tie, ...]:
    """Returns one tie per currency of the entries, in the functional currency ``functional_currency``.

    ``what`` may contain ``{currency}``. ``books`` are ``functional_balances``.
    """
    return tuple(
        Tie(
            what=what.format(currency=currency),
            currency=functional_currency,
            report_minor=report.get(currency, 0),
            trial_balance_minor=books.get((account, currency), 0),
        )
        for currency in currencies
    )


def ties_of(what: str, report: dict[str, int], account: str, books: Balances) -> tuple[Tie, ...]:
    """Returns one tie per currency: a report's figures beside an account's balances."""
    of_account = {currency: balance for (name, currency), balance in books.items() if name == account}
    return tuple(
        Tie(
            what=what,
            currency=currency,
            report_minor=report.get(currency, 0),
            trial_balance_minor=of_account.get(currency, 0),
        )
        for currency in sorted({*report, *of_account})
    )
