"""Balances at a point in time: of one customer from its entries, of the whole ledger from the day totals.

Each answers for (as-of, known-at); a trial balance debits what it credits, in every view, in each currency and in the
functional currency over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import text

from subledger.accounts import ROLE_BY_NAME, ROLES
from subledger.blocks import ZERO
from subledger.errors import UnknownCustomer
from subledger.journal import CREDIT_COLUMN, CREDIT_COLUMNS, GAINS, KIND_BY_NAME
from subledger.store.database import Database
from subledger.store.reader import View, rules_of


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything debited and credited to an account in one currency, in minor units.

    The functional amounts are those of the same entries, in minor units of the ledger's functional currency. They may
    stand where the others are 0: what remeasurement, settlement and rounding move is in no other currency.
    """

    account: str
    currency: str
    debit_minor: int
    credit_minor: int
    functional_debit_minor: int
    functional_credit_minor: int

    @property
    def balance_minor(self) -> int:
        """On the account's normal side."""
        return ROLE_BY_NAME[self.account].on_normal_side(self.debit_minor - self.credit_minor)

    @property
    def functional_minor(self) -> int:
        """The balance in the functional currency, on the account's normal side."""
        return ROLE_BY_NAME[self.account].on_normal_side(self.functional_debit_minor - self.functional_credit_minor)


class FunctionalBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything debited and credited to an account over all currencies, in functional minor units."""

    account: str
    debit_minor: int
    credit_minor: int

    @property
    def balance_minor(self) -> int:
        """On the account's normal side."""
        return ROLE_BY_NAME[self.account].on_normal_side(self.debit_minor - self.credit_minor)


class CreditBalance(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a customer's credits of one unit: purchased + granted − the rest + other = remaining."""

    unit: str
    columns: dict[str, Decimal]

    @property
    def remaining(self) -> Decimal:
        """What was gained less what left the blocks."""
        gained = sum((self.columns[c] for c in _GAINED), ZERO)
        return gained - sum((self.columns[c] for c in CREDIT_COLUMNS if c not in _GAINED), ZERO)


_GAINED: Final = ("purchased", "granted", "other")

CUSTOMER_TOTALS: Final = """
-- One customer's entries by kind, from the covering index alone.
SELECT policy, kind, currency, unit, sum(greatest(amount_minor, 0)) AS written,
       sum(greatest(-amount_minor, 0)) AS mirrored, sum(greatest(functional_minor, 0)) AS functional_written,
       sum(greatest(-functional_minor, 0)) AS functional_mirrored, sum(credits) AS credits
FROM entries
WHERE ledger = :ledger AND customer = :customer AND position <= :position AND accounting_date <= :as_of
GROUP BY policy, kind, currency, unit
"""
LEDGER_TOTALS: Final = """
-- The day totals of what was recorded before a day.
SELECT policy, kind, currency, sum(written_minor) AS written, sum(mirrored_minor) AS mirrored,
       sum(functional_written_minor) AS functional_written, sum(functional_mirrored_minor) AS functional_mirrored
FROM ledger_days
WHERE ledger = :ledger AND accounting_date <= :as_of AND recorded_date < :before
GROUP BY policy, kind, currency
"""
PART_OF_A_DAY: Final = """
-- The entries of one recorded day up to a position.
SELECT policy, kind, currency, sum(greatest(amount_minor, 0)) AS written, sum(greatest(-amount_minor, 0)) AS mirrored,
       sum(greatest(functional_minor, 0)) AS functional_written,
       sum(greatest(-functional_minor, 0)) AS functional_mirrored
FROM entries
WHERE ledger = :ledger AND accounting_date <= :as_of AND position <= :position
  AND position >= (SELECT first_position FROM batches WHERE ledger = :ledger AND recorded_at >= :day_start
                   ORDER BY recorded_at LIMIT 1)
GROUP BY policy, kind, currency
"""
RECORDED_AT: Final = """
SELECT recorded_at FROM batches WHERE ledger = :ledger AND last_position >= :position ORDER BY last_position LIMIT 1
"""
OTHER_CURRENCIES: Final = """
-- Whether a ledger has entries in another currency than its functional one.
SELECT EXISTS (SELECT FROM ledger_days WHERE ledger = :ledger AND currency <> :home)
"""


def customer_balances(
    database: Database, view: View, customer: str
) -> tuple[list[AccountBalance], list[CreditBalance]]:
    """A customer's accounts and credits. Raises UnknownCustomer where no event of the customer is recorded at all."""
    rows = view.connection.execute(
        text(CUSTOMER_TOTALS),
        {"ledger": view.ledger, "customer": customer, "position": view.position, "as_of": view.as_of},
    ).all()
    if not rows:
        _must_exist(view, customer)
    credits: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        kind = KIND_BY_NAME[row.kind]
        if kind.column is not None and row.unit is not None:
            columns = credits.setdefault(row.unit, dict.fromkeys(CREDIT_COLUMNS, ZERO))
            column, sign = CREDIT_COLUMN[kind.column]
            # A column of losses counts up what its kinds take from a block.
            columns[column] += sign * row.credits * (kind.sign if kind.column in GAINS else -kind.sign)
    return (
        _accounts(database, view, rows),
        [CreditBalance(unit=unit, columns=columns) for unit, columns in sorted(credits.items())],
    )


def _must_exist(view: View, customer: str) -> None:
    query = text("SELECT 1 FROM wallets WHERE ledger = :ledger AND customer = :customer")
    if view.connection.execute(query, {"ledger": view.ledger, "customer": customer}).one_or_none() is None:
        raise UnknownCustomer(f"ledger {view.ledger} has no customer {customer}", field="customer", found=customer)


def trial_balance(database: Database, view: View) -> list[AccountBalance]:
    """Every account of the ledger in chart order.

    The debits equal the credits in each currency, and in the functional currency over the rows of each.
    """
    parameters: dict[str, Any] = {"ledger": view.ledger, "as_of": view.as_of, "position": view.position}
    if view.at_head:
        rows = view.connection.execute(text(LEDGER_TOTALS), {**parameters, "before": "infinity"}).all()
        return _accounts(database, view, rows)
    if view.position == 0:
        return []
    recorded_at: datetime = view.connection.execute(text(RECORDED_AT), parameters).scalar_one()
    day = recorded_at.astimezone(UTC).date()
    day_start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rows = [
        *view.connection.execute(text(LEDGER_TOTALS), {**parameters, "before": day}),
        *view.connection.execute(text(PART_OF_A_DAY), {**parameters, "day_start": day_start}),
    ]
    return _accounts(database, view, rows)


def in_functional_currency(accounts: Iterable[AccountBalance]) -> list[FunctionalBalance]:
    """One row per account, over all currencies, in the order of the accounts."""
    totals: dict[str, list[int]] = {}
    for balance in accounts:
        total = totals.setdefault(balance.account, [0, 0])
        total[0] += balance.functional_debit_minor
        total[1] += balance.functional_credit_minor
    return [
        FunctionalBalance(account=account, debit_minor=debit, credit_minor=credit)
        for account, (debit, credit) in totals.items()
    ]


def has_other_currencies(view: View) -> bool:
    """Whether the ledger, as recorded today, has entries in another currency than its functional one."""
    parameters = {"ledger": view.ledger, "home": view.head.state.functional_currency}
    found: bool = view.connection.execute(text(OTHER_CURRENCIES), parameters).scalar_one()
    return found


def _accounts(database: Database, view: View, rows: Iterable[Any]) -> list[AccountBalance]:
    """By account in chart order and currency, as the rules say; accounts that nothing has moved are left out.

    An entry has one direction in both currencies, so its functional amount goes to the same sides.
    """
    rules = rules_of(database, view.connection, view.ledger)
    totals: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        written, mirrored = int(row.written), int(row.mirrored)
        functional_written, functional_mirrored = int(row.functional_written), int(row.functional_mirrored)
        for pair in rules[row.policy][row.kind]:
            for account, debits, credits, functional_debits, functional_credits in (
                (pair.debit, written, mirrored, functional_written, functional_mirrored),
                (pair.credit, mirrored, written, functional_mirrored, functional_written),
            ):
                total = totals.setdefault((account, row.currency), [0, 0, 0, 0])
                total[0] += debits
                total[1] += credits
                total[2] += functional_debits
                total[3] += functional_credits
    return [
        AccountBalance(
            account=role.name,
            currency=currency,
            debit_minor=total[0],
            credit_minor=total[1],
            functional_debit_minor=total[2],
            functional_credit_minor=total[3],
        )
        for role in ROLES
        for (account, currency), total in sorted(totals.items())
        if account == role.name and any(total)
    ]
