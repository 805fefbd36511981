"""Balances at a point in time (as-of, known-at). Those of a customer are summed from its entries, and those of the
whole ledger from the day totals. Both start from the last snapshot.

Each is one query, run alone or through a view. In a trial balance the debits equal the credits: in every view, in each
currency, and in the functional currency over all currencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads import snapshots
from subledger.accounts import CHART_ORDER, ROLE_BY_NAME
from subledger.blocks import ZERO
from subledger.errors import UnknownCustomer
from subledger.kinds import CREDIT_COLUMN, CREDIT_COLUMNS, GAINS, KIND_BY_NAME, Rules
from subledger.store.reading.recorded_days import first_of, recorded_before
from subledger.store.reading.views import View


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything debited and credited to an account in one currency, in minor units.

    The functional amounts are those of the same entries, in minor units of the ledger's functional currency. They can
    differ from 0 if the others are 0: remeasurement, settlement and rounding move functional amounts only.
    """

    account: str
    currency: str
    debit_minor: int
    credit_minor: int
    functional_debit_minor: int
    functional_credit_minor: int

    @property
    def balance_minor(self) -> int:
        """The balance on the account's normal side, in minor units of ``currency``."""
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
        """The balance on the account's normal side, in functional minor units."""
        return ROLE_BY_NAME[self.account].on_normal_side(self.debit_minor - self.credit_minor)


class CreditBalance(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's credits of one unit by column: purchased + granted + other − the other columns = remaining."""

    unit: str
    columns: dict[str, Decimal]

    @property
    def remaining(self) -> Decimal:
        """Credits added to blocks less credits taken from them."""
        gained = sum((self.columns[c] for c in _GAINED), ZERO)
        return gained - sum((self.columns[c] for c in CREDIT_COLUMNS if c not in _GAINED), ZERO)


_GAINED: Final = ("purchased", "granted", "other")

_AMOUNTS: Final = """
    sum(greatest(amount_minor, 0)) AS written, sum(greatest(-amount_minor, 0)) AS mirrored,
    sum(greatest(functional_minor, 0)) AS functional_written, sum(greatest(-functional_minor, 0)) AS functional_mirrored
"""
_SUMS: Final = """
    sum(written_minor) AS written, sum(mirrored_minor) AS mirrored, sum(functional_written_minor) AS functional_written,
    sum(functional_mirrored_minor) AS functional_mirrored
"""
_OF_SNAPSHOT: Final = """
    -- Stored sums: the last day through as_of, of the last snapshot or, if it has no such day, of an earlier one.
    SELECT s.policy, s.kind, s.currency, s.unit, s.written_minor AS written, s.mirrored_minor AS mirrored,
           s.functional_written_minor AS functional_written, s.functional_mirrored_minor AS functional_mirrored,
           s.credits
    FROM (SELECT accounting_date, position FROM snapshots
          WHERE ledger = %(ledger)s AND customer = %(customer)s
            AND accounting_date <= least(%(as_of)s, (SELECT accounting_date FROM last))
            AND position <= (SELECT position FROM last)
          ORDER BY accounting_date DESC, position DESC LIMIT 1) AS day
    JOIN snapshots s ON s.ledger = %(ledger)s AND s.customer = %(customer)s AND s.position = day.position
                    AND s.accounting_date = day.accounting_date
"""
_FOUND: Final = """
SELECT json_build_object(
           'totals', (SELECT json_agg(json_build_array(t.policy, t.kind, t.currency, t.unit, t.written, t.mirrored,
                                                       t.functional_written, t.functional_mirrored, t.credits::text))
                      FROM (SELECT * FROM kept UNION ALL SELECT policy, kind, currency, unit, written, mirrored,
                                   functional_written, functional_mirrored, credits FROM rest) AS t),
           'snapshot_due', """
CUSTOMER_TOTALS: Final = f"""
-- One customer's entries by kind: the sums of a snapshot, if there is one, and the entries after it.
WITH last AS (
    SELECT position, accounting_date FROM snapshots
    WHERE ledger = %(ledger)s AND customer = %(customer)s AND position <= (SELECT position FROM v)
    ORDER BY position DESC, accounting_date DESC LIMIT 1
), kept AS ({_OF_SNAPSHOT}
), rest AS (
    SELECT policy, kind, currency, unit, {_AMOUNTS}, sum(credits) AS credits, count(*) AS entries
    FROM entries
    WHERE ledger = %(ledger)s AND customer = %(customer)s AND accounting_date <= %(as_of)s
      AND position > coalesce((SELECT position FROM last), 0) AND position <= (SELECT position FROM v)
    GROUP BY policy, kind, currency, unit
){_FOUND}(SELECT sum(entries) >= %(of_customer)s FROM rest),
           'is_known', EXISTS (SELECT FROM entries WHERE ledger = %(ledger)s AND customer = %(customer)s
                                                     AND position <= (SELECT position FROM v))
       )::text AS found
"""
LEDGER_TOTALS: Final = f"""
-- The ledger's entries by kind: the sums of a snapshot, if there is one, the totals of the days after it, and the
-- entries of the position's day, unless the day ends with the position.
WITH day AS (
    SELECT recorded_date, at_head OR recorded_date < (
        SELECT (recorded_at AT TIME ZONE 'UTC')::date FROM batches
        WHERE ledger = %(ledger)s AND last_position > v.position ORDER BY last_position LIMIT 1) AS is_whole
    FROM v
), last AS (
    SELECT position, accounting_date, recorded_date FROM snapshots
    WHERE ledger = %(ledger)s AND customer = %(customer)s AND position <= (SELECT position FROM v)
      AND (day_is_over OR recorded_date = (SELECT recorded_date FROM day WHERE NOT is_whole))
    ORDER BY position DESC, accounting_date DESC LIMIT 1
), kept AS ({_OF_SNAPSHOT}
), rest AS (
    SELECT policy, kind, currency, '' AS unit, {_SUMS}, 0 AS credits,
           count(*) FILTER (WHERE recorded_date < (SELECT recorded_date FROM day)) AS days,
           NULL::bigint AS first, NULL::bigint AS last
    FROM ledger_days
    WHERE ledger = %(ledger)s AND accounting_date <= %(as_of)s
      AND recorded_date > coalesce((SELECT recorded_date FROM last), '-infinity')
      AND recorded_date < (SELECT recorded_date + is_whole::int FROM day)
    GROUP BY policy, kind, currency
    UNION ALL
    SELECT policy, kind, currency, '', {_AMOUNTS}, 0, 0, min(position), max(position)
    FROM entries
    WHERE ledger = %(ledger)s AND accounting_date <= %(as_of)s
      AND position <= (SELECT position FROM v) AND NOT (SELECT is_whole FROM day)
      AND position > coalesce((SELECT position FROM last), 0)
      AND position >= {first_of("(SELECT recorded_date FROM day)", ledger="%(ledger)s")}
    GROUP BY policy, kind, currency
){_FOUND}(SELECT sum(days) >= %(day_rows)s OR max(last) - min(first) >= %(inside_a_day)s FROM rest)
       )::text AS found
"""
OTHER_CURRENCIES: Final = """
-- True if a ledger has entries in another currency than its functional one.
SELECT EXISTS (SELECT FROM other_currencies WHERE ledger = :ledger)
"""
OTHER_CURRENCIES_THEN: Final = """
-- True if it had such entries at a position: by its day totals, and the entries of the position's day.
SELECT EXISTS (SELECT FROM ledger_days
               WHERE ledger = :ledger AND currency <> :functional_currency AND recorded_date < :day)
    OR EXISTS (SELECT FROM entries
               WHERE ledger = :ledger AND currency <> :functional_currency AND position BETWEEN :first AND :position)
"""


class _Total(msgspec.Struct, frozen=True, array_like=True):
    """The sum of the entries of one kind; ``unit`` is empty if they move no credits."""

    policy: int
    kind: str
    currency: str
    unit: str | None
    written: int
    mirrored: int
    functional_written: int
    functional_mirrored: int
    credits: Decimal


class _Found(msgspec.Struct, frozen=True):
    """The answer of the query. ``snapshot_due``: the query summed enough rows for another snapshot."""

    totals: list[_Total] | None
    snapshot_due: bool | None
    is_known: bool = True


_decoder: Final = msgspec.json.Decoder(_Found)


class CustomerBalances(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's accounts and credits. ``snapshot_due``: another snapshot would make the next read faster."""

    accounts: list[AccountBalance]
    credits: list[CreditBalance]
    snapshot_due: bool


class OfCustomer(msgspec.Struct, frozen=True, kw_only=True):
    """The query of a customer's balances. Raises UnknownCustomer, also if the customer is not in the view."""

    customer: str

    @property
    def query(self) -> str:
        return CUSTOMER_TOTALS

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"customer": self.customer, "of_customer": snapshots.OF_CUSTOMER}

    def answer(self, rules: Mapping[int, Rules], found: str) -> CustomerBalances:
        read = _decoder.decode(found)
        if not read.is_known:
            raise UnknownCustomer(f"there is no customer {self.customer}", field="customer", found=self.customer)
        credits: dict[str, dict[str, Decimal]] = {}
        for total in read.totals or ():
            kind = KIND_BY_NAME[total.kind]
            if kind.column is not None and total.unit:
                columns = credits.setdefault(total.unit, dict.fromkeys(CREDIT_COLUMNS, ZERO))
                column, sign = CREDIT_COLUMN[kind.column]
                # Credits taken from a block increase the column of their kind.
                columns[column] += sign * total.credits * (kind.sign if kind.column in GAINS else -kind.sign)
        return CustomerBalances(
            accounts=_accounts(rules, read.totals or ()),
            credits=[CreditBalance(unit=unit, columns=columns) for unit, columns in sorted(credits.items())],
            snapshot_due=bool(read.snapshot_due),
        )


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every account of a ledger in chart order. ``snapshot_due``: another snapshot would make the next read faster.

    The debits equal the credits in each currency, and in the functional currency over all rows.
    """

    accounts: list[AccountBalance]
    snapshot_due: bool


class OfLedger(msgspec.Struct, frozen=True, kw_only=True):
    """The query of the trial balance."""

    @property
    def query(self) -> str:
        return LEDGER_TOTALS

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"customer": snapshots.LEDGER, "day_rows": snapshots.DAY_ROWS, "inside_a_day": snapshots.INSIDE_A_DAY}

    def answer(self, rules: Mapping[int, Rules], found: str) -> TrialBalance:
        read = _decoder.decode(found)
        return TrialBalance(accounts=_accounts(rules, read.totals or ()), snapshot_due=bool(read.snapshot_due))


def customer_balances(view: View, customer: str) -> CustomerBalances:
    """Returns a customer's balances in a view. Raises UnknownCustomer, also if the customer is not in the view."""
    return view.ask(OfCustomer(customer=customer))


def trial_balance(view: View) -> list[AccountBalance]:
    """Returns the accounts of a view in chart order."""
    return view.ask(OfLedger()).accounts


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
    """True if the ledger has entries in another currency than its functional one, as known at the view."""
    parameters: dict[str, Any] = {"ledger": view.ledger}
    if not view.at_head:
        day, first = recorded_before(view)
        parameters |= {
            "functional_currency": view.functional_currency,
            "day": day,
            "first": first,
            "position": view.position,
        }
    query = text(OTHER_CURRENCIES if view.at_head else OTHER_CURRENCIES_THEN)
    found: bool = view.connection.execute(query, parameters).scalar_one()
    return found


def _accounts(rules: Mapping[int, Rules], totals_of_kinds: Iterable[_Total]) -> list[AccountBalance]:
    """Returns the balances in chart order, then by currency, under the posting rules; omits accounts without entries.

    An entry has the same direction in both currencies, so its functional amount is on the same sides.
    """
    totals: dict[tuple[str, str], list[int]] = {}
    for row in totals_of_kinds:
        for pair in rules[row.policy][row.kind]:
            for account, debits, credits, functional_debits, functional_credits in (
                (pair.debit, row.written, row.mirrored, row.functional_written, row.functional_mirrored),
                (pair.credit, row.mirrored, row.written, row.functional_mirrored, row.functional_written),
            ):
                total = totals.setdefault((account, row.currency), [0, 0, 0, 0])
                total[0] += debits
                total[1] += credits
                total[2] += functional_debits
                total[3] += functional_credits
    return [
        AccountBalance(
            account=account,
            currency=currency,
            debit_minor=total[0],
            credit_minor=total[1],
            functional_debit_minor=total[2],
            functional_credit_minor=total[3],
        )
        for (account, currency), total in sorted(totals.items(), key=_in_chart_order)
        if any(total)
    ]


def _in_chart_order(item: tuple[tuple[str, str], object]) -> tuple[int, str]:
    (account, currency), _ = item
    return CHART_ORDER[account], currency
